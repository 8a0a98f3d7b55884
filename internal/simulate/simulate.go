// Package simulate writes the log of a mail server that does not exist: what
// Postfix would write while it sends newsletters, receipts and letters to the
// big providers and to thousands of small domains, with their refusals, its
// retries and the bounces it returns. It makes the demonstration's log and those
// of benchmarks and tests.
//
// Everything follows from the Config: the same one gives the same bytes, in
// however many steps they are asked for. What was meant is kept as a Tally, to
// compare with what others read out of the log.
package simulate

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

// Config says what to simulate. Zero values mean the defaults.
type Config struct {
	Seed uint64
	// Start is when the log begins. It must be set.
	Start time.Time
	// Location is that of timestamps and of the people whose days and weeks
	// shape the volume. Default UTC.
	Location *time.Location
	// RFC3339 writes such timestamps instead of the traditional ones.
	RFC3339 bool
	// Rate is how many messages a second arrive, on average over a week.
	// Default 9, which makes about a gigabyte a day.
	Rate float64
	// Even makes every hour of every day alike.
	Even bool
	// SenderDomains and RecipientDomains say among how many domains the mail
	// is, unevenly, divided. Default 50 and 5000.
	SenderDomains, RecipientDomains int
	// Lifetime is how long a message is tried before it is returned. Default
	// 5 days, as Postfix's maximal_queue_lifetime.
	Lifetime time.Duration
	// Incidents is what goes wrong beyond the everyday.
	Incidents []Incident
}

// Incident makes one cause of failure much more frequent for a time.
type Incident struct {
	// Start and End bound it: Start <= arrival < End. A zero End never comes.
	Start, End time.Time
	// SenderDomain and Provider limit it to mail of one and to the other; empty
	// means all.
	SenderDomain, Provider string
	Category               event.Category
	// Share of first attempts that fail so, more than 0 and at most 1.
	Share float64
}

// Tally is what the simulator meant to say so far.
type Tally struct {
	Lines int64 `json:"lines"`
	Bytes int64 `json:"bytes"`
	// Probes and Rejections are address verifications and refused clients.
	Probes     int64   `json:"probes"`
	Rejections int64   `json:"rejections"`
	Counts     []Count `json:"counts"`
}

// Count is how often one thing happened: attempts, or for Expired messages.
type Count struct {
	SenderDomain string `json:"sender_domain"` // "" for the null sender
	Provider     string `json:"provider"`      // "" if no provider is told: bounces returned, expiries
	Outcome      string `json:"outcome"`
	Category     string `json:"category"` // why it failed; "" for delivered and expired
	Attempts     int64  `json:"attempts"`
}

// Sum adds up the counts for which keep is true; nil keeps all.
func (t *Tally) Sum(keep func(Count) bool) (n int64) {
	for _, c := range t.Counts {
		if keep == nil || keep(c) {
			n += c.Attempts
		}
	}
	return n
}

// Simulator is a simulated mail server. It is used by one goroutine.
type Simulator struct {
	config Config
	random *rand.Rand
	log    writer

	senders    []string // the first is the null sender's ""
	senderPick picker
	domains    []domain
	domainPick picker
	failures   []picker // by provider
	incidents  []incident

	now      int64 // microseconds since the Unix epoch
	steps    agenda
	messages []message
	free     []int32

	volume       float64 // of the hour, relative to the week's mean
	volumeMinute int64

	counts             map[key]int64
	probes, rejections int64
}

type key struct {
	sender   int32
	provider int16 // -1 is none
	outcome  event.Outcome
	category event.Category
}

// domain is a recipients' domain and where its mail goes.
type domain struct {
	name     string
	provider int16
	hosts    []host
}

type host struct {
	name, addr string
}

// incident is an Incident in terms of indices and microseconds.
type incident struct {
	start, end int64
	sender     int32 // -1 is any
	provider   int16 // -1 is any
	share      float64
	failures   [][]*failure // by provider
}

type message struct {
	server   uint8
	id       []byte
	sender   int32
	local    uint32 // makes the sender's and the client's name
	size     uint32
	arrived  int64
	attempts int
	home     bool // a bounce on its way back: its recipient's domain is a sender's
	pending  []recipient
}

type recipient struct {
	domain int32
	local  uint32
	why    *failure // of the last attempt
}

// New returns a simulator at the beginning of its log, or an error that says
// what is wrong with the config.
func New(c Config) (*Simulator, error) {
	if c.Start.IsZero() {
		return nil, fmt.Errorf("simulate: the start is not set")
	}
	if c.Location == nil {
		c.Location = time.UTC
	}
	c.Rate = cmp.Or(c.Rate, 9)
	c.SenderDomains = cmp.Or(c.SenderDomains, 50)
	c.RecipientDomains = cmp.Or(c.RecipientDomains, 5000)
	c.Lifetime = cmp.Or(c.Lifetime, 5*24*time.Hour)
	if c.Rate < 0 || c.SenderDomains < 0 || c.RecipientDomains < 0 || c.Lifetime < 0 {
		return nil, fmt.Errorf("simulate: rate, numbers of domains and lifetime must not be negative")
	}
	s := &Simulator{
		config: c,
		random: rand.New(rand.NewPCG(c.Seed, 0x626f756e6365)),
		now:    c.Start.UnixMicro(),
		counts: make(map[key]int64),
	}
	s.log = writer{location: c.Location, rfc3339: c.RFC3339, random: s.random}
	s.makeSenders()
	s.makeDomains()
	for i := range providers {
		weights := make([]float64, len(providers[i].failures))
		for j, f := range providers[i].failures {
			weights[j] = float64(f.weight)
		}
		s.failures = append(s.failures, newPicker(weights))
	}
	for _, in := range c.Incidents {
		converted, err := s.convert(in)
		if err != nil {
			return nil, err
		}
		s.incidents = append(s.incidents, converted)
	}
	s.steps.add(s.now, arrive, 0)
	s.steps.add(s.now, chatter, 0)
	return s, nil
}

// senderNames come first among the senders; the others are numbered.
var senderNames = []string{
	"shop.example", "news.example", "billing.example", "forum.example", "travel.example",
	"bank.example", "tickets.example", "games.example", "school.example", "clinic.example",
}

func (s *Simulator) makeSenders() {
	s.senders = append(s.senders, "")
	weights := make([]float64, s.config.SenderDomains)
	for i := range weights {
		name := fmt.Sprintf("brand%02d.example", i)
		if i < len(senderNames) {
			name = senderNames[i]
		}
		s.senders = append(s.senders, name)
		weights[i] = 1 / float64(i+1) // Zipf
	}
	s.senderPick = newPicker(weights)
}

// makeDomains divides the mail: so much of 1000 to each domain of a provider,
// the rest by Zipf's law among the small domains.
func (s *Simulator) makeDomains() {
	var weights []float64
	rest := 1000.0
	for i := range providers {
		for _, d := range providers[i].domains {
			s.domains = append(s.domains, newDomain(d.domain, i))
			weights = append(weights, float64(d.of1000))
			rest -= float64(d.of1000)
		}
	}
	named := len(weights)
	sum := 0.0
	for i := range max(0, s.config.RecipientDomains-named) {
		hosted := s.random.IntN(100)
		p := 0
		for hosted >= providers[p].hosted {
			hosted -= providers[p].hosted
			p++
		}
		s.domains = append(s.domains, newDomain(fmt.Sprintf("company%04d.example", i), p))
		w := 1 / math.Pow(float64(i+10), 0.9)
		weights = append(weights, w)
		sum += w
	}
	for i := named; i < len(weights); i++ {
		weights[i] *= rest / sum
	}
	s.domainPick = newPicker(weights)
}

func newDomain(name string, p int) domain {
	d := domain{name: name, provider: int16(p)}
	for _, h := range providers[p].hosts {
		h = strings.ReplaceAll(h, "%d", name)
		h = strings.ReplaceAll(h, "%D", strings.ReplaceAll(name, ".", "-"))
		hash := fnv.New32a()
		_, _ = io.WriteString(hash, h) // never fails
		sum := hash.Sum32()            // the host always has the same address
		addr := fmt.Sprintf("203.0.113.%d", 1+sum%250)
		switch {
		case providers[p].v6 && len(d.hosts)%2 == 1:
			addr = fmt.Sprintf("2001:db8:4%02x::1b", sum%250)
		case sum%3 == 0:
			addr = fmt.Sprintf("198.51.100.%d", 1+sum%250)
		}
		d.hosts = append(d.hosts, host{h, addr})
	}
	return d
}

func (s *Simulator) convert(in Incident) (incident, error) {
	if !(in.Share > 0 && in.Share <= 1) {
		return incident{}, fmt.Errorf("simulate: the share of an incident is %v; more than 0 and at most 1 of first attempts can fail", in.Share)
	}
	c := incident{start: in.Start.UnixMicro(), end: math.MaxInt64, sender: -1, provider: -1, share: in.Share}
	if !in.End.IsZero() {
		c.end = in.End.UnixMicro()
	}
	if in.SenderDomain != "" {
		if c.sender = int32(slices.Index(s.senders, in.SenderDomain)); c.sender < 0 {
			return c, fmt.Errorf("simulate: no mail is sent from %q", in.SenderDomain)
		}
	}
	possible := false
	for i := range providers {
		if in.Provider == providers[i].name {
			c.provider = int16(i)
		}
		var same []*failure
		for j := range providers[i].failures {
			if f := &providers[i].failures[j]; f.category == in.Category {
				same = append(same, f)
			}
		}
		c.failures = append(c.failures, same)
		if len(same) > 0 && (in.Provider == "" || c.provider == int16(i)) {
			possible = true
		}
	}
	switch {
	case in.Provider != "" && c.provider < 0:
		return c, fmt.Errorf("simulate: there is no provider %q", in.Provider)
	case !possible:
		return c, fmt.Errorf("simulate: provider %q knows no %s", in.Provider, in.Category)
	}
	return c, nil
}

// WriteUntil writes what is logged before t, from where the last call ended,
// and returns how many bytes that was. After an error of w the log has a gap.
func (s *Simulator) WriteUntil(w io.Writer, t time.Time) (n int64, err error) {
	until := t.UnixMicro()
	for s.steps.next() < until {
		step := s.steps.take()
		s.now = step.at
		s.log.at(s.now)
		switch step.what {
		case arrive:
			s.arrive()
		case queue:
			s.queue(step.message)
		case deliver:
			s.deliver(step.message)
		case chatter:
			s.chatter()
		}
		if len(s.log.buf) >= 1<<16 {
			m, err := s.log.flush(w)
			n += m
			if err != nil {
				return n, err
			}
		}
	}
	m, err := s.log.flush(w)
	return n + m, err
}

// Tally returns what all lines written so far meant.
func (s *Simulator) Tally() Tally {
	t := Tally{Lines: s.log.lines, Bytes: s.log.bytes, Probes: s.probes, Rejections: s.rejections}
	for k, n := range s.counts {
		c := Count{SenderDomain: s.senders[k.sender], Outcome: k.outcome.String(), Category: k.category.String(), Attempts: n}
		if k.provider >= 0 {
			c.Provider = providers[k.provider].name
		}
		t.Counts = append(t.Counts, c)
	}
	slices.SortFunc(t.Counts, func(a, b Count) int {
		return cmp.Or(cmp.Compare(b.Attempts, a.Attempts), cmp.Compare(a.SenderDomain, b.SenderDomain),
			cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Category, b.Category))
	})
	return t
}

// arrive hands a message in and plans the next one.
func (s *Simulator) arrive() {
	s.steps.add(s.now+s.pause(s.config.Rate*s.volumeNow()), arrive, 0)
	i := s.newMessage()
	m := &s.messages[i]
	m.sender = int32(s.senderPick.pick(s.random)) + 1
	m.local = s.random.Uint32()
	m.size = 2000 + uint32(s.random.ExpFloat64()*20000)
	n := 1
	for n < 4 && s.random.IntN(100) < 26 {
		n++
	}
	for range n {
		m.pending = append(m.pending, recipient{domain: int32(s.domainPick.pick(s.random)), local: s.random.Uint32()})
	}
	s.log.client(m)
	s.steps.add(s.now+20_000+s.upTo(60_000), queue, i)
}

// queue is the message's data arriving and the queue manager taking it up.
func (s *Simulator) queue(i int32) {
	m := &s.messages[i]
	s.log.queued(m, s.senders[m.sender])
	s.log.disconnect(m)
	s.steps.add(s.now+150_000+s.upTo(1_500_000)+s.upTo(1_500_000), deliver, i)
}

// deliver tries all recipients that are pending. Those that fail for good make a
// bounce; if some are left the message is tried later, or returned when it has
// become too old.
func (s *Simulator) deliver(i int32) {
	m := &s.messages[i]
	if m.attempts > 0 {
		s.log.active(m, s.senders[m.sender])
	}
	m.attempts++
	setup := 30_000 + s.upTo(900_000) // microseconds to connect
	failed, left := false, m.pending[:0]
	for _, r := range m.pending {
		k := key{sender: m.sender, provider: -1, outcome: event.Delivered}
		if m.home {
			s.log.home(m, s.senders[r.domain])
		} else {
			s.decide(m, &r)
			d := &s.domains[r.domain]
			to := delivery{m, s.senders[m.sender], r, d, d.hosts[s.random.IntN(len(d.hosts))]}
			k.provider = d.provider
			if r.why == nil {
				s.log.sent(&to, setup)
			} else {
				k.outcome, k.category = r.why.outcome, r.why.category
				s.log.failed(&to, setup)
			}
		}
		s.counts[k]++
		switch k.outcome {
		case event.Deferred:
			left = append(left, r)
		case event.Bounced:
			failed = true
		}
	}
	m.pending = left
	age := s.now - m.arrived
	if len(left) > 0 && age > s.config.Lifetime.Microseconds() {
		s.log.expired(m, s.senders[m.sender])
		s.counts[key{sender: m.sender, provider: -1, outcome: event.Expired}]++
		failed, m.pending = true, left[:0]
	}
	if failed {
		s.bounce(i)
		m = &s.messages[i]
	}
	if len(m.pending) == 0 {
		s.log.removed(m)
		s.free = append(s.free, i)
		return
	}
	// Postfix waits as long again as the message is old, between
	// minimal_backoff_time and maximal_backoff_time, until its next queue scan.
	wait := min(max(age, 300e6), 4000e6)
	s.steps.add(s.now+wait+s.upTo(300e6), deliver, i)
}

// decide says why the next attempt for r fails, if it does.
func (s *Simulator) decide(m *message, r *recipient) {
	if r.why != nil {
		if s.random.IntN(100) < r.why.again {
			r.why = nil
		}
		return
	}
	p := s.domains[r.domain].provider
	for i := range s.incidents {
		in := &s.incidents[i]
		if m.arrived < in.start || m.arrived >= in.end || in.sender >= 0 && in.sender != m.sender ||
			in.provider >= 0 && in.provider != p || len(in.failures[p]) == 0 {
			continue
		}
		if s.random.Float64() < in.share {
			r.why = in.failures[p][s.random.IntN(len(in.failures[p]))]
			return
		}
	}
	if s.random.IntN(10_000) < providers[p].failing {
		r.why = &providers[p].failures[s.failures[p].pick(s.random)]
	}
}

// bounce returns message i to its sender.
func (s *Simulator) bounce(i int32) {
	j := s.newMessage()
	m, b := &s.messages[i], &s.messages[j]
	b.server, b.home = m.server, true
	b.local, b.size = m.local, m.size+3000
	b.pending = append(b.pending, recipient{domain: m.sender, local: m.local})
	s.log.notification(m, b)
	s.log.queued(b, "")
	s.steps.add(s.now+100_000+s.upTo(400_000), deliver, j)
}

// newMessage returns the index of a message that arrives now.
func (s *Simulator) newMessage() int32 {
	var i int32
	if n := len(s.free); n > 0 {
		i, s.free = s.free[n-1], s.free[:n-1]
	} else {
		i = int32(len(s.messages))
		s.messages = append(s.messages, message{})
	}
	old := &s.messages[i]
	s.messages[i] = message{
		server: uint8(i % int32(len(servers))), arrived: s.now,
		id: old.id[:0], pending: old.pending[:0],
	}
	m := &s.messages[i]
	m.id = appendQueueID(m.id, s.now, 0x21000+uint32(i), servers[m.server].longIDs)
	return i
}

// chatter writes a line of others and plans the next.
func (s *Simulator) chatter() {
	s.steps.add(s.now+s.pause(s.config.Rate*s.volumeNow()*chatterPerMessage), chatter, 0)
	switch s.log.chatter() {
	case event.Rejection:
		s.rejections++
	case event.Probe:
		s.probes++
	}
}

// volumeNow is how much mail there is at this hour, relative to the week's mean:
// little at night, most around ten and in the evening, less at the weekend.
func (s *Simulator) volumeNow() float64 {
	if s.config.Even {
		return 1
	}
	minute := s.now / 60e6
	if minute != s.volumeMinute || s.volume == 0 {
		t := time.UnixMicro(s.now).In(s.config.Location)
		hour := float64(t.Hour()) + float64(t.Minute())/60
		s.volume = 1.1 * (1 - 0.6*math.Cos((hour-3)/12*math.Pi) - 0.2*math.Cos((hour-4)/6*math.Pi))
		if day := t.Weekday(); day == time.Saturday || day == time.Sunday {
			s.volume *= 0.65
		}
		s.volumeMinute = minute
	}
	return s.volume
}

// pause returns the microseconds to the next of events that come at this rate a
// second, independently.
func (s *Simulator) pause(rate float64) int64 {
	return int64(s.random.ExpFloat64() / rate * 1e6)
}

func (s *Simulator) upTo(n int64) int64 { return s.random.Int64N(n) }

// picker picks an index by weight.
type picker struct{ sums []float64 }

func newPicker(weights []float64) picker {
	p := picker{make([]float64, len(weights))}
	sum := 0.0
	for i, w := range weights {
		sum += w
		p.sums[i] = sum
	}
	return p
}

func (p picker) pick(r *rand.Rand) int {
	last := len(p.sums) - 1
	i, _ := slices.BinarySearch(p.sums[:last], r.Float64()*p.sums[last])
	return i
}
