package classifier

import (
	"cmp"
	"slices"
	"strings"

	"github.com/bouncemeter/bouncemeter/event"
)

// RuleInfo describes a rule for people.
type RuleInfo struct {
	ID        string   `json:"id"`
	Category  string   `json:"category"`
	File      string   `json:"file"`
	Line      int      `json:"line"`
	Rank      string   `json:"rank"`   // the kind of evidence
	Weight    int      `json:"weight"` // among the same kind the higher weight wins
	Providers []string `json:"providers,omitempty"`
	Phrases   []string `json:"phrases,omitempty"`
	Source    string   `json:"source,omitempty"`
	Examples  []string `json:"examples,omitempty"`
}

// Rules lists all rules in the order of their ids.
func (c *Classifier) Rules() []RuleInfo {
	list := make([]RuleInfo, len(c.t.rules))
	for i := range c.t.rules {
		r := &c.t.rules[i]
		list[i] = RuleInfo{
			ID: r.id, Category: r.category.String(), File: r.file, Line: r.line, Rank: rankNames[r.rank], Weight: r.weight,
			Providers: r.rule.providers, Source: r.source, Examples: plain(r.examples),
		}
		for _, group := range append([][]quote{r.any}, r.all...) {
			list[i].Phrases = append(list[i].Phrases, plain(group)...)
		}
	}
	return list
}

// Test classifies every rule's examples and returns a fault for each that gets
// another category, or not the secondary cause that the rule names.
func (c *Classifier) Test() []Fault {
	var f faults
	s := c.NewSession()
	t := c.t
	for i := range t.rules {
		r := &t.rules[i]
		for _, example := range r.examples {
			q := s.ask(r, example.s)
			if got := s.evaluate(&q); got.category != r.category {
				by := "no rule"
				if got.rule >= 0 {
					by = "rule " + t.rules[got.rule].id
				}
				f.add(example.place, r.id, "see what explain says of it, then make one of the two more precise", "the example is %s by %s: %s", got.category, by, example.s)
			} else if r.secondary != event.Unset && got.secondary != r.secondary {
				f.add(example.place, r.id, "see what explain says of it, then make one of the two more precise, or name the same cause in both",
					"the example is %s, but not also %s, by rule %s: %s", got.category, r.secondary, t.rules[got.rule].id, example.s)
			}
		}
	}
	return sorted(f)
}

// ask prepares an example of r: answered by r's provider, at r's stage.
func (s *Session) ask(r *compiledRule, example string) query {
	var q query
	if len(r.providers) > 0 {
		q.provider, q.byMX = r.providers[0], true
	}
	e := event.Event{Reply: event.Reply{Text: []byte(example)}}
	for stage := event.StageConnect; stage <= event.StageQuit; stage++ {
		if r.stages&(1<<stage) != 0 {
			e.Reply.Stage = stage
			break
		}
	}
	s.prepare(&e, &q)
	return q
}

// Lint returns what is doubtful about the rules: no examples, phrases written
// twice, phrases that can never decide because a stronger rule has them too,
// phrases of which one word is left, and rules that look for a single common word.
func (c *Classifier) Lint() []Fault {
	var f faults
	t := c.t
	type use struct {
		rule int32
		quote
	}
	uses := map[string][]use{}
	for i := range t.rules {
		r := &t.rules[i]
		if r.hasPhrases() && len(r.examples) == 0 {
			f.add(r.place, r.id, "add a reply that it is for under examples:", "the rule has no example")
		}
		if len(r.all) > 0 || len(r.codes)+len(r.enhanced)+len(r.providers) > 0 || r.stages != 0 {
			continue // conditions tell it from others
		}
		seen := map[string]quote{}
		for _, q := range r.any {
			key := strings.Join(strings.Fields(q.s), " ")
			if first, ok := seen[key]; ok {
				f.add(q.place, r.id, "remove one of the two", "the phrase %q stands in line %d already", q.s, first.line)
				continue
			}
			seen[key] = q
			uses[key] = append(uses[key], use{int32(i), q})
		}
	}
	for _, list := range uses {
		for _, u := range list {
			for _, v := range list {
				a, b := &t.rules[u.rule], &t.rules[v.rule]
				if a.category != b.category && len(b.not) == 0 && (evidence{v.rule, int16(b.weight), 0, b.rank}).better(evidence{u.rule, int16(a.weight), 0, a.rank}) {
					f.add(u.place, a.id, "remove it from the rule that should not have it", "the phrase %q never decides: rule %s (%s) has it too and is stronger", u.s, b.id, b.category)
				}
			}
		}
	}
	// "The address is in" looks like more than it asks for.
	for index, m := range t.senses {
		p := &t.phrases[index]
		if m.rule >= 0 && m.bit == bitAny && m.words == 1 && len(strings.Fields(p.s)) > 1 && !strings.ContainsAny(p.s, "({") {
			r := &t.rules[m.rule]
			f.add(p.place, r.id, "write that word alone if it is enough, else add one that carries meaning", "of the phrase %q one word is left, as the others are skipped", p.s)
		}
	}
	// A single word that many other rules' examples contain decides too much.
	s := c.NewSession()
	hits := map[int32]map[event.Category]int{}
	var own event.Category
	s.judge.trace = func(index int32, _, _ int) {
		m := &t.senses[index]
		if m.rule < 0 || m.bit != bitAny || t.rules[m.rule].category == own || t.rules[m.rule].weight < weight(own) {
			return
		}
		if hits[index] == nil {
			hits[index] = map[event.Category]int{}
		}
		hits[index][own]++
	}
	for i := range t.rules {
		r := &t.rules[i]
		own = r.category
		for _, example := range r.examples {
			q := s.ask(r, example.s)
			s.evaluate(&q)
		}
	}
	for index, by := range hits {
		m, p := &t.senses[index], &t.phrases[index]
		if r := &t.rules[m.rule]; len(by) >= 5 && m.words == 1 && len(r.not) == 0 {
			f.add(p.place, r.id, "add words, or conditions under not:", "the phrase %q is found in examples of %d other categories and would win there", p.s, len(by))
		}
	}
	return sorted(f)
}

func sorted(f faults) []Fault {
	slices.SortFunc(f, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Problem, b.Problem))
	})
	return f
}
