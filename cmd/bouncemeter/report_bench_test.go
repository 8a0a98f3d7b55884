package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/internal/simulate"
)

// BenchmarkReport reads a log from beginning to end. The profile that releases are
// built with is one of it; see docs/decisions/0022.
func BenchmarkReport(b *testing.B) {
	log := filepath.Join(b.TempDir(), "mail.log")
	size := writeLog(b, log, 200e6)
	b.SetBytes(size)
	for b.Loop() {
		var faults strings.Builder
		if code := execute(context.Background(), []string{"report", "-o", "json", log}, console{strings.NewReader(""), io.Discard, &faults}); code != 0 {
			b.Fatalf("exit code %d: %s", code, faults.String())
		}
	}
}

// writeLog writes a simulated log of about so many bytes and returns its size.
func writeLog(b *testing.B, path string, about int64) int64 {
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	at := time.Date(2026, 1, 12, 0, 0, 0, 0, time.UTC)
	mta, err := simulate.New(simulate.Config{Seed: 7, Start: at})
	if err != nil {
		b.Fatal(err)
	}
	size := int64(0)
	for size < about {
		at = at.Add(time.Minute)
		n, err := mta.WriteUntil(f, at)
		if err != nil {
			b.Fatal(err)
		}
		size += n
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return size
}
