package web

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/dustin/go-humanize"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/chart"
	"github.com/bouncemeter/bouncemeter/ledger"
)

// tally counts what became of attempts. Expired counts messages given up, which
// is no attempt.
type tally struct{ delivered, deferred, bounced, expired int64 }

func (t *tally) add(outcome string, n int64) {
	switch outcome {
	case event.Delivered.String():
		t.delivered += n
	case event.Deferred.String():
		t.deferred += n
	case event.Bounced.String():
		t.bounced += n
	case event.Expired.String():
		t.expired += n
	}
}

func (t *tally) merge(o tally) {
	t.delivered += o.delivered
	t.deferred += o.deferred
	t.bounced += o.bounced
	t.expired += o.expired
}

func (t tally) attempts() int64 { return t.delivered + t.deferred + t.bounced }
func (t tally) failures() int64 { return t.deferred + t.bounced }

// failed is what a category is ranked by: expired messages are its failures,
// too.
func (t tally) failed() int64 { return t.deferred + t.bounced + t.expired }

// scope gathers what one page shows: v's range and filters, narrowed down to
// the names that the page is about.
type scope struct {
	ctx context.Context
	s   *Server
	v   *view
	// of is what all counts are narrowed down to.
	of map[ledger.Dimension]string
	// alerts are those that are open, once asked for.
	alerts []alert
}

func (s *Server) scope(ctx context.Context, v *view, of map[ledger.Dimension]string) *scope {
	all := maps.Clone(v.where)
	maps.Copy(all, of)
	return &scope{ctx: ctx, s: s, v: v, of: all}
}

func (c *scope) where(without ...ledger.Dimension) map[ledger.Dimension][]string {
	where := make(map[ledger.Dimension][]string)
	for d, name := range c.of {
		if !slices.Contains(without, d) {
			where[d] = []string{name}
		}
	}
	return where
}

func (c *scope) query(q ledger.Query) ([]ledger.Row, error) { return c.s.cache.Query(c.ctx, q) }

// course is counts over time.
type course struct {
	total tally
	slots []tally
}

func newCourse(slots int) *course { return &course{slots: make([]tally, slots)} }

func (k *course) add(slot int64, outcome string, n int64) {
	k.total.add(outcome, n)
	if slot >= 0 && slot < int64(len(k.slots)) {
		k.slots[slot].add(outcome, n)
	}
}

func (k *course) values(of func(tally) int64) []int64 {
	all := make([]int64, len(k.slots))
	for i, t := range k.slots {
		all[i] = of(t)
	}
	return all
}

// courses returns the counts over time by the names of a dimension. Filters on
// the dimensions in without are left out.
func (c *scope) courses(by ledger.Dimension, without ...ledger.Dimension) (map[string]*course, error) {
	rows, err := c.query(ledger.Query{
		Since: c.v.since, Until: c.v.until, Step: c.v.step, By: []ledger.Dimension{ledger.ByOutcome, by}, Where: c.where(without...), Limit: maxRows,
	})
	if err != nil {
		return nil, err
	}
	all := make(map[string]*course)
	for _, r := range rows {
		k := all[r.Keys[1]]
		if k == nil {
			k = newCourse(c.v.axis().Slots)
			all[r.Keys[1]] = k
		}
		k.add((r.Start-c.v.since)/c.v.step, r.Keys[0], r.Attempts)
	}
	return all, nil
}

// maxRows bounds the answers to a page's queries.
const maxRows = 400_000

// join adds courses up.
func join(all map[string]*course, slots int) *course {
	sum := newCourse(slots)
	for _, k := range all {
		sum.total.merge(k.total)
		for i := range k.slots {
			sum.slots[i].merge(k.slots[i])
		}
	}
	return sum
}

// course returns all attempts over time, and what failed for one reason.
func (c *scope) course(category string) (all, failed *course, err error) {
	slots := c.v.axis().Slots
	byCategory, err := c.courses(ledger.ByCategory, ledger.ByCategory)
	if err != nil {
		return nil, nil, err
	}
	if failed = byCategory[category]; failed == nil {
		failed = newCourse(slots)
	}
	return join(byCategory, slots), failed, nil
}

// totals returns the counts of the range by the names of dimensions.
func (c *scope) totals(since, until int64, by []ledger.Dimension, without ...ledger.Dimension) (map[[2]string]tally, error) {
	rows, err := c.query(ledger.Query{
		Since: since, Until: until, By: append([]ledger.Dimension{ledger.ByOutcome}, by...), Where: c.where(without...), Limit: maxRows,
	})
	if err != nil {
		return nil, err
	}
	all := make(map[[2]string]tally)
	for _, r := range rows {
		var key [2]string
		copy(key[:], r.Keys[1:])
		t := all[key]
		t.add(r.Keys[0], r.Attempts)
		all[key] = t
	}
	return all, nil
}

// before returns the time that tells what is usual: the week before the range,
// or as much as the range for longer ones.
func (c *scope) before() (since, until int64) {
	grain := max(int64(3600), c.v.step/3600*3600)
	until = c.v.since / grain * grain
	return until - max(7*day, (c.v.until-c.v.since+grain-1)/grain*grain), until
}

// usual is what was usual for some ratio.
type usual struct {
	failures, attempts int64
	band               *chart.Band
}

// Known reports whether there was enough to tell what is usual.
func (u usual) known() bool { return u.attempts >= 50 }

func (u usual) ratio() float64 { return float64(u.failures) / float64(max(u.attempts, 1)) }

func (u usual) text() string {
	if !u.known() {
		return "–"
	}
	return chart.Percent(u.failures, u.attempts)
}

// times says how many times the usual ratio n of of is, and whether it is so
// much more that chance alone will not do it.
func (u usual) times(n, of int64) (text string, up bool) {
	if !u.known() || of == 0 || n == 0 {
		return "", false
	}
	expected := u.ratio() * float64(of)
	// Half a failure stands for none, so that a new reason has a ratio, too.
	factor := float64(n) / max(expected, 0.5*float64(of)/float64(u.attempts), 0.1)
	up = n >= 5 && factor >= 2 && float64(n) > expected+4*math.Sqrt(expected)+3
	switch {
	case factor >= 100:
		text = ">99×"
	case factor >= 10:
		text = fmt.Sprintf("%.0f×", factor)
	default:
		text = fmt.Sprintf("%.1f×", factor)
	}
	return text, up
}

// leastAttempts is how many attempts a slot needs to say something of what is
// usual.
const leastAttempts = 20

// usualBand returns what was usual for the ratio of some failures, with the range
// that four of five hours (of days, for a chart by days) were in.
func (c *scope) usualBand(failed func(category string, t tally) int64) (usual, error) {
	all, err := c.usualBy(ledger.ByCategory, func(string) string { return "" }, failed, ledger.ByCategory)
	return all[""], err
}

// usualBy is usualBand for groups of the names of a dimension.
func (c *scope) usualBy(by ledger.Dimension, group func(name string) string, failed func(name string, t tally) int64, without ...ledger.Dimension) (map[string]usual, error) {
	since, until := c.before()
	rows, err := c.query(ledger.Query{
		Since: since, Until: until, Step: max(3600, c.v.step), By: []ledger.Dimension{ledger.ByOutcome, by}, Where: c.where(without...), Limit: maxRows,
	})
	if err != nil {
		return nil, err
	}
	type sum struct{ failures, attempts int64 }
	slots := make(map[string]map[int64]sum)
	for _, r := range rows {
		var t tally
		t.add(r.Keys[0], r.Attempts)
		of := slots[group(r.Keys[1])]
		if of == nil {
			of = make(map[int64]sum)
			slots[group(r.Keys[1])] = of
		}
		x := of[r.Start]
		x.failures += failed(r.Keys[1], t)
		x.attempts += t.attempts()
		of[r.Start] = x
	}
	all := make(map[string]usual)
	for name, of := range slots {
		var u usual
		var ratios []float64
		for _, x := range of {
			u.failures += x.failures
			u.attempts += x.attempts
			if x.attempts >= leastAttempts {
				ratios = append(ratios, min(float64(x.failures)/float64(x.attempts), 1))
			}
		}
		if len(ratios) >= 4 {
			slices.Sort(ratios)
			at := func(q float64) float64 { return ratios[int(math.Round(q*float64(len(ratios)-1)))] }
			u.band = &chart.Band{Low: at(.1), High: at(.9)}
		}
		all[name] = u
	}
	return all, nil
}

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
	course *course
}

// place is a name with its share.
type place struct{ Name, Link, Share string }

type reasonsPanel struct {
	Rows  []*reason
	Chart *chart.Chart
	// Usual says what the reasons are compared with.
	Usual string
}

// reasons compares the reasons of failures with what is usual. Those that are
// far above it come first, and then the most frequent.
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
		if times, up := u.times(c.lately(k).failed(), lately); up {
			r.Times, r.Up, r.Lately = times, true, "last half-hour"
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
	return p, nil
}

// lately sums up the last half-hour, where the range goes up to now and has slots
// as short: what has just begun is little among many hours.
func (c *scope) lately(k *course) (t tally) {
	if c.v.until < c.v.now || c.v.step > 900 {
		return tally{}
	}
	for _, slot := range k.slots[max(len(k.slots)-int(1800/c.v.step), 0):] {
		t.merge(slot)
	}
	return t
}

// usualText says what "usual" means here.
func (c *scope) usualText() string {
	since, until := c.before()
	days := (until - since) / day
	return fmt.Sprintf("usual: the %d days before", days)
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

func (c *scope) failuresOnly(without ...ledger.Dimension) map[ledger.Dimension][]string {
	where := c.where(without...)
	where[ledger.ByOutcome] = []string{event.Deferred.String(), event.Bounced.String(), event.Expired.String()}
	return where
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
		rest.Values[(r.Start-c.v.since)/c.v.step] += r.Attempts
	}
	for i, n := range rest.Values {
		rest.Values[i] = max(n, 0) // there may have been a commit in between
	}
	return chart.Stacked(axis, label, append(layers, rest)), nil
}

// wording is one wording of replies.
type wording struct {
	Text, Provider, ProviderLink, Category, CategoryLink, Rule, Count, First, Last string
}

type wordingsPanel struct {
	Rows   []wording
	Codes  []code
	Remark string
}

// code is how often a status code was in replies.
type code struct{ Code, Count, Share string }

// wordings shows what servers have said. Counts are of all time, since a ledger
// does not keep wordings by time; those last seen before the range are left out.
func (c *scope) wordings(f ledger.TemplateFilter, limit int) (*wordingsPanel, error) {
	all, err := c.s.o.Ledger.Templates(c.ctx, f, 1000)
	if err != nil {
		return nil, err
	}
	p := &wordingsPanel{}
	codes := make(map[string]int64)
	var sum int64
	shown := 0
	for _, t := range all {
		if t.Last < c.v.since || t.First >= c.v.until {
			continue
		}
		if code := codeOf(t.Text); code != "" {
			codes[code] += t.Attempts
			sum += t.Attempts
		}
		if shown++; shown > limit {
			continue
		}
		p.Rows = append(p.Rows, wording{
			Text: short(t.Text, 600), Provider: show(ledger.ByProvider, t.Provider), ProviderLink: c.v.to(ledger.ByProvider, t.Provider),
			Category: show(ledger.ByCategory, t.Category), CategoryLink: c.v.to(ledger.ByCategory, t.Category), Rule: short(t.Rule, 80),
			Count: humanize.Comma(t.Attempts), First: moment(t.First), Last: moment(t.Last),
		})
	}
	if shown > limit {
		p.Remark = fmt.Sprintf("the %d most frequent of %d", limit, shown)
	}
	for _, name := range slices.SortedFunc(maps.Keys(codes), func(a, b string) int {
		return cmp.Or(cmp.Compare(codes[b], codes[a]), cmp.Compare(a, b))
	}) {
		if len(p.Codes) == 12 {
			break
		}
		p.Codes = append(p.Codes, code{name, humanize.Comma(codes[name]), chart.Percent(codes[name], sum)})
	}
	return p, nil
}

// codeOf returns the basic and the enhanced status code (RFC 5321 section 4.2,
// RFC 3463) that a reply begins with, such as "550 5.7.26", or "" if there is
// none.
func codeOf(text string) string {
	if len(text) < 3 || text[0] < '4' || text[0] > '5' || !digits(text[1:3]) || len(text) > 3 && text[3] != ' ' && text[3] != '-' {
		return ""
	}
	basic := text[:3]
	if len(text) < 9 {
		return basic
	}
	rest := text[4:]
	i := 0
	for i < len(rest) && i < 9 && (rest[i] == '.' || digits(rest[i:i+1])) {
		i++
	}
	var class, subject, detail int
	if n, err := fmt.Sscanf(rest[:i], "%d.%d.%d", &class, &subject, &detail); n == 3 && err == nil && class == int(basic[0]-'0') {
		return fmt.Sprintf("%s %d.%d.%d", basic, class, subject, detail)
	}
	return basic
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
