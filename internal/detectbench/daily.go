package detectbench

import (
	"math"
	"math/rand/v2"
)

// daily is the first make of mail: a daily and weekly shape that all have in
// common, volume that varies as a log-normal autoregression, campaigns of 3 to 20
// times the volume whose ratios are a little different, and ratios that drift as
// autoregressions and with the hour of the day.
type daily struct {
	r     *rand.Rand
	days  int
	shape float64
	hour  float64
}

func (l *daily) minute(m int) {
	t := float64(m%day) / day
	l.shape = 1 + 0.6*math.Sin(2*math.Pi*(t-0.3))
	if m/day%7 >= 5 {
		l.shape *= 0.6
	}
	l.hour = 0.15 * math.Sin(2*math.Pi*t)
}

func (l *daily) volume(m int, x *pair) float64 {
	x.noise = 0.98*x.noise + 0.3*math.Sqrt(1-0.98*0.98)*l.r.NormFloat64()
	if m >= x.surgeTo && l.r.Float64() < 1.0/(2*day) {
		x.surge, x.surgeTo = 3+17*l.r.Float64(), m+10+l.r.IntN(110)
		x.shift = math.Exp(0.25 * l.r.NormFloat64())
	}
	rate := x.rate * l.shape * math.Exp(x.noise)
	if m < x.surgeTo {
		rate *= x.surge
	}
	return rate
}

func (l *daily) ratio(m int, x *pair, c int) float64 {
	x.drift[c] = 0.999*x.drift[c] + 0.22*math.Sqrt(1-0.999*0.999)*l.r.NormFloat64()
	p := x.ratios[c] * math.Exp(x.drift[c]+l.hour)
	if m < x.surgeTo {
		p *= x.shift
	}
	return p
}

func (l *daily) late(*pair) float64 { return 0 }
