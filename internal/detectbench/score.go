package detectbench

import (
	"slices"
	"time"

	"github.com/bouncemeter/bouncemeter/pipeline/spike"
)

// start is a Monday, midnight UTC.
const start = int64(1_700_438_400)

// Score says how well incidents were found.
type Score struct {
	Series int
	// False alarms a day and 1000 series, after the first two days, and in them;
	// Surges are those after two days while the volume of the pair was high.
	False, FalseEarly, Surges float64
	// Recall is the part of the spikes found with an expected excess of 10 to 30,
	// 30 to 100, 100 and more, and of all from 10 on.
	Recall10, Recall30, Recall100, RecallAll float64
	// Delay is the median time to an alert in minutes, from 100 and from 10 on,
	// and Lag that from the end of the spike to the end of its alert.
	Delay100, Delay10, Lag float64
	// Flaps is how often the alert of a found spike came back.
	Flaps float64
	// Wide is the part of incidents of a whole provider that are found within 15
	// minutes; WideFalse are false group alerts a day; WideTold is how many alerts
	// people are told of in each incident.
	Wide, WideFalse, WideTold float64
	// Nanos is the time for a series and minute.
	Nanos float64
}

// rule judges every pair and category for itself.
func rule(budget float64, breadth bool) spike.Rule {
	return spike.Rule{
		Name: "bench", Kind: spike.Ratio, By: []spike.Dimension{spike.SenderDomain, spike.Provider, spike.Category},
		Match: spike.Match{Categories: categories}, Budget: budget, NoBreadth: !breadth, NoTrend: true,
	}
}

// found is an alert, and what it is of.
type found struct {
	domain, provider, category string
	kind                       spike.Kind
	fired, resolved            int
	flaps                      int
	inhibited                  bool
}

// Run feeds the scenario to a detector with the budget of false alarms.
func Run(s Scenario, budget float64) (Score, error) {
	d, err := spike.New(spike.Config{Rules: []spike.Rule{rule(budget, s.ProviderWide)}})
	if err != nil {
		return Score{}, err
	}
	g := newGenerator(s)
	alerts := make(map[string]*found)
	var order []string
	surges := make(map[[2]string][][2]int)
	var took time.Duration
	for m := range s.Days * day {
		rows := g.minute(m)
		begun := time.Now()
		changes := d.Window(start+int64(m)*60, rows)
		took += time.Since(begun)
		for _, c := range changes {
			a := &c.Alert
			f := alerts[a.ID]
			if f == nil {
				f = &found{domain: a.Labels[spike.SenderDomain], provider: a.Labels[spike.Provider], category: a.Labels[spike.Category], kind: a.Kind, fired: m, inhibited: a.Inhibited}
				alerts[a.ID] = f
				order = append(order, a.ID)
			}
			f.flaps = a.Flaps
			f.inhibited = f.inhibited && a.Inhibited
			if a.State == spike.Resolved {
				f.resolved = m
			}
		}
		for i := range g.pairs {
			if x := &g.pairs[i]; x.surgeTo > m {
				k := [2]string{x.domain, providerNames[x.provider]}
				if all := surges[k]; len(all) == 0 || all[len(all)-1][1] < x.surgeTo {
					surges[k] = append(all, [2]int{m, x.surgeTo})
				}
			}
		}
	}
	sc := Score{Series: len(g.pairs) * len(categories)}
	sc.Nanos = float64(took.Nanoseconds()) / float64(s.Days*day*sc.Series)
	var all []*found
	for _, id := range order {
		all = append(all, alerts[id])
	}
	if s.ProviderWide {
		sc.wide(&s, g, all)
	} else {
		sc.single(&s, g, all, surges)
	}
	return sc, nil
}

// after is for how many minutes after its end a spike may still be found.
const after = 5

func (sc *Score) single(s *Scenario, g *generator, alerts []*found, surges map[[2]string][][2]int) {
	matched := make(map[*found]bool)
	var hits, of [3]float64
	var delays100, delays10, lags []float64
	flaps, caught := 0.0, 0.0
	for i := range g.spikes {
		x := &g.spikes[i]
		p := &g.pairs[x.Pair]
		var first *found
		for _, f := range alerts {
			if f.domain != p.domain || f.provider != providerNames[p.provider] || f.category != categories[x.Category] || f.fired < x.From || f.fired >= x.To+after {
				continue
			}
			matched[f] = true
			if first == nil {
				first = f
			}
		}
		bin := -1
		switch {
		case x.Excess >= 100:
			bin = 2
		case x.Excess >= 30:
			bin = 1
		case x.Excess >= 10:
			bin = 0
		}
		if bin < 0 {
			continue
		}
		of[bin]++
		if first == nil {
			continue
		}
		hits[bin]++
		delay := float64(first.fired - x.From + 1)
		delays10 = append(delays10, delay)
		if bin == 2 {
			delays100 = append(delays100, delay)
		}
		if first.resolved > 0 {
			lags = append(lags, max(0, float64(first.resolved-x.To)))
		}
		flaps += float64(first.flaps)
		caught++
	}
	sc.Recall10, sc.Recall30, sc.Recall100 = part(hits[0], of[0]), part(hits[1], of[1]), part(hits[2], of[2])
	sc.RecallAll = part(hits[0]+hits[1]+hits[2], of[0]+of[1]+of[2])
	sc.Delay100, sc.Delay10, sc.Lag, sc.Flaps = median(delays100), median(delays10), median(lags), part(flaps, caught)
	var early, late, surging float64
	for _, f := range alerts {
		switch {
		case matched[f]:
		case f.fired < 2*day:
			early++
		default:
			late++
			for _, t := range surges[[2]string{f.domain, f.provider}] {
				if f.fired >= t[0] && f.fired < t[1]+after {
					surging++
					break
				}
			}
		}
	}
	series := float64(sc.Series) / 1000
	sc.FalseEarly, sc.False, sc.Surges = early/2/series, late/float64(s.Days-2)/series, surging/float64(s.Days-2)/series
}

func (sc *Score) wide(s *Scenario, g *generator, alerts []*found) {
	var hits, told float64
	matched := make(map[*found]bool)
	for i := range g.spikes {
		x := &g.spikes[i]
		for _, f := range alerts {
			if f.provider != providerNames[x.Provider] || f.category != categories[wideCategory] || f.fired < x.From || f.fired >= x.To+after {
				continue
			}
			matched[f] = true
			if !f.inhibited {
				told++
			}
			if f.kind == spike.Breadth && f.domain == "" && f.fired-x.From < 15 {
				hits++
			}
		}
	}
	var wrong float64
	for _, f := range alerts {
		if f.kind == spike.Breadth && !matched[f] && f.fired >= 2*day {
			wrong++
		}
	}
	n := float64(len(g.spikes))
	sc.Wide, sc.WideTold, sc.WideFalse = part(hits, n), part(told, n), wrong/float64(s.Days-2)
}

func part(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// Scenarios are what bouncemeter bench detector measures on. The second make of
// mail shares no law of volume with the first.
var Scenarios = []struct {
	Name string
	Scenario
}{
	{"daily shape, surges", Scenario{Days: 14, Domains: 50, PerMinute: 3000, Spikes: true}},
	{"the same, failures in clumps", Scenario{Days: 14, Domains: 50, PerMinute: 3000, Spikes: true, Clumps: 1}},
	{"bursts, weekends, outages", Scenario{Days: 14, Domains: 50, PerMinute: 3000, Spikes: true, Bursts: true}},
	{"bursts, failures in clumps", Scenario{Days: 14, Domains: 50, PerMinute: 3000, Spikes: true, Bursts: true, Clumps: 1}},
	{"a whole provider, 3 times", Scenario{Days: 14, Domains: 50, PerMinute: 3000, ProviderWide: true, ProviderTimes: 3}},
	{"a whole provider, bursts", Scenario{Days: 14, Domains: 50, PerMinute: 3000, ProviderWide: true, ProviderTimes: 3, Bursts: true}},
}
