package dialect

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bouncemeter/bouncemeter/event"
)

// Whatever a server answers, it changes nothing but the reply.
func TestRepliesFakeNothing(t *testing.T) {
	bait := []string{
		"250 2.0.0 ok", "550 5.1.1 no", ")", "(", "))", " (in reply to ", "(in reply to MAIL FROM command)", ", status=sent (", "status=bounced (x)",
		"to=<b@y.example>, ", ", relay=evil[192.0.2.66]:25", ", dsn=2.0.0", "host evil[192.0.2.66] said: ", " refused to talk to me: ", ">, ",
		"delivery temporarily suspended: ", ": removed", "from=<x@y.example>, size=1", "connect to evil[192.0.2.66]:25: ", "#012", "]", "[", "é", "\x80",
	}
	p := newPostfix(time.UTC, true)
	p.Reference(time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC))
	rapid.Check(t, func(t *rapid.T) {
		reply := strings.Join(rapid.SliceOfN(rapid.SampledFrom(bait), 0, 6).Draw(t, "reply"), "")
		form := rapid.SampledFrom([]string{
			"dsn=4.7.1, status=deferred (host mx.x.example[192.0.2.25] said: 451 %s (in reply to RCPT TO command))",
			"dsn=4.7.1, status=deferred (host mx.x.example[192.0.2.25] refused to talk to me: 451 %s)",
			"dsn=4.7.1, status=deferred (SASL authentication failed; server mx.x.example[192.0.2.25] said: 451 %s)",
			"dsn=2.0.0, status=sent (451 %s)",
		}).Draw(t, "form")
		line := fmt.Sprintf("Jan 12 04:01:07 mx1 postfix/smtp[311]: 4F2A1B3C: to=<a@x.example>, relay=mx.x.example[192.0.2.25]:25, delay=1, delays=0/0/0/1, "+form, reply)
		events, err := p.Parse([]byte(line), nil)
		if err != nil || len(events) != 1 {
			t.Fatalf("%d events, %v from %s", len(events), err, line)
		}
		e := events[0]
		want := event.Deferred
		if strings.Contains(form, "status=sent") {
			want = event.Delivered
		}
		if e.Kind != event.Attempt || e.Outcome != want || string(e.Recipient) != "a@x.example" || string(e.QueueID) != "4F2A1B3C" ||
			string(e.Relay) != "mx.x.example" || string(e.RelayIP) != "192.0.2.25" || e.Repeat || e.SenderKnown ||
			e.Reply.Code != 451 || e.Reply.Origin != event.OriginRemote {
			t.Fatalf("%+v from %s", e, line)
		}
		text := string(e.Reply.Text)
		if strings.Contains(form, "SASL") {
			_, text, _ = strings.Cut(text, " said: ")
		}
		if text != "451 "+reply {
			t.Fatalf("reply %q from %s", text, line)
		}
	})
}

// A local time that is written and read back is the same, whatever the year, if
// it is at most a day after the reference and less than a year before it.
func TestTimestampsRoundTrip(t *testing.T) {
	var locations []*time.Location
	for _, name := range []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"} {
		l, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		locations = append(locations, l)
	}
	rapid.Check(t, func(t *rapid.T) {
		location := rapid.SampledFrom(locations).Draw(t, "location")
		at := time.Unix(rapid.Int64Range(1_400_000_000, 2_200_000_000).Draw(t, "time"), 0).In(location)
		reference := at.Add(time.Duration(rapid.Int64Range(-24*3600, 363*24*3600).Draw(t, "age")) * time.Second)
		p := newPostfix(location, false)
		p.Reference(reference)
		events, err := p.Parse([]byte(at.Format(time.Stamp)+" mx1 postfix/qmgr[77]: 4F2A1B3C: removed"), nil)
		if err != nil {
			t.Fatal(err)
		}
		got := time.UnixMicro(events[0].Time).In(location)
		if got.Equal(at) {
			return
		}
		// In the hour that is repeated, the clock shows the same.
		if got.Format(time.DateTime) != at.Format(time.DateTime) || got.Sub(reference).Abs() > at.Sub(reference).Abs() {
			t.Fatalf("%v is read as %v at %v", at, got, reference)
		}
	})
}
