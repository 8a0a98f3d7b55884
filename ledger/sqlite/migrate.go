package sqlite

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"
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

// schemaVersion returns the version of the file's schema: 0 if it is empty,
// -1 if it is another program's.
func schemaVersion(c *conn, path string) (int64, error) {
	tables, err := c.integer("SELECT count(*) FROM sqlite_schema", 0)
	if err != nil || tables == 0 {
		return 0, err
	}
	ours, err := c.integer("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN ('schema_versions', 'lanes')", 0)
	if err != nil {
		return 0, err
	}
	if ours != 2 {
		return -1, nil
	}
	version, err := c.integer("SELECT max(version) FROM schema_versions", 0)
	if err == nil && version < 1 {
		err = damaged(path, errors.New("the schema has no version"))
	}
	return version, err
}

// checkVersion refuses a file that this program cannot read.
func (l *Ledger) checkVersion(version int64, readOnly bool) error {
	known := int64(len(migrations()))
	switch {
	case version < 0:
		return fmt.Errorf("%s is a database of another program: correct the path", l.path)
	case version > known:
		return fmt.Errorf("%s has schema version %d, and this program knows up to %d: a newer bouncemeter has used it; run that or a newer one", l.path, version, known)
	case readOnly && version < known:
		return fmt.Errorf("%s has schema version %d, and this program reads %d: start the daemon of this version once, which brings it up to date", l.path, version, known)
	}
	return nil
}

// migrate applies the migrations after version, each in a transaction.
func migrate(c *conn, version int64, now time.Time) error {
	for i, script := range migrations() {
		v := int64(i) + 1
		if v <= version {
			continue
		}
		if err := c.transaction(func() error {
			if err := c.script(script); err != nil {
				return fmt.Errorf("migrate to schema version %d: %w", v, err)
			}
			_, err := c.exec("INSERT INTO schema_versions (version, applied) VALUES (?, ?)", v, now.Unix())
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}
