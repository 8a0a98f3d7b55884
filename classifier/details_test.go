package classifier

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/bouncemeter/bouncemeter/event"
)

func details(t *testing.T, text string) Details {
	t.Helper()
	c, err := shippedOnce()
	if err != nil {
		t.Fatal(err)
	}
	return c.Details(&event.Event{Recipient: []byte("bob@example.com"), Reply: event.Reply{Text: []byte(text)}})
}

func TestRetryAfter(t *testing.T) {
	for _, tt := range []struct {
		text string
		want time.Duration
	}{
		{"450 Greylisted, try again in 5 minutes", 5 * time.Minute},
		{"450 4.7.1 Greylisted, please retry after 300s", 300 * time.Second},
		{"451 Please wait 2 hours and try again", 2 * time.Hour},
		{"450 come back in 00:04:30", 4*time.Minute + 30*time.Second},
		{"451-You have been greylisted. Your server should try again later.\n451 We accept this mail again in 42 seconds", 42 * time.Second},
		{"421 in 60 seconds try again", time.Minute},
		{"450 Bitte in 10 Minuten erneut versuchen", 10 * time.Minute},
		{"450 Réessayez dans 5 minutes", 5 * time.Minute},
		{"450 Повторите попытку через 15 минут", 15 * time.Minute},
		// What was, or how long a queue keeps it, asks for nothing.
		{"delayed 4 hours, will be retried", 0},
		{"Message will be retried for 2 more day(s)", 0},
		{"554 Message expired: unable to deliver in 840 minutes", 0},
		{"550 you sent 100 messages in the last 5 minutes, try again later", 0},
		{"421 at most 20 connections per 5 minutes, try again", 0},
		{"450 try again in 400 days", 0},
		{"450 try again later", 0},
		{"550 5.1.1 no such user", 0},
	} {
		if got := details(t, tt.text).RetryAfter; got != tt.want {
			t.Errorf("%s: %v, want %v", tt.text, got, tt.want)
		}
	}
}

func TestMechanisms(t *testing.T) {
	for _, tt := range []struct {
		text   string
		want   []Mechanism
		domain string
		ip     string
	}{
		{"550 SPF check failed for sender.example (192.0.2.1)", []Mechanism{{"spf", "fail"}}, "sender.example", "192.0.2.1"},
		{"550 5.7.26 DKIM = did not pass, SPF [sender.example] with ip: [2001:db8::1] = did not pass", []Mechanism{{"dkim", "fail"}, {"spf", "fail"}}, "sender.example", "2001:db8::1"},
		{"550 5.7.1 SPF softfail for alice@sender.example", []Mechanism{{"spf", "softfail"}}, "sender.example", ""},
		{"550 rejected by the DMARC policy of sender.example", []Mechanism{{"dmarc", ""}}, "sender.example", ""},
		{"550 5.1.1 <bob@example.com>: no such user", nil, "", ""},
		{"550 5.7.1 bob@example.com: 192.0.2.1 is not allowed to send mail from sender.example", nil, "sender.example", "192.0.2.1"},
	} {
		d := details(t, tt.text)
		if !slices.Equal(d.Mechanisms, tt.want) || d.Domain != tt.domain || d.IP != tt.ip {
			t.Errorf("%s: %v %q %q, want %v %q %q", tt.text, d.Mechanisms, d.Domain, d.IP, tt.want, tt.domain, tt.ip)
		}
	}
}

func TestNewAddress(t *testing.T) {
	for text, want := range map[string]string{
		"551 User not local; please try <bob@new.example>":                            "bob@new.example",
		"550 5.1.6 address bob@example.com has been replaced by robert@new.example":   "robert@new.example",
		"551 bob@example.com has moved":                                               "",
		"550 5.1.1 <bob@example.com>: no such user, write to postmaster@example.com.": "",
	} {
		if got := details(t, text).NewAddress; got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestBlocklistEntry(t *testing.T) {
	b := details(t, "554 5.7.1 Client host [192.0.2.1] blocked using zen.spamhaus.org").Blocklist
	if b == nil || b.Name != "Spamhaus ZEN" || b.Kind != "ip" || b.Lookup == "" || b.Delist == "" {
		t.Errorf("got %+v", b)
	}
	if b := details(t, "550 no such user").Blocklist; b != nil {
		t.Errorf("no list is named, got %+v", b)
	}
}

func TestSample(t *testing.T) {
	c := shippedRules(t)
	s := c.NewSession()
	for _, tt := range []struct{ text, want string }{
		{"550 5.1.1 <bob@example.com>: User unknown", "550 5.1.1 <address>: User unknown"},
		{"550 bob@example.com unknown", "550 <address> unknown"},
		{"550 (bob@example.com) unknown, see alice@example.com", "550 (<address>) unknown, see <address>"},
		{"550-5.1.1 one 550-5.1.1 two\\n550-5.1.1 \r\n550 5.1.1 three", "550-5.1.1 one two three"},
		{"550-5.1.1 one 550 5.7.1 two 5501 550-5.1.10 x", "550-5.1.1 one 550 5.7.1 two 5501 550-5.1.10 x"},
		{"421-one 421-two 421 three", "421-one two 421 three"},
		{"550 5.1.1 one 550 5.1.1 two", "550 5.1.1 one 550 5.1.1 two"},
		{"550-one\r\n550 two", "550-one 550 two"},
		{`550-one\n550 two`, "550-one 550 two"},
		{"550-one#012550 two", "550-one 550 two"},
		{"host mx.example.com[192.0.2.1] said: 550 no (in reply to RCPT TO command)", "550 no"},
		{"550 \x1b[31mred\x00\x7f \u202etxet", "550 [31mred txet"},
		{"550 Bo\xeete", "550 Boîte"},
		{"550 BoÃ®te", "550 Boîte"},
		{"", ""},
		{strings.Repeat("é", maxSample/2), strings.Repeat("é", maxSample/2)},
		{strings.Repeat("é", maxSample/2+1), strings.Repeat("é", (maxSample-len("…"))/2) + "…"},
		{strings.Repeat("a ", maxSample), strings.Repeat("a ", (maxSample-len("…"))/2) + "a…"},
		{strings.Repeat("\u202e", maxText) + " bob@example.com", "…"},
		{"550 no bob@example.com:" + strings.Repeat("x", maxText), "550 no…"},
		{"550 " + strings.Repeat("满", maxText), "550 " + strings.Repeat("满", (maxSample-len("550 …"))/3) + "…"},
		{"a@b", "<address>"},
		{"@ alone", "@ alone"},
	} {
		e := event.Event{Reply: event.Reply{Text: []byte(tt.text)}}
		if got := string(s.Sample(&e, []byte("x"))); got != "x"+tt.want {
			t.Errorf("%q: %q, want %q", tt.text, got[1:], tt.want)
		}
	}
}

// Wherever a sample ends, no part of an address is in it, and the mark says that
// there is more.
func TestSampleEndsBetweenAddresses(t *testing.T) {
	s := shippedRules(t).NewSession()
	for _, text := range []string{" <bob.builder@example.com> is unknown", " bob.builder@example.com is unknown", " 日本語 bob.builder@example.com"} {
		for n := maxSample - 60; n < maxSample+10; n++ {
			for _, reply := range []string{strings.Repeat("x", n) + text, strings.Repeat("x ", n/2) + text, strings.Repeat(" ", maxText-n) + strings.Repeat("x", n-7) + text} {
				e := event.Event{Reply: event.Reply{Text: []byte(reply)}}
				got := string(s.Sample(&e, nil))
				if strings.Contains(got, "bob") || len(got) > maxSample || !utf8.ValidString(got) {
					t.Fatalf("%d bytes before it: %q", n, got)
				}
				whole := strings.HasSuffix(got, "unknown") || strings.HasSuffix(got, "<address>")
				if whole == strings.HasSuffix(got, "…") {
					t.Fatalf("%d bytes before it: %q", n, got)
				}
			}
		}
	}
}
