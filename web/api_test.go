package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/hostile"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// schema is the part of JSON Schema that the description uses.
type schema struct {
	Ref        string            `json:"$ref"`
	Type       any               `json:"type"`
	Format     string            `json:"format"`
	Properties map[string]schema `json:"properties"`
	Required   []string          `json:"required"`
	Additional any               `json:"additionalProperties"`
	Items      *schema           `json:"items"`
}

type operation struct {
	Parameters []struct{ Name, In string }
	Responses  map[string]struct {
		Content map[string]struct{ Schema schema }
	}
}

var api struct {
	Paths      map[string]map[string]operation
	Components struct{ Schemas map[string]schema }
}

func readDescription(t *testing.T) {
	t.Helper()
	if err := json.Unmarshal(description, &api); err != nil {
		t.Fatal(err)
	}
}

// fits returns what of a value is not as its schema says.
func (x schema) fits(at string, v any) (faults []string) {
	if name, ok := strings.CutPrefix(x.Ref, "#/components/schemas/"); ok {
		if x, ok = api.Components.Schemas[name]; !ok {
			return []string{at + ": there is no schema " + name}
		}
	}
	kind := map[bool]string{true: "null"}[v == nil]
	switch n := v.(type) {
	case string:
		kind = "string"
		if _, err := time.Parse(time.RFC3339, n); x.Format == "date-time" && err != nil {
			faults = append(faults, fmt.Sprintf("%s: %q is no time", at, n))
		}
	case bool:
		kind = "boolean"
	case float64:
		kind = "number"
		if n == float64(int64(n)) {
			kind = "integer"
		}
	case []any:
		kind = "array"
		for i, e := range n {
			if x.Items != nil {
				faults = append(faults, x.Items.fits(fmt.Sprintf("%s[%d]", at, i), e)...)
			}
		}
	case map[string]any:
		kind = "object"
		for _, name := range x.Required {
			if _, ok := n[name]; !ok {
				faults = append(faults, fmt.Sprintf("%s has no %s", at, name))
			}
		}
		for name, e := range n {
			switch p, ok := x.Properties[name]; {
			case ok:
				faults = append(faults, p.fits(at+"."+name, e)...)
			case x.Additional == false:
				faults = append(faults, fmt.Sprintf("%s.%s is not described", at, name))
			}
		}
	}
	kinds := fmt.Sprint(x.Type)
	if !strings.Contains(kinds, kind) && !(kind == "integer" && kinds == "number") {
		faults = append(faults, fmt.Sprintf("%s is %s, not %s", at, kind, kinds))
	}
	return faults
}

// TestDescribed checks that the description has every address and parameter, and
// none that there is not.
func TestDescribed(t *testing.T) {
	readDescription(t)
	described := make(map[string][]string)
	for path, methods := range api.Paths {
		for method, o := range methods {
			names := []string{}
			for _, p := range o.Parameters {
				if p.In == "query" {
					names = append(names, p.Name)
				}
			}
			slices.Sort(names)
			described[strings.ToUpper(method)+" "+path] = slices.Compact(names)
		}
	}
	real := make(map[string][]string)
	for _, r := range open(t).apiRoutes() {
		if r.pattern == "/api/" {
			continue
		}
		names := slices.Sorted(slices.Values(append([]string{}, r.parameters...)))
		real[r.pattern] = append([]string{}, names...)
	}
	if diff := cmp.Diff(real, described); diff != "" {
		t.Error(diff)
	}
	// People read of them elsewhere.
	for pattern := range real {
		_, address, _ := strings.Cut(pattern, " ")
		address, _, _ = strings.Cut(address, "{")
		told(t, "../docs/api.md", address)
	}
	for _, n := range navigation {
		told(t, "../docs/page.md", "`"+n.Link)
	}
}

// told fails if a document does not have a text.
func told(t *testing.T, document, text string) {
	t.Helper()
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), text) {
		t.Errorf("%s does not tell of %s", document, text)
	}
}

// TestAnswers checks answers over hostile data against the description.
func TestAnswers(t *testing.T) {
	readDescription(t)
	s := fill(t)
	answers := map[string]bool{}
	for _, x := range []struct{ method, path, target, body string }{
		{"get", "/api/v1/counts", "/api/v1/counts?by=outcome,category,provider,sender_domain&last=7d", ""},
		{"get", "/api/v1/counts", "/api/v1/counts?by=source&by=lane&step=1h", ""},
		{"get", "/api/v1/alerts", "/api/v1/alerts?open=true", ""},
		{"get", "/api/v1/alerts", "/api/v1/alerts?last=7d", ""},
		{"get", "/api/v1/alerts/{id}", "/api/v1/alerts/0000000000000bad", ""},
		{"get", "/api/v1/templates", "/api/v1/templates", ""},
		{"get", "/api/v1/unclassified", "/api/v1/unclassified", ""},
		{"get", "/api/v1/categories", "/api/v1/categories", ""},
		{"get", "/api/v1/sources", "/api/v1/sources", ""},
		{"get", "/api/v1/report", "/api/v1/report?last=7d", ""},
		{"get", "/api/v1/openapi.json", "/api/v1/openapi.json", ""},
		{"post", "/api/v1/classify", "/api/v1/classify", `{"replies":[{"text":"550 5.1.1 user unknown"},{"text":"550 blocked using zen.spamhaus.org; try again in 5 minutes","mx":"mx.example"}]}`},
		{"post", "/api/v1/explain", "/api/v1/explain", `{"text":"550-5.7.26 This mail has been blocked because the sender is unauthenticated.","mx":"gmail-smtp-in.l.google.com"}`},
		{"post", "/api/v1/explain", "/api/v1/explain", `{"text":"the moon is in the wrong house"}`},
	} {
		answers[x.method+x.path] = true
		w := s.do(strings.ToUpper(x.method), x.target, strings.NewReader(x.body), "Content-Type", "application/json")
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", x.target, w.Code, w.Body.String())
			continue
		}
		for _, r := range w.Body.String() {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("%s: there is a character %U", x.target, r)
				break
			}
		}
		var v any
		if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
			t.Errorf("%s: %v", x.target, err)
			continue
		}
		for _, fault := range api.Paths[x.path][x.method].Responses["200"].Content["application/json"].Schema.fits("answer", v) {
			t.Errorf("%s: %s", x.target, fault)
		}
	}
	for path, methods := range api.Paths {
		for method := range methods {
			if !answers[method+path] {
				t.Errorf("%s %s is not tested", method, path)
			}
		}
	}
}

func counts(t *testing.T, s *site, target string) Counts {
	t.Helper()
	var c Counts
	if err := json.Unmarshal([]byte(s.get(t, target)), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCounts(t *testing.T) {
	s := fill(t)
	sum := func(c Counts) (n int64) {
		for _, r := range c.Rows {
			n += r.Attempts
		}
		return n
	}
	// One an hour, and 40 in each of the five slots since 12:52 that are in it.
	c := counts(t, s, "/api/v1/counts?from=2026-03-20T12:22:00Z&to=2026-03-20T13:22:00Z&by=category&category=spf_failed&outcome=bounced")
	if !c.Complete || len(c.Rows) != 1 || c.Rows[0].Keys["category"] != "spf_failed" || c.Rows[0].Attempts != 201 {
		t.Errorf("SPF failures of the last hour: %+v", c)
	}
	// From memory and from the ledger it is the same.
	exact := counts(t, s, "/api/v1/counts?from=2026-03-19T13:00:00Z&to=2026-03-20T13:00:00Z&by=provider,outcome&step=5m&limit=10000&source=mta")
	cached := counts(t, s, "/api/v1/counts?from=2026-03-19T13:00:00Z&to=2026-03-20T13:00:00Z&by=provider,outcome&step=5m&limit=10000")
	if diff := cmp.Diff(exact, cached); diff != "" || len(exact.Rows) < 288 {
		t.Error(diff)
	}
	all := counts(t, s, "/api/v1/counts?last=7d&by=sender_domain,provider,outcome")
	some := counts(t, s, "/api/v1/counts?last=7d&by=sender_domain,provider,outcome&limit=2")
	if some.Complete || len(some.Rows) != 2 || cmp.Diff(all.Rows[:2], some.Rows) != "" || sum(counts(t, s, "/api/v1/counts?last=7d")) != sum(all) {
		t.Errorf("with a limit: %+v", some)
	}
	null := counts(t, s, "/api/v1/counts?last=24h&by=sender_domain&sender_domain=%3C%3E")
	if len(null.Rows) != 1 || null.Rows[0].Keys["sender_domain"] != "" {
		t.Errorf("the null sender: %+v", null)
	}
}

func TestAPIRefuses(t *testing.T) {
	s := fill(t)
	for target, want := range map[string]string{
		"/api/v1/counts?by=colour":                         "is no dimension",
		"/api/v1/counts?providr=gmail":                     `no parameter "providr"`,
		"/api/v1/counts?step=30s":                          "whole minutes",
		"/api/v1/counts?step=1m&last=30d":                  "at most 2000",
		"/api/v1/counts?limit=100000000":                   "no number from 1 to 10000",
		"/api/v1/counts?limit=-1":                          "no number",
		"/api/v1/counts?to=2026-03-19":                     "to needs from",
		"/api/v1/counts?from=2020-01-01":                   "no time range",
		"/api/v1/counts?" + strings.Repeat("host=x&", 200): "more than 100 values",
		"/api/v1/alerts?open=perhaps":                      "true or false",
		"/api/v1/alerts/none":                              "no alert none",
		"/api/v1/nothing":                                  "openapi.json",
	} {
		w := s.do("GET", target, nil)
		var fault struct{ Error string }
		if err := json.Unmarshal(w.Body.Bytes(), &fault); err != nil || w.Code < 400 || w.Code >= 500 || !strings.Contains(fault.Error, want) {
			t.Errorf("%s: %d %s", target, w.Code, w.Body.String())
		}
	}
	for body, want := range map[string]string{
		"":                              "not what is expected",
		"{}":                            "1 to 1000",
		`{"replies":[{"txt":"x"}]}`:     "txt",
		`{"replies":[{"text":"x"}]} {}`: "more than one",
		`{"replies":[{"text":"` + strings.Repeat("x", maxReply+1) + `"}]}`: "replies[0]: a text has up to 16 KB",
	} {
		w := s.do("POST", "/api/v1/classify", strings.NewReader(body), "Content-Type", "application/json")
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%.40s: %d %s", body, w.Code, w.Body.String())
		}
	}
	// What a form can send is refused.
	if w := s.do("POST", "/api/v1/classify", strings.NewReader(`{"replies":[{"text":"x"}]}`), "Content-Type", "text/plain"); w.Code != http.StatusBadRequest {
		t.Errorf("plain text: %d", w.Code)
	}
	if w := s.do("DELETE", "/api/v1/counts", nil); w.Code < 400 || w.Code >= 500 {
		t.Errorf("DELETE: %d", w.Code)
	}
}

// TestCanceled checks that a client that has gone stops its query.
func TestCanceled(t *testing.T) {
	s := fill(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c := s.scope(ctx, &view{since: 300, until: 600, step: 60, now: now.Unix()}, nil)
	if _, err := c.courses(0); err == nil {
		t.Error("a query goes on")
	}
}

func TestCodeOf(t *testing.T) {
	for text, want := range map[string]string{
		"550 5.7.26 no": "550 5.7.26", "550-5.7.26 no": "550 5.7.26", "451 later": "451", "550": "550", "550 4.7.1 mixed": "550", "250 2.0.0 ok": "",
		"": "", "5501 x": "", "421-4.7.0 [IP] x": "421 4.7.0", "550 5.7 x.......": "550",
	} {
		if got := codeOf(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestTimes(t *testing.T) {
	u := usual{failures: 10, attempts: 1000}
	for _, x := range []struct {
		n, of int64
		text  string
		up    bool
	}{{1, 100, "1.0×", false}, {0, 100, "", false}, {3, 100, "3.0×", false}, {20, 100, "20×", true}, {200, 1000, "20×", true}, {26, 1000, "2.6×", true}, {15, 1000, "1.5×", false}} {
		if text, up := u.times(x.n, x.of); text != x.text || up != x.up {
			t.Errorf("%d of %d: %q %t, want %q %t", x.n, x.of, text, up, x.text, x.up)
		}
	}
	if text, up := (usual{failures: 1, attempts: 20}).times(10, 10); text != "" || up {
		t.Error("too little is known to compare with")
	}
	// What never happened has a ratio, too.
	if text, up := (usual{attempts: 1000}).times(50, 1000); text != ">99×" || !up {
		t.Errorf("something new: %q %t", text, up)
	}
}

// FuzzShort checks that no text gets through that could do anything but be read.
func FuzzShort(f *testing.F) {
	f.Add(hostile.Text, 20)
	f.Add("é\xff", 1)
	f.Fuzz(func(t *testing.T, s string, most int) {
		most = min(max(most, 1), 1000)
		got := short(s, most)
		n := 0
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Errorf("%q has %U", got, r)
			}
			n++
		}
		if n > most+1 {
			t.Errorf("%d characters, at most %d", n, most)
		}
	})
}

// BenchmarkPages measures the pages over many series. Its ledger is small in
// time; docs/performance.md has figures of a large one.
func BenchmarkPages(b *testing.B) {
	s := open(b)
	categories := event.Categories()
	var all []*window.Series
	for i := range 2000 {
		all = append(all, &window.Series{
			Outcome: event.Outcomes[i%4], Category: categories[i%len(categories)], SenderDomain: fmt.Sprintf("d%d.example", i/40),
			Route: &window.Route{Provider: fmt.Sprintf("p%d", i%30)},
		})
	}
	d := &window.Delta{}
	for at := now.Unix()/300*300 - day; at < now.Unix(); at += 300 {
		for i := range all {
			d.Counts = append(d.Counts, window.Count{Series: all[(i*7+int(at))%len(all)], Start: at, Attempts: 3, Firsts: 1})
		}
	}
	s.commit(b, d)
	for _, target := range []string{"/", "/?last=24h", "/reason/spf_failed?last=24h", "/provider/p1", "/domain/d1.example?last=24h"} {
		b.Run(target, func(b *testing.B) {
			s.get(b, target)
			b.ReportAllocs()
			for b.Loop() {
				s.clock = s.clock.Add(keptFor) // so that it is made anew
				s.get(b, target)
			}
		})
	}
}
