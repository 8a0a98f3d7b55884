package dialect

import (
	"bytes"
	"fmt"
)

var (
	errCSVQuote   = fmt.Errorf("%w: a quoted field does not end, or something follows its closing quote", ErrMalformed)
	errCSVColumns = fmt.Errorf("%w: it has another number of fields than the header has columns", ErrMalformed)
	errCSVHeader  = fmt.Errorf("%w: the columns are not known: the first line of its file is no header", ErrMalformed)
	errCSVSecond  = fmt.Errorf("%w: another header than the first line of its file; do not join files that have different columns", ErrMalformed)
)

// csvFields appends to dst the fields of a line of RFC 4180, or with another
// separator than the comma. Fields with doubled quotes inside go to a. A field
// cannot have a line break.
func csvFields(line []byte, separator byte, a *arena, dst [][]byte) ([][]byte, error) {
	for {
		var field []byte
		if len(line) > 0 && line[0] == '"' {
			end := 1 + bytes.IndexByte(line[1:], '"')
			if end <= 0 {
				return dst, errCSVQuote
			}
			field, line = line[1:end:end], line[end+1:]
			if len(line) > 0 && line[0] == '"' {
				var ok bool
				if field, line, ok = csvQuotes(field, line, a); !ok {
					return dst, errCSVQuote
				}
			}
			dst = append(dst, field)
			if len(line) == 0 {
				return dst, nil
			}
			if line[0] != separator {
				return dst, errCSVQuote
			}
			line = line[1:]
			continue
		}
		end := bytes.IndexByte(line, separator)
		if end < 0 {
			return append(dst, line), nil
		}
		dst = append(dst, line[:end:end])
		line = line[end+1:]
	}
}

// csvQuotes takes the rest of a quoted field that begins with field, where line
// is at the second of two quotes that stand for one.
func csvQuotes(field, line []byte, a *arena) (whole, rest []byte, ok bool) {
	start := len(a.b)
	a.b = append(a.b, field...)
	for len(line) > 0 && line[0] == '"' {
		end := 1 + bytes.IndexByte(line[1:], '"')
		if end <= 0 {
			a.b = a.b[:start]
			return nil, nil, false
		}
		a.b = append(a.b, line[:end]...) // with the one quote in front
		line = line[end+1:]
	}
	return a.since(start), line, true
}

// table is what the parsers of formats with columns have in common: the header,
// and the fields of the line that is read.
type table struct {
	header    []byte // as it was told last
	known     bool
	columns   int
	separator byte
	fields    [][]byte
}

// head takes the first line of a file, and gives each name to column unless it
// is the one that was told last. Without a line, or where isHeader denies that it
// has names, the columns are not known.
func (t *table) head(line []byte, isHeader func([]byte) bool, column func(i int, name []byte)) {
	line = bytes.TrimPrefix(line, []byte("\ufeff"))
	if t.known && bytes.Equal(line, t.header) {
		return
	}
	t.header, t.known, t.columns = append(t.header[:0], line...), false, 0
	if !isHeader(line) {
		return
	}
	names, err := csvFields(line, t.separator, &arena{}, nil)
	if err != nil {
		return
	}
	t.known, t.columns = true, len(names)
	for i, name := range names {
		column(i, bytes.TrimSpace(name))
	}
}

// split reads the fields of a line. It is false for the header itself, and for an
// empty line.
func (t *table) split(line []byte, a *arena) (record bool, err error) {
	line = bytes.TrimPrefix(line, []byte("\ufeff"))
	if !t.known {
		return false, errCSVHeader
	}
	if len(line) == 0 || bytes.Equal(line, t.header) {
		return false, nil
	}
	if t.fields, err = csvFields(line, t.separator, a, t.fields[:0]); err != nil {
		return false, err
	}
	if len(t.fields) != t.columns {
		return false, errCSVColumns
	}
	return true, nil
}
