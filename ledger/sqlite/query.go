package sqlite

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"slices"

	"github.com/bouncemeter/bouncemeter/ledger"
)

// What a query may be.
const (
	defaultLimit = 100_000
	// maxGroups bounds the memory of one query: groups of one time slot.
	maxGroups = 1_000_000
)

// Query returns grouped counts, most attempts first, or in order of time if
// Step is set; equals in order of their keys. It reads the coarsest grain that
// answers exactly: for a month by day mostly days, for its ragged ends hours
// and minutes.
func (l *Ledger) Query(ctx context.Context, q ledger.Query) ([]ledger.Row, error) {
	if err := checkQuery(&q); err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	var result []ledger.Row
	err := l.read(ctx, "query", func(c *conn) error {
		g, err := l.newGrouping(ctx, c, &q)
		if err != nil {
			return err
		}
		m, err := readMarks(c)
		if err != nil {
			return err
		}
		top := &topRows{limit: q.Limit}
		groups := make(map[uint64]int, 64)
		var cells []cell
		flush := func() {
			for i := range cells {
				top.add(cells[i])
			}
			clear(groups)
			cells = cells[:0]
		}
		slot := int64(0)
		for _, part := range m.parts(q.Since, q.Until, q.Step) {
			if err := c.query(ctx, part.text(g.lanes), func(row []value) error {
				what, _ := row[0].(int64)
				lane := int64(0)
				if g.lanes {
					lane, _ = row[3].(int64)
				}
				key, wanted, err := g.key(lane, what%maxSeries)
				if !wanted || err != nil {
					return err
				}
				if q.Step > 0 { // times ascend
					if at := floor(what/maxSeries, q.Step); at != slot {
						flush()
						slot = at
					}
				}
				i, ok := groups[key]
				if !ok {
					if len(groups) == maxGroups {
						return fmt.Errorf("more than %d groups: ask for fewer dimensions or a shorter time", maxGroups)
					}
					i = len(cells)
					groups[key] = i
					cells = append(cells, cell{slot: slot, key: key})
				}
				attempts, _ := row[1].(int64)
				firsts, _ := row[2].(int64)
				cells[i].attempts += attempts
				cells[i].firsts += firsts
				return nil
			}, part.from, part.to); err != nil {
				return err
			}
		}
		flush()
		result = make([]ledger.Row, len(top.cells))
		for i, t := range top.cells {
			result[i] = ledger.Row{Start: t.slot, Keys: g.names(t.key), Attempts: t.attempts, Firsts: t.firsts}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(result, func(a, b ledger.Row) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(b.Attempts, a.Attempts), slices.Compare(a.Keys, b.Keys))
	})
	return result, nil
}

func checkQuery(q *ledger.Query) error {
	if q.Step < 0 || q.Limit < 0 {
		return fmt.Errorf("step %d and limit %d must not be negative", q.Step, q.Limit)
	}
	if q.Limit == 0 {
		q.Limit = defaultLimit
	}
	for _, d := range q.By {
		if d >= ledger.Dimensions {
			return fmt.Errorf("unknown dimension %d", d)
		}
	}
	for d := range q.Where {
		if d >= ledger.Dimensions {
			return fmt.Errorf("unknown dimension %d", d)
		}
	}
	return nil
}

// part is a run of rows of one grain.
type part struct {
	*grain
	from, to int64
}

const forever = 1<<63 - 1

// To hand a column over from the engine takes longer than to find the row, so
// a time and a series, which is less than maxSeries, come as one number, and
// the lane only if it matters.
var partTexts, partLaneTexts = func() (texts, laneTexts map[*grain]string) {
	texts, laneTexts = make(map[*grain]string), make(map[*grain]string)
	for _, g := range []*grain{minutes, hours, days, totals} {
		from := " FROM " + g.table + " WHERE start >= ? AND start < ? ORDER BY start"
		texts[g] = fmt.Sprintf("SELECT start * %d + series, attempts, firsts", maxSeries) + from
		laneTexts[g] = fmt.Sprintf("SELECT start * %d + series, attempts, firsts, lane", maxSeries) + from
	}
	return texts, laneTexts
}()

func (p part) text(lanes bool) string {
	if lanes {
		return partLaneTexts[p.grain]
	}
	return partTexts[p.grain]
}

// parts returns what to read for the counts since <= start < until, in order of
// time: each count once, by the coarsest grain that fits into the bounds and,
// if there is a step, into its slots.
func (m marks) parts(since, until, step int64) []part {
	var parts []part
	add := func(g *grain, from, to int64) {
		if from < to {
			parts = append(parts, part{g, from, to})
		}
	}
	if until == 0 {
		until = forever
	}
	if since == 0 {
		add(totals, 0, min(until, 1))
	}
	fits := func(g *grain) bool { return step%g.span == 0 }
	fine := func(from, to int64) { // from m.hoursFrom on: minutes, and hours where they do
		add(hours, from, min(to, m.minutesFrom)) // there is nothing finer
		from = max(from, m.minutesFrom)
		first, last := ceil(from, 3600), floor(min(to, m.minutesSummed), 3600)
		if !fits(hours) || first >= last {
			add(minutes, from, to)
			return
		}
		add(minutes, from, first)
		add(hours, first, last)
		add(minutes, last, to)
	}
	add(days, max(since, m.daysFrom), min(until, m.hoursFrom)) // there is nothing finer
	from := max(since, m.hoursFrom)
	first, last := ceil(from, 86400), floor(min(until, m.hoursSummed), 86400)
	if !fits(days) || first >= last {
		fine(from, until)
		return parts
	}
	fine(from, first)
	add(days, first, last)
	fine(last, until)
	return parts
}

// ceil rounds t up to a multiple of span.
func ceil(t, span int64) int64 { return -floor(-t, span) }

// grouping gives each count the key of its group.
type grouping struct {
	path      string
	by        []ledger.Dimension
	series    series
	groups    [][]uint32      // key of a group of series → its names by column, as far as asked for
	ofSeries  []int32         // series → its key, or -1 if it is not wanted
	lanes     bool            // whether the lane of a count matters
	ofLane    map[int64]int32 // lane → its key, or -1 if it is not wanted
	laneNames [][]string      // key of a group of lanes → its source and name, as far as asked for
}

func (l *Ledger) newGrouping(ctx context.Context, c *conn, q *ledger.Query) (*grouping, error) {
	g := &grouping{path: l.path, by: q.By}
	var err error
	if g.series, err = l.catalog.load(ctx, c, l.path); err != nil {
		return nil, err
	}
	g.groupSeries(q)
	return g, g.groupLanes(ctx, c, q)
}

func (g *grouping) groupSeries(q *ledger.Query) {
	var by []int
	for _, d := range q.By {
		if i := column(d); i >= 0 {
			by = append(by, i)
		}
	}
	// wanted[column][name] for the columns that are filtered on.
	wanted := make(map[int][]bool)
	for d, values := range q.Where {
		if i := column(d); i >= 0 {
			names := g.series.names[i]
			w := make([]bool, len(names))
			for n, name := range names {
				w[n] = slices.Contains(values, name)
			}
			wanted[i] = w
		}
	}
	g.ofSeries = make([]int32, g.series.len())
	keys := make(map[[len(seriesDimensions)]uint32]int32)
next:
	for id := range g.ofSeries {
		g.ofSeries[id] = -1
		for i, w := range wanted {
			if !w[g.series.columns[i][id]] {
				continue next
			}
		}
		// A dimension may be asked for twice; one place for each is enough.
		var names [len(seriesDimensions)]uint32
		for _, i := range by {
			names[i] = g.series.columns[i][id]
		}
		key, ok := keys[names]
		if !ok {
			key = int32(len(keys))
			keys[names] = key
			g.groups = append(g.groups, slices.Clone(names[:]))
		}
		g.ofSeries[id] = key
	}
}

func (g *grouping) groupLanes(ctx context.Context, c *conn, q *ledger.Query) error {
	g.laneNames = [][]string{{"", ""}} // of key 0: any lane
	_, bySource := q.Where[ledger.BySource]
	_, byLane := q.Where[ledger.ByLane]
	g.lanes = bySource || byLane || slices.Contains(q.By, ledger.BySource) || slices.Contains(q.By, ledger.ByLane)
	if !g.lanes {
		return nil
	}
	g.ofLane = make(map[int64]int32)
	keys := make(map[[2]string]int32)
	return c.query(ctx, "SELECT id, source, name FROM lanes", func(row []value) error {
		id, _ := row[0].(int64)
		source, _ := row[1].(string)
		name, _ := row[2].(string)
		if values, ok := q.Where[ledger.BySource]; ok && !slices.Contains(values, source) {
			g.ofLane[id] = -1
			return nil
		}
		if values, ok := q.Where[ledger.ByLane]; ok && !slices.Contains(values, name) {
			g.ofLane[id] = -1
			return nil
		}
		var names [2]string
		if slices.Contains(q.By, ledger.BySource) {
			names[0] = source
		}
		if slices.Contains(q.By, ledger.ByLane) {
			names[1] = name
		}
		key, ok := keys[names]
		if !ok {
			key = int32(len(g.laneNames))
			keys[names] = key
			g.laneNames = append(g.laneNames, names[:])
		}
		g.ofLane[id] = key
		return nil
	})
}

// key returns the key of the group that a count is in, if it is wanted.
func (g *grouping) key(lane, series int64) (key uint64, wanted bool, err error) {
	if series <= 0 || series >= int64(len(g.ofSeries)) {
		return 0, false, damaged(g.path, fmt.Errorf("there is no series %d", series))
	}
	s := g.ofSeries[series]
	if !g.lanes || s < 0 {
		return uint64(s), s >= 0, nil
	}
	l, ok := g.ofLane[lane]
	if !ok {
		return 0, false, damaged(g.path, fmt.Errorf("there is no lane %d", lane))
	}
	return uint64(l)<<32 | uint64(s), l >= 0, nil
}

// names returns the names of a group in the order that was asked for.
func (g *grouping) names(key uint64) []string {
	names := make([]string, len(g.by))
	lane, group := g.laneNames[key>>32], g.groups[key&(1<<32-1)]
	for i, d := range g.by {
		switch d {
		case ledger.BySource:
			names[i] = lane[0]
		case ledger.ByLane:
			names[i] = lane[1]
		default:
			c := column(d)
			names[i] = g.series.names[c][group[c]]
		}
	}
	return names
}

// cell is a row in the making.
type cell struct {
	slot             int64
	key              uint64
	attempts, firsts int64
}

// topRows keeps the cells with most attempts, as a heap with the least first.
type topRows struct {
	limit int
	cells []cell
}

func (t *topRows) add(c cell) {
	switch {
	case len(t.cells) < t.limit:
		heap.Push(t, c)
	case c.attempts > t.cells[0].attempts:
		t.cells[0] = c
		heap.Fix(t, 0)
	}
}

func (t *topRows) Len() int           { return len(t.cells) }
func (t *topRows) Less(i, j int) bool { return t.cells[i].attempts < t.cells[j].attempts }
func (t *topRows) Swap(i, j int)      { t.cells[i], t.cells[j] = t.cells[j], t.cells[i] }
func (t *topRows) Push(x any)         { t.cells = append(t.cells, x.(cell)) }
func (t *topRows) Pop() any           { panic("not used") }
