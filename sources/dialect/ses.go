package dialect

import (
	"fmt"

	"github.com/bouncemeter/bouncemeter/event"
)

var errSESDetail = fmt.Errorf("%w: the object that has the name of the event is missing", ErrMalformed)

// ses reads the events of Amazon SES: as event publishing or feedback
// notifications write them, alone (Firehose), in an envelope of SNS, or of
// EventBridge. See
// https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html.
type ses struct {
	members
	r          sesRecord
	recipients []sesRecipient
	// scratch has the event that an envelope of SNS holds as a string. It is
	// used again for the next record, so events keep copies.
	scratch arena
}

// sesRecord is one event as far as it matters.
type sesRecord struct {
	envelope, message, detailType []byte // Type and Message of SNS, detail-type of EventBridge

	kind []byte // eventType, or notificationType

	sent, source, id, messageID []byte // mail
	destination                 bool   // recipients are those of the mail
	stream, sourceIP            []byte

	found                bool   // the object that tells more about the event
	time                 []byte // of that object
	major, minor         []byte // bounceType and bounceSubType, and their like
	feedbackID           []byte
	reportingMTA, remote []byte
	text                 []byte
}

// sesRecipient is one of those that an event is about.
type sesRecipient struct{ address, status, diagnostic []byte }

func newSES() *ses { return &ses{} }

// Parse implements Parser.
func (p *ses) Parse(line []byte, dst []event.Event) ([]event.Event, error) {
	return p.one(line, dst, p.object)
}

func (p *ses) object(dst []event.Event) ([]event.Event, error) {
	r := &p.r
	p.reset()
	p.scratch.b = p.scratch.b[:0]
	p.read()
	if p.w.err != nil {
		return dst, p.w.err
	}
	if r.envelope == nil {
		return p.events(dst)
	}
	// In an envelope of SNS, the event is a string. What else SNS sends (the
	// confirmation of a subscription, a note that it is valid) tells nothing.
	message := r.message
	if string(r.envelope) != "Notification" || len(message) == 0 || message[0] != '{' {
		return dst, nil
	}
	outer := p.w
	p.reset()
	p.w.start(message, &p.scratch)
	p.read()
	err := p.w.end()
	p.w = outer
	if err != nil {
		return dst, err
	}
	n := len(dst)
	dst, err = p.events(dst)
	for i := range dst[n:] {
		p.own(&dst[n+i])
	}
	return dst, err
}

func (p *ses) reset() { p.r, p.recipients = sesRecord{}, p.recipients[:0] }

// read takes an event, or an envelope that has one.
func (p *ses) read() {
	w, r := &p.w, &p.r
	for more := w.object(); more; more = w.member() {
		switch string(w.key) {
		case "eventType", "notificationType":
			r.kind = w.text()
		case "mail":
			p.mail()
		case "bounce", "complaint", "delivery", "deliveryDelay", "reject", "failure":
			p.detail()
		case "Type":
			r.envelope = w.text()
		case "Message":
			w.arena = &p.scratch
			r.message = w.text()
			w.arena = &p.arena
		case "detail-type":
			r.detailType = w.text()
		case "detail":
			if w.peek() == '{' {
				p.read()
			} else {
				w.skip()
			}
		default:
			w.skip()
		}
	}
}

func (p *ses) mail() {
	w, r := &p.w, &p.r
	for more := w.object(); more; more = w.member() {
		switch string(w.key) {
		case "timestamp":
			r.sent = w.text()
		case "messageId":
			r.id = w.text()
		case "source":
			r.source = w.text()
		case "destination":
			if len(p.recipients) > 0 {
				w.skip()
				continue
			}
			for more := w.array(); more; more = w.element() {
				p.recipients = append(p.recipients, sesRecipient{address: mailbox(w.text())})
			}
			r.destination = true
		case "commonHeaders":
			for more := w.object(); more; more = w.member() {
				if string(w.key) == "messageId" {
					r.messageID = unbracket(w.text())
				} else {
					w.skip()
				}
			}
		case "tags":
			for more := w.object(); more; more = w.member() {
				switch string(w.key) {
				case "ses:configuration-set":
					r.stream = w.first()
				case "ses:outgoing-ip":
					r.sourceIP = w.first()
				default:
					w.skip()
				}
			}
		default:
			w.skip()
		}
	}
}

// detail takes the object that an event of this kind has beside mail.
func (p *ses) detail() {
	w, r := &p.w, &p.r
	r.found = w.peek() == '{'
	for more := w.object(); more; more = w.member() {
		switch string(w.key) {
		case "timestamp":
			r.time = w.text()
		case "bounceType", "delayType", "complaintFeedbackType":
			r.major = w.text()
		case "bounceSubType", "complaintSubType":
			r.minor = w.text()
		case "feedbackId":
			r.feedbackID = w.text()
		case "reportingMTA":
			r.reportingMTA = w.text()
		case "remoteMtaIp":
			r.remote = w.text()
		case "smtpResponse", "reason", "errorMessage":
			r.text = w.text()
		case "bouncedRecipients", "complainedRecipients", "delayedRecipients", "recipients":
			p.clear()
			for more := w.array(); more; more = w.element() {
				p.recipients = append(p.recipients, p.recipient())
			}
		default:
			w.skip()
		}
	}
}

// clear forgets the recipients of the mail: the event is about some of them.
func (p *ses) clear() { p.recipients, p.r.destination = p.recipients[:0], false }

func (p *ses) recipient() (r sesRecipient) {
	w := &p.w
	if w.peek() != '{' {
		r.address = mailbox(w.text())
		return r
	}
	for more := w.object(); more; more = w.member() {
		switch string(w.key) {
		case "emailAddress":
			r.address = mailbox(w.text())
		case "status":
			r.status = w.text()
		case "diagnosticCode":
			r.diagnostic = w.text()
		default:
			w.skip()
		}
	}
	return r
}

// events appends what the event tells, once for each recipient.
func (p *ses) events(dst []event.Event) ([]event.Event, error) {
	r := &p.r
	var kind event.Kind
	var outcome event.Outcome
	switch string(r.kind) {
	case "Delivery":
		kind, outcome = event.Attempt, event.Delivered
	case "DeliveryDelay":
		kind, outcome = event.Attempt, event.Deferred
	case "Bounce":
		kind, outcome = p.bounce()
	case "Complaint":
		if sesSuppressed(r.minor) {
			kind, outcome = event.Notice, event.Suppressed
			break
		}
		switch string(r.major) {
		case "not-spam", "auth-failure", "opt-out":
			return dst, nil // no complaint
		}
		return p.complaint(dst)
	case "Reject", "Rendering Failure", "RenderingFailure":
		kind, outcome = event.Notice, event.Held
		if len(r.time) == 0 {
			r.time = r.sent // these have no time of their own
		}
	case "":
		if r.detailType != nil {
			return dst, nil // EventBridge has other events of SES
		}
		return dst, errNoType
	default:
		return dst, nil // a send, an open, a click, a subscription
	}
	if !r.found {
		return dst, errSESDetail
	}
	if r.destination && kind == event.Attempt || len(p.recipients) == 0 {
		return dst, errNoRecipient
	}
	for i := range p.recipients {
		if len(p.recipients[i].address) == 0 {
			return dst, errNoRecipient
		}
		var err error
		if dst, err = p.add(dst, kind, outcome, &p.recipients[i]); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// complaint appends one event: those it lists are all who may have complained.
func (p *ses) complaint(dst []event.Event) ([]event.Event, error) {
	if !p.r.found {
		return dst, errSESDetail
	}
	var recipient sesRecipient
	if len(p.recipients) == 1 && !p.r.destination {
		recipient = p.recipients[0]
	}
	return p.add(dst, event.Notice, event.Complaint, &recipient)
}

// bounce says what a bounce is: not tried, tried for too long, refused, or come
// back after the delivery. The latter is told by a host that is not of SES.
func (p *ses) bounce() (event.Kind, event.Outcome) {
	r := &p.r
	switch {
	case sesSuppressed(r.minor):
		return event.Notice, event.Suppressed
	case string(r.minor) == "CustomTimeoutExceeded":
		return event.Expiry, event.Expired
	case len(r.remote) == 0 && len(r.reportingMTA) > 0 && !contains(r.reportingMTA, "amazonses.com"):
		return event.Notice, event.OutOfBand
	}
	return event.Attempt, event.Bounced
}

// sesSuppressed reports whether a subtype says that SES did not try.
func sesSuppressed(subtype []byte) bool {
	switch string(subtype) {
	case "Suppressed", "OnAccountSuppressionList", "OnTenantSuppressionList", "UnsubscribedRecipient", "EmailValidationSuppressed":
		return true
	}
	return false
}

func (p *ses) add(dst []event.Event, kind event.Kind, outcome event.Outcome, to *sesRecipient) ([]event.Event, error) {
	r := &p.r
	dst, e := grow(dst)
	var err error
	if e.Time, err = p.time(r.time); err != nil {
		return dst, err
	}
	e.Kind, e.Outcome, e.Recipient = kind, outcome, to.address
	e.QueueID, e.MessageID, e.Stream = r.id, r.messageID, r.stream
	if r.source != nil {
		setSender(e, r.source)
	}
	if e.ID = r.feedbackID; len(e.ID) == 0 {
		e.ID = p.join(r.id, space, r.kind, space, r.time)
	}
	text := r.text
	if text == nil {
		text = diagnostic(to.diagnostic)
	}
	if len(text) == 0 && (kind != event.Notice || outcome == event.Suppressed) && outcome != event.Delivered {
		text = p.types()
	}
	s := status(to.status)
	p.answer(e, 0, s, text)
	if kind == event.Attempt && outcome == event.Bounced && queueLifetime(s) && contains(text, "expired") {
		e.Kind, e.Outcome, e.Reply.Origin = event.Expiry, event.Expired, event.OriginLocal
	}
	if kind != event.Notice {
		e.RelayIP, e.SourceIP = r.remote, r.sourceIP
		if sent, err := p.time(r.sent); err == nil {
			e.Delay = delay(sent, e.Time)
		}
	}
	return dst, nil
}

// types is what SES calls the cause, where there is no reply.
func (p *ses) types() []byte {
	switch {
	case len(p.r.major) == 0:
		return p.r.minor
	case len(p.r.minor) == 0:
		return p.r.major
	}
	return p.join(p.r.major, space, p.r.minor)
}
