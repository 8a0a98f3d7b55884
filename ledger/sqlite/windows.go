package sqlite

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/bouncemeter/bouncemeter/ledger"
)

// Windows yields what each series did in each minute with since <= start <
// until, as far as it came in time, summed over lanes and over what Window
// does not tell. Minutes are in order, and within one the windows are in an
// order of their names, so that it is the same whatever process counted when.
// A series without firsts that came in time has no window. Minutes that have
// been rolled up (Retention.Minutes) have none either. The value is valid
// during the call only.
func (l *Ledger) Windows(ctx context.Context, since, until int64, yield func(*ledger.Window) error) error {
	return l.read(ctx, "read windows", func(c *conn) error {
		m, err := readMarks(c)
		if err != nil {
			return err
		}
		sources := make(map[int64]string)
		if err := c.query(ctx, "SELECT id, source FROM lanes", func(row []value) error {
			id, _ := row[0].(int64)
			sources[id], _ = row[1].(string)
			return nil
		}); err != nil {
			return err
		}
		names, err := l.catalog.load(ctx, c, l.path)
		if err != nil {
			return err
		}
		w := windows{series: &names, yield: yield}
		if err := c.query(ctx, `SELECT start, lane, series, firsts - late FROM count_minutes
			WHERE start >= ? AND start < ? AND firsts != late ORDER BY start`,
			func(row []value) error {
				start, _ := row[0].(int64)
				lane, _ := row[1].(int64)
				id, _ := row[2].(int64)
				firsts, _ := row[3].(int64)
				source, ok := sources[lane]
				if !ok || id <= 0 || id >= names.len() {
					return damaged(l.path, fmt.Errorf("there is no lane %d or no series %d", lane, id))
				}
				return w.add(start, source, id, firsts)
			}, max(since, m.minutesFrom), until); err != nil {
			return err
		}
		return w.flush()
	})
}

// windows gathers those of one minute.
type windows struct {
	series *series
	yield  func(*ledger.Window) error
	start  int64
	rows   []windowRow
}

type windowRow struct {
	source         string
	series, firsts int64
}

func (w *windows) add(start int64, source string, series, firsts int64) error {
	if start != w.start {
		if err := w.flush(); err != nil {
			return err
		}
		w.start = start
	}
	w.rows = append(w.rows, windowRow{source, series, firsts})
	return nil
}

// windowColumns are the columns of a series that a Window tells, those that
// differ most first.
var windowColumns = [...]int{
	column(ledger.BySenderDomain), column(ledger.ByProvider), column(ledger.ByCategory),
	column(ledger.ByOutcome), column(ledger.ByHost), column(ledger.ByStream),
}

func (w *windows) compare(a, b windowRow) int {
	for _, c := range windowColumns {
		if x, y := w.series.columns[c][a.series], w.series.columns[c][b.series]; x != y {
			return strings.Compare(w.series.names[c][x], w.series.names[c][y])
		}
	}
	return strings.Compare(a.source, b.source)
}

func (w *windows) flush() error {
	slices.SortFunc(w.rows, w.compare)
	var v ledger.Window
	for i := 0; i < len(w.rows); {
		r := w.rows[i]
		firsts := int64(0)
		for ; i < len(w.rows) && w.compare(w.rows[i], r) == 0; i++ {
			firsts += w.rows[i].firsts
		}
		if firsts == 0 {
			continue
		}
		name := func(d ledger.Dimension) string {
			c := column(d)
			return w.series.names[c][w.series.columns[c][r.series]]
		}
		v = ledger.Window{
			Start: w.start, Source: r.source, Outcome: name(ledger.ByOutcome), Category: name(ledger.ByCategory),
			Provider: name(ledger.ByProvider), SenderDomain: name(ledger.BySenderDomain),
			Host: name(ledger.ByHost), Stream: name(ledger.ByStream), Firsts: firsts,
		}
		if err := w.yield(&v); err != nil {
			return err
		}
	}
	w.rows = w.rows[:0]
	return nil
}
