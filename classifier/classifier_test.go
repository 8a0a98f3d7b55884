package classifier

import (
	"strings"
	"testing"

	"github.com/bouncemeter/bouncemeter/event"
)

// shippedRules is the classifier with the shipped rules only.
func shippedRules(t testing.TB) *Classifier {
	t.Helper()
	c, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestShippedRules(t *testing.T) {
	c := shippedRules(t)
	for _, f := range append(c.Test(), c.Lint()...) {
		t.Error(f)
	}
	for _, category := range event.Categories() {
		if category == event.Unclassified {
			continue
		}
		found := false
		for _, r := range c.Rules() {
			found = found || r.Category == category.String() && len(r.Examples) > 0
		}
		if !found {
			t.Errorf("no rule with an example leads to %s", category)
		}
		if category != event.Policy && weight(category) < weight(event.Policy) {
			t.Errorf("%s has no weight in weight.go, so it loses against any other", category)
		}
	}
}

// The refusals that a public support page of Symantec Email Security.cloud
// gives as examples (article 162445).
func TestPublishedExamples(t *testing.T) {
	c := shippedRules(t)
	s := c.NewSession()
	for reply, want := range map[string]event.Category{
		"552 5.3.4 Message size exceeds fixed maximum message size":          event.MessageTooLarge,
		"552 Message size exceeds fixed limit":                               event.MessageTooLarge,
		"552 Mailbox is full":                                                event.MailboxFull,
		"552 Requested mail action aborted: exceeded storage allocation":     event.MailboxFull,
		"550 User unknown":                                                   event.UserUnknown,
		"554 5.7.1 Recipient address rejected: No such user":                 event.UserUnknown,
		"550 5.7.1 Unable to Relay":                                          event.RelayDenied,
		"554 5.7.1 Relay access denied":                                      event.RelayDenied,
		"550 5.7.1 Message rejected as spam by Content Filtering.":           event.SpamContent,
		"554 Denied (Mode: normal)":                                          event.Policy,
		"550 Denied by policy":                                               event.Policy,
		"552 MS-Office file containing VBA macros found inside of the email": event.Malware,
		"550 5.7.1 Message rejected due to content restrictions":             event.Policy,
		"554 5.1.0 Sender denied":                                            event.SenderRejected,
		"553 Envelope sender rejected":                                       event.SenderRejected,
		"550 SPF check failed. Sender not authorized":                        event.SPFFailed,
		"550 Sender verify failed":                                           event.SenderUnverified,
		"550 5.7.1 SPF unauthorized mail is prohibited.":                     event.SPFFailed,
		"554 5.4.7 [internal] exceeded max time without delivery":            event.QueueExpired,
	} {
		e := event.Event{Reply: event.Reply{Text: []byte(reply)}}
		s.Classify(&e)
		if e.Verdict.Category != want {
			t.Errorf("%s: %s, want %s", reply, e.Verdict.Category, want)
		}
	}
}

// Where administrators differ, these are the house rules.
func TestHouseRules(t *testing.T) {
	c := shippedRules(t)
	s := c.NewSession()
	for _, tt := range []struct {
		reply, relay    string
		want, secondary event.Category
	}{
		{"421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints", "mta5.am0.yahoodns.net", event.RateLimited, event.Unset},
		{"553 5.7.2 [TSS04] Messages from 192.0.2.1 permanently deferred due to user complaints", "mta5.am0.yahoodns.net", event.IPBlocklisted, event.Unset},
		{"421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP address", "gmail-smtp-in.l.google.com", event.RateLimited, event.Unset},
		{"550 5.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP address", "gmail-smtp-in.l.google.com", event.IPBlocklisted, event.Unset},
		{"550 5.4.1 Recipient address rejected: Access denied", "example-com.mail.protection.outlook.com", event.UserUnknown, event.Unset},
		{"554 Rejected, your server has a poor reputation", "mx.example.com", event.IPBlocklisted, event.Unset},
		{"552 5.7.0 Attachments of this type are not allowed", "mx.example.com", event.Malware, event.Unset},
		{"550 5.7.1 Message lacks a Message-ID header", "mx.example.com", event.ProtocolError, event.Unset},
		{"504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname", "mx.example.com", event.RDNSMissing, event.Unset},
		{"550-Please log in first. 550 You are not permitted to relay through this server without authentication", "mx.example.com", event.RelayDenied, event.Unset},
		{"530 5.7.0 Must issue a STARTTLS command first", "mx.example.com", event.TLSFailed, event.Unset},
		{"554 Mail from your country is not accepted", "mx.example.com", event.Policy, event.Unset},
		{"451 try again later", "mx.example.com", event.Unclassified, event.Unset},
		{"550 Requested action not taken", "mx.example.com", event.Unclassified, event.Unset},
		{"421 4.7.27 Your mail has been rate limited because SPF did not pass", "mx.example.com", event.SPFFailed, event.RateLimited},
		// Gmail means SPF by x.7.27 and DKIM by x.7.30, whatever the registry says.
		{"550 5.7.27 no", "gmail-smtp-in.l.google.com", event.SPFFailed, event.Unset},
		{"550 5.7.30 no", "gmail-smtp-in.l.google.com", event.DKIMFailed, event.Unset},
		{"550 5.7.30 no", "mx.example.com", event.TLSFailed, event.Unset},
		// These codes alone decide nothing.
		{"550 5.0.0 no", "mx.example.com", event.Unclassified, event.Unset},
		{"554 5.5.0 no", "mx.example.com", event.Unclassified, event.Unset},
		{"451 4.0.0 no", "mx.example.com", event.Unclassified, event.Unset},
		{"550 5.2.0 no", "mx.example.com", event.Unclassified, event.Unset},
		{"550 5.7.1 no", "mx.example.com", event.Policy, event.Unset},
		// Expiry does not hide the cause.
		{"554 5.4.7 message timeout (last transfail: 421 4.4.2 Connection timed out)", "", event.QueueExpired, event.ConnectionFailed},
	} {
		e := event.Event{Relay: []byte(tt.relay), Reply: event.Reply{Text: []byte(tt.reply)}}
		s.Classify(&e)
		if e.Verdict.Category != tt.want || tt.secondary != event.Unset && e.Verdict.Secondary != tt.secondary {
			t.Errorf("%s: %s (%s), want %s (%s)", tt.reply, e.Verdict.Category, e.Verdict.Secondary, tt.want, tt.secondary)
		}
	}
}

// A word of another language that looks like an English one without its accents
// (člen, cần, réservé, límite) does not make English say what it does not.
func TestForeignWordsInEnglish(t *testing.T) {
	s := shippedRules(t).NewSession()
	for _, reply := range []string{
		"Room is reserved for the length at the head of this message",
		"The handshake can be about TLS and still take long",
		"Empty lists are invalid in this context",
		"At this level the message says nothing",
		"It is not sure that it turned out to be related",
		"The archive has an allocation of its own, and a moment is enough",
		"Cal asked in which order the commands go",
	} {
		e := eventOf(reply)
		s.Classify(e)
		if e.Verdict.Category != event.Unclassified {
			t.Errorf("%s: %s", reply, e.Verdict.Category)
		}
	}
}

// A further cause is told by words of its own, or by words that tell two.
func TestSecondaryCause(t *testing.T) {
	s := shippedRules(t).NewSession()
	for _, tt := range []struct {
		reply           string
		want, secondary event.Category
	}{
		{"I'm not going to try again; this message has been in the queue too long.", event.QueueExpired, event.Unset},
		{"Sorry, I wasn't able to establish an SMTP connection. (#4.4.1) I'm not going to try again; this message has been in the queue too long.", event.QueueExpired, event.ConnectionFailed},
		{"550 The content of this message looks suspicious, it was blocked by the spam filter", event.SpamContent, event.Unset},
		{"421 4.7.27 Your mail has been rate limited because SPF did not pass", event.SPFFailed, event.RateLimited},
		{"550-5.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP address. To protect our users from spam, mail sent from your IP address has been blocked. - gsmtp", event.IPBlocklisted, event.RateLimited},
		{"553 5.7.1 [TSS04] Messages from 192.0.2.1 permanently deferred due to unexpected volume or user complaints; see https://postmaster.yahooinc.com/error-codes", event.IPBlocklisted, event.RateLimited},
		{"421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints; see https://postmaster.yahooinc.com/error-codes", event.RateLimited, event.Unset},
		{"550 5.1.1 No such user, or the mailbox is full", event.MailboxFull, event.Unset}, // not of the causes that come together
	} {
		e := eventOf(tt.reply)
		s.Classify(e)
		if e.Verdict.Category != tt.want || e.Verdict.Secondary != tt.secondary {
			t.Errorf("%s: %s (%s), want %s (%s)", tt.reply, e.Verdict.Category, e.Verdict.Secondary, tt.want, tt.secondary)
		}
	}
}

func TestInnermostReplyDecides(t *testing.T) {
	c := shippedRules(t)
	for _, tt := range []struct {
		text     string
		code     uint16
		enhanced string
		stage    string
	}{
		{"550 5.1.1 User unknown", 550, "5.1.1", ""},
		{"host mx.example.com[192.0.2.1] said: 450 4.2.2 full (in reply to RCPT TO command)", 450, "4.2.2", "rcpt"},
		{"host mx.example.com[192.0.2.1] refused to talk to me: 554 5.7.1 go away", 554, "5.7.1", "connect"},
		{"smtp; 550 5.2.1 disabled", 550, "5.2.1", ""},
		{"SMTP error from remote mail server after RCPT TO:<a@example.com>: host mx.example.com [192.0.2.1]: 550 5.1.1 nobody", 550, "5.1.1", "rcpt"},
		{"SMTP error from remote server for TEXT command, host: mx.example.com (192.0.2.1) reason: 550 5.7.1 spam", 550, "5.7.1", "end_of_data"},
		{"5.1.0 - Unknown address error 550-'5.1.1 nobody' (delivery attempts: 0)", 550, "5.1.1", "rcpt"},
		{"5.3.0 - Other mail system problem 554-'5.7.1 spam' (delivery attempts: 0)", 554, "5.7.1", ""},
		{"550用户不存在", 550, "", ""},
		{"421连接过多，上限(500通)", 421, "", ""},
		{`550-5.7.1 one\n550-5.7.1 two\n550 5.7.1 three`, 550, "5.7.1", ""},
		{"550-5.7.1 one#012550 5.7.1 two", 550, "5.7.1", ""},
		{"554 5.4.0 Relay says: 550 5.1.1 User unknown", 550, "5.1.1", ""},
		{"550 5.1.351 Remote server returned unknown recipient -> 552 5.2.2 mailbox full", 552, "5.2.2", ""},
		{"550 sorry, no mailbox (#5.1.1)", 550, "5.1.1", ""},
		{"550 mail from 5.1.1.7 refused", 550, "", ""},
		{"connect to mx.example.com[192.0.2.1]:25: Connection refused", 0, "", ""},
		{"said the host: 200 lines", 0, "", ""},
	} {
		x := c.Explain(&event.Event{Reply: event.Reply{Text: []byte(tt.text)}})
		if x.Code != tt.code || x.Enhanced != tt.enhanced || x.Stage != tt.stage {
			t.Errorf("%s: code %d %s stage %q, want %d %s %q", tt.text, x.Code, x.Enhanced, x.Stage, tt.code, tt.enhanced, tt.stage)
		}
	}
}

func TestPersistence(t *testing.T) {
	c := shippedRules(t)
	s := c.NewSession()
	for _, tt := range []struct {
		reply   string
		outcome event.Outcome
		want    event.Persistence
	}{
		{"552 5.2.2 mailbox full", event.Deferred, event.Transient}, // the MTA will retry
		{"450 4.2.2 mailbox full", event.Bounced, event.Permanent},  // it will not
		{"552 5.2.2 mailbox full", 0, event.Permanent},
		{"450 4.2.2 mailbox full", 0, event.Transient},
		{"4.2.2 mailbox full", 0, event.Transient},
		{"mailbox full", 0, event.MailboxFull.Info().Habit},
		{"no such user", 0, event.UserUnknown.Info().Habit},
		{"550 5.5.3 no", 0, event.Transient}, // fewer recipients will do
	} {
		e := event.Event{Outcome: tt.outcome, Reply: event.Reply{Text: []byte(tt.reply)}}
		s.Classify(&e)
		if e.Verdict.Persistence != tt.want {
			t.Errorf("%s (%s): %s, want %s", tt.reply, tt.outcome, e.Verdict.Persistence, tt.want)
		}
	}
}

func TestProvider(t *testing.T) {
	c := shippedRules(t)
	s := c.NewSession()
	for _, tt := range []struct {
		relay, ip, recipient, text string
		local                      bool
		outcome                    event.Outcome
		want                       string
	}{
		{relay: "gmail-smtp-in.l.google.com", want: "gmail"},
		{relay: "ASPMX.L.GOOGLE.COM.", want: "google_workspace"},
		{relay: "aspmx.l.google.com", outcome: event.Delivered, want: "google_workspace"},
		{relay: "hotmail-com.olc.protection.outlook.com", want: "microsoft"},
		{relay: "mx0a-001.pphosted.com", want: "proofpoint"},
		{relay: "notgoogle.com", want: "other"},
		{relay: "mx.example.com", recipient: "a@gmail.com", text: "550 5.1.1 no - gsmtp", want: "other"},
		{relay: "none", recipient: "a@gmail.com", text: "Connection refused", want: "gmail"},
		{recipient: "a@GMAIL.com.", outcome: event.Delivered, want: "gmail"},
		{recipient: "a@example.com", text: "550 5.1.1 no - gsmtp", want: "gmail"},
		{recipient: "a@example.com", text: "250 2.0.0 OK - gsmtp", outcome: event.Delivered, want: "gmail"},
		{relay: "localhost", ip: "127.0.0.1", want: "internal"},
		{relay: "localhost", local: true, want: "local"},
		{relay: strings.Repeat("a.", 300), want: "other"},
		{want: "other"},
	} {
		e := event.Event{
			Relay: []byte(tt.relay), RelayIP: []byte(tt.ip), Recipient: []byte(tt.recipient), Local: tt.local, Outcome: tt.outcome,
			Reply: event.Reply{Text: []byte(tt.text)},
		}
		for range 2 { // the second time from the cache
			s.Classify(&e)
			if e.Provider != tt.want {
				t.Errorf("%+v: %s, want %s", tt, e.Provider, tt.want)
			}
		}
		if e.Outcome == event.Delivered && e.Verdict != (event.Verdict{}) {
			t.Errorf("%+v: a delivery has the verdict %+v", tt, e.Verdict)
		}
	}
}

func TestBlocklistNamed(t *testing.T) {
	c := shippedRules(t)
	s := c.NewSession()
	for reply, want := range map[string]string{
		"554 5.7.1 Client host [192.0.2.1] blocked using zen.spamhaus.org": "Spamhaus ZEN",
		"550 192.0.2.1 is listed at bl.spamcop.net":                        "SpamCop",
		"550 5.7.1 Your address is on a blocklist":                         "",
		"554 5.7.1 Sender address <a@example.com> blocked using dbl.spamhaus.org; https://www.spamhaus.org/query/domain/example.com": "Spamhaus DBL",
		"550 5.1.1 no such user (see https://www.spamhaus.org/)":                                                                     "Spamhaus",
	} {
		e := event.Event{Reply: event.Reply{Text: []byte(reply)}}
		s.Classify(&e)
		if e.Verdict.Blocklist != want {
			t.Errorf("%s: list %q, want %q", reply, e.Verdict.Blocklist, want)
		}
	}
}

func TestUserRules(t *testing.T) {
	dir := t.TempDir()
	file := write(t, dir, "own.yaml", `
words:
  user: [widget holder]
rules:
  - id: policy
    category: local_hold
    any: [denied by policy]
    examples: [550 denied by policy]
  - id: own_words
    category: rate_limited
    provider: shop
    any: ['frobnication ~ exceeded']
`)
	providers := write(t, dir, "providers.yaml", `
providers:
  - {id: shop, mx: [shop.test], domains: [shop.test]}
  - {id: gmail, mx: [gateway.test]}
`)
	c, err := New(Options{RuleFiles: []string{file}, ProviderFiles: []string{providers}})
	if err != nil {
		t.Fatal(err)
	}
	s := c.NewSession()
	for _, tt := range []struct {
		reply, relay, provider string
		want                   event.Category
	}{
		{"550 denied by policy", "", "other", event.LocalHold},
		{"550 no such widget holder", "", "other", event.UserUnknown},
		{"550 frobnication limit exceeded", "mx.shop.test", "shop", event.RateLimited},
		{"550 frobnication limit passed", "mx.gateway.test", "gmail", event.Unclassified},
	} {
		e := event.Event{Relay: []byte(tt.relay), Reply: event.Reply{Text: []byte(tt.reply)}}
		s.Classify(&e)
		if e.Verdict.Category != tt.want || e.Provider != tt.provider {
			t.Errorf("%s: %s at %s, want %s at %s", tt.reply, e.Verdict.Category, e.Provider, tt.want, tt.provider)
		}
	}
	lint := c.Lint()
	if len(lint) != 1 || lint[0].Rule != "own_words" || lint[0].File != file || lint[0].Line != 9 {
		t.Errorf("lint of own rules: %v, want one fault: own_words has no example", lint)
	}
}

// An example that another rule decides must have the secondary cause all the same.
func TestExampleSecondary(t *testing.T) {
	file := write(t, t.TempDir(), "own.yaml", `
rules:
  - id: one
    category: ip_blocklisted
    secondary: rate_limited
    any: [zonked]
    examples:
      - 550 zonked
      - 550 zonked by the zonker
  - id: two
    category: ip_blocklisted
    any: ['zonked by zonker']
    examples: [550 zonked by the zonker]
`)
	c, err := New(Options{RuleFiles: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	faults := c.Test()
	if len(faults) != 1 || faults[0].Rule != "one" || faults[0].Line != 9 || !strings.Contains(faults[0].Problem, "not also rate_limited, by rule two") {
		t.Errorf("faults of own rules: %v, want one fault: line 9 is not also rate_limited", faults)
	}
}

func TestLintOneWordLeft(t *testing.T) {
	file := write(t, t.TempDir(), "own.yaml", `
rules:
  - id: own
    category: local_hold
    any:
      - 'it is being zonked'
      - zonked
      - '(is zonked|gone away)'
      - 'zonked twice'
    examples: [550 zonked]
`)
	c, err := New(Options{RuleFiles: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	lint := c.Lint()
	if len(lint) != 1 || lint[0].Line != 6 || !strings.Contains(lint[0].Problem, "one word is left") {
		t.Errorf("lint: %v, want one fault: the phrase in line 6 asks for one word", lint)
	}
}
