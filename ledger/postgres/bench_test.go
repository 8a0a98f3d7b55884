package postgres_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/ledger/ledgertest"
	"github.com/bouncemeter/bouncemeter/ledger/postgres"
	"github.com/bouncemeter/bouncemeter/ledger/sqlite"
	"github.com/bouncemeter/bouncemeter/test/postgrestest"
)

// both runs a benchmark on an empty ledger of each kind, with everything synced
// to the disk.
func both(b *testing.B, run func(b *testing.B, l ledgertest.Ledger)) {
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
	for name, l := range map[string]ledgertest.Ledger{"postgres": shared, "sqlite": file} {
		b.Cleanup(func() {
			if err := l.Close(); err != nil {
				b.Error(err)
			}
		})
		b.Run(name, func(b *testing.B) { run(b, l) })
	}
}

func BenchmarkServerCommit(b *testing.B) {
	both(b, func(b *testing.B, l ledgertest.Ledger) {
		ledgertest.BenchmarkCommit(b, func(*testing.B) ledgertest.Ledger { return l })
	})
}

func BenchmarkServerQuery(b *testing.B) {
	both(b, func(b *testing.B, l ledgertest.Ledger) {
		const days = 2
		ledgertest.Fill(b, l, days, 1000)
		ledgertest.BenchmarkQuery(b, l, days)
	})
}
