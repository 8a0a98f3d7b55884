package counts

import (
	"fmt"
	"slices"
	"sync"

	"github.com/bouncemeter/bouncemeter/ledger"
)

// SeriesDimensions are the dimensions that a series has, in the order of the
// columns that stores load.
var SeriesDimensions = [...]ledger.Dimension{
	ledger.ByOutcome, ledger.ByCategory, ledger.BySecondary, ledger.ByProvider,
	ledger.BySenderDomain, ledger.ByHost, ledger.ByStream,
}

// Column returns the place of a dimension among SeriesDimensions, or -1 if it
// is no dimension of a series but of a lane.
func Column(d ledger.Dimension) int { return slices.Index(SeriesDimensions[:], d) }

// MaxSeries is more than any ledger has.
const MaxSeries = 1 << 24

// Catalog holds the names of all series in memory, 28 bytes for each and every
// name once, so that a query need not join. The rows of series never change,
// and their ids count up from 1 without gaps in the order in which they can be
// seen, so that what one has loaded stays true.
type Catalog struct {
	mu sync.Mutex
	// The name of series i in dimension d is dictionary[d].names[columns[d][i]].
	columns    [len(SeriesDimensions)][]uint32
	dictionary [len(SeriesDimensions)]dictionary
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

// Series is what a query sees of the catalog. The catalog only grows, so a copy
// of its slices stays valid.
type Series struct {
	columns [len(SeriesDimensions)][]uint32
	names   [len(SeriesDimensions)][]string
}

// Load returns all series. read yields those with an id greater than after, in
// order, as the caller's snapshot has them.
func (k *Catalog) Load(read func(after int64, add func(id int64, names *[len(SeriesDimensions)]string) error) error) (*Series, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for d := range k.columns {
		if len(k.columns[d]) == 0 { // there is no series 0
			k.columns[d] = append(k.columns[d], k.dictionary[d].add(""))
		}
	}
	last := int64(len(k.columns[0])) - 1
	if err := read(last, func(id int64, names *[len(SeriesDimensions)]string) error {
		if last++; id != last || id >= MaxSeries {
			return fmt.Errorf("%w: series %d follows %d", ErrMissing, id, last-1)
		}
		for d, name := range names {
			k.columns[d] = append(k.columns[d], k.dictionary[d].add(name))
		}
		return nil
	}); err != nil {
		return nil, err
	}
	s := &Series{columns: k.columns}
	for d := range k.dictionary {
		s.names[d] = k.dictionary[d].names
	}
	return s, nil
}

// Len returns the number that ids are less than.
func (s *Series) Len() int64 { return int64(len(s.columns[0])) }

// Has returns an error if there is no series with this id.
func (s *Series) Has(id int64) error {
	if id <= 0 || id >= s.Len() {
		return fmt.Errorf("%w: there is no series %d", ErrMissing, id)
	}
	return nil
}

// Number returns which of Names a series has in a column.
func (s *Series) Number(column int, id int64) uint32 { return s.columns[column][id] }

// Names returns all names of a column, by their number.
func (s *Series) Names(column int) []string { return s.names[column] }

// Name returns the name that a series has in a dimension of series.
func (s *Series) Name(d ledger.Dimension, id int64) string {
	c := Column(d)
	return s.names[c][s.columns[c][id]]
}
