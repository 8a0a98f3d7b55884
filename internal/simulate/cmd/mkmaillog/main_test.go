package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
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

func TestRunRefusesWhatIsNoSize(t *testing.T) {
	for _, size := range []string{"", "G", "-1", "100X"} {
		if err := run([]string{"-bytes", size}, io.Discard); err == nil || !strings.Contains(err.Error(), "100M") {
			t.Errorf("%q: %v, want an error with an example", size, err)
		}
	}
}
