package classifier

import (
	"iter"
	"slices"

	"github.com/bouncemeter/bouncemeter/event"
)

// query is all that a verdict depends on.
type query struct {
	code     uint16
	enhanced event.Enhanced
	status   event.Enhanced
	stage    event.Stage
	outcome  event.Outcome
	provider uint16 // by host name, or else by the recipient's domain
	byMX     bool
	speaker  uint16 // by its words
}

// result is a verdict in the form in which it is cached.
type result struct {
	rule        int32 // index, -1 if none decided
	confidence  float32
	blocklist   uint16
	provider    uint16
	category    event.Category
	secondary   event.Category
	persistence event.Persistence
}

// evidence is a rule whose conditions hold.
type evidence struct {
	rule   int32
	weight int16  // the rule's
	words  uint16 // how many words its phrases ask for
	rank   uint8
}

// better reports whether x decides rather than y. It is a strict order: rules
// have unique indexes, in the order of their ids.
func (x evidence) better(y evidence) bool {
	if x.rank != y.rank {
		return x.rank > y.rank
	}
	if x.weight != y.weight {
		return x.weight > y.weight
	}
	if x.words != y.words {
		return x.words > y.words
	}
	return x.rule < y.rule
}

// judge is one goroutine's memory for finding evidence.
type judge struct {
	t       *tables
	scan    *scanner
	touched []int32 // the rules of which marks are set; room for all, and one more
	marks   []mark  // by rule; zero between texts
	lists   []uint16
	// speaker is whose words were found, by the longest phrase.
	speaker      uint16
	speakerWords uint16
	found        []evidence
	// trace, if set, is told each phrase that matches.
	trace func(phrase int32, from, to int)
}

// mark is what has been found of a rule: the bits of its phrases, and the words
// of the longest.
type mark struct{ bits, words uint32 }

func newJudge(t *tables) *judge {
	return &judge{t: t, scan: newScanner(t.machine), touched: make([]int32, 0, len(t.rules)+1), marks: make([]mark, len(t.rules))}
}

// read finds the phrases of a text.
func (j *judge) read(x *text) {
	j.lists, j.found = j.lists[:0], j.found[:0]
	j.speaker, j.speakerWords = 0, 0
	j.scan.scan(x.buf)
	touched, n := j.touched[:cap(j.touched)], 0
	senses, marks, phrases := j.t.senses, j.marks, j.t.machine.phrases
	for _, h := range j.scan.hits {
		for _, phrase := range phrases[h.from:h.to] {
			m := &senses[phrase]
			if m.rule < 0 {
				j.name(m)
				continue
			}
			x := &marks[m.rule]
			touched[n] = m.rule
			if x.bits == 0 {
				n++
			}
			x.bits |= m.bit
			x.words = max(x.words, uint32(m.words))
		}
	}
	if j.trace != nil {
		for phrase, o := range j.matches() {
			j.trace(phrase, int(o.from), int(o.to))
		}
	}
	j.touched = touched[:n]
}

// name takes a phrase that names a blocklist or a provider.
func (j *judge) name(m *sense) {
	switch {
	case m.blocklist > 0:
		if !slices.Contains(j.lists, m.blocklist) {
			j.lists = append(j.lists, m.blocklist)
		}
	case m.words > j.speakerWords || m.words == j.speakerWords && m.provider < j.speaker:
		j.speaker, j.speakerWords = m.provider, m.words
	}
}

// decide gathers the evidence for what has been read and returns the verdict.
func (j *judge) decide(x *text, q *query) result {
	t := j.t
	q.speaker = j.speaker
	for _, index := range j.touched {
		m, d := j.marks[index], &t.demands[index]
		j.marks[index] = mark{}
		if m.bits&(d.bits|bitVeto) != d.bits {
			continue
		}
		if d.more && !(t.rules[index].conditions(q) && t.rules[index].matchesRegexps(x.buf)) {
			continue
		}
		j.found = append(j.found, evidence{index, d.weight, uint16(m.words) + d.words, d.rank})
	}
	if len(j.found) > 0 && j.trace == nil {
		return j.verdict(q) // codes are weaker than any words
	}
	for _, index := range t.coded {
		r := &t.rules[index]
		if r.conditions(q) {
			words := uint16(0)
			if len(r.enhanced) > 0 && !r.enhanced[0].anyDetail {
				words++
			}
			if r.stages != 0 {
				words++
			}
			j.found = append(j.found, evidence{index, int16(r.weight), words, r.rank})
		} else if !q.status.IsZero() && r.rank == rankEnhanced {
			own := *q
			own.enhanced = q.status
			if r.conditions(&own) {
				j.found = append(j.found, evidence{index, int16(r.weight), 0, rankStatus})
			}
		}
	}
	return j.verdict(q)
}

func (r *compiledRule) matchesRegexps(b []byte) bool {
	for _, re := range r.regexps {
		if !re.Match(b) {
			return false
		}
	}
	return true
}

// verdict chooses among the evidence.
func (j *judge) verdict(q *query) result {
	t := j.t
	res := result{rule: -1, category: event.Unclassified, provider: q.provider}
	if q.provider == providerOther && !q.byMX {
		res.provider = q.speaker
	}
	best := -1
	for i := range j.found {
		if best < 0 || j.found[i].better(j.found[best]) {
			best = i
		}
	}
	if best >= 0 {
		w := j.found[best]
		r := &t.rules[w.rule]
		res.rule, res.category, res.secondary = w.rule, r.category, r.secondary
		res.blocklist = r.blocklist
		if res.secondary == event.Unset {
			res.secondary = j.second(w)
		}
		res.confidence = confidence(w.rank, r.weight)
		res.persistence = r.persistence
	}
	if res.blocklist == 0 && (res.category == event.IPBlocklisted || res.category == event.DomainBlocklisted) {
		res.blocklist = j.listed(res.category)
	}
	switch q.outcome {
	case event.Deferred, event.Held:
		res.persistence = event.Transient
	case event.Bounced, event.Expired, event.Suppressed, event.OutOfBand:
		res.persistence = event.Permanent
	}
	if res.persistence == event.PersistenceUnknown {
		switch class := max(uint16(q.enhanced.Class), q.code/100); {
		case q.code/100 == 4 || q.code == 0 && class == 4:
			res.persistence = event.Transient
		case class == 5:
			res.persistence = event.Permanent
		default:
			res.persistence = res.category.Info().Habit
		}
	}
	return res
}

// second returns the category of the best other cause that the text names, if
// two causes in one reply belong together: what expired was deferred for, and
// what a receiver does to senders whom it does not trust. Elsewhere a second
// match is another word for the first. So it is where it needs the words that
// tell the first: "this message has been in the queue too long" does not say
// that the message is too long.
func (j *judge) second(winner evidence) event.Category {
	t := j.t
	main := t.rules[winner.rule].category
	if main != event.QueueExpired && !distrust(main) {
		return event.Unset
	}
	best := evidence{rule: -1}
	for _, e := range j.found {
		r := &t.rules[e.rule]
		if e.rank < rankText || r.category == main || r.weight < 50 ||
			main != event.QueueExpired && (!distrust(r.category) || r.category.Info().Group == main.Info().Group) {
			continue
		}
		if (best.rule < 0 || e.better(best)) && j.apart(e.rule, winner.rule) {
			best = e
		}
	}
	if best.rule < 0 {
		return event.Unset
	}
	return t.rules[best.rule].category
}

// apart reports whether a phrase of rule was found that shares no words with those
// of other.
func (j *judge) apart(rule, other int32) bool {
	for phrase, o := range j.matches() {
		if j.t.senses[phrase].asks(rule) && !j.overlaps(o, other) {
			return true
		}
	}
	return false
}

// overlaps reports whether a phrase of rule was found in the words of o.
func (j *judge) overlaps(o occurrence, rule int32) bool {
	for phrase, x := range j.matches() {
		if j.t.senses[phrase].asks(rule) && x.from <= o.to && o.from <= x.to {
			return true
		}
	}
	return false
}

// matches yields the phrases that were found, and where.
func (j *judge) matches() iter.Seq2[int32, occurrence] {
	return func(yield func(int32, occurrence) bool) {
		for _, h := range j.scan.hits {
			for _, phrase := range j.t.machine.phrases[h.from:h.to] {
				if !yield(phrase, j.scan.found[h.at]) {
					return
				}
			}
		}
	}
}

// asks reports whether m is something that rule asks for.
func (m *sense) asks(rule int32) bool { return m.rule == rule && m.bit != bitVeto }

// distrust reports whether a category is about whether to trust a sender.
func distrust(c event.Category) bool {
	switch c {
	case event.SPFFailed, event.DKIMFailed, event.DMARCFailed, event.AuthFailed, event.IPBlocklisted, event.DomainBlocklisted,
		event.RDNSMissing, event.RateLimited, event.Greylisted, event.SpamContent, event.TLSFailed:
		return true
	}
	return false
}

// listed returns the list that the text blames: one of the category's kind
// before others, and the first found of these, as a reply names the list before
// it tells where to look things up.
func (j *judge) listed(c event.Category) uint16 {
	for _, l := range j.lists {
		if (j.t.blocklists[l].Kind == "ip") == (c == event.IPBlocklisted) {
			return l
		}
	}
	if len(j.lists) > 0 {
		return j.lists[0]
	}
	return 0
}

// confidence says how often evidence of this kind is right.
func confidence(rank uint8, weight int) float32 {
	switch rank {
	case rankProviderText:
		return 0.97
	case rankText:
		if weight < 40 {
			return 0.75
		}
		return 0.92
	case rankProviderEnhanced:
		return 0.9
	case rankEnhanced:
		return 0.65
	case rankCode:
		return 0.5
	case rankStatus:
		return 0.4
	}
	return 0
}
