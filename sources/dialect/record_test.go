package dialect

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/event/record"
)

// encode writes the record of an event with whole addresses.
func encode(e *event.Event) []byte {
	c := record.Encoder{Privacy: event.Privacy{Addresses: event.KeepAddresses}}
	return c.Append(nil, &record.Place{Source: "mta1", Lane: "/var/log/mail.log", Offset: 4711}, e)
}

func decode(t interface{ Fatalf(string, ...any) }, line []byte) *event.Event {
	events, err := newClassified().Parse(line, nil)
	if err != nil || len(events) != 1 {
		t.Fatalf("%d events, %v: %s", len(events), err, line)
	}
	return &events[0]
}

// All that counting needs comes back as it was, and all else that a record says.
func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawEvent(t)
		got := decode(t, encode(want))
		if len(got.ID) != record.IDLength || !got.Classified {
			t.Errorf("id %q, classified %v", got.ID, got.Classified)
		}
		got.ID, got.Classified = nil, false
		// A text that is empty is as good as none, but for the null sender.
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b []byte) bool { return bytes.Equal(a, b) })); diff != "" {
			t.Errorf("-written +read:\n%s", diff)
		}
	})
}

// drawEvent makes a complete event: classified and joined, with domains in lower
// case.
func drawEvent(t *rapid.T) *event.Event {
	word := rapid.StringMatching(`([ -~äß漢😀]{1,20})?`)
	domain := rapid.StringMatching(`[a-z0-9]{1,8}\.(example|test)`)
	text := func(name string) []byte { return []byte(word.Draw(t, name)) }
	address := func(name string) []byte {
		if rapid.Bool().Draw(t, name+" known") {
			return []byte(rapid.StringMatching(`[a-zA-Z"\\+=ü]{0,8}`).Draw(t, name) + "@" + domain.Draw(t, name+" domain"))
		}
		return nil
	}
	code := func(name string, classes ...uint8) event.Enhanced {
		if class := rapid.SampledFrom(append(classes, 0)).Draw(t, name); class != 0 {
			return event.Enhanced{Class: class, Subject: rapid.Uint16Range(0, 999).Draw(t, name), Detail: rapid.Uint16Range(0, 999).Draw(t, name)}
		}
		return event.Enhanced{}
	}
	const year = 366 * 24 * 3600 * 1_000_000
	e := &event.Event{
		Kind:     rapid.SampledFrom([]event.Kind{event.Attempt, event.Expiry, event.Notice, event.Rejection}).Draw(t, "kind"),
		Attempts: rapid.Uint32().Draw(t, "attempts"), Time: rapid.Int64Range(-1000*year, 5000*year).Draw(t, "time"), Delay: rapid.Int64Min(-1).Draw(t, "delay"),
		Host: text("host"), Stream: text("stream"), QueueID: text("queue id"), MessageID: text("message id"),
		Recipient: address("recipient"), OriginalRecipient: address("original recipient"),
		Relay: text("relay"), RelayIP: text("relay ip"), SourceIP: text("source ip"),
		Local: rapid.Bool().Draw(t, "local"), Repeat: rapid.Bool().Draw(t, "repeat"), FirstOutcome: rapid.Bool().Draw(t, "first"),
		Reply: event.Reply{
			Code: rapid.Uint16Range(0, 999).Draw(t, "code"), Enhanced: code("enhanced", 2, 4, 5), Status: code("status", 2, 4, 5), Text: text("text"),
			Stage: event.Stage(rapid.IntRange(0, int(event.StageQuit)).Draw(t, "stage")), Origin: event.Origin(rapid.IntRange(0, 2).Draw(t, "origin")),
		},
		Provider: word.Draw(t, "provider"),
	}
	switch e.Kind {
	case event.Attempt:
		e.Outcome = rapid.SampledFrom([]event.Outcome{event.Delivered, event.Deferred, event.Bounced}).Draw(t, "outcome")
	case event.Expiry:
		e.Outcome = event.Expired
	case event.Rejection:
		e.Outcome = event.RejectedInbound
	default:
		e.Outcome = rapid.SampledFrom(event.Outcomes[:]).Draw(t, "outcome")
	}
	switch rapid.IntRange(0, 3).Draw(t, "sender") {
	case 1: // the null sender
		e.SenderKnown = true
	case 2: // correlation has kept the domain only
		e.SenderKnown, e.SenderDomain = true, []byte(domain.Draw(t, "sender domain"))
	case 3:
		e.SenderKnown, e.SenderDomain = true, []byte(domain.Draw(t, "sender domain"))
		e.Sender = append([]byte("News+1@"), e.SenderDomain...)
	}
	if e.Kind == event.Attempt && e.Outcome.Failure() || rapid.Bool().Draw(t, "classified") {
		e.Verdict = event.Verdict{
			Category: rapid.SampledFrom(event.Categories()).Draw(t, "category"), Secondary: rapid.SampledFrom(append(event.Categories(), event.Unset)).Draw(t, "secondary"),
			Persistence: event.Persistence(rapid.IntRange(0, 2).Draw(t, "persistence")), Confidence: rapid.Float32Range(0, 1).Draw(t, "confidence"),
			Rule: word.Draw(t, "rule"), Blocklist: word.Draw(t, "blocklist"), Template: rapid.Uint64().Draw(t, "template"),
		}
	}
	return e
}

// A record that is read and written again is the same record: also where others'
// bytes have been made harmless, nothing changes a second time.
func FuzzRecordRoundTrip(f *testing.F) {
	f.Add([]byte("mx1"), []byte("550 no"), []byte("ann@x.example"), int64(1768190467_123456))
	f.Add([]byte("\xff\x1b"), []byte("\x85 \u202e \\u0000 \xe9t\xe9"), []byte("\"ann@\"@X.example\xff"), int64(-1))
	f.Fuzz(func(t *testing.T, name, text, address []byte, number int64) {
		e := &event.Event{
			Kind: event.Attempt, Outcome: event.Bounced, Time: number, Delay: number, Attempts: uint32(number), Host: name, Stream: text, QueueID: name,
			Recipient: address, OriginalRecipient: name, Relay: address, RelayIP: text,
			Reply:    event.Reply{Text: text},
			Provider: string(name), Verdict: event.Verdict{Category: event.Policy, Rule: string(text), Blocklist: string(address), Template: uint64(number)},
		}
		e.Delay = max(e.Delay, -1)
		if event.Domain(address) != nil {
			e.SenderKnown, e.Sender = true, address
		}
		first := encode(e)
		second := encode(decode(t, first))
		if !bytes.Equal(first, second) {
			t.Errorf("written, read and written again:\n%s\n%s", first, second)
		}
	})
}

// Each fault is told; none is an event.
func TestRecordFaults(t *testing.T) {
	const good = `{"v":1,"time":"2026-01-12T04:01:07Z","kind":"attempt","outcome":"bounced","category":"policy"}`
	decode(t, []byte(good))
	for _, test := range []struct {
		old, new string
		want     error
	}{
		{`"v":1,`, ``, errRecordVersion},
		{`"v":1,`, `"v":2,`, errRecordVersion},
		{`"v":1,`, `"v":null,`, errRecordVersion},
		{`"time":"2026-01-12T04:01:07Z",`, ``, errRecordTime},
		{`04:01:07Z`, `04:01:07`, errRecordTime},
		{`04:01:07Z`, `04:01:07Z+`, errRecordTime},
		{`"2026-01-12T04:01:07Z"`, `1768190467`, errRecordTime},
		{`"kind":"attempt",`, ``, errRecordKind},
		{`attempt`, `probe`, errRecordKind},
		{`attempt`, `Attempt`, errRecordKind},
		{`"outcome":"bounced",`, ``, errRecordOutcome},
		{`bounced`, `returned`, errRecordOutcome},
		{`,"category":"policy"`, ``, errRecordCategory},
		{`policy`, `politics`, errRecordCategory},
		{`}`, `,"secondary":"politics"}`, errRecordCategory},
		{`}`, `,"code":-1}`, errRecordValue},
		{`}`, `,"code":1000}`, errRecordValue},
		{`}`, `,"enhanced":"5.1"}`, errRecordValue},
		{`}`, `,"enhanced":"5.1.1 "}`, errRecordValue},
		{`}`, `,"status":""}`, errRecordValue},
		{`}`, `,"stage":"lunch"}`, errRecordValue},
		{`}`, `,"origin":"space"}`, errRecordValue},
		{`}`, `,"persistence":"soft"}`, errRecordValue},
		{`}`, `,"confidence":1.1}`, errRecordValue},
		{`}`, `,"confidence":"NaN"}`, errRecordValue},
		{`}`, `,"template":"xyz"}`, errRecordValue},
		{`}`, `,"attempt":4294967296}`, errRecordValue},
		{`}`, `,"delay":-1}`, errRecordValue},
		{`}`, `,"delay":1e300}`, errRecordValue},
		{`}`, `,"first":1}`, errRecordValue},
		{`}`, `,"host":{"name":"mx1"}}`, errJSONType},
		{`}`, `,"rule":["a"]}`, errJSONType},
		{`}`, ``, errJSONEnd},
		{`}`, `}{}`, errJSONTrailing},
	} {
		line := strings.Replace(good, test.old, test.new, 1)
		sentinel := []event.Event{{Time: 42}}
		events, err := newClassified().Parse([]byte(line), sentinel)
		if !errors.Is(err, test.want) || !errors.Is(err, ErrMalformed) || len(events) != 1 || events[0].Time != 42 {
			t.Errorf("%s: %v, want %v", line, err, test.want)
		}
	}
	for _, members := range []string{`"host":null`, `"new":{"a":[1,{"b":null}]}`, `"code":0`, `"first":false`, `"mta":"postfix","owner":"sender","position":"a:1:0"`} {
		decode(t, []byte(strings.Replace(good, "}", ","+members+"}", 1)))
	}
}

// Names are kept once each, and not without bound.
func TestRecordNames(t *testing.T) {
	p := newClassified()
	for i := range 3 * recordNames {
		line := fmt.Sprintf(`{"v":1,"time":"2026-01-12T04:01:07Z","kind":"attempt","outcome":"delivered","provider":"p%d"}`, i)
		events, err := p.Parse([]byte(line), nil)
		if err != nil || events[0].Provider != fmt.Sprintf("p%d", i) {
			t.Fatalf("%v, %v", events, err)
		}
		if len(p.names) > recordNames {
			t.Fatalf("%d names are kept", len(p.names))
		}
	}
}

// A known wording costs no allocation.
func TestRecordAllocations(t *testing.T) {
	line := recordLine()
	p, err := New("bouncemeter", time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	events := make([]event.Event, 0, 1)
	parse := func() {
		if events, err = p.Parse(line, events[:0]); err != nil || len(events) != 1 {
			t.Fatal(err)
		}
	}
	parse()
	if n := testing.AllocsPerRun(200, parse); n > 0 {
		t.Errorf("%v allocations for a record", n)
	}
}

func recordLine() []byte {
	return encode(&event.Event{
		Kind: event.Attempt, Outcome: event.Bounced, Time: 1768190467_123456, Delay: 1_500_000, Host: []byte("mx1"), Stream: []byte("postfix"), QueueID: []byte("4F2A1B3C"),
		SenderKnown: true, Sender: []byte("bounce-1234@news.shop.example"), SenderDomain: []byte("news.shop.example"), Recipient: []byte("ann.smith@customer.example"),
		Relay: []byte("mx1.customer.example"), RelayIP: []byte("192.0.2.25"), SourceIP: []byte("198.51.100.1"), FirstOutcome: true, Provider: "other",
		Reply:   event.Reply{Code: 550, Enhanced: event.Enhanced{Class: 5, Subject: 1, Detail: 1}, Text: []byte(`550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the address for typos.`), Stage: event.StageRcpt, Origin: event.OriginRemote},
		Verdict: event.Verdict{Category: event.UserUnknown, Persistence: event.Permanent, Confidence: 0.95, Rule: "gmail-user-unknown", Template: 0x1234567890abcdef},
	})
}

func BenchmarkClassifiedRecord(b *testing.B) {
	p, line := newClassified(), recordLine()
	events := make([]event.Event, 0, 1)
	var err error
	b.SetBytes(int64(len(line) + 1))
	b.ReportAllocs()
	for b.Loop() {
		if events, err = p.Parse(line, events[:0]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
