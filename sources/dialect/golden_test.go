package dialect

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the cases name locations

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/bouncemeter/bouncemeter/event"
)

// TestGolden runs every dialect on its testdata/NAME.txtar, whose beginning
// explains the form.
func TestGolden(t *testing.T) {
	for _, name := range Names() {
		archive, err := txtar.ParseFile("testdata/" + name + ".txtar")
		if err != nil {
			t.Error(err)
			continue
		}
		files := make(map[string]string)
		for _, f := range archive.Files {
			if _, ok := files[f.Name]; ok {
				t.Errorf("%s: %s is there twice", name, f.Name)
			}
			files[f.Name] = strings.TrimSpace(string(f.Data))
		}
		for _, f := range archive.Files {
			stem, ok := strings.CutSuffix(f.Name, ".in")
			if !ok {
				continue
			}
			t.Run(name+"/"+stem, func(t *testing.T) {
				want, ok := files[stem+".out"]
				if !ok {
					t.Fatalf("%s.out is missing", stem)
				}
				got := transcript(t, name, files[f.Name])
				if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			})
		}
	}
}

// transcript parses the lines of a case and writes down what they mean.
func transcript(t *testing.T, name, in string) string {
	reference, location, options := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC), time.UTC, []Option(nil)
	var header []byte
	create := func() Parser {
		p, err := New(name, location, options...)
		if err != nil {
			t.Fatal(err)
		}
		p.Reference(reference)
		setHeader(p, header)
		return p
	}
	p := create()
	var out strings.Builder
	for _, line := range strings.Split(in, "\n") {
		if setting, ok := strings.CutPrefix(line, "# "); ok {
			what, value, _ := strings.Cut(setting, " ")
			var err error
			switch what {
			case "reference":
				reference, err = time.Parse(time.RFC3339, value)
			case "location":
				location, err = time.LoadLocation(value)
			case "header":
				header = []byte(value)
			case "details":
				options = append(options, Details)
			default:
				err = fmt.Errorf("unknown setting %q", what)
			}
			if err != nil {
				t.Fatal(err)
			}
			p = create()
			continue
		}
		events, err := p.Parse([]byte(line), nil)
		switch {
		case errors.Is(err, ErrMalformed):
			out.WriteString("malformed\n")
		case err != nil:
			t.Errorf("%s: %v", line, err)
		case len(events) == 0:
			out.WriteString("-\n")
		}
		for i := range events {
			describe(&out, &events[i])
		}
	}
	return strings.TrimSpace(out.String())
}

func setHeader(p Parser, line []byte) {
	if h, ok := p.(Headed); ok {
		h.Header(line)
	}
}

// describe writes an event on one line.
func describe(w *strings.Builder, e *event.Event) {
	id := string(e.QueueID)
	if id == "" {
		id = "-"
	}
	fmt.Fprintf(w, "%s %s %s %s %s", time.UnixMicro(e.Time).UTC().Format(time.RFC3339Nano), e.Host, e.Stream, id, e.Kind)
	field := func(known bool, format string, values ...any) {
		if known {
			fmt.Fprintf(w, " "+format, values...)
		}
	}
	field(e.Outcome != 0, "%s", e.Outcome)
	field(e.ID != nil, "id=%q", e.ID)
	field(e.Attempts != 0, "attempts=%d", e.Attempts)
	field(e.Repeat, "repeat")
	field(e.Kind == event.Attempt && e.Joined && !e.FirstOutcome, "again")
	field(e.SenderKnown, "from=%s", e.Sender)
	field(e.Client != nil, "client=%s", e.Client)
	field(e.MessageID != nil, "message-id=%s", e.MessageID)
	field(e.Recipient != nil, "to=%s", e.Recipient)
	field(e.OriginalRecipient != nil, "orig_to=%s", e.OriginalRecipient)
	field(e.DeliveryID != nil, "delivery=%s", e.DeliveryID)
	switch {
	case e.RelayIP != nil:
		field(true, "relay=%s[%s]", e.Relay, e.RelayIP)
	case e.Relay != nil:
		field(true, "relay=%s", e.Relay)
	}
	field(e.Local, "local")
	field(e.SourceIP != nil, "source=%s", e.SourceIP)
	field(e.Delay >= 0, "delay=%s", time.Duration(e.Delay)*time.Microsecond)
	r := &e.Reply
	field(r.Code != 0, "code=%d", r.Code)
	field(!r.Enhanced.IsZero(), "enhanced=%s", r.Enhanced)
	field(!r.Status.IsZero(), "status=%s", r.Status)
	field(r.Stage != 0, "stage=%s", r.Stage)
	field(r.Origin != 0, "origin=%s", r.Origin)
	field(r.Text != nil, "text=%q", r.Text)
	if v := &e.Verdict; e.Classified {
		field(e.FirstOutcome, "first")
		field(e.Provider != "", "provider=%s", e.Provider)
		field(v.Category != 0, "category=%s", v.Category)
		field(v.Secondary != 0, "secondary=%s", v.Secondary)
		field(v.Persistence != 0, "%s", v.Persistence)
		field(v.Confidence != 0, "confidence=%v", v.Confidence)
		field(v.Rule != "", "rule=%s", v.Rule)
		field(v.Blocklist != "", "blocklist=%q", v.Blocklist)
		field(v.Template != 0, "template=%016x", v.Template)
	}
	w.WriteByte('\n')
}
