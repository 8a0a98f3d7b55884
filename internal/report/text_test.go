package report

import (
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/text"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"":                             "",
		"550 5.1.1 no such user":       "550 5.1.1 no such user",
		" a\r\n\tb  c ":                "a b c",
		"\x1b[31mred\x1b[0m":           `\x1b[31mred\x1b[0m`,
		"\x00\x07\x7f":                 `\x00\x07\x7f`,
		"a\u202eb\u2066c\u200fd\ufeff": `a\u202eb\u2066c\u200fd\ufeff`,
		"\u009b2J \u0085 \u2028":       `\u009b2J \u0085 \u2028`,
		"\xff\xfe ok \xc3":             `\xff\xfe ok \xc3`,
		"already \ufffd replaced":      "already \ufffd replaced",
		"flag\ufe0f \U000e0041":        `flag \ue0041`,
		"Postfach voll, 邮箱已满, صندوق":   "Postfach voll, 邮箱已满, صندوق",
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("550 \x1b[2J \u202e \xff", 20)
	f.Add("邮箱已满 e\u0301 \u200b", 1)
	f.Fuzz(func(t *testing.T, s string, width int) {
		got := Clean(s)
		if !utf8.ValidString(got) {
			t.Fatalf("%q is not UTF-8", got)
		}
		for _, r := range got {
			if !strconv.IsPrint(r) {
				t.Fatalf("%q has %U", got, r)
			}
		}
		if again := Clean(got); again != got {
			t.Fatalf("cleaned again %q becomes %q", got, again)
		}
		width = 2 + width&63 // the widest character takes two columns
		lines := wrap(got, width)
		for _, l := range lines {
			if text.StringWidthWithoutEscSequences(l) > width {
				t.Fatalf("%q is wider than %d", l, width)
			}
		}
		if strings.ReplaceAll(strings.Join(lines, ""), " ", "") != strings.ReplaceAll(got, " ", "") {
			t.Fatalf("wrapping %q lost something: %q", got, lines)
		}
	})
}

// TestPercent checks that a share is never rounded to none or to all.
func TestPercent(t *testing.T) {
	for _, c := range []struct {
		n, of       int64
		want, round string
	}{
		{0, 10, "0.0%", "0%"},
		{10, 10, "100.0%", "100%"},
		{1, 3, "33.3%", "33%"},
		{1, 1_000_000, "<0.1%", "<1%"},
		{999_999, 1_000_000, ">99.9%", ">99%"},
	} {
		if got := percent(c.n, c.of); got != c.want {
			t.Errorf("percent(%d, %d) = %s, want %s", c.n, c.of, got, c.want)
		}
		if got := roundPercent(c.n, c.of); got != c.round {
			t.Errorf("roundPercent(%d, %d) = %s, want %s", c.n, c.of, got, c.round)
		}
	}
	if got := percent(1, 0); got != "–" {
		t.Errorf("a share of nothing = %s", got)
	}
}

// TestCourse checks that a trend keeps its sums and its times when gaps are
// filled and slots joined, also over absurdly long times.
func TestCourse(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(d time.Duration, n int64) Point {
		return Point{Start: start.Add(d), Outcomes: Outcomes{Bounced: n}, Categories: map[string]int64{"spf_failed": n}}
	}
	trend := Trend{StepSeconds: 3600, Points: []Point{at(0, 1), at(3*time.Hour, 2), at(200*365*24*time.Hour, 4)}}
	for limit, steps := range map[int]int{10: 10, 100: 100} {
		c := trend.course(limit)
		if len(c.slots) > steps {
			t.Fatalf("%d slots of at most %d", len(c.slots), limit)
		}
		var sum int64
		for _, n := range c.of("spf_failed") {
			sum += n
		}
		if sum != 7 || c.slots[0].Bounced != 3 || c.slots[len(c.slots)-1].Bounced != 4 {
			t.Errorf("%d slots: sum %d, ends %+v %+v", limit, sum, c.slots[0], c.slots[len(c.slots)-1])
		}
	}
	short := Trend{StepSeconds: 3600, Points: trend.Points[:2]}
	c := short.course(100)
	if got := c.of("spf_failed"); len(got) != 4 || got[0] != 1 || got[1] != 0 || got[3] != 2 {
		t.Errorf("gaps: %v", got)
	}
}
