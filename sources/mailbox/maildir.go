// Package mailbox reads whole mails as records: a Maildir that is watched, and
// for one-shot work Maildirs, mbox files and single messages.
//
// The guarantee for a watched Maildir: each message in its folder new is read
// exactly once, whatever is killed when. A message that the ledger has is moved
// to cur (or deleted); those that were read and not moved yet are named in the
// position.
package mailbox

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sync/errgroup"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/durable"
)

// Config says which Maildirs to watch.
type Config struct {
	// Paths are the Maildirs: folders with new, cur and tmp. Those three are
	// made where they are missing.
	Paths []string
	// MaxMessageBytes is how much of a message is read; the rest is skipped and
	// the message counted as truncated. Zero means 1 MiB.
	MaxMessageBytes int
	// Delete removes messages once they are counted. Otherwise they are moved to
	// cur, marked as seen.
	Delete bool
	// Removed, where given, is called with the size of each message that has been
	// deleted or moved.
	Removed func(size int64)
	// Poll is how often the folder is looked at, besides file events; zero means
	// 5 s.
	Poll time.Duration
	Log  *slog.Logger
}

// Source watches Maildirs, each as a lane.
type Source struct{ config Config }

// New checks c and returns a source for it.
func New(c Config) (*Source, error) {
	if len(c.Paths) == 0 {
		return nil, errors.New("no Maildir is given: name at least one in paths")
	}
	if c.MaxMessageBytes == 0 {
		c.MaxMessageBytes = 1 << 20
	}
	if c.Poll == 0 {
		c.Poll = 5 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Source{c}, nil
}

// Run calls work for each Maildir, in a goroutine of its own, until ctx is done.
func (s *Source) Run(ctx context.Context, work func(context.Context, *Lane) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, path := range s.config.Paths {
		g.Go(func() error { return work(ctx, &Lane{config: &s.config, path: path}) })
	}
	return g.Wait()
}

// maxUncommitted bounds the messages that are read and not moved away, and so
// the length of a position.
const maxUncommitted = 1024

// Lane is one Maildir. Its lines are whole messages, one a batch.
type Lane struct {
	config *Config
	path   string
	events *fsnotify.Watcher // nil where the file system has none

	waiting []string        // names in new, oldest first, that were not read yet
	read    []string        // names that were read and are not moved away yet
	known   map[string]bool // the names in read
	count   int64           // messages ever read
}

// Name is the path of the Maildir.
func (l *Lane) Name() string { return l.path }

// Open moves away what the ledger has and looks for the rest.
func (l *Lane) Open(_ context.Context, from event.Position) error {
	for _, dir := range []string{"tmp", "new", "cur"} {
		if err := os.MkdirAll(filepath.Join(l.path, dir), 0o700); err != nil {
			return fmt.Errorf("open Maildir %s: %w; make it, or let this user write to it", l.path, err)
		}
	}
	l.waiting, l.read, l.known, l.count = nil, nil, make(map[string]bool), from.Offset
	var done []string
	names, err := l.list()
	if err != nil {
		return err
	}
	for _, name := range names {
		if slices.Contains(strings.Fields(from.Segment), fingerprint(name)) {
			done = append(done, name)
		}
	}
	if err := l.moveAway(done); err != nil {
		return err
	}
	if w, err := fsnotify.NewWatcher(); err == nil {
		if err := w.Add(filepath.Join(l.path, "new")); err == nil {
			l.events = w
		} else {
			l.config.Log.Debug("no file events; the folder is polled", "maildir", l.path, "err", errors.Join(err, w.Close()))
		}
	}
	return nil
}

// Read returns the next message, or an empty batch after a second without any.
func (l *Lane) Read(ctx context.Context, b *event.Batch) error {
	b.Reset()
	b.Reference = time.Now()
	b.Next = l.position()
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(l.waiting) == 0 && len(l.read) < maxUncommitted {
		names, err := l.list()
		if err != nil {
			return err
		}
		for _, name := range names {
			if !l.known[name] {
				l.waiting = append(l.waiting, name)
			}
		}
	}
	if len(l.waiting) == 0 || len(l.read) >= maxUncommitted {
		return l.wait(ctx)
	}
	name := l.waiting[0]
	l.waiting = l.waiting[1:]
	text, truncated, modified, err := l.load(name, b.Buffer[:0])
	if errors.Is(err, fs.ErrNotExist) {
		return nil // somebody took it away
	}
	if err != nil {
		return fmt.Errorf("read a message: %w; let this user read the Maildir", err)
	}
	l.read = append(l.read, name)
	l.known[name] = true
	l.count++
	b.Buffer, b.Reference, b.Segment = text, modified, name
	b.Lines = append(b.Lines, event.Line{Text: text})
	if truncated {
		b.Truncated = 1
	}
	b.Lag = int64(len(l.waiting))
	b.Next = l.position()
	return nil
}

// wait returns after something happened in the folder, or soon.
func (l *Lane) wait(ctx context.Context) error {
	pause := min(l.config.Poll, time.Second)
	var happened chan fsnotify.Event
	if len(l.read) >= maxUncommitted {
		pause = 50 * time.Millisecond
	} else if l.events != nil {
		happened = l.events.Events
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	case <-happened:
	}
	return nil
}

func (l *Lane) load(name string, buffer []byte) (text []byte, truncated bool, modified time.Time, err error) {
	f, err := os.Open(filepath.Join(l.path, "new", name))
	if err != nil {
		return nil, false, time.Time{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, false, time.Time{}, err
	}
	limit := int64(l.config.MaxMessageBytes)
	buffer = slices.Grow(buffer, int(min(info.Size(), limit)))
	n, err := io.ReadFull(io.LimitReader(f, limit), buffer[:min(info.Size(), limit)])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, false, time.Time{}, err
	}
	return buffer[:n], info.Size() > limit, info.ModTime(), nil
}

// list returns the names in new, the oldest first: a name begins with the time
// of delivery (https://cr.yp.to/proto/maildir.html).
func (l *Lane) list() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(l.path, "new"))
	if err != nil {
		return nil, fmt.Errorf("read Maildir: %w; let this user read it", err)
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// position names the messages that were read and are still in new.
func (l *Lane) position() event.Position {
	var b strings.Builder
	for i, name := range l.read {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(fingerprint(name))
	}
	return event.Position{Segment: b.String(), Offset: l.count}
}

// fingerprint stands for a name in a position: 66 bits of its hash.
func fingerprint(name string) string {
	h := sha256.Sum256([]byte(name))
	return base64.RawURLEncoding.EncodeToString(h[:9])[:11]
}

// Committed moves away the messages that p covers: all that were read, as a
// lane's position is committed before more is read.
func (l *Lane) Committed(p event.Position) {
	if p != l.position() {
		return
	}
	if err := l.moveAway(l.read); err != nil {
		// They stay named in the position, so they are not counted again.
		l.config.Log.Error("counted messages cannot be moved to cur; let this user write to the Maildir", "maildir", l.path, "err", err)
		return
	}
	l.read, l.known = l.read[:0], make(map[string]bool)
}

func (l *Lane) moveAway(names []string) error {
	if len(names) == 0 {
		return nil
	}
	for _, name := range names {
		from := filepath.Join(l.path, "new", name)
		info, err := os.Lstat(from)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if l.config.Delete {
			err = os.Remove(from)
		} else {
			err = os.Rename(from, filepath.Join(l.path, "cur", name+":2,S"))
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if l.config.Removed != nil {
			l.config.Removed(info.Size())
		}
	}
	// The next position no longer names them, so they must not come back.
	return errors.Join(durable.SyncFolder(filepath.Join(l.path, "cur")), durable.SyncFolder(filepath.Join(l.path, "new")))
}

// Close stops watching.
func (l *Lane) Close() error {
	if l.events == nil {
		return nil
	}
	err := l.events.Close()
	l.events = nil
	return err
}
