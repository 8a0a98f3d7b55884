// Package report tells why mail failed: it gathers counts, from a one-shot
// count of logs or from a ledger, and renders them as a table for people, as
// JSON for programs and as an HTML page to send around.
package report

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// Report is the whole story. Its JSON form is stable: fields are added, never
// renamed or removed.
type Report struct {
	Lines     int64 `json:"lines"`
	Malformed int64 `json:"malformed"`
	Truncated int64 `json:"truncated"`
	Probes    int64 `json:"probes"`           // address probes, no attempts
	Rejected  int64 `json:"rejected_inbound"` // clients our own server refused
	LostBytes int64 `json:"lost_bytes"`
	Unmatched int64 `json:"unmatched"` // attempts of an unknown sender

	// Attempts counts tries: delivered, deferred and bounced.
	Attempts int64 `json:"attempts"`
	// FirstOutcomes leaves retries out: one for each recipient of a message.
	FirstOutcomes int64    `json:"first_outcomes"`
	Outcomes      Outcomes `json:"outcomes"`

	// Categories says why attempts failed, worst first.
	Categories []Category `json:"categories"`
	// Providers, SenderDomains and RecipientDomains are sorted by failures,
	// the worst first, and cut at MaxNames.
	Providers        []Name `json:"providers"`
	SenderDomains    []Name `json:"sender_domains"`
	RecipientDomains []Name `json:"recipient_domains"`

	Trend Trend `json:"trend"`

	// First and Last are the times of the earliest and latest attempt, in UTC;
	// null if there was none.
	First *time.Time `json:"first"`
	Last  *time.Time `json:"last"`
}

// MaxNames is how many names each list of names has at the most.
const MaxNames = 100

// Outcomes counts what became of attempts. Expired counts messages given up,
// which is no attempt.
type Outcomes struct {
	Delivered int64 `json:"delivered"`
	Deferred  int64 `json:"deferred"`
	Bounced   int64 `json:"bounced"`
	Expired   int64 `json:"expired"`
}

// Failures returns the attempts that failed.
func (o Outcomes) Failures() int64 { return o.Deferred + o.Bounced }

func (o *Outcomes) add(outcome event.Outcome, n int64) {
	switch outcome {
	case event.Delivered:
		o.Delivered += n
	case event.Deferred:
		o.Deferred += n
	case event.Bounced:
		o.Bounced += n
	case event.Expired:
		o.Expired += n
	}
}

// Category is one reason and how often it was.
type Category struct {
	Category string `json:"category"`
	Group    string `json:"group"`
	Owner    string `json:"owner"`
	Meaning  string `json:"meaning"`
	Advice   string `json:"advice"`

	Attempts      int64 `json:"attempts"`
	FirstOutcomes int64 `json:"first_outcomes"`
	Deferred      int64 `json:"deferred"`
	Bounced       int64 `json:"bounced"`
	Expired       int64 `json:"expired"`

	// Providers and SenderDomains count attempts, or expired messages.
	Providers     map[string]int64 `json:"providers"`
	SenderDomains map[string]int64 `json:"sender_domains"`
	// Causes is what kept expired messages in the queue.
	Causes map[string]int64 `json:"causes,omitempty"`
	// Samples are the most frequent wordings.
	Samples []Sample `json:"samples"`
}

// Total is what the category is sorted by: attempts, or expired messages.
func (c *Category) Total() int64 { return c.Attempts + c.Expired }

// Sample is one wording of a reply, addresses removed.
type Sample struct {
	Text     string    `json:"text"`
	Provider string    `json:"provider"`
	Rule     string    `json:"rule"`
	Attempts int64     `json:"attempts"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
}

// MaxSamples is how many wordings a category has at the most.
const MaxSamples = 5

// Name is a provider or domain with its outcomes.
type Name struct {
	Name     string `json:"name"`
	Attempts int64  `json:"attempts"`
	Outcomes
	// TopCategory is the most frequent reason of its failures, if any.
	TopCategory string `json:"top_category,omitempty"`

	categories map[event.Category]int64
}

// Trend is the course over time, oldest first, in slots of equal length.
type Trend struct {
	StepSeconds int64   `json:"step_seconds"`
	Points      []Point `json:"points"`
}

// Point is one slot of the trend.
type Point struct {
	Start time.Time `json:"start"`
	Outcomes
	Categories map[string]int64 `json:"categories"`
}

// Builder gathers counts into a Report. Rows may come in any order and any
// number of times; they add up.
type Builder struct {
	r          Report
	categories map[event.Category]*Category
	providers  map[string]*Name
	senders    map[string]*Name
	recipients map[string]*Name
	samples    map[event.Category]map[uint64]*Sample
	points     map[int64]*Point
	first      int64
	last       int64
}

// NewBuilder returns an empty builder whose trend has slots of step.
func NewBuilder(step time.Duration) *Builder {
	b := &Builder{
		categories: make(map[event.Category]*Category),
		providers:  make(map[string]*Name),
		senders:    make(map[string]*Name),
		recipients: make(map[string]*Name),
		samples:    make(map[event.Category]map[uint64]*Sample),
		points:     make(map[int64]*Point),
	}
	b.r.Trend.StepSeconds = int64(step / time.Second)
	return b
}

// AddLines adds line statistics.
func (b *Builder) AddLines(l window.Lines) {
	b.r.Lines += l.Read
	b.r.Malformed += l.Malformed
	b.r.Truncated += l.Truncated
	b.r.Probes += l.Probes
	b.r.Rejected += l.Rejected
	b.r.LostBytes += l.Lost
	b.r.Unmatched += l.Unmatched
}

// AddTimes widens the span of time to these Unix seconds; zero is none.
func (b *Builder) AddTimes(first, last int64) {
	if first != 0 && (b.first == 0 || first < b.first) {
		b.first = first
	}
	b.last = max(b.last, last)
}

// AddCount adds what one series did.
func (b *Builder) AddCount(s *window.Series, attempts, firsts int64) {
	b.r.Outcomes.add(s.Outcome, attempts)
	if s.Outcome != event.Expired {
		b.r.Attempts += attempts
		b.r.FirstOutcomes += firsts
	}
	addName(b.providers, s.Provider, s.Outcome, s.Category, attempts)
	addName(b.senders, s.SenderDomain, s.Outcome, s.Category, attempts)
	if !s.Outcome.Failure() {
		return
	}
	c := b.category(s.Category)
	switch s.Outcome {
	case event.Expired:
		c.Expired += attempts
		cause := s.Secondary.String()
		if cause == "" {
			cause = window.Unknown
		}
		if c.Causes == nil {
			c.Causes = make(map[string]int64)
		}
		c.Causes[cause] += attempts
	case event.Deferred:
		c.Deferred += attempts
	case event.Bounced:
		c.Bounced += attempts
	}
	if s.Outcome != event.Expired {
		c.Attempts += attempts
		c.FirstOutcomes += firsts
		c.Providers[s.Provider] += attempts
	}
	c.SenderDomains[s.SenderDomain] += attempts
}

// AddDomain adds what happened at a recipient domain.
func (b *Builder) AddDomain(domain string, o event.Outcome, c event.Category, attempts int64) {
	addName(b.recipients, domain, o, c, attempts)
}

// AddTemplate adds a wording of a failure.
func (b *Builder) AddTemplate(t *window.TemplateCount) {
	of := b.samples[t.Category]
	if of == nil {
		of = make(map[uint64]*Sample)
		b.samples[t.Category] = of
	}
	first, last := time.Unix(t.First, 0).UTC(), time.Unix(t.Last, 0).UTC()
	s := of[t.Hash]
	if s == nil {
		of[t.Hash] = &Sample{t.Text, t.Provider, t.Rule, t.Attempts, first, last}
		return
	}
	s.Attempts += t.Attempts
	if first.Before(s.First) {
		s.First = first
	}
	if last.After(s.Last) {
		s.Last = last
	}
}

// AddTrend adds to the slot of the trend that start, in Unix seconds, falls
// into.
func (b *Builder) AddTrend(start int64, o event.Outcome, c event.Category, attempts int64) {
	step := b.r.Trend.StepSeconds
	start -= ((start % step) + step) % step
	p := b.points[start]
	if p == nil {
		p = &Point{Start: time.Unix(start, 0).UTC(), Categories: make(map[string]int64)}
		b.points[start] = p
	}
	p.Outcomes.add(o, attempts)
	if o.Failure() {
		p.Categories[c.String()] += attempts
	}
}

// AddDelta adds all of a counter's delta but the trend.
func (b *Builder) AddDelta(d *window.Delta) {
	b.AddLines(d.Lines)
	b.AddTimes(d.First, d.Last)
	for i := range d.Counts {
		b.AddCount(d.Counts[i].Series, d.Counts[i].Attempts, d.Counts[i].Firsts)
	}
	for i := range d.Domains {
		b.AddDomain(d.Domains[i].Domain, d.Domains[i].Outcome, d.Domains[i].Category, d.Domains[i].Attempts)
	}
	for i := range d.Templates {
		b.AddTemplate(&d.Templates[i])
	}
}

func (b *Builder) category(id event.Category) *Category {
	c := b.categories[id]
	if c == nil {
		info := id.Info()
		c = &Category{
			Category: info.ID, Group: info.Group, Owner: info.Owner, Meaning: info.Meaning, Advice: info.Advice,
			Providers: make(map[string]int64), SenderDomains: make(map[string]int64), Samples: []Sample{},
		}
		b.categories[id] = c
	}
	return c
}

func addName(to map[string]*Name, name string, o event.Outcome, c event.Category, attempts int64) {
	n := to[name]
	if n == nil {
		n = &Name{Name: name, categories: make(map[event.Category]int64)}
		to[name] = n
	}
	n.Outcomes.add(o, attempts)
	if o != event.Expired {
		n.Attempts += attempts
	}
	if o.Failure() {
		n.categories[c] += attempts
	}
}

// Report returns what was gathered.
func (b *Builder) Report() *Report {
	r := b.r
	r.Categories = []Category{}
	for id, c := range b.categories {
		samples := slices.SortedFunc(maps.Values(b.samples[id]), func(x, y *Sample) int {
			return cmp.Or(cmp.Compare(y.Attempts, x.Attempts), cmp.Compare(x.Text, y.Text), cmp.Compare(x.Provider, y.Provider))
		})
		for _, s := range samples[:min(len(samples), MaxSamples)] {
			c.Samples = append(c.Samples, *s)
		}
		r.Categories = append(r.Categories, *c)
	}
	slices.SortFunc(r.Categories, func(x, y Category) int {
		return cmp.Or(cmp.Compare(y.Total(), x.Total()), cmp.Compare(x.Category, y.Category))
	})
	r.Providers = ranked(b.providers)
	r.SenderDomains = ranked(b.senders)
	r.RecipientDomains = ranked(b.recipients)
	r.Trend.Points = []Point{}
	for _, start := range slices.Sorted(maps.Keys(b.points)) {
		r.Trend.Points = append(r.Trend.Points, *b.points[start])
	}
	if b.first != 0 {
		first, last := time.Unix(b.first, 0).UTC(), time.Unix(b.last, 0).UTC()
		r.First, r.Last = &first, &last
	}
	return &r
}

// ranked sorts names by failures, then by attempts.
func ranked(names map[string]*Name) []Name {
	all := make([]Name, 0, len(names))
	for _, n := range names {
		var top event.Category
		for c, count := range n.categories {
			if best := n.categories[top]; count > best || count == best && c < top {
				top = c
			}
		}
		n.TopCategory = top.String()
		all = append(all, *n)
	}
	slices.SortFunc(all, func(x, y Name) int {
		return cmp.Or(
			cmp.Compare(y.Failures()+y.Expired, x.Failures()+x.Expired),
			cmp.Compare(y.Attempts, x.Attempts),
			cmp.Compare(x.Name, y.Name))
	})
	return all[:min(len(all), MaxNames)]
}
