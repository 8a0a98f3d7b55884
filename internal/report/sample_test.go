package report_test

import (
	"fmt"
	"hash/fnv"
	"math"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/report"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// attempt is one group of attempts that a test report is made of.
type attempt struct {
	at        int64
	outcome   event.Outcome
	category  event.Category
	secondary event.Category
	provider  string
	sender    string
	recipient string
	text      string
	n, firsts int64
}

var epoch = time.Date(2026, 1, 12, 4, 0, 0, 0, time.UTC).Unix()

// days is a plausible mail server: steady traffic with a daily rhythm, usual
// failures, and an SPF incident of one shop at one provider.
func days(n int) []attempt {
	var all []attempt
	for h := range int64(n * 24) {
		at := epoch + h*3600
		wave := 1 + math.Sin(float64(h%24)/24*2*math.Pi)
		k := func(base float64) int64 { return int64(base * wave) }
		add := func(o event.Outcome, c event.Category, provider, sender, recipient, text string, n int64) {
			if n > 0 {
				all = append(all, attempt{at, o, c, event.Unset, provider, sender, recipient, text, n, n - n/10})
			}
		}
		add(event.Delivered, event.Unset, "gmail", "shop.example", "gmail.example", "", k(900))
		add(event.Delivered, event.Unset, "microsoft", "news.example", "outlook.example", "", k(500))
		add(event.Delivered, event.Unset, "other", "shop.example", "firma.example", "", k(120))
		add(event.Delivered, event.Unset, "yahoo", "billing.example", "yahoo.example", "", k(80))
		add(event.Bounced, event.UserUnknown, "gmail", "news.example", "gmail.example",
			"550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the recipient's email address for typos or unnecessary spaces.", k(14))
		add(event.Bounced, event.UserUnknown, "other", "", "firma.example", "550 5.1.1 <…@firma.example>: Recipient address rejected: User unknown in virtual mailbox table", k(6))
		add(event.Deferred, event.Greylisted, "other", "shop.example", "grau.example", "450 4.2.0 <…@grau.example>: Recipient address rejected: Greylisted, see http://postgrey.example/help", k(11))
		add(event.Deferred, event.RateLimited, "yahoo", "news.example", "yahoo.example", "421 4.7.0 [TSS04] Messages from 192.0.2.7 temporarily deferred due to unexpected volume or user complaints", k(9))
		add(event.Bounced, event.MailboxFull, "microsoft", "billing.example", "outlook.example", "552 5.2.2 Mailbox full", k(3))
		add(event.Deferred, event.ConnectionFailed, "other", "billing.example", "weg.example", "connect to mx.weg.example[192.0.2.44]:25: Connection timed out", k(4))
		if h == 30 {
			all = append(all, attempt{at, event.Expired, event.QueueExpired, event.ConnectionFailed, "", "billing.example", "", "", 23, 0})
			all = append(all, attempt{at, event.Expired, event.QueueExpired, event.MailboxFull, "", "news.example", "", "", 4, 0})
		}
		if h > 34 && h < 45 {
			add(event.Bounced, event.SPFFailed, "gmail", "shop.example", "gmail.example",
				"550-5.7.26 Your email has been blocked because the sender is unauthenticated. Gmail requires all senders to authenticate with either SPF or DKIM. Authentication results: DKIM = did not pass SPF [shop.example] with ip: [192.0.2.25] = did not pass", k(420))
		}
	}
	return all
}

func hash(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s))
	return h.Sum64()
}

// add gives an attempt to a builder in all its parts.
func add(b *report.Builder, a *attempt) {
	b.AddTimes(a.at, a.at)
	b.AddCount(&window.Series{
		Outcome: a.outcome, Category: a.category, Secondary: a.secondary, SenderDomain: a.sender, Route: &window.Route{Provider: a.provider},
	}, a.n, a.firsts)
	b.AddTrend(a.at, a.outcome, a.category, a.n)
	if a.outcome != event.Expired {
		b.AddDomain(a.recipient, a.outcome, a.category, a.n)
	}
	if a.text != "" {
		b.AddTemplate(&window.TemplateCount{
			Hash: hash(a.provider + a.text), Category: a.category, Provider: a.provider, Rule: fmt.Sprint("rule.", a.category), Text: a.text,
			Attempts: a.n, First: a.at, Last: a.at,
		})
	}
}

func build(attempts []attempt, lines window.Lines) *report.Report {
	b := report.NewBuilder(0)
	b.AddLines(lines)
	for i := range attempts {
		add(b, &attempts[i])
	}
	return b.Report()
}

var usualLines = window.Lines{Read: 1234567, Malformed: 12, Probes: 45, Rejected: 3120, Unmatched: 44}
