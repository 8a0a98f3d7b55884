package dialect

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/tools/txtar"

	"github.com/bouncemeter/bouncemeter/event"
)

func TestNew(t *testing.T) {
	for _, name := range Names() {
		if _, err := New(name, nil); err != nil {
			t.Errorf("New(%q): %v", name, err)
		}
	}
	_, err := New("smoke-signals", time.UTC)
	if err == nil || !strings.Contains(err.Error(), "smoke-signals") || !strings.Contains(err.Error(), "postfix") {
		t.Errorf("an unknown name: error %v, want one that says it and names those that are known", err)
	}
}

// A timestamp without a year means nothing before there is a reference.
func TestNoYearWithoutReference(t *testing.T) {
	p, _ := New("postfix", time.UTC)
	if _, err := p.Parse([]byte("Jan 12 04:01:07 mx1 postfix/qmgr[77]: 4F2A1B3C: removed"), nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("RFC 3164: error %v, want ErrMalformed", err)
	}
	if _, err := p.Parse([]byte("2026-01-12T04:01:07Z mx1 postfix/qmgr[77]: 4F2A1B3C: removed"), nil); err != nil {
		t.Errorf("RFC 3339: error %v", err)
	}
}

// A parser that has seen other lines says the same as a new one.
func TestLinesAreIndependent(t *testing.T) {
	reference := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	stamps := []string{
		"Oct 25 02:59:59", "Oct 25 02:00:00", "Oct 25 03:00:00", "Nov  2 01:00:00", "Nov  4 01:00:00", "Jan  1 00:00:00",
		"2026-10-25T02:59:59+02:00", "2026-10-25T02:59:59+01:00", "2026-10-25T02:59:59Z", "2025-10-25T02:59:00Z", "Feb 29 10:00:00",
	}
	used, _ := New("postfix", berlin)
	used.Reference(reference)
	for _, first := range stamps {
		for _, second := range stamps {
			for _, stamp := range []string{first, second} {
				line := []byte(stamp + " mx1 postfix/qmgr[77]: 4F2A1B3C: removed")
				fresh, _ := New("postfix", berlin)
				fresh.Reference(reference)
				want, err := fresh.Parse(line, nil)
				if err != nil {
					t.Fatal(err)
				}
				got, err := used.Parse(line, nil)
				if err != nil || got[0].Time != want[0].Time {
					t.Errorf("%s after %s: %v, %v, want %v", stamp, first, got, err, want)
				}
			}
		}
	}
}

// Postfix cuts its records at 2000 bytes. Wherever a delivery line is cut, what
// is left is skipped, malformed, or means the same as far as it goes.
func TestCutAnywhere(t *testing.T) {
	line := []byte(`Jan 12 04:01:07 mx1 postfix/smtp[311]: 4F2A1B3C: to=<"a>, b"@x.example>, orig_to=<c@y.example>, relay=mx.x.example[192.0.2.25]:25, conn_use=2, delay=86412, delays=86400/0.02/0.6/12, tls=may, dsn=5.7.1, status=bounced (host mx.x.example[192.0.2.25] said: 550 5.7.1 No (in reply to RCPT TO command))`)
	p, _ := New("postfix", time.UTC)
	p.Reference(time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC))
	whole, err := p.Parse(line, nil)
	if err != nil {
		t.Fatal(err)
	}
	enough := bytes.Index(line, []byte("bounced")) + len("bounced")
	for n := range line {
		events, err := p.Parse(line[:n], nil)
		if n < enough {
			if len(events) != 0 {
				t.Fatalf("an event from %q", line[:n])
			}
			continue
		}
		if err != nil || len(events) != 1 {
			t.Fatalf("%v from %q", err, line[:n])
		}
		got, want := &events[0], &whole[0]
		if got.Outcome != want.Outcome || string(got.Recipient) != string(want.Recipient) || got.Delay != want.Delay ||
			string(got.RelayIP) != string(want.RelayIP) || got.Reply.Status != want.Reply.Status {
			t.Fatalf("%q means another delivery", line[:n])
		}
	}
}

// FuzzParse checks what holds for every line of every dialect.
func FuzzParse(f *testing.F) {
	for _, name := range Names() {
		archive, err := txtar.ParseFile("testdata/" + name + ".txtar")
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			for line := range bytes.Lines(file.Data) {
				f.Add(bytes.TrimSpace(line))
			}
		}
	}
	reference := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, line []byte) {
		before := bytes.Clone(line)
		for _, name := range Names() {
			p, _ := New(name, time.UTC, Details)
			p.Reference(reference)
			setHeader(p, []byte(powermtaHeader))
			sentinel := []event.Event{{Kind: event.Attempt, Time: 42}}
			events, err := p.Parse(line, sentinel)
			if !bytes.Equal(line, before) {
				t.Fatalf("%s changed the line", name)
			}
			if len(events) == 0 || events[0].Time != 42 {
				t.Fatalf("%s changed the events that were there", name)
			}
			if err != nil {
				if !errors.Is(err, ErrMalformed) {
					t.Errorf("%s: %v does not wrap ErrMalformed", name, err)
				}
				if p := (*PartialError)(nil); !errors.As(err, &p) {
					if len(events) != 1 {
						t.Errorf("%s: an error and %d events", name, len(events)-1)
					}
					continue
				} else if p.Count == 0 || len(p.Faults) != min(p.Count, maxFaults) {
					t.Errorf("%s: %d faults of %d", name, len(p.Faults), p.Count)
				}
			}
			var own, copies [][]byte // what is no part of the line
			for i := range events[1:] {
				e := &events[1+i]
				if e.Kind == 0 {
					t.Errorf("%s: an event of no kind", name)
				}
				if (e.Kind == event.Attempt || e.Kind == event.Probe || e.Kind == event.Expiry) && e.Outcome == 0 {
					t.Errorf("%s: no outcome", name)
				}
				if e.Delay < -1 {
					t.Errorf("%s: delay %d", name, e.Delay)
				}
				if len(e.Sender) > 0 && !e.SenderKnown {
					t.Errorf("%s: a sender that is not known", name)
				}
				for _, b := range [][]byte{
					e.ID, e.Host, e.Stream, e.QueueID, e.Sender, e.Client, e.MessageID, e.Recipient,
					e.OriginalRecipient, e.Relay, e.RelayIP, e.SourceIP, e.Reply.Text,
				} {
					if !aliases(line, b) {
						own, copies = append(own, b), append(copies, bytes.Clone(b))
					}
				}
			}
			if again, err2 := p.Parse(line, nil); (err == nil) != (err2 == nil) || len(again) != len(events)-1 {
				t.Errorf("%s: the second time %d events and %v, before %d and %v", name, len(again), err2, len(events)-1, err)
			}
			for i, b := range own {
				if !bytes.Equal(b, copies[i]) {
					t.Errorf("%s: %q became %q when another line was parsed", name, copies[i], b)
				}
			}
		}
	})
}

// aliases reports whether part lies within the memory of whole.
func aliases(whole, part []byte) bool {
	if len(part) == 0 {
		return true
	}
	at := uintptr(unsafe.Pointer(unsafe.SliceData(part)))
	start := uintptr(unsafe.Pointer(unsafe.SliceData(whole)))
	return at >= start && at+uintptr(len(part)) <= start+uintptr(len(whole))
}
