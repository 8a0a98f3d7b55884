package postgres_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/ledgertest"
	"github.com/bouncemeter/bouncemeter/ledger/postgres"
	"github.com/bouncemeter/bouncemeter/ledger/sqlite"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
	"github.com/bouncemeter/bouncemeter/test/postgrestest"
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

// both opens an empty ledger of each kind, with everything synced to the disk.
func both(b *testing.B) map[string]ledgertest.Ledger {
	b.Helper()
	pg := postgrestest.Start(b, "max_wal_size=4GB", "shared_buffers=256MB")
	shared, err := postgres.Open(context.Background(), pg.OwnerDSN(), postgres.Options{Timeout: 5 * time.Minute})
	if err != nil {
		b.Fatal(err)
	}
	file, err := sqlite.Open(context.Background(), filepath.Join(b.TempDir(), "ledger.db"), sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	all := map[string]ledgertest.Ledger{"postgres": shared, "sqlite": file}
	b.Cleanup(func() {
		for _, l := range all {
			if err := l.Close(); err != nil {
				b.Error(err)
			}
		}
	})
	return all
}

// committer commits deltas to one lane.
type committer struct {
	b  *testing.B
	l  ledgertest.Ledger
	at ledger.Lane
}

func newCommitter(b *testing.B, l ledgertest.Ledger, name string) *committer {
	b.Helper()
	at, err := l.Lane(context.Background(), "mta", name)
	if err != nil {
		b.Fatal(err)
	}
	return &committer{b, l, at}
}

func (c *committer) commit(d *window.Delta) {
	next := event.Position{Segment: "s", Offset: c.at.Position.Offset + 1}
	if err := c.l.Commit(context.Background(), &ledger.Commit{Lane: c.at.ID, Expected: c.at.Position, Position: next, Delta: d, Now: time.Unix(start, 0)}); err != nil {
		c.b.Fatal(err)
	}
	c.at.Position = next
}

// BenchmarkServerCommit commits to a PostgreSQL and to SQLite side by side, as
// ledger/sqlite's BenchmarkCommit does.
func BenchmarkServerCommit(b *testing.B) {
	for name, l := range both(b) {
		for _, rows := range []int{1, 500, 5_000, 100_000} {
			b.Run(fmt.Sprintf("%s/rows=%d", name, rows), func(b *testing.B) {
				c := newCommitter(b, l, fmt.Sprint("rows ", rows))
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
				c.commit(d)
				for i := 0; b.Loop(); i++ {
					b.StopTimer()
					fill(i)
					b.StartTimer()
					c.commit(d)
				}
			})
		}
	}
}

// BenchmarkServerQuery asks what a page asks, of two days of 20,000 series
// with about 1,000 attempts a minute.
func BenchmarkServerQuery(b *testing.B) {
	all := both(b)
	end := start + 2*day
	for name, l := range all {
		began := time.Now()
		generate(b, l, end)
		b.Logf("%s: 2 days generated in %v", name, time.Since(began))
	}
	by := func(d ...ledger.Dimension) []ledger.Dimension { return d }
	now := end - 11*hour - 17*minute - 20 // in the middle of a day, an hour and a minute
	for _, q := range []struct {
		name string
		ledger.Query
	}{
		{"CategoryOver1h", ledger.Query{Since: now - hour, By: by(ledger.ByCategory)}},
		{"CategoryOver24h", ledger.Query{Since: now - day, By: by(ledger.ByCategory)}},
		{"SenderDomainOver24h", ledger.Query{Since: now - day, By: by(ledger.BySenderDomain), Limit: 20}},
		{"ByMinuteOver1h", ledger.Query{Since: now - hour, Step: minute, By: by(ledger.ByOutcome)}},
		{"By5MinutesOver24h", ledger.Query{Since: now - day, Step: 5 * minute, By: by(ledger.ByOutcome)}},
		{"By1hOver24h", ledger.Query{Since: now - day, Step: hour, By: by(ledger.ByOutcome)}},
		{"All", ledger.Query{By: by(ledger.ByOutcome)}},
	} {
		for name, l := range all {
			b.Run(q.name+"/"+name, func(b *testing.B) {
				if q.Since != 0 {
					q.Until = now
				}
				for b.Loop() {
					if rows, err := l.Query(context.Background(), q.Query); err != nil || len(rows) == 0 {
						b.Fatal(rows, err)
					}
				}
			})
		}
	}
	for name, l := range all {
		b.Run("WindowsOver1h/"+name, func(b *testing.B) {
			for b.Loop() {
				if err := l.Windows(context.Background(), now/minute*minute-hour, now/minute*minute, func(*ledger.Window) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("Names/"+name, func(b *testing.B) {
			for b.Loop() {
				if _, err := l.Names(context.Background(), ledger.BySenderDomain, 1000); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// generate fills a ledger up to end: some series are busy and most are not, as
// domains are.
func generate(b *testing.B, l ledgertest.Ledger, end int64) {
	series := manySeries(20_000)
	r := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(r, 1.1, 20, uint64(len(series)-1))
	c := newCommitter(b, l, "a")
	d := &window.Delta{}
	seen := make(map[*window.Series]int)
	for at := start; at < end; at += minute {
		clear(seen)
		for range 1000 {
			s := series[zipf.Uint64()]
			if i, ok := seen[s]; ok {
				d.Counts[i].Attempts++
				continue
			}
			seen[s] = len(d.Counts)
			d.Counts = append(d.Counts, window.Count{Series: s, Start: at, Attempts: 1, Firsts: 1})
		}
		if (at+minute)%hour == 0 {
			c.commit(d)
			d.Counts = d.Counts[:0]
			if err := l.Rollup(context.Background(), ledger.DefaultRetention, time.Unix(at+minute, 0)); err != nil {
				b.Fatal(err)
			}
		}
	}
}
