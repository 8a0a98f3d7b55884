package spike

import (
	"cmp"
	"slices"
)

const (
	// forgetAfter is for how many minutes of silence a scope is remembered: its
	// past weighs next to nothing then.
	forgetAfter = 45 * 1440
	// keptShare of MaxSeries is what is kept when there are too many.
	keptShare = 0.9
)

// forget drops scopes that nothing has been heard of for weeks, and the least
// recently active ones if there are too many. What has an alert stays.
func (d *Detector) forget(m int32) {
	size := len(d.scopes) + len(d.series) + len(d.flows) + len(d.meters)
	if size <= d.maxSeries && m%1440 != 0 {
		return
	}
	weights := make([]int, len(d.scopes))
	kept := make([]bool, len(d.scopes))
	for i := range weights {
		weights[i] = 1
	}
	for i := range d.series {
		x := &d.series[i]
		weights[x.scope]++
		if x.flags&(flagAlert|flagTrend) != 0 {
			kept[x.scope] = true
		}
	}
	for i := range d.flows {
		weights[d.flows[i].scope]++
		kept[d.flows[i].scope] = kept[d.flows[i].scope] || d.flows[i].firing
	}
	for i := range d.meters {
		weights[d.meters[i].scope]++
		kept[d.meters[i].scope] = kept[d.meters[i].scope] || d.meters[i].firing
	}
	order := make([]int32, len(d.scopes))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(d.scopes[a].last, d.scopes[b].last), cmp.Compare(a, b))
	})
	gone := make(map[int32]bool)
	room := size
	if size > d.maxSeries {
		room = int(keptShare * float64(d.maxSeries))
	}
	for _, i := range order {
		old := m-d.scopes[i].last > forgetAfter
		if !old && size <= room {
			break
		}
		if kept[i] {
			continue
		}
		gone[i] = true
		size -= weights[i]
		if !old {
			d.evicted++
		}
	}
	if len(gone) == 0 {
		return
	}
	d.rebuild(identity(len(d.rules)), identity(len(d.views)), func(i int32) bool { return !gone[i] })
}

func identity(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// rebuild makes the detector anew of those of its scopes that keep wants, and of
// the rules and views that have a new number. Names that are not used any more
// are gone, and all numbers are in the order of scopes.
func (d *Detector) rebuild(ruleTo, viewTo []int, keep func(int32) bool) {
	old := *d
	d.names = [nameKinds]names{}
	d.scopes, d.pools, d.series, d.parents, d.flows, d.meters, d.watches, d.alerts = nil, nil, nil, nil, nil, nil, nil, nil
	d.excursions, d.free, d.groups, d.memberships, d.groupOf, d.byKey = nil, nil, nil, nil, index{}, index{}
	d.inPool, d.parentOf, d.places = make(map[scopeKey]int32), make(map[parentKey]int32), make(map[place]int32)

	none := func(n int) []int32 {
		all := make([]int32, n)
		for i := range all {
			all[i] = -1
		}
		return all
	}
	scopeTo, seriesTo, flowTo, meterTo := none(len(old.scopes)), none(len(old.series)), none(len(old.flows)), none(len(old.meters))
	for i := range old.scopes {
		s := old.scopes[i]
		if viewTo[s.key.view] < 0 || !keep(int32(i)) {
			continue
		}
		was := old.pools[s.pool]
		s.key.view = uint32(viewTo[s.key.view])
		for n := range s.key.ids {
			if d.views[s.key.view].mask>>n&1 != 0 {
				s.key.ids[n] = d.names[n].add(old.names[n].all[s.key.ids[n]])
			}
		}
		scopeTo[i] = d.insertScope(s)
		p := &d.pools[d.scopes[scopeTo[i]].pool]
		p.sum, p.capped, p.scopes = was.sum, was.capped, was.scopes
	}
	moved := func(p *place) bool {
		if ruleTo[p.rule] < 0 || scopeTo[p.scope] < 0 {
			return false
		}
		p.scope, p.rule = scopeTo[p.scope], uint8(ruleTo[p.rule])
		return true
	}
	for i := range old.series {
		x := old.series[i]
		p := place{x.scope, x.rule, x.category}
		if !moved(&p) {
			continue
		}
		was := &old.parents[x.parent]
		x.scope, x.rule, x.k = p.scope, p.rule, 0
		if x.excursion != 0 {
			d.excur(&x, old.excursions[x.excursion-1])
		}
		seriesTo[i] = int32(len(d.series))
		d.insertSeries(x)
		now := &d.parents[d.series[seriesTo[i]].parent]
		now.q, now.a = was.q, was.a
	}
	for i := range old.flows {
		if f := old.flows[i]; moved(&f.place) {
			flowTo[i] = int32(len(d.flows))
			d.insertFlow(f)
		}
	}
	for i := range old.meters {
		if t := old.meters[i]; moved(&t.place) {
			meterTo[i] = int32(len(d.meters))
			d.insertMeter(t)
		}
	}
	for _, w := range old.watches {
		if w.series = seriesTo[w.series]; w.series >= 0 {
			d.watches = append(d.watches, w)
		}
	}
	for i := range old.groups {
		g := &old.groups[i]
		k := old.key(g)
		if ruleTo[k.rule] < 0 {
			continue
		}
		k.rule = uint8(ruleTo[k.rule])
		known := true
		for n := range k.ids {
			if k.edge>>n&1 != 0 && known {
				k.ids[n], known = d.names[n].find(old.names[n].all[k.ids[n]])
			}
		}
		if gi, ok := d.findGroup(k); ok && known {
			now := &d.groups[gi]
			now.since, now.k, now.n, now.e, now.latelyK, now.latelyE = g.since, g.k, g.n, g.e, g.latelyK, g.latelyE
		}
	}
	for _, a := range old.alerts {
		if d.rehouse(a, &old, ruleTo, seriesTo, flowTo, meterTo) {
			d.alerts = append(d.alerts, a)
			continue
		}
		for _, i := range a.members {
			if seriesTo[i] >= 0 {
				d.series[seriesTo[i]].flags &^= flagHeld | flagFrozen
			}
		}
		if a.State.Open() {
			a.State, a.Ending, a.Resolved, a.Updated = Resolved, "its rule was changed or removed", at(d.next), at(d.next)
			d.farewells = append(d.farewells, Change{Time: int64(d.next) * 60, Alert: a.copy()})
		}
	}
}

// rehouse gives an alert the new numbers. It reports false if what the alert is
// of is gone.
func (d *Detector) rehouse(a *alert, old *Detector, ruleTo []int, seriesTo, flowTo, meterTo []int32) bool {
	if ruleTo[a.rule] < 0 {
		return false
	}
	a.rule = uint8(ruleTo[a.rule])
	switch a.of {
	case ofSeries, ofTrend:
		a.place = seriesTo[a.place]
		return a.place >= 0
	case ofFlow:
		a.place = flowTo[a.place]
		return a.place >= 0
	case ofMeter:
		a.place = meterTo[a.place]
		return a.place >= 0
	case ofMany:
		for n := range a.ids {
			if a.edge>>n&1 != 0 {
				a.ids[n] = d.names[n].add(old.names[n].all[a.ids[n]])
			}
		}
		var members []int32
		for _, i := range a.members {
			if seriesTo[i] >= 0 {
				members = append(members, seriesTo[i])
			}
		}
		slices.Sort(members)
		a.members = members
		return len(members) > 0
	}
	return true
}
