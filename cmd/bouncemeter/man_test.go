package main

import (
	"strings"
	"testing"
)

// Every command that the help knows is in the manual page, and no line of text
// is taken for a request.
func TestMan(t *testing.T) {
	code, page, stderr := call(t, "", "man")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	for _, want := range []string{".SS run\n", ".SS rules lint", ".SS top", `\fB\-\-config\fR=\fIFILE\fR`, ".SH EXIT STATUS"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q", want)
		}
	}
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, ".") && !strings.Contains(".TH.SH.SS.TP.B.I.BR.\\\"", strings.Fields(line)[0]) {
			t.Errorf("not a request of man(7): %s", line)
		}
	}
	if strings.Contains(page, `\-\-root`) {
		t.Error("a hidden flag is shown")
	}
}
