package classifier

import (
	"encoding/binary"
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
	gapNone int32 = 0
	gapNear int32 = 3
	gapAny  int32 = maxText
)

// symbol is what the automaton consumes: a term, or a class of them.
type symbol = int32

var maskNames = [...]string{maskAddress, maskIP, maskHost, maskNumber}

type edgeKey struct {
	parent int32
	symbol symbol
	gap    int32
}

// completion is what a node completes: a class or a phrase.
type completion struct{ node, of int32 }

// phraseCompiler builds the automaton.
type phraseCompiler struct {
	terms    trieBuilder
	keep     *lexicon
	classes  map[string]symbol // by name, or by the alternatives' text
	classIDs int32
	nodes    map[edgeKey]int32
	first    []int32 // by term: the node that is this term, or -1
	// How each node is reached, and which classes and phrases end in nodes. Terms
	// and classes have no common numbering yet: classes count down from -2.
	order     []edgeKey
	classesOf []completion
	phrases   []completion
	words     map[string][]string // {name} and what it stands for
	opening   map[string]bool     // names being expanded, to find circles
	sorted    []string            // scratch memory
	key       []byte              // the same
	parts     map[string][]symbol // that have been compiled: most are of many phrases
	text      text
	all       *lexicon // keeps everything: phrases are not masked
}

func newPhraseCompiler() *phraseCompiler {
	const many = 1 << 14 // so that they need not grow while the shipped rules are compiled
	c := &phraseCompiler{
		terms: trieBuilder{terms: make(map[string]term, many)}, keep: newLexicon(), all: newLexicon(),
		classes: make(map[string]symbol, many/2), nodes: make(map[edgeKey]int32, many),
		order: make([]edgeKey, 0, 2*many), classesOf: make([]completion, 0, 2*many), phrases: make([]completion, 0, many),
		words: map[string][]string{}, opening: map[string]bool{}, parts: make(map[string][]symbol, many/2),
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
	c.phrases = append(c.phrases, completion{node, output})
	return n, nil
}

// sequence compiles a phrase to the node that it ends in.
func (c *phraseCompiler) sequence(phrase string) (node int32, words int, err error) {
	node = -1
	gap := gapNone
	var one [1]symbol
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
		symbols, ok := one[:], isTerm(part)
		if ok {
			if one[0] = c.terms.term(part); isStopTerm(one[0]) {
				continue
			}
		} else if symbols, ok = c.parts[part]; !ok {
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

// isTerm reports whether a part is a word or a stem that is a term as it is: most
// are.
func isTerm(part string) bool {
	n := len(part)
	if n > 1 && part[n-1] == '*' {
		n--
	}
	for i := range n {
		if part[i] < 'a' || part[i] > 'z' {
			return false
		}
	}
	return n <= maxWord
}

// isStopTerm reports whether a term is a stop word: these come after the masks.
func isStopTerm(t term) bool { return t >= term(len(maskNames)) && t < firstTerm() }

// firstTerm is the first term after the masks and the stop words.
func firstTerm() term { return term(len(maskNames) + len(stopWords)) }

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

func (c *phraseCompiler) node(parent int32, gap int32, s symbol) int32 {
	k := edgeKey{parent, s, gap}
	n := int32(len(c.order))
	if parent < 0 && s >= 0 { // a word begins a phrase
		for int(s) >= len(c.first) {
			c.first = append(c.first, -1)
		}
		if c.first[s] >= 0 {
			return c.first[s]
		}
		c.first[s] = n
	} else {
		if n, ok := c.nodes[k]; ok {
			return n
		}
		c.nodes[k] = n
	}
	c.order = append(c.order, k)
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
	c.sorted = append(c.sorted[:0], members...)
	slices.Sort(c.sorted)
	key := strings.Join(c.sorted, "|")
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
		c.classesOf = append(c.classesOf, completion{node, s})
	}
	c.classes[key] = s
	return s, nil
}

// literal compiles a word as written, in all the forms in which servers and
// logs spell it.
func (c *phraseCompiler) literal(w string) []symbol {
	plain, stem := strings.CutSuffix(w, "*")
	var symbols []symbol
	if w := strings.ToLower(plain); strings.ContainsAny(w, "-_") && strings.ContainsAny(w, digits) && !strings.Contains(w, ".") && !stem {
		c.keep.add(w) // a code such as LPN007_420, kept whole
		return []symbol{c.terms.term(w)}
	}
	forms := [][]string{c.split(plain)}
	for _, v := range spellings(plain) {
		// A question mark at either end is cut off like any punctuation: what
		// remains must still be long enough to mean only this word.
		if (strings.HasPrefix(v, "?") || strings.HasSuffix(v, "?")) && len(v) <= 6 {
			continue
		}
		if f := c.split(v); len(f) == len(forms[0]) {
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
			c.key = append(c.key[:0], 0) // no name begins so
			for _, t := range alternatives {
				c.key = binary.LittleEndian.AppendUint32(c.key, uint32(t))
			}
			s, ok := c.classes[string(c.key)]
			if !ok {
				c.classIDs++
				s = -1 - c.classIDs
				c.classes[string(c.key)] = s
				for _, t := range alternatives {
					n := c.node(-1, gapNone, t)
					c.classesOf = append(c.classesOf, completion{n, s})
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
	words := make([]string, 0, 2)
	for _, word := range strings.Split(string(c.text.buf), " ")[2:] {
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
