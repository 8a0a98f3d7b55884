package spike

import "math"

// Slow change: a ratio that creeps up over days is learned as usual, so it is
// compared with the average of the series' own month as well.
const (
	monthWeight  = 1.0 / 30 // of a day in the month
	leastDays    = 14       // that the month must have
	trendTimes   = 1.6      // the least multiple of the month's ratio
	trendBack    = 1.3      // the multiple of it that ends the trend
	leastPerWeek = 50       // failures that the present must rest on
)

// daily judges the trends of all series and adds the day to their months.
func (d *Detector) daily(m int32) {
	for i := range d.series {
		x := &d.series[i]
		r := &d.rules[x.rule]
		s := &d.scopes[x.scope]
		if r.NoTrend && r.Kind != Trend || x.b == 0 {
			continue
		}
		f := decay(m - x.last)
		a, b := float64(x.a)*f, float64(x.b)*f
		d.trend(m, int32(i), a, b)
		w := max(monthWeight, 1/(float64(x.days)+1))
		if x.flags&(flagFiring|flagFrozen) == 0 && m-s.last < 1440 {
			x.monthA += float32(w) * (float32(a) - x.monthA)
			x.monthB += float32(w) * (float32(b) - x.monthB)
			if x.days < math.MaxUint8 {
				x.days++
			}
		}
	}
}

// trend compares the last days, in which a of b failed, with the month.
func (d *Detector) trend(m, i int32, a, b float64) {
	x := &d.series[i]
	r := &d.rules[x.rule]
	if x.days < leastDays || x.monthB == 0 || b == 0 {
		return
	}
	usual := (float64(x.monthA) + a0) / (float64(x.monthB) + a0/d.parents[x.parent].q)
	now := a / b
	if x.flags&flagTrend != 0 {
		o := d.trendOf(i)
		switch {
		case o == nil:
			x.flags &^= flagTrend
		case now < trendBack*o.Usual || now < trendTimes*usual/2:
			x.flags &^= flagTrend
			d.end(m, o, "back to usual")
		case m-o.fired >= 30*1440:
			x.flags &^= flagTrend
			d.end(m, o, "has become usual after a month")
		default:
			o.data = m
		}
		return
	}
	phi := x.dispersion()
	z := (a - usual*b) / math.Sqrt(phi*max(usual*b, 1))
	if a < leastPerWeek || now < max(r.Gates.MinRatio, trendTimes*usual, usual+r.Gates.MinRise) || z < 6 {
		return
	}
	// It began when the month's average was left behind: days ago, not known better.
	o := d.begin(m, m-halfLife, x.rule, x.category, d.labels(x.rule, x.scope, x.category), Trend)
	o.of, o.place = ofTrend, i
	o.Failures, o.Attempts = int64(a), int64(b)
	o.Usual, o.expected, o.Dispersion, o.Score, o.Threshold = usual, usual*b, phi, z, 6
	o.measure()
	x.flags |= flagTrend
	d.tell(m, o)
}

func (d *Detector) trendOf(i int32) *alert {
	for _, a := range d.alerts {
		if a.of == ofTrend && a.place == i && a.State.Open() {
			return a
		}
	}
	return nil
}
