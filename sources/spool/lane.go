package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bouncemeter/bouncemeter/event"
)

const (
	// idle is how long Read waits for records before it returns without any.
	idle = time.Second
	// chunkBytes is about how much Read returns at a time.
	chunkBytes = 128 << 10
	// referenceSpan is how far apart the records of one batch may have been
	// received, for the sake of event.Batch.Reference.
	referenceSpan = int64(time.Hour / time.Millisecond)
)

// Lane is the reading end of a spool. Its position is an offset in the whole log;
// the zero Position is the beginning of what is there.
type Lane struct {
	spool *Spool
	at    int64

	file  *os.File // the segment that was read last, if any
	start int64    // where it starts

	lost, reported int64

	opened     chan struct{} // closed once the lane was opened
	openedOnce sync.Once
}

// Lane returns the spool's one lane.
func (s *Spool) Lane() *Lane { return &Lane{spool: s, opened: make(chan struct{})} }

// Serve opens a spool, calls work for its lane and, once that is open, receive,
// until ctx is done. Nobody may append earlier: until the lane is open the spool
// does not know where the ledger stands, and may have to go on elsewhere.
func Serve(ctx context.Context, c Config, work func(context.Context, *Lane) error, receive func(context.Context, *Spool) error) (err error) {
	s, err := Open(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	lane := s.Lane()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return work(ctx, lane) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-lane.opened:
		}
		return receive(ctx, s)
	})
	return g.Wait()
}

// Name is made of the spool's id, so spools of several machines under the name of
// one source have lanes of their own, and so does one that was begun anew.
func (l *Lane) Name() string { return "spool-" + l.spool.id }

// Open starts reading at from.
func (l *Lane) Open(_ context.Context, from event.Position) error {
	if from.Offset < 0 || from.Segment != "" {
		return fmt.Errorf("position %q@%d is not one of a spool; give the source another name to start anew", from.Segment, from.Offset)
	}
	if err := l.spool.advance(from.Offset); err != nil {
		return err
	}
	l.openedOnce.Do(func() { close(l.opened) })
	l.at, l.lost = from.Offset, 0
	l.spool.release(l.at)
	l.spool.mu.Lock()
	defer l.spool.mu.Unlock()
	if first := l.spool.segments[0]; l.at < first {
		if l.at > 0 { // a new ledger begins with what is there
			l.lose(first - l.at)
		}
		l.at = first
	}
	return nil
}

// Committed deletes what the ledger has.
func (l *Lane) Committed(p event.Position) { l.spool.release(p.Offset) }

// Close closes the file that was being read.
func (l *Lane) Close() error {
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}

// Read fills b with the next records, or returns an empty batch after a second
// without any.
func (l *Lane) Read(ctx context.Context, b *event.Batch) error {
	if cap(b.Buffer) > keepBytes {
		b.Buffer = nil // left by a large record
	}
	b.Reset()
	if err := l.wait(ctx); err != nil {
		return err
	}
	if start, limit := l.bounds(); l.at < limit {
		if err := l.fill(b, start, limit); err != nil {
			return fmt.Errorf("read spool %s: %w", l.spool.config.Dir, err)
		}
	}
	b.Segment, b.Next = l.spool.id, event.Position{Offset: l.at}
	if b.Reference.IsZero() {
		b.Reference = time.Now()
	}
	b.Lost, l.lost = l.lost, 0
	end, _ := l.spool.bounds()
	b.Lag = end - l.at
	return nil
}

// wait returns once there is something to read, or after a while.
func (l *Lane) wait(ctx context.Context) error {
	var timer *time.Timer
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if end, _ := l.spool.bounds(); l.at < end {
			return nil
		}
		if timer == nil {
			timer = time.NewTimer(idle)
			defer timer.Stop()
		}
		select {
		case <-ctx.Done():
		case <-timer.C:
			return nil
		case <-l.spool.wake:
		}
	}
}

// bounds returns where the segment starts that l.at is in, and where it ends.
func (l *Lane) bounds() (start, limit int64) {
	s := l.spool
	s.mu.Lock()
	defer s.mu.Unlock()
	i, found := slices.BinarySearch(s.segments, l.at)
	if !found {
		i--
	}
	if i+1 < len(s.segments) {
		return s.segments[i], s.segments[i+1]
	}
	return s.segments[i], s.end
}

// fill reads a chunk of the segment from start to limit, at least one record.
func (l *Lane) fill(b *event.Batch, start, limit int64) error {
	if l.file == nil || l.start != start {
		_ = l.Close()
		f, err := os.Open(l.spool.segment(start))
		if errors.Is(err, fs.ErrNotExist) {
			l.skip(limit - l.at)
			return nil
		}
		if err != nil {
			return err
		}
		l.file, l.start = f, start
	}
	var from int // where the line feed is looked for
	for size := int64(chunkBytes); ; size *= 2 {
		size = min(size, limit-l.at)
		b.Buffer = slices.Grow(b.Buffer[:0], int(size))[:size]
		n, err := l.file.ReadAt(b.Buffer, l.at-start)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		b.Buffer = b.Buffer[:n]
		if bytes.IndexByte(b.Buffer[min(from, n):], '\n') >= 0 {
			break
		}
		if int64(n) == limit-l.at || int64(n) < size { // the rest is no record
			b.Buffer = b.Buffer[:0]
			l.skip(limit - l.at)
			return nil
		}
		from = n
	}
	l.frames(b)
	return nil
}

// frames takes the records of b.Buffer, which has at least one line.
func (l *Lane) frames(b *event.Batch) {
	var first int64
	for rest := b.Buffer; ; {
		n := bytes.IndexByte(rest, '\n')
		if n < 0 {
			return
		}
		millis, r, ok := parseFrame(rest[:n])
		switch {
		case !ok:
			l.skip(int64(n + 1))
		case len(b.Lines) > 0 && (millis > first+referenceSpan || millis < first-referenceSpan):
			return
		default:
			if len(b.Lines) == 0 {
				first = millis
			}
			b.Lines = append(b.Lines, event.Line{Text: r.Text, Offset: l.at})
			if r.Truncated {
				b.Truncated++
			}
			b.Reference = time.UnixMilli(max(millis, b.Reference.UnixMilli()))
			l.at += int64(n + 1)
		}
		rest = rest[n+1:]
	}
}

// skip passes over n damaged bytes.
func (l *Lane) skip(n int64) {
	l.lose(n)
	l.at += n
}

// lose counts n bytes as lost, and says so now and then.
func (l *Lane) lose(n int64) {
	l.lost += n
	if now := time.Now().Unix(); now-l.reported >= 60 {
		l.reported = now
		l.spool.config.Log.Error("records in the spool are damaged or gone, and lost", "spool", l.spool.config.Dir, "offset", l.at, "bytes", n)
	}
}
