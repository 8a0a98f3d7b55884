package tail

import (
	"bytes"
	"compress/gzip"
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
			t.Run(fmt.Sprint(k, ext), func(t *testing.T) {
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

// The tests below are named after what went wrong in other programs.

func TestReusedInodeIsNoIdentity(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		f.write("log", "a\nb\n")
		at := follow(t, f.path("log"), event.Position{}).drain().stop()
		f.write("log", "c\nd\ne\n") // truncates: the same inode, another file
		l := follow(t, f.path("log"), at).drain()
		l.want("c", "d", "e")
		l.wantLost(1)
		l.stop()
	})
}

func TestSameHeadInTwoFiles(t *testing.T) {
	header := long("header")
	for _, ext := range []string{"", ".gz"} {
		bubble(t, func(t *testing.T, f folder) {
			f.write("log", header+"a\n")
			at := follow(t, f.path("log"), event.Position{}).drain().stop()
			f.append("log", "b\n")
			f.rename("log", "log.1")
			if ext != "" {
				f.compress("log.1", ext)
			}
			f.write("log", header+"c\nd\n")
			l := follow(t, f.path("log"), at).drain()
			l.want("b", strings.TrimSuffix(header, "\n"), "c", "d")
			l.wantLost(0)
			l.stop()
		})
	}
}

func TestSameHeadAfterOldFileIsGone(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		header := long("header")
		f.write("log", header+"a\n")
		at := follow(t, f.path("log"), event.Position{}).drain().stop()
		f.remove("log")
		f.write("log", header+"c\nd\n")
		l := follow(t, f.path("log"), at).drain()
		l.want(strings.TrimSuffix(header, "\n"), "c", "d")
		l.wantLost(1)
		l.stop()
	})
}

func TestZeroByteFilesAreNotAlike(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		f.write("log", "a\n")
		at := follow(t, f.path("log"), event.Position{}).drain().stop()
		f.rename("log", "log.3")
		f.write("log.2", "")
		f.write("log.1", "")
		f.write("log", "")
		l := follow(t, f.path("log"), at).drain()
		l.want()
		f.append("log", "b\n")
		l.drain().want("b")
		l.wantLost(0)
		l.stop()
	})
}

func TestSmallFilesAreRead(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		f.write("log", "a\n")
		l := follow(t, f.path("log"), event.Position{}).drain()
		l.want("a")
		at := l.stop()
		f.append("log", "b\n")
		l = follow(t, f.path("log"), at).drain()
		l.want("b")
		l.stop()
	})
}

func TestCompressedKnownFileIsNotReadAgain(t *testing.T) {
	for _, ext := range []string{".gz", ".zst", ".xz"} {
		bubble(t, func(t *testing.T, f folder) {
			f.write("log", "a\nb\n")
			l := follow(t, f.path("log"), event.Position{}).drain()
			f.rename("log", "log.1")
			f.write("log", "c\n")
			l.drain().want("a", "b", "c")
			f.compress("log.1", ext)
			f.append("log", "d\n")
			l.drain().want("d")
			l = follow(t, f.path("log"), l.stop()).drain()
			l.want()
			l.wantLost(0)
			l.stop()
		})
	}
}

func TestCompressorStillRunning(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		f.write("log.1", long("a")+long("b"))
		whole := compressed(t, []byte(long("a")+long("b")), ".gz")
		f.write("log", "c\n")
		for _, n := range []int{0, 5, len(whole) - 9, len(whole)} {
			f.write("log.1.gz", string(whole[:n]))
			l := follow(t, f.path("log"), event.Position{}).drain()
			l.want(strings.TrimSuffix(long("a"), "\n"), strings.TrimSuffix(long("b"), "\n"), "c")
			l.wantLost(0)
			l.stop()
		}
	})
}

func TestDamagedCompressedFileIsReadAsFarAsPossible(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		whole := compressed(t, []byte("a\nb\n"), ".gz")
		f.write("log.2.gz", string(whole[:len(whole)-4])) // its checksum is missing
		time.Sleep(2 * settle)
		f.write("log.1", "c\n")
		f.write("log", "d\n")
		l := follow(t, f.path("log"), event.Position{}).drain()
		l.want("a", "b", "c", "d")
		l.wantLost(1)
		l.stop()
	})
}

func TestFileShorterThanPosition(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		text := long("a") + "b\nc\n"
		f.write("log", text)
		l := follow(t, f.path("log"), event.Position{}).drain()
		l.lines = nil
		at := l.stop()
		f.must(os.Truncate(f.path("log"), int64(len(text)-2))) // a power failure
		l = follow(t, f.path("log"), at)
		l.drain()
		f.append("log", "d\n")
		l.drain().want("d")
		l.wantLost(1)
		l.stop()
	})
}

func TestTruncatedToTheSameSizeOrMore(t *testing.T) {
	for _, next := range []string{"c\n", "c\nd\n", "c\nd\ne\n", "cdefghi\n"} {
		for _, running := range []bool{true, false} {
			bubble(t, func(t *testing.T, f folder) {
				f.write("log", "a\nb\n")
				l := follow(t, f.path("log"), event.Position{}).drain()
				l.want("a", "b")
				if !running {
					l = follow(t, f.path("log"), l.stop())
				}
				f.copytruncate("log", "log.1")
				f.append("log", next)
				l.drain().want(strings.Split(strings.TrimSuffix(next, "\n"), "\n")...)
				l.wantLost(0)
				l.stop()
			})
		}
	}
}

func TestTruncationWithoutCopyIsCounted(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		f.write("log", "a\nb\n")
		l := follow(t, f.path("log"), event.Position{}).drain()
		f.write("log", "")
		f.append("log", "c\n")
		l.drain().want("a", "b", "c")
		l.wantLost(1)
		if n := l.l.stats.truncations.Load(); n != 1 {
			t.Errorf("truncations %d", n)
		}
		l.stop()
	})
}

func TestHoleAfterTruncationUnderWriter(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		w, err := os.OpenFile(f.path("log"), os.O_WRONLY|os.O_CREATE, 0o600) // does not append
		f.must(err)
		defer func() { f.must(w.Close()) }()
		put := func(s string) {
			_, err := w.WriteString(s)
			f.must(err)
			f.stamp("log")
		}
		put(strings.Repeat("filler\n", 200_000)) // the hole is larger than a chunk
		l := follow(t, f.path("log"), event.Position{}).drain()
		l.lines = nil
		f.copytruncate("log", "log.1")
		put("a\nb\n")
		l.drain().want("a", "b")
		if got := f.offsetOf("log", "b\n"); l.batch.Next.Offset != got+2 {
			t.Errorf("position %d, want %d", l.batch.Next.Offset, got+2)
		}
		l.wantLost(0)
		l = follow(t, f.path("log"), l.stop())
		put("c\n")
		l.drain().want("c")
		l.wantLost(0)
		l.stop()
	})
}

func (f folder) offsetOf(name, text string) int64 {
	b, err := os.ReadFile(f.path(name))
	f.must(err)
	return int64(bytes.LastIndex(b, []byte(text)))
}

func TestUnfinishedLineWaits(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		f.write("log", "a\nhal")
		l := follow(t, f.path("log"), event.Position{}).drain()
		l.want("a")
		if l.at.Offset != 2 {
			t.Fatalf("position %d is inside a line", l.at.Offset)
		}
		l = follow(t, f.path("log"), l.stop()) // restart inside the line
		f.append("log", "f\nb\n")
		l.drain().want("half", "b")
		l.stop()
	})
}

func TestUnfinishedLineOfFinishedFileCounts(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		f.write("log", "a\nhalf")
		l := follow(t, f.path("log"), event.Position{}).drain()
		f.rename("log", "log.1")
		f.write("log", "b\n")
		l.drain().want("a", "half", "b")
		l.stop()
	})
}

func TestOldFileIsKeptWhileThereIsNoNewOne(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		f.write("log", "a\n")
		l := follow(t, f.path("log"), event.Position{}).drain()
		f.rename("log", "log.1")
		l.drain()
		f.append("log.1", "b\n") // the writer has not been told yet
		l.drain().want("a", "b")
		f.write("log", "") // nor has it now
		l.drain()
		f.append("log.1", "c\n")
		l.drain().want("c")
		f.append("log", "d\n")
		l.drain().want("d")
		l.wantLost(0)
		l.stop()
	})
}

func TestDeletedFileIsReadToItsEnd(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		f.write("log", "a\n")
		l := follow(t, f.path("log"), event.Position{}).drain()
		f.append("log", "b\n")
		f.remove("log")
		f.write("log", "c\n")
		l.drain().want("a", "b", "c")
		l.wantLost(0)
		l.stop()
	})
}

func TestLateWriteToLeftFileIsCounted(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		f.write("log", "a\n")
		l := follow(t, f.path("log"), event.Position{}).drain()
		f.rename("log", "log.1")
		f.write("log", "b\n")
		l.drain().want("a", "b")
		f.append("log.1", "late\n")
		l.drain().want()
		l.wantLost(5)
		l.stop()
	})
}

func TestStartAtEnd(t *testing.T) {
	for name, first := range map[string]string{"lines": "a\nb\n", "half line": "a\nb", "only half a line": "b", "empty": "", "missing": "-"} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f folder) {
				f.write("log.1", "old\n")
				if first != "-" {
					f.write("log", first)
				}
				c := Config{Paths: []string{f.path("log")}, Start: End}
				l := followAs(t, c, f.path("log"), event.Position{})
				l.read()
				if l.at == (event.Position{}) {
					t.Fatal("the position is not set: a restart would skip what is written until then")
				}
				at := l.stop() // and rotate while stopped
				f.append("log", "c\n")
				f.rename("log.1", "log.2")
				f.rename("log", "log.1")
				f.write("log", "d\n")
				l = followAs(t, c, f.path("log"), at).drain()
				switch first {
				case "a\nb", "b":
					l.want("bc", "d")
				default:
					l.want("c", "d")
				}
				l.wantLost(0)
				l.stop()
			})
		})
	}
}

func TestBeginsWithOldestRotation(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		for _, name := range []string{"log-20261121", "log-20261122", "log-20261123", "log"} {
			f.write(name, name+"\n")
		}
		f.compress("log-20261121", ".xz")
		f.compress("log-20261122", ".zst")
		l := follow(t, f.path("log"), event.Position{}).drain()
		l.want("log-20261121", "log-20261122", "log-20261123", "log")
		l.stop()
	})
}

func TestCopiesAreNotReadTwice(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		f.write("log.2", "a\n")
		f.write("log.1", "a\nb\n")
		f.write("log", "a\nb\nc\n")
		f.must(os.Link(f.path("log"), f.path("log.3")))
		l := follow(t, f.path("log"), event.Position{}).drain()
		l.want("a", "b", "c")
		l.wantLost(0)
		l.stop()
	})
}

func TestCopyInProgressIsNotReadTwice(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		f.write("log.1", "a\nb\nhalf a li")
		f.write("log", "a\nb\nhalf a line\nc\n")
		l := follow(t, f.path("log"), event.Position{}).drain()
		l.want("a", "b", "half a line", "c")
		f.append("log.1", "ne\nc\n")
		f.write("log", "")
		f.append("log", "d\n")
		l.drain().want("d")
		l.wantLost(0)
		l.stop()
	})
}

func TestNothingIsDecidedWhileAFileIsUnreadable(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		f.write("log", "a\n")
		at := follow(t, f.path("log"), event.Position{}).drain().stop()
		f.append("log", "b\n")
		f.rename("log", "log.1")
		f.write("log", "c\n")
		f.rename("log.1", "hidden")
		f.must(os.Symlink(f.path("log.1"), f.path("log.1"))) // root may read everything but this
		l := follow(t, f.path("log"), at).drain()
		l.want()
		if s := *l.l.stats.state.Load(); !strings.Contains(s, f.path("log.1")) {
			t.Errorf("state %q does not name the file", s)
		}
		f.remove("log.1")
		f.rename("hidden", "log.1")
		l.drain().want("b", "c")
		l.wantLost(0)
		if s := *l.l.stats.state.Load(); s != stateReading {
			t.Errorf("state %q", s)
		}
		l.stop()
	})
}

func TestOddBytes(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		x := strings.Repeat("x", 256)
		f.write("log", "crlf\r\n\n\x00\x00nul\n\x00\nin\x00side\n\xff\xfe\n"+x+"\n"+x+"\r\n"+x+"y\n"+x+strings.Repeat("z", 1<<20)+"\nend\n")
		l := followAs(t, Config{Paths: []string{f.path("log")}, MaxLineBytes: 256}, f.path("log"), event.Position{}).drain()
		l.want("crlf", "", "nul", "", "in\x00side", "\xff\xfe", x, x, x, x, "end")
		if n := l.l.stats.longLines.Load(); n != 2 {
			t.Errorf("%d long lines, want 2", n)
		}
		if c := cap(l.batch.Buffer); c > 2*chunkBytes {
			t.Errorf("buffer grew to %d", c)
		}
		l.stop()
	})
}

func TestRecordIDsAreStable(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		ids := func(l *follower) (ids []string) {
			for quiet := 0; quiet < 3; quiet++ {
				if l.read() > 0 {
					quiet = 0
				}
				for _, line := range l.batch.Lines {
					ids = append(ids, fmt.Sprint(string(line.Text), " ", l.batch.Segment, " ", line.Offset))
				}
			}
			l.stop()
			return ids
		}
		f.write("log", "a\n")
		l := follow(t, f.path("log"), event.Position{})
		l.read()
		first := fmt.Sprint("a ", l.batch.Segment, " 0")
		l.stop()
		f.append("log", long("b")+"c\n")
		live := ids(follow(t, f.path("log"), event.Position{}))
		if live[0] != first {
			t.Errorf("%s became %s as the file grew", first, live[0])
		}
		f.rename("log", "log.1")
		f.compress("log.1", ".zst")
		f.write("log", "d\n")
		if rotated := ids(follow(t, f.path("log"), event.Position{})); fmt.Sprint(rotated[:3]) != fmt.Sprint(live) {
			t.Errorf("ids changed from %.60q to %.60q", live, rotated)
		}
	})
}

func TestLagAndReference(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		f.write("log.1", "a\n")
		written := time.Now().Add(-time.Millisecond)
		time.Sleep(time.Hour)
		f.write("log", "bb\n")
		l := follow(t, f.path("log"), event.Position{})
		l.read()
		if l.batch.Lag != 3 || !l.batch.Reference.Equal(written) {
			t.Errorf("lag %d reference %s, want 3, %s", l.batch.Lag, l.batch.Reference, written)
		}
		l.read()
		if l.batch.Lag != 0 || !l.batch.Reference.Equal(time.Now()) {
			t.Errorf("lag %d reference %s, want 0, now", l.batch.Lag, l.batch.Reference)
		}
		l.stop()
	})
}

func TestUnknownPositionIsRefused(t *testing.T) {
	l := newLane("log", Config{Log: quiet()}.withDefaults(), false)
	for _, p := range []event.Position{{Offset: 5}, {Segment: "2.0.0"}, {Segment: "1.0.0.0.0", Offset: -1}, {Segment: "1.00.0.0.0"}} {
		if err := l.Open(t.Context(), p); err == nil {
			t.Errorf("%+v was taken", p)
		}
	}
}
