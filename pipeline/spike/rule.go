package spike

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

// Dimension is something that tells series apart.
type Dimension string

const (
	Category     Dimension = "category"
	Provider     Dimension = "provider"
	SenderDomain Dimension = "sender_domain"
	Source       Dimension = "source"
	Host         Dimension = "host"
	Stream       Dimension = "stream"
)

// Kind is the way in which a rule judges.
type Kind string

const (
	// Ratio compares the share of attempts that fail so with the series' own
	// usual share. It is the default.
	Ratio Kind = "ratio"
	// Silence fires when nothing at all has come for much longer than usual.
	Silence Kind = "silence"
	// Drop and Surge fire when there is much less or much more than usual at
	// this hour of the week.
	Drop  Kind = "drop"
	Surge Kind = "surge"
	// Threshold fires while the fixed limits of Rule.Threshold are exceeded.
	Threshold Kind = "threshold"
	// Burn fires when the error budget of Rule.Objective is used up too fast, by
	// the three pairs of windows of the SRE workbook, chapter 5.
	Burn Kind = "burn"
	// Trend fires when a ratio has crept up over days against its own month. Every
	// Ratio rule also watches for trends unless NoTrend is set.
	Trend Kind = "trend"
	// Template fires when a wording that was never seen before at a provider
	// makes up Gates.MinRatio of its failures.
	Template Kind = "template"
)

// Severity says how soon somebody should look.
type Severity string

const (
	// Ticket is for working hours: nothing is lost by waiting for them.
	Ticket Severity = "ticket"
	// Warning wants a look today.
	Warning Severity = "warning"
	// Critical costs much mail right now.
	Critical Severity = "critical"
)

// Rule says what is watched, and what counts as too much.
type Rule struct {
	// Name identifies the rule in alerts. It must be unique.
	Name string `json:"name" yaml:"name"`
	// Why is one line for people: why this is worth an alert.
	Why   string `json:"why,omitempty" yaml:"why"`
	Kind  Kind   `json:"kind" yaml:"kind"`
	Match Match  `json:"match" yaml:"match"`
	// By lists the dimensions that tell series apart, such as sender_domain and
	// provider. Without any there is one series. Category among them judges each
	// category for itself, else all that match are judged together.
	By []Dimension `json:"by,omitempty" yaml:"by"`
	// Budget is how many false alarms a day are accepted per 1000 series, 0.001
	// to 1000. Zero means 1. It applies to the kinds ratio, silence, drop and
	// surge.
	Budget float64 `json:"budget,omitempty" yaml:"budget"`
	Gates  Gates   `json:"gates,omitzero" yaml:"gates"`
	// Severity of all alerts of this rule. Empty decides by what it costs.
	Severity Severity `json:"severity,omitempty" yaml:"severity"`
	// Threshold is for the kind of this name.
	Threshold Limits `json:"threshold,omitzero" yaml:"threshold"`
	// Objective is the share of attempts that should not fail so, such as 0.99,
	// for the kind burn.
	Objective float64 `json:"objective,omitempty" yaml:"objective"`
	// NoBreadth switches off alerts for what many series share, and NoTrend
	// those for slow change.
	NoBreadth bool `json:"no_breadth,omitempty" yaml:"no_breadth"`
	NoTrend   bool `json:"no_trend,omitempty" yaml:"no_trend"`
}

// Match says which failures a rule is about. Within a field one value must
// match, and every field that is given must match.
type Match struct {
	// Categories by id, and Groups of categories.
	Categories []string `json:"categories,omitempty" yaml:"categories"`
	Groups     []string `json:"groups,omitempty" yaml:"groups"`
	// Outcomes that are counted. Without any: deferred and bounced. Others, such
	// as expired or complaint, are no attempts; they are set in relation to the
	// attempts of the same minute.
	Outcomes []string `json:"outcomes,omitempty" yaml:"outcomes"`
	// Providers, SenderDomains, Sources and Hosts limit which attempts and
	// failures are looked at.
	Providers     []string `json:"providers,omitempty" yaml:"providers"`
	SenderDomains []string `json:"sender_domains,omitempty" yaml:"sender_domains"`
	Sources       []string `json:"sources,omitempty" yaml:"sources"`
	Hosts         []string `json:"hosts,omitempty" yaml:"hosts"`
}

// Gates must all be passed before a Ratio rule fires, however strong the
// evidence: what is too small to matter is not worth an alert. Zero means the
// default. Threshold rules use none; Template uses MinFailures and MinRatio.
type Gates struct {
	// MinFailures since the rise began. Default 5.
	MinFailures int `json:"min_failures,omitempty" yaml:"min_failures"`
	// MinWindows is in how many minutes failures were seen. Default 2.
	MinWindows int `json:"min_windows,omitempty" yaml:"min_windows"`
	// MinRatio since the rise began, 0 to 1. Default 0.005.
	MinRatio float64 `json:"min_ratio,omitempty" yaml:"min_ratio"`
	// MinTimes is the least multiple of the usual ratio. Default 3.
	MinTimes float64 `json:"min_times,omitempty" yaml:"min_times"`
	// MinRise is the least difference to the usual ratio. Default 0.003.
	MinRise float64 `json:"min_rise,omitempty" yaml:"min_rise"`
	// MinExcess is how many failures there must be beyond the usual. Default 4.
	MinExcess float64 `json:"min_excess,omitempty" yaml:"min_excess"`
}

// Limits are fixed thresholds. Those that are zero do not apply; if both Ratio
// and PerMinute are given, both must be exceeded.
type Limits struct {
	// Ratio of attempts that fail so, 0 to 1.
	Ratio float64 `json:"ratio,omitempty" yaml:"ratio"`
	// PerMinute is the number of failures a minute.
	PerMinute float64 `json:"per_minute,omitempty" yaml:"per_minute"`
	// Over is the time over which both are taken, 1 to 60 whole minutes.
	// Default 5m.
	Over time.Duration `json:"over,omitempty" yaml:"over"`
	// For is how long it must last, in whole minutes; zero fires at once.
	For time.Duration `json:"for,omitempty" yaml:"for"`
	// MinAttempts there must have been in Over. Default 50.
	MinAttempts int `json:"min_attempts,omitempty" yaml:"min_attempts"`
}

// DefaultRules are what is watched without any configuration. They are a copy
// that the caller may change.
func DefaultRules() []Rule {
	pair := func() []Dimension { return []Dimension{SenderDomain, Provider} }
	return []Rule{
		{Name: "authentication", Kind: Ratio, By: pair(),
			Why:   "SPF, DKIM and DMARC fail together with one DNS change, and all mail of the domain with them.",
			Match: Match{Categories: []string{"spf_failed", "dkim_failed", "dmarc_failed", "auth_failed", "sender_unverified"}}},
		{Name: "reputation", Kind: Ratio, By: []Dimension{Host, Provider},
			Why:   "A blocklisted address stops everything that leaves through it, and gets worse while mail keeps flowing.",
			Match: Match{Categories: []string{"ip_blocklisted", "rdns_missing"}}},
		{Name: "domain_reputation", Kind: Ratio, By: pair(),
			Why:   "A listed domain is refused whatever address it is sent from.",
			Match: Match{Categories: []string{"domain_blocklisted", "sender_rejected"}}},
		{Name: "rate_limits", Kind: Ratio, By: pair(),
			Why:   "A provider that throttles will block next if the pace stays.",
			Match: Match{Categories: []string{"rate_limited"}}},
		{Name: "user_unknown", Kind: Ratio, By: pair(),
			Why:   "Many unknown recipients at once mean an old or bought list, which costs reputation within hours.",
			Match: Match{Categories: []string{"user_unknown", "user_inactive", "bad_domain"}}},
		{Name: "content", Kind: Ratio, By: pair(),
			Why:   "A message judged to be spam or malware: a campaign, a link or an abused account.",
			Match: Match{Categories: []string{"spam_content", "malware"}}},
		{Name: "policy", Kind: Ratio, By: pair(),
			Why:   "A receiver has begun to refuse by a rule of its own.",
			Match: Match{Categories: []string{"policy", "relay_denied", "recipient_restricted", "protocol_error", "auth_required", "message_too_large"}}},
		{Name: "connection", Kind: Ratio, By: []Dimension{Host, Provider},
			Why:   "Network, DNS or TLS is broken at one of the ends.",
			Match: Match{Categories: []string{"connection_failed", "dns_failed", "tls_failed", "routing_loop", "system_error"}}},
		{Name: "expiry", Kind: Ratio, By: []Dimension{SenderDomain},
			Why:   "Messages are given up after days in the queue: nobody else will say so.",
			Match: Match{Outcomes: []string{"expired"}}},
		{Name: "unclassified", Kind: Ratio, By: []Dimension{Provider}, Severity: Ticket,
			Why:   "A provider says something that no rule understands: often a new policy.",
			Match: Match{Categories: []string{"unclassified"}}},
		{Name: "dead_feed", Kind: Silence, By: []Dimension{Source},
			Why: "A source that has gone quiet hides every other problem."},
	}
}

// withDefaults fills in what is zero.
func (r Rule) withDefaults() Rule {
	setDefault(&r.Kind, Ratio)
	setDefault(&r.Budget, 1)
	setDefault(&r.Gates.MinFailures, 5)
	setDefault(&r.Gates.MinWindows, 2)
	setDefault(&r.Gates.MinRatio, 0.005)
	setDefault(&r.Gates.MinTimes, 3)
	setDefault(&r.Gates.MinRise, 0.003)
	setDefault(&r.Gates.MinExcess, 4)
	setDefault(&r.Threshold.Over, 5*time.Minute)
	setDefault(&r.Threshold.MinAttempts, 50)
	return r
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

var (
	dimensions = []Dimension{Category, Provider, SenderDomain, Source, Host, Stream}
	kinds      = []Kind{Ratio, Silence, Drop, Surge, Threshold, Burn, Trend, Template}
	severities = []Severity{"", Ticket, Warning, Critical}
)

// Validate returns all faults of the rules, joined, each with its place and the
// remedy; nil if there is none.
func Validate(rules []Rule) error {
	var faults []error
	seen := make(map[string]bool)
	for i, r := range rules {
		at := fmt.Sprintf("alerts[%d]", i)
		if r.Name != "" {
			at += fmt.Sprintf(" (%s)", r.Name)
		}
		fault := func(format string, args ...any) {
			faults = append(faults, fmt.Errorf("%s: "+format, append([]any{at}, args...)...))
		}
		switch {
		case r.Name == "":
			fault("the rule has no name; alerts are told apart by it")
		case seen[r.Name]:
			fault("another rule has this name; choose a different one")
		}
		seen[r.Name] = true
		r.validate(fault)
	}
	if len(rules) > maxRules {
		faults = append(faults, fmt.Errorf("alerts: %d rules, at most %d are possible; join some", len(rules), maxRules))
	}
	return errors.Join(faults...)
}

// maxRules keeps a rule's number in a byte.
const maxRules = 250

func (r Rule) validate(fault func(string, ...any)) {
	r = r.withDefaults()
	oneOf(fault, "kind", r.Kind, kinds)
	oneOf(fault, "severity", r.Severity, severities)
	for i, d := range r.By {
		oneOf(fault, "by", d, dimensions)
		if slices.Index(r.By, d) != i {
			fault("by: %s is there twice; remove one", d)
		}
	}
	for _, id := range r.Match.Categories {
		if _, ok := event.CategoryByID(id); !ok {
			fault("match.categories: %q is no category; docs/categories.md lists them", id)
		}
	}
	groups := make(map[string]bool)
	for _, c := range event.Categories() {
		groups[c.Info().Group] = true
	}
	for _, g := range r.Match.Groups {
		if !groups[g] {
			fault("match.groups: %q is no group of categories; docs/categories.md lists them", g)
		}
	}
	for _, name := range r.Match.Outcomes {
		if _, ok := event.OutcomeByName(name); !ok {
			fault("match.outcomes: %q is no outcome; have %s", name, outcomeList())
		}
	}
	inRange := func(name string, v, low, high float64) {
		if !(v >= low && v <= high) {
			fault("%s: %v is out of range; use %v to %v", name, v, low, high)
		}
	}
	inRange("budget", r.Budget, 0.001, 1000)
	inRange("gates.min_failures", float64(r.Gates.MinFailures), 1, 1e9)
	inRange("gates.min_windows", float64(r.Gates.MinWindows), 1, 60)
	inRange("gates.min_ratio", r.Gates.MinRatio, 0, 1)
	inRange("gates.min_times", r.Gates.MinTimes, 1, 1e6)
	inRange("gates.min_rise", r.Gates.MinRise, 0, 1)
	inRange("gates.min_excess", r.Gates.MinExcess, 0, 1e9)
	switch r.Kind {
	case Threshold:
		inRange("threshold.ratio", r.Threshold.Ratio, 0, 1)
		inRange("threshold.per_minute", r.Threshold.PerMinute, 0, 1e9)
		inRange("threshold.over (minutes)", r.Threshold.Over.Minutes(), 1, maxOver)
		inRange("threshold.for (minutes)", r.Threshold.For.Minutes(), 0, 1440)
		inRange("threshold.min_attempts", float64(r.Threshold.MinAttempts), 1, 1e9)
		if r.Threshold.Over%time.Minute != 0 || r.Threshold.For%time.Minute != 0 {
			fault("threshold: over %v and for %v have to be whole minutes; counts are per minute", r.Threshold.Over, r.Threshold.For)
		}
		if r.Threshold.Ratio == 0 && r.Threshold.PerMinute == 0 {
			fault("threshold: neither ratio nor per_minute is set; the rule would fire always")
		}
	case Burn:
		inRange("objective", r.Objective, 0.5, 0.99999)
	case Template:
		if !slices.Equal(r.By, []Dimension{Provider}) {
			fault("by: rules of kind template work by provider; use by: [provider]")
		}
	case Silence, Drop, Surge:
		if slices.Contains(r.By, Category) {
			fault("by: rules of kind %s cannot be by category; name it under match", r.Kind)
		}
	}
}

func oneOf[T ~string](fault func(string, ...any), field string, v T, all []T) {
	if !slices.Contains(all, v) {
		names := make([]string, 0, len(all))
		for _, a := range all {
			if a != "" {
				names = append(names, string(a))
			}
		}
		fault("%s: %q is unknown; have %s", field, v, strings.Join(names, ", "))
	}
}

func outcomeList() string {
	var names []string
	for _, o := range event.Outcomes {
		names = append(names, o.String())
	}
	return strings.Join(names, ", ")
}
