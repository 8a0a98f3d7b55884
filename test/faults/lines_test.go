package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/bouncemeter/bouncemeter/test/internal/oracle"
	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

// read runs a daemon on a log until it has counted lines.
func read(t *testing.T, site *rig.Site, lines int64) rig.Resources {
	t.Helper()
	d := site.Start(t)
	d.Counts(t, lines)
	settled()
	r, err := rig.Measure(d.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	d.Stop(t)
	return r
}

// A gigabyte without the end of a line takes no memory, and is one line that was
// too long.
func TestEndlessLine(t *testing.T) {
	size := 1 << 30
	if short(t) {
		size = 256 << 20
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "mail.log")
	text := mail(t, 1000)
	rig.Append(t, path, text)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for piece, n := bytes.Repeat([]byte("x"), 1<<20), 0; n < size; n += len(piece) {
		if _, err := f.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	rig.Append(t, path, append([]byte("\n"), text...))
	site := rig.NewSite(t, rig.Build(t, ""), dir, rig.Tail(path))
	if _, err := os.Stat("/usr/bin/prlimit"); err == nil {
		site.Prefix = []string{"/usr/bin/prlimit", "--data=300000000"}
	}
	lines := 2*int64(bytes.Count(text, []byte("\n"))) + 1
	r := read(t, site, lines)
	if got := rig.Report(t, site.Binary, "--ledger", site.Ledger); got.Lines != lines || got.Truncated != 1 {
		t.Errorf("%d lines, %d too long", got.Lines, got.Truncated)
	}
	if r.Peak > 100e6 {
		t.Errorf("%s of memory", megabytes(r.Peak))
	}
	figure(t, "a line of %s under a limit of 300 MB of data: truncated and counted, %s of memory at the most", megabytes(int64(size)), megabytes(r.Peak))
}

// Holes of NUL bytes, which a crash of the machine leaves, are no lines; bytes that
// are no UTF-8 are shown as such nowhere.
func TestOddBytes(t *testing.T) {
	short(t)
	dir := t.TempDir()
	path, all := filepath.Join(dir, "mail.log"), filepath.Join(dir, "everything")
	text := mail(t, 3000)
	text = bytes.ReplaceAll(text, []byte("said: "), []byte("said: \xff\xfe\xc3\x28 "))
	text = bytes.ReplaceAll(text, []byte("@shop.example"), []byte("@sh\xf0\x9f\xe9p.example"))
	rig.Append(t, all, text)
	for i, half := range [][]byte{text[:bytes.IndexByte(text[len(text)/2:], '\n')+len(text)/2+1], nil} {
		if i == 1 {
			half = text[bytes.IndexByte(text[len(text)/2:], '\n')+len(text)/2+1:]
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, info.Size()+64<<20); err != nil { // a hole
				t.Fatal(err)
			}
		}
		rig.Append(t, path, half)
	}
	site := rig.NewSite(t, rig.Build(t, ""), dir, rig.Tail(path))
	d := site.Start(t)
	want, err := oracle.CountFiles(all)
	if err != nil {
		t.Fatal(err)
	}
	d.Counts(t, want.Lines)
	pages := 0
	for _, page := range []string{"/metrics", "/", "/api/v1/counts?by=sender_domain", "/api/v1/alerts", "/report"} {
		status, body := site.Get(page)
		if status != 200 {
			continue
		}
		pages++
		if !utf8.ValidString(body) || strings.ContainsRune(body, 0) {
			t.Errorf("%s is not UTF-8", page)
		}
		if strings.HasPrefix(page, "/api/") && !json.Valid([]byte(body)) {
			t.Errorf("%s is not JSON", page)
		}
	}
	d.Stop(t)
	if pages < 3 {
		t.Errorf("%d pages", pages)
	}
	want.Senders = nil
	if err := want.Differs(rig.Report(t, site.Binary, "--ledger", site.Ledger)); err != nil {
		t.Error(err)
	}
	figure(t, "a hole of 64 MiB and bytes that are no UTF-8 in %d lines: exact, and what is shown is UTF-8", want.Lines)
}

// Every hundredth line is rubbish: it is counted and kept, and the others count as
// if it were not there.
func TestPoisonLines(t *testing.T) {
	short(t)
	random := rand.New(rand.NewPCG(1, 1))
	dir := t.TempDir()
	path, good := filepath.Join(dir, "mail.log"), filepath.Join(dir, "good")
	text := mail(t, 50_000)
	rig.Append(t, good, text)
	var mixed bytes.Buffer
	poison := int64(0)
	for line := range bytes.Lines(text) {
		mixed.Write(line)
		if random.IntN(100) > 0 {
			continue
		}
		poison++
		switch random.IntN(3) {
		case 0: // noise
			for range 1 + random.IntN(300) {
				if c := byte(random.IntN(256)); c != '\n' {
					mixed.WriteByte(c | 0x80)
				}
			}
		case 1: // a delivery that says not what became of it
			mixed.WriteString("Jan 12 00:00:01 mx1 postfix/smtp[1]: 4F2A1B3C01: to=<ann@r.example>, relay=none, status=")
		case 2:
			mixed.WriteString("xx" + string(line[:len(line)/3]))
		}
		mixed.WriteByte('\n')
	}
	rig.Append(t, path, mixed.Bytes())
	site := rig.NewSite(t, rig.Build(t, ""), dir, rig.Tail(path))
	want, err := oracle.CountFiles(good)
	if err != nil {
		t.Fatal(err)
	}
	read(t, site, want.Lines+poison)
	got := rig.Report(t, site.Binary, "--ledger", site.Ledger)
	if got.Malformed != poison {
		t.Errorf("%d lines are malformed, want %d", got.Malformed, poison)
	}
	want.Lines += poison
	if err := want.Differs(got); err != nil {
		t.Error(err)
	}
	kept, err := os.ReadFile(filepath.Join(dir, "dead-letter.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if n := int64(bytes.Count(kept, []byte("\n"))); n != poison {
		t.Errorf("%d dead letters, want %d", n, poison)
	}
	figure(t, "%d of %d lines: all counted as malformed and kept, the others exact", poison, want.Lines)
}

// Lines out of order, by minutes and by days, are counted in their own minutes.
func TestShuffledLines(t *testing.T) {
	short(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "mail.log")
	random := rand.New(rand.NewPCG(1, 1))
	var lines []string
	for s := bufio.NewScanner(bytes.NewReader(mail(t, 40_000))); s.Scan(); {
		lines = append(lines, s.Text())
	}
	random.Shuffle(len(lines)/2, func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	for i := len(lines) / 2; i+200 < len(lines); i += 200 { // and nearby
		random.Shuffle(200, func(a, b int) { lines[i+a], lines[i+b] = lines[i+b], lines[i+a] })
	}
	rig.Append(t, path, []byte(strings.Join(lines, "\n")+"\n"))
	site := rig.NewSite(t, rig.Build(t, ""), dir, rig.Tail(path))
	read(t, site, int64(len(lines)))
	want, err := oracle.CountFiles(path)
	if err != nil {
		t.Fatal(err)
	}
	want.Senders = nil // who sent what is told by lines that come too late
	if err := want.Differs(rig.Report(t, site.Binary, "--ledger", site.Ledger)); err != nil {
		t.Error(err)
	}
	site.SameAsOneShot(t, path)
	figure(t, "%d lines, half of them shuffled over a day and half by seconds: outcomes exact", len(lines))
}

// The clock of the machine jumps, ahead and back, while a log grows: counts do not
// depend on it.
func TestClockJumps(t *testing.T) {
	if short(t) {
		t.Skip("builds the program and all of its library anew, which takes minutes")
	}
	binary := rig.BuildWithClock(t)
	text := mail(t, 20_000)
	var tried []string
	for _, jump := range []struct{ name, clock string }{
		{"an hour ahead", "3600@2"},
		{"two days back", "-172800@2"},
		{"to 1970 before NTP", "-1795000000@0"},
	} {
		t.Run(jump.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "mail.log")
			site := rig.NewSite(t, binary, dir, rig.Tail(path)+"limits: {commit_every: 100ms}")
			d := site.Start(t, "CLOCK="+jump.clock)
			for i := range 10 { // four seconds
				rig.Append(t, path, text[len(text)*i/10:len(text)*(i+1)/10])
				rig.Pause(t.Context(), 400*time.Millisecond)
			}
			want, err := oracle.CountFiles(path)
			if err != nil {
				t.Fatal(err)
			}
			d.Counts(t, want.Lines)
			d.Kill(t)
			d = site.Start(t) // the right time again
			settled()
			d.Stop(t)
			if err := want.Differs(rig.Report(t, binary, "--ledger", site.Ledger)); err != nil {
				t.Error(err)
			}
		})
		tried = append(tried, jump.name)
	}
	figure(t, "%s: exact", strings.Join(tried, ", "))
}

// A log that may not be read, or is not there, is said and waited for, while the
// others are read.
func TestUnreadableAndMissingLogs(t *testing.T) {
	t.Parallel()
	short(t)
	dir := t.TempDir()
	path, other := filepath.Join(dir, "mail.log"), filepath.Join(dir, "none", "other.log")
	text := mail(t, 2000)
	folder := filepath.Join(dir, "folder.log")
	if err := os.Mkdir(folder, 0o700); err != nil { // root may read everything
		t.Fatal(err)
	}
	rig.Append(t, path, text)
	site := rig.NewSite(t, rig.Build(t, ""), dir, fmt.Sprintf("sources: [{name: mta1, kind: tail, paths: [%s, %s, %s], timezone: UTC}]", path, other, folder))
	d := site.Start(t)
	n := int64(bytes.Count(text, []byte("\n")))
	d.Counts(t, n)
	d.Eventually(t, "it says what is wrong", func() bool {
		return strings.Contains(d.Output(), "waiting for the log to appear") && strings.Contains(d.Output(), "folder.log is a folder")
	})
	if err := os.Mkdir(filepath.Dir(other), 0o700); err != nil {
		t.Fatal(err)
	}
	rig.Append(t, other, text)
	d.Counts(t, 2*n)
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	rig.Append(t, folder, text)
	d.Counts(t, 3*n)
	if messages := strings.Count(d.Output(), "level=ERROR"); messages > 5 {
		t.Errorf("%d messages", messages)
	}
	d.Stop(t)
	figure(t, "a missing folder and what is no file: said once, the other log read meanwhile, read when it is there")
}
