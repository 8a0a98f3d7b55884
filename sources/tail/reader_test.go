package tail

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/bouncemeter/bouncemeter/event"
)

// reference splits as the documentation says, whole.
func reference(data []byte, limit int) (lines [][]byte, truncated int) {
	for len(data) > 0 {
		line, rest, found := bytes.Cut(data, []byte("\n"))
		data = rest
		line = bytes.TrimLeft(line, "\x00")
		if !found && len(line) == 0 {
			break
		}
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) > limit {
			line = line[:limit]
			truncated++
		}
		lines = append(lines, line)
	}
	return lines, truncated
}

// FuzzSplit checks that lines do not depend on where reads happen to end.
func FuzzSplit(f *testing.F) {
	f.Add([]byte("a\nb\r\n\nlonger than the limit\n\x00\x00x\x00y\n\x00"), []byte{3, 1, 7})
	f.Add([]byte("12345678\r\n12345678\r\r\n123456789\r\nrest"), []byte{9, 1})
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\n"), []byte{1})
	f.Fuzz(func(t *testing.T, data, sizes []byte) {
		const limit = 8
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := openFile(path, true)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.close() }()
		r, err := newReader(file, limit, 1)
		if err != nil {
			t.Fatal(err)
		}
		want, wantTruncated := reference(data, limit)
		var b event.Batch
		truncated, n := 0, 0
		check := func() {
			for _, line := range b.Lines {
				if n >= len(want) || !bytes.Equal(line.Text, want[n]) {
					t.Fatalf("line %d is %q, want %q", n, line.Text, want)
				}
				if !bytes.HasPrefix(data[line.Offset:], line.Text) {
					t.Fatalf("line %d %q is not at %d", n, line.Text, line.Offset)
				}
				n++
			}
			truncated += b.Truncated
			if r.start > 0 && r.start < int64(len(data)) && data[r.start-1] != '\n' {
				t.Fatalf("position %d is inside a line", r.start)
			}
			if tail := data[max(0, r.start-tailBytes):r.start]; !bytes.Equal(tail, r.done.bytes()) {
				t.Fatalf("before %d is %q, fingerprint of %q", r.start, tail, r.done.bytes())
			}
		}
		for i := 0; ; i++ {
			if len(sizes) > 0 {
				r.chunk = 1 + int(sizes[i%len(sizes)])
			}
			b.Reset()
			_, err := r.fill(&b)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			check()
			if len(r.carry) > limit+1 {
				t.Fatalf("%d bytes of an unfinished line are kept", len(r.carry))
			}
		}
		r.finish(&b)
		check()
		if n != len(want) || truncated != wantTruncated {
			t.Fatalf("%d lines, %d truncated, want %d, %d", n, truncated, len(want), wantTruncated)
		}
	})
}

// FuzzPosition checks that what is taken for a position is one, and is written
// again as it was.
func FuzzPosition(f *testing.F) {
	f.Add(place{mark: mark{1, 2, 3, 4}, offset: 5}.position().Segment, int64(5))
	f.Add("", int64(0))
	f.Add("1.-1.2.3.4", int64(1))
	f.Add("1.0.0.0.ffffffffffffffff", int64(0))
	f.Fuzz(func(t *testing.T, segment string, offset int64) {
		p := event.Position{Segment: segment, Offset: offset}
		at, err := parsePosition(p)
		if err == nil && at.position() != p {
			t.Fatalf("%+v became %+v", p, at.position())
		}
	})
}

// bigLog writes a log of n bytes with lines of 166 bytes, the mean of a mail
// log, and returns its path.
func bigLog(b *testing.B, n int) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "log")
	var text bytes.Buffer
	for i := 0; text.Len() < n; i++ {
		fmt.Fprintf(&text, "Nov 23 10:00:00 mx1 postfix/smtp[311]: %012d: to=<user@example.com>, relay=mx.example.com[192.0.2.1]:25, delay=1.2, delays=0.1/0/0.5/0.6, dsn=2.0.0, status=sent\n", i)
	}
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

const bigLogBytes = 200 << 20

// BenchmarkRead is what a lane costs beside the loop that has to be run in any
// case, BenchmarkReadLoop.
func BenchmarkRead(b *testing.B) {
	path := bigLog(b, bigLogBytes)
	for _, chunk := range []int{64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("chunk=%dK", chunk>>10), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(bigLogBytes)
			var batch event.Batch
			lines := 0
			for b.Loop() {
				l := newLane(path, Config{Log: quiet(), chunk: chunk}.withDefaults(), false)
				for n := int64(0); n < bigLogBytes; n = l.r.start {
					if err := l.Read(b.Context(), &batch); err != nil {
						b.Fatal(err)
					}
					lines += len(batch.Lines)
				}
				if err := l.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(lines)/float64(b.Elapsed().Microseconds()), "Mlines/s")
		})
	}
}

// BenchmarkReadLoop reads and looks for newlines, and does nothing else.
func BenchmarkReadLoop(b *testing.B) {
	path := bigLog(b, bigLogBytes)
	for _, chunk := range []int{256 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("chunk=%dK", chunk>>10), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(bigLogBytes)
			buf := make([]byte, chunk)
			for b.Loop() {
				f, err := os.Open(path)
				if err != nil {
					b.Fatal(err)
				}
				lines := 0
				for {
					n, err := f.Read(buf)
					for p := buf[:n]; ; lines++ {
						i := bytes.IndexByte(p, '\n')
						if i < 0 {
							break
						}
						p = p[i+1:]
					}
					if err == io.EOF {
						break
					}
				}
				if lines == 0 {
					b.Fatal("no lines")
				}
				_ = f.Close()
			}
		})
	}
}

// TestReadDoesNotAllocatePerLine allows for the few allocations of a batch.
func TestReadDoesNotAllocatePerLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, bytes.Repeat([]byte("Nov 23 10:00:00 mx1 postfix/qmgr[1]: 4F2: removed\n"), 200_000), 0o600); err != nil {
		t.Fatal(err)
	}
	l := newLane(path, Config{Log: quiet()}.withDefaults(), false)
	var b event.Batch
	lines := 0
	read := func() {
		if err := l.Read(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		lines += len(b.Lines)
	}
	read() // grows the batch
	lines = 0
	allocs := testing.AllocsPerRun(20, read)
	if perBatch := float64(lines) / 21; allocs > 10 || perBatch < 1000 {
		t.Errorf("%.1f allocations for a batch of %.0f lines", allocs, perBatch)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
