package main

import (
	"errors"
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
	f, err := os.Create(log)
	if err != nil {
		b.Fatal(err)
	}
	began := time.Date(2026, 1, 12, 0, 0, 0, 0, time.UTC)
	mta, err := simulate.New(simulate.Config{Seed: 7, Start: began})
	if err != nil {
		b.Fatal(err)
	}
	size, err := mta.WriteUntil(f, began.Add(9*time.Hour)) // about 200 MB
	if err := errors.Join(err, f.Close()); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	for b.Loop() {
		var faults strings.Builder
		if code := execute(b.Context(), []string{"report", "-o", "json", log}, console{strings.NewReader(""), io.Discard, &faults}); code != 0 {
			b.Fatalf("exit code %d: %s", code, faults.String())
		}
	}
}
