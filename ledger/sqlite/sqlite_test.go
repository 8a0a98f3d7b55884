package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/bouncemeter/bouncemeter/ledger/ledgertest"
	"github.com/bouncemeter/bouncemeter/ledger/sqlite"
	"github.com/bouncemeter/bouncemeter/pipeline"
)

var _ pipeline.Ledger = (*sqlite.Ledger)(nil)

func TestLedger(t *testing.T) {
	ledgertest.Run(t, newStore(sqlite.Options{}))
}

// TestLedgerInSmallSteps rolls up in transactions of a row or two.
func TestLedgerInSmallSteps(t *testing.T) {
	ledgertest.Run(t, newStore(sqlite.WithChunk(1)))
}

func newStore(o sqlite.Options) func(t *testing.T) ledgertest.Open {
	return func(t *testing.T) ledgertest.Open {
		path := filepath.Join(t.TempDir(), "ledger.db")
		return func() (ledgertest.Ledger, error) { return sqlite.Open(t.Context(), path, o) }
	}
}
