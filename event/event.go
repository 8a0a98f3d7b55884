package event

import (
	"encoding/binary"
	"math/bits"
)

// Kind says what a record tells.
type Kind uint8

const (
	// Attempt is one try to deliver one message to one recipient: what failure
	// ratios are made of. Outcome says how it went.
	Attempt Kind = iota + 1
	// Expiry is the queue manager giving a message up because its queue
	// lifetime is over. It has no recipient and is not an attempt.
	Expiry
	// Arrival tells more about a message: its sender, client or message id.
	// Only the fields that are set are known.
	Arrival
	// Removal is a message leaving the queue; its queue id may be used again.
	Removal
	// Probe is an address verification (Postfix "deliverable",
	// "undeliverable"): no mail was sent, so it counts as no attempt.
	Probe
	// Rejection is our own server refusing a client. It is inbound mail and
	// counted apart from every delivery.
	Rejection
	// Notice is news of a recipient that is no attempt of ours: a complaint, a
	// bounce that came back after the delivery, an automatic answer, a message
	// held or suppressed. It is counted under its outcome and in no ratio.
	Notice
)

var kindNames = [...]string{
	Attempt: "attempt", Expiry: "expiry", Arrival: "arrival", Removal: "removal",
	Probe: "probe", Rejection: "rejection", Notice: "notice",
}

// String returns the kind's stable name, or "" for none.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return ""
}

// KindByName returns the kind with this stable name.
func KindByName(name string) (Kind, bool) {
	for k := Attempt; k <= Notice; k++ {
		if kindNames[k] == name {
			return k, true
		}
	}
	return 0, false
}

// Outcome is what became of an attempt or of a recipient.
type Outcome uint8

const (
	// Delivered means the next hop took responsibility: a 2xx reply.
	Delivered Outcome = iota + 1
	// Deferred will be retried: a 4xx reply, or no conversation at all.
	Deferred
	// Bounced has failed for good and the sender is told: a 5xx reply, or a
	// permanent fault found before any conversation.
	Bounced
	// Expired was deferred until the queue lifetime ended.
	Expired
	// Complaint is a recipient's report of spam (RFC 5965).
	Complaint
	// AutoReply is an answer by a machine (RFC 3834), no failure.
	AutoReply
	// Suppressed was never tried: the address is on a suppression list.
	Suppressed
	// Held was kept back or cancelled by our own MTA.
	Held
	// RejectedInbound is our own server refusing a client.
	RejectedInbound
	// OutOfBand is a bounce message that came back after a server had taken
	// responsibility (RFC 5321 section 6.1): the attempt was a delivery.
	OutOfBand
)

// Outcomes lists every outcome in order of its value.
var Outcomes = [...]Outcome{Delivered, Deferred, Bounced, Expired, Complaint, AutoReply, Suppressed, Held, RejectedInbound, OutOfBand}

var outcomeNames = [...]string{
	Delivered: "delivered", Deferred: "deferred", Bounced: "bounced", Expired: "expired",
	Complaint: "complaint", AutoReply: "autoreply", Suppressed: "suppressed", Held: "held",
	RejectedInbound: "rejected_inbound", OutOfBand: "oob_bounce",
}

// String returns the outcome's stable name, or "" for none.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return ""
}

// OutcomeByName returns the outcome with this stable name.
func OutcomeByName(name string) (Outcome, bool) {
	for _, o := range Outcomes {
		if outcomeNames[o] == name {
			return o, true
		}
	}
	return 0, false
}

// Failure reports whether the outcome counts into failure ratios.
func (o Outcome) Failure() bool { return o == Deferred || o == Bounced || o == Expired }

// Event is what one record tells about one recipient of one message. Absent
// fields are zero: nothing is guessed.
type Event struct {
	Kind    Kind
	Outcome Outcome
	// Attempts is how many tries the record stands for; zero means one.
	Attempts uint32

	// Time is when it happened, in microseconds since the Unix epoch (event
	// time, never the time of reading).
	Time int64
	// Delay is how long the message had been under way, in microseconds;
	// negative if unknown.
	Delay int64

	// ID is the record's own stable id, where its producer gives it one: a
	// record that is told again has the same. A record about several recipients
	// gives each of its events the same ID, so ID and Recipient are what is
	// unique.
	ID []byte

	Host    []byte // the sending MTA as the record names it
	Stream  []byte // instance or tag: Postfix syslog_name, KumoMTA tenant
	QueueID []byte
	// Place is PlaceOf(Host, Stream) where the parser has it at hand, or zero: it
	// spares correlation a look at both.
	Place uint64
	// DeliveryID is for records of a result that name neither the message nor
	// the recipient, but a number of that one try (qmail). An Arrival with it
	// says which recipient of which message is tried; correlation completes the
	// Attempt or Expiry with the same DeliveryID.
	DeliveryID []byte

	// SenderKnown tells an empty sender that was seen (the null sender of
	// bounces, RFC 5321 section 4.5.5) from one that was not.
	SenderKnown bool
	Sender      []byte
	// SenderHidden tells that Sender is no longer as the record has it, but as
	// privacy asks for: an earlier line told it.
	SenderHidden bool
	// SenderDomain is the domain of the sender. Correlation sets it, also
	// where it has kept no more of the sender than this.
	SenderDomain []byte
	// Client is who handed the message to us: "host[ip]", or a user.
	Client    []byte
	MessageID []byte

	Recipient         []byte
	OriginalRecipient []byte

	Relay   []byte // the host that answered, without address and port
	RelayIP []byte
	// Local is true for deliveries that never left the machine: a mailbox, a
	// pipe, a Unix socket.
	Local bool
	// Repeat marks a failure that our own MTA repeats without a new
	// conversation, such as Postfix's "delivery temporarily suspended".
	Repeat   bool
	SourceIP []byte // the address we sent from

	// FirstOutcome is true if this is the first attempt for this recipient of
	// this message. Correlation sets it; see package correlate.
	FirstOutcome bool
	// Joined marks an event whose record tells by itself who the sender is and
	// whether this is the first outcome: FirstOutcome is taken as it is, and
	// correlation keeps nothing of the message.
	Joined bool
	// Classified marks an event that is complete as it is, such as a record that
	// another bouncemeter has classified and joined: Provider, Verdict, sender and
	// FirstOutcome are taken as they are.
	Classified bool

	Reply    Reply
	Provider string // set by classification: who answered, such as "gmail"
	Verdict  Verdict
}

// PlaceOf is a hash of a host and a stream, which is never zero. It is the same in
// every process: FNV-1a with a last step that spreads what is short.
func PlaceOf(host, stream []byte) uint64 {
	const offset, prime = 0xcbf29ce484222325, 0x100000001b3
	h := uint64(offset)
	for _, c := range host {
		h = (h ^ uint64(c)) * prime
	}
	h *= prime // as for a byte of zero between them
	for _, c := range stream {
		h = (h ^ uint64(c)) * prime
	}
	return (h^h>>32)*0x9E3779B97F4A7C15 | 1
}

// RecipientDomain returns the part of the recipient after the last @.
func (e *Event) RecipientDomain() []byte { return Domain(e.Recipient) }

// Domain returns what follows the last @ of an address, without the trailing
// dot of a fully qualified name, or nil if there is no @.
func Domain(address []byte) []byte {
	at := lastAt(address)
	if at < 0 {
		return nil
	}
	d := address[at+1:]
	if n := len(d); n > 0 && d[n-1] == '.' {
		d = d[:n-1]
	}
	return d
}

// lastAt is bytes.LastIndexByte(b, '@'), eight bytes at once.
func lastAt(b []byte) int {
	const each, low = 0x0101010101010101, 0x7f7f7f7f7f7f7f7f
	n := len(b)
	for ; n >= 8; n -= 8 {
		x := binary.LittleEndian.Uint64(b[n-8:]) ^ '@'*each // an @ becomes zero
		if zero := ^(x&low + low | x | low); zero != 0 {    // the highest bit of each byte that is zero
			return n - 1 - bits.LeadingZeros64(zero)/8
		}
	}
	for n--; n >= 0 && b[n] != '@'; n-- {
	}
	return n
}
