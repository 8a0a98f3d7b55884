package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/bouncemeter/bouncemeter/ledger/ledgertest"
	"github.com/bouncemeter/bouncemeter/ledger/sqlite"
	"github.com/bouncemeter/bouncemeter/pipeline"
)

var (
	_ pipeline.Ledger      = (*sqlite.Ledger)(nil)
	_ pipeline.AlertLedger = (*sqlite.Ledger)(nil)
)

// TestLedger rolls every other store up in transactions of a row or two.
func TestLedger(t *testing.T) {
	stores := 0
	ledgertest.Run(t, func(t *testing.T) ledgertest.Open {
		var o sqlite.Options
		if stores++; stores%2 == 0 {
			o = sqlite.WithChunk(1)
		}
		path := filepath.Join(t.TempDir(), "ledger.db")
		return func() (ledgertest.Ledger, error) { return sqlite.Open(t.Context(), path, sqlite.WithoutSync(o)) }
	})
}
