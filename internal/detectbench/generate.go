// Package detectbench measures the detector of package spike, and plain ones
// beside it, on made-up mail whose incidents are known: how many false alarms
// there are a day, how many incidents are found, and how soon.
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
	Seed      uint64
	Days      int
	Domains   int
	PerMinute float64 // attempts of all together
	Bursts    bool    // the second make: see bursts.go
	Clumps    float64 // how many more failures one failure brings on average
	Spikes    bool    // single series fail more for a while
	Script    Script  // one incident a day, of one kind
}

// Script is a kind of incident that is made once a day, after two days without.
type Script string

const (
	// ProviderWide lets all domains fail three times as much at one provider, for
	// an hour.
	ProviderWide Script = "provider-wide"
	// DomainWide lets one of the ten largest domains fail ten times as much at all
	// providers, for an hour.
	DomainWide Script = "domain-wide"
	// Ramp lets one of the hundred largest series fail more and more, up to ten
	// times as much after four hours.
	Ramp Script = "ramp"
	// Flapping lets such a series fail thirty times as much for ten minutes of
	// every twenty, for three hours.
	Flapping Script = "flapping"
	// Stop lets nothing be sent at all for 45 minutes.
	Stop Script = "stop"
)

var (
	providerNames   = []string{"gmail", "microsoft", "yahoo", "gmx", "orange"}
	providerWeights = []float64{0.45, 0.25, 0.15, 0.1, 0.05}
	categories      = []string{"spf_failed", "user_unknown", "rate_limited", "spam_content"}
	usualRatios     = []float64{0.001, 0.01, 0.005, 0.002}
	multiples       = []float64{3, 5, 10, 30, 100}
	lengths         = []int{10, 30, 120}
)

// wideCategory is what many fail with at the same time.
const wideCategory = 2

// Incident is one that was made.
type Incident struct {
	script           Script
	pair, category   int // of a single series
	provider, domain int // of many
	from, to         int // minutes
	times            float64
	Excess           float64 // failures expected beyond the usual
}

// at returns how much more fails in a minute in a series, 1 for as usual.
func (x *Incident) at(m, pair, category int, p *pair) float64 {
	if m < x.from || m >= x.to {
		return 1
	}
	switch x.script {
	case ProviderWide:
		if category != wideCategory || p.provider != x.provider {
			return 1
		}
	case DomainWide:
		if category != wideCategory || p.number != x.domain {
			return 1
		}
	case Stop:
		return 1
	default:
		if pair != x.pair || category != x.category {
			return 1
		}
	}
	switch x.script {
	case Ramp:
		return 1 + (x.times-1)*float64(m-x.from)/float64(x.to-x.from)
	case Flapping:
		if (m-x.from)/10%2 == 1 {
			return 1
		}
	}
	return x.times
}

// pair is a domain at a provider.
type pair struct {
	domain   string
	number   int // of the domain
	provider int
	rate     float64 // attempts a minute on average
	ratios   [4]float64
	drift    [4]float64
	noise    float64 // of the logarithm of the volume
	surge    float64 // times the usual volume
	surgeTo  int
	shift    float64 // benign change of ratios during a surge
	burst    float64 // attempts of a burst, a minute
	zone     int     // minutes by which its day is later
	weekend  bool    // it sends at weekends rather than in the week
}

// law is how volume and ratios go when nothing is wrong.
type law interface {
	// minute leads what all pairs have in common on to the minute m.
	minute(m int)
	// volume is how many attempts a minute there are on average in the minute m,
	// and ratio which part of them fails.
	volume(m int, x *pair) float64
	ratio(m int, x *pair, category int) float64
	// late is the part of a pair's counts of a minute that comes too late.
	late(x *pair) float64
}

// generator makes minute after minute.
type generator struct {
	s         Scenario
	r         *rand.Rand
	law       law
	pairs     []pair
	incidents []Incident
	rows      []spike.Row
	// Of the minute made last, by pair: attempts, and failures by category.
	n []int
	k [][4]int
}

func newGenerator(s Scenario) *generator {
	g := &generator{s: s, r: rand.New(rand.NewPCG(s.Seed, 77))}
	g.law = &daily{r: g.r, days: s.Days}
	if s.Bursts {
		g.law = &bursts{r: g.r, days: s.Days}
	}
	var sum float64
	weights := make([]float64, s.Domains)
	for i := range weights {
		weights[i] = math.Pow(float64(i+1), -1.15)
		sum += weights[i]
	}
	for i, w := range weights {
		zone, weekend := g.r.IntN(4)*180, g.r.Float64() < 0.1
		for p := range providerNames {
			x := pair{
				domain: fmt.Sprintf("d%d.example", i), number: i, provider: p, rate: s.PerMinute * w / sum * providerWeights[p],
				surge: 1, shift: 1, zone: zone, weekend: weekend,
			}
			for c, q := range usualRatios {
				x.ratios[c] = min(q*math.Exp(0.9*g.r.NormFloat64()), 0.2)
			}
			g.pairs = append(g.pairs, x)
		}
	}
	g.n, g.k = make([]int, len(g.pairs)), make([][4]int, len(g.pairs))
	if s.Spikes {
		g.plan()
	}
	if s.Script != "" {
		g.script()
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
				g.incidents = append(g.incidents, Incident{pair: p, category: c, from: from, to: from + length, times: multiples[g.r.IntN(len(multiples))]})
			}
		}
	}
}

// script puts an incident of the script into every day after two days without.
func (g *generator) script() {
	for d := 2; d < g.s.Days; d++ {
		x := Incident{script: g.s.Script, from: d*day + g.r.IntN(day-300), provider: -1, domain: -1}
		length := 60
		switch g.s.Script {
		case ProviderWide:
			x.provider, x.times = g.r.IntN(len(providerNames)), 3
		case DomainWide:
			x.domain, x.times = g.r.IntN(min(10, g.s.Domains)), 10
		case Ramp:
			x.pair, x.category, x.times, length = g.large(), g.r.IntN(len(categories)), 10, 240
		case Flapping:
			x.pair, x.category, x.times, length = g.large(), g.r.IntN(len(categories)), 30, 180
		case Stop:
			length = 45
		}
		x.to = x.from + length
		g.incidents = append(g.incidents, x)
	}
}

// large returns one of the pairs that send most.
func (g *generator) large() int {
	for {
		if i := g.r.IntN(len(g.pairs)); g.pairs[i].rate >= g.s.PerMinute/500 {
			return i
		}
	}
}

// minute makes the counts of a minute.
func (g *generator) minute(m int) []spike.Row {
	g.rows = g.rows[:0]
	g.law.minute(m)
	var open []*Incident
	stopped := false
	for i := range g.incidents {
		if x := &g.incidents[i]; m >= x.from && m < x.to {
			open = append(open, x)
			stopped = stopped || x.script == Stop
		}
	}
	for i := range g.pairs {
		x := &g.pairs[i]
		rate := g.law.volume(m, x)
		if stopped {
			rate = 0
		}
		n := g.poisson(rate)
		late := g.law.late(x)
		failed := 0
		g.k[i] = [4]int{}
		for c := range categories {
			usual := g.law.ratio(m, x, c)
			p := usual
			for _, o := range open {
				if times := o.at(m, i, c, x); times != 1 {
					p = min(usual*times, 0.9)
					o.Excess += (p - usual) * float64(n)
				}
			}
			k := min(g.failures(p*float64(n)), n-failed)
			if late > 0 {
				k = int(float64(k)*(1-late) + g.r.Float64())
			}
			if k <= 0 {
				continue
			}
			failed += k
			g.k[i][c] = k
			g.rows = append(g.rows, spike.Row{Source: "s", Outcome: "bounced", Category: categories[c], Provider: providerNames[x.provider], SenderDomain: x.domain, Firsts: int64(k)})
		}
		if late > 0 {
			n = max(failed, int(float64(n)*(1-late)))
		}
		g.n[i] = n
		if n > failed {
			g.rows = append(g.rows, spike.Row{Source: "s", Outcome: "delivered", Provider: providerNames[x.provider], SenderDomain: x.domain, Firsts: int64(n - failed)})
		}
	}
	return g.rows
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
