package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/bouncemeter/bouncemeter/internal/failpoint"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/internal/counts"
)

// readMarks reads the marks in the transaction that depends on them.
func readMarks(c *conn) (m counts.Marks, err error) {
	n := 0
	err = c.query(context.Background(), "SELECT name, at FROM marks", func(row []value) error {
		name, _ := row[0].(string)
		at, _ := row[1].(int64)
		m.Set(name, at)
		n++
		return nil
	})
	if err == nil && n != len(counts.Names) {
		err = fmt.Errorf("%w: marks", counts.ErrMissing)
	}
	return m, err
}

func setMark(w *conn, name string, at int64) error {
	_, err := w.exec("UPDATE marks SET at = ?1 WHERE name = ?2 AND at < ?1", at, name)
	return err
}

// defaultChunk is about how many rows one transaction of a roll-up reads or
// deletes: few enough that commits of lanes wait a tenth of a second at most.
const defaultChunk = 20_000

// Rollup applies r as of now, and returns what is kept from then on: it adds up the
// hours and days that are over, deletes what is older than its retention and gives
// space back. It works in many short transactions, each complete in itself, so it may
// end anywhere and be repeated at any time. A grain is kept at least as long as the finer one;
// what has been rolled up stays so, whatever the next call asks for.
func (l *Ledger) Rollup(ctx context.Context, r ledger.Retention, now time.Time) (kept ledger.Kept, err error) {
	at := counts.At(r, now)
	chunk := l.options.chunk
	for _, step := range []struct {
		doing string
		// once does one transaction's worth of it, if there is any left.
		once func(w *conn) (more bool, err error)
	}{
		{"sum minutes up to hours", func(w *conn) (bool, error) { return sumMinutes.once(w, chunk, at.Hour) }},
		{"sum hours up to days", func(w *conn) (bool, error) { return sumHours.once(w, chunk, at.Day) }},
		{"set what is kept", func(w *conn) (bool, error) {
			m, err := readMarks(w)
			if err == nil {
				err = setMark(w, "minutes_from", min(at.MinutesFrom, m.MinutesSummed))
			}
			if err == nil {
				err = setMark(w, "hours_from", min(at.HoursFrom, m.HoursSummed))
			}
			return false, err
		}},
		{"delete old minutes", func(w *conn) (bool, error) { return deleteChunk(w, chunk, "count_minutes", "minutes_from") }},
		{"delete old hours", func(w *conn) (bool, error) { return deleteChunk(w, chunk, "count_hours", "hours_from") }},
		{"sum days up", func(w *conn) (bool, error) {
			m, err := readMarks(w)
			if err != nil {
				return false, err
			}
			return sumDays.once(w, chunk, min(at.DaysFrom, m.HoursFrom))
		}},
		{"sum recipient domains up", func(w *conn) (bool, error) { return moveDomains(w, chunk, at.DomainDays) }},
		{"delete old recipient domains", func(w *conn) (bool, error) { return deleteDomains(w, chunk, at.Domains) }},
		{"sum delays up", func(w *conn) (bool, error) {
			return false, moveDelays(w, at.DelayDays, at.DelayTotals)
		}},
		{"delete old templates", func(w *conn) (bool, error) {
			return false, deleteTemplates(w, at.Templates, at.NewTemplates, r.TemplatesPerCategory)
		}},
		{"delete old alerts", func(w *conn) (bool, error) { return false, deleteAlerts(w, at.Alerts) }},
		{"give space back", giveBack},
	} {
		for more := true; more; {
			if err := l.write(ctx, "roll up: "+step.doing, func(w *conn) (err error) {
				more, err = step.once(w)
				failpoint.RolledUp.Hit()
				return err
			}); err != nil {
				return kept, err
			}
		}
	}
	if err := l.read(ctx, "roll up", func(c *conn) error {
		m, err := readMarks(c)
		kept = m.Kept()
		return err
	}); err != nil {
		return kept, err
	}
	return kept, l.checkpoint(ctx)
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
		next: "SELECT min(start) FROM " + tables[finer] + " WHERE start >= ?1",
		cut:  "SELECT start FROM " + tables[finer] + " WHERE start >= ?1 ORDER BY start LIMIT 1 OFFSET ?2",
		add: "INSERT INTO " + tables[coarser] + " (start, lane, series, attempts, firsts) SELECT " + start + ", lane, series, sum(attempts), sum(firsts) FROM " +
			tables[finer] + " WHERE start >= ?1 AND start < ?2 GROUP BY 1, 2, 3 " + addCount,
	}
	// Finer rows stay until their retention is over, as that of days now is.
	if coarser == counts.Totals {
		s.remove = "DELETE FROM " + tables[finer] + " WHERE start >= ?1 AND start < ?2"
	}
	return s
}

var (
	sumMinutes = newSum(counts.Minutes, counts.Hours, "minutes_summed", func(m counts.Marks) int64 { return m.MinutesSummed })
	sumHours   = newSum(counts.Hours, counts.Days, "hours_summed", func(m counts.Marks) int64 { return m.HoursSummed })
	sumDays    = newSum(counts.Days, counts.Totals, "days_from", func(m counts.Marks) int64 { return m.DaysFrom })
)

// once sums about chunk rows up, none of them from time end on. The rows
// and the mark move together, so every row is added once.
func (s *sum) once(w *conn, chunk, end int64) (more bool, err error) {
	m, err := readMarks(w)
	if err != nil {
		return false, err
	}
	from := s.from(m)
	if from >= end {
		return false, nil
	}
	first, err := w.integer(s.next, end, from)
	if err != nil {
		return false, err
	}
	to := end
	if first < end {
		cut, err := w.integer(s.cut, end, first, chunk)
		if err != nil {
			return false, err
		}
		to = min(max(cut, first+s.span), end)
		if _, err := w.exec(s.add, first, to); err != nil {
			return false, err
		}
		if s.remove != "" {
			if _, err := w.exec(s.remove, first, to); err != nil {
				return false, err
			}
		}
	}
	return to < end, setMark(w, s.mark, to)
}

// deleteChunk deletes some rows of the table that are older than the mark.
func deleteChunk(w *conn, chunk int64, table, mark string) (more bool, err error) {
	end, err := w.integer("SELECT at FROM marks WHERE name = ?", 0, mark)
	if err != nil {
		return false, err
	}
	cut, err := w.integer("SELECT start FROM "+table+" WHERE start < ? ORDER BY start LIMIT 1 OFFSET ?", end, end, chunk)
	if err != nil {
		return false, err
	}
	// All rows of the time cut as well, so that it advances always.
	n, err := w.exec("DELETE FROM "+table+" WHERE start <= ? AND start < ?", cut, end)
	return n > 0 && cut < end, err
}

// moveDomains moves some counts per recipient domain that are older than end
// from hours to days.
func moveDomains(w *conn, chunk, end int64) (more bool, err error) {
	start, domain, more, err := cutDomains(w, chunk, "domain_hours", end)
	if err != nil {
		return false, err
	}
	if _, err := w.exec(`INSERT INTO domain_days (start, domain, kind, attempts)
		SELECT start - start % 86400, domain, kind, sum(attempts) FROM domain_hours WHERE (start, domain) < (?, ?)
		GROUP BY 1, 2, 3 ON CONFLICT DO UPDATE SET attempts = attempts + excluded.attempts`, start, domain); err != nil {
		return false, err
	}
	_, err = w.exec("DELETE FROM domain_hours WHERE (start, domain) < (?, ?)", start, domain)
	return more, err
}

// deleteDomains deletes some counts per recipient domain that are older than
// end.
func deleteDomains(w *conn, chunk, end int64) (more bool, err error) {
	for _, table := range []string{"domain_hours", "domain_days"} {
		start, domain, left, err := cutDomains(w, chunk, table, end)
		if err != nil {
			return false, err
		}
		if _, err := w.exec("DELETE FROM "+table+" WHERE (start, domain) < (?, ?)", start, domain); err != nil {
			return false, err
		}
		more = more || left
	}
	return more, nil
}

// cutDomains returns what bounds a chunk of the table's rows older than end,
// and whether there are more.
func cutDomains(w *conn, chunk int64, table string, end int64) (start int64, domain string, more bool, err error) {
	start = end
	err = w.query(context.Background(), "SELECT start, domain FROM "+table+" WHERE start < ? ORDER BY start, domain LIMIT 1 OFFSET ?",
		func(row []value) error {
			start, _ = row[0].(int64)
			domain, _ = row[1].(string)
			more = true
			return nil
		}, end, chunk)
	return start, domain, more, err
}

// moveDelays moves delays to days and then to rows without a time. There are
// few: providers times outcomes for each hour.
func moveDelays(w *conn, hoursFrom, daysFrom int64) error {
	sums := counts.EachDelayColumn(func(c string) string { return "sum(" + c + ")" })
	head := "INSERT INTO delay_days (start, provider, outcome, " + counts.DelayColumns + ") SELECT "
	for _, step := range []struct {
		text string
		end  int64
	}{
		{head + "start - start % 86400, provider, outcome, " + sums + " FROM delay_hours WHERE start < ? GROUP BY 1, 2, 3 " + addDelay, hoursFrom},
		{"DELETE FROM delay_hours WHERE start < ?", hoursFrom},
		{head + "0, provider, outcome, " + sums + " FROM delay_days WHERE start > 0 AND start < ? GROUP BY 2, 3 " + addDelay, daysFrom},
		{"DELETE FROM delay_days WHERE start > 0 AND start < ?", daysFrom},
	} {
		if _, err := w.exec(step.text, step.end); err != nil {
			return err
		}
	}
	return nil
}

// deleteTemplates deletes the wordings that were not seen since oldest, and of
// each category all but the n most frequent and those n of the last day: a new
// wording must have time to become frequent.
func deleteTemplates(w *conn, oldest, recent int64, n int) error {
	if _, err := w.exec("DELETE FROM templates WHERE last < ?", oldest); err != nil {
		return err
	}
	_, err := w.exec(`DELETE FROM templates WHERE rowid IN (SELECT rowid FROM (
		SELECT rowid, last,
			row_number() OVER (PARTITION BY category ORDER BY attempts DESC, rowid) AS frequent,
			row_number() OVER (PARTITION BY category ORDER BY last DESC, attempts DESC, rowid) AS late
		FROM templates) WHERE frequent > ?1 AND (late > ?1 OR last < ?2))`, int64(n), recent)
	return err
}

// Free pages are used again, so they are given back to the file system only if
// there are many: after a shorter retention, or a flood of series.
const freePages = 4096 // 16 MiB

func giveBack(w *conn) (more bool, err error) {
	free, err := w.integer("PRAGMA freelist_count", 0)
	if err != nil {
		return false, err
	}
	pages, err := w.integer("PRAGMA page_count", 0)
	if err != nil || free < freePages || free < pages/4 {
		return false, err
	}
	return true, w.script("PRAGMA incremental_vacuum(1024)")
}

// checkpoint moves the write-ahead log into the file, as far as no reader needs
// it, so that the next commit can write it from its beginning.
func (l *Ledger) checkpoint(ctx context.Context) error {
	select {
	case c, open := <-l.turn:
		if !open {
			return nil
		}
		defer func() { l.turn <- c }()
		return fault(l.path, "checkpoint", c.script("PRAGMA wal_checkpoint(PASSIVE)"))
	case <-ctx.Done():
		return ctx.Err()
	}
}
