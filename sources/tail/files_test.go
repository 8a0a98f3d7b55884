package tail

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

// readAll reads a finite lane to its end.
func readAll(t *testing.T, l *Files) (lines []string) {
	t.Helper()
	var b event.Batch
	for {
		err := l.Read(t.Context(), &b)
		if err == io.EOF {
			if len(b.Lines) > 0 {
				t.Error("lines with io.EOF")
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range b.Lines {
			lines = append(lines, string(line.Text))
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return lines
}

// bz2 is a compressed "a\nb\n": there is no compressor in the library.
const bz2 = "QlpoOTFBWSZTWTyFQRIAAAFBAAAQMAAgADDMDHqCcXckU4UJA8hUESA="

func TestFilesOfEveryCompression(t *testing.T) {
	f := newFolder(t)
	text := "a\nb\nrest"
	for _, ext := range []string{".gz", ".zst", ".xz"} {
		f.must(os.WriteFile(f.path("x"), compressed(t, []byte(text), ext), 0o600)) // told by content
		l, err := OpenFiles([]string{f.path("x")}, FilesOptions{})
		f.must(err)
		if got := strings.Join(readAll(t, l), " "); got != "a b rest" {
			t.Errorf("%s: %s", ext, got)
		}
	}
	b, err := base64.StdEncoding.DecodeString(bz2)
	f.must(err)
	f.must(os.WriteFile(f.path("x"), b, 0o600))
	l, err := OpenFiles([]string{f.path("x")}, FilesOptions{})
	f.must(err)
	if got := strings.Join(readAll(t, l), " "); got != "a b" {
		t.Errorf("bz2: %s", got)
	}
}

func TestFilesOrderAndProgress(t *testing.T) {
	f := newFolder(t)
	var paths []string
	for _, name := range []string{"b.log", "mail.log", "mail.log.1", "mail.log.10.gz", "mail.log.2.gz", "a.log", "day-20261123.log", "day-20261122.log"} {
		text := []byte(name + "\n")
		if uncompressed(name) != name {
			text = compressed(t, text, ".gz")
		}
		f.must(os.WriteFile(f.path(name), text, 0o600))
		paths = append(paths, f.path(name))
	}
	l, err := OpenFiles(paths, FilesOptions{})
	f.must(err)
	if err := l.Open(t.Context(), event.Position{Segment: "x", Offset: 1}); err == nil {
		t.Error("a position was taken")
	}
	f.must(l.Open(t.Context(), event.Position{}))
	if done, total := l.Progress(); done != 0 || total == 0 {
		t.Errorf("progress %d of %d before the start", done, total)
	}
	want := []string{"b.log", "mail.log.10.gz", "mail.log.2.gz", "mail.log.1", "mail.log", "a.log", "day-20261122.log", "day-20261123.log"}
	if got := readAll(t, l); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if done, total := l.Progress(); done != total {
		t.Errorf("progress %d of %d at the end", done, total)
	}
}

func TestFilesReportAllFaults(t *testing.T) {
	f := newFolder(t)
	f.must(os.WriteFile(f.path("ok"), nil, 0o600))
	_, err := OpenFiles([]string{f.path("ok"), f.dir, f.path("missing"), f.path("ok")}, FilesOptions{})
	for _, part := range []string{f.dir + " is a folder", f.path("missing"), "same file"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %v", part, err)
		}
	}
	if _, err := OpenFiles(nil, FilesOptions{}); err == nil {
		t.Error("no files: no error")
	}
	if text := unreadable("/var/log/mail.log", os.ErrPermission).Error(); !strings.Contains(text, "adm") {
		t.Errorf("no remedy in %s", text)
	}
}

func TestDamagedFileIsAnError(t *testing.T) {
	f := newFolder(t)
	whole := compressed(t, []byte("a\nb\n"), ".gz")
	f.must(os.WriteFile(f.path("x.gz"), whole[:len(whole)-4], 0o600))
	l, err := OpenFiles([]string{f.path("x.gz")}, FilesOptions{})
	f.must(err)
	var b event.Batch
	for err == nil {
		err = l.Read(t.Context(), &b)
	}
	if !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), "x.gz") {
		t.Errorf("%v", err)
	}
	f.must(l.Close())
}

// A file that is still being written has no end. It is read as far as it goes, and
// so are those after it.
func TestIncompleteFile(t *testing.T) {
	f := newFolder(t)
	text := []byte(strings.Repeat("a line of the log\n", 100_000))
	for _, ending := range []string{".gz", ".zst", ".xz"} {
		whole := compressed(t, text, ending)
		first, second := f.path("1"+ending), f.path("2")
		f.must(os.WriteFile(first, whole[:len(whole)-len(whole)/3], 0o600))
		f.must(os.WriteFile(second, []byte("the end\n"), 0o600))
		var told []string
		l, err := OpenFiles([]string{first, second}, FilesOptions{Incomplete: func(path string) { told = append(told, path) }})
		f.must(err)
		lines := 0
		var last string
		for {
			var b event.Batch
			err := l.Read(t.Context(), &b)
			if err == io.EOF {
				break
			}
			f.must(err)
			for _, line := range b.Lines {
				if last = string(line.Text); last != "a line of the log" && last != "the end" {
					t.Fatalf("%s: a line %q", ending, last)
				}
			}
			lines += len(b.Lines)
		}
		if ending != ".xz" && lines < 2 || last != "the end" || len(told) != 1 || told[0] != first {
			t.Errorf("%s: %d lines, the last %q; told of %q", ending, lines, last, told)
		}
		f.must(l.Close())
	}
}

func TestXzWithHugeDictionaryIsRefused(t *testing.T) {
	f := newFolder(t)
	x := compressed(t, []byte("a\n"), ".xz")
	i := slices.Index(x, 0x21) // LZMA2, then the size of its properties, then the dictionary's
	x[i+2] = 40                // 4 GiB - 1
	f.must(os.WriteFile(f.path("x"), x, 0o600))
	l, err := OpenFiles([]string{f.path("x")}, FilesOptions{})
	f.must(err)
	var b event.Batch
	if err := l.Read(t.Context(), &b); err == nil || !strings.Contains(err.Error(), "dictionary") {
		t.Errorf("%v", err)
	}
	f.must(l.Close())
}

func TestStdin(t *testing.T) {
	for name, input := range map[string][]byte{"plain": []byte("a\nb"), "gz": compressed(t, []byte("a\nb"), ".gz"), "empty": nil} {
		t.Run(name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			_, err = w.Write(input)
			if err = errors.Join(err, w.Close()); err != nil {
				t.Fatal(err)
			}
			l, err := OpenFiles([]string{"-"}, FilesOptions{Stdin: r})
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Open(t.Context(), event.Position{Segment: "of the last run", Offset: 7}); err != nil {
				t.Fatal(err)
			}
			want := "a b"
			if name == "empty" {
				want = ""
			}
			if got := strings.Join(readAll(t, l), " "); got != want {
				t.Errorf("%q, want %q", got, want)
			}
			if done, total := l.Progress(); done != int64(len(input)) || total != 0 {
				t.Errorf("progress %d of %d", done, total)
			}
		})
	}
}

func TestStdinEndsWithContext(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	l, err := OpenFiles([]string{"-"}, FilesOptions{Stdin: r})
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Repeat("x", 100)
	if _, err := w.WriteString(line + "\n"); err != nil {
		t.Fatal(err)
	}
	var b event.Batch
	if err := l.Read(t.Context(), &b); err != nil || len(b.Lines) != 1 {
		t.Fatalf("%v, %d lines before the end of the input", err, len(b.Lines))
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	if err := l.Read(ctx, &b); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := errors.Join(w.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
}
