package tail

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/bouncemeter/bouncemeter/event"
)

// folder is a folder of logs. Times of files are those of the test's clock.
type folder struct {
	t   testing.TB
	dir string
}

func newFolder(t testing.TB) folder { return folder{t, t.TempDir()} }

func (f folder) path(name string) string { return filepath.Join(f.dir, name) }

func (f folder) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// stamp gives a file the time of the test's clock, which then moves on.
func (f folder) stamp(name string) {
	f.t.Helper()
	f.must(os.Chtimes(f.path(name), time.Now(), time.Now()))
	time.Sleep(time.Millisecond)
}

func (f folder) write(name, text string) {
	f.t.Helper()
	f.must(os.WriteFile(f.path(name), []byte(text), 0o600))
	f.stamp(name)
}

func (f folder) append(name, text string) {
	f.t.Helper()
	w, err := os.OpenFile(f.path(name), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	f.must(err)
	_, err = w.WriteString(text)
	f.must(errors.Join(err, w.Close()))
	f.stamp(name)
}

func (f folder) rename(from, to string) { f.t.Helper(); f.must(os.Rename(f.path(from), f.path(to))) }
func (f folder) remove(name string)     { f.t.Helper(); f.must(os.Remove(f.path(name))) }

// copytruncate does what logrotate does.
func (f folder) copytruncate(name, to string) {
	f.t.Helper()
	b, err := os.ReadFile(f.path(name))
	f.must(err)
	f.write(to, string(b))
	f.must(os.Truncate(f.path(name), 0))
	f.stamp(name)
}

// compress replaces a file by its compressed form, and keeps its time.
func (f folder) compress(name, ext string) {
	f.t.Helper()
	info, err := os.Stat(f.path(name))
	f.must(err)
	b, err := os.ReadFile(f.path(name))
	f.must(err)
	f.must(os.WriteFile(f.path(name+ext), compressed(f.t, b, ext), 0o600))
	f.must(os.Chtimes(f.path(name+ext), info.ModTime(), info.ModTime()))
	f.remove(name)
}

func compressed(t testing.TB, b []byte, ext string) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch ext {
	case ".gz":
		w = gzip.NewWriter(&out)
	case ".zst":
		w, err = zstd.NewWriter(&out)
	case ".xz":
		w, err = xz.NewWriter(&out)
	default:
		t.Fatalf("no compressor for %s", ext)
	}
	if err == nil {
		_, err = w.Write(b)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// follower reads one lane and collects what it delivers.
type follower struct {
	t     testing.TB
	l     *Lane
	batch event.Batch
	lines []string
	lost  int64
	at    event.Position
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func follow(t testing.TB, path string, from event.Position) *follower {
	return followAs(t, Config{Paths: []string{path}}, path, from)
}

func followAs(t testing.TB, c Config, path string, from event.Position) *follower {
	t.Helper()
	c.Log = quiet()
	c = c.withDefaults()
	f := &follower{t: t, l: newLane(path, c, c.Start == End), at: from}
	if err := f.l.Open(t.Context(), from); err != nil {
		t.Fatal(err)
	}
	return f
}

// read reads one batch.
func (f *follower) read() int {
	f.t.Helper()
	if err := f.l.Read(f.t.Context(), &f.batch); err != nil {
		f.t.Fatal(err)
	}
	for _, l := range f.batch.Lines {
		f.lines = append(f.lines, string(l.Text))
	}
	f.lost += f.batch.Lost
	f.at = f.batch.Next
	return len(f.batch.Lines)
}

// drain reads until nothing has come for two seconds: longer than the grace of
// a rotation.
func (f *follower) drain() *follower {
	f.t.Helper()
	for quiet := 0; quiet < 3; quiet++ {
		if f.read() > 0 {
			quiet = 0
		}
	}
	return f
}

// stop closes the lane and returns its position.
func (f *follower) stop() event.Position {
	f.t.Helper()
	if err := f.l.Close(); err != nil {
		f.t.Fatal(err)
	}
	return f.at
}

// want compares the lines delivered since the last call.
func (f *follower) want(lines ...string) {
	f.t.Helper()
	if got, want := strings.Join(f.lines, "|"), strings.Join(lines, "|"); got != want {
		f.t.Fatalf("lines\n got %s\nwant %s", got, want)
	}
	f.lines = nil
}

func (f *follower) wantLost(n int64) {
	f.t.Helper()
	if f.lost != n {
		f.t.Fatalf("lost %d, want %d", f.lost, n)
	}
}

// bubble runs a test in virtual time.
func bubble(t *testing.T, test func(t *testing.T, f folder)) {
	synctest.Test(t, func(t *testing.T) { test(t, newFolder(t)) })
}

// long is a line that is longer than what fingerprints look at.
func long(s string) string { return s + strings.Repeat("-", 1500) + "\n" }

func TestFollowsRename(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		f.write("log", "a\nb\n")
		l := follow(t, f.path("log"), event.Position{}).drain()
		l.want("a", "b")
		f.append("log", "c\n")
		f.rename("log", "log.1")
		f.write("log", "d\n")
		f.append("log.1", "late\n")
		l.drain()
		l.want("c", "late", "d")
		l.wantLost(0)
		l.stop()
	})
}

func TestFollowsCopytruncate(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		f.write("log", "a\nb\n")
		l := follow(t, f.path("log"), event.Position{}).drain()
		f.append("log", "c\nd\n")
		f.copytruncate("log", "log.1")
		f.append("log", "e\nf\ng\nh\n") // longer than what was read
		l.drain()
		l.want("a", "b", "c", "d", "e", "f", "g", "h")
		l.wantLost(0)
		l.stop()
	})
}

func TestResumesAfterRotations(t *testing.T) {
	for _, ext := range []string{"", ".gz", ".zst", ".xz"} {
		for k := range 4 {
			t.Run(fmt.Sprintf("%d%s", k, ext), func(t *testing.T) {
				bubble(t, func(t *testing.T, f folder) {
					f.write("log", long("a")+"b\n")
					l := follow(t, f.path("log"), event.Position{}).drain()
					at := l.stop()
					f.append("log", "c\n")
					want := []string{"c"}
					for i := range k {
						for j := i; j > 0; j-- {
							name := fmt.Sprintf("log.%d", j)
							if _, err := os.Stat(f.path(name + ext)); err == nil {
								f.rename(name+ext, fmt.Sprintf("log.%d%s", j+1, ext))
							}
						}
						f.rename("log", "log.1")
						if ext != "" {
							f.compress("log.1", ext)
						}
						f.write("log", fmt.Sprintf("d%d\n", i))
						want = append(want, fmt.Sprintf("d%d", i))
					}
					l = follow(t, f.path("log"), at).drain()
					l.want(want...)
					l.wantLost(0)
					l.stop()
				})
			})
		}
	}
}

var _ = context.Canceled
