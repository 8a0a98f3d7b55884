package dialect

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

// Mapping says how records of JSON or CSV that no dialect knows are to be read.
type Mapping struct {
	// Fields says where each field of an event stands, by its name (see
	// MappedFields). In JSON that is a path of member names, "result.code", with
	// a backslash before a dot that belongs to a name. Arrays on the way are
	// passed through: of recipient each value makes an event, those of text are
	// joined, of the others the first is taken. In CSV it is the name of a
	// column.
	Fields map[string]string
	// Outcomes gives for each word in the field outcome the name of an outcome,
	// or Ignored. The names of outcomes need not be given; "*" stands for all
	// other words.
	Outcomes map[string]string
	// TimeFormat is how the time is written, by the conversions of strptime: %Y
	// %m %d %H %M %S %f (a fraction's digits) %z (+0100, +01:00 or Z) %b (Jan)
	// %y (of this century) %e %T (%H:%M:%S) %F (%Y-%m-%d) and %%. Without it, it
	// is as RFC 3339 says, perhaps with a space for the T, or seconds or
	// milliseconds since 1970.
	TimeFormat string
	// Columns are the names of the columns of CSV. Without them they are in the
	// first line of each file.
	Columns []string
	// Separator is between the fields of CSV; zero means a comma.
	Separator byte
}

// Ignored is the outcome of records that are no news of a delivery.
const Ignored = "ignored"

// mappedField is a field of an event that a Mapping can fill.
type mappedField uint8

const (
	mappedTime mappedField = iota
	mappedOutcome
	mappedRecipient
	mappedOriginalRecipient
	mappedSender
	mappedID
	mappedQueueID
	mappedMessageID
	mappedHost
	mappedStream
	mappedClient
	mappedRelay
	mappedRelayIP
	mappedSourceIP
	mappedCode
	mappedEnhanced
	mappedText
	mappedCommand
	mappedDelay
	mappedQueued
	mappedAttempt
	mappedRetries
	mappedFields
)

var mappedNames = [mappedFields]string{
	mappedTime: "time", mappedOutcome: "outcome", mappedRecipient: "recipient", mappedOriginalRecipient: "original_recipient",
	mappedSender: "sender", mappedID: "id", mappedQueueID: "queue_id", mappedMessageID: "message_id", mappedHost: "host",
	mappedStream: "stream", mappedClient: "client", mappedRelay: "relay", mappedRelayIP: "relay_ip", mappedSourceIP: "source_ip",
	mappedCode: "code", mappedEnhanced: "enhanced", mappedText: "text", mappedCommand: "command", mappedDelay: "delay",
	mappedQueued: "queued", mappedAttempt: "attempt", mappedRetries: "retries",
}

// MappedFields lists the names of the fields that a Mapping can have.
func MappedFields() []string { return mappedNames[:] }

// Why a record does not fit its mapping.
var (
	errMappedOutcome = fmt.Errorf("%w: its outcome is none of the words that the field map knows; add it to outcomes, as ignored if need be", ErrMalformed)
	errMappedNone    = fmt.Errorf("%w: its outcome is missing, and no reply code tells it", ErrMalformed)
	errMappedNumber  = fmt.Errorf("%w: a field that is a number has something else", ErrMalformed)
	errMappedTime    = fmt.Errorf("%w: its time is not as time_format says", ErrMalformed)
)

// mapping is a Mapping that has been checked.
type mapping struct {
	paths    [mappedFields][]string // nil for fields that are not mapped
	outcomes map[string]event.Outcome
	format   string
}

// ignored is the outcome of records that say nothing, in mapping.outcomes.
const ignored event.Outcome = 0

// check returns all faults of m at once, each with its setting and the remedy.
func (m *Mapping) check(split func(string) []string) (*mapping, error) {
	c := &mapping{outcomes: make(map[string]event.Outcome), format: m.TimeFormat}
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(m.Fields)) {
		path := m.Fields[name]
		i := slices.Index(mappedNames[:], name)
		switch {
		case i < 0:
			faults = append(faults, fmt.Errorf("fields.%s: there is no such field; use one of %s", name, strings.Join(mappedNames[:], ", ")))
		case path == "":
		default:
			if c.paths[i] = split(path); slices.Contains(c.paths[i], "") {
				faults = append(faults, fmt.Errorf("fields.%s: %q has an empty name in it; write the names of members with single dots between, such as result.code", name, path))
			}
		}
	}
	for _, need := range [...]mappedField{mappedTime, mappedRecipient} {
		if c.paths[need] == nil {
			faults = append(faults, fmt.Errorf("fields.%s: it is missing; say where the %[1]s stands", mappedNames[need]))
		}
	}
	if c.paths[mappedOutcome] == nil && c.paths[mappedCode] == nil && c.paths[mappedText] == nil {
		faults = append(faults, errors.New("fields.outcome: it is missing; say where the outcome stands, or the code or text of a reply that tells it"))
	}
	if c.paths[mappedAttempt] != nil && c.paths[mappedRetries] != nil {
		faults = append(faults, errors.New("fields.retries: attempt, which counts from 1, and retries, which counts from 0, are both given; keep one"))
	}
	for _, o := range event.Outcomes {
		c.outcomes[o.String()] = o
	}
	for _, word := range slices.Sorted(maps.Keys(m.Outcomes)) {
		name := m.Outcomes[word]
		o, ok := event.OutcomeByName(name)
		if name == Ignored {
			o, ok = ignored, true
		}
		if !ok {
			faults = append(faults, fmt.Errorf("outcomes: %q is no outcome; use delivered, deferred, bounced, expired, complaint, autoreply, suppressed, held, rejected_inbound, oob_bounce or %s", name, Ignored))
		}
		c.outcomes[word] = o
	}
	if m.TimeFormat != "" {
		if bad := badConversion(m.TimeFormat); bad != "" {
			faults = append(faults, fmt.Errorf("time_format: %s is not known; use %%Y %%m %%d %%H %%M %%S %%f %%z %%b %%y %%e %%T %%F", bad))
		}
	}
	return c, errors.Join(faults...)
}

// mapped is what the parsers of JSON and CSV by a Mapping have in common.
type mapped struct {
	members
	*mapping
	values     [mappedFields][]byte
	recipients [][]byte
	minute     struct { // the last that strptime read, which records in turn share
		of   minuteOf
		unix int64
	}
}

func (p *mapped) reset() { p.values, p.recipients = [mappedFields][]byte{}, p.recipients[:0] }

// set takes a value that stands where the mapping says field f does.
func (p *mapped) set(f mappedField, value []byte) {
	switch {
	case f == mappedRecipient:
		if len(value) > 0 {
			p.recipients = append(p.recipients, mailbox(value))
		}
	case p.values[f] == nil:
		p.values[f] = value
	case f == mappedText && len(value) > 0:
		p.values[f] = p.join(p.values[f], space, value)
	}
}

// number returns the number that a field has, times ten to the power of scale,
// or -1 if it has none.
func (p *mapped) number(f mappedField, scale int) (int64, error) {
	b := bytes.TrimSpace(p.values[f])
	if len(b) == 0 {
		return -1, nil
	}
	n, ok := decimal(b, scale)
	if !ok {
		return 0, errMappedNumber
	}
	return max(n, -1), nil
}

func (p *mapped) when(b []byte) (int64, error) {
	if p.format == "" {
		return p.moment(bytes.TrimSpace(b))
	}
	if len(b) == 0 {
		return 0, errNoTime
	}
	return p.strptime(bytes.TrimSpace(b))
}

// events appends what the values tell, once for each recipient.
func (p *mapped) events(dst []event.Event) ([]event.Event, error) {
	v := &p.values
	word := bytes.TrimSpace(v[mappedOutcome])
	outcome, known := p.outcomes[string(word)]
	if !known && len(word) > 0 {
		if outcome, known = p.outcomes["*"]; !known {
			return dst, errMappedOutcome
		}
	}
	if known && outcome == ignored {
		return dst, nil
	}
	code, err := p.number(mappedCode, 0)
	if err != nil {
		return dst, err
	}
	text := bytes.TrimSpace(v[mappedText])
	if len(text) > 5 && fold(text[:5], "smtp;") {
		text = diagnostic(text)
	}
	if !known {
		reply := event.Reply{Code: uint16(min(max(code, 0), 999))}
		if code <= 0 {
			readCodes(&reply, text)
		}
		switch reply.Code / 100 {
		case 2:
			outcome = event.Delivered
		case 4:
			outcome = event.Deferred
		case 5:
			outcome = event.Bounced
		default:
			return dst, errMappedNone
		}
	}
	n := len(dst)
	dst, e := grow(dst)
	if e.Time, err = p.when(v[mappedTime]); err != nil {
		return dst[:n], err
	}
	e.Outcome = outcome
	switch outcome {
	case event.Delivered, event.Deferred, event.Bounced:
		e.Kind = event.Attempt
	case event.Expired:
		e.Kind = event.Expiry
	case event.RejectedInbound:
		e.Kind = event.Rejection
	default:
		e.Kind = event.Notice
	}
	if len(p.recipients) == 0 {
		if e.Kind != event.Rejection && outcome != event.Complaint {
			return dst[:n], errNoRecipient
		}
		p.recipients = append(p.recipients, nil)
	}
	e.ID, e.QueueID, e.MessageID, e.Host, e.Stream = some(v[mappedID]), some(v[mappedQueueID]), some(unbracket(v[mappedMessageID])), some(v[mappedHost]), some(v[mappedStream])
	e.Client, e.OriginalRecipient = some(v[mappedClient]), some(v[mappedOriginalRecipient])
	e.Relay, e.RelayIP, e.SourceIP = some(host(v[mappedRelay])), some(withoutPort(v[mappedRelayIP])), some(withoutPort(v[mappedSourceIP]))
	if v[mappedSender] != nil {
		setSender(e, v[mappedSender])
	}
	p.answer(e, code, status(v[mappedEnhanced]), text)
	if s := mappedStage(v[mappedCommand]); s != event.StageUnknown {
		e.Reply.Stage = s
	}
	if err := p.counts(e); err != nil {
		return dst[:n], err
	}
	e.Recipient = p.recipients[0]
	for _, recipient := range p.recipients[1:] {
		dst = append(dst, dst[n])
		dst[len(dst)-1].Recipient = recipient
	}
	return dst, nil
}

// counts sets the delay, and whether it is the first attempt.
func (p *mapped) counts(e *event.Event) error {
	micros, err := p.number(mappedDelay, 6)
	if err != nil {
		return err
	}
	if queued := p.values[mappedQueued]; micros < 0 && len(queued) > 0 {
		at, err := p.when(queued)
		if err != nil {
			return err
		}
		micros = delay(at, e.Time)
	}
	e.Delay = micros
	attempt, err := p.number(mappedAttempt, 0)
	if err != nil {
		return err
	}
	retries, err := p.number(mappedRetries, 0)
	if err != nil {
		return err
	}
	if (attempt > 0 || retries >= 0) && (e.Kind == event.Attempt || e.Kind == event.Expiry) {
		e.Joined = e.SenderKnown
		e.FirstOutcome = e.Joined && (attempt == 1 || retries == 0 || e.Kind == event.Expiry)
	}
	return nil
}

// mappedStage returns the stage of which b is the name, or the command.
func mappedStage(b []byte) event.Stage {
	if s, ok := event.StageByName(string(b)); ok {
		return s
	}
	return commandStage(b)
}

// NewJSON returns a parser of JSON objects, or arrays of them, that are read as m
// says; timestamps without a zone are in the time of loc, nil for UTC. The error
// names all faults of m.
func NewJSON(m Mapping, loc *time.Location) (Parser, error) {
	c, err := m.check(splitPath)
	if err != nil {
		return nil, err
	}
	if len(m.Columns) > 0 || m.Separator != 0 {
		return nil, errors.New("columns: only csv has columns and a separator; remove them")
	}
	p := &mappedJSON{mapped: mapped{mapping: c}, root: &node{}}
	p.location = zone(loc)
	for f, path := range c.paths {
		if path != nil {
			p.root.add(path, mappedField(f))
		}
	}
	return p, nil
}

func zone(loc *time.Location) *time.Location {
	if loc == nil {
		return time.UTC
	}
	return loc
}

// splitPath splits a path at its dots, of which those after a backslash belong to
// a name.
func splitPath(path string) []string {
	names := []string{""}
	last := 0
	for i := 0; i < len(path); i++ {
		switch {
		case path[i] == '\\' && i+1 < len(path):
			i++
			names[last] += path[i : i+1]
		case path[i] == '.':
			names = append(names, "")
			last++
		default:
			names[last] += path[i : i+1]
		}
	}
	return names
}

// node is a place in the records at which, or below which, there are fields.
type node struct {
	names  []string
	below  []*node
	fields []mappedField
}

func (n *node) add(path []string, f mappedField) {
	if len(path) == 0 {
		n.fields = append(n.fields, f)
		return
	}
	i := slices.Index(n.names, path[0])
	if i < 0 {
		i = len(n.names)
		n.names, n.below = append(n.names, path[0]), append(n.below, &node{})
	}
	n.below[i].add(path[1:], f)
}

func (n *node) find(name []byte) *node {
	for i, s := range n.names {
		if string(name) == s {
			return n.below[i]
		}
	}
	return nil
}

type mappedJSON struct {
	mapped
	root *node
}

// Parse implements Parser.
func (p *mappedJSON) Parse(line []byte, dst []event.Event) ([]event.Event, error) {
	return p.one(line, dst, p.object)
}

func (p *mappedJSON) object(dst []event.Event) ([]event.Event, error) {
	p.reset()
	if c := p.w.peek(); c != '{' {
		p.w.object()
		p.w.fail(errJSONType) // null
	}
	p.visit(p.root)
	if p.w.err != nil {
		return dst, p.w.err
	}
	return p.events(dst)
}

// visit takes a value that stands at n.
func (p *mappedJSON) visit(n *node) {
	w := &p.w
	switch w.peek() {
	case '{':
		if len(n.names) == 0 { // so there is a field, which an object cannot be
			w.skip()
			w.fail(errJSONType)
			return
		}
		for more := w.object(); more; more = w.member() {
			if below := n.find(w.key); below != nil {
				p.visit(below)
			} else {
				w.skip()
			}
		}
	case '[':
		for more := w.array(); more; more = w.element() {
			p.visit(n)
		}
	default:
		if value := w.text(); value != nil {
			for _, f := range n.fields {
				p.set(f, value)
			}
		}
	}
}

// NewCSV returns a parser of lines of CSV that are read as m says. See NewJSON.
func NewCSV(m Mapping, loc *time.Location) (Parser, error) {
	c, err := m.check(func(s string) []string { return []string{s} })
	if err != nil {
		return nil, err
	}
	p := &mappedCSV{mapped: mapped{mapping: c}}
	p.location = zone(loc)
	if p.separator = m.Separator; p.separator == 0 {
		p.separator = ','
	}
	if len(m.Columns) == 0 {
		return p, nil
	}
	p.fixed, p.known, p.columns = true, true, len(m.Columns)
	for i, name := range m.Columns {
		p.column(i, []byte(name))
	}
	var faults []error
	for f, path := range c.paths {
		if path != nil && !slices.Contains(m.Columns, path[0]) {
			faults = append(faults, fmt.Errorf("fields.%s: there is no column %q among columns", mappedNames[f], path[0]))
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return p, nil
}

type mappedCSV struct {
	mapped
	table
	fixed   bool // the mapping has the columns
	targets [][]mappedField
	names   []string
}

// Header implements Headed.
func (p *mappedCSV) Header(line []byte) {
	if !p.fixed {
		p.head(line, func(line []byte) bool { return len(line) > 0 }, p.column)
	}
}

func (p *mappedCSV) column(i int, name []byte) {
	if i == 0 {
		p.targets, p.names = p.targets[:0], p.names[:0]
	}
	var fields []mappedField
	for f, path := range p.paths {
		if path != nil && path[0] == string(name) {
			fields = append(fields, mappedField(f))
		}
	}
	p.targets, p.names = append(p.targets, fields), append(p.names, string(name))
}

// Parse implements Parser.
func (p *mappedCSV) Parse(line []byte, dst []event.Event) ([]event.Event, error) {
	p.arena.ready()
	record, err := p.split(line, &p.arena)
	if !record || err != nil {
		return dst, err
	}
	p.reset()
	for i, field := range p.fields {
		for _, f := range p.targets[i] {
			p.set(f, field)
		}
	}
	return p.events(dst)
}

// months are the abbreviations that %b takes.
const months = "janfebmaraprmayjunjulaugsepoctnovdec"

// badConversion returns the first conversion of format that strptime does not
// know.
func badConversion(format string) string {
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			continue
		}
		if i++; i == len(format) || !strings.ContainsRune("YmdHMSfzbyeTF%", rune(format[i])) {
			return strconv.Quote(format[i-1 : min(i+1, len(format))])
		}
	}
	return ""
}

// strptime reads b as the time format says.
func (p *mapped) strptime(b []byte) (micros int64, err error) {
	c := calendar{minuteOf: minuteOf{month: 1, day: 1}}
	rest, ok := c.read(b, p.format)
	if !ok || len(rest) > 0 {
		return 0, errMappedTime
	}
	if c.year == 0 || c.second > 60 {
		return 0, errMappedTime
	}
	if c.minuteOf != p.minute.of {
		t := time.Date(c.year, time.Month(c.month), c.day, c.hour, c.minute, 0, 0, time.UTC)
		if t.Month() != time.Month(c.month) || t.Day() != c.day || c.hour > 23 || c.minute > 59 {
			return 0, errMappedTime
		}
		unix := t.Unix() - c.offset
		if !c.zoned {
			unix = p.local(t, p.reference.Unix())
		}
		if unix <= 0 {
			return 0, errMappedTime
		}
		p.minute.of, p.minute.unix = c.minuteOf, unix
	}
	return (p.minute.unix+int64(c.second))*1e6 + c.micros, nil
}

// Reference implements Parser.
func (p *mapped) Reference(t time.Time) {
	p.minute.of = minuteOf{}
	p.members.Reference(t)
}

// calendar is a time in its parts.
type calendar struct {
	minuteOf
	second int
	micros int64
}

// minuteOf is what tells a minute from others.
type minuteOf struct {
	year, month, day, hour, minute int
	offset                         int64
	zoned                          bool
}

func (c *calendar) read(b []byte, format string) (rest []byte, ok bool) {
	ok = true
	for i := 0; i < len(format) && ok; i++ {
		if format[i] != '%' {
			ok = len(b) > 0 && b[0] == format[i]
			if ok {
				b = b[1:]
			}
			continue
		}
		i++
		switch format[i] {
		case 'Y':
			c.year, b, ok = digitsOf(b, 4)
		case 'y':
			c.year, b, ok = digitsOf(b, 2)
			c.year += 2000
		case 'm':
			c.month, b, ok = digitsOf(b, 2)
		case 'd', 'e':
			if len(b) > 0 && b[0] == ' ' {
				b = b[1:]
			}
			c.day, b, ok = digitsOf(b, 2)
		case 'H':
			c.hour, b, ok = digitsOf(b, 2)
		case 'M':
			c.minute, b, ok = digitsOf(b, 2)
		case 'S':
			c.second, b, ok = digitsOf(b, 2)
		case 'f':
			end := digitsEnd(b, 0)
			unit := int64(1e5)
			for _, d := range b[:end] {
				c.micros += int64(d-'0') * unit
				unit /= 10
			}
			b, ok = b[end:], end > 0
		case 'b':
			ok = false
			for m := 0; m < 12 && len(b) >= 3 && !ok; m++ {
				if ok = fold(b[:3], months[3*m:3*m+3]); ok {
					c.month, b = m+1, b[3:]
				}
			}
		case 'z':
			b, ok = c.zone(b)
		case 'T':
			b, ok = c.read(b, "%H:%M:%S")
		case 'F':
			b, ok = c.read(b, "%Y-%m-%d")
		case '%':
			if ok = len(b) > 0 && b[0] == '%'; ok {
				b = b[1:]
			}
		}
	}
	return b, ok
}

// zone reads "Z", "+0100" or "+01:00".
func (c *calendar) zone(b []byte) (rest []byte, ok bool) {
	c.zoned = true
	if len(b) > 0 && b[0] == 'Z' {
		return b[1:], true
	}
	if len(b) < 5 || b[0] != '+' && b[0] != '-' || !areDigits(b[1:3]) {
		return b, false
	}
	minutes := b[3:]
	if minutes[0] == ':' {
		minutes = minutes[1:]
	}
	if len(minutes) < 2 || !areDigits(minutes[:2]) {
		return b, false
	}
	c.offset = (twoDigits(b[1:])*60 + twoDigits(minutes)) * 60
	if b[0] == '-' {
		c.offset = -c.offset
	}
	return minutes[2:], true
}

// digitsOf reads a number of one digit up to n.
func digitsOf(b []byte, n int) (value int, rest []byte, ok bool) {
	i := 0
	for i < len(b) && i < n && isDigit(b[i]) {
		value = value*10 + int(b[i]-'0')
		i++
	}
	return value, b[i:], i > 0
}
