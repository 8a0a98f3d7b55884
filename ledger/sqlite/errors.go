package sqlite

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	engine "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/internal/counts"
)

// fault says what went wrong where and what to do about it. Damage wraps
// ledger.ErrCorrupt, at whatever moment it is found. After any other error
// nothing of the transaction has been applied and it may be tried again.
func fault(path, doing string, err error) error {
	if err == nil || errors.Is(err, ledger.ErrCorrupt) {
		return err
	}
	if errors.Is(err, counts.ErrMissing) {
		return damaged(path, fmt.Errorf("%s: %w", doing, err))
	}
	var e *engine.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("ledger %s: %s: %w", path, doing, err)
	}
	if strings.Contains(e.Error(), "no such ") { // a table or column that the schema had: its text is damaged
		return damaged(path, fmt.Errorf("%s: %w", doing, err))
	}
	switch e.Code() & 0xff { // the rest are details
	case codes.SQLITE_CORRUPT, codes.SQLITE_NOTADB:
		return damaged(path, fmt.Errorf("%s: %w", doing, err))
	case codes.SQLITE_FULL:
		return fmt.Errorf("ledger %s: %s: no space left, nothing was stored: make room in %s: %w", path, doing, filepath.Dir(path), err)
	case codes.SQLITE_READONLY, codes.SQLITE_CANTOPEN, codes.SQLITE_PERM:
		return fmt.Errorf("ledger %s: %s: cannot be written: check that this user may write to the file and its folder (a reader too must share the log beside it), and that the file system is not read-only: %w", path, doing, err)
	case codes.SQLITE_IOERR:
		return fmt.Errorf("ledger %s: %s: the disk reports an error: check its space and health (dmesg): %w", path, doing, err)
	case codes.SQLITE_BUSY, codes.SQLITE_LOCKED:
		return fmt.Errorf("ledger %s: %s: another program holds a lock: close any sqlite3 that has a transaction open: %w", path, doing, err)
	}
	return fmt.Errorf("ledger %s: %s: %w", path, doing, err)
}

// damaged says that the file cannot be trusted. Starting over would count old
// lines again or lose what was counted, so that is left to the operator.
func damaged(path string, err error) error {
	return fmt.Errorf("%w: %s: put back a backup, or save what can be read with "+
		"sqlite3 %s .recover | sqlite3 new.db, or move the file away to start from nothing: %w",
		ledger.ErrCorrupt, path, path, err)
}
