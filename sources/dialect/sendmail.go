package dialect

import (
	"bytes"
	"fmt"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

// Why a delivery line of Sendmail cannot be read.
var (
	errSendmailRecipient = fmt.Errorf("%w: the list of recipients has no end", ErrMalformed)
	errSendmailStat      = fmt.Errorf("%w: no stat= after the recipients", ErrMalformed)
)

// sendmail reads what Sendmail (8.10 and later) writes through syslog at log
// level 9. A line is Sendmail's if it starts with a queue id of its form,
// whatever -L calls the program, as long as its name has no slash.
//
// What became of a delivery is told by dsn=, which our own MTA writes before
// any text of the remote server.
type sendmail struct {
	syslog
	details bool
}

func newSendmail(location *time.Location, details bool) *sendmail {
	return &sendmail{syslog: syslog{location: location}, details: details}
}

// Parse implements Parser.
func (p *sendmail) Parse(line []byte, dst []event.Event) ([]event.Event, error) {
	var h syslogHeader
	if err := p.header(line, &h); err != nil {
		return dst, err
	}
	end := bytes.IndexByte(h.body[:min(len(h.body), maxQueueID)], ':')
	if end < 0 || len(h.body) < end+3 || h.body[end+1] != ' ' {
		return dst, nil
	}
	id, text := h.body[:end], h.body[end+2:]
	if string(id) == "NOQUEUE" {
		id = nil
	} else if !isSendmailID(id) {
		return dst, nil
	}
	if name, slash := program(h.tag); slash >= 0 || len(name) == 0 {
		return dst, nil
	}
	switch {
	case hasPrefix(text, "to="):
		if id != nil {
			return p.delivery(&h, id, text[len("to="):], dst)
		}
	case hasPrefix(text, "from="):
		if id != nil {
			return p.arrival(&h, id, text[len("from="):], dst), nil
		}
	case hasPrefix(text, "done; "):
		dst, _ = p.add(&h, id, event.Removal, dst)
	case hasPrefix(text, "ruleset="):
		return p.refused(&h, id, text[len("ruleset="):], dst), nil
	case hasPrefix(text, "Milter: "):
		return p.refusedByMilter(&h, id, text[len("Milter: "):], dst), nil
	case text[0] == '<':
		return p.refusedRecipient(&h, id, text, dst), nil
	default:
		return p.notification(&h, id, text, dst), nil
	}
	return dst, nil
}

// isSendmailID reports whether id has the form of a queue id: eight letters and
// digits for the time and the order, then the process id.
func isSendmailID(id []byte) bool {
	return len(id) >= 13 && len(id) <= 18 && areDigits(id[9:]) && idLength(id) == len(id)
}

func (p *sendmail) add(h *syslogHeader, id []byte, kind event.Kind, dst []event.Event) ([]event.Event, *event.Event) {
	dst = append(dst, event.Event{Kind: kind, Time: h.time, Delay: -1, Host: h.host, QueueID: id})
	return dst, &dst[len(dst)-1]
}

// arrival reads the line of a message's reception after "from=".
func (p *sendmail) arrival(h *syslogHeader, id, text []byte, dst []event.Event) []event.Event {
	sender, rest, ok := sendmailAddress(text)
	if !ok || !hasPrefix(rest, ", ") {
		return dst
	}
	dst, e := p.add(h, id, event.Arrival, dst)
	e.SenderKnown, e.Sender = true, sender
	if !p.details {
		return dst
	}
	for hasPrefix(rest, ", ") {
		rest = rest[2:]
		end := bytes.Index(rest, []byte(", "))
		if end < 0 {
			end = len(rest)
		}
		field := rest[:end]
		switch {
		case hasPrefix(field, "msgid="):
			e.MessageID = unbracket(field[len("msgid="):])
		case hasPrefix(field, "relay="):
			e.Client = field[len("relay="):]
		}
		rest = rest[end:]
	}
	return dst
}

// delivery reads a delivery line after "to=":
//
//	<a@x.example>,<b@x.example>, ctladdr=…, delay=…, …, relay=host. [address], dsn=5.1.1, reply=…, stat=…
//
// There is one event for each recipient.
func (p *sendmail) delivery(h *syslogHeader, id, text []byte, dst []event.Event) ([]event.Event, error) {
	added := dst
	for {
		recipient, rest, ok := sendmailAddress(text)
		if !ok {
			return dst, errSendmailRecipient
		}
		var e *event.Event
		added, e = p.add(h, id, event.Attempt, added)
		e.Recipient = recipient
		text = rest
		if hasPrefix(text, ", ") {
			text = text[2:]
			break
		}
		if len(text) < 2 || text[0] != ',' {
			return dst, errSendmailRecipient
		}
		text = text[1:]
	}
	first := &added[len(dst)]
	r := &first.Reply
	var reply []byte
	for !hasPrefix(text, "stat=") {
		if hasPrefix(text, "reply=") {
			reply, text = sendmailReply(text[len("reply="):])
			if text == nil {
				return dst, errSendmailStat
			}
			break
		}
		end := bytes.Index(text, []byte(", "))
		if end < 0 {
			return dst, errSendmailStat
		}
		field := text[:end]
		text = text[end+2:]
		switch {
		case hasPrefix(field, "delay="):
			first.Delay = clockDuration(field[len("delay="):])
		case hasPrefix(field, "mailer="):
			switch string(field[len("mailer="):]) {
			case "local", "prog", "*file*", "*include*":
				first.Local = true
			}
		case hasPrefix(field, "relay="):
			sendmailRelay(first, field[len("relay="):])
		case hasPrefix(field, "dsn="):
			r.Status, _ = event.ParseEnhanced(field[len("dsn="):])
		}
	}
	stat := text[len("stat="):]
	if string(stat) == "queued" {
		return dst, nil // accepted, and not tried
	}
	first.Outcome = sendmailOutcome(r.Status, stat)
	sendmailText(first, reply, stat)
	for i := len(dst) + 1; i < len(added); i++ {
		recipient := added[i].Recipient
		added[i] = added[len(dst)]
		added[i].Recipient = recipient
	}
	return added, nil
}

// sendmailAddress reads an address, in brackets or not, up to the comma after
// it.
func sendmailAddress(text []byte) (addr, rest []byte, ok bool) {
	if len(text) > 0 && text[0] == '<' {
		addr, _, ok = address(text[1:], ",")
		if !ok {
			return nil, nil, false
		}
		return addr, text[len("<>")+len(addr):], true
	}
	if len(text) > 0 && text[0] == '"' { // a program with its arguments
		if end := closingQuote(text, 0); end >= 0 {
			return text[:end+1], text[end+1:], true
		}
	}
	end := bytes.IndexByte(text, ',')
	if end < 0 {
		return nil, nil, false
	}
	return text[:end], text[end:], true
}

// sendmailReply splits "reply=R, stat=S" (8.16 and later). R is the server's
// and may contain anything, but S is our own phrase, or that with all of R
// again: "Deferred: R".
func sendmailReply(text []byte) (reply, stat []byte) {
	const again = ", stat=Deferred: "
	if n := (len(text) - len(again)) / 2; n > 0 && hasPrefix(text[n:], again) && bytes.Equal(text[:n], text[n+len(again):]) {
		return text[:n], text[n+2:]
	}
	n := bytes.LastIndex(text, []byte(", stat="))
	if n < 0 {
		return nil, nil
	}
	return text[:n], text[n+2:]
}

// sendmailOutcome tells what became of a delivery from the class of dsn=, and
// where there is none from the phrase.
func sendmailOutcome(status event.Enhanced, stat []byte) event.Outcome {
	switch {
	case status.Class == 2, status.IsZero() && hasPrefix(stat, "Sent"):
		return event.Delivered
	case status.Class == 4, status.IsZero() && hasPrefix(stat, "Deferred"):
		return event.Deferred
	}
	return event.Bounced
}

// sendmailText reads the words of the server or of our MTA.
func sendmailText(e *event.Event, reply, stat []byte) {
	const deferred = "Deferred: "
	r := &e.Reply
	r.Origin = event.OriginLocal
	if e.Outcome == event.Delivered {
		if hasPrefix(stat, "Sent (") && hasSuffix(stat, ")") {
			r.Text = stat[len("Sent (") : len(stat)-1]
			if !e.Local {
				r.Origin, r.Stage = event.OriginRemote, event.StageEnd
			}
			readCodes(r, r.Text)
		}
		return
	}
	if reply != nil {
		r.Text = reply
	} else {
		r.Text = bytes.TrimPrefix(stat, []byte(deferred))
	}
	if readCodes(r, r.Text); r.Code != 0 {
		r.Origin = event.OriginRemote
		return
	}
	for _, s := range sendmailStages {
		if hasPrefix(r.Text, s.text) {
			r.Stage = s.stage
		}
	}
	// Whom the connection was to is told by the relay.
	for _, before := range sendmailPeers {
		if hasPrefix(r.Text, before) {
			r.Text = r.Text[:len(before)-len(" by ")]
		}
	}
	if hasPrefix(r.Text, timedOut) {
		r.Text = r.Text[:len(timedOut)-len(" with ")]
	}
	if string(stat) == "Deferred" {
		// The host did not answer another message in this run of the queue.
		e.Repeat, r.Text = true, nil
	}
}

// How texts start that name the host.
var sendmailPeers = [...]string{"Connection refused by ", "Connection reset by "}

const timedOut = "Connection timed out with "

// sendmailStages are how texts start where no conversation came about.
var sendmailStages = [...]stageText{
	{"Connection ", event.StageConnect}, // refused by, timed out with, reset by
	{"Name server: ", event.StageConnect},
	{"Host unknown (Name server: ", event.StageConnect},
	{"Operation timed out with ", event.StageConnect},
	{"No route to host", event.StageConnect},
	{"Network is unreachable", event.StageConnect},
}

// sendmailRelay reads "host. [address]", "host." or "local".
func sendmailRelay(e *event.Event, value []byte) {
	host, addr := cut(value, ' ')
	if e.Local {
		return
	}
	switch n := len(host); {
	case n > 2 && host[0] == '[' && host[n-1] == ']': // a host by its address
		host = host[1 : n-1]
		e.RelayIP = host
	case n > 0 && host[n-1] == '.':
		host = host[:n-1]
	}
	e.Relay = host
	if n := len(addr); n > 2 && addr[0] == '[' && addr[n-1] == ']' {
		e.RelayIP = addr[1 : n-1]
	}
}

// clockDuration reads "HH:MM:SS" or "D+HH:MM:SS" and returns it in
// microseconds, or -1.
func clockDuration(b []byte) int64 {
	days := int64(0)
	if i := bytes.IndexByte(b, '+'); i > 0 && i < 6 && areDigits(b[:i]) {
		for _, c := range b[:i] {
			days = days*10 + int64(c-'0')
		}
		b = b[i+1:]
	}
	if len(b) != len("00:00:00") || b[2] != ':' || b[5] != ':' || !areDigits(b[:2]) || !areDigits(b[3:5]) || !areDigits(b[6:]) {
		return -1
	}
	return (((days*24+twoDigits(b))*60+twoDigits(b[3:]))*60 + twoDigits(b[6:])) * 1e6
}

// notification reads "NEWID: DSN: User unknown", "NEWID: sender notify: …" and
// the like: NEWID is a message of our own with the null sender, of which there
// is no other line that says so. "Cannot send message for 5 days" ends the
// message of the line; its deliveries were logged before.
func (p *sendmail) notification(h *syslogHeader, id, text []byte, dst []event.Event) []event.Event {
	end := bytes.IndexByte(text[:min(len(text), maxQueueID)], ':')
	if id == nil || end < 0 || len(text) < end+3 || text[end+1] != ' ' || !isSendmailID(text[:end]) {
		return dst
	}
	notice, text := text[:end], text[end+2:]
	end = bytes.Index(text, []byte(": "))
	if end < 0 {
		return dst
	}
	switch string(text[:end]) {
	case "DSN", "sender notify", "return to sender", "postmaster notify":
	default:
		return dst
	}
	dst, e := p.add(h, notice, event.Arrival, dst)
	e.SenderKnown, e.Sender = true, notice[:0]
	if hasPrefix(text[end+2:], "Cannot send message ") && text[0] != 'p' {
		dst, e = p.add(h, id, event.Expiry, dst)
		e.Outcome = event.Expired
		dst, _ = p.add(h, id, event.Removal, dst)
	}
	return dst
}

// sendmailRulesets are the checks of our own server, by their names.
var sendmailRulesets = [...]stageText{
	{"check_relay", event.StageConnect},
	{"check_helo", event.StageHelo},
	{"tls_client", event.StageTLS},
	{"check_mail", event.StageMail},
	{"check_rcpt", event.StageRcpt},
	{"check_compat", event.StageRcpt},
	{"check_data", event.StageData},
	{"check_eoh", event.StageEnd},
	{"check_eom", event.StageEnd},
}

// refused reads what a check of our own server says, after "ruleset=":
//
//	check_rcpt, arg1=<bob@y.example>, relay=host [address], reject=550 5.7.1 …
func (p *sendmail) refused(h *syslogHeader, id, text []byte, dst []event.Event) []event.Event {
	name, rest := cut(text, ',')
	var argument []byte
	if hasPrefix(rest, " arg1=") {
		if a, after, ok := sendmailAddress(rest[len(" arg1="):]); ok {
			argument, rest = a, after
		}
	}
	i := bytes.Index(rest, []byte(", reject="))
	if i < 0 {
		return dst
	}
	dst, e := p.add(h, id, event.Rejection, dst)
	e.Outcome = event.RejectedInbound
	for _, s := range sendmailRulesets {
		if string(name) == s.text {
			e.Reply.Stage = s.stage
		}
	}
	switch string(name) {
	case "check_rcpt":
		e.Recipient = argument
	case "check_mail":
		e.SenderKnown, e.Sender = true, argument
	}
	if j := bytes.Index(rest[:i], []byte("relay=")); j >= 0 {
		e.Client = rest[j+len("relay=") : i]
	}
	sendmailRefusal(&e.Reply, rest[i+len(", reject="):])
	return dst
}

func sendmailRefusal(r *event.Reply, text []byte) {
	r.Origin, r.Text = event.OriginLocal, text
	readCodes(r, text)
}

// refusedByMilter reads "to=<bob@y.example>, reject=550 …", "data, reject=…".
func (p *sendmail) refusedByMilter(h *syslogHeader, id, text []byte, dst []event.Event) []event.Event {
	stage, rest := event.StageEnd, text
	var sender, recipient []byte
	switch {
	case hasPrefix(text, "to="):
		stage = event.StageRcpt
		recipient, rest, _ = sendmailAddress(text[len("to="):])
	case hasPrefix(text, "from="):
		stage = event.StageMail
		sender, rest, _ = sendmailAddress(text[len("from="):])
	}
	i := bytes.Index(rest, []byte("reject="))
	if i < 0 {
		return dst
	}
	dst, e := p.add(h, id, event.Rejection, dst)
	e.Outcome, e.Reply.Stage, e.Recipient = event.RejectedInbound, stage, recipient
	if stage == event.StageMail {
		e.SenderKnown, e.Sender = true, sender
	}
	sendmailRefusal(&e.Reply, rest[i+len("reject="):])
	return dst
}

// refusedRecipient reads "<bob@mx1.example>... User unknown".
func (p *sendmail) refusedRecipient(h *syslogHeader, id, text []byte, dst []event.Event) []event.Event {
	i := bytes.Index(text, []byte(">... "))
	if i < 0 {
		return dst
	}
	dst, e := p.add(h, id, event.Rejection, dst)
	e.Outcome, e.Recipient = event.RejectedInbound, text[1:i]
	e.Reply.Stage = event.StageRcpt
	sendmailRefusal(&e.Reply, text[i+len(">... "):])
	return dst
}
