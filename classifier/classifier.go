package classifier

import (
	"hash/maphash"
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/bouncemeter/bouncemeter/event"
)

// Options says what to load besides the shipped rules.
type Options struct {
	// RuleFiles are the user's own rule files, or directories of *.yaml files,
	// read in this order. A rule replaces an earlier one of the same id; words
	// are added to earlier ones of the same name.
	RuleFiles []string
	// ProviderFiles add providers, or hosts, domains and words to known ones.
	ProviderFiles []string
	// Draft is the text of a further rule file, to be tried out.
	Draft string
}

// Classifier has the compiled rules. It is immutable and may be shared by any
// number of goroutines; each of them classifies through a Session of its own.
type Classifier struct {
	t *tables
	// sessions serves Explain and Details.
	sessions sync.Pool
}

// New loads and compiles the shipped rules and the user's. The error joins all
// faults, each with file, line and remedy; it can be taken apart into values of
// type Fault.
func New(o Options) (*Classifier, error) {
	s := newSource()
	s.readShipped(shipped)
	for _, name := range append(o.RuleFiles[:len(o.RuleFiles):len(o.RuleFiles)], o.ProviderFiles...) {
		s.readUser(name)
	}
	if o.Draft != "" {
		s.read("draft", []byte(o.Draft), true)
	}
	t := compile(s)
	if len(s.faults) > 0 {
		return nil, s.faults.err()
	}
	c := &Classifier{t: t}
	c.sessions.New = func() any { return newSession(t, 1<<6) }
	return c, nil
}

// Session classifies for one goroutine. It has the memory that classification
// needs, and a bounded cache of verdicts.
//
// The cache never changes a verdict: its key is everything that a verdict is
// made of (the masked text, codes, stage, outcome and provider), and it
// is compared by two hashes, one of which depends on a secret seed, so that not
// even chosen texts collide.
type Session struct {
	t     *tables
	judge *judge
	text  text
	key   []byte
	seed  maphash.Seed
	cache []cacheSet
	relay []relayEntry
	name  [256]byte
	words []rawWord // for Details
	low   []byte
}

const (
	cacheSets  = 1 << 13 // of cacheWays verdicts each: 32,768 in all
	cacheWays  = 4
	relayCache = 1 << 13
)

// cacheSet has the verdicts whose keys share some bits, the last used first.
type cacheSet [cacheWays]cacheEntry

type cacheEntry struct {
	secret, template uint64
	result
	used bool
}

type relayEntry struct {
	hash     uint64
	provider uint16
	known    bool
}

// NewSession returns a session with an empty cache.
func (c *Classifier) NewSession() *Session { return newSession(c.t, cacheSets) }

func newSession(t *tables, sets int) *Session {
	return &Session{t: t, judge: newJudge(t), seed: maphash.MakeSeed(), cache: make([]cacheSet, sets), relay: make([]relayEntry, relayCache)}
}

// Classify sets e.Provider, and e.Verdict unless the event is a delivery or a
// notice that quotes no reply. It
// reads the event only and keeps nothing of it.
//
// The provider of an event with a relay is known by the relay's name alone, so
// that deliveries and failures at one host count for the same provider; without
// a relay it is known by the reply's words, then by the recipient's domain.
func (s *Session) Classify(e *event.Event) {
	var q query
	s.who(e, &q)
	if e.Outcome == event.Delivered && (q.byMX || q.provider != providerOther || len(e.Reply.Text) == 0) {
		e.Provider = s.t.providers.names[q.provider]
		return
	}
	s.prepare(e, &q)
	r, template := s.lookup(&q)
	e.Provider = s.t.providers.names[r.provider]
	if e.Outcome == event.Delivered || e.Kind == event.Notice && len(e.Reply.Text) == 0 && e.Reply.Status.IsZero() {
		return // no failure, or a complaint without words
	}
	s.t.fill(&e.Verdict, r, template)
}

// fill writes a result as a verdict.
func (t *tables) fill(v *event.Verdict, r *result, template uint64) {
	*v = event.Verdict{
		Category: r.category, Secondary: r.secondary, Persistence: r.persistence, Confidence: r.confidence,
		Blocklist: t.blocklists[r.blocklist].Name, Template: template,
	}
	if r.rule >= 0 {
		v.Rule = t.rules[r.rule].id
	}
}

// who finds the provider by the relay, or without one by the recipient.
func (s *Session) who(e *event.Event, q *query) {
	switch {
	case e.Local:
		q.provider, q.byMX = providerLocal, true
	case !noRelay(e.Relay):
		q.byMX = true
		hash := maphash.Bytes(s.seed, e.Relay)
		entry := &s.relay[hash%relayCache]
		if !entry.known || entry.hash != hash {
			*entry = relayEntry{hash, suffix(s.t.providers.mx, e.Relay, s.name[:]), true}
		}
		if q.provider = entry.provider; q.provider == providerOther && loopback(e.Relay, e.RelayIP) {
			q.provider = providerInternal
		}
	default:
		q.provider = suffix(s.t.providers.domains, event.Domain(e.Recipient), s.name[:])
	}
}

// prepare normalises the reply and completes what the verdict depends on.
func (s *Session) prepare(e *event.Event, q *query) {
	s.text.normalise(e.Reply.Text, s.t.keep)
	q.code, q.enhanced, q.stage = s.text.code, s.text.enhanced, e.Reply.Stage
	if q.code == 0 {
		q.code = e.Reply.Code
	}
	if q.enhanced.IsZero() {
		q.enhanced = e.Reply.Enhanced
	}
	if q.stage == event.StageUnknown {
		q.stage = s.text.stage
	}
	q.status, q.outcome = e.Reply.Status, e.Outcome
}

// lookup returns the verdict on the prepared text, from the cache if it is
// there, and the template of the text. The result is valid until the next call.
func (s *Session) lookup(q *query) (*result, uint64) {
	k := append(s.key[:0], s.text.buf...)
	template := xxhash.Sum64(k)
	k = append(k, 0, byte(q.code), byte(q.code>>8), byte(q.stage), byte(q.outcome), byte(q.provider), byte(q.provider>>8),
		q.enhanced.Class, byte(q.enhanced.Subject), byte(q.enhanced.Subject>>8), byte(q.enhanced.Detail), byte(q.enhanced.Detail>>8),
		q.status.Class, byte(q.status.Subject), byte(q.status.Subject>>8), byte(q.status.Detail), byte(q.status.Detail>>8), 0)
	if q.byMX {
		k[len(k)-1] = 1
	}
	s.key = k
	secret := maphash.Bytes(s.seed, k)
	set := &s.cache[secret%uint64(len(s.cache))]
	for i := range set {
		if x := &set[i]; x.secret == secret && x.template == template && x.used {
			if i > 0 {
				set[i], set[0] = set[0], set[i]
			}
			return &set[0].result, template
		}
	}
	copy(set[1:], set[:cacheWays-1])
	set[0] = cacheEntry{secret, template, s.evaluate(q), true}
	return &set[0].result, template
}

// evaluate finds the verdict on the prepared text without the cache.
func (s *Session) evaluate(q *query) result {
	s.judge.read(&s.text)
	return s.judge.decide(&s.text, q)
}

// Template appends to dst the text that rules see of e's reply: its words in
// lower case without accents, and ADDR, IP, HOST and N for what differs from
// message to message. Equal templates have equal Verdict.Template.
func (s *Session) Template(e *event.Event, dst []byte) []byte {
	s.text.normalise(e.Reply.Text, s.t.keep)
	if len(s.text.buf) == 0 {
		return dst
	}
	return append(dst, s.text.buf[1:]...) // without the space before the first word
}
