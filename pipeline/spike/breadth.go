package spike

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/bouncemeter/bouncemeter/event"
)

// When many series rise a little at the same time, what they have in common is
// to blame. Counting series, instead of testing their sum, keeps the largest of
// them from deciding for all.
const (
	// leastMany series have to rise, and manyShare of those that could.
	leastMany = 4
	manyShare = 0.12
	// sameMembers is the part of a group's members that a narrower group must hold
	// to be the better explanation.
	sameMembers = 0.8
	// maxWait is for how many minutes a series that would fire alone waits while
	// others rise, too.
	maxWait = 3
	// manyTimes is the least multiple of the usual ratio of a group.
	manyTimes = 1.5
)

// groupKey is what a group of series shares: a rule, or one of its categories,
// and the names of the dimensions in edge.
type groupKey struct {
	rule     uint8
	category event.Category
	edge     uint8
	ids      [nameKinds]uint32
}

func compareGroups(a, b groupKey) int {
	return cmp.Or(cmp.Compare(a.rule, b.rule), cmp.Compare(a.category, b.category), cmp.Compare(ones(a.edge), ones(b.edge)),
		cmp.Compare(a.edge, b.edge), slices.Compare(a.ids[:], b.ids[:]))
}

// keyOf returns the group of a series for an edge.
func (d *Detector) keyOf(i int32, edge uint8) groupKey {
	s := &d.series[i]
	k := groupKey{rule: s.rule, category: s.category, edge: edge, ids: d.scopes[s.scope].key.ids}
	for n := range k.ids {
		if edge>>n&1 == 0 {
			k.ids[n] = 0
		}
	}
	return k
}

// rising reports whether the series counts for what many share: it has evidence
// of a rise, or an alert of its own and none yet of its end.
func (d *Detector) rising(i int32) bool {
	s := &d.series[i]
	if s.flags&flagFiring == 0 {
		return s.top() > raisedAbove
	}
	a := d.alertOf(i)
	return a != nil && a.State == Firing && a.score == 0
}

// judgeBreadth raises alerts for what many series share.
func (d *Detector) judgeBreadth(m int32) {
	d.raised = slices.DeleteFunc(d.raised, func(i int32) bool {
		if d.rising(i) {
			return false
		}
		d.series[i].flags &^= flagRaised
		return true
	})
	slices.Sort(d.raised)
	groups := d.groups(func(i int32) bool { return d.series[i].flags&flagHeld == 0 })
	for _, k := range slices.SortedFunc(maps.Keys(groups), compareGroups) {
		members := slices.DeleteFunc(groups[k], func(i int32) bool { return d.series[i].flags&flagHeld != 0 })
		if a := d.manyOf(k); a != nil {
			d.join(m, a, members)
			continue
		}
		active := d.activeIn(m, k)
		if len(members) < max(leastMany, int(math.Ceil(manyShare*float64(active)))) || d.narrower(groups, k, members) {
			continue
		}
		d.fireMany(m, k, members, active)
	}
}

// groups sorts the series that rise into the groups that they belong to.
func (d *Detector) groups(include func(int32) bool) map[groupKey][]int32 {
	groups := make(map[groupKey][]int32)
	for _, i := range d.raised {
		if !include(i) {
			continue
		}
		for _, edge := range d.rules[d.series[i].rule].edges {
			k := d.keyOf(i, edge)
			groups[k] = append(groups[k], i)
		}
	}
	return groups
}

// narrower reports whether a group with more in common holds nearly all members.
func (d *Detector) narrower(groups map[groupKey][]int32, k groupKey, members []int32) bool {
	for _, edge := range d.rules[k.rule].edges {
		if edge == k.edge || k.edge&^edge != 0 {
			continue
		}
		for _, i := range members {
			if n := len(groups[d.keyOf(i, edge)]); n >= leastMany && float64(n) >= sameMembers*float64(len(members)) {
				return true
			}
		}
	}
	return false
}

// activeIn is how many scopes of a group could show a rise.
func (d *Detector) activeIn(m int32, k groupKey) (n int) {
	for i := range d.scopes {
		s := &d.scopes[i]
		if int(s.key.view) == d.rules[k.rule].view && shares(s.key.ids, k.ids, k.edge) && s.active(m) {
			n++
		}
	}
	return n
}

// manyOf returns the open alert of a group, or of one that it is part of.
func (d *Detector) manyOf(k groupKey) *alert {
	for _, a := range d.alerts {
		if a.of == ofMany && a.State.Open() && a.rule == k.rule && a.category == k.category &&
			a.edge&^k.edge == 0 && shares(a.ids, k.ids, a.edge) {
			return a
		}
	}
	return nil
}

func (d *Detector) fireMany(m int32, k groupKey, members []int32, active int) {
	var failures, attempts, usual, upper, phi, score float64
	var begun []beginning
	for _, i := range members {
		s := &d.series[i]
		b := d.baseline(s)
		kf, nf, from, top := float64(s.pk), float64(s.pn), s.since, s.top()
		if a := d.alertOf(i); a != nil && s.flags&flagFiring != 0 {
			kf, nf, from, top = float64(a.Failures), float64(a.Attempts), int32(a.Since.Unix()/60), a.Score
		}
		failures += kf
		attempts += nf
		usual += nf * b.p
		upper += nf * b.u
		phi = max(phi, b.phi)
		score += top
		begun = append(begun, beginning{from, max(0, kf-float64(nf*b.p))})
	}
	if attempts == 0 || failures < manyTimes*usual || failures-usual < d.rules[k.rule].Gates.MinExcess {
		return
	}
	labels := make(map[Dimension]string)
	for i, dim := range nameDimensions {
		if k.edge>>i&1 != 0 {
			labels[dim] = d.names[i].all[k.ids[i]]
		}
	}
	if d.rules[k.rule].byCategory {
		labels[Category] = k.category.String()
	}
	a := d.begin(m, median(begun), k.rule, k.category, labels, Breadth)
	a.of, a.place, a.edge, a.ids = ofMany, -1, k.edge, k.ids
	a.Failures, a.Attempts, a.expected = int64(failures), int64(attempts), usual
	a.Usual, a.Null, a.Dispersion = usual/attempts, upper/attempts, phi
	a.Score, a.Threshold = score, raisedAbove*float64(len(members))
	a.low, a.phi = backTo*a.Null, phi
	a.high = min(max(failures/attempts, 1.5*a.low), 1-(1-a.low)/3)
	a.Active = active
	a.measure()
	d.join(m, a, members)
	a.Top = d.topOf(a)
	d.describe(m, a, a.members)
	d.tell(m, a)
}

// beginning is when a member began to rise, and by how much it did.
type beginning struct {
	minute int32
	excess float64
}

// median returns the minute by which half of the excess had begun, since single
// members may have had some evidence by chance long before.
func median(all []beginning) int32 {
	slices.SortFunc(all, func(a, b beginning) int {
		return cmp.Or(cmp.Compare(a.minute, b.minute), cmp.Compare(a.excess, b.excess))
	})
	var sum, half float64
	for _, b := range all {
		half += b.excess / 2
	}
	for _, b := range all {
		if sum += b.excess; sum >= half {
			return b.minute
		}
	}
	return all[len(all)-1].minute
}

// join makes series members of an open alert of many. Alerts that they have
// themselves are inhibited.
func (d *Detector) join(m int32, a *alert, members []int32) {
	for _, i := range members {
		s := &d.series[i]
		s.flags |= flagHeld
		a.members = append(a.members, i)
		if own := d.alertOf(i); own != nil && own.State.Open() && !own.Inhibited {
			own.Incident, own.Inhibited = a.ID, true
			d.tell(m, own)
		}
	}
	slices.Sort(a.members)
	a.Members = len(a.members)
	a.Active = max(a.Active, a.Members)
}

// topOf names the members with most failures beyond the usual.
func (d *Detector) topOf(a *alert) (top []string) {
	type member struct {
		name   string
		excess float64
	}
	all := make([]member, 0, len(a.members))
	for _, i := range a.members {
		s := &d.series[i]
		x := member{excess: float64(s.pk) - float64(float64(s.pn)*d.baseline(s).p)}
		if own := d.alertOf(i); own != nil && own.State.Open() {
			x.excess = own.Excess
		}
		ids := d.scopes[s.scope].key.ids
		for n := range nameDimensions {
			if mask := d.views[d.rules[a.rule].view].mask &^ a.edge; mask>>n&1 != 0 {
				if x.name != "" {
					x.name += " at "
				}
				x.name += d.names[n].all[ids[n]]
			}
		}
		all = append(all, x)
	}
	slices.SortStableFunc(all, func(a, b member) int {
		return cmp.Or(cmp.Compare(b.excess, a.excess), cmp.Compare(a.name, b.name))
	})
	for _, x := range all[:min(len(all), 5)] {
		top = append(top, x.name)
	}
	return top
}

// spreading reports whether others that have something in common with a series
// rise as well, but not yet enough of them for an alert of their own.
func (d *Detector) spreading(i int32) bool {
	for _, edge := range d.rules[d.series[i].rule].edges {
		k := d.keyOf(i, edge)
		n := 0
		for _, o := range d.raised {
			if d.series[o].rule == k.rule && d.series[o].category == k.category && d.keyOf(o, edge) == k {
				n++
			}
		}
		if n >= leastMany-1 {
			return true
		}
	}
	return false
}

// adopt inhibits a new alert of a series if an open one explains it.
func (d *Detector) adopt(a *alert) {
	a.Incident, a.Inhibited = a.ID, false
	for _, many := range d.alerts {
		if many.of == ofMany && many.State.Open() && slices.Contains(many.members, a.place) {
			a.Incident, a.Inhibited = many.ID, true
			return
		}
	}
}

// disband lets the members go at the end of their alert. Alerts of their own
// end with it where things look usual again, and stand for themselves where they
// do not.
func (d *Detector) disband(m int32, a *alert) {
	for _, i := range a.members {
		s := &d.series[i]
		s.flags &^= flagHeld
		if s.flags&flagFiring == 0 {
			s.clear()
		}
		own := d.alertOf(i)
		if own == nil || own.Incident != a.ID || !own.State.Open() {
			continue
		}
		if !d.rising(i) && own.State != Persisting {
			d.release(m, own, true)
			d.end(m, own, "over with "+a.ID)
			continue
		}
		own.Incident, own.Inhibited = own.ID, false
		d.tell(m, own)
	}
}

// lasting reports whether so many members still rise that the alert is not over,
// whatever the largest of them do.
func (d *Detector) lasting(a *alert) bool {
	n := 0
	for _, i := range a.members {
		if d.rising(i) {
			n++
		}
	}
	return n >= leastMany && float64(n) >= manyShare*float64(a.Active)
}

// advanceBreadth leads an alert of many on by a minute.
func (d *Detector) advanceBreadth(m int32, a *alert) {
	var k, n float64
	busy := false
	for _, i := range a.members {
		s := &d.series[i]
		sc := &d.scopes[s.scope]
		busy = busy || sc.active(a.data)
		if sc.stamp != m {
			continue
		}
		ki, ni := float64(s.k), float64(sc.n)
		if d.rules[s.rule].foreign {
			ni += ki
		}
		k += min(ki, ni)
		n += ni
	}
	if n == 0 {
		d.starve(m, a, busy)
		return
	}
	d.feed(m, a)
	a.Failures += int64(k)
	a.Attempts += int64(n)
	a.expected += float64(n * a.Usual)
	a.measure()
	gain := k*math.Log(a.low/a.high) + (n-k)*math.Log((1-a.low)/(1-a.high))
	if a.reverse(m, k, n, gain) && m-a.fired >= quiet && m-a.calm >= a.hold()-1 && !d.lasting(a) {
		d.release(m, a, true)
		d.end(m, a, "back to usual")
		return
	}
	d.age(m, a)
}
