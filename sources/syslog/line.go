package syslog

import (
	"bytes"
	"time"
)

// stampLayout is how the time of receipt is written where a message has no time.
const stampLayout = "2006-01-02T15:04:05.000000Z07:00"

// header is what stands in front of the text of a message. Its slices alias the
// message; what is nil was left out.
type header struct {
	stamp, host []byte
	// tag and process are the program's name and its id, where they are apart
	// (RFC 5424). In RFC 3164 they begin the text.
	tag, process []byte
	text         []byte
}

// remarks are what is worth to be said of a message.
type remarks struct {
	undated bool // its time is that of receipt
	// nameCut is a message of Postfix that does not tell which of its programs
	// logged it: rsyslog cuts names at the slash when it writes RFC 5424.
	nameCut bool
}

// appendLine appends a message as the line of a log file that the dialects read:
//
//	TIMESTAMP host program[pid]: text
//
// A header of RFC 5424 is brought into that form. RFC 3164 has it but for the
// priority, which is taken off; so has what rsyslog forwards by default, with an
// RFC 3339 timestamp. A time that is missing is that of receipt, and a host that
// is missing, as on a local socket, is the sender's (RFC 3164 section 4.3.2).
//
// What is no syslog message is appended as it is: the dialect decides whether it
// is a line of a log all the same, or malformed.
func appendLine(dst, message, sender []byte, received time.Time) (_ []byte, r remarks) {
	h, ok := parse(message)
	if !ok {
		return append(dst, clean(message)...), r
	}
	r = remarks{undated: h.stamp == nil, nameCut: string(h.tag) == "postfix"}
	if h.stamp != nil {
		dst = append(dst, h.stamp...)
	} else {
		dst = received.UTC().AppendFormat(dst, stampLayout)
	}
	dst = append(dst, ' ')
	if h.host != nil {
		dst = append(dst, h.host...)
	} else {
		dst = append(dst, sender...)
	}
	dst = append(dst, ' ')
	if h.tag != nil {
		dst = append(dst, h.tag...)
		if h.process != nil {
			dst = append(dst, '[')
			dst = append(dst, h.process...)
			dst = append(dst, ']')
		}
		dst = append(dst, ": "...)
	}
	return append(dst, h.text...), r
}

// appendText appends the text of a message without what stands in front of it:
// for programs that log JSON, which has it all.
func appendText(dst, message []byte) []byte {
	h, ok := parse(message)
	if !ok {
		return append(dst, clean(message)...)
	}
	text := h.text
	if h.tag == nil {
		if n := bytes.IndexByte(text, ' '); n > 0 && isTag(text[:n]) {
			text = text[n+1:]
		}
	}
	text, _ = bytes.CutPrefix(bytes.TrimLeft(text, " "), []byte("@cee:"))
	return append(dst, bytes.TrimLeft(text, " ")...)
}

// clean takes off what ends a message in this or that transport.
func clean(message []byte) []byte { return bytes.TrimRight(message, "\r\n\x00") }

// parse reads the header of a message. It reports whether there is one of
// RFC 5424 or RFC 3164; some of the latter may be missing, but not the priority.
func parse(message []byte) (h header, ok bool) {
	b := clean(message)
	n := priority(b)
	if n == 0 {
		return h, false
	}
	b = b[n:]
	if len(b) > 2 && b[0] == '1' && b[1] == ' ' {
		return parse5424(b[2:])
	}
	if n = stampLength(b); n > 0 {
		h.stamp, b = b[:n], b[n+1:]
	}
	word, rest := cut(b)
	switch {
	case isTag(word):
		h.text = b
	case h.stamp == nil, len(word) == 0, rest == nil:
		return h, false // neither time nor program: not even the little that RFC 3164 asks for
	default:
		h.host, h.text = word, rest
	}
	return h, true
}

// priority returns the length of "<PRI>" at the start of b (RFC 5424 section
// 6.2.1), or 0.
func priority(b []byte) int {
	if len(b) < 3 || b[0] != '<' {
		return 0
	}
	value := 0
	for i := 1; i < len(b) && i <= 4; i++ {
		switch {
		case b[i] == '>' && i > 1 && value < 24*8: // facilities of eight severities
			return i + 1
		case b[i] < '0' || b[i] > '9':
			return 0
		}
		value = value*10 + int(b[i]-'0')
	}
	return 0
}

// stampLength returns the length of the timestamp at the start of b that a space
// follows, "Jan  2 15:04:05" with or without a fraction or one of RFC 3339, or 0.
// Its form is enough here: the dialect reads it.
func stampLength(b []byte) int {
	n := bytes.IndexByte(b[:min(len(b), 40)], ' ')
	if n >= len("2026-01-12T04:01:07Z") {
		if b[4] == '-' && b[7] == '-' && b[10] == 'T' && b[13] == ':' && b[16] == ':' {
			return n
		}
		return 0
	}
	const short = len(time.Stamp)
	if n != 3 || len(b) <= short || b[6] != ' ' || b[9] != ':' || b[12] != ':' {
		return 0
	}
	end := short + max(bytes.IndexByte(b[short:min(len(b), short+16)], ' '), 0)
	if b[end] != ' ' || end > short && b[short] != '.' {
		return 0
	}
	return end
}

// isTag tells the program from a host name, which is missing where a program
// logs to a local socket: a tag ends with a colon, or has a process id.
func isTag(word []byte) bool {
	n := len(word)
	return n > 1 && word[n-1] == ':' || bytes.IndexByte(word, '[') > 0
}

// parse5424 reads a header of RFC 5424 after its version.
func parse5424(b []byte) (h header, ok bool) {
	var fields [5][]byte // time, host, program, process, kind of message
	for i := range fields {
		if fields[i], b = cut(b); len(fields[i]) == 0 || b == nil {
			return h, false
		}
	}
	known := func(field []byte) []byte {
		if len(field) == 1 && field[0] == '-' {
			return nil
		}
		return field
	}
	h.stamp, h.host, h.tag = known(fields[0]), known(fields[1]), known(fields[2])
	if areDigits(fields[3]) && bytes.IndexByte(h.tag, '[') < 0 {
		h.process = fields[3]
	}
	n, ok := structuredData(b)
	if !ok {
		return h, false
	}
	h.text, _ = bytes.CutPrefix(bytes.TrimLeft(b[n:], " "), []byte("\xef\xbb\xbf"))
	// rsyslog keeps the space that RFC 3164 has after the colon.
	h.text = bytes.TrimLeft(h.text, " ")
	return h, true
}

// structuredData returns the length of the structured data at the start of b
// (RFC 5424 section 6.3): "-", or elements in brackets whose values are quoted.
func structuredData(b []byte) (n int, ok bool) {
	if len(b) > 0 && b[0] == '-' {
		return 1, len(b) == 1 || b[1] == ' '
	}
	quoted := false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == ']' && i+1 == len(b), c == ']' && b[i+1] == ' ':
			return i + 1, b[0] == '['
		case c == ']' && b[i+1] != '[':
			return 0, false
		}
	}
	return 0, false
}

// cut splits b at its first space; rest is nil if there is none.
func cut(b []byte) (word, rest []byte) {
	if n := bytes.IndexByte(b, ' '); n >= 0 {
		return b[:n], b[n+1:]
	}
	return b, nil
}

func areDigits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) > 0
}
