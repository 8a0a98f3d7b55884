package dialect

import (
	"bytes"
	"encoding/csv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/bouncemeter/bouncemeter/event"
)

// What encoding/csv writes is read as it was.
func TestCSVFields(t *testing.T) {
	field := rapid.StringMatching(`[a-z0-9 ;",@<>é'-]{0,12}`)
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(field, 1, 6).Draw(t, "fields")
		separator := rapid.SampledFrom([]rune{',', ';', '\t'}).Draw(t, "separator")
		var b bytes.Buffer
		w := csv.NewWriter(&b)
		w.Comma = separator
		if err := w.Write(want); err != nil {
			t.Fatal(err)
		}
		w.Flush()
		line := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
		before := bytes.Clone(line)
		fields, err := csvFields(line, byte(separator), &arena{}, nil)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		var got []string
		for _, f := range fields {
			got = append(got, string(f))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: -want +got\n%s", line, diff)
		}
		if !bytes.Equal(line, before) {
			t.Errorf("%q became %q", before, line)
		}
	})
}

// A time that package time writes in a form is read in that form as the same time.
func TestTimeFormats(t *testing.T) {
	forms := []struct{ layout, format string }{
		{"02/Jan/2006:15:04:05 -0700", "%d/%b/%Y:%H:%M:%S %z"},
		{"2006-01-02 15:04:05.000000Z07:00", "%F %T.%f%z"},
		{"20060102150405-07:00", "%Y%m%d%H%M%S%z"},
		{"_2.01.06 15:04:05", "%e.%m.%y %T"},
		{"Jan 2 2006, 15h04 05% -0700", "%b %d %Y, %Hh%M %S%% %z"},
	}
	rapid.Check(t, func(t *rapid.T) {
		form := rapid.SampledFrom(forms).Draw(t, "form")
		zone := time.FixedZone("", rapid.IntRange(-14*4, 14*4).Draw(t, "quarters")*15*60)
		at := time.Unix(rapid.Int64Range(946857600, 4102272000).Draw(t, "time"), 0).In(zone)
		p := &mapped{mapping: &mapping{format: form.format}}
		p.location = zone // for the form without a zone
		p.Reference(at)
		got, err := p.when([]byte(at.Format(form.layout)))
		if err != nil || got != at.UnixMicro() {
			t.Errorf("%s as %s: %d, want %d (%v)", at.Format(form.layout), form.format, got, at.UnixMicro(), err)
		}
	})
}

// Columns are those of the line's own file, whatever was read before.
func TestColumnsAreOfTheFile(t *testing.T) {
	p := newPowermta(time.UTC)
	one, other := []byte("type,timeLogged,rcpt"), []byte("type,rcpt,timeLogged,orig")
	for range 2 {
		for _, test := range []struct {
			header []byte
			line   string
			ok     bool
		}{
			{one, "d,1768190467,ann@x.example", true},
			{other, "d,ann@x.example,1768190467,a@shop.example", true},
			{other, "d,1768190467,ann@x.example", false},
			{nil, "d,1768190467,ann@x.example", false},
		} {
			p.Header(test.header)
			var events []event.Event
			events, err := p.Parse([]byte(test.line), events)
			if (err == nil) != test.ok || test.ok && string(events[0].Recipient) != "ann@x.example" {
				t.Errorf("%s under %s: %v, %+v", test.line, test.header, err, events)
			}
		}
	}
}
