package dialect

import "github.com/bouncemeter/bouncemeter/event"

// brevo reads the bodies of Brevo's transactional webhooks: one object, or an
// array of them. See https://developers.brevo.com/docs/transactional-webhooks.
type brevo struct{ members }

func newBrevo() *brevo { return &brevo{} }

// Parse implements Parser.
func (p *brevo) Parse(line []byte, dst []event.Event) ([]event.Event, error) {
	return p.one(line, dst, p.object)
}

// brevoRecord is one event as far as it matters.
type brevoRecord struct {
	kind, email, messageID, sender []byte
	event, epoch, stamp            []byte // ts_event, ts_epoch, ts
	reason, ip, tag                []byte
}

func (p *brevo) object(dst []event.Event) ([]event.Event, error) {
	w := &p.w
	var r brevoRecord
	for more := w.object(); more; more = w.member() {
		switch string(w.key) {
		case "event":
			r.kind = w.text()
		case "email":
			r.email = w.text()
		case "message-id":
			r.messageID = w.text()
		case "sender_email":
			r.sender = w.maybe()
		case "ts_event":
			r.event = w.text()
		case "ts_epoch":
			r.epoch = w.text()
		case "ts":
			r.stamp = w.text()
		case "reason":
			r.reason = w.maybe()
		case "sending_ip":
			r.ip = w.maybe()
		case "tags":
			r.tag = w.first()
		default:
			w.skip()
		}
	}
	if w.err != nil {
		return dst, w.err
	}
	return p.event(dst, &r)
}

func (p *brevo) event(dst []event.Event, r *brevoRecord) ([]event.Event, error) {
	var kind event.Kind
	var outcome event.Outcome
	switch string(r.kind) {
	case "delivered":
		kind, outcome = event.Attempt, event.Delivered
	case "deferred":
		kind, outcome = event.Attempt, event.Deferred
	case "hard_bounce", "soft_bounce", "hardBounce", "softBounce":
		kind, outcome = event.Attempt, event.Bounced
	case "blocked", "invalid_email", "invalid":
		kind, outcome = event.Notice, event.Suppressed
	case "error":
		kind, outcome = event.Notice, event.Held
	case "spam", "complaint":
		kind, outcome = event.Notice, event.Complaint
	case "":
		return dst, errNoType
	default:
		return dst, nil // a request, an open, a click, an unsubscription
	}
	if len(r.email) == 0 {
		return dst, errNoRecipient
	}
	when := r.event
	for _, other := range [...][]byte{r.epoch, r.stamp} {
		if len(when) == 0 {
			when = other
		}
	}
	dst, e := grow(dst)
	var err error
	if e.Time, err = p.time(when); err != nil {
		return dst, err
	}
	e.Kind, e.Outcome, e.Recipient, e.Stream = kind, outcome, r.email, r.tag
	e.MessageID = some(unbracket(r.messageID))
	e.QueueID = e.MessageID
	e.ID = p.join(r.messageID, space, r.kind, space, when) // id is the webhook's
	if len(r.sender) > 0 {
		setSender(e, r.sender)
	}
	if outcome != event.Complaint {
		p.answer(e, 0, event.Enhanced{}, diagnostic(r.reason))
	}
	if kind == event.Attempt {
		e.SourceIP = some(r.ip)
	}
	return dst, nil
}
