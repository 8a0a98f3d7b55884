package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/bouncemeter/bouncemeter/event"
)

func place() *Place {
	return &Place{Source: "mta1", Lane: "/var/log/mail.log", Segment: "9f86d081884c7d65", Offset: 4711, Index: 1}
}

func bounce() *event.Event {
	return &event.Event{
		Kind: event.Attempt, Outcome: event.Bounced, Time: 1768190467_123456, Delay: 1_500_000,
		Host: []byte("mx1"), Stream: []byte("postfix"), QueueID: []byte("4F2A1B3C"),
		SenderKnown: true, Sender: []byte("news@Shop.example"), SenderDomain: []byte("Shop.example"),
		Recipient: []byte("ann@X.example"), OriginalRecipient: []byte("ann.smith@x.example"),
		Relay: []byte("mx.x.example"), RelayIP: []byte("192.0.2.25"), SourceIP: []byte("198.51.100.1"), FirstOutcome: true,
		Reply: event.Reply{
			Code: 550, Enhanced: event.Enhanced{Class: 5, Subject: 1, Detail: 1}, Status: event.Enhanced{Class: 5},
			Text: []byte(`550 5.1.1 <ann@x.example>: no "such" user`), Stage: event.StageRcpt, Origin: event.OriginRemote,
		},
		Provider: "other",
		Verdict: event.Verdict{
			Category: event.UserUnknown, Persistence: event.Permanent, Confidence: 0.9, Rule: "user-unknown", Template: 0xab,
		},
	}
}

// The record of docs/record.md, member by member.
func TestAppend(t *testing.T) {
	c := Encoder{Describe: func(source string, e *event.Event, x *Extra) {
		if source != "mta1" || e.Outcome != event.Bounced {
			t.Errorf("asked to describe %q, %v", source, e.Outcome)
		}
		*x = Extra{MTA: "postfix", Blocklist: "List of Example", RetryAfter: 90 * time.Second}
	}}
	want := `{"id":"` + string(place().AppendID(nil)) + `","v":1,"time":"2026-01-12T04:01:07.123456Z","kind":"attempt",` +
		`"source":"mta1","lane":"/var/log/mail.log","position":"9f86d081884c7d65:4711:1","host":"mx1","mta":"postfix","queue_id":"4F2A1B3C",` +
		`"sender":"*@Shop.example","sender_domain":"shop.example","recipient":"*@X.example","recipient_domain":"x.example","original_recipient":"*@x.example",` +
		`"provider":"other","relay":"mx.x.example","relay_ip":"192.0.2.25","source_ip":"198.51.100.1","stream":"postfix","outcome":"bounced","first":true,` +
		`"code":550,"enhanced":"5.1.1","status":"5.0.0","stage":"rcpt","origin":"remote","text":"550 5.1.1 <*@x.example>: no \"such\" user",` +
		`"category":"user_unknown","group":"recipient","owner":"list hygiene","persistence":"permanent","confidence":0.9,"rule":"user-unknown",` +
		`"blocklist":"List of Example","template":"00000000000000ab","retry_after":90,"delay":1.5}`
	if got := string(c.Append(nil, place(), bounce())); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What is not known is absent; the null sender is known.
func TestAbsent(t *testing.T) {
	members := func(e *event.Event) map[string]any {
		var m map[string]any
		if err := json.Unmarshal(new(Encoder).Append(nil, place(), e), &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	m := members(&event.Event{Kind: event.Attempt, Outcome: event.Delivered, Delay: -1})
	if want := []string{"id", "kind", "lane", "outcome", "position", "source", "time", "v"}; len(m) != len(want) || m["time"] != "1970-01-01T00:00:00.000000Z" {
		t.Errorf("%v, want only %v", m, want)
	}
	m = members(&event.Event{Kind: event.Attempt, Outcome: event.Delivered, SenderKnown: true})
	if m["sender"] != "" || m["sender_domain"] != "" || m["delay"] != 0.0 {
		t.Errorf("null sender, no delay: %v", m)
	}
	m = members(&event.Event{Kind: event.Attempt, Outcome: event.Delivered, SenderKnown: true, Sender: []byte("root")})
	if _, ok := m["sender_domain"]; ok {
		t.Errorf("a sender without a domain has one: %v", m)
	}
	m = members(&event.Event{Kind: event.Attempt, Outcome: event.Delivered, SenderKnown: true, SenderDomain: []byte("shop.example")})
	if _, ok := m["sender"]; ok || m["sender_domain"] != "shop.example" {
		t.Errorf("only the sender's domain is known: %v", m)
	}
}

func TestPrivacy(t *testing.T) {
	for _, test := range []struct {
		privacy event.Privacy
		leaks   bool
	}{
		{event.Privacy{}, false},
		{event.Privacy{Addresses: event.HashLocal, Key: []byte("0123456789abcdef")}, false},
		{event.Privacy{Addresses: event.KeepAddresses}, true},
	} {
		e := bounce()
		e.Reply.Text = []byte("see https://x.example/?to=ann%40x.example")
		got := string((&Encoder{Privacy: test.privacy}).Append(nil, place(), e))
		if strings.Contains(got, "ann") != test.leaks {
			t.Errorf("%+v: %s", test.privacy, got)
		}
	}
}

// A sender that has been hidden already, by whoever kept it, is the same as one that
// the record itself has.
func TestHiddenSender(t *testing.T) {
	privacy := event.Privacy{Addresses: event.HashLocal, Key: []byte("0123456789abcdef")}
	e := bounce()
	e.SenderKnown, e.Sender = true, []byte("ann@shop.example")
	want := string((&Encoder{Privacy: privacy}).Append(nil, place(), e))
	e.Sender, e.SenderHidden = privacy.AppendAddress(nil, e.Sender), true
	if got := string((&Encoder{Privacy: privacy}).Append(nil, place(), e)); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// The id depends on every part of the place and on where one part ends.
func TestIDs(t *testing.T) {
	seen := make(map[string]Place)
	for _, p := range []Place{
		{}, {Source: "a"}, {Lane: "a"}, {Segment: "a"}, {Offset: 1}, {Index: 1}, {Source: "ab"}, {Source: "a", Lane: "b"},
		{Source: "a", Segment: "b"}, {Source: "1 a"}, {Offset: 11}, {Offset: 1, Index: 1}, {Source: strings.Repeat("x", 1000)},
	} {
		id := string(p.AppendID(nil))
		if other, ok := seen[id]; ok || len(id) != IDLength {
			t.Errorf("%+v and %+v: %s", p, other, id)
		}
		seen[id] = p
	}
}

func TestTime(t *testing.T) {
	c := new(Encoder)
	for micros, want := range map[int64]string{
		0: "1970-01-01T00:00:00.000000Z", -1: "1969-12-31T23:59:59.999999Z", 1_000_001: "1970-01-01T00:00:01.000001Z",
		math.MinInt64: "0001-01-01T00:00:00.000000Z", math.MaxInt64: "9999-12-31T23:59:59.999999Z",
	} {
		if got := string(c.time(nil, micros)); got != want {
			t.Errorf("%d: %s, want %s", micros, got, want)
		}
	}
}

// Whatever others have written, a record is one line of JSON as the schema says,
// without anything that acts on a terminal.
func TestRecordsAreHarmless(t *testing.T) {
	schema := readSchema(t)
	rapid.Check(t, func(t *rapid.T) { checkRecord(t, schema, draw(t)) })
}

func FuzzAppend(f *testing.F) {
	f.Add([]byte("mx1"), []byte("550 \x1b[31m red \u202e \x85 \xff\xfe \"\\"), "provider", int64(1768190467_123456))
	schema := readSchema(f)
	f.Fuzz(func(t *testing.T, name, text []byte, word string, micros int64) {
		e := bounce()
		e.Host, e.QueueID, e.Sender, e.SenderDomain, e.Recipient, e.Relay = name, name, name, nil, name, name
		e.Reply.Text, e.Provider, e.Verdict.Rule, e.Time, e.Delay = text, word, word, micros, micros
		checkRecord(t, schema, e)
	})
}

type tester interface {
	Errorf(format string, values ...any)
	Fatalf(format string, values ...any)
}

func checkRecord(t tester, schema *schema, e *event.Event) {
	b := (&Encoder{Privacy: event.Privacy{Addresses: event.KeepAddresses}}).Append(nil, place(), e)
	if id := place().AppendID(nil); !bytes.Equal(ID(b), id) {
		t.Errorf("id %q, want %q", ID(b), id)
	}
	if !utf8.Valid(b) {
		t.Errorf("no UTF-8: %q", b)
	}
	for _, r := range string(b) {
		if unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp) || r == 0xfeff {
			t.Errorf("%U in %q", r, b)
		}
	}
	var m map[string]any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	for name, value := range m {
		p, ok := schema.Properties[name]
		if !ok {
			t.Errorf("the schema has no %s", name)
			continue
		}
		if fault := p.fault(value); fault != "" {
			t.Errorf("%s: %v %s", name, value, fault)
		}
	}
	for _, name := range schema.Required {
		if _, ok := m[name]; !ok {
			t.Errorf("%s is missing: %s", name, b)
		}
	}
}

// draw makes an event as parsers and classification may, with any bytes where
// bytes are others'.
func draw(t *rapid.T) *event.Event {
	others := rapid.SliceOfN(rapid.Byte(), 0, 40)
	text := func(name string) []byte {
		if rapid.Bool().Draw(t, name+" known") {
			return others.Draw(t, name)
		}
		return nil
	}
	code := func(name string) event.Enhanced {
		if rapid.Bool().Draw(t, name+" known") {
			return event.Enhanced{Class: rapid.SampledFrom([]uint8{2, 4, 5}).Draw(t, name), Subject: rapid.Uint16Range(0, 999).Draw(t, name), Detail: rapid.Uint16Range(0, 999).Draw(t, name)}
		}
		return event.Enhanced{}
	}
	e := &event.Event{
		Kind:     rapid.SampledFrom([]event.Kind{event.Attempt, event.Expiry, event.Notice, event.Rejection}).Draw(t, "kind"),
		Outcome:  rapid.SampledFrom(event.Outcomes[:]).Draw(t, "outcome"),
		Attempts: rapid.Uint32().Draw(t, "attempts"), Time: rapid.Int64().Draw(t, "time"), Delay: rapid.Int64Min(-1).Draw(t, "delay"),
		Host: text("host"), Stream: text("stream"), QueueID: text("queue id"), MessageID: text("message id"),
		SenderKnown: rapid.Bool().Draw(t, "sender known"), Sender: text("sender"), SenderDomain: text("sender domain"),
		Recipient: text("recipient"), OriginalRecipient: text("original recipient"), Relay: text("relay"), RelayIP: text("relay ip"), SourceIP: text("source ip"),
		Local: rapid.Bool().Draw(t, "local"), Repeat: rapid.Bool().Draw(t, "repeat"), FirstOutcome: rapid.Bool().Draw(t, "first"),
		Reply: event.Reply{
			Code: rapid.Uint16Range(0, 999).Draw(t, "code"), Enhanced: code("enhanced"), Status: code("status"), Text: text("text"),
			Stage: event.Stage(rapid.IntRange(0, int(event.StageQuit)).Draw(t, "stage")), Origin: event.Origin(rapid.IntRange(0, 2).Draw(t, "origin")),
		},
		Provider: rapid.String().Draw(t, "provider"),
	}
	if rapid.Bool().Draw(t, "classified") {
		e.Verdict = event.Verdict{
			Category: rapid.SampledFrom(event.Categories()).Draw(t, "category"), Secondary: rapid.SampledFrom(append(event.Categories(), event.Unset)).Draw(t, "secondary"),
			Persistence: event.Persistence(rapid.IntRange(0, 2).Draw(t, "persistence")), Confidence: rapid.Float32Range(0, 1).Draw(t, "confidence"),
			Rule: rapid.String().Draw(t, "rule"), Blocklist: rapid.String().Draw(t, "blocklist"), Template: rapid.Uint64().Draw(t, "template"),
		}
	}
	return e
}

// schema is the part of JSON Schema that the record's uses.
type schema struct {
	Properties map[string]*property
	Required   []string
}

type property struct {
	Type             string
	Description      string
	Const            any
	Enum             []string
	Pattern          string
	Format           string
	Minimum, Maximum *float64
	pattern          *regexp.Regexp
}

func readSchema(t testing.TB) *schema {
	t.Helper()
	b, err := os.ReadFile("../../configs/classified-record.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	s := new(schema)
	if err := json.Unmarshal(b, s); err != nil {
		t.Fatal(err)
	}
	for name, p := range s.Properties {
		if p.Description == "" {
			t.Errorf("%s has no description", name)
		}
		p.pattern = regexp.MustCompile(p.Pattern)
	}
	return s
}

// fault returns what of a value is not as p says.
func (p *property) fault(v any) string {
	if p.Const != nil {
		if fmt.Sprint(p.Const) != fmt.Sprint(v) {
			return fmt.Sprintf("is not %v", p.Const)
		}
		return ""
	}
	switch v := v.(type) {
	case string:
		switch {
		case p.Type != "string":
			return "is a string"
		case p.Enum != nil && !slices.Contains(p.Enum, v):
			return "is not listed"
		case !p.pattern.MatchString(v):
			return "does not match " + p.Pattern
		case p.Format == "date-time":
			if _, err := time.Parse(time.RFC3339, v); err != nil {
				return err.Error()
			}
		}
		return ""
	case json.Number:
		n, err := v.Float64()
		switch {
		case err != nil || p.Type != "number" && p.Type != "integer":
			return "is a number"
		case p.Type == "integer" && strings.ContainsAny(v.String(), ".e"):
			return "is no integer"
		case p.Minimum != nil && n < *p.Minimum || p.Maximum != nil && n > *p.Maximum:
			return "is out of range"
		}
		return ""
	}
	return fmt.Sprintf("is of type %T", v)
}

// The schema's lists are those of package event.
func TestSchemaIsCurrent(t *testing.T) {
	s := readSchema(t)
	if s.Properties["v"].Const != float64(Version) {
		t.Errorf("v is %v, want %d", s.Properties["v"].Const, Version)
	}
	var ids, groups, outcomes, stages []string
	for _, c := range event.Categories() {
		ids = append(ids, c.String())
		if g := c.Info().Group; !slices.Contains(groups, g) {
			groups = append(groups, g)
		}
	}
	for _, o := range event.Outcomes {
		outcomes = append(outcomes, o.String())
	}
	for x := event.StageConnect; x <= event.StageQuit; x++ {
		stages = append(stages, x.String())
	}
	slices.Sort(groups)
	for name, want := range map[string][]string{"category": ids, "secondary": ids, "group": groups, "outcome": outcomes, "stage": stages} {
		if got := s.Properties[name].Enum; !slices.Equal(got, want) {
			t.Errorf("%s may be %v, want %v", name, got, want)
		}
	}
}

// Every member is explained in docs/record.md.
func TestDocs(t *testing.T) {
	docs, err := os.ReadFile("../../docs/record.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range readSchema(t).Properties {
		if !strings.Contains(string(docs), "`"+name+"`") {
			t.Errorf("docs/record.md does not tell of %s", name)
		}
	}
}

func TestAllocations(t *testing.T) {
	c := new(Encoder)
	e, p := bounce(), place()
	b := c.Append(nil, p, e)
	if n := testing.AllocsPerRun(100, func() { b = c.Append(b[:0], p, e) }); n > 0 {
		t.Errorf("%v allocations for a record", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	c := new(Encoder)
	e, p := bounce(), place()
	out := c.Append(nil, p, e)
	b.SetBytes(int64(len(out)))
	b.ReportAllocs()
	for b.Loop() {
		out = c.Append(out[:0], p, e)
	}
}
