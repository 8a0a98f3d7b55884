// Package kafka reads the partitions of Kafka topics, one lane each.
//
// What is promised, whatever happens to brokers, connections and the other
// members of the group:
//
//   - Every record that can be read is delivered once, in order, from the
//     position on that the lane was opened at. The ledger owns that position;
//     the offsets that are committed to the group are for tools that show lag.
//   - A record is a line: its value. Keys and headers are left alone, records
//     without a value (tombstones) and those of aborted transactions are passed
//     over.
//   - What cannot be read (damaged, or deleted before it was read) is logged
//     and counted in Batch.Lost, or stops the source: Config.OutOfRange and
//     Config.Damaged say which.
//   - Memory is bounded whatever is in the topics: Config.BufferBytes for all
//     partitions, and a decompressed batch for each lane.
//
// Membership in the group is kafka-go's ConsumerGroup. The records come by our
// own Fetch requests over kafka-go's Transport: its Reader returns the records
// of aborted transactions, checks no checksum and costs several times as much.
package kafka

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// Stats is how the source is doing. Numbers are since the start of the process.
type Stats struct {
	// Requests were sent for records; RequestErrors of them had no answer.
	Requests, RequestErrors int64
	// Refreshes is how often the connections were made anew, because a
	// partition had moved or nothing came.
	Refreshes int64
	// Stalls is how often a partition had records and delivered none for
	// Config.StallAfter.
	Stalls int64
	// Generations is how often the group shared out its partitions.
	Generations int64
	// Lanes are those that were ever read, in order of topic and partition.
	Lanes []LaneStats
}

// LaneStats is how one partition is doing. Numbers are since the start of the
// process.
type LaneStats struct {
	Topic     string
	Partition int32
	// Open is true while this process reads it.
	Open bool
	// Offset is that of the next record; End is the one after the last that can
	// be read, or -1 if that is not known.
	Offset, End int64
	// Records and Bytes were read; Bytes are decompressed ones, with keys and
	// headers.
	Records, Bytes int64
	// Tombstones are records without a value.
	Tombstones int64
	// Truncated records were longer than Config.MaxRecordBytes.
	Truncated int64
	// Aborted records belong to aborted transactions.
	Aborted int64
	// Retries is how often a batch was fetched again because it could not be
	// read; Damaged batches could not be read in the end.
	Retries, Damaged int64
	// Lost records are those of damaged batches, and those that were deleted
	// before they were read.
	Lost int64
}

// Name is that of the lane.
func (s *LaneStats) Name() string { return tp{s.Topic, s.Partition}.String() }

// counters count what the whole source does; see Stats.
type counters struct {
	requests, requestErrors, refreshes, stalls, generations atomic.Int64
}

// laneCounters count what a lane does, over all the times that it is opened; see
// LaneStats.
type laneCounters struct {
	open                                                                   atomic.Bool
	offset, end                                                            atomic.Int64
	records, bytes, tombstones, truncated, aborted, retries, damaged, lost atomic.Int64
}

// Source reads topics. Each partition is a lane.
type Source struct {
	cfg  Config
	zstd *zstd.Decoder

	stats counters
	mu    sync.Mutex // guards lanes
	lanes map[tp]*laneCounters
}

// New returns a source for what c names. It connects to nobody.
func New(c Config) (*Source, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Source{cfg: c.withDefaults(), lanes: make(map[tp]*laneCounters)}
	var err error
	// A batch is appended to what is in the buffer, which counts as well.
	s.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(uint64(s.cfg.MaxBatchBytes+batchBytes)))
	if err != nil {
		return nil, fmt.Errorf("make a zstd decoder: %w", err)
	}
	return s, nil
}

// Stats tells how the source is doing. It may be called at any time.
func (s *Source) Stats() Stats {
	all := Stats{
		Requests: s.stats.requests.Load(), RequestErrors: s.stats.requestErrors.Load(), Refreshes: s.stats.refreshes.Load(),
		Stalls: s.stats.stalls.Load(), Generations: s.stats.generations.Load(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range slices.SortedFunc(maps.Keys(s.lanes), compareTP) {
		c := s.lanes[p]
		all.Lanes = append(all.Lanes, LaneStats{
			Topic: p.topic, Partition: p.id, Open: c.open.Load(), Offset: c.offset.Load(), End: c.end.Load(),
			Records: c.records.Load(), Bytes: c.bytes.Load(), Tombstones: c.tombstones.Load(), Truncated: c.truncated.Load(),
			Aborted: c.aborted.Load(), Retries: c.retries.Load(), Damaged: c.damaged.Load(), Lost: c.lost.Load(),
		})
	}
	return all
}

// Run calls work for each partition, in a goroutine of its own: for those that
// the group gives to this process, as long as it does, or for all that are
// configured. A cluster that does not answer is waited for. It returns nil once
// ctx is done and every call of work has returned, or the first error of work.
func (s *Source) Run(ctx context.Context, work func(context.Context, *Lane) error) error {
	g, ctx := errgroup.WithContext(ctx)
	transport, err := s.cfg.Transport(ctx, s.cfg.watched()...)
	if err != nil {
		return err
	}
	if s.cfg.dial != nil {
		transport.Dial = s.cfg.dial
	}
	defer transport.CloseIdleConnections()
	r := &run{Source: s, cluster: newCluster(&s.cfg, transport, &s.stats), work: work}
	g.Go(func() error { return r.cluster.run(ctx) })
	if s.cfg.Group == "" {
		g.Go(func() error { return r.alone(ctx) })
	} else {
		g.Go(func() error { return r.member(ctx) })
	}
	return g.Wait()
}

// watched returns the topics whose metadata are needed, or nil for all.
func (c *Config) watched() []string {
	if c.Pattern != "" {
		return nil
	}
	return c.Topics
}

// run is one call of Run.
type run struct {
	*Source
	cluster *cluster
	work    func(context.Context, *Lane) error
}

// lane returns a lane for a partition. It tells done what was committed.
func (r *run) lane(p tp, done *commits) *Lane {
	r.mu.Lock()
	defer r.mu.Unlock()
	stats := r.lanes[p]
	if stats == nil {
		stats = new(laneCounters)
		stats.end.Store(-1)
		r.lanes[p] = stats
	}
	return &Lane{
		tp: p, name: p.String(), cfg: &r.cfg, log: r.cfg.Log.With("partition", p.String()), cluster: r.cluster, stats: stats, committed: done,
		unpack: &unpacker{limit: r.cfg.MaxBatchBytes, zstd: r.zstd},
	}
}

// alone reads all configured partitions, those that appear later too, until ctx
// is done.
func (r *run) alone(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	var mu sync.Mutex // guards ends
	ends := make(map[tp]context.CancelFunc)
	ended := make(chan struct{}, 1) // a lane of a topic that was deleted; there may be another by now
	g.Go(func() error {
		for {
			all, known, changed := r.cluster.partitions()
			if len(r.cfg.Partitions) > 0 {
				all = slices.DeleteFunc(all, func(p tp) bool { return !slices.Contains(r.cfg.Partitions, p.id) })
			}
			if known && len(all) == 0 && r.cluster.notices.due("nothing") {
				r.cfg.Log.Warn("none of the configured partitions exists; waiting", "topics", r.cfg.Topics, "pattern", r.cfg.Pattern, "partitions", r.cfg.Partitions)
			}
			mu.Lock()
			for _, p := range all {
				if ends[p] != nil {
					continue
				}
				ctx, end := context.WithCancel(ctx)
				ends[p] = end
				g.Go(func() error {
					defer end()
					err := r.work(ctx, r.lane(p, nil))
					mu.Lock()
					defer mu.Unlock()
					delete(ends, p)
					if ctx.Err() != nil {
						select {
						case ended <- struct{}{}:
						default:
						}
					}
					return err
				})
			}
			for p, end := range ends {
				if !slices.Contains(all, p) {
					end() // the topic was deleted
				}
			}
			mu.Unlock()
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
			case <-ended:
			case <-time.After(noticeEvery):
			}
		}
	})
	return g.Wait()
}

// commits is how far the ledger is in each partition.
type commits struct {
	mu  sync.Mutex
	all map[string]map[int]int64
	new bool // since it was last told
}

// set notes that the ledger is at offset; a nil commits notes nothing.
func (c *commits) set(p tp, offset int64) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = make(map[string]map[int]int64)
	}
	if c.all[p.topic] == nil {
		c.all[p.topic] = make(map[int]int64)
	}
	c.all[p.topic][int(p.id)] = offset
	c.new = true
}

// tell has all offsets committed if there are new ones, and again the next time if
// that fails.
func (c *commits) tell(commit func(map[string]map[int]int64) error) error {
	c.mu.Lock()
	if !c.new {
		c.mu.Unlock()
		return nil
	}
	c.new = false
	all := make(map[string]map[int]int64, len(c.all))
	for topic, offsets := range c.all {
		all[topic] = maps.Clone(offsets)
	}
	c.mu.Unlock()
	err := commit(all)
	if err != nil {
		c.mu.Lock()
		c.new = true
		c.mu.Unlock()
	}
	return err
}

func compareTP(a, b tp) int {
	return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.id, b.id))
}
