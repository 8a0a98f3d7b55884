package web

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/ledger/sqlite"
)

// BenchmarkLargeLedger measures every view over 30 days of 20,000 series: the
// ledger that the benchmarks of ledger/sqlite leave in the file that
// BOUNCEMETER_BENCH_LEDGER names.
func BenchmarkLargeLedger(b *testing.B) {
	path := os.Getenv("BOUNCEMETER_BENCH_LEDGER")
	if path == "" {
		b.Skip("BOUNCEMETER_BENCH_LEDGER is not set")
	}
	l, err := sqlite.OpenReadOnly(context.Background(), path, sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	at := time.Date(2026, 3, 30, 12, 42, 40, 0, time.UTC)
	s := &site{Server: New(Options{Ledger: l, Classifier: rules, Now: func() time.Time { return at }}), ledger: l}
	began := time.Now()
	if err := s.warm(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.Logf("warm after %v with %d bytes", time.Since(began).Round(time.Millisecond), s.cache.Bytes())
	for _, span := range []string{"1h", "6h", "24h", "7d", "30d"} {
		for _, page := range []string{"/", "/reason/spf_failed", "/providers", "/provider/provider1", "/domains", "/domain/sender1.example"} {
			b.Run(span+page, func(b *testing.B) {
				for i := 0; b.Loop(); i++ { // each another address, so that it is made anew
					s.get(b, fmt.Sprintf("%s?last=%s&n=%d", page, span, i))
				}
				b.ReportMetric(float64(len(s.get(b, page+"?last="+span))), "bytes")
			})
		}
	}
}
