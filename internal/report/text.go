package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"

	"github.com/bouncemeter/bouncemeter/internal/chart"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// Clean makes a text that came from a remote server harmless to show: what is
// not a visible character (control, escape and bidirectional ones, invalid
// UTF-8) is shown as an escape such as \x1b or \u202e, variation selectors,
// which change the width of others, are left out, and white space becomes one
// space. The result is one line.
func Clean(s string) string {
	var b strings.Builder
	space := false
	for i, r := range s {
		switch {
		case r == ' ', r == '\t', r == '\n', r == '\r':
			space = b.Len() > 0
			continue
		case unicode.Is(unicode.Variation_Selector, r):
			continue
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		writeVisible(&b, s, i, r)
	}
	return b.String()
}

// CleanPart is Clean for a part of a line: spaces stay as they are.
func CleanPart(s string) string {
	var b strings.Builder
	for i, r := range s {
		if !unicode.Is(unicode.Variation_Selector, r) {
			writeVisible(&b, s, i, r)
		}
	}
	return b.String()
}

// writeVisible writes r, which is at s[i], or an escape for it.
func writeVisible(b *strings.Builder, s string, i int, r rune) {
	switch {
	case r == unicode.ReplacementChar && !strings.HasPrefix(s[i:], "\ufffd"):
		fmt.Fprintf(b, `\x%02x`, s[i])
	case strconv.IsPrint(r):
		b.WriteRune(r)
	case r < 0x80:
		fmt.Fprintf(b, `\x%02x`, r)
	default:
		fmt.Fprintf(b, `\u%04x`, r)
	}
}

// senderName shows a sender domain: the null sender as it is written.
func senderName(domain string) string {
	if domain == window.NullSender {
		return "<>"
	}
	return Clean(domain)
}

// otherName shows a provider, recipient domain or category.
func otherName(name string) string { return Clean(cmp.Or(name, window.Unknown)) }

// count writes a number with thousands separators.
func count(n int64) string { return humanize.Comma(n) }

// counted writes a number with its noun, the plural made by an s.
func counted(n int64, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return count(n) + " " + noun
}

// percent writes a share with one decimal. It never rounds to none or to all
// what is not.
func percent(n, of int64) string {
	if of <= 0 {
		return "–"
	}
	p := 100 * float64(n) / float64(of)
	switch {
	case n > 0 && p < 0.1:
		return "<0.1%"
	case n < of && p > 99.9:
		return ">99.9%"
	}
	return strconv.FormatFloat(p, 'f', 1, 64) + "%"
}

// roundPercent writes a share where there is little room.
func roundPercent(n, of int64) string {
	switch p := math.Round(100 * float64(n) / float64(of)); {
	case n > 0 && p == 0:
		return "<1%"
	case n < of && p == 100:
		return ">99%"
	default:
		return strconv.Itoa(int(p)) + "%"
	}
}

// moment writes a time in UTC.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }

// lasting writes how long something took, in its two largest units.
func lasting(d time.Duration) string {
	days, hours, minutes := int64(d/(24*time.Hour)), int64(d%(24*time.Hour)/time.Hour), int64(d%time.Hour/time.Minute)
	var parts []string
	if days > 0 {
		parts = append(parts, counted(days, "day"))
	}
	if hours > 0 {
		parts = append(parts, counted(hours, "hour"))
	}
	if minutes > 0 && days == 0 {
		parts = append(parts, counted(minutes, "minute"))
	}
	if len(parts) == 0 {
		return "less than a minute"
	}
	return strings.Join(parts, " ")
}

// tally is one name and its count.
type tally struct {
	name string
	n    int64
}

// tallies sorts counts, the greatest first.
func tallies(counts map[string]int64, show func(string) string) []tally {
	var all []tally
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if counts[name] > 0 {
			all = append(all, tally{show(name), counts[name]})
		}
	}
	slices.SortStableFunc(all, func(x, y tally) int { return cmp.Compare(y.n, x.n) })
	return all
}

// span tells the time a report is about.
func (r *Report) span() string {
	var s string
	if r.First != nil {
		s = fmt.Sprintf("%s to %s UTC (%s)", moment(*r.First), moment(*r.Last), lasting(r.Last.Sub(*r.First)))
	}
	var asked []string
	if r.Since != nil {
		asked = append(asked, "since "+moment(*r.Since))
	}
	if r.Until != nil {
		asked = append(asked, "until "+moment(*r.Until))
	}
	if len(asked) > 0 {
		s = strings.TrimSpace(s + ", asked for " + strings.Join(asked, " "))
	}
	return strings.TrimPrefix(s, ", ")
}

// reading tells what was read, in short statements. The line statistics of a
// ledger are not known for a bounded time.
func (r *Report) reading() []string {
	var s []string
	if r.Since == nil && r.Until == nil {
		s = append(s, counted(r.Lines, "line"))
	}
	for _, c := range []struct {
		n    int64
		text string
	}{
		{r.Malformed, "malformed"},
		{r.Truncated, "too long and cut"},
		{r.LostBytes, "bytes lost before they could be read"},
		{r.Probes, "address probes"},
		{r.Rejected, "rejected inbound"},
		{r.Unmatched, "attempts of unknown sender"},
	} {
		if c.n > 0 {
			s = append(s, count(c.n)+" "+c.text)
		}
	}
	return s
}

// nothing says what to think of a report without failures, or returns "".
func (r *Report) nothing() string {
	switch {
	case r.Attempts == 0 && r.Outcomes.Expired == 0 && len(r.Notices) > 0:
		return "No delivery attempts: only what was reported back, such as bounce messages and complaints."
	case r.Attempts == 0 && r.Outcomes.Expired == 0 && (r.Since != nil || r.Until != nil):
		return "No delivery attempts in this time. Ask for a longer one, or leave the bounds out to see what there is."
	case r.Attempts == 0 && r.Outcomes.Expired == 0 && r.Lines == 0:
		return "There was nothing to read: the input is empty. Name the log that your outgoing MTA writes, such as /var/log/mail.log."
	case r.Attempts == 0 && r.Outcomes.Expired == 0 && r.Malformed > 0:
		return "No delivery attempts could be read, and " + counted(r.Malformed, "line") + " could not be understood. " + r.format()
	case r.Attempts == 0 && r.Outcomes.Expired == 0:
		return "No delivery attempts in " + counted(r.Lines, "line") + ". Check that this is the log of the MTA that sends mail out. " + r.format()
	case r.Outcomes.Failures() == 0 && r.Outcomes.Expired == 0:
		return "Nothing failed: every attempt was delivered."
	}
	return ""
}

// format says what to do about lines that tell nothing.
func (r *Report) format() string {
	if r.Dialect != "" {
		return "They were read as " + r.Dialect + ", as asked for; without --from the format is found out."
	}
	return "docs/dialects.md has the formats that are known."
}

// failures introduces the list of categories.
func (r *Report) failures() string {
	s := fmt.Sprintf("%s of %s failed (%s)", count(r.Outcomes.Failures()), counted(r.Attempts, "attempt"), percent(r.Outcomes.Failures(), r.Attempts))
	if r.Outcomes.Expired > 0 {
		s += "; " + counted(r.Outcomes.Expired, "message") + " expired in the queue"
	}
	return s
}

// tries tells attempts from recipients.
func (r *Report) tries() string {
	s := counted(r.Attempts, "attempt")
	if retries := r.Attempts - r.FirstOutcomes; r.FirstOutcomes > 0 && retries > 0 {
		s += ", " + count(retries) + " of them retries"
	}
	return s
}

// shares lists the outcomes in their order.
func (r *Report) shares() []tally {
	return []tally{
		{"delivered", r.Outcomes.Delivered}, {"deferred", r.Outcomes.Deferred},
		{"bounced", r.Outcomes.Bounced}, {"expired", r.Outcomes.Expired},
	}
}

// share tells how much of all failed attempts a category makes up.
func (r *Report) share(c *Category) string {
	if c.Attempts == 0 {
		return "–"
	}
	return percent(c.Attempts, r.Outcomes.Failures())
}

// summary tells how often a category was.
func (r *Report) summary(c *Category) string {
	var parts []string
	if c.Attempts > 0 {
		parts = append(parts, counted(c.Attempts, "attempt"), percent(c.Attempts, r.Outcomes.Failures())+" of failures")
	}
	if c.Expired > 0 {
		parts = append(parts, counted(c.Expired, "message")+" expired")
	}
	return strings.Join(parts, " · ")
}

// source tells who gave a reply and how often.
func (s *Sample) source() string {
	t := otherName(s.Provider) + ", " + counted(s.Attempts, "time") + ", last at " + moment(s.Last)
	if s.Rule != "" {
		t += ", rule " + Clean(s.Rule)
	}
	return t
}

// causes tells what kept expired messages in the queue.
func (c *Category) causes() string {
	var total int64
	all := tallies(c.Causes, otherName)
	for _, t := range all {
		total += t.n
	}
	var parts []string
	for _, t := range all {
		parts = append(parts, t.name+" "+percent(t.n, total))
	}
	return strings.Join(parts, ", ")
}

// peakText tells when a category was most frequent.
func (t *Trend) peakText(category string, peak *Point) string {
	step := time.Duration(t.StepSeconds) * time.Second
	return fmt.Sprintf("peak of %s in the %s from %s UTC", count(peak.Categories[category]), chart.Every(step), moment(peak.Start))
}
