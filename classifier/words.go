package classifier

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
)

// lexicon is what the rules name and masking must keep: words with digits
// ("s3150") and dotted names ("spamhaus.org").
type lexicon struct {
	words map[string]struct{}
	// sizes has, by first byte, a bit for each length that occurs: it answers
	// most questions without a look-up.
	sizes [256]uint64
	every bool // keep every word: this is a rule, not a reply
}

func newLexicon() *lexicon { return &lexicon{words: make(map[string]struct{})} }

func (l *lexicon) add(w string) {
	l.words[w] = struct{}{}
	l.sizes[w[0]] |= 1 << min(len(w), 63)
}

// has reports whether the rules name w.
func (l *lexicon) has(w []byte) bool {
	if l.every {
		return true
	}
	if l.sizes[w[0]]&(1<<min(len(w), 63)) == 0 {
		return false
	}
	_, ok := l.words[string(w)]
	return ok
}

// name returns the longest part of a dotted name, from a label to the end, that
// the rules name, or nil.
func (l *lexicon) name(w []byte) []byte {
	for {
		if len(w) > 0 && l.has(w) {
			return w
		}
		dot := bytes.IndexByte(w, '.')
		if dot < 0 {
			return nil
		}
		w = w[dot+1:]
	}
}

// term is a word that rules use, or, as a stem, all words that begin with it.
type term = int32

const noTerm term = -1

// wordTrie finds the terms of a word in one walk over its bytes. It is a
// double-array trie: from state s, at first the one at 0, byte c leads to the
// state at s.base+c, if that has this byte. No two states share a base, so that
// the byte alone tells where a state was come to from.
type wordTrie []trieState

type trieState struct {
	base int32
	byte byte
	ends uint8 // what ends here: endsWord, endsStem
}

const (
	endsWord uint8 = 1 << iota
	endsStem

	// By these bytes, which no text has, a state leads to one whose base is the
	// term that ends in it.
	wordChild = 1
	stemChild = 2
)

// trieBuilder collects terms.
type trieBuilder struct {
	terms map[string]term // a stem has a trailing *
	names []string
}

func (b *trieBuilder) term(w string) term {
	if t, ok := b.terms[w]; ok {
		return t
	}
	t := term(len(b.names))
	b.terms[w] = t
	b.names = append(b.names, w)
	return t
}

// build lays the trie out, each state's children where they next fit, and tells
// for each term the longest other stem that it begins with, or noTerm.
func (b *trieBuilder) build() (trie wordTrie, stems []term) {
	type word struct {
		name  string
		first uint64 // its first bytes, by which most are told apart
		term  term
	}
	sorted := make([]word, len(b.names))
	for t, name := range b.names {
		var first [8]byte
		copy(first[:], name)
		sorted[t] = word{name, binary.BigEndian.Uint64(first[:]), term(t)}
	}
	slices.SortFunc(sorted, func(x, y word) int {
		if x.first != y.first {
			return cmp.Compare(x.first, y.first)
		}
		return strings.Compare(x.name, y.name)
	})
	// A family is a state and the words that go on from it: sorted[from:to].
	type family struct {
		state, depth, from, to int32
		stem                   term
	}
	var (
		nodes    = make(wordTrie, 1<<10+8*len(sorted)) // about as many as are needed
		based    = make([]bool, len(nodes))            // by base
		place    = int32(256)                          // of the last children: the search for the next begins here
		stack    = append(make([]family, 0, 256), family{to: int32(len(sorted)), stem: noTerm})
		children = make([]family, 0, 256)
		bytes    = make([]byte, 0, 256) // of the children
	)
	stems = make([]term, len(b.names))
	for len(stack) > 0 {
		f := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		children, bytes = children[:0], bytes[:0]
		for k := f.from; k < f.to; k++ {
			c := byte(wordChild)
			if s := sorted[k].name[f.depth:]; s == "*" {
				c = stemChild
				t := sorted[k].term
				stems[t], f.stem = f.stem, t
			} else if s != "" {
				c = s[0]
			}
			if n := len(bytes); n > 0 && bytes[n-1] == c {
				children[n-1].to++
			} else {
				bytes = append(bytes, c)
				children = append(children, family{depth: f.depth + 1, from: k, to: k + 1})
			}
		}
		base := max(place-int32(slices.Min(bytes)), 1)
	search:
		for ; ; base++ {
			if n := int(base) + 256; n > len(nodes) {
				nodes, based = append(nodes, make(wordTrie, n)...), append(based, make([]bool, n)...)
			}
			if based[base] {
				continue
			}
			for _, c := range bytes {
				if nodes[base+int32(c)].byte != 0 {
					continue search
				}
			}
			break
		}
		place = base + int32(slices.Min(bytes))
		based[base] = true
		nodes[f.state].base = base
		for k, c := range bytes {
			child := children[k]
			child.state, child.stem = base+int32(c), f.stem
			nodes[child.state].byte = c
			switch t := sorted[child.from].term; c {
			case wordChild:
				nodes[f.state].ends |= endsWord
				nodes[child.state].base = t
				stems[t] = f.stem
			case stemChild:
				nodes[f.state].ends |= endsStem
				nodes[child.state].base = t
			default:
				stack = append(stack, child)
			}
		}
	}
	return nodes, stems
}

// unbounded reports whether a folded character that begins with c belongs to a
// script that does not part words by spaces, or glues particles to them (from
// Hebrew and Arabic to Chinese, Japanese and Korean): there a term is found
// wherever it stands.
func unbounded(c byte) bool { return c >= 0xd6 }
