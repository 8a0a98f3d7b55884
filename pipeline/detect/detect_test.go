package detect

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/sqlite"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// start is a Monday, midnight UTC.
const start = int64(1_700_438_400)

func open(t *testing.T) *sqlite.Ledger {
	t.Helper()
	l, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func runner(t *testing.T) *Runner {
	t.Helper()
	r, err := New(Options{Log: slog.New(slog.DiscardHandler), Lateness: 15 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// lane counts the mail of a sender into the ledger. 0.2% of it fails for SPF,
// and a fifth in the minutes from 26 h on, for an hour.
type lane struct {
	ledger *sqlite.Ledger
	state  ledger.Lane
	series [2]*window.Series
}

func newLane(t *testing.T, l *sqlite.Ledger) *lane {
	t.Helper()
	state, err := l.Lane(t.Context(), "mta1", "/var/log/mail.log")
	if err != nil {
		t.Fatal(err)
	}
	gmail := &window.Route{Provider: "gmail", Host: "mx1"}
	return &lane{l, state, [2]*window.Series{
		{Outcome: event.Delivered, SenderDomain: "shop.example", Route: gmail},
		{Outcome: event.Bounced, Category: event.SPFFailed, SenderDomain: "shop.example", Route: gmail},
	}}
}

// commit counts the minutes from and before to.
func (x *lane) commit(t *testing.T, from, to int, now time.Time) {
	t.Helper()
	d := &window.Delta{First: start + int64(from)*60, Last: start + int64(to)*60 - 1}
	for m := from; m < to; m++ {
		r := rand.New(rand.NewPCG(1, uint64(m)))
		ratio := 0.002
		if m >= 26*60 && m < 27*60 {
			ratio = 0.2
		}
		var k int64
		for range 30 {
			if r.Float64() < ratio {
				k++
			}
		}
		for i, n := range []int64{30 - k, k} {
			if n > 0 {
				d.Counts = append(d.Counts, window.Count{Series: x.series[i], Start: start + int64(m)*60, Attempts: n, Firsts: n})
			}
		}
	}
	position := event.Position{Offset: int64(to)}
	if err := x.ledger.Commit(t.Context(), &ledger.Commit{Lane: x.state.ID, Expected: x.state.Position, Position: position, Delta: d, Now: now}); err != nil {
		t.Fatal(err)
	}
	x.state.Position = position
}

func alerts(t *testing.T, l *sqlite.Ledger) []ledger.Alert {
	t.Helper()
	all, err := l.Alerts(t.Context(), ledger.AlertFilter{})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestInOneGoAndInPieces(t *testing.T) {
	whole := open(t)
	newLane(t, whole).commit(t, 0, 30*60, time.Now())
	if err := runner(t).catchUp(t.Context(), whole); err != nil {
		t.Fatal(err)
	}
	want := alerts(t, whole)
	if len(want) < 2 || want[0].State != "firing" || want[len(want)-1].Open {
		for _, a := range want {
			t.Logf("%s", a.Body)
		}
		t.Fatalf("%d changes of the incident, want the beginning and the end", len(want))
	}

	pieces := open(t)
	x := newLane(t, pieces)
	for m := 0; m < 30*60; m += 60 {
		x.commit(t, m, m+60, time.Now())
		// Each piece is judged by a new process, and half of them forget to store it.
		r := runner(t)
		if m/60%2 == 0 && m+60 < 30*60 {
			r.ledger = pieces
			if err := r.resume(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := r.judge(t.Context(), start+int64(m+60)*60); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := r.catchUp(t.Context(), pieces); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, alerts(t, pieces)); diff != "" {
		t.Errorf("changes differ (-whole +pieces):\n%s", diff)
	}
}

func TestLostState(t *testing.T) {
	l := open(t)
	x := newLane(t, l)
	x.commit(t, 0, 26*60+30, time.Now())
	if err := runner(t).catchUp(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	d, err := l.Detection(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := alerts(t, l)
	if err := l.CommitDetector(t.Context(), &ledger.DetectorCommit{Expected: d.Position, Position: d.Position + 60, State: []byte("damaged")}); err != nil {
		t.Fatal(err)
	}
	x.commit(t, 26*60+30, 30*60, time.Now())
	if err := runner(t).catchUp(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	all := alerts(t, l)
	if len(all) <= len(before) || all[len(all)-1].ID != before[0].ID || all[len(all)-1].Open {
		t.Errorf("the alert that was open does not end: %d changes before, %d after", len(before), len(all))
	}
}

func TestStep(t *testing.T) {
	l := open(t)
	x := newLane(t, l)
	incident := 26 * 60
	now := func(m int) time.Time { return time.Unix(start+int64(m)*60+30, 0) }
	x.commit(t, 0, incident, now(incident))
	r := runner(t)
	r.ledger = l
	if err := r.resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	fired := -1
	for m := incident; m < incident+20; m++ {
		x.commit(t, m, m+1, now(m+1))
		if err := r.step(t.Context(), now(m+1)); err != nil {
			t.Fatal(err)
		}
		if fired < 0 && len(alerts(t, l)) > 0 {
			fired = m
		}
	}
	if fired < 0 || fired > incident+5 {
		t.Errorf("it fired in minute %d, want within 5 minutes of %d", fired, incident)
	}
	s := r.Stats()
	if !s.Leading || s.Open != 1 || s.Changes == 0 || s.Position < start+int64(incident+18)*60 {
		t.Errorf("stats %+v, want one open alert and a position of just now", s)
	}
}

func TestWatermark(t *testing.T) {
	now := time.Unix(start+3600, 0)
	at := func(minutes int, seconds int) int64 { return start + int64(minutes)*60 + int64(seconds) }
	busy := func(last int64) ledger.Lane { return ledger.Lane{Last: last, Updated: now.Add(-time.Second)} }
	idle := func(last int64) ledger.Lane { return ledger.Lane{Last: last, Updated: time.Unix(last+2, 0)} }
	old := func(last int64) ledger.Lane { return ledger.Lane{Last: last, Updated: now.Add(-5 * time.Minute)} }
	long, again := now.Add(-time.Hour), now.Add(-time.Minute) // in sight since
	for _, c := range []struct {
		name     string
		lanes    []ledger.Lane
		position int64
		want     int64
	}{
		// After a restart, a take-over or an outage a lane gets time to go on.
		{"all were idle, and may go on now", []ledger.Lane{idle(at(20, 30)), idle(at(30, 0))}, 0, at(20, 0)},
		{"one goes on, the other may", []ledger.Lane{idle(at(20, 30)), busy(at(59, 30))}, at(19, 0), at(20, 0)},
		{"one goes on, the other had been left out", []ledger.Lane{idle(at(20, 30)), busy(at(59, 30))}, at(40, 0), at(59, 0)},
		{"time had gone on by the clock", []ledger.Lane{idle(at(20, 0))}, at(50, 0), at(19, 0)},
	} {
		if got := watermark(c.lanes, now, again, 15*time.Second, c.position); got != c.want {
			t.Errorf("%s: %d min %d s, want %d min", c.name, (got-start)/60, (got-start)%60, (c.want-start)/60)
		}
	}
	for _, c := range []struct {
		name     string
		lanes    []ledger.Lane
		position int64
		want     int64
	}{
		{"nothing was read", []ledger.Lane{{Updated: now}}, 0, 0},
		{"the slowest lane decides", []ledger.Lane{busy(at(59, 30)), busy(at(20, 30))}, 0, at(20, 0)},
		{"lateness is waited for", []ledger.Lane{busy(at(59, 10))}, 0, at(58, 0)},
		{"an idle lane does not", []ledger.Lane{busy(at(59, 30)), idle(at(20, 0))}, 0, at(59, 0)},
		{"a lane that was judged without does not", []ledger.Lane{busy(at(59, 30)), busy(at(20, 0))}, at(50, 0), at(59, 0)},
		{"all are idle: the clock goes on", []ledger.Lane{idle(at(20, 0)), idle(at(30, 0))}, 0, at(57, 0)},
		{"an old log was read to its end", []ledger.Lane{old(at(-10000, 50))}, 0, at(-10000, 0)},
		{"a record of the future", []ledger.Lane{busy(at(100000, 0))}, 0, at(59, 0)},
	} {
		if got := watermark(c.lanes, now, long, 15*time.Second, c.position); got != c.want {
			t.Errorf("%s: %d min %d s, want %d min", c.name, (got-start)/60, (got-start)%60, (c.want-start)/60)
		}
	}
}

func TestBeginning(t *testing.T) {
	r := runner(t)
	now := time.Unix(start, 0)
	r.since, r.grown = now, now
	step := func(after time.Duration, want bool, lanes ...ledger.Lane) {
		t.Helper()
		now = now.Add(after)
		if got := r.beginning(lanes, now); got != want {
			t.Errorf("%v after the start: %v, want %v", now.Sub(time.Unix(start, 0)), got, want)
		}
	}
	read, unread := ledger.Lane{Updated: now}, ledger.Lane{}
	step(0, true)
	step(4*time.Second, true, read)
	step(4*time.Second, true, read) // one may follow
	step(time.Second, false, read)
	step(0, true, read, unread)
	step(10*time.Second, true, read, unread)
	step(0, false, read, read)
	step(2*time.Minute, false, read, unread) // it is empty
}

// catchUp judges everything up to the latest event of the lanes, and stores it.
func (r *Runner) catchUp(ctx context.Context, l Ledger) error {
	r.ledger = l
	if err := r.resume(ctx); err != nil {
		return err
	}
	lanes, err := l.Lanes(ctx)
	if err != nil {
		return err
	}
	var until int64
	for _, lane := range lanes {
		until = max(until, lane.Last/60*60+60)
	}
	if err := r.judge(ctx, until); err != nil {
		return err
	}
	return r.store(ctx)
}
