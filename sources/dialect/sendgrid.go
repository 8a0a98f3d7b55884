package dialect

import "github.com/bouncemeter/bouncemeter/event"

// sendgrid reads the events of SendGrid's Event Webhook: an array of objects, or
// one object a line. See
// https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event.
// The arguments that a sender adds to a message stand among the members of its
// events, so only what an event of its kind has is looked at.
type sendgrid struct{ members }

func newSendgrid() *sendgrid { return &sendgrid{} }

// Parse implements Parser.
func (p *sendgrid) Parse(line []byte, dst []event.Event) ([]event.Event, error) {
	return p.one(line, dst, p.object)
}

// sendgridRecord is one event as far as it matters.
type sendgridRecord struct {
	kind, email, time       []byte
	smtpID, messageID       []byte
	ip, stream              []byte
	reason, response        []byte
	status, bounce, attempt []byte
}

func (p *sendgrid) object(dst []event.Event) ([]event.Event, error) {
	w := &p.w
	var r sendgridRecord
	for more := w.object(); more; more = w.member() {
		switch string(w.key) {
		case "event":
			r.kind = w.text()
		case "email":
			r.email = w.text()
		case "timestamp":
			r.time = w.text()
		case "smtp-id":
			r.smtpID = w.text()
		case "sg_message_id":
			r.messageID = w.text()
		case "ip":
			r.ip = w.maybe()
		case "category":
			r.stream = w.first()
		case "reason":
			r.reason = w.maybe()
		case "response":
			r.response = w.maybe()
		case "status":
			r.status = w.maybe()
		case "type":
			r.bounce = w.maybe()
		case "attempt":
			r.attempt = w.maybe()
		default:
			w.skip()
		}
	}
	if w.err != nil {
		return dst, w.err
	}
	return p.event(dst, &r)
}

func (p *sendgrid) event(dst []event.Event, r *sendgridRecord) ([]event.Event, error) {
	var kind event.Kind
	var outcome event.Outcome
	text := r.reason
	switch string(r.kind) {
	case "delivered":
		kind, outcome, text = event.Attempt, event.Delivered, r.response
	case "deferred":
		kind, outcome = event.Attempt, event.Deferred
		if r.response != nil {
			text = r.response
		}
	case "bounce":
		switch {
		case len(r.messageID) == 0: // so it is of bounces that come back later, and of none else
			kind, outcome = event.Notice, event.OutOfBand
		case string(r.bounce) == "expired":
			kind, outcome = event.Expiry, event.Expired
		default:
			kind, outcome = event.Attempt, event.Bounced
		}
	case "dropped":
		kind, outcome = event.Notice, sendgridDropped(r.reason)
	case "spamreport":
		kind, outcome = event.Notice, event.Complaint
	case "":
		return dst, errNoType
	default:
		return dst, nil // processed, open, click, unsubscribe, a change of the account
	}
	if len(r.email) == 0 {
		return dst, errNoRecipient
	}
	dst, e := grow(dst)
	var err error
	if e.Time, err = p.time(r.time); err != nil {
		return dst, err
	}
	e.Kind, e.Outcome, e.Recipient, e.Stream = kind, outcome, r.email, r.stream
	e.QueueID = r.messageID
	if len(r.smtpID) > 0 {
		e.MessageID = unbracket(r.smtpID)
	}
	// sg_event_id is another when an event is sent again.
	e.ID = p.join(r.messageID, space, r.kind, space, r.time, space, r.attempt)
	p.answer(e, 0, status(r.status), text)
	if kind == event.Attempt {
		e.SourceIP = r.ip
	}
	return dst, nil
}

// sendgridDropped says why a message was not tried: its recipient is on a
// suppression list, or something is wrong with the message.
func sendgridDropped(reason []byte) event.Outcome {
	switch {
	case contains(reason, "bounced address"), contains(reason, "unsubscribed address"), contains(reason, "spam reporting address"), fold(reason, "invalid"):
		return event.Suppressed
	}
	return event.Held
}
