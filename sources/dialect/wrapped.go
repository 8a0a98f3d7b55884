package dialect

import (
	"bytes"
	"fmt"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

// What carries the lines of a log when it is neither a file nor syslog: the
// journal of systemd as journalctl -o json prints it, and the logs that container
// runtimes keep of what a program writes. Only auto looks into these.

var (
	errWrapped = fmt.Errorf("%w: not a line of a container's log", ErrMalformed)
	errNested  = fmt.Errorf("%w: a line of a container's log or of a journal inside of another", ErrMalformed)
)

// wrapped takes lines out of their envelopes and has auto parse what is inside.
type wrapped struct {
	auto  *auto
	open  func(w *wrapped, line []byte) (inner []byte, err error)
	arena arena
	walk  walker
}

// Parse implements Parser.
func (w *wrapped) Parse(line []byte, dst []event.Event) ([]event.Event, error) {
	w.arena.ready()
	inner, err := w.open(w, line)
	if err != nil || len(inner) == 0 {
		return dst, err
	}
	s := recognise(inner)
	if _, ok := w.auto.parsers[s].(*wrapped); ok {
		return dst, errNested
	}
	return w.auto.parse(s, inner, dst)
}

// Reference implements Parser; the parsers of what is inside have their own.
func (w *wrapped) Reference(time.Time) {}

// Container runtimes write, each line being one that the program wrote:
//
//	{"log":"LINE\n","stream":"stdout","time":"2026-01-12T04:01:07.5Z"}
//	2026-01-12T04:01:07.5Z stdout F LINE
//
// The first is Docker's json-file, the second that of the Container Runtime
// Interface, which Kubernetes has in /var/log/containers.

// openDocker takes the line out of an object of Docker's.
func openDocker(w *wrapped, line []byte) ([]byte, error) {
	var text, stamp []byte
	j := &w.walk
	j.start(line, &w.arena)
	for more := j.object(); more; more = j.member() {
		switch string(j.key) {
		case "log":
			text = j.text()
		case "time":
			stamp = j.text()
		default:
			j.skip()
		}
	}
	if err := j.end(); err != nil {
		return nil, err
	}
	return w.dated(stamp, text), nil
}

// openCRI takes the line out of one of the Container Runtime Interface. The
// beginning of a line that was cut ("P") is all that there is.
func openCRI(w *wrapped, line []byte) ([]byte, error) {
	n := criHeader(line)
	if n == 0 {
		return nil, errWrapped
	}
	stamp, _ := cut(line, ' ')
	return w.dated(stamp, line[n:]), nil
}

// criHeader returns the length of "TIME stdout F " at the start of line, or 0.
func criHeader(line []byte) int {
	n := bytes.IndexByte(line[:min(len(line), 40)], ' ')
	if n < len("2026-01-12T04:01:07Z") || line[10] != 'T' || !isDigit(line[0]) {
		return 0
	}
	rest := line[n+1:]
	if (hasPrefix(rest, "stdout ") || hasPrefix(rest, "stderr ")) && len(rest) > 9 && (rest[7] == 'F' || rest[7] == 'P') && rest[8] == ' ' {
		return n + 1 + len("stdout F ")
	}
	return 0
}

// dated puts the time of the envelope in front of text if that has none.
func (w *wrapped) dated(stamp, text []byte) []byte {
	text = bytes.TrimRight(text, "\r\n")
	switch recognise(text).name() {
	case "haraka", "zonemta":
		if isHaraka(text) || isZonemta(text) {
			return w.join(stamp, space, text)
		}
	case "":
		return nil // what else the container says
	}
	return text
}

func (w *wrapped) join(parts ...[]byte) []byte {
	start := len(w.arena.b)
	for _, p := range parts {
		w.arena.b = append(w.arena.b, p...)
	}
	return w.arena.since(start)
}

// openJournal makes of an entry the line that syslog would have made of it; see
// systemd.journal-fields(7).
func openJournal(w *wrapped, line []byte) ([]byte, error) {
	var micros int64
	var host, identifier, command, pid, syslogPID, message []byte
	j := &w.walk
	j.start(line, &w.arena)
	for more := j.object(); more; more = j.member() {
		switch string(j.key) {
		case "__REALTIME_TIMESTAMP":
			micros, _ = j.number(0)
		case "_HOSTNAME":
			host = j.first()
		case "SYSLOG_IDENTIFIER":
			identifier = j.first()
		case "_COMM":
			command = j.first()
		case "_PID":
			pid = j.first()
		case "SYSLOG_PID":
			syslogPID = j.first()
		case "MESSAGE":
			message = j.octets()
		default:
			j.skip()
		}
	}
	if err := j.end(); err != nil {
		return nil, err
	}
	if micros <= 0 {
		return nil, errNoTime
	}
	if message = bytes.TrimRight(message, "\r\n"); len(message) == 0 {
		return nil, nil // journalctl leaves out long ones without --all
	}
	if identifier == nil {
		identifier = command
	}
	if syslogPID != nil {
		pid = syslogPID
	}
	start := len(w.arena.b)
	b := time.UnixMicro(micros).UTC().AppendFormat(w.arena.b, "2006-01-02T15:04:05.000000Z")
	b = append(b, ' ')
	if len(host) == 0 {
		host = []byte{'-'}
	}
	b = append(b, host...)
	b = append(b, ' ')
	b = append(b, identifier...)
	if len(pid) > 0 {
		b = append(b, '[')
		b = append(b, pid...)
		b = append(b, ']')
	}
	b = append(b, ": "...)
	w.arena.b = append(b, message...)
	return w.arena.since(start), nil
}

// octets takes a string, or an array of the numbers of its bytes, which
// journalctl writes for what is no UTF-8.
func (w *walker) octets() []byte {
	if w.peek() != '[' {
		return w.maybe()
	}
	start := len(w.arena.b)
	for more := w.array(); more; more = w.element() {
		c, _ := w.number(0)
		w.arena.b = append(w.arena.b, byte(c))
	}
	return w.arena.since(start)
}
