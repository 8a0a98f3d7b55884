package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/pipeline/correlate"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
	"github.com/bouncemeter/bouncemeter/sources/dialect"
)

// A lane's work has two halves. Scanning (parse and classify) depends on
// nothing but the line, so any number of scanners may work on batches side by
// side. Joining (correlate and count) depends on the lines before, so one
// joiner takes the batches in order. Together they see each line once.

// unit is a batch on its way: its lines, and what the scanner made of them.
type unit struct {
	batch     event.Batch
	events    []event.Event // alias batch
	malformed []malformed
	scanned   chan struct{} // receives once the scanner is done; parallel work only
}

// malformed is a line that cannot be read or, where record is not 0, a record of
// the array that a line is.
type malformed struct {
	line, record int // line is an index into batch.Lines
	text         []byte
	err          error
	more         int // how many of the line's records cannot be read either, and are not told
}

// faults appends what err says of the line i of b, without keeping anything of the
// parser's.
func faults(dst []malformed, b *event.Batch, i int, err error) []malformed {
	var partial *dialect.PartialError
	if !errors.As(err, &partial) {
		return append(dst, malformed{line: i, text: b.Lines[i].Text, err: err})
	}
	for _, f := range partial.Faults {
		dst = append(dst, malformed{line: i, record: f.Record, text: bytes.Clone(f.Text), err: f.Err})
	}
	dst[len(dst)-1].more = partial.Count - len(partial.Faults)
	return dst
}

// scanner is the half that remembers nothing.
type scanner struct {
	parser     dialect.Parser
	lines      dialect.Skipper // the same
	classifier Classifier
}

func newScanner(p dialect.Parser, c Classifier) scanner {
	return scanner{p, dialect.Skipping(p), c}
}

// classify says of each failure why it is one.
func (s *scanner) classify(events []event.Event) {
	for i := range events {
		e := &events[i]
		// What the record of an Expiry says may name the last cause.
		if k := e.Kind; (k == event.Attempt || k == event.Notice || k == event.Expiry && len(e.Reply.Text) > 0) && !e.Classified {
			s.classifier.Classify(e)
		}
	}
}

// begin tells the parser what all lines of a batch have in common.
func (s *scanner) begin(b *event.Batch) {
	s.parser.Reference(b.Reference)
	if h, ok := s.parser.(dialect.Headed); ok {
		h.Header(b.Header)
	}
}

func (s *scanner) scan(u *unit) {
	u.events, u.malformed = u.events[:0], u.malformed[:0]
	s.begin(&u.batch)
	for i, n := 0, 0; i < len(u.batch.Lines); i += n {
		var err error
		known := len(u.events)
		n, u.events, err = s.lines.Next(u.batch.Lines[i:], u.events, few)
		if err != nil {
			u.malformed = faults(u.malformed, &u.batch, i+n-1, err)
		}
		s.classify(u.events[known:])
	}
}

// joiner is the half that remembers.
type joiner struct {
	table   *correlate.Table
	counter *window.Counter
	dead    DeadLetters // nil keeps none
	records []RecordWriter
	source  string
	lane    string
	// When the batch was begun, or what was written in it if that is later, in
	// microseconds.
	now int64
}

// begin notes the time for the events of a batch.
func (j *joiner) begin(b *event.Batch) {
	j.now = max(time.Now().UnixMicro(), b.Reference.UnixMicro())
}

// future is how far ahead of the clock an event may be dated and be believed:
// clocks differ.
const future = 5 * 60 * 1e6 // microseconds

func (j *joiner) join(u *unit) {
	j.begin(&u.batch)
	for _, m := range u.malformed {
		j.unreadable(&u.batch, m)
	}
	j.events(&u.batch, u.events)
	j.lines(&u.batch)
}

// hand gives the events of one line to the writers of records, once they have
// been joined.
func (j *joiner) hand(b *event.Batch, line int, events []event.Event) {
	r := Record{Source: j.source, Lane: j.lane, Segment: b.Segment, Offset: b.Lines[line].Offset}
	for i := range events {
		switch events[i].Kind {
		case event.Attempt, event.Expiry, event.Notice, event.Rejection:
			r.Index, r.Event = i, &events[i]
			for _, w := range j.records {
				w.Add(&r)
			}
		}
	}
}

// lines counts the lines of a batch that has been joined.
func (j *joiner) lines(b *event.Batch) {
	lines := j.counter.Lines()
	lines.Read += int64(len(b.Lines))
	lines.Truncated += int64(b.Truncated)
	lines.Lost += b.Lost
	lines.Evicted += j.table.Evicted()
}

func (j *joiner) unreadable(b *event.Batch, m malformed) {
	j.counter.Lines().Malformed += int64(1 + m.more)
	if j.dead != nil {
		if m.more > 0 {
			m.err = fmt.Errorf("%w (and %d more records of the same array, which are not kept)", m.err, m.more)
		}
		j.dead.Put(DeadLetter{j.source, j.lane, b.Segment, b.Lines[m.line].Offset, m.record, m.text, m.err})
	}
}

// events joins some events of b, in order. One that is dated ahead of the clock
// counts as of now: believed, a single wrong clock would make all that comes
// later look late, and the queue ids outlived.
func (j *joiner) events(b *event.Batch, events []event.Event) {
	lines := j.counter.Lines()
	for i := range events {
		e := &events[i]
		if e.Time > j.now+future {
			lines.Future++
			e.Time = j.now
		}
		if len(e.ID) > 0 && j.table.Repeated(e, b.Reference.Unix()) {
			lines.Repeated++
			e.Kind = 0 // nor is its record handed on
			continue
		}
		switch e.Kind {
		case event.Arrival, event.Removal:
			j.table.Apply(e)
			continue
		case event.Attempt, event.Expiry:
			if !e.Classified {
				j.table.Apply(e)
			}
			j.counter.Add(e)
		case event.Notice:
			// What repeats an attempt that the sending MTA has logged (a delay
			// warning, a success report) is not counted again.
			if e.Outcome > event.Expired {
				j.counter.Add(e)
			}
		case event.Probe:
			lines.Probes++
		case event.Rejection:
			lines.Rejected++
		}
	}
}

// few is how many events are made at a time: enough that each step finds its code
// and tables where it left them, and that what one event waits for does not keep
// the next one waiting; little enough that they are in the nearest cache until they
// are joined. One at a time takes 4% longer, and so does a whole batch.
const few = 64

// process scans and joins u on one goroutine.
func process(s *scanner, j *joiner, u *unit) {
	s.begin(&u.batch)
	j.begin(&u.batch)
	events := few
	if len(j.records) > 0 {
		events = 1 // a record tells its line
	}
	for i, n := 0, 0; i < len(u.batch.Lines); i += n {
		var err error
		n, u.events, err = s.lines.Next(u.batch.Lines[i:], u.events[:0], events)
		if err != nil {
			u.malformed = faults(u.malformed[:0], &u.batch, i+n-1, err)
			for _, m := range u.malformed {
				j.unreadable(&u.batch, m)
			}
		}
		s.classify(u.events)
		j.events(&u.batch, u.events)
		if len(j.records) > 0 {
			j.hand(&u.batch, i+n-1, u.events)
		}
	}
	j.lines(&u.batch)
}

// OneShot says how Scan counts.
type OneShot struct {
	NewParser     func() dialect.Parser
	NewClassifier func() Classifier
	Table         *correlate.Table
	Counter       *window.Counter
	DeadLetters   DeadLetters
	// Workers is how many batches are scanned side by side. The result does
	// not depend on it.
	Workers int
}

// Scan reads a finite lane to its end and counts it.
func Scan(ctx context.Context, lane Lane, o OneShot) error {
	if err := lane.Open(ctx, event.Position{}); err != nil {
		return err
	}
	j := &joiner{table: o.Table, counter: o.Counter, dead: o.DeadLetters, lane: lane.Name()}
	if o.Workers <= 1 {
		s := newScanner(o.NewParser(), o.NewClassifier())
		var u unit
		for {
			err := lane.Read(ctx, &u.batch)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			process(&s, j, &u)
		}
	}
	return scanParallel(ctx, lane, o, j)
}

// scanParallel is Scan with several scanners. One goroutine reads, o.Workers
// scan, this one joins in the order of reading.
func scanParallel(ctx context.Context, lane Lane, o OneShot, j *joiner) error {
	units := 2 * o.Workers
	free := make(chan *unit, units)    // never closed: units go round
	todo := make(chan *unit, units)    // closed by the reader
	ordered := make(chan *unit, units) // closed by the reader
	for range units {
		free <- &unit{scanned: make(chan struct{}, 1)}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(todo)
		defer close(ordered)
		for {
			var u *unit
			select {
			case u = <-free:
			case <-ctx.Done():
				return ctx.Err()
			}
			err := lane.Read(ctx, &u.batch)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			todo <- u
			ordered <- u
		}
	})
	for range o.Workers {
		s := newScanner(o.NewParser(), o.NewClassifier())
		g.Go(func() error {
			for u := range todo {
				s.scan(u)
				u.scanned <- struct{}{}
			}
			return nil
		})
	}
	for u := range ordered {
		<-u.scanned
		j.join(u)
		free <- u
	}
	return g.Wait()
}
