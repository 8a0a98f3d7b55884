package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// noon is a time in the middle of a day (UTC); now is the wall clock of commits
// and roll-ups, some minutes later.
var (
	noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC).Unix()
	now  = time.Unix(noon+5*60, 0)
)

const (
	minute = 60
	hour   = 60 * minute
	day    = 24 * hour
)

// Some series.
var (
	spfGmail   = &window.Series{Outcome: event.Bounced, Category: event.SPFFailed, SenderDomain: "shop.example", Route: &window.Route{Provider: "gmail", Host: "mx1.example", Stream: "postfix"}}
	rateGmail  = &window.Series{Outcome: event.Deferred, Category: event.RateLimited, SenderDomain: "shop.example", Route: &window.Route{Provider: "gmail", Host: "mx1.example", Stream: "postfix"}}
	sentGmail  = &window.Series{Outcome: event.Delivered, SenderDomain: "news.example", Route: &window.Route{Provider: "gmail", Host: "mx1.example", Stream: "postfix"}}
	sentOther  = &window.Series{Outcome: event.Delivered, SenderDomain: window.NullSender, Route: &window.Route{Provider: "yahoo", Host: "mx2.example", Stream: "postfix-out"}}
	expiredOne = &window.Series{Outcome: event.Expired, Category: event.QueueExpired, Secondary: event.MailboxFull, SenderDomain: window.Unknown, Route: &window.Route{Provider: "yahoo", Host: "mx2.example"}}
)

func count(s *window.Series, start, attempts, firsts int64) window.Count {
	return window.Count{Series: s, Start: start, Attempts: attempts, Firsts: firsts}
}

// opened opens the store for the whole test.
func opened(t *testing.T, open Open) Ledger {
	t.Helper()
	l := must(open())(t)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return l
}

// reopened closes the ledger and opens it again.
func reopened(t *testing.T, l Ledger, open Open) Ledger {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	return opened(t, open)
}

// lane returns the state of the lane called name.
func lane(t *testing.T, l Ledger, name string) ledger.Lane {
	t.Helper()
	return must(l.Lane(t.Context(), "mta", name))(t)
}

// add commits d to the lane and moves its offset by one.
func add(t *testing.T, l Ledger, name string, d *window.Delta) {
	t.Helper()
	at := lane(t, l, name)
	if err := l.Commit(t.Context(), step(at, d)); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

// step is a commit of d that moves the lane's offset by one.
func step(at ledger.Lane, d *window.Delta) *ledger.Commit {
	return &ledger.Commit{
		Lane: at.ID, Expected: at.Position,
		Position: event.Position{Segment: "s", Offset: at.Position.Offset + 1},
		Delta:    d, Now: now,
	}
}

func addCounts(t *testing.T, l Ledger, counts ...window.Count) {
	t.Helper()
	add(t, l, "a", &window.Delta{Counts: counts})
}

// wantRows compares the rows of a query.
func wantRows(t *testing.T, l Ledger, q ledger.Query, want ...ledger.Row) {
	t.Helper()
	got := must(l.Query(t.Context(), q))(t)
	if d := cmp.Diff(want, append([]ledger.Row(nil), got...)); d != "" {
		t.Errorf("Query(%+v) (-want +got):\n%s", q, d)
	}
}

// wantTotal checks the sum of all counts.
func wantTotal(t *testing.T, l Ledger, attempts, firsts int64) {
	t.Helper()
	wantRows(t, l, ledger.Query{}, ledger.Row{Keys: []string{}, Attempts: attempts, Firsts: firsts})
}

func testLane(t *testing.T, open Open) {
	l := opened(t, open)
	a := lane(t, l, "/var/log/mail.log")
	if a.Position != (event.Position{}) || a.Lines != (window.Lines{}) || !a.Updated.IsZero() || a.First != 0 || a.Last != 0 {
		t.Errorf("a new lane is at %+v, want zero", a)
	}
	if a.Source != "mta" || a.Name != "/var/log/mail.log" {
		t.Errorf("lane is called %q of %q", a.Name, a.Source)
	}
	b := must(l.Lane(t.Context(), "other", "/var/log/mail.log"))(t)
	if a.ID == b.ID {
		t.Errorf("the same name in two sources has one id %d", a.ID)
	}
	c := step(a, &window.Delta{
		Lines: window.Lines{Read: 10, Malformed: 1, Truncated: 2, Probes: 3, Rejected: 4, Lost: 5, Unmatched: 6, Evicted: 7, Folded: 8, Future: 9, Repeated: 10},
		First: noon, Last: noon + 7,
	})
	// The position is the source's: any bytes.
	c.Position = event.Position{Segment: "\x00'\xff\n", Offset: 1 << 40}
	if err := l.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	l = reopened(t, l, open)
	want := ledger.Lane{ID: a.ID, Source: "mta", Name: a.Name, Position: c.Position, Lines: c.Delta.Lines, First: noon, Last: noon + 7, Updated: now}
	got := lane(t, l, a.Name)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("lane after a restart (-want +got):\n%s", d)
	}
	// A delta without events says nothing about the first and the last.
	if err := l.Commit(t.Context(), step(got, &window.Delta{Lines: window.Lines{Read: 1}})); err != nil {
		t.Fatal(err)
	}
	got = lane(t, l, a.Name)
	if got.First != noon || got.Last != noon+7 || got.Lines.Read != 11 {
		t.Errorf("lane is %+v, want first %d, last %d, 11 lines", got, noon, noon+7)
	}
	if err := l.Commit(t.Context(), step(got, &window.Delta{First: noon - 9, Last: noon - 1})); err != nil {
		t.Fatal(err)
	}
	got = lane(t, l, a.Name)
	if got.First != noon-9 || got.Last != noon+7 {
		t.Errorf("lane has first %d and last %d, want %d and %d", got.First, got.Last, noon-9, noon+7)
	}
	lanes := must(l.Lanes(t.Context()))(t)
	if d := cmp.Diff([]ledger.Lane{got, b}, lanes); d != "" {
		t.Errorf("lanes (-want +got):\n%s", d)
	}
}

func testCommit(t *testing.T, open Open) {
	l := opened(t, open)
	wantRows(t, l, ledger.Query{})
	// The same combination by another pointer is the same series.
	again := *spfGmail
	addCounts(t, l, count(spfGmail, noon, 3, 2), count(sentGmail, noon, 100, 99))
	addCounts(t, l, count(&again, noon, 1, 0), count(&again, noon-minute, 1, 1))
	wantTotal(t, l, 105, 102)
	l = reopened(t, l, open)
	addCounts(t, l, count(spfGmail, noon, 1, 0))
	wantRows(t, l, ledger.Query{By: []ledger.Dimension{ledger.ByCategory}, Step: minute},
		ledger.Row{Start: noon - minute, Keys: []string{"spf_failed"}, Attempts: 1, Firsts: 1},
		ledger.Row{Start: noon, Keys: []string{""}, Attempts: 100, Firsts: 99},
		ledger.Row{Start: noon, Keys: []string{"spf_failed"}, Attempts: 5, Firsts: 2})
}

// The reply to a commit may be lost: the caller tries again, and nothing may
// count twice.
func testCommitRepeated(t *testing.T, open Open) {
	l := opened(t, open)
	c := step(lane(t, l, "a"), &window.Delta{
		Counts:    []window.Count{count(spfGmail, noon, 3, 2)},
		Domains:   []window.DomainCount{{Start: noon, Domain: "r.example", Outcome: event.Bounced, Attempts: 3}},
		Delays:    []window.DelayCount{{Start: noon, Provider: "gmail", Outcome: event.Delivered, Micros: 5}},
		Templates: []window.TemplateCount{{Hash: 1, Category: event.SPFFailed, Attempts: 3}},
		Lines:     window.Lines{Read: 7},
	})
	for range 3 {
		if err := l.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	l = reopened(t, l, open)
	if err := l.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	wantTotal(t, l, 3, 2)
	if n := lane(t, l, "a").Lines.Read; n != 7 {
		t.Errorf("%d lines, want 7", n)
	}
	if d := must(l.DomainCounts(t.Context(), 0, 0, 10))(t); len(d) != 1 || d[0].Attempts != 3 {
		t.Errorf("domains %+v, want 3 attempts", d)
	}
	if d := must(l.DelayTotals(t.Context()))(t); len(d) != 1 || d[0].Micros != 5 {
		t.Errorf("delays %+v, want 5 µs", d)
	}
	if d := must(l.Templates(t.Context(), ledger.TemplateFilter{}, 10))(t); len(d) != 1 || d[0].Attempts != 3 {
		t.Errorf("templates %+v, want 3 attempts", d)
	}
}

// A process that was left behind changes nothing.
func testCommitConflict(t *testing.T, open Open) {
	l := opened(t, open)
	stale := step(lane(t, l, "a"), &window.Delta{
		Counts: []window.Count{count(spfGmail, noon, 1, 1), count(expiredOne, noon, 1, 1)}, Lines: window.Lines{Read: 1},
	})
	stale.Position.Offset = 17
	stale.Upserts = []ledger.Entry{{Key: 1, Value: []byte("x")}}
	addCounts(t, l, count(sentGmail, noon, 5, 5))
	for range 2 {
		if err := l.Commit(t.Context(), stale); !errors.Is(err, ledger.ErrConflict) {
			t.Errorf("a commit from a position that is over gave %v, want ErrConflict", err)
		}
	}
	wantTotal(t, l, 5, 5)
	if at := lane(t, l, "a"); at.Position.Offset != 1 || at.Lines.Read != 0 {
		t.Errorf("the refused commit left the lane at %+v", at)
	}
	if n := len(entries(t, l, stale.Lane)); n != 0 {
		t.Errorf("the refused commit left %d entries", n)
	}
	// The same series are stored by the next good commit.
	addCounts(t, l, count(expiredOne, noon, 2, 1))
	wantTotal(t, l, 7, 6)

	// The segment is part of the position.
	at := lane(t, l, "a")
	other := step(at, &window.Delta{})
	other.Expected.Segment = "another"
	if err := l.Commit(t.Context(), other); !errors.Is(err, ledger.ErrConflict) {
		t.Errorf("a commit from another segment gave %v, want ErrConflict", err)
	}
	if err := l.Commit(t.Context(), &ledger.Commit{Lane: at.ID + 1000, Position: event.Position{Offset: 1}, Now: now}); err == nil {
		t.Error("a commit of a lane that does not exist was taken")
	}
}

// Without a move a repeat could not be told from a second commit.
func testCommitWithoutMove(t *testing.T, open Open) {
	l := opened(t, open)
	c := step(lane(t, l, "a"), &window.Delta{Counts: []window.Count{count(spfGmail, noon, 1, 1)}})
	c.Position = c.Expected
	if err := l.Commit(t.Context(), c); err == nil {
		t.Error("a commit that counts without moving the position was taken")
	}
	wantRows(t, l, ledger.Query{})
	c.Delta = nil
	c.Upserts = []ledger.Entry{{Key: 9, Value: []byte("v")}}
	for range 2 {
		if err := l.Commit(t.Context(), c); err != nil {
			t.Errorf("a commit of correlation alone: %v", err)
		}
	}
	if got := entries(t, l, c.Lane); got[9] != "v" {
		t.Errorf("entries %v, want 9: v", got)
	}
}

func testCommitCancelled(t *testing.T, open Open) {
	l := opened(t, open)
	c := step(lane(t, l, "a"), &window.Delta{Counts: []window.Count{count(spfGmail, noon, 1, 1)}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Commit(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("a commit whose context is done gave %v, want context.Canceled", err)
	}
	wantRows(t, l, ledger.Query{})
	if err := l.Commit(t.Context(), c); err != nil {
		t.Errorf("the same commit later: %v", err)
	}
	wantTotal(t, l, 1, 1)
}

func entries(t *testing.T, l Ledger, lane ledger.LaneID) map[uint64]string {
	t.Helper()
	m := make(map[uint64]string)
	if err := l.Entries(t.Context(), lane, func(e ledger.Entry) error {
		if _, twice := m[e.Key]; twice {
			t.Errorf("entry %d is yielded twice", e.Key)
		}
		m[e.Key] = string(e.Value)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return m
}

func testEntries(t *testing.T, open Open) {
	l := opened(t, open)
	c := step(lane(t, l, "a"), nil)
	want := make(map[uint64]string)
	for i := range 300 {
		key := uint64(i) * 0x9e3779b97f4a7c15 // also above the greatest int64
		v := fmt.Sprintf("\x00%d", i)
		want[key] = v
		c.Upserts = append(c.Upserts, ledger.Entry{Key: key, Value: []byte(v)})
	}
	c.Upserts = append(c.Upserts, ledger.Entry{Key: 3})
	want[3] = ""
	if err := l.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	add(t, l, "b", nil) // another lane, with the same keys
	other := step(lane(t, l, "b"), nil)
	other.Upserts = []ledger.Entry{{Key: 3, Value: []byte("other")}}
	if err := l.Commit(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	l = reopened(t, l, open)
	if d := cmp.Diff(want, entries(t, l, c.Lane)); d != "" {
		t.Errorf("entries (-want +got):\n%s", d)
	}
	c = step(lane(t, l, "a"), nil)
	for key := range want {
		switch key % 3 {
		case 0:
			c.Deletes = append(c.Deletes, key)
			delete(want, key)
		case 1:
			c.Upserts = append(c.Upserts, ledger.Entry{Key: key, Value: []byte("new")})
			want[key] = "new"
		}
	}
	c.Deletes = append(c.Deletes, 12345) // there is none
	if err := l.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, entries(t, l, c.Lane)); d != "" {
		t.Errorf("entries after changes (-want +got):\n%s", d)
	}
	if got := entries(t, l, other.Lane); len(got) != 1 || got[3] != "other" {
		t.Errorf("the other lane has %v", got)
	}
	stop := errors.New("stop")
	if err := l.Entries(t.Context(), c.Lane, func(ledger.Entry) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Entries returned %v, want the error of yield", err)
	}
}

func testQuery(t *testing.T, open Open) {
	l := opened(t, open)
	addCounts(t, l,
		count(spfGmail, noon, 30, 20), count(rateGmail, noon, 7, 1), count(sentGmail, noon, 500, 480),
		count(spfGmail, noon+minute, 3, 2), count(sentOther, noon+minute, 40, 40), count(expiredOne, noon+2*minute, 2, 0))
	add(t, l, "b", &window.Delta{Counts: []window.Count{count(spfGmail, noon, 1, 1)}})

	by := func(d ...ledger.Dimension) []ledger.Dimension { return d }
	row := func(attempts, firsts int64, keys ...string) ledger.Row {
		return ledger.Row{Keys: keys, Attempts: attempts, Firsts: firsts}
	}
	wantRows(t, l, ledger.Query{By: by(ledger.ByOutcome)},
		row(540, 520, "delivered"), row(34, 23, "bounced"), row(7, 1, "deferred"), row(2, 0, "expired"))
	wantRows(t, l, ledger.Query{By: by(ledger.ByLane)}, row(582, 543, "a"), row(1, 1, "b"))
	wantRows(t, l, ledger.Query{By: by(ledger.BySource)}, row(583, 544, "mta"))
	wantRows(t, l, ledger.Query{By: by(ledger.BySecondary, ledger.ByHost, ledger.ByStream), Where: map[ledger.Dimension][]string{ledger.ByOutcome: {"expired"}}},
		row(2, 0, "mailbox_full", "mx2.example", ""))
	wantRows(t, l, ledger.Query{By: by(ledger.BySenderDomain, ledger.ByProvider)},
		row(500, 480, "news.example", "gmail"), row(41, 24, "shop.example", "gmail"), row(40, 40, "", "yahoo"), row(2, 0, "(unknown)", "yahoo"))
	wantRows(t, l, ledger.Query{By: by(ledger.BySenderDomain), Limit: 2}, row(500, 480, "news.example"), row(41, 24, "shop.example"))
	wantRows(t, l, ledger.Query{By: by(ledger.ByLane, ledger.ByCategory, ledger.ByLane), Where: map[ledger.Dimension][]string{
		ledger.ByCategory: {"spf_failed", "rate_limited", "no such"}, ledger.ByLane: {"a"}}},
		row(33, 22, "a", "spf_failed", "a"), row(7, 1, "a", "rate_limited", "a"))
	// The null sender is a name like any other.
	wantRows(t, l, ledger.Query{Where: map[ledger.Dimension][]string{ledger.BySenderDomain: {""}}}, row(40, 40, []string{}...))
	wantRows(t, l, ledger.Query{Where: map[ledger.Dimension][]string{ledger.ByCategory: {}}})
	wantRows(t, l, ledger.Query{Where: map[ledger.Dimension][]string{ledger.BySource: {"other"}}})
	wantRows(t, l, ledger.Query{By: by(ledger.ByProvider), Where: map[ledger.Dimension][]string{ledger.ByCategory: {"' OR 1=1 --"}}})

	// Bounds: since is in, until is out.
	wantRows(t, l, ledger.Query{Since: noon + minute, Until: noon + 2*minute, By: by(ledger.ByProvider)}, row(40, 40, "yahoo"), row(3, 2, "gmail"))
	wantRows(t, l, ledger.Query{Since: noon + 3*minute})
	wantRows(t, l, ledger.Query{Until: noon})

	at := func(start int64, r ledger.Row) ledger.Row { r.Start = start; return r }
	wantRows(t, l, ledger.Query{By: by(ledger.ByProvider), Step: minute},
		at(noon, row(538, 502, "gmail")),
		at(noon+minute, row(40, 40, "yahoo")), at(noon+minute, row(3, 2, "gmail")),
		at(noon+2*minute, row(2, 0, "yahoo")))
	wantRows(t, l, ledger.Query{By: by(ledger.ByProvider), Step: minute, Limit: 2}, at(noon, row(538, 502, "gmail")), at(noon+minute, row(40, 40, "yahoo")))
	slot := noon - noon%(7*minute)
	wantRows(t, l, ledger.Query{Step: 7 * minute}, at(slot, row(583, 544, []string{}...)))
	wantRows(t, l, ledger.Query{Step: day}, at(noon-12*hour, row(583, 544, []string{}...)))
}

func testQueryErrors(t *testing.T, open Open) {
	l := opened(t, open)
	for _, q := range []ledger.Query{
		{Step: -1}, {Limit: -1}, {By: []ledger.Dimension{ledger.Dimensions}},
		{Where: map[ledger.Dimension][]string{ledger.Dimensions + 3: {"x"}}},
	} {
		if _, err := l.Query(t.Context(), q); err == nil {
			t.Errorf("Query(%+v) gave no error", q)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Query(ctx, ledger.Query{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a query whose context is done gave %v, want context.Canceled", err)
	}
}

// keep is a retention that is short enough to see its effects.
var keep = ledger.Retention{
	Minutes: 6 * time.Hour, Hours: 3 * 24 * time.Hour, Days: 10 * 24 * time.Hour,
	Templates: 30 * 24 * time.Hour, TemplatesPerCategory: 3, Domains: 5 * 24 * time.Hour,
}

func rollup(t *testing.T, l Ledger, at time.Time) {
	t.Helper()
	if _, err := l.Rollup(t.Context(), keep, at); err != nil {
		t.Fatalf("roll-up: %v", err)
	}
}

func testRollup(t *testing.T, open Open) {
	l := opened(t, open)
	times := []int64{noon, noon - hour + minute, noon - 7*hour + minute, noon - 2*day, noon - 5*day + 3*hour, noon - 20*day, noon - 400*day}
	for _, at := range times {
		addCounts(t, l, count(spfGmail, at, 2, 1), count(sentGmail, at, 10, 9))
	}
	q := ledger.Query{Step: minute, Where: map[ledger.Dimension][]string{ledger.ByOutcome: {"bounced"}}}
	check := func() {
		t.Helper()
		row := func(start, attempts, firsts int64) ledger.Row {
			return ledger.Row{Start: start, Keys: []string{}, Attempts: attempts, Firsts: firsts}
		}
		wantRows(t, l, q,
			row(0, 4, 2),                                  // beyond days: no time
			row(noon-5*day-12*hour, 2, 1),                 // beyond hours: by day
			row(noon-2*day, 2, 1), row(noon-7*hour, 2, 1), // beyond minutes: by hour
			row(noon-hour+minute, 2, 1), row(noon, 2, 1))
		wantTotal(t, l, 12*int64(len(times)), 10*int64(len(times)))
	}
	rollup(t, l, now)
	check()
	rollup(t, l, now) // again
	rollup(t, l, now.Add(-48*time.Hour))
	check()
	l = reopened(t, l, open)
	check()
	// What is rolled up stays so, though more is kept from now on.
	if _, err := l.Rollup(t.Context(), ledger.DefaultRetention, now); err != nil {
		t.Fatal(err)
	}
	check()
	// Counts without a time are in no range.
	wantRows(t, l, ledger.Query{Since: 1}, ledger.Row{Keys: []string{}, Attempts: 60, Firsts: 50})
	wantRows(t, l, ledger.Query{Until: noon - 300*day}, ledger.Row{Keys: []string{}, Attempts: 24, Firsts: 20})
	// A year later only totals are left.
	rollup(t, l, now.Add(366*24*time.Hour))
	wantTotal(t, l, 84, 70)
	wantRows(t, l, ledger.Query{Since: 1})
}

// Counts that come after their time was rolled up are found where it is, whether
// they were counted by the minute or, where no minutes are kept, by the hour or day.
func testLate(t *testing.T, open Open) {
	l := opened(t, open)
	addCounts(t, l, count(sentGmail, noon, 1, 1))
	kept, err := l.Rollup(t.Context(), keep, now)
	if want := (ledger.Kept{Minutes: noon - 6*hour, Hours: noon - 3*day - 12*hour}); err != nil || kept != want {
		t.Fatalf("kept %v, error %v, want %v", kept, err, want)
	}
	late := []int64{noon - hour + 2*minute, noon - 8*hour + minute, noon - 4*day, noon - 50*day}
	for _, at := range late {
		addCounts(t, l, count(spfGmail, at, 1, 0))
		switch {
		case at < kept.Hours:
			at = floor(at, day)
		case at < kept.Minutes:
			at = floor(at, hour)
		}
		addCounts(t, l, count(spfGmail, at, 2, 1))
	}
	check := func() {
		t.Helper()
		wantTotal(t, l, 13, 5)
		wantRows(t, l, ledger.Query{Step: hour, By: []ledger.Dimension{ledger.ByCategory}},
			ledger.Row{Start: 0, Keys: []string{"spf_failed"}, Attempts: 3, Firsts: 1},
			ledger.Row{Start: noon - 4*day - 12*hour, Keys: []string{"spf_failed"}, Attempts: 3, Firsts: 1},
			ledger.Row{Start: noon - 8*hour, Keys: []string{"spf_failed"}, Attempts: 3, Firsts: 1},
			ledger.Row{Start: noon - hour, Keys: []string{"spf_failed"}, Attempts: 3, Firsts: 1},
			ledger.Row{Start: noon, Keys: []string{""}, Attempts: 1, Firsts: 1})
		wantRows(t, l, ledger.Query{Since: noon - hour + 2*minute, Until: noon}, ledger.Row{Keys: []string{}, Attempts: 3, Firsts: 1})
	}
	check()
	rollup(t, l, now)
	check()
	l = reopened(t, l, open)
	check()
}

func testTotals(t *testing.T, open Open) {
	l := opened(t, open)
	for _, at := range []int64{noon, noon - hour, noon - 30*day} {
		add(t, l, "a", &window.Delta{Counts: []window.Count{count(spfGmail, at, 2, 1), count(sentOther, at, 10, 9)}})
		add(t, l, "b", &window.Delta{Counts: []window.Count{count(spfGmail, at, 1, 0)}})
		rollup(t, l, now)
	}
	got := make(map[ledger.Total]int)
	if err := ledger.Totals(t.Context(), l.Query, func(total ledger.Total) error { got[total]++; return nil }); err != nil {
		t.Fatal(err)
	}
	want := map[ledger.Total]int{
		{Outcome: "bounced", Category: "spf_failed", Provider: "gmail", SenderDomain: "shop.example", Attempts: 9, Firsts: 3}: 1,
		{Outcome: "delivered", Provider: "yahoo", Attempts: 30, Firsts: 27}:                                                   1,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("totals (-want +got):\n%s", d)
	}
	stop := errors.New("stop")
	if err := ledger.Totals(t.Context(), l.Query, func(ledger.Total) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Totals returned %v, want the error of yield", err)
	}
}

func testDelays(t *testing.T, open Open) {
	l := opened(t, open)
	var want ledger.DelayTotal
	for i, at := range []int64{noon, noon + minute, noon - 4*day, noon - 100*day} {
		d := window.DelayCount{Start: at - at%hour, Provider: "gmail", Outcome: event.Delivered, Micros: int64(1000 * (i + 1))}
		for b := range d.Buckets {
			d.Buckets[b] = int64(b * (i + 1))
			want.Buckets[b] += d.Buckets[b]
		}
		want.Micros += d.Micros
		add(t, l, "a", &window.Delta{Delays: []window.DelayCount{d, {Start: d.Start, Provider: "yahoo", Outcome: event.Bounced, Micros: 1}}})
	}
	want.Provider, want.Outcome = "gmail", "delivered"
	all := []ledger.DelayTotal{want, {Provider: "yahoo", Outcome: "bounced", Micros: 4}}
	for range 3 {
		if d := cmp.Diff(all, must(l.DelayTotals(t.Context()))(t)); d != "" {
			t.Errorf("delays (-want +got):\n%s", d)
		}
		rollup(t, l, now)
		now := now.Add(24 * time.Hour)
		rollup(t, l, now)
	}
}

func testDomains(t *testing.T, open Open) {
	l := opened(t, open)
	at := func(start int64, domain string, o event.Outcome, c event.Category, n int64) window.DomainCount {
		return window.DomainCount{Start: start, Domain: domain, Outcome: o, Category: c, Attempts: n}
	}
	add(t, l, "a", &window.Delta{Domains: []window.DomainCount{
		at(noon, "b.example", event.Delivered, event.Unset, 5), at(noon, "a.example", event.Delivered, event.Unset, 5),
		at(noon, "a.example", event.Bounced, event.UserUnknown, 7), at(noon-hour, "a.example", event.Delivered, event.Unset, 4),
		at(noon-2*day, "c.example", event.Deferred, event.Greylisted, 1), at(noon-2*day+hour, "c.example", event.Deferred, event.Greylisted, 2),
		at(noon-6*day, "old.example", event.Delivered, event.Unset, 1000),
	}})
	want := func(since, until int64, limit int, rows ...ledger.DomainTotal) {
		t.Helper()
		if d := cmp.Diff(rows, must(l.DomainCounts(t.Context(), since, until, limit))(t)); d != "" {
			t.Errorf("domains (-want +got):\n%s", d)
		}
	}
	a := []ledger.DomainTotal{{Domain: "a.example", Outcome: "delivered", Attempts: 9}, {Domain: "a.example", Outcome: "bounced", Category: "user_unknown", Attempts: 7}}
	b := ledger.DomainTotal{Domain: "b.example", Outcome: "delivered", Attempts: 5}
	c := ledger.DomainTotal{Domain: "c.example", Outcome: "deferred", Category: "greylisted", Attempts: 3}
	want(0, 0, 1, ledger.DomainTotal{Domain: "old.example", Outcome: "delivered", Attempts: 1000})
	want(noon-day, 0, 1, a...)
	want(noon-day, 0, 10, append(a, b)...)
	want(noon-hour, noon, 10, ledger.DomainTotal{Domain: "a.example", Outcome: "delivered", Attempts: 4})
	for range 2 { // old ones go, others are by day after their retention of minutes
		rollup(t, l, now)
		want(0, 0, 10, append(a, b, c)...)
		want(0, noon-day, 10, c)
		want(noon-2*day, noon-day, 10)
		want(noon-2*day-12*hour, noon-day, 10, c)
	}
}

func testTemplates(t *testing.T, open Open) {
	l := opened(t, open)
	tc := func(hash uint64, c event.Category, provider, text string, n, first, last int64) window.TemplateCount {
		return window.TemplateCount{Hash: hash, Category: c, Provider: provider, Rule: "r1", Text: text, Attempts: n, First: first, Last: last}
	}
	const big = 1<<64 - 3
	add(t, l, "a", &window.Delta{Templates: []window.TemplateCount{
		tc(big, event.SPFFailed, "gmail", "first sample", 3, noon-9, noon), tc(2, event.SPFFailed, "yahoo", "x", 9, noon, noon),
		tc(3, event.Greylisted, "gmail", "y", 1, noon-40*day, noon-31*day),
	}})
	again := tc(big, event.SPFFailed, "gmail", "second sample", 4, noon-20, noon-10)
	again.Rule = "r2"
	add(t, l, "b", &window.Delta{Templates: []window.TemplateCount{again}})
	want := func(f ledger.TemplateFilter, limit int, rows ...ledger.Template) {
		t.Helper()
		if d := cmp.Diff(rows, must(l.Templates(t.Context(), f, limit))(t)); d != "" {
			t.Errorf("templates %+v (-want +got):\n%s", f, d)
		}
	}
	spf := ledger.Template{Hash: big, Category: "spf_failed", Provider: "gmail", Rule: "r2", Text: "first sample", Attempts: 7, First: noon - 20, Last: noon}
	yahoo := ledger.Template{Hash: 2, Category: "spf_failed", Provider: "yahoo", Rule: "r1", Text: "x", Attempts: 9, First: noon, Last: noon}
	old := ledger.Template{Hash: 3, Category: "greylisted", Provider: "gmail", Rule: "r1", Text: "y", Attempts: 1, First: noon - 40*day, Last: noon - 31*day}
	want(ledger.TemplateFilter{}, 10, yahoo, spf, old)
	want(ledger.TemplateFilter{}, 1, yahoo)
	want(ledger.TemplateFilter{Provider: "gmail"}, 10, spf, old)
	want(ledger.TemplateFilter{Category: "spf_failed"}, 10, yahoo, spf)
	want(ledger.TemplateFilter{Category: "spf_failed", Provider: "gmail"}, 10, spf)
	rollup(t, l, now)
	want(ledger.TemplateFilter{}, 10, yahoo, spf)
}

// Of each category the most frequent wordings stay, and the newest: a wording
// that has just appeared is what people look for.
func testTemplatesNew(t *testing.T, open Open) {
	l := opened(t, open)
	var all []window.TemplateCount
	for i := range 10 {
		// The more frequent, the longer ago.
		at := noon - 2*day - int64(i)*hour
		all = append(all, window.TemplateCount{Hash: uint64(100 + i), Category: event.Policy, Attempts: int64(10 + i), First: at, Last: at})
	}
	all = append(all,
		window.TemplateCount{Hash: 1, Category: event.Policy, Attempts: 1, First: noon, Last: noon},
		window.TemplateCount{Hash: 2, Category: event.Malware, Attempts: 1, First: noon - 2*day, Last: noon - 2*day})
	add(t, l, "a", &window.Delta{Templates: all})
	for range 2 {
		rollup(t, l, now)
		var got []uint64
		for _, x := range must(l.Templates(t.Context(), ledger.TemplateFilter{}, 100))(t) {
			got = append(got, x.Hash)
		}
		if d := cmp.Diff([]uint64{109, 108, 107, 2, 1}, got); d != "" {
			t.Errorf("templates kept (-want +got):\n%s", d)
		}
	}
}

func testNames(t *testing.T, open Open) {
	l := opened(t, open)
	want := func(d ledger.Dimension, limit int, names ...string) {
		t.Helper()
		if diff := cmp.Diff(names, must(l.Names(t.Context(), d, limit))(t)); diff != "" {
			t.Errorf("names of dimension %d (-want +got):\n%s", d, diff)
		}
	}
	want(ledger.BySenderDomain, 10)
	addCounts(t, l, count(sentOther, noon-hour, 1, 1), count(sentGmail, noon-2*day, 50, 50), count(expiredOne, noon-30*day, 1, 1), count(sentGmail, noon-30*day, 50, 50))
	addCounts(t, l, count(spfGmail, noon, 1, 1), count(spfGmail, noon-30*day, 1, 1))
	for range 2 {
		want(ledger.BySenderDomain, 10, "shop.example", "", "news.example", "(unknown)")
		want(ledger.BySenderDomain, 3, "shop.example", "", "news.example")
		want(ledger.ByHost, 10, "mx1.example", "mx2.example")
		want(ledger.ByStream, 1, "postfix")
		rollup(t, l, now)
	}
	if _, err := l.Names(t.Context(), ledger.ByLane, 10); err == nil {
		t.Error("names of lanes gave no error")
	}
}

// Lanes commit at once while others read and roll up; every query sees whole
// commits.
func testConcurrent(t *testing.T, open Open) {
	l := opened(t, open)
	const lanes, commits = 4, 25
	done := make(chan struct{})
	var writers, readers sync.WaitGroup
	for i := range lanes {
		at := lane(t, l, fmt.Sprint(i))
		writers.Go(func() {
			for k := range commits {
				c := step(at, &window.Delta{Counts: []window.Count{
					count(spfGmail, noon-int64(k)*hour, 1, 1), count(sentGmail, noon+int64(k)*minute, 1, 1),
				}})
				if err := l.Commit(t.Context(), c); err != nil {
					t.Errorf("commit: %v", err)
					return
				}
				at.Position = c.Position
			}
		})
	}
	readers.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			rows, err := l.Query(t.Context(), ledger.Query{By: []ledger.Dimension{ledger.ByOutcome, ledger.ByLane}})
			if err != nil {
				t.Errorf("query: %v", err)
				return
			}
			sums := make(map[string][]int64)
			for _, r := range rows {
				sums[r.Keys[1]] = append(sums[r.Keys[1]], r.Attempts)
			}
			for lane, s := range sums {
				if len(s) != 2 || s[0] != s[1] {
					t.Errorf("lane %s: a query saw %v of commits that count 1 and 1", lane, s)
				}
			}
		}
	})
	readers.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			if _, err := l.Rollup(t.Context(), keep, now.Add(time.Duration(i)*time.Minute)); err != nil {
				t.Errorf("roll-up: %v", err)
				return
			}
		}
	})
	writers.Wait()
	close(done)
	readers.Wait()
	wantTotal(t, l, 2*lanes*commits, 2*lanes*commits)
}

func testClosed(t *testing.T, open Open) {
	l := must(open())(t)
	at := lane(t, l, "a")
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	if err := l.Commit(t.Context(), step(at, nil)); err == nil {
		t.Error("a commit after Close gave no error")
	}
	if _, err := l.Query(t.Context(), ledger.Query{}); err == nil {
		t.Error("a query after Close gave no error")
	}
	if _, err := l.Rollup(t.Context(), keep, now); err == nil {
		t.Error("a roll-up after Close gave no error")
	}
}
