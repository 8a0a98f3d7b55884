package web

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"

	"github.com/dustin/go-humanize"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/chart"
	"github.com/bouncemeter/bouncemeter/ledger"
)

// navigation is what every page leads to.
var navigation = []struct{ Name, Link, section string }{
	{"Now", "/", "/reason/"},
	{"Providers", "/providers", "/provider/"},
	{"Sender domains", "/domains", "/domain/"},
	{"Alerts", "/alerts", ""},
	{"Unclassified", "/unclassified", ""},
	{"Try a reply", "/try", ""},
	{"Sources", "/sources", ""},
}

func (s *Server) pageRoutes() []route {
	return []route{
		{pattern: "GET /{$}", handle: s.serve("now.html", live|ranged, s.nowPage)},
		{pattern: "GET /reason/{name}", handle: s.serve("reason.html", live|ranged, named1(s.reasonPage))},
		{pattern: "GET /providers", handle: s.serve("names.html", live|ranged, s.namesPage(ledger.ByProvider, "Providers"))},
		{pattern: "GET /provider/{name}", handle: s.serve("provider.html", live|ranged, named1(s.providerPage))},
		{pattern: "GET /domains", handle: s.serve("names.html", live|ranged, s.namesPage(ledger.BySenderDomain, "Sender domains"))},
		{pattern: "GET /domain/{name}", handle: s.serve("domain.html", live|ranged, named1(s.domainPage))},
		{pattern: "GET /alerts", handle: s.serve("alerts.html", live|ranged, func(ctx context.Context, v *view, _ *http.Request) (any, string, error) { return s.alertsPage(ctx, v) })},
		{pattern: "GET /alerts/{name}", handle: s.serve("alert.html", live, named1(s.alertPage))},
		{pattern: "POST /alerts/{name}/silence", handle: s.silence},
		{pattern: "POST /silences/{id}/end", handle: s.endSilence},
		{pattern: "GET /unclassified", handle: s.serve("unclassified.html", 0, s.unclassifiedPage)},
		{pattern: "GET /try", handle: s.serve("try.html", 0, s.tryPage)},
		{pattern: "POST /try", handle: s.serve("try.html", 0, s.tryPage)},
		{pattern: "GET /sources", handle: s.serve("sources.html", live, s.sourcesPage)},
		{pattern: "GET /report", handle: s.reportFile},
		{pattern: "GET /live", handle: s.events},
		{pattern: "GET /static/{name}", handle: static},
		{pattern: "/", handle: func(w http.ResponseWriter, r *http.Request) { s.fail(w, r, notFound{errNoPage}) }},
	}
}

// named1 makes a page about one name, which its URL has.
func named1(page func(ctx context.Context, v *view, name string) (any, string, error)) func(context.Context, *view, *http.Request) (any, string, error) {
	return func(ctx context.Context, v *view, r *http.Request) (any, string, error) {
		name, err := fromPath(r.PathValue("name"))
		if err != nil {
			return nil, "", err
		}
		return page(ctx, v, name)
	}
}

// overview is what most pages have.
type overview struct {
	Alerts   *alertsPanel
	Outcomes *outcomesPanel
	Reasons  *reasonsPanel
	Lists    []*namesPanel
	// Nothing helps if there is nothing to show.
	Nothing string
}

// overview gathers outcomes, reasons and alerts of the scope.
func (c *scope) overview() (*overview, error) {
	p := &overview{}
	var err error
	if p.Alerts, err = c.open(); err != nil {
		return nil, err
	}
	byCategory, err := c.courses(ledger.ByCategory)
	if err != nil {
		return nil, err
	}
	all := join(byCategory, c.v.axis().Slots)
	if all.total == (tally{}) {
		p.Nothing, err = c.nothing()
		return p, err
	}
	u, err := c.usualBand(func(_ string, t tally) int64 { return t.failures() })
	if err != nil {
		return nil, err
	}
	p.Outcomes = c.outcomes(all, u, c.marks())
	if p.Reasons, err = c.reasons(byCategory, all.total.attempts()); err != nil {
		return nil, err
	}
	return p, nil
}

// nothing says why there may be nothing to show, and what to do.
func (c *scope) nothing() (string, error) {
	lanes, err := c.s.o.Ledger.Lanes(c.ctx)
	if err != nil {
		return "", err
	}
	var last, read, malformed int64
	for _, l := range lanes {
		last = max(last, l.Last)
		read += l.Lines.Read
		malformed += l.Lines.Malformed
	}
	switch {
	case len(lanes) == 0:
		return "No source has been read yet. If it stays so, look at the page Sources and at the daemon's log: a path may match no file, or the daemon may not be allowed to read it.", nil
	case read == 0:
		return "The sources are open, but no line has come yet. This page shows the first delivery as soon as it is logged.", nil
	case last == 0 && malformed > 0:
		return "Lines are read, but they cannot be understood: the source's dialect may be the wrong one. The page Sources shows examples.", nil
	case last == 0:
		return "Lines are read, but none of them tells about a delivery. Check that this is the log of the MTA, and the source's dialect.", nil
	case len(c.of) > 0:
		return "Nothing was counted for this in this time. Take a longer time above, or remove a filter.", nil
	case last < c.v.since:
		return "No delivery was logged in this time; the latest was at " + moment(last) + " UTC. Take a longer time above.", nil
	}
	return "No delivery was logged in this time. Take a longer time above.", nil
}

func (s *Server) nowPage(ctx context.Context, v *view, _ *http.Request) (any, string, error) {
	c := s.scope(ctx, v, nil)
	p, err := c.overview()
	if err != nil || p.Nothing != "" {
		return p, "Now", err
	}
	p.Lists, err = c.lists("", ledger.ByProvider, ledger.BySenderDomain)
	return p, "Now", err
}

// lists returns the worst names of some dimensions.
func (c *scope) lists(category string, by ...ledger.Dimension) ([]*namesPanel, error) {
	var all []*namesPanel
	for _, d := range by {
		l, err := c.names(map[ledger.Dimension]string{ledger.ByProvider: "Providers", ledger.BySenderDomain: "Sender domains"}[d], d, category, 12)
		if err != nil {
			return nil, err
		}
		if len(l.Rows) > 0 {
			all = append(all, l)
		}
	}
	return all, nil
}

// reasonPage is about one category.
type reasonPage struct {
	event.CategoryInfo
	Alerts   *alertsPanel
	Cards    []card
	Ratio    *chart.Chart
	Chart    *chart.Chart
	Lists    []*namesPanel
	Wordings *wordingsPanel
	Nothing  string
	Usual    string
}

func (s *Server) reasonPage(ctx context.Context, v *view, name string) (any, string, error) {
	category, ok := event.CategoryByID(name)
	if !ok {
		return nil, "", notFound{errNoCategory}
	}
	c := s.scope(ctx, v, map[ledger.Dimension]string{ledger.ByCategory: name})
	p := &reasonPage{CategoryInfo: category.Info(), Usual: c.usualText()}
	var err error
	if p.Alerts, err = c.open(); err != nil {
		return nil, "", err
	}
	all, failed, err := c.course(name)
	if err != nil {
		return nil, "", err
	}
	u, err := c.usualBand(func(id string, t tally) int64 {
		if id == name {
			return t.failed()
		}
		return 0
	})
	if err != nil {
		return nil, "", err
	}
	if all.total == (tally{}) {
		if p.Nothing, err = c.nothing(); err != nil {
			return nil, "", err
		}
	}
	n := failed.total.failed()
	times, _ := u.times(n, all.total.attempts())
	p.Cards = []card{
		{"failures", "bounced", humanize.Comma(n), "of " + humanize.Comma(all.total.attempts()) + " attempts"},
		{"ratio", "", chart.Percent(n, all.total.attempts()), times},
		{"usual", "", u.text(), ""},
		{"bounced", "bounced", humanize.Comma(failed.total.bounced), "for good"},
		{"deferred", "deferred", humanize.Comma(failed.total.deferred), "tried again"},
	}
	if times != "" {
		p.Cards[1].Remark = times + " the usual"
	}
	if failed.total.expired > 0 {
		p.Cards = append(p.Cards, card{"expired", "expired", humanize.Comma(failed.total.expired), "messages given up"})
	}
	lately, of := c.lately(failed).failed(), c.lately(all).attempts()
	if times, up := u.times(lately, of); up {
		p.Cards = append([]card{{"last half-hour", "bounced", chart.Percent(lately, of), "▲ " + times + " the usual"}}, p.Cards...)
	}
	p.Ratio = c.ratioChart("Share of attempts that failed so", []chart.Line{{
		Name: name, Color: "bounced", Failures: failed.values(tally.failed), Attempts: all.values(tally.attempts),
	}}, u, c.marks())
	if n > 0 {
		if p.Chart, err = c.stack("Failures over time by provider", ledger.ByProvider); err != nil {
			return nil, "", err
		}
		if p.Lists, err = c.lists(name, ledger.ByProvider, ledger.BySenderDomain); err != nil {
			return nil, "", err
		}
	}
	p.Wordings, err = c.wordings(ledger.TemplateFilter{Category: name, Provider: c.of[ledger.ByProvider]}, 20)
	return p, name, err
}

// namesPage lists the names of a dimension.
func (s *Server) namesPage(by ledger.Dimension, title string) func(context.Context, *view, *http.Request) (any, string, error) {
	return func(ctx context.Context, v *view, _ *http.Request) (any, string, error) {
		c := s.scope(ctx, v, nil)
		p := &struct {
			Chart   *chart.Chart
			List    *namesPanel
			Nothing string
		}{}
		var err error
		if p.Chart, err = c.stack("Failures over time", by); err != nil {
			return nil, "", err
		}
		if p.List, err = c.names(title, by, "", 100); err != nil {
			return nil, "", err
		}
		if len(p.List.Rows) == 0 {
			p.Nothing, err = c.nothing()
		}
		return p, title, err
	}
}

// providerPage is about one provider.
func (s *Server) providerPage(ctx context.Context, v *view, name string) (any, string, error) {
	c := s.scope(ctx, v, map[ledger.Dimension]string{ledger.ByProvider: name})
	o, err := c.overview()
	if err != nil {
		return nil, "", err
	}
	p := &struct {
		*overview
		Name     string
		Wordings *wordingsPanel
	}{overview: o, Name: show(ledger.ByProvider, name)}
	if o.Nothing == "" {
		if o.Lists, err = c.lists("", ledger.BySenderDomain); err != nil {
			return nil, "", err
		}
	}
	p.Wordings, err = c.wordings(ledger.TemplateFilter{Provider: name}, 20)
	return p, p.Name, err
}

// authentication are the categories that say whether a sender's domain is
// authenticated.
var authentication = []event.Category{event.SPFFailed, event.DKIMFailed, event.DMARCFailed, event.AuthFailed, event.SenderUnverified}

// authPanel shows authentication failures by provider.
type authPanel struct {
	Columns []place
	Rows    []authRow
}

type authRow struct {
	Name, Link, Attempts string
	Cells                []authCell
	n                    int64
}

type authCell struct {
	Count, Ratio string
	Up           bool
}

// multiple is a small chart of one provider.
type multiple struct {
	Name, Link, Failed, Ratio, Usual, Times string
	Up                                      bool
	Chart                                   *chart.Chart
}

// domainPage is about one sender domain.
func (s *Server) domainPage(ctx context.Context, v *view, name string) (any, string, error) {
	c := s.scope(ctx, v, map[ledger.Dimension]string{ledger.BySenderDomain: name})
	o, err := c.overview()
	if err != nil {
		return nil, "", err
	}
	p := &struct {
		*overview
		Name      string
		Auth      *authPanel
		Providers []multiple
	}{overview: o, Name: show(ledger.BySenderDomain, name)}
	if o.Nothing != "" {
		return p, p.Name, nil
	}
	if p.Auth, err = c.authentication(); err != nil {
		return nil, "", err
	}
	p.Providers, err = c.multiples()
	return p, p.Name, err
}

func (c *scope) authentication() (*authPanel, error) {
	by := []ledger.Dimension{ledger.ByProvider, ledger.ByCategory}
	now, err := c.totals(c.v.since, c.v.until, by, ledger.ByCategory)
	if err != nil {
		return nil, err
	}
	since, until := c.before()
	before, err := c.totals(since, until, by, ledger.ByCategory)
	if err != nil {
		return nil, err
	}
	attempts, usualAttempts := make(map[string]int64), make(map[string]int64)
	for key, t := range now {
		attempts[key[0]] += t.attempts()
	}
	for key, t := range before {
		usualAttempts[key[0]] += t.attempts()
	}
	p := &authPanel{}
	for _, a := range authentication {
		p.Columns = append(p.Columns, place{Name: a.String(), Link: c.v.to(ledger.ByCategory, a.String())})
	}
	for provider, n := range attempts {
		r := authRow{Name: show(ledger.ByProvider, provider), Link: c.v.to(ledger.ByProvider, provider), Attempts: humanize.Comma(n), n: n}
		for _, a := range authentication {
			key := [2]string{provider, a.String()}
			failed := now[key].failed()
			cell := authCell{Count: humanize.Comma(failed), Ratio: chart.Percent(failed, n)}
			_, cell.Up = usual{failures: before[key].failed(), attempts: usualAttempts[provider]}.times(failed, n)
			r.Cells = append(r.Cells, cell)
		}
		p.Rows = append(p.Rows, r)
	}
	slices.SortFunc(p.Rows, func(a, b authRow) int { return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.Name, b.Name)) })
	if len(p.Rows) > 15 {
		p.Rows = p.Rows[:15]
	}
	return p, nil
}

// multiples draws the failure ratio at each of the busiest providers, with its
// usual range.
func (c *scope) multiples() ([]multiple, error) {
	byProvider, err := c.courses(ledger.ByProvider)
	if err != nil {
		return nil, err
	}
	same := func(name string) string { return name }
	usuals, err := c.usualBy(ledger.ByProvider, same, func(_ string, t tally) int64 { return t.failures() })
	if err != nil {
		return nil, err
	}
	names := slices.SortedFunc(maps.Keys(byProvider), func(a, b string) int {
		return cmp.Or(cmp.Compare(byProvider[b].total.attempts(), byProvider[a].total.attempts()), cmp.Compare(a, b))
	})
	var all []multiple
	for _, name := range names[:min(len(names), 8)] {
		k, u := byProvider[name], usuals[name]
		m := multiple{
			Name: show(ledger.ByProvider, name), Link: c.v.to(ledger.ByProvider, name), Failed: humanize.Comma(k.total.failures()),
			Ratio: chart.Percent(k.total.failures(), k.total.attempts()), Usual: u.text(),
		}
		m.Times, m.Up = u.times(k.total.failures(), k.total.attempts())
		m.Chart = c.ratioChart("Share of attempts that failed at "+m.Name, []chart.Line{{
			Name: m.Name, Color: "bounced", Failures: k.values(tally.failures), Attempts: k.values(tally.attempts),
		}}, u, nil)
		all = append(all, m)
	}
	return all, nil
}

var (
	errNoPage     = errors.New("there is no such page; the links above lead to all there are")
	errNoCategory = errors.New("there is no such reason; the page Now lists those that occur")
)
