package dialect

import (
	"fmt"

	"github.com/bouncemeter/bouncemeter/event"
)

var errMailgunSeverity = fmt.Errorf("%w: the severity of a failure is neither temporary nor permanent", ErrMalformed)

// mailgun reads the events of Mailgun: the body of a webhook, which has a
// signature and the event, or the event alone, as the Events API returns it, or
// an array of either. See
// https://documentation.mailgun.com/docs/mailgun/user-manual/events/event-structure.
type mailgun struct {
	members
	r mailgunRecord
}

// mailgunRecord is one event as far as it matters.
type mailgunRecord struct {
	kind, time, id, severity, reason []byte
	recipient, messageID, stream     []byte
	sender, sourceIP                 []byte
	delayed                          bool // the bounce came back later

	// delivery-status, or reject
	code, attempt        int64
	status               event.Enhanced
	message, description []byte
	mx                   []byte
}

func newMailgun() *mailgun { return &mailgun{} }

// Parse implements Parser.
func (p *mailgun) Parse(line []byte, dst []event.Event) ([]event.Event, error) {
	return p.one(line, dst, p.object)
}

func (p *mailgun) object(dst []event.Event) ([]event.Event, error) {
	p.r = mailgunRecord{}
	p.read()
	if p.w.err != nil {
		return dst, p.w.err
	}
	return p.event(dst)
}

func (p *mailgun) read() {
	w, r := &p.w, &p.r
	for more := w.object(); more; more = w.member() {
		switch string(w.key) {
		case "event-data":
			p.read()
		case "event":
			r.kind = w.text()
		case "timestamp":
			r.time = w.text()
		case "id":
			r.id = w.text()
		case "severity":
			r.severity = w.text()
		case "reason":
			r.reason = w.text()
		case "recipient":
			r.recipient = mailbox(w.text())
		case "tags":
			r.stream = w.first()
		case "envelope":
			for more := w.object(); more; more = w.member() {
				switch string(w.key) {
				case "sender":
					r.sender = w.text()
				case "sending-ip":
					r.sourceIP = w.text()
				default:
					w.skip()
				}
			}
		case "message":
			p.headers()
		case "flags":
			for more := w.object(); more; more = w.member() {
				if string(w.key) == "is-delayed-bounce" {
					r.delayed = string(w.maybe()) == "true"
				} else {
					w.skip()
				}
			}
		case "delivery-status", "reject":
			p.status()
		default:
			w.skip()
		}
	}
}

// headers takes the object that has those of the message.
func (p *mailgun) headers() {
	w := &p.w
	for more := w.object(); more; more = w.member() {
		if string(w.key) != "headers" {
			w.skip()
			continue
		}
		for more := w.object(); more; more = w.member() {
			if string(w.key) == "message-id" {
				p.r.messageID = unbracket(w.text())
			} else {
				w.skip()
			}
		}
	}
}

func (p *mailgun) status() {
	w, r := &p.w, &p.r
	for more := w.object(); more; more = w.member() {
		switch string(w.key) {
		case "code":
			r.code, _ = w.number(0)
		case "enhanced-code", "bounce-code":
			if s := status(w.maybe()); !s.IsZero() {
				r.status = s
			}
		case "message":
			r.message = w.maybe()
		case "description", "reason":
			if t := w.maybe(); len(t) > 0 {
				r.description = t
			}
		case "mx-host":
			r.mx = host(w.text())
		case "attempt-no":
			r.attempt, _ = w.number(0)
		default:
			w.skip()
		}
	}
}

func (p *mailgun) event(dst []event.Event) ([]event.Event, error) {
	r := &p.r
	var kind event.Kind
	var outcome event.Outcome
	switch string(r.kind) {
	case "delivered":
		kind, outcome = event.Attempt, event.Delivered
	case "failed":
		var err error
		if kind, outcome, err = r.failure(); err != nil {
			return dst, err
		}
	case "rejected":
		kind, outcome = event.Notice, event.Held
	case "complained":
		kind, outcome = event.Notice, event.Complaint
	case "":
		return dst, errNoType
	default:
		return dst, nil // accepted, opened, clicked, unsubscribed, stored
	}
	if len(r.recipient) == 0 && outcome != event.Held {
		return dst, errNoRecipient
	}
	dst, e := grow(dst)
	var err error
	if e.Time, err = p.time(r.time); err != nil {
		return dst, err
	}
	e.Kind, e.Outcome, e.Recipient, e.Stream = kind, outcome, r.recipient, r.stream
	e.QueueID, e.MessageID = r.messageID, r.messageID
	e.ID = p.join(r.id, space, r.time) // an id is unique for a day
	if r.sender != nil {
		setSender(e, r.sender)
	}
	text := r.message
	if len(text) == 0 {
		text = r.description
	}
	p.answer(e, r.code, r.status, text)
	if kind != event.Notice {
		e.Relay, e.SourceIP = r.mx, r.sourceIP
		// Attempts are counted from 1.
		e.Joined = r.attempt > 0 && e.SenderKnown
		e.FirstOutcome = e.Joined && (r.attempt == 1 || kind == event.Expiry)
	}
	return dst, nil
}

// failure says what kind of failure it is.
func (r *mailgunRecord) failure() (event.Kind, event.Outcome, error) {
	// Codes that no server has given are Mailgun's own.
	if r.code == 498 || r.code == 499 || r.code >= 600 {
		r.code = 0
	}
	switch {
	case string(r.severity) == "temporary":
		return event.Attempt, event.Deferred, nil
	case string(r.severity) != "permanent":
		return 0, 0, errMailgunSeverity
	case hasPrefix(r.reason, "suppress"):
		return event.Notice, event.Suppressed, nil
	case string(r.reason) == "old":
		return event.Expiry, event.Expired, nil
	case r.delayed:
		return event.Notice, event.OutOfBand, nil
	}
	return event.Attempt, event.Bounced, nil
}
