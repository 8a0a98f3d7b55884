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
	number uint32 // of the series, from 0
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

// seriesTable finds series by their numbers: the places by the hash of the numbers,
// with linear probing, and what is counted in the order in which it was met first.
// Most events are of series that were met early, and those are side by side.
type seriesTable struct {
	places []uint32 // a power of two; an index into met, from 1
	met    []series
	all    []*Series // of met
}

func newSeriesTable() seriesTable { return seriesTable{places: make([]uint32, 64)} }

// hash spreads the numbers. Who chooses names chooses no numbers.
func (k seriesKey) hash() int {
	h := uint64(k.rest)*0x9E3779B97F4A7C15 ^ uint64(k.sender)*0xD6E8FEB86659FD93
	return int(h ^ h>>32)
}

// find returns what is counted of a series, valid until the next insert, or nil.
func (t *seriesTable) find(key seriesKey) *series {
	places := t.places
	for i := key.hash(); ; i++ {
		n := places[i&(len(places)-1)]
		if n == 0 {
			return nil
		}
		if s := &t.met[n-1]; s.rest == key.rest && s.sender == key.sender {
			return s
		}
	}
}

// insert adds a series that is not there.
func (t *seriesTable) insert(key seriesKey, s *Series) *series {
	if len(t.met) >= len(t.places)/2 {
		t.places = make([]uint32, 2*len(t.places))
		for i := range t.met {
			t.place(&t.met[i])
		}
	}
	t.met = append(t.met, series{rest: key.rest, sender: key.sender, number: uint32(len(t.all)), count: -1})
	t.all = append(t.all, s)
	added := &t.met[len(t.met)-1]
	t.place(added)
	return added
}

func (t *seriesTable) place(s *series) {
	i := seriesKey{s.sender, s.rest}.hash()
	for ; t.places[i&(len(t.places)-1)] != 0; i++ {
	}
	t.places[i&(len(t.places)-1)] = s.number + 1
}

// settle completes counts, and forgets where the series were counted.
func (t *seriesTable) settle(counts []Count) {
	for i := range t.met {
		if s := &t.met[i]; s.count >= 0 {
			s.settle(&counts[s.count])
			s.count = -1
		}
	}
}
