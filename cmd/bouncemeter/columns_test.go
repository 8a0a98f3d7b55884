package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// The first line of a file names the columns of all its lines, also of those that
// are read in another piece, by another parser.
func TestReportOfColumns(t *testing.T) {
	const n = 10_000 // more than is read at once
	text := "type,timeLogged,rcpt,dsnStatus,dsnDiag,bounceCat\r\n" +
		strings.Repeat("b,1768190467,ann@x.example,5.1.1 (bad mailbox),\"smtp;550 5.1.1 no, such user\",bad-mailbox\r\n", n)
	code, out, stderr := call(t, "", "report", "-o", "json", write(t, "acct.csv", text))
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var r struct {
		Lines, Malformed, Attempts int
		Categories                 []struct{ Category string }
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if r.Lines != n+1 || r.Malformed != 0 || r.Attempts != n || len(r.Categories) != 1 || r.Categories[0].Category != "user_unknown" {
		t.Errorf("%+v", r)
	}
}
