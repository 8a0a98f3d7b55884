package postgres_test

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/bouncemeter/bouncemeter/ledger/ledgertest"
	"github.com/bouncemeter/bouncemeter/ledger/postgres"
	"github.com/bouncemeter/bouncemeter/pipeline"
)

var (
	_ pipeline.Ledger      = (*postgres.Ledger)(nil)
	_ pipeline.AlertLedger = (*postgres.Ledger)(nil)
)

// server is the environment variable with the DSN of a database in which the
// tests may make and drop schemas. run.sh starts a server and sets it.
const server = "BOUNCEMETER_TEST_POSTGRES"

var schemas atomic.Int64

// newSchema returns the DSN of the server and the name of a schema that does
// not exist yet and is dropped after the test.
func newSchema(t *testing.T) (dsn, schema string) {
	t.Helper()
	dsn = os.Getenv(server)
	if dsn == "" {
		t.Skipf("needs a PostgreSQL: ledger/postgres/run.sh starts one, or set %s to the DSN of a database for tests", server)
	}
	schema = fmt.Sprintf("test_%d_%d", os.Getpid(), schemas.Add(1))
	t.Cleanup(func() { execute(t, dsn, "DROP SCHEMA IF EXISTS "+pgx.Identifier{schema}.Sanitize()+" CASCADE") })
	return dsn, schema
}

func execute(t *testing.T, dsn, statement string) {
	t.Helper()
	ctx := context.Background() // also after the test
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	if _, err := c.Exec(ctx, statement); err != nil {
		t.Fatal(err)
	}
}

// TestLedger rolls every other store up in transactions of a row or two.
func TestLedger(t *testing.T) {
	stores := 0
	ledgertest.Run(t, func(t *testing.T) ledgertest.Open {
		dsn, schema := newSchema(t)
		o := postgres.Options{Schema: schema, Connections: 4}
		if stores++; stores%2 == 0 {
			o = postgres.WithChunk(o, 1)
		}
		return func() (ledgertest.Ledger, error) { return postgres.Open(t.Context(), dsn, o) }
	})
}
