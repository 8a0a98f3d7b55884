package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

// journalRemote is systemd's program that writes files of a journal.
const journalRemote = "/lib/systemd/systemd-journal-remote"

// A real journal, with entries of other units between, that is read by a real
// journalctl: what is there before, what comes, and what came while the program was
// dead. It says the same as the log file.
func TestJournal(t *testing.T) {
	needsServers(t)
	dir := t.TempDir()
	files := filepath.Join(dir, "journal")
	if err := os.Mkdir(files, 0o755); err != nil {
		t.Fatal(err)
	}
	mta, now := simulator(t)
	var log bytes.Buffer
	written := 0 // lines of log that are in the journal
	write := func(span time.Duration) {
		t.Helper()
		now = now.Add(span)
		had := log.Len()
		if _, err := mta.WriteUntil(&log, now); err != nil {
			t.Fatal(err)
		}
		var export bytes.Buffer
		for line := range strings.Lines(log.String()[had:]) {
			exportEntry(t, &export, line, now.Year(), written)
			written++
		}
		cmd := exec.Command(journalRemote, "--output="+filepath.Join(files, "remote.journal"), "-")
		cmd.Stdin = &export
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	write(20 * time.Minute)
	source := fmt.Sprintf("{name: mta1, kind: journald, units: [postfix@-], paths: [%s]}", files)
	site, d := start(t, source, dir)
	started := time.Now()
	d.Counts(t, int64(written))
	t.Logf("%d entries after %v", written, time.Since(started))
	write(time.Minute)
	d.Counts(t, int64(written))
	write(time.Minute)
	d.Kill(t) // counted or not
	rig.Eventually(t, time.Minute, "journalctl ends with the program that started it", func() bool {
		return exec.Command("pgrep", "--full", "journalctl.*--directory="+files).Run() != nil
	})
	write(time.Minute)
	d = site.Start(t)
	d.Counts(t, int64(written))
	d.Stop(t)

	path := filepath.Join(dir, "mail.log")
	if err := os.WriteFile(path, log.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(report(t, "--timezone", "UTC", path), report(t, "--ledger", site.Ledger)); diff != "" {
		t.Errorf("(-file +journal)\n%s", diff)
	}

	// A journal that was begun anew.
	var export bytes.Buffer
	exportEntry(t, &export, strings.SplitAfterN(log.String(), "\n", 2)[0], now.Year(), written)
	if err := os.Remove(filepath.Join(files, "remote.journal")); err != nil {
		t.Fatal(err)
	}
	d = site.Start(t)
	d.Eventually(t, "a journal without files is said", func() bool { return strings.Contains(d.Output(), "journalctl ended") })
	cmd := exec.Command(journalRemote, "--output="+filepath.Join(files, "remote.journal"), "-")
	cmd.Stdin = &export
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d.Eventually(t, "it is said that the journal is another", func() bool { return strings.Contains(d.Output(), "begun anew") })
	d.Stop(t)
}

// exportEntry writes a line of a log of RFC 3164 as an entry in the Journal Export
// Format, and after some an entry of another unit.
func exportEntry(t *testing.T, b *bytes.Buffer, line string, year, number int) {
	t.Helper()
	at, err := time.Parse("2006 "+time.Stamp, fmt.Sprintf("%d %s", year, line[:len(time.Stamp)]))
	if err != nil {
		t.Fatal(err)
	}
	host, rest, _ := strings.Cut(strings.TrimSuffix(line[len(time.Stamp)+1:], "\n"), " ")
	tag, message, _ := strings.Cut(rest, ": ")
	name, pid, _ := strings.Cut(strings.TrimSuffix(tag, "]"), "[")
	common := func(n int) {
		fmt.Fprintf(b, "__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=0123456789abcdef0123456789abcdef\n_HOSTNAME=%s\nPRIORITY=6\n", at.UnixMicro(), n+1, host)
	}
	common(2 * number)
	fmt.Fprintf(b, "_SYSTEMD_UNIT=postfix@-.service\nSYSLOG_IDENTIFIER=%s\n_PID=%s\nMESSAGE=%s\n\n", name, pid, message)
	if number%7 == 0 {
		other := line + "\x00\xff" + line
		common(2*number + 1)
		b.WriteString("_SYSTEMD_UNIT=other.service\nSYSLOG_IDENTIFIER=postfix/smtp\nMESSAGE\n")
		b.Write([]byte{byte(len(other)), byte(len(other) >> 8), 0, 0, 0, 0, 0, 0}) // its length, little endian
		b.WriteString(other + "\n\n")
	}
}
