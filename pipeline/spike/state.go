package spike

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"

	"github.com/bouncemeter/bouncemeter/event"
)

// stateVersion is that of the form of State. It changes with the form.
const stateVersion = 4

// ErrState means that a stored state cannot be used. The remedy is to begin anew
// and judge the stored windows again.
var ErrState = errors.New("the detector's stored state cannot be used")

// State returns all that the detector knows, for Restore. It is the same for
// detectors that have judged the same minutes.
func (d *Detector) State() []byte {
	c := &coder{}
	version := uint8(stateVersion)
	number(c, &version)
	d.code(c)
	return binary.BigEndian.AppendUint32(c.data, crc32.ChecksumIEEE(c.data))
}

// Restore sets a new detector to a state, also one of other rules: what is known
// for rules that are as they were is taken, and the open alerts of others end
// with the next call of Window. An error wraps ErrState, and leaves the detector
// unusable.
func (d *Detector) Restore(state []byte) error {
	if len(state) < 5 || crc32.ChecksumIEEE(state[:len(state)-4]) != binary.BigEndian.Uint32(state[len(state)-4:]) {
		return fmt.Errorf("%w: %d bytes that are damaged", ErrState, len(state))
	}
	c := &coder{data: state[:len(state)-4], reading: true}
	var version uint8
	if number(c, &version); version != stateVersion {
		return fmt.Errorf("%w: it has version %d, known is %d", ErrState, version, stateVersion)
	}
	ruleTo, viewTo := d.code(c)
	if c.err != nil {
		return fmt.Errorf("%w: %w", ErrState, c.err)
	}
	if len(c.data) > 0 {
		return fmt.Errorf("%w: it does not end where it should", ErrState)
	}
	if !d.sound(ruleTo, viewTo) {
		return fmt.Errorf("%w: it refers to what it does not have", ErrState)
	}
	d.rebuild(ruleTo, viewTo, func(int32) bool { return true })
	return nil
}

// coder writes values to data or reads them from it, so that one function tells
// the form for both ways.
type coder struct {
	data    []byte
	reading bool
	until   int32 // no minute is later
	err     error
}

// What can be wrong with bytes whose checksum is right.
var (
	errShort  = errors.New("it ends too early")
	errNumber = errors.New("a number is out of its range")
	errAlert  = errors.New("an alert cannot be read")
)

// fail keeps the first error. Nothing is read after it.
func (c *coder) fail(err error) {
	if c.err == nil {
		c.err, c.data = err, nil
	}
}

// take returns the next n bytes, or nil.
func (c *coder) take(n int) []byte {
	if n < 0 || n > len(c.data) {
		c.fail(errShort)
		return nil
	}
	b := c.data[:n]
	c.data = c.data[n:]
	return b
}

func number[T ~int | ~int32 | ~int64 | ~uint8 | ~uint16 | ~uint32 | ~uint64](c *coder, v *T) {
	if !c.reading {
		c.data = binary.AppendVarint(c.data, int64(*v))
		return
	}
	x, n := binary.Varint(c.data)
	if n <= 0 {
		c.fail(errShort)
		return
	}
	c.data = c.data[n:]
	if *v = T(x); int64(*v) != x {
		c.fail(errNumber)
	}
}

// minute codes minutes that have been judged, the next one, or zero. They are used
// for places in tables, so no other may be read.
func (c *coder) minute(all ...*int32) {
	for _, v := range all {
		if number(c, v); c.reading && (*v < 0 || *v > c.until) {
			c.fail(errNumber)
		}
	}
}

// maxSum is more than any sum that is kept can be.
const maxSum = 1e18

// float codes sums, ratios and scores: none is negative, infinite or no number.
func (c *coder) float(all ...*float64) {
	for _, v := range all {
		if !c.reading {
			c.data = binary.BigEndian.AppendUint64(c.data, math.Float64bits(*v))
		} else if b := c.take(8); b != nil {
			if *v = math.Float64frombits(binary.BigEndian.Uint64(b)); !(*v >= 0 && *v <= maxSum) {
				c.fail(errNumber)
			}
		}
	}
}

func (c *coder) float32(all ...*float32) {
	for _, v := range all {
		if !c.reading {
			c.data = binary.BigEndian.AppendUint32(c.data, math.Float32bits(*v))
		} else if b := c.take(4); b != nil {
			if *v = math.Float32frombits(binary.BigEndian.Uint32(b)); !(*v >= 0 && *v <= maxSum) {
				c.fail(errNumber)
			}
		}
	}
}

func (c *coder) bool(v *bool) {
	n := uint8(0)
	if *v {
		n = 1
	}
	number(c, &n)
	*v = n == 1
}

func (c *coder) text(v *string) {
	n := len(*v)
	number(c, &n)
	if c.reading {
		*v = string(c.take(n))
	} else {
		c.data = append(c.data, *v...)
	}
}

// list codes the elements of a slice. What it takes when it reads grows with what
// there is to read, whatever number of elements is claimed.
func list[T any](c *coder, all *[]T, each func(*T)) {
	n := len(*all)
	number(c, &n)
	if !c.reading {
		for i := range *all {
			each(&(*all)[i])
		}
		return
	}
	if n < 0 || n > len(c.data) { // each takes a byte at least
		c.fail(errShort)
		return
	}
	*all = make([]T, 0, min(n, 1024))
	for i := range n {
		*all = append(*all, *new(T))
		if each(&(*all)[i]); c.err != nil {
			return
		}
	}
}

// code writes or reads the detector. When it reads, it returns the present
// numbers of the stored rules and views, or -1.
func (d *Detector) code(c *coder) (ruleTo, viewTo []int) {
	number(c, &d.next)
	if c.until = d.next; d.next < 0 || d.next > maxMinute {
		c.fail(errNumber)
	}
	number(c, &d.evicted)
	number(c, &d.ignored)

	prints, keys, profiles := make([]string, len(d.rules)), make([]string, len(d.views)), make([]profile, len(d.rules))
	for i := range d.rules {
		prints[i], profiles[i] = d.rules[i].fingerprint, d.rules[i].profile
	}
	for i := range d.views {
		keys[i] = d.views[i].key
	}
	list(c, &prints, c.text)
	list(c, &keys, c.text)
	list(c, &profiles, c.profile)
	if c.reading {
		for i, print := range prints {
			ruleTo = append(ruleTo, -1)
			for j := range d.rules {
				if d.rules[j].fingerprint == print && i < len(profiles) {
					ruleTo[i] = j
					d.rules[j].profile = profiles[i]
				}
			}
		}
		for i, key := range keys {
			viewTo = append(viewTo, -1)
			for j := range d.views {
				if d.views[j].key == key {
					viewTo[i] = j
				}
			}
		}
	}
	for i := range d.names {
		list(c, &d.names[i].all, c.text)
	}
	list(c, &d.scopes, c.scope)
	list(c, &d.pools, func(p *pool) {
		number(c, &p.view)
		number(c, &p.scopes)
		c.float(&p.sum, &p.capped)
	})
	list(c, &d.parents, func(p *parent) {
		number(c, &p.key.rule)
		number(c, &p.key.category)
		number(c, &p.key.pool)
		c.float(&p.q, &p.a)
	})
	list(c, &d.series, func(x *series) { c.series(d, x) })
	list(c, &d.flows, c.flow)
	list(c, &d.meters, c.meter)
	list(c, &d.watches, func(w *watch) {
		number(c, &w.series)
		list(c, &w.elements, func(e *element) {
			c.text((*string)(&e.dim))
			c.text(&e.name)
			c.float(&e.k, &e.n)
		})
	})
	c.groups(d)
	list(c, &d.alerts, c.alert)
	list(c, &d.wordings.voices, func(v *voice) {
		c.text(&v.provider)
		c.minute(&v.first)
		list(c, &v.known, func(w *wording) {
			hash := int64(w.hash)
			number(c, &hash)
			w.hash = uint64(hash)
			c.minute(&w.first, &w.last)
			c.float(&w.n, &w.all)
			c.text(&w.text)
			c.bool(&w.told)
		})
	})
	return ruleTo, viewTo
}

func (c *coder) profile(p *profile) {
	for i := range p.sum {
		c.float(&p.sum[i])
	}
	c.float(&p.total)
	c.minute(&p.since)
}

func (c *coder) scope(s *scope) {
	number(c, &s.key.view)
	for i := range s.key.ids {
		number(c, &s.key.ids[i])
	}
	number(c, &s.pool)
	c.minute(&s.first, &s.last)
	c.float32(&s.b, &s.recent)
}

func (c *coder) series(d *Detector, x *series) {
	number(c, &x.scope)
	number(c, &x.parent)
	number(c, &x.rule)
	number(c, &x.category)
	number(c, &x.flags)
	number(c, &x.days)
	c.minute(&x.last)
	c.float32(&x.a, &x.b, &x.v, &x.e, &x.monthA, &x.monthB, &x.rk, &x.rc, &x.re)
	open := x.excursion != 0
	if c.bool(&open); !open {
		return
	}
	var e excursion
	if !c.reading {
		e = *d.excursionOf(x)
	}
	for i := range e.score {
		c.float32(&e.score[i])
	}
	c.minute(&e.since)
	number(c, &e.k)
	number(c, &e.n)
	c.float32(&e.v, &e.e)
	number(c, &e.windows)
	number(c, &e.waited)
	if c.reading {
		d.excur(x, e)
	}
}

// groups codes those that something has happened in; others follow from the
// series.
func (c *coder) groups(d *Detector) {
	var all []group
	for i := range d.groups {
		if g := &d.groups[i]; g.since != 0 || g.latelyK != 0 || g.latelyE != 0 {
			all = append(all, d.groups[i])
		}
	}
	list(c, &all, func(g *group) {
		number(c, &g.first)
		number(c, &g.edge)
		c.minute(&g.since)
		c.float32(&g.k, &g.n, &g.e, &g.latelyK, &g.latelyE)
	})
	if c.reading {
		d.groups = all
	}
}

func (c *coder) place(p *place) {
	number(c, &p.scope)
	number(c, &p.rule)
	number(c, &p.category)
}

func (c *coder) flow(f *flow) {
	c.place(&f.place)
	c.minute(&f.first, &f.last)
	c.float(&f.a, &f.b, &f.v, &f.e, &f.score[0], &f.score[1], &f.score[2], &f.pk, &f.pb, &f.pv, &f.pe, &f.mean)
	c.minute(&f.since)
	number(c, &f.calm)
	c.bool(&f.firing)
}

func (c *coder) meter(t *meter) {
	c.place(&t.place)
	sum := func(s *sums) { c.float32(&s.k, &s.n) }
	list(c, &t.minutes, sum)
	list(c, &t.buckets, sum)
	number(c, &t.held)
	number(c, &t.below)
	c.bool(&t.firing)
}

func (c *coder) alert(p **alert) {
	if c.reading {
		*p = &alert{}
	}
	a := *p
	body, err := json.Marshal(&a.Alert)
	if err != nil {
		panic(err) // it has only what JSON can say
	}
	said := string(body)
	c.text(&said)
	if c.reading && c.err == nil && json.Unmarshal([]byte(said), &a.Alert) != nil {
		c.fail(errAlert)
	}
	number(c, &a.rule)
	number(c, &a.category)
	number(c, &a.of)
	number(c, &a.place)
	number(c, &a.edge)
	for i := range a.ids {
		number(c, &a.ids[i])
	}
	list(c, &a.members, func(i *int32) { number(c, i) })
	c.minute(&a.fired, &a.data, &a.ended, &a.changed, &a.calm)
	c.float(&a.told, &a.expected, &a.high, &a.low, &a.phi, &a.score, &a.calmK, &a.calmN)
	c.text((*string)(&a.fixed))
	for i := range a.past {
		c.float32(&a.past[i])
	}
}

// sound reports whether all references lead to what is there, and to what is of
// the same kind.
func (d *Detector) sound(ruleTo, viewTo []int) bool {
	ok := true
	in := func(i int32, n int) bool {
		ok = ok && i >= 0 && int(i) < n
		return ok
	}
	// of checks a rule of some kinds with one of its categories, and returns it, or
	// nil if there is none any more.
	of := func(ri uint8, c event.Category, kinds ...Kind) *rule {
		ok = ok && (c == event.Unset || c.String() != "")
		if !in(int32(ri), len(ruleTo)) || ruleTo[ri] < 0 {
			return nil
		}
		r := &d.rules[ruleTo[ri]]
		ok = ok && (kinds == nil || slices.Contains(kinds, r.Kind))
		return r
	}
	// names checks the ids of a set of dimensions.
	names := func(ids *[nameKinds]uint32, mask uint8) {
		for n, id := range ids {
			ok = ok && (id == 0 && mask>>n&1 == 0 || int64(id) < int64(len(d.names[n].all)))
		}
	}
	for i := range d.pools {
		in(int32(d.pools[i].view), len(viewTo))
	}
	for i := range d.scopes {
		s := &d.scopes[i]
		in(s.pool, len(d.pools))
		if !in(int32(s.key.view), len(viewTo)) {
			return false
		}
		mask := uint8(0) // names that are no dimension of the view are zero
		if v := viewTo[s.key.view]; v >= 0 {
			mask = d.views[v].mask
		}
		names(&s.key.ids, mask)
	}
	for i := range d.parents {
		p := &d.parents[i]
		of(p.key.rule, p.key.category)
		in(p.key.pool, len(d.pools))
		ok = ok && p.q >= minRatio && p.q <= most
	}
	at := func(p *place, kinds ...Kind) {
		r := of(p.rule, p.category, kinds...)
		if in(p.scope, len(d.scopes)) && r != nil {
			ok = ok && viewTo[d.scopes[p.scope].key.view] == r.view
		}
	}
	for i := range d.series {
		x := &d.series[i]
		at(&place{x.scope, x.rule, x.category}, Ratio, Trend)
		in(x.parent, len(d.parents))
	}
	for i := range d.flows {
		at(&d.flows[i].place, Silence, Drop, Surge)
	}
	for i := range d.meters {
		at(&d.meters[i].place, Threshold, Burn)
		ok = ok && len(d.meters[i].minutes) > 0
	}
	for i := range d.watches {
		in(d.watches[i].series, len(d.series))
	}
	if !ok {
		return false
	}
	for i := range d.groups {
		g := &d.groups[i]
		if !in(g.first, len(d.series)) {
			return false
		}
		x := &d.series[g.first]
		if r := of(x.rule, x.category); r != nil {
			ok = ok && g.edge&^d.views[r.view].mask == 0
		}
	}
	for _, a := range d.alerts {
		r := of(a.rule, a.category)
		switch a.of {
		case ofSeries, ofTrend:
			ok = in(a.place, len(d.series)) && d.series[a.place].rule == a.rule
		case ofFlow:
			ok = in(a.place, len(d.flows)) && d.flows[a.place].rule == a.rule
		case ofMeter:
			ok = in(a.place, len(d.meters)) && d.meters[a.place].rule == a.rule
		case ofMany:
			for _, i := range a.members {
				ok = in(i, len(d.series)) && d.series[i].rule == a.rule
			}
			names(&a.ids, a.edge)
			ok = ok && (r == nil || a.edge&^d.views[r.view].mask == 0)
		case ofWording:
		default:
			return false
		}
	}
	return ok
}
