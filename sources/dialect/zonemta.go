package dialect

import (
	"bytes"
	"fmt"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

// errZonemtaFields is a delivery line that ends before what it is about.
var errZonemtaFields = fmt.Errorf("%w: from=, to=, src=, mx= and message-id= do not follow the action", ErrMalformed)

// zonemta reads the text log of ZoneMTA, which has no time of its own: it comes
// from syslog, from the journal, or from whatever else stamps the lines.
//
//	info Sender/default/77 id=SESSION MESSAGE.001 DEFERRED[greylist] from=… to=… src=… mx=host[ip] message-id=<…> (reply)
//
// Each recipient is a delivery of its own, MESSAGE.SEQUENCE, which is the queue
// id here.
type zonemta struct {
	stamps
}

func newZonemta(location *time.Location) *zonemta {
	z := &zonemta{}
	z.location = location
	return z
}

// isZonemta reports whether b starts as a line of a sender does.
func isZonemta(b []byte) bool {
	level, rest := cut(b[:min(len(b), 64)], ' ')
	switch string(level) {
	case "info", "verbose", "warn", "ERR!", "error", "silly", "notice", "http":
		return hasPrefix(rest, "Sender/")
	}
	return false
}

// Parse implements Parser.
func (p *zonemta) Parse(line []byte, dst []event.Event) ([]event.Event, error) {
	micros, host, text, err := p.stamped(line, isZonemta)
	if err != nil {
		return dst, err
	}
	if !isZonemta(text) {
		return dst, nil
	}
	_, text = cut(text, ' ')
	_, text = cut(text, ' ') // Sender/zone/pid
	if !hasPrefix(text, "id=") {
		return dst, nil
	}
	_, text = cut(text, ' ')
	id, text := cut(text, ' ')
	action, text := cut(text, ' ')
	if bracket := bytes.IndexByte(action, '['); bracket > 0 {
		action = action[:bracket]
	}
	e := event.Event{Kind: event.Attempt, Time: micros, Delay: -1, Host: host, QueueID: id}
	switch string(action) {
	case "ACCEPTED":
		e.Outcome = event.Delivered
	case "DEFERRED":
		e.Outcome = event.Deferred
	case "REJECTED":
		e.Outcome = event.Bounced
	default:
		return dst, nil
	}
	if len(id) == 0 || !zonemtaFields(&e, text) {
		return dst, errZonemtaFields
	}
	dst = append(dst, e)
	if e.Outcome != event.Deferred {
		dst = append(dst, event.Event{Kind: event.Removal, Time: micros, Delay: -1, Host: host, QueueID: id})
	}
	return dst, nil
}

// zonemtaField reads "name=value " at the start of text.
func zonemtaField(text []byte, name string) (value, rest []byte, ok bool) {
	if !hasPrefix(text, name) {
		return nil, nil, false
	}
	text = text[len(name):]
	n := quoted(text)
	end := bytes.IndexByte(text[n:], ' ')
	if end < 0 {
		return nil, nil, false
	}
	return text[:n+end], text[n+end+1:], true
}

func zonemtaFields(e *event.Event, text []byte) bool {
	sender, text, ok := zonemtaField(text, "from=")
	if !ok {
		return false
	}
	if e.Recipient, text, ok = zonemtaField(text, "to="); !ok {
		return false
	}
	source, text, ok := zonemtaField(text, "src=")
	if !ok {
		return false
	}
	mx, text, ok := zonemtaField(text, "mx=")
	if !ok || !hasPrefix(text, "message-id=") {
		return false
	}
	text = text[len("message-id="):]
	e.SenderKnown, e.Sender = true, sender
	switch n := len(sender); {
	case string(sender) == "<>":
		e.Sender = sender[:0]
	case n > 1 && sender[n-1] == ']': // "header[envelope]" where they differ
		if i := bytes.LastIndexByte(sender, '['); i >= 0 && (i == 0 || sender[i-1] != '@') {
			e.Sender = sender[i+1 : n-1]
		}
	}
	if len(source) > 0 {
		e.SourceIP = source
	}
	if host, addr, _, ok := peer(mx); ok { // else the domain, to which there was no connection
		e.Relay, e.RelayIP = host, addr
	}
	// The message id is the sender's own text.
	const opening = " ("
	end := bytes.Index(text, []byte(opening))
	if len(text) > 0 && text[0] == '<' {
		if i := bytes.Index(text, []byte("> (")); i >= 0 {
			end = i + 1
		}
	}
	if end < 0 {
		return false
	}
	if id := text[:end]; len(id) > 0 && string(id) != "undefined" {
		e.MessageID = unbracket(id)
	}
	text = text[end+len(opening):]
	if hasSuffix(text, ")") {
		text = text[:len(text)-1]
	}
	r := &e.Reply
	r.Text, r.Origin = text, event.OriginLocal
	if readCodes(r, text); r.Code != 0 && e.Relay != nil {
		r.Origin = event.OriginRemote
		if e.Outcome == event.Delivered {
			r.Stage = event.StageEnd
		}
	}
	return true
}
