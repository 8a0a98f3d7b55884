package dialect

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/bouncemeter/bouncemeter/event"
)

// Whatever a server answers, it changes nothing but the reply, at any MTA.
func TestRepliesFakeNothingAtAnyMTA(t *testing.T) {
	bait := []string{
		"250 2.0.0 ok", "550 5.1.1 no", ")", "(", `"`, `\"`, "[", "]", ": ", " R=x", " T=x", " H=evil [192.0.2.66]", " F=<x@y.example>", " C=\"250 ok\"", "=> ", " QT=9d",
		", stat=Sent (ok)", ", stat=Deferred: ", ", dsn=2.0.0", ", reply=250 ok", ", relay=evil [192.0.2.66]", " result=\"Ok\"", " stat=\"250 ok\"", " relay=\"192.0.2.66 (evil)\"",
		" rcpts=9/9/9", " delay=99", "to=<b@y.example>", " from=x@y.example", " mx=evil[192.0.2.66]", "Too many failures (", "Some recipients failed", ": retry timeout exceeded", "é", "\x80", `\n`,
	}
	forms := []struct {
		dialect, before, after string
		outcome                event.Outcome
		relay                  string
	}{
		{"exim", "2026-01-12 04:01:07 1rOaBc-000001-AB ** a@x.example R=dnslookup T=remote_smtp H=mx.x.example [192.0.2.25]: SMTP error from remote mail server after RCPT TO:<a@x.example>: ", "", event.Bounced, "mx.x.example"},
		{"exim", "2026-01-12 04:01:07 1rOaBc-000001-AB == a@x.example R=dnslookup T=remote_smtp defer (-46) H=mx.x.example [192.0.2.25]: SMTP error from remote mail server after end of data: ", "", event.Deferred, "mx.x.example"},
		{"sendmail", "Jan 12 04:01:07 mx1 sm-mta[311]: 60C411aa012345: to=<a@x.example>, delay=00:00:02, mailer=esmtp, pri=30025, relay=mx.x.example. [192.0.2.25], dsn=5.1.1, reply=", ", stat=User unknown", event.Bounced, "mx.x.example"},
		{"sendmail", "Jan 12 04:01:07 mx1 sm-mta[311]: 60C411aa012345: to=<a@x.example>, delay=00:00:02, mailer=esmtp, pri=30025, relay=mx.x.example. [192.0.2.25], dsn=4.7.1, stat=Deferred: ", "", event.Deferred, "mx.x.example"},
		{"opensmtpd", `Jan 12 04:01:07 mx1 smtpd[311]: 0a1b2c3d4e5f6071 mta delivery evpid=1122334455667788 from=<news@shop.example> to=<a@x.example> rcpt=<-> source="198.51.100.1" relay="192.0.2.25 (mx.x.example)" delay=1h result="TempFail" stat="`, `"`, event.Deferred, "mx.x.example"},
		{"zonemta", "Jan 12 04:01:07 mx1 zone-mta[77]: info Sender/default/77 id=18d0c0ffee 18d0c0ffee000abcde.001 REJECTED[x] from=news@shop.example to=a@x.example src=198.51.100.1 mx=mx.x.example[192.0.2.25] message-id=<1@shop.example> (", ")", event.Bounced, "mx.x.example"},
		{"haraka", "2026-01-12T04:01:07.123Z [NOTICE] [6C2E-11AA.1.1] [outbound] recipient <a@x.example> deferred: ", "", event.Deferred, ""},
	}
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.SampledFrom(forms).Draw(t, "form")
		reply := "451 " + strings.Join(rapid.SliceOfN(rapid.SampledFrom(bait), 0, 6).Draw(t, "reply"), "")
		p, err := New(f.dialect, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		p.Reference(time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC))
		line := f.before + reply + f.after
		events, err := p.Parse([]byte(line), nil)
		if err != nil || len(events) == 0 {
			t.Fatalf("%d events, %v from %s", len(events), err, line)
		}
		e := events[0]
		if e.Kind != event.Attempt || e.Outcome != f.outcome || string(e.Recipient) != "a@x.example" || string(e.Relay) != f.relay || e.Repeat ||
			e.Reply.Code != 451 || e.Reply.Origin != event.OriginRemote || e.Attempts != 0 {
			t.Fatalf("%+v from %s", e, line)
		}
		if string(e.Reply.Text) != reply {
			t.Fatalf("reply %q from %s", e.Reply.Text, line)
		}
	})
}

// A delivery line that was cut means the same as far as it goes, is malformed,
// or yields nothing.
func TestMTALinesCutAnywhere(t *testing.T) {
	for _, m := range mtaLines {
		p, _ := New(m.dialect, time.UTC)
		p.Reference(time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC))
		for _, line := range m.lines {
			whole, err := p.Parse([]byte(line), nil)
			if err != nil {
				t.Fatal(err)
			}
			for n := range len(line) {
				events, _ := p.Parse([]byte(line[:n]), nil)
				for i := range events {
					if i >= len(whole) {
						t.Errorf("%s: more events from %q", m.dialect, line[:n])
						continue
					}
					if got, want := &events[i], &whole[i]; got.Kind != want.Kind || got.Outcome != want.Outcome || got.Time != want.Time {
						t.Errorf("%s: %q means another delivery", m.dialect, line[:n])
					}
				}
			}
		}
	}
}

func TestUnitDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s": 0, "1s": time.Second, "1m": time.Minute, "1d2h3m4s": 26*time.Hour + 3*time.Minute + 4*time.Second,
		"2w": 14 * 24 * time.Hour, "0.025s": 25 * time.Millisecond, "3.5s": 3500 * time.Millisecond,
	} {
		if got := unitDuration([]byte(text)); got != want.Microseconds() {
			t.Errorf("%s is %d", text, got)
		}
	}
	for _, text := range []string{"", "s", "1", "1x", "-1s", "1s2", "99999999999s", "999999999w"} {
		if got := unitDuration([]byte(text)); got != -1 {
			t.Errorf("%q is %d", text, got)
		}
	}
}
