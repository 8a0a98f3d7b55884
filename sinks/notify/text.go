package notify

import (
	"html"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Format is how a receiver reads text.
type Format string

const (
	// Plain text has no markup.
	Plain Format = "plain"
	// HTML is what Telegram and some mail readers show.
	HTML Format = "html"
	// Slack is Slack's mrkdwn, in which < and & begin markup.
	Slack Format = "slack"
	// Markdown is that of Discord, Mattermost, Matrix, Teams and others.
	Markdown Format = "markdown"
)

// joiner is put behind a character that would begin a mention. It is invisible,
// and no receiver takes what follows for a name.
const joiner = "\u200b"

// clean makes text that may come from anybody harmless wherever it is shown: it
// is one line of at most limit runes, without control characters and without
// those that change the direction of text or cannot be seen, and mentions
// nobody.
func clean(s string, limit int) string {
	var b strings.Builder
	n, space := 0, false
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			space = b.Len() > 0
			continue
		case r == utf8.RuneError, unicode.In(r, unicode.C):
			continue // controls, formats, surrogates, private use, broken UTF-8
		}
		if n >= limit {
			b.WriteString("…")
			break
		}
		if space {
			b.WriteByte(' ')
			n++
			space = false
		}
		b.WriteRune(r)
		n++
		if r == '@' || r == '<' || r == '＠' {
			b.WriteString(joiner)
		}
	}
	return b.String()
}

// markup is what has a meaning in Markdown.
const markup = "\\`*_{}[]()<>#+!|~>"

// escape makes s, which is clean, show as it is.
func (f Format) escape(s string) string {
	switch f {
	case HTML:
		return html.EscapeString(s)
	case Slack:
		return slackEscaper.Replace(s)
	case Markdown:
		if !strings.ContainsAny(s, markup) {
			return s
		}
		var b strings.Builder
		for _, r := range s {
			if strings.ContainsRune(markup, r) {
				b.WriteByte('\\')
			}
			b.WriteRune(r)
		}
		return b.String()
	}
	return s
}

// slackEscaper replaces the three characters that Slack asks to replace.
var slackEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// lines cuts text behind the last whole line within limit runes, so that no
// markup is cut in two. A first line that is too long is cut itself.
func lines(text string, limit int) string {
	if utf8.RuneCountInString(text) <= limit {
		return text
	}
	const more = "\n…"
	var b strings.Builder
	n := utf8.RuneCountInString(more)
	for line := range strings.Lines(text) {
		if n += utf8.RuneCountInString(line); n > limit {
			break
		}
		b.WriteString(line)
	}
	if b.Len() == 0 {
		return string([]rune(text)[:limit-1]) + "…"
	}
	return strings.TrimRight(b.String(), "\n") + more
}
