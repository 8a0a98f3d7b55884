package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/bouncemeter/bouncemeter/internal/simulate"
)

func TestRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tally.json")
	var log bytes.Buffer
	if err := run([]string{"-bytes", "200K", "-seed", "3", "-tally", path}, &log); err != nil {
		t.Fatal(err)
	}
	if n := log.Len(); n < 200_000 || n > 220_000 || log.Bytes()[n-1] != '\n' {
		t.Errorf("%d bytes, want whole lines of about 200,000", n)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var tally simulate.Tally
	if err := json.Unmarshal(b, &tally); err != nil {
		t.Fatal(err)
	}
	if lines := int64(bytes.Count(log.Bytes(), []byte("\n"))); tally.Lines != lines || tally.Bytes != int64(log.Len()) {
		t.Errorf("tally of %d lines, %d bytes; there are %d, %d", tally.Lines, tally.Bytes, lines, log.Len())
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{"0": 0, "17": 17, "3K": 3000, "100M": 100_000_000, "1G": 1_000_000_000} {
		if n, err := parseSize(s); n != want || err != nil {
			t.Errorf("%s: %d, %v, want %d", s, n, err, want)
		}
	}
	for _, s := range []string{"", "G", "-1", "1T", "1.5G", "99999999999G"} {
		if n, err := parseSize(s); err == nil {
			t.Errorf("%q: %d, want an error", s, n)
		}
	}
}
