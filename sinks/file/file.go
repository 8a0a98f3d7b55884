// Package file appends classified records to a file, one JSON object a line (see
// package record).
//
// All lanes share the file; each line is written by one lane, whole. The ledger
// moves past a record only after the disk has it. So a crash or a full disk loses
// nothing: the lane waits, or reads again from the ledger's position, and the
// records since then are written again, with the same ids.
//
// The file may be renamed or removed at any time, such as by logrotate: it is
// looked up anew before each write. It also rotates by itself when it gets too
// large.
package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/event/record"
	"github.com/bouncemeter/bouncemeter/internal/durable"
	"github.com/bouncemeter/bouncemeter/internal/failpoint"
	"github.com/bouncemeter/bouncemeter/pipeline"
)

// Config says what is written where.
type Config struct {
	Path string
	// MaxBytes is how large the file may get; then it is renamed to Path.1, which
	// was renamed to Path.2 before, and so on. Zero leaves that to others.
	MaxBytes int64
	// Keep is how many renamed files there are at the most.
	Keep int
	// Sync makes each flush wait until the disk has the records. Without it they
	// survive a crash of the program, but not one of the machine.
	Sync bool
	// Privacy is applied to addresses and texts.
	Privacy event.Privacy
	// Describe may be nil.
	Describe record.Describe
	Log      *slog.Logger
}

// Stats tells what has been written since the start.
type Stats struct {
	Records, Bytes int64
	// Failures counts writes that failed and are done again.
	Failures int64
	// Rotations counts files that were left for a new one.
	Rotations int64
	// Failing reports whether the last write failed.
	Failing bool
}

// Sink is a pipeline.RecordSink.
type Sink struct {
	config Config
	open   func(path string) (appender, error) // differs in tests

	syncing sync.Mutex // held during a sync, so that one serves all lanes that wait

	mu   sync.Mutex
	file appender // nil if it has to be opened
	info fs.FileInfo
	size int64
	torn bool // the file ends within a line
	// Writes are numbered. The disk has those up to synced, and perhaps none of
	// those up to lost that it had not before: after a failed sync, another one
	// proves nothing.
	written, synced, lost int64

	counted sync.Mutex // guards stats; not held while anything is written
	stats   Stats
}

// appender is the part of an *os.File that is used.
type appender interface {
	io.Writer
	io.ReaderAt
	Sync() error
	Close() error
	Truncate(size int64) error
	Stat() (fs.FileInfo, error)
}

// New opens or creates the file.
func New(c Config) (*Sink, error) {
	s := &Sink{config: c, open: openFile}
	if err := s.reopen(); err != nil {
		return nil, err
	}
	return s, nil
}

func openFile(path string) (appender, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o640)
}

// Stats tells what has been written.
func (s *Sink) Stats() Stats {
	s.counted.Lock()
	defer s.counted.Unlock()
	return s.stats
}

// Close closes the file. No writer may be used any more.
func (s *Sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return err
}

// reopen opens the file for appending, and finds out whether a crash has cut its
// last line.
func (s *Sink) reopen() (err error) {
	f, err := s.open(s.config.Path)
	if err != nil {
		return fmt.Errorf("open the file of records: %w; create its folder and make it writable for the daemon's user", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open the file of records: %w", err), f.Close())
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	torn, err := durable.EndsTorn(f)
	if err != nil {
		return err
	}
	if info.Mode().IsRegular() && info.Size() == 0 && s.config.Sync {
		if err := durable.SyncFolder(filepath.Dir(s.config.Path)); err != nil {
			return err
		}
	}
	s.file, s.info, s.size, s.torn = f, info, info.Size(), torn
	return nil
}

// put appends whole lines, n records, and returns once they are as durable as
// configured. After an error some of them may be there, and whole. A pipe that
// nobody reads is waited for until ctx is done.
func (s *Sink) put(ctx context.Context, lines []byte, n int64) error {
	number, err := s.write(ctx, lines)
	failpoint.RecordsWritten.Hit()
	if err == nil && s.config.Sync {
		err = s.sync(number)
		failpoint.RecordsSynced.Hit()
	}
	s.counted.Lock()
	defer s.counted.Unlock()
	s.stats.Failing = err != nil
	if err != nil {
		s.stats.Failures++
		return err
	}
	s.stats.Records += n
	s.stats.Bytes += int64(len(lines))
	return nil
}

// write appends lines and returns the number of the write. What a full disk has
// cut is taken back.
func (s *Sink) write(ctx context.Context, lines []byte) (number int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("write the file of records: %w", err)
	}
	if err := s.follow(int64(len(lines))); err != nil {
		return 0, err
	}
	if pipe, ok := s.file.(interface{ SetWriteDeadline(time.Time) error }); ok && !s.info.Mode().IsRegular() {
		_ = pipe.SetWriteDeadline(time.Time{})
		stop := context.AfterFunc(ctx, func() { _ = pipe.SetWriteDeadline(time.Unix(1, 0)) })
		defer stop()
	}
	if s.torn {
		if _, err := s.file.Write([]byte{'\n'}); err != nil {
			return 0, fmt.Errorf("write the file of records: %w", err)
		}
		s.torn = false
		s.size++
	}
	n, err := s.file.Write(lines)
	if err != nil {
		if n > 0 {
			s.torn = !s.info.Mode().IsRegular() || s.file.Truncate(s.size) != nil
		}
		return 0, fmt.Errorf("write the file of records: %w", err)
	}
	s.size += int64(n)
	s.written++
	return s.written, nil
}

// follow makes s.file the file that has the name now, in place of one that was
// renamed or removed, or that has no room for n more bytes.
func (s *Sink) follow(n int64) error {
	if s.file != nil {
		info, err := os.Stat(s.config.Path)
		switch {
		case err == nil && os.SameFile(info, s.info):
			s.size = info.Size() // somebody may have emptied it
		case err == nil || errors.Is(err, fs.ErrNotExist):
			if err := s.leave(); err != nil {
				return err
			}
		default:
			return fmt.Errorf("look for the file of records: %w", err)
		}
	}
	if s.file != nil && s.config.MaxBytes > 0 && s.info.Mode().IsRegular() && s.size > 0 && s.size+n > s.config.MaxBytes {
		if err := s.leave(); err != nil {
			return err
		}
		if err := s.shift(); err != nil {
			return fmt.Errorf("rotate the file of records: %w; let the daemon's user rename files in its folder", err)
		}
		failpoint.RecordsRotated.Hit()
	}
	if s.file == nil {
		return s.reopen()
	}
	return nil
}

// leave closes the file for good, once the disk has what lanes have written to
// it.
func (s *Sink) leave() error {
	if s.config.Sync && s.info.Mode().IsRegular() {
		if err := s.file.Sync(); err != nil {
			return s.failed(err)
		}
		s.synced = s.written
	}
	s.counted.Lock()
	s.stats.Rotations++
	s.counted.Unlock()
	err := s.file.Close()
	s.file = nil
	if err != nil && !s.config.Sync {
		return fmt.Errorf("close the file of records: %w", err)
	}
	return nil
}

// failed gives the file up after a failed sync: what has been written and not
// synced is written again.
func (s *Sink) failed(err error) error {
	s.lost = s.written
	err = fmt.Errorf("sync the file of records: %w", errors.Join(err, s.file.Close()))
	s.file = nil
	return err
}

// shift renames Path to Path.1, and before that Path.1 to Path.2, and so on; the
// last is overwritten.
func (s *Sink) shift() error {
	name := func(i int) string {
		if i == 0 {
			return s.config.Path
		}
		return s.config.Path + "." + strconv.Itoa(i)
	}
	if s.config.Keep < 1 {
		return os.Remove(s.config.Path)
	}
	for i := s.config.Keep; i > 0; i-- {
		if err := os.Rename(name(i-1), name(i)); err != nil && (i == 1 || !errors.Is(err, fs.ErrNotExist)) {
			return err
		}
	}
	return nil
}

var errLost = errors.New("sync the file of records: it failed for another lane, and what was written before is written again")

// sync returns once the disk has the write of this number.
func (s *Sink) sync(number int64) error {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case number <= s.lost:
		return errLost
	case number <= s.synced || !s.info.Mode().IsRegular():
		return nil
	}
	f, upTo := s.file, s.written
	s.mu.Unlock() // others may write meanwhile
	err := f.Sync()
	s.mu.Lock()
	switch {
	case number <= s.lost:
		return errLost
	case number <= s.synced: // the file was left meanwhile
		return nil
	case err != nil:
		return s.failed(err)
	}
	s.synced = upTo
	return nil
}

// Writer implements pipeline.RecordSink.
func (s *Sink) Writer(source, lane string) pipeline.RecordWriter {
	return &writer{
		sink:    s,
		encoder: record.Encoder{Privacy: s.config.Privacy, Describe: s.config.Describe},
		place:   record.Place{Source: source, Lane: lane},
	}
}

// most is how many bytes a lane should hold: about ten thousand records.
const most = 8 << 20

// writer holds the records of one lane until they are flushed.
type writer struct {
	sink    *Sink
	encoder record.Encoder
	place   record.Place
	lines   []byte
	records int64
}

// Add implements pipeline.RecordWriter.
func (w *writer) Add(r *pipeline.Record) {
	w.place.Segment, w.place.Offset, w.place.Index = r.Segment, r.Offset, r.Index
	w.lines = w.encoder.Append(w.lines, &w.place, r.Event)
	w.lines = append(w.lines, '\n')
	w.records++
}

// Full implements pipeline.RecordWriter.
func (w *writer) Full() bool { return len(w.lines) >= most }

// Flush implements pipeline.RecordWriter.
func (w *writer) Flush(ctx context.Context) error {
	if w.records == 0 {
		return nil
	}
	if err := w.sink.put(ctx, w.lines, w.records); err != nil {
		return err
	}
	w.lines, w.records = w.lines[:0], 0
	return nil
}

// Close implements pipeline.RecordWriter.
func (w *writer) Close() error {
	w.lines, w.records = nil, 0
	return nil
}
