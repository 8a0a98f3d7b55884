package message

import (
	"bytes"
	"html"
	"slices"
	"strings"
	"unicode"

	"github.com/bouncemeter/bouncemeter/event"
)

// Notifications without machine-readable fields have a common shape: some
// polite words, an address, why, and below a line the message that came back.
// The address and the words next to it are taken; nothing is made up.

// plain reads a notification from its words, one event for each recipient.
func (m *message) plain() []event.Event {
	text := m.text()
	found := recipients(text, m)
	var all []event.Event
	for i, r := range found {
		end := end(text, found, i)
		e := event.Event{Outcome: event.OutOfBand, Recipient: []byte(r.address)}
		e.Reply.Text = because(text, r, end, len(found) == 1)
		if delays(m.get("Subject")) {
			e.Outcome = event.Deferred
		}
		all = append(all, e)
	}
	return all
}

// end returns the line before which the words about a mention end.
func end(text []string, found []mention, i int) int {
	if i+1 < len(found) && found[i+1].line > found[i].line {
		return found[i+1].line
	}
	return len(text)
}

// reason returns the words of the text part about a recipient, of whom the
// notification names this many.
func (m *message) reason(recipient []byte, recipientsInAll int) []byte {
	text := m.text()
	found := recipients(text, m)
	for i, r := range found {
		end := end(text, found, i)
		if strings.EqualFold(r.address, string(recipient)) {
			return because(text, r, end, len(found) == 1)
		}
	}
	if recipientsInAll == 1 {
		return because(text, mention{line: -1}, len(text), true)
	}
	return nil
}

// delays reports whether a subject warns of a delay: the sending server still
// tries.
func delays(subject string) bool {
	s := strings.ToLower(subject)
	return strings.Contains(s, "delayed") || strings.Contains(s, "(delay)") || strings.HasPrefix(s, "warning:") || strings.HasPrefix(s, "delay ")
}

// text returns the lines written for people, up to the message that came back.
func (m *message) text() []string {
	var b []byte
	if p := m.part("text/plain", ""); p != nil {
		b = p.body
	} else if p := m.part("text/html"); p != nil {
		b = untag(p.body)
	}
	b = newlines(b)
	if len(b) > maxWords {
		b = b[:maxWords]
	}
	var lines []string
	for line := range bytes.Lines(b) {
		s := strings.TrimRight(string(line), " \t\n")
		if returnedMessage(s) {
			if len(m.original) == 0 {
				rest := b[bytes.Index(b, line):]
				if name, _, ok := bytes.Cut(line, []byte(":")); !ok || !isFieldName(name) {
					rest = rest[len(line):] // the announcement itself
				}
				head, _ := splitHeader(bytes.TrimLeft(rest, "\n"))
				m.original = parseFields(head)
			}
			break
		}
		lines = append(lines, s)
		if len(lines) == maxLines {
			break
		}
	}
	return lines
}

const (
	maxWords = 64 << 10
	maxLines = 400
)

// returnedMessage reports whether a line announces or begins the message that
// came back.
func returnedMessage(line string) bool {
	s := strings.ToLower(strings.TrimSpace(line))
	for _, p := range []string{"received: ", "return-path: ", "delivered-to: ", "content-type: message/", "message-id: "} {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	for _, p := range []string{
		"below this line is a copy", "this is a copy of", "original message follows", "original message headers", "the header of the original", "message header follow",
		"message headers follow", "message headers:", "copy of the message", "copy of your message", "original message header", "your original message",
		"returned message", "unsent message", "message text follows", "text of the message", "the message headers", "message follows", "body of the message",
	} {
		if strings.Contains(s, p) && (strings.HasPrefix(s, "-") || strings.HasPrefix(s, "=") || strings.HasPrefix(s, "*") || strings.HasSuffix(s, ":") || strings.HasSuffix(s, ".") || strings.HasSuffix(s, "-")) {
			return true
		}
	}
	return s == "original message:" || strings.HasPrefix(s, "-") && (strings.Contains(s, "original message") || strings.Contains(s, "forwarded message") || strings.Contains(s, "message header"))
}

// mention is an address and where it stands.
type mention struct {
	address string
	line    int
	rest    string // of its line
}

// recipients finds the addresses that a notification is about, each once, in
// order.
func recipients(lines []string, m *message) []mention {
	var strong, weak, own []mention
	failed := strings.ToLower(m.get("X-Failed-Recipients"))
	senders := strings.ToLower(m.get("To") + " " + m.get("From") + " " + m.get("Delivered-To"))
	seen := make(map[string]bool)
	for i, line := range lines {
		a, before, rest := firstAddress(line)
		if a == "" {
			continue
		}
		key := strings.ToLower(a)
		if seen[key] {
			continue
		}
		listed := strings.Contains(failed, key)
		if !listed && failed != "" || summary(lines, i) {
			continue
		}
		if !listed && strings.Contains(senders, key) {
			if before == "" {
				own = append(own, mention{a, i, rest})
			}
			continue
		}
		if label := strings.ToLower(strings.TrimSpace(before)); listed || label == "" || labels[strings.TrimRight(label, ": ")] {
			seen[key] = true
			strong = append(strong, mention{a, i, rest})
		} else if !strings.HasPrefix(label, "from") {
			weak = append(weak, mention{a, i, rest})
		}
	}
	if len(strong) > 0 {
		return strong
	}
	if failed != "" {
		var all []mention
		for _, a := range strings.Split(m.get("X-Failed-Recipients"), ",") {
			if a = strings.TrimSpace(a); a != "" {
				all = append(all, mention{a, -1, ""})
			}
		}
		return all
	}
	if len(weak) > 0 {
		return weak[:1]
	}
	if len(own) > 0 {
		return own[:1] // somebody wrote to himself
	}
	if m.original != nil {
		if a := bareAddress(m.original.get("To")); len(a) > 0 {
			return []mention{{string(a), -1, ""}}
		}
	}
	return nil
}

// summary reports whether a line is one of several header fields of the returned
// message that a notification repeats.
func summary(lines []string, i int) bool {
	field := func(i int) bool {
		if i < 0 || i >= len(lines) {
			return false
		}
		s := strings.ToLower(strings.TrimSpace(lines[i]))
		for _, name := range []string{"from:", "subject:", "sent:", "date:", "sent date:", "message-id:"} {
			if strings.HasPrefix(s, name) {
				return true
			}
		}
		return false
	}
	s := strings.ToLower(strings.TrimSpace(lines[i]))
	return (strings.HasPrefix(s, "to:") || strings.HasPrefix(s, "from:") || strings.HasPrefix(s, "message-id:")) && (field(i-1) || field(i+1))
}

// labels may stand before the address of a failed recipient.
var labels = map[string]bool{
	"to": true, "recipient": true, "final-recipient": true, "failed recipient": true, "original recipient": true, "unknown user": true, "user unknown": true,
	"could not deliver to": true, "delivery failed to": true, "invalid recipient": true, "recipient address": true, "email address": true, "mailbox": true,
	"address": true, "user": true, "failed address": true, "rcpt to": true, "could not be delivered to": true, "undeliverable to": true, "not delivered to": true, "mail box full": true, "mailbox full": true,
	"an": true, "empfänger": true, "destinataire": true, "destinatario": true, "кому": true, "收件人": true, "宛先": true, "·": true, "*": true, "-": true, "•": true,
}

// firstAddress returns the first address of a line, what stands before it, and
// what after.
func firstAddress(line string) (address, before, rest string) {
	at := strings.IndexByte(line, '@')
	if at <= 0 {
		return "", "", ""
	}
	start := at
	for start > 0 && isAddressByte(line[start-1]) {
		start--
	}
	end := at + 1
	for end < len(line) && (isAddressByte(line[end]) && line[end] != '/') {
		end++
	}
	address = strings.TrimRight(line[start:end], ".-=")
	address = strings.TrimPrefix(address, "mailto:")
	if at == start || !strings.Contains(address[strings.IndexByte(address, '@'):], ".") {
		return "", "", ""
	}
	return address, strings.TrimRight(line[:start], "<\"'( \t"), strings.TrimLeft(line[end:], ">\"') \t:,;.")
}

func isAddressByte(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= 0x80 || strings.IndexByte("!#$%&*+-/=?^_{|}~.", c) >= 0
}

// because returns why a recipient failed: the reply if the words quote one,
// else the words themselves. What stands elsewhere is taken only if it is the
// only recipient.
func because(lines []string, r mention, end int, only bool) []byte {
	var words []string
	if r.rest != "" {
		words = append(words, r.rest)
	}
	words = append(words, lines[r.line+1:end]...)
	if b := quoted(words); b != nil {
		return b
	}
	if only {
		if b := quoted(lines); b != nil {
			return b
		}
	}
	b := paragraphs(words)
	if wordless(b) {
		b = paragraphs(lines)
	}
	return b
}

// quoted returns the first server reply in the lines: from its code to the end
// of the paragraph.
func quoted(lines []string) []byte {
	for i, line := range lines {
		at := replyAt(line)
		if at < 0 {
			continue
		}
		out := append([]byte(nil), line[at:]...)
		for _, next := range lines[i+1:] {
			next = strings.TrimSpace(next)
			if next == "" || len(out) > maxText || slices.ContainsFunc(afterReply, func(p string) bool { return strings.HasPrefix(next, p) }) {
				break
			}
			next = strings.TrimPrefix(next, "<<< ")
			out = append(append(out, ' '), next...)
		}
		return bytes.TrimRight(out, ") ")
	}
	return nil
}

// afterReply are the beginnings of lines that follow a reply and are none of it:
// rulers, the next command of a transcript, and what qmail says of every failure.
var afterReply = []string{">>>", "---", "___", "Giving up on "}

// replyAt returns where an SMTP error reply starts in a line: a code such as
// "550 " or "#5.1.1" at its beginning, or after what announces one.
func replyAt(line string) int {
	for i := 0; i+3 < len(line); i++ {
		if i > 0 && !strings.ContainsRune(" \t:;(<\"'#", rune(line[i-1])) {
			continue
		}
		c := line[i]
		if c != '4' && c != '5' {
			continue
		}
		if _, n := event.ParseEnhanced([]byte(line[i:])); n > 0 && announced(line[:i]) {
			return i
		}
		if isDigit(line[i+1]) && line[i+1] <= '7' && isDigit(line[i+2]) && (line[i+3] == ' ' || line[i+3] == '-' || line[i+3] == '#' || line[i+3] == ':') && announced(line[:i]) {
			return i
		}
	}
	return -1
}

// announced reports whether a reply may follow these words of its line: none, or
// some that end as an announcement does.
func announced(before string) bool {
	s := strings.ToLower(strings.TrimRight(before, " \t(\"'#<"))
	if s == "" {
		return true
	}
	switch s[len(s)-1] {
	case ':', ';', '>', '=', '-':
		return true
	}
	for _, w := range []string{"said", "was", "is", "error", "reason", "code", "response", "reply", "replied", "returned", "with", "status", "message", "smtp", "diagnostic"} {
		if strings.HasSuffix(s, w) {
			return true
		}
	}
	return false
}

// paragraphs joins lines of words to one text.
func paragraphs(lines []string) []byte {
	var out []byte
	for _, s := range lines {
		s = strings.TrimFunc(s, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune("-=_*>", r) })
		if s == "" {
			continue
		}
		if len(out) > 0 {
			out = append(out, ' ')
		}
		if out = append(out, s...); len(out) > maxText {
			break
		}
	}
	return out
}

// untag takes the words out of HTML, roughly: each tag is a line's end.
func untag(b []byte) []byte {
	out := make([]byte, 0, len(b))
	tag := false
	for _, c := range b {
		switch {
		case c == '<':
			tag = true
			out = append(out, '\n')
		case c == '>' && tag:
			tag = false
		case !tag:
			out = append(out, c)
		}
	}
	return []byte(html.UnescapeString(string(out)))
}
