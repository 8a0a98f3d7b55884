package spike

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

// nouns is what people call the names of a dimension.
var nouns = map[Dimension][2]string{
	Category:     {"reason", "reasons"},
	Provider:     {"provider", "providers"},
	SenderDomain: {"sender domain", "sender domains"},
	Source:       {"source", "sources"},
	Host:         {"host", "hosts"},
	Stream:       {"stream", "streams"},
}

// quantity writes n with its noun.
func quantity(n int, nouns [2]string) string {
	if n == 1 {
		return "1 " + nouns[0]
	}
	return count(float64(n)) + " " + nouns[1]
}

// enumerate names up to three others of a dimension, and counts more.
func enumerate(dim Dimension, names []string) string {
	if len(names) > 3 {
		return quantity(len(names), [2]string{"other " + nouns[dim][0], "other " + nouns[dim][1]})
	}
	for i, n := range names {
		names[i] = display(dim, n)
	}
	return join(names)
}

// join writes "a, b and c".
func join(all []string) string {
	if len(all) < 2 {
		return strings.Join(all, "")
	}
	return strings.Join(all[:len(all)-1], ", ") + " and " + all[len(all)-1]
}

// percent writes a ratio with two significant digits: 12%, 1.5%, 0.034%.
func percent(r float64) string {
	p := 100 * r
	switch {
	case p >= 10:
		return strconv.FormatFloat(p, 'f', 0, 64) + "%"
	case p < 0.001:
		return "0%"
	case p < 0.01:
		return strconv.FormatFloat(p, 'f', 3, 64) + "%"
	}
	return strconv.FormatFloat(p, 'g', 2, 64) + "%"
}

// count writes a number of messages: 1,234.
func count(x float64) string {
	s := strconv.FormatFloat(x, 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// perMinute writes a rate so that it is a number people can imagine.
func perMinute(x float64) string {
	switch {
	case x >= 10:
		return count(x) + " a minute"
	case x >= 1:
		return strconv.FormatFloat(x, 'g', 2, 64) + " a minute"
	case x*60 >= 10:
		return count(x*60) + " an hour"
	}
	return strconv.FormatFloat(x*60, 'g', 2, 64) + " an hour"
}

// lasted writes a duration in its largest unit that does not hide much.
func lasted(d time.Duration) string {
	switch minutes := int(d.Minutes()); {
	case minutes < 120:
		return quantity(minutes, [2]string{"minute", "minutes"})
	case minutes < 48*60:
		return quantity(minutes/60, [2]string{"hour", "hours"})
	default:
		return quantity(minutes/1440, [2]string{"day", "days"})
	}
}

// display makes a name readable that is empty or stands for many.
func display(dim Dimension, name string) string {
	switch {
	case dim == Category:
		return Readable(name)
	case name != "":
		return name
	case dim == SenderDomain:
		return "the null sender"
	}
	return "(no " + nouns[dim][0] + ")"
}

// acronyms are words of category names that are not words.
var acronyms = map[string]string{"spf": "SPF", "dkim": "DKIM", "dmarc": "DMARC", "ip": "IP", "dns": "DNS", "rdns": "reverse DNS", "tls": "TLS", "auth": "authentication"}

// Readable turns the id of a category or rule into words: "SPF failed".
func Readable(id string) string {
	words := strings.Split(id, "_")
	for i, w := range words {
		if a, ok := acronyms[w]; ok {
			words[i] = a
		}
	}
	return strings.Join(words, " ")
}

// where names a series: "for shop.example at gmail".
func where(labels map[Dimension]string) string {
	var parts []string
	for _, p := range []struct {
		dim  Dimension
		word string
	}{{SenderDomain, "for"}, {Host, "from host"}, {Stream, "in stream"}, {Source, "in source"}, {Provider, "at"}} {
		if v, ok := labels[p.dim]; ok {
			parts = append(parts, p.word+" "+display(p.dim, v))
		}
	}
	return strings.Join(parts, " ")
}

// clock writes a time as people read it on the minute now: with the day if that
// is another one.
func (d *Detector) clock(t, now time.Time) string {
	t, now = t.In(d.location), now.In(d.location)
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04 MST")
	}
	return t.Format("2 Jan 15:04 MST")
}

// what names the failures of an alert.
func (a *alert) what() string {
	if c, ok := event.CategoryByID(a.Category); ok && c != event.Unset {
		return Readable(a.Category)
	}
	return Readable(a.Rule)
}

// write completes the texts for people: what, where, since when, how much above
// usual, what is known of the cause, what to do and how to silence it. The title
// alone tells enough to decide whether to get up.
func (d *Detector) write(a *alert) {
	var s strings.Builder
	a.Title = strings.TrimSpace(capital(a.what()) + " " + where(a.Labels))
	since := d.clock(a.Since, a.Updated)
	switch a.Kind {
	case Silence:
		d.writeFlow(a, &s, "Nothing", since)
	case Drop:
		d.writeFlow(a, &s, "Much less than usual", since)
	case Surge:
		d.writeFlow(a, &s, "Much more than usual", since)
	case Threshold, Burn:
		a.Title += fmt.Sprintf(": %s, limit %s", percent(a.Ratio), percent(a.Usual))
		over := "Lately"
		if a.Kind == Threshold {
			over = "Within " + lasted(d.rules[a.rule].Threshold.Over)
		}
		fmt.Fprintf(&s, "%s %s of %s failed so: %s, where the limit is %s.", over, count(float64(a.Failures)), quantity(int(a.Attempts), messages), percent(a.Ratio), percent(a.Usual))
	case Trend:
		a.Title += fmt.Sprintf(": creeping up, %s instead of %s", percent(a.Ratio), percent(a.Usual))
		fmt.Fprintf(&s, "Over the last days %s of %s failed so: %s, where the month before had %s.", count(float64(a.Failures)), quantity(int(a.Attempts), messages), percent(a.Ratio), percent(a.Usual))
	case Template:
		a.Title = "New wording " + where(a.Labels)
		fmt.Fprintf(&s, "A reply that was never heard before %s makes up %s of %s since %s.", where(a.Labels), count(float64(a.Failures)), quantity(int(a.Attempts), [2]string{"failure", "failures"}), since)
	default:
		a.Title += fmt.Sprintf(": %s instead of %s", percent(a.Ratio), percent(a.Usual))
		fmt.Fprintf(&s, "Since %s %s of %s failed so: %s, usually %s. That is %s beyond the usual.", since,
			count(float64(a.Failures)), quantity(int(a.Attempts), messages), percent(a.Ratio), percent(a.Usual), count(a.Excess))
	}
	if a.Kind == Breadth {
		fmt.Fprintf(&s, " %s of %s rise together, most of all %s.", count(float64(a.Members)), d.membersOf(a), join(append([]string(nil), a.Top[:min(3, len(a.Top))]...)))
	}
	d.writeEnd(a, &s)
	for _, x := range a.Explanation {
		if x.Dimension == Category {
			if x.Element == a.Category {
				continue // the title says so
			}
			fmt.Fprintf(&s, " %s of it: %s.", percent(x.Share), display(x.Dimension, x.Element))
		} else if x.Share >= tellingTimes*x.Expected {
			fmt.Fprintf(&s, " %s of it: %s %s.", percent(x.Share), nouns[x.Dimension][0], display(x.Dimension, x.Element))
		}
	}
	if len(a.Unchanged) > 0 {
		fmt.Fprintf(&s, " As usual: %s.", strings.Join(a.Unchanged, "; "))
	}
	if a.Cold {
		s.WriteString(" Known for less than a day, so what is usual is taken from others of its kind.")
	}
	a.Summary = s.String()
	a.Advice = d.advice(a)
	a.Silence = silence(a)
}

var messages = [2]string{"message", "messages"}

// writeFlow tells how much came of what does not fail but flows.
func (d *Detector) writeFlow(a *alert, s *strings.Builder, what, since string) {
	a.Title = strings.TrimSpace(what + " " + where(a.Labels))
	if a.Kind == Silence && a.Attempts == 0 {
		a.Title += " since " + since
		fmt.Fprintf(s, "Nothing has come since %s (%s), where usually there are %s.", since, lasted(a.Updated.Sub(a.Since)), perMinute(a.Usual))
		return
	}
	fmt.Fprintf(s, "Since %s there were %s, where %s are usual at this time of the week.", since, count(float64(a.Attempts)), count(a.expected))
}

func (d *Detector) writeEnd(a *alert, s *strings.Builder) {
	switch a.State {
	case Resolved:
		fmt.Fprintf(s, " Over at %s: %s.", d.clock(a.Resolved, a.Updated), a.Ending)
	case Persisting:
		s.WriteString(" It has lasted so long that it is no news any more.")
	case Stale:
		s.WriteString(" Nothing is being sent there now, so nobody can know whether it is over.")
	}
}

// membersOf says what the series of an alert of many are, and how many could
// rise: "50 sender domains".
func (d *Detector) membersOf(a *alert) string {
	var dims []Dimension
	for i, dim := range nameDimensions {
		if (d.views[d.rules[a.rule].view].mask&^a.edge)>>i&1 != 0 {
			dims = append(dims, dim)
		}
	}
	if len(dims) == 1 {
		return quantity(a.Active, nouns[dims[0]])
	}
	var names []string
	for _, dim := range dims {
		names = append(names, nouns[dim][0])
	}
	pairs := "combinations of " + join(names)
	return quantity(a.Active, [2]string{pairs, pairs})
}

// advice says what to do, in concrete steps.
func (d *Detector) advice(a *alert) string {
	switch a.Kind {
	case Silence, Drop:
		return "See whether mail is being sent at all (the queue, the applications that send) and whether it is read: does the log still grow, was it moved, does the consumer group lag behind? The page Sources shows how far each source has been read."
	case Surge:
		return "See who sends so much: a campaign that was not announced, a loop, or an account that was taken over. The queue of the sending host has the messages."
	case Template:
		return "Read the wording: a provider that says something new has new rules. Try it with bouncemeter classify, and write a rule if its category is wrong."
	}
	if c, ok := event.CategoryByID(a.Category); ok && c != event.Unset {
		advice := c.Info().Advice
		if domain := a.Labels[SenderDomain]; hostName(domain) {
			advice = strings.ReplaceAll(advice, "example.org", domain)
		}
		return advice
	}
	return strings.TrimSpace(d.rules[a.rule].Why + " The page of what is named here shows what the servers say, and what to do about each reason.")
}

// hostName reports whether a name is safe in a command that people copy: what a
// log says may be anything.
func hostName(name string) bool {
	return name != "" && name[0] != '-' && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") == "" && strings.Contains(name, ".")
}

// silence is the entry of the file of silences that keeps people from being told
// of the alert for a day: one line, since that is what messages have.
func silence(a *alert) string {
	var match strings.Builder
	fmt.Fprintf(&match, "rules: [%s]", a.Rule)
	for _, p := range []struct {
		dim Dimension
		key string
	}{{Provider, "providers"}, {SenderDomain, "sender_domains"}, {Source, "sources"}, {Host, "hosts"}, {Stream, "streams"}, {Category, "categories"}} {
		if v, ok := a.Labels[p.dim]; ok {
			fmt.Fprintf(&match, ", %s: [%s]", p.key, strconv.Quote(v))
		}
	}
	return fmt.Sprintf("- {comment: \"who, and why\", match: {%s}, until: %s}", match.String(), a.Updated.Add(24*time.Hour).Format(time.RFC3339))
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
