package notify

import (
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/bouncemeter/bouncemeter/internal/hostile"
	"github.com/bouncemeter/bouncemeter/ledger/alertjson"
)

var noon = time.Date(2026, 3, 6, 12, 0, 0, 0, time.UTC)

// spf is an alert as the detector makes them.
func spf(state alertjson.State) alertjson.Alert {
	a := alertjson.Alert{
		ID: "00c0ffee00c0ffee", Incident: "00c0ffee00c0ffee", Rule: "authentication", Kind: "ratio", State: state,
		Severity: alertjson.Critical, Category: "spf_failed",
		Labels: map[string]string{"provider": "gmail", "sender_domain": "shop.example"},
		Since:  noon, Fired: noon.Add(6 * time.Minute), Updated: noon.Add(6 * time.Minute),
		Failures: 340, Attempts: 2833, Ratio: 0.12, Usual: 0.001, Null: 0.002, Excess: 337.2, Score: 40, Threshold: 15.3,
		Title:   "SPF failures of shop.example at gmail: 12% instead of 0.1% since 12:00",
		Summary: "340 of 2833 attempts failed.", Advice: "Check the SPF record.", Silence: "add a silence",
		Explanation: []alertjson.Share{{Dimension: "host", Element: "mx1.example.com", Excess: 330, Share: 0.98}},
		Unchanged:   []string{"gmail from 3 other domains"},
		Samples:     []string{"550 5.7.26 <b>@channel</b> SPF [192.0.2.1] failed", "\x1b[31mred"},
	}
	if !state.Open() {
		a.Resolved, a.Ending = noon.Add(49*time.Minute), "back to usual"
		a.Updated = a.Resolved
	}
	return a
}

func TestDefaultMessage(t *testing.T) {
	tm, err := NewTemplate(TemplateConfig{Format: HTML, TitleFormat: Plain, Link: "https://bm.example/"})
	if err != nil {
		t.Fatal(err)
	}
	over := spf(alertjson.Resolved)
	over.Title = "other <failures>"
	title, text := tm.Message("ops", &News{Items: []Item{{Alert: spf(alertjson.Firing)}, {Alert: over}}})
	if want := "[critical] SPF failures of shop.example at gmail: 12% instead of 0.1% since 12:00 (and 1 more)"; title != want {
		t.Errorf("title %q, want %q", title, want)
	}
	want := `340 of 2833 attempts failed.
They say, for example: "550 5.7.26 &lt;` + joiner + `b&gt;@` + joiner + `channel&lt;` + joiner + `/b&gt; SPF [192.0.2.1] failed"
They say, for example: "[31mred"
To do: Check the SPF record.
To silence it for a day: on its page, or by a line in the file of silences: add a silence
https://bm.example/alerts/00c0ffee00c0ffee

[over] other &lt;` + joiner + `failures&gt;
It lasted 49 min, from Fri 12:00 UTC to Fri 12:49 UTC: back to usual.
https://bm.example/alerts/00c0ffee00c0ffee`
	if diff := cmp.Diff(want, text); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
}

func TestOwnTemplate(t *testing.T) {
	tm, err := NewTemplate(TemplateConfig{
		Title: `{{len .Alerts}} at {{(index .Alerts 0).Labels.provider}}`,
		Text:  `{{range .Alerts}}<b>{{.Rule}}</b> {{percent .Ratio}} of {{.Attempts}} {{upper .Severity}} {{.Labels.none}}{{end}}`, Format: HTML,
	})
	if err != nil {
		t.Fatal(err)
	}
	title, text := tm.Message("ops", &News{Items: []Item{{Alert: spf(alertjson.Firing)}}})
	if title != "1 at gmail" || text != "<b>authentication</b> 12% of 2833 CRITICAL" {
		t.Errorf("%q, %q", title, text)
	}
	for _, bad := range []string{"{{", "{{.Nothing}}", "{{range .Alerts}}{{.Nothing}}{{end}}", "{{call .Notifier}}"} {
		if _, err := NewTemplate(TemplateConfig{Text: bad}); err == nil || !strings.Contains(err.Error(), "docs/alerts.md") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// A template that fits the example but not the news does not lose them.
func TestTemplateThatDoesNotFit(t *testing.T) {
	tm, err := NewTemplate(TemplateConfig{Title: "{{if gt (len .Alerts) 1}}{{(index .Alerts 7).Title}}{{end}}!", Format: HTML})
	if err != nil {
		t.Fatal(err)
	}
	title, text := tm.Message("ops", &News{Items: []Item{{Alert: spf(alertjson.Firing)}, {Alert: spf(alertjson.Resolved)}}})
	if !strings.HasPrefix(title, "[critical] SPF failures") || !strings.Contains(text, "340 of 2833") || !strings.Contains(text, "The template cannot be filled in: title: ") {
		t.Errorf("%q, %q", title, text)
	}
}

func TestMessagesAreBounded(t *testing.T) {
	tm, err := NewTemplate(TemplateConfig{})
	if err != nil {
		t.Fatal(err)
	}
	n := &News{}
	for range 1000 {
		a := spf(alertjson.Firing)
		a.Title = strings.Repeat("ä@<", 100_000)
		a.Samples = []string{a.Title, a.Title, a.Title, a.Title}
		n.Items = append(n.Items, Item{Alert: a})
	}
	title, text := tm.Message("ops", n)
	if strings.Contains(title, "\n") || utf8.RuneCountInString(title) > 500 {
		t.Errorf("title of %d runes", utf8.RuneCountInString(title))
	}
	if utf8.RuneCountInString(text) > 3500 {
		t.Errorf("text of %d runes", utf8.RuneCountInString(text))
	}
}

func TestNumbers(t *testing.T) {
	for ratio, want := range map[float64]string{0: "0%", 0.00042: "0.042%", 0.001: "0.10%", 0.034: "3.4%", 0.12: "12%", 1: "100%"} {
		if got := percent(ratio); got != want {
			t.Errorf("percent(%v) = %s, want %s", ratio, got, want)
		}
	}
	for d, want := range map[time.Duration]string{49 * time.Minute: "49 min", 125 * time.Minute: "2 h 5 min", 73 * time.Hour: "3 days"} {
		if got := duration(d); got != want {
			t.Errorf("duration(%v) = %s, want %s", d, got, want)
		}
	}
}

func TestTemplatesOfTheManual(t *testing.T) {
	manual, err := os.ReadFile("../../docs/alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, line := range strings.Split(string(manual), "\n") {
		for _, key := range []string{"title", "text"} {
			text, ok := strings.CutPrefix(line, key+": '")
			if !ok {
				continue
			}
			found++
			if _, err := NewTemplate(TemplateConfig{Text: strings.TrimSuffix(text, "'")}); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
	if found != 2 {
		t.Errorf("%d templates", found)
	}
}

// TestHostileMessage checks that no field of an alert can do anything in a
// message but be read.
func TestHostileMessage(t *testing.T) {
	a := spf(alertjson.Firing)
	a.Title, a.Summary, a.Advice, a.Ending, a.Rule = hostile.Text, hostile.Text, hostile.Text, hostile.Text, hostile.Text
	a.Labels = map[string]string{"provider": hostile.Text, "sender_domain": hostile.Name}
	a.Explanation[0].Element, a.Unchanged, a.Samples, a.Top = hostile.Text, []string{hostile.Text}, []string{hostile.Text, hostile.Name}, []string{hostile.Text}
	a.Templates = []alertjson.Wording{{Text: hostile.Text, Attempts: 7}}
	for _, f := range []Format{Plain, HTML, Slack, Markdown} {
		for _, own := range []string{"", `{{range .Alerts}}{{.Labels.provider}} {{.Labels.sender_domain}} {{.Title}} {{join .Replies " "}}{{end}}`} {
			tm, err := NewTemplate(TemplateConfig{Format: f, TitleFormat: f, Link: "https://bm.example/", Title: own, Text: own})
			if err != nil {
				t.Fatal(err)
			}
			title, text := tm.Message("ops", &News{Items: []Item{{Alert: a}}})
			for _, got := range []string{title, text} {
				if what, found := hostile.Acting(strings.ReplaceAll(got, joiner, "")); found {
					t.Errorf("%s: there is %s in %q", f, what, got)
				}
				if strings.Contains(got, "@here") || strings.Contains(got, "<!channel") {
					t.Errorf("%s: it calls people: %q", f, got)
				}
				if (f == HTML || f == Slack) && strings.ContainsAny(got, "<>") || f == Markdown && strings.Contains(got, "[x](") {
					t.Errorf("%s: there is markup in %q", f, got)
				}
				if !strings.Contains(strings.ReplaceAll(got, joiner, ""), "window.owned=1") && !strings.Contains(got, `window\.owned`) {
					t.Errorf("%s: it is not shown: %q", f, got)
				}
			}
		}
	}
}
