package spike

import (
	"math"

	"github.com/bouncemeter/bouncemeter/event"
)

// What is usual. A series' ratio is (a + a0) / (b + a0/q): its own failures and
// attempts, decayed, and a0 failures at the ratio q of what it has in common with
// others. So a new series starts at q, and leaves it as it gathers failures of
// its own.
const (
	halfLife = 3 * 1440 // minutes
	// a0 = 0.8 stands for a coefficient of variation between series of 1.1.
	a0 = 0.8
	// rootRatio is assumed before anything at all is known of a rule.
	rootRatio = 0.002
	// poolEvery is after how many minutes the ratios of parents are taken again.
	poolEvery = 10
	// maxWeight bounds the part that one series has in its parent's ratio.
	maxWeight = 0.1
	// slack is the multiple of the usual that is no rise yet: ratios drift, by the
	// hour of the day and with what is sent.
	slack = 1.15
	// maxNull bounds the upper bound of the usual ratio.
	maxNull = 0.6
	// The dispersion starts at dispersionV / dispersionE.
	dispersionV, dispersionE = 7.5, 5
	// Quantiles of the normal distribution for the upper bound: of series that are
	// known by fewer than coldShape failures, and of others.
	coldShape      = 10
	coldZ, usualZ  = 2.33, 1.28
	minRatio, most = 1e-6, 0.3 // bounds of parents' ratios
)

// decays holds 0.5^(i/halfLife): most series are active every few minutes.
var decays = func() (t [256]float64) {
	for i := range t {
		t[i] = math.Exp2(-float64(i) / halfLife)
	}
	return t
}()

func decay(minutes int32) float64 {
	if minutes >= 0 && int(minutes) < len(decays) {
		return decays[minutes]
	}
	return math.Exp2(-float64(minutes) / halfLife)
}

// pool sums the attempts of the scopes that have a parent in common.
type pool struct {
	view        int
	sum, capped float64
	scopes      int
}

// parentKey is a rule, or one of its categories, in a pool.
type parentKey struct {
	rule     uint8
	category event.Category
	pool     int32
}

// parent is what its series have in common.
type parent struct {
	key parentKey
	q   float64 // ratio
	a   float64 // scratch: failures
}

// baseline is what is usual for a series.
type baseline struct {
	p   float64 // ratio
	u   float64 // upper bound of it
	phi float64 // dispersion: how much more than by chance the counts vary
}

func (d *Detector) baseline(s *series) baseline {
	var b baseline
	b.phi = s.dispersion()
	b.p = min(d.usual(s), maxNull)
	b.u = min(b.p*max(slack, upper(a0+float64(s.a)/b.phi)), maxNull)
	return b
}

// usual is the ratio of a series that is to be expected.
func (d *Detector) usual(s *series) float64 {
	return (float64(s.a) + a0) / (float64(s.b) + a0/d.parents[s.parent].q)
}

// upper is the multiple of a ratio known by some number of failures that it will
// hardly exceed: the upper quantile of a Gamma distribution of that shape, by
// Wilson and Hilferty, 1931.
func upper(shape float64) float64 {
	z := usualZ
	if shape < coldShape {
		z = coldZ
	}
	w := 1 - 1/(9*shape) + z/(3*math.Sqrt(shape))
	return max(1, w*w*w)
}

// learn adds what was usual to the series' past: k of n failed, and by the sums
// of squares v they varied where e was expected.
func (s *series) learn(m int32, k, n, v, e float64) {
	f := decay(m - s.last)
	s.last = m
	s.a = float32(float64(s.a)*f + k)
	s.b = float32(float64(s.b)*f + n)
	s.v = float32(float64(s.v)*f + v)
	s.e = float32(float64(s.e)*f + e)
}

// dispersion is how much more than by chance the counts of a minute vary.
func (s *series) dispersion() float64 {
	return max(1, (float64(s.v)+dispersionV)/(float64(s.e)+dispersionE))
}

// pool takes the parents' ratios again. A series weighs maxWeight of the sum at
// the most (of few series: its equal part), so that the largest one does not
// decide what is usual for all.
func (d *Detector) pool(m int32) {
	for i := range d.pools {
		d.pools[i] = pool{view: d.pools[i].view}
	}
	for i := range d.scopes {
		s := &d.scopes[i]
		p := &d.pools[s.pool]
		p.sum += float64(float64(s.b) * decay(m-s.last))
		p.scopes++
	}
	for i := range d.scopes {
		s := &d.scopes[i]
		p := &d.pools[s.pool]
		p.capped += min(float64(s.b)*decay(m-s.last), p.limit())
	}
	for i := range d.parents {
		d.parents[i].a = 0
	}
	for i := range d.series {
		x := &d.series[i]
		s := &d.scopes[x.scope]
		b := float64(s.b) * decay(m-s.last)
		if b == 0 {
			continue
		}
		a := float64(x.a) * decay(m-x.last)
		if p := d.excursionOf(x); p != nil && x.flags&(flagFiring|flagFrozen) == 0 {
			a += float64(p.k) // else a beginning, when all failures are undecided, would seem to have none
		}
		d.parents[x.parent].a += a * min(1, d.pools[s.pool].limit()/b)
	}
	// The parents of a rule have the rule's ratio in common.
	for i := range d.parents {
		p := &d.parents[i]
		root := d.rootRatio(p.key.rule, p.key.category)
		p.q = min(max((p.a+a0)/(d.pools[p.key.pool].capped+a0/root), minRatio), most)
	}
}

func (p *pool) limit() float64 { return p.sum * max(maxWeight, 1/float64(max(p.scopes, 1))) }

// rootRatio is the ratio of all that a rule looks at.
func (d *Detector) rootRatio(ri uint8, c event.Category) float64 {
	a, b := a0, a0/rootRatio
	for i := range d.parents {
		if p := &d.parents[i]; p.key.rule == ri && p.key.category == c {
			a += p.a
		}
	}
	for i := range d.pools {
		if d.pools[i].view == d.rules[ri].view {
			b += d.pools[i].capped
		}
	}
	return min(max(a/b, minRatio), most)
}
