package dialect

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"
)

// Why a line has no readable syslog header.
var (
	errTimestamp = fmt.Errorf("%w: no RFC 3164 or RFC 3339 timestamp at its start", ErrMalformed)
	errZone      = fmt.Errorf("%w: the timestamp has no time zone", ErrMalformed)
	errYear      = fmt.Errorf("%w: no year at most a day after the time of reading has the timestamp's date", ErrMalformed)
	errHost      = fmt.Errorf("%w: no host name after the timestamp", ErrMalformed)
)

// syslogHeader is what stands in front of the message in a log file. Its slices
// alias the line.
type syslogHeader struct {
	time int64  // microseconds since the Unix epoch
	text []byte // from the host on; nil with a header of RFC 5424
	host []byte
	// tag is the program with its process id, as far as it is known without a
	// close look: what is before the first colon, if a space follows it. It is
	// empty if there is none, as in "last message repeated 3 times"; body is
	// then empty too.
	tag  []byte
	body []byte // the message, after "program[pid]: "
}

// syslog reads the header of a line in the forms that log files have: an
// optional "<PRI>", an RFC 3164 timestamp (15 bytes, English month, no year, no
// zone; a fraction may follow, as in journalctl -o short-precise) or an RFC 3339
// one, the host, and the program with or without process id; or the header of
// RFC 5424 after its "<PRI>". It is embedded by every dialect that is written
// through syslog.
type syslog struct {
	location  *time.Location // of RFC 3164 timestamps
	reference time.Time

	// The last minute of each form and what it is in Unix seconds: consecutive
	// lines rarely differ in more than the second.
	bsdDate  uint64 // "Jan 12 0"
	bsdClock uint32 // "4:01"
	bsdUnix  int64
	// The last second, likewise: most lines share it with the line before.
	bsdSecond uint64 // "4:01:07 "
	bsdMicros int64
	isoDate   uint64 // "2026-01-"
	isoClock  uint64 // "12T04:01"
	isoUnix   int64
}

// Reference implements Parser. RFC 3164 timestamps take their year from it and
// are malformed without it.
func (s *syslog) Reference(t time.Time) {
	if !t.Equal(s.reference) {
		s.reference, s.bsdDate, s.bsdClock, s.bsdSecond = t, 0, 0, 0
	}
}

// header reads the header of line into h.
func (s *syslog) header(line []byte, h *syslogHeader) error {
	if len(line) > 0 && line[0] == '<' {
		line = line[priority(line):]
		if fields, ok := rfc5424(line); ok {
			return s.header5424(&fields, h)
		}
	}
	if len(line) < 17 {
		return errTimestamp
	}
	micros, n := s.bsdMicros, len(time.Stamp)
	if !s.sameSecond(line) {
		var err error
		if micros, n, err = s.stamp(line); err != nil {
			return err
		}
	}
	h.time = micros
	rest := line[n:]
	if len(rest) < 2 || rest[0] != ' ' {
		return errTimestamp
	}
	rest = rest[1:]
	h.text = rest
	if n = indexSpace(rest); n <= 0 {
		return errHost
	}
	h.host, rest = rest[:n], rest[n+1:]
	// The tag has no colon, so its end is the first. Whether it is a tag is
	// checked by program, for the few lines that matter.
	if n = bytes.IndexByte(rest, ':'); n >= 0 && n+1 < len(rest) && rest[n+1] == ' ' {
		h.tag, h.body = rest[:n], rest[n+2:]
	}
	return nil
}

// sameSecond reports whether line, which has at least 16 bytes, begins with the
// timestamp that the last one without a fraction had.
func (s *syslog) sameSecond(line []byte) bool {
	return binary.LittleEndian.Uint64(line) == s.bsdDate && binary.LittleEndian.Uint64(line[8:]) == s.bsdSecond
}

// stamp reads the timestamp at the start of line, which has at least 17 bytes,
// and returns it with its length.
func (s *syslog) stamp(line []byte) (micros int64, n int, err error) {
	date, second := binary.LittleEndian.Uint64(line), binary.LittleEndian.Uint64(line[8:])
	if isDigit(line[0]) {
		return s.rfc3339(line)
	}
	if line[12] != ':' || !isDigit(line[13]) || !isDigit(line[14]) {
		return 0, 0, errTimestamp
	}
	if clock := uint32(second); date != s.bsdDate || clock != s.bsdClock {
		unix, err := s.rfc3164(line)
		if err != nil {
			return 0, 0, err
		}
		s.bsdDate, s.bsdClock, s.bsdUnix, s.bsdSecond = date, clock, unix, 0
	}
	number := twoDigits(line[13:])
	if number > 60 {
		return 0, 0, errTimestamp
	}
	micros, n = fraction(line, len(time.Stamp))
	micros += (s.bsdUnix + number) * 1e6
	if n == len(time.Stamp) && line[n] == ' ' {
		s.bsdSecond, s.bsdMicros = second, micros
	}
	return micros, n, nil
}

// syslog5424 is a line with a header of RFC 5424, which some have rsyslog or
// syslog-ng write into files. What the line leaves out is nil.
type syslog5424 struct{ stamp, host, program, text []byte }

// rfc5424 splits "1 TIME HOST PROGRAM PROCID MSGID DATA TEXT" (RFC 5424 section
// 6), which follows "<PRI>".
func rfc5424(b []byte) (f syslog5424, ok bool) {
	if !hasPrefix(b, "1 ") {
		return f, false
	}
	b = b[2:]
	var procID, msgID []byte
	for _, field := range [...]*[]byte{&f.stamp, &f.host, &f.program, &procID, &msgID} {
		if *field, b = cut(b, ' '); len(*field) == 0 || b == nil {
			return f, false
		}
		if string(*field) == "-" {
			*field = nil
		}
	}
	n := structuredData(b)
	if n == 0 {
		return f, false
	}
	// A space may be left that RFC 3164 has after the colon.
	f.text = bytes.TrimLeft(bytes.TrimPrefix(bytes.TrimLeft(b[n:], " "), []byte("\xef\xbb\xbf")), " ")
	return f, true
}

// structuredData returns the length of the structured data at the start of b
// (RFC 5424 section 6.3), "-" or elements in brackets whose values are quoted; 0
// if there is none.
func structuredData(b []byte) int {
	if len(b) > 0 && b[0] == '-' {
		return 1
	}
	n := 0
	for n < len(b) && b[n] == '[' {
		for n++; n < len(b) && b[n] != ']'; n++ {
			if b[n] == '"' {
				if n = closingQuote(b, n); n < 0 {
					return 0
				}
			}
		}
		n++
	}
	if n > len(b) || n < len(b) && b[n] != ' ' {
		return 0
	}
	return n
}

// header5424 is header for a line that rfc5424 has split.
func (s *syslog) header5424(f *syslog5424, h *syslogHeader) error {
	micros, n, err := s.rfc3339(f.stamp)
	if err != nil {
		return err
	}
	if n != len(f.stamp) {
		return errTimestamp
	}
	h.time, h.host, h.tag, h.body = micros, f.host, f.program, f.text
	return nil
}

// indexSpace is bytes.IndexByte for a space that is near, such as that after a
// host name: it looks at eight bytes at once and makes no call.
func indexSpace(b []byte) int {
	for i := 0; i+8 <= len(b) && i < 16; i += 8 {
		if found := equal(binary.LittleEndian.Uint64(b[i:]), ' '); found != 0 {
			return i + firstByte(found)
		}
	}
	return bytes.IndexByte(b, ' ')
}

// program splits the name in a tag, "instance/daemon[pid]" or without process
// id, at its first slash. It returns -1 if there is no slash, or no tag.
func program(tag []byte) (name []byte, slash int) {
	slash = -1
	for i, c := range tag {
		if c > '[' {
			continue // most letters
		}
		switch c {
		case ' ':
			return nil, -1
		case '/':
			if slash < 0 {
				slash = i
			}
		case '[':
			last := len(tag) - 1
			if tag[last] != ']' || !areDigits(tag[i+1:last]) {
				return nil, -1
			}
			return tag[:i], slash
		}
	}
	return tag, slash
}

// priority returns the length of "<PRI>" at the start of line (RFC 3164 section
// 4.1.1), or 0.
func priority(line []byte) int {
	for i := 1; i < len(line) && i <= 4; i++ {
		if line[i] == '>' && i > 1 {
			return i + 1
		}
		if !isDigit(line[i]) {
			break
		}
	}
	return 0
}

// rfc3164 returns the start of the minute in a timestamp such as
// "Jan  2 15:04:05", of which the caller has checked the seconds.
//
// The year is the latest that puts it not more than a day after the reference.
// In the hour that the end of summer time repeats, it is the time closest to the
// reference. So what a line means does not depend on the lines before it.
func (s *syslog) rfc3164(b []byte) (unix int64, err error) {
	month := monthByName(b)
	if month == 0 || b[3] != ' ' || b[6] != ' ' || b[9] != ':' ||
		b[4] != ' ' && !isDigit(b[4]) || !isDigit(b[5]) || !areDigits(b[7:9]) || !areDigits(b[10:12]) {
		return 0, errTimestamp
	}
	day := int64(b[5] - '0')
	if b[4] != ' ' {
		day = twoDigits(b[4:])
	}
	hour, minute := twoDigits(b[7:]), twoDigits(b[10:])
	if hour > 23 || minute > 59 {
		return 0, errTimestamp
	}
	if s.reference.IsZero() {
		return 0, errYear
	}
	reference := s.reference.Unix()
	const years = 9 // there may be eight from one 29 February to the next
	for year, i := s.reference.In(s.location).Year()+1, 0; i < years; year, i = year-1, i+1 {
		wall := time.Date(year, month, int(day), int(hour), int(minute), 0, 0, time.UTC)
		if wall.Month() != month || wall.Day() != int(day) {
			continue // 29 February of a common year, 31 April
		}
		unix := s.local(wall, reference)
		if unix <= reference+24*60*60 {
			return unix, nil
		}
	}
	return 0, errYear
}

// local returns when the clocks of the location show what wall shows in UTC,
// and if they do so twice, the time closest to reference. If they skip that
// time, it is what the clocks before the change would have shown.
func (s *syslog) local(wall time.Time, reference int64) int64 {
	found, best := false, int64(0)
	for _, days := range [...]int{-1, 1} { // before and after a change of the clocks
		_, offset := wall.AddDate(0, 0, days).In(s.location).Zone()
		unix := wall.Unix() - int64(offset)
		if _, o := time.Unix(unix, 0).In(s.location).Zone(); o != offset {
			continue
		}
		if !found || abs(unix-reference) < abs(best-reference) {
			found, best = true, unix
		}
	}
	if !found {
		_, offset := wall.AddDate(0, 0, -1).In(s.location).Zone()
		best = wall.Unix() - int64(offset)
	}
	return best
}

// rfc3339 reads a timestamp such as "2026-01-12T04:01:07.123456+01:00" and
// returns it with its length. The zone may lack its colon, as journalctl's does.
func (s *syslog) rfc3339(b []byte) (micros int64, n int, err error) {
	if len(b) < 20 || b[16] != ':' || !areDigits(b[17:19]) {
		return 0, 0, errTimestamp
	}
	date, clock := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	if date != s.isoDate || clock != s.isoClock {
		if !areDigits(b[0:4]) || b[4] != '-' || !areDigits(b[5:7]) || b[7] != '-' || !areDigits(b[8:10]) ||
			b[10] != 'T' || !areDigits(b[11:13]) || b[13] != ':' || !areDigits(b[14:16]) {
			return 0, 0, errTimestamp
		}
		year, month, day := int(twoDigits(b)*100+twoDigits(b[2:])), time.Month(twoDigits(b[5:])), int(twoDigits(b[8:]))
		hour, minute := twoDigits(b[11:]), twoDigits(b[14:])
		t := time.Date(year, month, day, int(hour), int(minute), 0, 0, time.UTC)
		if t.Month() != month || t.Day() != day || hour > 23 || minute > 59 {
			return 0, 0, errTimestamp
		}
		s.isoDate, s.isoClock, s.isoUnix = date, clock, t.Unix()
	}
	second := twoDigits(b[17:])
	if second > 60 {
		return 0, 0, errTimestamp
	}
	micros, n = fraction(b, 19)
	micros += (s.isoUnix + second) * 1e6
	if n < len(b) && b[n] == 'Z' {
		return micros, n + 1, nil
	}
	if n+5 > len(b) || b[n] != '+' && b[n] != '-' || !areDigits(b[n+1:n+3]) {
		return 0, 0, errZone
	}
	minutes := b[n+3:]
	length := 5
	if minutes[0] == ':' {
		minutes, length = minutes[1:], 6
	}
	if len(minutes) < 2 || !areDigits(minutes[:2]) {
		return 0, 0, errZone
	}
	offset := (twoDigits(b[n+1:])*60 + twoDigits(minutes)) * 60
	if b[n] == '-' {
		offset = -offset
	}
	return micros - offset*1e6, n + length, nil
}

// fraction reads the fraction of a second at b[n:], if there is one, and returns
// it in microseconds, cut, with the index after it.
func fraction(b []byte, n int) (micros int64, end int) {
	if n < len(b) && b[n] == '.' {
		n++
		for unit := int64(1e5); n < len(b) && isDigit(b[n]); unit /= 10 {
			micros += int64(b[n]-'0') * unit
			n++
		}
	}
	return micros, n
}

const monthNames = "JanFebMarAprMayJunJulAugSepOctNovDec"

// monthByName returns the month whose English abbreviation b starts with, or 0.
func monthByName(b []byte) time.Month {
	for i := 0; i < len(monthNames); i += 3 {
		if b[0] == monthNames[i] && b[1] == monthNames[i+1] && b[2] == monthNames[i+2] {
			return time.Month(i/3 + 1)
		}
	}
	return 0
}

func isDigit(c byte) bool { return c-'0' < 10 }

func areDigits(b []byte) bool {
	for _, c := range b {
		if !isDigit(c) {
			return false
		}
	}
	return true
}

// twoDigits returns the number that the first two bytes of b write.
func twoDigits(b []byte) int64 { return int64(b[0]-'0')*10 + int64(b[1]-'0') }

func abs(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}
