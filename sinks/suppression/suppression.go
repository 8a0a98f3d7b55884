// Package suppression keeps a list of recipients that should not be mailed any
// more: those that failed for good several times in a row, and those that
// complained. It is a SQLite database that anybody may read meanwhile:
//
//	sqlite3 suppression.db 'SELECT address, reason, last FROM suppressed'
//
// A recipient leaves the list when a later message to it is delivered, unless it
// complained.
//
// Records come at least once, and those of several logs in no order. So what is
// stored of a recipient is a set of facts, and whoever adds facts that are known
// changes nothing: see state. One thing is not kept, as it would be a row for
// everybody who ever got mail: a delivery to a recipient of whom the database has
// no failure. If the record of an older failure comes after it, from another log,
// the failure counts.
//
// Where things are: state.go says what is known of a recipient, store.go keeps it,
// list.go reads the list, publish.go tells others of changes; filter.go spares the
// database most deliveries.
package suppression

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/pipeline"
)

// Complaint is the reason of recipients that reported mail as spam (RFC 5965).
const Complaint = "complaint"

// Config says who is listed.
type Config struct {
	// Path of the database. It is made if it is not there.
	Path string
	// Reasons are the ids of categories, and Complaint, that list a recipient.
	Reasons []string
	// Failures is on how many occasions in a row a recipient has to fail, from 1 to
	// MostFailures. A complaint lists it at once.
	Failures int
	// Privacy may keep addresses, or hash them.
	Privacy event.Privacy
	// Export is a file that has the list, too; see Format. Empty means none.
	Export string
	// Publisher is told of the list's changes, as Target. Nil means nobody is.
	Publisher Publisher
	// Target names what Publisher writes to. Under a new name it is told of the
	// whole list.
	Target string
	Log    *slog.Logger

	unsafe bool // spares tests the time of the disk
}

// Stats tells what was written since the start.
type Stats struct {
	// Records told of a failure or complaint, or of a delivery to a recipient
	// that had failed.
	Records int64
	// Failures counts writes that failed and are done again: to the database, the
	// export or the publisher.
	Failures int64
	Failing  bool
}

// Sink is a pipeline.RecordSink.
type Sink struct {
	config  Config
	log     *slog.Logger
	reasons map[event.Category]bool
	known   filter // of the addresses in the database
	store   *store
	changed chan struct{} // has one when the list may have changed

	mu       sync.Mutex // guards the rest
	stats    Stats
	failing  [3]bool // by part
	reported time.Time
}

// part is what can fail by itself.
type part int

const (
	database part = iota
	publishing
	exporting
)

// New opens the database.
func New(c Config) (*Sink, error) {
	s := &Sink{config: c, log: c.Log, reasons: make(map[event.Category]bool), known: newFilter(), changed: make(chan struct{}, 1)}
	if c.Privacy.Addresses == event.DomainOnly {
		return nil, errors.New("privacy.addresses is domain, so there are no recipients to list; set it to keep, or to hash if those who read the list have the key")
	}
	if c.Failures < 1 || c.Failures > MostFailures {
		return nil, fmt.Errorf("failures: %d; use 1 to %d", c.Failures, MostFailures)
	}
	for _, r := range c.Reasons {
		if category, ok := event.CategoryByID(r); ok {
			s.reasons[category] = true
		} else if r != Complaint {
			return nil, fmt.Errorf("reasons: %q is neither a category nor %s; see docs/categories.md", r, Complaint)
		}
	}
	if c.Export != "" {
		if _, err := FormatOf(c.Export); err != nil {
			return nil, fmt.Errorf("export: %w", err)
		}
	}
	var err error
	if s.store, err = openStore(c.Path, c.Failures, !c.unsafe); err != nil {
		return nil, err
	}
	if c.Publisher != nil { // without one, changes wait for it to come back
		err = s.store.aim(c.Target)
	}
	if err := errors.Join(err, s.store.forget(time.Now()), s.store.addresses(s.known.add)); err != nil {
		return nil, errors.Join(err, s.store.close())
	}
	s.changed <- struct{}{} // publish and export what there is
	return s, nil
}

// Stats tells what has been written.
func (s *Sink) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	stats.Failing = slices.Contains(s.failing[:], true)
	return stats
}

// Close closes the database. No writer may be used any more.
func (s *Sink) Close() error { return s.store.close() }

// result notes how a part fares, and returns err.
func (s *Sink) result(p part, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing[p] = err != nil
	if err != nil {
		s.stats.Failures++
	}
	return err
}

// Writer implements pipeline.RecordSink.
func (s *Sink) Writer(string, string) pipeline.RecordWriter {
	return &writer{sink: s, told: make(map[string]*state)}
}

const (
	// most is of how many recipients a lane should know before it writes.
	most = 20_000
	// maxText is how much of a reply is kept.
	maxText = 1000
	// ahead is how far an event may be dated ahead of the clock and be believed: a
	// delivery of the year 2100 would hide every failure until then.
	ahead = 24 * time.Hour
)

// writer gathers what one lane tells.
type writer struct {
	sink    *Sink
	told    map[string]*state // by address
	records int64
	low     []byte
	address []byte
}

// Add implements pipeline.RecordWriter.
func (w *writer) Add(r *pipeline.Record) {
	e := r.Event
	good, reason := w.sink.judge(e)
	if !good && reason == "" || len(e.Recipient) == 0 || e.RecipientDomain() == nil {
		return
	}
	w.low = appendLower(w.low[:0], e.Recipient)
	w.address = w.sink.config.Privacy.AppendAddress(w.address[:0], w.low)
	told := w.told[string(w.address)]
	if good && told == nil && !w.sink.known.has(w.address) || e.Time > time.Now().Add(ahead).UnixMicro() {
		return
	}
	if told == nil {
		told = new(state)
		w.told[string(w.address)] = told
	}
	w.records++
	at := max(e.Time, 1) // 0 is never
	switch {
	case good:
		told.join(&state{delivered: at})
	case reason == Complaint:
		told.join(&state{complained: at})
	default:
		text := e.Reply.Text[:min(len(e.Reply.Text), maxText)]
		told.join(&state{failed: []int64{at}, last: failure{
			at: at, reason: reason, code: e.Reply.Code, enhanced: e.Reply.Enhanced.String(),
			text: clean(string(w.sink.config.Privacy.Append(nil, text))),
		}})
	}
}

// judge returns whether a recipient got a message, or why it may be listed.
func (s *Sink) judge(e *event.Event) (good bool, reason string) {
	switch {
	case e.Kind == event.Attempt && e.Outcome == event.Delivered:
		return true, ""
	case e.Kind == event.Notice && e.Outcome == event.Complaint:
		if slices.Contains(s.config.Reasons, Complaint) {
			return false, Complaint
		}
	case e.Outcome == event.Expired: // what kept it in the queue is why
		for _, c := range []event.Category{e.Verdict.Secondary, e.Verdict.Category} {
			if s.reasons[c] {
				return false, c.String()
			}
		}
	case e.Kind == event.Attempt && e.Outcome == event.Bounced, e.Kind == event.Notice && e.Outcome == event.OutOfBand:
		if s.reasons[e.Verdict.Category] && e.Verdict.Persistence != event.Transient {
			return false, e.Verdict.Category.String()
		}
	}
	return false, ""
}

// appendLower appends an address in lower case: no mail server of weight tells
// local parts apart by case.
func appendLower(dst, address []byte) []byte {
	for _, c := range address {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

// Full implements pipeline.RecordWriter.
func (w *writer) Full() bool { return len(w.told) >= most }

// Flush implements pipeline.RecordWriter.
func (w *writer) Flush(ctx context.Context) error {
	if len(w.told) == 0 {
		return nil
	}
	s := w.sink
	changed, err := s.store.add(ctx, w.told, time.Now())
	if err := s.result(database, err); err != nil {
		return err
	}
	for address := range w.told {
		s.known.add([]byte(address))
	}
	s.mu.Lock()
	s.stats.Records += w.records
	s.mu.Unlock()
	if changed {
		select {
		case s.changed <- struct{}{}:
		default:
		}
	}
	return w.Close()
}

// Close implements pipeline.RecordWriter.
func (w *writer) Close() error {
	clear(w.told)
	w.records = 0
	return nil
}
