package dialect

import (
	"bytes"
	"fmt"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

// Why a record of Haraka cannot be read.
var (
	errHarakaJSON   = fmt.Errorf("%w: not the JSON object of a log line of Haraka", ErrMalformed)
	errHarakaRcpts  = fmt.Errorf("%w: a delivery without rcpts=delivered/deferred/bounced", ErrMalformed)
	errHarakaPrefix = fmt.Errorf("%w: no [LEVEL] [uuid] [origin] in front of the message", ErrMalformed)
)

// haraka reads Haraka's own log in its three formats: text, logfmt and JSON,
// behind the time that log.ini's timestamps or syslog writes. The level must be
// info or lower: at notice, failures that concern all recipients are not logged.
//
//	[NOTICE] [6C2E….1.1] [outbound] recipient <ann@x.example> deferred: 450 4.2.0 Greylisted
//
// The queue id is the transaction's: connection and number, without the number
// of the part that goes to one domain.
type haraka struct {
	stamps
}

func newHaraka(location *time.Location) *haraka {
	h := &haraka{}
	h.location = location
	return h
}

// harakaLine is what a line of any format says.
type harakaLine struct {
	uuid, origin []byte
	message      []byte
	fields       []byte // text and logfmt: more "key=value", not read yet
	delivered    bool   // there is a field "delivered file"

	code, msg                        []byte // of a hook's result
	host, ip, response, delay, rcpts []byte // of a delivery
}

// set notes the value of a field.
func (l *harakaLine) set(key, value []byte) {
	switch string(key) {
	case "uuid":
		l.uuid = value
	case "origin", "source": // source: before Haraka 3
		l.origin = value
	case "message":
		l.message = value
	case "delivered file":
		l.delivered = true
	case "code":
		l.code = value
	case "msg":
		l.msg = value
	case "host":
		l.host = value
	case "ip":
		l.ip = value
	case "response":
		l.response = value
	case "delay":
		l.delay = value
	case "rcpts":
		l.rcpts = value
	}
}

// isHaraka reports whether b starts as a line in one of the formats does.
func isHaraka(b []byte) bool {
	if len(b) < 8 {
		return false
	}
	switch b[0] {
	case '{':
		return true
	case 'l':
		return hasPrefix(b, "level=")
	case '[':
		return harakaLevel(b) > 0
	}
	return false
}

// harakaLevel returns the length of "[NOTICE] " at the start of b, or 0.
func harakaLevel(b []byte) int {
	n := 1
	for n < len(b) && n < 10 && b[n] >= 'A' && b[n] <= 'Z' {
		n++
	}
	if n > 3 && n+2 < len(b) && b[n] == ']' && b[n+1] == ' ' && b[n+2] == '[' {
		return n + 2
	}
	return 0
}

// Parse implements Parser.
func (p *haraka) Parse(line []byte, dst []event.Event) ([]event.Event, error) {
	micros, host, text, err := p.stamped(line, isHaraka)
	if err != nil {
		return dst, err
	}
	if !isHaraka(text) {
		return dst, nil
	}
	var l harakaLine
	switch text[0] {
	case '{':
		err = l.json(text)
	case 'l':
		l.logfmt(text)
	default:
		err = l.text(text)
	}
	if err != nil {
		return dst, err
	}
	e := event.Event{Time: micros, Delay: -1, Host: host, QueueID: harakaID(l.uuid)}
	switch string(l.origin) {
	case "outbound":
		return l.outbound(&e, dst)
	case "core":
		return l.core(&e, dst), nil
	}
	return dst, nil
}

// harakaID cuts "connection.transaction.part" before the part, and returns nil
// for the "-" of lines about no connection.
func harakaID(uuid []byte) []byte {
	if string(uuid) == "-" {
		return nil
	}
	if first := bytes.IndexByte(uuid, '.'); first >= 0 {
		if second := bytes.IndexByte(uuid[first+1:], '.'); second >= 0 {
			return uuid[:first+1+second]
		}
	}
	return uuid
}

// text reads "[LEVEL] [uuid] [origin] message key=value …".
func (l *harakaLine) text(b []byte) error {
	b = b[harakaLevel(b):]
	for _, part := range [...]*[]byte{&l.uuid, &l.origin} {
		end := bytes.IndexByte(b, ']')
		if end < 0 || b[0] != '[' || end+1 == len(b) {
			return errHarakaPrefix
		}
		*part = b[1:end]
		b = bytes.TrimLeft(b[end+1:], " ")
		if len(b) == 0 {
			return nil
		}
	}
	l.message, l.fields = b, b
	l.delivered = hasPrefix(b, "delivered file=")
	return nil
}

// logfmt reads `level=NOTICE uuid=… origin=outbound message="…" key=value …`.
func (l *harakaLine) logfmt(b []byte) {
	for len(b) > 0 {
		var key, value []byte
		key, value, b = logfmtField(b)
		l.set(key, value)
		if string(key) == "message" {
			l.fields = b
			l.delivered = hasPrefix(b, "delivered file=")
			return
		}
	}
}

// logfmtField splits "key=value" off b. A key may have a space inside, as
// "delivered file" does; quoted values keep their escapes.
func logfmtField(b []byte) (key, value, rest []byte) {
	key, rest = cut(b, '=')
	if len(rest) > 0 && rest[0] == '"' {
		if end := closingQuote(rest, 0); end >= 0 {
			value, rest = rest[1:end], rest[end+1:]
			return key, value, bytes.TrimLeft(rest, " ")
		}
		return key, rest[1:], nil
	}
	value, rest = cut(rest, ' ')
	return key, value, rest
}

// readFields reads the fields behind the message; JSON's have been read.
func (l *harakaLine) readFields() {
	for b := l.fields; len(b) > 0; {
		var key, value []byte
		key, value, b = logfmtField(b)
		if i := bytes.LastIndexByte(key, ' '); i >= 0 {
			key = key[i+1:] // words of the message before
		}
		l.set(key, value)
	}
}

// json reads the object of a line: flat, all of it.
func (l *harakaLine) json(object []byte) error {
	b := object[1:]
	for {
		b = bytes.TrimLeft(b, ", \t")
		if len(b) > 0 && b[0] == '}' {
			break
		}
		if len(b) == 0 || b[0] != '"' {
			return errHarakaJSON
		}
		end := closingQuote(b, 0)
		if end < 0 {
			return errHarakaJSON
		}
		key := b[1:end]
		b = bytes.TrimLeft(b[end+1:], " \t")
		if len(b) < 2 || b[0] != ':' {
			return errHarakaJSON
		}
		b = bytes.TrimLeft(b[1:], " \t")
		n := jsonLength(b)
		if n == 0 {
			return errHarakaJSON
		}
		if value := b[:n]; value[0] == '"' {
			l.set(key, value[1:n-1])
		} else {
			l.set(key, value)
		}
		b = b[n:]
	}
	if l.uuid == nil || l.origin == nil {
		return errHarakaJSON
	}
	return nil
}

// jsonLength returns the length of the JSON value that b starts with, 0 if it
// has no end.
func jsonLength(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	switch b[0] {
	case '"':
		return closingQuote(b, 0) + 1
	case '{', '[':
		return jsonNested(b)
	}
	n := 0
	for n < len(b) && b[n] != ',' && b[n] != '}' && b[n] != ' ' {
		n++
	}
	if n == len(b) {
		return 0
	}
	return n
}

// jsonNested returns the length of the object or array that b starts with, 0 if
// it has no end.
func jsonNested(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		case '"':
			end := closingQuote(b, i)
			if end < 0 {
				return 0
			}
			i = end
		}
	}
	return 0
}

// outbound reads a line about a delivery.
func (l *harakaLine) outbound(e *event.Event, dst []event.Event) ([]event.Event, error) {
	const recipient, failing, bouncing = "recipient <", "Temp failing ", "bouncing mail: "
	m := l.message
	switch {
	case hasPrefix(m, recipient):
		a, rest, ok := address(m[len(recipient):], " ")
		if !ok {
			return dst, nil
		}
		switch {
		case hasPrefix(rest, "deferred: "):
			e.Outcome, rest = event.Deferred, rest[len("deferred: "):]
		case hasPrefix(rest, "rejected: "):
			e.Outcome, rest = event.Bounced, rest[len("rejected: "):]
		default:
			return dst, nil
		}
		e.Kind, e.Recipient = event.Attempt, a
		r := &e.Reply
		r.Origin, r.Stage, r.Text = event.OriginRemote, event.StageRcpt, rest
		readCodes(r, rest)
		return append(dst, *e), nil
	case hasPrefix(m, failing):
		const seconds = " seconds: "
		if i := bytes.Index(m, []byte(seconds)); i >= 0 {
			return harakaFailed(e, event.Deferred, m[i+len(seconds):], dst), nil
		}
	case hasPrefix(m, bouncing):
		return harakaFailed(e, event.Bounced, m[len(bouncing):], dst), nil
	case l.delivered:
		return l.delivery(e, dst)
	}
	return dst, nil
}

// delivery reads the fields of a delivery: host, ip, response, delay in
// seconds, and rcpts as "delivered/deferred/bounced". The recipients have no
// names here; those that were not delivered to have lines of their own.
func (l *harakaLine) delivery(e *event.Event, dst []event.Event) ([]event.Event, error) {
	l.readFields()
	count, _ := cut(l.rcpts, '/')
	if len(count) == 0 || len(count) > 6 || !areDigits(count) {
		return dst, errHarakaRcpts
	}
	n := uint32(0)
	for _, c := range count {
		n = n*10 + uint32(c-'0')
	}
	if n == 0 {
		return dst, nil
	}
	e.Kind, e.Outcome = event.Attempt, event.Delivered
	if n > 1 {
		e.Attempts = n
	}
	e.Relay, e.RelayIP = l.host, l.ip
	e.Delay = seconds(l.delay)
	r := &e.Reply
	r.Text, r.Origin, r.Stage = l.response, event.OriginRemote, event.StageEnd
	readCodes(r, r.Text)
	return append(dst, *e), nil
}

// harakaStages are how our own MTA's texts start.
var harakaStages = [...]stageText{
	{"Tried all MXs", event.StageConnect},
	{"DNS lookup failure: ", event.StageConnect},
	{"No Such Domain: ", event.StageConnect},
	{"No MX for ", event.StageConnect},
	{"Nowhere to deliver mail to ", event.StageConnect},
	{"Temporary MX lookup error ", event.StageConnect},
	{"Domain ", event.StageConnect}, // … sends and receives no email (NULL MX)
	{"No TLS available ", event.StageTLS},
	{"Host failed TLS verification ", event.StageTLS},
}

// harakaFailed reads why a message was deferred or bounced as a whole.
func harakaFailed(e *event.Event, outcome event.Outcome, why []byte, dst []event.Event) []event.Event {
	const tooMany, upstream, some = "Too many failures (", "Upstream error: ", "Some recipients "
	expired := outcome == event.Bounced && hasPrefix(why, tooMany)
	if expired {
		why = bytes.TrimSuffix(why[len(tooMany):], []byte{')'})
		outcome = event.Deferred
	}
	if !hasPrefix(why, some) { // else each recipient had its line
		attempt := *e
		attempt.Kind, attempt.Outcome = event.Attempt, outcome
		r := &attempt.Reply
		r.Origin, r.Text = event.OriginLocal, bytes.TrimPrefix(why, []byte(upstream))
		for _, s := range harakaStages {
			if hasPrefix(why, s.text) {
				r.Stage = s.stage
			}
		}
		if readCodes(r, r.Text); r.Code != 0 {
			r.Origin = event.OriginRemote
		}
		dst = append(dst, attempt)
	}
	if expired {
		e.Kind, e.Outcome = event.Expiry, event.Expired
		dst = append(dst, *e)
	}
	return dst
}

// core reads what our own server says of a client's commands:
//
//	sender <news@shop.example> code=CONT msg=""
//	recipient <bob@y.example> code=DENY msg="no such user" sender=news@shop.example
//	message mid=<…> … code=DENY msg="spam"
func (l *harakaLine) core(e *event.Event, dst []event.Event) []event.Event {
	const sender, recipient = "sender <", "recipient <"
	m := l.message
	r := &e.Reply
	start := 0
	switch {
	case hasPrefix(m, sender):
		start, r.Stage = len(sender), event.StageMail
	case hasPrefix(m, recipient):
		start, r.Stage = len(recipient), event.StageRcpt
	case hasPrefix(m, "message"):
		r.Stage = event.StageEnd
	default:
		return dst
	}
	if start > 0 {
		a, rest, ok := address(m[start:], " ")
		if !ok {
			return dst
		}
		if r.Stage == event.StageMail {
			e.SenderKnown, e.Sender = true, a
		} else {
			e.Recipient = a
		}
		if len(rest) > 0 {
			l.fields = rest // in the text format they follow the address
		}
	}
	l.readFields()
	switch {
	case hasPrefix(l.code, "DENY"):
		e.Kind, e.Outcome = event.Rejection, event.RejectedInbound
		r.Origin, r.Text = event.OriginLocal, l.msg
	case r.Stage == event.StageMail:
		e.Kind, e.Reply = event.Arrival, event.Reply{}
	default:
		return dst
	}
	return append(dst, *e)
}
