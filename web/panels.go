package web

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/dustin/go-humanize"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/chart"
	"github.com/bouncemeter/bouncemeter/ledger"
)

// colors are the classes for the first of a list; the rest share one.
const colors = 7

func color(i int) string {
	if i < colors {
		return fmt.Sprintf("c%d", i)
	}
	return "rest"
}

// card is one number to see at a glance.
type card struct{ Name, Class, Value, Remark string }

// bar is a part of a whole of 1000.
type bar struct {
	Class    string
	X, Width float64
}

type outcomesPanel struct {
	Cards []card
	Bars  []bar
	Chart *chart.Chart
	Ratio *chart.Chart
	Usual string
}

// outcomes shows what became of all attempts.
func (c *scope) outcomes(all *course, u usual, marks []chart.Mark) *outcomesPanel {
	t := all.total
	p := &outcomesPanel{}
	x := 0.0
	for _, o := range []struct {
		name string
		n    int64
	}{{"delivered", t.delivered}, {"deferred", t.deferred}, {"bounced", t.bounced}} {
		width := 1000 * float64(o.n) / float64(max(t.attempts(), 1))
		p.Cards = append(p.Cards, card{o.name, o.name, humanize.Comma(o.n), chart.Percent(o.n, t.attempts())})
		p.Bars = append(p.Bars, bar{o.name, x, width})
		x += width
	}
	if t.expired > 0 {
		p.Cards = append(p.Cards, card{"expired", "expired", humanize.Comma(t.expired), "messages given up"})
	}
	remark := "usual is not known yet"
	if u.known() {
		remark = "usual " + u.text()
	}
	p.Cards = append(p.Cards, card{"failure ratio", "", chart.Percent(t.failures(), t.attempts()), remark})
	p.Chart = chart.Stacked(c.v.axis(), "Attempts over time by outcome", []chart.Layer{
		{Name: "bounced", Color: "bounced", Values: all.values(func(t tally) int64 { return t.bounced })},
		{Name: "deferred", Color: "deferred", Values: all.values(func(t tally) int64 { return t.deferred })},
		{Name: "delivered", Color: "delivered", Values: all.values(func(t tally) int64 { return t.delivered })},
	})
	p.Ratio = c.ratioChart("Share of attempts that failed", []chart.Line{{
		Name: "failed", Color: "bounced", Failures: all.values(tally.failures), Attempts: all.values(tally.attempts),
	}}, u, marks)
	return p
}

// ratioChart leaves out the slots with so few attempts that their ratio would
// hide the others.
func (c *scope) ratioChart(label string, lines []chart.Line, u usual, marks []chart.Mark) *chart.Chart {
	for i := range lines {
		var total int64
		for _, n := range lines[i].Attempts {
			total += n
		}
		least := min(total/int64(10*max(len(lines[i].Attempts), 1)), leastAttempts)
		for k, n := range lines[i].Attempts {
			if n < least {
				lines[i].Attempts[k] = 0
			}
		}
	}
	h := chart.Ratios(c.v.axis(), label, lines, u.band)
	h.Mark(c.v.axis(), marks)
	return h
}

// reason is one row of the reasons.
type reason struct {
	Name, Link, Color, Meaning string
	Failed, Ratio              string
	Usual, Times               string
	Up                         bool
	Lately                     string // what Times is about, if not the whole range
	Spark                      *chart.Chart
	Where                      []place // where most of it is

	id     string
	n      int64
	factor float64 // of the usual
	course *course
}

// place is a name with its share.
type place struct{ Name, Link, Share string }

type reasonsPanel struct {
	Rows []*reason
	// Rare are those behind the first, which are folded up.
	Rare  []*reason
	Chart *chart.Chart
	// Usual says what the reasons are compared with.
	Usual string
}

// reasons compares the reasons of failures with what is usual. Those that are
// far above it come first, the farthest before all, and then the most frequent.
func (c *scope) reasons(byCategory map[string]*course, attempts int64) (*reasonsPanel, error) {
	since, until := c.before()
	before, err := c.totals(since, until, []ledger.Dimension{ledger.ByCategory})
	if err != nil {
		return nil, err
	}
	var usualAttempts int64
	for _, t := range before {
		usualAttempts += t.attempts()
	}
	where, err := c.places()
	if err != nil {
		return nil, err
	}
	p := &reasonsPanel{Usual: c.usualText()}
	var lately int64 // attempts
	for _, k := range byCategory {
		lately += c.lately(k).attempts()
	}
	for id, k := range byCategory {
		n := k.total.failed()
		if n == 0 {
			continue
		}
		u := usual{failures: before[[2]string{id}].failed(), attempts: usualAttempts}
		r := &reason{
			Name: show(ledger.ByCategory, id), Link: c.v.to(ledger.ByCategory, id), Meaning: meaning(id), Failed: humanize.Comma(n),
			Ratio: chart.Percent(n, attempts), Usual: u.text(), Where: where[id], id: id, n: n, course: k,
		}
		r.Times, r.Up = u.times(n, attempts)
		r.factor = u.factor(n, attempts)
		if of := c.lately(k).failed(); of > 0 {
			if times, up := u.times(of, lately); up {
				r.Times, r.Up, r.Lately, r.factor = times, true, "last half-hour", u.factor(of, lately)
			}
		}
		p.Rows = append(p.Rows, r)
	}
	slices.SortFunc(p.Rows, func(a, b *reason) int {
		if a.Up != b.Up {
			if a.Up {
				return -1
			}
			return 1
		}
		if a.Up {
			return cmp.Or(cmp.Compare(b.factor, a.factor), cmp.Compare(a.id, b.id))
		}
		return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.id, b.id))
	})
	axis := c.v.axis()
	var layers []chart.Layer
	rest := chart.Layer{Name: "all others", Color: "rest", Values: make([]int64, axis.Slots)}
	for i, r := range p.Rows {
		r.Color = color(i)
		values := r.course.values(tally.failed)
		r.Spark = chart.Stacked(axis, "Course of "+r.Name, []chart.Layer{{Name: r.Name, Color: r.Color, Values: values}})
		if i < colors {
			layers = append(layers, chart.Layer{Name: r.Name, Color: r.Color, Link: r.Link, Values: values})
			continue
		}
		for k, n := range values {
			rest.Values[k] += n
		}
	}
	if len(p.Rows) > colors {
		layers = append(layers, rest)
	}
	p.Chart = chart.Stacked(axis, "Failures over time by reason", layers)
	if len(p.Rows) > 15 {
		p.Rows, p.Rare = p.Rows[:12], p.Rows[12:]
	}
	return p, nil
}

func meaning(id string) string {
	cat, _ := event.CategoryByID(id)
	return cat.Info().Meaning
}

// places tells for each category where most of its failures are: at which
// provider from which sender domain, as far as the page does not say already.
func (c *scope) places() (map[string][]place, error) {
	by := ledger.BySenderDomain
	if _, ok := c.of[by]; ok {
		by = ledger.ByProvider
	}
	places := make(map[string][]place)
	dimensions := []ledger.Dimension{by}
	if _, ok := c.of[ledger.ByProvider]; !ok && by == ledger.BySenderDomain {
		dimensions = append(dimensions, ledger.ByProvider)
	}
	rows, err := c.query(ledger.Query{
		Since: c.v.since, Until: c.v.until, By: append([]ledger.Dimension{ledger.ByCategory}, dimensions...), Limit: maxRows,
		Where: c.failuresOnly(),
	})
	if err != nil {
		return nil, err
	}
	sums := make(map[string]int64)
	for _, r := range rows {
		sums[r.Keys[0]] += r.Attempts
	}
	for _, r := range rows { // most first
		id := r.Keys[0]
		if len(places[id]) == 2 || 10*r.Attempts < sums[id] {
			continue
		}
		p := place{Name: show(by, r.Keys[1]), Link: c.v.to(by, r.Keys[1]), Share: chart.Percent(r.Attempts, sums[id])}
		if len(dimensions) == 2 {
			p.Name += " at " + show(ledger.ByProvider, r.Keys[2])
		}
		places[id] = append(places[id], p)
	}
	return places, nil
}

// named is one row of a list of names.
type named struct {
	Name, Link          string
	Attempts, Failed    string
	Ratio, Usual, Times string
	Up                  bool
	Bar                 float64
	Reason, ReasonLink  string
}

type namesPanel struct {
	Title, Kind, Remark string
	Rows                []*named
	Reasons             bool // whether rows have a top reason
	Usual               string
}

// names lists the names of a dimension with most failures, of one category if it
// is not "", and compares them with what is usual.
func (c *scope) names(title string, by ledger.Dimension, category string, limit int) (*namesPanel, error) {
	now, err := c.ratios(c.v.since, c.v.until, by, category)
	if err != nil {
		return nil, err
	}
	since, until := c.before()
	before, err := c.ratios(since, until, by, category)
	if err != nil {
		return nil, err
	}
	p := &namesPanel{Title: title, Kind: c.kind(by), Reasons: category == "", Usual: c.usualText()}
	maps.DeleteFunc(now, func(_ string, x usual) bool { return x.failures == 0 })
	names := slices.SortedFunc(maps.Keys(now), func(a, b string) int {
		return cmp.Or(cmp.Compare(now[b].failures, now[a].failures), cmp.Compare(now[b].attempts, now[a].attempts), cmp.Compare(a, b))
	})
	if len(names) > limit {
		p.Remark = fmt.Sprintf("the worst %d of %s", limit, humanize.Comma(int64(len(names))))
		names = names[:limit]
	}
	reasons := make(map[string]string)
	if p.Reasons && len(names) > 0 {
		if reasons, err = c.topReasons(by, names); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		x, u := now[name], before[name]
		r := &named{
			Name: show(by, name), Link: c.v.to(by, name), Attempts: humanize.Comma(x.attempts), Failed: humanize.Comma(x.failures),
			Ratio: chart.Percent(x.failures, x.attempts), Usual: u.text(), Bar: 1000 * float64(x.failures) / float64(now[names[0]].failures),
		}
		r.Times, r.Up = u.times(x.failures, x.attempts)
		if id, ok := reasons[name]; ok {
			r.Reason, r.ReasonLink = show(ledger.ByCategory, id), c.v.to(ledger.ByCategory, id)
		}
		p.Rows = append(p.Rows, r)
	}
	return p, nil
}

// ratios returns failures, of one category if it is not "", and all attempts by
// the names of a dimension.
func (c *scope) ratios(since, until int64, by ledger.Dimension, category string) (map[string]usual, error) {
	all := make(map[string]usual)
	add := func(where map[ledger.Dimension][]string, add func(u *usual, t tally)) error {
		rows, err := c.query(ledger.Query{Since: since, Until: until, By: []ledger.Dimension{ledger.ByOutcome, by}, Where: where, Limit: maxRows})
		for _, r := range rows {
			var t tally
			t.add(r.Keys[0], r.Attempts)
			u := all[r.Keys[1]]
			add(&u, t)
			all[r.Keys[1]] = u
		}
		return err
	}
	if err := add(c.where(ledger.ByCategory), func(u *usual, t tally) {
		u.attempts += t.attempts()
		if category == "" {
			u.failures += t.failures()
		}
	}); err != nil || category == "" {
		return all, err
	}
	where := c.where()
	where[ledger.ByCategory] = []string{category}
	return all, add(where, func(u *usual, t tally) { u.failures += t.failed() })
}

// topReasons returns the most frequent reason for each of some names.
func (c *scope) topReasons(by ledger.Dimension, names []string) (map[string]string, error) {
	where := c.failuresOnly()
	where[by] = names
	rows, err := c.query(ledger.Query{Since: c.v.since, Until: c.v.until, By: []ledger.Dimension{by, ledger.ByCategory}, Where: where, Limit: maxRows})
	top := make(map[string]string)
	for _, r := range rows { // most first
		if _, ok := top[r.Keys[0]]; !ok {
			top[r.Keys[0]] = r.Keys[1]
		}
	}
	return top, err
}

func (c *scope) kind(d ledger.Dimension) string {
	for _, f := range filters {
		if f.by == d {
			return f.title
		}
	}
	return ""
}

// stack draws failures over time by the names of a dimension, those with most on
// their own and the rest together.
func (c *scope) stack(label string, by ledger.Dimension) (*chart.Chart, error) {
	totals, err := c.query(ledger.Query{Since: c.v.since, Until: c.v.until, By: []ledger.Dimension{by}, Where: c.failuresOnly(), Limit: colors + 1})
	if err != nil || len(totals) == 0 {
		return nil, err
	}
	var names []string
	for _, r := range totals[:min(len(totals), colors)] {
		names = append(names, r.Keys[0])
	}
	where := c.failuresOnly()
	where[by] = names
	rows, err := c.query(ledger.Query{Since: c.v.since, Until: c.v.until, Step: c.v.step, By: []ledger.Dimension{by}, Where: where, Limit: maxRows})
	if err != nil {
		return nil, err
	}
	axis := c.v.axis()
	layers := make([]chart.Layer, len(names))
	for i, name := range names {
		layers[i] = chart.Layer{Name: show(by, name), Color: color(i), Link: c.v.to(by, name), Values: make([]int64, axis.Slots)}
	}
	rest := chart.Layer{Name: "all others", Color: "rest", Values: make([]int64, axis.Slots)}
	for _, r := range rows {
		at := (r.Start - c.v.since) / c.v.step
		if at < 0 || at >= int64(axis.Slots) {
			continue // of a clock that is far off
		}
		layers[slices.Index(names, r.Keys[0])].Values[at] += r.Attempts
		rest.Values[at] -= r.Attempts
	}
	if len(totals) <= colors {
		return chart.Stacked(axis, label, layers), nil
	}
	if rows, err = c.query(ledger.Query{Since: c.v.since, Until: c.v.until, Step: c.v.step, Where: c.failuresOnly(), Limit: maxRows}); err != nil {
		return nil, err
	}
	for _, r := range rows {
		if at := (r.Start - c.v.since) / c.v.step; at >= 0 && at < int64(axis.Slots) {
			rest.Values[at] += r.Attempts
		}
	}
	for i, n := range rest.Values {
		rest.Values[i] = max(n, 0) // there may have been a commit in between
	}
	return chart.Stacked(axis, label, append(layers, rest)), nil
}
