package mailbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/bouncemeter/bouncemeter/event"
)

// deliver puts a message into a Maildir as its specification says.
func deliver(t interface{ Fatal(...any) }, dir, name, text string) {
	tmp := filepath.Join(dir, "tmp", name)
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, "new", name)); err != nil {
		t.Fatal(err)
	}
}

func open(t interface{ Fatal(...any) }, config Config, from event.Position) *Lane {
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	l := &Lane{config: &s.config, path: config.Paths[0]}
	if err := l.Open(context.Background(), from); err != nil {
		t.Fatal(err)
	}
	return l
}

// Whatever is killed between the reading, the commit and the moving away, what
// is committed is every message once.
func TestEveryMessageOnce(t *testing.T) {
	folders := 0
	root := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		folders++
		dir := filepath.Join(root, fmt.Sprint(folders))
		config := Config{Paths: []string{dir}, Delete: rapid.Bool().Draw(t, "delete"), Poll: time.Nanosecond}
		var position event.Position
		lane := open(t, config, position)
		defer func() {
			if err := lane.Close(); err != nil {
				t.Fatal(err)
			}
		}()
		delivered, counted := map[string]int{}, map[string]int{}
		var reading []string
		next := 0
		batch := &event.Batch{}
		read := func() (any bool) {
			if err := lane.Read(context.Background(), batch); err != nil {
				t.Fatal(err)
			}
			for _, l := range batch.Lines {
				reading = append(reading, string(l.Text))
			}
			return len(batch.Lines) > 0
		}
		commit := func() {
			position = batch.Next
			for _, m := range reading {
				counted[m]++
			}
			reading = nil
		}
		restart := func() {
			if err := lane.Close(); err != nil {
				t.Fatal(err)
			}
			reading = nil
			lane = open(t, config, position)
			batch.Next = position
		}
		t.Repeat(map[string]func(*rapid.T){
			"deliver": func(t *rapid.T) {
				// A clock that is set back gives names out of order.
				name := fmt.Sprintf("%d.%d.mx1", rapid.IntRange(100, 110).Draw(t, "time"), next)
				text := fmt.Sprint("message ", next)
				next++
				deliver(t, dir, name, text)
				delivered[text] = 1
			},
			"read":              func(*rapid.T) { read() },
			"commit":            func(*rapid.T) { commit(); lane.Committed(position) },
			"kill":              func(*rapid.T) { restart() },
			"kill after commit": func(*rapid.T) { commit(); restart() },
		})
		for read() {
		}
		commit()
		lane.Committed(position)
		if diff := cmp.Diff(delivered, counted); diff != "" {
			t.Fatalf("(-delivered +counted)\n%s", diff)
		}
		left, err := os.ReadDir(filepath.Join(dir, "new"))
		if err != nil || len(left) > 0 {
			t.Fatalf("%d messages left in new, error %v", len(left), err)
		}
	})
}

func TestLongMessage(t *testing.T) {
	dir := t.TempDir()
	lane := open(t, Config{Paths: []string{dir}, MaxMessageBytes: 10}, event.Position{})
	defer lane.Close()
	deliver(t, dir, "1", "0123456789abc")
	var b event.Batch
	if err := lane.Read(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	if len(b.Lines) != 1 || string(b.Lines[0].Text) != "0123456789" || b.Truncated != 1 || b.Segment != "1" {
		t.Errorf("%+v", b)
	}
}

func TestReadEndsWithItsContext(t *testing.T) {
	lane := open(t, Config{Paths: []string{t.TempDir()}}, event.Position{})
	defer lane.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := lane.Read(ctx, &event.Batch{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestUnusable(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("no paths, no error")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Paths: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Run(t.Context(), func(ctx context.Context, l *Lane) error { return l.Open(ctx, event.Position{}) })
	if err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("error %v", err)
	}
}

func TestWalk(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"mail/cur", "mail/new", "mail/tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"mail/cur/1":  "Subject: one\n\na",
		"mail/new/2":  "Subject: two\n\nb",
		"mail/tmp/3":  "half a mess",
		"mail/.hide":  "x",
		"archive":     "From a@x.example Mon Nov  2 10:00:00 2026\nSubject: three\n\nc\nFrom here on\n\nFrom b@x.example Mon Nov  2 10:00:01 2026\nSubject: four\n",
		"single.eml":  "Subject: five\r\n\r\nFrom now on\r\n",
		"nothing.txt": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	err := Walk([]string{filepath.Join(dir, "mail"), filepath.Join(dir, "archive"), filepath.Join(dir, "single.eml"), filepath.Join(dir, "nothing.txt"), "-"},
		strings.NewReader("Subject: a long message\n"), 20, func(m Message) error {
			name, _ := filepath.Rel(dir, m.Path)
			got = append(got, fmt.Sprintf("%s %d %q %v", name, m.Offset, m.Text, m.Truncated))
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`mail/cur/1 0 "Subject: one\n\na" false`,
		`mail/new/2 0 "Subject: two\n\nb" false`,
		`archive 0 "From a@x.example Mon" true`,
		`archive 74 "From b@x.example Mon" true`,
		`single.eml 0 "Subject: five\r\n\r\nFro" true`,
		` 0 "Subject: a long mess" true`,
	}
	for i := range got {
		if strings.Contains(got[i], "a long mess") {
			got[i] = got[i][strings.IndexByte(got[i], ' '):]
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if err := Walk([]string{filepath.Join(dir, "missing")}, nil, 20, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
