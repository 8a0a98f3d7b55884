package dialect

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

// Why a record of an MTA or provider in JSON or CSV says too little.
var (
	errNoTime      = fmt.Errorf("%w: its time is missing", ErrMalformed)
	errTime        = fmt.Errorf("%w: its time is neither as RFC 3339 says nor a number of seconds", ErrMalformed)
	errNoType      = fmt.Errorf("%w: the member that says what happened is missing", ErrMalformed)
	errNoRecipient = fmt.Errorf("%w: the recipient is missing", ErrMalformed)
)

// members is what the parsers of JSON records have in common. It remembers
// timestamps of before, which changes no event.
type members struct {
	stamps
	arena   arena
	w       walker
	partial PartialError
}

// one parses a line that is a record, or an array of records, each read by
// object. See Parser for what it returns on error.
func (m *members) one(line []byte, dst []event.Event, object func([]event.Event) ([]event.Event, error)) ([]event.Event, error) {
	m.arena.ready()
	m.w.start(line, &m.arena)
	if m.w.peek() == '[' {
		return m.each(dst, object)
	}
	n := len(dst)
	dst, err := object(dst)
	// Broken JSON is the reason for whatever is missing.
	if end := m.w.end(); m.w.err != nil {
		err = end
	}
	if err != nil {
		return dst[:n], err
	}
	return dst, nil
}

// each parses an array of records. One that cannot be read costs no other: its
// end is found by quotes and brackets alone, and what follows is read as strictly
// as ever. Text of strangers cannot pass for a record by that: within a string a
// quote has a backslash, which is nowhere else in JSON.
func (m *members) each(dst []event.Event, object func([]event.Event) ([]event.Event, error)) ([]event.Event, error) {
	w := &m.w
	m.partial = PartialError{Faults: m.partial.Faults[:0]}
	i := 0
	more := w.array()
	after := w.i // the last record that was read, or given up
	for more {
		i++
		start, n := w.i, len(dst)
		var err error
		if dst, err = object(dst); w.err != nil {
			err = w.err // the reason for whatever is missing
		}
		if err != nil {
			dst = dst[:n]
			end := w.recover(start)
			m.partial.add(i, w.b[start:end], err)
			if end == len(w.b) {
				return dst, &m.partial
			}
		}
		after = w.i
		more = w.element()
	}
	if w.err == nil {
		after = w.i
	}
	if err := w.end(); err != nil {
		m.partial.add(i+1, w.b[after:], err)
	}
	if m.partial.Count > 0 {
		return dst, &m.partial
	}
	return dst, nil
}

// grow appends an empty event to dst.
func grow(dst []event.Event) ([]event.Event, *event.Event) {
	if n := len(dst); n < cap(dst) {
		dst = dst[:n+1]
		dst[n] = event.Event{}
	} else {
		dst = append(dst, event.Event{})
	}
	e := &dst[len(dst)-1]
	e.Delay = -1
	return dst, e
}

// time reads a timestamp as RFC 3339 says, or a number of seconds since 1970 with
// or without a fraction. Milliseconds are told by their size.
func (m *members) time(b []byte) (micros int64, err error) {
	const (
		thousandYears = 1e9 * 32 // seconds
		centuries     = 1e11     // of seconds, or years of milliseconds
	)
	if len(b) == 0 {
		return 0, errNoTime
	}
	if len(b) > 18 && b[4] == '-' {
		micros, n, err := m.rfc3339(b)
		if err != nil || n != len(b) || micros <= 0 {
			return 0, errTime
		}
		return micros, nil
	}
	n, ok := decimal(b, 6)
	switch {
	case !ok || n <= 0:
		return 0, errTime
	case n < thousandYears*1e6:
		return n, nil
	case n > centuries*1e6:
		return n / 1000, nil
	}
	return 0, errTime
}

// moment is time for formats that also write a date and a time with a space
// between, with a zone behind (01:10:51+0200, 01:10:51 Z) or without, which is then
// that of the source.
func (m *members) moment(b []byte) (micros int64, err error) {
	if len(b) < len("2026-01-12 04:01") || b[4] != '-' || b[10] != ' ' {
		return m.time(b)
	}
	_, n := fraction(b, min(len(time.DateTime), len(b)))
	zone := bytes.TrimLeft(b[n:], " ")
	if len(zone) == 0 {
		if micros, n, err = m.wall(b); err != nil || n != len(b) || micros <= 0 {
			return 0, errTime
		}
		return micros, nil
	}
	var iso [48]byte
	if n+len(zone) > len(iso) {
		return 0, errTime
	}
	copy(iso[copy(iso[:], b[:n]):], zone)
	iso[10] = 'T'
	return m.time(iso[:n+len(zone)])
}

// join appends texts to the arena, one after the other.
func (m *members) join(texts ...[]byte) []byte {
	start := len(m.arena.b)
	for _, t := range texts {
		m.arena.b = append(m.arena.b, t...)
	}
	return m.arena.since(start)
}

// reply sets the reply from a record that has its parts apart: the codes, either
// of which may be absent, and the text after them.
func (m *members) reply(r *event.Reply, code uint16, enhanced event.Enhanced, text []byte) {
	r.Code, r.Enhanced = code, enhanced
	if code == 0 && enhanced.IsZero() {
		r.Text = text
		return
	}
	start := len(m.arena.b)
	b := m.arena.b
	if code != 0 {
		b = strconv.AppendUint(b, uint64(code), 10)
		b = append(b, ' ')
	}
	if _, n := event.ParseEnhanced(text); n == 0 && !enhanced.IsZero() {
		b = enhanced.Append(b)
		b = append(b, ' ')
	}
	if len(text) == 0 {
		b = b[:len(b)-1] // the space
	}
	m.arena.b = append(b, text...)
	r.Text = m.arena.since(start)
}

// setSender notes the envelope sender. The null sender is empty or "<>".
func setSender(e *event.Event, address []byte) {
	e.Sender, e.SenderKnown = mailbox(address), true
	e.SenderDomain = event.Domain(e.Sender)
}

// mailbox returns the address in "<address>" or "Name <address>".
func mailbox(b []byte) []byte {
	n := len(b)
	if n == 0 || b[n-1] != '>' {
		return b
	}
	if i := bytes.LastIndexByte(b, '<'); i >= 0 {
		return b[i+1 : n-1 : n-1]
	}
	return b
}

// fold reports whether b is the lower-case ASCII text, in whatever case.
func fold(b []byte, text string) bool {
	if len(b) != len(text) {
		return false
	}
	for i := range b {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != text[i] {
			return false
		}
	}
	return true
}

// commands are how SMTP commands start.
var commands = [...]stageText{
	{"mail", event.StageMail},
	{"rcpt", event.StageRcpt},
	{"data", event.StageData},
	{"bdat", event.StageEnd},
	{"ehlo", event.StageHelo},
	{"helo", event.StageHelo},
	{"lhlo", event.StageHelo},
	{"star", event.StageTLS},
	{"auth", event.StageAuth},
	{"quit", event.StageQuit},
}

// commandStage returns which command it is that a record quotes.
func commandStage(b []byte) event.Stage {
	if len(b) > 0 && b[0] == '.' {
		return event.StageEnd
	}
	if len(b) >= 4 {
		for _, c := range commands {
			if fold(b[:4], c.text) {
				return c.stage
			}
		}
	}
	return event.StageUnknown
}

// host returns a host name without the dot that makes it absolute.
func host(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '.' {
		return b[:n-1]
	}
	return b
}

// withoutPort returns the address of "address:port" or "[address]:port".
func withoutPort(b []byte) []byte {
	if len(b) > 0 && b[0] == '[' {
		address, _ := cut(b[1:], ']')
		return address
	}
	if first := bytes.IndexByte(b, ':'); first >= 0 && first == bytes.LastIndexByte(b, ':') {
		return b[:first]
	}
	return b
}

// delay returns the microseconds from start to end, or -1 if they are not known.
func delay(start, end int64) int64 {
	if start <= 0 || end < start {
		return -1
	}
	return end - start
}
