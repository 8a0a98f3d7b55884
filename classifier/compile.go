package classifier

import (
	"cmp"
	"embed"
	"regexp"
	"slices"
)

//go:embed rules/*.yaml providers.yaml
var shipped embed.FS

// Ranks of evidence, the strongest last.
const (
	rankNone uint8 = iota
	rankStatus
	rankCode
	rankEnhanced
	rankProviderEnhanced
	rankText
	rankProviderText
)

var rankNames = [...]string{
	rankNone:             "none",
	rankStatus:           "the MTA's own status",
	rankCode:             "basic code",
	rankEnhanced:         "enhanced code",
	rankProviderEnhanced: "enhanced code of this provider",
	rankText:             "text",
	rankProviderText:     "text of this provider",
}

// compiledRule is a rule ready for judging.
type compiledRule struct {
	*rule
	rank      uint8
	weight    int
	providers []uint16
	blocklist uint16
	regexps   []*regexp.Regexp
}

// demand is what a rule asks for, in short: of most rules whose words are found
// something is missing.
type demand struct {
	bits   uint32 // that phrases must have set
	weight int16
	words  uint16 // how many the conditions beside a phrase count for
	rank   uint8
	more   bool // there are conditions besides phrases
}

// Bits that phrases set for a rule: one for any, one for each entry of all.
const (
	bitAny  uint32 = 1
	bitVeto uint32 = 1 << 31
)

// sense is what a phrase stands for: a condition of a rule, the words of a
// provider, or the name of a blocklist.
type sense struct {
	rule      int32 // index, or -1
	bit       uint32
	words     uint16 // how many words it asks for; 0 if it rules a rule out
	provider  uint16 // index, if it is a provider's words
	blocklist uint16 // index, if it is a blocklist's name
}

// tables is everything compiled. It is immutable.
type tables struct {
	rules      []compiledRule
	demands    []demand // of the rules
	senses     []sense  // of the phrases
	phrases    []quote  // as written
	machine    *automaton
	keep       *lexicon
	coded      []int32 // rules without phrases, best rank first
	providers  providers
	blocklists []Blocklist // index 0 is none
	words      map[string][]string
}

// builtin rule ids.
const (
	// listNamed decides where a reply names a list of the catalogue.
	listNamedIP     = "blocklist_named_ip"
	listNamedDomain = "blocklist_named_domain"
)

func compile(s *source) *tables {
	t := &tables{blocklists: []Blocklist{{}}, words: s.words}
	pc := newPhraseCompiler()
	pc.words = s.words
	t.providers.compile(s)

	add := func(q quote, rule string, m sense) {
		n, err := pc.add(q.s, int32(len(t.senses)))
		if err != nil {
			s.faults.add(q.place, rule, "", "phrase %v", err)
			return
		}
		if m.bit != bitVeto {
			m.words = uint16(n)
		}
		t.senses, t.phrases = append(t.senses, m), append(t.phrases, q)
	}

	// The catalogue comes first, so that rules may say {list} for any name of
	// a list, and its two rules decide where nothing else does.
	names := sortedKeys(s.lists)
	var listNames []string
	for _, kind := range []struct{ id, word string }{{listNamedIP, "ip"}, {listNamedDomain, "domain"}} {
		r := s.rules[kind.id]
		for _, name := range names {
			l := s.lists[name]
			if (l.Kind == "ip") != (kind.word == "ip") {
				continue
			}
			for _, q := range l.text {
				if r != nil {
					r.any = append(r.any, q)
				}
				listNames = append(listNames, q.s)
			}
		}
	}
	if len(listNames) > 0 {
		s.words["list"] = listNames
	}
	lists := map[string]uint16{}
	for _, name := range names {
		l := s.lists[name]
		lists[name] = uint16(len(t.blocklists))
		for _, q := range l.text {
			add(q, "", sense{rule: -1, blocklist: uint16(len(t.blocklists))})
		}
		t.blocklists = append(t.blocklists, l.Blocklist)
	}

	for _, id := range sortedKeys(s.providers) {
		p := s.providers[id]
		for _, q := range p.text {
			add(q, "", sense{rule: -1, provider: t.providers.index[id]})
		}
	}
	for _, id := range sortedKeys(s.rules) {
		r := s.rules[id]
		index := int32(len(t.rules))
		c := compiledRule{rule: r, weight: weight(r.category) + r.priority}
		for _, name := range r.providers {
			p, ok := t.providers.index[name]
			if !ok {
				s.faults.add(r.place, r.id, "add it to a providers file, or correct the name", "there is no provider %q", name)
			}
			c.providers = append(c.providers, p)
		}
		if r.blocklist != "" {
			b, ok := lists[r.blocklist]
			if !ok {
				s.faults.add(r.place, r.id, "add it to the catalogue under blocklists:, or correct the name", "there is no blocklist %q", r.blocklist)
			}
			c.blocklist = b
		}
		for _, q := range r.regex {
			re, err := regexp.Compile(q.s)
			if err != nil {
				s.faults.add(q.place, r.id, "correct the expression (RE2 syntax)", "%v", err)
				continue
			}
			c.regexps = append(c.regexps, re)
		}
		hasText := len(r.any)+len(r.all) > 0
		switch {
		case hasText && len(r.providers) > 0:
			c.rank = rankProviderText
		case hasText:
			c.rank = rankText
		case len(r.enhanced) > 0 && len(r.providers) > 0:
			c.rank = rankProviderEnhanced
		case len(r.enhanced) > 0:
			c.rank = rankEnhanced
		default:
			c.rank = rankCode
		}
		conditions := len(r.codes)+len(r.enhanced) > 0 || r.stages != 0
		d := demand{
			weight: int16(c.weight), words: uint16(len(r.all)), rank: c.rank,
			more: conditions || len(r.providers) > 0 && !r.distinctive || len(r.regex) > 0,
		}
		if conditions {
			d.words++
		}
		if len(r.any) > 0 {
			d.bits |= bitAny
		}
		for _, q := range r.any {
			add(q, r.id, sense{rule: index, bit: bitAny})
			if r.distinctive && len(c.providers) == 1 {
				add(q, r.id, sense{rule: -1, provider: c.providers[0]})
			}
		}
		for i, group := range r.all {
			d.bits |= 2 << i
			for _, q := range group {
				add(q, r.id, sense{rule: index, bit: 2 << i})
			}
		}
		for _, q := range r.not {
			add(q, r.id, sense{rule: index, bit: bitVeto})
		}
		if !hasText {
			t.coded = append(t.coded, index)
		}
		t.rules, t.demands = append(t.rules, c), append(t.demands, d)
	}
	slices.SortStableFunc(t.coded, func(a, b int32) int {
		return cmp.Compare(t.rules[b].rank, t.rules[a].rank)
	})
	t.machine, t.keep = pc.finish(), pc.keep
	return t
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// conditions reports whether the conditions of r other than its phrases hold.
func (r *compiledRule) conditions(q *query) bool {
	if len(r.providers) > 0 && !r.distinctive && !slices.Contains(r.providers, q.provider) && !slices.Contains(r.providers, q.speaker) {
		return false
	}
	if len(r.codes) > 0 && !slices.ContainsFunc(r.codes, func(c codeRange) bool { return q.code >= c.low && q.code <= c.high }) {
		return false
	}
	if len(r.enhanced) > 0 && !slices.ContainsFunc(r.enhanced, func(p enhancedPattern) bool { return p.match(q.enhanced) }) {
		return false
	}
	return r.stages == 0 || r.stages&(1<<q.stage) != 0
}

// hasPhrases reports whether r looks at words.
func (r *rule) hasPhrases() bool { return len(r.any)+len(r.all) > 0 }
