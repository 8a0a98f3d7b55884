package sqlite

import (
	"context"
	"fmt"
	"sync"

	"github.com/bouncemeter/bouncemeter/ledger"
)

// seriesDimensions are the dimensions that a series has, in the order of the
// columns of loadSeries.
var seriesDimensions = [...]ledger.Dimension{
	ledger.ByOutcome, ledger.ByCategory, ledger.BySecondary, ledger.ByProvider,
	ledger.BySenderDomain, ledger.ByHost, ledger.ByStream,
}

const loadSeries = "SELECT id, outcome, category, secondary, provider, sender_domain, host, stream FROM series WHERE id > ? ORDER BY id"

// maxSeries is more than any ledger has.
const maxSeries = 1 << 24

// catalog holds the names of all series in memory, 28 bytes for each and every
// name once, so that a query need not join: rows of series never change, and
// a snapshot has all that its counts refer to.
type catalog struct {
	mu sync.Mutex
	// names of series i are columns[d][i] in dictionary[d].
	columns    [len(seriesDimensions)][]uint32
	dictionary [len(seriesDimensions)]dictionary
}

type dictionary struct {
	names []string
	index map[string]uint32
}

func (d *dictionary) add(name string) uint32 {
	i, ok := d.index[name]
	if !ok {
		if d.index == nil {
			d.index = make(map[string]uint32)
		}
		i = uint32(len(d.names))
		d.names = append(d.names, name)
		d.index[name] = i
	}
	return i
}

// series is what a query sees of the catalog. Both only grow, so a copy of the
// slices stays valid.
type series struct {
	columns [len(seriesDimensions)][]uint32
	names   [len(seriesDimensions)][]string
}

// load reads the series that are new in c's snapshot and returns them all.
func (k *catalog) load(ctx context.Context, c *conn, path string) (series, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for d := range k.columns {
		if len(k.columns[d]) == 0 { // there is no series 0
			k.columns[d] = append(k.columns[d], k.dictionary[d].add(""))
		}
	}
	last := int64(len(k.columns[0])) - 1
	if err := c.query(ctx, loadSeries, func(row []value) error {
		id, _ := row[0].(int64)
		// Ids count up from 1 without gaps, as no row is ever deleted.
		if last++; id != last || id >= maxSeries {
			return damaged(path, fmt.Errorf("series %d follows %d", id, last-1))
		}
		for d := range k.columns {
			name, _ := row[1+d].(string)
			k.columns[d] = append(k.columns[d], k.dictionary[d].add(name))
		}
		return nil
	}, last); err != nil {
		return series{}, err
	}
	s := series{columns: k.columns}
	for d := range k.dictionary {
		s.names[d] = k.dictionary[d].names
	}
	return s, nil
}

// len returns the number that ids are less than.
func (s *series) len() int64 { return int64(len(s.columns[0])) }

// column returns the place of a dimension among the columns, or -1 if it is no
// dimension of a series but of a lane.
func column(d ledger.Dimension) int {
	for i, sd := range seriesDimensions {
		if sd == d {
			return i
		}
	}
	return -1
}
