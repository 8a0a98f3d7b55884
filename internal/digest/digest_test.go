package digest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/pipeline/spike"
)

// memory answers for two weeks.
type memory struct {
	now, before []ledger.Row
	templates   []ledger.Template
	alerts      []ledger.Alert
}

var (
	monday = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	next   = monday.AddDate(0, 0, 7)
)

func (m *memory) Query(_ context.Context, q ledger.Query) ([]ledger.Row, error) {
	limit := cmp.Or(q.Limit, 100_000)
	switch q.Since {
	case monday.Unix():
		return m.now[:min(len(m.now), limit)], nil
	case monday.AddDate(0, 0, -7).Unix():
		return m.before[:min(len(m.before), limit)], nil
	}
	return nil, nil
}

func (m *memory) Templates(context.Context, ledger.TemplateFilter, int) ([]ledger.Template, error) {
	return m.templates, nil
}

func (m *memory) Alerts(_ context.Context, f ledger.AlertFilter) (all []ledger.Alert, err error) {
	for _, a := range m.alerts {
		if !f.Open || a.Open {
			all = append(all, a)
		}
	}
	return all, nil
}

func row(outcome, category, provider, domain string, n int64) ledger.Row {
	return ledger.Row{Keys: []string{outcome, category, provider, domain}, Attempts: 2 * n, Firsts: n}
}

func digestOf(t *testing.T, m *memory) *Digest {
	t.Helper()
	d, err := Make(t.Context(), m, monday, next)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestWorseBetterNew(t *testing.T) {
	m := &memory{
		before: []ledger.Row{
			row("delivered", "", "gmail", "shop.example", 9990), row("bounced", "spf_failed", "gmail", "shop.example", 10),
			row("delivered", "", "yahoo", "shop.example", 5000), row("delivered", "", "gmail", "news.example", 20000),
			row("bounced", "user_unknown", "gmail", "news.example", 2000), row("delivered", "", "gmx", "news.example", 1000),
		},
		now: []ledger.Row{
			row("delivered", "", "gmail", "shop.example", 8800), row("bounced", "spf_failed", "gmail", "shop.example", 1200),
			row("delivered", "", "yahoo", "shop.example", 5000), row("delivered", "", "gmail", "news.example", 22000),
			row("bounced", "user_unknown", "gmail", "news.example", 200), row("delivered", "", "gmx", "news.example", 1000),
			row("complaint", "", "gmail", "news.example", 999),  // no attempt
			row("delivered", "", "orange", "new.example", 1000), // it was not there before: told of the whole
			row("bounced", "policy", "orange", "new.example", 1000),
		},
		templates: []ledger.Template{
			{Category: "policy", Provider: "orange", Text: "ofr_999 what is new", Attempts: 1000, First: monday.Unix() + 3600},
			{Category: "policy", Provider: "orange", Text: "rare", Attempts: 2, First: monday.Unix() + 3600},
			{Category: "user_unknown", Provider: "gmail", Text: "old", Attempts: 9000, First: monday.Unix() - 86400},
		},
	}
	d := digestOf(t, m)
	if d.Now != (Counts{40200, 2400}) || d.Before != (Counts{38000, 2010}) {
		t.Errorf("now %v, before %v", d.Now, d.Before)
	}
	what := func(all []Change) (words []string) {
		for i := range all {
			words = append(words, all[i].what())
		}
		return words
	}
	if diff := gocmp.Diff([]string{"SPF failed for shop.example at gmail", "Policy"}, what(d.Worse)); diff != "" {
		t.Errorf("worse (-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff([]string{"User unknown for news.example at gmail"}, what(d.Better)); diff != "" {
		t.Errorf("better (-want +got):\n%s", diff)
	}
	if len(d.New) != 1 || d.New[0].Text != "ofr_999 what is new" {
		t.Errorf("new: %v", d.New)
	}
	text := strings.Join(d.Lines(), "\n")
	for _, want := range []string{"2,400 of 40,200 messages", "SPF failed for shop.example at gmail: 12% instead of 0.1%, 1,190 messages more", "No alert was raised."} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if want := "Mail of the week: 6% failed, 5.3% the week before; 2 got worse"; d.Title() != want {
		t.Errorf("title %q, want %q", d.Title(), want)
	}
}

// What all domains of a provider share is told once.
func TestOneLineForWhatManyShare(t *testing.T) {
	m := &memory{}
	for _, domain := range []string{"a.example", "b.example", "c.example", "d.example"} {
		m.before = append(m.before, row("delivered", "", "yahoo", domain, 10000), row("deferred", "rate_limited", "yahoo", domain, 50))
		m.now = append(m.now, row("delivered", "", "yahoo", domain, 10000), row("deferred", "rate_limited", "yahoo", domain, 500))
	}
	d := digestOf(t, m)
	if len(d.Worse) != 1 || d.Worse[0].what() != "Rate limited at yahoo" {
		t.Errorf("worse: %+v", d.Worse)
	}
}

func TestChanceIsNoChange(t *testing.T) {
	m := &memory{
		before: []ledger.Row{row("delivered", "", "gmail", "a.example", 1000), row("bounced", "policy", "gmail", "a.example", 30)},
		now:    []ledger.Row{row("delivered", "", "gmail", "a.example", 1000), row("bounced", "policy", "gmail", "a.example", 45)},
	}
	if d := digestOf(t, m); len(d.Worse)+len(d.Better) > 0 {
		t.Errorf("worse %v, better %v", d.Worse, d.Better)
	}
}

func TestNothingToCompareWith(t *testing.T) {
	m := &memory{
		now:       []ledger.Row{row("delivered", "", "gmail", "a.example", 100), row("bounced", "policy", "gmail", "a.example", 100)},
		templates: []ledger.Template{{Category: "policy", Provider: "gmail", Text: "all is new", Attempts: 100, First: monday.Unix()}},
	}
	d := digestOf(t, m)
	if len(d.Worse)+len(d.New) > 0 || !strings.Contains(strings.Join(d.Lines(), "\n"), "nothing of the week before") {
		t.Errorf("%+v", d)
	}
}

func TestAlertsOfTheTime(t *testing.T) {
	alert := func(id string, severity spike.Severity, fired, resolved time.Time, inhibited bool) ledger.Alert {
		a := spike.Alert{ID: id, Severity: severity, State: spike.Firing, Title: id, Since: fired, Fired: fired, Inhibited: inhibited}
		if !resolved.IsZero() {
			a.State, a.Resolved = spike.Resolved, resolved
		}
		body, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		return ledger.Alert{ID: id, Open: a.State.Open(), Body: body}
	}
	m := &memory{alerts: []ledger.Alert{
		alert("before", spike.Critical, monday.Add(-3*time.Hour), monday.Add(-time.Hour), false),
		alert("over", spike.Ticket, monday.Add(-time.Hour), monday.Add(time.Hour), false),
		alert("open", spike.Warning, monday.Add(time.Hour), time.Time{}, false),
		alert("part", spike.Critical, monday.Add(time.Hour), time.Time{}, true),
		alert("after", spike.Critical, next.Add(time.Hour), time.Time{}, false),
		{ID: "odd", Open: true, State: "firing", Rule: "of another version", Time: monday.Add(time.Hour).Unix(), Body: []byte(`{"labels":7}`)},
	}}
	d := digestOf(t, m)
	var ids []string
	for _, a := range d.Alerts {
		ids = append(ids, a.ID)
	}
	if diff := gocmp.Diff([]string{"open", "over", "odd"}, ids); diff != "" {
		t.Errorf("alerts (-want +got):\n%s", diff)
	}
	text := strings.Join(d.Lines(), "\n")
	if !strings.Contains(text, "3 alerts: 0 critical, 1 warning, 2 ticket.") || !strings.Contains(text, "over after 2 h") || !strings.Contains(text, "still open") {
		t.Error(text)
	}
}

// All mail counts, from however many domains.
func TestManyDomains(t *testing.T) {
	const n = 100_010 // more than a query returns unless it asks for more
	m := &memory{}
	for i := range n {
		m.now = append(m.now, row("delivered", "", "gmail", fmt.Sprint("d", i, ".example"), 1))
	}
	if d := digestOf(t, m); d.Now.Attempts != n {
		t.Errorf("%d attempts, want %d", d.Now.Attempts, n)
	}
}
