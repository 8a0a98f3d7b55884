package dialect

import (
	"bytes"
	"fmt"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

// errQmailReport is a result that is neither success, failure nor deferral.
var errQmailReport = fmt.Errorf("%w: a delivery report of qmail that is no success, failure or deferral", ErrMalformed)

// qmail reads what qmail-send of qmail 1.03, netqmail and notqmail writes
// (qmail-log(5)), behind the stamps of multilog (TAI64N), tai64nlocal,
// accustamp or splogger.
//
// Whom a delivery is to is said when it starts, its result on another line by
// the number of the delivery: both lines have it as DeliveryID, and correlation
// joins them. Message numbers are used again at once, so both the end of a
// message and the start of a new one end what is known by its number.
type qmail struct {
	stamps
}

func newQmail(location *time.Location) *qmail {
	q := &qmail{}
	q.location = location
	return q
}

// Parse implements Parser.
func (p *qmail) Parse(line []byte, dst []event.Event) ([]event.Event, error) {
	var h syslogHeader
	text := line
	switch {
	case len(line) > 0 && line[0] == '@':
		micros, n, err := tai64n(line)
		if err != nil {
			return dst, err
		}
		h.time, text = micros, line[n:]
	case isWall(line):
		micros, n, err := p.wall(line)
		if err != nil {
			return dst, err
		}
		h.time, text = micros, line[n:]
	default:
		if n := unixStamp(line); n > 0 {
			h.time, text = seconds(line[:n]), line[n:]
			break
		}
		if err := p.header(line, &h); err != nil {
			return dst, err
		}
		if name, _ := program(h.tag); !hasPrefix(name, "qmail") {
			return dst, nil
		}
		text = h.body[unixStamp(h.body):]
	}
	if len(text) > 0 && text[0] == ' ' {
		text = text[1:]
	}
	e := event.Event{Time: h.time, Delay: -1, Host: h.host}
	switch {
	case hasPrefix(text, "delivery "):
		return p.report(&e, text[len("delivery "):], dst)
	case hasPrefix(text, "starting delivery "):
		if !qmailStart(&e, text[len("starting delivery "):]) {
			return dst, nil
		}
	case hasPrefix(text, "info msg "):
		if !qmailInfo(&e, text[len("info msg "):]) {
			return dst, nil
		}
	case hasPrefix(text, "end msg "), hasPrefix(text, "new msg "):
		e.Kind, e.QueueID = event.Removal, text[len("end msg "):]
		if !isNumber(e.QueueID) {
			return dst, nil
		}
	default:
		return dst, nil
	}
	return append(dst, e), nil
}

// unixStamp returns the length of seconds since the Unix epoch with a fraction,
// as accustamp and splogger write them, or 0.
func unixStamp(b []byte) int {
	n := 0
	for n < len(b) && isDigit(b[n]) {
		n++
	}
	if n < 9 || n > 10 || n == len(b) || b[n] != '.' {
		return 0
	}
	for n++; n < len(b) && isDigit(b[n]); n++ {
	}
	if n < len(b) && b[n] != ' ' {
		return 0
	}
	return n
}

func isNumber(b []byte) bool { return len(b) > 0 && areDigits(b) }

// qmailStart reads "D: msg N to remote R" or "… to local R".
func qmailStart(e *event.Event, text []byte) bool {
	const msg, remote, local = " msg ", "to remote ", "to local "
	id, rest := cut(text, ':')
	if !isNumber(id) || !hasPrefix(rest, msg) {
		return false
	}
	number, rest := cut(rest[len(msg):], ' ')
	if !isNumber(number) {
		return false
	}
	switch {
	case hasPrefix(rest, remote):
		e.Recipient = rest[len(remote):]
	case hasPrefix(rest, local):
		e.Recipient, e.Local = rest[len(local):], true
	default:
		return false
	}
	e.Kind, e.QueueID, e.DeliveryID = event.Arrival, number, id
	return true
}

// qmailInfo reads "N: bytes B from <S> qp Q uid U".
func qmailInfo(e *event.Event, text []byte) bool {
	const from = " from <"
	number, rest := cut(text, ':')
	start, end := bytes.Index(rest, []byte(from)), bytes.LastIndex(rest, []byte("> qp "))
	if !isNumber(number) || start < 0 || end < start+len(from) {
		return false
	}
	e.Kind, e.QueueID = event.Arrival, number
	e.SenderKnown, e.Sender = true, rest[start+len(from):end]
	if string(e.Sender) == "#@[]" { // of a bounce of a bounce
		e.Sender = e.Sender[:0]
	}
	return true
}

// tooLong ends the report of the last deferral of a message whose time in the
// queue is over.
const tooLong = "I'm_not_going_to_try_again;_this_message_has_been_in_the_queue_too_long./"

// report reads "D: success: text", "D: failure: text" or "D: deferral: text".
func (p *qmail) report(e *event.Event, text []byte, dst []event.Event) ([]event.Event, error) {
	id, rest := cut(text, ':')
	if !isNumber(id) {
		return dst, nil
	}
	e.Kind, e.DeliveryID = event.Attempt, id
	expired := false
	switch {
	case hasPrefix(rest, " success: "):
		e.Outcome, rest = event.Delivered, rest[len(" success: "):]
	case hasPrefix(rest, " failure: "):
		e.Outcome, rest = event.Bounced, rest[len(" failure: "):]
		if hasSuffix(rest, tooLong) {
			expired = true
			e.Outcome, rest = event.Deferred, rest[:len(rest)-len(tooLong)]
		}
	case hasPrefix(rest, " deferral: "):
		e.Outcome, rest = event.Deferred, rest[len(" deferral: "):]
	case hasPrefix(rest, " report mangled"):
		e.Outcome, rest = event.Deferred, rest[1:]
	default:
		return dst, errQmailReport
	}
	qmailText(e, rest)
	dst = append(dst, *e)
	if expired {
		dst = append(dst, event.Event{
			Kind: event.Expiry, Outcome: event.Expired, Time: e.Time, Delay: -1, Host: e.Host, DeliveryID: id,
		})
	}
	return dst, nil
}

// qmailStages are what qmail-remote says of the server before its words.
var qmailStages = [...]struct {
	text  []byte
	stage event.Stage
}{
	{[]byte("_does_not_like_recipient."), event.StageRcpt},
	{[]byte("_but_sender_was_rejected."), event.StageMail},
	{[]byte("_but_greeting_failed."), event.StageConnect},
	{[]byte("_but_my_name_was_rejected."), event.StageHelo},
	{[]byte("_failed_on_DATA_command."), event.StageData},
	{[]byte("_failed_after_I_sent_the_message."), event.StageEnd},
	{[]byte("_accepted_message."), event.StageEnd},
	{[]byte("_but_connection_died."), event.StageUnknown},
}

// qmailText reads the text of a report, in which qmail-send writes "_" for
// spaces and "/" for line ends.
func qmailText(e *event.Event, text []byte) {
	const said, givingUp = "Remote_host_said:_", "/Giving_up_on_"
	if hasSuffix(text, "./") {
		if i := bytes.LastIndex(text, []byte(givingUp)); i >= 0 {
			text = text[:i]
		}
	}
	if hasSuffix(text, "/") {
		text = text[:len(text)-1]
	}
	r := &e.Reply
	r.Origin, r.Text = event.OriginLocal, text
	ours, reply := text, []byte(nil)
	if i := bytes.Index(text, []byte(said)); i >= 0 {
		ours, reply = text[:i], text[i+len(said):]
	}
	for _, s := range qmailStages {
		if i := bytes.Index(ours, s.text); i >= 0 {
			start := i
			for start > 0 && ours[start-1] != '_' && ours[start-1] != '/' {
				start--
			}
			e.RelayIP, r.Stage = ours[start:i], s.stage
			break
		}
	}
	if reply != nil {
		r.Origin, r.Text = event.OriginRemote, reply
		qmailCodes(r, reply)
		return
	}
	if hasPrefix(ours, "Sorry,_I_wasn't_able_to_establish_an_SMTP_connection.") || hasPrefix(ours, "Sorry,_I_couldn't_find_any_host_") ||
		hasPrefix(ours, "CNAME_lookup_failed_") {
		r.Stage = event.StageConnect
	}
	// Our own MTA's texts end in a code: "(#4.4.1)".
	if i := bytes.LastIndex(ours, []byte("(#")); i >= 0 {
		r.Status, _ = event.ParseEnhanced(ours[i+2:])
	}
}

// qmailCodes is readCodes for texts with underscores.
func qmailCodes(r *event.Reply, text []byte) {
	if len(text) > 3 && text[3] == '_' {
		readCodes(r, text[:3])
	} else {
		readCodes(r, text)
	}
	if r.Code == 0 || len(text) < 5 {
		return
	}
	text = text[4:]
	if text[0] == '#' {
		text = text[1:]
	}
	// ParseEnhanced takes a letter after a code for a name, and an underscore for
	// neither.
	r.Enhanced, _ = event.ParseEnhanced(text)
}
