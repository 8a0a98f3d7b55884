package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/internal/counts"
)

// loadSeries has the columns of counts.SeriesDimensions after the id.
const loadSeries = "SELECT id, outcome, category, secondary, provider, sender_domain, host, stream FROM series WHERE id > $1 ORDER BY id"

// names returns all series and lanes that the transaction sees.
func (l *Ledger) names(ctx context.Context, tx pgx.Tx) (*counts.Series, []counts.LaneName, error) {
	series, err := l.catalog.Load(func(after int64, add func(int64, *[len(counts.SeriesDimensions)]string) error) error {
		rows, err := tx.Query(ctx, loadSeries, after)
		if err != nil {
			return err
		}
		return each(rows, func(v [][]byte) error {
			var names [len(counts.SeriesDimensions)]string
			for d := range names {
				names[d] = string(v[1+d])
			}
			return add(number(v[0]), &names)
		})
	})
	if err != nil {
		return nil, nil, err
	}
	rows, err := tx.Query(ctx, "SELECT id, source, name FROM lanes")
	if err != nil {
		return nil, nil, err
	}
	var lanes []counts.LaneName
	err = each(rows, func(v [][]byte) error {
		lanes = append(lanes, counts.LaneName{ID: number(v[0]), Source: string(v[1]), Name: string(v[2])})
		return nil
	})
	return series, lanes, err
}

// Query returns grouped counts, most attempts first, or in order of time if
// Step is set; equals in order of their keys. It reads the coarsest grain that
// answers exactly, and the server adds up what need not be told apart.
func (l *Ledger) Query(ctx context.Context, q ledger.Query) ([]ledger.Row, error) {
	if err := counts.Check(&q); err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	var result []ledger.Row
	err := l.read(ctx, "query", func(ctx context.Context, tx pgx.Tx) error {
		series, lanes, err := l.names(ctx, tx)
		if err != nil {
			return err
		}
		m, err := readMarks(ctx, tx)
		if err != nil {
			return err
		}
		sum, err := counts.NewSum(&q, series, lanes)
		if err != nil {
			return err
		}
		for _, part := range m.Parts(q.Since, q.Until, q.Step) {
			if err := readPart(ctx, tx, part, q.Step, sum); err != nil {
				return err
			}
		}
		result = sum.Rows()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return result, nil
}

func readPart(ctx context.Context, tx pgx.Tx, part counts.Part, step int64, sum *counts.Sum) error {
	slot, lane, order, groups := "0::bigint", "0", "", "series"
	args := []any{part.From, part.To}
	where := ""
	if ids, some := sum.Filter(); some {
		args = append(args, ids)
		where = " AND series = ANY($3::integer[])"
	}
	if sum.ByLane {
		lane, groups = "lane", "series, lane"
	}
	if step > 0 {
		args = append(args, step)
		n := len(args)
		slot = fmt.Sprintf("start - ((start %% $%d) + $%d) %% $%d", n, n, n)
		groups, order = groups+", 1", " ORDER BY 1"
	}
	rows, err := tx.Query(ctx, "SELECT "+slot+", "+lane+", series, sum(attempts)::bigint, sum(firsts)::bigint FROM "+tables[part.Grain]+
		" WHERE start >= $1 AND start < $2"+where+" GROUP BY "+groups+order, args...)
	if err != nil {
		return err
	}
	return each(rows, func(v [][]byte) error {
		return sum.Add(number(v[0]), number(v[1]), number(v[2]), number(v[3]), number(v[4]))
	})
}

// Windows yields what each series did in each minute with since <= start <
// until, as far as it came in time, summed over lanes and over what Window
// does not tell. Minutes are in order, and within one the windows are in an
// order of their names, so that it is the same whatever process counted when.
// A series without firsts that came in time has no window. Minutes that have
// been rolled up (Retention.Minutes) have none either. The value is valid
// during the call only.
func (l *Ledger) Windows(ctx context.Context, since, until int64, yield func(*ledger.Window) error) error {
	return l.read(ctx, "read windows", func(ctx context.Context, tx pgx.Tx) error {
		series, lanes, err := l.names(ctx, tx)
		if err != nil {
			return err
		}
		m, err := readMarks(ctx, tx)
		if err != nil {
			return err
		}
		w := counts.NewWindows(series, lanes, yield)
		rows, err := tx.Query(ctx, `SELECT start, lane, series, firsts - late FROM count_minutes
			WHERE start >= $1 AND start < $2 AND firsts != late ORDER BY start`, max(since, m.MinutesFrom), until)
		if err != nil {
			return err
		}
		if err := each(rows, func(v [][]byte) error {
			return w.Add(number(v[0]), number(v[1]), number(v[2]), number(v[3]))
		}); err != nil {
			return err
		}
		return w.Flush()
	})
}
