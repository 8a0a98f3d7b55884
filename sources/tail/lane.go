package tail

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/failpoint"
)

const (
	// idle is how long Read waits for lines before it returns without any.
	idle = time.Second
	// linger is how long a file is watched after the next one was begun.
	linger = 30 * time.Second
	// settle is how long ago a compressed file must have been written to be
	// called damaged: until then somebody may still be writing it.
	settle = time.Minute
	// copying is how much later than its original a copy that lacks the
	// original's end may have been written.
	copying = 10 * time.Second
	// nag is how often a lasting fault is logged.
	nag = time.Minute
)

// Lane is one log through all its rotations: the live file and the rotated
// ones beside it, read as one stream from old to new. Its methods are called
// by one goroutine, apart from Name and those of Source.
type Lane struct {
	path  string
	cfg   Config
	log   *slog.Logger
	atEnd bool          // a stream never read before begins at its end
	wake  chan struct{} // a file event; holds at most one
	stats counters

	// What follows belongs to the reading goroutine.

	at     place     // what Batch.Next says
	r      *reader   // the file being read, nil until it is found
	live   bool      // r was the live file when last looked at
	born   bool      // r was opened as the live file: nothing older has its name
	grown  time.Time // when r was last seen to grow, or else written
	caught bool      // r has been read to its end, as of the last look
	newer  int64     // bytes in the files after r
	lost   int64     // for the next batch
	last   *os.File  // the file before r, watched for late writes until lastT
	lastN  int64     // how much of last was read
	lastT  time.Time
	ended  *ended    // what is known of the file that at is in, if it was read here and is no more
	retry  time.Time // when to look at the files again
	fault  string    // what was last logged
	nagAt  time.Time // when to log it again
}

// ended is what is known of a file that was being read and is gone.
type ended struct {
	// size is what was last seen of the file that at is in, if that was
	// truncated.
	size int64
	// lost is what is lost if no copy is found.
	lost int64
}

// counters are the parts of Stats that are written while others read them.
type counters struct {
	state atomic.Pointer[string]

	rotations, truncations, lost, longLines, lag, lines, bytes atomic.Int64
}

func newLane(path string, cfg Config, atEnd bool) *Lane {
	l := &Lane{path: path, cfg: cfg, atEnd: atEnd, log: cfg.Log.With("file", path), wake: make(chan struct{}, 1)}
	s := ""
	l.stats.state.Store(&s)
	return l
}

// Name is the path of the live file.
func (l *Lane) Name() string { return l.path }

// Open starts after from. The file is found by content with the first Read;
// if it does not exist, Read waits for it.
func (l *Lane) Open(_ context.Context, from event.Position) error {
	at, err := parsePosition(from)
	if err != nil {
		return fmt.Errorf("open %s: %w; it was made by another version: use that one, or rename the source to begin anew", l.path, err)
	}
	l.at = at
	return nil
}

// Committed does nothing: a rotated file is found again by its content.
func (l *Lane) Committed(event.Position) {}

// Close releases the files.
func (l *Lane) Close() error {
	l.forget()
	return l.closeReader()
}

func (l *Lane) closeReader() error {
	if l.r == nil {
		return nil
	}
	err := l.r.close()
	l.r = nil
	return err
}

// Read fills b with the next lines of the stream. It returns an empty batch
// after a second without any, and only ctx's error: whatever is wrong with the
// files is logged, shown by Source.Stats and tried again.
func (l *Lane) Read(ctx context.Context, b *event.Batch) error {
	b.Reset()
	until := time.Now().Add(idle)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		before := l.at
		again, err := l.step(ctx, b)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			l.complain(err)
		}
		now := time.Now()
		if len(b.Lines) > 0 || l.at != before || !now.Before(until) {
			l.describe(b, now)
			return nil
		}
		if again {
			continue
		}
		if err := l.sleep(ctx, min(l.cfg.Poll, until.Sub(now))); err != nil {
			return err
		}
	}
}

// sleep waits for d or a file event.
func (l *Lane) sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-l.wake:
	case <-t.C:
	}
	return nil
}

// describe sets all of b but its lines.
func (l *Lane) describe(b *event.Batch, now time.Time) {
	b.Next = l.at.position()
	b.Reference = now
	b.Lost, l.lost = l.lost, 0
	if l.r != nil {
		l.r.describe(b)
		b.Lag += l.newer
		if !l.live {
			b.Reference = l.r.info.ModTime()
		}
	}
	s := &l.stats
	s.lag.Store(b.Lag)
	s.lines.Add(int64(len(b.Lines)))
	s.longLines.Add(int64(b.Truncated))
	s.lost.Add(b.Lost)
}

// step does one thing: finds the file to read, reads a chunk of it, or deals
// with its end. It reports whether there is more to do at once.
func (l *Lane) step(ctx context.Context, b *event.Batch) (again bool, err error) {
	if time.Now().Before(l.retry) {
		return false, nil
	}
	if l.r == nil {
		return l.find(ctx)
	}
	size := l.r.info.Size()
	n, err := l.r.fill(b)
	switch {
	case errors.Is(err, errReplaced):
		return l.replaced(size)
	case errors.Is(err, errDamaged):
		return l.damaged(err)
	case n > 0:
		l.settled(stateReading)
		if l.caught {
			l.grown, l.caught = time.Now(), false
		}
		l.stats.bytes.Add(int64(n))
		if len(b.Lines) > 0 {
			l.at = l.r.place()
		}
		return true, nil
	case err != nil && err != io.EOF:
		return false, unreadable(l.r.path, err)
	default:
		return l.atEOF(ctx, b)
	}
}

// find looks for the file that holds the position and opens it there. It is
// used at the start, after a truncation, and when the file that was read has
// been deleted or compressed.
//
// The rule, in this order:
//  1. The file in which the hashes before the position agree is it. If several
//     do, the one with the same inode, else the oldest: what is a copy of what
//     was read is recognised when it is reached.
//  2. The live file that has the same inode and head but ends before the
//     position has lost its end (a crash of the machine): reading goes on at
//     its end. At least one byte counts as lost.
//  3. A rotated file that has the same head but ends before the position, and
//     was last written about when the position's file was, is a copy of it that
//     was made for a truncation while it still grew: all of it has been read,
//     so reading goes on with the file after it.
//  4. Else the file is gone. What was written to after it, and the live file
//     in any case, is newer and is read from its beginning.
//
// In the last two cases what followed the position in its file is lost: at
// least one byte counts as such, unless that file is known to have been read
// to its end. If a file cannot be opened, it could be the one: nothing is
// decided before it can.
func (l *Lane) find(ctx context.Context) (again bool, err error) {
	es, err := l.list()
	if err != nil {
		return false, err
	}
	switch {
	case l.at.unset:
		return l.begin(es)
	case l.at.offset == 0:
		return l.openFirst(es, l.after(es), 0)
	}
	order := slices.Clone(es)
	slices.SortStableFunc(order, func(a, b entry) int { // the one with the inode first
		same := map[bool]int{true: 0, false: 1}
		return cmp.Compare(same[inode(a.info) == l.at.ino], same[inode(b.info) == l.at.ino])
	})
	var faults []error
	newer := l.after(es)
	for _, e := range order {
		if e.info.Size() == 0 {
			continue
		}
		r, err := l.openEntry(e)
		if errors.Is(err, errMoved) {
			return false, nil
		}
		if err != nil {
			faults = append(faults, err)
			continue
		}
		what, err := r.seek(ctx, l.at)
		switch {
		case err != nil && ctx.Err() != nil:
			_ = r.close()
			return false, err
		case err != nil && !errors.Is(err, errDamaged):
			faults = append(faults, unreadable(e.path, err))
		case err == nil && what == within:
			if l.ended != nil && r.dec == nil {
				l.lose(l.ended.size-r.info.Size(), "the file was truncated, and its copy lacks the end of what had been seen of it")
			}
			l.open(r, es, e)
			failpoint.LogFound.Hit()
			return true, nil
		case err == nil && what == short && e.live() && inode(e.info) == l.at.ino:
			l.lose(1, "the file is shorter than what was read of it; reading goes on at its end")
			l.open(r, es, e)
			l.at = r.place()
			return true, nil
		case err == nil && what == short && !e.live() && modified(e.info)-l.at.modified < int64(copying):
			i := slices.IndexFunc(es, func(o entry) bool { return o.path == e.path })
			if rest := es[i+1:]; len(rest) < len(newer) {
				newer = rest
			}
		}
		_ = r.close()
	}
	if len(faults) > 0 {
		return false, errors.Join(faults...)
	}
	lost := int64(1)
	if l.ended != nil {
		lost = l.ended.lost
	}
	return l.openFirst(es, newer, lost)
}

// begin starts a stream that was never read before.
func (l *Lane) begin(es []entry) (again bool, err error) {
	if !l.atEnd {
		return l.openFirst(es, es, 0)
	}
	if len(es) == 0 || !es[len(es)-1].live() {
		for _, e := range es { // what is there is not wanted
			l.at.modified = max(l.at.modified, modified(e.info))
		}
		l.at.unset = false
		return true, nil
	}
	e := es[len(es)-1]
	r, err := l.openEntry(e)
	if err != nil {
		return false, err
	}
	if err := r.seekEnd(); err != nil {
		_ = r.close()
		return false, unreadable(e.path, err)
	}
	l.open(r, es, e)
	l.at = r.place() // with offset 0 if there is no whole line
	return true, nil
}

// after returns the files of the stream that are newer than a file at l.at
// that is not among them.
func (l *Lane) after(es []entry) []entry {
	i := slices.IndexFunc(es, func(e entry) bool {
		return e.live() || modified(e.info) > l.at.modified || l.at.offset == 0 && inode(e.info) == l.at.ino
	})
	if i < 0 {
		return nil
	}
	return es[i:]
}

// openFirst opens the first file of newer that has content, at its beginning.
// If there is none yet, nothing changes. newer are the last ones of es, which
// is all that there were when the position was looked for.
func (l *Lane) openFirst(es, newer []entry, lost int64) (again bool, err error) {
	i := firstWithContent(newer)
	if i < 0 {
		l.wait(newer)
		return false, nil
	}
	r, err := l.openNext(es, newer[i])
	if err != nil {
		return false, err
	}
	l.lose(lost, "the file that was read last is gone; reading goes on with the next")
	l.open(r, es, newer[i])
	return true, nil
}

// openNext opens e, which is to be read from its beginning, and makes sure that
// it still is the next one: had it been rotated or truncated since the folder
// was read into es, another name would be there by now, or a copy have grown.
func (l *Lane) openNext(es []entry, e entry) (*reader, error) {
	r, err := l.openEntry(e)
	if err != nil {
		return nil, err
	}
	now, err := l.list()
	if err == nil && !slices.EqualFunc(es, now, func(a, b entry) bool {
		return sameEntry(a, b) && (a.live() || modified(a.info) == modified(b.info) && a.info.Size() == b.info.Size())
	}) {
		err = errMoved
	}
	if err != nil {
		_ = r.close()
		return nil, err
	}
	return r, nil
}

func sameEntry(a, b entry) bool { return a.path == b.path && os.SameFile(a.info, b.info) }

func firstWithContent(es []entry) int {
	return slices.IndexFunc(es, func(e entry) bool { return e.info.Size() > 0 })
}

// openEntry opens a file of the stream at its beginning.
func (l *Lane) openEntry(e entry) (*reader, error) {
	f, err := openFile(e.path, e.live())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errMoved
	}
	if err != nil {
		return nil, unreadable(e.path, err)
	}
	if !os.SameFile(f.info, e.info) {
		_ = f.close()
		return nil, errMoved
	}
	r, err := newReader(f, l.cfg.MaxLineBytes, l.cfg.chunk)
	if err != nil {
		_ = f.close()
		return nil, unreadable(e.path, err)
	}
	return r, nil
}

// open makes r, which reads the file e of es, the file being read.
func (l *Lane) open(r *reader, es []entry, e entry) {
	l.r, l.live, l.born, l.caught, l.ended = r, e.live(), e.live(), false, nil
	l.grown = r.info.ModTime()
	if now := time.Now(); l.grown.After(now) {
		l.grown = now
	}
	i := slices.IndexFunc(es, func(o entry) bool { return o.path == e.path })
	l.newer = size(es[i+1:])
	l.settled(stateReading)
}

func size(es []entry) (n int64) {
	for _, e := range es {
		n += e.info.Size()
	}
	return n
}

// replaced deals with a file of which what was read is no longer there. size is
// the size it had when it last was.
func (l *Lane) replaced(size int64) (again bool, err error) {
	l.stats.truncations.Add(1)
	l.log.Info("log truncated", "read", l.r.off)
	size = max(size, l.r.off)
	l.ended = &ended{lost: max(1, size-l.r.start)}
	if l.r.start > 0 {
		l.ended.size = size
	}
	return true, l.closeReader()
}

// damaged deals with a compressed file that cannot be decoded any further. It
// may still be written, so it is given some time before it is left.
func (l *Lane) damaged(err error) (again bool, _ error) {
	now := time.Now()
	if age := now.Sub(l.r.info.ModTime()); age >= 0 && age < settle {
		l.retry = now.Add(5 * time.Second)
		return false, l.closeReader()
	}
	l.lose(max(1, l.r.drop()), err.Error()+"; the rest of it is skipped")
	l.r.err = io.EOF
	return true, nil
}

// atEOF looks whether there is another file to go on with after the one that
// was read to its end, and goes on with it once this one has stopped growing.
func (l *Lane) atEOF(ctx context.Context, b *event.Batch) (again bool, err error) {
	r := l.r
	before := r.info.Size()
	if err := r.look(); err != nil {
		return false, unreadable(r.path, err)
	}
	if r.dec == nil {
		switch err := r.same(); {
		case errors.Is(err, errReplaced):
			return l.replaced(before)
		case err != nil:
			return false, unreadable(r.path, err)
		case r.info.Size() > max(before, r.off):
			return true, nil
		}
	}
	l.caught = true
	l.watch()
	at, err := os.Stat(l.path)
	if err == nil && os.SameFile(at, r.info) {
		l.live, l.newer = true, 0
		l.settled(stateReading)
		return false, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, unreadable(l.path, err)
	}
	l.live = false
	es, err := l.list()
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(es, func(e entry) bool { return os.SameFile(e.info, r.info) })
	rest := es[i+1:]
	if i < 0 {
		rest = slices.DeleteFunc(slices.Clone(es), func(e entry) bool { return !e.live() && !e.info.ModTime().After(r.info.ModTime()) })
	}
	l.newer = size(rest)
	next := firstWithContent(rest)
	if next < 0 {
		l.wait(rest)
		return false, nil
	}
	if r.dec == nil && time.Since(l.grown) < l.cfg.Grace {
		return false, nil
	}
	if i >= 0 && !l.born {
		copied, err := l.openEntry(rest[next])
		if err != nil {
			return false, err
		}
		if continues(ctx, r, copied) {
			_ = l.closeReader()
			l.open(copied, es, rest[next])
			return true, nil
		}
		_ = copied.close()
		if err := ctx.Err(); err != nil {
			return false, err
		}
	}
	if err := r.look(); err != nil {
		return false, unreadable(r.path, err)
	}
	if r.dec == nil && r.info.Size() > r.off { // a copy that was finished meanwhile
		return true, nil
	}
	if r.off > r.start {
		r.finish(b)
		if len(b.Lines) > 0 {
			l.at = r.place()
			return true, nil
		}
	}
	if i < 0 {
		l.leave()
		l.ended = &ended{} // all of it was read
		return true, nil
	}
	nr, err := l.openNext(es, rest[next])
	if err != nil {
		return false, err
	}
	l.leave()
	failpoint.LogLeft.Hit()
	l.open(nr, es, rest[next])
	return true, nil
}

// continues moves next, a new reader, to where r ends if r's file is a copy of
// the beginning of next's: made for a truncation that is yet to come, or by
// logrotate's "copy". Files of which the one happens to begin with all of the
// other are taken for copies; lines that tell the time see to it that there
// are none.
func continues(ctx context.Context, r, next *reader) bool {
	if r.start > 0 {
		what, err := next.seek(ctx, r.place())
		return err == nil && what == within
	}
	n := min(r.head.n, len(next.first)) // not even one line yet
	return n > 0 && bytes.Equal(r.head.buf[:n], next.first[:n])
}

// leave ends the reading of a file. It is kept open for a while: what a late
// process writes to it then is lost, and has to be counted.
func (l *Lane) leave() {
	l.forget()
	l.stats.rotations.Add(1)
	if l.r.dec == nil {
		l.last, l.lastN, l.lastT = l.r.f, l.r.off, time.Now().Add(linger)
		l.r = nil
	} else {
		_ = l.closeReader()
	}
}

// watch looks after the file that was left.
func (l *Lane) watch() {
	if l.last == nil {
		return
	}
	if info, err := l.last.Stat(); err == nil && info.Size() > l.lastN {
		l.lose(info.Size()-l.lastN, "a rotated file was written to after the next one had been begun; raise grace")
		l.lastN = info.Size()
	}
	if time.Now().After(l.lastT) {
		l.forget()
	}
}

func (l *Lane) forget() {
	if l.last != nil {
		_ = l.last.Close()
		l.last = nil
	}
}

// list returns the files of the stream from old to new.
func (l *Lane) list() ([]entry, error) {
	es, err := l.listOnce()
	if err != nil {
		return nil, err
	}
	for range 10 { // until no rotation is seen to happen meanwhile
		before := es
		if es, err = l.listOnce(); err != nil {
			return nil, err
		}
		if slices.EqualFunc(es, before, sameEntry) {
			sortEntries(es)
			return withoutTwins(es), nil
		}
	}
	return nil, errMoved
}

func (l *Lane) listOnce() ([]entry, error) {
	dir, base := filepath.Split(l.path)
	names, err := os.ReadDir(cmp.Or(dir, "."))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, unreadable(cmp.Or(dir, "."), err)
	}
	var es []entry
	for _, d := range names {
		name := d.Name()
		e := entry{path: dir + name}
		if name != base {
			var ok bool
			if e.mark, ok = rotationOf(name, base); !ok {
				continue
			}
		}
		if e.info, err = os.Stat(e.path); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, unreadable(e.path, err)
		}
		if e.info.Mode().IsRegular() || e.live() {
			es = append(es, e)
		}
	}
	return es, nil
}

// withoutTwins removes what is there twice from a sorted list: under two
// names, or compressed beside the file that it is made of, as it is while the
// compressor runs.
func withoutTwins(es []entry) []entry {
	return slices.DeleteFunc(slices.Clone(es), func(e entry) bool {
		i := slices.IndexFunc(es, func(o entry) bool { return o.path == e.path })
		return slices.ContainsFunc(es[i+1:], func(o entry) bool {
			if os.SameFile(e.info, o.info) {
				return true
			}
			if uncompressed(e.path) == e.path || uncompressed(e.path) != uncompressed(o.path) {
				return false
			}
			a, err := openFile(e.path, false)
			if err != nil {
				return false
			}
			defer func() { _ = a.close() }()
			b, err := openFile(o.path, false)
			if err != nil {
				return false
			}
			defer func() { _ = b.close() }()
			return sameBeginning(a, b)
		})
	})
}

// errMoved means that a file was rotated between two looks at it: look again.
var errMoved = errors.New("the file was rotated meanwhile")

// unreadable says what to do about a file that cannot be read.
func unreadable(path string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("read %s: %w; let the user of this process read it, for instance by adding it to the group of the file (often adm), and search its folder", path, fs.ErrPermission)
	}
	if p := (*fs.PathError)(nil); errors.As(err, &p) && p.Path == path {
		err = p.Err // the path is told once
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w; look for the log's name with ls, or for a spelling mistake", path, err)
	}
	return fmt.Errorf("read %s: %w", path, err)
}

// lose counts n bytes as lost, if any.
func (l *Lane) lose(n int64, why string) {
	if n <= 0 {
		return
	}
	l.lost += n
	l.log.Warn("log data lost", "bytes", n, "why", why)
}

// wait notes that there is nothing to read in es.
func (l *Lane) wait(es []entry) {
	if len(es) > 0 && es[len(es)-1].live() {
		l.settled(stateReading)
		return
	}
	if l.settled(stateWaiting) {
		l.log.Info("waiting for the log to appear")
	}
}

// settled notes that nothing is wrong, and reports whether the state is new.
func (l *Lane) settled(s string) bool {
	l.fault = ""
	if *l.stats.state.Load() == s {
		return false
	}
	l.stats.state.Store(&s)
	return true
}

// complain logs a fault that will be tried again, but not each time.
func (l *Lane) complain(err error) {
	if errors.Is(err, errMoved) {
		return
	}
	text := err.Error()
	l.stats.state.Store(&text)
	if now := time.Now(); text != l.fault || now.After(l.nagAt) {
		l.fault, l.nagAt = text, now.Add(nag)
		l.log.Error("log unreadable", "err", err)
	}
}
