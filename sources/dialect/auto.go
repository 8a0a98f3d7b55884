package dialect

import (
	"bytes"
	"fmt"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

// Auto is the name of the dialect that finds out each line's own.
const Auto = "auto"

// errUnrecognised is a line that looks like no record of any dialect.
var errUnrecognised = fmt.Errorf("%w: it looks like no dialect that is known; name the dialect instead of using auto", ErrMalformed)

// Recogniser is what New returns for Auto: a parser for logs whose dialect is
// not told, or that have several.
type Recogniser interface {
	Parser
	// Recognised returns how many lines have been taken for each dialect so far.
	Recognised() map[string]int64
	// Foreign returns how many lines have been taken for what is no log of an MTA
	// but has another way in.
	Foreign() map[Foreign]int64
}

// Foreign is something else that a line looks to be part of.
type Foreign uint8

const (
	ForeignNone   Foreign = iota
	ForeignMail           // the header of a mail, or an mbox
	ForeignExport         // the Journal Export Format
	ForeignJSON           // JSON whose members no dialect has
	foreigns
)

// mailFields are how lines in the header of a mail start, in an mbox and in a
// file with one message.
var mailFields = [...]string{
	"From ", "Return-Path: ", "Received: ", "Delivered-To: ", "Message-ID: ", "Message-Id: ", "MIME-Version: ", "Content-Type: ",
	"From: ", "To: ", "Subject: ", "Date: ",
}

// foreign says what a line that looks like no dialect looks like instead.
func foreign(line []byte) Foreign {
	if len(line) == 0 {
		return ForeignNone
	}
	for _, start := range mailFields {
		if hasPrefix(line, start) {
			return ForeignMail
		}
	}
	if line[0] == '{' || hasPrefix(line, "[{") {
		// A name follows; binary data has a brace here and there, too.
		if name := bytes.TrimLeft(line, "[{ \t"); len(name) > 0 && name[0] == '"' {
			return ForeignJSON
		}
	}
	for _, start := range [...]string{"__CURSOR=", "__REALTIME_TIMESTAMP=", "_SYSTEMD_UNIT="} {
		if hasPrefix(line, start) {
			return ForeignExport
		}
	}
	return ForeignNone
}

// auto hands each line to the dialect that it looks like. That depends on
// nothing but the line, so it does not matter which lines came before, or which
// worker reads it. A line of syslog by a program that is no mail server is
// skipped.
type auto struct {
	parsers [shapes]Parser // nil for dialects that this build does not have
	postfix *postfix       // also one of parsers
	line    postfixLine    // the last that was telling
	lines   [shapes]int64
	foreign [foreigns]int64 // of the lines that look like no dialect
}

// shape is what a line looks like. The values from 1 on are those of
// shapeNames.
type shape uint8

const (
	shapeUnknown shape = iota
	shapeOther         // syslog of another program
	shapePostfix
	shapeExim
	shapeSendmail
	shapeOpensmtpd
	shapeQmail
	shapeHaraka
	shapeZonemta
	shapePowermta
	shapeMandrill // as a form; its JSON is among the shapes of jsonShapes
	shapeCRI      // in an envelope; see wrapped
	firstJSON     // the shapes of jsonShapes follow
)

const shapes = int(firstJSON) + len(jsonShapes)

var shapeNames = [firstJSON]string{
	shapePostfix: "postfix", shapeExim: "exim", shapeSendmail: "sendmail", shapeOpensmtpd: "opensmtpd", shapeQmail: "qmail",
	shapeHaraka: "haraka", shapeZonemta: "zonemta", shapePowermta: "powermta", shapeMandrill: "mandrill",
}

// jsonShapes tells JSON objects, and the first object of an array, apart by
// members on their top level. A dialect may have several rows. No object of one
// dialect has all members of a row of another. A row whose dialect does not
// exist does no harm.
var jsonShapes = [...]struct {
	dialect string
	members [3]string
}{
	{"bouncemeter", [3]string{"v", "kind", "outcome"}},
	{"kumomta", [3]string{"type", "queue", "response"}},
	{"kumomta", [3]string{"type", "sender", "recipient"}},
	{"ses", [3]string{"eventType", "mail"}},
	{"ses", [3]string{"notificationType", "mail"}},
	{"ses", [3]string{"Type", "TopicArn"}},      // in an envelope of SNS
	{"ses", [3]string{"detail-type", "detail"}}, // in an envelope of EventBridge
	{"sendgrid", [3]string{"email", "event", "timestamp"}},
	{"mailgun", [3]string{"event-data"}},
	{"mailgun", [3]string{"log-level", "event"}},
	{"sparkpost", [3]string{"msys"}},
	{"sparkpost", [3]string{"event_id", "rcpt_to", "type"}},
	{"postmark", [3]string{"RecordType"}},
	{"postal", [3]string{"event", "payload"}},
	{"mandrill", [3]string{"event", "msg", "_id"}},
	{"brevo", [3]string{"event", "email", "message-id"}},
	{"haraka", [3]string{"level", "uuid", "message"}},
	{"zonemta_json", [3]string{"action", "id", "seq"}},
	{"halon", [3]string{"type", "message", "attempt"}},
	{dockerJSON, [3]string{"log", "stream", "time"}},
	{journalJSON, [3]string{"__REALTIME_TIMESTAMP", "MESSAGE"}},
}

// The rows of envelopes; see wrapped.
const (
	dockerJSON  = "docker"
	journalJSON = "journal"
)

// name returns the dialect of a shape.
func (s shape) name() string {
	if s >= firstJSON {
		return jsonShapes[s-firstJSON].dialect
	}
	return shapeNames[s]
}

func newAuto(location *time.Location, details bool) *auto {
	a := &auto{}
	made := map[string]Parser{
		dockerJSON: &wrapped{auto: a, open: openDocker}, journalJSON: &wrapped{auto: a, open: openJournal},
	}
	a.parsers[shapeCRI] = &wrapped{auto: a, open: openCRI}
	for s := shapePostfix; int(s) < shapes; s++ {
		name := s.name()
		for _, d := range dialects {
			if d.name == name && made[name] == nil {
				made[name] = d.make(location, details)
			}
		}
		if made[name] != nil {
			a.parsers[s] = made[name]
		}
	}
	a.postfix = a.parsers[shapePostfix].(*postfix)
	return a
}

// Parse implements Parser.
func (a *auto) Parse(line []byte, dst []event.Event) ([]event.Event, error) {
	_, dst, err := a.Next([]event.Line{{Text: line}}, dst, 1)
	return dst, err
}

// Next implements Skipper. Most logs are Postfix's, and most lines of these tell it
// by how they begin: recognise would say the same of what is not strange.
func (a *auto) Next(lines []event.Line, dst []event.Event, events int) (n int, _ []event.Event, err error) {
	for enough := len(dst) + events; len(dst) < enough && err == nil; n++ {
		dull, s := a.postfix.skip(lines[n:], &a.line)
		n += dull
		a.lines[shapePostfix] += int64(dull)
		if n == len(lines) {
			break
		}
		if s == telling {
			a.lines[shapePostfix]++
			dst, err = a.postfix.told(&a.line, dst)
		} else {
			line := lines[n].Text
			dst, err = a.parse(recognise(line), line, dst)
		}
	}
	return n, dst, err
}

// parse is Parse for a line of which it is known what it looks like.
func (a *auto) parse(s shape, line []byte, dst []event.Event) ([]event.Event, error) {
	if s == shapeOther {
		return dst, nil
	}
	p := a.parsers[s]
	if p == nil {
		a.foreign[foreign(line)]++
		return dst, errUnrecognised
	}
	if _, ok := p.(*wrapped); !ok {
		a.lines[s]++
	}
	if s >= firstJSON && line[0] != '{' && line[0] != '[' && s.name() != "haraka" {
		line = line[bytes.IndexByte(line, '{'):] // a program logged it through syslog
	}
	return p.Parse(line, dst)
}

// Reference implements Parser.
func (a *auto) Reference(t time.Time) {
	for _, p := range a.parsers {
		if p != nil {
			p.Reference(t)
		}
	}
}

// Header implements Headed.
func (a *auto) Header(line []byte) {
	of := recognise(line)
	for s, p := range a.parsers {
		if h, ok := p.(Headed); ok {
			if shape(s) == of {
				h.Header(line)
			} else {
				h.Header(nil)
			}
		}
	}
}

// Recognised implements Recogniser.
func (a *auto) Recognised() map[string]int64 {
	lines := make(map[string]int64)
	for s, n := range a.lines {
		if n > 0 {
			lines[shape(s).name()] += n
		}
	}
	return lines
}

// Foreign implements Recogniser.
func (a *auto) Foreign() map[Foreign]int64 {
	lines := make(map[Foreign]int64)
	for f, n := range a.foreign {
		if n > 0 && Foreign(f) != ForeignNone {
			lines[Foreign(f)] = n
		}
	}
	return lines
}

// recognise says what a line looks like.
func recognise(line []byte) shape {
	if len(line) == 0 {
		return shapeUnknown
	}
	switch c := line[0]; {
	case c == '{', c == '[':
		if isHaraka(line) && c == '[' {
			return shapeHaraka
		}
		return recogniseJSON(line)
	case c == '@':
		return shapeQmail
	case c == '<':
		n := priority(line)
		if fields, ok := rfc5424(line[n:]); ok {
			return recogniseProgram(fields.program, fields.text)
		}
		return recogniseSyslog(line[n:])
	case isDigit(c):
		switch {
		case isWall(line):
			return recogniseWall(line[len(time.DateTime):])
		case unixStamp(line) > 0:
			return shapeQmail
		}
		return recogniseSyslog(line)
	case c == 'l' && hasPrefix(line, "level="):
		return shapeHaraka
	case isZonemta(line):
		return shapeZonemta
	case c == 'm' && hasPrefix(line, mandrillForm):
		return shapeMandrill
	case isPowermta(line):
		return shapePowermta
	}
	return recogniseSyslog(line)
}

// isPowermta reports whether line is the head or a record of an accounting file:
// "type,timeLogged,…" or "b,…", "tq,…".
func isPowermta(line []byte) bool {
	kind, rest := cut(line[:min(len(line), 8)], ',')
	if rest == nil {
		return false
	}
	switch string(kind) {
	case "type", `"type"`, "d", "b", "t", "tq", "r", "f", "rb", "rs":
		return true
	}
	return false
}

// recogniseWall looks at what follows a date, a space and a time.
func recogniseWall(text []byte) shape {
	if len(text) > 0 && text[0] == '.' {
		_, text = cut(text, ' ')
	} else if len(text) > 0 {
		text = text[1:]
	}
	for _, start := range [...]string{
		"starting delivery ", "delivery ", "new msg ", "info msg ", "end msg ", "bounce msg ", "status: local ", "triple bounce: ",
	} {
		if hasPrefix(text, start) {
			return shapeQmail
		}
	}
	return shapeExim
}

// recogniseSyslog finds the program in a line of syslog. Where its name tells
// nothing, because MTAs may be started under any, the message does.
func recogniseSyslog(line []byte) shape {
	if len(line) < 20 {
		return shapeUnknown
	}
	var text []byte // from the host on
	switch {
	case line[10] == 'T' && isDigit(line[0]):
		if criHeader(line) > 0 {
			return shapeCRI
		}
		_, text = cut(line, ' ')
		switch {
		case len(text) > 0 && text[0] == '{':
			return recogniseJSON(text)
		case isHaraka(text):
			return shapeHaraka
		case isZonemta(text):
			return shapeZonemta
		}
	case line[3] == ' ' && line[6] == ' ' && monthByName(line) != 0:
		text = line[len(time.Stamp):]
		if text[0] == '.' {
			_, text = cut(text, ' ')
		} else {
			text = text[1:]
		}
	default:
		return shapeUnknown
	}
	n := indexSpace(text)
	if n < 0 {
		return shapeUnknown
	}
	text = text[n+1:]
	n = 0
	for n < len(text) && text[n] != '[' && text[n] != ':' && text[n] != ' ' {
		n++
	}
	name := text[:n]
	var body []byte
	if end := bytes.Index(text, []byte(": ")); end >= 0 {
		body = text[end+2:]
	}
	return recogniseProgram(name, body)
}

// recogniseProgram looks at the name of a program, and where that tells nothing
// at what it says.
func recogniseProgram(name, body []byte) shape {
	switch {
	case bytes.IndexByte(name, '/') >= 0, hasPrefix(name, "postfix"):
		return shapePostfix
	case string(name) == "smtpd", hasPrefix(name, "opensmtpd"):
		return shapeOpensmtpd
	case hasPrefix(name, "exim"):
		return shapeExim
	case hasPrefix(name, "qmail"):
		return shapeQmail
	case hasPrefix(name, "sm-"), string(name) == "sendmail":
		return shapeSendmail
	}
	if len(body) == 0 {
		return shapeOther
	}
	switch {
	case body[0] == '{':
		if s := recogniseJSON(body); s != shapeUnknown {
			return s
		}
	case isHaraka(body):
		return shapeHaraka
	case isZonemta(body):
		return shapeZonemta
	}
	if end := bytes.IndexByte(body[:min(len(body), maxQueueID)], ':'); end > 0 && isSendmailID(body[:end]) {
		return shapeSendmail
	}
	return shapeOther
}

// recogniseJSON looks at an object, or at those of an array until one tells the
// dialect.
func recogniseJSON(line []byte) shape {
	for b := bytes.TrimLeft(line, "[ \t"); ; b = bytes.TrimLeft(b, ", \t\r\n") {
		s := recogniseObject(b)
		if s != shapeUnknown || line[0] != '[' {
			return s
		}
		n := jsonLength(b)
		if n == 0 {
			return shapeUnknown
		}
		b = b[n:]
	}
}

// recogniseObject reads member names on the top level of an object until all of
// a row of jsonShapes have been there.
func recogniseObject(b []byte) shape {
	if len(b) == 0 || b[0] != '{' {
		return shapeUnknown
	}
	b = b[1:]
	seen := uint64(0)
	for {
		b = bytes.TrimLeft(b, ", \t\r\n")
		if len(b) == 0 || b[0] != '"' {
			return shapeUnknown
		}
		end := closingQuote(b, 0)
		if end < 0 {
			return shapeUnknown
		}
		if bit := jsonMembers.bits[string(b[1:end])]; bit != 0 {
			seen |= bit
			for i, all := range jsonMembers.rows {
				if seen&all == all {
					return firstJSON + shape(i)
				}
			}
		}
		b = bytes.TrimLeft(b[end+1:], " \t")
		if len(b) < 2 || b[0] != ':' {
			return shapeUnknown
		}
		b = bytes.TrimLeft(b[1:], " \t")
		n := jsonLength(b)
		if n == 0 {
			return shapeUnknown
		}
		b = b[n:]
	}
}

// jsonMembers has a bit for each name in jsonShapes, of which there are at most
// 64, and the bits of each row.
var jsonMembers = func() (m struct {
	bits map[string]uint64
	rows [len(jsonShapes)]uint64
},
) {
	m.bits = make(map[string]uint64)
	for i, s := range jsonShapes {
		for _, name := range s.members {
			if name == "" {
				continue
			}
			if m.bits[name] == 0 {
				m.bits[name] = 1 << len(m.bits)
			}
			m.rows[i] |= m.bits[name]
		}
	}
	return m
}()
