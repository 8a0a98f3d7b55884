package tail

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

// TestRotationWhileReading has a writer that rotates by renaming and compresses
// the second file, as fast as it can and in real time, and a lane that is
// stopped again and again at a position that is not the last one.
func TestRotationWhileReading(t *testing.T) {
	const rotations, perFile = 40, 500
	f := newFolder(t)
	written := make(chan error, 1)
	go func() { written <- rotateBusily(f, rotations, perFile) }()

	c := Config{Paths: []string{f.path("log")}, Log: quiet(), Poll: 10 * time.Millisecond, Grace: time.Nanosecond, chunk: 4 << 10}.withDefaults()
	var committed event.Position
	next, lost := 0, int64(0)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for next < rotations*perFile {
		l := newLane(f.path("log"), c, false)
		f.must(l.Open(ctx, committed))
		n := next
		for range 1 + rand.IntN(60) {
			var b event.Batch
			if err := l.Read(ctx, &b); err != nil {
				t.Fatalf("line %d of %d: %v", n, rotations*perFile, err)
			}
			for _, line := range b.Lines {
				if want := fmt.Sprintf("%08d", n); !strings.HasPrefix(string(line.Text), want) {
					t.Fatalf("%.20q, want %s", line.Text, want)
				}
				n++
			}
			lost += b.Lost
			if rand.IntN(3) > 0 {
				committed, next = b.Next, n
			}
			if n == rotations*perFile {
				committed, next = b.Next, n
				break
			}
		}
		f.must(l.Close())
	}
	f.must(<-written)
	if lost > 0 {
		t.Errorf("lost %d", lost)
	}
}

// rotateBusily writes numbered lines and rotates the log after each perFile.
func rotateBusily(f folder, rotations, perFile int) error {
	n := 0
	for range rotations {
		w, err := os.OpenFile(f.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		for range perFile {
			if _, err := fmt.Fprintf(w, "%08d %s\n", n, strings.Repeat("x", n%97)); err != nil {
				return err
			}
			n++
		}
		if err := w.Close(); err != nil {
			return err
		}
		for i := rotations; i > 0; i-- {
			for _, ext := range []string{"", ".gz"} {
				err := os.Rename(f.path(fmt.Sprintf("log.%d%s", i, ext)), f.path(fmt.Sprintf("log.%d%s", i+1, ext)))
				if err != nil && !errors.Is(err, os.ErrNotExist) {
					return err
				}
			}
		}
		if err := os.Rename(f.path("log"), f.path("log.1")); err != nil {
			return err
		}
		if b, err := os.ReadFile(f.path("log.2")); err == nil {
			whole := compressed(f.t, b, ".gz")
			if err := os.WriteFile(f.path("log.2.gz"), whole[:len(whole)/2], 0o600); err != nil {
				return err
			}
			if err := os.WriteFile(f.path("log.2.gz"), whole, 0o600); err != nil {
				return err
			}
			if err := os.Remove(f.path("log.2")); err != nil {
				return err
			}
		}
	}
	return nil
}

// TestCopytruncateWhileWriting has a writer that never stops while the log is
// copied and truncated, and a lane that is stopped again and again. Lines may
// be lost between a copy and its truncation, but what is in any file at the end
// was delivered, and none comes twice. A copy may end inside a line, since a
// write becomes visible page by page; nothing else tears lines.
func TestCopytruncateWhileWriting(t *testing.T) {
	const lines, rotations = 30_000, 15
	f := newFolder(t)
	w, err := os.OpenFile(f.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	f.must(err)
	written := make(chan error, 1)
	turn := make(chan int, 1) // how far the writer is; closed at its end
	rotated := make(chan error, 1)
	go func() {
		put := func(n int) error {
			_, err := fmt.Fprintf(w, "%08d %s.\n", n, strings.Repeat("x", n%97))
			return err
		}
		for n := range lines - 1 {
			if err := put(n); err != nil {
				written <- err
				return
			}
			if (n+1)%(lines/rotations) == 0 {
				turn <- n
			}
		}
		close(turn)
		err := <-rotated
		written <- errors.Join(err, put(lines-1), w.Close()) // the last line is not lost
	}()
	go func() {
		for range turn {
			for i := rotations; i > 0; i-- {
				_ = os.Rename(f.path(fmt.Sprintf("log.%d", i)), f.path(fmt.Sprintf("log.%d", i+1)))
			}
			b, err := os.ReadFile(f.path("log"))
			err = errors.Join(err, os.WriteFile(f.path("log.1"), b, 0o600), os.Truncate(f.path("log"), 0))
			if err != nil {
				rotated <- err
				return
			}
		}
		rotated <- nil
	}()

	c := Config{Paths: []string{f.path("log")}, Log: quiet(), Poll: 10 * time.Millisecond, Grace: time.Nanosecond, chunk: 4 << 10}.withDefaults()
	var committed event.Position
	next := 0
	var delivered []int
	torn := make(map[string]bool)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for next < lines {
		l := newLane(f.path("log"), c, false)
		f.must(l.Open(ctx, committed))
		n, read := next, slices.Clone(delivered)
		for range 1 + rand.IntN(100) {
			var b event.Batch
			if err := l.Read(ctx, &b); err != nil {
				t.Fatalf("line %d of %d: %v", n, lines, err)
			}
			for _, line := range b.Lines {
				if line.Text[len(line.Text)-1] != '.' {
					torn[string(line.Text)] = true
					continue
				}
				var got int
				if _, err := fmt.Sscanf(string(line.Text), "%d", &got); err != nil || got < n {
					t.Fatalf("%q after %d", line.Text, n)
				}
				n, read = got+1, append(read, got)
			}
			if rand.IntN(3) > 0 || n == lines {
				committed, next, delivered = b.Next, n, read
			}
			if n == lines {
				break
			}
		}
		f.must(l.Close())
	}
	f.must(<-written)
	if len(delivered) < lines/2 {
		t.Errorf("%d of %d lines", len(delivered), lines)
	}
	for i := range rotations {
		b, err := os.ReadFile(f.path(strings.TrimSuffix(fmt.Sprintf("log.%d", i), ".0")))
		f.must(err)
		for line := range strings.Lines(string(b)) {
			if !strings.HasSuffix(line, "\n") {
				delete(torn, line)
				continue
			}
			n, err := strconv.Atoi(line[:8])
			f.must(err)
			if _, ok := slices.BinarySearch(delivered, n); !ok {
				t.Fatalf("line %d is in log.%d and was not delivered", n, i)
			}
		}
	}
	if len(torn) > 0 {
		t.Errorf("torn lines that are no copy's end: %v", torn)
	}
}
