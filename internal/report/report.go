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
	// Since and Until bound the event times that were asked for, Since
	// included and Until not; null means no bound. With a bound, the line
	// statistics up to Unmatched are zero, since a ledger does not keep them
	// by time, and First and Last are only as exact as a slot of the trend.
	Since *time.Time `json:"since"`
	Until *time.Time `json:"until"`

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

	// Notices is what came beside the attempts, most first: bounces after a
	// delivery, complaints, automatic answers.
	Notices []Notice `json:"notices"`

	Trend Trend `json:"trend"`

	// First and Last are the times of the earliest and latest attempt, in UTC;
	// null if there was none.
	First *time.Time `json:"first"`
	Last  *time.Time `json:"last"`

	// Dialect is the format that was named for all lines, or "" if none was.
	Dialect string `json:"-"`
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

// Notice is news of recipients that is no attempt.
type Notice struct {
	// Outcome is such as "oob_bounce" or "complaint".
	Outcome string `json:"outcome"`
	// Category is why, left out if the news does not say.
	Category string `json:"category,omitempty"`
	Count    int64  `json:"count"`
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

	// Providers counts attempts, SenderDomains attempts and expired messages.
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

// Trend is the course over time, oldest first, in slots of equal length that
// start at multiples of it (UTC). Slots without anything are left out.
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

// Builder gathers counts into a Report. Rows may come in any order and in any
// pieces: they add up to the same report.
type Builder struct {
	r          Report
	step       int64 // of points, in seconds
	auto       bool  // the report's step is chosen by its span
	categories map[event.Category]*Category
	providers  map[string]*Name
	senders    map[string]*Name
	recipients map[string]*Name
	samples    map[event.Category]map[uint64]*Sample
	points     map[int64]*Point
	notices    map[notice]int64
	first      int64
	last       int64
}

type notice struct {
	outcome  event.Outcome
	category event.Category
}

// hourly is the span in seconds up to which a trend by hours is readable.
const hourly = 14 * 24 * 3600

// Step returns the length of a trend's slots that suits attempts between these
// Unix seconds: an hour up to 14 days, else a day.
func Step(first, last int64) time.Duration {
	if last-first <= hourly {
		return time.Hour
	}
	return 24 * time.Hour
}

// NewBuilder returns an empty builder whose trend has slots of step, in whole
// seconds; zero chooses it by the span, as Step does, and then AddTrend is to be
// called with slots of an hour or less.
func NewBuilder(step time.Duration) *Builder {
	b := &Builder{
		step:       int64(cmp.Or(step, time.Hour) / time.Second),
		auto:       step == 0,
		categories: make(map[event.Category]*Category),
		providers:  make(map[string]*Name),
		senders:    make(map[string]*Name),
		recipients: make(map[string]*Name),
		samples:    make(map[event.Category]map[uint64]*Sample),
		points:     make(map[int64]*Point),
		notices:    make(map[notice]int64),
	}
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

// told reports whether the outcome is told of among the attempts: complaints and
// the like are none.
func told(o event.Outcome) bool { return o == event.Delivered || o.Failure() }

// AddCount adds what one series did.
func (b *Builder) AddCount(s *window.Series, attempts, firsts int64) {
	if !told(s.Outcome) {
		b.notices[notice{s.Outcome, s.Category}] += attempts
		return
	}
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
	if told(o) {
		addName(b.recipients, domain, o, c, attempts)
	}
}

// AddTemplate adds a wording of a failure. Of several texts for one wording the
// earliest stays.
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
	if cmp.Or(first.Compare(s.First), cmp.Compare(t.Text, s.Text), cmp.Compare(t.Provider, s.Provider), cmp.Compare(t.Rule, s.Rule)) < 0 {
		s.First, s.Text, s.Provider, s.Rule = first, t.Text, t.Provider, t.Rule
	}
	if last.After(s.Last) {
		s.Last = last
	}
}

// AddTrend adds to the slot of the trend that start, in Unix seconds, falls
// into.
func (b *Builder) AddTrend(start int64, o event.Outcome, c event.Category, attempts int64) {
	if !told(o) {
		return
	}
	p := slot(b.points, start, b.step)
	p.Outcomes.add(o, attempts)
	if o.Failure() {
		p.Categories[c.String()] += attempts
	}
}

// slot returns the slot of this step that start falls into.
func slot(points map[int64]*Point, start, step int64) *Point {
	start -= ((start % step) + step) % step // rounds down, also before 1970
	p := points[start]
	if p == nil {
		p = &Point{Start: time.Unix(start, 0).UTC(), Categories: make(map[string]int64)}
		points[start] = p
	}
	return p
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
	for id, gathered := range b.categories {
		c := *gathered
		samples := slices.SortedFunc(maps.Values(b.samples[id]), func(x, y *Sample) int {
			return cmp.Or(cmp.Compare(y.Attempts, x.Attempts), cmp.Compare(x.Text, y.Text), cmp.Compare(x.Provider, y.Provider))
		})
		for _, s := range samples[:min(len(samples), MaxSamples)] {
			c.Samples = append(c.Samples, *s)
		}
		r.Categories = append(r.Categories, c)
	}
	slices.SortFunc(r.Categories, func(x, y Category) int {
		return cmp.Or(cmp.Compare(y.Total(), x.Total()), cmp.Compare(x.Category, y.Category))
	})
	r.Providers = ranked(b.providers)
	r.SenderDomains = ranked(b.senders)
	r.RecipientDomains = ranked(b.recipients)
	r.Notices = []Notice{}
	for k, n := range b.notices {
		r.Notices = append(r.Notices, Notice{k.outcome.String(), k.category.String(), n})
	}
	slices.SortFunc(r.Notices, func(x, y Notice) int {
		return cmp.Or(cmp.Compare(y.Count, x.Count), cmp.Compare(x.Outcome, y.Outcome), cmp.Compare(x.Category, y.Category))
	})
	r.Trend = b.trend()
	if b.first != 0 {
		r.First, r.Last = timestamp(b.first), timestamp(b.last)
	}
	return &r
}

func (b *Builder) trend() Trend {
	t := Trend{StepSeconds: b.step, Points: []Point{}}
	points := b.points
	if b.auto {
		t.StepSeconds = int64(Step(b.first, b.last) / time.Second)
	}
	if t.StepSeconds != b.step {
		points = make(map[int64]*Point)
		for start, p := range b.points {
			slot(points, start, t.StepSeconds).merge(p)
		}
	}
	for _, start := range slices.Sorted(maps.Keys(points)) {
		t.Points = append(t.Points, *points[start])
	}
	return t
}

// merge adds what happened in o to p.
func (p *Point) merge(o *Point) {
	p.Delivered += o.Delivered
	p.Deferred += o.Deferred
	p.Bounced += o.Bounced
	p.Expired += o.Expired
	for c, n := range o.Categories {
		p.Categories[c] += n
	}
}

// timestamp returns Unix seconds as the time that JSON shows.
func timestamp(seconds int64) *time.Time {
	t := time.Unix(seconds, 0).UTC()
	return &t
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
