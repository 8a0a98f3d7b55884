package dialect

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/bouncemeter/bouncemeter/event"
)

// mappings are those that testdata/mapped/records.txtar names.
var mappings = map[string]Mapping{
	"gateway": {
		Fields: map[string]string{
			"time": "time", "outcome": "type", "recipient": "rcpt", "sender": "from", "id": "uuid", "queue_id": "mail.id",
			"message_id": "mail.message-id", "code": "reply.code", "enhanced": "reply.enhanced", "text": "reply.lines",
			"command": "reply.command", "relay": "remote.mx", "relay_ip": "remote.ip", "source_ip": "local.ip",
			"host": "node", "stream": "mail.tags", "delay": "seconds", "attempt": "try",
		},
		Outcomes: map[string]string{"ok": "delivered", "soft": "deferred", "hard": "bounced", "give_up": "expired", "blocked": "suppressed", "fbl": "complaint", "open": Ignored},
	},
	"codes": {
		Fields: map[string]string{"time": `at\.ms`, "recipient": "to.address", "text": "diagnostic", "retries": "retries", "sender": "from", "queued": "created"},
	},
	"others ignored": {
		Fields:   map[string]string{"time": "t", "outcome": "o", "recipient": "r"},
		Outcomes: map[string]string{"sent": "delivered", "*": Ignored},
	},
	"table": {
		Fields:     map[string]string{"time": "When", "outcome": "Result", "recipient": "To", "sender": "From", "text": "Reply", "id": "No"},
		Outcomes:   map[string]string{"S": "delivered", "F": "bounced"},
		TimeFormat: "%d/%b/%Y:%T %z",
	},
	"columns": {
		Fields:     map[string]string{"time": "t", "code": "c", "recipient": "r"},
		Columns:    []string{"t", "r", "c"},
		Separator:  ';',
		TimeFormat: "%F %H:%M:%S.%f",
	},
}

func newMapped(t testing.TB, kind, name string, location *time.Location) Parser {
	t.Helper()
	m, ok := mappings[name]
	if !ok {
		t.Fatalf("there is no mapping %q", name)
	}
	create := NewJSON
	if kind == "csv" {
		create = NewCSV
	}
	p, err := create(m, location)
	if err != nil {
		t.Fatal(err)
	}
	p.Reference(time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC))
	return p
}

func TestMapped(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/mapped/records.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(archive.Files); i += 2 {
		in, out := archive.Files[i], archive.Files[i+1]
		t.Run(in.Name, func(t *testing.T) {
			var got strings.Builder
			var p Parser
			for line := range strings.Lines(strings.TrimSpace(string(in.Data))) {
				line = strings.TrimSuffix(line, "\n")
				if what, ok := strings.CutPrefix(line, "# "); ok {
					kind, name, _ := strings.Cut(what, " ")
					if kind == "header" {
						setHeader(p, []byte(name))
					} else {
						p = newMapped(t, kind, name, time.UTC)
					}
					continue
				}
				events, err := p.Parse([]byte(line), nil)
				switch {
				case errors.Is(err, ErrMalformed):
					got.WriteString("malformed\n")
				case err != nil:
					t.Error(err)
				case len(events) == 0:
					got.WriteString("-\n")
				}
				for i := range events {
					describe(&got, &events[i])
				}
			}
			if diff := cmp.Diff(strings.Split(strings.TrimSpace(string(out.Data)), "\n"), strings.Split(strings.TrimSpace(got.String()), "\n")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// All faults of a mapping are told at once, each with where it is.
func TestMappingFaults(t *testing.T) {
	_, err := NewJSON(Mapping{
		Fields:     map[string]string{"recipient": "a..b", "sendr": "x", "attempt": "a", "retries": "b"},
		Outcomes:   map[string]string{"x": "lost"},
		TimeFormat: "%Y %Q",
	}, nil)
	for _, want := range []string{"fields.sendr", "fields.recipient", "fields.time", "fields.outcome", "fields.retries", `"lost"`, `"%Q"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no fault says %s: %v", want, err)
		}
	}
	fields := map[string]string{"time": "t", "recipient": "r", "outcome": "o"}
	if _, err := NewJSON(Mapping{Fields: fields, Columns: []string{"t"}}, nil); err == nil {
		t.Error("columns of JSON are accepted")
	}
	if _, err := NewCSV(Mapping{Fields: fields, Columns: []string{"t", "r"}}, nil); err == nil || !strings.Contains(err.Error(), "fields.outcome") {
		t.Errorf("a column that is none: %v", err)
	}
	if len(MappedFields()) != int(mappedFields) {
		t.Error("a field has no name")
	}
	for f, name := range mappedNames {
		if name == "" {
			t.Errorf("field %d has no name", f)
		}
	}
}

func TestPaths(t *testing.T) {
	for path, want := range map[string][]string{
		"a": {"a"}, "a.b": {"a", "b"}, `a\.b`: {"a.b"}, `a\\.b`: {`a\`, "b"}, `a.b\.c.d`: {"a", "b.c", "d"}, "a..b": {"a", "", "b"},
	} {
		if got := splitPath(path); !cmp.Equal(got, want) {
			t.Errorf("%s: %q", path, got)
		}
		if joined := joinPath(want...); path != joined {
			t.Errorf("%q joined: %s, want %s", want, joined, path)
		}
	}
}

func TestExplain(t *testing.T) {
	p := newMapped(t, "json", "codes", nil)
	got := Explain(p, []byte(`{"at.ms":1768190467000,"to":[{"address":"a@x.example","name":"A"},{"address":"b@x.example"}],"diagnostic":"250 ok","extra":{"x.y":[1,2]},"none":null}`))
	want := Explanation{
		Fields: []FieldValues{
			{"time", `at\.ms`, []string{"1768190467000"}},
			{"recipient", "to.address", []string{"a@x.example", "b@x.example"}},
			{"sender", "from", nil},
			{"text", "diagnostic", []string{"250 ok"}},
			{"queued", "created", nil},
			{"retries", "retries", nil},
		},
		Unused: []FieldValues{{"", "to.name", []string{"A"}}, {"", `extra.x\.y`, []string{"1", "2"}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	c := newMapped(t, "csv", "columns", nil)
	got = Explain(c, []byte("2026-01-12;a@x.example;250"))
	if len(got.Fields) != 3 || got.Fields[0].Values[0] != "2026-01-12" || len(got.Unused) != 0 {
		t.Errorf("%+v", got)
	}
	if e := Explain(newPostfix(time.UTC, false), []byte("x")); len(e.Fields)+len(e.Unused) > 0 {
		t.Errorf("%+v", e)
	}
}

const mappedLine = `{"time":"2026-01-12T04:01:07.123Z","type":"hard","uuid":"1f0c","from":"bounce-1234@news.shop.example","rcpt":["ann.smith@customer.example"],"node":"gw1","mail":{"id":"4711","message-id":"<1234@news.shop.example>","tags":["receipts","vip"],"subject":"Your order of yesterday","size":41047},"reply":{"code":550,"enhanced":"5.1.1","lines":"The email account that you tried to reach does not exist. Please try double-checking the address for typos.","command":"RCPT TO"},"remote":{"mx":"mx1.customer.example.","ip":"192.0.2.25:25","tls":{"version":"TLSv1.3","cipher":"TLS_AES_256_GCM_SHA384"}},"local":{"ip":"198.51.100.1"},"seconds":2.25,"try":1}`

func BenchmarkMapped(b *testing.B) {
	for _, test := range []struct{ kind, mapping, line string }{
		{"json", "gateway", mappedLine},
		{"csv", "columns", "2026-01-12 04:01:07.5;ann.smith@customer.example;250"},
	} {
		b.Run(test.kind, func(b *testing.B) {
			p := newMapped(b, test.kind, test.mapping, nil)
			line, events := []byte(test.line), make([]event.Event, 0, 4)
			b.SetBytes(int64(len(line) + 1))
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if events, err = p.Parse(line, events[:0]); err != nil || len(events) != 1 {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// What strptime remembers of a minute changes no time.
func TestMinutes(t *testing.T) {
	m := mappings["columns"]
	m.TimeFormat = "%Y-%m-%d %H:%M:%S%z"
	zoned, err := NewCSV(m, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.TimeFormat = "%Y-%m-%d %H:%M:%S"
	prague, err := time.LoadLocation("Europe/Prague")
	if err != nil {
		t.Fatal(err)
	}
	plain, err := NewCSV(m, prague)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		parser    Parser
		reference string
		line      string
		want      string // "" where it is malformed
	}{
		{zoned, "", "2026-01-12 04:01:07+0100", "2026-01-12T03:01:07Z"},
		{zoned, "", "2026-01-12 04:01:08+0100", "2026-01-12T03:01:08Z"},
		{zoned, "", "2026-01-12 04:01:08+0200", "2026-01-12T02:01:08Z"},
		{zoned, "", "2026-01-12 04:02:08+0200", "2026-01-12T02:02:08Z"},
		{zoned, "", "2026-01-12 04:02:61+0200", ""},
		{zoned, "", "2026-01-12 04:02:60+0200", "2026-01-12T02:03:00Z"},
		{zoned, "", "2026-01-32 04:02:08+0200", ""},
		{zoned, "", "0000-00-00 00:00:00Z", ""},
		{zoned, "", "0000-00-00 00:00:00+0000", ""},
		// The hour that the end of summer time repeats is that closest to the reference.
		{plain, "2026-10-25T00:30:00Z", "2026-10-25 02:30:00", "2026-10-25T00:30:00Z"},
		{plain, "2026-10-25T01:30:00Z", "2026-10-25 02:30:01", "2026-10-25T01:30:01Z"},
		{plain, "2026-10-25T01:30:00Z", "0000-00-00 00:00:00", ""},
	} {
		if at, err := time.Parse(time.RFC3339, test.reference); err == nil {
			test.parser.Reference(at)
		}
		events, err := test.parser.Parse([]byte(test.line+";ann@x.example;250"), nil)
		got := ""
		if err == nil {
			got = time.UnixMicro(events[0].Time).UTC().Format(time.RFC3339)
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.line, got, test.want)
		}
	}
}

func TestMappedAllocations(t *testing.T) {
	p := newMapped(t, "json", "gateway", nil)
	c := newMapped(t, "csv", "columns", nil)
	events := make([]event.Event, 0, 4)
	line, row := []byte(mappedLine), []byte("2026-01-12 04:01:07.5;ann.smith@customer.example;250")
	if n := testing.AllocsPerRun(100, func() {
		events, _ = p.Parse(line, events[:0])
		events, _ = c.Parse(row, events[:0])
	}); n > 0.1 {
		t.Errorf("%v allocations", n)
	}
}

// Whatever a record has, a mapping makes events that are whole, or says that it
// is malformed.
func FuzzMapped(f *testing.F) {
	archive, err := txtar.ParseFile("testdata/mapped/records.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range archive.Files {
		for line := range strings.Lines(string(file.Data)) {
			f.Add("When,Result,To,From,Reply,No", strings.TrimSpace(line))
		}
	}
	f.Fuzz(func(t *testing.T, header, line string) {
		for name := range mappings {
			kinds := []string{"json", "csv"}
			if name == "columns" {
				kinds = kinds[1:]
			}
			for _, kind := range kinds {
				p := newMapped(t, kind, name, time.UTC)
				setHeader(p, []byte(header))
				events, err := p.Parse([]byte(line), nil)
				if err != nil && (!errors.Is(err, ErrMalformed) || len(events) > 0 && !partial(err)) {
					t.Errorf("%s: %v, %d events", name, err, len(events))
				}
				for _, e := range events {
					if e.Kind == 0 || e.Outcome == 0 || e.Delay < -1 || e.Kind == event.Attempt && len(e.Recipient) == 0 {
						t.Errorf("%s: %+v", name, e)
					}
				}
				Explain(p, []byte(line))
			}
		}
		p := newPowermta(time.UTC)
		p.Header([]byte(header))
		events, err := p.Parse([]byte(line), nil)
		if err != nil && (!errors.Is(err, ErrMalformed) || len(events) > 0) {
			t.Errorf("powermta: %v, %d events", err, len(events))
		}
	})
}
