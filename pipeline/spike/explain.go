package spike

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/bouncemeter/bouncemeter/event"
)

// watch notes where the attempts and failures of one series come from, from the
// first suspicion on.
type watch struct {
	series   int32
	next     int32     // in the same scope: its place plus 1, or zero
	elements []element // by dimension and name
}

// element is one name of one dimension.
type element struct {
	dim  Dimension
	name string
	k, n float64
}

const (
	// maxElements bounds a watch. Those with the fewest failures are dropped.
	maxElements = 256
	// enough is the share of the excess that an explanation reaches, and
	// leastShare that of each of its elements. Adtributor, NSDI 2014, uses the
	// same.
	enough, leastShare = 0.67, 0.1
	// tellingTimes is how many times its share of the attempts an element must have
	// of the excess to tell anything.
	tellingTimes = 1.5
)

// watch adds the minute's rows to the watches of their series, and forgets
// watches whose series has calmed down.
func (d *Detector) watch(rows []Row) {
	if len(d.watches) == 0 {
		return
	}
	kept := d.watches[:0]
	for _, w := range d.watches {
		s := &d.series[w.series]
		if s.flags&(flagAlert|flagHeld) == 0 && d.top(s) == 0 {
			s.flags &^= flagWatch
			continue
		}
		kept = append(kept, w)
	}
	clear(d.watches[len(kept):])
	if cap(kept) > 4*len(kept)+256 {
		kept = slices.Clone(kept) // after an incident of many they are few again
	}
	d.watches = kept

	for i := range d.scopes {
		d.scopes[i].watch = 0
	}
	for i := range d.watches {
		w := &d.watches[i]
		s := &d.scopes[d.series[w.series].scope]
		w.next, s.watch = s.watch, int32(i)+1
	}
	var codes codes
	for i := range rows {
		for v := range d.views {
			si := d.rowScopes[i*len(d.views)+v]
			if si < 0 || d.scopes[si].watch == 0 {
				continue
			}
			r := &rows[i]
			o, c, _ := codes.of(r)
			for at := d.scopes[si].watch; at != 0; at = d.watches[at-1].next {
				d.note(&d.watches[at-1], r, o, c, &d.views[v])
			}
		}
	}
	for i := range d.watches {
		d.watches[i].bound()
	}
}

func (d *Detector) note(w *watch, r *Row, o event.Outcome, c event.Category, v *view) {
	s := &d.series[w.series]
	failed := slices.Contains(v.match[o][c], s.rule) && (!d.rules[s.rule].byCategory || s.category == c)
	if !failed && !isAttempt(o) {
		return
	}
	k, n := 0.0, float64(r.Firsts)
	if failed {
		k = n
	}
	for i, dim := range nameDimensions {
		if v.mask>>i&1 == 0 {
			w.add(dim, r.name(i), k, n)
		}
	}
	if failed && !d.rules[s.rule].byCategory {
		w.add(Category, c.String(), k, k)
	}
}

func (w *watch) add(dim Dimension, name string, k, n float64) {
	i, ok := slices.BinarySearchFunc(w.elements, element{dim: dim, name: name}, compareElements)
	if !ok {
		w.elements = slices.Insert(w.elements, i, element{dim: dim, name: strings.Clone(name)})
	}
	w.elements[i].k += k
	w.elements[i].n += n
}

func compareElements(a, b element) int {
	return cmp.Or(cmp.Compare(a.dim, b.dim), cmp.Compare(a.name, b.name))
}

func (w *watch) bound() {
	if len(w.elements) <= 2*maxElements {
		return
	}
	slices.SortFunc(w.elements, func(a, b element) int {
		return cmp.Or(cmp.Compare(b.k, a.k), cmp.Compare(b.n, a.n), compareElements(a, b))
	})
	w.elements = slices.Clip(w.elements[:maxElements])
	slices.SortFunc(w.elements, compareElements)
}

// explain says where the excess over the usual ratio p comes from: for each
// dimension the fewest elements that together make up enough of it. Dimensions
// whose elements differ most from what is expected come first.
func explain(elements []element, p float64) (shares []Share) {
	type part struct {
		surprise float64
		shares   []Share
	}
	var parts []part
	for len(elements) > 0 {
		n := slices.IndexFunc(elements, func(e element) bool { return e.dim != elements[0].dim })
		if n < 0 {
			n = len(elements)
		}
		of := elements[:n]
		elements = elements[n:]
		if shares := explainDimension(of, p); len(shares) > 0 {
			x := part{shares: shares}
			for _, s := range shares {
				x.surprise += s.Surprise
			}
			parts = append(parts, x)
		}
	}
	slices.SortStableFunc(parts, func(a, b part) int { return cmp.Compare(b.surprise, a.surprise) })
	for _, x := range parts {
		shares = append(shares, x.shares...)
	}
	return shares
}

func explainDimension(elements []element, p float64) (chosen []Share) {
	if len(elements) < 2 && elements[0].dim != Category {
		return nil // there is no other it could be
	}
	var excess, attempts float64
	all := make([]Share, 0, len(elements))
	for _, e := range elements {
		s := Share{Dimension: e.dim, Element: e.name, Excess: e.k - float64(p*e.n), Expected: e.n}
		if e.dim == Category {
			s.Excess, s.Expected = e.k, 0 // what is usual is not known by category
		}
		excess += s.Excess
		attempts += s.Expected
		all = append(all, s)
	}
	if excess <= 0 {
		return nil
	}
	slices.SortStableFunc(all, func(a, b Share) int { return cmp.Compare(b.Excess, a.Excess) })
	var sum float64
	for _, s := range all {
		s.Share = s.Excess / excess
		if s.Share < leastShare || sum >= enough {
			break
		}
		if attempts > 0 {
			s.Expected /= attempts
			s.Surprise = surprise(s.Expected, s.Share)
		}
		sum += s.Share
		chosen = append(chosen, s)
	}
	telling := func(s Share) bool { return s.Dimension == Category || s.Share >= tellingTimes*s.Expected }
	if sum < enough || !slices.ContainsFunc(chosen, telling) {
		return nil // it is spread out, or as mail is
	}
	return chosen
}

// surprise is one term of the Jensen-Shannon divergence of two distributions.
func surprise(p, q float64) float64 {
	q = max(0, min(q, 1))
	var s float64
	if p > 0 {
		s += p * math.Log(2*p/(p+q)) / 2
	}
	if q > 0 {
		s += q * math.Log(2*q/(p+q)) / 2
	}
	return max(0, s)
}

// elementsOf joins the watches of some series. For the dimensions with, which are
// those that tell the members of an alert of many apart, it takes what each has
// done recently.
func (d *Detector) elementsOf(m int32, members []int32, with uint8) []element {
	var sum watch
	for _, w := range d.watches {
		if !slices.Contains(members, w.series) {
			continue
		}
		for _, e := range w.elements {
			if i := slices.Index(nameDimensions[:], e.dim); i < 0 || with>>i&1 == 0 {
				sum.add(e.dim, e.name, e.k, e.n)
			}
		}
	}
	if with == 0 {
		return sum.elements
	}
	for _, i := range members {
		s := &d.series[i]
		ago := m - d.scopes[s.scope].last
		if ago >= forgetRecent {
			continue
		}
		fade := float64(recentFades[ago])
		for n, dim := range nameDimensions {
			if with>>n&1 != 0 {
				sum.add(dim, d.names[n].all[d.scopes[s.scope].key.ids[n]], fade*float64(s.rk), fade*float64(s.re)/d.usual(s))
			}
		}
	}
	return sum.elements
}
