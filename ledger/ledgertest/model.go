package ledgertest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// model is what a ledger must say, kept in maps: every count by its minute for
// ever, and from when on which grain may be seen.
type model struct {
	lanes   map[string]*laneModel
	counts  map[countKey][3]int64 // attempts, firsts, late
	domains map[domainKey]int64
	delays  map[[2]string]ledger.DelayTotal
	words   map[wordKey]ledger.Template

	minutesFrom, hoursFrom, daysFrom int64
}

type laneModel struct {
	ledger.Lane
	entries map[uint64]string
	// last is the last commit that was applied: it may be repeated.
	last *ledger.Commit
}

type countKey struct {
	start  int64
	lane   string
	series window.Series
}

type domainKey struct {
	start  int64
	domain string
	kind   [2]string
}

type wordKey struct {
	category, provider string
	hash               uint64
}

func floor(t, span int64) int64 { return t - t%span }

// seen returns the time under which a count of time t is found.
func (m *model) seen(t int64) int64 {
	switch {
	case t >= m.minutesFrom:
		return t
	case t >= m.hoursFrom:
		return floor(t, hour)
	case t >= m.daysFrom:
		return floor(t, day)
	}
	return 0
}

func (m *model) rollup(r ledger.Retention, now time.Time) {
	ago := func(d time.Duration, span int64) int64 { return floor(now.Add(-d).Unix(), span) }
	m.minutesFrom = max(m.minutesFrom, ago(r.Minutes, hour))
	m.hoursFrom = max(m.hoursFrom, ago(r.Hours, day))
	m.daysFrom = max(m.daysFrom, ago(r.Days, day))
	domains := make(map[domainKey]int64)
	for k, n := range m.domains {
		if k.start < ago(r.Minutes, day) {
			k.start = floor(k.start, day)
		}
		if k.start >= ago(r.Domains, day) {
			domains[k] += n
		}
	}
	m.domains = domains
}

func (m *model) apply(l *laneModel, c *ledger.Commit) {
	l.Position, l.Updated = c.Position, time.Unix(c.Now.Unix(), 0)
	l.Lines.Add(c.Delta.Lines)
	if f := c.Delta.First; f != 0 && (l.First == 0 || f < l.First) {
		l.First = f
	}
	l.Last = max(l.Last, c.Delta.Last)
	for _, x := range c.Delta.Counts {
		k := countKey{x.Start, l.Name, *x.Series}
		n := m.counts[k]
		m.counts[k] = [3]int64{n[0] + x.Attempts, n[1] + x.Firsts, n[2] + x.Late}
	}
	for _, x := range c.Delta.Domains {
		m.domains[domainKey{x.Start, x.Domain, [2]string{x.Outcome.String(), x.Category.String()}}] += x.Attempts
	}
	for _, x := range c.Delta.Delays {
		k := [2]string{x.Provider, x.Outcome.String()}
		d := m.delays[k]
		d.Provider, d.Outcome = k[0], k[1]
		d.Micros += x.Micros
		for i, n := range x.Buckets {
			d.Buckets[i] += n
		}
		m.delays[k] = d
	}
	for _, x := range c.Delta.Templates {
		k := wordKey{x.Category.String(), x.Provider, x.Hash}
		w, known := m.words[k]
		if !known {
			w = ledger.Template{Hash: x.Hash, Category: k.category, Provider: k.provider, Text: x.Text, First: x.First}
		}
		w.Rule, w.Attempts = x.Rule, w.Attempts+x.Attempts
		w.First, w.Last = min(w.First, x.First), max(w.Last, x.Last)
		m.words[k] = w
	}
	for _, k := range c.Deletes {
		delete(l.entries, k)
	}
	for _, e := range c.Upserts {
		l.entries[e.Key] = string(e.Value)
	}
	l.last = c
}

func (m *model) name(k countKey, d ledger.Dimension) string {
	switch d {
	case ledger.BySource:
		return "mta"
	case ledger.ByLane:
		return k.lane
	case ledger.ByOutcome:
		return k.series.Outcome.String()
	case ledger.ByCategory:
		return k.series.Category.String()
	case ledger.BySecondary:
		return k.series.Secondary.String()
	case ledger.ByProvider:
		return k.series.Provider
	case ledger.BySenderDomain:
		return k.series.SenderDomain
	case ledger.ByHost:
		return k.series.Host
	case ledger.ByStream:
		return k.series.Stream
	}
	panic(fmt.Sprintf("dimension %d", d))
}

func (m *model) query(q ledger.Query) []ledger.Row {
	groups := make(map[string]*ledger.Row)
next:
	for k, n := range m.counts {
		start := m.seen(k.start)
		if start < q.Since || q.Until != 0 && start >= q.Until {
			continue
		}
		for d, values := range q.Where {
			if !slices.Contains(values, m.name(k, d)) {
				continue next
			}
		}
		row := ledger.Row{Keys: []string{}}
		if q.Step > 0 {
			row.Start = floor(start, q.Step)
		}
		for _, d := range q.By {
			row.Keys = append(row.Keys, m.name(k, d))
		}
		id := fmt.Sprintf("%d %q", row.Start, row.Keys)
		if groups[id] == nil {
			groups[id] = &row
		}
		groups[id].Attempts += n[0]
		groups[id].Firsts += n[1]
	}
	rows := []ledger.Row{}
	for _, r := range groups {
		rows = append(rows, *r)
	}
	slices.SortFunc(rows, func(a, b ledger.Row) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(b.Attempts, a.Attempts), slices.Compare(a.Keys, b.Keys))
	})
	return rows
}

// windows returns what Windows yields.
func (m *model) windows(since, until int64) []ledger.Window {
	sums := make(map[ledger.Window]int64)
	for k, n := range m.counts {
		if k.start < max(since, m.minutesFrom) || k.start >= until {
			continue
		}
		s := k.series
		sums[ledger.Window{
			Start: k.start, Source: "mta", Outcome: s.Outcome.String(), Category: s.Category.String(), Provider: s.Provider,
			SenderDomain: s.SenderDomain, Host: s.Host, Stream: s.Stream,
		}] += n[1] - n[2]
	}
	all := []ledger.Window{}
	for w, n := range sums {
		if w.Firsts = n; n != 0 {
			all = append(all, w)
		}
	}
	slices.SortFunc(all, func(a, b ledger.Window) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.SenderDomain, b.SenderDomain), cmp.Compare(a.Provider, b.Provider),
			cmp.Compare(a.Category, b.Category), cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Stream, b.Stream))
	})
	return all
}

// testModel drives the ledger and the model with the same random steps.
func testModel(t *testing.T, newStore func(*testing.T) Open) {
	rapid.Check(t, func(r *rapid.T) {
		open := newStore(t)
		l, err := open()
		if err != nil {
			r.Fatal(err)
		}
		defer func() {
			if err := l.Close(); err != nil {
				r.Errorf("close: %v", err)
			}
		}()
		m := &model{
			lanes: make(map[string]*laneModel), counts: make(map[countKey][3]int64), domains: make(map[domainKey]int64),
			delays: make(map[[2]string]ledger.DelayTotal), words: make(map[wordKey]ledger.Template),
		}
		ctx, clock := t.Context(), now
		draw := &drawer{r: r, clock: &clock}
		getLane := func() *laneModel {
			name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(r, "lane")
			got, err := l.Lane(ctx, "mta", name)
			if err != nil {
				r.Fatal(err)
			}
			lane := m.lanes[name]
			if lane == nil {
				lane = &laneModel{Lane: ledger.Lane{ID: got.ID, Source: "mta", Name: name}, entries: make(map[uint64]string)}
				m.lanes[name] = lane
			}
			if d := gocmp.Diff(lane.Lane, got); d != "" {
				r.Fatalf("lane (-want +got):\n%s", d)
			}
			return lane
		}
		steps := map[string]func(*rapid.T){
			"commit": func(r *rapid.T) {
				lane := getLane()
				c := draw.commit(lane)
				if err := l.Commit(ctx, c); err != nil {
					r.Fatal(err)
				}
				m.apply(lane, c)
			},
			"repeat a commit whose acknowledgement was lost": func(r *rapid.T) {
				lane := getLane()
				if lane.last == nil {
					r.Skip("no commit yet")
				}
				if err := l.Commit(ctx, lane.last); err != nil {
					r.Fatal(err)
				}
			},
			"commit from a position that is over": func(r *rapid.T) {
				lane := getLane()
				c := draw.commit(lane)
				c.Expected.Offset -= 7
				if err := l.Commit(ctx, c); !errors.Is(err, ledger.ErrConflict) {
					r.Fatalf("got %v, want ErrConflict", err)
				}
			},
			"roll up": func(r *rapid.T) {
				clock = clock.Add(time.Duration(rapid.Int64Range(0, 3*day).Draw(r, "seconds later")) * time.Second)
				keep := draw.retention()
				kept, err := l.Rollup(ctx, keep, clock)
				if err != nil {
					r.Fatal(err)
				}
				m.rollup(keep, clock)
				if want := (ledger.Kept{Minutes: m.minutesFrom, Hours: m.hoursFrom}); kept != want {
					r.Fatalf("kept %v, want %v", kept, want)
				}
			},
			"restart": func(r *rapid.T) {
				if err := l.Close(); err != nil {
					r.Fatal(err)
				}
				if l, err = open(); err != nil {
					r.Fatal(err)
				}
			},
			"query": func(r *rapid.T) {
				q := draw.query()
				got, err := l.Query(ctx, q)
				if err != nil {
					r.Fatal(err)
				}
				if d := gocmp.Diff(m.query(q), append([]ledger.Row{}, got...)); d != "" {
					r.Fatalf("Query(%+v) (-want +got):\n%s", q, d)
				}
			},
			"windows": func(r *rapid.T) {
				since := draw.time()
				until := since + draw.int(0, 3*day, "seconds")
				got := []ledger.Window{}
				if err := l.Windows(ctx, since, until, func(w *ledger.Window) error { got = append(got, *w); return nil }); err != nil {
					r.Fatal(err)
				}
				if d := gocmp.Diff(m.windows(since, until), got); d != "" {
					r.Fatalf("windows from %d to %d (-want +got):\n%s", since, until, d)
				}
			},
			"": func(r *rapid.T) { m.check(r, t, l) },
		}
		r.Repeat(steps)
	})
}

// check compares all that is not asked for by Query.
func (m *model) check(r *rapid.T, t *testing.T, l Ledger) {
	fatal := func(what string, want, got any) {
		if d := gocmp.Diff(want, got); d != "" {
			r.Fatalf("%s (-want +got):\n%s", what, d)
		}
	}
	ctx := t.Context()
	for _, lane := range m.lanes {
		got := make(map[uint64]string)
		if err := l.Entries(ctx, lane.ID, func(e ledger.Entry) error { got[e.Key] = string(e.Value); return nil }); err != nil {
			r.Fatal(err)
		}
		fatal("entries", lane.entries, got)
	}
	type total struct{ outcome, category, provider, sender string }
	want, got := make(map[total][2]int64), make(map[total][2]int64)
	for k, n := range m.counts {
		s := k.series
		key := total{s.Outcome.String(), s.Category.String(), s.Provider, s.SenderDomain}
		w := want[key]
		want[key] = [2]int64{w[0] + n[0], w[1] + n[1]}
	}
	if err := ledger.Totals(ctx, l.Query, func(x ledger.Total) error {
		got[total{x.Outcome, x.Category, x.Provider, x.SenderDomain}] = [2]int64{x.Attempts, x.Firsts}
		return nil
	}); err != nil {
		r.Fatal(err)
	}
	if !maps.Equal(want, got) {
		r.Fatalf("totals: want %v, got %v", want, got)
	}

	delays := make(map[[2]string]ledger.DelayTotal)
	all, err := l.DelayTotals(ctx)
	if err != nil {
		r.Fatal(err)
	}
	for _, d := range all {
		delays[[2]string{d.Provider, d.Outcome}] = d
	}
	fatal("delays", m.delays, delays)

	words := make(map[wordKey]ledger.Template)
	templates, err := l.Templates(ctx, ledger.TemplateFilter{}, 1000)
	if err != nil {
		r.Fatal(err)
	}
	for _, w := range templates {
		words[wordKey{w.Category, w.Provider, w.Hash}] = w
	}
	if !maps.Equal(m.words, words) {
		r.Fatalf("templates: want %v, got %v", m.words, words)
	}

	type domain struct{ name, outcome, category string }
	domains, gotDomains := make(map[domain]int64), make(map[domain]int64)
	for k, n := range m.domains {
		domains[domain{k.domain, k.kind[0], k.kind[1]}] += n
	}
	list, err := l.DomainCounts(ctx, 0, 0, 1000)
	if err != nil {
		r.Fatal(err)
	}
	for _, d := range list {
		gotDomains[domain{d.Domain, d.Outcome, d.Category}] = d.Attempts
	}
	if !maps.Equal(domains, gotDomains) {
		r.Fatalf("domains: want %v, got %v", domains, gotDomains)
	}
}

// drawer draws what goes into a ledger.
type drawer struct {
	r     *rapid.T
	clock *time.Time
}

func (d *drawer) int(from, to int64, what string) int64 {
	return rapid.Int64Range(from, to).Draw(d.r, what)
}

func (d *drawer) one(what string, of ...string) string { return rapid.SampledFrom(of).Draw(d.r, what) }

// time draws a minute: most often of the last hours, and of any age.
func (d *drawer) time() int64 {
	back := rapid.SampledFrom([]int64{2 * hour, day, 5 * day, 40 * day, 3000 * day}).Draw(d.r, "age")
	return max(0, floor(d.clock.Unix()-d.int(-10*minute, back, "seconds ago"), minute))
}

// routes are shared, so that series with the same names are equal.
var routes = []*window.Route{
	{Provider: "gmail", Host: "mx1.example"}, {Provider: "gmail"}, {Provider: "yahoo", Host: "mx1.example"}, {Provider: "yahoo"},
}

func (d *drawer) series() *window.Series {
	return &window.Series{
		Outcome:      rapid.SampledFrom([]event.Outcome{event.Delivered, event.Bounced, event.Expired}).Draw(d.r, "outcome"),
		Category:     rapid.SampledFrom([]event.Category{event.Unset, event.SPFFailed, event.Greylisted}).Draw(d.r, "category"),
		Secondary:    rapid.SampledFrom([]event.Category{event.Unset, event.MailboxFull}).Draw(d.r, "secondary"),
		SenderDomain: d.one("sender domain", "", "(unknown)", "shop.example", "x' OR '1"),
		Route:        rapid.SampledFrom(routes).Draw(d.r, "route"),
	}
}

// commit draws a commit that is right for the lane. Each slice of a delta has
// one element for each key at most.
func (d *drawer) commit(lane *laneModel) *ledger.Commit {
	delta := &window.Delta{}
	counts := make(map[countKey]bool)
	for range d.int(0, 8, "counts") {
		start := floor(d.time(), rapid.SampledFrom([]int64{minute, minute, hour, day}).Draw(d.r, "grain"))
		c := window.Count{Series: d.series(), Start: start, Attempts: d.int(0, 1000, "attempts"), Firsts: d.int(0, 9, "firsts")}
		c.Late = d.int(0, c.Firsts, "late")
		if k := (countKey{c.Start, "", *c.Series}); !counts[k] {
			counts[k] = true
			delta.Counts = append(delta.Counts, c)
		}
	}
	type key struct {
		start int64
		name  string
	}
	keys := make(map[key]bool)
	for range d.int(0, 3, "domains") {
		k := key{floor(d.time(), hour), d.one("domain", "r.example", "s.example", "t.example")}
		if !keys[k] {
			keys[k] = true
			delta.Domains = append(delta.Domains, window.DomainCount{Start: k.start, Domain: k.name, Outcome: event.Bounced, Category: event.SPFFailed, Attempts: d.int(1, 9, "attempts")})
			x := window.DelayCount{Start: k.start, Provider: k.name, Outcome: event.Delivered, Micros: d.int(0, 1e6, "micros")}
			x.Buckets[d.int(0, int64(len(x.Buckets)-1), "bucket")] = 1
			delta.Delays = append(delta.Delays, x)
		}
	}
	hashes := make(map[uint64]bool)
	for range d.int(0, 2, "templates") {
		h := rapid.SampledFrom([]uint64{1, 2, 1 << 63}).Draw(d.r, "hash")
		if !hashes[h] {
			hashes[h] = true
			at := d.time()
			delta.Templates = append(delta.Templates, window.TemplateCount{Hash: h, Category: event.SPFFailed, Provider: "gmail",
				Rule: d.one("rule", "r1", "r2"), Text: d.one("text", "a", "b"), Attempts: 1, First: at, Last: at + d.int(0, 99, "span")})
		}
	}
	delta.Lines.Read = d.int(0, 100, "lines")
	delta.Lines.Lost = d.int(0, 1, "lost")
	if len(delta.Counts) > 0 {
		delta.First, delta.Last = delta.Counts[0].Start, delta.Counts[0].Start
		for _, c := range delta.Counts {
			delta.First, delta.Last = min(delta.First, c.Start), max(delta.Last, c.Start)
		}
	}
	c := &ledger.Commit{
		Lane: lane.ID, Expected: lane.Position,
		Position: event.Position{Segment: d.one("segment", "f1", "f2"), Offset: lane.Position.Offset + d.int(1, 3, "offset")},
		Delta:    delta, Now: *d.clock,
	}
	changed := make(map[uint64]bool)
	for range d.int(0, 4, "entries") {
		k := uint64(d.int(0, 6, "key"))
		if changed[k] {
			continue
		}
		changed[k] = true
		if rapid.Bool().Draw(d.r, "delete") {
			c.Deletes = append(c.Deletes, k)
		} else {
			c.Upserts = append(c.Upserts, ledger.Entry{Key: k, Value: []byte(d.one("value", "", "x", "\x00y"))})
		}
	}
	return c
}

func (d *drawer) retention() ledger.Retention {
	minutes := d.int(0, 9*day, "minutes")
	hours := minutes + d.int(0, 60*day, "hours")
	days := hours + d.int(0, 900*day, "days")
	s := time.Second
	return ledger.Retention{
		Minutes: time.Duration(minutes) * s, Hours: time.Duration(hours) * s, Days: time.Duration(days) * s,
		Domains: time.Duration(d.int(0, 60*day, "domains")) * s, Templates: 20 * 366 * 24 * time.Hour, TemplatesPerCategory: 1000,
	}
}

func (d *drawer) query() ledger.Query {
	q := ledger.Query{Step: rapid.SampledFrom([]int64{0, minute, 5 * minute, hour, 6 * hour, day, 7 * day}).Draw(d.r, "step")}
	bound := func(what string) int64 {
		return floor(d.time(), rapid.SampledFrom([]int64{minute, hour, day}).Draw(d.r, what))
	}
	if rapid.Bool().Draw(d.r, "since") {
		q.Since = bound("since")
	}
	if rapid.Bool().Draw(d.r, "until") {
		q.Until = bound("until")
	}
	dimension := rapid.Uint8Range(0, uint8(ledger.Dimensions-1))
	for range d.int(0, 3, "by") {
		q.By = append(q.By, ledger.Dimension(dimension.Draw(d.r, "dimension")))
	}
	if rapid.Bool().Draw(d.r, "where") {
		q.Where = map[ledger.Dimension][]string{
			ledger.Dimension(dimension.Draw(d.r, "dimension")): {d.one("value", "", "a", "gmail", "mta", "spf_failed"), d.one("value", "b", "bounced", "shop.example")},
		}
	}
	return q
}
