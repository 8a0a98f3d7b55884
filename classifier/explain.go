package classifier

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/bouncemeter/bouncemeter/event"
)

// Explanation says why a reply got its verdict.
type Explanation struct {
	// Normalised is the text that rules see: lower case, without accents, with
	// ADDR, IP, HOST and N for what differs from message to message.
	Normalised string `json:"normalised"`
	Code       uint16 `json:"code,omitempty"`     // basic code, 0 if none
	Enhanced   string `json:"enhanced,omitempty"` // enhanced status code, "" if none
	Stage      string `json:"stage,omitempty"`
	Provider   string `json:"provider"`
	// ProviderBy says how the provider is known: "relay", "recipient",
	// "text", or "" if it is not.
	ProviderBy string        `json:"provider_by,omitempty"`
	Verdict    event.Verdict `json:"-"`
	// Evidence has every rule whose conditions hold, the one that decided first.
	Evidence []Evidence `json:"evidence"`
	// Why says in a sentence why the first is first.
	Why string `json:"why"`
}

// Evidence is one rule whose conditions hold.
type Evidence struct {
	Rule     string `json:"rule"`
	File     string `json:"file"`
	Line     int    `json:"line"`
	Category string `json:"category"`
	Rank     string `json:"rank"`   // the kind of evidence
	Weight   int    `json:"weight"` // among the same kind the higher weight wins
	Source   string `json:"source,omitempty"`
	// Matches are the phrases that were found; none for a rule of codes only.
	Matches []Match `json:"matches,omitempty"`
}

// Match is a phrase that was found.
type Match struct {
	Phrase string `json:"phrase"`
	Line   int    `json:"line"`
	// Start and End are where in Normalised it was found, in bytes.
	Start int    `json:"start"`
	End   int    `json:"end"`
	Text  string `json:"text"`
}

// maxMatches bounds what is shown of one rule: a long text may repeat its words.
const maxMatches = 16

// Explain classifies e like a Session and tells why. It does not change e.
func (c *Classifier) Explain(e *event.Event) Explanation {
	s := c.sessions.Get().(*Session)
	defer c.sessions.Put(s)
	var q query
	s.who(e, &q)
	s.prepare(e, &q)
	return s.explain(&q)
}

func (s *Session) explain(q *query) Explanation {
	t := s.t
	matches := map[int32][]Match{}
	s.judge.trace = func(index int32, from, to int) {
		m, p := &t.senses[index], &t.phrases[index]
		if m.rule < 0 || m.bit == bitVeto {
			return
		}
		if len(matches[m.rule]) == maxMatches {
			return
		}
		to = wordEnd(s.text.buf, to)
		matches[m.rule] = append(matches[m.rule], Match{p.s, p.line, from - 1, to - 1, string(s.text.buf[from:to])})
	}
	defer func() { s.judge.trace = nil }()
	r := s.evaluate(q)

	x := Explanation{
		Normalised: string(bytes.TrimPrefix(s.text.buf, []byte(" "))), Code: q.code, Enhanced: q.enhanced.String(), Stage: q.stage.String(),
		Provider: t.providers.names[r.provider],
	}
	switch {
	case q.byMX:
		x.ProviderBy = "relay"
	case q.provider != providerOther:
		x.ProviderBy = "recipient"
	case r.provider != providerOther:
		x.ProviderBy = "text"
	}
	t.fill(&x.Verdict, &r, 0)
	found := slices.Clone(s.judge.found)
	slices.SortFunc(found, func(a, b evidence) int {
		switch {
		case a.better(b):
			return -1
		case b.better(a):
			return 1
		}
		return 0
	})
	for _, e := range found {
		r := &t.rules[e.rule]
		ev := Evidence{
			Rule: r.id, File: r.file, Line: r.line, Category: r.category.String(), Rank: rankNames[e.rank], Weight: r.weight,
			Source: r.source,
		}
		for _, m := range matches[e.rule] {
			if !slices.Contains(ev.Matches, m) {
				ev.Matches = append(ev.Matches, m)
			}
		}
		x.Evidence = append(x.Evidence, ev)
	}
	x.Why = t.why(found)
	return x
}

// why says why the first of the sorted evidence decided.
func (t *tables) why(found []evidence) string {
	switch len(found) {
	case 0:
		return "no rule knows these words or codes"
	case 1:
		return "it is the only rule that matches"
	}
	a, b := found[0], found[1]
	next := t.rules[b.rule].id
	switch {
	case a.rank != b.rank:
		return fmt.Sprintf("%s is better evidence than %s (%s)", rankNames[a.rank], rankNames[b.rank], next)
	case t.rules[a.rule].weight != t.rules[b.rule].weight:
		return fmt.Sprintf("it is the closer cause: weight %d, before %d of %s", t.rules[a.rule].weight, t.rules[b.rule].weight, next)
	case a.words != b.words:
		return fmt.Sprintf("it matches %d words, %s only %d", a.words, next, b.words)
	}
	return fmt.Sprintf("it comes before %s in the alphabet; nothing else tells them apart", next)
}
