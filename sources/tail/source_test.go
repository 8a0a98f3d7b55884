package tail

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

// collector is the work of a pipeline: it remembers lines and positions.
type collector struct {
	mu    sync.Mutex
	lines map[string][]string
	at    map[string]event.Position
	ended []string
}

func newCollector() *collector {
	return &collector{lines: make(map[string][]string), at: make(map[string]event.Position)}
}

func (c *collector) work(ctx context.Context, l *Lane) (err error) {
	c.mu.Lock()
	at := c.at[l.Name()]
	c.mu.Unlock()
	defer func() {
		err = errors.Join(err, l.Close())
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ended = append(c.ended, l.Name())
	}()
	if err := l.Open(ctx, at); err != nil {
		return err
	}
	var b event.Batch
	for {
		if err := l.Read(ctx, &b); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		c.mu.Lock()
		for _, line := range b.Lines {
			c.lines[l.Name()] = append(c.lines[l.Name()], string(line.Text))
		}
		c.at[l.Name()] = b.Next
		c.mu.Unlock()
		l.Committed(b.Next)
	}
}

func (c *collector) got(path string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.lines[path], " ")
}

func TestSourceFollowsNewAndOldFiles(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		f.write("a.log.1", "0\n")
		f.write("a.log", "1\n")
		s, err := New(Config{Paths: []string{f.path("*.log"), f.path("late")}, PollOnly: true, Log: quiet(), Start: End})
		f.must(err)
		c := newCollector()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx, c.work) }()
		wait := func() { time.Sleep(3 * time.Second) }
		wait()
		f.append("a.log", "2\n")
		f.write("b.log", "3\n") // appears later: from its beginning
		f.write("late", "4\n")
		wait()
		for name, want := range map[string]string{"a.log": "2", "b.log": "3", "late": "4"} {
			if got := c.got(f.path(name)); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if st := s.Stats(); len(st) != 3 || st[0].State != stateReading || st[0].Lines != 1 {
			t.Errorf("%+v", st)
		}
		f.remove("b.log")
		f.remove("late")
		time.Sleep(forgetAfter + time.Minute)
		if st := s.Stats(); len(st) != 2 || !slices.Equal(c.ended, []string{f.path("b.log")}) {
			t.Errorf("%+v, ended %v", st, c.ended)
		}
		f.write("b.log", "5\n") // comes back
		wait()
		if got := c.got(f.path("b.log")); got != "3 5" {
			t.Errorf("b.log: %q", got)
		}
		cancel()
		f.must(<-done)
		synctest.Wait()
	})
}

func TestSourceReturnsErrorOfWork(t *testing.T) {
	bubble(t, func(t *testing.T, f folder) {
		s, err := New(Config{Paths: []string{f.path("a"), f.path("b")}, PollOnly: true, Log: quiet()})
		f.must(err)
		broken := errors.New("broken")
		err = s.Run(t.Context(), func(ctx context.Context, l *Lane) error {
			if l.Name() == f.path("a") {
				return broken
			}
			<-ctx.Done()
			return nil
		})
		if !errors.Is(err, broken) {
			t.Errorf("%v", err)
		}
	})
}

// TestFileEventsWake uses real time: without an event, each line would take
// until Read's next look.
func TestFileEventsWake(t *testing.T) {
	f := newFolder(t)
	f.must(os.WriteFile(f.path("log"), []byte("a\n"), 0o600))
	s, err := New(Config{Paths: []string{f.path("log")}, Poll: time.Minute, Log: quiet()})
	f.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	lines := make(chan string)
	done := make(chan error)
	go func() {
		done <- s.Run(ctx, func(ctx context.Context, l *Lane) error {
			f.must(l.Open(ctx, event.Position{}))
			var b event.Batch
			for l.Read(ctx, &b) == nil {
				for _, line := range b.Lines {
					lines <- string(line.Text)
				}
			}
			return l.Close()
		})
	}()
	fastest := time.Hour
	for _, want := range []string{"a", "b", "c", "d", "e"} {
		since := time.Now()
		if got := <-lines; got != want {
			t.Fatalf("%q, want %q", got, want)
		}
		if want != "a" {
			fastest = min(fastest, time.Since(since))
		}
		w, err := os.OpenFile(f.path("log"), os.O_APPEND|os.O_WRONLY, 0)
		f.must(err)
		_, err = w.WriteString(string(want[0]+1) + "\n")
		f.must(errors.Join(err, w.Close()))
	}
	if fastest > idle/2 {
		t.Errorf("no line came sooner than after %s", fastest)
	}
	go func() {
		for range lines { // what is still written
		}
	}()
	cancel()
	f.must(<-done)
	close(lines)
}
