package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/bouncemeter/bouncemeter/sources/dialect"
)

// Dialects of records that a source's fields explain.
const (
	MappedJSON = "json"
	MappedCSV  = "csv"
)

// Fields says where each field of an event stands in records of dialect json or
// csv: in JSON a path of member names with dots between, such as reply.code, with
// a backslash before a dot that belongs to a name; in CSV the name of a column.
// Arrays on the way are passed through: each recipient is an event, pieces of
// text are joined, of anything else the first is taken.
type Fields struct {
	// Time when it happened. Needed.
	Time string `yaml:"time"`
	// Recipient is the address that the mail went to. Needed.
	Recipient string `yaml:"recipient"`
	// Outcome is what became of it: one of the words that outcomes explains.
	// Without it the reply's code tells.
	Outcome string `yaml:"outcome"`
	// Text is what the server replied. Codes may stand at its front.
	Text string `yaml:"text"`
	// Code is the reply's basic code, such as 550, where it stands apart.
	Code string `yaml:"code"`
	// Enhanced is the enhanced status code, such as 5.1.1, where it stands apart.
	Enhanced string `yaml:"enhanced"`
	// Command is the SMTP command that was answered, or the stage: connect, helo,
	// tls, auth, mail, rcpt, data, end_of_data.
	Command string `yaml:"command"`
	// Sender is the address of the envelope.
	Sender string `yaml:"sender"`
	// OriginalRecipient is the recipient before any forwarding.
	OriginalRecipient string `yaml:"original_recipient"`
	// ID of the record itself, the same if it is sent again.
	ID string `yaml:"id"`
	// QueueID is the same in all records of a message: it tells a first attempt
	// from a further one, unless attempt or retries do.
	QueueID string `yaml:"queue_id"`
	// MessageID is the Message-ID.
	MessageID string `yaml:"message_id"`
	// Attempt counts the attempts from 1.
	Attempt string `yaml:"attempt"`
	// Retries counts the attempts from 0.
	Retries string `yaml:"retries"`
	// Delay is how many seconds the message has been under way.
	Delay string `yaml:"delay"`
	// Queued is the time when the message was handed in, for the delay.
	Queued string `yaml:"queued"`
	// Relay is the name of the server that answered.
	Relay string `yaml:"relay"`
	// RelayIP is the address of the server that answered, perhaps with a port.
	RelayIP string `yaml:"relay_ip"`
	// SourceIP is the address that was sent from, perhaps with a port.
	SourceIP string `yaml:"source_ip"`
	// Host is the sending MTA.
	Host string `yaml:"host"`
	// Stream is what mail is counted apart by: a tag, tenant or pool.
	Stream string `yaml:"stream"`
	// Client is who handed the message in.
	Client string `yaml:"client"`
}

// Outcomes gives the words that records have in the field outcome. The names of
// the outcomes need not be given. "*" stands for all other words; without it
// records with other words are malformed.
type Outcomes struct {
	// Delivered are the words for: the next server took responsibility.
	Delivered []string `yaml:"delivered"`
	// Deferred are the words for: it will be tried again.
	Deferred []string `yaml:"deferred"`
	// Bounced are the words for: it has failed for good.
	Bounced []string `yaml:"bounced"`
	// Expired are the words for: it was given up after the queue lifetime.
	Expired []string `yaml:"expired"`
	// Complaint are the words for: the recipient called it spam.
	Complaint []string `yaml:"complaint"`
	// AutoReply are the words for: a machine answered.
	AutoReply []string `yaml:"autoreply"`
	// Suppressed are the words for: it was not tried, since the address is on a
	// suppression list.
	Suppressed []string `yaml:"suppressed"`
	// Held are the words for: the sending MTA kept it back.
	Held []string `yaml:"held"`
	// RejectedInbound are the words for: our own server refused a client.
	RejectedInbound []string `yaml:"rejected_inbound"`
	// OutOfBand are the words for: a bounce message came back later.
	OutOfBand []string `yaml:"oob_bounce"`
	// Ignored are the words for records that are no news of a delivery.
	Ignored []string `yaml:"ignored"`
}

// Mapping is how the source's records of dialect json or csv are read.
func (s *Source) Mapping() (dialect.Mapping, error) {
	m := dialect.Mapping{
		Fields: make(map[string]string), Outcomes: make(map[string]string), TimeFormat: s.TimeFormat, Columns: s.Columns,
	}
	var faults []error
	fields := reflect.ValueOf(s.Fields)
	for i := range fields.NumField() {
		if path := fields.Field(i).String(); path != "" {
			m.Fields[fields.Type().Field(i).Tag.Get("yaml")] = path
		}
	}
	outcomes := reflect.ValueOf(s.Outcomes)
	for i := range outcomes.NumField() {
		name := outcomes.Type().Field(i).Tag.Get("yaml")
		for _, word := range outcomes.Field(i).Interface().([]string) {
			if other, again := m.Outcomes[word]; again {
				faults = append(faults, fmt.Errorf("outcomes.%s: %q stands for %s, too; keep one", name, word, other))
			}
			m.Outcomes[word] = name
		}
	}
	switch s.Separator {
	case "":
	case "tab":
		m.Separator = '\t'
	default:
		if m.Separator = s.Separator[0]; len(s.Separator) > 1 || m.Separator == '"' || m.Separator < ' ' {
			faults = append(faults, fmt.Errorf("separator: %q is not one character; write one such as ; or the word tab", s.Separator))
		}
	}
	return m, errors.Join(faults...)
}

// Mapped reports whether the source's dialect is one that its fields explain.
func (s *Source) Mapped() bool { return s.Dialect == MappedJSON || s.Dialect == MappedCSV }

// Parser returns a new parser of the source's mapped dialect; timestamps without a
// zone are in the time of location.
func (s *Source) Parser(location *time.Location) (dialect.Parser, error) {
	m, err := s.Mapping()
	if err != nil {
		return nil, err
	}
	if s.Dialect == MappedCSV {
		return dialect.NewCSV(m, location)
	}
	return dialect.NewJSON(m, location)
}

// checkMapping checks what only the dialects json and csv have.
func (l *loader) checkMapping(path string, s Source) {
	if s.Mapped() {
		// All faults of the mapping, those that the words have first.
		_, err := s.Mapping()
		if err == nil {
			_, err = s.Parser(nil)
		}
		l.explained(path, err)
		return
	}
	if s.Fields != (Fields{}) || s.TimeFormat != "" || s.Separator != "" || len(s.Columns) > 0 || slices.ContainsFunc(s.Outcomes.all(), func(words []string) bool { return len(words) > 0 }) {
		l.fault(path+".dialect", "fields, outcomes, time_format, columns and separator explain records of dialect json or csv", "write dialect: json or csv, or remove them")
	}
}

func (o *Outcomes) all() [][]string {
	return [][]string{
		o.Delivered, o.Deferred, o.Bounced, o.Expired, o.Complaint, o.AutoReply, o.Suppressed, o.Held, o.RejectedInbound, o.OutOfBand, o.Ignored,
	}
}
