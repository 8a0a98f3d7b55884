package spike

import (
	"cmp"
	"math"
	"slices"

	"github.com/bouncemeter/bouncemeter/event"
)

// When many series rise a little at the same time, what they have in common is
// to blame. Each of them tells by its recent failures how much better they fit
// twice the usual than the usual, as the logarithm of the odds, and that is added
// up. What one series can add is bounded, so neither a large series nor an
// incident of a single one decides for all. The bound only makes false alarms
// rarer: by chance the sum exceeds h with a probability of at most exp(-h), since
// the mean of each factor is at most 1.
const (
	// recently is the half-life in minutes of what is added up.
	recently = 7
	// forgetRecent is after how many minutes nothing is left of it.
	forgetRecent = 64
	// leastMany series have to rise.
	leastMany = 4
	// manyTimes is how many times the usual with its slack is tested for.
	manyTimes = 2
	// takesPart is how probable it is that a large series rises with the others, and
	// mostEvidence what one series can add.
	takesPart    = 0.7
	mostEvidence = 3
	// risingTimes is the multiple of the usual of a series that rises.
	risingTimes = 1.5
	// manyBack is the multiple of it that counts as usual again.
	manyBack = 1.3
	// manyFor is for how many series' worth of the budget of false alarms a group
	// stands. It is measured rather than derived: the bound is far from tight.
	manyFor = 150
	// sameEvidence is the part of a group's evidence that a narrower group must have
	// to be the better explanation.
	sameEvidence = 0.7
	// maxWait is for how many minutes a series that would fire alone waits while
	// others rise, too; latelyFade is what is left after a minute of the counts that
	// tell so.
	maxWait    = 5
	latelyFade = 0.8
	// maxPart bounds the part that one series has in whether an alert of many is
	// over.
	maxPart = 0.2
	// knownFor is for how many minutes a scope is only learned: what is usual is
	// first taken from others, for all alike.
	knownFor = 12 * 60
	// apart is by how many minutes an alert of one series must have begun earlier
	// to be none of the group's.
	apart = 30
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
func (d *Detector) keyOf(s *series, edge uint8) groupKey {
	k := groupKey{rule: s.rule, category: s.category, edge: edge, ids: d.scopes[s.scope].key.ids}
	for n := range k.ids {
		if edge>>n&1 == 0 {
			k.ids[n] = 0
		}
	}
	return k
}

// group is what is known of series that share something.
type group struct {
	first int32 // series of it, which tells the key
	edge  uint8
	// The undecided present, since the minute since in which more than usual began
	// to fail, or zero: k of n have failed where e were expected.
	since   int32
	k, n, e float32
	// Failures and those usual of the last minutes, fading.
	latelyK, latelyE float32

	// Of the minute being judged: its counts, what the series tell in sum, and how
	// many of them rise.
	nowK, nowN, nowE float32
	evidence         float32
	rising           int32
}

// evidence is what the series tells of a rise of many: the logarithm of the odds.
// A sum that fades varies half as much as its mean and counts twice. A large series
// takes part with a probability of takesPart, so that one which does not fail more
// cannot outweigh the others.
func (s *series) evidence(fade float32) float64 {
	x := 2 * float64(fade) * (float64(s.rc)*logManyTimes - alone(s.dispersion())*float64(s.re)*(slack*(manyTimes-1)))
	if s.re*fade > 1 {
		x = math.Log(1 - takesPart + takesPart*math.Exp(min(x, mostEvidence+1)))
	}
	return min(mostEvidence, x)
}

var logManyTimes = math.Log(manyTimes)

// key returns what the series of a group share.
func (d *Detector) key(g *group) groupKey { return d.keyOf(&d.series[g.first], g.edge) }

// memberOf makes the series at place i a member of its groups.
func (d *Detector) memberOf(i int32) {
	s := &d.series[i]
	s.groups = int32(len(d.memberships))
	for _, edge := range d.rules[s.rule].edges {
		k := d.keyOf(s, edge)
		gi, ok := d.findGroup(k)
		if !ok {
			gi = int32(len(d.groups))
			d.groups = appendTight(d.groups, group{first: i, edge: edge})
			d.groupOf.add(k.hash(), gi, func(i int32) uint64 {
				k := d.key(&d.groups[i])
				return k.hash()
			})
		}
		d.memberships = appendTight(d.memberships, gi)
	}
}

func (d *Detector) findGroup(k groupKey) (int32, bool) {
	return d.groupOf.find(k.hash(), func(i int32) bool { return d.key(&d.groups[i]) == k })
}

// groupsOf returns the numbers of the groups of a series.
func (d *Detector) groupsOf(s *series) []int32 {
	return d.memberships[s.groups:][:len(d.rules[s.rule].edges)]
}

// gather adds up what the series of each group have done recently. Those of an
// open alert of many are left out, and those whose own alert is an older story.
func (d *Detector) gather(m int32) {
	for i := range d.groups {
		g := &d.groups[i]
		g.nowK, g.nowN, g.nowE, g.evidence, g.rising = 0, 0, 0, 0, 0
	}
	for i := range d.scopes {
		s := &d.scopes[i]
		if m-s.last >= forgetRecent || m-s.first < knownFor {
			continue
		}
		fade := recentFades[m-s.last]
		for xi := s.head; xi >= 0; xi = d.series[xi].next {
			x := &d.series[xi]
			if x.flags&flagHeld != 0 || len(d.rules[x.rule].edges) == 0 || x.flags&flagAlert != 0 && d.older(m, xi) {
				continue
			}
			evidence, rising := float32(x.evidence(fade)), x.rising(fade)
			for _, gi := range d.groupsOf(x) {
				g := &d.groups[gi]
				g.evidence += evidence
				if rising {
					g.rising++
				}
				if s.stamp == m {
					g.nowK += float32(x.k)
					g.nowN += float32(s.n)
					g.nowE += x.now
				}
			}
		}
	}
}

// rising reports whether more than usual fails lately.
func (s *series) rising(fade float32) bool {
	return s.rk*fade >= 0.5 && s.rk >= risingTimes*s.re
}

// older reports whether the series has an alert that began long ago.
func (d *Detector) older(m, i int32) bool {
	a := d.alertOf(i)
	return a != nil && a.State.Open() && m-a.fired > apart
}

// judgeBreadth raises alerts for what many series share.
func (d *Detector) judgeBreadth(m int32) {
	d.gather(m)
	d.rejoin(m)
	var found []int32
	for i := range d.groups {
		g := &d.groups[i]
		g.latelyK = float32(g.latelyK*latelyFade) + g.nowK
		g.latelyE = float32(g.latelyE*latelyFade) + g.nowE
		if g.evidence <= 0 {
			g.since, g.k, g.n, g.e = 0, 0, 0, 0
			continue
		}
		if g.since == 0 {
			g.since = m
		}
		g.k += g.nowK
		g.n += g.nowN
		g.e += g.nowE
		if r := &d.rules[d.series[g.first].rule]; float64(g.evidence) > r.h-math.Log(manyFor) && g.rising >= leastMany && float64(g.k-g.e) >= r.Gates.MinExcess {
			found = append(found, int32(i))
		}
	}
	slices.SortFunc(found, func(a, b int32) int { return compareGroups(d.key(&d.groups[a]), d.key(&d.groups[b])) })
	for _, gi := range found {
		g := &d.groups[gi]
		k := d.key(g)
		members := d.seriesOf(m, k)
		if len(members) == 0 || d.manyOf(k) != nil || d.narrower(gi, members) {
			continue
		}
		d.fireMany(m, g, members)
	}
}

// seriesOf returns the series of a group that are active lately, but for those
// of another open alert of many and those with an older alert of their own.
func (d *Detector) seriesOf(m int32, k groupKey) (members []int32) {
	for i := range d.series {
		x := &d.series[i]
		s := &d.scopes[x.scope]
		if x.rule == k.rule && x.category == k.category && x.flags&flagHeld == 0 && m-s.last < forgetRecent &&
			shares(s.key.ids, k.ids, k.edge) && !d.older(m, int32(i)) {
			members = append(members, int32(i))
		}
	}
	return members
}

// narrower reports whether a group with more in common has nearly all of
// the evidence.
func (d *Detector) narrower(gi int32, members []int32) bool {
	g := &d.groups[gi]
	seen := make(map[int32]bool)
	for _, i := range members {
		x := &d.series[i]
		for n, oi := range d.groupsOf(x) {
			edge := d.rules[x.rule].edges[n]
			if oi == gi || seen[oi] || g.edge&^edge != 0 {
				continue
			}
			seen[oi] = true
			o := &d.groups[oi]
			if o.rising >= leastMany && o.evidence >= sameEvidence*g.evidence {
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

func (d *Detector) fireMany(m int32, g *group, members []int32) {
	key := d.key(g)
	labels := make(map[Dimension]string)
	for i, dim := range nameDimensions {
		if key.edge>>i&1 != 0 {
			labels[dim] = d.names[i].all[key.ids[i]]
		}
	}
	if d.rules[key.rule].byCategory {
		labels[Category] = key.category.String()
	}
	a := d.begin(m, g.since, key.rule, key.category, labels, Breadth)
	a.of, a.place, a.edge, a.ids = ofMany, -1, key.edge, key.ids
	a.Failures, a.Attempts, a.expected = int64(g.k), int64(g.n), float64(g.e)
	a.phi, a.Dispersion = d.dispersion(members), d.dispersion(members)
	a.Usual = a.expected / float64(g.n)
	a.Null = min(a.Usual*slack, maxNull)
	a.Score, a.Threshold = float64(g.evidence), d.rules[key.rule].h-math.Log(manyFor)
	// The reverse test is in multiples of what is usual. What is measured when it
	// fires is more than is true on average.
	a.low = manyBack
	a.high = max(math.Sqrt(a.low*float64(g.k)/a.expected), 1.5*a.low)
	a.Active = d.activeIn(m, key)
	a.Cold = d.coldMost(m, members)
	a.measure()
	g.since, g.k, g.n, g.e = 0, 0, 0, 0
	d.join(m, a, members)
	d.measureMany(m, a)
	d.describe(m, a, a.members)
	d.tell(m, a)
}

// dispersion is that of several series together.
func (d *Detector) dispersion(members []int32) float64 {
	v, e := dispersionV, float64(dispersionE)
	for _, i := range members {
		v += float64(d.series[i].v)
		e += float64(d.series[i].e)
	}
	return max(1, v/e)
}

// coldMost reports whether most series are known for less than a day.
func (d *Detector) coldMost(m int32, members []int32) bool {
	n := 0
	for _, i := range members {
		if m-d.scopes[d.series[i].scope].first < coldFor {
			n++
		}
	}
	return 2*n > len(members)
}

// join makes series members of an open alert of many. Alerts that they have
// themselves are inhibited.
func (d *Detector) join(m int32, a *alert, members []int32) {
	for _, i := range members {
		s := &d.series[i]
		s.flags |= flagHeld
		if a.State == Firing {
			s.flags |= flagFrozen
		}
		a.members = append(a.members, i)
		if own := d.alertOf(i); own != nil && own.State.Open() && !own.Inhibited {
			own.Incident, own.Inhibited = a.ID, true
			d.tell(m, own)
		}
	}
	slices.Sort(a.members)
}

// rejoin makes series that have become active members of the open alerts of
// their groups.
func (d *Detector) rejoin(m int32) {
	for _, a := range d.alerts {
		if a.of == ofMany && a.State.Open() {
			if members := d.seriesOf(m, groupKey{a.rule, a.category, a.edge, a.ids}); len(members) > 0 {
				d.join(m, a, members)
			}
		}
	}
}

// measureMany counts the members that rise, and names those with the largest
// excess.
func (d *Detector) measureMany(m int32, a *alert) {
	a.Members = 0
	for _, i := range a.members {
		x := &d.series[i]
		if ago := m - d.scopes[x.scope].last; ago < forgetRecent && x.rising(recentFades[ago]) {
			a.Members++
		}
	}
	a.Active = max(a.Active, a.Members)
	a.Top = d.topOf(m, a)
}

// topOf names the members with most failures beyond the usual.
func (d *Detector) topOf(m int32, a *alert) (top []string) {
	type member struct {
		name   string
		excess float32
	}
	all := make([]member, 0, len(a.members))
	for _, i := range a.members {
		s := &d.series[i]
		ago := m - d.scopes[s.scope].last
		if ago >= forgetRecent || s.rk <= s.re {
			continue
		}
		x := member{excess: (s.rk - s.re) * recentFades[ago]}
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
// seem to rise as well, but not yet enough for an alert of many.
func (d *Detector) spreading(s *series, x *excursion) bool {
	p := d.baseline(s).p
	for _, gi := range d.groupsOf(s) {
		g := &d.groups[gi]
		k, e := float64(g.latelyK)-float64(x.k), float64(g.latelyE)-float64(float64(x.n)*p)
		if g.rising >= leastMany-1 && k >= 3 && k > risingTimes*e && k-e > 2*math.Sqrt(max(e, 0)) {
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

// thaw lets a series learn again.
func (d *Detector) thaw(i int32) {
	s := &d.series[i]
	if s.flags &^= flagFrozen; s.flags&flagFiring == 0 {
		d.clear(s)
	}
}

// disband lets the members go at the end of their alert. Alerts of their own
// end with it, and come back for themselves where things go on.
func (d *Detector) disband(m int32, a *alert) {
	for _, i := range a.members {
		s := &d.series[i]
		d.thaw(i)
		s.flags &^= flagHeld
		s.rk, s.rc, s.re = 0, 0, 0 // what was is told
		own := d.alertOf(i)
		if own == nil || own.Incident != a.ID || !own.State.Open() {
			continue
		}
		// One that is not over will fire again before long.
		d.release(m, own, true)
		d.end(m, own, "over with "+a.ID)
	}
}

// advanceBreadth leads an alert of many on by a minute. What a member tells of
// its end is bounded, so that the largest does not decide for all.
func (d *Detector) advanceBreadth(m int32, a *alert) {
	var total float64
	busy := false
	for _, i := range a.members {
		sc := &d.scopes[d.series[i].scope]
		total += float64(sc.b)
		busy = busy || sc.active(a.data)
	}
	var k, n, e, weighedK, weighedE float64
	for _, i := range a.members {
		s := &d.series[i]
		sc := &d.scopes[s.scope]
		if sc.stamp != m {
			continue
		}
		ki, ni := float64(s.k), float64(sc.n)
		if d.rules[s.rule].foreign {
			ni += ki
		}
		w := min(1, maxPart*total/max(float64(sc.b), 1))
		ki = min(ki, ni)
		k += ki
		n += ni
		e += float64(s.now)
		weighedK += float64(w * ki)
		weighedE += float64(w * float64(s.now))
	}
	if n == 0 {
		d.starve(m, a, busy)
		return
	}
	d.feed(m, a)
	a.Failures += int64(k)
	a.Attempts += int64(n)
	a.expected += e
	a.Usual = a.expected / float64(a.Attempts)
	a.measure()
	gain := (weighedE*(a.high-a.low) - weighedK*math.Log(a.high/a.low)) / a.phi
	if a.reverse(m, weighedK, weighedE, gain) {
		if level := a.calmK / a.calmN; level > 2*a.low && a.calmK >= 3 {
			// Not as bad as it was, but far from usual.
			a.high = max(level, 1.5*a.low)
			a.restart(m + 1)
		} else if m-a.fired >= quiet && m-a.calm >= a.hold()-1 {
			d.release(m, a, true)
			d.end(m, a, "back to usual")
			return
		}
	}
	d.age(m, a)
}
