package config

import (
	"fmt"
	"slices"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

// Alert is a rule: what is watched, and what counts as too much.
type Alert struct {
	// Name of the rule in alerts: lower-case letters, digits, _ and -. That of a
	// built-in rule replaces it.
	Name string `yaml:"name"`
	// Off switches the built-in rule of this name off.
	Off bool `yaml:"off"`
	// Why it is worth an alert, in a line for those who get it.
	Why string `yaml:"why"`
	// Kind of the rule: ratio compares the share of failures with what is usual
	// for each series; silence fires when nothing comes for much longer than
	// usual, drop and surge when much less or much more comes than usual at this
	// hour of the week; threshold has fixed limits; burn fires when an error
	// budget is used up too fast; trend watches for slow change over days;
	// template fires on wordings never seen before.
	Kind string `yaml:"kind" enum:"ratio,silence,drop,surge,threshold,burn,trend,template"`
	// Match says which failures it is about; left out, all.
	Match AlertMatch `yaml:"match"`
	// By lists what tells series apart. Each combination of names is judged for
	// itself; without any all are judged together.
	By []string `yaml:"by" enum:"category,provider,sender_domain,source,host,stream"`
	// Budget is how many false alarms a day are accepted per 1000 series, 0.001
	// to 1000.
	Budget float64 `yaml:"budget"`
	// Gates have to be passed before a rule of kind ratio fires, however strong
	// the evidence.
	Gates Gates `yaml:"gates"`
	// Severity of its alerts. Left out, it follows from what they cost.
	Severity string `yaml:"severity" enum:"ticket,warning,critical"`
	// Threshold has the limits of the kind of this name.
	Threshold Threshold `yaml:"threshold"`
	// Objective is the share of attempts that should not fail so, such as 0.99,
	// for kind burn.
	Objective float64 `yaml:"objective"`
	// NoBreadth switches off alerts for what many series have in common.
	NoBreadth bool `yaml:"no_breadth"`
	// NoTrend switches off alerts for slow change over days.
	NoTrend bool `yaml:"no_trend"`
}

// AlertMatch says which failures a rule is about. Within a field one value must
// match, and every field that is given must match.
type AlertMatch struct {
	// Categories by id; docs/categories.md lists them.
	Categories []string `yaml:"categories"`
	// Groups of categories.
	Groups []string `yaml:"groups"`
	// Outcomes that are counted. Left out, deferred and bounced.
	Outcomes []string `yaml:"outcomes"`
	// Providers to look at; left out, all.
	Providers []string `yaml:"providers"`
	// SenderDomains to look at; left out, all.
	SenderDomains []string `yaml:"sender_domains"`
	// Sources to look at; left out, all.
	Sources []string `yaml:"sources"`
	// Hosts to look at; left out, all.
	Hosts []string `yaml:"hosts"`
}

// Gates keep what is too small to matter from firing.
type Gates struct {
	// MinFailures since the rise began.
	MinFailures int `yaml:"min_failures"`
	// MinWindows is in how many minutes failures were seen.
	MinWindows int `yaml:"min_windows"`
	// MinRatio of failures since the rise began, up to 1.
	MinRatio float64 `yaml:"min_ratio"`
	// MinTimes is the least multiple of the usual ratio.
	MinTimes float64 `yaml:"min_times"`
	// MinRise is the least difference to the usual ratio, up to 1.
	MinRise float64 `yaml:"min_rise"`
	// MinExcess is how many failures there must be beyond the usual.
	MinExcess float64 `yaml:"min_excess"`
}

// Threshold has fixed limits. If both ratio and per_minute are given, both have
// to be exceeded.
type Threshold struct {
	// Ratio of attempts that fail so, up to 1.
	Ratio float64 `yaml:"ratio"`
	// PerMinute is the number of failures a minute.
	PerMinute float64 `yaml:"per_minute"`
	// Over is the time over which both are taken, 1m to 60m in whole minutes.
	Over time.Duration `yaml:"over"`
	// For is how long it has to last, in whole minutes. Left out, it fires at
	// once.
	For time.Duration `yaml:"for"`
	// MinAttempts there have to be in that time.
	MinAttempts int `yaml:"min_attempts"`
}

// DefaultAlert returns what holds for a rule where nothing is said.
func DefaultAlert() Alert {
	return Alert{
		Kind: "ratio", Budget: 1,
		Gates:     Gates{MinFailures: 5, MinWindows: 2, MinRatio: 0.005, MinTimes: 3, MinRise: 0.003, MinExcess: 4},
		Threshold: Threshold{Over: 5 * time.Minute, MinAttempts: 50},
	}
}

// checkAlerts finds what is wrong with the rules.
func (l *loader) checkAlerts(all []Alert) {
	names := make(map[string]int)
	groups := make(map[string]bool)
	for _, c := range event.Categories() {
		groups[c.Info().Group] = true
	}
	for i := range all {
		a, path := &all[i], fmt.Sprintf("alerts[%d]", i)
		if l.failed(path) {
			continue
		}
		first, again := names[a.Name]
		switch {
		case a.Name == "":
			if !l.failed(path + ".name") {
				l.fault(path+".name", "the rule has no name", "alerts are told apart by it; give it one such as authentication")
			}
		case !validName(a.Name):
			l.fault(path+".name", fmt.Sprintf("%q is not a name", a.Name), "use lower-case letters, digits, _ and -")
		case again:
			l.fault(path+".name", fmt.Sprintf("%q is the name of alerts[%d] already", a.Name, first), "give each rule a name of its own")
		default:
			names[a.Name] = i
		}
		for j, id := range a.Match.Categories {
			if _, ok := event.CategoryByID(id); !ok {
				l.fault(fmt.Sprintf("%s.match.categories[%d]", path, j), fmt.Sprintf("%q is not a category", id), "docs/categories.md lists them")
			}
		}
		for j, g := range a.Match.Groups {
			if !groups[g] {
				l.fault(fmt.Sprintf("%s.match.groups[%d]", path, j), fmt.Sprintf("%q is not a group of categories", g), "docs/categories.md lists them")
			}
		}
		for j, name := range a.Match.Outcomes {
			if _, ok := event.OutcomeByName(name); !ok {
				l.fault(fmt.Sprintf("%s.match.outcomes[%d]", path, j), fmt.Sprintf("%q is not an outcome", name), "use such as deferred, bounced, expired or complaint")
			}
		}
		for j, d := range a.By {
			if slices.Index(a.By, d) != j {
				l.fault(fmt.Sprintf("%s.by[%d]", path, j), fmt.Sprintf("%s is there twice", d), "remove one")
			}
		}
		l.checkNumbers(path, a)
	}
}

// checkNumbers finds numbers out of bounds. Zero cannot be written, so it is what
// was left out.
func (l *loader) checkNumbers(path string, a *Alert) {
	for _, n := range []struct {
		key          string
		v, low, high float64
	}{
		{"budget", a.Budget, 0.001, 1000},
		{"gates.min_windows", float64(a.Gates.MinWindows), 1, 60},
		{"gates.min_ratio", a.Gates.MinRatio, 0, 1},
		{"gates.min_times", a.Gates.MinTimes, 1, 1e6},
		{"gates.min_rise", a.Gates.MinRise, 0, 1},
		{"threshold.ratio", a.Threshold.Ratio, 0, 1},
	} {
		if !(n.v >= n.low && n.v <= n.high) && !l.failed(path+"."+n.key) {
			l.fault(path+"."+n.key, fmt.Sprintf("%v is out of bounds", n.v), fmt.Sprintf("use %v to %v", n.low, n.high))
		}
	}
	switch a.Kind {
	case "threshold":
		if a.Threshold.Ratio == 0 && a.Threshold.PerMinute == 0 {
			l.fault(path+".threshold", "there is neither ratio nor per_minute", "write one, or the rule would always fire")
		}
		l.between(path+".threshold.over", a.Threshold.Over, time.Minute, time.Hour)
		for _, p := range []struct {
			key string
			d   time.Duration
		}{{"over", a.Threshold.Over}, {"for", a.Threshold.For}} {
			if p.d%time.Minute != 0 {
				l.fault(path+".threshold."+p.key, fmt.Sprintf("%s is not a whole number of minutes", FormatDuration(p.d)), "counts are per minute; round it")
			}
		}
	case "burn":
		if !(a.Objective >= 0.5 && a.Objective < 1) {
			l.fault(path+".objective", fmt.Sprintf("%v is out of bounds", a.Objective), "use 0.5 to 0.99999")
		}
	case "template":
		if !slices.Equal(a.By, []string{"provider"}) {
			l.fault(path+".by", "rules of kind template work by provider", "write by: [provider]")
		}
	case "silence", "drop", "surge":
		if slices.Contains(a.By, "category") {
			l.fault(path+".by", "rules of kind "+a.Kind+" cannot be by category", "name the categories under match")
		}
	}
}
