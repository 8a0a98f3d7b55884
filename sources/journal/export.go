package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strconv"
)

// errExport is output of journalctl that is no Journal Export Format.
var errExport = errors.New("journalctl wrote what is not its export format; is it systemd's, version 236 or later?")

// maxField is the longest field that journald has (DATA_SIZE_MAX), far more than
// anything that matters here.
const maxField = 768 << 20

// The fields that are read; see systemd.journal-fields(7).
const (
	fieldCursor = iota
	fieldRealtime
	fieldSequence
	fieldSequenceID
	fieldMessage
	fieldIdentifier
	fieldCommand
	fieldPID
	fieldSyslogPID
	fieldHost
	fieldMessageID
	fieldTransport
	fieldDropped
	fieldObjectUnit
	fields
)

var fieldNames = [fields]string{
	"__CURSOR", "__REALTIME_TIMESTAMP", "__SEQNUM", "__SEQNUM_ID",
	"MESSAGE", "SYSLOG_IDENTIFIER", "_COMM", "_PID", "SYSLOG_PID", "_HOSTNAME",
	"MESSAGE_ID", "_TRANSPORT", "N_DROPPED", "OBJECT_SYSTEMD_UNIT",
}

// entry is one entry of the journal. A field that it does not have is empty.
type entry struct {
	fields [fields][]byte
	has    [fields]bool
	// truncated says that the message was longer than is kept.
	truncated bool
}

func (e *entry) reset() {
	for i := range e.fields {
		e.fields[i] = e.fields[i][:0]
	}
	e.has, e.truncated = [fields]bool{}, false
}

// realtime is when journald took the entry, in microseconds since the Unix epoch.
func (e *entry) realtime() (micros int64, ok bool) {
	micros, err := strconv.ParseInt(string(e.fields[fieldRealtime]), 10, 64)
	return micros, err == nil && micros >= 0
}

// sequence is the entry's number, and what it is unique in. Systemd tells it
// since version 254; before, it is part of the cursor.
func (e *entry) sequence() (id []byte, number int64, ok bool) {
	if e.has[fieldSequence] && e.has[fieldSequenceID] {
		n, err := strconv.ParseInt(string(e.fields[fieldSequence]), 10, 64)
		return e.fields[fieldSequenceID], n, err == nil && n >= 0
	}
	return cursorSequence(e.fields[fieldCursor])
}

// cursorSequence reads a cursor such as "s=ID;i=HEX;…".
func cursorSequence(cursor []byte) (id []byte, number int64, ok bool) {
	first, rest, _ := bytes.Cut(cursor, []byte(";"))
	second, _, _ := bytes.Cut(rest, []byte(";"))
	id, ok = bytes.CutPrefix(first, []byte("s="))
	digits, ok2 := bytes.CutPrefix(second, []byte("i="))
	number, err := strconv.ParseInt(string(digits), 16, 64)
	return id, number, ok && ok2 && err == nil && len(id) > 0 && number >= 0
}

// decoder reads the Journal Export Format: a field is "NAME=value" and a line
// feed or, if the value is not plain text, NAME, a line feed, the value's length
// in eight bytes, little endian, the value and a line feed. An empty line ends an
// entry.
//
// It keeps no bytes: what it has not used has to come again, with more after it.
type decoder struct {
	max   int // how much of a field is kept
	entry entry

	begun bool  // the entry has fields
	skip  int64 // bytes of a value that are too many
	toEnd bool  // so is the rest of the line
}

// room is how large a buffer has to be for next to always get on.
func (d *decoder) room() int { return d.max + 128 }

// next reads the entry that begins in data, or goes on there, up to its end, and
// returns how many bytes are used. If it is done, the entry is valid until the
// next call.
func (d *decoder) next(data []byte) (used int, done bool, err error) {
	for {
		rest := data[used:]
		if d.skip > 0 {
			n := min(d.skip, int64(len(rest)))
			d.skip -= n
			used += int(n)
			if d.skip > 0 {
				return used, false, nil
			}
			continue
		}
		n := bytes.IndexByte(rest, '\n')
		switch {
		case d.toEnd && n < 0:
			return len(data), false, nil
		case d.toEnd:
			d.toEnd = false
			used += n + 1
			continue
		case n < 0 && len(rest) < d.room():
			return used, false, nil
		case !d.begun && bytes.HasPrefix(rest, []byte("-- ")): // old versions tell of reboots
			d.toEnd = true
			continue
		}
		line := rest
		if n >= 0 {
			line = rest[:n]
		}
		switch name, value, ok := bytes.Cut(line, []byte("=")); {
		case len(line) == 0:
			used++
			if d.begun {
				d.begun = false
				return used, true, nil
			}
		case !isName(name), n < 0 && !ok:
			return used, false, errExport
		case ok:
			d.set(name, value)
			used += len(line)
			d.toEnd = true
		default:
			n, enough, err := d.binary(name, rest[n+1:])
			if err != nil || !enough {
				return used, false, err
			}
			used += len(line) + 1 + n
		}
	}
}

// binary reads a field after the line with its name. It returns how many bytes
// are used, and whether there were enough.
func (d *decoder) binary(name, data []byte) (used int, enough bool, err error) {
	const head = 8
	if len(data) < head {
		return 0, false, nil
	}
	size, value := binary.LittleEndian.Uint64(data), data[head:]
	if size > maxField {
		return 0, false, errExport
	}
	keep := 0
	if fieldByName(name) >= 0 {
		keep = int(min(size, uint64(d.max)+1)) // one more, to see that it is too long
	}
	if len(value) < keep {
		return 0, false, nil
	}
	d.set(name, value[:keep])
	d.skip = int64(size) - int64(keep) + 1 // with the line feed
	return head + keep, true, nil
}

// set notes the value of a field. Of several values it is the first.
func (d *decoder) set(name, value []byte) {
	if !d.begun {
		d.entry.reset()
		d.begun = true
	}
	i := fieldByName(name)
	if i < 0 || d.entry.has[i] {
		return
	}
	if len(value) > d.max {
		value = value[:d.max]
		d.entry.truncated = d.entry.truncated || i == fieldMessage
	}
	d.entry.has[i], d.entry.fields[i] = true, append(d.entry.fields[i], value...)
}

func fieldByName(name []byte) int {
	for i, n := range fieldNames {
		if string(name) == n {
			return i
		}
	}
	return -1
}

// isName reports whether journald takes name for that of a field.
func isName(name []byte) bool {
	for _, c := range name {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return len(name) > 0 && len(name) <= 64
}
