package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/web"
)

// call runs a command line as the shell would.
func call(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = execute(t.Context(), args, console{strings.NewReader(stdin), &out, &err})
	return code, out.String(), err.String()
}

// aLog is a small Postfix log: a delivery, an unknown user, a deferral that
// is delivered later, and a bounce returned to nobody.
const aLog = `2026-01-12T04:01:07.100000+00:00 mx1 postfix/qmgr[11]: 4F2A10: from=<a@shop.example>, size=1, nrcpt=1 (queue active)
2026-01-12T04:01:08.100000+00:00 mx1 postfix/smtp[12]: 4F2A10: to=<x@one.example>, relay=mx.one.example[192.0.2.1]:25, delay=1, delays=0/0/1/0, dsn=2.0.0, status=sent (250 2.0.0 Ok)
2026-01-12T04:01:08.200000+00:00 mx1 postfix/qmgr[11]: 4F2A10: removed
2026-01-12T04:01:09.100000+00:00 mx1 postfix/qmgr[11]: 4F2A11: from=<a@shop.example>, size=1, nrcpt=1 (queue active)
2026-01-12T04:01:10.100000+00:00 mx1 postfix/smtp[12]: 4F2A11: to=<y@gmail.com>, relay=gmail-smtp-in.l.google.com[192.0.2.2]:25, delay=1, delays=0/0/1/0, dsn=5.1.1, status=bounced (host gmail-smtp-in.l.google.com[192.0.2.2] said: 550-5.1.1 The email account that you tried to reach does not exist. (in reply to RCPT TO command))
2026-01-12T04:01:11.100000+00:00 mx1 postfix/qmgr[11]: 4F2A12: from=<>, size=1, nrcpt=1 (queue active)
2026-01-12T04:01:12.100000+00:00 mx1 postfix/smtp[12]: 4F2A12: to=<z@two.example>, relay=mx.two.example[192.0.2.3]:25, delay=1, delays=0/0/1/0, dsn=4.2.2, status=deferred (host mx.two.example[192.0.2.3] said: 452 4.2.2 Mailbox full (in reply to RCPT TO command))
2026-01-12T04:11:12.100000+00:00 mx1 postfix/smtp[12]: 4F2A12: to=<z@two.example>, relay=mx.two.example[192.0.2.3]:25, delay=601, delays=600/0/1/0, dsn=2.0.0, status=sent (250 2.0.0 Ok)
this is no line of a log
`

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReport(t *testing.T) {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write([]byte(aLog)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"mail.log": aLog, "packed": z.String()} {
		code, out, stderr := call(t, "", "report", "-o", "json", write(t, name, text))
		if code != 0 || stderr != "" {
			t.Fatalf("%s: exit code %d, %s", name, code, stderr)
		}
		var r struct {
			Lines, Malformed, Attempts int64
			FirstOutcomes              int64 `json:"first_outcomes"`
			Outcomes                   map[string]int64
			Categories                 []struct {
				Category      string
				Attempts      int64
				Providers     map[string]int64
				SenderDomains map[string]int64 `json:"sender_domains"`
			}
			First, Last time.Time
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		if r.Lines != 9 || r.Malformed != 1 || r.Attempts != 4 || r.FirstOutcomes != 3 {
			t.Errorf("%s: %+v", name, r)
		}
		if r.Outcomes["delivered"] != 2 || r.Outcomes["deferred"] != 1 || r.Outcomes["bounced"] != 1 || r.Outcomes["expired"] != 0 {
			t.Errorf("%s: outcomes %v", name, r.Outcomes)
		}
		if r.First != time.Date(2026, 1, 12, 4, 1, 8, 0, time.UTC) || r.Last != time.Date(2026, 1, 12, 4, 11, 12, 0, time.UTC) {
			t.Errorf("%s: first %v, last %v", name, r.First, r.Last)
		}
		for _, c := range r.Categories {
			switch c.Category {
			case "user_unknown":
				if c.Attempts != 1 || c.Providers["gmail"] != 1 || c.SenderDomains["shop.example"] != 1 {
					t.Errorf("%s: %+v", name, c)
				}
			case "mailbox_full": // of the null sender
				if n, ok := c.SenderDomains[""]; c.Attempts != 1 || n != 1 || !ok {
					t.Errorf("%s: %+v", name, c)
				}
			default:
				t.Errorf("%s: category %s", name, c.Category)
			}
		}
	}
}

func TestReportForPeople(t *testing.T) {
	path := write(t, "mail.log", aLog)
	for output, want := range map[string]string{"table": "user_unknown", "html": "<!doctype html>"} {
		code, out, stderr := call(t, "", "report", "-o", output, path)
		if code != 0 || stderr != "" || !strings.Contains(strings.ToLower(out), want) {
			t.Errorf("%s: exit code %d, %s\n%s", output, code, stderr, out)
		}
	}
}

func TestClassify(t *testing.T) {
	code, out, _ := call(t, "550 User unknown\n\n452 4.2.2 Mailbox full, try again in 10 minutes\nhello\n", "classify", "-o", "json")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 0 || len(lines) != 4 {
		t.Fatalf("exit code %d, %d lines for 4:\n%s", code, len(lines), out)
	}
	for i, want := range []string{"user_unknown", "unclassified", "mailbox_full", "unclassified"} {
		var r web.Verdict
		if err := json.Unmarshal([]byte(lines[i]), &r); err != nil {
			t.Fatal(err)
		}
		if r.Category != want {
			t.Errorf("line %d: %+v, want %s", i+1, r, want)
		}
		if c, _ := event.CategoryByID(want); r.Owner != c.Info().Owner || r.Group != c.Info().Group {
			t.Errorf("line %d: %+v", i+1, r)
		}
		if i == 2 && (r.RetryAfter != 600 || r.Code != 452 || r.Enhanced != "4.2.2" || r.Persistence != "transient") {
			t.Errorf("details: %+v", r)
		}
	}
	code, out, _ = call(t, "", "classify", "550 User unknown", "552 Mailbox is full")
	if got := strings.Count(out, "\n"); code != 0 || got != 2 || !strings.HasPrefix(out, "user_unknown") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// A line of any length has one answer.
func TestClassifyLongLine(t *testing.T) {
	code, out, _ := call(t, "550 User unknown "+strings.Repeat("x", 3<<20)+"\n552 Mailbox is full", "classify")
	if code != 0 || strings.Count(out, "\n") != 2 || !strings.Contains(out, "mailbox_full") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

func TestExplain(t *testing.T) {
	code, out, _ := call(t, "", "explain", "550 5.1.1 User unknown")
	for _, want := range []string{"user_unknown", "rules/", "decided by", "what to do"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit code %d, no %q in\n%s", code, want, out)
		}
	}
	code, out, _ = call(t, "", "explain", "-o", "json", "550 5.1.1 User unknown")
	var x struct {
		Verdict  web.Verdict
		Evidence []struct{ Rule, File string }
	}
	if err := json.Unmarshal([]byte(out), &x); err != nil || code != 0 || x.Verdict.Category != "user_unknown" || len(x.Evidence) == 0 {
		t.Errorf("exit code %d, %v: %+v", code, err, x)
	}
}

func TestRules(t *testing.T) {
	for _, verb := range []string{"lint", "test"} {
		if code, out, stderr := call(t, "", "rules", verb); code != 0 {
			t.Errorf("rules %s: exit code %d\n%s%s", verb, code, out, stderr)
		}
	}
}

// Every mistake of the caller has exit code 2 and says what to do instead;
// what fails otherwise has 1.
func TestMistakes(t *testing.T) {
	bad := write(t, "bad.yaml", "sources:\n  - {name: mta1, kind: tale}\nlimts: {}\n")
	for _, test := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"reprot"}, 2, []string{`did you mean "report"`}},
		{[]string{"report"}, 2, []string{"/var/log/mail.log"}},
		{[]string{"report", "-o", "pdf", "x"}, 2, []string{"table"}},
		{[]string{"report", "--from", "postfiks", bad}, 2, []string{"postfix"}},
		{[]string{"report", "--timezone", "Nowhere/Else", bad}, 2, []string{"Nowhere/Else"}},
		{[]string{"report", "--ledger", "x", bad}, 2, []string{"either"}},
		{[]string{"report", "--last", "1d", bad}, 2, []string{"--ledger"}},
		{[]string{"report", filepath.Join(t.TempDir(), "none.log")}, 1, []string{"none.log: no such file", "spelling mistake"}},
		{[]string{"report", t.TempDir()}, 1, []string{"folder"}},
		{[]string{"report", "--ledger", filepath.Join(t.TempDir(), "none.db")}, 1, []string{"none.db"}},
		{[]string{"check", "-c", bad}, 2, []string{bad + ":2: sources[0].kind", bad + ":3: limts", "did you mean limits"}},
		{[]string{"run", "-c", bad}, 2, []string{bad + ":2:", bad + ":3:"}},
		{[]string{"run", "-c", filepath.Join(t.TempDir(), "none.yaml")}, 2, []string{"none.yaml"}},
		{[]string{"run"}, 2, []string{"--config"}},
		{[]string{"classify", "--rules", bad, "x"}, 2, []string{bad + ":1"}},
	} {
		code, out, stderr := call(t, "", test.args...)
		if code != test.code || strings.Contains(stderr, "goroutine") {
			t.Errorf("%v: exit code %d, want %d\n%s", test.args, code, test.code, stderr)
		}
		for _, want := range test.want {
			if !strings.Contains(stderr, want) {
				t.Errorf("%v: no %q in\n%s%s", test.args, want, stderr, out)
			}
		}
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		code, out, _ := call(t, "", "completion", shell)
		for _, want := range []string{"report", "demo", "timezone", "json"} {
			if code != 0 || !strings.Contains(out, want) {
				t.Errorf("%s: exit code %d, no %q", shell, code, want)
			}
		}
	}
}

func TestHelpAndVersion(t *testing.T) {
	if code, out, _ := call(t, "", "--help"); code != 0 || !strings.Contains(out, "report") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if code, out, _ := call(t, ""); code != 0 || !strings.Contains(out, "Usage") {
		t.Errorf("without arguments: exit code %d\n%s", code, out)
	}
	if code, out, _ := call(t, "", "version"); code != 0 || !strings.HasPrefix(out, "bouncemeter ") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// stopAt calls stop once a text has been written.
type stopAt struct {
	bytes.Buffer
	text string
	stop func()
}

func (w *stopAt) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(w.text)) {
		w.stop()
	}
	return w.Buffer.Write(b)
}

// The demonstration runs by itself and ends by itself.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // a busy machine needs longer
	defer cancel()
	out, stderr := &stopAt{text: "rate_limited", stop: cancel}, &bytes.Buffer{}
	code := execute(ctx, []string{"demo", "--history", "30m", "--for", "2m", "--listen", "127.0.0.1:0"}, console{strings.NewReader(""), out, stderr})
	for _, want := range []string{"/metrics", "attempts in the last", "rate_limited", "over"} {
		if code != 0 || !strings.Contains(out.String(), want) {
			t.Errorf("exit code %d, no %q in\n%s%s", code, want, out.String(), stderr.String())
		}
	}
}

func TestMine(t *testing.T) {
	unknown := "550 zork blurb 17\n550 User unknown\n550 zork blurb 18\n"
	code, out, stderr := call(t, "", "mine", "--from", "replies", write(t, "replies", unknown))
	for _, want := range []string{"2 of 3 failures", "zork blurb", "category:"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit code %d, no %q in\n%s%s", code, want, out, stderr)
		}
	}
	const exim = "2026-01-12 04:01:07 1vf8qX-00000000Abc-0aBc ** x@one.example R=dnslookup T=remote_smtp H=mx.one.example [192.0.2.1]: SMTP error from remote mail server after RCPT TO:<x@one.example>: 550 the moon is in the wrong house\n"
	if code, out, stderr := call(t, "", "mine", write(t, "mainlog", exim)); code != 0 || !strings.Contains(out, "1 of 1 failures") || stderr != "" {
		t.Errorf("a log of Exim: %d %s %s", code, out, stderr)
	}
	if code, out, stderr := call(t, "", "mine", "--from", "postfix", write(t, "mainlog", exim)); code != 0 || !strings.Contains(out, "0 of 0 failures") || !strings.Contains(stderr, "1 lines could not be read") {
		t.Errorf("a log of Exim as one of Postfix: %d %s %s", code, out, stderr)
	}
	if code, out, _ := call(t, "", "mine", write(t, "mail.log", aLog)); code != 0 || !strings.Contains(out, "0 of 2 failures") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

func TestRulesImport(t *testing.T) {
	path := write(t, "powermta.conf", "<bounce-category-patterns>\n/user unknown/ bad-mailbox\n</bounce-category-patterns>\n")
	code, out, stderr := call(t, "", "rules", "import", "--from", "powermta", path)
	if code != 0 || !strings.Contains(out, "user unknown") {
		t.Errorf("exit code %d\n%s%s", code, out, stderr)
	}
}

// Each bounce mail gives one classified record per recipient, from a Maildir, an
// mbox or standard input alike; what is no report gives none and is said.
// The words of each notification lead to the right category.
func TestIngestSaysWhy(t *testing.T) {
	archive, err := txtar.ParseFile("../../sources/dialect/message/testdata/messages.txtar")
	if err != nil {
		t.Fatal(err)
	}
	messages := make(map[string]string)
	for _, f := range archive.Files {
		name, kind, _ := strings.Cut(f.Name, "/")
		switch kind {
		case "message":
			messages[name] = string(f.Data)
		case "why":
			code, out, stderr := call(t, messages[name], "ingest", "-o", "json", "-")
			if code != 0 {
				t.Fatalf("%s: exit code %d, %s", name, code, stderr)
			}
			var got strings.Builder
			for line := range strings.Lines(out) {
				r := struct{ Recipient, Category string }{Category: "-"}
				if err := json.Unmarshal([]byte(line), &r); err != nil {
					t.Fatal(err)
				}
				fmt.Fprintln(&got, r.Recipient, r.Category)
			}
			if diff := cmp.Diff(string(f.Data), got.String()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	}
}

func TestIngest(t *testing.T) {
	bounce := func(to, reply string) string {
		return "From: MAILER-DAEMON@messagelabs.com\nTo: anna@shop.example\nSubject: Mail Delivery Failure\nDate: Mon, 02 Nov 2026 09:15:00 +0000\n\n" +
			"This is the mail delivery agent at messagelabs.com.\n\nI was unable to deliver your message to the following addresses:\n\n" + to + "\n\nReason: " + reply + "\n"
	}
	replies := map[string]string{
		"552 5.3.4 Message size exceeds fixed maximum message size": "message_too_large",
		"552 Mailbox is full":       "mailbox_full",
		"550 User unknown":          "user_unknown",
		"550 5.7.1 Unable to Relay": "relay_denied",
		"550 5.7.1 Message rejected as spam by Content Filtering.":           "spam_content",
		"550 5.7.1 SPF unauthorized mail is prohibited.":                     "spf_failed",
		"554 5.4.7 [internal] exceeded max time without delivery":            "expired",
		"552 MS-Office file containing VBA macros found inside of the email": "malware",
	}
	maildir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(maildir, "new"), 0o700); err != nil {
		t.Fatal(err)
	}
	var mbox string
	want := make(map[string]string)
	for reply, category := range replies {
		to := category + "@customer.example"
		want[to] = category
		mbox += "From MAILER-DAEMON Mon Nov  2 09:15:00 2026\n" + bounce(to, reply) + "\n"
		if err := os.WriteFile(filepath.Join(maildir, "new", category), []byte(bounce(to, reply)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, path := range map[string]string{"Maildir": maildir, "mbox": write(t, "mbox", mbox), "standard input": "-"} {
		code, out, stderr := call(t, mbox, "ingest", "-o", "json", path)
		if code != 0 || stderr != "" {
			t.Fatalf("%s: exit code %d, %s", name, code, stderr)
		}
		got := make(map[string]string)
		ids := make(map[string]bool)
		for line := range strings.Lines(out) {
			var r struct {
				ID, Recipient, Outcome, Category, Sender string
				V                                        int
			}
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("%s: %v in %s", name, err, line)
			}
			if r.V != 1 || r.ID == "" || ids[r.ID] || r.Outcome != "oob_bounce" || r.Sender != "anna@shop.example" {
				t.Errorf("%s: %s", name, line)
			}
			ids[r.ID], got[r.Recipient] = true, r.Category
		}
		for to, category := range want {
			if got[to] != category {
				t.Errorf("%s: %s has category %q", name, to, got[to])
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d records, want %d", name, len(got), len(want))
		}
	}

	code, out, stderr := call(t, "Subject: hello\n\nJust writing.\n", "ingest", "-")
	if code != 0 || out != "" || !strings.Contains(stderr, "1 tell of no delivery") {
		t.Errorf("a letter: exit code %d, %q, %q", code, out, stderr)
	}
	if code, out, _ = call(t, bounce("bert@customer.example", "550 \x1b[31mUser unknown"), "ingest", "-"); code != 0 ||
		!strings.Contains(out, "bert@customer.example · oob_bounce · user_unknown") || strings.Contains(out, "\x1b") {
		t.Errorf("for people: exit code %d, %q", code, out)
	}
	if code, _, stderr = call(t, "", "ingest", "/nowhere/at/all"); code != 1 || !strings.Contains(stderr, "/nowhere/at/all") {
		t.Errorf("a missing path: exit code %d, %s", code, stderr)
	}
}
