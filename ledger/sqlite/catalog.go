package sqlite

import (
	"context"

	"github.com/bouncemeter/bouncemeter/ledger/internal/counts"
)

// loadSeries has the columns of counts.SeriesDimensions after the id.
const loadSeries = "SELECT id, outcome, category, secondary, provider, sender_domain, host, stream FROM series WHERE id > ? ORDER BY id"

// names returns all series that c's snapshot has.
func (l *Ledger) names(ctx context.Context, c *conn) (*counts.Series, error) {
	return l.catalog.Load(func(after int64, add func(int64, *[len(counts.SeriesDimensions)]string) error) error {
		return c.query(ctx, loadSeries, func(row []value) error {
			id, _ := row[0].(int64)
			var names [len(counts.SeriesDimensions)]string
			for d := range names {
				names[d], _ = row[1+d].(string)
			}
			return add(id, &names)
		}, after)
	})
}

// laneNames returns the lanes of c's snapshot.
func laneNames(ctx context.Context, c *conn) ([]counts.LaneName, error) {
	var lanes []counts.LaneName
	err := c.query(ctx, "SELECT id, source, name FROM lanes", func(row []value) error {
		var n counts.LaneName
		n.ID, _ = row[0].(int64)
		n.Source, _ = row[1].(string)
		n.Name, _ = row[2].(string)
		lanes = append(lanes, n)
		return nil
	})
	return lanes, err
}
