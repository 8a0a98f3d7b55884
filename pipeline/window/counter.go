package window

import (
	"math"
	"math/bits"

	"github.com/bouncemeter/bouncemeter/event"
)

// Config says what a Counter counts.
type Config struct {
	// Span is the length of a window in seconds; zero puts all counts into one
	// window that starts at 0.
	Span int64
	// CoarseSpan is the same for counts per recipient domain and for delays.
	CoarseSpan int64
	// TrendSpan also counts per outcome and category alone in windows of this
	// many seconds, for Trend; zero does not.
	TrendSpan int64
	// Lateness is how many seconds a lane waits for events that are out of
	// order: windows that end before the latest event by more than this are
	// closed, and what still comes into them counts as Late.
	Lateness int64
	// Latest is the event time, in Unix seconds, that the lane had reached
	// before; zero at its beginning.
	Latest int64

	// The admitted names of each dimension, shared by all lanes.
	SenderDomains, RecipientDomains, Hosts, Streams *Names

	// MaxSeries bounds the series of one lane. Beyond it new combinations are
	// counted under the sender domain Other.
	MaxSeries int
	// MaxTemplates bounds the wordings remembered between two deltas.
	MaxTemplates int

	// Sample appends a readable, redacted form of a failure's reply to dst. It
	// is called once for each new wording. Nil counts no wordings.
	Sample func(e *event.Event, dst []byte) []byte
}

// Counter adds up what happened since the last Delta. It is used by one
// goroutine.
type Counter struct {
	config Config

	senders, recipients, hosts, streams dimension

	providers     map[string]uint16 // few: they come from files of ours
	providerNames []string
	lately        [256]provider // by a cheap hash of the name

	series seriesTable
	routes map[rest]*Route // by their part of a rest
	places [16]placed      // the hosts and streams of lately, by some bits of event.Event.Place

	// What was counted since the last Delta, apart from what series and spellings
	// have not settled yet.
	delta     Delta
	counts    map[countKey]int32 // index into delta.Counts
	domains   map[domainKey]int32
	delays    map[delayKey]int32
	delayed   []cell // lately, by provider and outcome
	templates map[templateKey]*template
	period    uint64 // of this delta and hour: cells of another are void
	trend     map[int64]*trendCell
	trendAt   int64 // start of trendLast
	trendLast *trendCell
	scratch   []byte

	latest int64 // the latest event time
	closed int64 // windows that start before this are closed

	// The windows that the last event fell into.
	fine, coarse, course current
}

// current is the window that the last event fell into, as most of the next do:
// dividing takes longer than all else that is done with a time.
type current struct {
	span        int64
	hours, days int64 // windows before these are an hour, a day long at least; see Keep
	start, end  int64
}

func newCurrent(span int64) current {
	return current{span: span, hours: math.MinInt64, days: math.MinInt64}
}

// of returns the start of the window that a time falls into.
func (c *current) of(seconds int64) int64 {
	if seconds < c.start || seconds >= c.end {
		c.turn(seconds)
	}
	return c.start
}

// turn is apart so that of is inlined.
//
//go:noinline
func (c *current) turn(seconds int64) {
	span := c.span
	switch {
	case seconds < c.days:
		span = max(span, 86400)
	case seconds < c.hours:
		span = max(span, 3600)
	}
	c.start = window(seconds, span)
	c.end = c.start + span
	if span == 0 {
		c.end = math.MaxInt64
	}
}

// seriesKey is a Series by numbers: the sender, and all else in one word.
type seriesKey struct {
	sender uint32
	rest   rest
}

// rest is, from the high bits on: host 16, stream 16, provider 16, outcome 4,
// category 6, secondary category 6.
type rest uint64

// id16 returns the number of a name in 16 bits; names beyond that are Other.
func id16(l *spelling) uint16 {
	if l.id > math.MaxUint16 {
		return uint16(idOther)
	}
	return uint16(l.id)
}

// placed is a host and a stream that were counted lately.
type placed struct {
	place        uint64
	rest         rest   // their part of it
	seen         uint32 // that their spellings do not know of yet
	host, stream []byte
}

// cell is where something was counted lately: an index into a slice of the Delta
// that is valid if the period is the counter's.
type cell struct {
	period uint64
	index  int32
}

// provider is one that was named lately.
type provider struct {
	name string
	id   uint16
}

type countKey struct {
	series *Series
	start  int64
}

type domainKey struct {
	start    int64
	domain   uint32
	outcome  event.Outcome
	category event.Category
}

type delayKey struct {
	start    int64
	provider uint16
	outcome  event.Outcome
}

// templateKey is what tells wordings apart: the same one may come from two
// providers, or with two codes, and have two verdicts.
type templateKey struct {
	hash     uint64
	provider uint16
	category event.Category
}

type template struct {
	text  string
	index int32 // into delta.Templates; -1 if not seen since the last Delta
}

// trendCell counts one window of the trend.
type trendCell [event.Expired + 1][64]int64

// NewCounter returns an empty counter.
func NewCounter(c Config) *Counter {
	if c.MaxSeries <= 0 {
		c.MaxSeries = 100_000
	}
	if c.MaxTemplates <= 0 {
		c.MaxTemplates = 20_000
	}
	k := &Counter{
		config: c,
		fine:   newCurrent(c.Span), coarse: newCurrent(c.CoarseSpan), course: newCurrent(c.TrendSpan),
	}
	if c.TrendSpan > 0 {
		k.trend = make(map[int64]*trendCell)
	}
	if c.Latest != 0 {
		k.latest, k.closed = c.Latest, window(c.Latest-c.Lateness, c.Span)
	}
	k.renumber()
	k.empty()
	return k
}

// renumber forgets all numbers, and so all series. It must be followed by
// empty.
func (k *Counter) renumber() {
	k.senders = newDimension(k.config.SenderDomains)
	k.recipients = newDimension(k.config.RecipientDomains)
	k.recipients.leaving = k.settleDomain
	k.hosts = newDimension(k.config.Hosts)
	k.streams = newDimension(k.config.Streams)
	k.providers, k.providerNames, k.lately = make(map[string]uint16), nil, [256]provider{}
	k.series, k.routes, k.templates = newSeriesTable(), make(map[rest]*Route), make(map[templateKey]*template)
}

// empty starts a new delta.
func (k *Counter) empty() {
	// The next delta will have about as many counts, which are most of it.
	counts := len(k.delta.Counts)
	k.delta = Delta{Counts: make([]Count, 0, counts)}
	k.period++
	k.counts = make(map[countKey]int32, counts)
	k.domains = make(map[domainKey]int32)
	k.delays = make(map[delayKey]int32)
}

// settle completes the delta, and the traffic of names.
func (k *Counter) settle() {
	k.series.settle(k.delta.Counts)
	k.recipients.each(k.settleDomain)
	for i := range k.places {
		k.leave(&k.places[i])
	}
}

// settleDomain moves what a recipient domain remembers to its cell.
func (k *Counter) settleDomain(d *spelling) {
	if d.attempts > 0 {
		k.delta.Domains[d.cell].Attempts += int64(d.attempts)
		d.attempts = 0
	}
}

// Keep tells from when on minutes and hours are kept apart, in whole hours and
// days: what is older is counted by the hour and by the day at once, since its
// store would do no better. An old log then makes few counts.
func (k *Counter) Keep(minutes, hours int64) {
	for _, c := range []*current{&k.fine, &k.coarse} {
		*c = current{span: c.span, hours: minutes, days: hours}
	}
}

// Lines adds to the line statistics.
func (k *Counter) Lines() *Lines { return &k.delta.Lines }

// Add counts an attempt, expiry or notice that is complete: classified, and with its
// sender as far as it is known.
func (k *Counter) Add(e *event.Event) {
	n := int64(max(e.Attempts, 1))
	seconds := floor(e.Time, 1e6)
	k.span(seconds)

	provider := k.provider(e.Provider)
	var sender *spelling
	if e.SenderKnown {
		sender = k.senders.find(e.SenderDomain)
	} else {
		sender = &k.senders.reserved[idUnknown]
		k.delta.Lines.Unmatched += n
	}
	if sender.id == idOther {
		k.delta.Lines.Folded += n
	}
	r := rest(provider)<<16 | rest(e.Outcome)<<12 | rest(e.Verdict.Category)<<6 | k.place(e)
	if e.Outcome == event.Expired {
		r |= rest(e.Verdict.Secondary)
	}
	s := k.lookup(sender, r)
	if start := k.fine.of(seconds); s.count < 0 || s.start != start {
		k.turn(s, start)
	}
	if n != 1 || !s.add(e.FirstOutcome) {
		k.addMany(s, n, e.FirstOutcome)
	}
	if e.FirstOutcome && seconds < k.closed {
		k.delta.Counts[s.count].Late++
	}
	if e.Kind == event.Notice {
		if e.Outcome == event.OutOfBand && e.Verdict.Template != 0 && k.config.Sample != nil {
			k.addTemplate(seconds, provider, e, n)
		}
		return // no attempt
	}
	if k.trend != nil {
		k.addTrend(seconds, e, n)
	}
	if e.Kind == event.Expiry {
		return // neither a recipient nor a delay of an attempt
	}
	if seconds < k.coarse.start || seconds >= k.coarse.end {
		k.period++
	}
	hour := k.coarse.of(seconds)
	k.addDomain(hour, e, n)
	if e.Delay >= 0 {
		k.addDelay(hour, provider, e)
	}
	if e.Outcome.Failure() && e.Verdict.Template != 0 && k.config.Sample != nil {
		k.addTemplate(seconds, provider, e, n)
	}
}

func (k *Counter) span(seconds int64) {
	if k.delta.First == 0 || seconds < k.delta.First {
		k.delta.First = seconds
	}
	k.delta.Last = max(k.delta.Last, seconds)
	if seconds > k.latest {
		k.latest, k.closed = seconds, window(seconds-k.config.Lateness, k.config.Span)
	}
}

func (k *Counter) provider(s string) uint16 {
	lately := &k.lately[0]
	if len(s) > 0 {
		lately = &k.lately[byte(len(s))*31+s[0]*7+s[len(s)-1]]
	}
	if lately.name == s && len(k.providerNames) > 0 && s != "" {
		return lately.id
	}
	id, ok := k.providers[s]
	if !ok {
		if len(k.providerNames) > math.MaxUint16 {
			return 0 // no list of providers is that long
		}
		id = uint16(len(k.providerNames))
		k.providerNames = append(k.providerNames, s)
		k.providers[s] = id
	}
	*lately = provider{s, id}
	return id
}

// place returns what e's host and stream are in a rest.
func (k *Counter) place(e *event.Event) rest {
	p := &k.places[e.Place>>60]
	if p.place != e.Place || e.Place == 0 {
		k.leave(p)
		r := rest(id16(k.hosts.find(e.Host)))<<48 | rest(id16(k.streams.find(e.Stream)))<<32
		*p = placed{place: e.Place, rest: r, host: append(p.host[:0], e.Host...), stream: append(p.stream[:0], e.Stream...)}
		return r
	}
	p.seen++
	return p.rest
}

// leave tells the spellings of a place's names how often they were seen, and
// forgets it.
func (k *Counter) leave(p *placed) {
	if p.seen > 0 {
		k.hosts.find(p.host).seen += p.seen - 1 // once by finding it
		k.streams.find(p.stream).seen += p.seen - 1
	}
	p.place, p.seen = 0, 0
}

// lookup returns the series of a sender.
func (k *Counter) lookup(sender *spelling, r rest) *series {
	key := seriesKey{sender.id, r}
	if s := k.series.find(key); s != nil {
		return s
	}
	if len(k.series.all) >= k.config.MaxSeries && sender.id != idOther {
		k.delta.Lines.Folded++
		return k.lookup(&k.senders.reserved[idOther], r)
	}
	route := k.routes[r>>16]
	if route == nil {
		route = &Route{
			Provider: k.providerNames[uint16(r>>16)],
			Host:     k.hosts.text[uint16(r>>48)],
			Stream:   k.streams.text[uint16(r>>32)],
		}
		k.routes[r>>16] = route
	}
	return k.series.insert(key, &Series{
		Outcome:      event.Outcome(r >> 12 & 0xf),
		Category:     event.Category(r >> 6 & 0x3f),
		Secondary:    event.Category(r & 0x3f),
		SenderDomain: k.senders.text[sender.id],
		Route:        route,
	})
}

// turn has s count in the window at start from now on.
func (k *Counter) turn(s *series, start int64) {
	if s.count >= 0 {
		s.settle(&k.delta.Counts[s.count])
	}
	key := countKey{k.series.all[s.number], start}
	i, ok := k.counts[key]
	if !ok {
		i = int32(len(k.delta.Counts))
		k.delta.Counts = append(k.delta.Counts, Count{Series: key.series, Start: start})
		k.counts[key] = i
	}
	s.start, s.count = start, i
}

// addMany counts n attempts at once.
func (k *Counter) addMany(s *series, n int64, first bool) {
	c := &k.delta.Counts[s.count]
	s.settle(c)
	c.Attempts += n
	if first {
		c.Firsts++
	}
}

func (k *Counter) addDomain(hour int64, e *event.Event, n int64) {
	d := k.recipients.find(e.RecipientDomain())
	if d.period == k.period && d.outcome == e.Outcome && d.category == e.Verdict.Category {
		if n == 1 && d.attempts < math.MaxUint32 {
			d.attempts++
		} else {
			k.delta.Domains[d.cell].Attempts += n
		}
		return
	}
	key := domainKey{hour, d.id, e.Outcome, e.Verdict.Category}
	i, ok := k.domains[key]
	if !ok {
		i = int32(len(k.delta.Domains))
		k.delta.Domains = append(k.delta.Domains, DomainCount{
			Start: hour, Domain: k.recipients.text[key.domain], Outcome: key.outcome, Category: key.category,
		})
		k.domains[key] = i
	}
	if e.Outcome == event.Delivered || d.period != k.period { // what most of its mail will be
		k.settleDomain(d)
		d.period, d.cell, d.outcome, d.category = k.period, i, e.Outcome, e.Verdict.Category
	}
	k.delta.Domains[i].Attempts += n
}

func (k *Counter) addDelay(hour int64, provider uint16, e *event.Event) {
	at := int(provider)<<4 | int(e.Outcome)
	if at >= len(k.delayed) {
		k.delayed = append(k.delayed, make([]cell, at+16-len(k.delayed))...)
	}
	lately := &k.delayed[at]
	if lately.period != k.period {
		key := delayKey{hour, provider, e.Outcome}
		i, ok := k.delays[key]
		if !ok {
			i = int32(len(k.delta.Delays))
			k.delta.Delays = append(k.delta.Delays, DelayCount{Start: hour, Provider: k.providerNames[provider], Outcome: e.Outcome})
			k.delays[key] = i
		}
		*lately = cell{k.period, i}
	}
	d := &k.delta.Delays[lately.index]
	d.Micros += e.Delay
	// No two bounds have as many bits in microseconds, so there is one bound to
	// compare with.
	i := delayFirst[bits.Len64(uint64(e.Delay))]
	if e.Delay > delayMicros[i] {
		i++
	}
	d.Buckets[i]++
}

// delayMicros is DelayBounds in microseconds, and what no delay is beyond.
var delayMicros = func() (bounds [len(DelayBounds) + 1]int64) {
	for i, seconds := range DelayBounds {
		bounds[i] = int64(seconds * 1e6)
	}
	bounds[len(DelayBounds)] = math.MaxInt64
	return bounds
}()

// delayFirst has, for the number of bits of a delay, the first bound that may be
// as long.
var delayFirst = func() (first [65]uint8) {
	for n := range first {
		for int(first[n]) < len(DelayBounds) && bits.Len64(uint64(delayMicros[first[n]])) < n {
			first[n]++
		}
	}
	return first
}()

func (k *Counter) addTemplate(seconds int64, provider uint16, e *event.Event, n int64) {
	key := templateKey{e.Verdict.Template, provider, e.Verdict.Category}
	t := k.templates[key]
	if t == nil {
		if len(k.templates) >= k.config.MaxTemplates {
			// Forget all, so that what is current finds its place again; the
			// store keeps the first sample and adds the counts up.
			k.templates = make(map[templateKey]*template)
			k.delta.Templates = append([]TemplateCount(nil), k.delta.Templates...)
			for i := range k.delta.Templates {
				d := &k.delta.Templates[i]
				k.templates[templateKey{d.Hash, k.provider(d.Provider), d.Category}] = &template{d.Text, int32(i)}
			}
			if len(k.templates) >= k.config.MaxTemplates {
				return
			}
		}
		k.scratch = k.config.Sample(e, k.scratch[:0])
		t = &template{string(k.scratch), -1}
		k.templates[key] = t
	}
	if t.index < 0 {
		t.index = int32(len(k.delta.Templates))
		k.delta.Templates = append(k.delta.Templates, TemplateCount{
			Hash: e.Verdict.Template, Category: e.Verdict.Category, Provider: e.Provider, Rule: e.Verdict.Rule,
			Text: t.text, First: seconds, Last: seconds,
		})
	}
	d := &k.delta.Templates[t.index]
	d.Attempts += n
	d.First, d.Last = min(d.First, seconds), max(d.Last, seconds)
}

func (k *Counter) addTrend(seconds int64, e *event.Event, n int64) {
	if int(e.Outcome) >= len(trendCell{}) {
		return
	}
	start := k.course.of(seconds)
	if k.trendLast == nil || k.trendAt != start {
		c := k.trend[start]
		if c == nil {
			c = new(trendCell)
			k.trend[start] = c
		}
		k.trendAt, k.trendLast = start, c
	}
	k.trendLast[e.Outcome][e.Verdict.Category] += n
}

// Trend calls yield for each outcome and category of each window of
// Config.TrendSpan since the counter was made, in no particular order.
func (k *Counter) Trend(yield func(start int64, o event.Outcome, c event.Category, attempts int64)) {
	for start, cell := range k.trend {
		for o := range cell {
			for c, n := range cell[o] {
				if n != 0 {
					yield(start, event.Outcome(o), event.Category(c), n)
				}
			}
		}
	}
}

// Size returns how many rows the delta has so far.
func (k *Counter) Size() int {
	return len(k.delta.Counts) + len(k.delta.Domains) + len(k.delta.Delays) + len(k.delta.Templates)
}

// Delta returns what was counted since the last call. The caller owns it.
func (k *Counter) Delta() *Delta {
	k.settle()
	d := k.delta
	for _, dim := range []*dimension{&k.senders, &k.recipients, &k.hosts, &k.streams} {
		dim.commit(d.Last)
	}
	if len(k.series.all) >= k.config.MaxSeries ||
		len(k.recipients.text) > 4*k.config.RecipientDomains.limit+16 ||
		len(k.senders.text) > 4*k.config.SenderDomains.limit+16 {
		// Years of changing names: start numbering again.
		k.renumber()
	}
	for _, t := range k.templates {
		t.index = -1
	}
	k.empty()
	return &d
}

// window returns the start of the window that a time falls into.
func window(seconds, span int64) int64 {
	if span == 0 {
		return 0
	}
	return floor(seconds, span) * span
}

// floor divides rounding down, also before 1970.
func floor(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
