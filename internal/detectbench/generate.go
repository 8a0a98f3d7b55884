// Package detectbench measures the detector of package spike on made-up mail
// whose incidents are known: how many false alarms there are a day, how many
// incidents are found, and how soon.
package detectbench

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/bouncemeter/bouncemeter/pipeline/spike"
)

const day = 1440

// Scenario says what mail is made up.
type Scenario struct {
	Seed          uint64
	Days          int
	Domains       int
	PerMinute     float64 // attempts of all together
	Bursts        bool    // another make: volume in Pareto bursts, weekends off, outages, a shift of time zone
	Clumps        float64 // how many more failures one failure brings on average
	Spikes        bool    // single series fail more for a while
	ProviderWide  bool    // all domains of one provider do, once a day
	ProviderTimes float64 // how much more then
}

var (
	providerNames   = []string{"gmail", "microsoft", "yahoo", "gmx", "orange"}
	providerWeights = []float64{0.45, 0.25, 0.15, 0.1, 0.05}
	categories      = []string{"spf_failed", "user_unknown", "rate_limited", "spam_content"}
	usualRatios     = []float64{0.001, 0.01, 0.005, 0.002}
	multiples       = []float64{3, 5, 10, 30, 100}
	lengths         = []int{10, 30, 120}
)

// wideCategory is what all domains fail with at one provider.
const wideCategory = 2

// Spike is an incident that was made.
type Spike struct {
	Pair, Category int // Category -1: all pairs of Provider fail for wideCategory
	Provider       int
	From, To       int // minutes
	Times          float64
	Excess         float64 // failures expected beyond the usual
}

type pair struct {
	domain   string
	provider int
	rate     float64 // attempts a minute on average
	ratios   [4]float64
	drift    [4]float64
	noise    float64 // AR(1) of the logarithm of volume
	surge    float64 // times the usual volume
	surgeTo  int
	shift    float64 // benign change of ratios during a surge
	burst    float64 // attempts of a burst still to come, a minute
}

// generator makes minute after minute.
type generator struct {
	s      Scenario
	r      *rand.Rand
	pairs  []pair
	spikes []Spike
	rows   []spike.Row
	wide   int // provider that all fail at, or -1
	outage int // minute until which nothing is sent
}

func newGenerator(s Scenario) *generator {
	g := &generator{s: s, r: rand.New(rand.NewPCG(s.Seed, 77)), wide: -1}
	var sum float64
	weights := make([]float64, s.Domains)
	for i := range weights {
		weights[i] = math.Pow(float64(i+1), -1.15)
		sum += weights[i]
	}
	for i, w := range weights {
		for p := range providerNames {
			x := pair{domain: fmt.Sprintf("d%d.example", i), provider: p, rate: s.PerMinute * w / sum * providerWeights[p], surge: 1, shift: 1}
			for c, q := range usualRatios {
				x.ratios[c] = min(q*math.Exp(0.9*g.r.NormFloat64()), 0.2)
			}
			g.pairs = append(g.pairs, x)
		}
	}
	if s.Spikes {
		g.plan()
	}
	if s.ProviderWide {
		for d := 2; d < s.Days; d++ {
			from := d*day + g.r.IntN(day-120)
			g.spikes = append(g.spikes, Spike{Category: -1, Provider: g.r.IntN(len(providerNames)), From: from, To: from + 60, Times: s.ProviderTimes})
		}
	}
	return g
}

// plan puts a spike into 5% of the days of all series, after two days without.
func (g *generator) plan() {
	for d := 2; d < g.s.Days; d++ {
		for p := range g.pairs {
			for c := range categories {
				if g.r.Float64() >= 0.05 {
					continue
				}
				length := lengths[g.r.IntN(len(lengths))]
				from := d*day + g.r.IntN(day-length)
				g.spikes = append(g.spikes, Spike{Pair: p, Category: c, From: from, To: from + length, Times: multiples[g.r.IntN(len(multiples))]})
			}
		}
	}
}

// shape is the part of the average volume that a minute has.
func (g *generator) shape(m int) float64 {
	t := m % day
	weekday := m / day % 7
	if g.s.Bursts {
		if m > g.s.Days*day/2 {
			t = (t + 60) % day // the clocks have changed
		}
		if weekday >= 5 {
			return 0.15
		}
		return 0.3 + 1.2*math.Exp(-math.Pow(float64(t)/60-10, 2)/18) + 0.4*math.Exp(-math.Pow(float64(t)/60-20, 2)/8)
	}
	s := 1 + 0.6*math.Sin(2*math.Pi*(float64(t)/day-0.3))
	if weekday >= 5 {
		s *= 0.6
	}
	return s
}

// minute makes the counts of a minute.
func (g *generator) minute(m int) []spike.Row {
	g.rows = g.rows[:0]
	if g.s.Bursts && m > g.outage && g.r.Float64() < 1.0/(4*day) {
		g.outage = m + 10 + g.r.IntN(60)
	}
	shape := g.shape(m)
	hour := 0.15 * math.Sin(2*math.Pi*float64(m%day)/day)
	for i := range g.pairs {
		x := &g.pairs[i]
		rate := g.volume(m, x) * shape
		if m < g.outage {
			rate = 0
		}
		n := g.poisson(rate)
		failed := 0
		for c := range categories {
			x.drift[c] = 0.999*x.drift[c] + 0.22*math.Sqrt(1-0.999*0.999)*g.r.NormFloat64()
			p := x.ratios[c] * math.Exp(x.drift[c]+hour)
			if m < x.surgeTo {
				p *= x.shift
			}
			usual := p
			for si := range g.spikes {
				s := &g.spikes[si]
				if m < s.From || m >= s.To || (s.Category >= 0 && (s.Pair != i || s.Category != c)) || (s.Category < 0 && (c != wideCategory || s.Provider != x.provider)) {
					continue
				}
				p = min(usual*s.Times, 0.9)
				s.Excess += (p - usual) * float64(n)
			}
			k := min(g.failures(p*float64(n)), n-failed)
			if k <= 0 {
				continue
			}
			failed += k
			g.rows = append(g.rows, spike.Row{Source: "s", Outcome: "bounced", Category: categories[c], Provider: providerNames[x.provider], SenderDomain: x.domain, Firsts: int64(k)})
		}
		if n > failed {
			g.rows = append(g.rows, spike.Row{Source: "s", Outcome: "delivered", Provider: providerNames[x.provider], SenderDomain: x.domain, Firsts: int64(n - failed)})
		}
	}
	return g.rows
}

// volume leads the volume of a pair on by a minute.
func (g *generator) volume(m int, x *pair) float64 {
	if g.s.Bursts {
		// Mail comes in campaigns whose size is Pareto distributed, and that
		// call forth others (replies, reminders).
		x.burst *= 0.93
		if g.r.Float64() < 1.0/200+0.02*min(1, x.burst/(20*x.rate+1)) {
			x.burst += min(x.rate*3*math.Pow(1-g.r.Float64(), -1/1.3), 60*x.rate)
		}
		return 0.5*x.rate + 0.3*x.burst
	}
	x.noise = 0.98*x.noise + 0.3*math.Sqrt(1-0.98*0.98)*g.r.NormFloat64()
	if m >= x.surgeTo && g.r.Float64() < 1.0/(2*day) {
		x.surge, x.surgeTo = 3+17*g.r.Float64(), m+10+g.r.IntN(110)
		x.shift = math.Exp(0.25 * g.r.NormFloat64())
	}
	rate := x.rate * math.Exp(x.noise)
	if m < x.surgeTo {
		rate *= x.surge
	}
	return rate
}

// failures draws a number with a mean, in clumps if there are any.
func (g *generator) failures(mean float64) int {
	if g.s.Clumps == 0 {
		return g.poisson(mean)
	}
	k := 0
	for range g.poisson(mean / (1 + g.s.Clumps)) {
		k++
		for g.r.Float64() < g.s.Clumps/(1+g.s.Clumps) {
			k++
		}
	}
	return k
}

func (g *generator) poisson(mean float64) int {
	if mean <= 0 {
		return 0
	}
	if mean > 50 {
		return max(0, int(mean+math.Sqrt(mean)*g.r.NormFloat64()+0.5))
	}
	limit, k, p := math.Exp(-mean), 0, g.r.Float64()
	for p > limit {
		p *= g.r.Float64()
		k++
	}
	return k
}
