// Package chart draws counts and ratios over time as SVG for HTML pages.
//
// Shapes stretch to the width of the page while text does not, so that a chart
// is readable on a phone, too. All looks come from the classes in Style: a chart
// follows a dark or light theme, and needs neither script nor inline style, so
// that it works under a Content-Security-Policy that allows none. What a slot of
// time holds is in its title, which browsers show when it is pointed at.
package chart

import (
	_ "embed" // for the template and the style
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// Template defines the html/template named "chart", which draws a *Chart, and
// the one named "spark", which draws only its shapes.
//
//go:embed chart.html
var Template string

// Style is the style sheet that the templates' classes need. The page has to set
// the colours: the custom properties --ink, --soft, --line and --card, and one
// for each outcome.
//
//go:embed chart.css
var Style string

// Axis is the time that a chart shows.
type Axis struct {
	Start time.Time
	Step  time.Duration // of a slot
	Slots int
}

// Layer is one part of a stacked chart: a count for each slot.
type Layer struct {
	Name string
	// Color is a class of Style: an outcome, c0 to c6, or rest.
	Color string
	// Link is where the legend leads to; empty for nowhere.
	Link   string
	Values []int64
}

// Line is one line of a chart of ratios.
type Line struct {
	Name, Color, Link string
	// Failures of Attempts in each slot; one without attempts has no ratio.
	Failures, Attempts []int64
}

// Band is the range that is usual for ratios, 0 to 1.
type Band struct{ Low, High float64 }

// Mark is a moment to point out, such as when an alert fired.
type Mark struct {
	Time time.Time
	Text string
}

// Chart is ready to draw: Slots wide and 1000 high, y downwards.
type Chart struct {
	Label  string
	Slots  int
	Layers []shape
	Lines  []shape
	Band   *area
	Hits   []hit
	Marks  []mark
	Scale  []scaleLine
	Ticks  []tick
	Every  string
}

type shape struct{ Name, Color, Link, Path string }

type area struct{ Y, Height string }

// hit is a slot with what to tell of it.
type hit struct {
	X    int
	Text string
}

// mark and tick are at X percent of the width, scaleLine at Y percent of the
// height.
type (
	mark      struct{ X, Text string }
	scaleLine struct{ Y, Text string }
	tick      struct{ X, Text, Class string }
)

// Stacked returns a chart of layers on top of each other, the first at the
// bottom, or nil if there are too few slots to see anything.
func Stacked(a Axis, label string, layers []Layer) *Chart {
	if a.Slots < 2 {
		return nil
	}
	c := &Chart{Label: label, Slots: a.Slots, Every: Every(a.Step), Ticks: ticks(a)}
	sums := make([]int64, a.Slots)
	for _, l := range layers {
		for i, v := range l.Values {
			sums[i] += v
		}
	}
	var top int64
	for _, n := range sums {
		top = max(top, n)
	}
	top = roundUp(top)
	gap := 0.0
	if a.Slots <= 100 {
		gap = 0.12
	}
	base := make([]float64, a.Slots)
	for _, l := range layers {
		var path strings.Builder
		for i, v := range l.Values {
			if v == 0 {
				continue
			}
			height := 1000 * float64(v) / float64(top)
			y := 1000 - base[i]
			fmt.Fprintf(&path, "M%s %sh%sV%sh-%sz", short(float64(i)+gap/2), short(y), short(1-gap), short(y-height), short(1-gap))
			base[i] += height
		}
		c.Layers = append(c.Layers, shape{l.Name, l.Color, l.Link, path.String()})
	}
	for i, n := range sums {
		if n == 0 {
			continue
		}
		text := a.moment(i)
		for _, l := range layers {
			if v := l.Values[i]; v > 0 {
				text += "\n" + l.Name + ": " + humanize.Comma(v)
			}
		}
		c.Hits = append(c.Hits, hit{i, text})
	}
	c.Scale = []scaleLine{{"0", briefly(top)}, {"50", briefly(top / 2)}}
	return c
}

// Ratios returns a chart of the ratio of each line over time, with the usual
// range behind them unless it is nil; or nil if there are too few slots to see
// anything.
func Ratios(a Axis, label string, lines []Line, usual *Band) *Chart {
	if a.Slots < 2 {
		return nil
	}
	c := &Chart{Label: label, Slots: a.Slots, Every: Every(a.Step), Ticks: ticks(a)}
	highest := 0.0
	if usual != nil {
		highest = usual.High
	}
	ratio := func(l *Line, i int) float64 { return float64(l.Failures[i]) / float64(l.Attempts[i]) }
	for k := range lines {
		for i, n := range lines[k].Attempts {
			if n > 0 {
				highest = max(highest, ratio(&lines[k], i))
			}
		}
	}
	top := roundUpRatio(highest)
	y := func(r float64) float64 { return 1000 * (1 - min(r/top, 1)) }
	if usual != nil {
		// At least a few pixels, so that a range of nothing but zero is seen.
		height := max(y(usual.Low)-y(usual.High), 12)
		c.Band = &area{short(min(y(usual.High), 1000-height)), short(height)}
	}
	texts := make([]string, a.Slots)
	for k := range lines {
		l := &lines[k]
		var path strings.Builder
		for i, n := range l.Attempts {
			if n <= 0 {
				continue
			}
			at := y(ratio(l, i))
			switch {
			case i == 0 || l.Attempts[i-1] <= 0: // alone, it is a dash
				fmt.Fprintf(&path, "M%s %sh.5", short(float64(i)+.25), short(at))
			default:
				fmt.Fprintf(&path, "L%s %s", short(float64(i)+.5), short(at))
			}
			texts[i] += fmt.Sprintf("\n%s: %s, %s of %s", l.Name, Percent(l.Failures[i], n), humanize.Comma(l.Failures[i]), humanize.Comma(n))
		}
		c.Lines = append(c.Lines, shape{l.Name, l.Color, l.Link, path.String()})
	}
	for i, text := range texts {
		if text != "" {
			c.Hits = append(c.Hits, hit{i, a.moment(i) + text})
		}
	}
	c.Scale = []scaleLine{{"0", percentage(top)}, {"50", percentage(top / 2)}}
	return c
}

// Mark adds moments to point out. Those outside the chart are left out.
func (c *Chart) Mark(a Axis, marks []Mark) {
	span := a.Step * time.Duration(a.Slots)
	for _, m := range marks {
		if at := m.Time.Sub(a.Start); c != nil && at >= 0 && at < span {
			c.Marks = append(c.Marks, mark{percentOf(at, span), m.Text})
		}
	}
}

func (a Axis) moment(slot int) string {
	return a.Start.Add(time.Duration(slot) * a.Step).UTC().Format("2006-01-02 15:04")
}

// briefly writes a number that fits beside a chart.
func briefly(n int64) string {
	if n < 1_000_000 {
		return humanize.Comma(n)
	}
	return humanize.SIWithDigits(float64(n), 1, "")
}

// short writes a coordinate without needless digits.
func short(f float64) string { return strconv.FormatFloat(math.Round(f*1000)/1000, 'f', -1, 64) }

// Percent shows n of of with two digits that matter, "–" if of is nothing.
func Percent(n, of int64) string {
	if of <= 0 {
		return "–"
	}
	return percentage(float64(n) / float64(of))
}

func percentage(r float64) string {
	switch p := 100 * r; {
	case p == 0:
		return "0%"
	case p < 0.1:
		return strconv.FormatFloat(p, 'g', 1, 64) + "%"
	case p < 10:
		return strconv.FormatFloat(math.Round(p*10)/10, 'f', -1, 64) + "%"
	default:
		return strconv.FormatFloat(p, 'f', 0, 64) + "%"
	}
}

// roundUp returns the next number that makes a good scale: even, and at most
// half as large again.
func roundUp(n int64) int64 {
	if n <= 10 {
		return max(n+n%2, 2)
	}
	unit := int64(1)
	for unit*100 < n {
		unit *= 10
	}
	for _, m := range []int64{10, 12, 16, 20, 24, 30, 40, 50, 60, 80} {
		if m*unit >= n {
			return m * unit
		}
	}
	return 100 * unit
}

// roundUpRatio returns the next ratio that makes a good scale, from 0.2% to 1.
func roundUpRatio(r float64) float64 {
	for _, top := range []float64{.002, .004, .006, .01, .02, .04, .06, .1, .2, .4, .6} {
		if r <= top {
			return top
		}
	}
	return 1
}

const day = 24 * time.Hour

// Every names the length of a slot: "hour", "3 days".
func Every(step time.Duration) string {
	for _, u := range []struct {
		length time.Duration
		name   string
	}{{day, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}} {
		switch {
		case step == u.length:
			return u.name
		case step > u.length && step%u.length == 0:
			return strconv.Itoa(int(step/u.length)) + " " + u.name + "s"
		}
	}
	return step.String()
}

// tickSteps are distances of marks on a time axis.
var tickSteps = []time.Duration{
	5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour,
	day, 2 * day, 4 * day, 7 * day, 14 * day, 28 * day, 91 * day, 182 * day, 364 * day,
}

// ticks places up to eight marks at round times.
func ticks(a Axis) []tick {
	span := time.Duration(a.Slots) * a.Step
	step := tickSteps[len(tickSteps)-1]
	for _, s := range tickSteps {
		if s >= a.Step && span/s <= 8 {
			step = s
			break
		}
	}
	var all []tick
	end := a.Start.Add(span)
	for t, n := a.Start.UTC().Truncate(step), 0; t.Before(end) && n < 16; t = t.Add(step) {
		at := t.Sub(a.Start)
		if at < 0 {
			continue
		}
		class := "major"
		if t.Unix()/int64(step/time.Second)%2 != 0 {
			class = "minor" // left out on phones; midnight never is
		}
		switch share := float64(at) / float64(span); {
		case share < .04:
			class += " first"
		case share > .94:
			continue // no room for its text
		}
		text := t.Format("Jan 2")
		if step < day && (t.Hour() != 0 || t.Minute() != 0) {
			text = t.Format("15:04")
		} else if step > 28*day {
			text = t.Format("Jan 2006")
		}
		all = append(all, tick{percentOf(at, span), text, class})
		n++
	}
	return all
}

func percentOf(at, span time.Duration) string {
	return strconv.FormatFloat(100*float64(at)/float64(span), 'f', 2, 64)
}
