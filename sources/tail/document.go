package tail

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// A document is JSON that is not written a record a line: what an API or a
// webhook gave, indented by a tool, an array with a record on each of its lines,
// or the records that Firehose puts one after the other. Read once as a file it becomes lines: one for each value, and one for
// each element of an array on the top level.

// firstLineBytes is how much of a first line is looked at.
const firstLineBytes = 64 << 10

// isDocument reports whether the first line of a file, or its beginning if it is
// long, is that of a document: a record goes on after it, or several stand on it
// without an array around them.
func isDocument(line []byte, ends bool) bool {
	line = bytes.TrimLeft(bytes.TrimPrefix(line, utf8BOM), " \t\r\n")
	switch {
	case len(line) == 0:
		return false
	case line[0] == '[':
		// A log may have "[NOTICE]" at its start.
		if next := bytes.TrimLeft(line[1:], " \t\r"); len(next) > 0 && next[0] != '{' {
			return false
		}
		if !ends {
			return true // more than is kept of a line
		}
	case line[0] != '{':
		return false
	}
	var s jsonScanner
	for i, c := range line {
		if before := s.depth; !s.next(c) && before == 0 && i > 0 && (c == '{' || c == '[') {
			return true
		}
	}
	return ends && s.depth > 0
}

var utf8BOM = []byte("\xef\xbb\xbf")

// peekLine returns the first line that b will read that is not empty, or what
// there is of it, without taking it.
func peekLine(b *bufio.Reader) (line []byte, ends bool, err error) {
	for n := 1; ; n = b.Buffered() + 1 {
		_, err := b.Peek(min(n, firstLineBytes))
		begun, _ := b.Peek(b.Buffered())
		blank := len(begun) - len(bytes.TrimLeft(begun, " \t\r\n"))
		if i := bytes.IndexByte(begun[blank:], '\n'); i >= 0 {
			return begun[:blank+i], true, nil
		}
		// What begins in another way is no document, however it goes on.
		if c := begun[blank:]; len(c) > 0 && c[0] != '{' && c[0] != '[' && c[0] != utf8BOM[0] {
			return begun, false, nil
		}
		switch {
		case errors.Is(err, io.EOF):
			return begun, true, nil
		case err != nil || n > firstLineBytes:
			return begun, false, err
		}
	}
}

// lines returns the lines of b if it is a document, else b as it is.
func lines(b *bufio.Reader) io.Reader {
	first, ends, err := peekLine(b)
	switch {
	case err != nil: // comes after what was read before it
		return io.MultiReader(io.LimitReader(b, int64(b.Buffered())), &failed{err})
	case !isDocument(first, ends):
		return b
	}
	if bytes.HasPrefix(first, utf8BOM) {
		_, _ = b.Discard(len(utf8BOM)) // it is there
	}
	return &document{r: b}
}

// failed reads nothing but an error.
type failed struct{ err error }

func (f *failed) Read([]byte) (int, error) { return 0, f.err }

// jsonScanner follows how deep JSON is nested.
type jsonScanner struct {
	depth             int
	quoted, backslash bool
}

// next takes a byte and reports whether it is within a string.
func (s *jsonScanner) next(c byte) (quoted bool) {
	if s.quoted {
		switch {
		case s.backslash:
			s.backslash = false
		case c == '\\':
			s.backslash = true
		case c == '"':
			s.quoted = false
		}
		return true
	}
	switch c {
	case '"':
		s.quoted = true
		return true
	case '{', '[':
		s.depth++
	case '}', ']':
		s.depth = max(s.depth-1, 0)
	}
	return false
}

// document reads the values of a document as lines. It checks nothing: what is
// broken is found by who reads the lines.
type document struct {
	r       io.Reader
	scanner jsonScanner
	array   bool // the value on the top level is an array
	open    bool // a line was begun
	in      []byte
	out     []byte // what was not taken yet
	rest    []byte // of out
	err     error
}

// Read implements io.Reader.
func (d *document) Read(p []byte) (int, error) {
	if d.in == nil {
		d.in = make([]byte, 32<<10)
	}
	for len(d.rest) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		var n int
		n, d.err = d.r.Read(d.in)
		d.out = d.append(d.out[:0], d.in[:n])
		d.rest = d.out
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

// append appends what in has of lines.
func (d *document) append(out, in []byte) []byte {
	for _, c := range in {
		before := d.scanner.depth
		quoted := d.scanner.next(c)
		top := 0
		if d.array {
			top = 1
		}
		switch {
		case !quoted && (c == ' ' || c == '\t' || c == '\r' || c == '\n'):
		case !quoted && before == 0 && c == '[':
			d.array = true
		case !quoted && d.array && d.scanner.depth == 0, !quoted && before == top && c == ',':
			// The end of the array, or of an element that is no object.
			out = d.end(out)
			if c == ']' {
				d.array = false
			}
		default:
			out = append(out, c)
			d.open = true
			if !quoted && d.scanner.depth == top && before > top {
				out = d.end(out)
			}
		}
	}
	return out
}

func (d *document) end(out []byte) []byte {
	if d.open {
		out = append(out, '\n')
	}
	d.open = false
	return out
}
