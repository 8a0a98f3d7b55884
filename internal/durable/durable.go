// Package durable is for files whose content was promised: neither a crash nor a
// power failure may take it.
package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// SyncFolder returns once the names in a folder are on disk. Without it a file
// that was made or renamed may be gone after a power failure, though its content
// was synced.
func SyncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// MkdirAll is os.MkdirAll that returns once the names of the folders that it
// made are on disk.
func MkdirAll(path string, perm fs.FileMode) error {
	var made []string // the deepest first
	for p := filepath.Clean(path); ; p = filepath.Dir(p) {
		if _, err := os.Stat(p); !errors.Is(err, fs.ErrNotExist) || p == filepath.Dir(p) {
			break // it is there, or MkdirAll tells what is wrong with it
		}
		made = append(made, p)
	}
	if err := os.MkdirAll(path, perm); err != nil {
		return err
	}
	for _, p := range made {
		if err := SyncFolder(filepath.Dir(p)); err != nil {
			return err
		}
	}
	return nil
}

// File is what of an os.File says how it ends.
type File interface {
	io.ReaderAt
	Stat() (fs.FileInfo, error)
}

// EndsTorn reports whether the last line of a file is not whole: a crash or a
// full disk has cut it. f must have been opened for reading, too; a pipe never
// ends torn.
func EndsTorn(f File) (bool, error) {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return false, err
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], info.Size()-1); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return last[0] != '\n', nil
}
