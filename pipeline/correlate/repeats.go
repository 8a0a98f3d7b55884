package correlate

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"github.com/bouncemeter/bouncemeter/event"
)

// repeatLifetime is how long the id of an event is remembered. Senders
// repeat what was not acknowledged for about a day.
const repeatLifetime = 2 * 24 * 60 * 60 // seconds

// entryEvent is the first byte of the stored value of an event's id.
const entryEvent = 'e'

// Repeated reports whether e is told again: an event with its id, kind, outcome
// and recipient came within the last two days. If not, it will be from now on. now
// is when e was received, in Unix seconds: what is repeated is as old as it was
// the first time. Without Config.EventIDs, and without an id, nothing is known to
// repeat.
//
// Ids are kept as hashes of 64 bits: with a million of them, one event in 10^13
// is taken for another.
func (t *Table) Repeated(e *event.Event, now int64) bool {
	if t.config.EventIDs <= 0 || len(e.ID) == 0 {
		return false
	}
	seen := uint32(now)
	key := notZero(xxhash.Sum64(e.ID)*0x9E3779B97F4A7C15 ^ xxhash.Sum64(e.Recipient)*0xD6E8FEB86659FD93 ^ uint64(e.Kind)<<8 ^ uint64(e.Outcome))
	if i := t.events.find(key); i >= 0 {
		known := &t.events.slots[i]
		again := seen <= known.seen || seen-known.seen <= repeatLifetime
		if !again {
			known.seen = seen
			t.touch(known)
		}
		return again
	}
	known := t.events.insert(key)
	known.seen = seen
	t.touch(known)
	if t.events.n > t.config.EventIDs || seen > t.eventsSwept && seen-t.eventsSwept > 3600 {
		t.sweepEvents(seen)
	}
	return false
}

func (t *Table) sweepEvents(now uint32) {
	t.eventsSwept = now
	t.sweepEntries(&t.events, t.config.EventIDs, now-min(now, repeatLifetime), t.forgetEventAt)
}

func (t *Table) forgetEventAt(i int) {
	e := t.events.slots[i]
	t.events.remove(i)
	if e.state()&stored != 0 {
		t.deleted = append(t.deleted, e.key)
	}
}

func encodeEvent(b []byte, e *entry) []byte {
	return binary.BigEndian.AppendUint32(append(b, entryEvent), e.seen)
}
