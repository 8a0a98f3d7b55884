package dialect

import (
	"bytes"
	"slices"

	"github.com/bouncemeter/bouncemeter/event"
)

// kumomta reads the log records of KumoMTA: a JSON object a line, as its logs,
// its Kafka and AMQP publishers and its web hooks write them, or an array of
// them. See https://docs.kumomta.com/reference/log_record/.
type kumomta struct {
	members
	r          kumomtaRecord
	recipients [][]byte
	// report is the ARF report of a Feedback record.
	reportType, reportSender, reportRecipient []byte
}

// kumomtaRecord is one record as far as it matters.
type kumomtaRecord struct {
	kind, id, sender, queue        []byte
	time, seconds                  []byte // event_time, timestamp
	created, createdSeconds        []byte
	attempts                       int64
	host, relay, relayIP, sourceIP []byte
	reception, protocol            []byte
	code                           int64
	enhanced                       event.Enhanced
	content, command               []byte
	hasSender                      bool
}

func newKumomta() *kumomta { return &kumomta{} }

// Parse implements Parser.
func (p *kumomta) Parse(line []byte, dst []event.Event) ([]event.Event, error) {
	return p.one(line, dst, p.object)
}

func (p *kumomta) object(dst []event.Event) ([]event.Event, error) {
	w, r := &p.w, &p.r
	*r, p.recipients = kumomtaRecord{}, p.recipients[:0]
	p.reportType, p.reportSender, p.reportRecipient = nil, nil, nil
	for more := w.object(); more; more = w.member() {
		switch string(w.key) {
		case "type":
			r.kind = w.text()
		case "id":
			r.id = w.text()
		case "sender":
			r.sender, r.hasSender = w.text(), true
		case "recipient":
			p.recipients = texts(w, p.recipients[:0])
		case "queue":
			r.queue = w.text()
		case "response":
			p.response()
		case "peer_address":
			p.peer()
		case "timestamp":
			r.seconds = w.text()
		case "event_time":
			r.time = w.text()
		case "created":
			r.createdSeconds = w.text()
		case "created_time":
			r.created = w.text()
		case "num_attempts":
			r.attempts, _ = w.number(0)
		case "egress_source":
			r.host = w.text()
		case "source_address":
			for more := w.object(); more; more = w.member() {
				if string(w.key) == "address" {
					r.sourceIP = withoutPort(w.text())
				} else {
					w.skip()
				}
			}
		case "reception_protocol":
			r.reception = w.text()
		case "delivery_protocol":
			r.protocol = w.text()
		case "feedback_report":
			p.report()
		default:
			w.skip()
		}
	}
	if w.err != nil {
		return dst, w.err
	}
	return p.events(dst)
}

// texts takes a string, or an array of them.
func texts(w *walker, to [][]byte) [][]byte {
	if w.peek() != '[' {
		if t := w.text(); t != nil {
			to = append(to, t)
		}
		return to
	}
	for more := w.array(); more; more = w.element() {
		if t := w.text(); t != nil {
			to = append(to, t)
		}
	}
	return to
}

func (p *kumomta) response() {
	w, r := &p.w, &p.r
	for more := w.object(); more; more = w.member() {
		switch string(w.key) {
		case "code":
			r.code, _ = w.number(0)
		case "enhanced_code":
			for more := w.object(); more; more = w.member() {
				n, _ := w.number(0)
				if n < 0 || n > 999 {
					w.fail(errJSONType)
				}
				switch string(w.key) {
				case "class":
					r.enhanced.Class = uint8(min(n, 9))
				case "subject":
					r.enhanced.Subject = uint16(n)
				case "detail":
					r.enhanced.Detail = uint16(n)
				}
			}
			if c := r.enhanced.Class; c != 2 && c != 4 && c != 5 {
				r.enhanced = event.Enhanced{}
			}
		case "content":
			r.content = w.text()
		case "command":
			r.command = w.text()
		default:
			w.skip()
		}
	}
}

func (p *kumomta) peer() {
	w, r := &p.w, &p.r
	for more := w.object(); more; more = w.member() {
		switch string(w.key) {
		case "name":
			r.relay = host(w.text())
		case "addr":
			r.relayIP = withoutPort(w.text())
		default:
			w.skip()
		}
	}
}

// report takes the fields of an ARF report (RFC 5965 section 3) that tell whose
// message it is about.
func (p *kumomta) report() {
	w := &p.w
	for more := w.object(); more; more = w.member() {
		switch string(w.key) {
		case "feedback_type":
			p.reportType = w.text()
		case "original_mail_from":
			p.reportSender = w.text()
		case "original_rcpto_to":
			for more := w.array(); more; more = w.element() {
				p.reportRecipient = mailbox(w.text())
			}
		case "supplemental_trace":
			for more := w.object(); more; more = w.member() {
				if string(w.key) == "recipient" && p.reportRecipient == nil {
					p.reportRecipient = w.text()
				} else {
					w.skip()
				}
			}
		default:
			w.skip()
		}
	}
}

// kumomtaInternal is how replies start that KumoMTA itself has made up.
const kumomtaInternal = "KumoMTA internal: "

// events appends what the record tells, once for each recipient.
func (p *kumomta) events(dst []event.Event) ([]event.Event, error) {
	r := &p.r
	var kind event.Kind
	var outcome event.Outcome
	switch string(r.kind) {
	case "Delivery":
		kind, outcome = event.Attempt, event.Delivered
	case "TransientFailure":
		kind, outcome = event.Attempt, event.Deferred
	case "Bounce":
		kind, outcome = event.Attempt, event.Bounced
	case "Expiration":
		kind, outcome = event.Expiry, event.Expired
	case "AdminBounce":
		kind, outcome = event.Notice, event.Held
	case "OOB":
		kind, outcome = event.Notice, event.OutOfBand
	case "Feedback":
		return p.feedback(dst)
	case "Rejection":
		kind, outcome = event.Rejection, event.RejectedInbound
	case "":
		return dst, errNoType
	default:
		return dst, nil // a reception, a move from queue to queue
	}
	if string(r.reception) == "LogRecord" {
		return dst, nil // the record of a message that carries a record: not mail
	}
	if len(p.recipients) == 0 {
		if kind != event.Rejection {
			return dst, errNoRecipient
		}
		p.recipients = append(p.recipients, nil)
	}
	if kind != event.Rejection && slices.ContainsFunc(p.recipients, func(r []byte) bool { return len(r) == 0 }) {
		return dst, errNoRecipient
	}
	first := len(dst)
	dst, e := grow(dst)
	if err := p.common(e); err != nil {
		return dst, err
	}
	e.Kind, e.Outcome, e.Joined, e.Recipient = kind, outcome, true, p.recipients[0]
	// The count is of the attempts before this one.
	e.FirstOutcome = r.attempts == 0 && kind == event.Attempt || kind == event.Expiry
	switch kind {
	case event.Attempt:
		e.Relay, e.RelayIP = r.relay, r.relayIP
		e.Local = string(r.protocol) == "Maildir"
	case event.Notice:
		if outcome == event.OutOfBand { // id and peer are those of the bounce mail
			e.QueueID, e.Relay, e.Delay = nil, r.relay, -1
		}
	case event.Rejection:
		e.Client, e.Delay = p.client(), -1
	}
	p.setReply(e)
	for _, recipient := range p.recipients[1:] {
		dst = append(dst, dst[first])
		dst[len(dst)-1].Recipient = recipient
	}
	return dst, nil
}

// common sets what all records have.
func (p *kumomta) common(e *event.Event) (err error) {
	r := &p.r
	if len(r.time) == 0 {
		r.time = r.seconds
	}
	if e.Time, err = p.time(r.time); err != nil {
		return err
	}
	if len(r.created) == 0 {
		r.created = r.createdSeconds
	}
	if len(r.created) > 0 {
		created, err := p.time(r.created)
		if err != nil {
			return err
		}
		e.Delay = delay(created, e.Time)
	}
	e.Host, e.SourceIP, e.QueueID, e.Stream = r.host, r.sourceIP, r.id, kumomtaTenant(r.queue)
	if r.hasSender {
		setSender(e, r.sender)
	}
	return nil
}

func (p *kumomta) setReply(e *event.Event) {
	r := &p.r
	if r.code < 200 || r.code > 599 {
		r.code = 0
	}
	e.Reply.Origin = event.OriginRemote
	switch {
	case hasPrefix(r.content, kumomtaInternal), e.Kind == event.Expiry, e.Kind == event.Rejection, e.Outcome == event.Held:
		e.Reply.Origin = event.OriginLocal
	case e.Outcome == event.OutOfBand && len(r.content) == 0:
		r.code = 0 // KumoMTA's own, where the bounce mail had none
	}
	e.Reply.Stage = commandStage(r.command)
	if e.Outcome == event.Delivered && e.Reply.Stage == event.StageUnknown {
		e.Reply.Stage = event.StageEnd
	}
	p.reply(&e.Reply, uint16(r.code), r.enhanced, r.content)
}

func (p *kumomta) client() []byte {
	r := &p.r
	if len(r.relayIP) == 0 {
		return r.relay
	}
	return p.join(r.relay, []byte("["), r.relayIP, []byte("]"))
}

// feedback is a report of spam. What names the reported message stands in the
// report; the sender and recipient of the record are those of the report's mail.
func (p *kumomta) feedback(dst []event.Event) ([]event.Event, error) {
	switch string(p.reportType) {
	case "not-spam", "auth-failure", "opt-out", "opt-out-list", "dmarc":
		return dst, nil // no complaint
	}
	dst, e := grow(dst)
	if err := p.common(e); err != nil {
		return dst, err
	}
	e.Kind, e.Outcome, e.Joined = event.Notice, event.Complaint, true
	e.QueueID, e.Delay, e.Sender, e.SenderDomain, e.SenderKnown = nil, -1, nil, nil, false
	if p.reportSender != nil {
		setSender(e, p.reportSender)
	}
	e.Recipient = p.reportRecipient
	return dst, nil
}

// kumomtaTenant returns the tenant in the name of a queue,
// "campaign:tenant@domain!routing_domain" with all but the domain optional.
func kumomtaTenant(queue []byte) []byte {
	at := bytes.IndexByte(queue, '@')
	if at < 0 {
		return nil
	}
	tenant := queue[:at]
	if colon := bytes.IndexByte(tenant, ':'); colon >= 0 {
		tenant = tenant[colon+1:]
	}
	return tenant
}
