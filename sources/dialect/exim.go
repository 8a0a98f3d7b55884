package dialect

import (
	"bytes"
	"fmt"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

// Why a delivery line of Exim cannot be read.
var (
	errEximRecipient = fmt.Errorf("%w: no recipient after the flag", ErrMalformed)
	errEximDefer     = fmt.Errorf("%w: no defer (number) in the line of a deferral", ErrMalformed)
)

// exim reads Exim's main log (4.x), from its file or through syslog. The lines
// are those of the Exim specification, chapter "Log files": a time, a message
// id, and for what matters a flag of two characters.
//
// Fields are read from left to right up to the colon before the reason, so what
// a remote server says can fake none of them.
type exim struct {
	stamps
	details bool
}

func newExim(location *time.Location, details bool) *exim {
	e := &exim{details: details}
	e.location = location
	return e
}

// eximHeader is what stands in front of a record.
type eximHeader struct {
	time     int64
	host, id []byte
}

// Parse implements Parser.
func (p *exim) Parse(line []byte, dst []event.Event) ([]event.Event, error) {
	var h eximHeader
	text := line
	if isWall(line) {
		micros, n, err := p.wall(line)
		if err != nil {
			return dst, err
		}
		h.time, text = micros, line[n:]
	} else {
		var s syslogHeader
		if err := p.header(line, &s); err != nil {
			return dst, err
		}
		if name, _ := program(s.tag); !hasPrefix(name, "exim") {
			return dst, nil
		}
		first, body := eximPart(s.body)
		if !first {
			return dst, nil
		}
		h.time, h.host, text = s.time, s.host, body
		// Exim's own time, which syslog_timestamp=no leaves out, says the same.
		if isWall(text) {
			_, n, err := p.wall(text)
			if err != nil {
				return dst, err
			}
			text = text[n:]
		}
	}
	text = eximSkipPID(text)
	n := eximID(text)
	if n == 0 {
		if hasPrefix(text, "H=") {
			return p.rejection(&h, text, dst), nil
		}
		return dst, nil
	}
	h.id, text = text[:n], text[n+1:]
	if len(text) < 3 || text[2] != ' ' {
		switch {
		case hasPrefix(text, "Completed"):
			dst, _ = p.add(&h, event.Removal, dst)
		case hasPrefix(text, "H="):
			return p.rejection(&h, text, dst), nil
		}
		return dst, nil
	}
	switch string(text[:2]) {
	case "<=", "(=":
		return p.arrival(&h, text[3:], dst), nil
	case "=>", "->", ">>":
		if hasPrefix(text[3:], "blackhole (") { // our own server threw it away
			return dst, nil
		}
		return p.attempt(&h, event.Delivered, text[3:], dst)
	case "**":
		return p.attempt(&h, event.Bounced, text[3:], dst)
	case "==":
		return p.attempt(&h, event.Deferred, text[3:], dst)
	}
	return dst, nil
}

// eximPart takes off the number of a part, "[2/5] ", of a record that was too
// long for one line of syslog. Everything but the end of a long reply is in the
// first part; the others are not read.
func eximPart(body []byte) (first bool, rest []byte) {
	if len(body) < 6 || body[0] != '[' || !isDigit(body[1]) {
		return true, body
	}
	end := bytes.IndexByte(body, ']')
	i := bytes.IndexAny(body[:max(end, 0)], `/\`)
	if i < 0 || !areDigits(body[1:i]) || !areDigits(body[i+1:end]) || len(body) < end+2 || body[end+1] != ' ' {
		return true, body
	}
	return string(body[1:i]) == "1", body[end+2:]
}

// eximSkipPID takes off the spaces and the "[1234] " that log_selector=+pid
// writes.
func eximSkipPID(text []byte) []byte {
	if len(text) > 0 && text[0] == ' ' {
		text = text[1:]
	}
	if len(text) > 2 && text[0] == '[' {
		if end := bytes.IndexByte(text, ']'); end > 1 && areDigits(text[1:end]) && end+1 < len(text) && text[end+1] == ' ' {
			return text[end+2:]
		}
	}
	return text
}

// eximID returns the length of the message id at the start of text, before a
// space: 6-6-2 letters and digits, since Exim 4.97 6-11-4; or 0.
func eximID(text []byte) int {
	const short, long = len("1rOaBc-000001-AB"), len("1rOaBc-00000000001-ABCD")
	if len(text) <= short || text[6] != '-' {
		return 0
	}
	n, second := short, 13
	if text[second] != '-' {
		n, second = long, 18
	}
	if len(text) <= n || text[n] != ' ' || text[second] != '-' {
		return 0
	}
	for i, c := range text[:n] {
		if i != 6 && i != second && !isAlnum(c) {
			return 0
		}
	}
	return n
}

func (p *exim) add(h *eximHeader, kind event.Kind, dst []event.Event) ([]event.Event, *event.Event) {
	dst = append(dst, event.Event{Kind: kind, Time: h.time, Delay: -1, Host: h.host, QueueID: h.id})
	return dst, &dst[len(dst)-1]
}

// arrival reads a line of reception after its flag: the sender, and with
// details the fields up to the subject, which is the sender's own text.
func (p *exim) arrival(h *eximHeader, text []byte, dst []event.Event) []event.Event {
	sender, rest := eximSender(text)
	dst, e := p.add(h, event.Arrival, dst)
	e.SenderKnown, e.Sender = true, sender
	for p.details && len(rest) > 0 {
		if hasPrefix(rest, "H=") {
			if client, after, ok := eximClient(rest[2:]); ok {
				e.Client, rest = client, after
			}
		}
		var word []byte
		word, rest = token(rest)
		switch {
		case hasPrefix(word, "U="):
			if e.Client == nil {
				e.Client = word[2:]
			}
		case hasPrefix(word, "A="):
			if _, user := cut(word[2:], ':'); user != nil {
				e.Client = user
			}
		case hasPrefix(word, "id="):
			e.MessageID = word[3:]
		case hasPrefix(word, "T="), string(word) == "from", string(word) == "for":
			rest = nil
		}
	}
	return dst
}

// eximClient reads "name (helo) [address]", where any but the address may lack.
func eximClient(text []byte) (client, rest []byte, ok bool) {
	for at := 0; at < len(text); {
		word, _ := cut(text[at:], ' ')
		if len(word) == 0 {
			break
		}
		if word[0] == '[' {
			end := bytes.IndexByte(word, ']')
			return text[:at+end+1], text[at+end+1:], end > 0
		}
		at += len(word) + 1
	}
	return nil, nil, false
}

// eximSender reads the envelope sender, "<>" if it is the null one.
func eximSender(text []byte) (sender, rest []byte) {
	n := quoted(text)
	word, rest := cut(text[n:], ' ')
	sender = text[:n+len(word)]
	if string(sender) == "<>" {
		sender = sender[1:1]
	}
	return sender, rest
}

// attempt reads a line of delivery, failure or deferral after its flag:
//
//	address [(parent)] [<original>] FIELD=value … [defer (n)] [: reason]
func (p *exim) attempt(h *eximHeader, outcome event.Outcome, text []byte, dst []event.Event) ([]event.Event, error) {
	added, e := p.add(h, event.Attempt, dst)
	e.Outcome = outcome
	rest, ok := eximRecipient(e, text)
	if !ok {
		return dst, errEximRecipient
	}
	var (
		r         = &e.Reply
		errno     int
		deferred  bool
		transport bool
		system    []byte // the text of errno
		reason    []byte
	)
fields:
	for len(rest) > 0 {
		if rest[0] == ':' { // the reason follows, to the end of the line
			reason = bytes.TrimPrefix(rest[1:], []byte{' '})
			break
		}
		if rest[0] == ' ' {
			rest = rest[1:]
			continue
		}
		if rest[0] == '<' {
			original, _, ok := address(rest[1:], " :")
			if !ok {
				break
			}
			rest = rest[len("<")+len(original)+len(">"):]
			eximOriginal(e, original)
			continue
		}
		if rest[0] == '(' { // the parent address
			end := bytes.IndexByte(rest, ')')
			if end < 0 {
				break
			}
			rest = rest[end+1:]
			continue
		}
		if outcome == event.Deferred && hasPrefix(rest, "defer (") && !deferred {
			deferred = true
			rest = rest[len("defer ("):]
			end := bytes.IndexByte(rest, ')')
			if end < 0 {
				return dst, errEximDefer
			}
			errno, rest = eximErrno(rest[:end]), rest[end+1:]
			if errno > 0 && hasPrefix(rest, ": ") {
				// The system's words for it, before the host or the reason.
				system = rest[2:]
				if i := bytes.Index(system, []byte(" H=")); i >= 0 {
					system, rest = system[:i], system[i:]
				} else {
					rest = nil
				}
			}
			continue
		}
		switch rest[0] {
		case 'H':
			if hasPrefix(rest, "H=") {
				e.Relay, e.RelayIP, rest = eximHost(rest[2:])
				continue
			}
		case 'F', 'P':
			if hasPrefix(rest[1:], "=<") {
				a, _, ok := address(rest[3:], " :")
				if !ok {
					break fields
				}
				if rest[0] == 'F' {
					e.SenderKnown, e.Sender = true, a
				}
				rest = rest[len("F=<")+len(a)+len(">"):]
				continue
			}
		}
		word, after := token(rest)
		if n := len(word); word[n-1] == ':' { // "T=remote_smtp: the reason"
			word = word[:n-1]
			rest = rest[n-1:]
		} else {
			rest = after
		}
		switch {
		case hasPrefix(word, "T="):
			transport = true
		case hasPrefix(word, "C=\""):
			if r.Text = word[3:]; hasSuffix(r.Text, "\"") { // else cut by syslog
				r.Text = r.Text[:len(r.Text)-1]
			}
		case hasPrefix(word, "QT="):
			e.Delay = unitDuration(word[3:])
		case hasPrefix(word, "I=["):
			if end := bytes.IndexByte(word, ']'); end >= 0 {
				e.SourceIP = word[3:end]
			}
		}
	}
	r.Origin = event.OriginLocal
	if outcome == event.Delivered {
		e.Local = transport && e.Relay == nil
		if readCodes(r, r.Text); r.Code != 0 {
			r.Origin, r.Stage = event.OriginRemote, event.StageEnd
		}
		return added, nil
	}
	if outcome == event.Deferred && !deferred {
		return dst, errEximDefer
	}
	if reason == nil {
		reason = system
	}
	r.Text = reason
	if outcome == event.Bounced && !transport && e.Relay == nil {
		switch string(reason) {
		case "retry timeout exceeded":
			e.Kind, e.Outcome, e.Reply = event.Expiry, event.Expired, event.Reply{}
			return added, nil
		case "delivery cancelled by administrator":
			e.Kind, e.Outcome = event.Notice, event.Held
			return added, nil
		}
	}
	switch {
	case errno <= eximRetryBase, deferred && hasPrefix(reason, notReached):
		// Not tried: the cause is that of the attempt before.
		e.Repeat, r.Text = true, nil
	case errno > 0 && len(system) == len(reason):
		r.Stage = event.StageConnect
	default:
		// Nothing was tried for this message.
		e.Repeat = hasPrefix(reason, "all hosts for '") || hasPrefix(reason, "all hosts have been failing ") || hasPrefix(reason, notReached)
		eximReason(e, reason)
	}
	return added, nil
}

// eximRetryBase is the highest errno of Exim's own for "retry time not reached"
// and other reasons not to try (ERRNO_RETRY_BASE in its macros.h). The numbers
// were others in old versions, whose words tell.
const (
	eximRetryBase = -52
	notReached    = "retry time not reached"
)

// eximErrno reads a number with sign; what is none is 0.
func eximErrno(b []byte) int {
	sign, n := 1, 0
	if len(b) > 0 && b[0] == '-' {
		sign, b = -1, b[1:]
	}
	if len(b) > 6 || !areDigits(b) {
		return 0
	}
	for _, c := range b {
		n = n*10 + int(c-'0')
	}
	return sign * n
}

// eximRecipient reads the address after the flag. That of a pipe, a file or an
// automatic reply ends before its original address or its router.
func eximRecipient(e *event.Event, text []byte) (rest []byte, ok bool) {
	if len(text) == 0 {
		return nil, false
	}
	if text[0] == '|' || text[0] == '/' || text[0] == '>' {
		end := bytes.Index(text, []byte(" R="))
		if end < 0 {
			end = len(text)
		}
		if i := bytes.LastIndex(text[:end], []byte(" <")); i >= 0 {
			end = i
		}
		e.Recipient = text[:end]
		return text[end:], true
	}
	n := quoted(text)
	for n < len(text) && text[n] != ' ' && (text[n] != ':' || n+1 < len(text) && text[n+1] != ' ') {
		n++
	}
	e.Recipient = text[:n]
	return text[n:], n > 0
}

// eximOriginal notes the address that the message was for. It is the recipient
// where the final address is a mailbox of this machine.
func eximOriginal(e *event.Event, original []byte) {
	if bytes.IndexByte(e.Recipient, '@') < 0 || e.Recipient[0] == '|' || e.Recipient[0] == '/' || e.Recipient[0] == '>' {
		e.Recipient = original
		return
	}
	e.OriginalRecipient = original
}

// eximHost reads what follows "H=": "name [address]:port*", or with DS after the
// name. Without an address in brackets it is a name.
func eximHost(text []byte) (host, addr, rest []byte) {
	host, rest = cut(text, ' ')
	if n := len(host) - 1; n >= 0 && host[n] == ':' {
		return host[:n], nil, text[n:]
	}
	if hasPrefix(rest, "DS ") {
		rest = rest[len("DS "):]
	}
	if len(rest) == 0 || rest[0] != '[' {
		return host, nil, rest
	}
	end := bytes.IndexByte(rest, ']')
	if end < 0 {
		return host, nil, nil // cut by syslog
	}
	addr, rest = rest[1:end], rest[end+1:]
	if len(rest) > 1 && rest[0] == ':' && isDigit(rest[1]) {
		n := 1
		for n < len(rest) && isDigit(rest[n]) {
			n++
		}
		rest = rest[n:]
	}
	if len(rest) > 0 && rest[0] == '*' { // a connection used again
		rest = rest[1:]
	}
	return host, addr, rest
}

// eximStages are the commands in reasons such as "SMTP error from remote mail
// server after RCPT TO:<a@x.example>: 550 no".
var eximStages = [...]stageText{
	{"initial connection", event.StageConnect},
	{"EHLO", event.StageHelo},
	{"HELO", event.StageHelo},
	{"LHLO", event.StageHelo},
	{"STARTTLS", event.StageTLS},
	{"AUTH", event.StageAuth},
	{"MAIL FROM:", event.StageMail},
	{"RCPT TO:", event.StageRcpt},
	{"DATA", event.StageData},
	{"BDAT", event.StageEnd},
	{"data block", event.StageEnd},
	{"sending data block", event.StageEnd},
	{"end of data", event.StageEnd},
	{"QUIT", event.StageQuit},
}

// eximAnswers are how reasons start that have a server's reply after the
// command.
var eximAnswers = [...]string{
	"SMTP error from remote mail server after ",
	"SMTP error from remote mailer after ", // before Exim 4.70
	"LMTP error after ",
}

// eximInterruptions are how reasons start where the server said nothing to the
// command.
var eximInterruptions = [...]string{
	"SMTP timeout after ",
	"SMTP timeout while connected to ",
	"Remote host closed connection in response to ",
	"Malformed SMTP reply in response to ",
	"LMTP timeout after ",
}

// eximReason reads why a delivery failed.
func eximReason(e *event.Event, text []byte) {
	r := &e.Reply
	for _, start := range eximAnswers {
		if !hasPrefix(text, start) {
			continue
		}
		stage, reply := eximCommand(text[len(start):])
		if reply == nil {
			return
		}
		r.Stage, r.Origin = stage, event.OriginRemote
		// Before Exim 4.80 the host stands here.
		if hasPrefix(reply, "host ") {
			if host, addr, rest := eximHost(reply[len("host "):]); addr != nil && hasPrefix(rest, ": ") {
				e.Relay, e.RelayIP, reply = host, addr, rest[2:]
			}
		}
		r.Text = reply
		readCodes(r, reply)
		return
	}
	for _, start := range eximInterruptions {
		if hasPrefix(text, start) {
			r.Stage, _ = eximCommand(text[len(start):])
			return
		}
	}
	readCodes(r, text)
}

// eximCommand reads the command and the colon before the reply, which is nil if
// there is none.
func eximCommand(text []byte) (stage event.Stage, reply []byte) {
	if hasPrefix(text, "pipelined ") {
		text = text[len("pipelined "):]
	}
	for _, s := range eximStages {
		if hasPrefix(text, s.text) {
			stage = s.stage
		}
	}
	from := 0
	if stage == event.StageMail || stage == event.StageRcpt {
		if i := bytes.IndexByte(text, '<'); i >= 0 {
			if a, _, ok := address(text[i+1:], " :"); ok {
				from = i + 1 + len(a)
			}
		}
	}
	if i := bytes.Index(text[from:], []byte(": ")); i >= 0 {
		return stage, text[from+i+2:]
	}
	return stage, nil
}

// eximRejections are where our own server refused, as the log names it.
var eximRejections = [...]stageText{
	{"connection", event.StageConnect},
	{"EHLO", event.StageHelo},
	{"HELO", event.StageHelo},
	{"STARTTLS", event.StageTLS},
	{"AUTH", event.StageAuth},
	{"MAIL", event.StageMail},
	{"RCPT", event.StageRcpt},
	{"DATA", event.StageData},
	{"after DATA", event.StageEnd},
	{"during MIME ACL", event.StageEnd},
}

// rejection reads what our own server says about a refused client:
//
//	H=name (helo) [address] X=… F=<sender> temporarily rejected RCPT <recipient>: why
//
// Other lines that start with H= tell of single hosts during a delivery and
// yield nothing: what counts is the line of the recipient.
func (p *exim) rejection(h *eximHeader, text []byte, dst []event.Event) []event.Event {
	client, rest, ok := eximClient(text[2:])
	if !ok {
		return dst
	}
	var sender []byte
	known := false
	for {
		if hasPrefix(rest, "F=<") {
			a, after, ok := address(rest[3:], " ")
			if !ok {
				return dst
			}
			sender, known, rest = a, true, after
			continue
		}
		if len(rest) == 0 {
			return dst
		}
		var word []byte
		word, rest = token(rest)
		if string(word) == "rejected" {
			break
		}
		port := len(word) > 1 && word[0] == ':' && areDigits(word[1:])
		if len(word) > 0 && !port && string(word) != "temporarily" && bytes.IndexByte(word, '=') < 0 {
			return dst
		}
	}
	dst, e := p.add(h, event.Rejection, dst)
	e.Outcome, e.Client, e.SenderKnown, e.Sender = event.RejectedInbound, client, known, sender
	r := &e.Reply
	r.Origin = event.OriginLocal
	for _, s := range eximRejections {
		if hasPrefix(rest, s.text) {
			r.Stage = s.stage
		}
	}
	from := 0
	if hasPrefix(rest, "RCPT <") {
		if a, _, ok := address(rest[len("RCPT <"):], " :"); ok {
			e.Recipient = a
			from = len("RCPT <") + len(a)
		}
	}
	if i := bytes.Index(rest[from:], []byte(": ")); i >= 0 {
		r.Text = rest[from+i+2:]
		readCodes(r, r.Text)
	}
	return dst
}
