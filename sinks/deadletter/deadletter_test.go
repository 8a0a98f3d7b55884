package deadletter

import (
	"bufio"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bouncemeter/bouncemeter/pipeline"
)

func read(t *testing.T, path string) []record {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []record
	for s := bufio.NewScanner(f); s.Scan(); {
		var r record
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			t.Fatalf("line %q: %v", s.Text(), err)
		}
		all = append(all, r)
	}
	return all
}

func TestPut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dead-letter.jsonl")
	s, err := Open(Config{Path: path, MaxBytes: 1 << 20}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.Put(pipeline.DeadLetter{Source: "mta1", Lane: "/var/log/mail.log", Segment: "abc", Offset: 42,
		Text: []byte("to=<joe@example.com>\x00\xff"), Err: errors.New("no status")})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got := read(t, path)
	if len(got) != 1 {
		t.Fatalf("%d records", len(got))
	}
	r := got[0]
	if r.Source != "mta1" || r.Lane != "/var/log/mail.log" || r.Segment != "abc" || r.Offset != 42 || r.Error != "no status" {
		t.Errorf("record %+v", r)
	}
	if r.Line != "to=<*@example.com>\x00\uFFFD" {
		t.Errorf("line %q", r.Line)
	}
}

func TestTheFileIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dead-letter.jsonl")
	s, err := Open(Config{Path: path, MaxBytes: 10_000}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range int64(200) {
		s.Put(pipeline.DeadLetter{Offset: i, Text: []byte(strings.Repeat("x", 100_000)), Err: errors.New("bad")})
	}
	for _, p := range []string{path, path + ".old"} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 10_000 {
			t.Errorf("%s has %d bytes", p, info.Size())
		}
	}
	all := read(t, path)
	if last := all[len(all)-1].Offset; last != 199 {
		t.Errorf("the last record is %d", last)
	}
}

func TestMissingFolder(t *testing.T) {
	_, err := Open(Config{Path: filepath.Join(t.TempDir(), "no", "file")}, slog.New(slog.DiscardHandler))
	if err == nil || !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "dead_letter") {
		t.Errorf("error %v", err)
	}
}
