package window

import "math"

// series is where a Series was counted last: most events fall into the window of
// the one before. It has all that counting one more event needs, and half a line of
// the processor's cache has it: what is counted takes most of its time to come from
// memory.
type series struct {
	rest   rest
	start  int64
	sender uint32
	number uint32 // into seriesTable.all, from 1; 0 in a free slot
	count  int32  // index into Delta.Counts of the window at start; -1 if there is none
	// What is not yet in that Count.
	attempts, firsts uint16
}

// add counts one attempt, if there is room.
func (s *series) add(first bool) bool {
	if s.attempts == math.MaxUint16 {
		return false
	}
	s.attempts++
	if first {
		s.firsts++
	}
	return true
}

// settle moves to c, the Count of the series, what is not yet in it.
func (s *series) settle(c *Count) {
	c.Attempts += int64(s.attempts)
	c.Firsts += int64(s.firsts)
	s.attempts, s.firsts = 0, 0
}

// seriesTable finds series by their numbers. It is a hash table with linear
// probing.
type seriesTable struct {
	slots []series // a power of two
	all   []*Series
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
		if s := &slots[i&(len(slots)-1)]; s.rest == key.rest && s.sender == key.sender && s.number != 0 || s.number == 0 {
			return s
		}
	}
}

// insert adds a series that is not there.
func (t *seriesTable) insert(key seriesKey, s *Series) *series {
	if len(t.all) >= len(t.slots)/2 {
		old := t.slots
		t.slots = make([]series, 2*len(old))
		for i := range old {
			if old[i].number != 0 {
				*t.find(seriesKey{old[i].sender, old[i].rest}) = old[i]
			}
		}
	}
	t.all = append(t.all, s)
	slot := t.find(key)
	*slot = series{rest: key.rest, sender: key.sender, number: uint32(len(t.all)), count: -1}
	return slot
}

// settle completes counts, and forgets where the series were counted.
func (t *seriesTable) settle(counts []Count) {
	for i := range t.slots {
		s := &t.slots[i]
		if s.number != 0 && s.count >= 0 {
			s.settle(&counts[s.count])
			s.count = -1
		}
	}
}
