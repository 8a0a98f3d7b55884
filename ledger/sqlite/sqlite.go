package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	engine "modernc.org/sqlite"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/internal/counts"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// Options are for programs with special needs; the zero value is right for the
// daemon.
type Options struct {
	// CacheBytes bounds the writer's page cache, which is outside Go's heap;
	// each of the readers has a quarter of it. Default 16 MiB.
	CacheBytes int
	// CheckBytes is the greatest size of a ledger that is checked from end to
	// end when it is opened; see Open. Default 64 MiB.
	CheckBytes int64
	// BusyTimeout is how long to wait for another program that has locked the
	// file, such as a sqlite3 that is writing. Default 5 s.
	BusyTimeout time.Duration

	// For tests: less than defaultChunk, and FULL unless speed matters more
	// than what is left after a power loss.
	chunk       int64
	synchronous string
}

func (o *Options) setDefaults() {
	if o.CacheBytes <= 0 {
		o.CacheBytes = 16 << 20
	}
	if o.CheckBytes <= 0 {
		o.CheckBytes = 64 << 20
	}
	if o.BusyTimeout <= 0 {
		o.BusyTimeout = 5 * time.Second
	}
	if o.chunk <= 0 {
		o.chunk = defaultChunk
	}
	if o.synchronous == "" {
		o.synchronous = "FULL"
	}
}

// readers is how many queries run at a time; more wait.
const readers = 3

// Ledger is a ledger in one file. Its methods may be called concurrently.
type Ledger struct {
	path    string
	options Options
	lock    *os.File // nil if only for reading

	// turn holds the writer while nobody uses it; nil if only for reading.
	turn chan *conn
	// These belong to whoever has the writer.
	series *seriesIDs
	kinds  map[kind]int64
	// Scratch of Commit.
	rows, coarser []counts.Row

	// idle holds the readers that nobody uses; a nil one is not open yet.
	idle    chan *conn
	catalog counts.Catalog

	leases  chan struct{} // has one while somebody holds the lease
	ending  atomic.Pointer[context.CancelCauseFunc]
	closing chan struct{} // closed when Close begins

	closeOnce sync.Once
	closeErr  error
}

// Open opens the ledger at path for the one process that writes to it, and
// creates it, but not its folder, if there is none. A second process gets an
// error that wraps ledger.ErrLocked.
//
// A damaged file gives an error that wraps ledger.ErrCorrupt, now or when the
// damage is met. The tables that decide what counts (lanes, series, marks)
// are checked at every start, and a file of up to Options.CheckBytes as a
// whole; that takes a second for 80 MB, so docs/ledger.md says how to check a
// larger one. What a disk did to a file between Close and Open is found by a
// checksum; see sum.go.
func Open(ctx context.Context, path string, o Options) (*Ledger, error) {
	o.setDefaults()
	folder := filepath.Dir(path)
	if info, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open ledger %s: the folder does not exist: create it first, owned by the daemon's user: mkdir -p %s", path, folder)
	} else if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("open ledger %s: %s is no folder: correct the path", path, folder)
	}
	held, err := lock(path)
	if err != nil {
		return nil, err
	}
	l := newLedger(path, o)
	l.lock = held
	err = fault(path, "open", takeSum(path))
	if err == nil {
		err = l.openWriter(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, unlock(held))
	}
	l.openReaders()
	return l, nil
}

// Name is where the ledger is: the path of its file.
func (l *Ledger) Name() string { return l.path }

// OpenReadOnly opens the ledger at path for queries, also while another
// process writes to it. Methods that write return an error.
func OpenReadOnly(ctx context.Context, path string, o Options) (*Ledger, error) {
	o.setDefaults()
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open ledger: %w: give the path that the daemon's configuration has under ledger.sqlite", err)
	}
	l := newLedger(path, o)
	l.openReaders()
	err := l.read(ctx, "open", func(c *conn) error {
		version, err := schemaVersion(c, l.path)
		if err != nil {
			return err
		}
		return l.checkVersion(version, true)
	})
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func newLedger(path string, o Options) *Ledger {
	return &Ledger{
		path: path, options: o, kinds: make(map[kind]int64), series: newSeriesIDs(),
		leases: make(chan struct{}, 1), closing: make(chan struct{}),
	}
}

func (l *Ledger) openWriter(ctx context.Context) error {
	// Created here and not by the engine, for its mode: others must not read
	// the domains that people write to. Not opened if it is there, because to
	// close a file drops all locks that this process has on it.
	if _, err := os.Stat(l.path); errors.Is(err, fs.ErrNotExist) {
		f, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
		if err != nil {
			return fmt.Errorf("create ledger: %w", err)
		}
		if err := f.Close(); err != nil {
			return fmt.Errorf("create ledger: %w", err)
		}
	}
	// fdatasync is as durable as fsync for the contents of a file and its
	// length, and spares a commit the journalling of timestamps. Where there is
	// none, fsync is used.
	_, _ = engine.Fdatasync(true)
	c, err := connect(l.path, "rw",
		fmt.Sprintf("busy_timeout = %d", l.options.BusyTimeout.Milliseconds()),
		fmt.Sprintf("cache_size = -%d", l.options.CacheBytes>>10),
		"auto_vacuum = INCREMENTAL", // only heeded by a new file
		"journal_mode = WAL",
		"synchronous = "+l.options.synchronous,
		"wal_autocheckpoint = 4096", // pages: 16 MiB
		"journal_size_limit = 67108864",
	)
	if err != nil {
		return fault(l.path, "open", err)
	}
	if err := l.prepare(ctx, c); err != nil {
		return errors.Join(err, c.close())
	}
	l.turn = make(chan *conn, 1)
	l.turn <- c
	return nil
}

// prepare checks the file and brings its schema up to date.
func (l *Ledger) prepare(ctx context.Context, c *conn) error {
	if mode, err := text(c, "PRAGMA journal_mode"); err != nil {
		return fault(l.path, "open", err)
	} else if mode != "wal" {
		return fmt.Errorf("ledger %s: open: the file system does not support a write-ahead log (journal mode is %s): put the ledger on a local disk", l.path, mode)
	}
	version, err := schemaVersion(c, l.path)
	if err == nil {
		err = l.checkVersion(version, false)
	}
	if err == nil && version > 0 {
		err = l.check(ctx, c)
	}
	if err == nil {
		err = migrate(c, version, time.Now())
	}
	return fault(l.path, "open", err)
}

// check looks for damage; see Open.
func (l *Ledger) check(ctx context.Context, c *conn) error {
	pages, err := c.integer("PRAGMA page_count", 0)
	if err != nil {
		return err
	}
	size, err := c.integer("PRAGMA page_size", 0)
	if err != nil {
		return err
	}
	checks := []string{"PRAGMA quick_check(1)"}
	if pages*size > l.options.CheckBytes {
		checks = []string{"PRAGMA quick_check(lanes)", "PRAGMA quick_check(series)", "PRAGMA quick_check(marks)"}
	}
	for _, q := range checks {
		if err := l.quickCheck(ctx, c, q); err != nil {
			return err
		}
	}
	return nil
}

func (l *Ledger) quickCheck(ctx context.Context, c *conn, pragma string) error {
	return c.query(ctx, pragma, func(row []value) error {
		if s, _ := row[0].(string); s != "ok" {
			return damaged(l.path, errors.New(s))
		}
		return nil
	})
}

func (l *Ledger) openReaders() {
	l.idle = make(chan *conn, readers)
	for range readers {
		l.idle <- nil
	}
}

// write runs f in a transaction of the writer, waiting for its turn.
func (l *Ledger) write(ctx context.Context, doing string, f func(*conn) error) error {
	if l.turn == nil {
		return fmt.Errorf("ledger %s: %s: it is open for reading only", l.path, doing)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("ledger %s: %s: %w", l.path, doing, err)
	}
	select {
	case c, open := <-l.turn:
		if !open {
			return fmt.Errorf("ledger %s: %s: %w", l.path, doing, fs.ErrClosed)
		}
		defer func() { l.turn <- c }()
		err := c.transaction(func() error { return f(c) })
		if err != nil {
			l.forgetIDs()
		}
		return fault(l.path, doing, err)
	case <-ctx.Done():
		return fmt.Errorf("ledger %s: %s: %w", l.path, doing, ctx.Err())
	}
}

// read runs f on a reader, in a snapshot of the ledger.
func (l *Ledger) read(ctx context.Context, doing string, f func(*conn) error) error {
	var c *conn
	var open bool
	select {
	case c, open = <-l.idle:
		if !open {
			return fmt.Errorf("ledger %s: %s: %w", l.path, doing, fs.ErrClosed)
		}
	case <-ctx.Done():
		return fmt.Errorf("ledger %s: %s: %w", l.path, doing, ctx.Err())
	}
	defer func() { l.idle <- c }()
	if c == nil {
		opened, err := connect(l.path, "ro",
			fmt.Sprintf("busy_timeout = %d", l.options.BusyTimeout.Milliseconds()),
			fmt.Sprintf("cache_size = -%d", l.options.CacheBytes>>12),
			"query_only = ON")
		if err != nil {
			return fault(l.path, doing, err)
		}
		c = opened
	}
	err := c.snapshot(func() error { return f(c) })
	if ctx.Err() != nil {
		return fmt.Errorf("ledger %s: %s: %w", l.path, doing, ctx.Err())
	}
	return fault(l.path, doing, err)
}

// Close ends the lease, waits for what is under way, moves the write-ahead log into the file
// and releases the lock. A second call does nothing.
func (l *Ledger) Close() error {
	l.closeOnce.Do(func() {
		close(l.closing)
		if end := l.ending.Load(); end != nil {
			(*end)(fs.ErrClosed)
		}
		var errs []error
		for range readers {
			if c := <-l.idle; c != nil {
				errs = append(errs, c.close())
			}
		}
		close(l.idle)
		if l.turn != nil {
			c := <-l.turn
			close(l.turn)
			// The last connection moves the log into the file as it closes.
			errs = append(errs, c.close())
			noteSum(l.path)
			errs = append(errs, unlock(l.lock))
		}
		l.closeErr = fault(l.path, "close", errors.Join(errs...))
	})
	return l.closeErr
}

// Lane returns the state of a lane, which is created at the zero position when
// it is first asked for.
func (l *Ledger) Lane(ctx context.Context, source, name string) (ledger.Lane, error) {
	var lane ledger.Lane
	err := l.write(ctx, "open lane", func(c *conn) error {
		if _, err := c.exec("INSERT INTO lanes (source, name) VALUES (?, ?) ON CONFLICT DO NOTHING", source, name); err != nil {
			return err
		}
		return c.query(context.Background(), laneColumns+"WHERE source = ? AND name = ?", func(row []value) error {
			lane = scanLane(row)
			return nil
		}, source, name)
	})
	return lane, err
}

// Lanes returns all lanes, by source and name.
func (l *Ledger) Lanes(ctx context.Context) ([]ledger.Lane, error) {
	var lanes []ledger.Lane
	err := l.read(ctx, "list lanes", func(c *conn) error {
		return c.query(ctx, laneColumns+"ORDER BY source, name", func(row []value) error {
			lanes = append(lanes, scanLane(row))
			return nil
		})
	})
	return lanes, err
}

const laneColumns = `SELECT id, source, name, segment, position,
	read, malformed, truncated, probes, rejected, lost, unmatched, evicted, folded, future, repeated,
	first, last, updated FROM lanes `

func scanLane(row []value) ledger.Lane {
	n := func(i int) int64 { v, _ := row[i].(int64); return v }
	s := func(i int) string { v, _ := row[i].(string); return v }
	lane := ledger.Lane{
		ID: ledger.LaneID(n(0)), Source: s(1), Name: s(2),
		Lines: window.Lines{
			Read: n(5), Malformed: n(6), Truncated: n(7), Probes: n(8), Rejected: n(9),
			Lost: n(10), Unmatched: n(11), Evicted: n(12), Folded: n(13), Future: n(14), Repeated: n(15),
		},
		First: n(16), Last: n(17),
	}
	lane.Position.Segment, lane.Position.Offset = s(3), n(4)
	if u := n(18); u != 0 {
		lane.Updated = time.Unix(u, 0)
	}
	return lane
}

// Entries yields the lane's correlation entries in order of their keys. The
// value is valid during the call only.
func (l *Ledger) Entries(ctx context.Context, lane ledger.LaneID, yield func(ledger.Entry) error) error {
	return l.read(ctx, "read correlation", func(c *conn) error {
		return c.query(ctx, "SELECT key, value FROM entries WHERE lane = ?", func(row []value) error {
			key, _ := row[0].(int64)
			v, _ := row[1].([]byte)
			return yield(ledger.Entry{Key: uint64(key), Value: v})
		}, int64(lane))
	})
}

// text returns the first column of the first row.
func text(c *conn, q string) (string, error) {
	var s string
	err := c.query(context.Background(), q, func(row []value) error {
		s, _ = row[0].(string)
		return nil
	})
	return s, err
}
