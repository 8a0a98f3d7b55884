package classifier

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/bouncemeter/bouncemeter/event"
)

var shippedOnce = sync.OnceValues(func() (*Classifier, error) { return New(Options{}) })

// replies are the examples of all rules.
func replies(t testing.TB) (*Classifier, []string) {
	t.Helper()
	c, err := shippedOnce()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, r := range c.Rules() {
		all = append(all, r.Examples...)
	}
	return c, all
}

func verdict(s *Session, text string) event.Verdict {
	e := event.Event{Reply: event.Reply{Text: []byte(text)}}
	s.Classify(&e)
	return e.Verdict
}

var (
	addresses = regexp.MustCompile(`[a-z.]+@[a-z.]+[a-z]`)
	ips       = regexp.MustCompile(`\b192\.0\.2\.\d+\b`)
	hosts     = regexp.MustCompile(`\b(?:[a-z0-9-]+\.)*example\.(?:com|net|org)\b`)
)

// A verdict does not depend on whom, from where and about which message a reply
// speaks.
func TestVerdictIndependentOfIDs(t *testing.T) {
	c, all := replies(t)
	s := c.NewSession()
	label := rapid.StringMatching(`[a-z][a-z0-9]{0,8}`)
	rapid.Check(t, func(t *rapid.T) {
		reply := rapid.SampledFrom(all).Draw(t, "reply")
		address := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9.+=_-]{0,20}[A-Za-z0-9]@[a-z0-9-]{1,12}\.[a-z]{2,6}`).Draw(t, "address")
		ip := rapid.OneOf(
			rapid.Custom(func(t *rapid.T) string {
				b := rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "bytes")
				return fmt.Sprintf("%d.%d.%d.%d", b[0], b[1], b[2], b[3])
			}),
			rapid.SampledFrom([]string{"2001:db8::1", "2001:db8:0:1:2:3:4:5", "IPv6:2001:db8::f00"}),
		).Draw(t, "ip")
		host := label.Draw(t, "host") + "." + label.Draw(t, "domain") + ".example"
		if rapid.Bool().Draw(t, "known") { // a provider's domain is a domain like any other
			host = rapid.SampledFrom([]string{"gmail.com", "yahoo.com", "qq.com", "mail.ru", "outlook.com", "comcast.net", "web.de"}).Draw(t, "provider")
		}

		changed := addresses.ReplaceAllLiteralString(reply, "\x01")
		changed = ips.ReplaceAllLiteralString(changed, ip)
		changed = hosts.ReplaceAllLiteralString(changed, host)
		changed = strings.ReplaceAll(changed, "\x01", address)
		if got, want := verdict(s, changed), verdict(s, reply); got != want {
			t.Fatalf("%s\n%+v\n%s\n%+v", changed, got, reply, want)
		}
	})
}

// A verdict does not depend on how the lines of a reply were joined, or whether
// there were several.
func TestVerdictIndependentOfLines(t *testing.T) {
	c, all := replies(t)
	s := c.NewSession()
	rapid.Check(t, func(t *rapid.T) {
		reply := rapid.SampledFrom(all).Draw(t, "reply")
		if len(reply) < 10 || reply[3] != ' ' || reply[0] < '4' || reply[0] > '5' || strings.Contains(reply[4:], reply[:3]) {
			return // no single line with a code
		}
		code, rest := reply[:3], reply[4:]
		enhanced := ""
		if _, n := event.ParseEnhanced([]byte(rest)); n > 0 && n+1 < len(rest) {
			enhanced, rest = rest[:n]+" ", rest[n+1:]
		}
		words := strings.Fields(rest)
		cut := rapid.IntRange(1, len(words)).Draw(t, "cut")
		if cut == len(words) {
			return
		}
		first, second := strings.Join(words[:cut], " "), strings.Join(words[cut:], " ")
		end := rapid.SampledFrom([]string{"\r\n", "\n", " ", `\n`, "#012"}).Draw(t, "end")
		lines := code + "-" + enhanced + first + end + code + " " + enhanced + second
		got, want := verdict(s, lines), verdict(s, reply)
		if got != want {
			t.Fatalf("%q\n%+v\n%q\n%+v", lines, got, reply, want)
		}
	})
}

// The cache never changes a verdict, in whatever order and company texts come.
func TestCachedVerdict(t *testing.T) {
	c, all := replies(t)
	warm := newSession(c.t, 4) // so small that entries are evicted all the time
	rapid.Check(t, func(t *rapid.T) {
		e := event.Event{
			Outcome: rapid.SampledFrom([]event.Outcome{0, event.Deferred, event.Bounced, event.Expired}).Draw(t, "outcome"),
			Relay:   []byte(rapid.SampledFrom([]string{"", "none", "mx.example.com", "gmail-smtp-in.l.google.com", "mta5.am0.yahoodns.net"}).Draw(t, "relay")),
			Reply: event.Reply{
				Text:   []byte(rapid.SampledFrom(all).Draw(t, "reply")),
				Stage:  rapid.SampledFrom([]event.Stage{0, event.StageMail, event.StageRcpt, event.StageEnd}).Draw(t, "stage"),
				Status: rapid.SampledFrom([]event.Enhanced{{}, {Class: 5, Subject: 1, Detail: 1}, {Class: 4, Subject: 4, Detail: 1}}).Draw(t, "status"),
			},
		}
		cold := e
		newSession(c.t, 1).Classify(&cold)
		for range 2 {
			warm.Classify(&e)
			if e.Verdict != cold.Verdict || e.Provider != cold.Provider {
				t.Fatalf("%s: %s %+v from the cache, %s %+v without", e.Reply.Text, e.Provider, e.Verdict, cold.Provider, cold.Verdict)
			}
		}
	})
}

// Explain tells the same as Classify.
func TestExplainAgrees(t *testing.T) {
	c, all := replies(t)
	s := c.NewSession()
	for _, reply := range all {
		e := event.Event{Reply: event.Reply{Text: []byte(reply)}}
		s.Classify(&e)
		x := c.Explain(&e)
		e.Verdict.Template = 0
		if x.Verdict != e.Verdict {
			t.Errorf("%s: explained as %+v, classified as %+v", reply, x.Verdict, e.Verdict)
		}
		if len(x.Evidence) == 0 || x.Evidence[0].Rule != e.Verdict.Rule || x.Why == "" {
			t.Errorf("%s: the first evidence is not rule %s", reply, e.Verdict.Rule)
		}
		for _, ev := range x.Evidence {
			for _, m := range ev.Matches {
				if x.Normalised[m.Start:m.End] != m.Text {
					t.Errorf("%s: %q is not at %d:%d of %q", reply, m.Text, m.Start, m.End, x.Normalised)
				}
			}
		}
	}
}

// Whatever a server says, there is a verdict, the same with and without the
// cache, and a sample that can be shown.
func FuzzClassify(f *testing.F) {
	c, all := replies(f)
	for _, reply := range all {
		f.Add([]byte(reply))
	}
	f.Add([]byte("550-\xc3\x28 Bo=C3=AEte\\n#012550 \xff\xfe <a@b> [::] 5.1.1.1 \u202e"))
	s := c.NewSession()
	f.Fuzz(func(t *testing.T, text []byte) {
		before := string(text)
		e := event.Event{Reply: event.Reply{Text: text}}
		s.Classify(&e)
		first := e.Verdict
		s.Classify(&e)
		x := c.Explain(&e)
		x.Verdict.Template = first.Template
		if e.Verdict != first || x.Verdict != first {
			t.Fatalf("%q: %+v, then %+v, explained as %+v", text, first, e.Verdict, x.Verdict)
		}
		if first.Category == event.Unset || first.Persistence > event.Permanent || first.Confidence < 0 || first.Confidence > 1 {
			t.Fatalf("%q: %+v", text, first)
		}
		if sample := s.Sample(&e, nil); !utf8.Valid(sample) || len(sample) > maxSample || strings.ContainsFunc(string(sample), func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Fatalf("%q: sample %q", text, sample)
		}
		if d := c.Details(&e); d.RetryAfter < 0 || d.RetryAfter > maxRetry {
			t.Fatalf("%q: %+v", text, d)
		}
		if string(text) != before {
			t.Fatalf("%q was changed to %q", before, text)
		}
	})
}
