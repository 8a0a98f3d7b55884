package sqlite

import (
	"context"
	"fmt"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/internal/counts"
)

// Query returns grouped counts, most attempts first, or in order of time if
// Step is set; equals in order of their keys. It reads the coarsest grain that
// answers exactly: for a month by day mostly days, for its ragged ends hours
// and minutes.
func (l *Ledger) Query(ctx context.Context, q ledger.Query) ([]ledger.Row, error) {
	if err := counts.Check(&q); err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	var rows []ledger.Row
	err := l.read(ctx, "query", func(c *conn) error {
		names, err := l.names(ctx, c)
		if err != nil {
			return err
		}
		lanes, err := laneNames(ctx, c)
		if err != nil {
			return err
		}
		m, err := readMarks(c)
		if err != nil {
			return err
		}
		sum, err := counts.NewSum(&q, names, lanes)
		if err != nil {
			return err
		}
		for _, part := range m.Parts(q.Since, q.Until, q.Step) {
			if err := readPart(ctx, c, part, sum); err != nil {
				return err
			}
		}
		rows = sum.Rows()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// To hand a column over from the engine takes longer than to find the row, so
// a time and a series, which is less than counts.MaxSeries, come as one number,
// and the lane only if it matters.
var partTexts, partLaneTexts = func() (texts, laneTexts [counts.Grains]string) {
	for g, table := range tables {
		from := " FROM " + table + " WHERE start >= ? AND start < ? ORDER BY start"
		texts[g] = fmt.Sprintf("SELECT start * %d + series, attempts, firsts", counts.MaxSeries) + from
		laneTexts[g] = fmt.Sprintf("SELECT start * %d + series, attempts, firsts, lane", counts.MaxSeries) + from
	}
	return texts, laneTexts
}()

func readPart(ctx context.Context, c *conn, part counts.Part, sum *counts.Sum) error {
	text := partTexts[part.Grain]
	if sum.ByLane {
		text = partLaneTexts[part.Grain]
	}
	return c.query(ctx, text, func(row []value) error {
		what, _ := row[0].(int64)
		attempts, _ := row[1].(int64)
		firsts, _ := row[2].(int64)
		var lane int64
		if sum.ByLane {
			lane, _ = row[3].(int64)
		}
		start := counts.Floor(what, counts.MaxSeries)
		return sum.Add(start/counts.MaxSeries, lane, what-start, attempts, firsts)
	}, part.From, part.To)
}
