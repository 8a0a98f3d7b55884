package dialect

import "github.com/bouncemeter/bouncemeter/event"

// sparkpost reads the events of SparkPost: an array of {"msys":{CLASS:{…}}}, as
// its webhooks send them, one such object a line, or the event alone, as the
// Events API returns it. Numbers are strings. See
// https://developers.sparkpost.com/api/webhooks/.
type sparkpost struct {
	members
	r sparkpostRecord
}

// sparkpostRecord is one event as far as it matters.
type sparkpostRecord struct {
	wrapped                   bool // in msys
	kind, time, id, messageID []byte
	to, rawTo, from           []byte
	ip, sendingIP, pool       []byte
	code, queueTime, retries  int64
	hasQueueTime, hasRetries  bool
	reason, rawReason, fbtype []byte
}

func newSparkpost() *sparkpost { return &sparkpost{} }

// Parse implements Parser.
func (p *sparkpost) Parse(line []byte, dst []event.Event) ([]event.Event, error) {
	return p.one(line, dst, p.object)
}

func (p *sparkpost) object(dst []event.Event) ([]event.Event, error) {
	p.r = sparkpostRecord{}
	p.read()
	if p.w.err != nil {
		return dst, p.w.err
	}
	return p.event(dst)
}

func (p *sparkpost) read() {
	w, r := &p.w, &p.r
	for more := w.object(); more; more = w.member() {
		switch string(w.key) {
		case "msys":
			r.wrapped = true
			for more := w.object(); more; more = w.member() {
				p.read()
			}
		case "type":
			r.kind = w.text()
		case "timestamp":
			r.time = w.text()
		case "event_id":
			r.id = w.text()
		case "message_id":
			r.messageID = w.text()
		case "rcpt_to":
			r.to = w.text()
		case "raw_rcpt_to":
			r.rawTo = w.text()
		case "msg_from":
			r.from = w.text()
		case "ip_address":
			r.ip = w.text()
		case "sending_ip":
			r.sendingIP = w.text()
		case "ip_pool":
			r.pool = w.text()
		case "error_code":
			r.code, _ = decimal(w.maybe(), 0)
		case "queue_time":
			r.queueTime, r.hasQueueTime = w.number(3)
		case "num_retries":
			r.retries, r.hasRetries = w.number(0)
		case "reason":
			r.reason = w.text()
		case "raw_reason":
			r.rawReason = w.text()
		case "fbtype":
			r.fbtype = w.text()
		default:
			w.skip()
		}
	}
}

func (p *sparkpost) event(dst []event.Event) ([]event.Event, error) {
	r := &p.r
	// SparkPost puts letters for addresses in reason.
	text := r.rawReason
	if len(text) == 0 {
		text = r.reason
	}
	internal := contains(text, "[internal]")
	var kind event.Kind
	var outcome event.Outcome
	switch string(r.kind) {
	case "delivery":
		kind, outcome = event.Attempt, event.Delivered
	case "delay":
		kind, outcome = event.Attempt, event.Deferred
	case "bounce":
		kind, outcome = event.Attempt, event.Bounced
		if internal && contains(text, "5.4.7") {
			kind, outcome = event.Expiry, event.Expired
		}
	case "out_of_band":
		kind, outcome = event.Notice, event.OutOfBand
	case "spam_complaint":
		kind, outcome = event.Notice, event.Complaint
		switch string(r.fbtype) {
		case "not-spam", "auth-failure", "opt-out":
			return dst, nil // no complaint
		}
	case "policy_rejection", "generation_rejection", "generation_failure":
		kind, outcome = event.Notice, event.Held
		if contains(text, "suppress") {
			outcome = event.Suppressed
		}
	case "":
		if r.wrapped {
			return dst, nil // {"msys":{}} is a test of the connection
		}
		return dst, errNoType
	default:
		return dst, nil // an injection, an open, a click, inbound mail
	}
	if len(r.rawTo) == 0 {
		r.rawTo = r.to
	}
	if len(r.rawTo) == 0 {
		return dst, errNoRecipient
	}
	dst, e := grow(dst)
	var err error
	if e.Time, err = p.time(r.time); err != nil {
		return dst, err
	}
	e.Kind, e.Outcome, e.Recipient, e.Stream = kind, outcome, r.rawTo, r.pool
	e.QueueID, e.ID = r.messageID, r.id
	if r.from != nil {
		setSender(e, r.from)
	}
	p.answer(e, r.code, event.Enhanced{}, text)
	if kind == event.Notice {
		return dst, nil
	}
	if internal {
		e.Reply.Origin = event.OriginLocal
	} else {
		e.RelayIP = r.ip
	}
	e.SourceIP = r.sendingIP
	if r.hasQueueTime && r.queueTime >= 0 {
		e.Delay = r.queueTime
	}
	e.Joined = r.hasRetries && e.SenderKnown
	e.FirstOutcome = e.Joined && (r.retries == 0 || kind == event.Expiry)
	return dst, nil
}
