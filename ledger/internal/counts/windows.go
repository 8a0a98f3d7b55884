package counts

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bouncemeter/bouncemeter/ledger"
)

// Windows puts the rows of each minute in order of their names and adds up
// those that have the same, since the ids of lanes and series depend on who
// counted first. Rows come by Add in order of time; Flush ends the last minute.
type Windows struct {
	series  *Series
	sources map[int64]string // by lane
	yield   func(*ledger.Window) error
	start   int64
	rows    []windowRow
}

type windowRow struct {
	source         string
	series, firsts int64
}

// NewWindows returns windows that are handed to yield.
func NewWindows(series *Series, lanes []LaneName, yield func(*ledger.Window) error) *Windows {
	w := &Windows{series: series, sources: make(map[int64]string, len(lanes)), yield: yield}
	for _, l := range lanes {
		w.sources[l.ID] = l.Source
	}
	return w
}

// Add adds the firsts of a series in a lane and minute.
func (w *Windows) Add(start, lane, series, firsts int64) error {
	if start != w.start {
		if err := w.Flush(); err != nil {
			return err
		}
		w.start = start
	}
	source, ok := w.sources[lane]
	if !ok {
		return fmt.Errorf("%w: there is no lane %d", ErrMissing, lane)
	}
	if err := w.series.Has(series); err != nil {
		return err
	}
	w.rows = append(w.rows, windowRow{source, series, firsts})
	return nil
}

// windowColumns are the columns of a series that a Window tells, those that
// differ most first.
var windowColumns = [...]int{
	Column(ledger.BySenderDomain), Column(ledger.ByProvider), Column(ledger.ByCategory),
	Column(ledger.ByOutcome), Column(ledger.ByHost), Column(ledger.ByStream),
}

func (w *Windows) compare(a, b windowRow) int {
	for _, c := range windowColumns {
		if x, y := w.series.columns[c][a.series], w.series.columns[c][b.series]; x != y {
			return strings.Compare(w.series.names[c][x], w.series.names[c][y])
		}
	}
	return strings.Compare(a.source, b.source)
}

// Flush yields the windows of the minute so far.
func (w *Windows) Flush() error {
	slices.SortFunc(w.rows, w.compare)
	var v ledger.Window
	for i := 0; i < len(w.rows); {
		r, firsts := w.rows[i], int64(0)
		for ; i < len(w.rows) && w.compare(w.rows[i], r) == 0; i++ {
			firsts += w.rows[i].firsts
		}
		if firsts == 0 {
			continue
		}
		s := w.series
		v = ledger.Window{
			Start: w.start, Source: r.source, Outcome: s.Name(ledger.ByOutcome, r.series), Category: s.Name(ledger.ByCategory, r.series),
			Provider: s.Name(ledger.ByProvider, r.series), SenderDomain: s.Name(ledger.BySenderDomain, r.series),
			Host: s.Name(ledger.ByHost, r.series), Stream: s.Name(ledger.ByStream, r.series), Firsts: firsts,
		}
		if err := w.yield(&v); err != nil {
			return err
		}
	}
	w.rows = w.rows[:0]
	return nil
}
