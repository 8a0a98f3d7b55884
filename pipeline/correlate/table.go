// Package correlate joins what an MTA says about one message on several lines:
// the sender, told when the message becomes active, with the outcome of each
// recipient, told later by its queue id. It is pure: no clock, no I/O; all
// ages are in event time.
//
// Two kinds of state are kept, both bounded and both spilled to the ledger:
// messages that are in the queue (their sender's domain, and the last cause of
// a deferral), and recipients whose last outcome was a deferral (so that a
// retry is told from a first outcome).
package correlate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/bouncemeter/bouncemeter/event"
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
	// Details also keeps the full sender, the client and the message id, for
	// those who store records. It costs about 200 bytes a message.
	Details bool
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

	messages map[uint64]message
	deferred map[uint64]recipient
	senders  senders
	details  map[uint64]*details

	changed []uint64 // keys put since the last Changes, some gone again
	deleted []uint64 // stored keys that are gone

	swept   uint32 // event time of the last sweep, seconds
	evicted int64

	// origin is the hash of the host and stream of the last event, which most
	// often are those of the next one too.
	host, stream []byte
	origin       uint64
}

// message is what is known of one message in the queue.
type message struct {
	sender uint32 // index into senders; 0 is not known
	seen   uint32 // event time of the last sign of life, seconds
	cause  event.Category
	state  state
}

// recipient is one whose last outcome was a deferral.
type recipient struct {
	seen  uint32
	state state
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
	if c.Lifetime <= 0 {
		c.Lifetime = DefaultLifetime
	}
	t := &Table{
		config:   c,
		lifetime: uint32(c.Lifetime / time.Second),
		messages: make(map[uint64]message),
		deferred: make(map[uint64]recipient),
		senders:  newSenders(),
	}
	if c.Details {
		t.details = make(map[uint64]*details)
	}
	return t
}

// Len returns how many messages and deferred recipients are remembered.
func (t *Table) Len() (messages, deferred int) { return len(t.messages), len(t.deferred) }

// Pending returns how many entries have changed since the last Changes, more or
// less.
func (t *Table) Pending() int { return len(t.changed) + len(t.deleted) }

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
	if len(e.QueueID) == 0 {
		t.senderFrom(e)
		e.FirstOutcome = true
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
	if len(t.messages) > t.config.Limit || len(t.deferred) > t.config.Limit || now-t.swept > 3600 && now > t.swept {
		t.sweep(now)
	}
}

// key identifies e's message. Queue ids are unique per host and instance only.
// 64 bits make a mix-up of any two of a million live messages as likely as
// 3 in 100 million.
func (t *Table) key(e *event.Event) uint64 {
	if string(e.Host) != string(t.host) || string(e.Stream) != string(t.stream) || t.origin == 0 {
		t.host = append(t.host[:0], e.Host...)
		t.stream = append(t.stream[:0], e.Stream...)
		var d xxhash.Digest
		d.Reset()
		d.Write(e.Host)
		d.Write([]byte{0})
		d.Write(e.Stream)
		t.origin = d.Sum64() | 1
	}
	return xxhash.Sum64(e.QueueID)*0x9E3779B97F4A7C15 ^ t.origin
}

// live returns the message of key if it has shown a sign of life within the
// lifetime. Older ones are as good as forgotten, whenever they are swept.
func (t *Table) live(key uint64, now uint32) (message, bool) {
	m, ok := t.messages[key]
	if ok && now > m.seen && now-m.seen > t.lifetime {
		t.remove(key)
		return message{}, false
	}
	return m, ok
}

func (t *Table) arrive(key uint64, now uint32, e *event.Event) {
	m, _ := t.live(key, now)
	if domain, known := senderDomain(e); known {
		sender := t.senders.acquire(domain)
		if m.sender != 0 && m.sender != sender {
			m.cause = event.Unset // the queue id is used again
		}
		t.senders.release(m.sender)
		m.sender = sender
	}
	m.seen = max(m.seen, now)
	if t.details != nil {
		t.keep(key, e)
	}
	t.put(key, m)
}

// keep remembers the details that e tells.
func (t *Table) keep(key uint64, e *event.Event) {
	d := t.details[key]
	if d == nil {
		d = &details{}
		t.details[key] = d
	}
	if e.SenderKnown {
		d.sender = bytes.Clone(e.Sender)
	}
	if e.Client != nil {
		d.client = bytes.Clone(e.Client)
	}
	if e.MessageID != nil {
		d.messageID = bytes.Clone(e.MessageID)
	}
}

func (t *Table) attempt(key uint64, now uint32, e *event.Event) {
	m, known := t.live(key, now)
	t.complete(e, key, m)

	if known && m.cause == event.Unset && e.Outcome != event.Deferred {
		// No recipient of this message was ever deferred: most never are.
		e.FirstOutcome = true
		return
	}
	recipientKey := key ^ xxhash.Sum64(e.Recipient)*0xD6E8FEB86659FD93
	d, again := t.deferred[recipientKey]
	again = again && (now <= d.seen || now-d.seen <= t.lifetime)
	e.FirstOutcome = !again

	switch {
	case e.Outcome == event.Deferred:
		d.seen = max(d.seen, now)
		if t.config.Track && d.state&dirty == 0 {
			d.state |= dirty
			t.changed = append(t.changed, recipientKey)
		}
		t.deferred[recipientKey] = d
		if !known || m.cause != e.Verdict.Category {
			// A repeat by our own MTA repeats the cause too.
			m.cause, m.seen = e.Verdict.Category, max(m.seen, now)
			t.put(key, m)
		}
	case again:
		t.forgetRecipient(recipientKey, d)
	}
}

func (t *Table) expire(key uint64, now uint32, e *event.Event) {
	m, _ := t.live(key, now)
	t.complete(e, key, m)
	e.FirstOutcome = true
	e.Verdict.Category = event.QueueExpired
	e.Verdict.Persistence = event.Permanent
	e.Verdict.Confidence = 1
	e.Verdict.Secondary = m.cause
}

// complete sets the sender of e, from e itself or from its message.
func (t *Table) complete(e *event.Event, key uint64, m message) {
	if e.SenderKnown || m.sender == 0 {
		t.senderFrom(e)
	} else {
		e.SenderKnown = true
		e.SenderDomain = t.senders.domain(m.sender)
	}
	if d := t.details[key]; d != nil {
		if e.Sender == nil {
			e.Sender = d.sender
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

func (t *Table) put(key uint64, m message) {
	if t.config.Track && m.state&dirty == 0 {
		m.state |= dirty
		t.changed = append(t.changed, key)
	}
	t.messages[key] = m
}

func (t *Table) remove(key uint64) {
	m, ok := t.messages[key]
	if !ok {
		return
	}
	delete(t.messages, key)
	delete(t.details, key)
	t.senders.release(m.sender)
	if m.state&stored != 0 {
		t.deleted = append(t.deleted, key)
	}
}

func (t *Table) forgetRecipient(key uint64, d recipient) {
	delete(t.deferred, key)
	if d.state&stored != 0 {
		t.deleted = append(t.deleted, key)
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
	messages, deferred := horizon, horizon
	if len(t.messages) > t.config.Limit {
		messages = max(horizon, oldest(t.messages, func(m message) uint32 { return m.seen })+1)
	}
	if len(t.deferred) > t.config.Limit {
		deferred = max(horizon, oldest(t.deferred, func(d recipient) uint32 { return d.seen })+1)
	}
	for key, m := range t.messages {
		if m.seen < messages {
			t.remove(key)
			if m.seen >= horizon {
				t.evicted++
			}
		}
	}
	for key, d := range t.deferred {
		if d.seen < deferred {
			t.forgetRecipient(key, d)
			if d.seen >= horizon {
				t.evicted++
			}
		}
	}
}

// oldest returns the time that a tenth of the entries are not younger than.
func oldest[V any](m map[uint64]V, seen func(V) uint32) uint32 {
	times := make([]uint32, 0, len(m))
	for _, v := range m {
		times = append(times, seen(v))
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
		if m, ok := t.messages[key]; ok && m.state&dirty != 0 {
			value = t.encodeMessage(value[:0], key, m)
			put(key, value)
			m.state = stored
			t.messages[key] = m
		} else if d, ok := t.deferred[key]; ok && d.state&dirty != 0 {
			value = binary.BigEndian.AppendUint32(append(value[:0], entryRecipient), d.seen)
			put(key, value)
			d.state = stored
			t.deferred[key] = d
		}
	}
	for _, key := range t.deleted {
		// A queue id may be in use again, and then it was put.
		if _, ok := t.messages[key]; ok {
			continue
		}
		if _, ok := t.deferred[key]; ok {
			continue
		}
		gone(key)
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

func (t *Table) encodeMessage(b []byte, key uint64, m message) []byte {
	b = append(b, entryMessage)
	b = binary.BigEndian.AppendUint32(b, m.seen)
	b = appendBytes(b, m.cause.String())
	if m.sender != 0 {
		b = append(b, 1)
		b = appendBytes(b, t.senders.domain(m.sender))
	} else {
		b = append(b, 0)
	}
	if d := t.details[key]; d != nil {
		b = appendBytes(b, d.sender)
		b = appendBytes(b, d.client)
		b = appendBytes(b, d.messageID)
	}
	return b
}

// Restore puts back an entry that an earlier process stored.
func (t *Table) Restore(key uint64, value []byte) error {
	d := decoder{rest: value}
	switch kind := d.byte(); kind {
	case entryRecipient:
		t.deferred[key] = recipient{seen: d.uint32(), state: stored}
	case entryMessage:
		m := message{seen: d.uint32(), state: stored}
		m.cause, _ = event.CategoryByID(string(d.string()))
		if d.byte() == 1 {
			m.sender = t.senders.acquireDomain(d.string())
		}
		if len(d.rest) > 0 && t.details != nil {
			t.details[key] = &details{bytes.Clone(d.string()), bytes.Clone(d.string()), bytes.Clone(d.string())}
		}
		t.messages[key] = m
	default:
		return fmt.Errorf("correlation entry %x: unknown kind %q; it was written by a newer version", key, kind)
	}
	if d.bad {
		return fmt.Errorf("correlation entry %x: too short", key)
	}
	return nil
}

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
