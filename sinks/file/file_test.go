package file

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/pipeline"
)

func attempt(offset int64) *pipeline.Record {
	return &pipeline.Record{Source: "mta1", Lane: "mail.log", Offset: offset, Event: &event.Event{
		Kind: event.Attempt, Outcome: event.Delivered, Delay: -1, Recipient: []byte("ann@x.example"), Provider: "other",
	}}
}

func open(t testing.TB, c Config) *Sink {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// positions counts the records of files by their positions, and fails on lines
// that are no records.
func positions(t interface{ Errorf(string, ...any) }, pattern string) map[string]int {
	seen := make(map[string]int)
	names, _ := filepath.Glob(pattern)
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Errorf("%v", err)
		}
		for line := range bytes.Lines(b) {
			var r struct{ Position string }
			if err := json.Unmarshal(line, &r); err != nil || line[len(line)-1] != '\n' {
				t.Errorf("%s: %v: %q", name, err, line)
			}
			seen[r.Position]++
		}
	}
	return seen
}

func TestWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.jsonl")
	s := open(t, Config{Path: path, Sync: true})
	a, b := s.Writer("mta1", "a.log"), s.Writer("mta1", "b.log")
	a.Add(attempt(1))
	b.Add(attempt(2))
	if got := positions(t, path); len(got) > 0 {
		t.Errorf("before a flush: %v", got)
	}
	for _, w := range []pipeline.RecordWriter{a, b, a} {
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), "\n") != 2 || !strings.Contains(string(text), `"lane":"b.log"`) || strings.Contains(string(text), "ann") {
		t.Errorf("%s", text)
	}
	if got := s.Stats(); got.Records != 2 || got.Bytes != int64(len(text)) || got.Failures != 0 || got.Failing {
		t.Errorf("%+v", got)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("everybody may read it: %v, %v", info.Mode(), err)
	}
}

// What is closed without a flush is not written: the lane is read again.
func TestCloseDrops(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.jsonl")
	w := open(t, Config{Path: path}).Writer("mta1", "a.log")
	w.Add(attempt(1))
	if err := errors.Join(w.Close(), w.Flush(t.Context())); err != nil {
		t.Fatal(err)
	}
	if got := positions(t, path); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

func TestRotatesBySize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.jsonl")
	s := open(t, Config{Path: path, MaxBytes: 1000, Keep: 2, Sync: true})
	w := s.Writer("mta1", "a.log")
	const n = 50
	for i := range int64(n) {
		w.Add(attempt(i))
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	names, _ := filepath.Glob(path + "*")
	if len(names) != 3 {
		t.Errorf("%v", names)
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil || info.Size() > 1000 {
			t.Errorf("%s: %d bytes, %v", name, info.Size(), err)
		}
	}
	seen := positions(t, path+"*")
	if seen[fmt.Sprintf(":%d:0", n-1)] != 1 || seen[":0:0"] != 0 {
		t.Errorf("not the newest are kept: %v", seen)
	}
	if s.Stats().Rotations == 0 {
		t.Error("no rotation was counted")
	}
}

// A record that is larger than a file may be has a file of its own.
func TestLargeRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.jsonl")
	w := open(t, Config{Path: path, MaxBytes: 10, Keep: 3}).Writer("mta1", "a.log")
	for i := range int64(3) {
		w.Add(attempt(i))
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := positions(t, path+"*"); len(got) != 3 {
		t.Errorf("%v", got)
	}
}

// Others may rename, remove or empty the file.
func TestOthersRotate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "records.jsonl")
	w := open(t, Config{Path: path, Sync: true}).Writer("mta1", "a.log")
	put := func(offset int64) {
		t.Helper()
		w.Add(attempt(offset))
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := positions(t, path); got[fmt.Sprintf(":%d:0", offset)] != 1 {
			t.Errorf("record %d is not in the file of the name: %v", offset, got)
		}
	}
	put(1)
	if err := os.Rename(path, path+"-20260112"); err != nil {
		t.Fatal(err)
	}
	put(2)
	if err := os.Rename(path, path+"-20260113"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o640); err != nil { // as logrotate's create does
		t.Fatal(err)
	}
	put(3)
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	put(4)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	put(5)
	if got := positions(t, path+"-*"); len(got) != 2 {
		t.Errorf("rotated: %v", got)
	}
}

// A line that a crash has cut is ended, and spoils no other.
func TestTornEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.jsonl")
	if err := os.WriteFile(path, []byte("{\"id\":\"5f"), 0o640); err != nil {
		t.Fatal(err)
	}
	w := open(t, Config{Path: path}).Writer("mta1", "a.log")
	w.Add(attempt(1))
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if lines := bytes.SplitAfter(b, []byte{'\n'}); len(lines) != 3 || !json.Valid(lines[1]) {
		t.Errorf("%q", b)
	}
}

func TestDeviceThatIsFull(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("there is no /dev/full")
	}
	s := open(t, Config{Path: "/dev/full", MaxBytes: 10, Keep: 1, Sync: true})
	w := s.Writer("mta1", "a.log")
	w.Add(attempt(1))
	for range 2 {
		if err := w.Flush(t.Context()); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%v", err)
		}
	}
	if got := s.Stats(); got.Failures != 2 || !got.Failing || got.Records != 0 {
		t.Errorf("%+v", got)
	}
}

func TestNoFolder(t *testing.T) {
	_, err := New(Config{Path: filepath.Join(t.TempDir(), "gone", "records.jsonl")})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "create its folder") {
		t.Errorf("%v", err)
	}
}

// The lane is told to commit before its memory grows.
func TestFull(t *testing.T) {
	w := open(t, Config{Path: filepath.Join(t.TempDir(), "records.jsonl")}).Writer("mta1", "a.log")
	n := int64(0)
	for ; !w.Full(); n++ {
		w.Add(attempt(n))
		if n > most/100 {
			t.Fatal("never full")
		}
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.Full() {
		t.Error("full after a flush")
	}
}

// faulty is a file whose disk is full, or failing, when told to be.
type faulty struct {
	*os.File
	fault func(what string) bool
}

func (f faulty) Write(b []byte) (int, error) {
	if !f.fault("write") {
		return f.File.Write(b)
	}
	n, err := f.File.Write(b[:len(b)/2])
	return n, errors.Join(err, syscall.ENOSPC)
}

func (f faulty) Sync() error {
	if f.fault("sync") {
		// The system has dropped what it could not write, and says so once.
		if info, err := f.Stat(); err == nil && f.fault("drop") {
			_ = f.File.Truncate(info.Size() * 2 / 3)
		}
		return syscall.EIO
	}
	return f.File.Sync()
}

func (f faulty) Truncate(size int64) error {
	if f.fault("truncate") {
		return syscall.EIO
	}
	return f.File.Truncate(size)
}

// Whatever the disk does and others do to the file, each record that was flushed
// is in some file, whole. (What was flushed before is not damaged here: a disk
// that does so later is beyond any program.)
func TestNothingFlushedIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "sink")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "records.jsonl")
		faults := rapid.SliceOfN(rapid.IntRange(0, 3), 0, 60).Draw(t, "faults")
		dropped := false
		fault := func(what string) bool {
			if len(faults) == 0 || what == "drop" && dropped {
				return false
			}
			f := faults[0] == 0
			faults = faults[1:]
			return f
		}
		s := &Sink{config: Config{Path: path, MaxBytes: 2000, Keep: 1000, Sync: true}}
		s.open = func(path string) (appender, error) {
			f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o640)
			// Dropping is judged on one file with one lane's records below.
			return faulty{f, func(what string) bool { return what != "drop" && fault(what) }}, err
		}
		defer s.Close()
		writers := []pipeline.RecordWriter{s.Writer("mta1", "a"), s.Writer("mta1", "b")}
		held := make([][]int64, len(writers))
		flushed := make(map[string]bool)
		moved := 0
		for i := range int64(rapid.IntRange(1, 40).Draw(t, "steps")) {
			w := rapid.IntRange(0, 1).Draw(t, "lane")
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0:
				moved++
				_ = os.Rename(path, fmt.Sprintf("%s-%d", path, moved))
			case 1, 2:
				if writers[w].Flush(t.Context()) == nil {
					for _, offset := range held[w] {
						flushed[fmt.Sprintf(":%d:0", offset)] = true
					}
					held[w] = nil
				}
			default:
				writers[w].Add(attempt(i))
				held[w] = append(held[w], i)
			}
		}
		faults = nil
		for w := range writers {
			if err := writers[w].Flush(t.Context()); err != nil {
				t.Fatalf("with a sound disk: %v", err)
			}
			for _, offset := range held[w] {
				flushed[fmt.Sprintf(":%d:0", offset)] = true
			}
		}
		seen := recordsAmongRuins(path + "*")
		for position := range flushed {
			if seen[position] == 0 {
				t.Errorf("%s was flushed and is nowhere", position)
			}
		}
	})
}

// recordsAmongRuins is positions where lines may have been cut.
func recordsAmongRuins(pattern string) map[string]int {
	seen := make(map[string]int)
	names, _ := filepath.Glob(pattern)
	for _, name := range names {
		b, _ := os.ReadFile(name)
		for line := range bytes.Lines(b) {
			var r struct{ Position string }
			if json.Unmarshal(line, &r) == nil {
				seen[r.Position]++
			}
		}
	}
	return seen
}

// A failed sync may have dropped what all lanes had written: each of them writes
// again, also if its own sync would succeed.
func TestFailedSyncIsEverybodys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.jsonl")
	fail := true
	s := open(t, Config{Path: path, Sync: true})
	s.open = func(path string) (appender, error) {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o640)
		return faulty{f, func(what string) bool { return fail && (what == "sync" || what == "drop") }}, err
	}
	if err := s.Close(); err != nil { // so that it is opened with faults
		t.Fatal(err)
	}
	first, err := s.write(t.Context(), []byte("{\"position\":\"a\"}\n"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.write(t.Context(), []byte("{\"position\":\"b\"}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.sync(second); err == nil {
		t.Fatal("a failed sync is told as done")
	}
	fail = false
	if err := s.sync(first); !errors.Is(err, errLost) {
		t.Errorf("the other lane is told %v", err)
	}
	for _, name := range []string{"a", "b"} {
		if err := s.put(t.Context(), []byte("{\"position\":\""+name+"\"}\n"), 1); err != nil {
			t.Fatal(err)
		}
	}
	if seen := recordsAmongRuins(path); seen["a"] == 0 || seen["b"] == 0 {
		t.Errorf("%v", seen)
	}
}

// Lanes write and sync side by side.
func TestLanesSideBySide(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.jsonl")
	s := open(t, Config{Path: path, MaxBytes: 20_000, Keep: 1000, Sync: true})
	const lanes, flushes = 4, 10
	var wg sync.WaitGroup
	for l := range int64(lanes) {
		wg.Go(func() {
			w := s.Writer("mta1", fmt.Sprint(l))
			for i := range int64(flushes) {
				for j := range int64(10) {
					w.Add(attempt(l*1000 + i*10 + j))
				}
				if err := w.Flush(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if seen := positions(t, path+"*"); len(seen) != lanes*flushes*10 {
		t.Errorf("%d records", len(seen))
	}
}

func BenchmarkAdd(b *testing.B) {
	s := open(b, Config{Path: filepath.Join(b.TempDir(), "records.jsonl"), MaxBytes: 64 << 20, Keep: 1})
	w, r := s.Writer("mta1", "a.log"), attempt(1)
	b.ReportAllocs()
	for b.Loop() {
		w.Add(r)
		if w.Full() {
			if err := w.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// A pipe that nobody reads holds up who writes to it until he is told to stop, and
// nobody else.
func TestPipeThatNobodyReads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Path: path, Sync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.put(ctx, make([]byte, 1<<20), 1) }()
	select {
	case err := <-ended:
		t.Fatalf("it took more than a pipe holds: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if got := s.Stats(); got.Records != 0 {
		t.Errorf("%+v", got)
	}
	stop()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it cannot be stopped")
	}
}
