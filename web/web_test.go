package web

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/bouncemeter/bouncemeter/classifier"
	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/hostile"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/sqlite"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

var now = time.Date(2026, 3, 20, 13, 22, 40, 0, time.UTC)

var rules = func() func() *classifier.Classifier {
	c, err := classifier.New(classifier.Options{})
	if err != nil {
		panic(err)
	}
	return func() *classifier.Classifier { return c }
}()

// site is a server over a ledger of its own.
type site struct {
	*Server
	ledger *sqlite.Ledger
	lane   ledger.Lane
	clock  time.Time
}

func open(t testing.TB) *site {
	t.Helper()
	l, err := sqlite.Open(context.Background(), filepath.Join(t.TempDir(), "ledger.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	dead := filepath.Join(t.TempDir(), "dead-letter.jsonl")
	line, err := json.Marshal(map[string]any{"time": now, "source": "mta", "lane": "/var/log/mail.log", "offset": 5, "error": "no time", "line": hostile.Text})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dead, append(line, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &site{ledger: l, clock: now}
	s.Server = New(Options{
		Ledger: l, Classifier: rules, TryRules: func(draft string) (*classifier.Classifier, error) {
			return classifier.New(classifier.Options{Draft: draft})
		}, DeadLetters: dead, Version: "1.2.3", Now: func() time.Time { return s.clock },
		Lanes: func() []Lane {
			return []Lane{{Source: "mta", Lane: "/var/log/mail.log", Lag: 1234, Read: now, Err: hostile.Text}}
		},
	})
	return s
}

func (s *site) commit(t testing.TB, d *window.Delta) {
	t.Helper()
	var err error
	if s.lane.ID == 0 {
		if s.lane, err = s.ledger.Lane(context.Background(), "mta", "/var/log/mail.log"); err != nil {
			t.Fatal(err)
		}
	}
	next := event.Position{Segment: "s", Offset: s.lane.Position.Offset + 1}
	if err := s.ledger.Commit(context.Background(), &ledger.Commit{Lane: s.lane.ID, Expected: s.lane.Position, Position: next, Delta: d, Now: now}); err != nil {
		t.Fatal(err)
	}
	s.lane.Position = next
	s.Committed("mta", d)
}

// fill commits ten days of mail in which SPF of shop.example breaks at gmail 30
// minutes before now, with hostile names and replies, and an alert.
func fill(t testing.TB) *site {
	t.Helper()
	s := open(t)
	series := func(o event.Outcome, c event.Category, provider, domain string) *window.Series {
		return &window.Series{Outcome: o, Category: c, SenderDomain: domain, Route: &window.Route{Provider: provider, Host: "mx1.example", Stream: "postfix"}}
	}
	fine := series(event.Delivered, event.Unset, "gmail", "shop.example")
	spf := series(event.Bounced, event.SPFFailed, "gmail", "shop.example")
	slow := series(event.Deferred, event.RateLimited, "yahoo", hostile.Name)
	bounce := series(event.Delivered, event.Unset, "yahoo", window.NullSender)
	stuck := series(event.Deferred, event.UserUnknown, "yahoo", window.NullSender)
	expired := series(event.Expired, event.QueueExpired, "yahoo", "shop.example")
	expired.Secondary = event.RateLimited
	complaint := series(event.Complaint, event.SPFFailed, "yahoo", "shop.example")
	d := &window.Delta{Lines: window.Lines{Read: 100_000, Malformed: 3}}
	for at := now.Unix() - 10*day - 40; at < now.Unix(); at += 300 {
		add := func(s *window.Series, n int64) {
			d.Counts = append(d.Counts, window.Count{Series: s, Start: at / 60 * 60, Attempts: n, Firsts: n})
		}
		add(fine, 98)
		add(slow, 2)
		add(bounce, 10)
		add(stuck, 1)
		if at%3600 < 300 {
			add(spf, 1)
			add(expired, 1)
			add(complaint, 5)
		}
		if at > now.Unix()-1800 {
			add(spf, 40)
		}
	}
	d.First, d.Last = now.Unix()-10*day, now.Unix()-60
	for i, x := range []struct {
		category       event.Category
		provider, text string
	}{
		{event.SPFFailed, "gmail", "550-5.7.27 Your email has been blocked because SPF didn't pass for this message."},
		{event.SPFFailed, "gmail", hostile.Text}, {event.RateLimited, "yahoo", hostile.Text}, {event.Unclassified, "yahoo", hostile.Text},
		{event.Unclassified, "yahoo", "550 the moon is in the wrong house " + strings.Repeat("very ", 3000)},
	} {
		d.Templates = append(d.Templates, window.TemplateCount{
			Hash: uint64(i + 1), Category: x.category, Provider: x.provider, Rule: "gmail_spf", Text: x.text, Attempts: int64(10 * (i + 1)),
			First: now.Unix() - 5*day, Last: now.Unix() - 60,
		})
	}
	s.commit(t, d)
	body := func(state string) []byte {
		b, err := json.Marshal(map[string]any{
			"id": "00c0ffee00c0ffee", "rule": "authentication", "kind": "ratio", "state": state, "severity": "critical", "category": "spf_failed",
			"labels": map[string]string{"sender_domain": "shop.example", "provider": "gmail"}, "since": now.Add(-30 * time.Minute), "fired": now.Add(-25 * time.Minute),
			"failures": 240, "attempts": 828, "ratio": 0.29, "usual": 0.0008, "null": 0.002, "excess": 239.3, "score": 41.5, "threshold": 12.1, "dispersion": 1.3,
			"title": "SPF failures of shop.example at gmail " + hostile.Text, "summary": hostile.Text, "advice": hostile.Text, "unchanged": []string{hostile.Text},
			"templates":   []map[string]any{{"text": hostile.Text, "attempts": 7}},
			"explanation": []map[string]any{{"dimension": "host", "element": hostile.Text, "excess": 200, "share": 0.9, "expected": 0.3}, {"dimension": "category", "element": "spf_failed", "excess": 200, "share": 1}},
			"samples":     []string{hostile.Text}, "top": []string{hostile.Text}, "ending": hostile.Text,
		})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	at := now.Unix() - 1500
	if err := s.ledger.CommitDetector(context.Background(), &ledger.DetectorCommit{
		Position: now.Unix() / 60 * 60, Now: now, Alerts: []ledger.Alert{
			{ID: "00c0ffee00c0ffee", State: "firing", Open: true, Rule: "authentication", Time: at, Body: body("firing")},
			{ID: "0000000000000bad", State: "firing", Open: true, Rule: hostile.Text, Time: at, Body: []byte("not JSON")},
			{ID: "0000000000000001", State: "firing", Open: true, Rule: "rate_limits", Time: at - 7200, Body: body("firing")},
			{ID: "0000000000000001", State: "resolved", Rule: "rate_limits", Time: at - 3600, Body: body("resolved")},
		},
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) do(method, target string, body io.Reader, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, body)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func (s *site) get(t testing.TB, target string) string {
	t.Helper()
	w := s.do("GET", target, nil)
	if w.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", target, w.Code, text(w.Body.String()))
	}
	return w.Body.String()
}

// text returns what a page shows, without its tags.
func text(page string) string {
	var b strings.Builder
	in := false
	for _, r := range page {
		switch {
		case r == '<':
			in = true
			b.WriteByte(' ')
		case r == '>':
			in = false
		case !in:
			b.WriteRune(r)
		}
	}
	return strings.Join(strings.Fields(html.UnescapeString(b.String())), " ")
}

// whole checks that a page is well-formed, that nothing in it can act by itself,
// and returns its links.
func whole(t testing.TB, name, page string) (links []string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, []string{"meta", "link", "input"}, xml.HTMLEntity
	ids := make(map[string]bool)
	for depth := 0; ; {
		token, err := d.Token()
		if token == nil {
			if depth != 0 || err != io.EOF {
				t.Fatalf("%s: at depth %d: %v", name, depth, err)
			}
			break
		}
		switch e := token.(type) {
		case xml.StartElement:
			depth++
			if tag := e.Name.Local; slices.Contains([]string{"iframe", "object", "embed", "base", "img", "b>x"}, tag) {
				t.Errorf("%s: there is an element %s", name, tag)
			}
			for _, a := range e.Attr {
				switch a := strings.ToLower(a.Name.Local); {
				case strings.HasPrefix(a, "on"), a == "style", a == "srcdoc":
					t.Errorf("%s: %s has an attribute %s", name, e.Name.Local, a)
				}
				switch {
				case a.Name.Local == "id":
					if ids[a.Value] {
						t.Errorf("%s: two elements have the id %s", name, a.Value)
					}
					ids[a.Value] = true
				case a.Name.Local == "href" || a.Name.Local == "src" || a.Name.Local == "action":
					if !strings.HasPrefix(a.Value, "/") && !strings.HasPrefix(a.Value, "#") || strings.HasPrefix(a.Value, "//") {
						t.Errorf("%s: a link leads to %q", name, a.Value)
					}
					if e.Name.Local == "a" || e.Name.Local == "link" {
						links = append(links, a.Value)
					}
				}
			}
		case xml.EndElement:
			depth--
		}
	}
	for _, r := range page {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("%s: there is a character %U", name, r)
			break
		}
	}
	if lower := strings.ToLower(page); strings.Count(lower, "<script") != 1 || strings.Contains(lower, "<style") {
		t.Errorf("%s: there is a script or a style in it", name)
	}
	return links
}

// TestEveryLink goes to every page that pages lead to, over hostile data, and
// checks each of them.
func TestEveryLink(t *testing.T) {
	s := fill(t)
	seen := map[string]bool{"/metrics": true, "/report": true, "/api/v1/openapi.json": true}
	queue := []string{"/", "/?last=1h", "/?last=7d&provider=yahoo", "/unclassified"}
	visited := 0
	for len(queue) > 0 && visited < 600 {
		at := queue[0]
		queue = queue[1:]
		at, _, _ = strings.Cut(at, "#")
		if at == "" || seen[at] {
			continue
		}
		seen[at] = true
		visited++
		page := s.get(t, at)
		if !strings.HasPrefix(at, "/static/") {
			queue = append(queue, whole(t, at, page)...)
		}
	}
	for _, want := range []string{"/reason/spf_failed", "/provider/gmail", "/domain/shop.example", "/alerts/00c0ffee00c0ffee", "/domain/%3C%3E", "/sources", "/unclassified"} {
		if !seen[want] {
			t.Errorf("no link leads to %s", want)
		}
	}
	if !seen["/domain/"+url.PathEscape(hostile.Name)] {
		t.Error("no link leads to the sender domain of the hostile name")
	}
}

// TestPagesTell checks what an operator looks for.
func TestPagesTell(t *testing.T) {
	s := fill(t)
	for target, wants := range map[string][]string{
		"/": {
			"Open alerts", "SPF failures of shop.example at gmail", "failure ratio", "Attempts each 5 minutes", "usual: the 7 days before",
			// 6 in the hours before, and 40 in each of 6 slots since.
			"spf_failed 246", "▲", "last half-hour", "shop.example at gmail", "Providers usual", "Sender domains",
		},
		"/reason/spf_failed": {
			"sender's DNS", "dig +short TXT", "246", "By provider each 5 minutes", "550 5.7.27", "SPF didn't pass", "rule gmail_spf", "shop.example",
		},
		"/provider/gmail":           {"gmail provider", "spf_failed", "Sender domains", "SPF didn't pass"},
		"/domain/shop.example":      {"Authentication", "dkim_failed", "Failure ratio by provider", "gmail", "expired"},
		"/domain/%3C%3E":            {"<> sender domain"},
		"/providers":                {"gmail", "yahoo", "rate_limited"},
		"/alerts":                   {"SPF failures of shop.example", "cannot be read", "resolved"},
		"/alerts/00c0ffee00c0ffee":  {"240 of 828 messages", "0.08%", "41.5 over 12.1", "239.3", "Timeline", "firing", "90%"},
		"/alerts/0000000000000bad":  {"The details of this alert cannot be read"},
		"/unclassified":             {"moon is in the wrong house", "Draft of a rule", "Try it"},
		"/sources":                  {"/var/log/mail.log", "1,234", "100,000", "no time"},
		"/?provider=yahoo&last=24h": {"yahoo", "rate_limited"},
		"/static/page.js":           {"EventSource"},
	} {
		got := s.get(t, target)
		if strings.HasPrefix(target, "/static/") {
			continue
		}
		for _, want := range wants {
			if !strings.Contains(text(got), want) {
				t.Errorf("%s does not have %q: %s", target, want, text(got))
			}
		}
	}
	if got := text(s.get(t, "/reason/spf_failed")); !strings.Contains(got, hostile.Payloads[0].Text) {
		t.Error("the reply is not shown as it was")
	}
	// The complaints are no failures.
	if got := text(s.get(t, "/provider/yahoo")); strings.Contains(got, "spf_failed") && !strings.Contains(got, "rule") {
		t.Error("complaints are counted as failures")
	}
}

// TestLinksKeepState checks that a range and filters stay while one goes from
// page to page.
func TestLinksKeepState(t *testing.T) {
	s := fill(t)
	page := s.get(t, "/?last=24h&provider=gmail")
	for _, want := range []string{
		`href="/reason/spf_failed?last=24h&amp;provider=gmail"`, `href="/domain/shop.example?last=24h&amp;provider=gmail"`,
		`href="/alerts?last=24h&amp;provider=gmail"`, `href="/?last=7d&amp;provider=gmail"`, `href="/?provider=gmail"`, `href="/?last=24h"`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("there is no link %s", want)
		}
	}
	if strings.Contains(page, "yahoo</a>") {
		t.Error("the filter does not hold")
	}
	custom := s.get(t, "/?from=2026-03-19T10:00&to=2026-03-19T12:00")
	if !strings.Contains(custom, "from=2026-03-19T10%3A00%3A00Z&amp;to=2026-03-19T12%3A00%3A00Z") || strings.Contains(custom, "data-live") {
		t.Error("a time of one's own is not kept, or goes on")
	}
}

func TestErrorsHelp(t *testing.T) {
	s := fill(t)
	for target, want := range map[string]struct {
		code int
		text string
	}{
		"/?last=soon":                            {400, "write it as 90m, 24h or 7d"},
		"/?last=9999999999999h":                  {400, "write it as"},
		"/?from=x":                               {400, "2026-01-31T12:00:00Z"},
		"/?from=2026-03-20&to=2026-03-19":        {400, "no time range"},
		"/?from=2027-03-20":                      {400, "no time range in the past"},
		"/?provider=" + strings.Repeat("x", 300): {400, "is no name"},
		"/reason/nonsense":                       {404, "there is no such reason"},
		"/alerts/ffff":                           {404, "no alert ffff"},
		"/nothing":                               {404, "no such page"},
		"/provider/nobody":                       {200, "Take a longer time"},
	} {
		w := s.do("GET", target, nil)
		if w.Code != want.code || !strings.Contains(strings.ToLower(text(w.Body.String())), strings.ToLower(want.text)) {
			t.Errorf("%s: %d %s", target, w.Code, text(w.Body.String()))
		}
		whole(t, target, w.Body.String())
	}
}

// TestEmpty checks that a daemon that has seen nothing says what to do.
func TestEmpty(t *testing.T) {
	s := open(t)
	if got := text(s.get(t, "/")); !strings.Contains(got, "No source has been read yet") {
		t.Errorf("without a source: %s", got)
	}
	s.commit(t, &window.Delta{Lines: window.Lines{Read: 9, Malformed: 9}})
	s.clock = s.clock.Add(keptFor)
	if got := text(s.get(t, "/")); !strings.Contains(got, "the source's dialect may be the wrong one") {
		t.Errorf("with unreadable lines: %s", got)
	}
	for _, target := range []string{"/providers", "/domains", "/alerts", "/unclassified", "/sources", "/try", "/reason/spf_failed", "/provider/gmail", "/domain/shop.example", "/?last=1h", "/?last=30d", "/report"} {
		page := s.get(t, target)
		if target != "/report" {
			whole(t, target, page)
		}
	}
}

func TestTry(t *testing.T) {
	s := fill(t)
	form := func(text, mx string) *httptest.ResponseRecorder {
		return s.do("POST", "/try", strings.NewReader(url.Values{"text": {text}, "mx": {mx}}.Encode()), "Content-Type", "application/x-www-form-urlencoded")
	}
	w := form("550-5.7.26 This mail has been blocked because the sender is unauthenticated.\r\nSPF did not pass", "gmail-smtp-in.l.google.com")
	got := text(w.Body.String())
	for _, want := range []string{"gmail", "known by the relay", "550 5.7.26", "the one that decided first", ".yaml:"} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q in %s", want, got)
		}
	}
	whole(t, "try", w.Body.String())
	w = form(hostile.Text, hostile.Name)
	if page := w.Body.String(); w.Code != 200 || !strings.Contains(text(page), hostile.Payloads[0].Text) {
		t.Errorf("%d %s", w.Code, text(page))
	}
	whole(t, "try", w.Body.String())
	if w := form(strings.Repeat("x", maxReply+1), ""); w.Code != 400 || !strings.Contains(text(w.Body.String()), "up to 16 KB") {
		t.Errorf("too long: %d %s", w.Code, text(w.Body.String()))
	}
	if w := form(strings.Repeat("x", 10*maxReply), ""); w.Code != 400 {
		t.Errorf("much too long: %d", w.Code)
	}
}

// TestTryRule tries a rule that is not in force yet.
func TestTryRule(t *testing.T) {
	s := fill(t)
	try := func(draft string) string {
		t.Helper()
		form := url.Values{"text": {"550 the moon is in the wrong house"}, "draft": {draft}}
		w := s.do("POST", "/try", strings.NewReader(form.Encode()), "Content-Type", "application/x-www-form-urlencoded")
		if w.Code != 200 {
			t.Fatalf("%d %s", w.Code, text(w.Body.String()))
		}
		whole(t, "try", w.Body.String())
		return text(w.Body.String())
	}
	const rule = "- id: moon\r\n  category: system_error\r\n  any:\r\n    - 'moon is in the wrong house'\r\n  examples:\r\n    - '550 the moon is in the wrong house'\r\n"
	if got := try(rule); !strings.Contains(got, "With this rule 50 of 50 replies that were unclassified so far get a reason: system_error.") || !strings.Contains(got, "draft:2") {
		t.Errorf("a rule: %s", got)
	}
	if got := try(strings.Replace(rule, "system_error", "lunacy", 1)); !strings.Contains(got, "The rule cannot be used") || !strings.Contains(got, "draft:3") || strings.Contains(got, "How it is known") {
		t.Errorf("a wrong rule: %s", got)
	}
	if got := try(hostile.Text); !strings.Contains(got, "The rule cannot be used") {
		t.Errorf("no rule: %s", got)
	}
	if got := try(""); !strings.Contains(got, "No rule matches") {
		t.Errorf("without a rule: %s", got)
	}
	if strings.Contains(s.get(t, "/unclassified"), "moon</a>") || !strings.Contains(s.get(t, "/unclassified"), "Try it") {
		t.Error("the page of unclassified replies")
	}
}

func TestHeaders(t *testing.T) {
	s := fill(t)
	w := s.do("GET", "/", nil)
	csp := w.Header().Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "form-action 'self'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("the policy lacks %s: %s", want, csp)
		}
	}
	if strings.Contains(csp, "unsafe") || w.Header().Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers %v", w.Header())
	}
	tag := w.Header().Get("ETag")
	if again := s.do("GET", "/", nil, "If-None-Match", `"other", W/`+tag); again.Code != http.StatusNotModified || again.Body.Len() != 0 {
		t.Errorf("with the tag: %d", again.Code)
	}
	packed := s.do("GET", "/", nil, "Accept-Encoding", "gzip")
	if packed.Header().Get("Content-Encoding") != "gzip" {
		t.Fatalf("not compressed: %v", packed.Header())
	}
	z, err := gzip.NewReader(packed.Body)
	if err != nil {
		t.Fatal(err)
	}
	if page, err := io.ReadAll(z); err != nil || string(page) != w.Body.String() {
		t.Errorf("compressed it is another page: %v", err)
	}
	if again := s.do("GET", "/", nil, "Accept-Encoding", "gzip", "If-None-Match", packed.Header().Get("ETag")); again.Code != http.StatusNotModified {
		t.Errorf("with the tag of the compressed page: %d", again.Code)
	}
	s.commit(t, &window.Delta{Counts: []window.Count{{Series: &window.Series{Outcome: event.Delivered, Route: &window.Route{Provider: "gmail"}}, Start: now.Unix() / 60 * 60, Attempts: 5, Firsts: 5}}})
	s.clock = s.clock.Add(sameFor)
	if again := s.do("GET", "/", nil, "If-None-Match", tag); again.Code != http.StatusOK {
		t.Errorf("after a change: %d", again.Code)
	}
	if css := s.do("GET", assetURL("page.css"), nil); !strings.Contains(css.Header().Get("Cache-Control"), "immutable") || !strings.HasPrefix(css.Header().Get("Content-Type"), "text/css") {
		t.Errorf("style sheet: %v", css.Header())
	}
	if report := s.do("GET", "/report?last=7d", nil); !strings.Contains(report.Header().Get("Content-Security-Policy"), "sha256-") || !strings.Contains(report.Body.String(), "Mail deliveries") {
		t.Errorf("report: %d %v", report.Code, report.Header())
	}
}

// TestBounded checks that a page does not grow with the number of names.
func TestBounded(t *testing.T) {
	s := open(t)
	d := &window.Delta{}
	for i := range 5000 {
		x := &window.Series{Outcome: event.Bounced, Category: event.UserUnknown, SenderDomain: strings.Repeat("x", 200) + fmt.Sprint(i), Route: &window.Route{Provider: fmt.Sprintf("p%d", i%300)}}
		d.Counts = append(d.Counts, window.Count{Series: x, Start: now.Unix()/60*60 - 600, Attempts: 1, Firsts: 1})
	}
	d.First, d.Last = now.Unix()-600, now.Unix()-600
	s.commit(t, d)
	for _, target := range []string{"/", "/providers", "/domains", "/reason/user_unknown", "/provider/p1"} {
		if n := len(s.get(t, target)); n > 400_000 {
			t.Errorf("%s has %d bytes", target, n)
		}
	}
}

// TestSamePage checks that who watches the same page shares the work, and sees
// changes after a moment.
func TestSamePage(t *testing.T) {
	s := fill(t)
	first := s.get(t, "/")
	s.commit(t, &window.Delta{Counts: []window.Count{{Series: &window.Series{Outcome: event.Delivered, Route: &window.Route{Provider: "gmail"}}, Start: now.Unix() / 60 * 60, Attempts: 5, Firsts: 5}}})
	if s.get(t, "/") != first {
		t.Error("within a second the page is made twice")
	}
	s.clock = s.clock.Add(sameFor)
	second := s.get(t, "/")
	if second == first {
		t.Error("a change is not seen")
	}
	s.clock = s.clock.Add(sameFor)
	if s.get(t, "/") != second {
		t.Error("without a change the page is another one")
	}
	for i := range 3 * maxMade {
		s.get(t, fmt.Sprintf("/?x=%d", i))
	}
	if n := len(s.made.made); n > maxMade {
		t.Errorf("%d pages are kept", n)
	}
}

// TestLive checks that a browser is told of a change, not too often, and that the
// stream ends with the server.
func TestLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{Server: New(Options{Ledger: nothing{}, Classifier: rules})}
		ctx, stop := context.WithCancel(context.Background())
		var done sync.WaitGroup
		done.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		w := &stream{header: make(http.Header)}
		done.Go(func() { s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/live", nil)) })
		synctest.Wait()
		if w.events() != 0 || w.header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("at the beginning: %d events, %v", w.events(), w.header)
		}
		change := &window.Delta{Counts: []window.Count{{Series: &window.Series{Route: &window.Route{}}, Start: 0, Attempts: 1}}}
		for range 20 { // ten seconds of commits
			s.Committed("mta", change)
			time.Sleep(500 * time.Millisecond)
		}
		synctest.Wait()
		if n := w.events(); n < 2 || n > 3 {
			t.Errorf("%d events in 10 s", n)
		}
		before := w.events()
		time.Sleep(time.Minute)
		if n := w.events(); n > before+1 {
			t.Errorf("%d events without a change", n-before)
		}
		stop()
		done.Wait()
	})
}

func TestTooManyWatchers(t *testing.T) {
	s := &site{Server: New(Options{Ledger: nothing{}, Classifier: rules})}
	for range maxWatchers {
		s.live.enter()
	}
	if w := s.do("GET", "/live", nil); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	s.live.leave()
	if !s.live.enter() {
		t.Error("a place that is free again is not given")
	}
}

// nothing is an empty ledger.
type nothing struct{}

func (nothing) Query(context.Context, ledger.Query) ([]ledger.Row, error) { return nil, nil }
func (nothing) Lanes(context.Context) ([]ledger.Lane, error)              { return nil, nil }
func (nothing) DomainCounts(context.Context, int64, int64, int) ([]ledger.DomainTotal, error) {
	return nil, nil
}
func (nothing) Templates(context.Context, ledger.TemplateFilter, int) ([]ledger.Template, error) {
	return nil, nil
}
func (nothing) Silences(context.Context) ([]ledger.Silence, error)                 { return nil, nil }
func (nothing) SetSilence(context.Context, *ledger.Silence) error                  { return nil }
func (nothing) Alerts(context.Context, ledger.AlertFilter) ([]ledger.Alert, error) { return nil, nil }

// stream is a response that is written to while it is read.
type stream struct {
	header http.Header
	mu     sync.Mutex
	b      strings.Builder
}

func (s *stream) Header() http.Header { return s.header }
func (s *stream) WriteHeader(int)     {}
func (s *stream) Flush()              {}
func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *stream) events() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.b.String(), "event: change")
}

// TestSlots checks that charts have every attempt in its slot, whatever time it is
// and however long ago.
func TestSlots(t *testing.T) {
	s := fill(t)
	for _, span := range []string{"1h", "90m", "6h", "12h", "13h", "24h", "7d", "8d", "9d", "30d"} {
		for ago := time.Duration(0); ago < 20*time.Minute; ago += 7*time.Minute + 11*time.Second {
			s.clock = now.Add(-ago)
			v, err := s.parseView(httptest.NewRequest(http.MethodGet, "/?last="+span, nil))
			if err != nil {
				t.Fatal(err)
			}
			if v.since%v.step != 0 || v.since%300 != 0 || v.until%300 != 0 || v.axis().Slots > 400 {
				t.Errorf("%s at %v: %+v", span, s.clock, v)
			}
			c := s.scope(t.Context(), v, nil)
			all, err := c.courses(ledger.ByProvider)
			if err != nil {
				t.Fatal(err)
			}
			totals, err := c.totals(v.since, v.until, []ledger.Dimension{ledger.ByProvider})
			if err != nil {
				t.Fatal(err)
			}
			for name, k := range all {
				var sum tally
				for _, slot := range k.slots {
					sum.merge(slot)
				}
				if sum != k.total || sum != totals[[2]string{name}] {
					t.Errorf("%s of %s: slots have %+v, all %+v, in total %+v", span, name, sum, k.total, totals[[2]string{name}])
				}
			}
			// The mail is even: but for the ends, slots differ by less than a third.
			values := all["gmail"].values(func(t tally) int64 { return t.delivered })
			if v.step >= 300 && span != "30d" && len(values) > 6 {
				for i, n := range values[2 : len(values)-2] {
					if m := values[2]; n*3 < m*2 || n*2 > m*3 {
						t.Errorf("%s at %v: slot %d has %d, another %d", span, s.clock, i+2, n, m)
					}
				}
			}
		}
	}
}

// TestOldTimes checks that what the ledger has summed up is asked for as it is.
func TestOldTimes(t *testing.T) {
	s := fill(t)
	for target, step := range map[string]int64{
		"/?from=2026-03-19T10:00&to=2026-03-19T12:00": 300,
		"/?from=2026-03-11T10:10&to=2026-03-11T12:10": 3600,
		"/?from=2025-12-01T10:10&to=2025-12-01T12:10": day,
	} {
		v, err := s.parseView(httptest.NewRequest(http.MethodGet, target, nil))
		if err != nil {
			t.Fatal(err)
		}
		if v.step != step || v.since%step != 0 || step > 300 && v.until%step != 0 || v.until <= v.since {
			t.Errorf("%s: %+v", target, v)
		}
	}
}

// TestSilence silences an alert on its page and ends it again.
func TestSilence(t *testing.T) {
	s := fill(t)
	post := func(target string, form url.Values) *httptest.ResponseRecorder {
		return s.do("POST", target, strings.NewReader(form.Encode()), "Content-Type", "application/x-www-form-urlencoded")
	}
	const page = "/alerts/00c0ffee00c0ffee"
	if got := text(s.get(t, page)); !strings.Contains(got, "why and who") || strings.Contains(got, "End it") {
		t.Errorf("before: %s", got)
	}
	for want, form := range map[string]url.Values{
		"say why and who":   {"for": {"4h"}},
		"no length of time": {"for": {"soon"}, "comment": {"moving"}},
		"up to 90 days":     {"for": {"200d"}, "comment": {"moving"}},
		"up to 500 letters": {"for": {"4h"}, "comment": {strings.Repeat("x", 501)}},
	} {
		if w := post(page+"/silence", form); w.Code != 400 || !strings.Contains(strings.ToLower(text(w.Body.String())), want) {
			t.Errorf("%v: %d %s", form, w.Code, text(w.Body.String()))
		}
	}
	if w := post("/alerts/none/silence", url.Values{"for": {"4h"}, "comment": {"moving"}}); w.Code != 404 {
		t.Errorf("no such alert: %d", w.Code)
	}
	if w := post(page+"/silence", url.Values{"for": {"4h"}, "comment": {hostile.Payloads[0].Text}}); w.Code != 303 || w.Header().Get("Location") != page {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	all, err := s.ledger.Silences(t.Context())
	if err != nil || len(all) != 1 || !all[0].Until.Equal(s.clock.Add(4*time.Hour)) || all[0].Labels["rule"] != "authentication" || all[0].Labels["sender_domain"] != "shop.example" {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, target := range []string{page, "/alerts"} {
		got := s.get(t, target)
		whole(t, target, got)
		if !strings.Contains(text(got), "until 2026-03-20 17:22 · "+hostile.Payloads[0].Text) {
			t.Errorf("%s: %s", target, text(got))
		}
	}
	if got := text(s.get(t, "/alerts")); strings.Count(got, "· silenced") != 1 {
		t.Errorf("which are silenced: %s", got)
	}
	if w := post("/silences/"+all[0].ID+"/end", nil); w.Code != 303 {
		t.Errorf("end: %d", w.Code)
	}
	if got := text(s.get(t, "/alerts")); strings.Contains(got, "silenced") || strings.Contains(got, "End it") {
		t.Errorf("after the end: %s", got)
	}
	// Its end is known by the clock, too.
	post(page+"/silence", url.Values{"for": {"1h"}, "comment": {"moving"}})
	s.clock = s.clock.Add(time.Hour)
	if got := text(s.get(t, "/alerts")); strings.Contains(got, "End it") {
		t.Errorf("after its time: %s", got)
	}
}

// However many alerts there are, the latest are told.
func TestLatestOfManyAlerts(t *testing.T) {
	s := open(t)
	const n = 10_100 // more than the ledger returns at a time
	var all []ledger.Alert
	for i := range n {
		all = append(all, ledger.Alert{ID: fmt.Sprint("alert", i), State: "resolved", Rule: "r", Time: now.Unix() - 60, Body: []byte("{}")})
	}
	if err := s.ledger.CommitDetector(t.Context(), &ledger.DetectorCommit{Position: now.Unix(), Now: now, Alerts: all}); err != nil {
		t.Fatal(err)
	}
	last := fmt.Sprint("alert", n-1)
	if body := s.get(t, "/api/v1/alerts?limit=1"); !strings.Contains(body, last) {
		t.Errorf("no %s in %s", last, body)
	}
	if page := s.get(t, "/alerts"); !strings.Contains(page, last) {
		t.Errorf("no %s in the page", last)
	}
}

// Every name's page has an address that leads to it, whatever a browser or a
// server makes of its path.
func TestAddressOfEveryName(t *testing.T) {
	var got string
	mux := http.NewServeMux()
	page := named1(func(_ context.Context, _ *view, name string) (any, string, error) {
		got = name
		return nil, "", nil
	})
	mux.HandleFunc("GET /domain/{name}", func(_ http.ResponseWriter, r *http.Request) {
		if _, _, err := page(r.Context(), nil, r); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"", ".", "..", "...", "<", "<.>", "<shop.example>", "shop.example", "a/b", "a?b#c%2e", "%2e", "(other)", hostile.Name} {
		got = "none"
		v := &view{last: usualSpan}
		link, err := url.Parse("http://meter.example/domains")
		if err != nil {
			t.Fatal(err)
		}
		if link, err = link.Parse(v.to(ledger.BySenderDomain, name)); err != nil { // as a browser resolves it
			t.Fatal(err)
		}
		mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, link.String(), nil))
		if got != name {
			t.Errorf("%s leads to %q, want %q", link, got, name)
		}
	}
}
