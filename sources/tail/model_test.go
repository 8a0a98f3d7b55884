package tail

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/bouncemeter/bouncemeter/event"
)

// model is a log as its writer and logrotate treat it, and what a lane that
// reads it must deliver.
type model struct {
	folder
	t       *rapid.T
	n       int    // lines written
	half    string // written of an unfinished line
	want    []written
	rotated []string // names, newest first

	lane      *follower
	committed event.Position
	delivered []string // at the last commit
}

// written is a line that must be delivered, or may be.
type written struct {
	text string
	may  bool
}

// TestModel does what writers, logrotate, operators and crashes do, in any
// order, and asks for every line once and in order.
func TestModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Without the deadline, which a bubble does not have.
		rapid.Check(struct{ rapid.TB }{t}, func(rt *rapid.T) {
			dir, err := os.MkdirTemp(t.TempDir(), "")
			if err != nil {
				rt.Fatal(err)
			}
			m := &model{folder: folder{t, dir}, t: rt}
			rt.Repeat(map[string]func(*rapid.T){
				"append": m.appendLines, "half": m.halfLine, "rename": m.rotate, "copytruncate": m.truncate,
				"compress": m.compressOne, "delete": m.deleteLive, "read": m.readSome, "commit": m.commit,
				"kill": m.kill, "start": m.start, "wait": func(*rapid.T) { time.Sleep(3 * time.Second) },
			})
			m.appendLines(rt) // after which all rotated files are finished
			m.start(rt)
			m.lane.drain()
			rest := slices.DeleteFunc(m.check(), func(w written) bool { return w.may })
			if len(rest) > 0 {
				rt.Fatalf("missing at the end: %v", rest)
			}
			m.lane.stop()
		})
	})
}

func (w written) String() string { return fmt.Sprintf("%.10s(%t)", w.text, w.may) }

// line makes the next line. As in real logs, where time and process come first,
// its beginning tells it from all others.
func (m *model) line() string {
	m.n++
	words := rapid.SampledFrom([]int{0, 0, 1, 60, 240}).Draw(m.t, "words")
	return fmt.Sprintf("%04d%s", m.n, strings.Repeat(fmt.Sprintf(" w%03d", m.n), words))
}

func (m *model) appendLines(t *rapid.T) {
	m.finishHalf("log")
	var text strings.Builder
	for range rapid.IntRange(1, 6).Draw(t, "lines") {
		line := m.line()
		m.want = append(m.want, written{text: line})
		text.WriteString(line + "\n")
	}
	m.append("log", text.String())
}

func (m *model) halfLine(*rapid.T) {
	if m.half == "" {
		m.half = m.line()
		m.append("log", m.half)
	}
}

// finishHalf ends the unfinished line, in the file it was begun in.
func (m *model) finishHalf(name string) {
	if m.half != "" {
		m.append(name, "+\n")
		m.want = append(m.want, written{text: m.half + "+"})
		m.half = ""
	}
}

func (m *model) exists(name string) bool {
	_, err := os.Stat(m.path(name))
	return err == nil
}

// shift makes room for a new log.1.
func (m *model) shift() {
	for i := len(m.rotated) - 1; i >= 0; i-- {
		old := m.rotated[i]
		name := fmt.Sprintf("log.%d%s", i+2, strings.TrimPrefix(filepath.Ext(old), fmt.Sprintf(".%d", i+1)))
		m.rename(old, name)
		m.rotated[i] = name
	}
	m.rotated = slices.Insert(m.rotated, 0, "log.1")
}

func (m *model) rotate(t *rapid.T) {
	if !m.exists("log") {
		return
	}
	m.shift()
	m.rename("log", "log.1")
	if rapid.Bool().Draw(t, "finish") {
		m.finishHalf("log.1") // by a writer that still has it open
	} else if m.half != "" {
		m.want = append(m.want, written{text: m.half})
		m.half = ""
	}
	if rapid.Bool().Draw(t, "create") {
		m.write("log", "")
	}
}

func (m *model) truncate(t *rapid.T) {
	if !m.exists("log") {
		return
	}
	m.finishHalf("log")
	m.shift()
	b, err := os.ReadFile(m.path("log"))
	m.must(err)
	m.write("log.1", string(b))
	if rapid.Bool().Draw(t, "meanwhile") {
		line := m.line()
		m.want = append(m.want, written{text: line, may: true})
		m.append("log", line+"\n")
		if rapid.Bool().Draw(t, "seen") {
			m.readSome(t)
		}
	}
	m.must(os.Truncate(m.path("log"), 0))
	m.stamp("log")
}

func (m *model) compressOne(t *rapid.T) {
	if len(m.rotated) == 0 {
		return
	}
	i := rapid.IntRange(0, len(m.rotated)-1).Draw(t, "which")
	if name := m.rotated[i]; uncompressed(name) == name {
		ext := rapid.SampledFrom([]string{".gz", ".zst", ".xz"}).Draw(t, "ext")
		m.compress(name, ext)
		m.rotated[i] += ext
	}
}

// deleteLive loses what nobody has read. To keep the model simple, what was
// delivered and not committed may come again or not.
func (m *model) deleteLive(*rapid.T) {
	if !m.exists("log") {
		return
	}
	b, err := os.ReadFile(m.path("log"))
	m.must(err)
	for line := range strings.Lines(string(b)) {
		i := slices.IndexFunc(m.want, func(w written) bool { return w.text == strings.TrimSuffix(line, "\n") })
		if i >= 0 {
			m.want[i].may = true
		}
	}
	if m.half != "" {
		m.want = append(m.want, written{text: m.half, may: true})
		m.half = ""
	}
	m.remove("log")
}

func (m *model) start(*rapid.T) {
	if m.lane == nil {
		m.lane = followAs(m.folder.t, Config{Paths: []string{m.path("log")}, chunk: 1500, MaxLineBytes: 2000}, m.path("log"), m.committed)
		m.lane.lines = slices.Clone(m.delivered)
	}
}

func (m *model) readSome(t *rapid.T) {
	m.start(t)
	for range rapid.IntRange(1, 5).Draw(t, "batches") {
		m.lane.read()
	}
	m.check()
}

func (m *model) commit(*rapid.T) {
	if m.lane != nil {
		m.committed, m.delivered = m.lane.at, slices.Clone(m.lane.lines)
	}
}

func (m *model) kill(*rapid.T) {
	if m.lane != nil {
		m.lane.stop()
		m.lane = nil
	}
}

// check compares what was delivered with what was written: all of it but for
// lines that may be lost and the rest, which it returns.
func (m *model) check() []written {
	want := m.want
	for i, line := range m.lane.lines {
		for len(want) > 0 && want[0].text != line && want[0].may {
			want = want[1:]
		}
		if len(want) == 0 || want[0].text != line {
			m.t.Fatalf("line %d is %.20q, want %v\nall %.20q", i, line, want, m.lane.lines)
		}
		want = want[1:]
	}
	return want
}
