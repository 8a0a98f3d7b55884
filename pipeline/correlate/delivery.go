package correlate

import (
	"bytes"
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"github.com/bouncemeter/bouncemeter/event"
)

// maxDeliveries bounds how many tries may be under way at once. It is many times
// what any MTA that numbers its tries can have.
const maxDeliveries = 8192

// delivery is a try that has begun, known by its number (event.DeliveryID).
type delivery struct {
	key       uint64
	seen      uint32
	state     state
	local     bool
	queueID   []byte
	recipient []byte
}

// deliveries are the tries under way, of MTAs whose results name neither message
// nor recipient; for all others it stays empty.
type deliveries struct {
	all map[uint64]*delivery
	// ended is the one whose result came last: an Expiry may be in the same
	// record.
	ended delivery
}

// number begins or ends a try by e's DeliveryID. The result gets what the
// beginning told, and with it a new verdict, since who answered may follow from
// the recipient.
func (t *Table) number(e *event.Event) {
	now := uint32(e.Time / 1e6)
	queueID := e.QueueID
	e.QueueID = e.DeliveryID
	key := notZero(xxhash.Sum64String("delivery") ^ t.key(e))
	e.QueueID = queueID
	switch e.Kind {
	case event.Arrival:
		t.begin(key, now, e)
	case event.Attempt:
		if d := t.deliveries.all[key]; d != nil {
			t.deliveries.ended = *d
			t.forgetDelivery(d)
			t.give(e)
			if t.config.Classify != nil {
				t.config.Classify(e)
			}
		} else {
			t.deliveries.ended = delivery{}
		}
	case event.Expiry:
		if t.deliveries.ended.key == key {
			t.give(e)
		}
	}
}

// give completes e from the try that has just ended.
func (t *Table) give(e *event.Event) {
	d := &t.deliveries.ended
	e.QueueID, e.Recipient, e.Local = d.queueID, d.recipient, d.local
}

func (t *Table) begin(key uint64, now uint32, e *event.Event) {
	d := t.deliveries.all[key]
	if d == nil {
		if t.deliveries.all == nil {
			t.deliveries.all = make(map[uint64]*delivery)
		}
		if len(t.deliveries.all) >= maxDeliveries {
			t.forgetOldestDelivery()
			t.evicted++
		}
		d = &delivery{key: key}
		t.deliveries.all[key] = d
	}
	d.seen, d.local = now, e.Local
	d.queueID, d.recipient = bytes.Clone(e.QueueID), bytes.Clone(e.Recipient)
	if t.config.Track && d.state&dirty == 0 {
		d.state |= dirty
		t.changed = append(t.changed, key)
	}
}

func (t *Table) forgetDelivery(d *delivery) {
	delete(t.deliveries.all, d.key)
	if d.state&stored != 0 {
		t.deleted = append(t.deleted, d.key)
	}
}

func (t *Table) forgetOldestDelivery() {
	var oldest *delivery
	for _, d := range t.deliveries.all {
		if oldest == nil || d.seen < oldest.seen || d.seen == oldest.seen && d.key < oldest.key {
			oldest = d
		}
	}
	t.forgetDelivery(oldest)
}

// sweepDeliveries forgets the tries whose result has not come within the
// lifetime: the MTA was stopped.
func (t *Table) sweepDeliveries(horizon uint32) {
	for _, d := range t.deliveries.all {
		if d.seen < horizon {
			t.forgetDelivery(d)
		}
	}
}

// entryDelivery is the first byte of the stored value of a try.
const entryDelivery = 'd'

func (d *delivery) encode(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, entryDelivery), d.seen)
	local := byte(0)
	if d.local {
		local = 1
	}
	b = append(b, local)
	b = appendBytes(b, d.queueID)
	return appendBytes(b, d.recipient)
}

// restoreDelivery puts back a try from a stored value after its first byte.
func (t *Table) restoreDelivery(key uint64, from *decoder) error {
	d := &delivery{key: key, state: stored, seen: from.uint32(), local: from.byte() == 1}
	d.queueID, d.recipient = bytes.Clone(from.string()), bytes.Clone(from.string())
	if from.bad {
		return tooShort(key)
	}
	if t.deliveries.all == nil {
		t.deliveries.all = make(map[uint64]*delivery)
	}
	t.deliveries.all[key] = d
	return nil
}
