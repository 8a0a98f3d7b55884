package dialect

import (
	"fmt"

	"github.com/bouncemeter/bouncemeter/event"
)

var errPostmarkType = fmt.Errorf("%w: the Type of the bounce is none that Postmark documents", ErrMalformed)

// postmark reads the bodies of Postmark's webhooks: one object each. See
// https://postmarkapp.com/developer/webhooks/webhooks-overview.
type postmark struct{ members }

func newPostmark() *postmark { return &postmark{} }

// Parse implements Parser.
func (p *postmark) Parse(line []byte, dst []event.Event) ([]event.Event, error) {
	return p.one(line, dst, p.object)
}

// postmarkRecord is one record as far as it matters.
type postmarkRecord struct {
	kind, bounce           []byte
	id, messageID          []byte
	email, recipient, from []byte
	bouncedAt, deliveredAt []byte
	details, name, stream  []byte
}

func (p *postmark) object(dst []event.Event) ([]event.Event, error) {
	w := &p.w
	var r postmarkRecord
	for more := w.object(); more; more = w.member() {
		switch string(w.key) {
		case "RecordType":
			r.kind = w.text()
		case "Type":
			r.bounce = w.text()
		case "ID":
			r.id = w.text()
		case "MessageID":
			r.messageID = w.text()
		case "Email":
			r.email = w.text()
		case "Recipient":
			r.recipient = w.text()
		case "From":
			r.from = w.text()
		case "BouncedAt":
			r.bouncedAt = w.text()
		case "DeliveredAt":
			r.deliveredAt = w.text()
		case "Details":
			r.details = w.text()
		case "Name":
			r.name = w.text()
		case "MessageStream":
			r.stream = w.text()
		default:
			w.skip()
		}
	}
	if w.err != nil {
		return dst, w.err
	}
	return p.event(dst, &r)
}

func (p *postmark) event(dst []event.Event, r *postmarkRecord) ([]event.Event, error) {
	var kind event.Kind
	var outcome event.Outcome
	when, recipient := r.bouncedAt, r.email
	switch string(r.kind) {
	case "Delivery":
		kind, outcome, when, recipient = event.Attempt, event.Delivered, r.deliveredAt, r.recipient
	case "Bounce":
		var known bool
		if kind, outcome, known = postmarkBounce(r.bounce); !known {
			return dst, errPostmarkType
		}
		if kind == 0 {
			return dst, nil
		}
	case "SpamComplaint":
		kind, outcome = event.Notice, event.Complaint
	case "":
		return dst, errNoType
	default:
		return dst, nil // Open, Click, SubscriptionChange, inbound mail
	}
	if len(recipient) == 0 {
		return dst, errNoRecipient
	}
	dst, e := grow(dst)
	var err error
	if e.Time, err = p.time(when); err != nil {
		return dst, err
	}
	e.Kind, e.Outcome, e.Recipient, e.Stream, e.QueueID = kind, outcome, recipient, r.stream, r.messageID
	if r.from != nil {
		setSender(e, r.from)
	}
	if e.ID = r.id; len(e.ID) == 0 {
		e.ID = p.join(r.messageID, space, r.kind)
	}
	text := diagnostic(r.details)
	if len(text) == 0 {
		text = r.name
	}
	if outcome != event.Complaint { // of which the details are the report's own text
		p.answer(e, 0, event.Enhanced{}, text)
	}
	return dst, nil
}

// postmarkBounce says what a bounce of this type is; kind is 0 for those that
// are no news of a delivery.
func postmarkBounce(name []byte) (kind event.Kind, outcome event.Outcome, known bool) {
	switch string(name) {
	case "HardBounce", "SoftBounce", "DnsError", "SpamNotification", "Unknown", "VirusNotification", "BadEmailAddress", "Blocked", "DMARCPolicy":
		return event.Attempt, event.Bounced, true
	case "Transient":
		return event.Attempt, event.Deferred, true
	case "AutoResponder", "AddressChange", "ChallengeVerification":
		return event.Notice, event.AutoReply, true
	case "SpamComplaint":
		return event.Notice, event.Complaint, true
	case "ManuallyDeactivated":
		return event.Notice, event.Suppressed, true
	case "SMTPApiError", "TemplateRenderingFailed":
		return event.Notice, event.Held, true
	case "Unsubscribe", "Subscribe", "OpenRelayTest", "Unconfirmed", "InboundError":
		return 0, 0, true
	}
	return 0, 0, false
}
