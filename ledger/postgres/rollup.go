package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/internal/counts"
)

// defaultChunk is about how many rows one transaction of a roll-up reads or
// deletes: few enough that commits of lanes wait a fraction of a second at most.
const defaultChunk = 20_000

// Rollup applies r as of now, and returns what is kept from then on: it adds up the
// hours and days that are over, and deletes what is older than its retention. It works
// in many short transactions, each complete in itself, so it may end anywhere and be
// repeated at any time. A grain is kept at least as long as the finer one; what has been
// rolled up stays so, whatever the next call asks for. While another process
// rolls up it does nothing.
func (l *Ledger) Rollup(ctx context.Context, r ledger.Retention, now time.Time) (kept ledger.Kept, err error) {
	if err := l.rollup(ctx, r, now); err != nil {
		return kept, err
	}
	err = l.read(ctx, "roll up", func(ctx context.Context, tx pgx.Tx) error {
		m, err := readMarks(ctx, tx)
		kept = m.Kept()
		return err
	})
	return kept, err
}

func (l *Ledger) rollup(ctx context.Context, r ledger.Retention, now time.Time) error {
	if l.readOnly {
		return fmt.Errorf("%s: roll up: it is open for reading only", l.name)
	}
	select {
	case <-l.closing:
		return l.fault("roll up", fs.ErrClosed)
	default:
	}
	// A connection of its own, whose end gives the lock up.
	c, err := pgx.ConnectConfig(ctx, l.pool.config)
	if err != nil {
		return l.fault("roll up", err)
	}
	defer hangUp(c)
	var alone bool
	if err := c.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", l.locks.rollup).Scan(&alone); err != nil || !alone {
		return l.fault("roll up", err)
	}
	at := counts.At(r, now)
	for _, step := range []struct {
		doing string
		// once does one transaction's worth of it, if there is any left.
		once func(ctx context.Context, w *roller) (more bool, err error)
	}{
		{"sum minutes up to hours", func(ctx context.Context, w *roller) (bool, error) { return sumMinutes.once(ctx, w, at.Hour) }},
		{"sum hours up to days", func(ctx context.Context, w *roller) (bool, error) { return sumHours.once(ctx, w, at.Day) }},
		{"set what is kept", func(ctx context.Context, w *roller) (bool, error) {
			m, err := readMarks(ctx, w.tx)
			if err != nil {
				return false, err
			}
			return false, errors.Join(
				w.setMark(ctx, "minutes_from", min(at.MinutesFrom, m.MinutesSummed)),
				w.setMark(ctx, "hours_from", min(at.HoursFrom, m.HoursSummed)))
		}},
		{"delete old minutes", func(ctx context.Context, w *roller) (bool, error) {
			return w.deleteCounts(ctx, "count_minutes", "minutes_from")
		}},
		{"delete old hours", func(ctx context.Context, w *roller) (bool, error) {
			return w.deleteCounts(ctx, "count_hours", "hours_from")
		}},
		{"sum days up", func(ctx context.Context, w *roller) (bool, error) {
			m, err := readMarks(ctx, w.tx)
			if err != nil {
				return false, err
			}
			return sumDays.once(ctx, w, min(at.DaysFrom, m.HoursFrom))
		}},
		{"sum recipient domains up", func(ctx context.Context, w *roller) (bool, error) { return w.moveDomains(ctx, at.DomainDays) }},
		{"delete old recipient domains", func(ctx context.Context, w *roller) (bool, error) { return w.deleteDomains(ctx, at.Domains) }},
		{"sum delays up", func(ctx context.Context, w *roller) (bool, error) {
			return false, w.moveDelays(ctx, at.DelayDays, at.DelayTotals)
		}},
		{"delete old templates", func(ctx context.Context, w *roller) (bool, error) {
			return false, w.deleteTemplates(ctx, at.Templates, at.NewTemplates, r.TemplatesPerCategory)
		}},
		{"delete old alerts", func(ctx context.Context, w *roller) (bool, error) {
			_, err := w.exec(ctx, "DELETE FROM alert_changes WHERE id IN (SELECT id FROM alert_changes WHERE latest AND NOT open AND time < $1)", at.Alerts)
			return false, err
		}},
	} {
		for more := true; more; {
			err := transact(ctx, c, l.timeout, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) (err error) {
				if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", l.locks.marks); err != nil {
					return err
				}
				more, err = step.once(ctx, &roller{tx, l.chunk})
				return err
			})
			if err != nil {
				return l.fault("roll up: "+step.doing, err)
			}
		}
	}
	return nil
}

// roller is one transaction of a roll-up: no commit is under way.
type roller struct {
	tx    pgx.Tx
	chunk int64
}

func (w *roller) exec(ctx context.Context, text string, args ...any) (changed int64, err error) {
	tag, err := w.tx.Exec(ctx, text, args...)
	return tag.RowsAffected(), err
}

// integer returns the first column of the first row, or none if there is no
// row or it is null.
func (w *roller) integer(ctx context.Context, text string, none int64, args ...any) (int64, error) {
	var v *int64
	err := w.tx.QueryRow(ctx, text, args...).Scan(&v)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && v == nil {
		return none, nil
	}
	if err != nil {
		return 0, err
	}
	return *v, nil
}

func (w *roller) setMark(ctx context.Context, name string, at int64) error {
	_, err := w.exec(ctx, "UPDATE marks SET at = $1 WHERE name = $2 AND at < $1", at, name)
	return err
}

// A sum adds the rows of a finer table up into a coarser one and moves the
// mark that says how far it has come.
type sum struct {
	mark      string
	from      func(counts.Marks) int64 // its value
	next, cut string                   // queries: first start from the mark on, start of the row after a chunk
	add       string
	remove    string // deletes the rows added, if they are not to stay
	span      int64  // of a row of the finer table
}

func newSum(finer, coarser counts.Grain, mark string, from func(counts.Marks) int64) *sum {
	start := "0"
	if coarser != counts.Totals {
		start = fmt.Sprintf("start - start %% %d", coarser.Span())
	}
	s := &sum{
		mark: mark, from: from, span: finer.Span(),
		next: "SELECT min(start) FROM " + tables[finer] + " WHERE start >= $1",
		cut:  "SELECT start FROM " + tables[finer] + " WHERE start >= $1 ORDER BY start LIMIT 1 OFFSET $2",
		add: "INSERT INTO " + tables[coarser] + " AS t (start, lane, series, attempts, firsts) SELECT " + start +
			", lane, series, sum(attempts), sum(firsts) FROM " + tables[finer] + ` WHERE start >= $1 AND start < $2 GROUP BY 1, 2, 3
			ON CONFLICT (start, lane, series) DO UPDATE SET attempts = t.attempts + excluded.attempts, firsts = t.firsts + excluded.firsts`,
	}
	// Finer rows stay until their retention is over, as that of days now is.
	if coarser == counts.Totals {
		s.remove = "DELETE FROM " + tables[finer] + " WHERE start >= $1 AND start < $2"
	}
	return s
}

var (
	sumMinutes = newSum(counts.Minutes, counts.Hours, "minutes_summed", func(m counts.Marks) int64 { return m.MinutesSummed })
	sumHours   = newSum(counts.Hours, counts.Days, "hours_summed", func(m counts.Marks) int64 { return m.HoursSummed })
	sumDays    = newSum(counts.Days, counts.Totals, "days_from", func(m counts.Marks) int64 { return m.DaysFrom })
)

// once sums about a chunk of rows up, none of them from time end on. The rows
// and the mark move together, so every row is added once.
func (s *sum) once(ctx context.Context, w *roller, end int64) (more bool, err error) {
	m, err := readMarks(ctx, w.tx)
	if err != nil {
		return false, err
	}
	from := s.from(m)
	if from >= end {
		return false, nil
	}
	first, err := w.integer(ctx, s.next, end, from)
	if err != nil {
		return false, err
	}
	to := end
	if first < end {
		cut, err := w.integer(ctx, s.cut, end, first, w.chunk)
		if err != nil {
			return false, err
		}
		to = min(max(cut, first+s.span), end)
		if _, err := w.exec(ctx, s.add, first, to); err != nil {
			return false, err
		}
		if s.remove != "" {
			if _, err := w.exec(ctx, s.remove, first, to); err != nil {
				return false, err
			}
		}
	}
	return to < end, w.setMark(ctx, s.mark, to)
}

// deleteCounts deletes some rows of the table that are older than the mark.
// Rows go in the order in which they came, so whole pages become free, and
// autovacuum hands them to the rows of today: partitions would spare that, but
// to make and drop them needs the rights of an owner.
func (w *roller) deleteCounts(ctx context.Context, table, mark string) (more bool, err error) {
	end, err := w.integer(ctx, "SELECT at FROM marks WHERE name = $1", 0, mark)
	if err != nil {
		return false, err
	}
	cut, err := w.integer(ctx, "SELECT start FROM "+table+" WHERE start < $1 ORDER BY start LIMIT 1 OFFSET $2", end, end, w.chunk)
	if err != nil {
		return false, err
	}
	// All rows of the time cut as well, so that it advances always.
	n, err := w.exec(ctx, "DELETE FROM "+table+" WHERE start <= $1 AND start < $2", cut, end)
	return n > 0 && cut < end, err
}

// moveDomains moves some counts per recipient domain that are older than end
// from hours to days.
func (w *roller) moveDomains(ctx context.Context, end int64) (more bool, err error) {
	n, err := w.exec(ctx, `WITH
		gone AS (DELETE FROM domain_hours WHERE ctid = ANY(ARRAY(SELECT ctid FROM domain_hours WHERE start < $1 LIMIT $2)) RETURNING *),
		added AS (INSERT INTO domain_days AS t (start, lane, domain, outcome, category, attempts)
			SELECT start - start % 86400, lane, domain, outcome, category, sum(attempts) FROM gone GROUP BY 1, 2, 3, 4, 5
			ON CONFLICT (start, lane, domain, outcome, category) DO UPDATE SET attempts = t.attempts + excluded.attempts)
		SELECT 1 FROM gone`, end, w.chunk)
	return n == w.chunk, err
}

// deleteDomains deletes some counts per recipient domain that are older than
// end.
func (w *roller) deleteDomains(ctx context.Context, end int64) (more bool, err error) {
	for _, table := range []string{"domain_hours", "domain_days"} {
		n, err := w.exec(ctx, "DELETE FROM "+table+" WHERE ctid = ANY(ARRAY(SELECT ctid FROM "+table+" WHERE start < $1 LIMIT $2))", end, w.chunk)
		if err != nil {
			return false, err
		}
		more = more || n == w.chunk
	}
	return more, nil
}

// moveDelays moves delays to days and then to rows without a time. There are
// few: providers times outcomes times lanes for each hour.
func (w *roller) moveDelays(ctx context.Context, hoursFrom, daysFrom int64) error {
	head := "INSERT INTO delay_days AS t (start, lane, provider, outcome, " + counts.DelayColumns + ") SELECT "
	for _, step := range []struct {
		text string
		end  int64
	}{
		{head + "start - start % 86400, lane, provider, outcome, " + sumDelays + " FROM delay_hours WHERE start < $1 GROUP BY 1, 2, 3, 4 " + addDelay, hoursFrom},
		{"DELETE FROM delay_hours WHERE start < $1", hoursFrom},
		{head + "0, lane, provider, outcome, " + sumDelays + " FROM delay_days WHERE start > 0 AND start < $1 GROUP BY lane, provider, outcome " + addDelay, daysFrom},
		{"DELETE FROM delay_days WHERE start > 0 AND start < $1", daysFrom},
	} {
		if _, err := w.exec(ctx, step.text, step.end); err != nil {
			return err
		}
	}
	return nil
}

// deleteTemplates deletes the wordings that were not seen since oldest, and of
// each category all but the n most frequent and those n of the last day: a new
// wording must have time to become frequent.
func (w *roller) deleteTemplates(ctx context.Context, oldest, recent int64, n int) error {
	if _, err := w.exec(ctx, `DELETE FROM templates AS t USING (
		SELECT category, provider, hash, last,
			row_number() OVER (PARTITION BY category ORDER BY n DESC, provider, hash) AS frequent,
			row_number() OVER (PARTITION BY category ORDER BY last DESC, n DESC, provider, hash) AS late
		FROM (SELECT category, provider, hash, sum(attempts) AS n, max(last) AS last FROM template_counts GROUP BY 1, 2, 3) AS c) AS d
		WHERE t.category = d.category AND t.provider = d.provider AND t.hash = d.hash
			AND (d.last < $1 OR frequent > $2 AND (late > $2 OR last < $3))`, oldest, int64(n), recent); err != nil {
		return err
	}
	_, err := w.exec(ctx, `DELETE FROM template_counts AS c WHERE NOT EXISTS
		(SELECT 1 FROM templates AS t WHERE t.category = c.category AND t.provider = c.provider AND t.hash = c.hash)`)
	return err
}
