package message

import (
	"bytes"
	"io"
	"mime"
	"strings"

	gomessage "github.com/emersion/go-message"
	"github.com/emersion/go-message/charset"
)

const (
	maxParts = 64
	maxDepth = 8
	maxBytes = 4 << 20 // of one part, decoded
)

// message is a mail, taken apart as far as needed.
type message struct {
	fields
	params map[string]string // of the top Content-Type
	parts  []part
	// original is the header of the message that is reported about, if it was
	// sent along.
	original fields
}

type part struct {
	kind string // media type in lower case
	body []byte // decoded, UTF-8 if it is text
}

// read takes a message apart. Only what has no header at all is an error.
func read(raw []byte) (*message, error) {
	raw = newlines(raw)
	if bytes.HasPrefix(raw, []byte("From ")) { // the separator of an mbox
		_, raw, _ = bytes.Cut(raw, []byte("\n"))
	}
	head, body := splitHeader(raw)
	m := &message{fields: parseFields(head)}
	if len(m.fields) == 0 {
		return nil, malformed("there is no header field in the first %d bytes", len(head))
	}
	_, m.params, _ = mime.ParseMediaType(m.get("Content-Type"))
	m.take(head, body)
	for i := range m.parts {
		switch m.parts[i].kind {
		case "message/rfc822", "text/rfc822-headers", "message/rfc822-headers", "message/global", "message/global-headers", "text/rfc822":
			h, _ := splitHeader(newlines(m.parts[i].body))
			if m.original = parseFields(h); len(m.original) > 0 {
				return m, nil
			}
		}
	}
	return m, nil
}

// take adds the parts of the message. Fields that go-message would refuse the
// whole of it for are left out: only those that say how to read the body matter.
func (m *message) take(head, body []byte) {
	var clean bytes.Buffer
	for _, f := range parseFields(head) {
		if strings.HasPrefix(strings.ToLower(f.name), "content-") {
			clean.WriteString(f.name + ": " + f.value + "\r\n")
		}
	}
	clean.WriteString("\r\n")
	e, err := gomessage.Read(io.MultiReader(&clean, bytes.NewReader(body)))
	if readable(e, err) {
		m.add(e, 0)
	}
	if len(m.parts) == 0 { // no boundary, no known encoding: read it as it is
		m.parts = append(m.parts, part{"text/plain", body})
	}
}

// readable reports whether an entity may be used in spite of its error: text in
// an unknown character set or encoding is read as it is.
func readable(e *gomessage.Entity, err error) bool {
	return e != nil && (err == nil || gomessage.IsUnknownCharset(err) || gomessage.IsUnknownEncoding(err))
}

func (m *message) add(e *gomessage.Entity, depth int) {
	if len(m.parts) >= maxParts || depth > maxDepth {
		return
	}
	if inner := e.MultipartReader(); inner != nil {
		for range maxParts {
			p, err := inner.NextPart()
			if !readable(p, err) {
				return
			}
			m.add(p, depth+1)
		}
		return
	}
	kind, _, err := e.Header.ContentType()
	if err != nil || kind == "" {
		kind = "text/plain"
	}
	b, _ := io.ReadAll(io.LimitReader(e.Body, maxBytes)) // what could be decoded is what there is
	m.parts = append(m.parts, part{strings.ToLower(kind), b})
}

// part returns the first part of one of these types, or nil.
func (m *message) part(kinds ...string) *part {
	for i := range m.parts {
		for _, k := range kinds {
			if m.parts[i].kind == k {
				return &m.parts[i]
			}
		}
	}
	return nil
}

// address returns the only address in a header field, or nil.
func (m *message) address(field string) []byte {
	return bareAddress(m.get(field))
}

// field is one header field, unfolded.
type field struct{ name, value string }

// fields are those of one block, in order.
type fields []field

// find returns the value of the first field of that name, in any case.
func (f fields) find(name string) (string, bool) {
	for i := range f {
		if strings.EqualFold(f[i].name, name) {
			return f[i].value, true
		}
	}
	return "", false
}

func (f fields) get(name string) string {
	v, _ := f.find(name)
	return v
}

// parseFields reads header fields leniently: a line that is no field continues
// the one before, whether it is folded properly or not. Encoded words (RFC
// 2047) are decoded.
func parseFields(b []byte) fields {
	var all fields
	for line := range bytes.Lines(b) {
		line = bytes.TrimRight(line, "\r\n")
		name, value, ok := bytes.Cut(line, []byte(":"))
		name = bytes.TrimRight(name, " \t")
		switch {
		case ok && isFieldName(name) && len(all) < 1000:
			all = append(all, field{string(name), string(bytes.TrimSpace(value))})
		case len(all) > 0:
			if f := &all[len(all)-1]; len(f.value) < 1<<16 {
				f.value = strings.TrimLeft(f.value+" "+string(bytes.TrimSpace(line)), " ")
			}
		}
	}
	for i := range all {
		if strings.Contains(all[i].value, "=?") {
			if v, err := words.DecodeHeader(all[i].value); err == nil {
				all[i].value = v
			}
		}
		if strings.Contains(all[i].value, "\x1b$") {
			all[i].value = japanese(all[i].value)
		}
	}
	return all
}

// japanese decodes ISO-2022-JP (RFC 1468), which says of itself what it is and
// which mail systems of Japan write into fields of status reports as it is.
func japanese(s string) string {
	r, err := charset.Reader("iso-2022-jp", strings.NewReader(s))
	if err != nil {
		return s
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return s
	}
	return string(b)
}

var words = mime.WordDecoder{CharsetReader: charset.Reader}

// isFieldName reports whether b may be the name of a header field that people
// use: RFC 5322 section 3.6.8 allows more.
func isFieldName(b []byte) bool {
	for i, c := range b {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i == 0 || !isDigit(c) && c != '-' && c != '_' && c != '.') {
			return false
		}
	}
	return len(b) > 0
}

// splitHeader cuts a message at the first empty line.
func splitHeader(b []byte) (head, body []byte) {
	if len(b) > 0 && b[0] == '\n' {
		return nil, b[1:]
	}
	if i := bytes.Index(b, []byte("\n\n")); i >= 0 {
		return b[:i+1], b[i+2:]
	}
	return b, nil
}

// newlines ends each line with LF alone, whether it ended with CRLF, CR or LF.
func newlines(b []byte) []byte {
	if bytes.IndexByte(b, '\r') < 0 {
		return b
	}
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	return bytes.ReplaceAll(b, []byte("\r"), []byte("\n"))
}
