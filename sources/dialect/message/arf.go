package message

import (
	"net/mail"
	"strconv"
	"strings"

	"github.com/bouncemeter/bouncemeter/event"
)

// feedback reads an abuse report (RFC 5965) or a report of an authentication
// failure (RFC 6591).
func (m *message) feedback() []event.Event {
	var f fields
	if p := m.part("message/feedback-report"); p != nil {
		for _, b := range blocks(p.body) {
			f = append(f, b...)
		}
	} else {
		// Microsoft's complaints carry the message alone, with a field added.
		f = fields{{"Feedback-Type", "abuse"}, {"Original-Rcpt-To", m.original.get("X-HmXmrOriginalRecipient")}}
	}
	kind := strings.ToLower(strings.TrimSpace(f.get("Feedback-Type")))
	if kind == "not-spam" || kind == "opt-out" {
		return nil // praise, or a wish to get no more
	}
	e := event.Event{Outcome: event.Complaint}
	if n, err := strconv.ParseUint(strings.TrimSpace(f.get("Incidents")), 10, 32); err == nil && n > 1 {
		e.Attempts = uint32(min(n, maxIncidents))
	}
	for _, name := range []string{"Original-Rcpt-To", "Removal-Recipient"} {
		if s, ok := f.find(name); ok && e.Recipient == nil {
			e.Recipient = bareAddress(s)
		}
	}
	if len(e.Recipient) == 0 && m.original != nil {
		if a := bareAddress(m.original.get("To")); len(a) > 0 {
			e.Recipient = a
		}
	}
	if s, ok := f.find("Original-Mail-From"); ok {
		e.SenderKnown, e.Sender = true, []byte(strings.Trim(strings.TrimSpace(s), "<>"))
	} else if m.original != nil {
		// A report goes to whoever asked for it, not to the sender.
		if s, ok := m.original.find("Return-Path"); ok {
			e.SenderKnown, e.Sender = true, []byte(strings.Trim(strings.TrimSpace(s), "<>"))
		} else if a := bareAddress(m.original.get("From")); len(a) > 0 {
			e.SenderKnown, e.Sender = true, a
		}
	}
	if s := strings.TrimSpace(f.get("Reported-Domain")); s != "" {
		e.SenderKnown, e.SenderDomain = true, []byte(strings.ToLower(s))
	}
	e.SourceIP = []byte(strings.TrimSpace(f.get("Source-Ip")))
	e.Host = host(typed(f.get("Reporting-Mta")))
	for _, name := range []string{"Arrival-Date", "Received-Date"} {
		if t, err := mail.ParseDate(f.get(name)); err == nil && t.Unix() > 0 {
			e.Time = t.UnixMicro()
			break
		}
	}
	e.Reply.Origin = event.OriginRemote
	if kind == "auth-failure" {
		e.Reply.Text = []byte(strings.TrimSpace(strings.ToLower(f.get("Auth-Failure")) + " failed: " + f.get("Authentication-Results")))
	}
	return []event.Event{e}
}

// maxIncidents bounds what one report may count for.
const maxIncidents = 10_000
