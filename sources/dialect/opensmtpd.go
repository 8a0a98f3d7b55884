package dialect

import (
	"bytes"
	"fmt"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

// Why a delivery line of OpenSMTPD cannot be read.
var (
	errOpensmtpdAddress = fmt.Errorf("%w: from=<…> to=<…> do not follow evpid=", ErrMalformed)
	errOpensmtpdResult  = fmt.Errorf("%w: no result of Ok, TempFail or PermFail", ErrMalformed)
)

// opensmtpd reads what OpenSMTPD (5.9 and later) writes through syslog, where its
// name is smtpd. Each recipient of a message is an envelope of its own, whose id
// is the queue id here; every line has the sender.
type opensmtpd struct {
	syslog
}

func newOpensmtpd(location *time.Location) *opensmtpd {
	return &opensmtpd{syslog: syslog{location: location}}
}

// evpidLength is that of an envelope id, and of a session id.
const evpidLength = 16

// Parse implements Parser.
func (p *opensmtpd) Parse(line []byte, dst []event.Event) ([]event.Event, error) {
	var h syslogHeader
	if err := p.header(line, &h); err != nil {
		return dst, err
	}
	text := h.body
	switch {
	case hasPrefix(text, "relay: "):
		return p.ended(&h, text[len("relay: "):], dst)
	case hasPrefix(text, "delivery: "):
		return p.ended(&h, text[len("delivery: "):], dst)
	}
	if len(text) <= evpidLength || text[evpidLength] != ' ' || !isHex(text[:evpidLength]) || !isSmtpd(h.tag) {
		return dst, nil
	}
	agent, text := cut(text[evpidLength+1:], ' ')
	if hasPrefix(text, "event=") { // until 6.3
		text = text[len("event="):]
	}
	switch {
	case hasPrefix(text, "delivery evpid=") && (string(agent) == "mta" || string(agent) == "mda"):
		return p.delivery(&h, string(agent) == "mda", text[len("delivery evpid="):], dst)
	case hasPrefix(text, "failed-command command=\"") && string(agent) == "smtp":
		return p.rejection(&h, text[len("failed-command command=\""):], dst), nil
	}
	return dst, nil
}

func isSmtpd(tag []byte) bool {
	name, _ := program(tag)
	return string(name) == "smtpd" || hasPrefix(name, "opensmtpd")
}

func (p *opensmtpd) add(h *syslogHeader, id []byte, kind event.Kind, dst []event.Event) ([]event.Event, *event.Event) {
	dst = append(dst, event.Event{Kind: kind, Time: h.time, Delay: -1, Host: h.host, QueueID: id})
	return dst, &dst[len(dst)-1]
}

// envelope reads "ID", separator, "from=<…>", separator, "to=<…>" and an
// "rcpt=<…>" that may lack.
func (p *opensmtpd) envelope(e *event.Event, text []byte, separator string) (rest []byte, ok bool) {
	if !hasPrefix(text, "from=<") {
		return nil, false
	}
	if e.Sender, rest, ok = address(text[len("from=<"):], separator); !ok || !hasPrefix(rest, "to=<") {
		return nil, false
	}
	if len(e.Sender) == 1 { // "@" is how the queue writes the null sender
		e.Sender = e.Sender[:0]
	}
	e.SenderKnown = true
	if e.Recipient, rest, ok = address(rest[len("to=<"):], separator); !ok {
		return nil, false
	}
	if hasPrefix(rest, "rcpt=<") {
		var original []byte
		if original, rest, ok = address(rest[len("rcpt=<"):], separator); !ok {
			return nil, false
		}
		if string(original) != "-" && !bytes.Equal(original, e.Recipient) {
			e.OriginalRecipient = original
		}
	}
	return rest, true
}

// delivery reads a delivery line after "evpid=":
//
//	ID from=<…> to=<…> rcpt=<…> source="ip" relay="ip (host)" delay=1s result="Ok" stat="250 2.0.0 Ok"
//
// Before 6.4 without quotes. An envelope is gone after Ok and PermFail.
func (p *opensmtpd) delivery(h *syslogHeader, local bool, text []byte, dst []event.Event) ([]event.Event, error) {
	if len(text) <= evpidLength {
		return dst, errOpensmtpdAddress
	}
	added, e := p.add(h, text[:evpidLength], event.Attempt, dst)
	rest, ok := p.envelope(e, text[evpidLength+1:], " ")
	if !ok {
		return dst, errOpensmtpdAddress
	}
	e.Local = local
	for !hasPrefix(rest, "stat=") {
		end := bytes.IndexByte(rest, '=')
		if end < 0 {
			return dst, errOpensmtpdResult
		}
		key, value := rest[:end], rest[end+1:]
		if len(value) > 0 && value[0] == '"' {
			end := bytes.IndexByte(value[1:], '"') + 1
			if end == 0 || end+2 > len(value) {
				return dst, errOpensmtpdResult
			}
			value, rest = value[1:end], value[end+2:]
		} else {
			all := value
			value, rest = cut(value, ' ')
			if hasPrefix(rest, "(") { // relay=ip (host)
				n := bytes.IndexByte(rest, ')')
				if n < 0 || n+2 > len(rest) {
					return dst, errOpensmtpdResult
				}
				value, rest = all[:len(value)+1+n+1], rest[n+2:]
			}
		}
		switch string(key) {
		case "source":
			_, e.SourceIP = opensmtpdPeer(value)
		case "relay":
			e.Relay, e.RelayIP = opensmtpdPeer(value)
		case "delay":
			e.Delay = unitDuration(value)
		case "result":
			switch string(value) {
			case "Ok":
				e.Outcome = event.Delivered
			case "TempFail":
				e.Outcome = event.Deferred
			case "PermFail":
				e.Outcome = event.Bounced
			}
		}
	}
	if e.Outcome == 0 {
		return dst, errOpensmtpdResult
	}
	opensmtpdText(e, rest[len("stat="):])
	if e.Outcome != event.Deferred {
		added, _ = p.add(h, text[:evpidLength], event.Removal, added)
	}
	return added, nil
}

// opensmtpdPeer reads "ip (host)" or "ip", and nothing from the name of a domain
// or "-", with which no connection came about.
func opensmtpdPeer(value []byte) (host, addr []byte) {
	addr, host = cut(value, ' ')
	if n := len(host); n > 2 && host[0] == '(' && host[n-1] == ')' {
		host = host[1 : n-1]
	} else {
		host = nil
	}
	if n := len(addr); n > 2 && addr[0] == '[' && addr[n-1] == ']' { // IPv6
		return host, addr[1 : n-1]
	}
	if len(addr) > 0 && isDigit(addr[0]) && (host != nil || areAddress(addr)) || bytes.IndexByte(addr, ':') >= 0 {
		return host, addr
	}
	return nil, nil
}

// areAddress reports whether b is digits and dots.
func areAddress(b []byte) bool {
	for _, c := range b {
		if !isDigit(c) && c != '.' {
			return false
		}
	}
	return true
}

// opensmtpdAnswers are how texts start that have a server's reply after them.
var opensmtpdAnswers = [...]stageText{
	{"BANNER rejected: ", event.StageConnect},
	{"EHLO rejected: ", event.StageHelo},
	{"HELO rejected: ", event.StageHelo},
	{"LHLO rejected: ", event.StageHelo},
	{"STARTTLS rejected: ", event.StageTLS},
	{"AUTH rejected: ", event.StageAuth},
}

// opensmtpdStages are how our own MTA's texts start.
var opensmtpdStages = [...]stageText{
	{"Connection failed: ", event.StageConnect},
	{"Network error on destination MXs", event.StageConnect},
	{"Could not retrieve credentials", event.StageAuth},
	{"AUTH not advertised", event.StageAuth},
	{"no supported AUTH method", event.StageAuth},
	{"TLS required but not supported by remote host", event.StageTLS},
	{"Domain does not exist", event.StageConnect},
	{"No MX found for ", event.StageConnect},
	{"Temporary failure in MX lookup", event.StageConnect},
	{"No valid route to ", event.StageConnect},
	{"Address family mismatch on destination MXs", event.StageConnect},
}

// opensmtpdText reads the text at the end of a delivery line. It is not escaped
// and may have quotes of its own.
func opensmtpdText(e *event.Event, text []byte) {
	if n := len(text); n > 0 && text[0] == '"' {
		text = text[1:]
		if hasSuffix(text, "\"") {
			text = text[:len(text)-1]
		}
	}
	r := &e.Reply
	r.Origin, r.Text = event.OriginLocal, text
	for _, s := range opensmtpdAnswers {
		if hasPrefix(text, s.text) {
			r.Stage, r.Text = s.stage, text[len(s.text):]
		}
	}
	for _, s := range opensmtpdStages {
		if hasPrefix(text, s.text) {
			r.Stage = s.stage
		}
	}
	readCodes(r, r.Text)
	if r.Code != 0 && !e.Local {
		r.Origin = event.OriginRemote
		if e.Outcome == event.Delivered {
			r.Stage = event.StageEnd
		}
	}
}

// ended reads how the queue gives an envelope up, after "relay: " or
// "delivery: ":
//
//	Expire for ID: from=<…>, to=<…>, rcpt=<…>, delay=4d, stat=Envelope expired
//
// or Remove, by the administrator.
func (p *opensmtpd) ended(h *syslogHeader, text []byte, dst []event.Event) ([]event.Event, error) {
	what, rest := cut(text, ' ')
	kind, outcome := event.Expiry, event.Expired
	switch string(what) {
	case "Expire":
	case "Remove":
		kind, outcome = event.Notice, event.Held
	default:
		return dst, nil
	}
	const start = "for "
	if !hasPrefix(rest, start) || !isSmtpd(h.tag) {
		return dst, nil
	}
	rest = rest[len(start):]
	if len(rest) < evpidLength+2 || !isHex(rest[:evpidLength]) {
		return dst, errOpensmtpdAddress
	}
	id := rest[:evpidLength]
	added, e := p.add(h, id, kind, dst)
	rest, ok := p.envelope(e, rest[evpidLength+2:], ",")
	if !ok {
		return dst, errOpensmtpdAddress
	}
	e.Outcome = outcome
	if kind == event.Notice {
		if i := bytes.Index(rest, []byte("stat=")); i >= 0 {
			e.Reply.Text, e.Reply.Origin = rest[i+len("stat="):], event.OriginLocal
		}
	}
	added, _ = p.add(h, id, event.Removal, added)
	return added, nil
}

// opensmtpdCommands are the commands of a client that was refused.
var opensmtpdCommands = [...]stageText{
	{"EHLO", event.StageHelo},
	{"HELO", event.StageHelo},
	{"STARTTLS", event.StageTLS},
	{"AUTH", event.StageAuth},
	{"MAIL", event.StageMail},
	{"RCPT", event.StageRcpt},
	{"DATA", event.StageData},
}

// rejection reads a command that our own server refused, after its first quote:
//
//	RCPT TO:<bob@y.example>" result="550 Invalid recipient"
func (p *opensmtpd) rejection(h *syslogHeader, text []byte, dst []event.Event) []event.Event {
	const result = "\" result=\""
	i := bytes.LastIndex(text, []byte(result))
	if i < 0 {
		return dst
	}
	command, reply := text[:i], text[i+len(result):]
	if hasSuffix(reply, "\"") {
		reply = reply[:len(reply)-1]
	}
	dst, e := p.add(h, nil, event.Rejection, dst)
	e.Outcome = event.RejectedInbound
	r := &e.Reply
	r.Origin, r.Text, r.Stage = event.OriginLocal, reply, event.StageEnd // the message itself is no command
	if len(command) > 0 {
		r.Stage = event.StageUnknown
	}
	for _, s := range opensmtpdCommands {
		if hasPrefixFold(command, s.text) {
			r.Stage = s.stage
		}
	}
	if r.Stage == event.StageRcpt || r.Stage == event.StageMail {
		if i := bytes.IndexByte(command, '<'); i >= 0 {
			if a, _, ok := address(command[i+1:], " "); ok {
				if r.Stage == event.StageRcpt {
					e.Recipient = a
				} else {
					e.SenderKnown, e.Sender = true, a
				}
			}
		}
	}
	readCodes(r, reply)
	return dst
}

// hasPrefixFold is hasPrefix where ASCII letters of either case are alike.
// prefix is in upper case.
func hasPrefixFold(b []byte, prefix string) bool {
	if len(b) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		if c := b[i]; c != prefix[i] && (c|0x20 < 'a' || c|0x20 > 'z' || c&^0x20 != prefix[i]) {
			return false
		}
	}
	return true
}
