package dialect

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"
)

var (
	errWall = fmt.Errorf("%w: no timestamp such as 2026-01-12 04:01:07 at its start", ErrMalformed)
	errTAI  = fmt.Errorf("%w: no TAI64N timestamp after the @", ErrMalformed)
	// errStamp is for formats that may stand behind syslog or alone.
	errStamp = fmt.Errorf("%w: no timestamp at its start; let syslog, the journal or the MTA write one", ErrMalformed)
)

// stamps reads the timestamps of MTAs that write their own log files, besides
// those of syslog.
type stamps struct {
	syslog

	// The last minute, and what it is in Unix seconds where the clock shows the
	// time of the location, and where it shows UTC.
	wallDate  uint64 // "2026-01-"
	wallClock uint64 // "12 04:01"
	wallLocal int64
	wallUTC   int64
}

// Reference implements Parser. In the hour that the end of summer time repeats,
// a timestamp without a zone is the time closest to t.
func (s *stamps) Reference(t time.Time) {
	if !t.Equal(s.reference) {
		s.wallDate, s.wallClock = 0, 0
	}
	s.syslog.Reference(t)
}

// isWall reports whether b starts with a date and a space.
func isWall(b []byte) bool {
	return len(b) >= len(time.DateTime) && b[4] == '-' && b[7] == '-' && b[10] == ' ' && isDigit(b[0])
}

// wall reads a timestamp such as "2026-01-12 04:01:07", "2026-01-12
// 04:01:07.123" or "2026-01-12 04:01:07 +0100" and returns it with its length.
func (s *stamps) wall(b []byte) (micros int64, n int, err error) {
	if !isWall(b) || b[16] != ':' || !areDigits(b[17:19]) {
		return 0, 0, errWall
	}
	date, clock := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	if date != s.wallDate || clock != s.wallClock {
		if !areDigits(b[0:4]) || !areDigits(b[5:7]) || !areDigits(b[8:10]) || !areDigits(b[11:13]) || b[13] != ':' || !areDigits(b[14:16]) {
			return 0, 0, errWall
		}
		year, month, day := int(twoDigits(b)*100+twoDigits(b[2:])), time.Month(twoDigits(b[5:])), int(twoDigits(b[8:]))
		hour, minute := int(twoDigits(b[11:])), int(twoDigits(b[14:]))
		t := time.Date(year, month, day, hour, minute, 0, 0, time.UTC)
		if t.Month() != month || t.Day() != day || hour > 23 || minute > 59 {
			return 0, 0, errWall
		}
		s.wallDate, s.wallClock = date, clock
		s.wallUTC, s.wallLocal = t.Unix(), s.local(t, s.reference.Unix())
	}
	second := twoDigits(b[17:])
	if second > 60 {
		return 0, 0, errWall
	}
	micros, n = fraction(b, len(time.DateTime))
	if zone := b[n:]; len(zone) >= 6 && zone[0] == ' ' && (zone[1] == '+' || zone[1] == '-') && areDigits(zone[2:6]) {
		offset := (twoDigits(zone[2:])*60 + twoDigits(zone[4:])) * 60
		if zone[1] == '-' {
			offset = -offset
		}
		return micros + (s.wallUTC+second-offset)*1e6, n + 6, nil
	}
	return micros + (s.wallLocal+second)*1e6, n, nil
}

// tai64n reads "@" and 24 hexadecimal digits, as multilog and s6-log write
// them: seconds and nanoseconds. They add 10 seconds to the time of the system,
// and no leap second, so that is what is taken off.
func tai64n(b []byte) (micros int64, n int, err error) {
	const (
		length = 1 + 16 + 8
		epoch  = 1<<62 + 10
	)
	if len(b) < length || b[0] != '@' {
		return 0, 0, errTAI
	}
	var v [2]uint64
	for i, c := range b[1:length] {
		switch {
		case isDigit(c):
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, 0, errTAI
		}
		v[i/16] = v[i/16]<<4 | uint64(c)
	}
	if v[0] < epoch || v[0] > epoch+1<<40 || v[1] > 999_999_999 {
		return 0, 0, errTAI
	}
	return int64(v[0]-epoch)*1e6 + int64(v[1]/1000), length, nil
}

// unitDuration reads a duration such as "1d2h3m4s", "1m" or "0.025s" and returns
// it in microseconds, or -1 if it is none.
func unitDuration(b []byte) int64 {
	total := int64(0)
	for i := 0; i < len(b); {
		start, value := i, int64(0)
		for i < len(b) && i < start+9 && isDigit(b[i]) {
			value = value*10 + int64(b[i]-'0')
			i++
		}
		if i == start {
			return -1
		}
		micros, end := fraction(b, i)
		if end == len(b) {
			return -1
		}
		var unit int64 // seconds
		switch b[end] {
		case 's':
			unit = 1
		case 'm':
			unit = 60
		case 'h':
			unit = 60 * 60
		case 'd':
			unit = 24 * 60 * 60
		case 'w':
			unit = 7 * 24 * 60 * 60
		default:
			return -1
		}
		total += value*unit*1e6 + micros*unit
		i = end + 1
	}
	if len(b) == 0 || total < 0 || total > 100*365*24*60*60*1e6 {
		return -1
	}
	return total
}

// token splits text at the first space that is not inside of quotes after an "=",
// as in DN="CN=mx, O=x".
func token(text []byte) (word, rest []byte) {
	for i, c := range text {
		if c == ' ' {
			return text[:i], text[i+1:]
		}
		if c == '"' && i > 0 && text[i-1] == '=' {
			end := closingQuote(text, i)
			if end < 0 {
				break // the record was cut
			}
			word, rest = cut(text[end+1:], ' ')
			return text[:end+1+len(word)], rest
		}
	}
	return text, nil
}

// closingQuote returns the index of the quote that ends the string which starts
// with a quote at text[i], where \" is none; -1 without any.
func closingQuote(text []byte, i int) int {
	for from := i + 1; ; {
		n := bytes.IndexByte(text[from:], '"')
		if n < 0 {
			return -1
		}
		end, escapes := from+n, 0
		for end-escapes > i+1 && text[end-escapes-1] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return end
		}
		from = end + 1
	}
}

// isHex reports whether b is all hexadecimal digits, of which there are some.
func isHex(b []byte) bool {
	for _, c := range b {
		if !isDigit(c) && (c|0x20 < 'a' || c|0x20 > 'f') {
			return false
		}
	}
	return len(b) > 0
}

// stamped reads the time, and where syslog wrote it the host, in front of a
// record that starts as native says. A record without any stamp is malformed:
// when it happened is not known.
func (s *stamps) stamped(line []byte, native func([]byte) bool) (micros int64, host, body []byte, err error) {
	if native(line) {
		return 0, nil, nil, errStamp
	}
	if len(line) > 20 && line[10] == 'T' && isDigit(line[0]) {
		micros, n, err := s.rfc3339(line)
		if err == nil && n < len(line) && line[n] == ' ' && native(line[n+1:]) {
			return micros, nil, line[n+1:], nil
		}
	}
	var h syslogHeader
	if err := s.header(line, &h); err != nil {
		return 0, nil, nil, err
	}
	return h.time, h.host, h.body, nil
}
