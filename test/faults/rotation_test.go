package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/internal/simulate"
	"github.com/bouncemeter/bouncemeter/test/internal/oracle"
	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

// mail returns a log of so many lines, of today and yesterday.
func mail(t *testing.T, lines int64) []byte {
	t.Helper()
	mta, err := simulate.New(simulate.Config{Seed: 7, Start: time.Now().Add(-20 * time.Hour).Truncate(time.Second), Rate: 50, Lifetime: 6 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for now := time.Now().Add(-20 * time.Hour); mta.Tally().Lines < lines; {
		now = now.Add(time.Minute)
		if _, err := mta.WriteUntil(&b, now); err != nil {
			t.Fatal(err)
		}
	}
	text, n := b.Bytes(), 0
	for range lines {
		n += bytes.IndexByte(text[n:], '\n') + 1
	}
	return text[:n]
}

// mailer writes a log at a steady rate, as a mail server does: it keeps the file
// open until it is told to open it anew.
type mailer struct {
	path   string
	reopen string // a file that is removed once the log was opened anew
	text   []byte
	rate   int // lines a second
}

const tick = 10 * time.Millisecond

// run writes all of the text, and returns how long it took.
func (m *mailer) run(ctx context.Context) (took time.Duration, err error) {
	open := func() (*os.File, error) {
		return os.OpenFile(m.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	}
	f, err := open()
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	started := time.Now()
	for written, rest := 0, m.text; len(rest) > 0; {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(tick):
		}
		if _, err := os.Stat(m.reopen); err == nil {
			if err := f.Close(); err != nil {
				return 0, err
			}
			if f, err = open(); err != nil {
				return 0, err
			}
			if err := os.Remove(m.reopen); err != nil {
				return 0, err
			}
		}
		n := 0
		for due := int(time.Since(started).Seconds() * float64(m.rate)); written < due && n < len(rest); written++ {
			n += bytes.IndexByte(rest[n:], '\n') + 1
		}
		if _, err := f.Write(rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return time.Since(started), nil
}

// logrotate's modes. The daemon sleeps through some of the rotations.
var modes = []struct{ name, options string }{
	{"rename", "create\nnocompress"},
	{"gz", "create\ncompress"},
	{"delaycompress", "create\ncompress\ndelaycompress"},
	{"zst", "create\ncompress\ncompresscmd /usr/bin/zstd\ncompressoptions --rm -q\ncompressext .zst"},
	{"bz2", "create\ncompress\ncompresscmd /usr/bin/bzip2\ncompressext .bz2"},
	{"xz", "create\ncompress\ncompresscmd /usr/bin/xz\ncompressoptions -1\ncompressext .xz"},
	{"dateext", "create\ndateext\ndateformat -%Y%m%d-%s\ncompress"},
}

// The real logrotate, while 50,000 lines come a second: nothing is lost, nothing
// repeated.
func TestLogrotateUnderLoad(t *testing.T) {
	seconds, rate := 20, 50_000
	if short(t) {
		seconds = 4
	}
	need(t, "logrotate", "zstd", "bzip2", "xz")
	text := mail(t, int64(seconds*rate))
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			dir, state := shelf(t), t.TempDir()
			m := &mailer{path: filepath.Join(dir, "mail.log"), reopen: filepath.Join(state, "reopen"), text: text, rate: rate}
			all := filepath.Join(state, "everything")
			if err := os.WriteFile(all, text, 0o600); err != nil {
				t.Fatal(err)
			}
			script := fmt.Sprintf("postrotate\ntouch %s; while test -e %[1]s; do sleep 0.01; done\nendscript", m.reopen)
			site, rate, rotations := rotateUnderLoad(t, m, mode.options+"\n"+script, state)
			site.Exact(t, all)
			figure(t, "%s: %d rotations, some while stopped, at %d lines/s: exact", mode.name, rotations, rate)
		})
	}
}

// rotateUnderLoad runs logrotate again and again while m writes and a daemon,
// whose ledger is in the folder state, reads and sleeps in turns.
func rotateUnderLoad(t *testing.T, m *mailer, options, state string) (site *rig.Site, rate, rotations int) {
	t.Helper()
	rules := filepath.Join(state, "logrotate.conf")
	if err := os.WriteFile(rules, fmt.Appendf(nil, "%s {\nrotate 1000\nmissingok\n%s\n}\n", m.path, options), 0o600); err != nil {
		t.Fatal(err)
	}
	site = rig.NewSite(t, rig.Build(t, ""), state, rig.Tail(m.path))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	d := site.Start(t)
	type result struct {
		took time.Duration
		err  error
	}
	done := make(chan result, 1)
	go func() {
		took, err := m.run(ctx)
		done <- result{took, err}
		for ctx.Err() == nil { // logrotate may still be asking to open it anew
			_ = os.Remove(m.reopen)
			rig.Pause(ctx, tick)
		}
	}()
	var r result
	for running := true; running; rotations++ {
		pause := time.After(1100 * time.Millisecond) // dateformat has seconds
		select {
		case r = <-done:
			running = false
			<-pause
		case <-pause:
		}
		if rotations == 1 {
			d.Stop(t)
		}
		if out, err := exec.Command("logrotate", "-f", "-s", filepath.Join(state, "status"), rules).CombinedOutput(); err != nil {
			t.Fatalf("logrotate: %v\n%s", err, out)
		}
		if rotations == 2 {
			d = site.Start(t)
		}
	}
	if r.err != nil {
		t.Fatal(r.err)
	}
	if rotations <= 2 {
		d = site.Start(t)
	}
	// All that came before has been read once this has: it lies in the newest file.
	want, err := oracle.Count(bytes.NewReader(m.text))
	if err != nil {
		t.Fatal(err)
	}
	lag := fmt.Sprintf("bouncemeter_lane_lag{lane=%q,source=\"mta1\"}", m.path)
	var lines int64
	var since time.Time
	d.Eventually(t, "no more lines come", func() bool {
		now := site.Lines()
		if now != lines || site.Metric(lag) != 0 {
			lines, since = now, time.Now()
		}
		return lines >= want.Lines || time.Since(since) > 5*time.Second // longer than the grace
	})
	settled()
	d.Stop(t)
	return site, int(float64(want.Lines) / r.took.Seconds()), rotations
}

// copytruncate loses by nature what is written between the end of the copy and
// the truncation. Nothing else may be missing, and nothing counted twice.
func TestCopytruncateUnderLoad(t *testing.T) {
	seconds, rate := 20, 50_000
	if short(t) {
		seconds = 4
	}
	need(t, "logrotate")
	dir, state := shelf(t), t.TempDir()
	m := &mailer{path: filepath.Join(dir, "mail.log"), reopen: filepath.Join(state, "reopen"), text: mail(t, int64(seconds*rate)), rate: rate}
	site, rate, rotations := rotateUnderLoad(t, m, "copytruncate\nnocompress", state)
	want, err := oracle.Count(bytes.NewReader(m.text))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(m.path + "*")
	if err != nil {
		t.Fatal(err)
	}
	left, err := oracle.CountFiles(files...)
	if err != nil {
		t.Fatal(err)
	}
	got := rig.Report(t, site.Binary, "--ledger", site.Ledger)
	// A copy may end within a line.
	if got.Lines > want.Lines+int64(rotations) || got.Lines < left.Lines-int64(rotations) {
		t.Errorf("%d lines counted, %d written, %d left in %d files", got.Lines, want.Lines, left.Lines, len(files))
	}
	for outcome, n := range got.Outcomes {
		if n > want.Outcomes[outcome] || n < left.Outcomes[outcome]-int64(rotations) {
			t.Errorf("%s: %d counted, %d written, %d left", outcome, n, want.Outcomes[outcome], left.Outcomes[outcome])
		}
	}
	figure(t, "copytruncate: %d rotations at %d lines/s; of %d lines logrotate lost %d, of which %d were counted all the same; %d bytes known as lost",
		rotations, rate, want.Lines, want.Lines-left.Lines, max(0, got.Lines-left.Lines), got.Lost)
}

// shelf returns a folder that logrotate takes.
func shelf(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// need skips a test without programs.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("needs %s: test/faults/run.sh installs it", p)
		}
	}
}

// A new log that has the inode of the one before is another log.
func TestReusedInode(t *testing.T) {
	t.Parallel()
	short(t)
	dir := t.TempDir()
	path, all := filepath.Join(dir, "mail.log"), filepath.Join(dir, "everything")
	site := rig.NewSite(t, rig.Build(t, ""), dir, rig.Tail(path))
	text := mail(t, 4000)
	half := bytes.Index(text[len(text)/2:], []byte("\n")) + len(text)/2 + 1
	rig.Append(t, all, text)
	rig.Append(t, path, text[:half])
	before := inodeOf(t, path)
	d := site.Start(t)
	d.Counts(t, int64(bytes.Count(text[:half], []byte("\n"))))
	d.Stop(t)
	reused := false
	for range 200 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		rig.Append(t, path, text[half:])
		if reused = inodeOf(t, path) == before; reused {
			break
		}
	}
	d = site.Start(t)
	d.Counts(t, int64(bytes.Count(text, []byte("\n"))))
	settled()
	d.Stop(t)
	want, err := oracle.CountFiles(all)
	if err != nil {
		t.Fatal(err)
	}
	if err := want.Differs(rig.Report(t, site.Binary, "--ledger", site.Ledger)); err != nil {
		t.Error(err)
	}
	if !reused {
		t.Skip("this file system does not give an inode again")
	}
	figure(t, "the same inode, another log: exact")
}

func inodeOf(t *testing.T, path string) uint64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// Half a line is not counted before its end has come, over a kill, too.
func TestPartialLastLine(t *testing.T) {
	t.Parallel()
	short(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "mail.log")
	site := rig.NewSite(t, rig.Build(t, ""), dir, rig.Tail(path)+"limits: {commit_every: 100ms}")
	s := bufio.NewScanner(bytes.NewReader(mail(t, 400)))
	for n := int64(0); s.Scan(); n++ {
		cut := int(n) % (len(s.Bytes()) + 1)
		rig.Append(t, path, s.Bytes()[:cut])
		if n%100 == 50 {
			d := site.Start(t)
			d.Counts(t, n)
			rig.Pause(t.Context(), 300*time.Millisecond) // some commits
			if lines := site.Lines(); lines != n {
				t.Errorf("%d lines counted, %d are whole", lines, n)
			}
			d.Kill(t)
		}
		rig.Append(t, path, append(s.Bytes()[cut:len(s.Bytes()):len(s.Bytes())], '\n'))
	}
	want, err := oracle.CountFiles(path)
	if err != nil {
		t.Fatal(err)
	}
	d := site.Start(t)
	d.Counts(t, want.Lines)
	settled()
	d.Stop(t)
	site.Exact(t, path)
	figure(t, "%d lines, written in halves, a kill after every hundredth half: exact", want.Lines)
}
