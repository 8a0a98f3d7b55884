// Package ledgertest is the suite that every implementation of the ledger runs.
// It states what the pipeline relies on: cases by hand, and a property test that
// drives the ledger and a plain model with the same random commits, repeats,
// conflicts, roll-ups and restarts.
package ledgertest

import (
	"context"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/ledger"
)

// Ledger is all that a ledger does. Consumers declare the part that they call,
// such as pipeline.Ledger and pipeline.AlertLedger, which have the contract of
// those methods. Windows yields those of a minute in the order of their sender
// domain, provider, category, outcome, host, stream and source.
type Ledger interface {
	Lane(ctx context.Context, source, name string) (ledger.Lane, error)
	Entries(ctx context.Context, lane ledger.LaneID, yield func(ledger.Entry) error) error
	Commit(ctx context.Context, c *ledger.Commit) error
	Query(ctx context.Context, q ledger.Query) ([]ledger.Row, error)
	Rollup(ctx context.Context, r ledger.Retention, now time.Time) (ledger.Kept, error)
	Close() error

	// Lanes returns all lanes, by source and name.
	Lanes(ctx context.Context) ([]ledger.Lane, error)
	// DelayTotals returns the all-time delays, by provider and outcome.
	DelayTotals(ctx context.Context) ([]ledger.DelayTotal, error)
	// DomainCounts returns what happened at the limit recipient domains with
	// most attempts in since <= start < until; zero means unbounded. The
	// busiest domain is first, and within a domain what happened most.
	DomainCounts(ctx context.Context, since, until int64, limit int) ([]ledger.DomainTotal, error)
	// Templates returns up to limit wordings that match f, the most frequent
	// first.
	Templates(ctx context.Context, f ledger.TemplateFilter, limit int) ([]ledger.Template, error)
	// Names returns up to limit names of a dimension of series, the most
	// recently active first.
	Names(ctx context.Context, d ledger.Dimension, limit int) ([]string, error)

	Lease(ctx context.Context) (lease context.Context, release func(), err error)
	Windows(ctx context.Context, since, until int64, yield func(*ledger.Window) error) error
	Detection(ctx context.Context) (ledger.Detection, error)
	CommitDetector(ctx context.Context, c *ledger.DetectorCommit) error
	Alerts(ctx context.Context, f ledger.AlertFilter) ([]ledger.Alert, error)
	Notified(ctx context.Context, notifier string) (int64, error)
	SetNotified(ctx context.Context, notifier string, seq int64) error

	// Silences returns up to ledger.MaxSilences silences, also those that are
	// over, the one that ends last first.
	Silences(ctx context.Context) ([]ledger.Silence, error)
	// SetSilence stores a silence in place of the one of the same ID, and drops
	// those that were over for ledger.KeepSilences when it began. Times are kept
	// to the second.
	SetSilence(ctx context.Context, s *ledger.Silence) error
}

// Open opens one store for a test or for one round of a property test. The
// first call for a new store creates it; after Close the next call opens it
// again with all that it had.
type Open func() (Ledger, error)

// Run runs the suite. Each call of newStore makes an empty store in a folder
// or database of its own.
func Run(t *testing.T, newStore func(t *testing.T) Open) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, open Open)
	}{
		{"Lane", testLane},
		{"Commit", testCommit},
		{"CommitRepeated", testCommitRepeated},
		{"CommitConflict", testCommitConflict},
		{"CommitWithoutMove", testCommitWithoutMove},
		{"CommitCancelled", testCommitCancelled},
		{"Entries", testEntries},
		{"Query", testQuery},
		{"QueryErrors", testQueryErrors},
		{"Late", testLate},
		{"Rollup", testRollup},
		{"Totals", testTotals},
		{"Delays", testDelays},
		{"Domains", testDomains},
		{"Templates", testTemplates},
		{"TemplatesNew", testTemplatesNew},
		{"Names", testNames},
		{"Windows", testWindows},
		{"Silences", testSilences},
		{"Detector", testDetector},
		{"Alerts", testAlerts},
		{"Notified", testNotified},
		{"Lease", testLease},
		{"Concurrent", testConcurrent},
		{"Closed", testClosed},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, newStore(t)) })
	}
	t.Run("Model", func(t *testing.T) { testModel(t, newStore) })
}

// must returns v unless there is an error.
func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
