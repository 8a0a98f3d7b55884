package classifier

import (
	"regexp"
	"strings"
	"testing"
)

// The exported expressions compile, and each finds what its phrase finds.
func TestExportKumoMTA(t *testing.T) {
	c := shippedRules(t)
	var b strings.Builder
	if err := c.ExportKumoMTA(&b); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, line := range strings.Split(b.String(), "\n") {
		line, ok := strings.CutPrefix(line, "  '")
		if !ok {
			continue
		}
		n++
		if _, err := regexp.Compile(strings.TrimSuffix(line, "',")); err != nil {
			t.Error(err)
		}
	}
	if n < 500 {
		t.Errorf("only %d expressions", n)
	}
	for _, tt := range []struct {
		phrase, text string
		want         bool
	}{
		{"mailbox full", "mailbox is full", true},
		{"mailbox full", "mailbox nearly full", false},
		{"mailbox ~ full", "mailbox nearly full", true},
		{"mailbox .. full", "mailbox of a user who has let it become full", true},
		{"(mailbox|mail box)* full", "mail boxes full", true},
		{"{user} unknown", "recipient unknown", true},
		{"from IP", "from 192.0.2.1", true},
		{"lpn#", "LPN007", true},
	} {
		if got := regexp.MustCompile("(?i)" + c.t.expression(tt.phrase)).MatchString(tt.text); got != tt.want {
			t.Errorf("%q in %q: %v, want %v", tt.phrase, tt.text, got, tt.want)
		}
	}
}
