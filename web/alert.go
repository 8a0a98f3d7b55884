package web

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/chart"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/alertjson"
)

// alert is a stored alert as pages show it: what is absent they do not show.
type alert struct {
	change ledger.Alert
	alertjson.Alert
}

// readAlert reads a stored change. A body that cannot be read still gives what
// the ledger knows beside it.
func readAlert(c ledger.Alert) alert {
	a := alert{change: c}
	var err error
	if a.Alert, err = alertjson.Decode(&c); err != nil {
		a.Alert = alertjson.Alert{Summary: "The details of this alert cannot be read; they are from another version of bouncemeter."}
	}
	a.ID, a.State, a.Rule = c.ID, alertjson.State(c.State), c.Rule
	a.Title = cmp.Or(a.Title, a.Rule)
	if a.Updated.IsZero() {
		a.Updated = time.Unix(c.Time, 0)
	}
	if a.Fired.IsZero() {
		a.Fired = a.Updated
	}
	if a.Since.IsZero() {
		a.Since = a.Fired
	}
	return a
}

// openAlerts returns the alerts that are not over, the gravest first and of
// these the latest. Those that another one explains come last.
func (s *Server) openAlerts(ctx context.Context) ([]alert, error) {
	changes, err := s.o.Ledger.Alerts(ctx, ledger.AlertFilter{Latest: true, Open: true})
	if err != nil {
		return nil, err
	}
	all := make([]alert, 0, len(changes))
	for _, c := range changes {
		all = append(all, readAlert(c))
	}
	slices.SortFunc(all, func(a, b alert) int {
		if a.Inhibited != b.Inhibited {
			if b.Inhibited {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(gravity(b.Severity), gravity(a.Severity)), b.Fired.Compare(a.Fired), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

func gravity(s alertjson.Severity) int { return slices.Index(alertjson.Severities, s) }

// touches reports whether an alert may be about something in these names.
func (a *alert) touches(of map[ledger.Dimension]string) bool {
	for _, f := range filters {
		want, ok := of[f.by]
		if !ok {
			continue
		}
		name, ok := a.Labels[f.name]
		if f.by == ledger.ByCategory && !ok {
			name, ok = a.Category, a.Category != ""
		}
		if ok && name != want {
			return false
		}
	}
	return true
}

// alertRow is an alert in a list.
type alertRow struct {
	Link, Title, Summary, State, Severity string
	Fired                                 string
	Labels                                []place
	Inhibited, Silenced                   bool
}

func (v *view) alertRow(a *alert) alertRow {
	r := alertRow{
		Link: v.link("/alerts/"+a.ID, nil), Title: short(a.Title, 200), Summary: short(a.Summary, 600), State: short(string(a.State), 20),
		Severity: severityClass(a.Severity), Fired: moment(a.Fired.Unix()), Inhibited: a.Inhibited,
	}
	r.Labels = v.labels(a)
	return r
}

// severityClass is also a class of the style sheet.
func severityClass(s alertjson.Severity) string {
	if gravity(s) < 0 {
		s = alertjson.Warning
	}
	return string(s)
}

// labels links the names that an alert is about to their pages.
func (v *view) labels(a *alert) []place {
	var all []place
	names := maps.Clone(a.Labels)
	if names == nil {
		names = make(map[string]string)
	}
	if a.Category != "" {
		names["category"] = a.Category
	}
	for _, f := range filters {
		name, ok := names[f.name]
		if !ok {
			continue
		}
		delete(names, f.name)
		p := place{Name: show(f.by, name), Share: f.title}
		if pagePath(f.by) != "" {
			p.Link = v.to(f.by, name)
		}
		all = append(all, p)
	}
	for _, k := range slices.Sorted(maps.Keys(names)) {
		all = append(all, place{Name: short(names[k], 100), Share: short(k, 40)})
	}
	return all
}

type alertsPanel struct {
	Rows []alertRow
	More int // that are not shown
}

// open lists the open alerts that may be about what the page is about.
func (c *scope) open() (*alertsPanel, error) {
	if c.alerts == nil {
		all, err := c.s.openAlerts(c.ctx)
		if err != nil {
			return nil, err
		}
		c.alerts = all
	}
	p := &alertsPanel{}
	for i := range c.alerts {
		a := &c.alerts[i]
		switch {
		case a.Inhibited || !a.touches(c.of):
		case len(p.Rows) == 8:
			p.More++
		default:
			p.Rows = append(p.Rows, c.v.alertRow(a))
		}
	}
	return p, nil
}

// marks are the moments at which the open alerts fired.
func (c *scope) marks() []chart.Mark {
	var all []chart.Mark
	for i := range c.alerts {
		if a := &c.alerts[i]; !a.Inhibited && a.touches(c.of) && len(all) < 20 {
			all = append(all, chart.Mark{Time: a.Fired, Text: moment(a.Fired.Unix()) + "\nalert: " + short(a.Title, 200)})
		}
	}
	return all
}

// number is a fact about an alert.
type number struct{ Name, Value, Meaning string }

// numbers explains an alert with every number that it rests on.
func (a *alert) numbers() []number {
	var all []number
	add := func(name, value, meaning string) { all = append(all, number{name, value, meaning}) }
	if a.Attempts > 0 || a.Failures > 0 {
		add("failures", fmt.Sprintf("%s of %s messages", humanize.Comma(a.Failures), humanize.Comma(a.Attempts)), "since it began")
	}
	if a.Attempts > 0 {
		add("ratio", ratioText(a.Ratio), "of the messages failed so since then")
		usual := "learned from this series before"
		if a.Cold {
			usual = "from others of its kind: this series is known for less than a day"
		}
		add("usual", ratioText(a.Usual), usual)
		add("tested against", ratioText(a.Null), "the upper bound of what could still be usual")
	}
	if a.Excess != 0 {
		add("excess", decimal(a.Excess), "failures beyond the usual")
	}
	if a.Dispersion != 0 {
		add("dispersion", decimal(a.Dispersion), "how much more than by chance single minutes vary; 1 is by chance alone")
	}
	if a.Threshold != 0 {
		add("score", decimal(a.Score)+" over "+decimal(a.Threshold), "the evidence when it fired, and from where on it fires")
	}
	if a.Members > 0 {
		add("members", fmt.Sprintf("%d of %d", a.Members, a.Active), "series that rise together, of those that could")
	}
	if a.Flaps > 0 {
		add("came back", fmt.Sprintf("%d times", a.Flaps), "after it had ended")
	}
	return all
}

func ratioText(r float64) string { return chart.Percent(int64(r*1e9), 1e9) }

func decimal(f float64) string { return humanize.CommafWithDigits(f, 1) }

// alertPage shows one alert.
type alertPage struct {
	alertRow
	Since, Resolved, Ending string
	Rule, Kind              string
	Cause                   string // link to the alert that explains this one
	Numbers                 []number
	Shares                  []share
	Top, Unchanged          []string
	Wordings                []place
	Samples                 []string
	Advice, Meaning, Owner  string
	Chart                   *chart.Chart
	Timeline                []step
	Silence                 *silencePanel // nil if the alert is over
}

type share struct{ Kind, Name, Link, Share, Expected, Excess string }

// step is one change in the life of an alert.
type step struct{ Time, State, Text string }

// alertsList is the page of all alerts.
type alertsList struct {
	Open     []alertRow
	Closed   []alertRow
	More     int
	Silences []silenceRow // that hold
}

func (s *Server) alertsPage(ctx context.Context, v *view) (any, string, error) {
	open, err := s.openAlerts(ctx)
	if err != nil {
		return nil, "", err
	}
	past, err := s.o.Ledger.Alerts(ctx, ledger.AlertFilter{Latest: true, Since: v.since, Until: v.until, Newest: true})
	if err != nil {
		return nil, "", err
	}
	holding, err := s.holding(ctx)
	if err != nil {
		return nil, "", err
	}
	p := &alertsList{}
	for i := range holding {
		p.Silences = append(p.Silences, s.silenceRow(&holding[i]))
	}
	for i := range open {
		if open[i].touches(v.where) {
			r := v.alertRow(&open[i])
			r.Silenced = slices.ContainsFunc(holding, func(x ledger.Silence) bool {
				return x.Covers(s.o.Now(), open[i].Rule, open[i].Category, open[i].Labels)
			})
			p.Open = append(p.Open, r)
		}
	}
	slices.Reverse(past)
	for _, c := range past {
		a := readAlert(c)
		switch {
		case c.Open || !a.touches(v.where):
		case len(p.Closed) == 200:
			p.More++
		default:
			p.Closed = append(p.Closed, v.alertRow(&a))
		}
	}
	return p, "Alerts", nil
}

func (s *Server) alertPage(ctx context.Context, v *view, id string) (any, string, error) {
	changes, err := s.o.Ledger.Alerts(ctx, ledger.AlertFilter{ID: id, Limit: 1000, Newest: true})
	if err != nil {
		return nil, "", err
	}
	if len(changes) == 0 {
		return nil, "", notFound{fmt.Errorf("there is no alert %s; it may have been removed after the ledger's retention", short(id, 40))}
	}
	a := readAlert(changes[len(changes)-1])
	p := &alertPage{
		alertRow: v.alertRow(&a), Since: moment(a.Since.Unix()), Ending: short(a.Ending, 200), Rule: short(a.Rule, 80), Kind: short(a.Kind, 40),
		Numbers: a.numbers(), Advice: short(cmp.Or(a.Advice, info(a.Category).Advice), 2000), Meaning: info(a.Category).Meaning, Owner: info(a.Category).Owner,
	}
	if !a.Resolved.IsZero() {
		p.Resolved = moment(a.Resolved.Unix())
	}
	if a.Incident != "" && a.Incident != a.ID {
		p.Cause = v.link("/alerts/"+a.Incident, nil)
	}
	for _, x := range a.Explanation {
		y := share{Kind: short(strings.ReplaceAll(x.Dimension, "_", " "), 40), Name: short(cmp.Or(x.Element, emptyName), 100), Share: ratioText(x.Share), Excess: decimal(x.Excess)}
		if x.Expected > 0 {
			y.Expected = ratioText(x.Expected)
		}
		for _, f := range filters {
			if f.name == x.Dimension && pagePath(f.by) != "" {
				y.Link = v.to(f.by, x.Element)
			}
		}
		p.Shares = append(p.Shares, y)
	}
	p.Top, p.Unchanged, p.Samples = shortAll(a.Top), shortAll(a.Unchanged), shortAll(a.Samples)
	for _, t := range a.Templates[:min(len(a.Templates), 20)] {
		p.Wordings = append(p.Wordings, place{Name: short(t.Text, 600), Share: humanize.Comma(t.Attempts)})
	}
	for _, c := range changes {
		x := readAlert(c)
		text := ""
		if x.Attempts > 0 {
			text = fmt.Sprintf("%s of %s messages failed so (%s, usual %s)", humanize.Comma(x.Failures), humanize.Comma(x.Attempts), ratioText(x.Ratio), ratioText(x.Usual))
		}
		if x.Ending != "" {
			text = strings.TrimPrefix(text+"; "+short(x.Ending, 200), "; ")
		}
		p.Timeline = append(p.Timeline, step{moment(c.Time), short(c.State, 20), text})
	}
	if a.change.Open {
		if p.Silence, err = s.silencePanel(ctx, &a); err != nil {
			return nil, "", err
		}
	}
	p.Chart, err = s.alertChart(ctx, v, &a)
	return p, p.Title, err
}

// alertChart shows the ratio from some time before the alert to some time after.
func (s *Server) alertChart(ctx context.Context, v *view, a *alert) (*chart.Chart, error) {
	w := &view{path: v.path, now: v.now, where: make(map[ledger.Dimension]string)}
	end := v.now
	if !a.Resolved.IsZero() {
		end = min(end, a.Resolved.Unix()+3600)
	}
	w.until = min(end, a.Fired.Unix()+7*day)
	w.since = a.Since.Unix() - max(3*3600, (w.until-a.Since.Unix())/2)
	if w.since >= w.until {
		return nil, nil
	}
	w.align(s.o.Minutes, s.o.Hours)
	for _, f := range filters {
		if name, ok := a.Labels[f.name]; ok {
			w.where[f.by] = name
		}
	}
	if a.Category != "" {
		w.where[ledger.ByCategory] = a.Category
	}
	c := s.scope(ctx, w, nil)
	only := w.where[ledger.ByCategory]
	all, failed, err := c.course(only)
	if err != nil {
		return nil, err
	}
	failures, label := failed.values(tally.failed), show(ledger.ByCategory, only)
	if only == "" {
		failures, label = all.values(tally.failures), "failed"
	}
	u := usual{}
	if a.Usual > 0 || a.Null > 0 {
		u.band = &chart.Band{Low: min(a.Usual, 1), High: min(max(a.Usual, a.Null), 1)}
	}
	marks := []chart.Mark{{Time: a.Fired, Text: moment(a.Fired.Unix()) + "\nfired"}}
	if !a.Resolved.IsZero() {
		marks = append(marks, chart.Mark{Time: a.Resolved, Text: moment(a.Resolved.Unix()) + "\nover"})
	}
	return c.ratioChart("Share of attempts that failed so", []chart.Line{{
		Name: label, Color: "bounced", Failures: failures, Attempts: all.values(tally.attempts),
	}}, u, marks), nil
}

func shortAll(all []string) []string {
	var some []string
	for _, s := range all[:min(len(all), 20)] {
		some = append(some, short(s, 600))
	}
	return some
}

func info(category string) event.CategoryInfo {
	c, _ := event.CategoryByID(category)
	return c.Info()
}

// moment writes Unix seconds as a time in UTC.
func moment(t int64) string { return time.Unix(t, 0).UTC().Format("2006-01-02 15:04") }
