package spike

import (
	"math"
	"time"
)

// How many come: silence, drops and surges. Counts are tested against a Poisson
// (with dispersion) whose mean is learned for each flow over days, times the
// shape of the week that all flows of the rule have in common.
const (
	// leastMean is the least number a minute (5 an hour) with which a silence or
	// drop means anything.
	leastMean = 5.0 / 60
	// shapedAfter is for how many minutes the shape of the week is learned before
	// it is used: a week and a day.
	shapedAfter = 8 * 1440
	hoursOfWeek = 7 * 24
	// leastSilence is after how many minutes at the earliest a silence is told.
	leastSilence = 10
	// flowCold is for how many minutes a flow is only learned.
	flowCold = 6 * 60
)

// The multiples of the usual number that are tested for.
var (
	silences = []float64{0.05}
	drops    = []float64{0.5, 0.1}
	surges   = []float64{3, 8, 25}
)

// profile is the shape of the week: how much comes in each hour of it.
type profile struct {
	sum   [hoursOfWeek]float64 // counts in the hour, decayed by week
	total float64
	since int32 // minute of the first count
}

func (d *Detector) hourOfWeek(m int32) int {
	t := time.Unix(int64(m)*60, 0).In(d.location)
	return int(t.Weekday())*24 + t.Hour()
}

// factor is the part of its average that the hour has. Little knowledge pulls it
// towards 1.
func (p *profile) factor(m int32, hour int) float64 {
	if p.since == 0 || m-p.since < shapedAfter || p.total == 0 {
		return 1
	}
	mean := p.total / hoursOfWeek
	return max(0.05, (p.sum[hour]+0.1*mean)/(1.1*mean))
}

func (p *profile) add(m int32, hour int, k float64) {
	if k == 0 {
		return
	}
	if p.since == 0 {
		p.since = m
	}
	p.sum[hour] += k
	p.total += k
}

// fade halves the weight of what is two weeks old; it is called once a day.
func (p *profile) fade() {
	f := math.Exp2(-1.0 / 14)
	for i := range p.sum {
		p.sum[i] *= f
	}
	p.total *= f
}

// flow is how much comes in one scope, for the rules of the kinds silence, drop
// and surge.
type flow struct {
	place
	first, last int32 // minutes of the first and the last count

	k    float64 // in the minute being judged
	a, b float64 // counts and factors, decayed: a/b is the mean
	v, e float64 // for the dispersion
	// The undecided present.
	score  [3]float64
	since  int32
	pk, pb float64
	pv, pe float64
	calm   int32 // minutes as usual since it fired
	firing bool
	mean   float64 // usual a minute, while it fires
}

func (d *Detector) judgeFlows(m int32) {
	if len(d.flows) == 0 {
		return
	}
	hour := d.hourOfWeek(m)
	for i := range d.rules {
		if r := &d.rules[i]; d.views[r.view].flows && m%1440 == 0 {
			r.profile.fade()
		}
	}
	for i := range d.flows {
		d.judgeFlow(m, int32(i), hour)
	}
	for i := range d.flows {
		f := &d.flows[i]
		if !f.firing {
			d.rules[f.rule].profile.add(m, hour, f.k)
		}
		f.k = 0
	}
}

func (k Kind) multiples() []float64 {
	switch k {
	case Silence:
		return silences
	case Drop:
		return drops
	}
	return surges
}

func (d *Detector) judgeFlow(m, i int32, hour int) {
	f := &d.flows[i]
	r := &d.rules[f.rule]
	factor := r.profile.factor(m, hour)
	if f.k > 0 {
		f.last = m
	}
	if f.firing {
		d.advanceFlow(m, f, factor)
		return
	}
	mean := (f.a + 0.5) / (f.b + 1)
	mu := mean * factor
	phi := max(1, (f.v+dispersionV)/(f.e+dispersionE))
	if m-f.first < flowCold || r.Kind != Surge && mean < leastMean {
		f.learn(1, f.k, factor, mu)
		f.score = [3]float64{}
		return
	}
	if f.score == ([3]float64{}) {
		f.since, f.pk, f.pb, f.pv, f.pe = m, 0, 0, 0, 0
	}
	top := 0.0
	for j, times := range r.Kind.multiples() {
		f.score[j] = max(0, f.score[j]+(f.k*math.Log(times)-mu*(times-1))/phi)
		top = max(top, f.score[j])
	}
	if r.Kind == Silence && f.k > 0 {
		f.score, top = [3]float64{}, 0
	}
	f.pk += f.k
	f.pb += factor
	off := f.k - mu
	f.pv += off * off
	f.pe += mu
	switch {
	case top == 0 || m-f.since >= longest:
		f.learn(float64(m-f.since+1), f.pk, f.pb, 0)
		f.v += f.pv
		f.e += f.pe
		f.score = [3]float64{}
	case top > r.h && (r.Kind != Silence || m-f.last >= leastSilence):
		d.fireFlow(m, i, mean, phi, top)
	}
}

// learn adds k in minutes whose factors sum up to b to the past, where mu was
// expected in each.
func (f *flow) learn(minutes, k, b, mu float64) {
	fade := decay(int32(minutes))
	f.a = f.a*fade + k
	f.b = f.b*fade + b
	f.v = f.v * fade
	f.e = f.e * fade
	if mu > 0 {
		f.v += (k - mu) * (k - mu)
		f.e += mu
	}
}

func (d *Detector) fireFlow(m, i int32, mean, phi, score float64) {
	f := &d.flows[i]
	r := &d.rules[f.rule]
	since := f.since
	if r.Kind == Silence {
		since = f.last + 1
	}
	a := d.begin(m, since, f.rule, f.category, d.labels(f.rule, f.scope, f.category), r.Kind)
	a.of, a.place = ofFlow, i
	a.Attempts = int64(f.pk)
	a.expected = mean * f.pb
	a.Usual, a.Dispersion, a.Score = mean, phi, score
	a.Excess = math.Abs(float64(a.Attempts) - a.expected)
	f.firing, f.mean, f.calm = true, mean, 0
	d.tell(m, a)
}

// advanceFlow leads the alert of a flow on by a minute: it is over once quiet
// minutes in sum look usual.
func (d *Detector) advanceFlow(m int32, f *flow, factor float64) {
	var a *alert
	for _, o := range d.alerts {
		if o.of == ofFlow && o.State.Open() && d.flows[o.place].place == f.place {
			a = o
		}
	}
	if a == nil {
		f.firing = false
		return
	}
	r := &d.rules[f.rule]
	mu := f.mean * factor
	a.Attempts += int64(f.k)
	a.expected += mu
	a.Excess = math.Abs(float64(a.Attempts) - a.expected)
	usual := f.k > 0
	switch r.Kind {
	case Drop:
		usual = f.k >= 0.7*mu
	case Surge:
		usual = f.k <= 1.5*mu+2
	}
	if usual {
		f.calm++
	} else {
		f.calm = 0
	}
	if f.calm >= quiet || r.Kind == Silence && usual {
		f.firing = false
		f.score = [3]float64{}
		d.end(m, a, "back to usual")
		return
	}
	if m-a.fired >= giveUpAfter {
		f.firing = false
		f.score = [3]float64{}
		f.a, f.b = f.a*0.01, f.b*0.01
		d.end(m, a, "has become usual after a week")
	}
}
