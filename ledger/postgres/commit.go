package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/internal/counts"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// Commit applies c whole or not at all. An error that wraps ledger.ErrConflict
// is final; after any other the caller may call again with the same commit,
// also if the first had been applied unseen, as when the connection was lost
// during COMMIT: then the second is recognised by its position and reported as
// done. A commit that counts without moving the position could not be
// recognised, so it is refused.
func (l *Ledger) Commit(ctx context.Context, c *ledger.Commit) error {
	d, err := counts.Delta(c)
	if err != nil {
		return fmt.Errorf("%s: commit: %w", l.name, err)
	}
	rows, err := l.countRows(ctx, d.Counts)
	if err != nil {
		return err
	}
	return l.write(ctx, "commit", func(ctx context.Context, tx pgx.Tx) error {
		m, applied, err := l.moveLane(ctx, tx, c, d)
		if err != nil || applied {
			return err
		}
		b := &pgx.Batch{}
		addCounts(b, &m, int64(c.Lane), rows)
		addDomains(b, int64(c.Lane), d.Domains)
		addDelays(b, int64(c.Lane), d.Delays)
		addTemplates(b, int64(c.Lane), d.Templates)
		changeEntries(b, int64(c.Lane), c.Upserts, c.Deletes)
		return tx.SendBatch(ctx, b).Close()
	})
}

// moveLane is the compare-and-set that everything hangs on. It reports whether
// the commit had been applied before, and the marks as they stay until the end
// of the transaction.
func (l *Ledger) moveLane(ctx context.Context, tx pgx.Tx, c *ledger.Commit, d *window.Delta) (m counts.Marks, applied bool, err error) {
	n := &d.Lines
	b := &pgx.Batch{}
	b.Queue(`UPDATE lanes SET segment = $1, position = $2,
		read = read + $3, malformed = malformed + $4, truncated = truncated + $5, probes = probes + $6, rejected = rejected + $7,
		lost = lost + $8, unmatched = unmatched + $9, evicted = evicted + $10, folded = folded + $11, future = future + $12, repeated = repeated + $13,
		first = CASE WHEN $14 = 0 OR first != 0 AND first <= $14 THEN first ELSE $14 END, last = greatest(last, $15), updated = $16
		WHERE id = $17 AND segment = $18 AND position = $19`,
		segment(c.Position), c.Position.Offset,
		n.Read, n.Malformed, n.Truncated, n.Probes, n.Rejected, n.Lost, n.Unmatched, n.Evicted, n.Folded, n.Future, n.Repeated,
		d.First, d.Last, c.Now.Unix(), int64(c.Lane), segment(c.Expected), c.Expected.Offset)
	// A statement of its own, so that what comes after it sees what roll-up did.
	b.Queue("SELECT pg_advisory_xact_lock_shared($1)", l.locks.marks)
	b.Queue(marksText)
	results := tx.SendBatch(ctx, b)
	moved, err := results.Exec()
	if err == nil && moved.RowsAffected() == 1 {
		if _, err = results.Exec(); err == nil {
			var rows pgx.Rows
			if rows, err = results.Query(); err == nil {
				m, err = scanMarks(rows)
			}
		}
		return m, false, errors.Join(err, results.Close())
	}
	if err := errors.Join(err, results.Close()); err != nil {
		return m, false, err
	}
	var at event.Position
	var s []byte
	err = tx.QueryRow(ctx, "SELECT segment, position FROM lanes WHERE id = $1", int64(c.Lane)).Scan(&s, &at.Offset)
	at.Segment = string(s)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return m, false, fmt.Errorf("%w: there is no lane %d", ledger.ErrConflict, c.Lane)
	case err != nil:
		return m, false, err
	case at == c.Position:
		return m, true, nil
	}
	return m, false, fmt.Errorf("%w: lane %d is at %q:%d, expected %q:%d",
		ledger.ErrConflict, c.Lane, at.Segment, at.Offset, c.Expected.Segment, c.Expected.Offset)
}

const marksText = "SELECT name, at FROM marks"

func scanMarks(rows pgx.Rows) (m counts.Marks, err error) {
	n := 0
	if err := each(rows, func(v [][]byte) error {
		m.Set(string(v[0]), number(v[1]))
		n++
		return nil
	}); err != nil {
		return m, err
	}
	if n != len(counts.Names) {
		return m, fmt.Errorf("%w: marks", counts.ErrMissing)
	}
	return m, nil
}

// readMarks reads them in the transaction that depends on them.
func readMarks(ctx context.Context, tx pgx.Tx) (counts.Marks, error) {
	rows, err := tx.Query(ctx, marksText)
	if err != nil {
		return counts.Marks{}, err
	}
	return scanMarks(rows)
}

// tables are those of the grains.
var tables = [counts.Grains]string{"count_minutes", "count_hours", "count_days", "count_totals"}

// insertCounts adds to the grains; minutes alone have what came late, since
// detection reads nothing else. Arrays are a third faster than to copy rows
// into a temporary table first.
var insertCounts = func() (texts [counts.Grains]string) {
	for g, table := range tables {
		late, source, add := "", "", ""
		if counts.Grain(g) == counts.Minutes {
			late, source, add = ", late", ", u.late", ", late = t.late + excluded.late"
		}
		texts[g] = "INSERT INTO " + table + " AS t (start, lane, series, attempts, firsts" + late + `)
			SELECT u.start, $1, u.series, u.attempts, u.firsts` + source + `
			FROM unnest($2::bigint[], $3::integer[], $4::bigint[], $5::bigint[], $6::bigint[]) AS u (start, series, attempts, firsts, late)
			ON CONFLICT (start, lane, series) DO UPDATE SET attempts = t.attempts + excluded.attempts, firsts = t.firsts + excluded.firsts` + add
	}
	return texts
}()

// addCounts adds the rows to every grain that is to have them.
func addCounts(b *pgx.Batch, m *counts.Marks, lane int64, rows []counts.Row) {
	for g, text := range insertCounts {
		take := m.Take(counts.Grain(g), rows, nil)
		if len(take) == 0 {
			continue
		}
		n := len(take)
		start, series, attempts, firsts, late := make([]int64, n), make([]int32, n), make([]int64, n), make([]int64, n), make([]int64, n)
		for i, r := range take {
			start[i], series[i], attempts[i], firsts[i], late[i] = r.Start, int32(r.Series), r.Attempts, r.Firsts, r.Late
		}
		b.Queue(text, lane, start, series, attempts, firsts, late)
	}
}

// countRows finds the rows of the series and sorts the counts.
func (l *Ledger) countRows(ctx context.Context, added []window.Count) ([]counts.Row, error) {
	if len(added) == 0 {
		return nil, nil
	}
	ids := make([]int32, len(added))
	var unknown []int
	l.mu.Lock()
	for i := range added {
		id, ok := l.series[added[i].Series]
		if !ok {
			unknown = append(unknown, i)
		}
		ids[i] = id
	}
	l.mu.Unlock()
	if len(unknown) > 0 {
		var missing []*window.Series
		seen := make(map[*window.Series]int32)
		for _, i := range unknown {
			if _, ok := seen[added[i].Series]; !ok {
				seen[added[i].Series] = 0
				missing = append(missing, added[i].Series)
			}
		}
		if err := l.findSeries(ctx, missing, seen); err != nil {
			return nil, err
		}
		for _, i := range unknown {
			ids[i] = seen[added[i].Series]
		}
	}
	rows := make([]counts.Row, len(added))
	for i := range added {
		c := &added[i]
		rows[i] = counts.Row{Start: counts.Minutes.Floor(c.Start), Series: int64(ids[i]), Attempts: c.Attempts, Firsts: c.Firsts, Late: c.Late}
	}
	return counts.Sort(rows), nil
}

// maxSeriesIDs bounds the memory for ids: they are looked up again once all
// have been forgotten.
const maxSeriesIDs = 1 << 18

const seriesArrays = `unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])`

const (
	selectSeries = `SELECT u.n::bigint, s.id FROM ` + seriesArrays + ` WITH ORDINALITY
			AS u (outcome, category, secondary, provider, sender_domain, host, stream, n)
		JOIN series AS s USING (sender_domain, provider, category, outcome, secondary, host, stream)`
	insertSeries = `INSERT INTO series (id, outcome, category, secondary, provider, sender_domain, host, stream)
		SELECT (SELECT coalesce(max(id), 0) FROM series) + row_number() OVER (), u.*
		FROM (SELECT DISTINCT * FROM ` + seriesArrays + ` AS a (outcome, category, secondary, provider, sender_domain, host, stream)) AS u
		WHERE NOT EXISTS (SELECT 1 FROM series AS s WHERE s.sender_domain = u.sender_domain AND s.provider = u.provider AND s.category = u.category
			AND s.outcome = u.outcome AND s.secondary = u.secondary AND s.host = u.host AND s.stream = u.stream)`
)

// findSeries sets the ids of all, and makes the rows that there are not. It is
// a transaction before that of the counts: rows of series say nothing but
// names, and ids must be seen by others in the order in which they are given.
func (l *Ledger) findSeries(ctx context.Context, all []*window.Series, ids map[*window.Series]int32) error {
	var columns [len(counts.SeriesDimensions)][]string
	for _, s := range all {
		for i, name := range [...]string{s.Outcome.String(), s.Category.String(), s.Secondary.String(), s.Provider, s.SenderDomain, s.Host, s.Stream} {
			columns[i] = append(columns[i], text(name))
		}
	}
	args := make([]any, len(columns))
	for i := range columns {
		args[i] = columns[i]
	}
	for _, make := range []bool{false, true} {
		found := 0
		if err := l.write(ctx, "find series", func(ctx context.Context, tx pgx.Tx) error {
			if make {
				if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", l.locks.series); err != nil {
					return err
				}
				if _, err := tx.Exec(ctx, insertSeries, args...); err != nil {
					return err
				}
			}
			rows, err := tx.Query(ctx, selectSeries, args...)
			if err != nil {
				return err
			}
			found = 0
			return each(rows, func(v [][]byte) error {
				ids[all[number(v[0])-1]] = int32(number(v[1]))
				found++
				return nil
			})
		}); err != nil {
			return err
		}
		if found == len(all) {
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.series)+len(all) > maxSeriesIDs {
		clear(l.series)
	}
	for s, id := range ids {
		l.series[s] = id
	}
	return nil
}

func addDomains(b *pgx.Batch, lane int64, domains []window.DomainCount) {
	if len(domains) == 0 {
		return
	}
	n := len(domains)
	start, attempts := make([]int64, n), make([]int64, n)
	domain, outcome, category := make([]string, n), make([]string, n), make([]string, n)
	for i := range domains {
		d := &domains[i]
		start[i], attempts[i] = counts.Hours.Floor(d.Start), d.Attempts
		domain[i], outcome[i], category[i] = text(d.Domain), d.Outcome.String(), d.Category.String()
	}
	// Grouped, since names that the server cannot store may become the same.
	b.Queue(`INSERT INTO domain_hours AS t (start, lane, domain, outcome, category, attempts)
		SELECT start, $1, domain, outcome, category, sum(attempts)
		FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[]) AS u (start, domain, outcome, category, attempts)
		GROUP BY start, domain, outcome, category
		ON CONFLICT (start, lane, domain, outcome, category) DO UPDATE SET attempts = t.attempts + excluded.attempts`,
		lane, start, domain, outcome, category, attempts)
}

var (
	sumDelays = counts.EachDelayColumn(func(c string) string { return "sum(" + c + ")" })
	addDelay  = "ON CONFLICT (start, lane, provider, outcome) DO UPDATE SET " +
		counts.EachDelayColumn(func(c string) string { return c + " = t." + c + " + excluded." + c })
	insertDelays = func() string {
		n := 4
		arrays := counts.EachDelayColumn(func(string) string { n++; return fmt.Sprintf("$%d::bigint[]", n) })
		return "INSERT INTO delay_hours AS t (start, lane, provider, outcome, " + counts.DelayColumns + ") SELECT start, $1, provider, outcome, " + sumDelays +
			" FROM unnest($2::bigint[], $3::text[], $4::text[], " + arrays + ") AS u (start, provider, outcome, " + counts.DelayColumns + ") GROUP BY start, provider, outcome " + addDelay
	}()
)

func addDelays(b *pgx.Batch, lane int64, delays []window.DelayCount) {
	if len(delays) == 0 {
		return
	}
	var start []int64
	var provider, outcome []string
	var columns [len(window.DelayBounds) + 2][]int64
	for i := range delays {
		d := &delays[i]
		start, provider, outcome = append(start, counts.Hours.Floor(d.Start)), append(provider, text(d.Provider)), append(outcome, d.Outcome.String())
		for k, n := range d.Buckets {
			columns[k] = append(columns[k], n)
		}
		columns[len(d.Buckets)] = append(columns[len(d.Buckets)], d.Micros)
	}
	args := []any{lane, start, provider, outcome}
	for i := range columns {
		args = append(args, columns[i])
	}
	b.Queue(insertDelays, args...)
}

// The wordings themselves are shared by all lanes, so they are written only if
// they are new, in the order of their key, or decided by another rule.
const (
	templateArrays  = `unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[]) AS u (category, provider, hash, rule, text)`
	insertTemplates = `INSERT INTO templates (category, provider, hash, rule, text)
		SELECT category, provider, hash, rule, text FROM ` + templateArrays + `
		WHERE NOT EXISTS (SELECT 1 FROM templates AS t WHERE t.category = u.category AND t.provider = u.provider AND t.hash = u.hash)
		ORDER BY category, provider, hash ON CONFLICT DO NOTHING`
	updateTemplates = `UPDATE templates SET rule = n.rule
		FROM (SELECT t.category, t.provider, t.hash, max(u.rule) AS rule FROM templates AS t JOIN ` + templateArrays + `
			USING (category, provider, hash) WHERE t.rule != u.rule GROUP BY 1, 2, 3) AS n
		WHERE templates.category = n.category AND templates.provider = n.provider AND templates.hash = n.hash`
	countTemplates = `INSERT INTO template_counts AS t (category, provider, hash, lane, attempts, first, last)
		SELECT category, provider, hash, $1, sum(attempts), min(first), max(last)
		FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) AS u (category, provider, hash, attempts, first, last)
		GROUP BY category, provider, hash
		ON CONFLICT (category, provider, hash, lane) DO UPDATE SET attempts = t.attempts + excluded.attempts,
			first = least(t.first, excluded.first), last = greatest(t.last, excluded.last)`
)

func addTemplates(b *pgx.Batch, lane int64, templates []window.TemplateCount) {
	if len(templates) == 0 {
		return
	}
	var category, provider, rule, words []string
	var hash, attempts, first, last []int64
	for i := range templates {
		t := &templates[i]
		category, provider, hash = append(category, t.Category.String()), append(provider, text(t.Provider)), append(hash, int64(t.Hash))
		rule, words = append(rule, text(t.Rule)), append(words, text(t.Text))
		attempts, first, last = append(attempts, t.Attempts), append(first, t.First), append(last, t.Last)
	}
	b.Queue(insertTemplates, category, provider, hash, rule, words)
	b.Queue(updateTemplates, category, provider, hash, rule, words)
	b.Queue(countTemplates, lane, category, provider, hash, attempts, first, last)
}

func changeEntries(b *pgx.Batch, lane int64, upserts []ledger.Entry, deletes []uint64) {
	if len(deletes) > 0 {
		keys := make([]int64, len(deletes))
		for i, k := range deletes {
			keys[i] = int64(k)
		}
		b.Queue("DELETE FROM entries WHERE lane = $1 AND key = ANY($2::bigint[])", lane, keys)
	}
	if len(upserts) > 0 {
		keys, values := make([]int64, len(upserts)), make([][]byte, len(upserts))
		for i, e := range upserts {
			keys[i], values[i] = int64(e.Key), e.Value
			if values[i] == nil {
				values[i] = []byte{} // nil would be NULL
			}
		}
		b.Queue(`INSERT INTO entries (lane, key, value) SELECT $1, key, value FROM unnest($2::bigint[], $3::bytea[]) AS u (key, value)
			ON CONFLICT (lane, key) DO UPDATE SET value = excluded.value`, lane, keys, values)
	}
}
