package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/pipeline/correlate"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
	"github.com/bouncemeter/bouncemeter/sources/dialect"
)

// toy is a dialect of the tests: "QUEUEID from DOMAIN", "QUEUEID OUTCOME
// RECIPIENT-DOMAIN", "QUEUEID removed"; the line's number is its time.
type toy struct{}

func (toy) Reference(time.Time) {}

func (toy) Parse(line []byte, dst []event.Event) ([]event.Event, error) {
	f := bytes.Fields(line)
	if len(f) == 0 {
		return dst, nil
	}
	if len(f) < 3 {
		return dst, fmt.Errorf("%w: %q", dialect.ErrMalformed, line)
	}
	second, err := strconv.ParseInt(string(f[0]), 10, 64)
	if err != nil {
		return dst, fmt.Errorf("%w: %w", dialect.ErrMalformed, err)
	}
	e := event.Event{Time: second * 1e6, Delay: -1, Host: []byte("mx1"), QueueID: f[1]}
	switch string(f[2]) {
	case "from":
		e.Kind, e.SenderKnown, e.Sender = event.Arrival, true, append([]byte("a@"), f[3]...)
	case "removed":
		e.Kind = event.Removal
	default:
		o, ok := event.OutcomeByName(string(f[2]))
		if !ok {
			return dst, fmt.Errorf("%w: outcome %q", dialect.ErrMalformed, f[2])
		}
		e.Kind, e.Outcome, e.Recipient = event.Attempt, o, append([]byte("x@"), f[3]...)
	}
	return append(dst, e), nil
}

type toyClassifier struct{}

func (toyClassifier) Classify(e *event.Event) {
	e.Provider = "other"
	if e.Outcome.Failure() {
		e.Verdict = event.Verdict{Category: event.UserUnknown, Template: 1}
	}
}

func (toyClassifier) Sample(e *event.Event, dst []byte) []byte { return append(dst, "no such user"...) }

// memoryLane serves lines from memory, a few a batch.
type memoryLane struct {
	lines []string
	batch int
	idle  bool // waits for ever at the end, as a live log does
	next  int
}

func (l *memoryLane) Name() string { return "memory" }

func (l *memoryLane) Open(_ context.Context, from event.Position) error {
	l.next = int(from.Offset)
	return nil
}

func (l *memoryLane) Read(ctx context.Context, b *event.Batch) error {
	b.Reset()
	b.Next = event.Position{Segment: "memory", Offset: int64(l.next)}
	if err := ctx.Err(); err != nil {
		return err
	}
	if l.next >= len(l.lines) {
		if !l.idle {
			return io.EOF
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
			return nil
		}
	}
	b.Reference = time.Unix(1e9, 0)
	for range l.batch {
		if l.next == len(l.lines) {
			break
		}
		b.Lines = append(b.Lines, event.Line{Text: []byte(l.lines[l.next]), Offset: int64(l.next)})
		l.next++
	}
	b.Next.Offset = int64(l.next)
	return nil
}

func (l *memoryLane) Committed(event.Position) {}
func (l *memoryLane) Close() error             { return nil }

type memorySource struct{ lane Lane }

func (s memorySource) Run(ctx context.Context, work func(context.Context, Lane) error) error {
	return work(ctx, s.lane)
}

// memoryLedger keeps everything in maps and fails when told to.
type memoryLedger struct {
	mu       sync.Mutex
	position event.Position
	counts   map[string]int64
	entries  map[uint64][]byte
	lines    window.Lines
	last     int64
	commits  int
	kept     ledger.Kept
	fail     func(commit int) (before, after error) // nil never fails
}

func newMemoryLedger() *memoryLedger {
	return &memoryLedger{counts: map[string]int64{}, entries: map[uint64][]byte{}}
}

func (l *memoryLedger) Lane(context.Context, string, string) (ledger.Lane, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return ledger.Lane{ID: 1, Position: l.position, Last: l.last}, nil
}

func (l *memoryLedger) Entries(_ context.Context, _ ledger.LaneID, yield func(ledger.Entry) error) error {
	for k, v := range l.entries {
		if err := yield(ledger.Entry{Key: k, Value: v}); err != nil {
			return err
		}
	}
	return nil
}

func (l *memoryLedger) Commit(_ context.Context, c *ledger.Commit) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.commits++
	var before, after error
	if l.fail != nil {
		before, after = l.fail(l.commits)
	}
	if before != nil {
		return before
	}
	if l.position != c.Expected {
		if l.position == c.Position {
			return nil
		}
		return ledger.ErrConflict
	}
	l.position = c.Position
	addCounts(l.counts, c.Delta)
	l.lines.Add(c.Delta.Lines)
	l.last = max(l.last, c.Delta.Last)
	for _, e := range c.Upserts {
		l.entries[e.Key] = bytes.Clone(e.Value)
	}
	for _, k := range c.Deletes {
		delete(l.entries, k)
	}
	return after
}

func (l *memoryLedger) Query(context.Context, ledger.Query) ([]ledger.Row, error) { return nil, nil }
func (l *memoryLedger) Rollup(context.Context, ledger.Retention, time.Time) (ledger.Kept, error) {
	return l.kept, nil
}
func (l *memoryLedger) Close() error { return nil }

func addCounts(to map[string]int64, d *window.Delta) {
	for _, c := range d.Counts {
		key := fmt.Sprint(c.Start, c.Series.Outcome, c.Series.Category, c.Series.SenderDomain)
		to[key] += c.Attempts
		to[key+" firsts"] += c.Firsts
		to[key+" late"] += c.Late
	}
	for _, c := range d.Domains {
		to[fmt.Sprint(c.Start, c.Domain, c.Outcome)] += c.Attempts
	}
}

// someLines draws a log with messages that overlap.
func someLines(t *rapid.T) []string {
	var lines []string
	for i := range rapid.IntRange(0, 120).Draw(t, "lines") {
		id := rapid.SampledFrom([]string{"A1", "B2", "C3"}).Draw(t, "id")
		late := rapid.SampledFrom([]int{0, 0, 0, 30, 200}).Draw(t, "late")
		lines = append(lines, fmt.Sprintf("%d %s %s", 1000+i*7-late, id, rapid.SampledFrom([]string{
			"from shop.example", "from news.example", "removed x", "delivered one.example", "deferred one.example",
			"deferred two.example", "bounced two.example", "garbage x",
		}).Draw(t, "line")))
	}
	return lines
}

func names() (a, b, c, d *window.Names) {
	return window.NewNames(100), window.NewNames(100), window.NewNames(100), window.NewNames(100)
}

func oneShot(workers int) (OneShot, *window.Counter) {
	a, b, c, d := names()
	counter := window.NewCounter(window.Config{Span: 60, CoarseSpan: 3600, Lateness: 60, SenderDomains: a, RecipientDomains: b, Hosts: c, Streams: d, Sample: toyClassifier{}.Sample})
	return OneShot{
		NewParser:     func() dialect.Parser { return toy{} },
		NewClassifier: func() Classifier { return toyClassifier{} },
		Table:         correlate.New(correlate.Config{}),
		Counter:       counter,
		Workers:       workers,
	}, counter
}

func scanned(t interface{ Fatal(...any) }, lines []string, batch, workers int) *window.Delta {
	o, counter := oneShot(workers)
	if err := Scan(context.Background(), &memoryLane{lines: lines, batch: batch}, o); err != nil {
		t.Fatal(err)
	}
	return counter.Delta()
}

func daemon(l Ledger) *Daemon {
	a, b, c, d := names()
	return New(Options{
		Ledger: l, NewClassifier: func() Classifier { return toyClassifier{} },
		Log: slog.New(slog.DiscardHandler), CommitEvery: time.Second,
		SenderDomains: a, RecipientDomains: b, Hosts: c, Streams: d, Lateness: time.Minute,
	})
}

func input(l Lane) Input {
	return Input{Name: "toy", Source: memorySource{l}, NewParser: func() dialect.Parser { return toy{} }}
}

// memoryRecords is a receiver of records that fails when told to.
type memoryRecords struct {
	mu      sync.Mutex
	fail    func() bool
	durable map[string]int // times received, by what identifies a record
	limit   int            // how many a writer should hold; 0: any number
	most    int            // how many one has held
}

func (m *memoryRecords) Writer(string, string) RecordWriter { return &memoryWriter{m: m} }

type memoryWriter struct {
	m       *memoryRecords
	pending []string
}

func (w *memoryWriter) Add(r *Record) {
	w.pending = append(w.pending, fmt.Sprintf("%s/%s/%s/%d/%d %s %s %s", r.Source, r.Lane, r.Segment, r.Offset, r.Index,
		r.Event.Outcome, r.Event.SenderDomain, r.Event.Verdict.Category))
	w.m.most = max(w.m.most, len(w.pending))
}

func (w *memoryWriter) Full() bool { return w.m.limit > 0 && len(w.pending) >= w.m.limit }

func (w *memoryWriter) Flush(context.Context) error {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	if len(w.pending) > 0 && w.m.fail != nil && w.m.fail() {
		return errors.New("broker away")
	}
	for _, r := range w.pending {
		w.m.durable[r]++
	}
	w.pending = w.pending[:0]
	return nil
}

func (w *memoryWriter) Close() error { return nil }

// Whatever fails or stops, the ledger never moves past a record that its
// receiver does not have, and a record is the same each time.
func TestRecordsAreDurableBeforeTheLedgerMoves(t *testing.T) {
	test := t
	rapid.Check(t, func(t *rapid.T) {
		lines := someLines(t)
		batch := rapid.IntRange(1, 5).Draw(t, "batch")
		once := func() *memoryRecords {
			l, m := newMemoryLedger(), &memoryRecords{durable: map[string]int{}}
			d := daemon(l)
			d.o.RecordSinks = []RecordSink{m}
			run(test, d, &memoryLane{lines: lines, batch: 1000, idle: true}, time.Minute)
			return m
		}()
		at := make(map[string]int) // offset of each record
		for id := range once.durable {
			var offset int
			if _, err := fmt.Sscanf(id, "toy/memory//%d/", &offset); err != nil {
				t.Fatal(id, err)
			}
			at[id] = offset
		}

		failures := rapid.SliceOfN(rapid.Bool(), 0, 30).Draw(t, "failures")
		m := &memoryRecords{durable: map[string]int{}}
		m.fail = func() bool {
			if len(failures) == 0 {
				return false
			}
			f := failures[0]
			failures = failures[1:]
			return f
		}
		l := newMemoryLedger()
		for _, seconds := range append(rapid.SliceOfN(rapid.IntRange(0, 60), 0, 4).Draw(t, "stops"), 1000) {
			d := daemon(l)
			d.o.RecordSinks = []RecordSink{m}
			run(test, d, &slowLane{memoryLane{lines: lines, batch: batch, idle: true}}, time.Duration(seconds)*time.Second)
			for id, offset := range at {
				if int64(offset) < l.position.Offset && m.durable[id] == 0 {
					t.Fatalf("the ledger is at %d and %s is nowhere", l.position.Offset, id)
				}
			}
		}
		for id := range m.durable {
			if once.durable[id] == 0 {
				t.Fatalf("record %s changed", id)
			}
		}
		if len(m.durable) != len(once.durable) {
			t.Fatalf("%d records, want %d", len(m.durable), len(once.durable))
		}
	})
}

// A lane commits when a writer is full, long before it is time, and so waits for
// a slow receiver with bounded memory.
func TestFullWriterMakesTheLaneCommit(t *testing.T) {
	var lines []string
	for range 1000 {
		lines = append(lines, "1768190467 4F2A deferred x.example")
	}
	m := &memoryRecords{durable: map[string]int{}, limit: 10}
	d := daemon(newMemoryLedger())
	d.o.CommitEvery, d.o.RecordSinks = time.Hour, []RecordSink{m}
	run(t, d, &memoryLane{lines: lines, batch: 3, idle: true}, time.Minute)
	if m.most >= m.limit+3 || len(m.durable) != len(lines) {
		t.Errorf("held up to %d, limit %d; %d of %d arrived", m.most, m.limit, len(m.durable), len(lines))
	}
}

// Any number of workers and any size of batches gives the same counts.
func TestScanDoesNotDependOnTheWorkers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lines := someLines(t)
		want := scanned(t, lines, 1000, 1)
		got := scanned(t, lines, rapid.IntRange(1, 10).Draw(t, "batch"), rapid.IntRange(1, 4).Draw(t, "workers"))
		a, b := map[string]int64{}, map[string]int64{}
		addCounts(a, want)
		addCounts(b, got)
		if diff := cmp.Diff(a, b); diff != "" {
			t.Fatalf("(-one +many)\n%s", diff)
		}
		if want.Lines != got.Lines {
			t.Fatalf("lines: %+v, then %+v", want.Lines, got.Lines)
		}
	})
}

func TestScanReportsTheLanesError(t *testing.T) {
	for _, workers := range []int{1, 3} {
		o, _ := oneShot(workers)
		broken := errors.New("disk on fire")
		if err := Scan(context.Background(), &failingLane{memoryLane{lines: []string{"1 A from x"}, batch: 1}, broken}, o); !errors.Is(err, broken) {
			t.Errorf("%d workers: %v", workers, err)
		}
	}
}

type failingLane struct {
	memoryLane
	err error
}

func (l *failingLane) Read(ctx context.Context, b *event.Batch) error {
	if err := l.memoryLane.Read(ctx, b); !errors.Is(err, io.EOF) {
		return err
	}
	return l.err
}

// The daemon, stopped and started at any moments, with a ledger that fails
// before or after it has taken a commit, counts what a one-shot scan counts.
func TestDaemonCountsExactly(t *testing.T) {
	test := t
	rapid.Check(t, func(t *rapid.T) {
		lines := someLines(t)
		failures := rapid.SliceOfN(rapid.IntRange(0, 5), 0, 20).Draw(t, "failures")
		stops := rapid.SliceOfN(rapid.IntRange(0, 60), 0, 4).Draw(t, "stops")
		batch := rapid.IntRange(1, 5).Draw(t, "batch")

		l := newMemoryLedger()
		l.fail = func(n int) (before, after error) {
			if n > len(failures) {
				return nil, nil
			}
			switch failures[n-1] {
			case 0:
				return errors.New("disk full"), nil
			case 1:
				return nil, errors.New("connection lost after the commit")
			}
			return nil, nil
		}
		for _, seconds := range append(stops, 1000) {
			// A process of its own: nothing but the ledger is kept.
			run(test, daemon(l), &slowLane{memoryLane{lines: lines, batch: batch, idle: true}}, time.Duration(seconds)*time.Second)
		}
		want := map[string]int64{}
		delta := scanned(t, lines, 1000, 1)
		addCounts(want, delta)
		if diff := cmp.Diff(want, l.counts); diff != "" {
			t.Fatalf("(-want +got)\n%s", diff)
		}
		if delta.Lines != l.lines {
			t.Fatalf("lines: want %+v, got %+v", delta.Lines, l.lines)
		}
	})
}

// slowLane takes its time, so that commits fall between batches.
type slowLane struct{ memoryLane }

func (l *slowLane) Read(ctx context.Context, b *event.Batch) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(700 * time.Millisecond):
	}
	return l.memoryLane.Read(ctx, b)
}

// run lets a daemon read lane for a while of virtual time.
func run(t *testing.T, d *Daemon, lane Lane, span time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), span)
		defer cancel()
		if err := d.Run(ctx, []Input{input(lane)}); err != nil {
			t.Error(err)
		}
	})
}

// pausingLane has only its first lines for a while, and knows how many are left.
type pausingLane struct {
	memoryLane
	first int
	pause time.Duration
}

func (l *pausingLane) Read(ctx context.Context, b *event.Batch) error {
	if l.next == l.first {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(l.pause):
		}
		l.first = len(l.lines)
	}
	err := l.memoryLane.Read(ctx, b)
	b.Lag = int64(l.first - l.next)
	return err
}

// A lane that has caught up commits at once, and from then on in time. What the
// ledger keeps by the hour is counted by the hour.
func TestCaughtUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLedger()
		l.kept = ledger.Kept{Minutes: 7200}
		d := daemon(l)
		d.o.CommitEvery = time.Minute
		lane := &pausingLane{memoryLane{lines: []string{
			"5000 A from shop.example", "5001 A delivered one.example", "5002 A removed x",
			"7000 B delivered one.example", "7300 B delivered one.example",
		}, batch: 1, idle: true}, 3, 30 * time.Second}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- d.Run(ctx, []Input{input(lane)}) }()
		committed := func(want int64) {
			t.Helper()
			synctest.Wait()
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.position.Offset != want {
				t.Errorf("committed up to %d, want %d", l.position.Offset, want)
			}
		}
		committed(3)
		time.Sleep(50 * time.Second)
		committed(3)
		time.Sleep(11 * time.Second)
		committed(5)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for _, start := range []int64{3600, 7260} {
			if key := fmt.Sprint(start, event.Delivered, event.Unset, window.Unknown); l.counts[key] != 1 {
				t.Errorf("%d counted at %d, want 1", l.counts[key], start)
			}
		}
	})
}

func TestConflictStartsOverFromTheLedger(t *testing.T) {
	lines := []string{"1 A from shop.example", "2 A delivered one.example", "3 A delivered two.example", "4 A removed x"}
	l := newMemoryLedger()
	l.fail = func(n int) (error, error) {
		if n == 1 {
			return ledger.ErrConflict, nil
		}
		return nil, nil
	}
	run(t, daemon(l), &memoryLane{lines: lines, batch: 2, idle: true}, time.Minute)
	want := map[string]int64{}
	addCounts(want, scanned(t, lines, 1000, 1))
	if diff := cmp.Diff(want, l.counts); diff != "" || l.lines.Read != 4 {
		t.Errorf("%d lines, (-want +got)\n%s", l.lines.Read, diff)
	}
}

func TestACorruptLedgerEndsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLedger()
		l.fail = func(int) (error, error) { return fmt.Errorf("page 7: %w", ledger.ErrCorrupt), nil }
		err := daemon(l).Run(t.Context(), []Input{input(&memoryLane{lines: []string{"1 A from x"}, batch: 1, idle: true})})
		if !errors.Is(err, ledger.ErrCorrupt) {
			t.Errorf("error %v", err)
		}
	})
}

func TestAFailingLedgerIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLedger()
		broken := true
		l.fail = func(int) (error, error) {
			if broken {
				return errors.New("disk full"), nil
			}
			return nil, nil
		}
		d := daemon(l)
		lane := &memoryLane{lines: []string{"1 A from x", "2 A delivered y"}, batch: 1, idle: true}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- d.Run(ctx, []Input{input(lane)}) }()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if s := d.Status(); len(s) != 1 || s[0].Err == nil {
			t.Errorf("status %+v while the disk is full", s)
		}
		if n := lane.next; n > 2 {
			t.Errorf("it read on to %d", n)
		}
		l.mu.Lock()
		broken = false
		l.mu.Unlock()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if s := d.Status(); s[0].Err != nil || s[0].Position.Offset != 2 {
			t.Errorf("status %+v after the disk has room", s)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if l.lines.Read != 2 {
			t.Errorf("%d lines", l.lines.Read)
		}
	})
}

// A ledger that hangs does not keep the daemon from stopping.
func TestStopWithAFailingLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLedger()
		l.fail = func(int) (error, error) { return errors.New("disk full"), nil }
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		started := time.Now()
		if err := daemon(l).Run(ctx, []Input{input(&memoryLane{lines: []string{"1 A from x"}, batch: 1, idle: true})}); err != nil {
			t.Error(err)
		}
		if took := time.Since(started); took > 10*time.Second {
			t.Errorf("stopping took %v", took-3*time.Second)
		}
	})
}

// What a failed commit held is in the last one, when the daemon is told to
// stop while the ledger fails.
func TestTheLastCommitHoldsWhatFailedBefore(t *testing.T) {
	lines := []string{"1 A from shop.example", "2 A delivered one.example"}
	l := newMemoryLedger()
	stopping := false
	l.fail = func(int) (error, error) {
		if !stopping {
			return errors.New("disk full"), nil
		}
		return nil, nil
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			ended <- daemon(l).Run(ctx, []Input{input(&slowLane{memoryLane{lines: lines, batch: 1, idle: true}})})
		}()
		time.Sleep(5 * time.Second)
		l.mu.Lock()
		stopping = true
		l.mu.Unlock()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	run(t, daemon(l), &slowLane{memoryLane{lines: lines, batch: 1, idle: true}}, time.Minute)
	want := map[string]int64{}
	addCounts(want, scanned(t, lines, 1000, 1))
	if diff := cmp.Diff(want, l.counts); diff != "" || l.lines.Read != 2 {
		t.Errorf("%d lines, (-want +got)\n%s", l.lines.Read, diff)
	}
}

// News that repeats what the sending MTA has logged is not counted; other news
// is, and as no attempt.
func TestNotices(t *testing.T) {
	a, b, c, d := names()
	j := &joiner{
		table:   correlate.New(correlate.Config{}),
		counter: window.NewCounter(window.Config{Span: 60, CoarseSpan: 3600, TrendSpan: 60, SenderDomains: a, RecipientDomains: b, Hosts: c, Streams: d}),
	}
	var events []event.Event
	for _, o := range event.Outcomes {
		events = append(events, event.Event{Kind: event.Notice, Outcome: o, Delay: -1, SenderKnown: true, SenderDomain: []byte("shop.example"), Recipient: []byte("a@one.example")})
	}
	batch := &event.Batch{Reference: time.Unix(1e9, 0)}
	j.begin(batch)
	j.events(batch, events)
	delta := j.counter.Delta()
	got := make(map[string]int64)
	for _, c := range delta.Counts {
		got[c.Series.Outcome.String()] += c.Attempts
	}
	want := map[string]int64{"complaint": 1, "autoreply": 1, "suppressed": 1, "held": 1, "rejected_inbound": 1, "oob_bounce": 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if len(delta.Domains)+len(delta.Delays) > 0 {
		t.Errorf("counted as attempts at a domain: %+v, %+v", delta.Domains, delta.Delays)
	}
}

// A record that a wrong clock has dated years ahead counts as of now. What comes
// after it is not late, and the senders before it are not forgotten.
func TestAWrongClockMovesNothing(t *testing.T) {
	a, b, c, d := names()
	j := &joiner{
		table:   correlate.New(correlate.Config{Limit: 100, Lifetime: 24 * time.Hour}),
		counter: window.NewCounter(window.Config{Span: 60, CoarseSpan: 3600, Lateness: 15, SenderDomains: a, RecipientDomains: b, Hosts: c, Streams: d, MaxSeries: 10}),
	}
	now := time.Now()
	step := func(at time.Time, kind event.Kind, queueID string) {
		batch := &event.Batch{Reference: now}
		j.begin(batch)
		e := event.Event{Kind: kind, Time: at.UnixMicro(), Delay: -1, QueueID: []byte(queueID)}
		if kind == event.Arrival {
			e.SenderKnown, e.Sender = true, []byte("ann@shop.example")
		} else {
			e.Outcome, e.Recipient = event.Delivered, []byte("x@one.example")
		}
		j.events(batch, []event.Event{e})
	}
	step(now.Add(-time.Minute), event.Arrival, "A")
	step(now.Add(50*365*24*time.Hour), event.Arrival, "B")
	step(now.Add(50*365*24*time.Hour), event.Attempt, "B")
	step(now.Add(4*time.Minute), event.Attempt, "C") // clocks differ by so much
	step(now, event.Attempt, "A")
	delta := j.counter.Delta()
	var ofShop int64
	for _, c := range delta.Counts {
		if c.Start > now.Add(5*time.Minute).Unix() {
			t.Errorf("counted at %v", time.Unix(c.Start, 0))
		}
		if c.Series.SenderDomain == "shop.example" {
			ofShop += c.Attempts
		}
	}
	if delta.Lines.Future != 2 || ofShop != 2 || delta.Last > now.Add(5*time.Minute).Unix() {
		t.Errorf("%d of the future, %d attempts of shop.example, last %v", delta.Lines.Future, ofShop, time.Unix(delta.Last, 0))
	}
}

// An event that another bouncemeter has completed is counted as it is.
func TestClassifiedEventsAreTakenAsTheyAre(t *testing.T) {
	o, counter := oneShot(1)
	o.NewParser = func() dialect.Parser { return complete{} }
	if err := Scan(context.Background(), &memoryLane{lines: []string{"x"}, batch: 1}, o); err != nil {
		t.Fatal(err)
	}
	counts := counter.Delta().Counts
	if len(counts) != 1 {
		t.Fatalf("%d series", len(counts))
	}
	if c := counts[0]; c.Series.Category != event.SPFFailed || c.Series.Provider != "gmail" || c.Series.SenderDomain != "shop.example" || c.Firsts != 0 {
		t.Errorf("%+v of %+v", c, c.Series)
	}
	if messages, deferred := o.Table.Len(); messages+deferred != 0 {
		t.Errorf("%d messages and %d deferrals are remembered", messages, deferred)
	}
}

type complete struct{}

func (complete) Reference(time.Time) {}

func (complete) Parse(_ []byte, dst []event.Event) ([]event.Event, error) {
	return append(dst, event.Event{
		Kind: event.Attempt, Outcome: event.Deferred, Classified: true, Delay: -1, QueueID: []byte("A"), Recipient: []byte("a@one.example"),
		SenderKnown: true, SenderDomain: []byte("shop.example"), Provider: "gmail", Verdict: event.Verdict{Category: event.SPFFailed},
	}), nil
}
