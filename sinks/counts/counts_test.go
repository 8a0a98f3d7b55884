package counts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/sqlite"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// store keeps the greatest version of each row, as readers should. Some flushes
// fail, having stored nothing, a part or all of it.
type store struct {
	rows    map[string]Row
	waiting []Row
	taken   int
	fail    func() (taken int, fails bool) // nil never fails
}

func (s *store) Add(id, row []byte) {
	var r Row
	if err := json.Unmarshal(row, &r); err != nil || r.ID != string(id) {
		panic(fmt.Sprint(string(id), string(row), err))
	}
	s.waiting = append(s.waiting, r)
}

func (s *store) Flush(context.Context) error {
	n, fails := len(s.waiting), false
	if s.fail != nil && n > 0 {
		n, fails = s.fail()
		fails = fails || n < len(s.waiting)
		n = min(n, len(s.waiting))
	}
	for _, r := range s.waiting[:n] {
		s.taken++
		if old, ok := s.rows[r.ID]; !ok || r.Version > old.Version {
			s.rows[r.ID] = r
		} else if r.Version == old.Version && r != old {
			panic(fmt.Sprint("two rows of one version: ", r, old))
		}
	}
	if fails {
		return errors.New("away")
	}
	s.waiting = nil
	return nil
}

// truth is a real ledger and what it should hold.
type truth struct {
	*sqlite.Ledger
	lanes  []ledger.Lane
	totals map[Row]Row // by a row without its counts
	reads  atomic.Int64
}

func newTruth(t interface{ Fatal(...any) }, dir string, lanes int) *truth {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := sqlite.Open(context.Background(), filepath.Join(dir, "ledger.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	x := &truth{Ledger: l, totals: make(map[Row]Row)}
	for i := range lanes {
		lane, err := l.Lane(context.Background(), fmt.Sprint("mta", i), "log")
		if err != nil {
			t.Fatal(err)
		}
		x.lanes = append(x.lanes, lane)
	}
	return x
}

// count counts attempts of one lane.
func (x *truth) count(t interface{ Fatal(...any) }, lane int, start int64, domain string, attempts, firsts int64) {
	l := &x.lanes[lane]
	next := event.Position{Segment: "s", Offset: l.Position.Offset + 1}
	if err := x.Commit(context.Background(), &ledger.Commit{
		Lane: l.ID, Expected: l.Position, Position: next, Now: time.Unix(start, 0),
		Delta: &window.Delta{Counts: []window.Count{{
			Start: start, Series: &window.Series{Outcome: event.Delivered, SenderDomain: domain, Route: &window.Route{Provider: "gmail"}}, Attempts: attempts, Firsts: firsts,
		}}},
	}); err != nil {
		t.Fatal(err)
	}
	l.Position = next
	key := Row{Start: time.Unix(start, 0).UTC(), Source: l.Source, SenderDomain: domain}
	row := x.totals[key]
	row.Attempts += attempts
	row.Firsts += firsts
	x.totals[key] = row
}

// Query implements Ledger.
func (x *truth) Query(ctx context.Context, q ledger.Query) ([]ledger.Row, error) {
	x.reads.Add(1)
	return x.Ledger.Query(ctx, q)
}

// closed returns what should be published of minutes before at.
func (x *truth) closed(at int64) map[string]Row {
	want := make(map[string]Row)
	for key, n := range x.totals {
		if key.Start.Unix() < at {
			r := rowOf(&ledger.Row{
				Start: key.Start.Unix(), Keys: []string{key.Source, "delivered", "", "", "gmail", key.SenderDomain, "", ""}, Attempts: n.Attempts, Firsts: n.Firsts,
			})
			want[r.ID] = r
		}
	}
	return want
}

const keep = 8 * 24 * time.Hour

// Whatever is late, whenever it fails, crashes or is taken over: readers have the
// ledger's counts of all closed minutes in the end.
func TestReadersHaveTheLedgersCounts(t *testing.T) {
	n := 0
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		n++
		x := newTruth(t, filepath.Join(dir, fmt.Sprint(n)), 2)
		defer func() { _ = x.Close() }()
		now := time.Unix(1795512000, 0)
		closed := int64(0)
		s := &store{rows: make(map[string]Row)}
		config := Config{Name: "out", Receiver: s, Keep: keep, Closed: func() int64 { return closed }}
		start := func() *run {
			s.waiting = nil // what it held is gone
			return &run{Config: config, ledger: x, hours: make(map[int64]int64), minutes: make(map[int64]int64)}
		}
		r := start()
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			switch rapid.IntRange(0, 6).Draw(t, "what") {
			case 0, 1: // mail of now, or late by minutes, hours or days
				back := rapid.SampledFrom([]int64{0, 60, 600, 3600, 7200, 86400, 5 * 86400}).Draw(t, "late")
				firsts := rapid.Int64Range(0, 2).Draw(t, "firsts")
				x.count(t, rapid.IntRange(0, 1).Draw(t, "lane"), now.Unix()/60*60-back, rapid.SampledFrom([]string{"", "a.example", "b.example"}).Draw(t, "domain"),
					firsts+rapid.Int64Range(1, 2).Draw(t, "more"), firsts)
			case 2:
				now = now.Add(time.Duration(rapid.Int64Range(1, 90).Draw(t, "minutes")) * time.Minute)
				closed = max(closed, now.Unix()-120)
			case 3:
				s.fail = func() (int, bool) { return rapid.IntRange(0, 3).Draw(t, "taken"), rapid.Bool().Draw(t, "fails") }
				if rapid.Bool().Draw(t, "well") {
					s.fail = nil
				}
			case 4: // another process, which may not know yet what is closed
				r = start()
				if rapid.Bool().Draw(t, "behind") {
					before := closed
					closed -= rapid.Int64Range(0, 5000).Draw(t, "seconds")
					_ = r.step(context.Background(), now)
					closed = before
				}
			default:
				_ = r.step(context.Background(), now)
			}
		}
		s.fail = nil
		now = now.Add(time.Hour)
		closed = now.Unix() - 120
		if err := r.step(context.Background(), now); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(x.closed(closed), s.rows); diff != "" {
			t.Fatalf("-ledger +readers:\n%s", diff)
		}
		// Nothing has changed: another process publishes nothing.
		taken := s.taken
		r = start()
		if err := r.step(context.Background(), now); err != nil || s.taken != taken {
			t.Errorf("%d rows were published again, %v", s.taken-taken, err)
		}
	})
}

// Only closed minutes are published, each once, and a late event makes a new
// version of its own row alone.
func TestVersions(t *testing.T) {
	x := newTruth(t, t.TempDir(), 1)
	defer func() { _ = x.Close() }()
	now := time.Unix(1795512000, 0)
	closed := now.Unix() - 60
	s := &store{rows: make(map[string]Row)}
	r := &run{Config: Config{Name: "out", Receiver: s, Keep: keep, Closed: func() int64 { return closed }}, ledger: x, hours: make(map[int64]int64), minutes: make(map[int64]int64)}
	step := func(want int) {
		t.Helper()
		before := s.taken
		if err := r.step(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		if got := s.taken - before; got != want {
			t.Errorf("%d rows are published, want %d", got, want)
		}
	}
	for i := range int64(10) {
		x.count(t, 0, now.Unix()-600+60*i, "a.example", 2, 1)
	}
	step(9) // the last one is not closed
	step(0)
	x.count(t, 0, now.Unix()-600, "a.example", 1, 0)
	step(0) // nothing was closed since
	now = now.Add(recentEvery)
	step(1)
	closed += 60
	step(1)
	id := rowOf(&ledger.Row{Start: 1795511400, Keys: []string{"mta0", "delivered", "", "", "gmail", "a.example", "", ""}}).ID
	want := Row{
		V: 1, ID: id, Version: 3, Start: time.Unix(1795511400, 0).UTC(), Seconds: 60, Source: "mta0", Outcome: "delivered", Provider: "gmail",
		SenderDomain: "a.example", Attempts: 3, Firsts: 1,
	}
	if diff := cmp.Diff(want, s.rows[id]); diff != "" {
		t.Error(diff)
	}
	// Very late: found when all hours are looked at.
	x.count(t, 0, now.Unix()-5*86400, "a.example", 1, 1)
	now = now.Add(allEvery)
	step(1)
	// Older than what the ledger has by minute: left out.
	x.count(t, 0, now.Unix()-9*86400, "a.example", 1, 1)
	now = now.Add(allEvery)
	step(0)
}

// What has been published costs a query a minute.
func TestIdle(t *testing.T) {
	x := newTruth(t, t.TempDir(), 1)
	defer func() { _ = x.Close() }()
	s := &store{rows: make(map[string]Row)}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now().Unix()/60*60 - 60
		x.count(t, 0, start, "a.example", 1, 1)
		closed := start + 60
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- New(Config{Name: "out", Receiver: s, Keep: keep, Closed: func() int64 { return closed }, Log: slog.New(slog.DiscardHandler)}).Run(ctx, x)
		}()
		time.Sleep(time.Second)
		synctest.Wait()
		if len(s.rows) != 1 {
			t.Errorf("%v", s.rows)
		}
		before := x.reads.Load()
		time.Sleep(time.Hour)
		if n := x.reads.Load() - before; n > 60 {
			t.Errorf("%d queries in an hour", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestRemembered(t *testing.T) {
	for _, test := range []struct{ start, attempts, as int64 }{{3600, 0, 0}, {3600 * 500_000, 12345, 12345}, {3600 * 600_000, 1 << 50, 1<<40 - 1}} {
		v := encode(test.start, test.attempts)
		if got := decode(test.start, v); got != test.as || v < 0 {
			t.Errorf("%+v: %d", test, got)
		}
		if later := test.start + slots*hour; decode(later, v) != 0 || encode(later, 0) <= v {
			t.Errorf("%+v: the next hour of the slot", test)
		}
	}
}
