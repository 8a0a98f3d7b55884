package dialect

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

// Why a delivery line of Postfix cannot be read.
var (
	errRecipient = fmt.Errorf("%w: the recipient has no end", ErrMalformed)
	errNoStatus  = fmt.Errorf("%w: no status= after the recipient", ErrMalformed)
	errStatus    = fmt.Errorf("%w: the status is none that Postfix knows", ErrMalformed)
)

// postfix reads what Postfix (2.3 and later) writes through syslog, into files
// by postlogd, or to the journal. What a line is, is told by what follows the
// queue id and not by the program's name, since any transport may log under any
// syslog_name; a program is Postfix's if its name has a slash, or starts with
// postfix where the rest was cut off.
//
// The lines are anchored from left to right. The parts that others control, the
// addresses and at the end the reason in parentheses, can therefore fake no
// field.
type postfix struct {
	syslog
	details bool
	origins origins
	tell    words // what follows the queue id in lines that tell something
}

// newPostfix returns a parser for logs whose RFC 3164 timestamps are in the time
// of location. With details, lines that tell only a client or a message id are
// events too.
func newPostfix(location *time.Location, details bool) *postfix {
	p := &postfix{syslog: syslog{location: location}, details: details}
	p.tell.add("to=<", "from", "remo", "reje", "milt", "canc") // what told looks for
	if details {
		p.tell.add("mess", "clie", "uid=")
	}
	return p
}

// postfixLine is a line of Postfix that may tell something, and where its parts are.
type postfixLine struct {
	time        int64
	text        []byte // the line from somewhere on
	id, idEnd   int    // of the queue id in it; what the line tells follows after ": "
	origin      *origin
	host, colon int // where text has the origin, and the end of the tag

	// Where there is no origin: "mx1", "postfix", "postfix/smtp[311]".
	from, stream, tag []byte
}

// deliversNothing reports whether the daemon is one of the two that only report
// what the queue manager has decided about a destination or a transport.
func (l *postfixLine) deliversNothing() bool {
	tag := l.tag
	if l.origin != nil {
		tag = l.text[l.host+int(l.origin.n) : l.colon]
	}
	name, _ := cut(tag, '[')
	daemon := name[bytes.LastIndexByte(name, '/')+1:]
	return string(daemon) == "error" || string(daemon) == "retry"
}

// maxQueueID bounds the search for the end of a queue id. Short ones are of 6 to
// 15 hexadecimal digits, long ones (enable_long_queue_ids) of up to 20 letters
// and digits.
const maxQueueID = 32

// Parse implements Parser.
func (p *postfix) Parse(line []byte, dst []event.Event) ([]event.Event, error) {
	_, dst, err := p.Next([]event.Line{{Text: line}}, dst, 1)
	return dst, err
}

// Next implements Skipper.
func (p *postfix) Next(lines []event.Line, dst []event.Event, events int) (n int, _ []event.Event, err error) {
	var l postfixLine
	for enough := len(dst) + events; len(dst) < enough && err == nil; n++ {
		dull, s := p.skip(lines[n:], &l)
		if n += dull; n == len(lines) {
			break
		}
		if s == strange {
			s, err = p.read(lines[n].Text, &l)
		}
		if s == telling {
			dst, err = p.told(&l, dst)
		}
	}
	return n, dst, err
}

// sight is what a look at a line tells.
type sight uint8

const (
	strange sight = iota // it does not begin as others did lately
	dull                 // it tells nothing
	telling              // it is of Postfix and may tell something
)

// skip returns how many lines at the start of lines are dull, and what the one
// after them is. If that is telling, l is set. It looks only at lines that begin
// as others did lately; it saves time and says nothing that read would not.
//
// Most lines are dull. They are told by a few words of eight bytes, and there is
// little that the processor could guess wrong.
func (p *postfix) skip(lines []event.Line, l *postfixLine) (int, sight) {
	const (
		stamp = len("Jan 12 04:01:07 ")
		rest  = 40 // from the host on, at the least
	)
	for i := range lines {
		line := lines[i].Text
		if len(line) < stamp+rest {
			return i, strange
		}
		micros, host := p.bsdMicros, stamp
		if !p.sameSecond(line) {
			var n int
			var err error
			if micros, n, err = p.stamp(line); err != nil || n >= len(line)-rest || line[n] != ' ' {
				return i, strange
			}
			host = n + 1
		}
		head := line[host : host+32]
		o := p.origins.slot(head)
		m, w := &o.masks, &o.words
		if (binary.LittleEndian.Uint64(head)^w[0])&m[0]|(binary.LittleEndian.Uint64(head[8:])^w[1])&m[1]|
			(binary.LittleEndian.Uint64(head[16:])^w[2])&m[2]|(binary.LittleEndian.Uint64(head[24:])^w[3])&m[3] != 0 {
			return i, strange
		}
		n := host + int(o.n)
		if o.n == 0 || n >= len(line)-24 || o.n > 32 && string(line[host+32:n]) != string(o.rest[:o.n-32]) {
			return i, strange
		}
		tag := line[n : n+24]
		colon := firstByte(equal(binary.LittleEndian.Uint64(tag[8:]), ':')) + 8
		if colon == 16 || equal(binary.LittleEndian.Uint64(tag), ':') != 0 { // a long or a short name
			if colon = bytes.IndexByte(line[n:], ':'); colon < 0 {
				continue
			}
		}
		at := n + colon + len(": ")
		if at >= len(line)-16 {
			return i, strange
		}
		body := line[at : at+16]
		first, second := binary.LittleEndian.Uint64(body), binary.LittleEndian.Uint64(body[8:])
		if line[at-1] != ' ' || byte(first) >= 'a' { // a word: "connect", "warning", "statistics"
			continue
		}
		// Which of the two words the end of a queue id is in, chance decides: it is
		// found without a branch that would be predicted wrong. The second counts if
		// the first has all of its eight bytes.
		end := firstByte(notAlnum(first))
		end += firstByte(notAlnum(second)) & -(end / 8)
		if end == 16 {
			end = idLength(line[at:])
		}
		end += at
		if end > len(line)-len(": removed") {
			continue
		}
		follows := binary.LittleEndian.Uint64(line[end : end+8])
		if uint16(follows) != colonSpace || !p.tell.has(uint32(follows>>16)) || end == at || end >= at+maxQueueID {
			continue
		}
		if !isTag(tag, colon) {
			return i, strange
		}
		l.time, l.text, l.id, l.idEnd, l.origin, l.host, l.colon = micros, line, at, end, o, host, n+colon
		return i, telling
	}
	return len(lines), dull
}

// isTag reports whether the first n bytes of text, which has 24, are the name of a
// daemon and a process id. It is not sure of names that are long or have more than
// small letters.
func isTag(text []byte, n int) bool {
	name := firstByte(below(binary.LittleEndian.Uint64(text), '['+1))
	pid := text[name+1 : name+9]
	end := name + 1 + firstByte(notDigit(binary.LittleEndian.Uint64(pid)))
	return text[name] == '[' && end == n-1 && text[end] == ']'
}

// colonSpace is ": " as the first of a word of bytes.
const colonSpace = ':' | ' '<<8

// read reads any line up to what it tells.
func (p *postfix) read(line []byte, l *postfixLine) (sight, error) {
	var h syslogHeader
	if err := p.header(line, &h); err != nil {
		return dull, err
	}
	name, slash := program(h.tag)
	switch {
	case slash >= 1:
		// The stream is the first part of the program's name only ("postfix" of
		// "postfix/submission/smtpd"): all daemons of an instance share it, and
		// with it their queue ids, whatever their services are called.
		name = name[:slash]
		if h.text != nil {
			p.origins.learn(h.text, len(h.host), slash+1)
		}
	case hasPrefix(name, "postfix"):
		// rsyslog cuts names at the slash when it writes RFC 5424.
	default:
		return dull, nil // none of Postfix
	}
	if len(h.body) == 0 || h.body[0] >= 'a' {
		return dull, nil
	}
	end := idLength(h.body)
	if end < 1 || end >= maxQueueID || len(h.body) < end+len(": removed") || h.body[end] != ':' || h.body[end+1] != ' ' {
		return dull, nil
	}
	*l = postfixLine{time: h.time, text: h.body, idEnd: end, from: h.host, stream: name, tag: h.tag}
	return telling, nil
}

// told returns what a line tells.
func (p *postfix) told(l *postfixLine, dst []event.Event) ([]event.Event, error) {
	text := l.text[l.idEnd+len(": "):]
	switch text[0] {
	case 't':
		if hasPrefix(text, "to=<") {
			return p.delivery(l, text[len("to=<"):], dst)
		}
	case 'f':
		if hasPrefix(text, "from=<") {
			return p.active(l, text[len("from=<"):], dst), nil
		}
	case 'r':
		switch {
		case string(text) == "removed" || hasPrefix(text, "removed ("): // delivered; cancelled or discarded on arrival
			return p.add(l, event.Removal, dst), nil
		case hasPrefix(text, "reject: "):
			return p.rejection(l, text[len("reject: "):], dst), nil
		}
	case 'm':
		switch {
		case hasPrefix(text, "milter-reject: "):
			return p.rejection(l, text[len("milter-reject: "):], dst), nil
		case p.details && hasPrefix(text, "message-id="):
			dst = p.add(l, event.Arrival, dst)
			dst[len(dst)-1].MessageID = unbracket(text[len("message-id="):])
		}
	case 'c':
		switch {
		case string(text) == "canceled":
			return p.add(l, event.Removal, dst), nil
		case p.details && hasPrefix(text, "client="):
			dst = p.add(l, event.Arrival, dst)
			dst[len(dst)-1].Client = client(text[len("client="):])
		}
	case 'u':
		if p.details && hasPrefix(text, "uid=") {
			dst = p.add(l, event.Arrival, dst)
			dst[len(dst)-1].Client, _ = cut(text, ' ')
		}
	}
	return dst, nil
}

// idLength returns how many letters and digits text begins with, as far as
// these may be a queue id.
func idLength(text []byte) int {
	n := 0
	if len(text) >= 16 {
		// Which of the two words the end is in, chance decides: it is found without
		// a branch that would be predicted wrong. The second counts if the first
		// has all of its eight bytes.
		n = firstByte(notAlnum(binary.LittleEndian.Uint64(text)))
		n += firstByte(notAlnum(binary.LittleEndian.Uint64(text[8:]))) & -(n / 8)
		if n < 16 {
			return n
		}
	}
	for ; n < maxQueueID && n+8 <= len(text); n += 8 {
		if mask := notAlnum(binary.LittleEndian.Uint64(text[n:])); mask != 0 {
			return n + firstByte(mask)
		}
	}
	for n < len(text) && n < maxQueueID && isAlnum(text[n]) {
		n++
	}
	return n
}

// add appends an event of which all that the line's header says is known.
func (p *postfix) add(l *postfixLine, kind event.Kind, dst []event.Event) []event.Event {
	if len(dst) < cap(dst) {
		dst = dst[:len(dst)+1]
		dst[len(dst)-1] = event.Event{}
	} else {
		dst = append(dst, event.Event{})
	}
	e := &dst[len(dst)-1]
	e.Kind, e.Time, e.Delay = kind, l.time, -1
	e.QueueID = l.text[l.id:l.idEnd]
	if o := l.origin; o != nil {
		host := l.text[l.host:l.colon]
		e.Host, e.Stream, e.Place = host[:o.host], host[o.host+1:o.n-1], o.place
	} else {
		e.Host, e.Stream, e.Place = l.from, l.stream, event.PlaceOf(l.from, l.stream)
	}
	return dst
}

// active reads what the queue manager says about a message, after "from=<".
func (p *postfix) active(l *postfixLine, text []byte, dst []event.Event) []event.Event {
	sender, rest, ok := address(text, ",")
	if !ok {
		return dst
	}
	kind, outcome := event.Arrival, event.Outcome(0)
	switch {
	case hasPrefix(rest, "size="):
	case hasPrefix(rest, "status=expired,"), hasPrefix(rest, "status=force-expired,"):
		kind, outcome = event.Expiry, event.Expired
	default:
		return dst
	}
	dst = p.add(l, kind, dst)
	e := &dst[len(dst)-1]
	e.Outcome, e.SenderKnown, e.Sender = outcome, true, sender
	return dst
}

// delivery reads a delivery line after "to=<".
func (p *postfix) delivery(l *postfixLine, text []byte, dst []event.Event) ([]event.Event, error) {
	recipient, rest, ok := address(text, ",")
	if !ok {
		return dst, errRecipient
	}
	added := p.add(l, event.Attempt, dst)
	e := &added[len(dst)]
	e.Recipient = recipient
	rest = usualFields(e, rest)
	for !hasPrefix(rest, "status=") {
		if rest, ok = deliveryField(e, rest); !ok {
			return dst, errNoStatus
		}
	}
	rest = rest[len("status="):]
	if hasPrefix(rest, "sent ") { // as most are
		e.Outcome = event.Delivered
		setReason(e, rest[len("sent "):])
		return added, nil
	}
	status, why := cut(rest, ' ')
	switch string(status) {
	case "sent":
		e.Outcome = event.Delivered
	case "deferred", "SOFTBOUNCE":
		e.Outcome = event.Deferred
	case "bounced":
		e.Outcome = event.Bounced
	case "deliverable":
		e.Kind, e.Outcome = event.Probe, event.Delivered
	case "undeliverable":
		e.Kind, e.Outcome = event.Probe, event.Bounced
		if e.Reply.Status.Class == 4 {
			e.Outcome = event.Deferred
		}
	default:
		return dst, errStatus
	}
	if e.Outcome == event.Deferred {
		e.Repeat = l.deliversNothing()
	}
	setReason(e, why)
	return added, nil
}

// usualFields reads the fields that nearly every line has before the status, in the
// order of Postfix, and returns what follows them. What is not as usual it leaves
// to deliveryField.
func usualFields(e *event.Event, text []byte) []byte {
	if hasPrefix(text, "relay=") {
		end := bytes.IndexByte(text, ',')
		if end < 0 || end+2 > len(text) {
			return text
		}
		setRelay(e, text[len("relay="):end])
		text = text[end+2:]
	}
	if hasPrefix(text, "delay=") {
		micros, n := leadingSeconds(text[len("delay="):])
		rest := text[len("delay=")+n:]
		if !hasPrefix(rest, ", ") {
			return text
		}
		e.Delay, text = micros, rest[len(", "):]
	}
	if hasPrefix(text, "delays=") {
		end := bytes.IndexByte(text, ',')
		if end < 0 || end+2 > len(text) {
			return text
		}
		text = text[end+2:]
	}
	if hasPrefix(text, "dsn=") {
		status, n := event.ParseEnhanced(text[len("dsn="):])
		rest := text[len("dsn=")+n:]
		if !hasPrefix(rest, ", ") {
			return text
		}
		e.Reply.Status, text = status, rest[len(", "):]
	}
	return text
}

// deliveryField reads one of the fields before the status, "name=value, ", and
// returns what follows it.
func deliveryField(e *event.Event, text []byte) (rest []byte, ok bool) {
	if hasPrefix(text, "orig_to=<") {
		e.OriginalRecipient, rest, ok = address(text[len("orig_to=<"):], ",")
		return rest, ok
	}
	name := bytes.IndexByte(text, '=')
	if name < 0 {
		return nil, false
	}
	value := text[name+1:]
	end := bytes.IndexByte(value, ',')
	if end < 0 || end+2 > len(value) {
		return nil, false
	}
	value, rest = value[:end], value[end+2:]
	switch string(text[:name]) {
	case "relay":
		setRelay(e, value)
	case "delay":
		e.Delay = seconds(value)
	case "dsn":
		e.Reply.Status, _ = event.ParseEnhanced(value)
	}
	return rest, true
}

// setRelay reads the relay field: "host[address]:port", "host[path]" of a Unix
// socket, "none", or the name of a local transport.
func setRelay(e *event.Event, value []byte) {
	opening := bytes.IndexByte(value, '[')
	if opening < 0 {
		e.Local = string(value) != "none"
		return
	}
	host, addr := value[:opening], value[opening+1:]
	switch n, path := closing(addr); {
	case n < 0:
		e.Local = true
	case path:
		e.Relay, e.Local = host, true
	default:
		e.Relay, e.RelayIP = host, addr[:n]
	}
}

// closing returns the index of the first closing bracket in text, or -1, and
// whether there is a slash before it.
func closing(text []byte) (n int, slash bool) {
	for ; n+8 <= len(text); n += 8 {
		w := binary.LittleEndian.Uint64(text[n:])
		slashes := equal(w, '/')
		if ends := equal(w, ']'); ends != 0 {
			before := ends&-ends - 1 // the bits below the first
			return n + firstByte(ends), slash || slashes&before != 0
		}
		slash = slash || slashes != 0
	}
	for ; n < len(text); n++ {
		switch text[n] {
		case ']':
			return n, slash
		case '/':
			slash = true
		}
	}
	return -1, slash
}

// setReason reads the parenthesised text at the end of a delivery line. Its
// closing parenthesis is missing if the line was cut, which Postfix does at 2000
// bytes.
func setReason(e *event.Event, text []byte) {
	for len(text) > 0 && (text[len(text)-1] == ' ' || text[len(text)-1] == '\r') {
		text = text[:len(text)-1]
	}
	if len(text) == 0 || text[0] != '(' {
		return
	}
	text = text[1:]
	if n := len(text); n > 0 && text[n-1] == ')' {
		text = text[:n-1]
	}
	r := &e.Reply
	r.Origin, r.Text = event.OriginLocal, text
	if e.Outcome == event.Delivered {
		readCodes(r, text)
		if r.Code != 0 && e.Relay != nil {
			r.Origin, r.Stage = event.OriginRemote, event.StageEnd
		}
		return
	}
	if hasPrefix(text, suspended) {
		e.Repeat = true
		text = text[len(suspended):]
		r.Text = text
	}
	switch {
	case hasPrefix(text, "host "):
		setAnswer(e, text[len("host "):])
	case hasPrefix(text, protocolError):
		setAnswer(e, text[len(protocolError):])
		r.Text = text
	case hasPrefix(text, "connect to "):
		r.Stage = event.StageConnect
		if host, addr, _, ok := peer(text[len("connect to "):]); ok {
			setPeer(e, host, addr)
		}
	case hasPrefix(text, "lost connection with "):
		setInterruption(e, text[len("lost connection with "):])
	case hasPrefix(text, "conversation with "):
		setInterruption(e, text[len("conversation with "):])
	case hasPrefix(text, startTLS):
		r.Stage = event.StageTLS
		if reply, ok := quotation(e, text[len(startTLS):], " refused to start TLS: "); ok {
			r.Origin = event.OriginRemote
			readCodes(r, reply)
		}
	case hasPrefix(text, login):
		r.Stage = event.StageAuth
		if reply, ok := quotation(e, text[len(login):], " said: "); ok {
			r.Origin = event.OriginRemote
			readCodes(r, reply)
		}
	default:
		for _, s := range localStages {
			if hasPrefix(text, s.text) {
				r.Stage = s.stage
			}
		}
		if hasSuffix(text, ": host not found") {
			r.Stage = event.StageConnect
		}
		readCodes(r, text)
	}
}

// Reasons that have a server's reply inside, but say more than the reply does:
// the text keeps them.
const (
	protocolError = "Protocol error: host "
	startTLS      = "TLS is required, but host "
	login         = "SASL authentication failed; server "
)

// suspended precedes the reason why the queue manager does not try a
// destination for now.
const suspended = "delivery temporarily suspended: "

type stageText struct {
	text  string
	stage event.Stage
}

// localStages are how reasons start that are our own MTA's, and what they kept
// it from doing.
var localStages = [...]stageText{
	{"Host or domain name not found.", event.StageConnect},
	{"Name service error for name=", event.StageConnect},
	{"Domain ", event.StageConnect}, // … does not accept mail (nullMX)
	{"unable to look up host ", event.StageConnect},
	{"unable to find primary relay for ", event.StageConnect},
	{"mail for ", event.StageConnect}, // … loops back to myself
	{"TLS is required, but ", event.StageTLS},
	{"Cannot start TLS: ", event.StageTLS},
	{"Server certificate not ", event.StageTLS},
	{"Sender requested REQUIRETLS, ", event.StageTLS},
	{"SASL authentication failed", event.StageAuth},
	{"message size ", event.StageMail}, // … exceeds size limit N of server S
}

// whileStages are what an interrupted conversation was about.
var whileStages = [...]stageText{
	{"receiving the initial server greeting", event.StageConnect},
	{"performing the ", event.StageHelo}, // EHLO, HELO or LHLO handshake
	{"receiving the STARTTLS response", event.StageTLS},
	{"sending MAIL FROM", event.StageMail},
	{"sending RCPT TO", event.StageRcpt},
	{"sending DATA command", event.StageData},
	{"sending message body", event.StageEnd},
	{"sending end of data", event.StageEnd},
	{"sending QUIT", event.StageQuit},
}

// setAnswer reads the reason "host[address] said: reply (in reply to command)",
// or "host[address] refused to talk to me: reply" for the answer to a
// connection or to the greeting.
func setAnswer(e *event.Event, text []byte) {
	r := &e.Reply
	if reply, ok := quotation(e, text, " said: "); ok {
		r.Origin = event.OriginRemote
		r.Text, r.Stage = inReplyTo(reply)
	} else if reply, ok := quotation(e, text, " refused to talk to me: "); ok {
		r.Origin = event.OriginRemote
		r.Text, r.Stage = reply, event.StageConnect
	}
	readCodes(r, r.Text)
}

// setInterruption reads the reason "host[address] while stage", or
// "host[address] timed out while stage".
func setInterruption(e *event.Event, text []byte) {
	const while = " while "
	host, addr, rest, ok := peer(text)
	if !ok {
		return
	}
	setPeer(e, host, addr)
	i := bytes.Index(rest, []byte(while))
	if i < 0 {
		return
	}
	for _, s := range whileStages {
		if hasPrefix(rest[i+len(while):], s.text) {
			e.Reply.Stage = s.stage
		}
	}
}

// quotation returns what follows "host[address]" and verb in text, and notes
// the host.
func quotation(e *event.Event, text []byte, verb string) (reply []byte, ok bool) {
	host, addr, rest, ok := peer(text)
	if !ok || !hasPrefix(rest, verb) {
		return nil, false
	}
	setPeer(e, host, addr)
	return rest[len(verb):], true
}

// setPeer notes the host that a reason names, where the relay field does not
// tell: no connection came about, or an earlier failure is repeated.
func setPeer(e *event.Event, host, addr []byte) {
	if e.Relay != nil || e.Local {
		return
	}
	e.Relay = host
	if bytes.IndexByte(addr, '/') >= 0 {
		e.Local = true
	} else {
		e.RelayIP = addr
	}
}

// inReplyTo splits "reply (in reply to command)". The last parenthesis counts,
// since the reply may say anything; in a line that was cut it may be missing.
func inReplyTo(text []byte) (reply []byte, stage event.Stage) {
	const mark = " (in reply to "
	i := bytes.LastIndexByte(text, '(') - 1
	if i < 0 || !hasPrefix(text[i:], mark) {
		return text, event.StageUnknown
	}
	command := text[i+len(mark):]
	if end := bytes.IndexByte(command, ')'); end == len(command)-1 && end >= 0 {
		command = command[:end]
	} else if end >= 0 {
		return text, event.StageUnknown
	}
	switch string(command) {
	case "MAIL FROM command":
		stage = event.StageMail
	case "RCPT TO command":
		stage = event.StageRcpt
	case "DATA command":
		stage = event.StageData
	case "end of DATA command":
		stage = event.StageEnd
	case "QUIT command":
		stage = event.StageQuit
	}
	return text[:i], stage
}

// readCodes reads the reply code and the enhanced code at the start of text. A
// continuation mark ("550-5.1.1") or a number sign ("550 #5.1.1") may be between
// them.
func readCodes(r *event.Reply, text []byte) {
	if len(text) < 3 || text[0] < '2' || text[0] > '5' || !isDigit(text[1]) || !isDigit(text[2]) {
		return
	}
	if len(text) > 3 && text[3] != ' ' && text[3] != '-' {
		return
	}
	r.Code = uint16(text[0]-'0')*100 + uint16(twoDigits(text[1:]))
	if len(text) < 5 {
		return
	}
	text = text[4:]
	if text[0] == '#' {
		text = text[1:]
	}
	r.Enhanced, _ = event.ParseEnhanced(text)
}

// rejections are where our own server refused, as it names it.
var rejections = [...]stageText{
	{"CONNECT", event.StageConnect},
	{"HELO", event.StageHelo},
	{"EHLO", event.StageHelo},
	{"STARTTLS", event.StageTLS},
	{"AUTH", event.StageAuth},
	{"MAIL", event.StageMail},
	{"RCPT", event.StageRcpt},
	{"DATA", event.StageData},
	{"END-OF-MESSAGE", event.StageEnd},
}

// rejection reads what our own server says about a refused client, after
// "reject: " or "milter-reject: ":
//
//	RCPT from host[address]: reply; from=<…> to=<…> proto=… helo=<…>
//
// For other forms, such as those of header checks, where the client's text comes
// first, it is known only that there was a rejection.
func (p *postfix) rejection(l *postfixLine, text []byte, dst []event.Event) []event.Event {
	dst = p.add(l, event.Rejection, dst)
	e := &dst[len(dst)-1]
	if string(e.QueueID) == "NOQUEUE" {
		e.QueueID = nil
	}
	e.Outcome, e.Reply.Origin = event.RejectedInbound, event.OriginLocal
	where, rest := cut(text, ' ')
	for _, s := range rejections {
		if string(where) == s.text {
			e.Reply.Stage = s.stage
		}
	}
	const from = "from "
	if e.Reply.Stage == event.StageUnknown || !hasPrefix(rest, from) {
		return dst
	}
	rest = rest[len(from):]
	host, addr, reply, ok := peer(rest)
	if !ok || !hasPrefix(reply, ": ") {
		return dst
	}
	e.Client, reply = rest[:len(host)+len(addr)+len("[]")], reply[len(": "):]
	semicolon := bytes.Index(reply, []byte("; from=<"))
	if semicolon >= 0 {
		sender, rest, ok := address(reply[semicolon+len("; from=<"):], ", ")
		if ok {
			e.SenderKnown, e.Sender = true, sender
			if hasPrefix(rest, "to=<") {
				e.Recipient, _, _ = address(rest[len("to=<"):], ", ")
			}
		}
	} else {
		semicolon = bytes.Index(reply, []byte("; proto="))
	}
	if semicolon >= 0 {
		reply = reply[:semicolon]
	}
	e.Reply.Text = reply
	readCodes(&e.Reply, reply)
	return dst
}

// peer splits "host[address]" or "host[address]:port" off the start of text. The
// host is empty in "[address]".
func peer(text []byte) (host, addr, rest []byte, ok bool) {
	opening := bytes.IndexByte(text, '[')
	if opening < 0 || bytes.IndexByte(text[:opening], ' ') >= 0 {
		return nil, nil, nil, false
	}
	host, text = text[:opening], text[opening+1:]
	closing := bytes.IndexByte(text, ']')
	if closing < 0 {
		return nil, nil, nil, false
	}
	addr, rest = text[:closing], text[closing+1:]
	if len(rest) > 1 && rest[0] == ':' && isDigit(rest[1]) {
		n := 2
		for n < len(rest) && isDigit(rest[n]) {
			n++
		}
		rest = rest[n:]
	}
	return host, addr, rest, true
}

// address splits an address from what follows its closing bracket, one of the
// separators and a space. Quoted local parts, which Postfix 3.5 and later write,
// may contain all of these (RFC 5321 section 4.1.2).
func address(text []byte, separators string) (addr, rest []byte, ok bool) {
	from := 0
	if len(text) > 0 && text[0] == '"' { // spares most a call
		from = quoted(text)
	}
	for {
		n := bytes.IndexByte(text[from:], '>')
		if n < 0 {
			return nil, nil, false
		}
		from += n + 1
		if from == len(text) {
			return text[:from-1], nil, true
		}
		if text[from] == separators[0] || strings.IndexByte(separators[1:], text[from]) >= 0 {
			addr, rest = text[:from-1], text[from+1:]
			if len(rest) > 0 && rest[0] == ' ' {
				rest = rest[1:]
			}
			return addr, rest, true
		}
	}
}

// quoted returns the length of the quoted local part at the start of text, or 0
// if there is none.
func quoted(text []byte) int {
	if len(text) == 0 || text[0] != '"' {
		return 0
	}
	for i := 1; i+1 < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			if text[i+1] == '@' || text[i+1] == '>' {
				return i + 1
			}
			return 0
		}
	}
	return 0
}

// client returns who handed a message to smtpd: the user who logged in, else the
// host, as in "host[address], sasl_method=PLAIN, sasl_username=user".
func client(text []byte) []byte {
	host, rest := cut(text, ',')
	const username = " sasl_username="
	if i := bytes.Index(rest, []byte(username)); i >= 0 {
		user, _ := cut(rest[i+len(username):], ',')
		return user
	}
	return host
}

// seconds reads a decimal number of seconds and returns it in microseconds, or
// -1 if it is none.
func seconds(b []byte) int64 {
	if micros, n := leadingSeconds(b); n == len(b) {
		return micros
	}
	return -1
}

// leadingSeconds reads the number that b starts with, and returns it with its
// length. Without one it is -1.
func leadingSeconds(b []byte) (micros int64, n int) {
	if len(b) >= 16 { // without a branch for each digit, if there are few
		whole := binary.LittleEndian.Uint64(b)
		if n = firstByte(notDigit(whole)); n >= 1 && n <= 7 {
			micros = leadingDigits(whole, n) * 1e6
			if b[n] != '.' {
				return micros, n
			}
			part := binary.LittleEndian.Uint64(b[n+1 : n+9])
			if k := firstByte(notDigit(part)); k <= 6 {
				return micros + leadingDigits(part, k)*powers[6-k], n + 1 + k
			}
		}
	}
	const most = 10 // digits before the point: 300 years
	micros, n = 0, 0
	for n < len(b) && n < most && isDigit(b[n]) {
		micros = micros*10 + int64(b[n]-'0')
		n++
	}
	if n == 0 {
		return -1, 0
	}
	part, n := fraction(b, n)
	return micros*1e6 + part, n
}

// powers are those of ten.
var powers = [...]int64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6}

// unbracket removes the angle brackets around a message id.
func unbracket(b []byte) []byte {
	if n := len(b); n > 1 && b[0] == '<' && b[n-1] == '>' {
		return b[1 : n-1]
	}
	return b
}

// cut splits b at the first separator; without one, all of b is before it.
func cut(b []byte, separator byte) (before, after []byte) {
	if i := bytes.IndexByte(b, separator); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}

func hasSuffix(b []byte, suffix string) bool {
	return len(b) >= len(suffix) && string(b[len(b)-len(suffix):]) == suffix
}
