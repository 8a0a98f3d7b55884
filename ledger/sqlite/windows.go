package sqlite

import (
	"context"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/internal/counts"
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
		lanes, err := laneNames(ctx, c)
		if err != nil {
			return err
		}
		names, err := l.names(ctx, c)
		if err != nil {
			return err
		}
		w := counts.NewWindows(names, lanes, yield)
		if err := c.query(ctx, `SELECT start, lane, series, firsts - late FROM count_minutes
			WHERE start >= ? AND start < ? AND firsts != late ORDER BY start`,
			func(row []value) error {
				start, _ := row[0].(int64)
				lane, _ := row[1].(int64)
				id, _ := row[2].(int64)
				firsts, _ := row[3].(int64)
				return w.Add(start, lane, id, firsts)
			}, max(since, m.MinutesFrom), until); err != nil {
			return err
		}
		return w.Flush()
	})
}
