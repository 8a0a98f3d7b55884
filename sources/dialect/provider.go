package dialect

import (
	"bytes"

	"github.com/bouncemeter/bouncemeter/event"
)

// What the parsers of the records that mail providers send have in common.

// answer sets e's reply, kind and outcome being set, from what a provider quotes:
// the words, and beside them the basic code and the status, each of which may be
// absent. Words that start with a code of their own are taken as they are, since
// that is what the server said; the others get the codes in front.
func (m *members) answer(e *event.Event, code int64, status event.Enhanced, text []byte) {
	r := &e.Reply
	text = bytes.TrimSpace(text)
	r.Status = status
	if len(text) > 0 {
		r.Text = text
		if readCodes(r, text); r.Code == 0 {
			r.Enhanced, _ = event.ParseEnhanced(text)
		}
	}
	if r.Code == 0 && code >= 200 && code < 600 {
		if r.Enhanced.IsZero() {
			r.Enhanced = status
		}
		m.reply(r, uint16(code), r.Enhanced, text)
	}
	switch {
	case e.Kind == event.Expiry, e.Outcome == event.Suppressed, e.Outcome == event.Held:
		r.Origin = event.OriginLocal
	case r.Code != 0:
		r.Origin = event.OriginRemote
		if e.Outcome == event.Delivered {
			r.Stage = event.StageEnd
		}
	}
}

// diagnostic returns the text of a Diagnostic-Code (RFC 3464 section 2.3.6),
// "smtp; 550 …", without the type.
func diagnostic(b []byte) []byte {
	const longest = 16
	b = bytes.TrimLeft(b, " \t\r\n")
	for i, c := range b[:min(len(b), longest)] {
		if c == ';' && i > 0 {
			return bytes.TrimLeft(b[i+1:], " \t\r\n")
		}
		if !isDigit(c) && c != '-' && (c|0x20 < 'a' || c|0x20 > 'z') {
			break
		}
	}
	return b
}

// status reads an enhanced status code, which may have words after it.
func status(b []byte) event.Enhanced {
	e, _ := event.ParseEnhanced(bytes.TrimSpace(b))
	return e
}

// contains reports whether the lower-case ASCII text stands in b, in whatever
// case.
func contains(b []byte, text string) bool {
	for i := 0; i+len(text) <= len(b); i++ {
		if b[i]|0x20 == text[0]|0x20 && fold(b[i:i+len(text)], text) {
			return true
		}
	}
	return false
}

// queueLifetime reports whether a status and a text say that a message was given
// up because it had been tried for too long (RFC 3463: X.4.7, delivery time
// expired).
func queueLifetime(s event.Enhanced) bool { return s.Class != 2 && s.Subject == 4 && s.Detail == 7 }

// space is between the parts of an id that is put together.
var space = []byte{' '}

// own copies into the arena what e has of memory that is used again.
func (m *members) own(e *event.Event) {
	for _, field := range [...]*[]byte{
		&e.ID, &e.Host, &e.Stream, &e.QueueID, &e.Sender, &e.SenderDomain, &e.Client, &e.MessageID, &e.Recipient,
		&e.OriginalRecipient, &e.Relay, &e.RelayIP, &e.SourceIP, &e.Reply.Text,
	} {
		if *field != nil {
			*field = m.join(*field)
		}
	}
}

// first takes an array of strings and returns the first, or a string; it is nil
// for anything else.
func (w *walker) first() (text []byte) {
	if w.peek() != '[' {
		return w.maybe()
	}
	for more := w.array(); more; more = w.element() {
		if text == nil {
			text = w.maybe()
		} else {
			w.skip()
		}
	}
	return text
}

// maybe is text where another type is no fault but as good as absent, since the
// sender of a message may have a member of that name.
func (w *walker) maybe() []byte {
	if c := w.peek(); c == '{' || c == '[' {
		w.skip()
		return nil
	}
	return w.text()
}
