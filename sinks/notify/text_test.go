package notify

import (
	"html"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{strings.Repeat("x", 41), strings.Repeat("x", 40) + "…"},
		{strings.Repeat("x", 40), strings.Repeat("x", 40)},
		{"550 5.7.1 not allowed", "550 5.7.1 not allowed"},
		{"  two\r\n\tlines  ", "two lines"},
		{"\x1b[31mred\x1b[0m", "[31mred[0m"},
		{"left\u202eright\u2066x\u2069", "leftrightx"},
		{"zero\u200bwidth\ufeff", "zerowidth"},
		{"a\x00b\xffc\x85d", "abcd"},
		{"line\u2028separator", "line separator"},
		{"<!channel> @here <@U123> ＠all", "<\u200b!channel> @\u200bhere <\u200b@\u200bU123> ＠\u200ball"},
		{"übergröße", "übergröße"},
		{"", ""},
	} {
		if got := clean(c.in, 40); got != c.want {
			t.Errorf("clean(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestEscape(t *testing.T) {
	in := "<a href=x>*b* & `c` [d](e)\\"
	for f, want := range map[Format]string{
		"":       in,
		Plain:    in,
		HTML:     html.EscapeString(in),
		Slack:    "&lt;a href=x&gt;*b* &amp; `c` [d](e)\\",
		Markdown: "\\<a href=x\\>\\*b\\* & \\`c\\` \\[d\\]\\(e\\)\\\\",
	} {
		if got := f.escape(in); got != want {
			t.Errorf("%s: %q, want %q", f, got, want)
		}
	}
}

func TestLinesAreNotCutInTwo(t *testing.T) {
	for _, c := range []struct {
		in    string
		limit int
		want  string
	}{
		{"one\ntwo\nthree", 20, "one\ntwo\nthree"},
		{"one\ntwo\nthree", 10, "one\ntwo\n…"},
		{"one\ntwo\nthree", 9, "one\n…"},
		{"a very long line", 6, "a ver…"},
	} {
		if got := lines(c.in, c.limit); got != c.want {
			t.Errorf("lines(%q, %d) = %q, want %q", c.in, c.limit, got, c.want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("550 <!here> @channel\r\n\x1b[2J", 20)
	f.Add("\xff\u202e", 1)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = max(0, min(limit, 1000))
		got := clean(s, limit)
		if !utf8.ValidString(got) {
			t.Errorf("%q is no UTF-8", got)
		}
		if n := utf8.RuneCountInString(strings.ReplaceAll(got, joiner, "")); n > limit+2 {
			t.Errorf("%d runes, limit %d", n, limit)
		}
		for i, r := range got {
			if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) && string(r) != joiner {
				t.Errorf("%q contains %U", got, r)
			}
			if (r == '@' || r == '<') && !strings.HasPrefix(got[i+1:], joiner) {
				t.Errorf("%q may mention somebody", got)
			}
		}
		for _, f := range []Format{Plain, HTML, Slack, Markdown} {
			escaped := f.escape(got)
			if (f == HTML || f == Slack) && strings.ContainsAny(escaped, "<>") {
				t.Errorf("%s: %q has markup", f, escaped)
			}
		}
	})
}
