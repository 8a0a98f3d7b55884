package dialect

import (
	"bytes"
	"fmt"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

var errPowermtaType = fmt.Errorf("%w: the type of the record is none of an accounting file", ErrMalformed)

// powermta reads the accounting files of PowerMTA: CSV whose first line names the
// columns, which are those that acct-file's record-fields ask for.
type powermta struct {
	members
	table
	// targets says where each column goes; its zero value is nowhere.
	targets []powermtaColumn
	r       powermtaRecord
}

// powermtaColumn is a column that matters.
type powermtaColumn uint8

const (
	_ powermtaColumn = iota
	powermtaType
	powermtaLogged
	powermtaQueued
	powermtaFrom
	powermtaTo
	powermtaOriginal
	powermtaStatus
	powermtaDiagnostic
	powermtaMTA
	powermtaCategory
	powermtaDelivery
	powermtaSource
	powermtaDestination
	powermtaVMTA
	powermtaPool
	powermtaEnvelope
	powermtaMessage
	powermtaFeedback
	powermtaColumns
)

// powermtaNames are the names of the columns, in lower case.
var powermtaNames = [powermtaColumns]string{
	powermtaType: "type", powermtaLogged: "timelogged", powermtaQueued: "timequeued", powermtaFrom: "orig", powermtaTo: "rcpt",
	powermtaOriginal: "orcpt", powermtaStatus: "dsnstatus", powermtaDiagnostic: "dsndiag", powermtaMTA: "dsnmta",
	powermtaCategory: "bouncecat", powermtaDelivery: "dlvtype", powermtaSource: "dlvsourceip", powermtaDestination: "dlvdestinationip",
	powermtaVMTA: "vmta", powermtaPool: "vmtapool", powermtaEnvelope: "envid", powermtaMessage: "header_message-id",
	powermtaFeedback: "feedbacktype",
}

// powermtaRecord has the field of each column that matters; nil without such a
// column.
type powermtaRecord [powermtaColumns][]byte

func newPowermta(location *time.Location) *powermta {
	p := &powermta{}
	p.location, p.separator = location, ','
	return p
}

// Header implements Headed.
func (p *powermta) Header(line []byte) {
	p.head(line, func(line []byte) bool {
		first, rest := cut(line, ',')
		return rest != nil && fold(bytes.Trim(first, `"`), "type")
	}, func(i int, name []byte) {
		if i == 0 {
			p.targets = p.targets[:0]
		}
		target := powermtaColumn(0)
		for c := powermtaType; c < powermtaColumns; c++ {
			if fold(name, powermtaNames[c]) {
				target = c
			}
		}
		p.targets = append(p.targets, target)
	})
}

// Parse implements Parser.
func (p *powermta) Parse(line []byte, dst []event.Event) ([]event.Event, error) {
	p.arena.ready()
	record, err := p.split(line, &p.arena)
	if !record || err != nil {
		return dst, err
	}
	p.r = powermtaRecord{}
	for i, field := range p.fields {
		p.r[p.targets[i]] = field
	}
	n := len(dst)
	if dst, err = p.event(dst); err != nil {
		return dst[:n], err
	}
	return dst, nil
}

func (p *powermta) event(dst []event.Event) ([]event.Event, error) {
	r := &p.r
	s, words := powermtaReason(r[powermtaStatus])
	diag := r[powermtaDiagnostic]
	own := len(diag) > 7 && fold(diag[:7], "x-pmta;")
	text := diagnostic(diag)
	var kind event.Kind
	var outcome event.Outcome
	switch string(r[powermtaType]) {
	case "d", "delivery":
		kind, outcome = event.Attempt, event.Delivered
	case "t", "transient":
		kind, outcome = event.Attempt, event.Deferred
	case "b", "bounce":
		switch {
		case string(r[powermtaCategory]) == "message-expired", queueLifetime(s):
			kind, outcome = event.Expiry, event.Expired
		case own && contains(text, "bounce-queue"): // an administrator's command
			kind, outcome = event.Notice, event.Held
		default:
			kind, outcome = event.Attempt, event.Bounced
		}
	case "rb", "remote-bounce":
		kind, outcome = event.Notice, event.OutOfBand
	case "f", "feedback-loop":
		switch string(r[powermtaFeedback]) {
		case "not-spam", "auth-failure", "opt-out":
			return dst, nil // no complaint
		}
		kind, outcome = event.Notice, event.Complaint
	case "tq", "transient-queue", "r", "receipt", "received", "rs", "remote-status":
		return dst, nil // a whole queue, inbound mail, a report of success or delay
	case "type":
		return dst, errCSVSecond
	case "":
		return dst, errNoType
	default:
		return dst, errPowermtaType
	}
	if len(r[powermtaTo]) == 0 && outcome != event.Complaint {
		return dst, errNoRecipient
	}
	dst, e := grow(dst)
	var err error
	if e.Time, err = p.moment(r[powermtaLogged]); err != nil {
		return dst, err
	}
	e.Kind, e.Outcome = kind, outcome
	e.Recipient, e.OriginalRecipient = some(r[powermtaTo]), some(diagnostic(r[powermtaOriginal]))
	if r[powermtaFrom] != nil && outcome != event.Complaint {
		setSender(e, r[powermtaFrom])
	}
	if e.Stream = some(r[powermtaPool]); e.Stream == nil {
		e.Stream = some(r[powermtaVMTA])
	}
	e.MessageID = some(unbracket(r[powermtaMessage]))
	if len(text) == 0 { // no server said anything
		text, own = words, outcome != event.Delivered
	}
	p.answer(e, 0, s, text)
	if own && len(text) > 0 && kind == event.Attempt {
		e.Reply.Origin = event.OriginLocal
	}
	if kind == event.Notice && outcome != event.Held {
		return dst, nil
	}
	queued, err := p.moment(r[powermtaQueued])
	if err == nil {
		e.Delay = delay(queued, e.Time)
	}
	e.QueueID = p.message(err == nil)
	if kind == event.Attempt {
		mta, addr := powermtaHost(r[powermtaMTA])
		e.Relay, e.RelayIP, e.SourceIP = mta, some(r[powermtaDestination]), some(r[powermtaSource])
		if e.RelayIP == nil {
			e.RelayIP = addr
		}
		e.Local = len(r[powermtaDelivery]) > 0 && string(r[powermtaDelivery]) != "smtp"
	}
	return dst, nil
}

// message returns what tells the attempts of a message from those of others: the
// envelope's id, or the message's, or when it was queued and by whom.
func (p *powermta) message(queued bool) []byte {
	r := &p.r
	switch {
	case len(r[powermtaEnvelope]) > 0:
		return r[powermtaEnvelope]
	case len(r[powermtaMessage]) > 0:
		return unbracket(r[powermtaMessage])
	case queued:
		return p.join(r[powermtaQueued], space, r[powermtaFrom])
	}
	return nil
}

// powermtaReason splits a status such as "5.1.1 (bad destination mailbox
// address)".
func powermtaReason(b []byte) (s event.Enhanced, words []byte) {
	s, n := event.ParseEnhanced(b)
	words = bytes.TrimSpace(b[n:])
	if hasPrefix(words, "(") && hasSuffix(words, ")") {
		words = words[1 : len(words)-1]
	}
	return s, words
}

// powermtaHost splits "host (address)".
func powermtaHost(b []byte) (name, addr []byte) {
	if i := bytes.IndexByte(b, '('); i > 0 && hasSuffix(b, ")") {
		addr, b = b[i+1:len(b)-1], bytes.TrimSpace(b[:i])
	}
	return some(host(b)), some(addr)
}

// some returns b, or nil if it is empty.
func some(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}
