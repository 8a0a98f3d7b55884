package cache_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/cache"
	"github.com/bouncemeter/bouncemeter/ledger/sqlite"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

const (
	minute = 60
	hour   = 60 * minute
	day    = 24 * hour
)

var now = time.Date(2026, 3, 20, 13, 22, 40, 0, time.UTC)

// plain is a ledger that answers by going through all counts.
type plain struct {
	counts []window.Count
	asked  []ledger.Query
	err    error
}

func (p *plain) Query(_ context.Context, q ledger.Query) ([]ledger.Row, error) {
	p.asked = append(p.asked, q)
	if p.err != nil {
		return nil, p.err
	}
	sums := map[string]*ledger.Row{}
next:
	for _, c := range p.counts {
		if c.Start < q.Since || q.Until != 0 && c.Start >= q.Until {
			continue
		}
		name := func(d ledger.Dimension) string {
			s := c.Series
			return map[ledger.Dimension]string{
				ledger.ByOutcome: s.Outcome.String(), ledger.ByCategory: s.Category.String(), ledger.BySecondary: s.Secondary.String(),
				ledger.ByProvider: s.Provider, ledger.BySenderDomain: s.SenderDomain, ledger.ByHost: s.Host, ledger.ByStream: s.Stream,
			}[d]
		}
		for d, values := range q.Where {
			if !slices.Contains(values, name(d)) {
				continue next
			}
		}
		r := ledger.Row{Keys: []string{}}
		if q.Step > 0 {
			r.Start = c.Start - c.Start%q.Step
		}
		for _, d := range q.By {
			r.Keys = append(r.Keys, name(d))
		}
		key := fmt.Sprint(r.Start, r.Keys)
		if sums[key] == nil {
			sums[key] = &r
		}
		sums[key].Attempts += c.Attempts
		sums[key].Firsts += c.Firsts
	}
	rows := []ledger.Row{}
	for _, r := range sums {
		rows = append(rows, *r)
	}
	slices.SortFunc(rows, func(a, b ledger.Row) int {
		if a.Start != b.Start {
			return int(a.Start - b.Start)
		}
		if a.Attempts != b.Attempts {
			return int(b.Attempts - a.Attempts)
		}
		return slices.Compare(a.Keys, b.Keys)
	})
	return rows, nil
}

var series = func() (all []*window.Series) {
	for i := range 24 {
		all = append(all, &window.Series{
			Outcome: event.Outcomes[i%3], Category: event.Category(i % 5), SenderDomain: fmt.Sprintf("d%d.example", i%7),
			Route: &window.Route{Provider: []string{"gmail", "yahoo"}[i%2], Host: "mx1", Stream: "postfix"},
		})
	}
	return all
}()

func drawQuery(t *rapid.T) ledger.Query {
	until := now.Unix() - now.Unix()%cache.Finest + cache.Finest - int64(rapid.IntRange(0, 600).Draw(t, "end"))*cache.Finest
	q := ledger.Query{
		Until: until, Since: until - int64(rapid.IntRange(1, 6*288).Draw(t, "span"))*cache.Finest,
		Step: rapid.SampledFrom([]int64{0, 300, 600, hour, 6 * hour, day}).Draw(t, "step"),
		By:   rapid.SampledFrom([][]ledger.Dimension{nil, {ledger.ByOutcome}, {ledger.ByProvider, ledger.ByCategory}, {ledger.BySenderDomain}}).Draw(t, "by"),
	}
	if rapid.Bool().Draw(t, "filter") {
		q.Where = map[ledger.Dimension][]string{ledger.ByProvider: {"gmail"}}
	}
	return q
}

// TestEqualsLedger checks that answers are those of the ledger, whatever is
// committed and asked for in between, and however little memory there is.
func TestEqualsLedger(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := &plain{}
		clock := now
		c := cache.New(l, cache.Options{
			Now:      func() time.Time { return clock },
			MaxBytes: rapid.SampledFrom([]int{1, 4000, 1 << 20}).Draw(t, "memory"),
		})
		t.Repeat(map[string]func(*rapid.T){
			"commit": func(t *rapid.T) {
				var d window.Delta
				for range rapid.IntRange(1, 30).Draw(t, "rows") {
					d.Counts = append(d.Counts, window.Count{
						Series: rapid.SampledFrom(series).Draw(t, "series"), Attempts: rapid.Int64Range(0, 1e6).Draw(t, "attempts"), Firsts: 1,
						Start: now.Unix()/minute*minute - rapid.Int64Range(0, 7*24*60).Draw(t, "ago")*minute,
					})
				}
				l.counts = append(l.counts, d.Counts...)
				c.Committed("mta", &d)
				clock = clock.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second)
			},
			"query": func(t *rapid.T) {
				q := drawQuery(t)
				got, err := c.Query(context.Background(), q)
				if err != nil {
					t.Fatal(err)
				}
				want, _ := l.Query(context.Background(), q)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatal(diff)
				}
			},
			"warm": func(t *rapid.T) {
				q := drawQuery(t)
				if err := c.Warm(context.Background(), q.Since, q.Until, q.Step); err != nil {
					t.Fatal(err)
				}
			},
		})
	})
}

func lastDay() ledger.Query {
	until := now.Unix() - now.Unix()%cache.Finest + cache.Finest
	return ledger.Query{Since: until - day, Until: until, Step: cache.Finest, By: []ledger.Dimension{ledger.ByOutcome}}
}

// TestReadsOnlyChanges checks that what is known is not read again.
func TestReadsOnlyChanges(t *testing.T) {
	l := &plain{counts: []window.Count{{Series: series[0], Start: now.Unix() - hour, Attempts: 1}}}
	clock := now
	c := cache.New(l, cache.Options{Now: func() time.Time { return clock }})
	ask := func(q ledger.Query) (read int64) {
		t.Helper()
		l.asked = nil
		if _, err := c.Query(context.Background(), q); err != nil {
			t.Fatal(err)
		}
		for _, q := range l.asked {
			read += q.Until - q.Since
		}
		return read
	}
	if n := ask(lastDay()); n != day {
		t.Errorf("at first %d seconds are read, want a day", n)
	}
	if n := ask(lastDay()); n != 0 {
		t.Errorf("%d seconds are read again", n)
	}
	c.Committed("mta", &window.Delta{Counts: []window.Count{{Series: series[0], Start: now.Unix()/minute*minute - hour}, {Series: series[1], Start: now.Unix() / minute * minute}}})
	if n := ask(lastDay()); n != 2*cache.Finest {
		t.Errorf("after changes of two slots %d seconds are read", n)
	}
	// Nothing that goes on is read as a whole hour or day.
	byHour := lastDay()
	byHour.Step = 0
	ask(byHour)
	c.Committed("mta", &window.Delta{Counts: []window.Count{{Series: series[0], Start: now.Unix() / minute * minute}}})
	if n := ask(byHour); n != cache.Finest {
		t.Errorf("after a change of the present slot %d seconds are read", n)
	}
	// A flood of changes is as good as one of everything.
	var flood window.Delta
	for i := range int64(20_000) {
		flood.Counts = append(flood.Counts, window.Count{Series: series[0], Start: i * cache.Finest})
	}
	c.Committed("mta", &flood)
	if n := ask(lastDay()); n != day {
		t.Errorf("after a flood of changes %d seconds are read, want a day", n)
	}
}

// TestShared checks that the commits of other processes are seen in time.
func TestShared(t *testing.T) {
	l := &plain{}
	clock := now
	c := cache.New(l, cache.Options{Now: func() time.Time { return clock }, Shared: 15 * time.Second})
	sum := func() (n int64) {
		rows, err := c.Query(context.Background(), lastDay())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			n += r.Attempts
		}
		return n
	}
	sum()
	l.counts = []window.Count{{Series: series[0], Start: now.Unix() - 10*minute, Attempts: 1}, {Series: series[0], Start: now.Unix() - 10*hour, Attempts: 10}}
	if got := sum(); got != 0 {
		t.Errorf("at once there are %d", got)
	}
	clock = clock.Add(15 * time.Second)
	if got := sum(); got != 1 {
		t.Errorf("after 15 s there are %d, want the recent 1", got)
	}
	clock = clock.Add(5 * time.Minute)
	if got := sum(); got != 11 {
		t.Errorf("after 5 minutes there are %d, want 11", got)
	}
}

// TestPassesOn checks that what slots cannot tell is asked of the ledger itself.
func TestPassesOn(t *testing.T) {
	l := &plain{}
	c := cache.New(l, cache.Options{Now: func() time.Time { return now }})
	for name, change := range map[string]func(*ledger.Query){
		"minutes":  func(q *ledger.Query) { q.Step = minute },
		"ragged":   func(q *ledger.Query) { q.Since += 60 },
		"no start": func(q *ledger.Query) { q.Since = 0 },
		"no end":   func(q *ledger.Query) { q.Until = 0 },
		"lanes":    func(q *ledger.Query) { q.By = []ledger.Dimension{ledger.BySource} },
		"a source": func(q *ledger.Query) { q.Where = map[ledger.Dimension][]string{ledger.BySource: {"mta"}} },
		"old":      func(q *ledger.Query) { q.Since -= 10 * day; q.Until -= 10 * day },
	} {
		q := lastDay()
		change(&q)
		l.asked = nil
		if _, err := c.Query(context.Background(), q); err != nil {
			t.Fatal(err)
		}
		if len(l.asked) != 1 || cmp.Diff(q, l.asked[0]) != "" {
			t.Errorf("%s: the ledger is asked %+v", name, l.asked)
		}
	}
}

func TestErrorIsPassedOn(t *testing.T) {
	l := &plain{err: errors.New("disk is gone")}
	c := cache.New(l, cache.Options{Now: func() time.Time { return now }})
	if _, err := c.Query(context.Background(), lastDay()); err == nil || !strings.Contains(err.Error(), "disk is gone") {
		t.Errorf("error %v", err)
	}
	l.err = nil
	if _, err := c.Query(context.Background(), lastDay()); err != nil {
		t.Errorf("after the fault is over: %v", err)
	}
}

// BenchmarkQuery asks what a page asks. BOUNCEMETER_BENCH_LEDGER is a ledger
// that ledger/sqlite's benchmark of the same name has left: 30 days of 20,000
// series.
func BenchmarkQuery(b *testing.B) {
	path := os.Getenv("BOUNCEMETER_BENCH_LEDGER")
	if path == "" {
		b.Skip("BOUNCEMETER_BENCH_LEDGER is not set")
	}
	l, err := sqlite.OpenReadOnly(context.Background(), path, sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	end := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).Unix() + 30*day
	at := end - 11*hour - 15*minute
	c := cache.New(l, cache.Options{Now: func() time.Time { return time.Unix(at, 0) }})
	for _, q := range []struct {
		name string
		ledger.Query
	}{
		{"By5MinutesOver24h", ledger.Query{Since: at - day, Step: 300, By: []ledger.Dimension{ledger.ByOutcome, ledger.ByCategory}}},
		{"SenderDomainOver24h", ledger.Query{Since: at - day, By: []ledger.Dimension{ledger.BySenderDomain}}},
		{"By1hOver7d", ledger.Query{Since: at - 7*day, Step: hour, By: []ledger.Dimension{ledger.ByOutcome, ledger.ByCategory}}},
		{"By1dOver30d", ledger.Query{Since: (at - 29*day) / day * day, Step: day, By: []ledger.Dimension{ledger.ByOutcome, ledger.ByCategory}}},
	} {
		q.Until = at
		b.Run(q.name+"/cold", func(b *testing.B) {
			for b.Loop() {
				fresh := cache.New(l, cache.Options{Now: func() time.Time { return time.Unix(at, 0) }})
				if _, err := fresh.Query(context.Background(), q.Query); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(q.name, func(b *testing.B) {
			if err := c.Warm(context.Background(), q.Since, q.Until, q.Step); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Query(context.Background(), q.Query); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(c.Bytes()), "cachebytes")
		})
	}
}
