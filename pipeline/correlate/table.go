// Package correlate joins what an MTA says about one message on several lines:
// the sender, told when the message becomes active, with the outcome of each
// recipient, told later by its queue id. It is pure: no clock, no I/O; all
// ages are in event time.
//
// Three kinds of state are kept, all bounded and all spilled to the ledger:
// messages that are in the queue (their sender's domain, and the last cause of
// a deferral), recipients whose last outcome was a deferral (so that a retry is
// told from a first outcome), and, where senders repeat themselves, the ids of
// events.
package correlate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/short"
)

// Config bounds a Table.
type Config struct {
	// Limit is how many messages, and how many deferred recipients, are
	// remembered at the most. Beyond it the tenth that was heard of longest ago
	// is forgotten, and counted.
	Limit int
	// Lifetime is how long after its last sign of life a message is forgotten:
	// the MTA's queue lifetime and some grace.
	Lifetime time.Duration
	// Track keeps account of changes for Changes. Without it, as in a one-shot
	// report, nothing is remembered of what came and went.
	Track bool
	// Classify, if set, judges anew an attempt whose recipient only the table
	// knows; see event.Event.DeliveryID.
	Classify func(*event.Event)
	// Details also keeps the sender's address, the client and the message id, for
	// those who store records. It costs about 200 bytes a message.
	Details bool
	// Privacy is applied to what Details keeps, since it is stored.
	Privacy event.Privacy
	// EventIDs is how many ids of events are remembered at the most, for
	// Repeated; zero remembers none. Each takes up to 40 bytes.
	EventIDs int
}

// Defaults of Config.
const (
	DefaultLimit    = 2_000_000
	DefaultLifetime = 6 * 24 * time.Hour // Postfix: maximal_queue_lifetime 5d
)

// Table is the state of one lane. It is used by one goroutine.
type Table struct {
	config   Config
	lifetime uint32 // seconds

	messages entries
	deferred entries
	events   entries // see repeats.go
	senders  senders
	details  map[uint64]*details

	deliveries deliveries // see delivery.go

	changed []uint64 // keys put since the last Changes, some gone again
	deleted []uint64 // stored keys that are gone

	swept uint32 // event time of the last sweep, seconds
	// eventsSwept is when events were last swept, in the time of receipt.
	eventsSwept uint32
	evicted     int64

	origins [8]origin // lately used, by a cheap hash
}

// origin is a host and stream with the hash of both.
type origin struct {
	host, stream []byte
	hash         uint64
}

type details struct{ sender, client, messageID []byte }

// state is what the ledger knows of an entry.
type state uint8

const (
	dirty  state = 1 << iota // listed in Table.changed
	stored                   // the ledger has it, perhaps in an older form
)

// New returns an empty table.
func New(c Config) *Table {
	if c.Limit <= 0 {
		c.Limit = DefaultLimit
	}
	c.Limit = min(c.Limit, maxSender/2) // no more senders than messages, and those kept idle
	if c.Lifetime <= 0 {
		c.Lifetime = DefaultLifetime
	}
	t := &Table{
		config:   c,
		lifetime: uint32(c.Lifetime / time.Second),
		messages: newEntries(),
		deferred: newEntries(),
		events:   newEntries(),
		senders:  newSenders(),
	}
	if c.Details {
		t.details = make(map[uint64]*details)
	}
	return t
}

// Len returns how many messages and deferred recipients are remembered.
func (t *Table) Len() (messages, deferred int) { return t.messages.n, t.deferred.n }

// Pending returns how many entries have changed since the last Changes, more or
// less.
func (t *Table) Pending() int {
	return min(len(t.changed), t.messages.n+t.deferred.n+t.events.n+len(t.deliveries.all)) + len(t.deleted)
}

// Evicted returns how many entries were forgotten for the limit since the last
// call.
func (t *Table) Evicted() int64 {
	n := t.evicted
	t.evicted = 0
	return n
}

// Apply completes an Attempt or Expiry from what earlier events told (the
// sender, FirstOutcome, for an Expiry the cause as secondary category), and
// remembers what e tells for later ones. An attempt must have its verdict.
func (t *Table) Apply(e *event.Event) {
	if len(e.DeliveryID) > 0 {
		t.number(e)
	}
	if len(e.QueueID) == 0 || e.Joined {
		t.senderFrom(e)
		e.FirstOutcome = e.FirstOutcome || !e.Joined
		if e.Kind == event.Expiry {
			expired(e, event.Unset)
		}
		return
	}
	now := uint32(e.Time / 1e6)
	key := t.key(e)
	switch e.Kind {
	case event.Arrival:
		t.arrive(key, now, e)
	case event.Removal:
		t.remove(key)
	case event.Attempt:
		t.attempt(key, now, e)
	case event.Expiry:
		t.expire(key, now, e)
	}
	if t.messages.n > t.config.Limit || t.deferred.n > t.config.Limit || now-t.swept > 3600 && now > t.swept {
		t.sweep(now)
	}
}

// key identifies e's message. Queue ids are unique per host and instance only.
// 64 bits make a mix-up of any two of a million live messages as likely as
// 3 in 100 million.
func (t *Table) key(e *event.Event) uint64 {
	place := e.Place
	if place == 0 {
		place = t.place(e)
	}
	return notZero(hash(e.QueueID)*0x9E3779B97F4A7C15 ^ place)
}

// hash is the same in every process.
func hash(id []byte) uint64 {
	if text, ok := short.Make(id); ok {
		return text.Hash(short.Seed{})
	}
	return xxhash.Sum64(id)
}

// place returns the hash of e's host and stream.
func (t *Table) place(e *event.Event) uint64 {
	o := &t.origins[0]
	if h, s := len(e.Host), len(e.Stream); h > 0 && s > 0 {
		o = &t.origins[(int(e.Host[h-1])+s)%len(t.origins)]
	}
	if string(e.Host) != string(o.host) || string(e.Stream) != string(o.stream) || o.hash == 0 {
		o.host = append(o.host[:0], e.Host...)
		o.stream = append(o.stream[:0], e.Stream...)
		o.hash = event.PlaceOf(e.Host, e.Stream)
	}
	return o.hash
}

// notZero makes a hash a key of entries.
func notZero(hash uint64) uint64 {
	if hash == 0 {
		return 1
	}
	return hash
}

// live returns the message of key if it has shown a sign of life within the
// lifetime, else nil. Older ones are as good as forgotten, whenever they are
// swept.
func (t *Table) live(key uint64, now uint32) *entry {
	i := t.messages.find(key)
	if i < 0 {
		return nil
	}
	m := &t.messages.slots[i]
	if now > m.seen && now-m.seen > t.lifetime {
		t.removeAt(i)
		return nil
	}
	return m
}

func (t *Table) arrive(key uint64, now uint32, e *event.Event) {
	m := t.live(key, now)
	if m == nil {
		m = t.messages.insert(key)
	}
	if domain, known := senderDomain(e); known {
		sender := t.senders.acquire(domain)
		if m.sender() != 0 && m.sender() != sender {
			m.setCause(event.Unset) // the queue id is used again
		}
		t.senders.release(m.sender())
		m.setSender(sender)
	}
	m.seen = max(m.seen, now)
	if t.details != nil {
		t.keep(key, e)
	}
	t.touch(m)
}

// keep remembers the details that e tells.
func (t *Table) keep(key uint64, e *event.Event) {
	d := t.details[key]
	if d == nil {
		d = &details{}
		t.details[key] = d
	}
	if e.SenderKnown {
		d.sender = t.config.Privacy.AppendAddress(nil, e.Sender)
	}
	if e.Client != nil {
		d.client = t.config.Privacy.Append(nil, e.Client)
	}
	if e.MessageID != nil {
		d.messageID = bytes.Clone(e.MessageID)
	}
}

func (t *Table) attempt(key uint64, now uint32, e *event.Event) {
	m := t.live(key, now)
	t.complete(e, key, m)
	if e.Repeat && len(e.Reply.Text) == 0 {
		t.repeat(e, m)
	}

	if m != nil && m.cause() == event.Unset && e.Outcome != event.Deferred {
		// No recipient of this message was ever deferred: most never are.
		e.FirstOutcome = true
		return
	}
	recipientKey := notZero(key ^ hash(e.Recipient)*0xD6E8FEB86659FD93)
	i := t.deferred.find(recipientKey)
	again := false
	if i >= 0 {
		seen := t.deferred.slots[i].seen
		again = now <= seen || now-seen <= t.lifetime
	}
	e.FirstOutcome = !again

	switch {
	case e.Outcome == event.Deferred:
		var d *entry
		if i >= 0 {
			d = &t.deferred.slots[i]
		} else {
			d = t.deferred.insert(recipientKey)
		}
		d.seen = max(d.seen, now)
		t.touch(d)
		if m == nil || m.cause() != e.Verdict.Category {
			// A repeat by our own MTA repeats the cause too.
			if m == nil {
				m = t.messages.insert(key)
			}
			m.setCause(e.Verdict.Category)
			m.seen = max(m.seen, now)
			t.touch(m)
		}
	case again:
		t.forgetRecipientAt(i)
	}
}

// repeat judges an attempt of which our own MTA says no more than that it did
// not try again: the cause is that of the attempt before.
func (t *Table) repeat(e *event.Event, m *entry) {
	category := event.Unclassified
	if m != nil && m.cause() != event.Unset {
		category = m.cause()
	}
	e.Verdict = event.Verdict{Category: category, Persistence: event.Transient}
}

func (t *Table) expire(key uint64, now uint32, e *event.Event) {
	m := t.live(key, now)
	t.complete(e, key, m)
	e.FirstOutcome = true
	cause := event.Unset
	if m != nil {
		cause = m.cause()
	}
	expired(e, cause)
}

// expired is the verdict on a message given up, of which cause was the last
// failure; where that is not known, it is what the record itself says.
func expired(e *event.Event, cause event.Category) {
	if cause == event.Unset {
		switch v := &e.Verdict; v.Category {
		case event.QueueExpired:
			cause = v.Secondary
		case event.Unclassified:
		default:
			cause = v.Category
		}
	}
	e.Verdict.Category = event.QueueExpired
	e.Verdict.Persistence = event.Permanent
	e.Verdict.Confidence = 1
	e.Verdict.Secondary = cause
}

// complete sets the sender of e, from e itself or from its message, if there
// is one.
func (t *Table) complete(e *event.Event, key uint64, m *entry) {
	if e.SenderKnown || m == nil || m.sender() == 0 {
		t.senderFrom(e)
	} else {
		e.SenderKnown = true
		e.SenderDomain = t.senders.domain(m.sender())
	}
	if t.details == nil {
		return
	}
	if d := t.details[key]; d != nil {
		if e.Sender == nil {
			e.Sender, e.SenderHidden = d.sender, len(d.sender) > 0
		}
		if e.Client == nil {
			e.Client = d.client
		}
		if e.MessageID == nil {
			e.MessageID = d.messageID
		}
	}
}

// senderFrom sets the sender's domain from e itself.
func (t *Table) senderFrom(e *event.Event) {
	if e.SenderDomain == nil {
		e.SenderDomain, e.SenderKnown = senderDomain(e)
	}
}

// senderDomain returns the domain of e's sender, which is empty for the null
// sender. A sender without a domain is as good as not known.
func senderDomain(e *event.Event) (domain []byte, known bool) {
	domain = event.Domain(e.Sender)
	return domain, e.SenderKnown && (domain != nil || len(e.Sender) == 0)
}

// touch lists an entry that is new or different for Changes.
func (t *Table) touch(e *entry) {
	if t.config.Track && e.state()&dirty == 0 {
		e.setState(e.state() | dirty)
		t.changed = append(t.changed, e.key)
	}
}

func (t *Table) remove(key uint64) {
	if i := t.messages.find(key); i >= 0 {
		t.removeAt(i)
	}
}

func (t *Table) removeAt(i int) {
	m := t.messages.slots[i]
	t.messages.remove(i)
	if t.details != nil {
		delete(t.details, m.key)
	}
	t.senders.release(m.sender())
	if m.state()&stored != 0 {
		t.deleted = append(t.deleted, m.key)
	}
}

func (t *Table) forgetRecipientAt(i int) {
	d := t.deferred.slots[i]
	t.deferred.remove(i)
	if d.state()&stored != 0 {
		t.deleted = append(t.deleted, d.key)
	}
}

// sweep forgets what has outlived its time, and where there still is too much,
// the oldest tenth.
func (t *Table) sweep(now uint32) {
	t.swept = now
	horizon := uint32(0)
	if now > t.lifetime {
		horizon = now - t.lifetime
	}
	t.sweepEntries(&t.messages, t.config.Limit, horizon, t.removeAt)
	t.sweepEntries(&t.deferred, t.config.Limit, horizon, t.forgetRecipientAt)
	t.sweepDeliveries(horizon)
}

func (t *Table) sweepEntries(all *entries, most int, horizon uint32, remove func(i int)) {
	limit := horizon
	if all.n > most {
		limit = max(horizon, all.oldest()+1)
	}
	for i := 0; i < len(all.slots); {
		e := all.slots[i]
		if e.key == 0 || e.seen >= limit {
			i++
			continue
		}
		remove(i) // slot i may now have another one
		if e.seen >= horizon {
			t.evicted++
		}
	}
	all.fit()
}

// oldest returns the time that a tenth of the entries are not younger than.
func (t *entries) oldest() uint32 {
	times := make([]uint32, 0, t.n)
	for _, e := range t.slots {
		if e.key != 0 {
			times = append(times, e.seen)
		}
	}
	slices.Sort(times)
	return times[len(times)/10]
}

// Entry kinds, the first byte of a stored value.
const (
	entryMessage   = 'm'
	entryRecipient = 'r'
)

// Changes calls put for every entry that is new or different since the last
// call and gone for every one that the ledger has and should not. An entry
// that came and went in between is in neither. The value is valid during the
// call only.
func (t *Table) Changes(put func(key uint64, value []byte), gone func(key uint64)) {
	var value []byte
	for _, key := range t.changed {
		if i := t.messages.find(key); i >= 0 && t.messages.slots[i].state()&dirty != 0 {
			m := &t.messages.slots[i]
			value = t.encodeMessage(value[:0], m)
			put(key, value)
			m.setState(stored)
		} else if i := t.deferred.find(key); i >= 0 && t.deferred.slots[i].state()&dirty != 0 {
			d := &t.deferred.slots[i]
			value = binary.BigEndian.AppendUint32(append(value[:0], entryRecipient), d.seen)
			put(key, value)
			d.setState(stored)
		} else if i := t.events.find(key); i >= 0 && t.events.slots[i].state()&dirty != 0 {
			e := &t.events.slots[i]
			value = encodeEvent(value[:0], e)
			put(key, value)
			e.setState(stored)
		} else if d := t.deliveries.all[key]; d != nil && d.state&dirty != 0 {
			value = d.encode(value[:0])
			put(key, value)
			d.state = stored
		}
	}
	for _, key := range t.deleted {
		// A queue id may be in use again, and then it was put.
		if t.messages.find(key) < 0 && t.deferred.find(key) < 0 && t.events.find(key) < 0 && t.deliveries.all[key] == nil {
			gone(key)
		}
	}
	t.changed, t.deleted = shrink(t.changed), shrink(t.deleted)
}

// shrink empties s, and gives its memory back after a burst.
func shrink(s []uint64) []uint64 {
	if cap(s) > 1<<16 {
		return nil
	}
	return s[:0]
}

func (t *Table) encodeMessage(b []byte, m *entry) []byte {
	b = append(b, entryMessage)
	b = binary.BigEndian.AppendUint32(b, m.seen)
	b = appendBytes(b, m.cause().String())
	if m.sender() != 0 {
		b = append(b, 1)
		b = appendBytes(b, t.senders.domain(m.sender()))
	} else {
		b = append(b, 0)
	}
	if d := t.details[m.key]; d != nil {
		b = appendBytes(b, d.sender)
		b = appendBytes(b, d.client)
		b = appendBytes(b, d.messageID)
	}
	return b
}

// Restore puts back an entry that an earlier process stored. Each key is put
// back once.
func (t *Table) Restore(key uint64, value []byte) error {
	if key == 0 {
		return fmt.Errorf("correlation entry %x: no entry has this key", key)
	}
	d := decoder{rest: value}
	e := entry{key: key}
	e.setState(stored)
	kind := d.byte()
	if kind == entryDelivery {
		return t.restoreDelivery(key, &d)
	}
	if kind != entryRecipient && kind != entryMessage && kind != entryEvent {
		return fmt.Errorf("correlation entry %x: unknown kind %q; it was written by a newer version", key, kind)
	}
	e.seen = d.uint32()
	if kind == entryRecipient || kind == entryEvent {
		if d.bad {
			return tooShort(key)
		}
		if kind == entryEvent {
			t.events.restore(e)
		} else {
			t.deferred.restore(e)
		}
		return nil
	}
	cause, _ := event.CategoryByID(string(d.string()))
	e.setCause(cause)
	known := d.byte() == 1
	var domain []byte
	if known {
		domain = d.string()
	}
	var kept *details
	if len(d.rest) > 0 && t.details != nil {
		kept = &details{bytes.Clone(d.string()), bytes.Clone(d.string()), bytes.Clone(d.string())}
	}
	if d.bad {
		return tooShort(key)
	}
	if known {
		e.setSender(t.senders.acquireDomain(domain))
	}
	if kept != nil {
		t.details[key] = kept
	}
	t.messages.restore(e)
	return nil
}

func tooShort(key uint64) error { return fmt.Errorf("correlation entry %x: too short", key) }

func appendBytes[S ~string | ~[]byte](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decoder reads an entry's value; bad is set once it was too short.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.rest) {
		d.bad, d.rest = true, nil
		return make([]byte, min(max(n, 0), 8))
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) byte() byte     { return d.take(1)[0] }
func (d *decoder) uint32() uint32 { return binary.BigEndian.Uint32(d.take(4)) }

func (d *decoder) string() []byte {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 || n > uint64(len(d.rest)) {
		d.bad, d.rest = true, nil
		return nil
	}
	d.rest = d.rest[size:]
	return d.take(int(n))
}
