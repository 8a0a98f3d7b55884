package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/sources/dialect"
)

// The test is its own journalctl, which reads a folder with one file for each
// entry. It follows --cursor, --lines=1 and --follow as systemd's does and does not
// look at matches.
func TestMain(m *testing.M) {
	if dir := os.Getenv("FAKE_JOURNAL"); dir != "" {
		if err := fake(dir, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func fake(dir string, args []string) error {
	if said, err := os.ReadFile(filepath.Join(dir, "says")); err == nil {
		return errors.New(string(said))
	}
	next, one, follow := int64(0), false, false
	for _, arg := range args {
		switch cursor, ok := strings.CutPrefix(arg, "--cursor="); {
		case ok:
			_, next, ok = cursorSequence([]byte(cursor))
			if !ok {
				return errors.New("Failed to seek to cursor: Invalid argument")
			}
		case arg == "--lines=1":
			one = true
		case arg == "--follow":
			follow = true
			if err := os.WriteFile(filepath.Join(dir, "args"), []byte(strings.Join(args, "\n")), 0o600); err != nil {
				return err
			}
		}
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n := 0; ; {
		files, err := filepath.Glob(filepath.Join(dir, "0*"))
		if err != nil {
			return err
		}
		if one && next == 0 && len(files) > 0 {
			files = files[len(files)-1:]
		}
		for _, file := range files {
			number, err := strconv.ParseInt(filepath.Base(file), 10, 64)
			if err != nil {
				return err
			}
			if number < next {
				continue
			}
			b, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if _, err := os.Stdout.Write(b); err != nil {
				return err
			}
			n, next = n+1, number+1
			if limit, err := os.ReadFile(filepath.Join(dir, "limit")); one || err == nil && string(limit) == strconv.Itoa(n) {
				return nil
			}
		}
		if !follow {
			return nil
		}
		<-tick.C
	}
}

// journal is a folder of entries.
type journal struct {
	t   *testing.T
	dir string
}

func newJournal(t *testing.T) *journal {
	t.Helper()
	j := &journal{t: t, dir: t.TempDir()}
	t.Setenv("FAKE_JOURNAL", j.dir)
	return j
}

var start = time.Date(2026, 1, 12, 4, 1, 7, 123456000, time.UTC)

func cursor(n int) string { return fmt.Sprintf("s=aa;i=%x;b=bb;m=1;t=2;x=3", n) }

// add writes an entry. Fields are in pairs of name and value.
func (j *journal) add(n int, fields ...string) {
	j.t.Helper()
	all := append([]string{"__CURSOR", cursor(n), "__REALTIME_TIMESTAMP", strconv.FormatInt(start.UnixMicro()+int64(n)*1e6, 10), "_HOSTNAME", "mx1"}, fields...)
	j.write(fmt.Sprintf("%06d", n), encode(all))
}

func (j *journal) write(name string, b []byte) {
	j.t.Helper()
	temporary := filepath.Join(j.dir, "new")
	if err := os.WriteFile(temporary, b, 0o600); err != nil {
		j.t.Fatal(err)
	}
	if err := os.Rename(temporary, filepath.Join(j.dir, name)); err != nil {
		j.t.Fatal(err)
	}
}

// encode writes an entry as systemd's documentation of the format says.
func encode(fields []string) []byte {
	var b bytes.Buffer
	for i := 0; i+1 < len(fields); i += 2 {
		name, value := fields[i], fields[i+1]
		if strings.IndexFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0xfffd }) < 0 {
			fmt.Fprintf(&b, "%s=%s\n", name, value)
			continue
		}
		b.WriteString(name + "\n")
		for n, i := uint64(len(value)), 0; i < 8; n, i = n>>8, i+1 {
			b.WriteByte(byte(n))
		}
		b.WriteString(value + "\n")
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// lane opens the journal at from.
func (j *journal) lane(c Config, from event.Position) *Lane {
	j.t.Helper()
	c.Program, c.Log = os.Args[0], slog.New(slog.DiscardHandler)
	if c.Units == nil {
		c.Units = []string{"postfix@-.service"}
	}
	s, err := New(c)
	if err != nil {
		j.t.Fatal(err)
	}
	var lane *Lane
	if err := s.Run(j.t.Context(), func(_ context.Context, l *Lane) error { lane = l; return nil }); err != nil {
		j.t.Fatal(err)
	}
	if err := lane.Open(j.t.Context(), from); err != nil {
		j.t.Fatal(err)
	}
	j.t.Cleanup(func() { _ = lane.Close() })
	return lane
}

// take reads n lines, and returns them with where the last one was.
func take(t *testing.T, l *Lane, n int) (lines []string, next event.Position, lost int64) {
	t.Helper()
	var b event.Batch
	for deadline := time.Now().Add(10 * time.Second); len(lines) < n; {
		if err := l.Read(t.Context(), &b); err != nil {
			t.Fatalf("after %q: %v", lines, err)
		}
		for _, line := range b.Lines {
			lines = append(lines, fmt.Sprintf("%s@%d %s", b.Segment, line.Offset, line.Text))
		}
		next, lost = b.Next, lost+b.Lost
		if time.Now().After(deadline) {
			t.Fatalf("only %q came", lines)
		}
	}
	return lines, next, lost
}

func TestLines(t *testing.T) {
	j := newJournal(t)
	const at = "2026-01-12T04:01:"
	j.add(1, "MESSAGE", "4F2: removed", "SYSLOG_IDENTIFIER", "postfix/smtp", "_PID", "311", "SYSLOG_PID", "12", "UNKNOWN", "x")
	j.add(2, "MESSAGE", "two\nlines \xff\x01\n", "_COMM", "node", "SYSLOG_PID", "12")
	j.add(3, "SYSLOG_IDENTIFIER", "no message")
	j.add(4, "MESSAGE", "", "COREDUMP", strings.Repeat("\x00", 200_000), "SYSLOG_IDENTIFIER", "p")
	j.add(5, "MESSAGE", "of two "+strings.Repeat("x", 300), "MESSAGE", "values", "SYSLOG_IDENTIFIER", "p")
	j.add(6, "MESSAGE", "long\n"+strings.Repeat("x", 300_000), "SYSLOG_IDENTIFIER", "p")
	j.add(7, "MESSAGE", "nothing is known")
	l := j.lane(Config{MaxLine: 307}, event.Position{})
	got, next, lost := take(t, l, 5)
	want := []string{
		"aa@1 " + at + "08.123456Z mx1 postfix/smtp[311]: 4F2: removed",
		"aa@2 " + at + "09.123456Z mx1 node[12]: two lines \xff\x01",
		"aa@5 " + at + "12.123456Z mx1 p: of two " + strings.Repeat("x", 300),
		"aa@6 " + at + "13.123456Z mx1 p: long " + strings.Repeat("x", 302),
		"aa@7 " + at + "14.123456Z mx1 unknown: nothing is known",
	}
	if diff := cmp.Diff(want, got); diff != "" || lost != 0 {
		t.Errorf("%d lost (-want +got)\n%s", lost, diff)
	}
	if next != (event.Position{Segment: cursor(7), Offset: 7}) {
		t.Errorf("the position is %+v", next)
	}
	// What comes is told as it comes.
	j.add(8, "MESSAGE", "next", "SYSLOG_IDENTIFIER", "p")
	if got, _, _ := take(t, l, 1); !slices.Equal(got, []string{"aa@8 " + at + "15.123456Z mx1 p: next"}) {
		t.Errorf("then came %q", got)
	}
	// From a position on it goes on after it.
	if got, _, _ := take(t, j.lane(Config{}, event.Position{Segment: cursor(7), Offset: 7}), 1); !strings.HasSuffix(got[0], "p: next") {
		t.Errorf("after the position came %q", got)
	}
}

// Each mail server's dialect reads what comes out.
func TestDialect(t *testing.T) {
	j := newJournal(t)
	j.add(1, "MESSAGE", "4F2A1B3C: to=<ann@example.com>, relay=none, delay=1, delays=1/0/0/0, dsn=4.4.1, status=deferred (connect to mx.example.com[192.0.2.1]:25: Connection refused)",
		"SYSLOG_IDENTIFIER", "postfix/smtp", "_PID", "311")
	l := j.lane(Config{}, event.Position{})
	var b event.Batch
	for len(b.Lines) == 0 {
		if err := l.Read(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
	}
	if at := start.Add(time.Second); !b.Reference.Equal(at) {
		t.Errorf("the reference is %v, not %v", b.Reference, at)
	}
	p, err := dialect.New("postfix", nil)
	if err != nil {
		t.Fatal(err)
	}
	events, err := p.Parse(b.Lines[0].Text, nil)
	if err != nil || len(events) != 1 || events[0].Outcome != event.Deferred || events[0].Time != start.Add(time.Second).UnixMicro() || string(events[0].Host) != "mx1" {
		t.Errorf("%q is %+v, %v", b.Lines[0].Text, events, err)
	}
}

func TestTextOnly(t *testing.T) {
	j := newJournal(t)
	j.add(1, "MESSAGE", `{"type":"Delivery"}`, "SYSLOG_IDENTIFIER", "kumod")
	if got, _, _ := take(t, j.lane(Config{TextOnly: true}, event.Position{}), 1); got[0] != `aa@1 {"type":"Delivery"}` {
		t.Errorf("got %q", got)
	}
}

func TestArguments(t *testing.T) {
	j := newJournal(t)
	j.add(1, "MESSAGE", "x")
	take(t, j.lane(Config{Units: []string{"postfix@-", "exim4.service"}, Identifiers: []string{"sm-mta"}, Directory: "/j"}, event.Position{}), 1)
	args, err := os.ReadFile(filepath.Join(j.dir, "args"))
	if err != nil {
		t.Fatal(err)
	}
	want := "--no-pager --output=export --output-fields=MESSAGE,SYSLOG_IDENTIFIER,_COMM,_PID,SYSLOG_PID,_HOSTNAME,MESSAGE_ID,_TRANSPORT,N_DROPPED,OBJECT_SYSTEMD_UNIT " +
		"--directory=/j --follow --no-tail _SYSTEMD_UNIT=postfix@-.service + _SYSTEMD_UNIT=exim4.service + " +
		"_TRANSPORT=driver MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e + SYSLOG_IDENTIFIER=sm-mta"
	if got := strings.ReplaceAll(string(args), "\n", " "); got != want {
		t.Errorf("journalctl is called with\n%s, want\n%s", got, want)
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []Config{{}, {Units: []string{"postfix*"}}, {Units: []string{"a b"}}, {Identifiers: []string{""}}, {Units: []string{"a"}, Start: "middle"}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

// Where entries after the last one were deleted, it is told how many.
func TestDeletedEntries(t *testing.T) {
	j := newJournal(t)
	for n := 1; n <= 9; n++ {
		j.add(n, "MESSAGE", strconv.Itoa(n))
	}
	for _, test := range []struct {
		deleted, lost int64
	}{{2, 0}, {3, 0}, {4, 1}, {7, 4}} {
		for n := int64(1); n <= test.deleted; n++ {
			_ = os.Remove(filepath.Join(j.dir, fmt.Sprintf("%06d", n)))
		}
		first := max(test.deleted+1, 4)
		got, _, lost := take(t, j.lane(Config{}, event.Position{Segment: cursor(3), Offset: 3}), int(9-first+1))
		if lost != test.lost || !strings.HasPrefix(got[0], fmt.Sprintf("aa@%d ", first)) {
			t.Errorf("%d deleted: %d lost, and then came %q", test.deleted, lost, got)
		}
	}
	// What is in a journal that was begun anew is read.
	got, _, lost := take(t, j.lane(Config{}, event.Position{Segment: "s=cc;i=1;b=bb", Offset: 1}), 2)
	if lost != 0 || !strings.HasPrefix(got[0], "aa@8 ") {
		t.Errorf("of a new journal came %q, %d lost", got, lost)
	}
}

// journald tells what it dropped itself.
func TestSuppressedEntries(t *testing.T) {
	j := newJournal(t)
	dropped := func(n int, fields ...string) {
		j.add(n, append([]string{"MESSAGE_ID", suppressedID, "SYSLOG_IDENTIFIER", "systemd-journald", "N_DROPPED", "5"}, fields...)...)
	}
	dropped(1, "_TRANSPORT", "driver", "OBJECT_SYSTEMD_UNIT", "postfix@-.service", "MESSAGE", "Suppressed 5 messages from postfix@-.service")
	dropped(2, "_TRANSPORT", "driver", "MESSAGE", "Suppressed 5 messages from postfix@-.service")
	dropped(3, "_TRANSPORT", "driver", "OBJECT_SYSTEMD_UNIT", "other.service")
	dropped(4, "_TRANSPORT", "journal", "OBJECT_SYSTEMD_UNIT", "postfix@-.service", "MESSAGE", "forged")
	got, _, lost := take(t, j.lane(Config{}, event.Position{}), 1)
	if lost != 10 || !strings.HasSuffix(got[0], "forged") {
		t.Errorf("%d lost; %q", lost, got)
	}
}

// The end of a journal that was never read becomes the position before anything
// comes, so nothing is missed that comes before the next start.
func TestStartAtTheEnd(t *testing.T) {
	j := newJournal(t)
	j.add(1, "MESSAGE", "old")
	j.add(2, "MESSAGE", "old")
	l := j.lane(Config{Start: "end"}, event.Position{})
	var b event.Batch
	if err := l.Read(t.Context(), &b); err != nil || len(b.Lines) > 0 || b.Next != (event.Position{Segment: cursor(2), Offset: 2}) {
		t.Fatalf("first %d lines, at %+v: %v", len(b.Lines), b.Next, err)
	}
	_ = l.Close()
	j.add(3, "MESSAGE", "new")
	if got, _, _ := take(t, j.lane(Config{Start: "end"}, b.Next), 1); !strings.HasSuffix(got[0], "new") {
		t.Errorf("then %q", got)
	}
}

// Every way for a child to end is an error, upon which the lane is opened again.
func TestChildEnds(t *testing.T) {
	j := newJournal(t)
	for n := 1; n <= 5; n++ {
		j.add(n, "MESSAGE", strconv.Itoa(n))
	}
	j.write("limit", []byte("3"))
	l := j.lane(Config{}, event.Position{})
	_, next, _ := take(t, l, 3)
	var b event.Batch
	var err error
	for deadline := time.Now().Add(10 * time.Second); err == nil && time.Now().Before(deadline); {
		err = l.Read(t.Context(), &b)
	}
	if err == nil || !strings.Contains(err.Error(), "journalctl ended: it should go on for ever") {
		t.Errorf("it is told as %v", err)
	}
	_ = l.Close()
	if got, _, _ := take(t, j.lane(Config{}, next), 2); !strings.HasSuffix(got[0], " 4") {
		t.Errorf("after that came %q", got)
	}
	j.write("says", []byte("No journal files were opened due to insufficient permissions."))
	if err := l.Open(t.Context(), next); err == nil || !strings.Contains(err.Error(), "add the daemon's user to the group systemd-journal") {
		t.Errorf("it is told as %v", err)
	}
	l.source.config.Program = "there-is-no-such-program"
	if err := l.Open(t.Context(), next); err == nil || !strings.Contains(err.Error(), "install systemd") {
		t.Errorf("it is told as %v", err)
	}
	if err := l.Read(t.Context(), &b); err == nil || !strings.Contains(err.Error(), "install systemd") {
		t.Errorf("it is told as %v", err)
	}
	if err := l.Open(t.Context(), event.Position{Segment: "abc", Offset: 3}); err == nil {
		t.Error("the position of another source was taken")
	}
}

func TestGarbage(t *testing.T) {
	j := newJournal(t)
	j.write("000001", []byte("Usage: journalctl [OPTIONS...]\n\n"))
	l := j.lane(Config{}, event.Position{})
	var b event.Batch
	var err error
	for deadline := time.Now().Add(10 * time.Second); err == nil && time.Now().Before(deadline); {
		err = l.Read(t.Context(), &b)
	}
	if !errors.Is(err, errExport) {
		t.Errorf("it is told as %v", err)
	}
}

func TestStop(t *testing.T) {
	j := newJournal(t)
	j.add(1, "MESSAGE", "x")
	l := j.lane(Config{}, event.Position{})
	take(t, l, 1)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	var b event.Batch
	if err := l.Read(ctx, &b); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
	if err := l.Read(ctx, &b); !errors.Is(err, context.Canceled) {
		t.Errorf("again: %v", err)
	}
	if l.Name() != laneName() || !strings.HasPrefix(l.Name(), "journal") {
		t.Errorf("the lane is %q", l.Name())
	}
}
