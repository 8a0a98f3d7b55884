package spike

import (
	"math"

	"github.com/bouncemeter/bouncemeter/event"
)

// How a rise is noticed, and its end.
const (
	// loose is how many times fewer false alarms come than the bound allows where
	// ratios do not drift, at the least: the gates and the upper bound of the usual
	// keep the others away. It is measured rather than derived.
	loose = 4
	// longest is after how many minutes of undecided evidence it is learned.
	longest = 12 * 60
	// faint is the score below which an excursion is over at a minute without
	// failures: what is left of it would only make the next one seem to have begun
	// long ago.
	faint = 0.5
	// watchAbove is the score from which on it is noted where failures come from.
	watchAbove = 2
	// raisedAbove is the score of a series that rises, be it not enough to fire.
	raisedAbove = 4
	// restore is the evidence that ends an alert: odds of 300:1.
	restore = 5.7
	// backTo is the multiple of the upper bound that counts as usual again.
	backTo = 1.3
	// quiet is how many minutes an alert stays open at least after firing, and
	// that things must look usual if it had ended and come back before.
	quiet = 5
	// persistAfter is after how many minutes an alert is no news any more,
	// staleAfter without attempts nobody can know, and giveUpAfter it ends anyhow.
	persistAfter = 6 * 60
	staleAfter   = 30
	giveUpAfter  = 7 * 1440
	// reopen is for how many minutes after its end an alert comes back as itself
	// rather than as a new one.
	reopen = 2 * 60
	// coldFor is for how many minutes a new scope is called cold, and certainTimes the
	// multiple of the upper bound from which on that does not make an alert less
	// severe.
	coldFor      = 1440
	certainTimes = 5
)

// alternatives are the multiples of the usual ratio that are tested for.
var alternatives = [...]float64{4, 10, 30}

// series is what a rule knows of one combination of names. It is kept small:
// there may be a hundred thousand. Sums that fade are rounded to 24 bits, some
// millionths of what they are.
type series struct {
	scope, next int32
	parent      int32
	groups      int32 // the first of its groups in Detector.memberships
	excursion   int32 // place of its excursion plus 1, or zero
	rule        uint8
	category    event.Category
	flags       uint8

	days uint8 // that the month has, up to 255
	// The month, for trends: averages of a and b over days.
	monthA, monthB float32

	// The past, decayed up to the minute last.
	last int32
	a, b float32 // failures and attempts
	v, e float32 // squared deviations of minutes, and what chance would make

	k uint32 // failures in the minute being judged
	// For alerts of many: failures, their clumps and failures that are usual, all
	// fading, up to the scope's last minute; and those usual in that minute.
	rk, rc, re, now float32
}

// excursion is the undecided present of a series: the score of each alternative,
// and what came since they left zero at the minute since. Most series have none
// most of the time.
type excursion struct {
	score   [len(alternatives)]float32
	since   int32
	k, n    uint32
	v, e    float32
	windows uint8 // minutes with failures, up to 255
	waited  uint8 // minutes that firing was put off for an alert of many
}

// excursionOf returns the excursion of a series, or nil.
func (d *Detector) excursionOf(s *series) *excursion {
	if s.excursion == 0 {
		return nil
	}
	return &d.excursions[s.excursion-1]
}

// excur begins an excursion of a series that has none.
func (d *Detector) excur(s *series, x excursion) *excursion {
	if n := len(d.free); n > 0 {
		s.excursion, d.free = d.free[n-1], d.free[:n-1]
		d.excursions[s.excursion-1] = x
	} else {
		d.excursions = appendTight(d.excursions, x)
		s.excursion = int32(len(d.excursions))
	}
	return &d.excursions[s.excursion-1]
}

// clear forgets the undecided present.
func (d *Detector) clear(s *series) {
	if s.excursion != 0 {
		d.free = append(d.free, s.excursion)
		s.excursion = 0
	}
}

// Flags of a series.
const (
	flagAlert  = 1 << iota // it has an alert that is open, or that may come back
	flagFiring             // that is open and not persisting: nothing is learned
	flagHeld               // a member of an open alert of many
	flagFrozen             // of one that is not persisting: nothing is learned
	flagWatch              // it has a watch
	flagTrend              // it has an open alert for its trend
)

// compact gives the room of excursions back that many had at the same time.
func (d *Detector) compact() {
	if 4*(len(d.excursions)-len(d.free)) > len(d.excursions) || len(d.excursions) < 256 {
		return
	}
	old := d.excursions
	d.excursions, d.free = nil, nil
	for i := range d.series {
		if s := &d.series[i]; s.excursion != 0 {
			d.excur(s, old[s.excursion-1])
		}
	}
}

// top is the greatest score of a series.
func (d *Detector) top(s *series) float64 {
	if x := d.excursionOf(s); x != nil {
		return x.top()
	}
	return 0
}

func (x *excursion) top() float64 { return float64(max(x.score[0], x.score[1], x.score[2])) }

// judgeRatios adds the minute's evidence to all series that were active.
func (d *Detector) judgeRatios(m int32) {
	d.candidates = d.candidates[:0]
	for i := range d.scopes {
		s := &d.scopes[i]
		if s.stamp != m {
			continue
		}
		minutes := m - s.last
		fade := float32(0)
		if minutes < forgetRecent {
			fade = recentFades[minutes]
		}
		for x := s.head; x >= 0; x = d.series[x].next {
			d.judgeSeries(m, x, s.n, fade)
		}
		s.b = float32(float64(s.b)*decay(minutes) + float64(s.n))
		s.recent = s.recent*recentDecay(minutes) + float32(s.n)
		s.last = m
	}
}

// recentDecays holds 0.5^(i/30): half an hour is recent.
var recentDecays = func() (t [512]float32) {
	for i := range t {
		t[i] = float32(math.Exp2(-float64(i) / 30))
	}
	return t
}()

func recentDecay(minutes int32) float32 {
	if minutes >= 0 && int(minutes) < len(recentDecays) {
		return recentDecays[minutes]
	}
	return 0
}

// recentFades holds 0.5^(i/recently).
var recentFades = func() (t [forgetRecent]float32) {
	for i := range t {
		t[i] = float32(math.Exp2(-float64(i) / recently))
	}
	return t
}()

// activeRate is the least scope.recent of a scope whose rise could be seen: some
// ten attempts an hour.
const activeRate = 7

// active reports whether enough is attempted at the minute m to see a rise.
func (s *scope) active(m int32) bool { return s.recent*recentDecay(m-s.last) >= activeRate }

// judgeSeries adds a minute with attempts in its scope to a series; fade is what
// is left of its recent past.
func (d *Detector) judgeSeries(m, i int32, attempts uint32, fade float32) {
	s := &d.series[i]
	k := s.k
	n := attempts
	if d.rules[s.rule].foreign {
		n = saturate(n, k)
	}
	k = min(k, n)
	kf, nf := float64(k), float64(n)
	p := min(d.usual(s), maxNull)
	usual := float64(p * nf)
	s.now = float32(usual)
	c := kf
	if k > 1 {
		c = clumps(kf, usual, manyTimes*usual, alone(s.dispersion()))
	}
	s.rk = float32(s.rk*fade) + float32(k)
	s.rc = float32(s.rc*fade) + float32(c)
	s.re = float32(s.re*fade) + s.now
	if n == 0 || s.flags&flagFiring != 0 {
		return // an alert that fires looks at its counts itself
	}
	x := d.excursionOf(s)
	if k == 0 && x == nil {
		if s.flags&flagFrozen == 0 {
			s.learn(m, 0, nf, usual*usual, usual*(1-p))
		}
		return
	}
	b := d.baseline(s)
	if x == nil {
		x = d.excur(s, excursion{since: m})
	}
	undecided := false
	for j, times := range alternatives {
		p1 := min(times*b.u, 1-(1-b.u)/3)
		x.score[j] = max(0, x.score[j]+float32(odds(kf, nf, b.u, p1, b.phi)))
		undecided = undecided || x.score[j] > 0 && (k > 0 || x.score[j] > faint)
	}
	off := kf - float64(b.p*nf)
	x.k, x.n = saturate(x.k, k), saturate(x.n, n)
	x.v += float32(off * off)
	x.e += float32(nf * b.p * (1 - b.p))
	if k > 0 && x.windows < math.MaxUint8 {
		x.windows++
	}
	if !undecided || m-x.since >= longest {
		d.settle(m, s, x)
		return
	}
	top := x.top()
	if top > watchAbove && s.flags&flagWatch == 0 {
		s.flags |= flagWatch
		d.watches = append(d.watches, watch{series: i})
	}
	if top > d.rules[s.rule].h && d.rules[s.rule].Kind == Ratio && d.passes(s, x, b) {
		d.candidates = append(d.candidates, i)
	}
}

// settle ends an excursion that was nothing: what came is learned, unless it was
// part of an alert of many, which would make the exception usual.
func (d *Detector) settle(m int32, s *series, x *excursion) {
	if s.flags&flagFrozen == 0 {
		s.learn(m, float64(x.k), float64(x.n), float64(x.v), float64(x.e))
	}
	d.clear(s)
}

// passes reports whether a rise is big enough to matter.
func (d *Detector) passes(s *series, x *excursion, b baseline) bool {
	g := &d.rules[s.rule].Gates
	k, n := float64(x.k), float64(x.n)
	r := k / n
	return int(x.k) >= g.MinFailures && int(x.windows) >= g.MinWindows &&
		r >= max(g.MinRatio, g.MinTimes*b.p, b.p+g.MinRise) && k-b.p*n >= g.MinExcess
}
