// Package cache answers queries of a ledger from memory, for pages that ask for
// the same days again and again.
//
// It keeps what each series did in slots of 5 minutes, hours and days, a few
// bytes for each. A slot is read from the ledger as a whole, when it is first
// asked for and again after something in it has changed, so that the ledger
// stays the only truth and the cache cannot drift. Hours and days are used once
// they are over, and only while nothing in them has changed: what goes on, or
// still changes, is made of 5 minutes, which are read again quickly.
package cache

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/internal/counts"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// Querier is the part of a ledger that is cached.
type Querier interface {
	Query(ctx context.Context, q ledger.Query) ([]ledger.Row, error)
}

// Options says what a cache may keep.
type Options struct {
	// MaxBytes bounds the memory of the slots; zero means 24 MB, which is a day,
	// a week and two months of 20,000 series. Slots that have not been asked for
	// longest go first.
	MaxBytes int
	// Minutes and Hours are how long the ledger keeps these grains. What is
	// older is not cached. Zero takes those of ledger.DefaultRetention.
	Minutes, Hours time.Duration
	// Shared is how often slots of the last two hours are read again if others
	// than the one that calls Committed write to the ledger, and older ones
	// every 20 times as long; zero means that nobody else does.
	Shared time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Finest is the length in seconds of the shortest slots. A query is answered
// from memory only if its bounds and its step are multiples of it.
const Finest = 300

// calm is how long a changed hour or day is made of shorter slots before it is
// read again as a whole.
const calm = time.Minute

// grains are the lengths of slots in seconds, the finest first.
var grains = [...]int64{Finest, 3600, 86400}

// chunks are how many slots of each grain are read at a time, to keep the memory
// for a ledger's answer small.
var chunks = [len(grains)]int64{24, 6, 2}

// maxChanges is how many changed slots are remembered before all count as
// changed.
const maxChanges = 10_000

// Cache answers queries. It may be used by several goroutines.
type Cache struct {
	ledger Querier
	o      Options

	// mu guards what follows, also while the ledger is read.
	mu      sync.Mutex
	catalog counts.Catalog
	series  *counts.Series
	index   map[uint64]int64 // hash of names → series; see intern
	slots   [len(grains)]map[int64]*slot
	bytes   int
	clock   uint64 // counts queries, for slot.used

	// pending guards changed, which Committed adds to without waiting.
	pending sync.Mutex
	changed map[int64]struct{} // finest slots
	flooded bool               // too many: all have changed
}

// slot has what all series did in one slot of time, in order of series: the
// distance to the series before, attempts and firsts as varints.
type slot struct {
	data   []byte
	loaded time.Time
	dirty  bool
	used   uint64
}

// slotBytes is about what a slot costs beside its data.
const slotBytes = 120

// New returns an empty cache of l.
func New(l Querier, o Options) *Cache {
	o.MaxBytes = cmp.Or(o.MaxBytes, 24<<20)
	o.Minutes = cmp.Or(o.Minutes, ledger.DefaultRetention.Minutes)
	o.Hours = max(cmp.Or(o.Hours, ledger.DefaultRetention.Hours), o.Minutes)
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Cache{ledger: l, o: o, index: make(map[uint64]int64), changed: make(map[int64]struct{})}
	for g := range c.slots {
		c.slots[g] = make(map[int64]*slot)
	}
	return c
}

// Committed tells that the ledger now holds d. It does not block.
func (c *Cache) Committed(_ string, d *window.Delta) {
	c.pending.Lock()
	defer c.pending.Unlock()
	last := int64(-1)
	for i := range d.Counts {
		start := counts.Floor(d.Counts[i].Start, Finest)
		if start == last || c.flooded {
			continue
		}
		last = start
		c.changed[start] = struct{}{}
		if len(c.changed) > maxChanges {
			c.flooded = true
			clear(c.changed)
		}
	}
}

// Query answers as the ledger does.
func (c *Cache) Query(ctx context.Context, q ledger.Query) ([]ledger.Row, error) {
	if !c.knows(&q) {
		return c.ledger.Query(ctx, q)
	}
	if err := counts.Check(&q); err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	parts, err := c.load(ctx, c.parts(&q))
	if err != nil {
		return nil, err
	}
	if c.series == nil {
		return []ledger.Row{}, nil // nothing was ever counted
	}
	sum, err := counts.NewSum(&q, c.series, nil)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	for _, p := range parts {
		for start := p.from; start < p.to; start += grains[p.grain] {
			s := c.slots[p.grain][start]
			s.used = c.clock
			if err := add(sum, start, s.data); err != nil {
				return nil, fmt.Errorf("query: %w", err)
			}
		}
	}
	c.evict()
	return sum.Rows(), nil
}

// Warm loads what queries of the time since <= start < until will need, so that
// they need not wait. Between small steps it lets queries pass.
func (c *Cache) Warm(ctx context.Context, since, until, step int64) error {
	q := ledger.Query{Since: since, Until: until, Step: step}
	if !c.knows(&q) {
		return nil
	}
	c.mu.Lock()
	parts := c.parts(&q)
	c.mu.Unlock()
	for _, p := range parts {
		length := chunks[p.grain] * grains[p.grain]
		for from := p.from; from < p.to; from += length {
			c.mu.Lock()
			_, err := c.load(ctx, []part{{p.grain, from, min(from+length, p.to)}})
			c.evict()
			c.mu.Unlock()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// Bytes returns about how much memory the slots take.
func (c *Cache) Bytes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// knows reports whether q can be answered from slots.
func (c *Cache) knows(q *ledger.Query) bool {
	if q.Since <= 0 || q.Until <= q.Since || q.Since%Finest != 0 || q.Until%Finest != 0 || q.Step%Finest != 0 || q.Step < 0 {
		return false
	}
	for _, d := range q.By {
		if counts.Column(d) < 0 {
			return false
		}
	}
	for d := range q.Where {
		if counts.Column(d) < 0 {
			return false
		}
	}
	// The ledger may by now have summed up what it was asked for.
	now := c.o.Now()
	for _, p := range c.parts(q) {
		if p.from < c.oldest(p.grain, now) {
			return false
		}
	}
	// More would be thrown out again at once.
	return q.Until-q.Since <= 400*86400
}

// part is a run of slots of one grain.
type part struct {
	grain    int
	from, to int64
}

// parts returns the slots that make up a query, in order of time: the longest
// that are over and fit into its bounds and its step.
func (c *Cache) parts(q *ledger.Query) []part {
	now := c.o.Now().Unix()
	var all []part
	var split func(g int, from, to int64)
	split = func(g int, from, to int64) {
		if from >= to {
			return
		}
		if g == 0 {
			all = append(all, part{0, from, to})
			return
		}
		length := grains[g]
		first, last := -counts.Floor(-from, length), counts.Floor(min(to, now), length)
		if q.Step%length != 0 || first >= last {
			split(g-1, from, to)
			return
		}
		split(g-1, from, first)
		all = append(all, part{g, first, last})
		split(g-1, last, to)
	}
	split(len(grains)-1, q.Since, q.Until)
	return all
}

// load makes the slots of parts current and returns those to use: a slot that has
// changed of late is replaced by shorter ones.
func (c *Cache) load(ctx context.Context, parts []part) ([]part, error) {
	c.clock++
	c.takeChanges()
	now := c.o.Now()
	var use []part
	var visit func(p part) error
	visit = func(p part) error {
		length := grains[p.grain]
		for at := p.from; at < p.to; {
			from, was := at, c.state(p.grain, at, now)
			for at += length; at < p.to && c.state(p.grain, at, now) == was; {
				at += length
			}
			if was == changing {
				if err := visit(part{p.grain - 1, from, at}); err != nil {
					return err
				}
				continue
			}
			for to := from; was == absent && to < at; {
				next := min(to+chunks[p.grain]*length, at)
				if err := c.read(ctx, p.grain, to, next, now); err != nil {
					return err
				}
				to = next
			}
			use = append(use, part{p.grain, from, at})
		}
		return nil
	}
	for _, p := range parts {
		if err := visit(p); err != nil {
			return nil, err
		}
	}
	return use, nil
}

// takeChanges marks the slots that have changed since the last time.
func (c *Cache) takeChanges() {
	c.pending.Lock()
	changed, flooded := c.changed, c.flooded
	if len(changed) == 0 && !flooded {
		// Committed may write to this map as soon as the lock is free.
		c.pending.Unlock()
		return
	}
	c.changed, c.flooded = make(map[int64]struct{}), false
	c.pending.Unlock()
	if flooded {
		for g := range c.slots {
			for _, s := range c.slots[g] {
				s.dirty = true
			}
		}
		return
	}
	for start := range changed {
		for g, length := range grains {
			if s := c.slots[g][counts.Floor(start, length)]; s != nil {
				s.dirty = true
			}
		}
	}
}

// What a slot can be.
type state uint8

const (
	absent   state = iota // it has to be read
	current               // it can be used
	changing              // shorter ones are to be used
)

func (c *Cache) state(g int, start int64, now time.Time) state {
	s := c.slots[g][start]
	if s == nil {
		return absent
	}
	age := now.Sub(s.loaded)
	if c.o.Shared > 0 {
		limit := c.o.Shared
		if start < now.Add(-2*time.Hour).Unix() {
			limit *= 20
		}
		if age >= limit {
			return absent
		}
	}
	switch {
	case !s.dirty:
		return current
	case g == 0 || age >= calm || start < c.oldest(g-1, now):
		return absent
	}
	return changing
}

// oldest returns from which time on the ledger has slots of a grain.
func (c *Cache) oldest(g int, now time.Time) int64 {
	switch g {
	case 0:
		return now.Add(-c.o.Minutes).Unix() + 2*3600
	case 1:
		return now.Add(-c.o.Hours).Unix() + 2*86400
	}
	return 0
}

// read reads the slots from <= start < to from the ledger.
func (c *Cache) read(ctx context.Context, g int, from, to int64, now time.Time) error {
	const everything = 2_000_000
	rows, err := c.ledger.Query(ctx, ledger.Query{Since: from, Until: to, By: counts.SeriesDimensions[:], Step: grains[g], Limit: everything})
	if err != nil {
		return err
	}
	if len(rows) == everything {
		return errors.New("query: there are too many different counts: ask for a shorter time")
	}
	type cell struct{ id, attempts, firsts int64 }
	var cells []cell
	i := 0
	for start := from; start < to; start += grains[g] {
		cells = cells[:0]
		for ; i < len(rows) && rows[i].Start < start+grains[g]; i++ {
			id, err := c.intern(rows[i].Keys)
			if err != nil {
				return fmt.Errorf("query: %w", err)
			}
			cells = append(cells, cell{id, rows[i].Attempts, rows[i].Firsts})
		}
		slices.SortFunc(cells, func(a, b cell) int { return cmp.Compare(a.id, b.id) })
		var data []byte
		before := int64(0)
		for _, x := range cells {
			data = binary.AppendUvarint(data, uint64(x.id-before))
			data = binary.AppendUvarint(data, uint64(x.attempts))
			data = binary.AppendUvarint(data, uint64(x.firsts))
			before = x.id
		}
		s := c.slots[g][start]
		if s == nil {
			s = &slot{}
			c.slots[g][start] = s
			c.bytes += slotBytes
		}
		c.bytes += len(data) - len(s.data)
		*s = slot{data: slices.Clip(data), loaded: now, used: c.clock}
	}
	return nil
}

// add adds the rows of a slot.
func add(sum *counts.Sum, start int64, data []byte) error {
	id := int64(0)
	for len(data) > 0 {
		delta, n := binary.Uvarint(data)
		data = data[n:]
		attempts, n := binary.Uvarint(data)
		data = data[n:]
		firsts, n := binary.Uvarint(data)
		data = data[n:]
		id += int64(delta)
		if err := sum.Add(start, 0, id, int64(attempts), int64(firsts)); err != nil {
			return err
		}
	}
	return nil
}

// intern returns the number of a series, which is given by its names in the
// order of counts.SeriesDimensions. Series are never forgotten: the ledger
// bounds how many there are.
func (c *Cache) intern(names []string) (int64, error) {
	h := xxhash.Sum64String(strings.Join(names, "\x00"))
	for ; ; h++ { // another series has the same hash: the next place is free or ours
		id, ok := c.index[h]
		if !ok {
			break
		}
		if c.same(id, names) {
			return id, nil
		}
	}
	var id int64
	series, err := c.catalog.Load(func(after int64, add func(int64, *[len(counts.SeriesDimensions)]string) error) error {
		id = after + 1
		var own [len(counts.SeriesDimensions)]string
		for i, name := range names {
			own[i] = strings.Clone(name)
		}
		return add(id, &own)
	})
	if err != nil {
		return 0, err
	}
	c.series = series
	c.index[h] = id
	return id, nil
}

func (c *Cache) same(id int64, names []string) bool {
	for i, d := range counts.SeriesDimensions {
		if c.series.Name(d, id) != names[i] {
			return false
		}
	}
	return true
}

// evict drops the slots that were not asked for longest if there are too many,
// until there is some room again.
func (c *Cache) evict() {
	if c.bytes <= c.o.MaxBytes {
		return
	}
	type place struct {
		grain int
		start int64
		used  uint64
	}
	var all []place
	for g := range c.slots {
		for _, start := range slices.Sorted(maps.Keys(c.slots[g])) {
			all = append(all, place{g, start, c.slots[g][start].used})
		}
	}
	slices.SortStableFunc(all, func(a, b place) int { return cmp.Compare(a.used, b.used) })
	for _, p := range all {
		if c.bytes <= c.o.MaxBytes*9/10 {
			return
		}
		c.bytes -= slotBytes + len(c.slots[p.grain][p.start].data)
		delete(c.slots[p.grain], p.start)
	}
}
