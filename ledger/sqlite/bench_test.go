package sqlite_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/ledgertest"
	"github.com/bouncemeter/bouncemeter/ledger/sqlite"
)

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

func BenchmarkCommit(b *testing.B) {
	ledgertest.BenchmarkCommit(b, func(b *testing.B) ledgertest.Ledger { return openBench(b, filepath.Join(b.TempDir(), "ledger.db")) })
}

// BenchmarkEntries measures commits that change 500 of the entries stored, and
// loading all of them.
func BenchmarkEntries(b *testing.B) {
	const entries = 1_000_000
	l := openBench(b, filepath.Join(b.TempDir(), "ledger.db"))
	c := ledgertest.NewCommitter(b, l, "a")
	value := make([]byte, 80)
	key := func(i int) uint64 { return uint64(i+1) * 0x9e3779b97f4a7c15 }
	for i := 0; i < entries; {
		var batch []ledger.Entry
		for range 50_000 {
			batch = append(batch, ledger.Entry{Key: key(i), Value: value})
			i++
		}
		c.Commit(nil, batch, nil)
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
			c.Commit(nil, upserts, deletes)
		}
	})
	b.Run("Load", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n := 0
			if err := l.Entries(context.Background(), c.At.ID, func(ledger.Entry) error { n++; return nil }); err != nil || n < entries {
				b.Fatal(n, err)
			}
		}
	})
}

func BenchmarkQuery(b *testing.B) {
	const days = 30
	// A file that stays spares the minute that it takes to fill.
	path := os.Getenv("BOUNCEMETER_BENCH_LEDGER")
	if path == "" {
		path = filepath.Join(b.TempDir(), "ledger.db")
	}
	_, err := os.Stat(path)
	l := openBench(b, path)
	if err != nil {
		began := time.Now()
		ledgertest.Fill(b, l, days, 1000)
		info, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		b.Logf("%d days generated in %v, %d MB", days, time.Since(began), info.Size()>>20)
	}
	ledgertest.BenchmarkQuery(b, l, days)
}
