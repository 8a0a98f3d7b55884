package ledgertest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// Start is when the traffic of a busy site begins.
var Start = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).Unix()

// ManySeries makes n series that differ as those of a busy site do.
func ManySeries(n int) []*window.Series {
	categories := event.Categories()
	all := make([]*window.Series, n)
	for i := range all {
		all[i] = &window.Series{
			Outcome: event.Outcomes[i%4], Category: categories[i%len(categories)], SenderDomain: fmt.Sprintf("sender%d.example", i/40),
			Route: &window.Route{Provider: fmt.Sprintf("provider%d", i%30), Host: fmt.Sprintf("mx%d.example", i%4), Stream: "postfix"},
		}
	}
	return all
}

// Committer commits to one lane.
type Committer struct {
	tb testing.TB
	l  Ledger
	At ledger.Lane // as it was left
}

// NewCommitter goes on with the lane called name.
func NewCommitter(tb testing.TB, l Ledger, name string) *Committer {
	tb.Helper()
	at, err := l.Lane(context.Background(), "mta", name)
	if err != nil {
		tb.Fatal(err)
	}
	return &Committer{tb, l, at}
}

// Commit commits and moves the lane's offset by one.
func (c *Committer) Commit(d *window.Delta, upserts []ledger.Entry, deletes []uint64) {
	c.tb.Helper()
	next := event.Position{Segment: "s", Offset: c.At.Position.Offset + 1}
	if err := c.l.Commit(context.Background(), &ledger.Commit{
		Lane: c.At.ID, Expected: c.At.Position, Position: next, Delta: d, Upserts: upserts, Deletes: deletes, Now: time.Unix(Start, 0),
	}); err != nil {
		c.tb.Fatal(err)
	}
	c.At.Position = next
}

// Fill counts days of 20,000 series, of which some are busy and most are not, as
// domains are: about perMinute of them in each minute.
func Fill(tb testing.TB, l Ledger, days, perMinute int) {
	tb.Helper()
	series := ManySeries(20_000)
	r := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(r, 1.1, 20, uint64(len(series)-1))
	c := NewCommitter(tb, l, "a")
	d := &window.Delta{}
	seen := make(map[*window.Series]int)
	for at := Start; at < Start+int64(days)*day; at += minute {
		clear(seen)
		for range perMinute {
			s := series[zipf.Uint64()]
			if i, ok := seen[s]; ok {
				d.Counts[i].Attempts++
				continue
			}
			seen[s] = len(d.Counts)
			d.Counts = append(d.Counts, window.Count{Series: s, Start: at, Attempts: 1, Firsts: 1})
		}
		if (at+minute)%hour == 0 {
			c.Commit(d, nil, nil)
			d.Counts = d.Counts[:0]
			if _, err := l.Rollup(context.Background(), ledger.DefaultRetention, time.Unix(at+minute, 0)); err != nil {
				tb.Fatal(err)
			}
		}
	}
}

// BenchmarkCommit commits few rows and many to ledgers that open returns.
func BenchmarkCommit(b *testing.B, open func(b *testing.B) Ledger) {
	for _, rows := range []int{1, 500, 5_000, 100_000} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			c := NewCommitter(b, open(b), fmt.Sprint("rows ", rows))
			// A commit spans a minute or a few, each with many series.
			series := ManySeries(min(rows, 20_000))
			d := &window.Delta{Counts: make([]window.Count, rows)}
			fill := func(i int) {
				for k := range d.Counts {
					at := Start + int64(i/3)*minute + int64(k/len(series))*minute
					d.Counts[k] = window.Count{Series: series[k%len(series)], Start: at, Attempts: int64(k % 300), Firsts: int64(k % 2)}
				}
				rand.Shuffle(len(d.Counts), func(i, j int) { d.Counts[i], d.Counts[j] = d.Counts[j], d.Counts[i] })
			}
			fill(0)
			c.Commit(d, nil, nil)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				fill(i)
				b.StartTimer()
				c.Commit(d, nil, nil)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/row")
		})
	}
}

// BenchmarkQuery asks what a page asks, of a ledger that Fill has filled with days.
func BenchmarkQuery(b *testing.B, l Ledger, days int) {
	by := func(d ...ledger.Dimension) []ledger.Dimension { return d }
	spf := map[ledger.Dimension][]string{ledger.ByCategory: {"spf_failed"}}
	now := Start + int64(days)*day - 11*hour - 17*minute - 20 // in the middle of a day, an hour and a minute
	for _, q := range []struct {
		name string
		days int // that it needs
		ledger.Query
	}{
		{"CategoryOver1h", 1, ledger.Query{Since: now - hour, By: by(ledger.ByCategory)}},
		{"CategoryOver24h", 2, ledger.Query{Since: now - day, By: by(ledger.ByCategory)}},
		{"ProviderOfCategoryOver24h", 2, ledger.Query{Since: now - day, By: by(ledger.ByProvider), Where: spf}},
		{"SenderDomainOver24h", 2, ledger.Query{Since: now - day, By: by(ledger.BySenderDomain), Limit: 20}},
		{"ByMinuteOver1h", 1, ledger.Query{Since: now - hour, Step: minute, By: by(ledger.ByOutcome)}},
		{"By5MinutesOver24h", 2, ledger.Query{Since: now - day, Step: 5 * minute, By: by(ledger.ByOutcome)}},
		{"By1hOver24h", 2, ledger.Query{Since: now - day, Step: hour, By: by(ledger.ByOutcome)}},
		{"By6hOver7d", 8, ledger.Query{Since: now - 7*day, Step: 6 * hour, By: by(ledger.ByOutcome)}},
		{"By1dOver30d", 30, ledger.Query{Since: now - 30*day, Step: day, By: by(ledger.ByCategory)}},
		{"CategoryOver30d", 30, ledger.Query{Since: now - 30*day, By: by(ledger.ByCategory)}},
		{"All", 1, ledger.Query{By: by(ledger.ByOutcome)}},
	} {
		if q.days > days {
			continue
		}
		b.Run(q.name, func(b *testing.B) {
			if q.Since != 0 {
				q.Until = now
			}
			b.ReportAllocs()
			for b.Loop() {
				if rows, err := l.Query(context.Background(), q.Query); err != nil || len(rows) == 0 {
					b.Fatal(rows, err)
				}
			}
		})
	}
	for _, q := range []struct {
		name string
		ask  func(ctx context.Context) error
	}{
		{"WindowsOver1h", func(ctx context.Context) error {
			return l.Windows(ctx, now/minute*minute-hour, now/minute*minute, func(*ledger.Window) error { return nil })
		}},
		{"Totals", func(ctx context.Context) error {
			return ledger.Totals(ctx, l.Query, func(ledger.Total) error { return nil })
		}},
		{"Names", func(ctx context.Context) error { _, err := l.Names(ctx, ledger.BySenderDomain, 1000); return err }},
	} {
		b.Run(q.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := q.ask(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
