package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/bouncemeter/bouncemeter/event"
)

func open(t testing.TB, c Config) *Spool {
	t.Helper()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func add(t testing.TB, s *Spool, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err := s.Append(Record{Text: []byte(text)}); err != nil {
			t.Fatal(err)
		}
	}
}

// read returns what waits after position from, and the position after it.
func read(t testing.TB, s *Spool, from event.Position) (texts []string, next event.Position, lost int64) {
	t.Helper()
	l := s.Lane()
	if err := l.Open(t.Context(), from); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var b event.Batch
	next = from
	for {
		if end, _ := s.bounds(); l.at >= end {
			return texts, next, lost + l.lost
		}
		if err := l.Read(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		for _, line := range b.Lines {
			texts = append(texts, string(line.Text))
		}
		next, lost = b.Next, lost+b.Lost
	}
}

func want(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("read %q, want %q", got, want)
	}
}

func TestRecordsComeOutAsTheyWentIn(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	defer s.Close()
	long := strings.Repeat("x", 3*chunkBytes)
	add(t, s, "one", "", long, "two\nlines", "\r\x00\xff")
	if err := s.Append(Record{Text: []byte("cut"), Truncated: true}, Record{Text: []byte("four")}); err != nil {
		t.Fatal(err)
	}
	got, next, lost := read(t, s, event.Position{})
	want(t, got, "one", "", long, "two lines", "\r\x00\xff", "cut", "four")
	if lost != 0 {
		t.Errorf("%d bytes lost", lost)
	}
	add(t, s, "five")
	got, _, _ = read(t, s, next)
	want(t, got, "five")
}

func TestTruncatedAndReference(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	defer s.Close()
	before := time.Now().Truncate(time.Millisecond)
	if err := s.Append(Record{Text: []byte("cut"), Truncated: true}); err != nil {
		t.Fatal(err)
	}
	l := s.Lane()
	if err := l.Open(t.Context(), event.Position{}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var b event.Batch
	if err := l.Read(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	if b.Truncated != 1 || b.Segment != s.id || b.Reference.Before(before) || b.Reference.After(time.Now()) {
		t.Errorf("batch: %d truncated, segment %q, reference %v", b.Truncated, b.Segment, b.Reference)
	}
}

// Whoever waits for records gets an empty batch after a second, and records at
// once.
func TestReadWaits(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Config{Dir: dir})
		defer s.Close()
		l := s.Lane()
		if err := l.Open(t.Context(), event.Position{}); err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		var b event.Batch
		start := time.Now()
		if err := l.Read(t.Context(), &b); err != nil || len(b.Lines) != 0 || time.Since(start) != idle {
			t.Errorf("%d lines after %v, %v", len(b.Lines), time.Since(start), err)
		}
		go func() {
			time.Sleep(idle / 2)
			add(t, s, "late")
		}()
		start = time.Now()
		if err := l.Read(t.Context(), &b); err != nil || len(b.Lines) != 1 || time.Since(start) != idle/2 {
			t.Errorf("%d lines after %v, %v", len(b.Lines), time.Since(start), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := l.Read(ctx, &b); !errors.Is(err, context.Canceled) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestFull(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), MaxBytes: 4000})
	defer s.Close()
	text := strings.Repeat("x", 100)
	n := 0
	for ; ; n++ {
		err := s.Append(Record{Text: []byte(text)})
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if size := s.waiting(); size > 4000 || size < 3800 || int64(n*(headBytes+101)) != size {
		t.Errorf("full with %d records and %d bytes", n, size)
	}
	got, next, _ := read(t, s, event.Position{})
	if len(got) != n {
		t.Errorf("%d records of %d", len(got), n)
	}
	s.Lane().Committed(next)
	add(t, s, text) // there is room again
	if size := s.waiting(); size > 1000 {
		t.Errorf("%d bytes are kept of what was counted", size)
	}
}

func TestTornEndIsCutOff(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir, Sync: true})
	add(t, s, "one", "two")
	file := s.segment(0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	frame := appendFrame(nil, time.Now().UnixMilli(), Record{Text: []byte("three")})
	for cut := range frame {
		torn := append(bytes.Clone(whole), frame[:cut]...)
		if err := os.WriteFile(file, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, Config{Dir: dir})
		add(t, s, "four")
		got, _, lost := read(t, s, event.Position{})
		want(t, got, "one", "two", "four")
		if lost != 0 {
			t.Errorf("cut after %d: %d bytes lost", cut, lost)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A flipped bit costs the record that it is in, or two if it made a line feed or
// took one; never those around, and never in silence.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	texts := []string{"alpha", "beta", "gamma", "delta"}
	add(t, s, texts...)
	file := s.segment(0)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 0x40
		if err := os.WriteFile(file, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		got, next, lost := read(t, s, event.Position{})
		if len(got) < 2 || len(got) > 3 || lost == 0 || next.Offset != int64(len(whole)) {
			t.Fatalf("byte %d: read %q, %d bytes lost, at %d", i, got, lost, next.Offset)
		}
		for _, text := range got {
			if !slices.Contains(texts, text) {
				t.Errorf("byte %d: read %q, which nobody wrote", i, text)
			}
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got, _, lost := read(t, s, event.Position{}); len(got) != 0 || lost != int64(len(whole)) {
		t.Errorf("without the file: read %q, %d bytes lost", got, lost)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// After a failed write nobody was told that the record is safe, and it comes once
// when it is sent again.
func TestFailedWrite(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), Sync: true})
	defer s.Close()
	add(t, s, "one")
	readOnly, err := os.Open(s.segment(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.file.Close(); err != nil {
		t.Fatal(err)
	}
	s.file = readOnly // writing fails
	if err := s.Append(Record{Text: []byte("two")}); err == nil || errors.Is(err, ErrFull) {
		t.Fatalf("written to a file that is read-only: %v", err)
	}
	// What a failed fsync may have left behind.
	f, err := os.OpenFile(s.segment(0), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(appendFrame(nil, 0, Record{Text: []byte("two")})); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	add(t, s, "two", "three")
	got, _, lost := read(t, s, event.Position{})
	want(t, got, "one", "two", "three")
	if lost != 0 {
		t.Errorf("%d bytes lost", lost)
	}
}

func TestLedgerIsAhead(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	add(t, s, "one")
	l := s.Lane()
	if err := l.Open(t.Context(), event.Position{Offset: 1000}); err != nil {
		t.Fatal(err)
	}
	add(t, s, "two")
	got, next, lost := read(t, s, event.Position{Offset: 1000})
	want(t, got, "two")
	if lost != 0 || next.Offset <= 1000 {
		t.Errorf("%d bytes lost, at %d", lost, next.Offset)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Config{Dir: dir})
	defer s.Close()
	got, _, _ = read(t, s, event.Position{Offset: 1000})
	want(t, got, "two")
	if err := s.Lane().Open(t.Context(), event.Position{Segment: "1.2.3.4.5", Offset: 3}); err == nil {
		t.Error("the position of another source was taken")
	}
}

func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	if _, err := Open(Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("opened twice: %v", err)
	}
	name := s.Lane().Name()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Config{Dir: dir})
	defer s.Close()
	if again := s.Lane().Name(); again != name || len(name) != len("spool-")+12 {
		t.Errorf("the lane is %q, was %q", again, name)
	}
	other := open(t, Config{Dir: t.TempDir()})
	defer other.Close()
	if other.Lane().Name() == name {
		t.Error("two spools have the same lane")
	}
}

func TestUnusable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: file}); err == nil {
		t.Error("a file was opened as a spool")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, idFile), []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "id of 12 digits") {
		t.Errorf("a damaged id: %v", err)
	}
}

func TestManyAppend(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), Sync: true})
	defer s.Close()
	const writers, each = 8, 50
	var g sync.WaitGroup
	for w := range writers {
		g.Go(func() {
			for i := range each {
				if err := s.Append(Record{Text: fmt.Appendf(nil, "%d %d", w, i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	g.Wait()
	got, _, _ := read(t, s, event.Position{})
	var next [writers]int
	for _, text := range got {
		var w, i int
		if _, err := fmt.Sscan(text, &w, &i); err != nil || i != next[w] {
			t.Fatalf("%q is out of order", text)
		}
		next[w]++
	}
	if len(got) != writers*each {
		t.Errorf("%d records of %d", len(got), writers*each)
	}
}

// Whatever happens in whatever order, each record that was safe is counted once:
// what is read after the last committed position is read again, what is before it
// never.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "model")
		if err != nil {
			rt.Fatal(err)
		}
		config := Config{Dir: dir, MaxBytes: 2000, Log: slog.New(slog.DiscardHandler)}
		s, err := Open(config)
		if err != nil {
			rt.Fatal(err)
		}
		var (
			safe      []string // all that were appended
			counted   int      // how many of them are committed
			committed event.Position
			lane      *Lane
			ahead     int // how many are read and not committed
			at        event.Position
		)
		start := func() {
			lane, ahead, at = s.Lane(), 0, committed
			if err := lane.Open(context.Background(), committed); err != nil {
				rt.Fatal(err)
			}
		}
		start()
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				var records []Record
				for range rapid.IntRange(1, 3).Draw(rt, "records") {
					text := fmt.Sprint(len(safe)+len(records), strings.Repeat("x", rapid.IntRange(0, 200).Draw(rt, "bytes")))
					records = append(records, Record{Text: []byte(text)})
				}
				err := s.Append(records...)
				if errors.Is(err, ErrFull) {
					return
				}
				if err != nil {
					rt.Fatal(err)
				}
				for _, r := range records {
					safe = append(safe, string(r.Text))
				}
			},
			"read": func(rt *rapid.T) {
				if counted+ahead == len(safe) {
					return
				}
				var b event.Batch
				if err := lane.Read(context.Background(), &b); err != nil {
					rt.Fatal(err)
				}
				for _, line := range b.Lines {
					if string(line.Text) != safe[counted+ahead] {
						rt.Fatalf("read %q, want %q", line.Text, safe[counted+ahead])
					}
					ahead++
				}
				if b.Lost != 0 {
					rt.Fatalf("%d bytes lost", b.Lost)
				}
				at = b.Next
			},
			"commit": func(*rapid.T) {
				counted, ahead, committed = counted+ahead, 0, at
				lane.Committed(committed)
			},
			"lose the lane": func(*rapid.T) { _ = lane.Close(); start() },
			"kill": func(rt *rapid.T) {
				_ = lane.Close()
				last := s.segment(s.segments[len(s.segments)-1])
				if err := s.Close(); err != nil {
					rt.Fatal(err)
				}
				if torn := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(rt, "torn"); len(torn) > 0 {
					f, err := os.OpenFile(last, os.O_APPEND|os.O_WRONLY, 0)
					if err != nil {
						rt.Fatal(err)
					}
					_, _ = f.Write(torn)
					_ = f.Close()
				}
				if s, err = Open(config); err != nil {
					rt.Fatal(err)
				}
				start()
			},
			"fail": func(*rapid.T) {
				if s.file == nil {
					return
				}
				_ = s.file.Close() // the next write fails, unless it begins a segment
				text := fmt.Sprint(len(safe))
				switch err := s.Append(Record{Text: []byte(text)}); {
				case err == nil:
					safe = append(safe, text)
				case errors.Is(err, ErrFull): // it did not get as far
					s.file = nil
				}
			},
			"": func(rt *rapid.T) {
				if size := s.waiting(); size > config.MaxBytes {
					rt.Fatalf("%d bytes wait", size)
				}
			},
		})
		_ = lane.Close()
		_ = s.Close()
	})
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte("text"), int64(1790000000000), false)
	f.Add([]byte(""), int64(0), true)
	f.Fuzz(func(t *testing.T, text []byte, millis int64, truncated bool) {
		millis &= 1<<44 - 1
		frame := appendFrame(nil, millis, Record{text, truncated})
		got, r, ok := parseFrame(frame[:len(frame)-1])
		if !ok || got != millis || r.Truncated != truncated || !bytes.Equal(r.Text, bytes.ReplaceAll(text, []byte("\n"), []byte(" "))) {
			t.Errorf("%q became %q at %d, %v, %v", text, r.Text, got, r.Truncated, ok)
		}
		_, _, _ = parseFrame(text) // no panic
		if end, err := lastFrame(bytes.NewReader(append(frame, text...))); err != nil || end < int64(len(frame)) {
			t.Errorf("the last frame ends at %d, not at %d: %v", end, len(frame), err)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	record := Record{Text: bytes.Repeat([]byte("x"), 1000)}
	for _, sync := range []bool{false, true} {
		b.Run(fmt.Sprintf("sync=%v", sync), func(b *testing.B) {
			s := open(b, Config{Dir: b.TempDir(), Sync: sync, MaxBytes: 1 << 40})
			defer s.Close()
			b.SetBytes(int64(len(record.Text)))
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := s.Append(record); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

func BenchmarkRead(b *testing.B) {
	s := open(b, Config{Dir: b.TempDir(), MaxBytes: 1 << 40})
	defer s.Close()
	text := strings.Repeat("x", 1000)
	const records = 10_000
	for range records {
		add(b, s, text)
	}
	end, _ := s.bounds()
	b.SetBytes(end)
	b.ReportAllocs()
	var batch event.Batch
	for b.Loop() {
		l := s.Lane()
		if err := l.Open(b.Context(), event.Position{}); err != nil {
			b.Fatal(err)
		}
		for l.at < end {
			if err := l.Read(b.Context(), &batch); err != nil {
				b.Fatal(err)
			}
		}
		_ = l.Close()
	}
}

// waiting returns how many bytes are kept, read ones in part.
func (s *Spool) waiting() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end - s.segments[0]
}
