package classifier

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// A phrase is what a rule looks for, as a person would write it:
//
//	mailbox ~ full          up to three other words between
//	quota .. exceeded       anywhere later in the text
//	{user} unknown          any of the words listed under that name
//	(mail|message) size     any of these
//	quota exce*             any ending
//	IP is listed            a mask: ADDR, IP, HOST or N
//	lpn#                    a family of codes, such as LPN105
//	lpn#_416                the code 416 of a family, such as LPN007_416
//	lpn007_420              a code with a hyphen or an underscore, as one word
//
// Words that carry no meaning of their own (articles, forms of "to be", "your",
// "has") are skipped in phrases and in texts alike; see stopWords. Masks do not
// separate words unless the phrase asks for them, so "user unknown" is found in
// "user <a@example.org> unknown".

// Gaps between the parts of a phrase, in words.
const (
	gapNone uint8 = 0
	gapNear uint8 = 3
	gapAny  uint8 = 255
)

// symbol is what the automaton consumes: a term, or a class of them.
type symbol = int32

// edge leads from a state by a symbol to node.
type edge struct {
	parent int32
	edgeEnd
}

type edgeEnd struct {
	node int32
	gap  uint8
}

// symbolEffect says what a symbol does, by itself and for all classes it is in.
// The fields are offsets into the automaton's arrays, which keeps what is used
// together together.
type symbolEffect struct {
	edges int32 // parents and targets[edges:next.edges] go on from a state
	roots int32 // flat[roots:ends] begin a phrase
	ends  int32 // flat[ends:next.roots] are phrases of one word
}

// automaton finds all phrases in a sequence of words.
type automaton struct {
	trie *wordTrie
	stop []bool // by term
	// effects has one more entry than there are symbols.
	effects []symbolEffect
	// Of the edges, parents are looked at far more often than targets: most
	// are not active.
	parents []int32
	targets []edgeEnd
	// inner is the number of nodes that phrases go on from: the first ones.
	inner int32
	// What reaching a node after the first means: flat[phrases:fires] are the
	// phrases that it ends, flat[fires:end] the classes that it completes.
	nodes []nodeOutput
	flat  []int32
	masks [4]term // ADDR, IP, HOST, N
}

type nodeOutput struct{ phrases, fires, end int32 }

var maskNames = [...]string{maskAddress, maskIP, maskHost, maskNumber}

type edgeKey struct {
	parent int32
	symbol symbol
	gap    uint8
}

// phraseCompiler builds the automaton.
type phraseCompiler struct {
	terms    trieBuilder
	keep     *lexicon
	classes  map[string]symbol // by name, or by the alternatives' text
	classIDs int32
	nodes    map[edgeKey]int32
	// By node: how it is reached, the classes it completes and the phrases it
	// ends. Terms and classes have no common numbering yet: classes count down
	// from -2.
	order   []edgeKey
	fires   [][]symbol
	phrases [][]int32
	words   map[string][]string // {name} and what it stands for
	opening map[string]bool     // names being expanded, to find circles
	parts   map[string][]symbol // that have been compiled: most are of many phrases
	text    text
	all     *lexicon // keeps everything: phrases are not masked
}

func newPhraseCompiler() *phraseCompiler {
	const many = 1 << 14 // so that they need not grow while the shipped rules are compiled
	c := &phraseCompiler{
		terms: trieBuilder{terms: make(map[string]term, many)}, keep: newLexicon(), all: newLexicon(),
		classes: map[string]symbol{}, nodes: make(map[edgeKey]int32, many),
		order: make([]edgeKey, 0, many), fires: make([][]symbol, 0, many), phrases: make([][]int32, 0, many),
		words: map[string][]string{}, opening: map[string]bool{}, parts: map[string][]symbol{},
	}
	c.all.every = true
	for _, m := range maskNames {
		c.terms.term(m)
	}
	for _, w := range stopWords {
		c.terms.term(w)
	}
	return c
}

// add compiles a phrase that means output and returns its specificity: how many
// words it asks for.
func (c *phraseCompiler) add(phrase string, output int32) (int, error) {
	node, n, err := c.sequence(phrase)
	if err != nil {
		return 0, err
	}
	if !slices.Contains(c.phrases[node], output) {
		c.phrases[node] = append(c.phrases[node], output)
	}
	return n, nil
}

// sequence compiles a phrase to the node that it ends in.
func (c *phraseCompiler) sequence(phrase string) (node int32, words int, err error) {
	node = -1
	gap := gapNone
	for rest := strings.TrimSpace(phrase); rest != ""; rest = strings.TrimSpace(rest) {
		var part string
		end := strings.IndexByte(rest, ' ')
		if rest[0] == '(' {
			if end = closing(rest) + 1; end == 0 {
				return 0, 0, fmt.Errorf("%q lacks the closing bracket: write (this|that)", phrase)
			}
			if end < len(rest) && rest[end] == '*' {
				end++
			}
		}
		if end < 0 {
			end = len(rest)
		}
		part, rest = rest[:end], rest[end:]
		switch part {
		case "~":
			gap = max(gap, gapNear)
			continue
		case "..":
			gap = gapAny
			continue
		}
		symbols, ok := c.parts[part]
		if !ok {
			if symbols, err = c.part(part); err != nil {
				return 0, 0, fmt.Errorf("%q: %w", phrase, err)
			}
			c.parts[part] = symbols
		}
		for _, s := range symbols {
			if node < 0 {
				gap = gapNone
			}
			node = c.node(node, gap, s)
			gap = gapNone
			words++
		}
	}
	if node < 0 {
		return 0, 0, fmt.Errorf("%q %w", phrase, errNoMeaning)
	}
	return node, words, nil
}

var errNoMeaning = errors.New("has no word that carries meaning: add one")

// closing returns the index of the bracket that closes the one s begins with,
// or -1.
func closing(s string) int {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// alternatives splits at each | outside of brackets.
func alternatives(s string) []string {
	var list []string
	depth, from := 0, 0
	for i := range len(s) {
		switch s[i] {
		case '(':
			depth++
		case ')':
			depth--
		case '|':
			if depth == 0 {
				list = append(list, s[from:i])
				from = i + 1
			}
		}
	}
	return append(list, s[from:])
}

func (c *phraseCompiler) node(parent int32, gap uint8, s symbol) int32 {
	k := edgeKey{parent, s, gap}
	if n, ok := c.nodes[k]; ok {
		return n
	}
	n := int32(len(c.order))
	c.nodes[k] = n
	c.order, c.fires, c.phrases = append(c.order, k), append(c.fires, nil), append(c.phrases, nil)
	return n
}

// part compiles one part of a phrase: usually to one symbol, to several if
// punctuation joins words ("e-mail"), to none if it carries no meaning.
func (c *phraseCompiler) part(part string) ([]symbol, error) {
	switch {
	case part[0] == '{':
		name := strings.Trim(part, "{}")
		members, ok := c.words[name]
		if !ok || !strings.HasSuffix(part, "}") {
			return nil, fmt.Errorf("no words are listed as %s: add them under words, or correct the name", part)
		}
		s, err := c.class(part, members)
		return []symbol{s}, err
	case part[0] == '(':
		inside, stem := part[1:closing(part)], strings.HasSuffix(part, ")*")
		members := alternatives(inside)
		if stem {
			for i := range members {
				members[i] += "*"
			}
		}
		s, err := c.class(part, members)
		return []symbol{s}, err
	}
	for _, m := range maskNames {
		if part == m {
			return []symbol{c.terms.term(m)}, nil
		}
	}
	if family, ok := strings.CutSuffix(part, "#"); ok && family != "" {
		w := strings.ToLower(family) + "#"
		c.keep.add(w)
		return []symbol{c.terms.term(w)}, nil
	}
	return c.literal(part), nil
}

// class returns the symbol of any of the members.
func (c *phraseCompiler) class(name string, members []string) (symbol, error) {
	// The same words in another order, or under a name, are the same class.
	key := strings.Join(slices.Sorted(slices.Values(members)), "|")
	if s, ok := c.classes[key]; ok {
		return s, nil
	}
	if c.opening[name] {
		return 0, fmt.Errorf("%s contains itself: remove it from its own words", name)
	}
	c.opening[name] = true
	defer delete(c.opening, name)
	c.classIDs++
	s := -1 - c.classIDs
	empty := 0
	for _, m := range members {
		node, _, err := c.sequence(m)
		if errors.Is(err, errNoMeaning) { // one among others does no harm
			if empty++; empty < len(members) {
				continue
			}
		}
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		if !slices.Contains(c.fires[node], s) {
			c.fires[node] = append(c.fires[node], s)
		}
	}
	c.classes[key] = s
	return s, nil
}

// literal compiles a word as written, in all the forms in which servers and
// logs spell it.
func (c *phraseCompiler) literal(w string) []symbol {
	stem := strings.HasSuffix(w, "*")
	plain := strings.TrimSuffix(w, "*")
	var symbols []symbol
	if w := strings.ToLower(plain); strings.ContainsAny(w, "-_") && strings.ContainsAny(w, digits) && !strings.Contains(w, ".") && !stem {
		c.keep.add(w) // a code such as LPN007_420, kept whole
		return []symbol{c.terms.term(w)}
	}
	forms := [][]string{c.split(plain)}
	for _, v := range spellings(plain) {
		// A question mark at the end is cut off like any punctuation: what
		// remains must still be long enough to mean only this word.
		if f := c.split(v); len(f) == len(forms[0]) && (!strings.HasSuffix(v, "?") || len(v) > 6) {
			forms = append(forms, f)
		}
	}
	for i := range forms[0] {
		var alternatives []term
		for _, f := range forms {
			word := f[i]
			if stem && i == len(forms[0])-1 {
				word += "*"
			} else if isStopWord(word) {
				continue
			} else if strings.Trim(word, digits) == "" {
				word = maskNumber // numbers are masked, whichever they are
			}
			if t := c.terms.term(word); !slices.Contains(alternatives, t) {
				alternatives = append(alternatives, t)
			}
			c.keepWord(word)
		}
		switch len(alternatives) {
		case 0:
		case 1:
			symbols = append(symbols, alternatives[0])
		default:
			name := fmt.Sprint(alternatives)
			s, ok := c.classes[name]
			if !ok {
				c.classIDs++
				s = -1 - c.classIDs
				c.classes[name] = s
				for _, t := range alternatives {
					n := c.node(-1, gapNone, t)
					c.fires[n] = append(c.fires[n], s)
				}
			}
			symbols = append(symbols, s)
		}
	}
	return symbols
}

const digits = "0123456789"

// keepWord makes masking spare a word that rules name.
func (c *phraseCompiler) keepWord(w string) {
	if strings.ContainsAny(w, digits+".") && !strings.HasSuffix(w, "*") {
		c.keep.add(w)
	}
}

// split normalises a word of a phrase.
func (c *phraseCompiler) split(w string) []string {
	c.text.normalise([]byte("x "+w), c.all)
	c.text.split()
	words := make([]string, 0, 2)
	for _, s := range c.text.words[1:] {
		word := string(c.text.buf[s.start:s.end])
		// Where the script changes, so does the word ("dns错误").
		for i := 1; i < len(word); i++ {
			if utf8.RuneStart(word[i]) && unbounded(word[i]) != unbounded(word[0]) {
				words, word, i = append(words, word[:i]), word[i:], 0
			}
		}
		words = append(words, word)
	}
	return words
}

// spellings returns the other forms in which logs show a word with letters
// beyond ASCII: a question mark for each letter or for each byte of it, and
// German and Scandinavian letters written out.
func spellings(w string) []string {
	ascii, other := 0, 0
	for _, r := range w {
		switch {
		case r < utf8.RuneSelf:
			ascii++
		case r >= 0x590 && r < 0x1e00 || r >= 0x2000:
			return nil // another script: all would be question marks
		default:
			other++
		}
	}
	if other == 0 || ascii < 3 {
		return nil
	}
	replace := func(by func(r rune) string) string {
		var b strings.Builder
		for _, r := range w {
			if r < utf8.RuneSelf {
				b.WriteRune(r)
			} else {
				b.WriteString(by(r))
			}
		}
		return b.String()
	}
	forms := []string{
		replace(func(rune) string { return "?" }),
		replace(func(r rune) string { return strings.Repeat("?", utf8.RuneLen(r)) }),
	}
	if strings.ContainsAny(w, "äöüåøæÄÖÜÅØÆ") {
		long := map[rune]string{'ä': "ae", 'ö': "oe", 'ü': "ue", 'å': "aa", 'ø': "oe", 'æ': "ae", 'Ä': "ae", 'Ö': "oe", 'Ü': "ue", 'Å': "aa", 'Ø': "oe", 'Æ': "ae"}
		forms = append(forms, replace(func(r rune) string {
			if s, ok := long[r]; ok {
				return s
			}
			return string(r)
		}))
	}
	return forms
}

// finish lays out the automaton.
func (c *phraseCompiler) finish() *automaton {
	terms := int32(len(c.terms.names))
	number := func(s symbol) symbol {
		if s < 0 {
			return terms - 2 - s // the first class, -2, follows the last term
		}
		return s
	}
	a := &automaton{
		trie: c.terms.build(), stop: make([]bool, terms), effects: make([]symbolEffect, terms+c.classIDs+1), nodes: make([]nodeOutput, len(c.order)),
	}
	symbols := len(a.effects) - 1
	for i, m := range maskNames {
		a.masks[i] = c.terms.terms[m]
	}
	for _, w := range stopWords {
		a.stop[c.terms.terms[w]] = true
	}
	// What each symbol leads to by itself, and the nodes that are one symbol
	// long: reaching these is the same as reading the symbol, so the classes
	// that they complete are resolved here and not for each text.
	// Nodes that phrases go on from are numbered first, and of these the ones
	// that begin a phrase: whether a node is active, and where, matters only
	// for them, and so stays in the first-level cache.
	followed := make([]bool, len(c.order))
	for _, k := range c.order {
		if k.parent >= 0 {
			followed[k.parent] = true
		}
	}
	id := make([]int32, len(c.order))
	next := int32(0)
	for pass := range 3 {
		for n, k := range c.order {
			if (pass < 2) == followed[n] && (pass != 0 || k.parent < 0) && (pass != 1 || k.parent >= 0) {
				id[n] = next
				next++
			}
		}
		if pass == 1 {
			a.inner = next
		}
	}
	single := make([]symbol, len(c.order)) // by node, or none
	const none = symbol(-1)
	for n := range single {
		single[n] = none
	}
	edges, roots := make([][]edge, symbols), make([]int32, symbols)
	for i := range roots {
		roots[i] = -1
	}
	for old, k := range c.order {
		s, n := number(k.symbol), id[old]
		if k.parent < 0 {
			single[n], roots[s] = s, n
			continue
		}
		edges[s] = append(edges[s], edge{id[k.parent], edgeEnd{n, k.gap}})
	}
	classes := make([][]symbol, symbols) // that a symbol completes by itself
	fires, phrases := make([][]symbol, len(c.order)), make([][]int32, len(c.order))
	for old, list := range c.fires {
		for _, class := range list {
			if s := single[id[old]]; s != none {
				classes[s] = append(classes[s], number(class))
			} else {
				fires[id[old]] = append(fires[id[old]], number(class))
			}
		}
	}
	for old, list := range c.phrases {
		phrases[id[old]] = list
	}
	for n := range a.nodes {
		o := nodeOutput{phrases: int32(len(a.flat))}
		a.flat = append(a.flat, phrases[n]...)
		o.fires = int32(len(a.flat))
		a.flat = append(a.flat, fires[n]...)
		o.end = int32(len(a.flat))
		a.nodes[n] = o
	}
	// gather collects what a symbol does for itself and for its classes.
	var (
		on          []edge
		first, ends []int32
		gather      func(s symbol, seen map[symbol]bool)
	)
	gather = func(s symbol, seen map[symbol]bool) {
		if seen[s] {
			return
		}
		seen[s] = true
		on = append(on, edges[s]...)
		if n := roots[s]; n >= 0 {
			if n < a.inner {
				first = append(first, n)
			}
			ends = append(ends, phrases[n]...)
		}
		for _, class := range classes[s] {
			gather(class, seen)
		}
	}
	seen := map[symbol]bool{}
	for s := range symbols {
		on, first, ends = on[:0], first[:0], ends[:0]
		clear(seen)
		gather(symbol(s), seen)
		slices.SortFunc(on, func(x, y edge) int { return cmp.Or(cmp.Compare(x.parent, y.parent), cmp.Compare(x.node, y.node)) })
		slices.Sort(first)
		e := &a.effects[s]
		e.edges = int32(len(a.parents))
		for _, x := range on {
			a.parents, a.targets = append(a.parents, x.parent), append(a.targets, x.edgeEnd)
		}
		e.roots = int32(len(a.flat))
		a.flat = append(a.flat, first...)
		e.ends = int32(len(a.flat))
		a.flat = append(a.flat, ends...)
	}
	a.effects[symbols] = symbolEffect{int32(len(a.parents)), int32(len(a.flat)), int32(len(a.flat))}
	return a
}

// progress is how far a phrase has been found: where its words begin and end.
type progress struct {
	start, end int16 // positions of the first and last word
	from, to   int16 // indexes of the first and last word of the text
}

// Positions and indexes fit: a text of maxText bytes has fewer words.
const _ = int16(maxText)

// hit is a phrase that was found, with the indexes of its first and last word.
type hit struct {
	phrase   int32
	from, to int16
}

// scanner runs the automaton over one text after the other, for one goroutine.
type scanner struct {
	a      *automaton
	active []uint64   // a bit for each inner node that has been reached
	state  []progress // of the active nodes
	hits   []hit      // in the order in which the phrases end
}

func newScanner(a *automaton) *scanner {
	return &scanner{a: a, state: make([]progress, a.inner), active: make([]uint64, a.inner/64+1)}
}

// scan finds all phrases in t.
func (s *scanner) scan(t *text) {
	clear(s.active)
	s.hits = s.hits[:0]
	position := int16(0)
	for i, w := range t.words {
		word := t.buf[w.start:w.end]
		index := int16(i)
		switch c := word[0]; {
		case c == '.':
			position++
		case c >= 'A' && c <= 'Z':
			for m, name := range maskNames {
				if len(name) == len(word) && name[0] == c {
					s.fire(s.a.masks[m], position+1, position, index, index)
				}
			}
		default:
			position = s.word(word, position, index)
		}
	}
}

// word finds the terms of one word and returns the position after it.
func (s *scanner) word(word []byte, position, index int16) int16 {
	trie := s.a.trie
	for i := 0; i < len(word); {
		if unbounded(word[i]) {
			position++
			end := position
			for state, j := int32(0), i; j < len(word); j++ {
				if state = trie.step(state, word[j]); state < 0 {
					break
				}
				if j+1 < len(word) && !utf8.RuneStart(word[j+1]) {
					continue
				}
				if t := trie.nodes[state].exact; t >= 0 && !s.a.stop[t] {
					s.fire(t, position, end, index, index)
				}
				if t := trie.nodes[state].stem; t >= 0 {
					s.fire(t, position, end, index, index)
				}
				end++
			}
			for i++; i < len(word) && !utf8.RuneStart(word[i]); i++ {
			}
			continue
		}
		state := int32(0)
		position++
		for ; i < len(word); i++ {
			if c := word[i]; c >= utf8.RuneSelf && unbounded(c) {
				break
			}
			if state < 0 {
				continue
			}
			if state = trie.step(state, word[i]); state >= 0 {
				if t := trie.nodes[state].stem; t >= 0 {
					s.fire(t, position, position, index, index)
				}
			}
		}
		if state < 0 {
			continue
		}
		if t := trie.nodes[state].exact; t >= 0 {
			if s.a.stop[t] {
				position--
			} else {
				s.fire(t, position, position, index, index)
			}
		}
	}
	return position
}

// fire takes one symbol that stands at the positions start to end. Edges go
// first, because they must see the states that earlier words left.
func (s *scanner) fire(y symbol, start, end, from, to int16) {
	active, state := s.active, s.state
	this, next := &s.a.effects[y], &s.a.effects[y+1]
	parents := s.a.parents[this.edges:next.edges]
	for i, parent := range parents {
		if active[parent>>6]&(1<<(parent&63)) == 0 {
			continue
		}
		p := state[parent]
		e := s.a.targets[int(this.edges)+i]
		if start <= p.end || e.gap != gapAny && start-p.end-1 > int16(e.gap) {
			continue
		}
		s.reach(e.node, progress{p.start, end, p.from, to})
	}
	for _, n := range s.a.flat[this.roots:this.ends] {
		active[n>>6] |= 1 << (n & 63)
		state[n] = progress{start, end, from, to}
	}
	for _, phrase := range s.a.flat[this.ends:next.roots] {
		s.hits = append(s.hits, hit{phrase, from, to})
	}
}

// reach enters a node that is not the first of a phrase.
func (s *scanner) reach(node int32, p progress) {
	if node < s.a.inner {
		s.active[node>>6] |= 1 << (node & 63)
		s.state[node] = p
	}
	o := &s.a.nodes[node]
	for _, phrase := range s.a.flat[o.phrases:o.fires] {
		s.hits = append(s.hits, hit{phrase, p.from, p.to})
	}
	for _, f := range s.a.flat[o.fires:o.end] {
		s.fire(f, p.start, p.end, p.from, p.to)
	}
}
