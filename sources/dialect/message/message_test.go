package message

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/bouncemeter/bouncemeter/event"
)

// samples returns the messages of testdata and their meanings.
func samples(t testing.TB) (names []string, messages, meanings map[string][]byte) {
	archive, err := txtar.ParseFile("testdata/messages.txtar")
	if err != nil {
		t.Fatal(err)
	}
	messages, meanings = make(map[string][]byte), make(map[string][]byte)
	for _, f := range archive.Files {
		name, kind, _ := strings.Cut(f.Name, "/")
		switch kind {
		case "message":
			names = append(names, name)
			messages[name] = f.Data
		case "meaning":
			meanings[name] = f.Data
		}
	}
	return names, messages, meanings
}

func parse(t testing.TB, raw []byte) []event.Event {
	t.Helper()
	p := &Parser{}
	p.Reference(time.Unix(1e9, 0))
	events, err := p.Parse(raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func meaning(events []event.Event) string {
	var b strings.Builder
	or := func(s string) string {
		if s == "" || s == "0" {
			return "-"
		}
		return s
	}
	for i := range events {
		e := &events[i]
		fmt.Fprintln(&b, strings.TrimRight(fmt.Sprintf("%s %s %s %s %s %s %s", e.Outcome, e.Recipient, e.Sender,
			or(e.Reply.Status.String()), or(fmt.Sprint(e.Reply.Code)), or(string(e.Relay)), e.Reply.Text), " "))
	}
	return b.String()
}

func TestMeaning(t *testing.T) {
	names, messages, meanings := samples(t)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			// However lines end, the message is the same.
			for _, end := range []string{"\n", "\r\n", "\r"} {
				got := meaning(parse(t, bytes.ReplaceAll(messages[name], []byte("\n"), []byte(end))))
				if want := string(meanings[name]); got != want {
					t.Errorf("lines end with %q: got\n%swant\n%s", end, got, want)
				}
			}
		})
	}
}

func TestEveryEventIsANotice(t *testing.T) {
	names, messages, _ := samples(t)
	for _, name := range names {
		for _, e := range parse(t, messages[name]) {
			if e.Kind != event.Notice || e.Delay != -1 || e.Time == 0 || !e.SenderKnown || string(e.SenderDomain) != "shop.example" {
				t.Errorf("%s: %+v", name, e)
			}
		}
	}
}

func TestDetails(t *testing.T) {
	_, messages, _ := samples(t)
	e := parse(t, messages["postfix"])[0]
	for _, x := range []struct{ name, got, want string }{
		{"queue id", string(e.QueueID), "4XyzABC"},
		{"message id", string(e.MessageID), "42@shop.example"},
		{"host", string(e.Host), "mx1.shop.example"},
		{"original recipient", string(e.OriginalRecipient), "nobody@one.example"},
		{"time", time.UnixMicro(e.Time).UTC().Format(time.RFC3339), "2025-11-01T09:20:29Z"},
		{"enhanced", e.Reply.Enhanced.String(), "5.1.1"},
		{"origin", e.Reply.Origin.String(), "remote"},
		{"message id of qmail", string(parse(t, messages["qmail"])[0].MessageID), "7@shop.example"},
		{"id of a report", string(parse(t, []byte("Message-ID: <1@mx.example>\n"+string(messages["postfix"])))[0].ID), "1@mx.example"},
		{"source of a complaint", string(parse(t, messages["abuse"])[0].SourceIP), "192.0.2.10"},
		{"message id of a complaint", string(parse(t, messages["abuse"])[0].MessageID), "9@shop.example"},
	} {
		if x.got != x.want {
			t.Errorf("%s %q, want %q", x.name, x.got, x.want)
		}
	}
	if second := parse(t, messages["postfix"])[1]; second.Reply.Origin != event.OriginLocal {
		t.Errorf("our own words have origin %s", second.Reply.Origin)
	}
}

func TestWithoutADateTheReferenceIsTaken(t *testing.T) {
	_, messages, _ := samples(t)
	if e := parse(t, messages["domino"])[0]; e.Time != 1e15 {
		t.Errorf("time %d", e.Time)
	}
}

func TestNoMail(t *testing.T) {
	for _, raw := range []string{"", "\n\nbody", "just words\nand more words", "{}"} {
		events, err := (&Parser{}).Parse([]byte(raw), make([]event.Event, 1))
		if !errors.Is(err, ErrNoMessage) || len(events) != 1 {
			t.Errorf("%q: %d events, error %v", raw, len(events), err)
		}
	}
}

// Parts within parts, and many of them, cost bounded work.
func TestHostileStructure(t *testing.T) {
	var b strings.Builder
	b.WriteString("From: mailer-daemon@one.example\nTo: a@shop.example\n")
	for i := range 1000 {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
	}
	m, err := read([]byte(b.String()))
	if err != nil || len(m.parts) > maxParts {
		t.Errorf("%d parts, error %v", len(m.parts), err)
	}
	b.Reset()
	b.WriteString("From: mailer-daemon@one.example\nTo: a@shop.example\nContent-Type: multipart/mixed; boundary=b\n\n")
	for range 10_000 {
		b.WriteString("--b\n\nx\n")
	}
	if m, err = read([]byte(b.String())); err != nil || len(m.parts) > maxParts {
		t.Errorf("%d parts, error %v", len(m.parts), err)
	}
}

func FuzzParse(f *testing.F) {
	names, messages, _ := samples(f)
	for _, name := range names {
		f.Add(messages[name])
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		events, err := (&Parser{}).Parse(raw, nil)
		if err != nil && len(events) > 0 {
			t.Fatal("events beside an error")
		}
		if !bytes.Equal(raw, before) {
			t.Fatal("the message was changed")
		}
		for _, e := range events {
			if e.Kind != event.Notice || e.Outcome == 0 || len(e.Reply.Text) > maxText {
				t.Fatalf("%+v", e)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	_, messages, _ := samples(b)
	raw := messages["postfix"]
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	p := &Parser{}
	var events []event.Event
	for b.Loop() {
		var err error
		if events, err = p.Parse(raw, events[:0]); err != nil {
			b.Fatal(err)
		}
	}
}
