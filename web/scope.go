package web

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

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
	ctx context.Context // of the one request that the scope is made for
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

// factor is how many times the usual ratio n of of is. Half a failure stands for
// none, so that a new reason has a ratio, too.
func (u usual) factor(n, of int64) float64 {
	return float64(n) / max(u.ratio()*float64(of), 0.5*float64(of)/float64(max(u.attempts, 1)), 0.1)
}

// times says how many times the usual ratio n of of is, and whether it is so
// much more that chance alone will not do it.
func (u usual) times(n, of int64) (text string, up bool) {
	if !u.known() || of == 0 || n == 0 {
		return "", false
	}
	expected, factor := u.ratio()*float64(of), u.factor(n, of)
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

// usualText says what "usual" means here.
func (c *scope) usualText() string {
	since, until := c.before()
	days := (until - since) / day
	return fmt.Sprintf("usual: the %d days before", days)
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

// failuresOnly filters what failed in the scope.
func (c *scope) failuresOnly() map[ledger.Dimension][]string {
	where := c.where()
	where[ledger.ByOutcome] = []string{event.Deferred.String(), event.Bounced.String(), event.Expired.String()}
	return where
}
