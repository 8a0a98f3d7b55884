// Package tail reads log files: it follows live ones through every kind of
// rotation (Source, Lane), and reads finished ones once (Files).
//
// A lane is one log with all its rotations, as one stream from old to new. Its
// position names a file by the content that was read of it, not by its name or
// inode, so that it is found again however often it was renamed, copied or
// compressed meanwhile. What is promised, whenever the process is stopped or
// killed and however the log is rotated:
//
//   - Every line is delivered once, in order, as long as its file is still
//     there, under a rotated name, when the lane gets to it.
//   - A line is delivered when its end is known: at its newline, or at the end
//     of a file that is finished (rotated away and no longer growing, or read
//     once). A position never points inside a line.
//   - What was gone before it could be read is counted in Batch.Lost: exactly
//     where the amount is known, else as one byte. What is written between the
//     copying and the truncation of a copytruncate rotation is lost by nature
//     and cannot be seen; Stats.Truncations counts these moments.
//   - Memory is bounded whatever is in the files.
package tail

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sync/errgroup"
)

const (
	// scanEvery is how often new files are looked for.
	scanEvery = time.Second
	// forgetAfter is how long a file found by a pattern must be gone, with all
	// its rotations, for its lane to end.
	forgetAfter = 10 * time.Minute
	// calm is the least time between two file events that wake lanes: a busy
	// log would else be read line by line.
	calm = 20 * time.Millisecond
)

// States of a lane; anything else is the text of what is wrong.
const (
	stateReading = "reading"
	stateWaiting = "waiting" // for the file to appear
)

// Stats is how one lane is doing. Numbers are since the start of the process.
type Stats struct {
	Path string
	// State is "reading", "waiting" (for the file to appear), or the sentence
	// that says why nothing can be read. Empty before the first read.
	State string
	// Lines and Bytes were read; Bytes are decoded ones.
	Lines, Bytes int64
	// LongLines were longer than Config.MaxLineBytes.
	LongLines int64
	// Rotations is how often the lane went on to the next file.
	Rotations int64
	// Truncations is how often the file was truncated or overwritten under the
	// reader. Each may have lost what was written in the moments before.
	Truncations int64
	// Lost bytes are known to have been gone before they could be read.
	Lost int64
	// Lag is how many bytes are known to be waiting to be read, those of
	// compressed files as they are on disk.
	Lag int64
}

// Source follows log files. Each one is a lane.
type Source struct {
	cfg Config

	mu    sync.Mutex // guards lanes
	lanes map[string]*laneState
}

// laneState is what Run keeps about a lane.
type laneState struct {
	*Lane
	literal bool // named in the configuration: never ends
	cancel  context.CancelFunc
	gone    time.Time // since when there is no file, zero if there is one
}

// New returns a source that follows the files that c names.
func New(c Config) (*Source, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Source{cfg: c.withDefaults(), lanes: make(map[string]*laneState)}, nil
}

// Stats tells how each lane is doing, in order of their paths.
func (s *Source) Stats() []Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Stats, 0, len(s.lanes))
	for _, path := range slices.Sorted(maps.Keys(s.lanes)) {
		c := &s.lanes[path].stats
		all = append(all, Stats{
			Path: path, State: *c.state.Load(),
			Lines: c.lines.Load(), Bytes: c.bytes.Load(), LongLines: c.longLines.Load(),
			Rotations: c.rotations.Load(), Truncations: c.truncations.Load(), Lost: c.lost.Load(), Lag: c.lag.Load(),
		})
	}
	return all
}

// Run calls work for each file, in a goroutine of its own, until ctx is done:
// for those that are there or named at once, for those that begin to match a
// pattern later when they do. A lane whose file is missing waits for it. It
// returns nil once ctx is done and every call of work has returned, or the
// first error of work.
func (s *Source) Run(ctx context.Context, work func(context.Context, *Lane) error) error {
	g, ctx := errgroup.WithContext(ctx)
	var events watcher
	if !s.cfg.PollOnly {
		var err error
		if events.Watcher, err = fsnotify.NewWatcher(); err != nil {
			s.cfg.Log.Warn("no file events; polling only", "err", err)
		} else {
			g.Go(func() error { return events.run(ctx, s.wake) })
		}
	}
	g.Go(func() error {
		t := time.NewTicker(scanEvery)
		defer t.Stop()
		for first := true; ; first = false {
			s.scan(ctx, g, events, first, work)
			select {
			case <-ctx.Done():
				return nil
			case <-t.C:
			}
		}
	})
	return g.Wait()
}

// scan starts lanes for new files and ends those whose files are gone for good.
func (s *Source) scan(ctx context.Context, g *errgroup.Group, events watcher, first bool, work func(context.Context, *Lane) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.match() {
		events.watch(filepath.Dir(f.path))
		if s.lanes[f.path] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		l := &laneState{Lane: newLane(f.path, s.cfg, first && s.cfg.Start == End), literal: f.literal, cancel: cancel}
		s.lanes[f.path] = l
		g.Go(func() error {
			defer func() {
				cancel()
				s.mu.Lock()
				defer s.mu.Unlock()
				delete(s.lanes, l.path)
			}()
			return work(ctx, l.Lane)
		})
	}
	for _, l := range s.lanes {
		if l.literal {
			continue
		}
		if es, err := l.listOnce(); err != nil || len(es) > 0 {
			l.gone = time.Time{}
		} else if now := time.Now(); l.gone.IsZero() {
			l.gone = now
		} else if now.Sub(l.gone) >= forgetAfter {
			l.cancel()
		}
	}
}

// wake tells the lane of path, if there is one, that its file has changed.
func (s *Source) wake(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lanes[path]; l != nil {
		select {
		case l.Lane.wake <- struct{}{}:
		default:
		}
	}
}

// found is a live file to follow.
type found struct {
	path    string
	literal bool
}

// match returns the live files that the configuration means now.
func (s *Source) match() []found {
	var all []found
	for _, pattern := range s.cfg.Paths {
		if !isPattern(pattern) {
			all = append(all, found{filepath.Clean(pattern), true})
			continue
		}
		paths, _ := filepath.Glob(pattern) // Validate has seen the pattern
		for _, path := range paths {
			path = filepath.Clean(path)
			if live := s.liveOf(pattern, path); live != "" {
				all = append(all, found{live, false})
			}
		}
	}
	return all
}

// isPattern reports whether p is more than a name. A name with such characters
// that exists is a name.
func isPattern(p string) bool {
	if !strings.ContainsAny(p, `*?[\`) {
		return false
	}
	_, err := os.Lstat(p)
	return errors.Is(err, fs.ErrNotExist)
}

// liveOf returns the live file that a file which matches pattern belongs to:
// itself, or what it is a rotation of; "" if it is not to be followed. While a
// log is rotated, its live file may be missing for a moment: it is taken for
// granted if the pattern matches it.
func (s *Source) liveOf(pattern, path string) string {
	dir, name := filepath.Split(path)
	if live, _, ok := splitRotation(name, false); ok {
		if matches, _ := filepath.Match(pattern, dir+live); matches || s.exists(dir+live) {
			return s.matching(pattern, dir+live)
		}
	}
	if live, _, ok := splitRotation(name, true); ok && s.exists(dir+live) {
		return s.matching(pattern, dir+live)
	}
	if isLeftover(name) {
		return ""
	}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return path
}

// matching returns path if pattern matches it: else it is not wanted, or
// another pattern or name has it.
func (s *Source) matching(pattern, path string) string {
	if ok, _ := filepath.Match(pattern, path); ok {
		return path
	}
	return ""
}

// exists reports whether path is a file or is followed already.
func (s *Source) exists(path string) bool {
	if s.lanes[path] != nil {
		return true
	}
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// watcher turns file events into wake-ups. It is never relied upon.
type watcher struct{ *fsnotify.Watcher }

// watch sees to it that a folder is watched, again if it was made anew.
func (w watcher) watch(dir string) {
	if w.Watcher != nil {
		_ = w.Add(dir)
	}
}

// run calls wake with the path of each file that changes.
func (w watcher) run(ctx context.Context, wake func(path string)) error {
	defer func() { _ = w.Close() }()
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.Errors: //nolint:errcheck // events were missed, polling sees what they told
		case e := <-w.Events:
			wake(filepath.Clean(e.Name))
			t.Reset(calm)
			select {
			case <-ctx.Done():
				return nil
			case <-t.C:
			}
		}
	}
}
