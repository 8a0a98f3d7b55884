package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// windows returns what Windows yields.
func windows(t testing.TB, l Ledger, since, until int64) []ledger.Window {
	t.Helper()
	var all []ledger.Window
	if err := l.Windows(t.Context(), since, until, func(w *ledger.Window) error {
		all = append(all, *w)
		return nil
	}); err != nil {
		t.Fatalf("windows: %v", err)
	}
	return all
}

func testSilences(t *testing.T, open Open) {
	l := opened(t, open)
	if none := must(l.Silences(t.Context()))(t); len(none) != 0 {
		t.Errorf("at the beginning there are %+v", none)
	}
	at := time.Unix(noon, 0).UTC()
	short := ledger.Silence{ID: "a", Comment: "moving, Ann", Labels: map[string]string{"rule": "authentication", "sender_domain": "it's.example"}, From: at, Until: at.Add(time.Hour)}
	long := ledger.Silence{ID: "b", Labels: map[string]string{"provider": "gmail"}, From: at, Until: at.Add(24 * time.Hour)}
	check := func(want ...ledger.Silence) {
		t.Helper()
		if d := cmp.Diff(want, must(l.Silences(t.Context()))(t), cmpopts.EquateEmpty()); d != "" {
			t.Errorf("silences (-want +got):\n%s", d)
		}
	}
	for _, s := range []ledger.Silence{short, long} {
		if err := l.SetSilence(t.Context(), &s); err != nil {
			t.Fatal(err)
		}
	}
	check(long, short)
	long.Until = at.Add(time.Minute) // ended by hand
	if err := l.SetSilence(t.Context(), &long); err != nil {
		t.Fatal(err)
	}
	check(short, long)
	late := ledger.Silence{ID: "c", Labels: map[string]string{}, From: long.Until.Add(ledger.KeepSilences + time.Second), Until: long.Until.Add(2 * ledger.KeepSilences)}
	if err := l.SetSilence(t.Context(), &late); err != nil {
		t.Fatal(err)
	}
	check(late, short)
}

func testWindows(t *testing.T, open Open) {
	l := opened(t, open)
	late := func(c window.Count, n int64) window.Count { c.Late = n; return c }
	addCounts(t, l,
		late(count(spfGmail, noon, 30, 20), 3), count(sentGmail, noon, 500, 480), late(count(rateGmail, noon, 7, 4), 4),
		count(spfGmail, noon+minute, 3, 2), count(sentOther, noon+minute, 40, 0), count(expiredOne, noon+2*minute, 2, 1),
		count(spfGmail, noon-minute, 3, 2), count(spfGmail, noon+3*minute, 3, 2))
	another := *expiredOne
	another.Secondary = spfGmail.Category
	add(t, l, "b", &window.Delta{Counts: []window.Count{late(count(spfGmail, noon, 2, 2), 1), count(&another, noon+2*minute, 5, 5)}})
	other := must(l.Lane(t.Context(), "relay", "a"))(t)
	if err := l.Commit(t.Context(), step(other, &window.Delta{Counts: []window.Count{count(spfGmail, noon, 1, 1)}})); err != nil {
		t.Fatal(err)
	}
	w := func(start int64, source string, s *window.Series, firsts int64) ledger.Window {
		return ledger.Window{
			Start: start, Source: source, Outcome: s.Outcome.String(), Category: s.Category.String(), Provider: s.Provider,
			SenderDomain: s.SenderDomain, Host: s.Host, Stream: s.Stream, Firsts: firsts,
		}
	}
	want := []ledger.Window{
		w(noon, "mta", sentGmail, 480), w(noon, "mta", spfGmail, 18), w(noon, "relay", spfGmail, 1),
		w(noon+minute, "mta", spfGmail, 2), w(noon+2*minute, "mta", expiredOne, 6),
	}
	check := func(since, until int64, want []ledger.Window) {
		t.Helper()
		if d := cmp.Diff(want, windows(t, l, since, until), cmpopts.EquateEmpty()); d != "" {
			t.Errorf("windows from %d to %d (-want +got):\n%s", since, until, d)
		}
	}
	check(noon, noon+3*minute, want)
	check(noon, noon+minute, want[:3])
	check(noon, noon, nil)
	l = reopened(t, l, open)
	check(noon, noon+3*minute, want)

	// What comes late changes counts but no window.
	addCounts(t, l, late(count(spfGmail, noon, 9, 9), 9), late(count(sentOther, noon, 1, 1), 1))
	check(noon, noon+3*minute, want)
	// So does roll-up, until minutes are no longer kept.
	rollup(t, l, now.Add(2*time.Hour))
	check(noon, noon+3*minute, want)
	rollup(t, l, now.Add(8*time.Hour))
	check(noon-day, noon+day, nil)

	stop := errors.New("stop")
	addCounts(t, l, count(spfGmail, noon+8*hour, 1, 1))
	if err := l.Windows(t.Context(), 0, noon+day, func(*ledger.Window) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Windows returned %v, want the error of yield", err)
	}
}

func change(id, state string, at int64) ledger.Alert {
	return ledger.Alert{ID: id, State: state, Open: state != "resolved", Rule: "r", Time: at, Body: fmt.Appendf(nil, `{"id":%q,"at":%d,"text":"é <b>"}`, id, at)}
}

func testDetector(t *testing.T, open Open) {
	l := opened(t, open)
	if d := must(l.Detection(t.Context()))(t); d.Position != 0 || len(d.State) != 0 {
		t.Errorf("a new ledger has detection %+v, want zero", d)
	}
	commit := func(c *ledger.DetectorCommit) error { return l.CommitDetector(t.Context(), c) }
	must := func(c *ledger.DetectorCommit) {
		t.Helper()
		if err := commit(c); err != nil {
			t.Fatal(err)
		}
	}
	stored := func() (bodies []string) {
		t.Helper()
		all, err := l.Alerts(t.Context(), ledger.AlertFilter{})
		if err != nil {
			t.Fatal(err)
		}
		for i, a := range all {
			if i > 0 && a.Seq <= all[i-1].Seq {
				t.Errorf("seq %d follows %d", a.Seq, all[i-1].Seq)
			}
			bodies = append(bodies, string(a.Body))
		}
		return bodies
	}
	first := &ledger.DetectorCommit{Position: noon, State: []byte("\x00one\xff"), Now: now, Alerts: []ledger.Alert{change("a", "firing", noon), change("b", "firing", noon)}}
	must(first)
	must(first) // the reply was lost
	l = reopened(t, l, open)
	again := *first
	again.Now = now.Add(time.Second)
	must(&again)
	if d, err := l.Detection(t.Context()); err != nil || d.Position != noon || string(d.State) != "\x00one\xff" {
		t.Errorf("detection is %+v, %v", d, err)
	}
	if n := len(stored()); n != 2 {
		t.Errorf("%d changes are stored, want 2", n)
	}
	for name, c := range map[string]*ledger.DetectorCommit{
		"from a position that is over":  {Position: noon + minute, State: []byte("x"), Alerts: []ledger.Alert{change("c", "firing", noon)}},
		"to the same, with other state": {Position: noon, State: []byte("x")},
		"to the same, other alerts":     {Position: noon, State: first.State, Alerts: first.Alerts[:1]},
	} {
		if err := commit(c); !errors.Is(err, ledger.ErrConflict) {
			t.Errorf("a step %s gave %v, want ErrConflict", name, err)
		}
	}
	second := &ledger.DetectorCommit{Expected: noon, Position: noon + minute, Now: now, Alerts: []ledger.Alert{change("a", "resolved", noon+minute)}}
	must(second)
	must(second)
	if err := commit(first); !errors.Is(err, ledger.ErrConflict) {
		t.Errorf("a step that is long over gave %v, want ErrConflict", err)
	}
	// Without moving on: such as an alert that people close.
	still := &ledger.DetectorCommit{Expected: noon + minute, Position: noon + minute, Now: now, Alerts: []ledger.Alert{change("b", "silenced", noon+minute)}}
	must(still)
	must(still)
	if d, err := l.Detection(t.Context()); err != nil || d.Position != noon+minute || len(d.State) != 0 {
		t.Errorf("detection is %+v, %v", d, err)
	}
	want := []string{string(first.Alerts[0].Body), string(first.Alerts[1].Body), string(second.Alerts[0].Body), string(still.Alerts[0].Body)}
	if d := cmp.Diff(want, stored()); d != "" {
		t.Errorf("changes (-want +got):\n%s", d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.CommitDetector(ctx, &ledger.DetectorCommit{Expected: noon + minute, Position: noon + day}); !errors.Is(err, context.Canceled) {
		t.Errorf("a step whose context is done gave %v, want context.Canceled", err)
	}
}

func testAlerts(t *testing.T, open Open) {
	l := opened(t, open)
	history := []ledger.Alert{
		change("a", "firing", noon), change("b", "firing", noon), change("a", "firing", noon+minute),
		change("a", "resolved", noon+2*minute), change("c", "firing", noon+3*minute), change("b", "stale", noon+4*minute),
	}
	// In two steps, the second with two changes of one alert.
	for i, part := range [][]ledger.Alert{history[:2], history[2:]} {
		if err := l.CommitDetector(t.Context(), &ledger.DetectorCommit{Expected: int64(i), Position: int64(i + 1), Alerts: part, Now: now}); err != nil {
			t.Fatal(err)
		}
	}
	all := must(l.Alerts(t.Context(), ledger.AlertFilter{}))(t)
	if d := cmp.Diff(history, all, cmpopts.IgnoreFields(ledger.Alert{}, "Seq")); d != "" {
		t.Fatalf("changes (-want +got):\n%s", d)
	}
	if all[0].Seq <= 0 {
		t.Errorf("the first change has seq %d, want more than zero", all[0].Seq)
	}
	for _, test := range []struct {
		ledger.AlertFilter
		want []int
	}{
		{ledger.AlertFilter{Limit: 2}, []int{0, 1}},
		{ledger.AlertFilter{Limit: 2, Newest: true}, []int{4, 5}},
		{ledger.AlertFilter{ID: "a", Limit: 1, Newest: true}, []int{3}},
		{ledger.AlertFilter{After: all[3].Seq}, []int{4, 5}},
		{ledger.AlertFilter{After: all[0].Seq, Limit: 1}, []int{1}},
		{ledger.AlertFilter{After: all[5].Seq}, nil},
		{ledger.AlertFilter{ID: "a"}, []int{0, 2, 3}},
		{ledger.AlertFilter{ID: "no such"}, nil},
		{ledger.AlertFilter{Since: noon + minute, Until: noon + 4*minute}, []int{2, 3, 4}},
		{ledger.AlertFilter{Until: noon}, nil},
		{ledger.AlertFilter{Latest: true}, []int{3, 4, 5}},
		{ledger.AlertFilter{Latest: true, Open: true}, []int{4, 5}},
		{ledger.AlertFilter{Latest: true, Open: true, ID: "b"}, []int{5}},
		{ledger.AlertFilter{Latest: true, Open: true, ID: "a"}, nil},
		{ledger.AlertFilter{Latest: true, Until: noon + 3*minute}, []int{3}},
		{ledger.AlertFilter{Open: true, ID: "a"}, []int{0, 2, 3}},
	} {
		var want []ledger.Alert
		for _, i := range test.want {
			want = append(want, all[i])
		}
		got := must(l.Alerts(t.Context(), test.AlertFilter))(t)
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("Alerts(%+v) (-want +got):\n%s", test.AlertFilter, d)
		}
	}
	if _, err := l.Alerts(t.Context(), ledger.AlertFilter{Limit: -1}); err == nil {
		t.Error("a negative limit gave no error")
	}

	// Alerts that are over go after their retention, all their changes at once.
	keep := keep
	forever := func(after time.Duration) {
		t.Helper()
		if _, err := l.Rollup(t.Context(), keep, now.Add(after)); err != nil {
			t.Fatal(err)
		}
	}
	forever(9999 * time.Hour) // no retention is set
	keep.Alerts = time.Hour
	forever(0)
	if n := len(must(l.Alerts(t.Context(), ledger.AlertFilter{}))(t)); n != 6 {
		t.Errorf("%d changes are left before their retention is over, want 6", n)
	}
	forever(2 * time.Hour)
	want := []ledger.Alert{all[1], all[4], all[5]}
	if d := cmp.Diff(want, must(l.Alerts(t.Context(), ledger.AlertFilter{}))(t)); d != "" {
		t.Errorf("changes left (-want +got):\n%s", d)
	}
	// A number is never used again, though its change is gone.
	if err := l.CommitDetector(t.Context(), &ledger.DetectorCommit{Expected: 2, Position: 3, Now: now, Alerts: []ledger.Alert{change("b", "resolved", noon), change("c", "resolved", noon)}}); err != nil {
		t.Fatal(err)
	}
	last := must(l.Alerts(t.Context(), ledger.AlertFilter{ID: "c", Latest: true}))(t)[0].Seq
	forever(2 * time.Hour)
	l = reopened(t, l, open)
	if err := l.CommitDetector(t.Context(), &ledger.DetectorCommit{Expected: 3, Position: 4, Now: now, Alerts: []ledger.Alert{change("d", "firing", noon)}}); err != nil {
		t.Fatal(err)
	}
	if d := must(l.Alerts(t.Context(), ledger.AlertFilter{}))(t); len(d) != 1 || d[0].Seq <= last {
		t.Errorf("changes %+v, want one with a seq above %d", d, last)
	}
}

func testNotified(t *testing.T, open Open) {
	l := opened(t, open)
	want := func(notifier string, seq int64) {
		t.Helper()
		if got := must(l.Notified(t.Context(), notifier))(t); got != seq {
			t.Errorf("notifier %s is at %d, want %d", notifier, got, seq)
		}
	}
	want("mail", 0)
	for _, seq := range []int64{3, 7, 5} {
		if err := l.SetNotified(t.Context(), "mail", seq); err != nil {
			t.Fatal(err)
		}
	}
	want("mail", 7)
	want("chat", 0)
	l = reopened(t, l, open)
	want("mail", 7)
}

func testLease(t *testing.T, open Open) {
	l := must(open())(t)
	lease, release, err := l.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if lease.Err() != nil {
		t.Errorf("the lease is over at once: %v", context.Cause(lease))
	}
	// Nobody else gets one meanwhile.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := l.Lease(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second lease gave %v, want to wait", err)
	}
	release()
	release()
	if lease.Err() == nil {
		t.Error("the lease goes on after its release")
	}
	lease, release, err = l.Lease(t.Context())
	if err != nil {
		t.Fatalf("a lease after a release: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-lease.Done():
	case <-time.After(10 * time.Second):
		t.Error("the lease goes on after Close")
	}
	release()
	if _, _, err := l.Lease(t.Context()); err == nil {
		t.Error("a lease after Close gave no error")
	}
}
