package detectbench

import (
	"slices"
	"time"

	"github.com/bouncemeter/bouncemeter/pipeline/spike"
)

// start is a Monday, midnight UTC.
const start = int64(1_700_438_400)

// Score says how well a detector found the incidents of a scenario.
type Score struct {
	Detector string
	Series   int
	// False alarms a day and 1000 series, after the first two days, and in them;
	// Surges are those after two days while the volume of the pair was high.
	False, FalseEarly, Surges float64
	// Recall is the part of the spikes found with an expected excess of 10 to 30,
	// 30 to 100, 100 and more, and of all from 10 on.
	Recall10, Recall30, Recall100, RecallAll float64
	// Delay is the median time to an alert in minutes, from 100 and from 10 on,
	// and Late that of nine of ten from 10 on; Lag is the median from the end of
	// the spike to the end of its alert.
	Delay100, Delay10, Late, Lag float64
	// Flaps is how often the alert of a found spike came back.
	Flaps float64
	// Nanos is the time for a series and minute.
	Nanos float64

	// Of a script: Found is the part of the incidents that are found, Soon within
	// 15 minutes, Delay the median in minutes; of those of many only alerts for
	// what they share count. Told is of how many alerts people are told in each
	// incident, and FalseShared are false alerts a day for what many share.
	Found, Soon, Delay, Told, FalseShared float64
}

// found is an alert, and what it is of.
type found struct {
	domain, provider, category string
	shared                     bool // by many
	fired, resolved            int
	again                      []int // when it fired after it had ended or had been going on for long
	flaps                      int
	inhibited                  bool
	state                      spike.State
}

// candidate is a detector that is measured.
type candidate interface {
	name() string
	// minute judges what the generator has just made.
	minute(m int, g *generator, rows []spike.Row) error
	// alerts are all that were raised, in order of firing.
	alerts() []*found
	took() time.Duration
}

// ours is the detector of package spike with one rule that judges every pair and
// category for itself.
type ours struct {
	detector *spike.Detector
	title    string
	byID     map[string]*found
	all      []*found
	time     time.Duration
}

func newOurs(title string, budget float64, breadth bool) (*ours, error) {
	d, err := spike.New(spike.Config{Rules: []spike.Rule{{
		Name: "bench", Kind: spike.Ratio, By: []spike.Dimension{spike.SenderDomain, spike.Provider, spike.Category},
		Match: spike.Match{Categories: categories}, Budget: budget, NoBreadth: !breadth, NoTrend: true,
	}}})
	return &ours{detector: d, title: title, byID: make(map[string]*found)}, err
}

func (o *ours) name() string        { return o.title }
func (o *ours) alerts() []*found    { return o.all }
func (o *ours) took() time.Duration { return o.time }

func (o *ours) minute(m int, _ *generator, rows []spike.Row) error {
	begun := time.Now()
	changes := o.detector.Window(start+int64(m)*60, rows)
	o.time += time.Since(begun)
	for _, c := range changes {
		a := &c.Alert
		f := o.byID[a.ID]
		if f == nil {
			f = &found{
				domain: a.Labels[spike.SenderDomain], provider: a.Labels[spike.Provider], category: a.Labels[spike.Category],
				shared: a.Kind == spike.Breadth, fired: m, inhibited: a.Inhibited,
			}
			o.byID[a.ID] = f
			o.all = append(o.all, f)
		}
		if a.State == spike.Firing && (f.state == spike.Resolved || f.state == spike.Persisting) {
			f.again = append(f.again, m)
		}
		f.state = a.State
		f.flaps = a.Flaps
		f.inhibited = f.inhibited && a.Inhibited
		if f.resolved = 0; a.State == spike.Resolved {
			f.resolved = m
		}
	}
	return nil
}

// others runs a plain detector on every series.
type others struct {
	plain
	judges []func(int, float64, float64) bool
	open   []*found
	last   []int // minute in which the condition was true
	all    []*found
	time   time.Duration
}

func newOthers(p plain, series int) *others {
	o := &others{plain: p, open: make([]*found, series), last: make([]int, series)}
	for range series {
		o.judges = append(o.judges, p.start())
	}
	return o
}

func (o *others) name() string        { return o.plain.name }
func (o *others) alerts() []*found    { return o.all }
func (o *others) took() time.Duration { return o.time }

func (o *others) minute(m int, g *generator, _ []spike.Row) error {
	begun := time.Now()
	for i := range g.pairs {
		for c := range categories {
			x := i*len(categories) + c
			yes := o.judges[x](m, float64(g.k[i][c]), float64(g.n[i]))
			switch f := o.open[x]; {
			case yes && f == nil:
				f = &found{domain: g.pairs[i].domain, provider: providerNames[g.pairs[i].provider], category: categories[c], fired: m}
				o.open[x] = f
				o.all = append(o.all, f)
			case f != nil && !yes && m-o.last[x] >= keepFiring:
				f.resolved = m
				o.open[x] = nil
			}
			if yes {
				o.last[x] = m
			}
		}
	}
	o.time += time.Since(begun)
	return nil
}

// Options says what is measured beside the detector with its default budget.
type Options struct {
	Budgets []float64 // of false alarms a day and 1000 series; the first is the default one
	Plain   bool      // the plain detectors
}

// Run feeds the scenario to detectors and returns their scores: that of package
// spike by budget, and then the plain ones.
func Run(s Scenario, o Options) ([]Score, error) {
	g := newGenerator(s)
	var all []candidate
	for _, b := range o.Budgets {
		c, err := newOurs("bouncemeter, budget "+number(b), b, s.Script != "")
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	if o.Plain {
		for _, p := range plains {
			all = append(all, newOthers(p, len(g.pairs)*len(categories)))
		}
	}
	surges := make(map[[2]string][][2]int)
	for m := range s.Days * day {
		rows := g.minute(m)
		for _, c := range all {
			if err := c.minute(m, g, rows); err != nil {
				return nil, err
			}
		}
		for i := range g.pairs {
			if x := &g.pairs[i]; x.surgeTo > m {
				k := [2]string{x.domain, providerNames[x.provider]}
				if of := surges[k]; len(of) == 0 || of[len(of)-1][1] < m {
					surges[k] = append(of, [2]int{m, x.surgeTo})
				} else {
					of[len(of)-1][1] = x.surgeTo
				}
			}
		}
	}
	scores := make([]Score, 0, len(all))
	for _, c := range all {
		sc := Score{Detector: c.name(), Series: len(g.pairs) * len(categories)}
		sc.Nanos = float64(c.took().Nanoseconds()) / float64(s.Days*day*sc.Series)
		sc.single(g, c.alerts(), surges)
		if s.Script != "" {
			sc.script(g, c.alerts())
		}
		scores = append(scores, sc)
	}
	return scores, nil
}

// after is for how many minutes after its end an incident may still be found.
const after = 5

// when is the minute of the incident in which the alert fired for the first time,
// or again after an earlier one; -1 if in none.
func (f *found) when(x *Incident) int {
	for _, m := range append([]int{f.fired}, f.again...) {
		if m >= x.from && m < x.to+after {
			return m
		}
	}
	return -1
}

// is reports whether the alert is about the incident.
func (f *found) is(x *Incident, g *generator) bool {
	if f.when(x) < 0 {
		return false
	}
	switch x.script {
	case Stop:
		return false
	case ProviderWide:
		return f.category == categories[wideCategory] && f.provider == providerNames[x.provider]
	case DomainWide:
		return f.category == categories[wideCategory] && f.domain == g.pairs[x.domain*len(providerNames)].domain
	}
	p := &g.pairs[x.pair]
	return f.domain == p.domain && f.provider == providerNames[p.provider] && f.category == categories[x.category]
}

// single scores what is of single series.
func (sc *Score) single(g *generator, alerts []*found, surges map[[2]string][][2]int) {
	matched := make(map[*found]bool)
	var hits, of [3]float64
	var delays100, delays10, lags []float64
	flaps, caught := 0.0, 0.0
	for i := range g.incidents {
		x := &g.incidents[i]
		var first *found
		for _, f := range alerts {
			if f.is(x, g) {
				matched[f] = true
				if first == nil {
					first = f
				}
			}
		}
		bin := -1
		switch {
		case x.script != "":
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
		delay := float64(first.when(x) - x.from + 1)
		delays10 = append(delays10, delay)
		if bin == 2 {
			delays100 = append(delays100, delay)
		}
		if first.resolved > 0 {
			lags = append(lags, max(0, float64(first.resolved-x.to)))
		}
		flaps += float64(first.flaps)
		caught++
	}
	sc.Recall10, sc.Recall30, sc.Recall100 = part(hits[0], of[0]), part(hits[1], of[1]), part(hits[2], of[2])
	sc.RecallAll = part(hits[0]+hits[1]+hits[2], of[0]+of[1]+of[2])
	sc.Delay100, sc.Delay10, sc.Late = quantile(delays100, 0.5), quantile(delays10, 0.5), quantile(delays10, 0.9)
	sc.Lag, sc.Flaps = quantile(lags, 0.5), part(flaps, caught)
	var early, late, surging float64
	for _, f := range alerts {
		switch {
		case matched[f] || f.shared:
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
	days := float64(g.s.Days - 2)
	sc.FalseEarly, sc.False, sc.Surges = early/2/series, late/days/series, surging/days/series
}

// script scores the incidents of the scenario's script.
func (sc *Score) script(g *generator, alerts []*found) {
	shared := g.s.Script == ProviderWide || g.s.Script == DomainWide
	matched := make(map[*found]bool)
	var n, told, hits, soon float64
	var delays []float64
	for i := range g.incidents {
		x := &g.incidents[i]
		if x.script == "" {
			continue
		}
		n++
		var first *found
		for _, f := range alerts {
			if !f.is(x, g) {
				// Whatever fires while nothing can be sent is about that, if at all.
				if x.script == Stop && !f.inhibited && f.fired >= x.from && f.fired < x.to+after {
					told++
				}
				continue
			}
			matched[f] = true
			if !f.inhibited {
				told += float64(1 + f.flaps)
			}
			if first == nil && (!shared || f.shared) {
				first = f
			}
		}
		if first == nil {
			continue
		}
		hits++
		delay := float64(first.when(x) - x.from + 1)
		delays = append(delays, delay)
		if delay <= 15 {
			soon++
		}
	}
	var wrong float64
	for _, f := range alerts {
		if f.shared && !matched[f] && f.fired >= 2*day {
			wrong++
		}
	}
	sc.Found, sc.Soon, sc.Told = part(hits, n), part(soon, n), part(told, n)
	sc.Delay, sc.FalseShared = quantile(delays, 0.5), wrong/float64(g.s.Days-2)
}

func part(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

func quantile(all []float64, q float64) float64 {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[int(q*float64(len(all)-1)+0.5)]
}
