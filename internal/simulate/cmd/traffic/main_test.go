package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestWriteGoesOnWithTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		var log strings.Builder
		now := time.Now()
		if err := write(ctx, &log, 1, 4, now.Add(-time.Hour), now); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
		last, err := time.Parse(time.Stamp, lines[len(lines)-1][:len(time.Stamp)])
		if err != nil {
			t.Fatal(err)
		}
		if want := now.Add(10 * time.Minute).UTC(); last.Minute() != want.Add(-time.Second).Minute() && last.Minute() != want.Minute() {
			t.Errorf("the last line is of %v, want ten minutes after %v", last, now)
		}
	})
}

func TestRotating(t *testing.T) {
	r := &rotating{path: filepath.Join(t.TempDir(), "mail.log"), limit: 5}
	defer r.close()
	for _, line := range []string{"one\n", "two\n", "three\n"} {
		if _, err := r.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{r.path + ".1": "one\ntwo\n", r.path: "three\n"} {
		if b, err := os.ReadFile(name); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v, want %q", name, b, err, want)
		}
	}
}

func TestRecordsOfOneHostKeepTheirOrder(t *testing.T) {
	line := "Jan 12 00:00:00 mx2 postfix-out/smtpd[20001]: connect from app9.prod.internal.example[198.51.100.109]"
	if r := record([]byte(line + "\n")); string(r.Key) != "mx2" || string(r.Value) != line {
		t.Errorf("key %q, value %q", r.Key, r.Value)
	}
}

func TestRunNeedsATarget(t *testing.T) {
	if err := run(t.Context(), nil); err == nil {
		t.Error("nothing to write to, and no error")
	}
}
