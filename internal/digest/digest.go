// Package digest compares a day or a week of mail with the one before: what got
// worse, what got better, what is new. It is for those who look at mail once in a
// while, without anything being on fire.
package digest

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/alertjson"
	"github.com/bouncemeter/bouncemeter/pipeline/spike"
)

// Ledger is what a digest is made of.
type Ledger interface {
	Query(ctx context.Context, q ledger.Query) ([]ledger.Row, error)
	Templates(ctx context.Context, f ledger.TemplateFilter, limit int) ([]ledger.Template, error)
	Alerts(ctx context.Context, f ledger.AlertFilter) ([]ledger.Alert, error)
}

const (
	// mostChanges, mostNew and mostAlerts bound the lists.
	mostChanges = 8
	mostNew     = 5
	mostAlerts  = 5
	// A change is one if it is of leastExcess messages, a third of what it was, and
	// so many standard deviations; mail varies more than by chance, by dispersion.
	leastExcess = 20
	leastTimes  = 4.0 / 3
	leastSigma  = 4
	dispersion  = 4
	// covered is the part of a change that one of its parts must have to be named
	// instead.
	covered = 0.7
	// leastNew is how often a new wording must have been heard.
	leastNew = 5
	// mostTemplates is among how many wordings new ones are looked for.
	mostTemplates = 10_000
)

// Digest compares the time from From to Until with the same time before From.
// Counted are first outcomes of recipients.
type Digest struct {
	From   time.Time `json:"from"`
	Until  time.Time `json:"until"`
	Now    Counts    `json:"now"`
	Before Counts    `json:"before"`
	// Worse and Better have the largest changes first, New the most frequent.
	Worse  []Change  `json:"worse"`
	Better []Change  `json:"better"`
	New    []Wording `json:"new"`
	// Alerts are those that people were told of and that were open in the time, the
	// most severe first; Ticket, Warning and Critical count them.
	Alerts                    []Alert `json:"alerts"`
	Ticket, Warning, Critical int     `json:"-"`
}

// Counts are messages that were attempted, and those of them that failed.
type Counts struct {
	Attempts int64 `json:"attempts"`
	Failures int64 `json:"failures"`
}

// Ratio is the part that failed.
func (c Counts) Ratio() float64 {
	if c.Attempts == 0 {
		return 0
	}
	return float64(c.Failures) / float64(c.Attempts)
}

// Change is how often something failed so in both times. An empty Provider or
// SenderDomain means all.
type Change struct {
	Category     string `json:"category"`
	Provider     string `json:"provider,omitempty"`
	SenderDomain string `json:"sender_domain,omitempty"`
	Now          Counts `json:"now"`
	Before       Counts `json:"before"`
	// Excess is how many more failed than would have at the ratio of before.
	Excess float64 `json:"excess"`
}

// Wording is one that was heard for the first time.
type Wording struct {
	Category string    `json:"category"`
	Provider string    `json:"provider"`
	Text     string    `json:"text"`
	Attempts int64     `json:"attempts"`
	First    time.Time `json:"first"`
}

// Alert is what is told of an alert.
type Alert struct {
	ID       string             `json:"id"`
	Severity alertjson.Severity `json:"severity"`
	Title    string             `json:"title"`
	Since    time.Time          `json:"since"`
	Resolved *time.Time         `json:"resolved"` // nil while it is open
	Excess   float64            `json:"excess"`
}

// key is what is counted: of one provider or all, one sender domain or all, and
// one category, or none for attempts.
type key struct{ category, provider, domain string }

// every stands for all names of a dimension; no name has a zero byte.
const every = "\x00"

// Make reads a digest from the ledger.
func Make(ctx context.Context, l Ledger, from, until time.Time) (*Digest, error) {
	d := &Digest{From: from, Until: until, Worse: []Change{}, Better: []Change{}, New: []Wording{}, Alerts: []Alert{}}
	now, err := count(ctx, l, from, until)
	if err != nil {
		return nil, err
	}
	before, err := count(ctx, l, from.Add(-until.Sub(from)), from)
	if err != nil {
		return nil, err
	}
	total := func(counts map[key]int64) Counts {
		return Counts{counts[key{"", every, every}], counts[key{every, every, every}]}
	}
	d.Now, d.Before = total(now), total(before)
	if d.Before.Attempts > 0 {
		d.Worse = changes(now, before, 1)
		d.Better = changes(now, before, -1)
	}
	if err := d.wordings(ctx, l); err != nil {
		return nil, err
	}
	return d, d.alerts(ctx, l)
}

// count returns first outcomes: failures by category and attempts, of each pair of
// names and of all.
func count(ctx context.Context, l Ledger, from, until time.Time) (map[key]int64, error) {
	rows, err := ledger.QueryAll(ctx, l.Query, ledger.Query{
		Since: from.Unix(), Until: until.Unix(),
		By: []ledger.Dimension{ledger.ByOutcome, ledger.ByCategory, ledger.ByProvider, ledger.BySenderDomain},
	})
	if err != nil {
		return nil, err
	}
	counts := make(map[key]int64)
	for _, r := range rows {
		o, ok := event.OutcomeByName(r.Keys[0])
		if !ok || o != event.Delivered && o != event.Deferred && o != event.Bounced {
			continue
		}
		for _, p := range []string{r.Keys[2], every} {
			for _, domain := range []string{r.Keys[3], every} {
				counts[key{"", p, domain}] += r.Firsts
				if o != event.Delivered && r.Keys[1] != "" {
					counts[key{r.Keys[1], p, domain}] += r.Firsts
				}
			}
		}
		if o != event.Delivered {
			counts[key{every, every, every}] += r.Firsts
		}
	}
	return counts, nil
}

// changes returns what failed more (sign 1) or less (-1), the largest change
// first: as narrow as explains it, and nothing that another one explains.
func changes(now, before map[key]int64, sign float64) []Change {
	found := make(map[key]Change)
	consider := func(k key) {
		if k.category == "" || k.category == every {
			return
		}
		c := Change{
			Category: k.category,
			Now:      Counts{now[key{"", k.provider, k.domain}], now[k]},
			Before:   Counts{before[key{"", k.provider, k.domain}], before[k]},
		}
		if k.provider != every {
			c.Provider = k.provider
		}
		if k.domain != every {
			c.SenderDomain = k.domain
		}
		if c.Now.Attempts == 0 || c.Before.Attempts == 0 {
			return // it is the traffic that is new or gone
		}
		n := float64(c.Now.Attempts)
		c.Excess = float64(c.Now.Failures) - n*c.Before.Ratio()
		// Both counts vary; neither is known better than by itself.
		variance := dispersion * (float64(c.Now.Failures) + float64(c.Before.Failures)*(n/float64(c.Before.Attempts))*(n/float64(c.Before.Attempts)) + 1)
		more, less := c.Now.Ratio(), c.Before.Ratio()
		if sign < 0 {
			more, less = less, more
		}
		if sign*c.Excess >= leastExcess && more >= leastTimes*less && sign*c.Excess >= leastSigma*math.Sqrt(variance) {
			found[k] = c
		}
	}
	for k := range now {
		consider(k)
	}
	for k := range before {
		if _, ok := now[k]; !ok {
			consider(k)
		}
	}
	keys := make([]key, 0, len(found))
	for k := range found {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(cmp.Compare(sign*found[b].Excess, sign*found[a].Excess), cmp.Compare(wide(a), wide(b)),
			cmp.Compare(a.category, b.category), cmp.Compare(a.provider, b.provider), cmp.Compare(a.domain, b.domain))
	})
	var chosen []key
	told := func(k key) bool {
		return slices.ContainsFunc(chosen, func(o key) bool { return contains(o, k) || contains(k, o) })
	}
	all := []Change{}
	for _, k := range keys {
		// The narrowest part that is nearly all of it says more.
		for _, o := range keys {
			if wide(o) < wide(k) && contains(k, o) && sign*found[o].Excess >= covered*sign*found[k].Excess {
				k = o
			}
		}
		if len(all) < mostChanges && !told(k) {
			chosen = append(chosen, k)
			all = append(all, found[k])
		}
	}
	return all
}

// wide is how many dimensions of k are not narrowed down.
func wide(k key) (n int) {
	if k.provider == every {
		n++
	}
	if k.domain == every {
		n++
	}
	return n
}

// contains reports whether o is a part of k.
func contains(k, o key) bool {
	return k.category == o.category && (k.provider == every || k.provider == o.provider) && (k.domain == every || k.domain == o.domain)
}

// wordings finds what was heard for the first time.
func (d *Digest) wordings(ctx context.Context, l Ledger) error {
	all, err := l.Templates(ctx, ledger.TemplateFilter{}, mostTemplates)
	if err != nil {
		return err
	}
	oldest := int64(math.MaxInt64)
	for _, t := range all {
		oldest = min(oldest, t.First)
	}
	for _, t := range all {
		// In a ledger that has just begun everything is new.
		if t.First < d.From.Unix() || t.First >= d.Until.Unix() || t.Attempts < leastNew || oldest >= d.From.Unix() {
			continue
		}
		d.New = append(d.New, Wording{t.Category, t.Provider, t.Text, t.Attempts, time.Unix(t.First, 0)})
	}
	slices.SortStableFunc(d.New, func(a, b Wording) int {
		return cmp.Or(cmp.Compare(b.Attempts, a.Attempts), a.First.Compare(b.First), cmp.Compare(a.Text, b.Text))
	})
	d.New = d.New[:min(len(d.New), mostNew)]
	return nil
}

// alerts finds those that people were told of.
func (d *Digest) alerts(ctx context.Context, l Ledger) error {
	open, err := l.Alerts(ctx, ledger.AlertFilter{Latest: true, Open: true})
	if err != nil {
		return err
	}
	ended, err := l.Alerts(ctx, ledger.AlertFilter{Latest: true, Since: d.From.Unix(), Newest: true})
	if err != nil {
		return err
	}
	seen := make(map[string]bool)
	for _, c := range slices.Concat(open, ended) {
		a, err := alertjson.Decode(&c)
		if err != nil { // of another version: what the ledger knows beside it
			at := time.Unix(c.Time, 0)
			a = alertjson.Alert{Title: c.Rule, Severity: alertjson.Ticket, State: alertjson.State(c.State), Since: at, Fired: at, Resolved: at}
		}
		if seen[c.ID] || a.Inhibited || !a.Fired.Before(d.Until) || !a.State.Open() && a.Resolved.Before(d.From) {
			continue
		}
		seen[c.ID] = true
		x := Alert{ID: c.ID, Severity: a.Severity, Title: a.Title, Since: a.Since, Excess: a.Excess}
		if !a.State.Open() {
			x.Resolved = &a.Resolved
		}
		switch a.Severity {
		case alertjson.Critical:
			d.Critical++
		case alertjson.Warning:
			d.Warning++
		default:
			d.Ticket++
		}
		d.Alerts = append(d.Alerts, x)
	}
	slices.SortStableFunc(d.Alerts, func(a, b Alert) int {
		return cmp.Or(cmp.Compare(b.Severity.Rank(), a.Severity.Rank()), cmp.Compare(b.Excess, a.Excess), a.Since.Compare(b.Since))
	})
	return nil
}

// span is what the time is called: "week", "day", "3 hours".
func (d *Digest) span() string {
	switch s := d.Until.Sub(d.From); {
	case s >= 167*time.Hour && s <= 169*time.Hour: // clocks may have changed
		return "week"
	case s >= 23*time.Hour && s <= 25*time.Hour:
		return "day"
	case s < 72*time.Hour:
		return quantity(int(s.Hours()), "hour")
	default:
		return quantity(int(s.Hours())/24, "day")
	}
}

// Title says the most important in a line.
func (d *Digest) Title() string {
	s := "Mail of the " + d.span() + ": " + percent(d.Now.Ratio()) + " failed"
	if d.Before.Attempts > 0 {
		s += ", " + percent(d.Before.Ratio()) + " the " + d.span() + " before"
	}
	if n := len(d.Worse); n > 0 {
		s += fmt.Sprintf("; %d got worse", n)
	}
	if n := len(d.Alerts); n > 0 {
		s += "; " + quantity(n, "alert")
	}
	return s
}

// Lines say all of it. Those that are part of a list begin with "- ". They have
// what remote servers said and are not escaped.
func (d *Digest) Lines() []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	const clock = "Mon 2 Jan 15:04"
	say("From %s to %s %s of %s messages failed at first: %s.", d.From.Format(clock), d.Until.Format(clock+" MST"), number(d.Now.Failures), number(d.Now.Attempts), percent(d.Now.Ratio()))
	if d.Before.Attempts > 0 {
		say("In the %s before it was %s of %s: %s.", d.span(), number(d.Before.Failures), number(d.Before.Attempts), percent(d.Before.Ratio()))
	} else {
		say("There is nothing of the %s before to compare with.", d.span())
	}
	list := func(title string, all []Change) {
		if len(all) == 0 {
			return
		}
		say("")
		say("%s:", title)
		for _, c := range all {
			word := "more"
			if c.Excess < 0 {
				word = "fewer"
			}
			say("- %s: %s instead of %s, %s messages %s", c.what(), percent(c.Now.Ratio()), percent(c.Before.Ratio()), number(int64(math.Abs(c.Excess)+0.5)), word)
		}
	}
	list("Worse", d.Worse)
	list("Better", d.Better)
	if len(d.New) > 0 {
		say("")
		say("New wordings:")
		for _, w := range d.New {
			say("- %s, %s times since %s (%s): %s", cmp.Or(w.Provider, "unknown provider"), number(w.Attempts), w.First.In(d.From.Location()).Format(clock), spike.Readable(w.Category), w.Text)
		}
	}
	say("")
	if len(d.Alerts) == 0 {
		say("No alert was raised.")
	} else {
		say("%s: %d critical, %d warning, %d ticket.", capital(quantity(len(d.Alerts), "alert")), d.Critical, d.Warning, d.Ticket)
		for _, a := range d.Alerts[:min(len(d.Alerts), mostAlerts)] {
			how := "still open"
			if a.Resolved != nil {
				how = "over after " + lasted(a.Resolved.Sub(a.Since))
			}
			say("- %s, %s, since %s, %s", a.Title, a.Severity, a.Since.In(d.From.Location()).Format(clock), how)
		}
		if more := len(d.Alerts) - mostAlerts; more > 0 {
			say("- and %d more", more)
		}
	}
	return out
}

// what names a change.
func (c *Change) what() string {
	s := capital(spike.Readable(c.Category))
	if c.SenderDomain != "" {
		s += " for " + c.SenderDomain
	}
	if c.Provider != "" {
		s += " at " + c.Provider
	}
	return s
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func quantity(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// percent writes a ratio with two significant digits.
func percent(r float64) string {
	if r >= 0.1 || r == 0 {
		return strconv.FormatFloat(100*r, 'f', 0, 64) + "%"
	}
	return strconv.FormatFloat(100*r, 'g', 2, 64) + "%"
}

// number writes 1,234.
func number(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func lasted(t time.Duration) string {
	switch {
	case t < 2*time.Hour:
		return fmt.Sprintf("%d min", int(t.Minutes()))
	case t < 48*time.Hour:
		return fmt.Sprintf("%d h", int(t.Hours()))
	}
	return fmt.Sprintf("%d days", int(t.Hours()/24))
}
