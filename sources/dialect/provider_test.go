package dialect

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/tools/txtar"

	"github.com/bouncemeter/bouncemeter/event"
)

// providers are the dialects whose records are JSON.
var providers = []string{"kumomta", "ses", "sendgrid", "mailgun", "sparkpost", "postmark", "postal", "mandrill", "brevo"}

// envelopes are the forms that the record of a dialect may also come in.
func envelopes(dialect, record string) []string {
	all := []string{"[" + record + "]", " " + record + "\r\n"}
	quoted, err := json.Marshal(record)
	if err != nil {
		panic(err) // a string
	}
	switch dialect {
	case "ses":
		all = append(all, `{"Type":"Notification","TopicArn":"arn:aws:sns:x","Message":`+string(quoted)+`}`,
			`{"TopicArn":"arn:aws:sns:x","Message":`+string(quoted)+`,"Type":"Notification"}`,
			`{"detail-type":"Email","source":"aws.ses","detail":`+record+`}`)
	case "mailgun":
		all = append(all, `{"event-data":`+record+`,"signature":{}}`)
	case "sparkpost":
		all = append(all, `{"msys":{"message_event":`+record+`}}`)
	case "mandrill":
		all = append(all, mandrillForm+url.QueryEscape("["+record+"]"), mandrillForm+url.QueryEscape(record)+"&more=1")
	}
	return all
}

// A record means the same in each of its envelopes.
func checkEnvelopes(t *testing.T, dialect, record string) {
	t.Helper()
	p, err := New(dialect, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	want, err := p.Parse([]byte(record), nil)
	if err != nil {
		if !errors.Is(err, ErrMalformed) || len(want) > 0 {
			t.Errorf("%s: %v, %d events", dialect, err, len(want))
		}
		return
	}
	for i := range want {
		if e := &want[i]; e.Kind == 0 || e.Outcome == 0 || e.Delay < -1 || e.Time <= 0 || e.Kind == event.Attempt && len(e.Recipient) == 0 && dialect != "kumomta" {
			t.Errorf("%s: an event that is not whole: %+v", dialect, e)
		}
	}
	for _, line := range envelopes(dialect, record) {
		got, err := p.Parse([]byte(line), nil)
		if err != nil {
			t.Errorf("%s: %v: %s", dialect, err, line)
			continue
		}
		// Another record does not change what this one has told.
		if _, err := p.Parse([]byte(strings.ReplaceAll(line, "a", "b")), nil); err != nil && !errors.Is(err, ErrMalformed) {
			t.Error(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s\n-alone +in its envelope:\n%s", line, diff)
		}
	}
}

// alone reports whether a line is a record of its dialect without an envelope.
func alone(dialect, line string) bool {
	if !strings.HasPrefix(line, "{") {
		return false
	}
	for _, envelope := range []string{`{"Type"`, `{"version"`, `{"signature"`, `{"event-data"`, `{"msys"`} {
		if strings.HasPrefix(line, envelope) {
			return false
		}
	}
	return dialect != "mailgun" || strings.Contains(line, `"log-level"`)
}

func TestEnvelopes(t *testing.T) {
	for _, dialect := range providers {
		archive, err := txtar.ParseFile("testdata/" + dialect + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, f := range archive.Files {
			for line := range strings.Lines(string(f.Data)) {
				if line = strings.TrimSpace(line); alone(dialect, line) {
					checkEnvelopes(t, dialect, line)
					n++
				}
			}
		}
		if n == 0 {
			t.Errorf("%s has no records alone", dialect)
		}
	}
}

// FuzzRecords is FuzzParse for one dialect of records at a time.
func FuzzRecords(f *testing.F) {
	for i, dialect := range providers {
		archive, err := txtar.ParseFile("testdata/" + dialect + ".txtar")
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			for line := range bytes.Lines(file.Data) {
				if line = bytes.TrimSpace(line); len(line) > 0 && strings.HasSuffix(file.Name, ".in") {
					f.Add(i, string(line))
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, dialect int, line string) {
		name := providers[uint(dialect)%uint(len(providers))]
		// What is in an envelope already cannot be put into another, and JSON that
		// is no UTF-8 would not be the same within a string.
		if !json.Valid([]byte(line)) || !alone(name, line) || strings.ToValidUTF8(line, "") != line || strings.Contains(line, `"msys"`) ||
			strings.Contains(line, `"event-data"`) || strings.Contains(line, `\u`) || strings.Contains(line, `"Type"`) || strings.Contains(line, `"detail"`) {
			p, _ := New(name, time.UTC)
			if events, err := p.Parse([]byte(line), nil); err != nil && (!errors.Is(err, ErrMalformed) || len(events) > 0 && !partial(err)) {
				t.Errorf("%s: %v, %d events", name, err, len(events))
			}
			return
		}
		checkEnvelopes(t, name, line)
	})
}

func partial(err error) bool { return errors.As(err, new(*PartialError)) }

// An array means what its records mean alone: those that cannot be read cost no
// other, and are told with their place and text.
func TestArrays(t *testing.T) {
	for _, dialect := range append(slices.Clone(providers), Classified) {
		archive, err := txtar.ParseFile("testdata/" + dialect + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		p, err := New(dialect, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		var records []string
		var want strings.Builder
		var faults []Fault
		bad := 0
		for _, f := range archive.Files {
			for line := range strings.Lines(string(f.Data)) {
				if line = strings.TrimSpace(line); !strings.HasPrefix(line, "{") || !json.Valid([]byte(line)) {
					continue
				}
				records = append(records, line)
				events, err := p.Parse([]byte(line), nil)
				if err != nil {
					if bad++; len(faults) < maxFaults {
						faults = append(faults, Fault{len(records), []byte(line), err})
					}
				}
				for i := range events {
					describe(&want, &events[i])
				}
			}
		}
		array := "[" + strings.Join(records, " ,\t") + " ]"
		events, err := p.Parse([]byte(array), nil)
		var got strings.Builder
		for i := range events {
			describe(&got, &events[i])
		}
		if diff := cmp.Diff(want.String(), got.String()); diff != "" {
			t.Errorf("%s: -want +got:\n%s", dialect, diff)
		}
		partial := &PartialError{}
		if errors.As(err, &partial); partial.Count != bad {
			t.Errorf("%s: %d of %d records have faults, want %d", dialect, partial.Count, len(records), bad)
		}
		if diff := cmp.Diff(faults, partial.Faults, cmpopts.EquateErrors(), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: -want +got:\n%s", dialect, diff)
		}
	}
}

// What is wrong within one record of an array, of whatever kind, costs that
// record: the one before and, unless the end of the odd one cannot be told, the
// one after it count.
func TestOddRecords(t *testing.T) {
	good := `{"event":"delivered","email":"ann@x.example","timestamp":1768190468,"sg_message_id":"1"}`
	deep := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	for _, odd := range []string{
		`{"event":"bounce"}`, `{}`, `null`, `7`, `"text, with ] and \" in it"`, `[]`, `[` + good + `]`, `true`, `nul`, `-`, `{"event":["bounce"]}`,
		`{"event":1.}`, `{"a":01}`, `{"a":NaN}`, `{"a":'b'}`, `{a:1}`, `{"a" 1}`, `{"a":1,}`, "{\"a\":\"\t\x00\"}", `{"a":"\x"}`, `{"a":"\"},{\x"}`, `{"a":` + deep + `}`, deep,
	} {
		for name, p := range map[string]Parser{"sendgrid": newSendgrid(), Auto: newAuto(time.UTC, false)} {
			line := "[" + good + "," + odd + " , " + good + "]"
			events, err := p.Parse([]byte(line), nil)
			partial := &PartialError{}
			if !errors.As(err, &partial) || !errors.Is(err, ErrMalformed) || partial.Count != 1 || len(events) != 2 {
				t.Errorf("%s: %d events, error %v for %s", name, len(events), err, odd)
				continue
			}
			if f := partial.Faults[0]; f.Record != 2 || string(f.Text) != odd {
				t.Errorf("%s: record %d, %s, want %s", name, f.Record, f.Text, odd)
			}
			if events, err := p.Parse([]byte("["+odd+","+good+"]"), nil); !errors.As(err, &partial) || len(events) != 1 {
				t.Errorf("%s: %d events, error %v where it is the first: %s", name, len(events), err, odd)
			}
		}
	}
	// Where no end can be told, the rest is one fault. A reply of a stranger must
	// not become a record by that.
	stranger := `{"event":"bounce","reason":"},{\"event\":\"delivered\",\"email\":\"eve@x.example\",\"timestamp\":1768190468}, {","a":"b"}`
	for _, rest := range []string{`{"a":"b},` + good + `]`, `{"a":1,` + good + `]`, `{"a":"b},` + stranger + `]`, `{"a":1}}` + good + `]`, ``, ` `, `{`, `{"a"`} {
		p := newSendgrid()
		events, err := p.Parse([]byte("["+good+","+rest), nil)
		if !partial(err) || len(events) != 1 || string(events[0].Recipient) != "ann@x.example" {
			t.Errorf("%d events, error %v for %s", len(events), err, rest)
		}
	}
	// The faults that are told are bounded, their number is not.
	events, err := newSendgrid().Parse([]byte("["+strings.Repeat("0,", 1e6)+good+"]"), nil)
	if p := (*PartialError)(nil); !errors.As(err, &p) || p.Count != 1e6 || len(p.Faults) != maxFaults || len(events) != 1 {
		t.Errorf("%d events, error %v", len(events), err)
	}
}
