package spike

import (
	"math"

	"github.com/bouncemeter/bouncemeter/event"
)

// How a rise is noticed, and its end.
const (
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
	// restore is the evidence that ends an alert: odds of 100:1.
	restore = 4.6
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
// there may be a hundred thousand.
type series struct {
	scope, next int32
	parent      int32
	rule        uint8
	category    event.Category
	flags       uint8
	waited      uint8 // minutes that firing was put off for an alert of many

	// The past, decayed up to the minute last.
	last int32
	a, b float64 // failures and attempts
	v, e float32 // squared deviations of minutes, and what chance would make
	// The month, for trends: averages of a and b over days.
	monthA, monthB float32

	// The undecided present: the score of each alternative, and what came since
	// they left zero at the minute since.
	score   [len(alternatives)]float32
	since   int32
	pk, pn  uint32
	pv, pe  float32
	days    uint16 // that the month has
	windows uint8  // minutes with failures, up to 255
	k       uint32 // failures in the minute being judged

	// For alerts of many: failures and those usual, both fading, up to the scope's
	// last minute; those usual in that minute; and the first of its groups.
	rk, re, now float32
	groups      int32
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

// top is the greatest score.
func (s *series) top() float64 { return float64(max(s.score[0], s.score[1], s.score[2])) }

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
		s.b = s.b*decay(minutes) + float64(s.n)
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
	p := min((s.a+a0)/(s.b+a0/d.parents[s.parent].q), maxNull)
	usual := float64(p * nf)
	s.now = float32(usual)
	s.rk = float32(s.rk*fade) + float32(k)
	s.re = float32(s.re*fade) + s.now
	if n == 0 || s.flags&flagFiring != 0 {
		return // an alert that fires looks at its counts itself
	}
	if k == 0 && s.score == ([len(alternatives)]float32{}) {
		if s.flags&flagFrozen == 0 {
			s.learn(m, 0, nf, usual*usual, usual*(1-p))
		}
		return
	}
	b := d.baseline(s)
	if s.score == ([len(alternatives)]float32{}) {
		s.since, s.pk, s.pn, s.pv, s.pe, s.windows = m, 0, 0, 0, 0, 0
	}
	undecided := false
	for j, times := range alternatives {
		p1 := min(times*b.u, 1-(1-b.u)/3)
		gain := (kf*math.Log(p1/b.u) + (nf-kf)*math.Log((1-p1)/(1-b.u))) / b.phi
		s.score[j] = max(0, s.score[j]+float32(gain))
		undecided = undecided || s.score[j] > 0 && (k > 0 || s.score[j] > faint)
	}
	off := kf - float64(b.p*nf)
	s.pk, s.pn = saturate(s.pk, k), saturate(s.pn, n)
	s.pv += float32(off * off)
	s.pe += float32(nf * b.p * (1 - b.p))
	if k > 0 && s.windows < math.MaxUint8 {
		s.windows++
	}
	if !undecided || m-s.since >= longest {
		d.settle(m, s)
		return
	}
	top := s.top()
	if top > watchAbove && s.flags&flagWatch == 0 {
		s.flags |= flagWatch
		d.scopes[s.scope].watched = true
		d.watches = append(d.watches, watch{series: i})
	}
	if top > d.rules[s.rule].h && d.rules[s.rule].Kind == Ratio && d.passes(s, b) {
		d.candidates = append(d.candidates, i)
	}
}

// settle ends an excursion that was nothing: what came is learned, unless it was
// part of an alert of many, which would make the exception usual.
func (d *Detector) settle(m int32, s *series) {
	if s.flags&flagFrozen == 0 {
		s.learn(m, float64(s.pk), float64(s.pn), float64(s.pv), float64(s.pe))
	}
	s.clear()
}

// clear forgets the undecided present.
func (s *series) clear() {
	s.score = [len(alternatives)]float32{}
	s.pk, s.pn, s.pv, s.pe, s.windows, s.waited = 0, 0, 0, 0, 0, 0
}

// passes reports whether a rise is big enough to matter.
func (d *Detector) passes(s *series, b baseline) bool {
	g := &d.rules[s.rule].Gates
	k, n := float64(s.pk), float64(s.pn)
	r := k / n
	return int(s.pk) >= g.MinFailures && int(s.windows) >= g.MinWindows &&
		r >= max(g.MinRatio, g.MinTimes*b.p, b.p+g.MinRise) && k-b.p*n >= g.MinExcess
}
