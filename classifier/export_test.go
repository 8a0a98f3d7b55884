package classifier

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// exported returns the expressions that ExportKumoMTA writes, in order.
func exported(t testing.TB, c *Classifier) (all []*regexp.Regexp) {
	t.Helper()
	var b strings.Builder
	if err := c.ExportKumoMTA(&b); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		quoted, ok := strings.CutPrefix(line, "  ")
		if !ok {
			continue
		}
		quoted = strings.TrimSuffix(quoted, ",\n")
		text := strings.Trim(quoted, "'")
		if quoted[0] == '"' {
			var err error
			if text, err = strconv.Unquote(quoted); err != nil {
				t.Fatal(err)
			}
		}
		r, err := regexp.Compile(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// The exported expressions compile, and each finds what its phrase finds.
func TestExportKumoMTA(t *testing.T) {
	c := shippedRules(t)
	if n := len(exported(t, c)); n < 500 {
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
