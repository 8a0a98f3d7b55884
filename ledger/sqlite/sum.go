package sqlite

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/bouncemeter/bouncemeter/internal/durable"
)

// SQLite has no checksums of pages: a bit that a disk has turned may be in a
// count, where nobody sees it. So Close notes a checksum of the whole file beside
// it, and Open compares. Only what happens in between is found, that is while no
// daemon runs: as soon as the ledger is open the note is gone, and a crash leaves
// none. (What a crash leaves in the write-ahead log has checksums of its own.)
//
// The note is for the file as it was written last, by its time. Whoever changes it
// with sqlite3, or puts back a backup, changes that, and the note is passed over.

// sumBytes is the greatest size of a file that has a checksum: it takes about a
// second to read.
const sumBytes = 512 << 20

func sumPath(path string) string { return path + "-sum" }

// sumOf returns the note for a file, and whether there is one: there is none while
// the write-ahead log holds something.
func sumOf(path string) (note []byte, ok bool, err error) {
	if wal, err := os.Stat(path + "-wal"); err == nil && wal.Size() > 0 {
		return nil, false, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || info.Size() > sumBytes {
		return nil, false, err
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, false, err
	}
	return fmt.Appendf(nil, "%s%x\n", written(info), h.Sum(nil)), true, nil
}

// written is the part of a note that tells which file it is about.
func written(info fs.FileInfo) string {
	return fmt.Sprintf("1 %d %d ", info.Size(), info.ModTime().UnixNano())
}

// noteSum notes the checksum of a closed ledger, if it can: on a full disk there is
// none.
func noteSum(path string) {
	note, ok, err := sumOf(path)
	if err != nil || !ok {
		return
	}
	if err := os.WriteFile(sumPath(path), note, 0o640); err != nil {
		_ = os.Remove(sumPath(path))
	}
}

// takeSum compares a ledger that is to be opened with the note, if there is one,
// and removes that.
func takeSum(path string) error {
	noted, err := os.ReadFile(sumPath(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info, err := os.Stat(path); err == nil && bytes.HasPrefix(noted, []byte(written(info))) {
		now, ok, err := sumOf(path)
		if err != nil {
			return err
		}
		if ok && !bytes.Equal(now, noted) {
			return damaged(path, errors.New("its content is not what was written last"))
		}
	}
	if err := os.Remove(sumPath(path)); err != nil {
		return err
	}
	// A note that came back after a power loss would accuse what was written since.
	return durable.SyncFolder(filepath.Dir(path))
}
