package counts

import (
	"cmp"
	"container/heap"
	"fmt"
	"slices"

	"github.com/bouncemeter/bouncemeter/ledger"
)

// What bounds the memory of one query.
const (
	maxGroups = 1_000_000 // in one slot of time
	maxKeys   = 1 << 24   // combinations of names that might be
)

// LaneName is what a query needs to know of a lane.
type LaneName struct {
	ID           int64
	Source, Name string
}

// Sum adds rows of counts up to the groups of a query.
type Sum struct {
	// ByLane tells that the lane of each row matters; else it may be zero.
	ByLane bool

	by       []ledger.Dimension
	step     int64
	series   *Series
	groups   [][]uint32 // key of a group of series → its names by column, as far as asked for
	ofSeries []int32    // series → its key, or -1 if it is not wanted

	ofLane    map[int64]int32 // lane → its key, or -1 if it is not wanted
	laneNames [][2]string     // key of a group of lanes → its source and name, as far as asked for

	slot  int64
	index []int32 // by lane's key * groups + series' key: one more than the place in cells
	cells []cell  // of the slot
	top   topRows
}

// NewSum prepares the sum of q, which Check has passed.
func NewSum(q *ledger.Query, series *Series, lanes []LaneName) (*Sum, error) {
	s := &Sum{by: q.By, step: q.Step, series: series, top: topRows{limit: q.Limit}}
	s.groupSeries(q)
	s.groupLanes(q, lanes)
	keys := len(s.groups) * len(s.laneNames)
	if keys > maxKeys {
		return nil, fmt.Errorf("%d combinations of names: ask for fewer dimensions", keys)
	}
	s.index = make([]int32, keys)
	return s, nil
}

func (s *Sum) groupSeries(q *ledger.Query) {
	var by []int
	for _, d := range q.By {
		if i := Column(d); i >= 0 {
			by = append(by, i)
		}
	}
	// wanted[column][name] for the columns that are filtered on.
	wanted := make(map[int][]bool)
	for d, values := range q.Where {
		if i := Column(d); i >= 0 {
			names := s.series.names[i]
			w := make([]bool, len(names))
			for n, name := range names {
				w[n] = slices.Contains(values, name)
			}
			wanted[i] = w
		}
	}
	s.ofSeries = make([]int32, s.series.Len())
	keys := make(map[[len(SeriesDimensions)]uint32]int32)
next:
	for id := range s.ofSeries {
		s.ofSeries[id] = -1
		if id == 0 {
			continue
		}
		for i, w := range wanted {
			if !w[s.series.columns[i][id]] {
				continue next
			}
		}
		// A dimension may be asked for twice; one place for each is enough.
		var names [len(SeriesDimensions)]uint32
		for _, i := range by {
			names[i] = s.series.columns[i][id]
		}
		key, ok := keys[names]
		if !ok {
			key = int32(len(keys))
			keys[names] = key
			s.groups = append(s.groups, slices.Clone(names[:]))
		}
		s.ofSeries[id] = key
	}
}

func (s *Sum) groupLanes(q *ledger.Query, lanes []LaneName) {
	s.laneNames = [][2]string{{"", ""}} // of key 0: any lane
	sources, bySource := q.Where[ledger.BySource]
	names, byName := q.Where[ledger.ByLane]
	s.ByLane = bySource || byName || slices.Contains(q.By, ledger.BySource) || slices.Contains(q.By, ledger.ByLane)
	if !s.ByLane {
		return
	}
	s.ofLane = make(map[int64]int32)
	keys := make(map[[2]string]int32)
	for _, l := range lanes {
		if bySource && !slices.Contains(sources, l.Source) || byName && !slices.Contains(names, l.Name) {
			s.ofLane[l.ID] = -1
			continue
		}
		var group [2]string
		if slices.Contains(q.By, ledger.BySource) {
			group[0] = l.Source
		}
		if slices.Contains(q.By, ledger.ByLane) {
			group[1] = l.Name
		}
		key, ok := keys[group]
		if !ok {
			key = int32(len(s.laneNames))
			keys[group] = key
			s.laneNames = append(s.laneNames, group)
		}
		s.ofLane[l.ID] = key
	}
}

// Filter returns the series whose rows are wanted, if they are so few that it
// pays to tell the store.
func (s *Sum) Filter() (ids []int32, some bool) {
	for id, key := range s.ofSeries {
		if key >= 0 {
			ids = append(ids, int32(id))
		}
	}
	return ids, len(ids)*4 < len(s.ofSeries)
}

// Add adds a row. If there is a step, the times of rows must ascend.
func (s *Sum) Add(start, lane, series, attempts, firsts int64) error {
	if series <= 0 || series >= int64(len(s.ofSeries)) {
		return s.series.Has(series)
	}
	key := int(s.ofSeries[series])
	if key < 0 {
		return nil
	}
	if s.ByLane {
		l, ok := s.ofLane[lane]
		if !ok {
			return fmt.Errorf("%w: there is no lane %d", ErrMissing, lane)
		}
		if l < 0 {
			return nil
		}
		key += int(l) * len(s.groups)
	}
	if s.step > 0 && (start < s.slot || start >= s.slot+s.step) {
		s.flush()
		s.slot = Floor(start, s.step)
	}
	i := s.index[key]
	if i == 0 {
		if len(s.cells) == maxGroups {
			return fmt.Errorf("more than %d groups: ask for fewer dimensions or a shorter time", maxGroups)
		}
		s.cells = append(s.cells, cell{slot: s.slot, key: key})
		i = int32(len(s.cells))
		s.index[key] = i
	}
	c := &s.cells[i-1]
	c.attempts += attempts
	c.firsts += firsts
	return nil
}

func (s *Sum) flush() {
	for _, c := range s.cells {
		s.index[c.key] = 0
		s.top.add(c)
	}
	s.cells = s.cells[:0]
}

// Rows returns the groups with most attempts in the order of ledger.Query.
func (s *Sum) Rows() []ledger.Row {
	s.flush()
	rows := make([]ledger.Row, len(s.top.cells))
	for i, c := range s.top.cells {
		rows[i] = ledger.Row{Start: c.slot, Keys: s.names(c.key), Attempts: c.attempts, Firsts: c.firsts}
	}
	slices.SortFunc(rows, func(a, b ledger.Row) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(b.Attempts, a.Attempts), slices.Compare(a.Keys, b.Keys))
	})
	return rows
}

// names returns the names of a group in the order that was asked for.
func (s *Sum) names(key int) []string {
	names := make([]string, len(s.by))
	lane, group := s.laneNames[key/len(s.groups)], s.groups[key%len(s.groups)]
	for i, d := range s.by {
		switch d {
		case ledger.BySource:
			names[i] = lane[0]
		case ledger.ByLane:
			names[i] = lane[1]
		default:
			c := Column(d)
			names[i] = s.series.names[c][group[c]]
		}
	}
	return names
}

// cell is a row in the making.
type cell struct {
	slot             int64
	key              int
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
