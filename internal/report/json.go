package report

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// WriteJSON writes r as EncodeJSON does; equal reports give equal bytes.
func WriteJSON(w io.Writer, r *Report) error { return EncodeJSON(w, r) }

// EncodeJSON writes v as indented JSON with a newline at its end. Characters that
// a terminal could act on, such as control and bidirectional ones, are written as
// \u escapes: programs read the same strings, and printing them is harmless.
func EncodeJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("encode as JSON: %w", err)
	}
	out := bufio.NewWriter(w)
	writeEscaped(out, b.Bytes())
	return out.Flush()
}

// writeEscaped copies JSON, in which a character beyond ASCII can only be part
// of a string. Errors stay in w until it is flushed.
func writeEscaped(w *bufio.Writer, text []byte) {
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == '\n' || strconv.IsPrint(r):
			_, _ = w.Write(text[:n])
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			_, _ = fmt.Fprintf(w, `\u%04x\u%04x`, hi, lo)
		default:
			_, _ = fmt.Fprintf(w, `\u%04x`, r)
		}
		text = text[n:]
	}
}
