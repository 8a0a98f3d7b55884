package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/internal/counts"
)

// DelayTotals returns the all-time delays, by provider and outcome.
func (l *Ledger) DelayTotals(ctx context.Context) ([]ledger.DelayTotal, error) {
	sums := counts.EachDelayColumn(func(c string) string { return "sum(" + c + ")::bigint" })
	return list(ctx, l, "sum delays", func(v [][]byte) ledger.DelayTotal {
		t := ledger.DelayTotal{Provider: string(v[0]), Outcome: string(v[1])}
		for i := range t.Buckets {
			t.Buckets[i] = number(v[2+i])
		}
		t.Micros = number(v[2+len(t.Buckets)])
		return t
	}, "SELECT provider, outcome, "+sums+` FROM (SELECT * FROM delay_hours UNION ALL SELECT * FROM delay_days) AS d
		GROUP BY provider, outcome ORDER BY provider, outcome`)
}

// DomainCounts returns what happened at the limit recipient domains with most
// attempts in the hours (for older counts the days) that start at since or
// later and before until, Unix seconds; zero means unbounded. The busiest
// domain is first, and within a domain what happened most.
func (l *Ledger) DomainCounts(ctx context.Context, since, until int64, limit int) ([]ledger.DomainTotal, error) {
	if until == 0 {
		until = counts.Forever
	}
	return list(ctx, l, "count recipient domains", func(v [][]byte) ledger.DomainTotal {
		return ledger.DomainTotal{Domain: string(v[0]), Outcome: string(v[1]), Category: string(v[2]), Attempts: number(v[3])}
	}, `WITH
		these AS (
			SELECT domain, outcome, category, sum(attempts) AS attempts FROM (
				SELECT domain, outcome, category, attempts FROM domain_hours WHERE start >= $1 AND start < $2 UNION ALL
				SELECT domain, outcome, category, attempts FROM domain_days WHERE start >= $1 AND start < $2) AS d
			GROUP BY domain, outcome, category),
		top AS (SELECT domain, sum(attempts) AS n FROM these GROUP BY domain ORDER BY n DESC, domain LIMIT $3)
		SELECT domain, outcome, category, attempts::bigint
		FROM top JOIN these USING (domain) ORDER BY n DESC, domain, attempts DESC, outcome, category`, since, until, int64(limit))
}

// Templates returns the wordings that match f and were seen most, up to limit.
func (l *Ledger) Templates(ctx context.Context, f ledger.TemplateFilter, limit int) ([]ledger.Template, error) {
	return list(ctx, l, "list templates", func(v [][]byte) ledger.Template {
		return ledger.Template{
			Hash: uint64(number(v[0])), Category: string(v[1]), Provider: string(v[2]), Rule: string(v[3]), Text: string(v[4]),
			Attempts: number(v[5]), First: number(v[6]), Last: number(v[7]),
		}
	}, `SELECT hash, category, provider, rule, text, n::bigint, first, last
		FROM (SELECT category, provider, hash, sum(attempts) AS n, min(first) AS first, max(last) AS last FROM template_counts
			WHERE ($1 = '' OR category = $1) AND ($2 = '' OR provider = $2) GROUP BY category, provider, hash) AS c
		JOIN templates USING (category, provider, hash)
		ORDER BY n DESC, category, provider, hash LIMIT $3`, f.Category, f.Provider, int64(limit))
}

// Names returns up to limit names of a dimension, the most recently active
// first; those of the same time in order of name. A dimension of lanes gives
// an error: Lanes has those.
func (l *Ledger) Names(ctx context.Context, d ledger.Dimension, limit int) ([]string, error) {
	i := counts.Column(d)
	if i < 0 {
		return nil, fmt.Errorf("list names: dimension %d is not counted by series", d)
	}
	column := [len(counts.SeriesDimensions)]string{"outcome", "category", "secondary", "provider", "sender_domain", "host", "stream"}[i]
	return list(ctx, l, "list names", func(v [][]byte) string { return string(v[0]) }, `WITH
		mark AS (SELECT max(at) FILTER (WHERE name = 'minutes_summed') AS minutes, max(at) FILTER (WHERE name = 'hours_summed') AS hours,
			max(at) FILTER (WHERE name = 'days_from') AS days FROM marks),
		seen AS (
			SELECT series, max(start) AS start FROM count_minutes WHERE start >= (SELECT minutes FROM mark) GROUP BY series UNION ALL
			SELECT series, max(start) FROM count_hours WHERE start >= (SELECT hours FROM mark) GROUP BY series UNION ALL
			SELECT series, max(start) FROM count_days WHERE start >= (SELECT days FROM mark) GROUP BY series UNION ALL
			SELECT series, start FROM count_totals)
		SELECT `+column+` FROM seen JOIN series ON id = series GROUP BY 1 ORDER BY max(start) DESC, 1 LIMIT $1`, int64(limit))
}

// list returns the rows of one query.
func list[T any](ctx context.Context, l *Ledger, doing string, row func(v [][]byte) T, query string, args ...any) ([]T, error) {
	var all []T
	err := l.read(ctx, doing, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, query, args...)
		if err != nil {
			return err
		}
		return each(rows, func(v [][]byte) error {
			all = append(all, row(v))
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}
