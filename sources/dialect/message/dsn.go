package message

import (
	"bytes"
	"net/mail"
	"strings"

	"github.com/bouncemeter/bouncemeter/event"
)

// status reads a delivery status notification (RFC 3464 section 2): a block of
// fields about the message, then one about each recipient.
func (m *message) status() []event.Event {
	var about fields
	var recipients []fields
	for i := range m.parts {
		if k := m.parts[i].kind; k != "message/delivery-status" && k != "message/global-delivery-status" && k != unmarkedStatus {
			continue
		}
		for _, block := range blocks(m.parts[i].body) {
			switch {
			case block.has("Final-Recipient", "Original-Recipient"):
				recipients = append(recipients, block)
			case block.has("Action", "Status", "Diagnostic-Code") && len(recipients) > 0 && !recipients[len(recipients)-1].has("Diagnostic-Code"):
				// An empty line too many in the middle of a recipient.
				last := &recipients[len(recipients)-1]
				*last = append(*last, block...)
			default:
				about = append(about, block...)
			}
		}
	}
	var all []event.Event
	for _, r := range recipients {
		e := event.Event{Outcome: action(r, about)}
		if e.Outcome == 0 {
			continue
		}
		e.Recipient = typed(r.get("Final-Recipient"))
		e.OriginalRecipient = typed(r.get("Original-Recipient"))
		if len(e.Recipient) == 0 {
			e.Recipient, e.OriginalRecipient = e.OriginalRecipient, nil
		}
		e.Reply.Status, _ = event.ParseEnhanced([]byte(strings.TrimSpace(r.either(about, "Status"))))
		m.diagnose(&e, r.either(about, "Diagnostic-Code"), len(recipients))
		e.Relay = host(typed(r.either(about, "Remote-MTA")))
		e.Host = host(typed(about.either(r, "Reporting-MTA")))
		for _, name := range []string{"Last-Attempt-Date", "Arrival-Date"} {
			if t, err := mail.ParseDate(r.either(about, name)); err == nil && t.Unix() > 0 {
				e.Time = t.UnixMicro()
				break
			}
		}
		if s, ok := about.find("X-Postfix-Sender"); ok {
			e.SenderKnown, e.Sender = true, typed(s)
		}
		e.QueueID = []byte(about.get("X-Postfix-Queue-ID"))
		all = append(all, e)
	}
	if len(all) == 0 && len(recipients) == 0 {
		return m.plain() // a report without its fields: the words are left
	}
	return all
}

// unmarkedStatus is the kind of a part that holds the fields of a status report
// without saying so.
const unmarkedStatus = "text/plain; delivery-status"

// unmarked looks for the fields of a status report in the text, where a relay
// has thrown away the MIME structure, and makes them a part of their own.
func (m *message) unmarked() bool {
	p := m.part("text/plain")
	if p == nil {
		return false
	}
	lower := lowered(p.body)
	at := bytes.Index(lower, []byte("\nreporting-mta:"))
	if at < 0 || !bytes.Contains(lower[at:], []byte("\nfinal-recipient:")) || !bytes.Contains(lower[at:], []byte("\naction:")) {
		return false
	}
	body := p.body[at+1:]
	if end := bytes.Index(lower[at+1:], []byte("\nreceived:")); end > 0 {
		body = body[:end+1]
	}
	p.body = p.body[:at+1]
	m.parts = append(m.parts, part{unmarkedStatus, body})
	return true
}

// lowered is b with ASCII letters in lower case, of the same length:
// bytes.ToLower may change the length of what is not ASCII.
func lowered(b []byte) []byte {
	out := bytes.Clone(b)
	for i, c := range out {
		if c >= 'A' && c <= 'Z' {
			out[i] = c + 'a' - 'A'
		}
	}
	return out
}

// action returns what a recipient's Action field (RFC 3464 section 2.3.3) says,
// or zero if it says nothing that mail operators count.
func action(r, about fields) event.Outcome {
	word, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(r.either(about, "Action"))), " ")
	status := strings.TrimSpace(r.either(about, "Status"))
	switch strings.Trim(word, ".;,()") {
	case "failed", "failure", "expired", "undeliverable":
		return event.OutOfBand
	case "delayed":
		return event.Deferred
	case "delivered", "relayed", "expanded", "deliverable":
		return event.Delivered
	case "":
		switch {
		case strings.HasPrefix(status, "2"):
			return event.Delivered
		case status != "" || r.has("Diagnostic-Code"):
			return event.OutOfBand
		}
	}
	return 0
}

// diagnose sets what the receiving side said. Where the Diagnostic-Code tells no
// more than a code, the words written for people say more.
func (m *message) diagnose(e *event.Event, diagnostic string, recipients int) {
	kind, text, ok := strings.Cut(diagnostic, ";")
	if kind = strings.ToLower(strings.TrimSpace(kind)); !ok || kind == "" || strings.ContainsAny(kind, " .:<") {
		kind, text = "", diagnostic // the type is missing
	}
	switch {
	case kind == "smtp":
		e.Reply.Origin = event.OriginRemote
	case strings.HasPrefix(kind, "x-"):
		e.Reply.Origin = event.OriginLocal
	}
	e.Reply.Text = []byte(strings.TrimSpace(text))
	if wordless(e.Reply.Text) {
		if words := m.reason(e.Recipient, recipients); !wordless(words) {
			e.Reply.Text = words
		}
	}
}

// wordless reports whether a text has codes at most.
func wordless(text []byte) bool {
	letters := 0
	for _, c := range text {
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= 0x80 {
			letters++
		}
	}
	return letters < 4
}

// blocks splits the body of a status report at its empty lines.
func blocks(b []byte) []fields {
	var all []fields
	for _, piece := range bytes.Split(spaceOnly(newlines(b)), []byte("\n\n")) {
		if f := parseFields(piece); len(f) > 0 {
			all = append(all, f)
		}
	}
	return all
}

// spaceOnly makes lines of nothing but blanks empty.
func spaceOnly(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for line := range bytes.Lines(b) {
		if len(bytes.TrimSpace(line)) == 0 {
			line = []byte("\n")
		}
		out = append(out, line...)
	}
	return out
}

func (f fields) has(names ...string) bool {
	for _, n := range names {
		if _, ok := f.find(n); ok {
			return true
		}
	}
	return false
}

// either returns a field of f, or else of g.
func (f fields) either(g fields, name string) string {
	if v, ok := f.find(name); ok {
		return v
	}
	return g.get(name)
}

// typed returns the value of a field such as "rfc822; a@example.com", without
// brackets and comments.
func typed(s string) []byte {
	if _, v, ok := strings.Cut(s, ";"); ok {
		s = v
	}
	s = strings.TrimSpace(s)
	if i := strings.IndexByte(s, '<'); i >= 0 {
		if j := strings.IndexByte(s[i:], '>'); j > 0 {
			s = s[i+1 : i+j]
		}
	}
	if i := strings.Index(s, " ("); i >= 0 {
		s = s[:i]
	}
	return []byte(strings.TrimSpace(s))
}

// host cuts off the address that some append to a name.
func host(b []byte) []byte {
	if i := bytes.IndexAny(b, " ["); i > 0 {
		b = b[:i]
	}
	return bytes.TrimRight(b, ".")
}
