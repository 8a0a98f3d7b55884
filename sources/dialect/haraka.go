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
	fields       []byte // text and logfmt: more "key=value", else nil
	object       []byte // JSON: the object, else nil
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
	return nil
}

// logfmt reads `level=NOTICE uuid=… origin=outbound message="…" key=value …`.
func (l *harakaLine) logfmt(b []byte) {
	for len(b) > 0 {
		var key, value []byte
		key, value, b = logfmtField(b)
		switch string(key) {
		case "uuid":
			l.uuid = value
		case "origin", "source": // source: before Haraka 3
			l.origin = value
		case "message":
			l.message, l.fields = value, b
			if len(value) == 0 { // all is in the fields
				l.message = b
			}
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

// field returns the value of a field behind the message.
func (l *harakaLine) field(name string) []byte {
	if l.object != nil {
		return jsonMember(l.object, name)
	}
	for b := l.fields; len(b) > 0; {
		var key, value []byte
		key, value, b = logfmtField(b)
		if string(key) == name || hasSuffix(key, name) && key[len(key)-len(name)-1] == ' ' {
			return value
		}
	}
	return nil
}

// json reads the object of a line.
func (l *harakaLine) json(b []byte) error {
	b = bytes.TrimRight(b, " \r\n")
	if b[len(b)-1] != '}' {
		return errHarakaJSON
	}
	l.object = b
	l.uuid, l.message = jsonMember(b, "uuid"), jsonMember(b, "message")
	if l.origin = jsonMember(b, "origin"); l.origin == nil {
		l.origin = jsonMember(b, "source")
	}
	if l.uuid == nil || l.origin == nil {
		return errHarakaJSON
	}
	return nil
}

// jsonMember returns the value of a member of a flat object, a string without
// its quotes and with its escapes as they stand, or nil.
func jsonMember(object []byte, name string) []byte {
	b := object[1:]
	for {
		start := bytes.IndexByte(b, '"')
		if start < 0 {
			return nil
		}
		end := closingQuote(b, start)
		if end < 0 {
			return nil
		}
		key := b[start+1 : end]
		b = bytes.TrimLeft(b[end+1:], " \t")
		if len(b) < 2 || b[0] != ':' {
			return nil
		}
		b = bytes.TrimLeft(b[1:], " \t")
		var value []byte
		switch {
		case len(b) == 0:
			return nil
		case b[0] == '"':
			if end = closingQuote(b, 0); end < 0 {
				return nil
			}
			value, b = b[1:end], b[end+1:]
		case b[0] == '{' || b[0] == '[':
			n := jsonNested(b)
			value, b = b[:n], b[n:]
		default:
			n := bytes.IndexAny(b, ",}")
			if n < 0 {
				return nil
			}
			value, b = bytes.TrimRight(b[:n], " "), b[n:]
		}
		if string(key) == name {
			return value
		}
	}
}

// jsonNested returns the length of the object or array that b starts with.
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
				return len(b)
			}
			i = end
		}
	}
	return len(b)
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
	case hasPrefix(m, "delivered file="), l.object != nil && len(m) == 0 && l.field("delivered file") != nil:
		return l.delivered(e, dst)
	}
	return dst, nil
}

// delivered reads the fields of a delivery: host, ip, response, delay in
// seconds, and rcpts as "delivered/deferred/bounced". The recipients have no
// names here; those that were not delivered to have lines of their own.
func (l *harakaLine) delivered(e *event.Event, dst []event.Event) ([]event.Event, error) {
	count, _ := cut(l.field("rcpts"), '/')
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
	e.Relay, e.RelayIP = l.field("host"), l.field("ip")
	e.Delay = seconds(l.field("delay"))
	r := &e.Reply
	r.Text, r.Origin, r.Stage = l.field("response"), event.OriginRemote, event.StageEnd
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
	m := l.message
	e.Reply.Origin = event.OriginLocal
	switch {
	case hasPrefix(m, "sender <"):
		a, rest, ok := address(m[len("sender <"):], " ")
		if !ok {
			return dst
		}
		e.SenderKnown, e.Sender, e.Reply.Stage = true, a, event.StageMail
		if l.object == nil && rest != nil {
			l.fields = rest
		}
		if !l.denied() {
			e.Kind, e.Reply = event.Arrival, event.Reply{}
			return append(dst, *e)
		}
	case hasPrefix(m, "recipient <"):
		a, rest, ok := address(m[len("recipient <"):], " ")
		if l.object == nil && rest != nil {
			l.fields = rest
		}
		if !ok || !l.denied() {
			return dst
		}
		e.Recipient, e.Reply.Stage = a, event.StageRcpt
	case hasPrefix(m, "message"):
		if !l.denied() {
			return dst
		}
		e.Reply.Stage = event.StageEnd
	default:
		return dst
	}
	e.Kind, e.Outcome, e.Reply.Text = event.Rejection, event.RejectedInbound, l.field("msg")
	return append(dst, *e)
}

// denied reports whether the code of a hook's result refuses the client.
func (l *harakaLine) denied() bool { return hasPrefix(l.field("code"), "DENY") }
