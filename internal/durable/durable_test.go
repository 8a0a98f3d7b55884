package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestMkdirAll(t *testing.T) {
	root := t.TempDir()
	t.Chdir(root)
	for _, path := range []string{filepath.Join(root, "a", "b", "c"), filepath.Join("relative", "x"), "a/b/../d/", "."} {
		for range 2 { // the second time it is there
			if err := MkdirAll(path, 0o700); err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(path); err != nil || !info.IsDir() {
				t.Errorf("%s: %v, %v; want a folder", path, info, err)
			}
		}
	}
	if err := os.WriteFile("file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"file", "file/below/it"} {
		if err := MkdirAll(path, 0o700); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("a folder in place of a file, %s: %v, want %v", path, err, syscall.ENOTDIR)
		}
	}
	if err := SyncFolder("missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing folder: %v", err)
	}
}

func TestEndsTorn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lines")
	for content, want := range map[string]bool{"": false, "\n": false, "a\n": false, "a": true, "a\nb": true} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		if torn, err := EndsTorn(f); torn != want || err != nil {
			t.Errorf("%q: %t, %v; want %t", content, torn, err, want)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
