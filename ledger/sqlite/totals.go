package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/internal/counts"
)

// DelayTotals returns the all-time delays, by provider and outcome.
func (l *Ledger) DelayTotals(ctx context.Context) ([]ledger.DelayTotal, error) {
	var all []ledger.DelayTotal
	sums := counts.EachDelayColumn(func(c string) string { return "sum(" + c + ")" })
	err := l.read(ctx, "sum delays", func(c *conn) error {
		return c.query(ctx, "SELECT provider, outcome, "+sums+" FROM (SELECT * FROM delay_hours UNION ALL SELECT * FROM delay_days) GROUP BY provider, outcome",
			func(row []value) error {
				var t ledger.DelayTotal
				t.Provider, _ = row[0].(string)
				t.Outcome, _ = row[1].(string)
				for i := range t.Buckets {
					t.Buckets[i], _ = row[2+i].(int64)
				}
				t.Micros, _ = row[2+len(t.Buckets)].(int64)
				all = append(all, t)
				return nil
			})
	})
	return all, err
}

// DomainCounts returns what happened at the limit recipient domains with most
// attempts in the hours (for older counts the days) that start at since or
// later and before until, Unix seconds; zero means unbounded. The busiest
// domain is first, and within a domain what happened most.
func (l *Ledger) DomainCounts(ctx context.Context, since, until int64, limit int) ([]ledger.DomainTotal, error) {
	if until == 0 {
		until = counts.Forever
	}
	var all []ledger.DomainTotal
	err := l.read(ctx, "count recipient domains", func(c *conn) error {
		return c.query(ctx, `WITH
			these AS (
				SELECT domain, kind, attempts FROM domain_hours WHERE start >= ?1 AND start < ?2 UNION ALL
				SELECT domain, kind, attempts FROM domain_days WHERE start >= ?1 AND start < ?2),
			top AS (SELECT domain, sum(attempts) AS n FROM these GROUP BY domain ORDER BY n DESC, domain LIMIT ?3)
			SELECT domain, outcome, category, sum(attempts) AS a
			FROM top JOIN these USING (domain) JOIN kinds ON kinds.id = kind
			GROUP BY domain, outcome, category ORDER BY n DESC, domain, a DESC, outcome, category`,
			func(row []value) error {
				var t ledger.DomainTotal
				t.Domain, _ = row[0].(string)
				t.Outcome, _ = row[1].(string)
				t.Category, _ = row[2].(string)
				t.Attempts, _ = row[3].(int64)
				all = append(all, t)
				return nil
			}, since, until, int64(limit))
	})
	return all, err
}

// Templates returns the wordings that match f and were seen most, up to limit.
func (l *Ledger) Templates(ctx context.Context, f ledger.TemplateFilter, limit int) ([]ledger.Template, error) {
	var all []ledger.Template
	err := l.read(ctx, "list templates", func(c *conn) error {
		return c.query(ctx, `SELECT hash, category, provider, rule, text, attempts, first, last FROM templates
			WHERE (?1 = '' OR category = ?1) AND (?2 = '' OR provider = ?2)
			ORDER BY attempts DESC, category, provider, hash LIMIT ?3`,
			func(row []value) error {
				var t ledger.Template
				hash, _ := row[0].(int64)
				t.Hash = uint64(hash)
				t.Category, _ = row[1].(string)
				t.Provider, _ = row[2].(string)
				t.Rule, _ = row[3].(string)
				t.Text, _ = row[4].(string)
				t.Attempts, _ = row[5].(int64)
				t.First, _ = row[6].(int64)
				t.Last, _ = row[7].(int64)
				all = append(all, t)
				return nil
			}, f.Category, f.Provider, int64(limit))
	})
	return all, err
}

// recentTexts read the series of every count once, the latest first.
var recentTexts = []struct{ text, mark string }{
	{"SELECT start, series FROM count_minutes WHERE start >= ? ORDER BY start DESC", "minutes_summed"},
	{"SELECT start, series FROM count_hours WHERE start >= ? ORDER BY start DESC", "hours_summed"},
	{"SELECT start, series FROM count_days WHERE start >= ? ORDER BY start DESC", "days_from"},
	{"SELECT start, series FROM count_totals WHERE start >= ?", ""},
}

var errEnough = errors.New("enough rows")

// Names returns up to limit names of a dimension, the most recently active
// first; those of the same time in order of name. A dimension of lanes gives
// an error: Lanes has those.
func (l *Ledger) Names(ctx context.Context, d ledger.Dimension, limit int) ([]string, error) {
	col := counts.Column(d)
	if col < 0 {
		return nil, fmt.Errorf("list names: dimension %d is not counted by series", d)
	}
	type seen struct {
		name string
		last int64
	}
	var found []seen
	err := l.read(ctx, "list names", func(c *conn) error {
		s, err := l.names(ctx, c)
		if err != nil {
			return err
		}
		known := make([]bool, len(s.Names(col)))
		left := len(known)
		for _, part := range recentTexts {
			from := int64(0)
			if part.mark != "" {
				if from, err = c.integer("SELECT at FROM marks WHERE name = ?", 0, part.mark); err != nil {
					return err
				}
			}
			err := c.query(ctx, part.text, func(row []value) error {
				start, _ := row[0].(int64)
				id, _ := row[1].(int64)
				if left == 0 || len(found) >= limit && start < found[len(found)-1].last {
					return errEnough
				}
				if err := s.Has(id); err != nil {
					return err
				}
				n := s.Number(col, id)
				if known[n] {
					return nil
				}
				known[n] = true
				left--
				found = append(found, seen{s.Names(col)[n], start})
				return nil
			}, from)
			if errors.Is(err, errEnough) {
				return nil
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(found, func(a, b seen) int {
		return cmp.Or(cmp.Compare(b.last, a.last), cmp.Compare(a.name, b.name))
	})
	var names []string
	for _, f := range found[:min(len(found), limit)] {
		names = append(names, f.name)
	}
	return names, nil
}
