package sqlite

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/bouncemeter/bouncemeter/ledger"
)

// lock takes the exclusive lock that only one process can hold, on a file
// beside the ledger: the ledger's own file has the engine's locks. The kernel
// releases it when the process ends, however it ends, so a file left behind
// locks nothing. It holds the owner's process id, to be shown to the next.
func lock(ledgerPath string) (*os.File, error) {
	path := ledgerPath + ".lock"
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("lock ledger: %w: the daemon's user must be able to write to the folder", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer func() { _ = f.Close() }()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock ledger: flock %s: %w: the file system must support locks", path, err)
		}
		owner, _ := io.ReadAll(io.LimitReader(f, 32))
		return nil, fmt.Errorf("%w: %s is locked by process %s: stop it, or give this one its own ledger; to read, use report --ledger",
			ledger.ErrLocked, ledgerPath, strings.TrimSpace(string(owner)))
	}
	// On a full disk the lock holds without the number.
	if err := f.Truncate(0); err == nil {
		_, _ = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return f, nil
}

// unlock empties the file and releases the lock. The file stays: removing it
// could take away the lock of a process that has just got it.
func unlock(f *os.File) error {
	return errors.Join(f.Truncate(0), f.Close())
}
