package window

// series is where a Series was counted last: most events fall into the window
// of the one before.
type series struct {
	key    seriesKey
	Series *Series // nil in a free slot
	start  int64
	dhour  int64
	count  int32 // index into Delta.Counts; -1 if there is none for start
	delay  int32 // index into Delta.Delays, likewise for dhour
}

// seriesTable finds series by their numbers. It is a hash table with linear
// probing, whose slots have all that counting one more event needs.
type seriesTable struct {
	slots []series // a power of two
	n     int
}

func newSeriesTable() seriesTable { return seriesTable{slots: make([]series, 64)} }

// hash spreads the numbers. Who chooses names chooses no numbers.
func (k seriesKey) hash() int {
	h := uint64(k.rest)*0x9E3779B97F4A7C15 ^ uint64(k.sender)*0xD6E8FEB86659FD93
	return int(h ^ h>>32)
}

// find returns the slot of a key, or the free slot where it belongs. It is valid
// until the next insert.
func (t *seriesTable) find(key seriesKey) *series {
	slots := t.slots
	for i := key.hash(); ; i++ {
		if s := &slots[i&(len(slots)-1)]; s.key == key || s.Series == nil {
			return s
		}
	}
}

// insert adds a series that is not there.
func (t *seriesTable) insert(key seriesKey, s *Series) *series {
	if t.n >= len(t.slots)/2 {
		old := t.slots
		t.slots = make([]series, 2*len(old))
		for i := range old {
			if old[i].Series != nil {
				*t.find(old[i].key) = old[i]
			}
		}
	}
	t.n++
	slot := t.find(key)
	*slot = series{key: key, Series: s, count: -1, delay: -1}
	return slot
}

// empty forgets where the series were counted.
func (t *seriesTable) empty() {
	for i := range t.slots {
		t.slots[i].count, t.slots[i].delay = -1, -1
	}
}
