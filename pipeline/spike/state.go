package spike

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/bouncemeter/bouncemeter/event"
)

// stateVersion is that of the form of State. It changes with the form.
const stateVersion = 2

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
	if c.err != nil || len(c.data) > 0 {
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
	err     error
}

// take returns the next n bytes.
func (c *coder) take(n int) []byte {
	if c.err != nil || n < 0 || n > len(c.data) {
		c.err = ErrState
		return make([]byte, min(max(n, 0), 8)) // enough for a number
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
	if c.err != nil || n <= 0 {
		c.err = ErrState
		return
	}
	c.data = c.data[n:]
	if *v = T(x); int64(*v) != x {
		c.err = ErrState
	}
}

func (c *coder) float(all ...*float64) {
	for _, v := range all {
		if c.reading {
			*v = math.Float64frombits(binary.BigEndian.Uint64(c.take(8)))
		} else {
			c.data = binary.BigEndian.AppendUint64(c.data, math.Float64bits(*v))
		}
	}
}

func (c *coder) float32(all ...*float32) {
	for _, v := range all {
		if c.reading {
			*v = math.Float32frombits(binary.BigEndian.Uint32(c.take(4)))
		} else {
			c.data = binary.BigEndian.AppendUint32(c.data, math.Float32bits(*v))
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

// list codes the elements of a slice, each of which takes a byte at least.
func list[T any](c *coder, all *[]T, each func(*T)) {
	n := len(*all)
	number(c, &n)
	if c.reading {
		if n < 0 || n > len(c.data) {
			c.err = ErrState
			return
		}
		*all = make([]T, n)
	}
	for i := range *all {
		if c.err != nil {
			return
		}
		each(&(*all)[i])
	}
}

// code writes or reads the detector. When it reads, it returns the present
// numbers of the stored rules and views, or -1.
func (d *Detector) code(c *coder) (ruleTo, viewTo []int) {
	number(c, &d.next)
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
	list(c, &d.series, c.series)
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
		number(c, &v.first)
		list(c, &v.known, func(w *wording) {
			hash := int64(w.hash)
			number(c, &hash)
			w.hash = uint64(hash)
			number(c, &w.first)
			number(c, &w.last)
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
	number(c, &p.since)
}

func (c *coder) scope(s *scope) {
	number(c, &s.key.view)
	for i := range s.key.ids {
		number(c, &s.key.ids[i])
	}
	number(c, &s.pool)
	number(c, &s.first)
	number(c, &s.last)
	c.float(&s.b)
	c.float32(&s.recent)
	c.bool(&s.watched)
}

func (c *coder) series(x *series) {
	number(c, &x.scope)
	number(c, &x.parent)
	number(c, &x.rule)
	number(c, &x.category)
	number(c, &x.flags)
	number(c, &x.waited)
	number(c, &x.last)
	c.float(&x.a, &x.b)
	c.float32(&x.v, &x.e, &x.monthA, &x.monthB)
	for i := range x.score {
		c.float32(&x.score[i])
	}
	number(c, &x.since)
	number(c, &x.pk)
	number(c, &x.pn)
	c.float32(&x.pv, &x.pe)
	number(c, &x.days)
	number(c, &x.windows)
	c.float32(&x.rk, &x.re)
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
		number(c, &g.key.rule)
		number(c, &g.key.category)
		number(c, &g.key.edge)
		for i := range g.key.ids {
			number(c, &g.key.ids[i])
		}
		number(c, &g.since)
		c.float(&g.k, &g.n, &g.e)
		c.float32(&g.latelyK, &g.latelyE)
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
	number(c, &f.first)
	number(c, &f.last)
	c.float(&f.a, &f.b, &f.v, &f.e, &f.score[0], &f.score[1], &f.score[2], &f.pk, &f.pb, &f.pv, &f.pe, &f.mean)
	number(c, &f.since)
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
	if c.reading && json.Unmarshal([]byte(said), &a.Alert) != nil {
		c.err = ErrState
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
	for _, v := range []*int32{&a.fired, &a.data, &a.ended, &a.changed, &a.calm} {
		number(c, v)
	}
	c.float(&a.told, &a.expected, &a.high, &a.low, &a.phi, &a.score, &a.calmK, &a.calmN)
	c.text((*string)(&a.fixed))
	for i := range a.past {
		c.float(&a.past[i])
	}
}

// sound reports whether all references lead to what is there.
func (d *Detector) sound(ruleTo, viewTo []int) bool {
	ok := true
	in := func(i int32, n int) { ok = ok && i >= 0 && int(i) < n }
	rule := func(ri uint8, c event.Category) {
		in(int32(ri), len(ruleTo))
		ok = ok && (c == event.Unset || c.String() != "")
	}
	for i := range d.pools {
		in(int32(d.pools[i].view), len(viewTo))
	}
	for i := range d.scopes {
		s := &d.scopes[i]
		in(int32(s.key.view), len(viewTo))
		in(s.pool, len(d.pools))
		for n, id := range s.key.ids {
			// Names that are no dimension of the view are zero.
			ok = ok && (id == 0 || int(id) < len(d.names[n].all))
			ok = ok && int(s.key.view) < len(viewTo)
			if ok && viewTo[s.key.view] >= 0 && d.views[viewTo[s.key.view]].mask>>n&1 != 0 {
				in(int32(id), len(d.names[n].all))
			}
		}
	}
	for i := range d.parents {
		rule(d.parents[i].key.rule, d.parents[i].key.category)
		in(d.parents[i].key.pool, len(d.pools))
	}
	at := func(p *place) {
		in(p.scope, len(d.scopes))
		rule(p.rule, p.category)
	}
	for i := range d.series {
		x := &d.series[i]
		at(&place{x.scope, x.rule, x.category})
		in(x.parent, len(d.parents))
	}
	for i := range d.flows {
		at(&d.flows[i].place)
	}
	for i := range d.meters {
		at(&d.meters[i].place)
		ok = ok && len(d.meters[i].minutes) > 0
	}
	for i := range d.watches {
		in(d.watches[i].series, len(d.series))
	}
	for i := range d.groups {
		k := &d.groups[i].key
		rule(k.rule, k.category)
		for n, id := range k.ids {
			ok = ok && (id == 0 && k.edge>>n&1 == 0 || int(id) < len(d.names[n].all))
		}
	}
	for _, a := range d.alerts {
		rule(a.rule, a.category)
		switch a.of {
		case ofSeries, ofTrend:
			in(a.place, len(d.series))
		case ofFlow:
			in(a.place, len(d.flows))
		case ofMeter:
			in(a.place, len(d.meters))
		case ofMany:
			for _, i := range a.members {
				in(i, len(d.series))
			}
			for n, id := range a.ids {
				ok = ok && (id == 0 || int(id) < len(d.names[n].all))
			}
		case ofWording:
		default:
			ok = false
		}
	}
	return ok
}
