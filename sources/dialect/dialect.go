// Package dialect turns raw records into events: one file and one
// testdata/NAME.txtar per MTA or provider format. Parsers are pure: no clock,
// no file, no context, and nothing is remembered from line to line that could
// change an event, so lines may be parsed in any pieces and by any number of
// workers. What belongs together over several lines (the sender of a queue id)
// is joined by package correlate.
package dialect

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

// ErrMalformed is wrapped by the error for a line that should be a record of
// this dialect but cannot be read. Such lines are counted and kept, never
// logged one by one.
var ErrMalformed = errors.New("malformed record")

// PartialError is the error of Parse for a line that is an array of records some
// of which cannot be read; the events of the others have been appended. It is valid
// until the next call of Parse.
type PartialError struct {
	// Faults are the records that cannot be read, in order, but no more than 16 of
	// them: what is wrong with that many is wrong with all.
	Faults []Fault
	// Count is how many there are in all.
	Count int
}

// Fault is a record of an array that cannot be read.
type Fault struct {
	// Record tells which of the array it is, from 1.
	Record int
	// Text is the record, or the rest of the line where it has no end.
	Text []byte
	Err  error
}

const maxFaults = 16

func (e *PartialError) add(record int, text []byte, err error) {
	if e.Count++; e.Count <= maxFaults {
		e.Faults = append(e.Faults, Fault{record, bytes.TrimSpace(text), err})
	}
}

// Error tells the first fault, and how many there are.
func (e *PartialError) Error() string {
	first := e.Faults[0]
	text := fmt.Sprintf("record %d of the array: %v", first.Record, first.Err)
	if e.Count > 1 {
		text += fmt.Sprintf(" (and %d more of its records)", e.Count-1)
	}
	return text
}

// Unwrap returns what is wrong with the first.
func (e *PartialError) Unwrap() error { return e.Faults[0].Err }

// Parser reads the records of one format. A parser is used by one goroutine.
type Parser interface {
	// Parse appends what the line tells to dst and returns it: nothing for a
	// line that does not matter here, several events for a record about
	// several recipients. The events alias line, or memory of their own that is
	// not used again. On error dst is returned as it was, unless it is a
	// *PartialError.
	Parse(line []byte, dst []event.Event) ([]event.Event, error)
	// Reference tells the parser a time close to and not before that of the
	// lines to come, for formats whose timestamps lack the year; see
	// event.Batch.Reference.
	Reference(t time.Time)
}

// Headed is a Parser of a format that has the names of its columns in the first
// line of a file, which may have been read long ago or by another parser.
type Headed interface {
	Parser
	// Header tells the first line of the file that the lines to come are from;
	// nil if there is none. See event.Batch.Header.
	Header(line []byte)
}

// Skipper is a Parser that passes over lines that tell nothing faster than by
// parsing each.
type Skipper interface {
	Parser
	// Next parses lines, as Parse would do it one by one, until they have told as many
	// events as it is asked for, or one cannot be read. It returns how many lines these
	// are, with that one, and appends what they told.
	Next(lines []event.Line, dst []event.Event, events int) (n int, _ []event.Event, err error)
}

// Skipping returns p, or a Skipper that parses line by line if p is none.
func Skipping(p Parser) Skipper {
	if s, ok := p.(Skipper); ok {
		return s
	}
	return oneByOne{p}
}

type oneByOne struct{ Parser }

// Next implements Skipper.
func (o oneByOne) Next(lines []event.Line, dst []event.Event, events int) (n int, _ []event.Event, err error) {
	enough := len(dst) + events
	for n < len(lines) && len(dst) < enough && err == nil {
		dst, err = o.Parse(lines[n].Text, dst)
		n++
	}
	return n, dst, err
}

// Option changes what a parser reports.
type Option uint8

// Details also reports the lines that tell only who handed a message in or what
// its message id is. Counting needs neither.
const Details Option = 1

// dialects is the list of what New can make.
var dialects = []struct {
	name string
	log  bool // see IsLog
	make func(location *time.Location, details bool) Parser
}{
	{"postfix", true, func(l *time.Location, details bool) Parser { return newPostfix(l, details) }},
	{"exim", true, func(l *time.Location, details bool) Parser { return newExim(l, details) }},
	{"sendmail", true, func(l *time.Location, details bool) Parser { return newSendmail(l, details) }},
	{"opensmtpd", true, func(l *time.Location, _ bool) Parser { return newOpensmtpd(l) }},
	{"qmail", true, func(l *time.Location, _ bool) Parser { return newQmail(l) }},
	{"haraka", true, func(l *time.Location, _ bool) Parser { return newHaraka(l) }},
	{"zonemta", true, func(l *time.Location, _ bool) Parser { return newZonemta(l) }},
	{"powermta", false, func(l *time.Location, _ bool) Parser { return newPowermta(l) }},
	{"kumomta", false, func(*time.Location, bool) Parser { return newKumomta() }},
	{"ses", false, func(*time.Location, bool) Parser { return newSES() }},
	{"sendgrid", false, func(*time.Location, bool) Parser { return newSendgrid() }},
	{"mailgun", false, func(*time.Location, bool) Parser { return newMailgun() }},
	{"sparkpost", false, func(*time.Location, bool) Parser { return newSparkpost() }},
	{"postmark", false, func(*time.Location, bool) Parser { return newPostmark() }},
	{"postal", false, func(*time.Location, bool) Parser { return newPostal() }},
	{"mandrill", false, func(*time.Location, bool) Parser { return newMandrill() }},
	{"brevo", false, func(*time.Location, bool) Parser { return newBrevo() }},
	{Classified, false, func(*time.Location, bool) Parser { return newClassified() }},
}

// Names lists the dialects that New knows, Auto at the end.
func Names() []string {
	names := make([]string, 0, len(dialects)+1)
	for _, d := range dialects {
		names = append(names, d.name)
	}
	return append(names, Auto)
}

// IsLog reports whether the records of a dialect are lines of a log, with a time
// and a host in front, rather than texts that say everything themselves. Those
// are what syslog and the journal carry, and what nobody sends by HTTP.
func IsLog(name string) bool {
	for _, d := range dialects {
		if d.name == name {
			return d.log
		}
	}
	return name == Auto
}

// New returns a parser for the dialect of that name. Timestamps without a zone
// are in the time of loc; nil means UTC.
func New(name string, loc *time.Location, options ...Option) (Parser, error) {
	if loc == nil {
		loc = time.UTC
	}
	if name == Auto {
		return newAuto(loc, slices.Contains(options, Details)), nil
	}
	for _, d := range dialects {
		if d.name == name {
			return d.make(loc, slices.Contains(options, Details)), nil
		}
	}
	return nil, fmt.Errorf("dialect %q is unknown: use one of %s", name, strings.Join(Names(), ", "))
}
