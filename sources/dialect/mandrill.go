package dialect

import (
	"bytes"
	"fmt"

	"github.com/bouncemeter/bouncemeter/event"
)

var errMandrillForm = fmt.Errorf("%w: the form has a wrong escape", ErrMalformed)

// mandrill reads the events of Mandrill (Mailchimp Transactional): an array, an
// object a line, or the whole body of a webhook, which is a form whose field
// mandrill_events has the array. See
// https://mailchimp.com/developer/transactional/docs/webhooks/.
type mandrill struct {
	members
	r mandrillRecord
	// scratch has the array of a form. It is used again for the next line, so
	// events keep copies.
	scratch arena
}

// mandrillRecord is one event as far as it matters.
type mandrillRecord struct {
	kind, time, id, sync []byte
	email, sender, tag   []byte
	message, accepted    []byte
	diag, why, reject    []byte
	destination, source  []byte
}

func newMandrill() *mandrill { return &mandrill{} }

// mandrillForm is how the body of a webhook starts.
const mandrillForm = "mandrill_events="

// Parse implements Parser.
func (p *mandrill) Parse(line []byte, dst []event.Event) ([]event.Event, error) {
	if !hasPrefix(line, mandrillForm) {
		return p.one(line, dst, p.object)
	}
	value, _ := cut(line[len(mandrillForm):], '&')
	if !p.unescape(value) {
		return dst, errMandrillForm
	}
	n := len(dst)
	dst, err := p.one(p.scratch.b, dst, p.object)
	for i := range dst[n:] {
		p.own(&dst[n+i])
	}
	return dst, err
}

// unescape puts into scratch the value of a form's field
// (application/x-www-form-urlencoded).
func (p *mandrill) unescape(value []byte) bool {
	b := p.scratch.b[:0]
	for {
		i := bytes.IndexAny(value, "%+")
		if i < 0 {
			p.scratch.b = append(b, value...)
			return true
		}
		b = append(b, value[:i]...)
		if value[i] == '+' {
			b, value = append(b, ' '), value[i+1:]
			continue
		}
		if len(value) < i+3 || !isHex(value[i+1:i+3]) {
			p.scratch.b = b[:0]
			return false
		}
		b = append(b, hexDigit(value[i+1])<<4|hexDigit(value[i+2]))
		value = value[i+3:]
	}
}

func hexDigit(c byte) byte {
	if isDigit(c) {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

func (p *mandrill) object(dst []event.Event) ([]event.Event, error) {
	w, r := &p.w, &p.r
	*r = mandrillRecord{}
	for more := w.object(); more; more = w.member() {
		switch string(w.key) {
		case "event":
			r.kind = w.text()
		case "ts":
			r.time = w.text()
		case "_id":
			r.id = w.text()
		case "type":
			r.sync = w.text()
		case "msg":
			p.message()
		default:
			w.skip()
		}
	}
	if w.err != nil {
		return dst, w.err
	}
	return p.event(dst)
}

func (p *mandrill) message() {
	w, r := &p.w, &p.r
	for more := w.object(); more; more = w.member() {
		switch string(w.key) {
		case "_id":
			r.message = w.text()
		case "ts":
			r.accepted = w.text()
		case "email":
			r.email = w.maybe()
		case "sender":
			r.sender = w.maybe()
		case "tags":
			r.tag = w.first()
		case "diag":
			r.diag = w.maybe()
		case "bounce_description":
			r.why = w.maybe()
		case "reject":
			p.rejection()
		case "smtp_events":
			p.attempts()
		default:
			w.skip()
		}
	}
}

// rejection takes why a message was not sent, an object or a word.
func (p *mandrill) rejection() {
	w := &p.w
	if w.peek() != '{' {
		p.r.reject = w.maybe()
		return
	}
	for more := w.object(); more; more = w.member() {
		if string(w.key) == "reason" {
			p.r.reject = w.maybe()
		} else {
			w.skip()
		}
	}
}

// attempts takes the list of what servers have said, of which the last counts.
func (p *mandrill) attempts() {
	w, r := &p.w, &p.r
	for more := w.array(); more; more = w.element() {
		for more := w.object(); more; more = w.member() {
			switch string(w.key) {
			case "diag":
				if b := w.maybe(); len(b) > 0 {
					r.diag = b
				}
			case "destination_ip":
				r.destination = w.maybe()
			case "source_ip":
				r.source = w.maybe()
			default:
				w.skip()
			}
		}
	}
}

func (p *mandrill) event(dst []event.Event) ([]event.Event, error) {
	r := &p.r
	var kind event.Kind
	var outcome event.Outcome
	text := diagnostic(r.diag)
	switch string(r.kind) {
	case "send":
		kind, outcome = event.Attempt, event.Delivered
	case "deferral":
		kind, outcome = event.Attempt, event.Deferred
	case "hard_bounce", "soft_bounce":
		kind, outcome = event.Attempt, event.Bounced
	case "reject":
		kind, outcome = event.Notice, mandrillRejected(r.reject)
		if len(r.reject) > 0 {
			text = r.reject
		}
	case "spam":
		kind, outcome, text = event.Notice, event.Complaint, nil
	case "":
		if r.sync != nil {
			return dst, nil // a change of the deny or allow list
		}
		return dst, errNoType
	default:
		return dst, nil // delivered, which repeats send; an open, a click, inbound mail
	}
	if len(r.email) == 0 {
		return dst, errNoRecipient
	}
	dst, e := grow(dst)
	var err error
	if e.Time, err = p.time(r.time); err != nil {
		return dst, err
	}
	e.Kind, e.Outcome, e.Recipient, e.Stream, e.QueueID = kind, outcome, r.email, r.tag, r.message
	e.ID = p.join(r.id, space, r.kind, space, r.time) // _id may be that of the message
	if r.sender != nil {
		setSender(e, r.sender)
	}
	if len(text) == 0 && outcome != event.Complaint {
		text = r.why
	}
	p.answer(e, 0, event.Enhanced{}, text)
	if kind == event.Attempt {
		e.RelayIP, e.SourceIP = some(r.destination), some(r.source)
		if accepted, err := p.time(r.accepted); err == nil {
			e.Delay = delay(accepted, e.Time)
		}
	}
	return dst, nil
}

// mandrillRejected says why a message was not sent: its recipient is on the deny
// list, or something is wrong with the message or the account.
func mandrillRejected(reason []byte) event.Outcome {
	switch string(reason) {
	case "hard-bounce", "soft-bounce", "spam", "unsub", "custom", "":
		return event.Suppressed
	}
	return event.Held
}
