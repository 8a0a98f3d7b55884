package classifier

import (
	"bytes"
	"slices"
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

// wordTrie finds the terms of a word in one walk over its bytes. It is a
// double-array trie: the child of state s by byte c is nodes[s].base+c, if that
// node's check is s.
type wordTrie struct{ nodes []trieNode }

type trieNode struct {
	base, check int32
	exact, stem term // noTerm if there is none
}

const noTerm term = -1

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

// build lays the trie out, the words in order and each state's children where
// they first fit.
func (b *trieBuilder) build() *wordTrie {
	sorted := slices.Clone(b.names)
	slices.Sort(sorted)
	w := &wordTrie{}
	w.grow(1024)
	w.nodes[0].check = 0
	free := 1 // no free place lies below
	type job struct {
		state, depth, from, to int
	}
	stack := []job{{0, 0, 0, len(sorted)}}
	var bytes [256]int
	for len(stack) > 0 {
		j := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		children := bytes[:0]
		starts := make([]int, 0, 8)
		for i := j.from; i < j.to; i++ {
			s := sorted[i]
			if len(s) == j.depth {
				w.nodes[j.state].exact = b.terms[s]
				continue
			}
			if s[j.depth] == '*' && len(s) == j.depth+1 {
				w.nodes[j.state].stem = b.terms[s]
				continue
			}
			c := int(s[j.depth])
			if n := len(children); n == 0 || children[n-1] != c {
				children = append(children, c)
				starts = append(starts, i)
			}
		}
		if len(children) == 0 {
			w.nodes[j.state].base = -1 << 20
			continue
		}
		for free < len(w.nodes) && w.nodes[free].check >= 0 {
			free++
		}
		base := max(free-children[0], 1)
		tries := 0
	search:
		for ; ; base++ {
			if tries++; tries > 64 && base+children[0] > free {
				free = base + children[0] // what lies below is too crowded to be worth looking at
			}
			if base+256 >= len(w.nodes) {
				w.grow(2*len(w.nodes) + 256)
			}
			for _, c := range children {
				if w.nodes[base+c].check >= 0 {
					continue search
				}
			}
			break
		}
		w.nodes[j.state].base = int32(base)
		for i, c := range children {
			w.nodes[base+c].check = int32(j.state)
			end := j.to
			if i+1 < len(starts) {
				end = starts[i+1]
			}
			stack = append(stack, job{base + c, j.depth + 1, starts[i], end})
		}
	}
	return w
}

func (w *wordTrie) grow(n int) {
	for len(w.nodes) < n {
		w.nodes = append(w.nodes, trieNode{-1 << 20, -1, noTerm, noTerm})
	}
}

// step returns the child of s by c, or -1.
func (w *wordTrie) step(s int32, c byte) int32 {
	t := w.nodes[s].base + int32(c)
	if uint32(t) < uint32(len(w.nodes)) && w.nodes[t].check == s {
		return t
	}
	return -1
}

// unbounded reports whether a folded character that begins with c belongs to a
// script that does not part words by spaces, or glues particles to them (from
// Hebrew and Arabic to Chinese, Japanese and Korean): there a term is found
// wherever it stands.
func unbounded(c byte) bool { return c >= 0xd6 }
