package sqlite_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/sqlite"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

const (
	minute = 60
	hour   = 60 * minute
	day    = 24 * hour
)

var start = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).Unix()

// manySeries makes n series that differ as those of a busy site do.
func manySeries(n int) []*window.Series {
	categories := event.Categories()
	all := make([]*window.Series, n)
	for i := range all {
		all[i] = &window.Series{
			Outcome: event.Outcomes[i%4], Category: categories[i%len(categories)], Provider: fmt.Sprintf("provider%d", i%30),
			SenderDomain: fmt.Sprintf("sender%d.example", i/40), Host: fmt.Sprintf("mx%d.example", i%4), Stream: "postfix",
		}
	}
	return all
}

func openBench(tb testing.TB, path string) *sqlite.Ledger {
	tb.Helper()
	l, err := sqlite.Open(context.Background(), path, sqlite.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Error(err)
		}
	})
	return l
}

// committer commits deltas to one lane.
type committer struct {
	tb testing.TB
	l  *sqlite.Ledger
	at ledger.Lane
}

func newCommitter(tb testing.TB, l *sqlite.Ledger, name string) *committer {
	tb.Helper()
	at, err := l.Lane(context.Background(), "mta", name)
	if err != nil {
		tb.Fatal(err)
	}
	return &committer{tb, l, at}
}

func (c *committer) commit(d *window.Delta, upserts []ledger.Entry, deletes []uint64) {
	next := event.Position{Segment: "s", Offset: c.at.Position.Offset + 1}
	if err := c.l.Commit(context.Background(), &ledger.Commit{
		Lane: c.at.ID, Expected: c.at.Position, Position: next, Delta: d, Upserts: upserts, Deletes: deletes, Now: time.Unix(start, 0),
	}); err != nil {
		c.tb.Fatal(err)
	}
	c.at.Position = next
}

func BenchmarkCommit(b *testing.B) {
	for _, rows := range []int{1, 500, 5_000, 100_000} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			l := openBench(b, filepath.Join(b.TempDir(), "ledger.db"))
			c := newCommitter(b, l, "a")
			// A commit spans a minute or a few, each with many series.
			series := manySeries(min(rows, 20_000))
			d := &window.Delta{Counts: make([]window.Count, rows)}
			fill := func(i int) {
				for k := range d.Counts {
					at := start + int64(i/3)*minute + int64(k/len(series))*minute
					d.Counts[k] = window.Count{Series: series[k%len(series)], Start: at, Attempts: int64(k % 300), Firsts: int64(k % 2)}
				}
				rand.Shuffle(len(d.Counts), func(i, j int) { d.Counts[i], d.Counts[j] = d.Counts[j], d.Counts[i] })
			}
			fill(0)
			c.commit(d, nil, nil)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				fill(i)
				b.StartTimer()
				c.commit(d, nil, nil)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rows), "ns/row")
		})
	}
}

// BenchmarkEntries measures commits that change 500 of the entries stored, and
// loading all of them.
func BenchmarkEntries(b *testing.B) {
	const entries = 1_000_000
	l := openBench(b, filepath.Join(b.TempDir(), "ledger.db"))
	c := newCommitter(b, l, "a")
	value := make([]byte, 80)
	key := func(i int) uint64 { return uint64(i+1) * 0x9e3779b97f4a7c15 }
	for i := 0; i < entries; {
		var batch []ledger.Entry
		for range 50_000 {
			batch = append(batch, ledger.Entry{Key: key(i), Value: value})
			i++
		}
		c.commit(nil, batch, nil)
	}
	b.Run("Change500", func(b *testing.B) {
		b.ReportAllocs()
		next := entries
		for b.Loop() {
			var upserts []ledger.Entry
			var deletes []uint64
			for range 250 {
				upserts = append(upserts, ledger.Entry{Key: key(next), Value: value})
				deletes = append(deletes, key(next-entries))
				next++
			}
			c.commit(nil, upserts, deletes)
		}
	})
	b.Run("Load", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n := 0
			if err := l.Entries(context.Background(), c.at.ID, func(ledger.Entry) error { n++; return nil }); err != nil || n < entries {
				b.Fatal(n, err)
			}
		}
	})
}

// generate fills a ledger with 30 days of 20,000 series, of which some are busy
// and most are not, as domains are: about perMinute of them in each minute.
func generate(tb testing.TB, l *sqlite.Ledger, perMinute int) (end int64) {
	series := manySeries(20_000)
	r := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(r, 1.1, 20, uint64(len(series)-1))
	c := newCommitter(tb, l, "a")
	end = start + 30*day
	d := &window.Delta{}
	seen := make(map[*window.Series]int)
	for at := start; at < end; at += minute {
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
		if len(d.Counts) > 50_000 {
			c.commit(d, nil, nil)
			d.Counts = d.Counts[:0]
		}
		if (at+minute)%hour == 0 {
			c.commit(d, nil, nil)
			d.Counts = d.Counts[:0]
			if err := l.Rollup(context.Background(), ledger.DefaultRetention, time.Unix(at+minute, 0)); err != nil {
				tb.Fatal(err)
			}
		}
	}
	return end
}

// BenchmarkQuery asks what a page asks.
func BenchmarkQuery(b *testing.B) {
	// A folder that stays spares the minute that it takes to fill.
	path := os.Getenv("BOUNCEMETER_BENCH_LEDGER")
	if path == "" {
		path = filepath.Join(b.TempDir(), "ledger.db")
	}
	_, err := os.Stat(path)
	fresh := err != nil
	l := openBench(b, path)
	end := start + 30*day
	if fresh {
		began := time.Now()
		generate(b, l, 1000)
		info, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		b.Logf("30 days generated in %v, %d MB", time.Since(began), info.Size()>>20)
	}
	by := func(d ...ledger.Dimension) []ledger.Dimension { return d }
	where := func(d ledger.Dimension, v ...string) map[ledger.Dimension][]string {
		return map[ledger.Dimension][]string{d: v}
	}
	now := end - 11*hour - 17*minute - 20 // in the middle of a day, an hour and a minute
	for _, q := range []struct {
		name string
		ledger.Query
	}{
		{"CategoryOver1h", ledger.Query{Since: now - hour, By: by(ledger.ByCategory)}},
		{"CategoryOver24h", ledger.Query{Since: now - day, By: by(ledger.ByCategory)}},
		{"ProviderOfCategoryOver24h", ledger.Query{Since: now - day, By: by(ledger.ByProvider), Where: where(ledger.ByCategory, "spf_failed")}},
		{"SenderDomainOver24h", ledger.Query{Since: now - day, By: by(ledger.BySenderDomain), Limit: 20}},
		{"ByMinuteOver1h", ledger.Query{Since: now - hour, Step: minute, By: by(ledger.ByOutcome)}},
		{"By5MinutesOver24h", ledger.Query{Since: now - day, Step: 5 * minute, By: by(ledger.ByOutcome)}},
		{"By1hOver24h", ledger.Query{Since: now - day, Step: hour, By: by(ledger.ByOutcome)}},
		{"By6hOver7d", ledger.Query{Since: now - 7*day, Step: 6 * hour, By: by(ledger.ByOutcome)}},
		{"By1dOver30d", ledger.Query{Since: now - 30*day, Step: day, By: by(ledger.ByCategory)}},
		{"CategoryOver30d", ledger.Query{Since: now - 30*day, By: by(ledger.ByCategory)}},
		{"All", ledger.Query{By: by(ledger.ByOutcome)}},
	} {
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
	b.Run("Totals", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := l.Totals(context.Background(), func(ledger.Total) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Names", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := l.Names(context.Background(), ledger.BySenderDomain, 1000); err != nil {
				b.Fatal(err)
			}
		}
	})
}
