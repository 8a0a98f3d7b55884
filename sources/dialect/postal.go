package dialect

import (
	"bytes"

	"github.com/bouncemeter/bouncemeter/event"
)

// postal reads the bodies of Postal's webhooks: an object with the name of the
// event and its payload. See https://docs.postalserver.io/developer/webhooks.
type postal struct {
	members
	r postalRecord
}

// postalRecord is one event as far as it matters.
type postalRecord struct {
	kind, uuid, sent, time []byte // sent is when the webhook was, time when it happened
	details, output        []byte

	token, number, messageID []byte
	to, from, tag, accepted  []byte
	direction                []byte
}

func newPostal() *postal { return &postal{} }

// Parse implements Parser.
func (p *postal) Parse(line []byte, dst []event.Event) ([]event.Event, error) {
	return p.one(line, dst, p.object)
}

func (p *postal) object(dst []event.Event) ([]event.Event, error) {
	w, r := &p.w, &p.r
	*r = postalRecord{}
	for more := w.object(); more; more = w.member() {
		switch string(w.key) {
		case "event":
			r.kind = w.text()
		case "uuid":
			r.uuid = w.text()
		case "timestamp":
			r.sent = w.text()
		case "payload":
			p.payload()
		default:
			w.skip()
		}
	}
	if w.err != nil {
		return dst, w.err
	}
	return p.event(dst)
}

func (p *postal) payload() {
	w, r := &p.w, &p.r
	for more := w.object(); more; more = w.member() {
		switch string(w.key) {
		case "details":
			r.details = w.text()
		case "output":
			r.output = w.text()
		case "timestamp":
			r.time = w.text()
		case "message", "original_message":
			p.message()
		default:
			w.skip()
		}
	}
}

func (p *postal) message() {
	w, r := &p.w, &p.r
	for more := w.object(); more; more = w.member() {
		switch string(w.key) {
		case "token":
			r.token = w.text()
		case "id":
			r.number = w.text()
		case "message_id":
			r.messageID = w.text()
		case "to":
			r.to = w.text()
		case "from":
			r.from = w.text()
		case "tag":
			r.tag = w.text()
		case "timestamp":
			r.accepted = w.text()
		case "direction":
			r.direction = w.text()
		default:
			w.skip()
		}
	}
}

func (p *postal) event(dst []event.Event) ([]event.Event, error) {
	r := &p.r
	var kind event.Kind
	var outcome event.Outcome
	suppressed := contains(r.details, "suppression list")
	switch string(r.kind) {
	case "MessageSent":
		kind, outcome = event.Attempt, event.Delivered
	case "MessageDelayed":
		kind, outcome = event.Attempt, event.Deferred
	case "MessageDeliveryFailed":
		switch {
		case suppressed:
			kind, outcome = event.Notice, event.Suppressed
		case contains(r.details, "maximum number of delivery attempts"):
			kind, outcome = event.Expiry, event.Expired
		default:
			kind, outcome = event.Attempt, event.Bounced
		}
	case "MessageHeld":
		kind, outcome = event.Notice, event.Held
		if suppressed {
			outcome = event.Suppressed
		}
	case "MessageBounced":
		kind, outcome = event.Notice, event.OutOfBand
	case "":
		return dst, errNoType
	default:
		return dst, nil // a click, a view, a fault of a domain's DNS
	}
	if string(r.direction) == "incoming" {
		return dst, nil
	}
	if len(r.to) == 0 {
		return dst, errNoRecipient
	}
	if r.time == nil {
		r.time = r.sent
	}
	dst, e := grow(dst)
	var err error
	if e.Time, err = p.time(r.time); err != nil {
		return dst, err
	}
	e.Kind, e.Outcome, e.Recipient, e.ID = kind, outcome, r.to, some(r.uuid)
	e.Stream, e.MessageID = some(r.tag), some(unbracket(r.messageID))
	if e.QueueID = some(r.token); e.QueueID == nil {
		e.QueueID = some(r.number)
	}
	if r.from != nil {
		setSender(e, r.from)
	}
	text, own := r.output, false
	if len(text) == 0 {
		text, own = r.details, true
	}
	p.answer(e, 0, event.Enhanced{}, text)
	if kind == event.Notice {
		return dst, nil
	}
	if own && len(text) > 0 {
		e.Reply.Origin = event.OriginLocal
	}
	if accepted, err := p.time(r.accepted); err == nil {
		e.Delay = delay(accepted, e.Time)
	}
	const by = "Message sent by SMTP to "
	if hasPrefix(r.details, by) { // "host (address) (from address)"
		name, rest := cut(r.details[len(by):], ' ')
		e.Relay = some(host(name))
		if hasPrefix(rest, "(") {
			if end := bytes.IndexByte(rest, ')'); end > 0 {
				e.RelayIP = rest[1:end]
			}
		}
	}
	return dst, nil
}
