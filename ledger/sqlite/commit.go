package sqlite

import (
	"cmp"
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/failpoint"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/internal/counts"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// Commit applies c whole or not at all. An error that wraps ledger.ErrConflict
// is final; after any other the caller may call again with the same commit,
// also if the first had been applied unseen: then the second is recognised by
// its position and reported as done. The entries in c may be put in another
// order. A commit that counts without moving the
// position could not be recognised, so it is refused.
func (l *Ledger) Commit(ctx context.Context, c *ledger.Commit) error {
	d, err := counts.Delta(c)
	if err != nil {
		return fmt.Errorf("ledger %s: commit: %w", l.path, err)
	}
	return l.write(ctx, "commit", func(w *conn) error {
		applied, err := moveLane(w, c, d)
		if err != nil || applied {
			return err
		}
		failpoint.PositionMoved.Hit()
		if err := l.addCounts(w, int64(c.Lane), d.Counts); err != nil {
			return err
		}
		failpoint.CountsAdded.Hit()
		if err := l.addDomains(w, d.Domains); err != nil {
			return err
		}
		failpoint.DomainsAdded.Hit()
		if err := addDelays(w, d.Delays); err != nil {
			return err
		}
		failpoint.DelaysAdded.Hit()
		if err := addTemplates(w, d.Templates); err != nil {
			return err
		}
		failpoint.TemplatesAdded.Hit()
		err = changeEntries(w, int64(c.Lane), c.Upserts, c.Deletes)
		failpoint.EntriesChanged.Hit()
		return err
	})
}

// moveLane is the compare-and-set that everything hangs on. It reports whether
// the commit had been applied before.
func moveLane(w *conn, c *ledger.Commit, d *window.Delta) (applied bool, err error) {
	n := &d.Lines
	changed, err := w.exec(`UPDATE lanes SET segment = ?, position = ?,
		read = read + ?, malformed = malformed + ?, truncated = truncated + ?, probes = probes + ?, rejected = rejected + ?,
		lost = lost + ?, unmatched = unmatched + ?, evicted = evicted + ?, folded = folded + ?, future = future + ?, repeated = repeated + ?,
		first = iif(?14 = 0 OR first != 0 AND first <= ?14, first, ?14), last = max(last, ?15), updated = ?
		WHERE id = ? AND segment = ? AND position = ?`,
		c.Position.Segment, c.Position.Offset,
		n.Read, n.Malformed, n.Truncated, n.Probes, n.Rejected, n.Lost, n.Unmatched, n.Evicted, n.Folded, n.Future, n.Repeated,
		d.First, d.Last, c.Now.Unix(), int64(c.Lane), c.Expected.Segment, c.Expected.Offset)
	if err != nil || changed == 1 {
		return false, err
	}
	var at *event.Position
	if err := w.query(context.Background(), "SELECT segment, position FROM lanes WHERE id = ?", func(row []value) error {
		segment, _ := row[0].(string)
		offset, _ := row[1].(int64)
		at = &event.Position{Segment: segment, Offset: offset}
		return nil
	}, int64(c.Lane)); err != nil {
		return false, err
	}
	switch {
	case at == nil:
		return false, fmt.Errorf("%w: there is no lane %d", ledger.ErrConflict, c.Lane)
	case *at == c.Position:
		return true, nil
	}
	return false, fmt.Errorf("%w: lane %d is at %q:%d, expected %q:%d",
		ledger.ErrConflict, c.Lane, at.Segment, at.Offset, c.Expected.Segment, c.Expected.Offset)
}

// tables are those of the grains.
var tables = [counts.Grains]string{"count_minutes", "count_hours", "count_days", "count_totals"}

const addCount = "ON CONFLICT DO UPDATE SET attempts = attempts + excluded.attempts, firsts = firsts + excluded.firsts"

// insertCounts adds to the grains; minutes alone have what came late, since
// detection reads nothing else.
var insertCounts = func() (b [counts.Grains]*bulk) {
	for g, table := range tables {
		b[g] = newBulk("INSERT INTO "+table+" (start, lane, series, attempts, firsts)", 5, addCount)
	}
	b[counts.Minutes] = newBulk("INSERT INTO count_minutes (start, lane, series, attempts, firsts, late)", 6, addCount+", late = late + excluded.late")
	return b
}()

// addCounts adds the counts to every grain that is to have them.
func (l *Ledger) addCounts(w *conn, lane int64, added []window.Count) error {
	if len(added) == 0 {
		return nil
	}
	m, err := readMarks(w)
	if err != nil {
		return err
	}
	rows := l.rows[:0]
	for i := range added {
		c := &added[i]
		id, err := l.series.id(w, c.Series)
		if err != nil {
			return err
		}
		rows = append(rows, counts.Row{Start: counts.Minutes.Floor(c.Start), Series: id, Attempts: c.Attempts, Firsts: c.Firsts, Late: c.Late})
	}
	rows = counts.Sort(rows)
	coarser := l.coarser
	for g, insert := range insertCounts {
		g := counts.Grain(g)
		take := m.Take(g, rows, coarser)
		if err := w.insert(insert, len(take), func(i int, row []driver.NamedValue) {
			r := &take[i]
			row[0].Value, row[1].Value, row[2].Value = r.Start, lane, r.Series
			row[3].Value, row[4].Value = r.Attempts, r.Firsts
			if g == counts.Minutes {
				row[5].Value = r.Late
			}
		}); err != nil {
			return err
		}
		if g != counts.Minutes {
			coarser = take
		}
	}
	if cap(rows) <= 1<<16 { // 2.5 MiB
		l.rows, l.coarser = rows, coarser
	}
	return nil
}

// seriesIDs remembers the rows of series.
type seriesIDs struct{ ids map[*window.Series]int64 }

// maxSeriesIDs bounds the memory for ids, 16 bytes or so for each: they are
// looked up again once all have been forgotten.
const maxSeriesIDs = 1 << 18

func newSeriesIDs() *seriesIDs { return &seriesIDs{make(map[*window.Series]int64)} }

// id returns the row of s, which is made if there is none.
func (ids *seriesIDs) id(w *conn, s *window.Series) (int64, error) {
	if id, ok := ids.ids[s]; ok {
		return id, nil
	}
	names := []value{s.SenderDomain, s.Provider, s.Category.String(), s.Outcome.String(), s.Secondary.String(), s.Host, s.Stream}
	id, err := w.integer(`SELECT id FROM series WHERE sender_domain = ? AND provider = ? AND category = ? AND outcome = ?
		AND secondary = ? AND host = ? AND stream = ?`, 0, names...)
	if err == nil && id == 0 {
		id, err = w.integer(`INSERT INTO series (sender_domain, provider, category, outcome, secondary, host, stream)
			VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id`, 0, names...)
	}
	if err != nil {
		return 0, err
	}
	if len(ids.ids) >= maxSeriesIDs {
		clear(ids.ids)
	}
	ids.ids[s] = id
	return id, nil
}

// forgetIDs forgets all ids, as some may be of rows that are rolled back.
func (l *Ledger) forgetIDs() {
	clear(l.series.ids)
	clear(l.kinds)
}

// kind is a row of the table kinds.
type kind struct {
	outcome  event.Outcome
	category event.Category
}

func (l *Ledger) kindID(w *conn, k kind) (int64, error) {
	if id, ok := l.kinds[k]; ok {
		return id, nil
	}
	outcome, category := k.outcome.String(), k.category.String()
	id, err := w.integer("SELECT id FROM kinds WHERE outcome = ? AND category = ?", 0, outcome, category)
	if err == nil && id == 0 {
		id, err = w.integer("INSERT INTO kinds (outcome, category) VALUES (?, ?) RETURNING id", 0, outcome, category)
	}
	if err != nil {
		return 0, err
	}
	l.kinds[k] = id
	return id, nil
}

var insertDomains = newBulk("INSERT INTO domain_hours (start, domain, kind, attempts)", 4,
	"ON CONFLICT DO UPDATE SET attempts = attempts + excluded.attempts")

func (l *Ledger) addDomains(w *conn, domains []window.DomainCount) error {
	order := make([]int32, len(domains))
	for i := range domains {
		order[i] = int32(i)
		if _, err := l.kindID(w, kind{domains[i].Outcome, domains[i].Category}); err != nil {
			return err
		}
	}
	slices.SortFunc(order, func(i, j int32) int {
		a, b := &domains[i], &domains[j]
		return cmp.Or(cmp.Compare(a.Start, b.Start), strings.Compare(a.Domain, b.Domain))
	})
	return w.insert(insertDomains, len(order), func(i int, row []driver.NamedValue) {
		d := &domains[order[i]]
		row[0].Value, row[1].Value = counts.Hours.Floor(d.Start), d.Domain
		row[2].Value, row[3].Value = l.kinds[kind{d.Outcome, d.Category}], d.Attempts
	})
}

var (
	addDelay     = "ON CONFLICT DO UPDATE SET " + counts.EachDelayColumn(func(c string) string { return c + " = " + c + " + excluded." + c })
	insertDelays = newBulk("INSERT INTO delay_hours (start, provider, outcome, "+counts.DelayColumns+")", 3+len(window.DelayBounds)+2, addDelay)
)

func addDelays(w *conn, delays []window.DelayCount) error {
	return w.insert(insertDelays, len(delays), func(i int, row []driver.NamedValue) {
		d := &delays[i]
		row[0].Value, row[1].Value, row[2].Value = counts.Hours.Floor(d.Start), d.Provider, d.Outcome.String()
		for b, n := range d.Buckets {
			row[3+b].Value = n
		}
		row[3+len(d.Buckets)].Value = d.Micros
	})
}

var insertTemplates = newBulk("INSERT INTO templates (category, provider, hash, rule, text, attempts, first, last)", 8,
	`ON CONFLICT DO UPDATE SET rule = excluded.rule, attempts = attempts + excluded.attempts,
	 first = min(first, excluded.first), last = max(last, excluded.last)`)

func addTemplates(w *conn, templates []window.TemplateCount) error {
	return w.insert(insertTemplates, len(templates), func(i int, row []driver.NamedValue) {
		t := &templates[i]
		row[0].Value, row[1].Value, row[2].Value = t.Category.String(), t.Provider, int64(t.Hash)
		row[3].Value, row[4].Value, row[5].Value = t.Rule, t.Text, t.Attempts
		row[6].Value, row[7].Value = t.First, t.Last
	})
}

var insertEntries = newBulk("INSERT INTO entries (lane, key, value)", 3, "ON CONFLICT DO UPDATE SET value = excluded.value")

func changeEntries(w *conn, lane int64, upserts []ledger.Entry, deletes []uint64) error {
	// Keys are hashes: in order they meet each page once.
	slices.Sort(deletes)
	for _, key := range deletes {
		if _, err := w.exec("DELETE FROM entries WHERE lane = ? AND key = ?", lane, int64(key)); err != nil {
			return err
		}
	}
	slices.SortFunc(upserts, func(a, b ledger.Entry) int { return cmp.Compare(int64(a.Key), int64(b.Key)) })
	return w.insert(insertEntries, len(upserts), func(i int, row []driver.NamedValue) {
		v := upserts[i].Value
		if v == nil {
			v = []byte{} // nil would be NULL
		}
		row[0].Value, row[1].Value, row[2].Value = lane, int64(upserts[i].Key), v
	})
}
