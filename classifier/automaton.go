package classifier

import (
	"math/bits"
	"slices"
	"unicode/utf8"
)

// automaton finds all phrases in a sequence of words.
//
// Its nodes are phrases and their beginnings. Those of one symbol are not
// entered while a text is read: what they lead to is known of the symbol. Of the
// others, and of those, the inner nodes are the ones that phrases go on from.
// They have the lowest numbers, because whether and where they have been reached
// is all that must be remembered of a text.
//
// Reached nodes are bits, in blocks of 64, and the blocks that have any are bits
// in groups of 64. The nodes from which a symbol leads on are kept in the same
// way, so that those which have been reached are found without a look at the
// others: the work grows with what has been reached, not with how many phrases
// have the word.
type automaton struct {
	trie  wordTrie
	masks [4]term // ADDR, IP, HOST, N
	words term    // the first one after the masks and the stop words
	inner int32   // how many inner nodes there are

	symbols []symbolEffect // and one more
	nodes   []nodeEffect   // and one more
	// What these say, of all symbols and nodes one after the other.
	groups  []sourceGroup
	blocks  []sourceBlock
	edges   []edge
	begins  []int32
	marks   []nodeBlock
	phrases []int32
	classes []symbol
}

// symbolEffect says what a symbol means, with all classes that it is in, by
// offsets into the lists of the automaton. Each list ends where that of the next
// symbol begins.
type symbolEffect struct {
	groups  int32 // the nodes from which it leads on
	begins  int32 // the inner nodes that are this symbol
	marks   int32 // the same ones, as bits
	phrases int32 // the phrases that are this symbol
}

// nodeEffect says what a node of several symbols means.
type nodeEffect struct {
	phrases int32 // the phrases that end here
	classes int32 // the classes of which this is a member
}

// sourceGroup is the blocks of a group that have nodes from which a symbol leads.
type sourceGroup struct {
	index  int32 // the group's
	first  int32 // blocks[first] is the first block
	blocks uint64
}

// sourceBlock is the nodes of a block from which a symbol leads.
type sourceBlock struct {
	first int32 // edges[first] leads on from the first node
	nodes uint64
}

// edge is where a symbol leads from a node if at most gap words stand between.
type edge struct {
	node, gap int32
	next      int32 // another edge from the same node by the same symbol, or 0
}

// nodeBlock is some nodes of a block.
type nodeBlock struct {
	index int32 // the block's
	nodes uint64
}

// finish lays out the automaton.
func (c *phraseCompiler) finish() *automaton {
	const none = -1
	terms := int32(len(c.terms.names))
	number := func(s symbol) int32 {
		if s < 0 {
			return terms - 2 - s // the first class, -2, follows the last term
		}
		return s
	}
	symbols, nodes := terms+c.classIDs, int32(len(c.order))
	trie, stems := c.terms.build()
	a := &automaton{
		trie: trie, words: firstTerm(),
		symbols: make([]symbolEffect, 0, symbols+1), nodes: make([]nodeEffect, 0, nodes+1),
		edges: make([]edge, 1, 2*nodes), // number 0 is none
		// Of the rest about as much is needed by the shipped rules.
		groups: make([]sourceGroup, 0, symbols), blocks: make([]sourceBlock, 0, 2*symbols), begins: make([]int32, 0, symbols),
		marks: make([]nodeBlock, 0, symbols), phrases: make([]int32, 0, 6*symbols), classes: make([]symbol, 0, nodes),
	}
	for i, m := range maskNames {
		a.masks[i] = c.terms.terms[m]
	}

	first := make([]int32, symbols) // the node that is this symbol, or none
	for s := range first {
		first[s] = none
	}
	inner := make([]bool, nodes)
	for n, k := range c.order {
		if k.parent < 0 {
			first[number(k.symbol)] = int32(n)
		} else {
			inner[k.parent] = true
		}
	}
	leads := group(symbols, nodes, func(n int32) (int32, int32) { // from node to node
		if c.order[n].parent < 0 {
			return none, n
		}
		return number(c.order[n].symbol), n
	})
	classes := group(nodes, int32(len(c.classesOf)), func(i int32) (int32, int32) { return c.classesOf[i].node, number(c.classesOf[i].of) })
	phrases := group(nodes, int32(len(c.phrases)), func(i int32) (int32, int32) { return c.phrases[i].node, c.phrases[i].of })

	// with returns a symbol, the stems that it begins with, so that of a word only
	// the longest term need be fired, and the classes that these are in.
	seen := make([]int32, symbols)
	var list []symbol
	with := func(s symbol) []symbol {
		list = append(list[:0], s)
		seen[s] = s + 1
		if s < terms && !unbounded(c.terms.names[s][0]) {
			for t := stems[s]; t != noTerm; t = stems[t] {
				list = append(list, t)
				seen[t] = s + 1
			}
		}
		for i := 0; i < len(list); i++ {
			if n := first[list[i]]; n != none {
				for _, class := range classes.of(n) {
					if seen[class] != s+1 {
						seen[class] = s + 1
						list = append(list, class)
					}
				}
			}
		}
		return list
	}

	// The nodes that a symbol enters together are numbered together, to be in few
	// blocks.
	id, order := make([]int32, nodes), make([]int32, 0, nodes)
	for n := range id {
		id[n] = none
	}
	give := func(n int32) {
		if id[n] == none {
			id[n] = int32(len(order))
			order = append(order, n)
		}
	}
	for s := range symbols {
		for _, y := range with(s) {
			if n := first[y]; n != none && inner[n] {
				give(n)
			}
		}
	}
	for n := range nodes {
		if inner[n] {
			give(n)
		}
	}
	a.inner = int32(len(order))
	for n := range nodes {
		give(n)
	}

	var on []uint64 // edges, each as its two nodes, to sort them by the first
	type further struct {
		of int32
		edge
	}
	var more []further
	for s := range symbols {
		e := symbolEffect{int32(len(a.groups)), int32(len(a.begins)), int32(len(a.marks)), int32(len(a.phrases))}
		a.symbols = append(a.symbols, e)
		on = on[:0]
		for _, y := range with(s) {
			for _, n := range leads.of(y) {
				on = append(on, uint64(id[c.order[n].parent])<<32|uint64(n))
			}
			if n := first[y]; n != none {
				a.phrases = append(a.phrases, phrases.of(n)...)
				if inner[n] {
					a.begins = append(a.begins, id[n])
				}
			}
		}
		slices.Sort(on)
		last := int32(none)
		for _, x := range on {
			parent, n := int32(x>>32), int32(uint32(x))
			e := edge{id[n], c.order[n].gap, 0}
			if parent == last {
				more = append(more, further{int32(len(a.edges) - 1), e})
				continue
			}
			if last == none || parent>>12 != last>>12 {
				a.groups = append(a.groups, sourceGroup{index: parent >> 12, first: int32(len(a.blocks))})
			}
			if last == none || parent>>6 != last>>6 {
				a.groups[len(a.groups)-1].blocks |= 1 << (parent >> 6 & 63)
				a.blocks = append(a.blocks, sourceBlock{first: int32(len(a.edges))})
			}
			a.blocks[len(a.blocks)-1].nodes |= 1 << (parent & 63)
			a.edges = append(a.edges, e)
			last = parent
		}
		begins := a.begins[e.begins:]
		slices.Sort(begins)
		for _, n := range begins {
			if k := len(a.marks) - 1; k < int(e.marks) || a.marks[k].index != n>>6 {
				a.marks = append(a.marks, nodeBlock{index: n >> 6})
			}
			a.marks[len(a.marks)-1].nodes |= 1 << (n & 63)
		}
	}
	a.symbols = append(a.symbols, symbolEffect{int32(len(a.groups)), int32(len(a.begins)), int32(len(a.marks)), int32(len(a.phrases))})
	for _, m := range more {
		m.next = a.edges[m.of].next
		a.edges[m.of].next = int32(len(a.edges))
		a.edges = append(a.edges, m.edge)
	}
	for _, n := range order {
		e := nodeEffect{int32(len(a.phrases)), int32(len(a.classes))}
		a.nodes = append(a.nodes, e)
		if c.order[n].parent < 0 {
			continue // known of the symbol
		}
		a.phrases = append(a.phrases, phrases.of(n)...)
		for _, class := range classes.of(n) {
			if !slices.Contains(a.classes[e.classes:], class) {
				a.classes = append(a.classes, class)
			}
		}
	}
	a.nodes = append(a.nodes, nodeEffect{int32(len(a.phrases)), int32(len(a.classes))})
	return a
}

// lists has a list of numbers for each of some numbers.
type lists struct{ from, items []int32 }

func (l *lists) of(n int32) []int32 { return l.items[l.from[n]:l.from[n+1]] }

// group makes lists for the numbers below n of count pairs of number and item; a
// pair whose number is negative is in no list.
func group(n, count int32, pair func(int32) (of, item int32)) *lists {
	l := &lists{make([]int32, n+2), make([]int32, count)}
	for i := range count {
		if of, _ := pair(i); of >= 0 {
			l.from[of+2]++
		}
	}
	for i := range n {
		l.from[i+2] += l.from[i+1]
	}
	for i := range count {
		if of, item := pair(i); of >= 0 {
			l.items[l.from[of+1]] = item
			l.from[of+1]++
		}
	}
	return l
}

// occurrence is where in a text a symbol or the beginning of a phrase stands:
// positions count the words that carry meaning, from and to are where the first
// and the last of its words begin.
type occurrence struct {
	start, end int16
	from, to   int16
}

// Positions and places fit: no text of maxText bytes becomes longer than this.
const _ = int16(6 * maxText)

// sighting is a symbol or a node, and the number of its occurrence.
type sighting struct{ of, at int32 }

// scanner runs the automaton over one text after the other, for one goroutine.
type scanner struct {
	a      *automaton
	text   []byte
	active []uint64 // a bit for each inner node that has been reached
	some   []uint64 // a bit for each element of active that is not zero
	last   []int32  // the last occurrence of each active node
	// What one word fires and reaches comes into effect after it, because phrases
	// go on from what earlier words have left.
	fired, reached []sighting
	found          []occurrence
	hits           []hit // in the order in which they end
}

// hit is phrases that were found: those of the automaton from:to.
type hit struct{ from, to, at int32 }

func newScanner(a *automaton) *scanner {
	blocks := a.inner/64 + 1
	return &scanner{a: a, last: make([]int32, a.inner), active: make([]uint64, blocks), some: make([]uint64, blocks/64+1)}
}

// scan finds all phrases in a normalised text.
func (s *scanner) scan(text []byte) {
	for i, some := range s.some {
		for ; some != 0; some &= some - 1 {
			s.active[i*64+bits.TrailingZeros64(some)] = 0
		}
		s.some[i] = 0
	}
	s.text, s.found, s.hits = text, s.found[:0], s.hits[:0]
	position := int16(0)
	for i := 0; i < len(text); {
		i++ // the space before each word
		switch c := text[i]; {
		case c == '.':
			position++
			i = wordEnd(text, i)
		case c >= 'A' && c <= 'Z':
			from := i
			i = wordEnd(text, i)
			for m, name := range maskNames {
				if name[0] == c && len(name) == i-from {
					s.fire(s.a.masks[m], s.occur(position+1, position, int16(from)))
				}
			}
			s.settle()
		default:
			i, position = s.word(i, position)
		}
	}
}

// wordEnd returns where the word that text[i] is in ends.
func wordEnd(text []byte, i int) int {
	for i < len(text) && text[i] != ' ' {
		i++
	}
	return i
}

// occur notes an occurrence in one word and returns its number.
func (s *scanner) occur(start, end, word int16) int32 {
	s.found = append(s.found, occurrence{start, end, word, word})
	return int32(len(s.found) - 1)
}

// word finds the terms of the word at text[i], which position stands before. It
// returns the end of the word and its position.
func (s *scanner) word(i int, position int16) (int, int16) {
	text, trie := s.text, s.a.trie
	from := int16(i)
	for i < len(text) && text[i] != ' ' {
		if unbounded(text[i]) {
			position++
			end := position
			for state, j := trie[0], i; j < len(text); j++ {
				if state = trie[state.base+int32(text[j])]; state.byte != text[j] {
					break
				}
				if j+1 < len(text) && !utf8.RuneStart(text[j+1]) {
					continue
				}
				if state.ends&endsWord != 0 {
					if t := trie[state.base+wordChild].base; t >= s.a.words {
						s.fire(t, s.occur(position, end, from))
					}
				}
				if state.ends&endsStem != 0 {
					s.fire(trie[state.base+stemChild].base, s.occur(position, end, from))
				}
				end++
			}
			s.settle()
			for i++; i < len(text) && !utf8.RuneStart(text[i]); i++ {
			}
			continue
		}
		position++
		state, t, stop := trie[0], noTerm, false
		stem := int32(0) // the base of the last state that ends a stem
		for ; i < len(text); i++ {
			c := text[i]
			next := trie[state.base+int32(c)]
			if next.byte != c {
				break
			}
			if state = next; state.ends&endsStem != 0 {
				stem = state.base
			}
		}
		if i == len(text) || text[i] == ' ' || unbounded(text[i]) {
			if state.ends&endsWord != 0 {
				t = trie[state.base+wordChild].base
				stop = t < s.a.words
			}
		} else {
			// No term goes on like this.
			for i++; i < len(text) && text[i] != ' ' && !unbounded(text[i]); i++ {
			}
		}
		if (t == noTerm || stop) && stem != 0 {
			t = trie[stem+stemChild].base
		}
		if t >= s.a.words {
			s.fire(t, s.occur(position, position, from))
			s.settle()
		}
		if stop {
			position--
		}
	}
	return i, position
}

// fire takes one symbol, of occurrence at: it goes on from the nodes that have
// been reached and that an edge by the symbol leaves.
func (s *scanner) fire(y symbol, at int32) {
	a := s.a
	this, next := &a.symbols[y], &a.symbols[y+1]
	if this.begins < next.begins {
		s.fired = append(s.fired, sighting{y, at})
	}
	if this.phrases < next.phrases {
		s.hits = append(s.hits, hit{this.phrases, next.phrases, at})
	}
	for i := this.groups; i < next.groups; i++ {
		g := &a.groups[i]
		for both := s.some[g.index] & g.blocks; both != 0; both &= both - 1 {
			i := int32(bits.TrailingZeros64(both))
			from := &a.blocks[g.first+rank(g.blocks, i)]
			i += g.index << 6
			for reached := s.active[i] & from.nodes; reached != 0; reached &= reached - 1 {
				n := int32(bits.TrailingZeros64(reached))
				this, before := s.found[at], s.found[s.last[i<<6+n]]
				between := int(this.start) - int(before.end) - 1
				if between < 0 {
					continue
				}
				for e := from.first + rank(from.nodes, n); e != 0; e = a.edges[e].next {
					if between <= int(a.edges[e].gap) {
						s.reach(a.edges[e].node, occurrence{before.start, this.end, before.from, this.to})
					}
				}
			}
		}
	}
}

// reach enters a node of several symbols.
func (s *scanner) reach(node int32, o occurrence) {
	a := s.a
	at := int32(len(s.found))
	s.found = append(s.found, o)
	if node < a.inner {
		s.reached = append(s.reached, sighting{node, at})
	}
	this, next := &a.nodes[node], &a.nodes[node+1]
	if this.phrases < next.phrases {
		s.hits = append(s.hits, hit{this.phrases, next.phrases, at})
	}
	for _, class := range a.classes[this.classes:next.classes] {
		s.fire(class, at)
	}
}

// settle makes what has been fired and reached what phrases go on from.
func (s *scanner) settle() {
	a, active, some, last := s.a, s.active, s.some, s.last
	for _, f := range s.fired {
		this, next := a.symbols[f.of], a.symbols[f.of+1]
		for _, b := range a.marks[this.marks:next.marks] {
			active[b.index] |= b.nodes
			some[b.index>>6] |= 1 << (b.index & 63)
		}
		for _, n := range a.begins[this.begins:next.begins] {
			last[n] = f.at
		}
	}
	for _, r := range s.reached {
		bit := uint64(1) << (r.of & 63)
		if active[r.of>>6]&bit != 0 {
			// Of several that end here the shortest is kept.
			if x, y := s.found[last[r.of]], s.found[r.at]; x.end == y.end && x.start > y.start {
				continue
			}
		}
		active[r.of>>6] |= bit
		some[r.of>>12] |= 1 << (r.of >> 6 & 63)
		last[r.of] = r.at
	}
	s.fired, s.reached = s.fired[:0], s.reached[:0]
}

// rank returns how many of the bits below bit i are set.
func rank(set uint64, i int32) int32 { return int32(bits.OnesCount64(set & (1<<(i&63) - 1))) }
