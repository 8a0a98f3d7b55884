package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
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
func version(ctx context.Context, tx pgx.Tx) (int, error) {
	var server int
	var there, ours bool
	if err := tx.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, to_regclass('lanes') IS NOT NULL,
		to_regclass('schema_versions') IS NOT NULL`).Scan(&server, &there, &ours); err != nil {
		return 0, err
	}
	switch {
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
	v, err := version(ctx, tx)
	if known := len(migrations()); err == nil && v < known {
		err = fmt.Errorf("the schema has version %d, and this program reads %d: start the daemon of this version once, which brings it up to date", v, known)
	}
	return err
}

// migrate applies the migrations that are missing, all or none. Without any it
// needs no right but to read.
func (l *Ledger) migrate(ctx context.Context, o Options) error {
	o.setDefaults()
	var at int
	if err := l.read(ctx, "read the schema's version", func(ctx context.Context, tx pgx.Tx) (err error) {
		at, err = version(ctx, tx)
		return err
	}); err != nil {
		return err
	}
	if at == len(migrations()) {
		return nil
	}
	return l.write(ctx, "migrate", func(ctx context.Context, tx pgx.Tx) error {
		// Others wait here, and find it done.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", l.locks.schema); err != nil {
			return err
		}
		at, err := version(ctx, tx)
		if err != nil {
			return err
		}
		if at == 0 {
			// CREATE … IF NOT EXISTS needs the right even if it exists.
			var there bool
			if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)", o.Schema).Scan(&there); err != nil {
				return err
			}
			if !there {
				if _, err := tx.Exec(ctx, "CREATE SCHEMA "+pgx.Identifier{o.Schema}.Sanitize()); err != nil {
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
}
