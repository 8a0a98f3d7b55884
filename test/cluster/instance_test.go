// Package cluster has the tests of many instances on one ledger, with a real
// PostgreSQL and a real Apache Kafka.
package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bouncemeter/bouncemeter/test/internal/rig"
	"github.com/bouncemeter/bouncemeter/test/postgrestest"
)

func TestMain(m *testing.M) { rig.Main(m) }

// instance is one daemon, which can be killed and started again.
type instance struct {
	*rig.Site
	name   string
	daemon *rig.Daemon // its present life
}

// newInstance writes the configuration of an instance with these settings. It
// does not start it.
func newInstance(t *testing.T, name, dsnFile, settings string) *instance {
	t.Helper()
	dir := t.TempDir()
	return &instance{name: name, Site: rig.NewSite(t, rig.Build(t, ""), dir, fmt.Sprintf("%s\nledger: {postgres: {dsn_file: %s, instance: %s}}\ndead_letter: {path: %s}",
		settings, dsnFile, name, filepath.Join(dir, "dead-letter.jsonl")))}
}

func (i *instance) start(t *testing.T) {
	t.Helper()
	i.daemon = i.Start(t)
}

func (i *instance) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := i.daemon.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// newDSN writes the DSN of the server's owner into a file.
func newDSN(t *testing.T, dsn string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "dsn")
	if err := os.WriteFile(file, []byte(dsn+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// number asks the ledger for a number; without an answer it is -1.
func number(s *postgrestest.Server, query string, args ...any) (n int64) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, s.OwnerDSN())
	if err != nil {
		return -1
	}
	defer func() { _ = c.Close(ctx) }()
	if err := c.QueryRow(ctx, query, args...).Scan(&n); err != nil {
		return -1
	}
	return n
}
