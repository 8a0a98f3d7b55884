// Package deadletter keeps the lines, and the records of arrays, that could not be
// read, one JSON object a line, for people to look at: a new MTA version, a
// corrupt disk, a wrong dialect. The file is bounded. A line may occur twice after
// a crash; its source, lane, segment, offset and record tell.
package deadletter

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/pipeline"
)

// Config says where unreadable lines are kept.
type Config struct {
	Path string
	// MaxBytes is how large the file may grow; then it is renamed to Path.old,
	// which replaces the one before.
	MaxBytes int64
	// Privacy is applied to the lines.
	Privacy event.Privacy
}

// Sink writes dead letters. It may be used by several goroutines.
type Sink struct {
	config Config
	log    *slog.Logger

	mu       sync.Mutex
	file     *os.File
	size     int64
	count    int64     // since the last message
	reported time.Time // last message, so that there is one a minute at the most
}

// record is one line of the file.
type record struct {
	Time    time.Time `json:"time"` // of reading
	Source  string    `json:"source"`
	Lane    string    `json:"lane"`
	Segment string    `json:"segment,omitempty"`
	Offset  int64     `json:"offset"`
	Record  int       `json:"record,omitempty"` // of the array that the line is, from 1
	Error   string    `json:"error"`
	Line    string    `json:"line"`
}

// maxLine bounds what is kept of one line.
const maxLine = 4096

// Open opens or creates the file.
func Open(c Config, log *slog.Logger) (*Sink, error) {
	s := &Sink{config: c, log: log}
	if err := s.open(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Sink) open() error {
	f, err := os.OpenFile(s.config.Path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open the dead-letter file: %w; create its folder and make it writable, or set dead_letter.enabled: false", err)
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("open the dead-letter file: %w", err), f.Close())
	}
	s.file, s.size = f, info.Size()
	return nil
}

// Put keeps l. A file that cannot be written to is reported, and stops nothing:
// the lines are counted in any case.
func (s *Sink) Put(l pipeline.DeadLetter) {
	line := s.config.Privacy.Append(nil, l.Text[:min(len(l.Text), maxLine)])
	b, err := json.Marshal(record{
		Time: time.Now().UTC(), Source: l.Source, Lane: l.Lane, Segment: l.Segment, Offset: l.Offset, Record: l.Record,
		Error: l.Err.Error(), Line: strings.ToValidUTF8(string(line), "\uFFFD"),
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		err = s.write(append(b, '\n'))
	}
	s.count++
	if time.Since(s.reported) < time.Minute {
		return
	}
	if err != nil {
		s.log.Error("dead letters are not kept", "err", err)
	} else {
		s.log.Warn("lines could not be read and are kept as dead letters", "lines", s.count, "path", s.config.Path, "last", l.Err)
	}
	s.count, s.reported = 0, time.Now()
}

func (s *Sink) write(b []byte) error {
	if s.file == nil {
		if err := s.open(); err != nil {
			return err
		}
	}
	if s.size > 0 && s.size+int64(len(b)) > s.config.MaxBytes {
		err := errors.Join(s.file.Close(), os.Rename(s.config.Path, s.config.Path+".old"))
		s.file = nil
		if err = errors.Join(err, s.open()); err != nil {
			return err
		}
	}
	n, err := s.file.Write(b)
	s.size += int64(n)
	return err
}

// Close closes the file.
func (s *Sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
