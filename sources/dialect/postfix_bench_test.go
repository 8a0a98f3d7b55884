package dialect

import (
	"bytes"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/simulate"
)

// postfixLines are the commonest kinds of line.
var postfixLines = []struct{ name, line string }{
	{"sent", "Jan 12 04:01:07 mx1 postfix/smtp[20311]: 4F2A1B3C5D: to=<ann.smith@customer.example>, relay=mx1.customer.example[192.0.2.25]:25, delay=1.3, delays=0.1/0.02/0.6/0.58, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 9A8B7C6D5E)"},
	{"deferred", "Jan 12 04:01:07 mx1 postfix/smtp[20311]: 4F2A1B3C5D: to=<ann.smith@customer.example>, relay=mx1.customer.example[192.0.2.25]:25, delay=3612, delays=3600/0.02/0.6/12, dsn=4.7.1, status=deferred (host mx1.customer.example[192.0.2.25] said: 451 4.7.1 Greylisting in action, please come back in 300 seconds (in reply to RCPT TO command))"},
	{"unreachable", "Jan 12 04:01:07 mx1 postfix/smtp[20311]: 4F2A1B3C5D: to=<ann.smith@customer.example>, relay=none, delay=3630, delays=3600/0.02/30/0, dsn=4.4.1, status=deferred (connect to mx1.customer.example[192.0.2.25]:25: Connection timed out)"},
	{"from", "Jan 12 04:01:07 mx1 postfix/qmgr[977]: 4F2A1B3C5D: from=<bounce-1234@news.shop.example>, size=14321, nrcpt=1 (queue active)"},
	{"removed", "Jan 12 04:01:07 mx1 postfix/qmgr[977]: 4F2A1B3C5D: removed"},
	{"client", "Jan 12 04:01:07 mx1 postfix/smtpd[20310]: 4F2A1B3C5D: client=app1.shop.example[192.0.2.80]"},
	{"connect", "Jan 12 04:01:07 mx1 postfix/smtpd[20310]: connect from app1.shop.example[192.0.2.80]"},
	{"other", "Jan 12 04:01:07 mx1 dovecot: imap-login: Login: user=<ann>, method=PLAIN, rip=192.0.2.81, lip=192.0.2.1, mpid=4711, TLS, session=<abcdef>"},
	{"rfc3339", "2026-01-12T04:01:07.123456+01:00 mx1 postfix/smtp[20311]: 4F2A1B3C5D: to=<ann.smith@customer.example>, relay=mx1.customer.example[192.0.2.25]:25, delay=1.3, delays=0.1/0.02/0.6/0.58, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 9A8B7C6D5E)"},
}

func BenchmarkPostfix(b *testing.B) {
	for _, l := range postfixLines {
		b.Run(l.name, func(b *testing.B) {
			line := []byte(l.line)
			p := newPostfix(time.UTC, false)
			p.Reference(time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC))
			events := make([]event.Event, 0, 1)
			b.SetBytes(int64(len(line) + 1))
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if events, err = p.Parse(line, events[:0]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPostfixLog parses a log of all kinds of lines, in batches of about a
// megabyte, finding their ends included.
func BenchmarkPostfixLog(b *testing.B) {
	for _, rfc3339 := range []bool{false, true} {
		name := map[bool]string{false: "traditional", true: "rfc3339"}[rfc3339]
		b.Run(name, func(b *testing.B) {
			start := time.Date(2026, 1, 12, 6, 0, 0, 0, time.UTC)
			s, err := simulate.New(simulate.Config{Seed: 1, Start: start, RFC3339: rfc3339})
			if err != nil {
				b.Fatal(err)
			}
			var log bytes.Buffer
			if _, err := s.WriteUntil(&log, start.Add(time.Hour)); err != nil {
				b.Fatal(err)
			}
			p := newPostfix(time.UTC, false)
			events := make([]event.Event, 0, 8192)
			lines := 0
			b.SetBytes(int64(log.Len()))
			b.ReportAllocs()
			for b.Loop() {
				rest := log.Bytes()
				for len(rest) > 0 {
					batch := rest[:min(len(rest), 1<<20)]
					batch = batch[:bytes.LastIndexByte(batch, '\n')+1]
					rest = rest[len(batch):]
					p.Reference(start.Add(time.Duration(24*time.Hour + time.Duration(len(rest)))))
					events = events[:0]
					for len(batch) > 0 {
						n := bytes.IndexByte(batch, '\n')
						if events, err = p.Parse(batch[:n], events); err != nil {
							b.Fatal(err)
						}
						batch = batch[n+1:]
						lines++
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(lines), "ns/line")
		})
	}
}

// Parsing allocates nothing, whatever the line.
func TestPostfixAllocations(t *testing.T) {
	p := newPostfix(time.UTC, true)
	p.Reference(time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC))
	events := make([]event.Event, 0, 1)
	for _, l := range postfixLines {
		line := []byte(l.line)
		for _, line := range [][]byte{line, line[:len(line)*2/3], line[10:]} {
			if n := testing.AllocsPerRun(100, func() { events, _ = p.Parse(line, events[:0]) }); n != 0 {
				t.Errorf("%s: %v allocations for %q", l.name, n, line)
			}
		}
	}
}
