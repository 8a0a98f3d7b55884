package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migrations returns the scripts in order; the first makes version 1.
func migrations() []string {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	scripts := make([]string, len(names))
	for i, name := range names { // sorted
		b, err := migrationFiles.ReadFile(name)
		if err != nil {
			panic(err) // embedded
		}
		scripts[i] = string(b)
	}
	return scripts
}

// oldestServer is the first major version that this package is tested with.
const oldestServer = 140000

// version returns the version of the schema: 0 if it is missing.
func (l *Ledger) version(ctx context.Context, tx pgx.Tx) (int, error) {
	var server int
	var closed, there, ours bool
	if err := tx.QueryRow(ctx, `SELECT current_setting('server_version_num')::int,
		EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1 AND NOT has_schema_privilege(oid, 'USAGE')),
		to_regclass('lanes') IS NOT NULL, to_regclass('schema_versions') IS NOT NULL`, l.schema).Scan(&server, &closed, &there, &ours); err != nil {
		return 0, err
	}
	switch {
	case closed:
		return 0, errors.New("the role lacks USAGE on the schema: grant it, as docs/ledger.md says")
	case server < oldestServer:
		return 0, fmt.Errorf("the server is PostgreSQL %d: version %d or newer is needed", server/10000, oldestServer/10000)
	case there && !ours:
		return 0, errors.New("the schema is another program's: give ledger.postgres.schema a name of its own")
	case !ours:
		return 0, nil
	}
	var v int
	err := tx.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM schema_versions").Scan(&v)
	if known := len(migrations()); err == nil && v > known {
		err = fmt.Errorf("the schema has version %d, and this program knows up to %d: a newer bouncemeter has used it; run that or a newer one", v, known)
	}
	return v, err
}

// checkVersion refuses a schema that this program cannot read.
func (l *Ledger) checkVersion(ctx context.Context, tx pgx.Tx) error {
	v, err := l.version(ctx, tx)
	if known := len(migrations()); err == nil && v < known {
		err = fmt.Errorf("the schema has version %d, and this program reads %d: start the daemon of this version once, which brings it up to date", v, known)
	}
	return err
}

// longestMigration is how long one may take, or another instance's be waited for.
const longestMigration = time.Hour

// migrate applies the migrations that are missing, all or none. Without any it
// needs no right but to read.
func (l *Ledger) migrate(ctx context.Context) error {
	var at int
	if err := l.read(ctx, "read the schema's version", func(ctx context.Context, tx pgx.Tx) (err error) {
		at, err = l.version(ctx, tx)
		return err
	}); err != nil {
		return err
	}
	if at == len(migrations()) {
		return nil
	}
	c, err := pgx.ConnectConfig(ctx, l.pool.config)
	if err != nil {
		return l.fault("migrate", err)
	}
	defer hangUp(c)
	err = transact(ctx, c, longestMigration, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL statement_timeout = 0"); err != nil {
			return err
		}
		// Others wait here, and find it done.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", l.locks.schema); err != nil {
			return err
		}
		at, err := l.version(ctx, tx)
		if err != nil {
			return err
		}
		if at < len(migrations()) {
			if err := l.mayMigrate(ctx, tx); err != nil {
				return err
			}
		}
		if at == 0 {
			// CREATE … IF NOT EXISTS needs the right even if it exists.
			var there bool
			if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)", l.schema).Scan(&there); err != nil {
				return err
			}
			if !there {
				if _, err := tx.Exec(ctx, "CREATE SCHEMA "+pgx.Identifier{l.schema}.Sanitize()); err != nil {
					return err
				}
			}
			if _, err := tx.Exec(ctx, `CREATE TABLE schema_versions (version integer PRIMARY KEY, applied bigint NOT NULL);
				COMMENT ON TABLE schema_versions IS 'which migrations were applied, and when'`, pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
		}
		for i, script := range migrations()[at:] {
			v := at + i + 1
			if _, err := tx.Exec(ctx, script, pgx.QueryExecModeSimpleProtocol); err != nil {
				return fmt.Errorf("to schema version %d: %w", v, err)
			}
			if _, err := tx.Exec(ctx, "INSERT INTO schema_versions (version, applied) VALUES ($1, $2)", v, time.Now().Unix()); err != nil {
				return err
			}
		}
		return nil
	})
	return l.fault("migrate", err)
}

// writable refuses a server that only reads.
func writable(ctx context.Context, tx pgx.Tx) error {
	var standby bool
	var readOnly string
	if err := tx.QueryRow(ctx, "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')").Scan(&standby, &readOnly); err != nil {
		return err
	}
	switch {
	case standby:
		return errors.New("the server is a standby: give the primary, or several hosts with target_session_attrs=read-write")
	case readOnly == "on":
		return errors.New("the server is read-only for this role: set its default_transaction_read_only to off")
	}
	return nil
}

// needed are the rights on each table that the daemon uses; docs/ledger.md has
// the statements that grant them.
const needed = `
	('lanes', 'SELECT, INSERT, UPDATE'), ('series', 'SELECT, INSERT'), ('marks', 'SELECT, UPDATE'),
	('count_minutes', 'SELECT, INSERT, UPDATE, DELETE'), ('count_hours', 'SELECT, INSERT, UPDATE, DELETE'),
	('count_days', 'SELECT, INSERT, UPDATE, DELETE'), ('count_totals', 'SELECT, INSERT, UPDATE'),
	('domain_hours', 'SELECT, INSERT, UPDATE, DELETE'), ('domain_days', 'SELECT, INSERT, UPDATE, DELETE'),
	('delay_hours', 'SELECT, INSERT, UPDATE, DELETE'), ('delay_days', 'SELECT, INSERT, UPDATE, DELETE'),
	('templates', 'SELECT, INSERT, UPDATE, DELETE'), ('template_counts', 'SELECT, INSERT, UPDATE, DELETE'),
	('entries', 'SELECT, INSERT, UPDATE, DELETE'), ('detection', 'SELECT, UPDATE'),
	('alert_changes', 'SELECT, INSERT, UPDATE, DELETE'), ('notifiers', 'SELECT, INSERT, UPDATE'), ('silences', 'SELECT, INSERT, UPDATE, DELETE'),
	('schema_versions', 'SELECT')`

// granted refuses a role without the rights that commits and roll-ups need.
func granted(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `SELECT format('%s on %s', string_agg(r, ', '), t) FROM (VALUES `+needed+`) AS n (t, rights),
		LATERAL unnest(string_to_array(rights, ', ')) AS r WHERE NOT has_table_privilege(to_regclass(t), r) GROUP BY t ORDER BY t`)
	if err != nil {
		return err
	}
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("the role lacks %s: grant it, as docs/ledger.md says", strings.Join(missing, "; "))
	}
	return err
}

// mayMigrate refuses a role that could not make the schema or bring it up to
// date.
func (l *Ledger) mayMigrate(ctx context.Context, tx pgx.Tx) error {
	var there, create, own bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1), has_database_privilege(current_database(), 'CREATE'),
		coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = $1), false)`, l.schema).Scan(&there, &create, &own); err != nil {
		return err
	}
	switch {
	case !there && !create:
		return errors.New("the schema is missing, and the role may not create one in this database: create it, as docs/ledger.md says")
	case there && !own:
		return errors.New("the schema is not up to date, and the role may not create tables in it: start the daemon once as the schema's owner")
	}
	return nil
}
