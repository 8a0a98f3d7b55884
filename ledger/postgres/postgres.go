package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/internal/counts"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// Options say where in the database the ledger is and what it may use.
type Options struct {
	// Schema has the tables. Default is the search_path of the DSN, else
	// "bouncemeter".
	Schema string
	// Connections is the greatest number of connections, to which detection and
	// roll-up add one each. Default 8.
	Connections int
	// Timeout ends a statement that takes longer. Default 30 s.
	Timeout time.Duration

	chunk int64 // for tests: less than defaultChunk
}

func (o *Options) setDefaults() {
	if o.Schema == "" {
		o.Schema = "bouncemeter"
	}
	if o.Connections <= 0 {
		o.Connections = 8
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.chunk <= 0 {
		o.chunk = defaultChunk
	}
}

// Ledger is a ledger in a PostgreSQL schema. Its methods may be called
// concurrently, and by any number of processes.
type Ledger struct {
	name     string // for errors
	schema   string
	pool     *pool
	timeout  time.Duration
	chunk    int64
	readOnly bool
	locks    locks
	catalog  counts.Catalog

	// mu guards series: the rows of those that were met. They are never
	// deleted, so they stay right whatever becomes of a commit.
	mu     sync.Mutex
	series map[*window.Series]int32

	closing chan struct{} // closed when Close begins
	once    sync.Once
	work    sync.WaitGroup // leases
}

// locks are the keys of advisory locks. Those are a database's, so the schema
// is part of them.
type locks struct{ marks, series, rollup, detection, schema int64 }

func newLocks(schema string) locks {
	key := func(purpose string) int64 {
		h := fnv.New64a()
		_, _ = h.Write([]byte("bouncemeter\x00" + purpose + "\x00" + schema))
		return int64(h.Sum64())
	}
	return locks{key("marks"), key("series"), key("rollup"), key("detection"), key("schema")}
}

// CheckDSN reports whether a DSN can be understood. The error never has a part of
// it.
func CheckDSN(dsn string) error {
	_, err := parse(dsn)
	return err
}

func parse(dsn string) (*pgx.ConnConfig, error) {
	if strings.TrimSpace(dsn) == "" {
		return nil, errors.New("there is no DSN; " + writeDSN)
	}
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, badDSN(err)
	}
	return config, nil
}

// Open opens the ledger for one of the processes that write to it. A DSN is a
// postgres:// URL or key=value pairs, as libpq takes them, TLS included. If the
// schema is missing or of an older version it is brought up to date, for which
// the DSN's role must own it; several processes may do so at once. What would
// make every commit fail is an error here: a standby, a missing right.
func Open(ctx context.Context, dsn string, o Options) (*Ledger, error) {
	l, err := newLedger(dsn, o, false)
	if err != nil {
		return nil, err
	}
	err = l.read(ctx, "open", writable)
	if err == nil {
		err = l.migrate(ctx)
	}
	if err == nil {
		err = l.read(ctx, "open", granted)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Where names the ledger of a DSN for people: host, database and schema.
func Where(dsn string, o Options) (string, error) {
	l, err := newLedger(dsn, o, true)
	if err != nil {
		return "", err
	}
	return l.name, nil
}

// Check reports what would keep Open from opening the ledger, without changing
// anything.
func Check(ctx context.Context, dsn string, o Options) error {
	l, err := newLedger(dsn, o, true)
	if err != nil {
		return err
	}
	err = l.read(ctx, "check", func(ctx context.Context, tx pgx.Tx) error {
		if err := writable(ctx, tx); err != nil {
			return err
		}
		v, err := l.version(ctx, tx)
		switch {
		case err != nil:
			return err
		case v < len(migrations()):
			return l.mayMigrate(ctx, tx)
		}
		return granted(ctx, tx)
	})
	return errors.Join(err, l.Close())
}

// OpenReadOnly opens the ledger for queries; the role needs SELECT only.
// Methods that write return an error.
func OpenReadOnly(ctx context.Context, dsn string, o Options) (*Ledger, error) {
	l, err := newLedger(dsn, o, true)
	if err != nil {
		return nil, err
	}
	if err := l.read(ctx, "open", l.checkVersion); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func newLedger(dsn string, o Options, readOnly bool) (*Ledger, error) {
	config, err := parse(dsn)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	o.Schema = cmp.Or(o.Schema, config.RuntimeParams["search_path"])
	o.setDefaults()
	set := func(name, value string) {
		if _, ok := config.RuntimeParams[name]; !ok { // the DSN may say otherwise
			config.RuntimeParams[name] = value
		}
	}
	milliseconds := strconv.FormatInt(o.Timeout.Milliseconds(), 10)
	set("application_name", "bouncemeter")
	set("statement_timeout", milliseconds)
	// A process that is stopped in the middle of a commit must not hold its
	// lane's row for long: who reads the lane now waits for it.
	set("idle_in_transaction_session_timeout", strconv.FormatInt(min(o.Timeout, 10*time.Second).Milliseconds(), 10))
	set("tcp_keepalives_idle", "30")
	set("tcp_keepalives_interval", "10")
	set("tcp_keepalives_count", "3")
	config.RuntimeParams["search_path"] = pgx.Identifier{o.Schema}.Sanitize()
	config.RuntimeParams["timezone"] = "UTC"
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 10 * time.Second
	}
	l := &Ledger{
		name:    fmt.Sprintf("ledger %s/%s schema %s", hosts(config), config.Database, o.Schema),
		schema:  o.Schema,
		pool:    newPool(config, o.Connections),
		timeout: o.Timeout, chunk: o.chunk, readOnly: readOnly, locks: newLocks(o.Schema),
		series: make(map[*window.Series]int32), closing: make(chan struct{}),
	}
	return l, nil
}

// hosts names the servers that the ledger may be on, in the order in which they
// are tried. Each may be there several times, with and without TLS.
func hosts(config *pgx.ConnConfig) string {
	var all []string
	add := func(host string, port uint16) {
		if !strings.HasPrefix(host, "/") {
			host = net.JoinHostPort(host, strconv.Itoa(int(port)))
		}
		if !slices.Contains(all, host) {
			all = append(all, host)
		}
	}
	add(config.Host, config.Port)
	for _, f := range config.Fallbacks {
		add(f.Host, f.Port)
	}
	return strings.Join(all, ",")
}

// Close ends the lease and waits for what is under way. A second call does
// nothing.
func (l *Ledger) Close() error {
	l.once.Do(func() {
		close(l.closing)
		l.work.Wait()
		l.pool.close()
	})
	return nil
}

// Ping reports whether the server answers.
func (l *Ledger) Ping(ctx context.Context) error {
	return l.read(ctx, "ask the server", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "SELECT 1")
		return err
	})
}

// Name is where the ledger is: host, database and schema.
func (l *Ledger) Name() string { return l.name }

// Lane returns the state of a lane, which is created at the zero position when
// it is first asked for.
func (l *Ledger) Lane(ctx context.Context, source, name string) (ledger.Lane, error) {
	var lane ledger.Lane
	source, name = text(source), text(name)
	err := l.write(ctx, "open lane", func(ctx context.Context, tx pgx.Tx) error {
		const this = laneColumns + "WHERE source = $1 AND name = $2"
		found, err := scanLane(tx.QueryRow(ctx, this, source, name))
		if errors.Is(err, pgx.ErrNoRows) {
			if _, err := tx.Exec(ctx, "INSERT INTO lanes (source, name) VALUES ($1, $2) ON CONFLICT DO NOTHING", source, name); err != nil {
				return err
			}
			found, err = scanLane(tx.QueryRow(ctx, this, source, name))
		}
		lane = found
		return err
	})
	return lane, err
}

// Lanes returns all lanes, by source and name.
func (l *Ledger) Lanes(ctx context.Context) ([]ledger.Lane, error) {
	var lanes []ledger.Lane
	err := l.read(ctx, "list lanes", func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, laneColumns+"ORDER BY source, name")
		if err != nil {
			return err
		}
		lanes, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (ledger.Lane, error) { return scanLane(r) })
		return err
	})
	return lanes, err
}

const laneColumns = `SELECT id, source, name, segment, position,
	read, malformed, truncated, probes, rejected, lost, unmatched, evicted, folded, future, repeated,
	first, last, updated FROM lanes `

func scanLane(row pgx.Row) (ledger.Lane, error) {
	var l ledger.Lane
	var segment []byte
	var updated int64
	n := &l.Lines
	err := row.Scan(&l.ID, &l.Source, &l.Name, &segment, &l.Position.Offset,
		&n.Read, &n.Malformed, &n.Truncated, &n.Probes, &n.Rejected, &n.Lost, &n.Unmatched, &n.Evicted, &n.Folded, &n.Future, &n.Repeated,
		&l.First, &l.Last, &updated)
	l.Position.Segment = string(segment)
	if updated != 0 {
		l.Updated = time.Unix(updated, 0)
	}
	return l, err
}

// Entries yields the lane's correlation entries in no particular order. The
// value is valid during the call only.
func (l *Ledger) Entries(ctx context.Context, lane ledger.LaneID, yield func(ledger.Entry) error) error {
	return l.read(ctx, "read correlation", func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT key, value FROM entries WHERE lane = $1", int64(lane))
		if err != nil {
			return err
		}
		return each(rows, func(v [][]byte) error {
			return yield(ledger.Entry{Key: uint64(number(v[0])), Value: v[1]})
		})
	})
}

// text returns s as the server can store it: valid UTF-8 without NUL.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "?")
}

// position returns p's segment as the server stores it.
func segment(p event.Position) []byte { return []byte(p.Segment) }
