package dialect

import (
	"fmt"
	"math"
	"strconv"

	"github.com/bouncemeter/bouncemeter/event"
)

// Classified is the name of the dialect of classified records.
const Classified = "bouncemeter"

// Why a classified record cannot be read.
var (
	errRecordVersion  = fmt.Errorf("%w: its v is missing or not 1; if a newer bouncemeter wrote it, update this one first", ErrMalformed)
	errRecordTime     = fmt.Errorf("%w: its time is missing or not as RFC 3339 says", ErrMalformed)
	errRecordKind     = fmt.Errorf("%w: its kind is missing or none that records have", ErrMalformed)
	errRecordOutcome  = fmt.Errorf("%w: its outcome is missing or unknown", ErrMalformed)
	errRecordCategory = fmt.Errorf("%w: its category is unknown, or missing though the attempt failed", ErrMalformed)
	errRecordValue    = fmt.Errorf("%w: a member has a value that it cannot have", ErrMalformed)
)

// classified reads the classified records that bouncemeter's own sinks write
// (docs/record.md): one object on a line, or an array of them. Their events are
// complete: they are neither classified nor joined again. Members that it does
// not know do no harm.
type classified struct {
	members
	// names has the providers, rules and lists of records before: there are few,
	// and each is kept once.
	names map[string]string
	// What was seen of the record that is being read.
	version, time, sender, senderDomain bool
}

// recordNames bounds classified.names; beyond it, all are forgotten.
const recordNames = 4096

func newClassified() *classified { return &classified{names: make(map[string]string)} }

// Parse implements Parser.
func (p *classified) Parse(line []byte, dst []event.Event) ([]event.Event, error) {
	return p.one(line, dst, p.object)
}

func (p *classified) object(dst []event.Event) ([]event.Event, error) {
	dst, e := grow(dst)
	e.Classified = true
	p.version, p.time, p.sender, p.senderDomain = false, false, false, false
	for more := p.w.object(); more; more = p.w.member() {
		p.member(e)
	}
	p.completeSender(e)
	return dst, p.missing(e)
}

// member takes the value of the member that the walker is at. Null is as good as
// absent.
func (p *classified) member(e *event.Event) {
	w := &p.w
	if w.peek() == 'n' {
		w.skip()
		return
	}
	if field := p.bytes(e); field != nil {
		*field = w.text()
		return
	}
	ok, fault := true, errRecordValue
	switch string(w.key) {
	case "provider":
		e.Provider = p.name(w.text())
	case "rule":
		e.Verdict.Rule = p.name(w.text())
	case "blocklist":
		e.Verdict.Blocklist = p.name(w.text())
	case "v":
		p.version = true
		ok, fault = string(w.text()) == "1", errRecordVersion
	case "time":
		p.time = true
		b := w.text()
		var n int
		var err error
		e.Time, n, err = p.rfc3339(b)
		ok, fault = err == nil && n == len(b), errRecordTime
	case "kind":
		e.Kind, ok = event.KindByName(string(w.text()))
		fault = errRecordKind
	case "outcome":
		e.Outcome, ok = event.OutcomeByName(string(w.text()))
		fault = errRecordOutcome
	case "category":
		e.Verdict.Category, ok = event.CategoryByID(string(w.text()))
		fault = errRecordCategory
	case "secondary":
		e.Verdict.Secondary, ok = event.CategoryByID(string(w.text()))
		fault = errRecordCategory
	default:
		ok = p.value(e)
	}
	if !ok {
		w.fail(fault)
	}
}

// bytes returns the field of e that the member's text goes to as it is, or nil.
func (p *classified) bytes(e *event.Event) *[]byte {
	switch string(p.w.key) {
	case "id":
		return &e.ID
	case "host":
		return &e.Host
	case "stream":
		return &e.Stream
	case "queue_id":
		return &e.QueueID
	case "message_id":
		return &e.MessageID
	case "sender":
		p.sender = true
		return &e.Sender
	case "sender_domain":
		p.senderDomain = true
		return &e.SenderDomain
	case "recipient":
		return &e.Recipient
	case "original_recipient":
		return &e.OriginalRecipient
	case "relay":
		return &e.Relay
	case "relay_ip":
		return &e.RelayIP
	case "source_ip":
		return &e.SourceIP
	case "text":
		return &e.Reply.Text
	}
	return nil
}

// value takes members that are numbers, truth values or one of a few words.
func (p *classified) value(e *event.Event) (ok bool) {
	w, r, v := &p.w, &e.Reply, &e.Verdict
	var n int64
	var err error
	switch string(w.key) {
	case "code":
		n, ok = upTo(w.text(), 0, 999)
		r.Code = uint16(n)
	case "enhanced":
		r.Enhanced, ok = enhancedCode(w.text())
	case "status":
		r.Status, ok = enhancedCode(w.text())
	case "stage":
		r.Stage, ok = event.StageByName(string(w.text()))
	case "origin":
		r.Origin, ok = event.OriginByName(string(w.text()))
	case "persistence":
		v.Persistence, ok = event.PersistenceByName(string(w.text()))
	case "confidence":
		var f float64
		f, err = strconv.ParseFloat(string(w.text()), 32)
		v.Confidence, ok = float32(f), err == nil && f >= 0 && f <= 1
	case "template":
		v.Template, err = strconv.ParseUint(string(w.text()), 16, 64)
		ok = err == nil
	case "attempt":
		n, ok = upTo(w.text(), 0, math.MaxUint32)
		e.Attempts = uint32(n)
	case "delay":
		e.Delay, ok = upTo(w.text(), 6, math.MaxInt64)
	case "local":
		e.Local, ok = truth(w.text())
	case "first":
		e.FirstOutcome, ok = truth(w.text())
	case "repeat":
		e.Repeat, ok = truth(w.text())
	default:
		w.skip()
		ok = true
	}
	return ok
}

// completeSender sets whether the sender is known. One without a domain counts as
// not known, unless it is the null sender.
func (p *classified) completeSender(e *event.Event) {
	e.SenderKnown = p.senderDomain
	if !p.senderDomain && p.sender {
		e.SenderDomain = event.Domain(e.Sender)
		e.SenderKnown = len(e.Sender) == 0 || e.SenderDomain != nil
	}
	if !e.SenderKnown {
		e.Sender = nil
	}
}

// missing returns why the record is not complete.
func (p *classified) missing(e *event.Event) error {
	switch {
	case !p.version:
		return errRecordVersion
	case !p.time:
		return errRecordTime
	case e.Outcome == 0:
		return errRecordOutcome
	}
	switch e.Kind {
	case event.Attempt:
		if e.Outcome.Failure() && e.Verdict.Category == event.Unset {
			return errRecordCategory
		}
	case event.Expiry, event.Notice, event.Rejection:
	default:
		return errRecordKind
	}
	return nil
}

// name returns b as a string that is kept once.
func (p *classified) name(b []byte) string {
	if s, ok := p.names[string(b)]; ok {
		return s
	}
	if len(p.names) >= recordNames {
		clear(p.names)
	}
	s := string(b)
	p.names[s] = s
	return s
}

// enhancedCode reads an enhanced status code that is all of b.
func enhancedCode(b []byte) (event.Enhanced, bool) {
	e, n := event.ParseEnhanced(b)
	return e, n > 0 && n == len(b)
}

func truth(b []byte) (value, ok bool) {
	value = string(b) == "true"
	return value, value || string(b) == "false"
}

// upTo reads a number from 0 to limit, times ten to the power of scale.
func upTo(b []byte, scale int, limit int64) (int64, bool) {
	n, ok := decimal(b, scale)
	return n, ok && n >= 0 && n <= limit
}
