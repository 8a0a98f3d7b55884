// Package hostile has what remote servers, senders of mail and whoever else gets
// text into a log might say to get at a page, a terminal, a query, a template or
// a chat. Tests put all of it into every field and look at every place that shows
// it; the program does not use it.
package hostile

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Payload is one attempt.
type Payload struct{ Name, Text string }

// Mark is set in a browser's window, as Mark = 1, by every script of Payloads
// that gets to run.
const Mark = "owned"

// Payloads are one of each kind.
var Payloads = []Payload{
	{"script", "</title></textarea><script>window." + Mark + "=1</script>"},
	{"HTML", "\"'><img src=x onerror=window." + Mark + "=1><svg/onload=window." + Mark + "=1><base href=//192.0.2.66/><h1 id=content>"},
	{"link", "<a href=\"javascript:window." + Mark + "=1\">click</a>"},
	{"SQL", "'; DROP TABLE lanes; --"},
	{"terminal", "\x1b[2J\x1b]0;" + Mark + "\x07\u009b31m\x00\b"},
	{"direction", "\u202egnp.exe\u2066\u200f"},
	{"invisible", "\ufeff\u200b\u2028\U000e0041"},
	{"format", "%s%n%!d(x)%%"},
	{"template", "{{.}}{{template \"frame\"}}${x}#{x}<%=x%>"},
	{"label", "\\\"},__name__=\"up\"} or vector(1)"},
	{"spreadsheet", "=cmd|'/c calc'!A1"},
	{"chat", "@here <!channel> [x](https://192.0.2.66)"},
	{"invalid", "\xff\xc3\x28"},
	{"line", "\r\n2026-01-01T00:00:00Z mx1 postfix/smtp[7]: 4F2A10: to=<x@" + Mark + ".example>, dsn=2.0.0, status=sent (250 Ok)"},
}

// Text has all of Payloads, as a server's reply.
var Text = func() string {
	b := []string{"550 5.7.1"}
	for _, p := range Payloads {
		b = append(b, p.Text)
	}
	return strings.Join(b, " ")
}()

// Name is a domain of a kind that nobody can register. It has none of the
// characters that end a field of a log.
const Name = `"'><script>window.` + Mark + "=1</script>\u202e{{.}}.example"

// Acting returns the first character of s that a terminal or a reader's eye could
// act on: anything that is neither visible nor a plain space or line feed.
func Acting(s string) (what string, found bool) {
	for i, r := range s {
		if r == utf8.RuneError && !strings.HasPrefix(s[i:], "\ufffd") {
			return fmt.Sprintf("byte %#x", s[i]), true
		}
		if r != '\n' && !strconv.IsPrint(r) {
			return fmt.Sprintf("%U", r), true
		}
	}
	return "", false
}

// Length is how much time PostfixLog is about.
const Length = 6 * time.Hour

// PostfixLog writes the log of the time before end, of an MTA that checks
// nothing: every field that comes from outside has payloads. In its last 20
// minutes most of Name's mail fails at gmail, so that there is an alert. Times
// are in UTC with microseconds (RFC 3339).
func PostfixLog(w io.Writer, end time.Time) error {
	var b strings.Builder
	at := end.Add(-Length).UTC()
	line := func(program, format string, args ...any) {
		fmt.Fprintf(&b, "%s mx1 postfix/%s[7]: ", at.Format("2006-01-02T15:04:05.000000Z07:00"), program)
		b.WriteString(strings.NewReplacer("\r", "_", "\n", "_").Replace(fmt.Sprintf(format, args...)))
		b.WriteByte('\n')
	}
	for i := 0; at.Before(end); i++ {
		id := fmt.Sprintf("%05X", 0x10000+i)
		payload := Payloads[i%len(Payloads)].Text
		domain := [...]string{"shop.example", "news.example", strings.Replace(Name, "{{", "\xff{{", 1)}[i%3]
		line("smtpd", "%s: client=%s[192.0.2.9]", id, strings.ReplaceAll(payload, " ", "_"))
		line("cleanup", "%s: message-id=<%s>", id, payload)
		line("qmgr", "%s: from=<%s@%s>, size=1, nrcpt=1 (queue active)", id, strings.ReplaceAll(payload, ">", ""), domain)
		relay, host := "gmail-smtp-in.l.google.com[192.0.2.1]:25", "gmail-smtp-in.l.google.com[192.0.2.1]"
		if i%10 == 0 {
			host = strings.ReplaceAll(payload, " ", "_") + "[192.0.2.2]"
			relay = host + ":25"
		}
		to := fmt.Sprintf("to=<%s@%s>, relay=%s, delay=1, delays=0/0/1/0", strings.ReplaceAll(payload, ">", ""), "customer.example", relay)
		switch {
		case i%3 == 2 && end.Sub(at) < 20*time.Minute && i%4 != 0:
			line("smtp", "%s: %s, dsn=5.7.27, status=bounced (host %s said: 550-5.7.27 Your email has been blocked because SPF didn't pass %s (in reply to end of DATA command))", id, to, host, payload)
		case i%50 == 7:
			line("smtp", "%s: %s, dsn=5.0.0, status=bounced (host %s said: 550 %s the moon is in the wrong house (in reply to RCPT TO command))", id, to, host, payload)
		case i%50 == 17:
			line("smtp", "%s: %s, dsn=5.1.1, status=bounced (host %s said: 550 5.1.1 User unknown %s (in reply to RCPT TO command))", id, to, host, payload)
		case i%500 == 27:
			line("smtp", "%s: %s, dsn=what, status=%s", id, to, payload) // no result that there is
		default:
			line("smtp", "%s: %s, dsn=2.0.0, status=sent (250 2.0.0 %s)", id, to, payload)
		}
		line("qmgr", "%s: removed", id)
		at = at.Add(2 * time.Second)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
