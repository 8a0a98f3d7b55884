package suppression

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Publisher is a store of values by key, such as a compacted topic of Kafka.
type Publisher interface {
	// Add hands over a value, or nil for a key that is to be removed. The last
	// value of a key counts.
	Add(key, value []byte)
	// Flush returns nil once everything added is durable there. After an error it
	// is called again: nothing was dropped.
	Flush(ctx context.Context) error
}

const (
	// page is how many changes are published at a time.
	page = 1000
	// again is after how long what failed is tried again.
	again = 5 * time.Second
	// exportEvery is how often the export is written at the most.
	exportEvery = time.Minute
	// forgetEvery is how often old rows are deleted.
	forgetEvery = 24 * time.Hour
	// lookEvery is how often it looks whether another program has changed the
	// list: see Remove.
	lookEvery = time.Minute
	// reportEvery is how often a failure that lasts is logged.
	reportEvery = time.Minute
)

// Run publishes and exports what changes, and forgets what is old, until ctx is
// done, when it returns nil. What is not published by then is so after the next
// start.
func (s *Sink) Run(ctx context.Context) error {
	forget := time.NewTicker(forgetEvery)
	defer forget.Stop()
	var exported time.Time
	var seen int64
	dirty := false // the export is not up to date
	for {
		wait := lookEvery
		if others, err := s.store.others(ctx); err == nil { // else the next query says what is wrong
			dirty = dirty || others != seen
			seen = others
		}
		if err := s.result(publishing, s.publish(ctx)); err != nil && ctx.Err() == nil {
			s.report(err)
			wait = again
		}
		if due := exportEvery - time.Since(exported); s.config.Export != "" && dirty && due > 0 {
			wait = min(wait, due)
		} else if s.config.Export != "" && dirty {
			if err := s.result(exporting, s.export(ctx)); err != nil && ctx.Err() == nil {
				s.report(err)
				wait = again
			} else {
				exported, dirty = time.Now(), false
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.changed:
			dirty = true
		case <-time.After(wait):
		case <-forget.C:
			if err := s.result(database, s.store.forget(time.Now())); err != nil {
				s.report(err)
			}
		}
	}
}

func (s *Sink) report(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.reported) >= reportEvery {
		s.reported = time.Now()
		s.log.Error("others do not learn of changes of the suppression list; trying again", "err", err)
	}
}

// publish tells the publisher of all changes.
func (s *Sink) publish(ctx context.Context) error {
	p := s.config.Publisher
	if p == nil {
		return nil
	}
	if err := p.Flush(ctx); err != nil { // what an earlier try has left
		return err
	}
	for {
		changes, err := s.store.changes(ctx, page)
		if err != nil || len(changes) == 0 {
			return err
		}
		for i := range changes {
			var value []byte
			if c := &changes[i]; c.listed {
				if value, err = json.Marshal(&c.entry); err != nil {
					return err
				}
			}
			p.Add([]byte(changes[i].entry.Address), value)
		}
		if err := p.Flush(ctx); err != nil {
			return err
		}
		if err := s.store.published(ctx, changes); err != nil {
			return err
		}
	}
}

// export writes the list to its file, whole or not at all.
func (s *Sink) export(ctx context.Context) (err error) {
	path := s.config.Export
	defer func() {
		if err != nil {
			err = fmt.Errorf("export the suppression list to %s: %w", path, err)
		}
	}()
	format, err := FormatOf(path)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	encoder, err := NewEncoder(f, format)
	if err == nil {
		err = s.store.list(ctx, encoder.Encode)
	}
	if err == nil {
		err = encoder.Flush()
	}
	if err == nil {
		err = f.Chmod(0o640)
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
