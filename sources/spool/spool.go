// Package spool keeps records on disk between their receipt, when a sender wants
// to hear that they are safe, and their counting: a log that is appended to at
// one end and read, as a lane, from the other.
//
// The guarantees:
//
//   - With Config.Sync, a record is on disk when Append returns nil. Those who
//     append at the same time share one fsync.
//   - Every record whose Append returned nil is read once, in the order of the
//     log, whatever is killed when: the ledger holds how far it was read. A
//     record whose Append failed may be read all the same.
//   - A record that was damaged on disk is skipped and told in Batch.Lost; those
//     after it are read.
//   - What the ledger holds is deleted, so the disk holds what waits, and no more
//     of it than Config.MaxBytes.
//
// On disk a spool is a folder of segment files, named after the offset of their
// first byte in the whole log. A record is a line: a checksum (CRC-32C), the time
// of receipt in milliseconds since 1970, both in hexadecimal, and the record
// itself.
package spool

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bouncemeter/bouncemeter/internal/durable"
	"github.com/bouncemeter/bouncemeter/internal/failpoint"
)

// ErrFull means that Config.MaxBytes wait to be read already.
var ErrFull = errors.New("the spool is full")

const (
	defaultMaxBytes = 1 << 30
	// maxSegment is how large a file gets, more or less.
	maxSegment = 16 << 20
	suffix     = ".spool"
	idFile     = "id"
	lockFile   = "lock"
	keepBytes  = 4 << 20 // a larger buffer is not kept for the next records
)

// Config says where a spool is.
type Config struct {
	// Dir is the folder of the spool. It is made if it is missing, and nothing
	// else may be in it.
	Dir string
	// MaxBytes is how much may wait. Default 1 GiB.
	MaxBytes int64
	// Sync makes Append wait until records are on disk, so that power loss takes
	// none of them. Without it they survive the end of this process only, which
	// does for senders who do not wait for an answer.
	Sync bool
	// Log takes the few messages about damage. Default slog.Default.
	Log *slog.Logger
}

// Record is what is appended.
type Record struct {
	// Text is the record. A line feed in it becomes a space.
	Text []byte
	// Truncated says that this is only the beginning of what was received.
	Truncated bool
}

// Spool is an open spool. Append may be called by many goroutines; the lane is
// read by one.
type Spool struct {
	config Config
	id     string
	lock   *os.File

	// disk is held by who writes. It guards file, and what groups have become.
	disk sync.Mutex
	file *os.File // the last segment, nil if a new one has to be begun

	mu       sync.Mutex // guards what follows
	segments []int64    // where they start; there is always one
	end      int64      // what is before it may be read
	pending  *group     // the records that wait for disk
	spare    []byte     // memory for the next group

	wake chan struct{} // end has moved; holds at most one
}

// group is a number of records that are written together.
type group struct {
	frames []byte
	done   bool
	err    error
}

// Open opens the spool in c.Dir, or makes a new one. What a crash has left behind
// the last whole record is cut off: nobody was told that it is safe.
func Open(c Config) (_ *Spool, err error) {
	c.MaxBytes = cmp.Or(c.MaxBytes, defaultMaxBytes)
	if c.Log == nil {
		c.Log = slog.Default()
	}
	s := &Spool{config: c, pending: &group{}, wake: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open spool %s: %w", c.Dir, errors.Join(err, s.Close()))
		}
	}()
	if err := durable.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w; make the folder, writable for the user of this process", err)
	}
	if s.lock, err = os.OpenFile(s.path(lockFile), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	if err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("another process uses it: %w; give each source a spool of its own", err)
	}
	if err := s.identify(); err != nil {
		return nil, err
	}
	return s, s.recover()
}

// Close closes the files. Whoever appends must be done.
func (s *Spool) Close() error {
	var errs []error
	for _, f := range []*os.File{s.file, s.lock} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	s.file, s.lock = nil, nil
	return errors.Join(errs...)
}

func (s *Spool) path(name string) string { return filepath.Join(s.config.Dir, name) }

func (s *Spool) segment(start int64) string { return s.path(fmt.Sprintf("%016x%s", start, suffix)) }

// identify reads the spool's id, or gives a new spool one.
func (s *Spool) identify() error {
	id, err := os.ReadFile(s.path(idFile))
	if err == nil {
		s.id = strings.TrimSpace(string(id))
		if b, err := hex.DecodeString(s.id); err != nil || len(b) != 6 {
			return fmt.Errorf("the file %s does not hold an id of 12 digits; remove the folder to begin anew without what is in it", idFile)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	b := make([]byte, 6)
	_, _ = rand.Read(b) // it never fails
	s.id = hex.EncodeToString(b)
	temporary := s.path(idFile + ".new")
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(s.id + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, s.path(idFile)); err != nil {
		return err
	}
	return durable.SyncFolder(s.config.Dir)
}

// recover finds the segments and the end of the log.
func (s *Spool) recover() error {
	entries, err := os.ReadDir(s.config.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), suffix)
		start, err := strconv.ParseInt(digits, 16, 64)
		if ok && err == nil && e.Name() == filepath.Base(s.segment(start)) {
			s.segments = append(s.segments, start)
		}
	}
	slices.Sort(s.segments)
	if len(s.segments) == 0 {
		return s.begin(0)
	}
	last := s.segments[len(s.segments)-1]
	if s.file, err = os.OpenFile(s.segment(last), os.O_RDWR|os.O_APPEND, 0); err != nil {
		return err
	}
	length, err := lastFrame(s.file)
	if err != nil {
		return err
	}
	s.end = last + length
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	if rest := info.Size() - length; rest > 0 {
		s.config.Log.Warn("the end of the spool was not written whole and is cut off; its senders were not told that it is safe", "spool", s.config.Dir, "bytes", rest)
		return errors.Join(s.file.Truncate(length), s.file.Sync())
	}
	return nil
}

// Append appends records, in order and with nothing in between. After an error
// none is as good as appended: the sender has to send them again.
func (s *Spool) Append(records ...Record) error {
	now := time.Now().UnixMilli()
	s.mu.Lock()
	g := s.pending
	had := len(g.frames)
	for _, r := range records {
		g.frames = appendFrame(g.frames, now, r)
	}
	if s.end-s.segments[0]+int64(len(g.frames)) > s.config.MaxBytes {
		g.frames = g.frames[:had]
		s.mu.Unlock()
		return ErrFull
	}
	s.mu.Unlock()

	// Whoever gets here first writes for all who have come since the last write.
	s.disk.Lock()
	defer s.disk.Unlock()
	if !g.done {
		s.mu.Lock()
		s.pending, s.spare = &group{frames: s.spare[:0]}, nil
		s.mu.Unlock()
		g.err = s.write(g.frames)
		g.done = true
		if cap(g.frames) <= keepBytes {
			s.mu.Lock()
			s.spare = g.frames
			s.mu.Unlock()
		}
	}
	return g.err
}

// write writes frames to the end of the log. If that fails, they are none of it:
// the next write begins a new segment where they would have begun, since what a
// failed fsync has left of a file cannot be known.
func (s *Spool) write(frames []byte) error {
	end, start := s.bounds()
	if s.file == nil || end-start >= min(maxSegment, s.config.MaxBytes/8) {
		if err := s.begin(end); err != nil {
			return fmt.Errorf("append to spool %s: %w", s.config.Dir, err)
		}
		_, start = s.bounds()
	}
	_, err := s.file.Write(frames)
	failpoint.SpoolWritten.Hit()
	if err == nil && s.config.Sync {
		err = s.file.Sync()
		failpoint.SpoolSynced.Hit()
	}
	if err != nil {
		// If nothing more is ever written, what is left should not look whole.
		_ = s.file.Truncate(end - start)
		_ = s.file.Close()
		s.file = nil
		return fmt.Errorf("append to spool %s: %w", s.config.Dir, err)
	}
	s.mu.Lock()
	s.end += int64(len(frames))
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// bounds returns the end of the log and where its last segment starts.
func (s *Spool) bounds() (end, start int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end, s.segments[len(s.segments)-1]
}

// begin begins a new segment at offset end, which becomes the end of the log. A
// segment that is there holds what a failed write has left.
func (s *Spool) begin(end int64) error {
	f, err := os.OpenFile(s.segment(end), os.O_CREATE|os.O_TRUNC|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if err := durable.SyncFolder(s.config.Dir); err != nil {
		return errors.Join(err, f.Close())
	}
	if s.file != nil {
		if err := s.file.Close(); err != nil {
			s.config.Log.Warn("close a segment of the spool", "spool", s.config.Dir, "err", err)
		}
	}
	s.file = f
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.segments); n == 0 || s.segments[n-1] != end {
		s.segments = append(s.segments, end)
	}
	s.end = end
	return nil
}

// advance makes the log go on at offset end, if it is not as far yet: the ledger
// holds more than the disk does, which happens to a spool that power loss took
// the end of, or that comes from a backup. What will be appended has not been
// counted and so must not be where it would be taken for counted.
func (s *Spool) advance(end int64) error {
	s.disk.Lock()
	defer s.disk.Unlock()
	at, _ := s.bounds()
	if at >= end {
		return nil
	}
	s.config.Log.Warn("the spool ends before what was counted, and goes on after it", "spool", s.config.Dir, "end", at, "counted", end)
	return s.begin(end)
}

// release deletes the segments before offset p, which the ledger has.
func (s *Spool) release(p int64) {
	s.mu.Lock()
	var done []int64
	for len(s.segments) > 1 && s.segments[1] <= p {
		done = append(done, s.segments[0])
		s.segments = s.segments[1:]
	}
	s.mu.Unlock()
	for _, start := range done {
		// One that stays is deleted after the next start.
		if err := os.Remove(s.segment(start)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.config.Log.Warn("a segment of the spool that is counted cannot be deleted", "spool", s.config.Dir, "err", err)
		}
		failpoint.SpoolReleased.Hit()
	}
}
