package correlate

import (
	"hash/maphash"

	"github.com/bouncemeter/bouncemeter/event"
)

// entry is what is remembered of a message in the queue, or of a recipient
// whose last outcome was a deferral. It has no pointers, so that the garbage
// collector never looks at the millions of them.
type entry struct {
	key  uint64 // not zero in a slot that is taken
	seen uint32 // event time of the last sign of life, seconds
	bits uint32 // sender 24, cause 6, state 2
}

// maxSender is the largest index into senders that an entry can hold.
const maxSender = 1<<24 - 1

func (e *entry) sender() uint32        { return e.bits >> 8 } // index into senders; 0 is not known
func (e *entry) cause() event.Category { return event.Category(e.bits >> 2 & 0x3f) }
func (e *entry) state() state          { return state(e.bits & 3) }

func (e *entry) setSender(s uint32)        { e.bits = e.bits&0xff | s<<8 }
func (e *entry) setCause(c event.Category) { e.bits = e.bits&^0xfc | uint32(c)<<2 }
func (e *entry) setState(s state)          { e.bits = e.bits&^3 | uint32(s) }

// entries is a hash table with linear probing: half the memory and a third of
// the time of a map of the language. Indexes are valid until the next insert or
// remove.
type entries struct {
	slots []entry // a power of two
	n     int
	shift uint8
	// factor is odd and random. It spreads the keys, and who chooses recipients
	// cannot choose where they meet.
	factor uint64
}

const minSlots = 1 << 10

func newEntries() entries {
	var t entries
	t.resize(minSlots)
	return t
}

func (t *entries) home(key uint64) int { return int(key * t.factor >> t.shift) }

// find returns the index of key, or -1.
func (t *entries) find(key uint64) int {
	for i := t.home(key); ; i = (i + 1) & (len(t.slots) - 1) {
		switch t.slots[i].key {
		case key:
			return i
		case 0:
			return -1
		}
	}
}

// insert adds a key that is not there.
func (t *entries) insert(key uint64) *entry {
	if t.n >= len(t.slots)/4*3 {
		t.resize(2 * len(t.slots))
	}
	t.n++
	return t.free(key)
}

// restore adds e, in place of an older one of its key.
func (t *entries) restore(e entry) {
	if i := t.find(e.key); i >= 0 {
		t.slots[i] = e
		return
	}
	*t.insert(e.key) = e
}

func (t *entries) free(key uint64) *entry {
	i := t.home(key)
	for t.slots[i].key != 0 {
		i = (i + 1) & (len(t.slots) - 1)
	}
	t.slots[i].key = key
	return &t.slots[i]
}

// remove empties slot i. An entry that would not be found any more takes its
// place, and so on.
func (t *entries) remove(i int) {
	mask := len(t.slots) - 1
	for j := i; ; {
		j = (j + 1) & mask
		if t.slots[j].key == 0 {
			break
		}
		if home := t.home(t.slots[j].key); (j-home)&mask >= (j-i)&mask {
			t.slots[i] = t.slots[j]
			i = j
		}
	}
	t.slots[i] = entry{}
	t.n--
}

// resize moves all entries to a table of the given number of slots.
func (t *entries) resize(slots int) {
	old := t.slots
	t.slots, t.shift, t.factor = make([]entry, slots), 64, maphash.Bytes(maphash.MakeSeed(), nil)|1
	for n := slots; n > 1; n /= 2 {
		t.shift--
	}
	for _, e := range old {
		if e.key != 0 {
			*t.free(e.key) = e
		}
	}
}

// fit gives memory back after a burst.
func (t *entries) fit() {
	slots := len(t.slots)
	for slots > minSlots && t.n < slots/8 {
		slots /= 2
	}
	if slots < len(t.slots) {
		t.resize(slots)
	}
}
