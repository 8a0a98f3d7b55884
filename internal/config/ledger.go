package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bouncemeter/bouncemeter/ledger/postgres"
)

// Shared reports whether the ledger may be that of several instances.
func (l *Ledger) Shared() bool { return l.SQLite == "" }

// Options is how package postgres is to use the server.
func (p *Postgres) Options() postgres.Options {
	return postgres.Options{Schema: p.Schema, Connections: p.Connections, Timeout: p.Timeout}
}

// checkLedger checks that there is one ledger, and takes the default file away
// if that is a PostgreSQL.
func (l *loader) checkLedger(c *Config) {
	p := &c.Ledger.Postgres
	const dsnFile, sqlite = "ledger.postgres.dsn_file", "ledger.sqlite"
	switch {
	case l.known("ledger.postgres") && l.known(sqlite):
		l.fault(sqlite, "the ledger is in postgres already", "remove one of the two")
	case !l.known("ledger.postgres"):
		if c.Ledger.SQLite == "" {
			l.fault(sqlite, "the ledger has no file", "name one such as "+Default().Ledger.SQLite)
		}
		return
	case p.DSNFile == "" && !l.failed(dsnFile):
		l.fault(dsnFile, "it is not said how the server is reached", "write postgres://user:password@host:5432/database into a file, chmod 600 FILE, and name the file here")
	}
	c.Ledger.SQLite = ""
	if p.Schema == "" || len(p.Schema) > 63 {
		l.fault("ledger.postgres.schema", fmt.Sprintf("%q is not the name of a schema", p.Schema), "use up to 63 bytes, or leave it out to get "+Default().Ledger.Postgres.Schema)
	}
	local := slices.IndexFunc(c.Sources, func(s Source) bool { return s.Kind != "kafka" && s.Kind != "" })
	switch {
	case p.Instance != "" && strings.Trim(p.Instance, "abcdefghijklmnopqrstuvwxyz0123456789._-") != "":
		l.fault("ledger.postgres.instance", fmt.Sprintf("%q is not a name", p.Instance), "use lower-case letters, digits, dots, _ and -")
	case p.Instance == "" && local >= 0 && !l.failed("ledger.postgres.instance"):
		l.fault("ledger.postgres.instance", fmt.Sprintf("sources[%d] is of this machine, and other instances may have one of the same name", local),
			"give each instance a name of its own that stays, such as that of its machine")
	}
}

// checkLedgerHost checks the ledger's file, or reads how the server is reached.
func (l *loader) checkLedgerHost(c *Config) {
	if !c.Ledger.Shared() {
		l.checkFolder("ledger.sqlite", c.Ledger.SQLite)
		return
	}
	p := &c.Ledger.Postgres
	if p.DSNFile == "" {
		return // a fault by now
	}
	const path = "ledger.postgres.dsn_file"
	p.DSN = l.readSecret(path, p.DSNFile)
	if !l.failed(path) {
		l.explained(path, postgres.CheckDSN(string(p.DSN)))
	}
}
