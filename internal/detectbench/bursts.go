package detectbench

import (
	"math"
	"math/rand/v2"
)

// bursts is the second make of mail, which has no law of volume or ratio in
// common with the first: mail comes in bursts whose sizes are Pareto distributed
// and that call forth others (a Hawkes process); domains live in four time zones,
// whose clocks change in the middle; most rest at weekends, some send their lists
// only then; ratios stay for hours and then jump; now and then nothing can be
// sent for up to an hour and what has waited goes out afterwards; and some counts
// come too late to be judged.
type bursts struct {
	r       *rand.Rand
	days    int
	outage  int // minute until which nothing is sent
	backlog float64
}

func (l *bursts) minute(m int) {
	l.backlog *= 0.9
	if m < l.outage {
		l.backlog = min(l.backlog/0.9+0.1, 4)
	} else if l.r.Float64() < 1.0/(4*day) {
		l.outage = m + 10 + l.r.IntN(60)
	}
}

func (l *bursts) volume(m int, x *pair) float64 {
	x.burst *= 0.93
	if l.r.Float64() < 1.0/200+0.02*min(1, x.burst/(20*x.rate+1)) {
		x.burst += min(x.rate*3*math.Pow(1-l.r.Float64(), -1/1.3), 60*x.rate)
		x.surgeTo = m + 15 // counted as a surge: volume is far from usual
	}
	if m < l.outage {
		return 0
	}
	return (0.5*x.rate + 0.3*x.burst) * l.shape(m, x) * (1 + l.backlog)
}

func (l *bursts) shape(m int, x *pair) float64 {
	local := m - x.zone
	if m > l.days*day/2 {
		local += 60
	}
	local = max(local, 0)
	hour := float64(local%day) / 60
	weekend := local/day%7 >= 5
	switch {
	case weekend && !x.weekend:
		return 0.15
	case !weekend && x.weekend:
		return 0.3
	case weekend:
		return 2
	}
	return 0.3 + 1.2*math.Exp(-math.Pow(hour-10, 2)/18) + 0.4*math.Exp(-math.Pow(hour-20, 2)/8)
}

func (l *bursts) ratio(_ int, x *pair, c int) float64 {
	if l.r.Float64() < 1.0/720 {
		x.drift[c] = 0.6 * (l.r.Float64() - 0.5)
	}
	return x.ratios[c] * (1 + x.drift[c])
}

func (l *bursts) late(*pair) float64 {
	if l.r.Float64() < 0.01 {
		return l.r.Float64()
	}
	return 0
}
