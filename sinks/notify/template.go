package notify

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"text/template"
	"time"
	"unicode/utf8"

	"github.com/bouncemeter/bouncemeter/ledger/alertjson"
)

// DefaultTitle and DefaultText are the templates of messages. The title alone
// has to do: it is what a phone shows.
const (
	DefaultTitle = `{{with index .Alerts 0}}{{if eq .Status "resolved"}}[over]{{else if .Again}}[worse, {{.Severity}}]{{else}}[{{.Severity}}]{{end}} {{.Title}}{{end}}{{with .Others}} (and {{.}} more){{end}}`
	DefaultText  = `{{range $i, $a := .Alerts}}{{if $i}}

{{if eq .Status "resolved"}}[over]{{else}}[{{.Severity}}]{{end}} {{.Title}}{{end}}
{{- if eq .Status "resolved"}}
It lasted {{duration .Lasted}}, from {{clock .Since}} to {{clock .Resolved}}{{with .Ending}}: {{.}}{{end}}.
{{- else}}{{with .Summary}}
{{.}}{{end}}{{range .Replies}}
They say, for example: "{{.}}"{{end}}{{with .Advice}}
To do: {{.}}{{end}}{{with .Silence}}
To silence it for a day{{if $a.URL}}: on its page, or{{end}} by a line in the file of silences: {{.}}{{end}}
{{- end}}{{with .URL}}
{{.}}{{end}}{{end}}{{with .More}}

And {{.}} more.{{end}}`
)

// Message is what templates see.
type Message struct {
	Notifier string
	// Alerts are those to tell, open ones first, the most severe first.
	Alerts []View
	// More is how many there are beyond Alerts, and Others beyond the first one.
	More, Others int
}

// View is an alert as templates see it. All its texts are one line each, have no
// control characters, mention nobody, and are escaped for the receiver.
type View struct {
	ID, Status                     string // "firing" or "resolved"
	Again                          bool   // it was told before
	Rule, Kind, Severity, Category string
	Labels                         map[string]string
	Title, Summary, Advice         string
	Ending, Silence, URL           string
	Since, Fired, Resolved         time.Time
	Lasted                         time.Duration
	Failures, Attempts             int64
	Ratio, Usual, Excess           float64
	// Where says which parts have most of the excess, and Unchanged what is as
	// usual. Replies are what remote servers said.
	Where, Unchanged, Replies []string
}

// Limits on what is told, in runes and items.
const (
	maxMessage = 3500 // every receiver takes that
	maxTitle   = 200
	maxText    = 600 // of one field
	maxReply   = 300
	maxReplies = 3
	maxWhere   = 4
	maxLabel   = 200
	maxShown   = 8 // alerts in one message
)

// Template makes titles and texts of news.
type Template struct {
	title, text             *template.Template
	titleFormat, textFormat Format
	link                    string
}

// TemplateConfig says how messages look.
type TemplateConfig struct {
	// Title and Text are templates of package text/template over a Message.
	// Empty means DefaultTitle and DefaultText.
	Title, Text string
	// Format is what the receiver makes of the text, and TitleFormat of the
	// title; empty means Plain.
	Format, TitleFormat Format
	// Link is the address of the daemon's page as people reach it; may be empty.
	Link string
}

var functions = template.FuncMap{
	"percent":  percent,
	"duration": duration,
	"clock":    func(t time.Time) string { return t.Format("Mon 15:04 MST") },
	"join":     func(list []string, between string) string { return strings.Join(list, between) },
	"upper":    strings.ToUpper,
}

// NewTemplate reads the templates and tries them on an example.
func NewTemplate(c TemplateConfig) (*Template, error) {
	t := &Template{titleFormat: c.TitleFormat, textFormat: c.Format, link: strings.TrimSuffix(c.Link, "/")}
	var err error
	if t.title, err = parse("title", cmp.Or(c.Title, DefaultTitle)); err != nil {
		return nil, err
	}
	if t.text, err = parse("text", cmp.Or(c.Text, DefaultText)); err != nil {
		return nil, err
	}
	for _, state := range []alertjson.State{alertjson.Firing, alertjson.Resolved} {
		n := &News{Items: []Item{{Alert: alertjson.Alert{ID: "0", State: state, Labels: map[string]string{}}}}}
		for _, x := range []*template.Template{t.title, t.text} {
			if _, err := t.fill(x, Plain, "example", n); err != nil {
				return nil, fmt.Errorf("%w; see docs/alerts.md for what a template may use", err)
			}
		}
	}
	return t, nil
}

func parse(name, text string) (*template.Template, error) {
	x, err := template.New(name).Funcs(functions).Option("missingkey=zero").Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; see docs/alerts.md for what a template may use", name, err)
	}
	return x, nil
}

var (
	defaultTitle = template.Must(parse("title", DefaultTitle))
	defaultText  = template.Must(parse("text", DefaultText))
)

// Message returns the title, one line, and the text of n, which has at least one
// item. News must not get lost because a template does not fit them: then the
// default one is used, and the text says why.
func (t *Template) Message(notifier string, n *News) (title, text string) {
	var remark string
	fill := func(x, otherwise *template.Template, f Format) string {
		s, err := t.fill(x, f, notifier, n)
		if err != nil {
			remark += "\n" + f.escape(clean("The template cannot be filled in: "+err.Error(), maxText))
			s, _ = t.fill(otherwise, f, notifier, n) // tests show that it can
		}
		return s
	}
	title = strings.Join(strings.Fields(fill(t.title, defaultTitle, t.titleFormat)), " ")
	text = strings.Trim(fill(t.text, defaultText, t.textFormat), "\n ")
	return lines(title, maxTitle+maxTitle/2), lines(text, maxMessage-utf8.RuneCountInString(remark)) + remark
}

// fill returns a template filled in with n for a receiver.
func (t *Template) fill(x *template.Template, f Format, notifier string, n *News) (string, error) {
	m := Message{Notifier: f.escape(clean(notifier, maxLabel)), Others: len(n.Items) - 1}
	shown := n.Items[:min(len(n.Items), maxShown)]
	m.More = len(n.Items) - len(shown)
	for i := range shown {
		m.Alerts = append(m.Alerts, t.view(&shown[i], f))
	}
	var b strings.Builder
	if err := x.Execute(&b, m); err != nil {
		return "", fmt.Errorf("%s: %w", x.Name(), err)
	}
	return b.String(), nil
}

// view returns an alert with its texts escaped for f.
func (t *Template) view(i *Item, f Format) View {
	e := func(s string, limit int) string { return f.escape(clean(s, limit)) }
	v := View{
		ID: e(i.ID, maxLabel), Status: status(&i.Alert), Again: i.Again, Rule: e(i.Rule, maxLabel), Kind: e(i.Kind, maxLabel),
		Severity: e(string(i.Severity), maxLabel), Category: e(i.Category, maxLabel), Labels: make(map[string]string, len(i.Labels)),
		Title: e(i.Title, maxTitle), Summary: e(i.Summary, maxText), Advice: e(i.Advice, maxText), Ending: e(i.Ending, maxText),
		Silence: e(i.Silence, maxText), Since: i.Since, Fired: i.Fired, Resolved: i.Resolved,
		Failures: i.Failures, Attempts: i.Attempts, Ratio: i.Ratio, Usual: i.Usual, Excess: i.Excess,
	}
	if t.link != "" {
		v.URL = alertURL(t.link, i.ID)
	}
	if !i.Resolved.IsZero() {
		v.Lasted = i.Resolved.Sub(i.Since)
	}
	for d, name := range i.Labels {
		v.Labels[d] = e(name, maxLabel)
	}
	for _, s := range where(&i.Alert) {
		v.Where = append(v.Where, e(s, maxText))
	}
	for _, s := range i.Unchanged[:min(len(i.Unchanged), maxWhere)] {
		v.Unchanged = append(v.Unchanged, e(s, maxText))
	}
	for _, s := range replies(&i.Alert) {
		v.Replies = append(v.Replies, e(s, maxReply))
	}
	return v
}

// status is what Alertmanager calls the state.
func status(a *alertjson.Alert) string {
	if a.State.Open() {
		return "firing"
	}
	return "resolved"
}

// where returns which parts have most of the excess, the most telling first.
func where(a *alertjson.Alert) (all []string) {
	for _, s := range a.Explanation[:min(len(a.Explanation), maxWhere)] {
		all = append(all, fmt.Sprintf("%s %s (%s of the excess)", strings.ReplaceAll(s.Dimension, "_", " "), s.Element, percent(s.Share)))
	}
	return all
}

// replies returns samples of what remote servers said, or else their wordings.
func replies(a *alertjson.Alert) (all []string) {
	all = append(all, a.Samples...)
	if len(all) == 0 {
		for _, w := range a.Templates {
			all = append(all, w.Text)
		}
	}
	return all[:min(len(all), maxReplies)]
}

func alertURL(link, id string) string { return strings.TrimSuffix(link, "/") + "/alerts/" + id }

// percent writes a ratio with two significant digits.
func percent(ratio float64) string {
	p := ratio * 100
	digits := 0
	switch {
	case p == 0:
	case p < 0.1:
		digits = 3
	case p < 1:
		digits = 2
	case p < 10:
		digits = 1
	}
	return strconv.FormatFloat(p, 'f', digits, 64) + "%"
}

// duration writes d in minutes, hours or days.
func duration(d time.Duration) string {
	switch {
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
}
