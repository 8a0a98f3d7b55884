package spike

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/bouncemeter/bouncemeter/event"
)

// noun is what people call a dimension.
func noun(d Dimension) string {
	switch d {
	case SenderDomain:
		return "sender domain"
	case Category:
		return "reason"
	}
	return string(d)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if strings.HasSuffix(what, "y") {
		what = strings.TrimSuffix(what, "y") + "ie"
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// percent writes a ratio with two significant digits: 12%, 1.5%, 0.034%.
func percent(r float64) string {
	p := 100 * r
	switch {
	case p >= 99.5:
		return strconv.Itoa(int(p+0.5)) + "%"
	case p >= 10:
		return strconv.FormatFloat(p, 'f', 0, 64) + "%"
	case p <= 0:
		return "0%"
	}
	return strconv.FormatFloat(p, 'g', 2, 64) + "%"
}

// count writes a number of failures.
func count(x float64) string { return strconv.FormatFloat(x, 'f', 0, 64) }

// where names the series of an alert: "shop.example at Gmail".
func (a *alert) where() string {
	var parts []string
	if v, ok := a.Labels[SenderDomain]; ok {
		parts = append(parts, "of "+nonEmpty(v, "no sender domain"))
	}
	if v, ok := a.Labels[Host]; ok {
		parts = append(parts, "from host "+nonEmpty(v, "unknown"))
	}
	if v, ok := a.Labels[Stream]; ok {
		parts = append(parts, "in stream "+nonEmpty(v, "none"))
	}
	if v, ok := a.Labels[Source]; ok {
		parts = append(parts, "in source "+nonEmpty(v, "unknown"))
	}
	if v, ok := a.Labels[Provider]; ok {
		parts = append(parts, "at "+nonEmpty(v, "an unknown provider"))
	}
	if len(parts) == 0 {
		return "in all mail"
	}
	return strings.Join(parts, " ")
}

func nonEmpty(s, instead string) string {
	if s == "" {
		return instead
	}
	return s
}

// what names the failures of an alert.
func (a *alert) what() string {
	if c, ok := event.CategoryByID(a.Category); ok && c != event.Unset {
		return c.String()
	}
	return a.Rule
}

// write completes the texts for people: what, where, since when, how much above
// usual, how that is known, what to do and how to silence it.
func (d *Detector) write(a *alert) {
	since := a.Since.In(d.location).Format("15:04")
	a.Title = fmt.Sprintf("%s %s", a.what(), a.where())
	var s strings.Builder
	switch a.Kind {
	case Breadth:
		fmt.Fprintf(&s, "%s of %d rise together since %s: ", plural(a.Members, "serie"), a.Active, since)
	default:
		fmt.Fprintf(&s, "Since %s: ", since)
	}
	fmt.Fprintf(&s, "%d of %d failed so (%s), usually %s: %s beyond the usual.", a.Failures, a.Attempts, percent(a.Ratio), percent(a.Usual), count(a.Excess))
	if a.State == Resolved {
		fmt.Fprintf(&s, " Over at %s: %s.", a.Resolved.In(d.location).Format("15:04"), a.Ending)
	}
	for _, x := range a.Explanation {
		fmt.Fprintf(&s, " %s of the excess: %s %s.", percent(x.Share), noun(x.Dimension), nonEmpty(x.Element, "(none)"))
	}
	if len(a.Unchanged) > 0 {
		fmt.Fprintf(&s, " As usual: %s.", strings.Join(a.Unchanged, "; "))
	}
	if a.Cold {
		s.WriteString(" Known for less than a day: what is usual is taken from others of its kind.")
	}
	a.Summary = s.String()
	if c, ok := event.CategoryByID(a.Category); ok {
		a.Advice = c.Info().Advice
	}
}
