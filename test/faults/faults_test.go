package main

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

// short skips a test unless FAULTS asks for it, and reports whether it asks for
// the short form.
func short(t *testing.T) bool {
	t.Helper()
	switch form := os.Getenv("FAULTS"); form {
	case "short":
		return true
	case "full":
		return false
	default:
		t.Skip("takes minutes in all: set FAULTS=short or full, or run go run ./test/faults")
		return false
	}
}

// figure says what was done or measured, for the table.
func figure(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Logf(figureMark+format, args...)
}

func megabytes(n int64) string { return fmt.Sprintf("%d MB", (n+500_000)/1_000_000) }

// settled waits a moment in which nothing more may be counted.
func settled() { <-time.After(time.Second) }
