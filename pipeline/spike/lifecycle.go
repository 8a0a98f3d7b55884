package spike

import (
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

// alert is an Alert and what is needed to lead it to its end.
type alert struct {
	Alert

	rule     uint8
	category event.Category
	of       subject
	place    int32 // of the series, flow, meter or wording that it is of; none for Breadth

	// Breadth: the dimensions shared, their names, and the series that rise.
	edge    uint8
	ids     [nameKinds]uint32
	members []int32

	fired    int32 // minute
	data     int32 // minute of the last attempt
	ended    int32 // minute of the end
	changed  int32 // minute from which on it persists
	told     float64
	expected float64 // failures usual since the beginning

	// The reverse test: between the ratio high, which the alert began with, and
	// low, which is usual, from the minute calm on with calmK of calmN failing.
	high, low    float64
	phi          float64
	score        float64
	calm         int32
	calmK, calmN float64

	fixed Severity // decided by the windows of a burn rate, if not empty

	// What was usual before the series was set to what it does while it persists.
	past [4]float32
}

// subject says what an alert is of.
type subject uint8

const (
	ofSeries subject = iota
	ofTrend
	ofMany
	ofFlow
	ofMeter
	ofWording
)

func (a *alert) copy() Alert {
	c := a.Alert
	c.Labels = maps.Clone(c.Labels)
	c.Top, c.Unchanged, c.Explanation = slices.Clone(c.Top), slices.Clone(c.Unchanged), slices.Clone(c.Explanation)
	return c
}

func at(m int32) time.Time { return time.Unix(int64(m)*60, 0).UTC() }

// begin makes a new alert of a rule and scope that began at the minute since.
func (d *Detector) begin(m, since int32, ri uint8, c event.Category, labels map[Dimension]string, kind Kind) *alert {
	r := &d.rules[ri]
	a := &alert{rule: ri, category: c, fired: m, data: m, calm: m, changed: m}
	a.Alert = Alert{
		ID: id(r.Name, kind, labels, int64(since)*60), Rule: r.Name, Kind: kind, State: Firing, Labels: labels,
		Since: at(since), Fired: at(m + 1), Threshold: r.h,
	}
	a.Incident = a.ID
	d.alerts = append(d.alerts, a)
	return a
}

// tell completes the texts and reports the alert as it is now.
func (d *Detector) tell(m int32, a *alert) {
	a.Updated = at(m + 1)
	a.told = a.Excess
	if s := d.severity(m, a); rank(s) > rank(a.Severity) {
		a.Severity = s // it does not fall: people remember the worst
	}
	d.write(a)
	d.changes = append(d.changes, Change{Time: int64(m+1) * 60, Alert: a.copy()})
}

// end closes the alert; it may come back for a while.
func (d *Detector) end(m int32, a *alert, why string) {
	a.State, a.Ending, a.Resolved, a.ended = Resolved, why, at(m+1), m
	d.tell(m, a)
}

// severity follows the cost: failures beyond the usual an hour, and the part of
// the mail that is hit.
func (d *Detector) severity(m int32, a *alert) Severity {
	if s := d.rules[a.rule].Severity; s != "" {
		return s
	}
	if a.fixed != "" {
		return a.fixed
	}
	switch a.Kind {
	case Trend, Template:
		return Ticket
	case Silence:
		return Critical
	}
	begun := int32(a.Since.Unix() / 60)
	hours := max(float64(m+1-begun), 10) / 60
	perHour := a.Excess / hours
	s := Ticket
	switch {
	case perHour >= 500, perHour >= 100 && (a.Ratio >= 0.2 || a.Members >= 10):
		s = Critical
	case perHour >= 20, a.Ratio >= 0.2 && perHour >= 5, a.Members > 0:
		s = Warning
	}
	// What is usual is not known well yet. Far beyond its upper bound that is no
	// excuse.
	if a.Cold && a.Members == 0 && a.Ratio < certainTimes*a.Null {
		if s == Critical {
			return Warning
		}
		return Ticket
	}
	return s
}

// fireSingles raises alerts of single series. One whose neighbours rise too
// waits for a few minutes, as an alert for all of them may follow.
func (d *Detector) fireSingles(m int32) {
	slices.Sort(d.candidates)
	for _, i := range d.candidates {
		s := &d.series[i]
		if x := d.excursionOf(s); s.flags&flagHeld == 0 && x.waited < maxWait && d.spreading(s, x) {
			x.waited++
			continue
		}
		d.fire(m, i)
	}
}

func (d *Detector) fire(m, i int32) {
	s := &d.series[i]
	x := d.excursionOf(s)
	b := d.baseline(s)
	a := d.alertOf(i)
	switch {
	case a == nil:
		a = d.begin(m, x.since, s.rule, s.category, d.labels(s.rule, s.scope, s.category), d.rules[s.rule].Kind)
		a.of, a.place = ofSeries, i
		a.Cold = m-d.scopes[s.scope].first < coldFor
		s.flags |= flagAlert
		a.Failures, a.Attempts = int64(x.k), int64(x.n)
		a.expected = float64(x.n) * b.p
	case a.State == Resolved: // it came back
		a.Flaps++
		a.Ending, a.Resolved = "", time.Time{}
		a.Failures += int64(x.k)
		a.Attempts += int64(x.n)
		a.expected += float64(x.n) * b.p
	default:
		// It persists and is getting worse: the past is that of before, so the
		// counts since then are already in.
	}
	if a.State != Persisting {
		a.Usual, a.Null, a.Dispersion = b.p, b.u, b.phi
		a.low, a.phi = backTo*b.u, b.phi
	}
	a.State = Firing
	a.Score = x.top()
	a.fired, a.changed, a.data = m, m, m
	a.measure()
	a.high = a.surely(float64(x.k), float64(x.n))
	a.restart(m)
	s.flags |= flagFiring
	d.clear(s)
	d.adopt(a)
	d.describe(m, a, []int32{i})
	d.tell(m, a)
}

// alertOf returns the alert of a series, also one that may come back, or nil.
func (d *Detector) alertOf(i int32) *alert {
	if d.series[i].flags&flagAlert == 0 {
		return nil
	}
	for _, a := range d.alerts {
		if a.of == ofSeries && a.place == i {
			return a
		}
	}
	return nil
}

// measure takes ratio and excess from the sums.
func (a *alert) measure() {
	a.Ratio = 0
	if a.Attempts > 0 {
		a.Ratio = float64(a.Failures) / float64(a.Attempts)
	}
	a.Excess = max(0, float64(a.Failures)-a.expected)
}

// restart begins the reverse test again.
func (a *alert) restart(m int32) { a.score, a.calm, a.calmK, a.calmN = 0, m, 0, 0 }

// reverse adds the evidence of a minute to the reverse test, and reports whether
// things are as usual again.
func (a *alert) reverse(m int32, k, n, gain float64) bool {
	if a.score += gain; a.score <= 0 {
		a.restart(m + 1)
		return false
	}
	a.calmK += k
	a.calmN += n
	return a.score >= restore
}

// surely is the ratio of k in n that the reverse test takes to go on: less than
// what was counted, the more so the less that was, because an alert fires when
// chance adds to what is true. Where counts vary more than by chance, the evidence
// is of clumps, which is less already.
func (a *alert) surely(k, n float64) float64 {
	less := max(0.5, 1-1.25/(a.phi*a.phi*math.Sqrt(max(k, 1))))
	return min(max(less*k/n, 1.5*a.low), 1-(1-a.low)/3)
}

// hold is for how many minutes things must look usual: longer for one that keeps
// coming back.
func (a *alert) hold() int32 {
	h := int32(quiet)
	for range min(a.Flaps, 3) {
		h *= 3
	}
	return min(h, 90)
}

// advanceAlerts leads every alert on by a minute.
func (d *Detector) advanceAlerts(m int32) {
	for _, a := range d.alerts {
		if a.State == Resolved || a.fired == m && a.of != ofTrend {
			continue
		}
		switch a.of {
		case ofSeries:
			d.advanceSeries(m, a)
		case ofMany:
			d.advanceBreadth(m, a)
		}
	}
	d.alerts = slices.DeleteFunc(d.alerts, func(a *alert) bool {
		over := a.State == Resolved && (m-a.ended > reopen || a.of != ofSeries)
		if over && a.of == ofSeries {
			d.series[a.place].flags &^= flagAlert
		}
		return over
	})
}

func (d *Detector) advanceSeries(m int32, a *alert) {
	s := &d.series[a.place]
	sc := &d.scopes[s.scope]
	var k, n float64
	if sc.stamp == m {
		k, n = float64(s.k), float64(sc.n)
		if d.rules[s.rule].foreign {
			n += k
		}
		k = min(k, n)
	}
	if n == 0 {
		d.starve(m, a, sc.active(a.data))
		return
	}
	d.feed(m, a)
	a.Failures += int64(k)
	a.Attempts += int64(n)
	a.expected += float64(n * a.Usual)
	a.measure()
	if a.reverse(m, k, n, -odds(k, n, a.low, a.high, a.phi)) {
		if level := a.calmK / a.calmN; level > 2*a.low && a.calmK >= 3 {
			// Not as bad as it was, but far from usual.
			a.high = a.surely(a.calmK, a.calmN)
			a.restart(m + 1)
		} else if m-a.fired >= quiet && m-a.calm >= a.hold()-1 {
			d.release(m, a, a.State == Persisting)
			d.end(m, a, "back to usual")
			return
		}
	}
	d.age(m, a)
}

// starve handles a minute without attempts.
func (d *Detector) starve(m int32, a *alert, busy bool) {
	wait := int32(staleAfter)
	if !busy {
		wait = 6 * 60 // it is often quiet
	}
	switch {
	case m-a.data >= giveUpAfter:
		d.release(m, a, true)
		d.end(m, a, "nothing was sent for a week")
	case m-a.data >= wait && a.State != Stale:
		a.State = Stale
		d.tell(m, a)
	}
}

// feed handles a minute with attempts.
func (d *Detector) feed(m int32, a *alert) {
	a.data = m
	if a.State == Stale {
		a.State = Firing
		d.tell(m, a)
	}
}

// age turns a lasting alert into one that persists, tells of one that has grown
// much, and ends one that has become usual.
func (d *Detector) age(m int32, a *alert) {
	switch {
	case a.State == Firing && m-a.changed >= persistAfter:
		a.State = Persisting
		a.changed = m
		if a.of == ofSeries {
			d.rebase(m, a)
		}
		for _, i := range a.members {
			d.thaw(i)
		}
		d.tell(m, a)
	case a.State == Persisting && m-a.changed >= giveUpAfter:
		d.release(m, a, false)
		d.end(m, a, "has become usual after a week")
	case a.State == Firing && rank(d.severity(m, a)) > rank(a.Severity), a.State == Firing && a.Excess >= 4*a.told+10:
		switch a.of {
		case ofSeries:
			d.describe(m, a, []int32{a.place})
		case ofMany:
			d.measureMany(m, a)
			d.describe(m, a, a.members)
		}
		d.tell(m, a)
	}
}

func rank(s Severity) int { return slices.Index(severities, s) }

// rebase sets what is usual for the series to what it has done during the alert,
// so that it can get worse and be noticed. What was usual is kept.
func (d *Detector) rebase(m int32, a *alert) {
	s := &d.series[a.place]
	a.past = [4]float32{s.a, s.b, s.v, s.e}
	n := min(float64(a.Attempts), max(float64(s.b), 100))
	s.a, s.b, s.v, s.e = float32(a.Ratio*n), float32(n), 0, 0
	s.last = m
	d.clear(s)
	s.flags &^= flagFiring
}

// release lets the series learn again: from what was usual before the alert, or
// from what it did while it persisted.
func (d *Detector) release(m int32, a *alert, before bool) {
	if a.of == ofMany {
		d.disband(m, a)
		return
	}
	s := &d.series[a.place]
	if before && a.past != [4]float32{} {
		s.a, s.b, s.v, s.e = a.past[0], a.past[1], a.past[2], a.past[3]
		s.last = m
	}
	a.past = [4]float32{}
	s.flags &^= flagFiring
	d.clear(s)
}

// describe fills in where the excess comes from and what is as usual.
func (d *Detector) describe(m int32, a *alert, members []int32) {
	r := &d.rules[a.rule]
	with := d.views[r.view].mask &^ a.edge
	if a.of != ofMany {
		with = 0
	}
	a.Explanation = explain(d.elementsOf(m, members, with), a.Usual)
	a.Category = r.only.String()
	if a.category != event.Unset {
		a.Category = a.category.String()
	}
	for _, s := range a.Explanation {
		if a.Category == "" && s.Dimension == Category && s.Share >= 0.5 {
			a.Category = s.Element
		}
	}
	a.Unchanged = d.unchanged(m, a)
}

// unchanged names what has all labels of the alert but one in common with it and
// is as usual.
func (d *Detector) unchanged(m int32, a *alert) (all []string) {
	r := &d.rules[a.rule]
	ids, mask := a.ids, a.edge
	if a.of != ofMany {
		ids, mask = d.scopes[d.series[a.place].scope].key.ids, d.views[r.view].mask
	}
	for i := range nameDimensions {
		if mask>>i&1 == 0 {
			continue
		}
		others := make(map[uint32]bool)
		raised := false
		for si := range d.scopes {
			s := &d.scopes[si]
			if int(s.key.view) != r.view || s.key.ids[i] == ids[i] || !shares(s.key.ids, ids, mask&^(1<<i)) || !s.active(m) {
				continue
			}
			others[s.key.ids[i]] = true
			for x := s.head; x >= 0; x = d.series[x].next {
				o := &d.series[x]
				raised = raised || o.rule == a.rule && o.category == a.category && (o.flags&flagFiring != 0 || d.top(o) > raisedAbove)
			}
		}
		if len(others) == 0 || raised {
			continue
		}
		var names []string
		for id := range others {
			names = append(names, d.names[i].all[id])
		}
		slices.Sort(names)
		rest := maps.Clone(a.Labels)
		delete(rest, nameDimensions[i])
		all = append(all, strings.TrimSpace(enumerate(nameDimensions[i], names)+" "+where(rest)))
	}
	return all
}

func shares(a, b [nameKinds]uint32, mask uint8) bool {
	for i := range a {
		if mask>>i&1 != 0 && a[i] != b[i] {
			return false
		}
	}
	return true
}
