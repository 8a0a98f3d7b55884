package spike

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

// Config says what a Detector watches and how much memory it may use.
type Config struct {
	// Rules are checked by Validate. None means DefaultRules.
	Rules []Rule
	// MaxSeries bounds the series; the least recently active are forgotten when
	// there are more, and counted. Zero means 200,000, some 25 MB.
	MaxSeries int
	// Location is used for the times of day in texts, and for the hours of the
	// week that rules of the kinds silence, drop and surge compare. Nil is UTC.
	Location *time.Location
}

// Row is how often something happened in one minute: ledger.Window without the
// time. Unknown outcomes and categories are ignored.
type Row struct {
	Source, Outcome, Category, Provider, SenderDomain, Host, Stream string
	// Firsts counts recipients for whom this was the first outcome. Retries are
	// left out, as they tell nothing new and come in clumps.
	Firsts int64
}

// Stats tells what a Detector holds.
type Stats struct {
	Series, Scopes, Open int
	// Evicted is how many scopes were forgotten for Config.MaxSeries.
	Evicted int64
	// Ignored is how many windows came again or too late to be judged.
	Ignored int64
}

// Detector judges closed minutes. It is used by one goroutine.
type Detector struct {
	rules     []rule
	views     []view
	maxSeries int
	location  *time.Location

	next    int32 // the minute after the last one judged; 0 before the first
	evicted int64
	ignored int64

	names  [nameKinds]names
	scopes []scope
	byKey  index
	pools  []pool // what the scopes of a view have in common: their domains left out
	inPool map[scopeKey]int32

	series     []series
	excursions []excursion
	free       []int32 // places plus 1 of excursions that are over
	parents    []parent
	parentOf   map[parentKey]int32
	groups     []group
	groupOf    index
	// memberships are the groups of each series, from series.groups on.
	memberships []int32
	flows       []flow
	meters      []meter
	places      map[place]int32 // of flows and meters
	watches     []watch
	alerts      []*alert // open ones, and for a while those that ended, in order of firing
	wordings    wordings

	// Of the minute being judged.
	changes    []Change
	farewells  []Change // ends of alerts whose rules are gone, not told yet
	rowScopes  []int32  // of each row and view
	found      []int32
	touched    []int32 // series with failures
	candidates []int32 // series that would fire alone
}

// What names stand for, in the order of ids in a scopeKey.
const (
	ofProvider = iota
	ofDomain
	ofSource
	ofHost
	ofStream
	nameKinds
)

var nameDimensions = [nameKinds]Dimension{Provider, SenderDomain, Source, Host, Stream}

// name returns the row's name of kind i.
func (r *Row) name(i int) string {
	switch i {
	case ofProvider:
		return r.Provider
	case ofDomain:
		return r.SenderDomain
	case ofSource:
		return r.Source
	case ofHost:
		return r.Host
	}
	return r.Stream
}

// names numbers the names of one dimension. Numbers follow from the minutes
// judged alone: new names of one minute are numbered in their own order.
type names struct {
	all []string
	ids map[string]uint32
	// last is the name that was looked up last, since rows come sorted.
	last   string
	lastID uint32
}

func (n *names) find(s string) (uint32, bool) {
	if s == n.last && len(n.all) > 0 {
		return n.lastID, true
	}
	i, ok := n.ids[s]
	if ok {
		n.last, n.lastID = s, i
	}
	return i, ok
}

func (n *names) add(s string) uint32 {
	if i, ok := n.find(s); ok {
		return i
	}
	if n.ids == nil {
		n.ids = make(map[string]uint32)
	}
	i := uint32(len(n.all))
	n.all = append(n.all, s)
	n.ids[s] = i
	n.last, n.lastID = s, i
	return i
}

// rule is a Rule made ready.
type rule struct {
	Rule
	fingerprint string // of all that the state of its series depends on
	view        int
	byCategory  bool
	// foreign is true if what it counts are no attempts.
	foreign bool
	h       float64 // the score it fires above
	only    event.Category
	edges   []uint8 // sets of dimensions that series may share, the smaller first
	profile profile
}

// view is a set of dimensions by which attempts are summed, and which of them
// are looked at. Rules with the same view share their scopes.
type view struct {
	key    string
	mask   uint8 // of name kinds
	filter [nameKinds][]string
	// match lists the rules that count an outcome and category.
	match [len(event.Outcomes) + 2][64][]uint8
	flows bool
}

// scopeKey is a view and the names of its dimensions; others are zero.
type scopeKey struct {
	view uint32
	ids  [nameKinds]uint32
}

// scope is what attempts are summed over in one view: the denominator that its
// series share.
type scope struct {
	key    scopeKey
	head   int32   // first series, or -1
	pool   int32   // what it has in common with others
	first  int32   // minute of the first attempt
	last   int32   // minute of the last attempt
	stamp  int32   // minute that n is of
	n      uint32  // attempts in that minute
	b      float32 // attempts, decayed as the baseline's
	recent float32 // attempts, decayed with a half-life of half an hour
	watch  int32   // the first watch of its series in this minute: its place plus 1, or zero
}

// fresh is a row that needs a scope or series which does not exist yet.
type fresh struct {
	view uint32
	row  int32
}

// New returns a detector that knows nothing yet.
func New(c Config) (*Detector, error) {
	if len(c.Rules) == 0 {
		c.Rules = DefaultRules()
	}
	if err := Validate(c.Rules); err != nil {
		return nil, fmt.Errorf("alert rules: %w", err)
	}
	if c.MaxSeries <= 0 {
		c.MaxSeries = 200_000
	}
	if c.Location == nil {
		c.Location = time.UTC
	}
	d := &Detector{
		maxSeries: c.MaxSeries, location: c.Location,
		inPool: make(map[scopeKey]int32), parentOf: make(map[parentKey]int32), places: make(map[place]int32),
	}
	for _, r := range c.Rules {
		d.compile(r.withDefaults())
	}
	return d, nil
}

// compile adds r to the rules and to the view that it looks through.
func (d *Detector) compile(r Rule) {
	c := rule{Rule: r, byCategory: slices.Contains(r.By, Category)}
	// The bound of Lorden: a false alarm every e^h windows at most; three
	// alternatives are tried at once.
	c.h = math.Log(1000*1440/r.Budget) + math.Log(3)
	if r.Kind == Ratio {
		c.h -= math.Log(loose)
	}

	v := view{filter: [nameKinds][]string{ofProvider: r.Match.Providers, ofDomain: r.Match.SenderDomains, ofSource: r.Match.Sources, ofHost: r.Match.Hosts}}
	for i, dim := range nameDimensions {
		if slices.Contains(r.By, dim) {
			v.mask |= 1 << i
		}
	}
	v.flows = r.Kind == Silence || r.Kind == Drop || r.Kind == Surge
	v.key = fmt.Sprintf("%05b %q %v", v.mask, v.filter, v.flows)
	c.fingerprint = fmt.Sprintf("%s %s %v %q %v %v", r.Name, r.Kind, c.byCategory, r.Match, v.key, r.Threshold.Over)

	outcomes := make(map[event.Outcome]bool)
	for _, name := range r.Match.Outcomes {
		o, _ := event.OutcomeByName(name)
		outcomes[o] = true
	}
	anyCategory := len(r.Match.Categories) == 0 && len(r.Match.Groups) == 0
	if len(outcomes) == 0 {
		outcomes[event.Deferred], outcomes[event.Bounced] = true, true
		outcomes[event.Delivered] = v.flows && anyCategory
	}
	index := uint8(len(d.rules))
	c.view = slices.IndexFunc(d.views, func(o view) bool { return o.key == v.key })
	if c.view < 0 {
		c.view = len(d.views)
		d.views = append(d.views, v)
	}
	w := &d.views[c.view]
	matched := 0
	for _, cat := range append([]event.Category{event.Unset}, event.Categories()...) {
		if !anyCategory && !slices.Contains(r.Match.Categories, cat.String()) && !slices.Contains(r.Match.Groups, cat.Info().Group) {
			continue
		}
		matched++
		c.only = cat
		for _, o := range event.Outcomes {
			if outcomes[o] && r.Kind != Template {
				w.match[o][cat] = append(w.match[o][cat], index)
				c.foreign = c.foreign || !isAttempt(o)
			}
		}
	}
	if matched != 1 {
		c.only = event.Unset
	}
	if r.Kind == Ratio && !r.NoBreadth && v.mask != 0 {
		for sub := uint8(0); sub < v.mask; sub++ {
			if sub&^v.mask == 0 {
				c.edges = append(c.edges, sub)
			}
		}
		slices.SortStableFunc(c.edges, func(a, b uint8) int { return cmp.Compare(ones(a), ones(b)) })
	}
	d.rules = append(d.rules, c)
}

func ones(mask uint8) (n int) {
	for ; mask != 0; mask &= mask - 1 {
		n++
	}
	return n
}

// isAttempt reports whether o counts as an attempt: what ratios are of.
func isAttempt(o event.Outcome) bool {
	return o == event.Delivered || o == event.Deferred || o == event.Bounced
}

// Stats tells what the detector holds.
func (d *Detector) Stats() Stats {
	s := Stats{Series: len(d.series) + len(d.flows) + len(d.meters), Scopes: len(d.scopes), Evicted: d.evicted, Ignored: d.ignored}
	for _, a := range d.alerts {
		if a.State.Open() {
			s.Open++
		}
	}
	return s
}

// Position is the event time, in Unix seconds, before which all windows have
// been judged; zero before the first.
func (d *Detector) Position() int64 { return int64(d.next) * 60 }

// Open returns the alerts that are not over, in order of firing.
func (d *Detector) Open() []Alert {
	var all []Alert
	for _, a := range d.alerts {
		if a.State.Open() {
			all = append(all, a.copy())
		}
	}
	return all
}

// maxGap is how many minutes without a call are judged as empty, one by one. A
// longer gap is skipped: nothing is known about it.
const maxGap = 7 * 1440

// maxMinute is the last minute that can be judged, in the year 6053.
const maxMinute = math.MaxInt32 - 2*maxGap

// Window judges the closed minute that begins at start, in Unix seconds: rows
// are all its counts, in any order. It returns what changed, in a fixed order.
//
// Minutes must come in order of time. Those left out are taken to be empty. A
// minute that was judged before changes nothing and is counted as ignored, so
// repeating the last call after a crash does no harm.
func (d *Detector) Window(start int64, rows []Row) []Change {
	m := start / 60
	if start%60 != 0 || m <= 0 || m > maxMinute || int32(m) < d.next {
		d.ignored++
		return nil
	}
	d.changes, d.farewells = d.farewells, nil
	minute := int32(m)
	if d.next == 0 || minute-d.next > maxGap {
		d.next = minute
	}
	for ; d.next < minute; d.next++ {
		d.judge(d.next, nil)
	}
	d.judge(minute, rows)
	d.next++
	return d.changes
}

func (d *Detector) judge(m int32, rows []Row) {
	if m%1440 == 0 {
		d.daily(m)
	}
	if m%poolEvery == 0 {
		d.pool(m)
	}
	d.count(m, rows)
	d.judgeRatios(m)
	d.watch(rows)
	d.judgeBreadth(m)
	d.fireSingles(m)
	d.advanceAlerts(m)
	d.judgeFlows(m)
	d.judgeMeters(m)
	d.wordings.judge(d, m)
	for _, i := range d.touched {
		d.series[i].k = 0
	}
	d.touched = emptied(d.touched)
	if m%poolEvery == 0 {
		d.compact()
		d.forget(m)
	}
}

// count adds the rows to their scopes and series. What does not exist yet is
// created afterwards in the order of its names, so that neither numbers nor
// places depend on the order of rows.
func (d *Detector) count(m int32, rows []Row) {
	var unknown []fresh // there is hardly ever any
	d.rowScopes = slices.Grow(emptied(d.rowScopes), len(rows)*len(d.views))[:len(rows)*len(d.views)]
	var codes codes
	for i := range rows {
		r := &rows[i]
		o, c, ok := codes.of(r)
		for v := range d.views {
			place := &d.rowScopes[i*len(d.views)+v]
			*place = -1
			if !ok || !d.views[v].admits(r) {
				continue
			}
			rules := d.views[v].match[o][c]
			if !isAttempt(o) && len(rules) == 0 {
				continue
			}
			si, found := d.findScope(v, r)
			if !found || !d.add(m, si, o, c, r.Firsts, rules) {
				unknown = append(unknown, fresh{uint32(v), int32(i)})
				continue
			}
			*place = si
		}
	}
	slices.SortFunc(unknown, func(a, b fresh) int {
		if a.view != b.view {
			return cmp.Compare(a.view, b.view)
		}
		return compareRows(&rows[a.row], &rows[b.row])
	})
	for _, f := range unknown {
		r := &rows[f.row]
		o, c, _ := codes.of(r)
		rules := d.views[f.view].match[o][c]
		si := d.addScope(m, int(f.view), r)
		for _, ri := range rules {
			d.ensure(m, si, ri, c)
		}
		d.add(m, si, o, c, r.Firsts, rules)
		d.rowScopes[int(f.row)*len(d.views)+int(f.view)] = si
	}
}

// codes looks outcomes and categories up; rows come sorted, so the last one is
// mostly the next one.
type codes struct {
	outcome, category string
	o                 event.Outcome
	c                 event.Category
	set               bool
}

func (k *codes) of(r *Row) (event.Outcome, event.Category, bool) {
	if r.Firsts <= 0 {
		return 0, 0, false
	}
	if !k.set || r.Outcome != k.outcome {
		o, ok := event.OutcomeByName(r.Outcome)
		if !ok {
			return 0, 0, false
		}
		k.outcome, k.o = r.Outcome, o
	}
	if !k.set || r.Category != k.category {
		c, ok := event.CategoryByID(r.Category)
		if !ok && r.Category != "" {
			// Of a newer version, perhaps. It is an attempt still.
			c = event.Unset
		}
		k.category, k.c = r.Category, c
	}
	k.set = true
	return k.o, k.c, true
}

func compareRows(a, b *Row) int {
	return cmp.Or(cmp.Compare(a.SenderDomain, b.SenderDomain), cmp.Compare(a.Provider, b.Provider),
		cmp.Compare(a.Source, b.Source), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Stream, b.Stream),
		cmp.Compare(a.Category, b.Category), cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Firsts, b.Firsts))
}

func (v *view) admits(r *Row) bool {
	for i, allowed := range v.filter {
		if len(allowed) > 0 && !slices.Contains(allowed, r.name(i)) {
			return false
		}
	}
	return true
}

func (d *Detector) findScope(v int, r *Row) (int32, bool) {
	k := scopeKey{view: uint32(v)}
	for i := range k.ids {
		if d.views[v].mask>>i&1 != 0 {
			n, ok := d.names[i].find(r.name(i))
			if !ok {
				return 0, false
			}
			k.ids[i] = n
		}
	}
	return d.byKey.find(k.hash(), func(i int32) bool { return d.scopes[i].key == k })
}

func (d *Detector) addScope(m int32, v int, r *Row) int32 {
	if si, ok := d.findScope(v, r); ok {
		return si
	}
	k := scopeKey{view: uint32(v)}
	for i := range k.ids {
		if d.views[v].mask>>i&1 != 0 {
			k.ids[i] = d.names[i].add(r.name(i))
		}
	}
	return d.insertScope(scope{key: k, first: m, last: m})
}

func (d *Detector) insertScope(s scope) int32 {
	si := int32(len(d.scopes))
	s.head = -1
	s.pool = d.poolOf(s.key)
	d.scopes = appendTight(d.scopes, s)
	d.byKey.add(s.key.hash(), si, func(i int32) uint64 { return d.scopes[i].key.hash() })
	return si
}

// poolOf returns the pool of a scope: the scopes that differ in the sender
// domain only or, where that is not a dimension or the only one, all of a view.
func (d *Detector) poolOf(k scopeKey) int32 {
	if d.views[k.view].mask&^(1<<ofDomain) == d.views[k.view].mask {
		k.ids = [nameKinds]uint32{}
	}
	k.ids[ofDomain] = 0
	pi, ok := d.inPool[k]
	if !ok {
		pi = int32(len(d.pools))
		d.pools = append(d.pools, pool{view: int(k.view)})
		d.inPool[k] = pi
	}
	return pi
}

// add counts firsts in the scope and in the series of the rules. It reports
// false, having changed nothing, if one of them does not exist.
func (d *Detector) add(m, si int32, o event.Outcome, c event.Category, firsts int64, rules []uint8) bool {
	s := &d.scopes[si]
	found := d.found[:0]
	for _, ri := range rules {
		i := d.find(si, ri, c)
		if i < 0 {
			return false
		}
		found = append(found, i)
	}
	d.found = found
	if s.stamp != m {
		s.stamp, s.n = m, 0
	}
	n := uint32(min(firsts, math.MaxInt32))
	if isAttempt(o) {
		s.n = saturate(s.n, n)
	}
	for i, ri := range rules {
		switch d.rules[ri].Kind {
		case Ratio, Trend:
			x := &d.series[found[i]]
			if x.k == 0 {
				d.touched = append(d.touched, found[i])
			}
			x.k = saturate(x.k, n)
		case Silence, Drop, Surge:
			d.flows[found[i]].k += float64(n)
		case Threshold, Burn:
			d.meters[found[i]].k += float64(n)
		}
	}
	return true
}

func saturate(a, b uint32) uint32 { return uint32(min(uint64(a)+uint64(b), math.MaxInt32)) }

// find returns the place of the series, flow or meter of a rule, or -1.
func (d *Detector) find(si int32, ri uint8, c event.Category) int32 {
	r := &d.rules[ri]
	if !r.byCategory {
		c = event.Unset
	}
	switch r.Kind {
	case Ratio, Trend:
		for i := d.scopes[si].head; i >= 0; i = d.series[i].next {
			if x := &d.series[i]; x.rule == ri && x.category == c {
				return i
			}
		}
	default:
		if i, ok := d.places[place{si, ri, c}]; ok {
			return i
		}
	}
	return -1
}

// ensure creates the series, flow or meter if it does not exist.
func (d *Detector) ensure(m, si int32, ri uint8, c event.Category) {
	if d.find(si, ri, c) >= 0 {
		return
	}
	r := &d.rules[ri]
	if !r.byCategory {
		c = event.Unset
	}
	switch r.Kind {
	case Ratio, Trend:
		s := &d.scopes[si]
		// Until now nothing had failed so: its past is the scope's.
		x := series{scope: si, rule: ri, category: c, b: s.b, last: s.last}
		d.insertSeries(x)
	case Silence, Drop, Surge:
		d.insertFlow(flow{place: place{si, ri, event.Unset}, first: m, last: m})
	case Threshold, Burn:
		d.insertMeter(newMeter(r, place{si, ri, c}))
	}
}

// place is what a flow or meter is of.
type place struct {
	scope    int32
	rule     uint8
	category event.Category
}

func (d *Detector) insertFlow(f flow) {
	d.places[f.place] = int32(len(d.flows))
	d.flows = append(d.flows, f)
}

func (d *Detector) insertMeter(t meter) {
	d.places[t.place] = int32(len(d.meters))
	d.meters = append(d.meters, t)
}

func (d *Detector) insertSeries(x series) {
	s := &d.scopes[x.scope]
	k := parentKey{x.rule, x.category, s.pool}
	pi, ok := d.parentOf[k]
	if !ok {
		pi = int32(len(d.parents))
		d.parents = append(d.parents, parent{key: k, q: d.rootRatio(x.rule, x.category)})
		d.parentOf[k] = pi
	}
	x.parent = pi
	x.next = s.head
	s.head = int32(len(d.series))
	d.series = appendTight(d.series, x)
	d.memberOf(s.head)
}

// labels names the series of a rule and scope.
func (d *Detector) labels(ri uint8, si int32, c event.Category) map[Dimension]string {
	r := &d.rules[ri]
	l := make(map[Dimension]string, len(r.By))
	if r.byCategory {
		l[Category] = c.String()
	}
	for i, dim := range nameDimensions {
		if si >= 0 && d.views[r.view].mask>>i&1 != 0 {
			l[dim] = d.names[i].all[d.scopes[si].key.ids[i]]
		}
	}
	return l
}
