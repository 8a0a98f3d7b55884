package tail

import (
	"strings"
	"testing"

	"github.com/bouncemeter/bouncemeter/event"
)

// head is the first line of a file of which all lines begin with name: longer
// than what is read at once.
func head(name string) string { return name + " header " + strings.Repeat("-", 5000) }

// drainHeaded is drain, and checks that each line comes with the first line of
// its own file.
func drainHeaded(t *testing.T, f *follower) {
	t.Helper()
	for quiet := 0; quiet < 3; quiet++ {
		if f.read() > 0 {
			quiet = 0
		}
		for _, l := range f.batch.Lines {
			name, _, _ := strings.Cut(string(l.Text), " ")
			if string(f.batch.Header) != head(name) {
				t.Fatalf("%.20q has the header %.20q (%d bytes)", l.Text, f.batch.Header, len(f.batch.Header))
			}
		}
	}
}

func TestEveryLineHasItsFilesHeader(t *testing.T) {
	for _, ext := range []string{"", ".gz"} {
		bubble(t, func(t *testing.T, f folder) {
			c := Config{Paths: []string{f.path("log")}, chunk: 700}
			f.write("log", head("1")+"\r\n1 a\n")
			l := followAs(t, c, f.path("log"), event.Position{})
			drainHeaded(t, l)
			f.append("log", "1 b\n")
			drainHeaded(t, l)
			at := l.stop() // and rotate while stopped
			f.append("log", "1 c\n")
			f.rename("log", "log.1")
			if ext != "" {
				f.compress("log.1", ext)
			}
			f.write("log", head("2")+"\n2 a\n")
			l = followAs(t, c, f.path("log"), at)
			l.lines = nil
			drainHeaded(t, l)
			l.want("1 c", head("2"), "2 a")
			f.copytruncate("log", "log.0")
			f.append("log", head("3")+"\n3 a\n")
			drainHeaded(t, l)
			l.want(head("3"), "3 a")
			l.stop()
		})
	}
}

func TestHeaderOfALogBegunAtItsEnd(t *testing.T) {
	for name, first := range map[string]string{"lines": head("1") + "\n1 a\n", "half the first line": head("1")[:4500]} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f folder) {
				f.write("log", first)
				l := followAs(t, Config{Paths: []string{f.path("log")}, Start: End}, f.path("log"), event.Position{})
				l.read()
				f.append("log", strings.TrimPrefix(head("1")+"\n1 a\n1 b\n", first))
				drainHeaded(t, l)
				if n := len(l.lines); n == 0 || l.lines[n-1] != "1 b" {
					t.Errorf("%d lines", n)
				}
				l.stop()
			})
		})
	}
}

func TestHeaderOfFinishedFiles(t *testing.T) {
	f := newFolder(t)
	f.write("a", head("1")+"\n1 a\n")
	f.write("b", head("2")+"\n2 a\n")
	f.compress("b", ".zst")
	l, err := OpenFiles([]string{f.path("a"), f.path("b.zst")}, FilesOptions{})
	f.must(err)
	var b event.Batch
	for n := 0; ; n++ {
		if l.Read(t.Context(), &b) != nil {
			if n == 0 {
				t.Error("no lines")
			}
			break
		}
		name := string(b.Lines[0].Text[:1])
		if string(b.Header) != head(name) {
			t.Errorf("lines of %s have the header %.20q", name, b.Header)
		}
	}
	f.must(l.Close())
}

// A line that never ends takes no more memory than the limit.
func TestHeaderIsBounded(t *testing.T) {
	var l firstLine
	for range 100 {
		l.add([]byte(strings.Repeat("x", 4096)))
	}
	l.add([]byte("\n"))
	if n := len(l.line()); n != topBytes || !l.whole {
		t.Errorf("%d bytes are kept", n)
	}
}
