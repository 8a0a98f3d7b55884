package suppression

import (
	"bufio"
	"cmp"
	"database/sql"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Entry is a recipient on the list.
type Entry struct {
	V       int    `json:"v"` // 1
	Address string `json:"address"`
	// Reason is the category of the last failure, or Complaint.
	Reason string `json:"reason"`
	// Failures is how often it failed since the last delivery, MostFailures at the
	// most.
	Failures int `json:"failures"`
	// First and Last are when it failed; Last may be of a complaint.
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last"`
	// Code, Enhanced and Text are what the server said at the last failure.
	Code     uint16 `json:"code,omitempty"`
	Enhanced string `json:"enhanced,omitempty"`
	Text     string `json:"text,omitempty"`
}

// entryColumns are what scan reads of recipients.
const entryColumns = "address, reason, failures, first, last, complained, code, enhanced, text"

// scan reads a row, of which the columns before those of the entry go to more.
func (e *Entry) scan(rows *sql.Rows, more ...any) error {
	var first, last, complained int64
	if err := rows.Scan(append(more, &e.Address, &e.Reason, &e.Failures, &first, &last, &complained, &e.Code, &e.Enhanced, &e.Text)...); err != nil {
		return err
	}
	e.V = 1
	if first > 0 {
		e.First = time.UnixMicro(first).UTC()
	}
	e.Last = time.UnixMicro(max(last, complained)).UTC()
	if complained > 0 {
		e.Reason = Complaint
	}
	return nil
}

// Format is how a list is written.
type Format string

const (
	// Text is one address a line.
	Text Format = "text"
	// CSV has a line of names first.
	CSV Format = "csv"
	// JSON is one object a line.
	JSON Format = "json"
)

// FormatOf returns the format that a file's name asks for.
func FormatOf(path string) (Format, error) {
	switch filepath.Ext(path) {
	case ".txt":
		return Text, nil
	case ".csv":
		return CSV, nil
	case ".json", ".jsonl":
		return JSON, nil
	}
	return "", fmt.Errorf("%s: its form is not known by its name; let it end in .txt (addresses), .csv or .jsonl", path)
}

// Encoder writes a list.
type Encoder struct {
	format Format
	w      *bufio.Writer
	csv    *csv.Writer
	json   *json.Encoder
}

// NewEncoder returns an encoder that writes to w.
func NewEncoder(w io.Writer, f Format) (*Encoder, error) {
	e := &Encoder{format: f, w: bufio.NewWriter(w)}
	e.json, e.csv = json.NewEncoder(e.w), csv.NewWriter(e.w)
	e.json.SetEscapeHTML(false)
	if f == CSV {
		return e, e.csv.Write([]string{"address", "reason", "failures", "first", "last", "code", "enhanced", "text"})
	}
	return e, nil
}

// Encode writes one entry.
func (e *Encoder) Encode(x *Entry) error {
	switch e.format {
	case CSV:
		first, code := "", ""
		if !x.First.IsZero() {
			first = x.First.Format(time.RFC3339)
		}
		if x.Code > 0 {
			code = strconv.Itoa(int(x.Code))
		}
		return e.csv.Write([]string{cell(clean(x.Address)), x.Reason, strconv.Itoa(x.Failures), first, x.Last.Format(time.RFC3339), code, x.Enhanced, cell(x.Text)})
	case JSON:
		return e.json.Encode(x)
	default:
		_, err := fmt.Fprintln(e.w, clean(x.Address))
		return err
	}
}

// Flush writes what is left.
func (e *Encoder) Flush() error {
	e.csv.Flush()
	return cmp.Or(e.csv.Error(), e.w.Flush())
}

// cell keeps a spreadsheet from taking what strangers wrote for a formula.
func cell(text string) string {
	if strings.ContainsAny(text[:min(1, len(text))], "=+-@") {
		return "'" + text
	}
	return text
}
