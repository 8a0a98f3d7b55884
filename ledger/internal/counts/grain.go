// Package counts holds what every store of counts does alike: which grain of
// time answers which part of a query, how counts are grouped by name, how long
// what is kept, and how windows are put in order. The stores bring the rows.
//
// Counts are stored at several grains at once: by minute, and once an hour is
// over also by hour, then by day, then without a time; a finer grain goes when
// its retention is over. Marks say which part of each grain is complete.
package counts

import (
	"errors"
	"fmt"
	"time"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// ErrMissing means that rows refer to others that are not there.
var ErrMissing = errors.New("rows are missing")

// Forever is the end of time.
const Forever = 1<<63 - 1

// Grain is one of the tables of counts.
type Grain uint8

// The grains, from the finest; each row of Totals is a series without a time.
const (
	Minutes Grain = iota
	Hours
	Days
	Totals
	Grains // how many there are
)

// Span returns the seconds of one row; zero for Totals.
func (g Grain) Span() int64 { return [...]int64{60, 3600, 86400, 0}[g] }

// Floor returns the start of the row that has time t.
func (g Grain) Floor(t int64) int64 {
	if g == Totals {
		return 0
	}
	return Floor(t, g.Span())
}

// Floor rounds t down to a multiple of span, also before 1970.
func Floor(t, span int64) int64 {
	r := t % span
	if r < 0 {
		r += span
	}
	return t - r
}

func ceil(t, span int64) int64 { return -Floor(-t, span) }

// Marks says how far each grain reaches:
//
//	MinutesFrom    minutes have everything from here on
//	MinutesSummed  hours have everything before this
//	HoursFrom      … and from here on
//	HoursSummed    days have everything before this
//	DaysFrom       … and from here on; what is older is in totals
//
// They never go back, and
//
//	DaysFrom <= HoursFrom <= HoursSummed <= MinutesSummed, HoursFrom <= MinutesFrom <= MinutesSummed.
type Marks struct {
	MinutesFrom, MinutesSummed int64
	HoursFrom, HoursSummed     int64
	DaysFrom                   int64
}

// Names are what stores call the marks, in the order of the fields.
var Names = [...]string{"minutes_from", "minutes_summed", "hours_from", "hours_summed", "days_from"}

// Set sets the mark of that name, if there is one.
func (m *Marks) Set(name string, at int64) {
	for i, field := range [...]*int64{&m.MinutesFrom, &m.MinutesSummed, &m.HoursFrom, &m.HoursSummed, &m.DaysFrom} {
		if Names[i] == name {
			*field = at
		}
	}
}

// Kept returns what the marks mean for those who count.
func (m *Marks) Kept() ledger.Kept { return ledger.Kept{Minutes: m.MinutesFrom, Hours: m.HoursFrom} }

// Bounds returns the times, from <= start < to, that a grain is to have.
func (m *Marks) Bounds(g Grain) (from, to int64) {
	switch g {
	case Minutes:
		return m.MinutesFrom, Forever
	case Hours:
		return m.HoursFrom, m.MinutesSummed
	case Days:
		return m.DaysFrom, m.HoursSummed
	}
	return -Forever, m.DaysFrom
}

// Part is a run of rows of one grain: From <= start < To.
type Part struct {
	Grain    Grain
	From, To int64
}

// Parts returns what to read for the counts since <= start < until, in order of
// time: each count once, by the coarsest grain that fits into the bounds and,
// if there is a step, into its slots. Zero means unbounded.
func (m *Marks) Parts(since, until, step int64) []Part {
	var parts []Part
	add := func(g Grain, from, to int64) {
		if from < to {
			parts = append(parts, Part{g, from, to})
		}
	}
	if until == 0 {
		until = Forever
	}
	if since == 0 {
		add(Totals, 0, min(until, 1))
	}
	fits := func(g Grain) bool { return step%g.Span() == 0 }
	fine := func(from, to int64) { // from m.HoursFrom on: minutes, and hours where they do
		add(Hours, from, min(to, m.MinutesFrom)) // there is nothing finer
		from = max(from, m.MinutesFrom)
		first, last := ceil(from, 3600), Floor(min(to, m.MinutesSummed), 3600)
		if !fits(Hours) || first >= last {
			add(Minutes, from, to)
			return
		}
		add(Minutes, from, first)
		add(Hours, first, last)
		add(Minutes, last, to)
	}
	add(Days, max(since, m.DaysFrom), min(until, m.HoursFrom)) // there is nothing finer
	from := max(since, m.HoursFrom)
	first, last := ceil(from, 86400), Floor(min(until, m.HoursSummed), 86400)
	if !fits(Days) || first >= last {
		fine(from, until)
		return parts
	}
	fine(from, first)
	add(Days, first, last)
	fine(last, until)
	return parts
}

// Ages are the times, in Unix seconds, that a retention comes to at some
// moment: what is older goes on to the next grain, or goes. Marks never go
// back, so MinutesFrom and HoursFrom are bounded by how far is summed.
type Ages struct {
	Hour, Day                        int64 // the current ones
	MinutesFrom, HoursFrom, DaysFrom int64
	DomainDays, Domains              int64 // counts per recipient domain: by day, dropped
	DelayDays, DelayTotals           int64 // delays: by day, without a time
	Templates                        int64 // last seen before this: dropped
	NewTemplates                     int64 // last seen since: kept among the new ones
	Alerts                           int64 // over before this: dropped
}

// At returns the ages of r. A grain is kept at least as long as the finer one.
func At(r ledger.Retention, now time.Time) Ages {
	r.Hours = max(r.Hours, r.Minutes)
	r.Days = max(r.Days, r.Hours)
	ago := func(d time.Duration, span int64) int64 { return Floor(now.Add(-max(d, 0)).Unix(), span) }
	a := Ages{
		Hour: ago(0, 3600), Day: ago(0, 86400),
		MinutesFrom: ago(r.Minutes, 3600), HoursFrom: ago(r.Hours, 86400), DaysFrom: ago(r.Days, 86400),
		DomainDays: ago(r.Minutes, 86400), Domains: ago(r.Domains, 86400),
		DelayDays: ago(r.Hours, 86400), DelayTotals: ago(r.Days, 86400),
		Templates: ago(r.Templates, 1), NewTemplates: ago(24*time.Hour, 1),
		Alerts: -Forever,
	}
	if r.Alerts > 0 {
		a.Alerts = ago(r.Alerts, 1)
	}
	return a
}

// Delta returns what c counts. What counts without moving the position is an
// error: it could not be recognised if it came again.
func Delta(c *ledger.Commit) (*window.Delta, error) {
	d := c.Delta
	if d == nil {
		d = new(window.Delta)
	}
	if c.Position == c.Expected && (len(d.Counts)+len(d.Domains)+len(d.Delays)+len(d.Templates) > 0 || d.Lines != window.Lines{}) {
		return nil, fmt.Errorf("lane %d counts without moving its position, so a repeat would count twice", c.Lane)
	}
	return d, nil
}

// CheckAlerts returns what is wrong with f, and sets its bounds.
func CheckAlerts(f *ledger.AlertFilter) error {
	if f.Limit < 0 {
		return fmt.Errorf("limit %d must not be negative", f.Limit)
	}
	if f.Limit == 0 {
		f.Limit = 10_000
	}
	if f.Until == 0 {
		f.Until = Forever
	}
	return nil
}

// Check returns what is wrong with a query, and sets its limit.
func Check(q *ledger.Query) error {
	if q.Step < 0 || q.Limit < 0 {
		return fmt.Errorf("step %d and limit %d must not be negative", q.Step, q.Limit)
	}
	if q.Limit == 0 {
		q.Limit = 100_000
	}
	for _, d := range q.By {
		if d >= ledger.Dimensions {
			return fmt.Errorf("unknown dimension %d", d)
		}
	}
	for d := range q.Where {
		if d >= ledger.Dimensions {
			return fmt.Errorf("unknown dimension %d", d)
		}
	}
	return nil
}
