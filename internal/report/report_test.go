package report_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"html"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jedib0t/go-pretty/v6/text"
	"pgregory.net/rapid"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/hostile"
	"github.com/bouncemeter/bouncemeter/internal/report"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/sqlite"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

func draw(t *rapid.T) []attempt {
	texts := []string{"550 no such user", "451 try later", hostile.Text, ""}
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) attempt {
		a := attempt{
			at:        epoch + rapid.Int64Range(0, 40*86400).Draw(t, "at"),
			outcome:   rapid.SampledFrom([]event.Outcome{event.Delivered, event.Deferred, event.Bounced, event.Expired}).Draw(t, "outcome"),
			provider:  rapid.SampledFrom([]string{"gmail", "other", "microsoft"}).Draw(t, "provider"),
			sender:    rapid.SampledFrom([]string{"", "shop.example", "news.example", window.Unknown}).Draw(t, "sender"),
			recipient: rapid.SampledFrom([]string{"a.example", "b.example", "c.test"}).Draw(t, "recipient"),
			n:         rapid.Int64Range(1, 1000).Draw(t, "n"),
		}
		switch a.outcome {
		case event.Expired:
			a.category, a.provider = event.QueueExpired, ""
			a.secondary = rapid.SampledFrom([]event.Category{event.Unset, event.MailboxFull}).Draw(t, "secondary")
		case event.Deferred, event.Bounced:
			a.category = rapid.SampledFrom([]event.Category{event.SPFFailed, event.UserUnknown, event.Greylisted}).Draw(t, "category")
			a.text = rapid.SampledFrom(texts).Draw(t, "text")
			a.firsts = rapid.Int64Range(0, a.n).Draw(t, "firsts")
		default:
			a.firsts = a.n
		}
		return a
	}), 0, 60).Draw(t, "attempts")
}

func toJSON(t rapid.TB, r *report.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := report.WriteJSON(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func toTable(t rapid.TB, r *report.Report, o report.TableOptions) string {
	t.Helper()
	var b bytes.Buffer
	if err := report.WriteTable(&b, r, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func toHTML(t rapid.TB, r *report.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := report.WriteHTML(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestOrder checks that rows in any order and in any pieces give one report.
func TestOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		attempts := draw(t)
		want := toJSON(t, build(attempts, usualLines))
		var pieces []attempt
		for _, a := range attempts {
			one := rapid.Int64Range(0, a.n).Draw(t, "piece")
			part, rest := a, a
			part.n, part.firsts = one, min(a.firsts, one)
			rest.n, rest.firsts = a.n-one, a.firsts-part.firsts
			if one > 0 {
				pieces = append(pieces, part)
			}
			if rest.n > 0 {
				pieces = append(pieces, rest)
			}
		}
		pieces = rapid.Permutation(pieces).Draw(t, "order")
		if diff := cmp.Diff(want, toJSON(t, build(pieces, usualLines))); diff != "" {
			t.Fatalf("in pieces (-want +got):\n%s", diff)
		}
	})
}

// TestSums checks what must hold between the parts of a report.
func TestSums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := build(draw(t), usualLines)
		o := r.Outcomes
		if r.Attempts != o.Delivered+o.Deferred+o.Bounced {
			t.Fatalf("attempts = %d, outcomes %+v", r.Attempts, o)
		}
		var failed, expired int64
		for _, c := range r.Categories {
			failed += c.Attempts
			expired += c.Expired
			if c.Attempts != c.Deferred+c.Bounced {
				t.Fatalf("category %+v", c)
			}
		}
		if failed != o.Failures() || expired != o.Expired {
			t.Fatalf("categories have %d failed, %d expired; outcomes %+v", failed, expired, o)
		}
		for _, names := range [][]report.Name{r.Providers, r.SenderDomains, r.RecipientDomains} {
			var sum int64
			for _, n := range names {
				sum += n.Attempts
			}
			if sum != r.Attempts {
				t.Fatalf("names have %d attempts of %d", sum, r.Attempts)
			}
		}
		var trend report.Outcomes
		for _, p := range r.Trend.Points {
			trend.Delivered += p.Delivered
			trend.Deferred += p.Deferred
			trend.Bounced += p.Bounced
			trend.Expired += p.Expired
		}
		if trend != o {
			t.Fatalf("trend %+v, outcomes %+v", trend, o)
		}
	})
}

func TestReportTwice(t *testing.T) {
	b := report.NewBuilder(0)
	for _, a := range days(2) {
		add(b, &a)
	}
	if diff := cmp.Diff(toJSON(t, b.Report()), toJSON(t, b.Report())); diff != "" {
		t.Errorf("the second report differs:\n%s", diff)
	}
}

// TestOtherOutcomes checks that what is no attempt to deliver is not counted as one.
func TestOtherOutcomes(t *testing.T) {
	r := build([]attempt{{at: epoch, outcome: event.Complaint, provider: "gmail", sender: "shop.example", n: 5}}, window.Lines{})
	if r.Attempts != 0 || len(r.SenderDomains) != 0 || len(r.Trend.Points) != 0 {
		t.Errorf("a complaint was counted: %+v", r)
	}
}

func TestStep(t *testing.T) {
	for d, want := range map[int64]int64{0: 3600, 14 * 86400: 3600, 14*86400 + 1: 86400} {
		r := build([]attempt{
			{at: epoch, outcome: event.Delivered, n: 1},
			{at: epoch + d, outcome: event.Delivered, n: 1},
		}, window.Lines{})
		if got := r.Trend.StepSeconds; got != want {
			t.Errorf("span %d s: step = %d, want %d", d, got, want)
		}
		for _, p := range r.Trend.Points {
			if p.Start.Unix()%want != 0 {
				t.Errorf("span %d s: slot starts at %v", d, p.Start)
			}
		}
	}
}

// TestDocumented checks that docs/report.md names every field of the JSON.
func TestDocumented(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "report.md"))
	if err != nil {
		t.Fatal(err)
	}
	var fields func(reflect.Type)
	seen := make(map[reflect.Type]bool)
	fields = func(of reflect.Type) {
		switch of.Kind() {
		case reflect.Slice, reflect.Pointer, reflect.Map:
			fields(of.Elem())
			return
		case reflect.Struct:
		default:
			return
		}
		if seen[of] || of == reflect.TypeFor[time.Time]() {
			return
		}
		seen[of] = true
		for i := range of.NumField() {
			f := of.Field(i)
			if !f.IsExported() {
				continue
			}
			if !f.Anonymous {
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				if name == "-" {
					continue
				}
				if name == "" {
					t.Errorf("%v.%s has no JSON name", of, f.Name)
				}
				if !bytes.Contains(doc, []byte("`"+name+"`")) {
					t.Errorf("%v.%s: docs/report.md does not tell of `%s`", of, f.Name, name)
				}
			}
			fields(f.Type)
		}
	}
	fields(reflect.TypeFor[report.Report]())
}

func hostileReport() *report.Report {
	return build([]attempt{
		{epoch, event.Bounced, event.SPFFailed, event.Unset, hostile.Text, hostile.Text, hostile.Text, hostile.Text, 7, 7},
		{epoch + 7200, event.Bounced, event.SPFFailed, event.Unset, "gmail", "", "长长的邮箱域名长长的邮箱域名长长的邮箱域名长长的邮箱域名.example", "", 70, 7},
		{epoch + 7200, event.Delivered, event.Unset, event.Unset, "gmail", "", "a.example", "", 700, 7},
	}, usualLines)
}

var sgr = regexp.MustCompile("\x1b\\[[0-9]*m")

// harmless fails if a text has anything that is not a visible character.
func harmless(t testing.TB, s string) {
	t.Helper()
	if what, found := hostile.Acting(s); found {
		t.Errorf("%s is shown", what)
	}
}

func TestHostileTable(t *testing.T) {
	r := hostileReport()
	for _, o := range []report.TableOptions{{Width: 80, Unicode: true}, {Width: 200, Unicode: true}, {Width: 100}} {
		got := toTable(t, r, o)
		harmless(t, got)
		if !strings.Contains(got, `\x1b[2J`) {
			t.Error("the escape sequence is not shown as text")
		}
		o.Color = true
		if painted := sgr.ReplaceAllString(toTable(t, r, o), ""); painted != got {
			t.Errorf("colours change more than colours:\n%s", cmp.Diff(got, painted))
		}
	}
	ascii := toTable(t, r, report.TableOptions{Width: 80})
	if i := strings.IndexFunc(ascii, func(r rune) bool { return r >= 0x80 }); i >= 0 {
		t.Errorf("without Unicode there is %q", ascii[i:i+10])
	}
}

func TestHostileHTML(t *testing.T) {
	got := toHTML(t, hostileReport())
	harmless(t, got)
	if strings.Contains(strings.ToLower(got), "<script") {
		t.Error("a script got through")
	}
	tags := strings.Join(regexp.MustCompile(`<[^>]*>`).FindAllString(got, -1), "")
	for _, bad := range []string{" style=", " onload", " onerror", " src=", "<base", "javascript:", "http-equiv=\"refresh", "@import", "url("} {
		if strings.Contains(tags, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	for _, p := range hostile.Payloads {
		if _, acting := hostile.Acting(p.Text); !acting && !strings.Contains(html.UnescapeString(got), p.Text) {
			t.Errorf("%s is not shown as it was", p.Name)
		}
	}
}

// TestHTMLIsWhole checks that every element is closed and every link leads
// somewhere on the page, and that the policy allows the page's own style.
func TestHTMLIsWhole(t *testing.T) {
	for name, r := range map[string]*report.Report{
		"usual": build(days(4), usualLines), "hostile": hostileReport(), "empty": build(nil, window.Lines{}),
		"fine": build([]attempt{{at: epoch, outcome: event.Delivered, provider: "gmail", n: 3}}, usualLines),
	} {
		t.Run(name, func(t *testing.T) {
			got := toHTML(t, r)
			d := xml.NewDecoder(strings.NewReader(got))
			d.Strict = false
			d.AutoClose = []string{"meta"}
			d.Entity = xml.HTMLEntity
			ids, links := map[string]bool{}, []string{}
			for depth := 0; ; {
				token, err := d.Token()
				if token == nil {
					if depth != 0 || err.Error() != "EOF" {
						t.Fatalf("at depth %d: %v", depth, err)
					}
					break
				}
				switch e := token.(type) {
				case xml.StartElement:
					depth++
					for _, a := range e.Attr {
						switch a.Name.Local {
						case "id":
							ids[a.Value] = true
						case "href":
							links = append(links, a.Value)
						}
					}
				case xml.EndElement:
					depth--
				}
			}
			for _, l := range links {
				if !strings.HasPrefix(l, "#") || !ids[l[1:]] {
					t.Errorf("link to %q", l)
				}
			}
			style := got[strings.Index(got, "<style>")+len("<style>") : strings.Index(got, "</style>")]
			sum := sha256.Sum256([]byte(style))
			if !strings.Contains(html.UnescapeString(got), "style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") {
				t.Error("the policy forbids the page's style")
			}
		})
	}
}

func TestHostileJSON(t *testing.T) {
	r := hostileReport()
	got := toJSON(t, r)
	harmless(t, got)
	if !strings.HasSuffix(got, "}\n") {
		t.Error("no newline at the end")
	}
	var back report.Report
	if err := json.Unmarshal([]byte(got), &back); err != nil {
		t.Fatal(err)
	}
	if want := string([]rune(hostile.Text)); back.Categories[0].Samples[0].Text != want {
		t.Errorf("text = %q, want %q", back.Categories[0].Samples[0].Text, want)
	}
}

// TestWidth checks that no line is wider than it may be, also with letters
// that take two columns.
func TestWidth(t *testing.T) {
	for _, r := range []*report.Report{build(days(4), usualLines), build(days(400), usualLines), hostileReport(), build(nil, window.Lines{})} {
		for _, width := range []int{20, 60, 80, 81, 99, 100, 118, 119, 120, 140, 200, 400} {
			for _, color := range []bool{false, true} {
				for _, unicode := range []bool{false, true} {
					o := report.TableOptions{Width: width, Color: color, Unicode: unicode}
					for line := range strings.Lines(toTable(t, r, o)) {
						line = sgr.ReplaceAllString(strings.TrimSuffix(line, "\n"), "")
						if w := text.StringWidthWithoutEscSequences(line); w > width {
							t.Fatalf("%+v: %d columns: %s", o, w, line)
						}
					}
				}
			}
		}
	}
}

// TestTableTells checks that the table has what it is read for. At 80 columns
// no number may be cut off.
func TestTableTells(t *testing.T) {
	r := build(days(4), usualLines)
	for _, width := range []int{80, 150} {
		got := strings.Join(strings.Fields(toTable(t, r, report.TableOptions{Width: width, Unicode: true})), " ")
		for _, want := range []string{
			"2026-01-12 04:00 to 2026-01-16 03:00 UTC", "1,234,567 lines", "12 malformed", "44 attempts of unknown sender",
			"delivered 153,440 96.2%", "spf_failed 1,731 28.8% 1,731 0 0", "expired 0 – 0 0 27",
			"gmail 71%, other 29%", "<> 29%", "shop.example 100%",
			"550-5.7.26 Your email has been blocked because the sender is unauthenticated.",
			"owner sender's DNS", "advice Look up the TXT record",
			"peak of 528 in the hour from 2026-01-13 15:00 UTC",
			"<> 536 536 100.0%", "grau.example 1,016 1,016 100.0%",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("%d columns: no %q", width, want)
			}
		}
	}
}

func TestNothing(t *testing.T) {
	until := time.Unix(epoch, 0).UTC()
	nowhere := build(nil, window.Lines{})
	nowhere.Until = &until
	for want, r := range map[string]*report.Report{
		"the input is empty":           build(nil, window.Lines{}),
		"No delivery attempts in 10":   build(nil, window.Lines{Read: 10}),
		"could not be understood":      build(nil, window.Lines{Read: 10, Malformed: 9}),
		"docs/dialects.md has the":     build(nil, window.Lines{Read: 10, Malformed: 9}),
		"without --from the format":    {Lines: 10, Dialect: "exim"},
		"every attempt was delivered":  build([]attempt{{at: epoch, outcome: event.Delivered, n: 3}}, window.Lines{Read: 10}),
		"until 2026-01-12 04:00":       nowhere,
		"No delivery attempts in this": nowhere,
	} {
		for _, got := range []string{toTable(t, r, report.TableOptions{Width: 400}), toHTML(t, r)} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in:\n%s", want, got)
			}
			if strings.Contains(got, "--from") != (r.Dialect != "") {
				t.Errorf("--from is for who gave it:\n%s", got)
			}
			if strings.Contains(got, "NaN") || strings.Contains(got, "Inf") {
				t.Errorf("a ratio of nothing in:\n%s", got)
			}
		}
	}
}

// fake is a ledger in memory: nothing but its rows.
type fake struct {
	attempts []attempt
	lines    window.Lines
}

func (f *fake) Lanes(context.Context) ([]ledger.Lane, error) {
	// Two lanes, one of which has not seen any event.
	l := ledger.Lane{ID: 1, Lines: f.lines}
	for _, a := range f.attempts {
		if l.First == 0 || a.at < l.First {
			l.First = a.at
		}
		l.Last = max(l.Last, a.at)
	}
	return []ledger.Lane{l, {ID: 2}}, nil
}

func (f *fake) Query(_ context.Context, q ledger.Query) ([]ledger.Row, error) {
	var rows []ledger.Row
	for _, a := range f.attempts {
		if a.at < q.Since || q.Until != 0 && a.at >= q.Until {
			continue
		}
		r := ledger.Row{Attempts: a.n, Firsts: a.firsts}
		if q.Step > 0 {
			r.Start = a.at - a.at%q.Step
		}
		for _, d := range q.By {
			r.Keys = append(r.Keys, map[ledger.Dimension]string{
				ledger.ByOutcome: a.outcome.String(), ledger.ByCategory: a.category.String(), ledger.BySecondary: a.secondary.String(),
				ledger.ByProvider: a.provider, ledger.BySenderDomain: a.sender,
			}[d])
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func (f *fake) DomainCounts(_ context.Context, since, until int64, _ int) ([]ledger.DomainTotal, error) {
	var rows []ledger.DomainTotal
	for _, a := range f.attempts {
		if a.outcome != event.Expired && a.at >= since && (until == 0 || a.at < until) {
			rows = append(rows, ledger.DomainTotal{Domain: a.recipient, Outcome: a.outcome.String(), Category: a.category.String(), Attempts: a.n})
		}
	}
	return rows, nil
}

func (f *fake) Templates(context.Context, ledger.TemplateFilter, int) ([]ledger.Template, error) {
	var rows []ledger.Template
	for _, a := range f.attempts {
		if a.text != "" {
			rows = append(rows, ledger.Template{
				Hash: hash(a.provider + a.text), Category: a.category.String(), Provider: a.provider,
				Rule: "rule." + a.category.String(), Text: a.text, Attempts: a.n, First: a.at, Last: a.at,
			})
		}
	}
	return rows, nil
}

func fromLedger(t rapid.TB, q report.Querier, since, until int64) *report.Report {
	t.Helper()
	r, err := report.FromLedger(context.Background(), q, since, until)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestFromLedger checks that a ledger tells what a log tells.
func TestFromLedger(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		attempts := draw(t)
		want := toJSON(t, build(attempts, usualLines))
		got := toJSON(t, fromLedger(t, &fake{attempts, usualLines}, 0, 0))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("log and ledger differ (-log +ledger):\n%s", diff)
		}
	})
}

// TestPeriod checks that a period has the counts within it and no others.
func TestPeriod(t *testing.T) {
	all := days(4)
	since, until := epoch+20*3600, epoch+40*3600
	within := slices.DeleteFunc(slices.Clone(all), func(a attempt) bool { return a.at < since || a.at >= until })
	want := build(within, window.Lines{})
	got := fromLedger(t, &fake{all, usualLines}, since, until)
	if got.Since.Unix() != since || got.Until.Unix() != until {
		t.Errorf("period %v to %v", got.Since, got.Until)
	}
	if got.Outcomes != want.Outcomes || got.Attempts != want.Attempts || got.Lines != 0 {
		t.Errorf("got %+v of %d lines, want %+v of 0", got.Outcomes, got.Lines, want.Outcomes)
	}
	if diff := cmp.Diff(want.Trend, got.Trend); diff != "" {
		t.Errorf("trend (-want +got):\n%s", diff)
	}
	if got.First.Unix() != since || got.Last.Unix() != until-1 {
		t.Errorf("first %v, last %v", got.First, got.Last)
	}
	nothing := fromLedger(t, &fake{all, usualLines}, epoch-7200, epoch-3600)
	if nothing.Attempts != 0 || nothing.First != nil {
		t.Errorf("before anything: %+v", nothing)
	}
}

// TestFromSQLite is TestFromLedger with the ledger that daemons use, filled in
// several commits by a counter.
func TestFromSQLite(t *testing.T) {
	for _, n := range []int{4, 20} {
		testFromSQLite(t, days(n))
	}
}

func testFromSQLite(t *testing.T, attempts []attempt) {
	l, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	lane, err := l.Lane(t.Context(), "mta", "mail.log")
	if err != nil {
		t.Fatal(err)
	}
	counter := func(span int64) *window.Counter {
		names := window.NewNames(1000)
		c := window.Config{
			Span: span, CoarseSpan: 3600, SenderDomains: names, RecipientDomains: window.NewNames(1000),
			Hosts: window.NewNames(10), Streams: window.NewNames(10),
			Sample: func(e *event.Event, dst []byte) []byte { return append(dst, e.Reply.Text...) },
		}
		if span == 0 {
			c.TrendSpan, c.CoarseSpan = 3600, 0
		}
		return window.NewCounter(c)
	}
	whole, steps := counter(0), counter(60)
	const pieces = 5
	for i := range pieces {
		for _, a := range attempts[len(attempts)*i/pieces : len(attempts)*(i+1)/pieces] {
			e := a.event()
			whole.Add(&e)
			steps.Add(&e)
		}
		for _, c := range []*window.Counter{whole, steps} {
			c.Lines().Read += 100
			c.Lines().Malformed++
		}
		to := event.Position{Segment: "a", Offset: int64(i + 1)}
		if err := l.Commit(t.Context(), &ledger.Commit{
			Lane: lane.ID, Expected: lane.Position, Position: to, Delta: steps.Delta(), Now: time.Unix(epoch, 0),
		}); err != nil {
			t.Fatal(err)
		}
		lane.Position = to
	}
	b := report.NewBuilder(0)
	b.AddDelta(whole.Delta())
	whole.Trend(b.AddTrend)
	want := toJSON(t, b.Report())
	if diff := cmp.Diff(want, toJSON(t, fromLedger(t, l, 0, 0))); diff != "" {
		t.Errorf("log and ledger differ (-log +ledger):\n%s", diff)
	}
	// What is old is summed up: counts stay, times become coarser.
	short := ledger.DefaultRetention
	short.Minutes, short.Hours, short.Days = time.Hour, 2*time.Hour, 48*time.Hour
	if _, err := l.Rollup(t.Context(), short, time.Unix(epoch+30*86400, 0)); err != nil {
		t.Fatal(err)
	}
	rolled := fromLedger(t, l, 0, 0)
	if rolled.Outcomes != b.Report().Outcomes {
		t.Errorf("after the roll-up %+v, before %+v", rolled.Outcomes, b.Report().Outcomes)
	}
	for _, p := range rolled.Trend.Points {
		if p.Start.Unix() < epoch-86400 {
			t.Errorf("the trend has counts without a time at %v", p.Start)
		}
	}
}

// event is the attempt as a parser and a classifier give it.
func (a *attempt) event() event.Event {
	e := event.Event{
		Kind: event.Attempt, Outcome: a.outcome, Attempts: uint32(a.n), Time: a.at * 1e6, Delay: -1,
		Host: []byte("mx1"), SenderKnown: true, SenderDomain: []byte(a.sender), Recipient: []byte("x@" + a.recipient),
		FirstOutcome: true, Provider: a.provider,
		Verdict: event.Verdict{Category: a.category, Secondary: a.secondary, Rule: "r"},
	}
	if a.outcome == event.Expired {
		e.Kind, e.Recipient = event.Expiry, nil
	}
	if a.text != "" {
		e.Reply.Text, e.Verdict.Template = []byte(a.text), hash(a.provider+a.text)
	}
	return e
}

func BenchmarkWrite(b *testing.B) {
	r := build(days(60), usualLines)
	for name, write := range map[string]func(*bytes.Buffer) error{
		"json": func(w *bytes.Buffer) error { return report.WriteJSON(w, r) },
		"table": func(w *bytes.Buffer) error {
			return report.WriteTable(w, r, report.TableOptions{Unicode: true, Color: true})
		},
		"html": func(w *bytes.Buffer) error { return report.WriteHTML(w, r) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var w bytes.Buffer
			for b.Loop() {
				w.Reset()
				if err := write(&w); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(w.Len()))
		})
	}
}

// What came back after the delivery is told of, and is no attempt.
func TestNotices(t *testing.T) {
	b := report.NewBuilder(0)
	b.AddCount(&window.Series{Outcome: event.OutOfBand, Category: event.UserUnknown, SenderDomain: "shop.example", Route: &window.Route{Provider: "gmail"}}, 3, 0)
	b.AddCount(&window.Series{Outcome: event.OutOfBand, Category: event.UserUnknown, SenderDomain: "shop.example", Route: &window.Route{Provider: "yahoo"}}, 2, 0)
	b.AddCount(&window.Series{Outcome: event.Complaint, SenderDomain: "shop.example", Route: &window.Route{Provider: "yahoo"}}, 7, 0)
	r := b.Report()
	want := []report.Notice{{Outcome: "complaint", Count: 7}, {Outcome: "oob_bounce", Category: "user_unknown", Count: 5}}
	if diff := cmp.Diff(want, r.Notices); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if r.Attempts != 0 || r.Outcomes != (report.Outcomes{}) || len(r.Categories)+len(r.Providers)+len(r.SenderDomains) != 0 {
		t.Errorf("they count among the attempts: %+v", r)
	}
	var table, page bytes.Buffer
	if err := report.WriteTable(&table, r, report.TableOptions{Unicode: true}); err != nil {
		t.Fatal(err)
	}
	if err := report.WriteHTML(&page, r); err != nil {
		t.Fatal(err)
	}
	for name, out := range map[string]string{"table": table.String(), "page": page.String()} {
		if !strings.Contains(out, "Reported back") || !strings.Contains(out, "oob_bounce") || !strings.Contains(out, "complaint") || strings.Contains(out, "input is empty") {
			t.Errorf("%s:\n%s", name, out)
		}
	}
}
