package report

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// Querier is what a report needs of a ledger; *sqlite.Ledger is one.
type Querier interface {
	// Query returns grouped counts.
	Query(ctx context.Context, q ledger.Query) ([]ledger.Row, error)
	// Lanes returns the state of every lane.
	Lanes(ctx context.Context) ([]ledger.Lane, error)
	// DomainCounts returns what happened at the limit busiest recipient domains
	// from since to before until, Unix seconds; zero means unbounded.
	DomainCounts(ctx context.Context, since, until int64, limit int) ([]ledger.DomainTotal, error)
	// Templates returns the limit most frequent wordings.
	Templates(ctx context.Context, f ledger.TemplateFilter, limit int) ([]ledger.Template, error)
}

// everything is more rows than a ledger has of any kind.
const everything = 1_000_000

// FromLedger gathers a report of the event times since <= t < until, in Unix
// seconds; zero means unbounded. Without bounds it equals the report of the
// lines that the ledger's lanes have read, as far as the ledger still keeps
// them: it drops recipient domains and rare wordings after some time, and
// counts that are older than its retention of days have no place in the trend.
//
// With bounds, wordings are those seen within them, but counted over all time;
// see Report for the other fields that are affected. While a daemon writes, the
// parts of a report may be some commits apart.
func FromLedger(ctx context.Context, q Querier, since, until int64) (*Report, error) {
	lanes, err := q.Lanes(ctx)
	if err != nil {
		return nil, fmt.Errorf("report from ledger: %w", err)
	}
	var lines window.Lines
	var first, last int64
	for i := range lanes {
		l := &lanes[i]
		lines.Add(l.Lines)
		if l.First != 0 && (first == 0 || l.First < first) {
			first = l.First
		}
		last = max(last, l.Last)
	}
	from, to := max(first, since), last
	if until != 0 {
		to = min(last, until-1)
	}
	b := NewBuilder(Step(from, to))
	slots, err := b.addTrend(ctx, q, since, until, first)
	if err != nil {
		return nil, fmt.Errorf("report from ledger: %w", err)
	}
	switch {
	case since == 0 && until == 0:
		b.AddLines(lines)
		b.AddTimes(first, last)
	case len(slots) > 0:
		b.AddTimes(max(slices.Min(slots), from), min(slices.Max(slots)+b.step-1, to))
	}
	for _, add := range []func(context.Context, Querier, int64, int64) error{b.addCounts, b.addDomains, b.addTemplates} {
		if err := add(ctx, q, since, until); err != nil {
			return nil, fmt.Errorf("report from ledger: %w", err)
		}
	}
	r := b.Report()
	if since != 0 {
		r.Since = timestamp(since)
	}
	if until != 0 {
		r.Until = timestamp(until)
	}
	return r, nil
}

// addTrend adds the trend and returns its slots. Counts whose time the ledger
// no longer knows are at 0 and left out: nothing is before the day of first.
func (b *Builder) addTrend(ctx context.Context, q Querier, since, until, first int64) ([]int64, error) {
	const day = int64(24 * time.Hour / time.Second)
	rows, err := ledger.QueryAll(ctx, q.Query, ledger.Query{
		Since: max(since, first-first%day), Until: until, Step: b.step,
		By: []ledger.Dimension{ledger.ByOutcome, ledger.ByCategory},
	})
	if err != nil {
		return nil, err
	}
	var slots []int64
	for i := range rows {
		o, c, err := named(rows[i].Keys[0], rows[i].Keys[1])
		if err != nil {
			return nil, err
		}
		b.AddTrend(rows[i].Start, o, c, rows[i].Attempts)
		slots = append(slots, rows[i].Start)
	}
	return slots, nil
}

func (b *Builder) addCounts(ctx context.Context, q Querier, since, until int64) error {
	rows, err := ledger.QueryAll(ctx, q.Query, ledger.Query{
		Since: since, Until: until,
		By: []ledger.Dimension{ledger.ByOutcome, ledger.ByCategory, ledger.BySecondary, ledger.ByProvider, ledger.BySenderDomain},
	})
	if err != nil {
		return err
	}
	for i := range rows {
		k := rows[i].Keys
		o, c, err := named(k[0], k[1])
		if err != nil {
			return err
		}
		secondary, err := category(k[2])
		if err != nil {
			return err
		}
		b.AddCount(&window.Series{Outcome: o, Category: c, Secondary: secondary, SenderDomain: k[4], Route: &window.Route{Provider: k[3]}},
			rows[i].Attempts, rows[i].Firsts)
	}
	return nil
}

func (b *Builder) addDomains(ctx context.Context, q Querier, since, until int64) error {
	domains, err := q.DomainCounts(ctx, since, until, everything)
	if err != nil {
		return err
	}
	for i := range domains {
		d := &domains[i]
		o, c, err := named(d.Outcome, d.Category)
		if err != nil {
			return err
		}
		b.AddDomain(d.Domain, o, c, d.Attempts)
	}
	return nil
}

func (b *Builder) addTemplates(ctx context.Context, q Querier, since, until int64) error {
	templates, err := q.Templates(ctx, ledger.TemplateFilter{}, everything)
	if err != nil {
		return err
	}
	for i := range templates {
		t := &templates[i]
		if t.Last < since || until != 0 && t.First >= until {
			continue
		}
		c, err := category(t.Category)
		if err != nil {
			return err
		}
		b.AddTemplate(&window.TemplateCount{
			Hash: t.Hash, Category: c, Provider: t.Provider, Rule: t.Rule, Text: t.Text,
			Attempts: t.Attempts, First: t.First, Last: t.Last,
		})
	}
	return nil
}

func named(outcome, cat string) (event.Outcome, event.Category, error) {
	o, ok := event.OutcomeByName(outcome)
	if !ok {
		return 0, 0, fmt.Errorf("unknown outcome %q: the ledger was written by a newer bouncemeter; use that one", outcome)
	}
	c, err := category(cat)
	return o, c, err
}

// category returns the category of this id; "" is Unset.
func category(id string) (event.Category, error) {
	c, ok := event.CategoryByID(id)
	if !ok && id != "" {
		return 0, fmt.Errorf("unknown category %q: the ledger was written by a newer bouncemeter; use that one", id)
	}
	return c, nil
}
