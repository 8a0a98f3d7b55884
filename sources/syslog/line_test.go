package syslog

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/sources/dialect"
)

var received = time.Date(2026, 1, 12, 4, 1, 9, 123456789, time.FixedZone("", 3600))

const stamped = "2026-01-12T03:01:09.123456Z"

func TestLine(t *testing.T) {
	const bom = "\xef\xbb\xbf"
	for _, test := range []struct{ name, in, want string }{
		{"RFC 3164", "<22>Jan 12 04:01:07 mx1 postfix/smtp[311]: 4F2: removed", "Jan 12 04:01:07 mx1 postfix/smtp[311]: 4F2: removed"},
		{"its day with one digit", "<22>Jan  2 04:01:07 mx1 postfix/smtp[311]: x", "Jan  2 04:01:07 mx1 postfix/smtp[311]: x"},
		{"with a fraction", "<22>Jan 12 04:01:07.123 mx1 postfix/smtp[311]: x", "Jan 12 04:01:07.123 mx1 postfix/smtp[311]: x"},
		{"local socket", "<22>Jan 12 04:01:07 postfix/smtp[311]: 4F2: removed", "Jan 12 04:01:07 here postfix/smtp[311]: 4F2: removed"},
		{"local socket, no process id", "<22>Jan 12 04:01:07 sendmail: x", "Jan 12 04:01:07 here sendmail: x"},
		{"no time", "<22>postfix/smtp[311]: 4F2: removed", stamped + " here postfix/smtp[311]: 4F2: removed"},
		{"a host with colons", "<22>Jan 12 04:01:07 2001:db8::1 postfix/smtp[1]: x", "Jan 12 04:01:07 2001:db8::1 postfix/smtp[1]: x"},
		{"rsyslog's default", "<22>2026-01-12T04:01:07.123456+01:00 mx1 postfix/smtp[311]: x", "2026-01-12T04:01:07.123456+01:00 mx1 postfix/smtp[311]: x"},
		{"repeated", "<22>Jan 12 04:01:07 mx1 last message repeated 3 times", "Jan 12 04:01:07 mx1 last message repeated 3 times"},
		{"line ends", "<22>Jan 12 04:01:07 mx1 p: x \r\n\x00", "Jan 12 04:01:07 mx1 p: x "},

		{"RFC 5424", "<22>1 2026-01-12T04:01:07.123456+01:00 mx1 postfix/smtp 311 - - 4F2: removed", "2026-01-12T04:01:07.123456+01:00 mx1 postfix/smtp[311]: 4F2: removed"},
		{"what rsyslog makes of it", "<22>1 2026-01-12T04:01:07Z mx1 postfix/smtp 311 - -  4F2: removed", "2026-01-12T04:01:07Z mx1 postfix/smtp[311]: 4F2: removed"},
		{"a name cut at its slash", "<22>1 2026-01-12T04:01:07Z mx1 postfix 311 - - 4F2: removed", "2026-01-12T04:01:07Z mx1 postfix[311]: 4F2: removed"},
		{"structured data", `<22>1 2026-01-12T04:01:07Z mx1 p 1 ID47 [a@32473 k="] \" \\" n=""][b] x`, "2026-01-12T04:01:07Z mx1 p[1]: x"},
		{"what syslog-ng makes of it", `<22>1 2026-11-24T17:00:01+00:00 mx1 postfix/smtp 311 - [meta sequenceId="1"] 4F2: removed` + "\n", "2026-11-24T17:00:01+00:00 mx1 postfix/smtp[311]: 4F2: removed"},
		{"a byte order mark", "<22>1 2026-01-12T04:01:07Z mx1 p 1 - - " + bom + "x", "2026-01-12T04:01:07Z mx1 p[1]: x"},
		{"nothing is known", "<22>1 - - - - - - x", stamped + " here x"},
		{"a process with a name", "<22>1 2026-01-12T04:01:07Z mx1 p main - - x", "2026-01-12T04:01:07Z mx1 p: x"},
		{"the process twice", "<22>1 2026-01-12T04:01:07Z mx1 p[12] 12 - - x", "2026-01-12T04:01:07Z mx1 p[12]: x"},
		{"no text", "<22>1 2026-01-12T04:01:07Z mx1 p 1 - -", "2026-01-12T04:01:07Z mx1 p[1]: "},
		{"a priority of three digits", "<191>Jan 12 04:01:07 mx1 p: x", "Jan 12 04:01:07 mx1 p: x"},

		// The dialect decides.
		{"a line of a file", "Jan 12 04:01:07 mx1 p: x\n", "Jan 12 04:01:07 mx1 p: x"},
		{"no priority that exists", "<192>Jan 12 04:01:07 mx1 p: x", "<192>Jan 12 04:01:07 mx1 p: x"},
		{"unknown time", "<22>yesterday mx1 p: x", "<22>yesterday mx1 p: x"},
		{"version 2", "<22>2 2026-01-12T04:01:07Z mx1 p 1 - - x", "<22>2 2026-01-12T04:01:07Z mx1 p 1 - - x"},
		{"a cut header", "<22>1 2026-01-12T04:01:07Z mx1 p 1", "<22>1 2026-01-12T04:01:07Z mx1 p 1"},
		{"data without an end", `<22>1 2026-01-12T04:01:07Z mx1 p 1 - [a k="x] x`, `<22>1 2026-01-12T04:01:07Z mx1 p 1 - [a k="x] x`},
		{"garbage", "GET / HTTP/1.1\r", "GET / HTTP/1.1"},
		{"nothing", "\r\n", ""},
		{"only a priority", "<22>", "<22>"},
		{"only a time", "<22>Jan 12 04:01:07 ", "<22>Jan 12 04:01:07 "},
	} {
		got, r := appendLine([]byte("before "), []byte(test.in), []byte("here"), received)
		if string(got) != "before "+test.want || r.undated != strings.HasPrefix(test.want, stamped) || r.nameCut != (test.name == "a name cut at its slash") {
			t.Errorf("%s: %q became %q, %+v", test.name, test.in, got, r)
		}
	}
}

func TestTextOnly(t *testing.T) {
	for in, want := range map[string]string{
		`<22>Jan 12 04:01:07 mx1 haraka[1]: {"a":1}`:                `{"a":1}`,
		`<22>Jan 12 04:01:07 mx1 halon: @cee: {"a":1}`:              `{"a":1}`,
		`<22>1 2026-01-12T04:01:07Z mx1 p 1 - [a] {"a":[1]}` + "\n": `{"a":[1]}`,
		`{"a":1}`: `{"a":1}`,
	} {
		if got := appendText(nil, []byte(in)); string(got) != want {
			t.Errorf("%q became %q", in, got)
		}
	}
}

// What each mail server logs says the same, however it comes.
func TestDialectsReadIt(t *testing.T) {
	for name, text := range map[string]string{
		"postfix/smtp":     "4F2A1B3C: to=<ann@example.com>, relay=mx.example.com[192.0.2.1]:25, delay=1, delays=0/0/0/1, dsn=5.1.1, status=bounced (host mx.example.com[192.0.2.1] said: 550 5.1.1 no such user (in reply to RCPT TO command))",
		"exim":             "1rOaBc-000001-AB ** ann@example.com R=dnslookup T=remote_smtp H=mx.example.com [192.0.2.1]: SMTP error from remote mail server after RCPT TO:<ann@example.com>: 550 5.1.1 no such user",
		"sm-mta":           "60C411ab012345: to=<ann@example.com>, delay=00:00:01, xdelay=00:00:01, mailer=esmtp, pri=1, relay=mx.example.com. [192.0.2.1], dsn=5.1.1, stat=User unknown",
		"smtpd":            `0123456789abcdef mta delivery evpid=fedcba9876543210 from=<news@shop.example> to=<ann@example.com> rcpt=<-> source="192.0.2.9" relay="192.0.2.1 (mx.example.com)" delay=1s result="PermFail" stat="550 5.1.1 no such user"`,
		"qmail":            "1768186867.123456 delivery 1: failure: 192.0.2.1_does_not_like_recipient./Remote_host_said:_550_5.1.1_no_such_user/Giving_up_on_192.0.2.1./",
		"haraka":           "[NOTICE] [6C2E0A7E-1B1F-4B1E-9B1E-000000000000.1.1] [outbound] recipient <ann@example.com> rejected: 550 5.1.1 no such user",
		"zone-mta":         "info Sender/default/77 id=15c2f7e1b0a000a3f2 15c2f7e1b0a000a3f2.001 REJECTED[other] from=news@shop.example to=ann@example.com src=192.0.2.9 mx=mx.example.com[192.0.2.1] message-id=<1@shop.example> (550 5.1.1 no such user)",
		"postfix-out/qmgr": "4F2A1B3C: from=<news@shop.example>, status=expired, returned to sender",
	} {
		dialects := map[string]string{"postfix/smtp": "postfix", "exim": "exim", "sm-mta": "sendmail", "smtpd": "opensmtpd", "qmail": "qmail", "haraka": "haraka", "zone-mta": "zonemta", "postfix-out/qmgr": "postfix"}
		want := ""
		for form, message := range map[string]string{
			"3164":          "<22>Jan 12 03:01:07 mx1 " + name + "[311]: " + text,
			"3164 local":    "<22>Jan 12 03:01:07 " + name + "[311]: " + text,
			"rsyslog":       "<22>2026-01-12T04:01:07.000000+01:00 mx1 " + name + "[311]: " + text,
			"5424":          "<22>1 2026-01-12T04:01:07.000000+01:00 mx1 " + name + " 311 - - " + text,
			"5424, rsyslog": "<22>1 2026-01-12T04:01:07.000000+01:00 mx1 " + name + " 311 - -  " + text,
		} {
			parser, err := dialect.New(dialects[name], time.UTC)
			if err != nil {
				t.Fatal(err)
			}
			parser.Reference(received)
			line, _ := appendLine(nil, []byte(message), []byte("mx1"), received)
			events, err := parser.Parse(line, nil)
			if err != nil || len(events) == 0 {
				t.Errorf("%s, %s: %q yields %v, %v", name, form, line, events, err)
				continue
			}
			e := events[0]
			got := strings.Join([]string{e.Kind.String(), e.Outcome.String(), time.UnixMicro(e.Time).UTC().String(), string(e.Host), string(e.Recipient), string(e.Reply.Text)}, "|")
			if want == "" {
				want = got
			}
			if got != want || e.Kind != event.Attempt && e.Kind != event.Expiry || string(e.Host) != "mx1" {
				t.Errorf("%s, %s: %q is %s; another form was %s", name, form, line, got, want)
			}
		}
	}
}

// A line has what was said, a header that stands for itself, and no more.
func FuzzLine(f *testing.F) {
	for _, seed := range []string{
		"<22>Jan 12 04:01:07 mx1 postfix/smtp[311]: 4F2: removed", "<22>postfix/smtp[311]: x", "Jan 12 04:01:07 mx1 p: x",
		`<22>1 2026-01-12T04:01:07Z mx1 p 1 ID [a@1 k="\]"][b] ` + "\xef\xbb\xbfx", "<22>1 - - - - - - x", "<22>2026-01-12T04:01:07.123456+01:00 mx1 p[1]: x", "<0>a:",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		whole := bytes.Clone(message)
		line, r := appendLine(nil, message, []byte("host.example"), received)
		if !bytes.Equal(message, whole) {
			t.Fatal("the message was changed")
		}
		if len(line) > len(message)+len(stamped)+len("host.example")+len("  : []") {
			t.Errorf("%q became %q", message, line)
		}
		if r.undated && !bytes.HasPrefix(line, []byte(stamped+" ")) {
			t.Errorf("%q has the time of receipt and does not show it: %q", message, line)
		}
		text := appendText(nil, message)
		if !bytes.Contains(message, text) {
			t.Errorf("the text of %q is %q", message, text)
		}
		if utf8.Valid(message) && !utf8.Valid(line) {
			t.Errorf("%q became %q", message, line)
		}
		// A line is taken for what it is when it comes once more, as a message.
		if h, ok := parse(message); ok && h.stamp != nil && len(h.host) > 0 {
			again, _ := appendLine(nil, append([]byte("<22>"), line...), []byte("other.example"), received)
			if n := stampLength(line); n > 0 && !isTag(h.host) && len(h.text) > 0 && !bytes.Equal(again, bytes.TrimRight(line, "\r\n\x00")) {
				t.Errorf("%q became %q, and that %q", message, line, again)
			}
		}
	})
}

func BenchmarkLine(b *testing.B) {
	text := "4F2A1B3C: to=<ann@example.com>, relay=mx.example.com[192.0.2.1]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 2.0.0 OK)"
	for name, message := range map[string]string{
		"3164": "<22>Jan 12 04:01:07 mx1 postfix/smtp[311]: " + text,
		"5424": "<22>1 2026-01-12T04:01:07.123456+01:00 mx1 postfix/smtp 311 - - " + text,
	} {
		b.Run(name, func(b *testing.B) {
			m, sender := []byte(message), []byte("192.0.2.1")
			var line []byte
			b.SetBytes(int64(len(m)))
			b.ReportAllocs()
			for b.Loop() {
				line, _ = appendLine(line[:0], m, sender, received)
			}
		})
	}
}
