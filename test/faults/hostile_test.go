package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/bouncemeter/bouncemeter/test/internal/oracle"
	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

// Millions of domains that nobody has: the names that are counted apart are
// bounded, and so is memory; the totals are exact.
func TestRandomDomains(t *testing.T) {
	domains := 5_000_000
	if short(t) {
		domains = 200_000
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "mail.log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	random := rand.New(rand.NewPCG(1, 1))
	start := time.Now().Add(-20 * time.Hour)
	for i := range domains {
		now := start.Add(time.Duration(i) * 19 * time.Hour / time.Duration(domains)).UTC().Format("Jan _2 15:04:05")
		fmt.Fprintf(w, "%s mx1 postfix/qmgr[1]: %X: from=<a@s%x.example>, size=1, nrcpt=1 (queue active)\n", now, 0x10000000+i, random.Uint64())
		fmt.Fprintf(w, "%s mx1 postfix/smtp[2]: %X: to=<x@r%x.example>, relay=mx.r%d.example[192.0.2.1]:25, delay=1, delays=0/0/1/0, dsn=5.1.1, status=bounced (host mx.r%d.example[192.0.2.1] said: 550 5.1.1 no such user)\n",
			now, 0x10000000+i, random.Uint64(), i, i)
		fmt.Fprintf(w, "%s mx1 postfix/qmgr[1]: %X: removed\n", now, 0x10000000+i)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	site := rig.NewSite(t, rig.Build(t, ""), dir, rig.Tail(path))
	d := site.Start(t)
	for lines := int64(0); lines < int64(3*domains); { // it may take longer than two minutes
		d.Counts(t, min(lines+1_000_000, int64(3*domains)))
		lines = site.Lines()
	}
	_, metrics := site.Get("/metrics")
	r, err := rig.Measure(d.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	d.Stop(t)
	got := rig.Report(t, site.Binary, "--ledger", site.Ledger)
	if got.Outcomes["bounced"] != int64(domains) || got.Lines != int64(3*domains) {
		t.Errorf("%v of %d lines", got.Outcomes, got.Lines)
	}
	if r.Peak > 150e6 {
		t.Errorf("%s of memory", megabytes(r.Peak))
	}
	if len(metrics) > 3e6 {
		t.Errorf("%d bytes of metrics", len(metrics))
	}
	info, err := os.Stat(site.Ledger)
	if err != nil {
		t.Fatal(err)
	}
	figure(t, "%d sender and %d recipient domains: totals exact, %s of memory at the most, /metrics %d KB, ledger %s", domains, domains, megabytes(r.Peak), len(metrics)/1000, megabytes(info.Size()))
}

// Records that are huge or nested without end are malformed, in no more memory than
// others.
func TestHugeJSON(t *testing.T) {
	short(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "events.log")
	good := `{"t":1790000000,"to":"x@r.example","what":"bounced","text":"550 5.1.1 no"}` + "\n"
	var b bytes.Buffer
	lines := int64(0)
	for _, bad := range []string{
		strings.Repeat("[", 1_000_000) + strings.Repeat("]", 1_000_000),
		strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000),
		`{"t":1790000000,"to":"` + strings.Repeat("x", 100<<20) + `"}`,
		`{"t":` + strings.Repeat("9", 60_000) + `,"to":"x@r.example","what":"bounced"}`,
		`{"t":1e999999999,"to":"x@r.example","what":"bounced"}`,
		`{` + strings.Repeat(`"t":1,`, 9_000) + `"to":"x@r.example"}`,
		`{"t":1790000000,"to":"\ud800\udc00\ud800@r.example","what":"\u0000"`,
	} {
		b.WriteString(good + bad + "\n" + good)
		lines += 3
	}
	rig.Append(t, path, b.Bytes())
	site := rig.NewSite(t, rig.Build(t, ""), dir, fmt.Sprintf(
		"sources: [{name: mta1, kind: tail, paths: [%s], dialect: json, fields: {time: t, recipient: to, outcome: what, text: text}, outcomes: {bounced: [bounced]}}]", path))
	r := read(t, site, lines)
	got := rig.Report(t, site.Binary, "--ledger", site.Ledger)
	if got.Lines != lines || got.Outcomes["bounced"] < 2*lines/3 || got.Malformed+got.Outcomes["bounced"] < lines-1 {
		t.Errorf("%d lines, %d malformed, %v", got.Lines, got.Malformed, got.Outcomes)
	}
	if r.Peak > 150e6 {
		t.Errorf("%s of memory", megabytes(r.Peak))
	}
	figure(t, "a million brackets, ten thousand levels, a string of 100 MiB, endless numbers: %d of %d lines malformed, the others exact, %s of memory", got.Malformed, lines, megabytes(r.Peak))
}

// Files that are small and decompress to much, or ask for much memory, take time or
// are refused, but take no memory, and do not keep the daemon from ending.
func TestBombs(t *testing.T) {
	size := int64(10 << 30)
	if short(t) {
		size = 512 << 20
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "mail.log")
	text := mail(t, 1000)
	rig.Append(t, path, text)

	// Zeros are no lines; a letter again and again is one without end.
	packed := explosive(t, path+".2.gz", size, 0, func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
	packed += explosive(t, path+".3.zst", size, 'x', func(w io.Writer) io.WriteCloser {
		e, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest))
		if err != nil {
			t.Fatal(err)
		}
		return e
	})
	// A frame that asks for a window of 512 MiB.
	var wide bytes.Buffer
	e, err := zstd.NewWriter(&wide, zstd.WithWindowSize(512<<20), zstd.WithSingleSegment(false))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if _, err := e.Write(bytes.Repeat([]byte("x"), 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.WriteFile(path+".1.zst", wide.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{path + ".3.zst": 3 * time.Hour, path + ".2.gz": 2 * time.Hour, path + ".1.zst": time.Hour} {
		if err := os.Chtimes(name, old, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	site := rig.NewSite(t, rig.Build(t, ""), dir, rig.Tail(path))
	d := site.Start(t)
	d.Eventually(t, "it reads", func() bool { return strings.Contains(d.Output(), "lane opened") })
	rig.Pause(t.Context(), 500*time.Millisecond)
	began := time.Now()
	d.Stop(t) // in the middle of it
	stopped := time.Since(began)
	r := read(t, site, 1000)
	want, err := oracle.CountFiles(path)
	if err != nil {
		t.Fatal(err)
	}
	got := rig.Report(t, site.Binary, "--ledger", site.Ledger)
	want.Lines = got.Lines // there is at most one in each bomb
	if err := want.Differs(got); err != nil || got.Lines > 1003 || got.Truncated != 1 {
		t.Errorf("%d lines, %d too long: %v", got.Lines, got.Truncated, err)
	}
	if got.Lost == 0 {
		t.Error("the file that is refused is not counted as lost")
	}
	if r.Peak > 100e6 {
		t.Errorf("%s of memory", megabytes(r.Peak))
	}
	figure(t, "%s of zeros by gzip and as much of one letter by zstd, %s in all, and a zstd frame that asks for 512 MiB: %s of memory, ended %.1f s after SIGTERM in the middle; the letters are one line that was too long, the frame is refused and counted as lost, the log after them exact",
		megabytes(size), megabytes(packed), megabytes(r.Peak), stopped.Seconds())
}

// explosive makes a compressed file of size bytes of one kind and returns how large
// it is.
func explosive(t *testing.T, path string, size int64, of byte, packer func(io.Writer) io.WriteCloser) int64 {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, piece := packer(f), bytes.Repeat([]byte{of}, 1<<20)
	for n := int64(0); n < size && err == nil; n += int64(len(piece)) {
		_, err = w.Write(piece)
	}
	if err := errors.Join(err, w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
