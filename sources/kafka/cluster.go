package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/listoffsets"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"golang.org/x/sync/errgroup"
)

const (
	// depth is how many chunks a partition has: one is read by its lane while
	// another is fetched.
	depth = 2
	// leastFetch is what is fetched of a partition however many there are.
	leastFetch = 16 << 10
	// backlogWait is how long a broker may wait for records that we know it has.
	backlogWait = 50 * time.Millisecond
	// refreshEvery is how often connections are made anew, at the most, to learn
	// who leads which partition.
	refreshEvery = time.Second
	// missedOften is how often in a row a topic must be missing to be gone:
	// brokers do not hear of changes at one time.
	missedOften = 3
	// mostPause bounds the pauses between tries of something that fails.
	mostPause = 5 * time.Second
)

// protocolError returns the error that a broker means by code.
func protocolError(code int16) error { return kafkago.Error(code) }

// tp names a partition.
type tp struct {
	topic string
	id    int32
}

func (p tp) String() string { return fmt.Sprintf("%s/%d", p.topic, p.id) }

// partition is what is known of a partition while a lane reads it.
type partition struct {
	tp
	// full has what was fetched, in order. It has room for all chunks.
	full chan *chunk
	// end is the offset after the last record that can be read now, or -1.
	end atomic.Int64

	// The cluster's mu guards the rest.
	epoch    int   // counts the seeks
	leader   int32 // broker, or -1
	next     int64 // offset to fetch
	free     []*chunk
	busy     bool      // is being fetched
	held     bool      // until the next seek: the lane has to do something
	due      time.Time // not before
	pause    time.Duration
	maxBytes int       // more than usual, for a batch that did not fit
	moved    time.Time // when it was last seen not to be stuck
	trouble  error
}

// cluster fetches the partitions that lanes have open. It has two goroutines
// for each broker: one fetches what is known to be there, the other waits for
// new records of the other partitions. So a partition with a backlog never
// waits for one without; and one whose lane is slow is left out of the requests
// and keeps nobody waiting.
type cluster struct {
	cfg       *Config
	log       *slog.Logger
	notices   *notices
	transport *kafkago.Transport
	addr      net.Addr
	stats     *counters
	group     *errgroup.Group // set by run, of the goroutines that fetch
	nudge     chan struct{}   // something is wrong with the metadata

	mu      sync.Mutex
	known   bool // metadata has been seen
	topics  map[string]*topic
	atStart map[tp]bool   // what there was when metadata was first seen
	changed chan struct{} // closed when topics has changed
	parts   []*partition  // in order of topic and number
	brokers map[int32]*broker
	refresh bool // connections are to be made anew
	turn    int  // whose partition comes first in a request
}

// topic is what the metadata say of a topic that is to be read.
type topic struct {
	leaders map[int32]int32 // by partition; -1 where there is none
	missed  int             // how often in a row the topic was missing
}

// broker wakes the two goroutines that fetch from it.
type broker struct{ backlog, fresh chan struct{} }

func newCluster(cfg *Config, transport *kafkago.Transport, stats *counters) *cluster {
	return &cluster{
		cfg: cfg, log: cfg.Log, notices: new(notices), transport: transport, addr: cfg.Addr(), stats: stats,
		nudge: make(chan struct{}, 1), changed: make(chan struct{}), topics: make(map[string]*topic), brokers: make(map[int32]*broker),
	}
}

// run keeps up with the cluster's metadata and fetches, until ctx is done.
func (c *cluster) run(ctx context.Context) error {
	c.group, ctx = errgroup.WithContext(ctx)
	c.group.Go(func() error {
		pause := c.cfg.MetadataTTL / 16
		for {
			wait := c.cfg.MetadataTTL
			if err := c.update(ctx); err == nil {
				pause = c.cfg.MetadataTTL / 16
				c.watch(time.Now())
			} else if ctx.Err() == nil {
				if c.notices.due("metadata") {
					c.log.Warn("no answer from the cluster; trying again", "brokers", strings.Join(c.cfg.Brokers, ","), "err", c.cfg.Explain(err))
				}
				pause = min(2*pause, mostPause)
				wait = pause
				c.expire()
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(wait + rand.N(wait/4+1)):
			case <-c.nudge:
				// Somebody has seen that the metadata are old.
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(min(refreshEvery, c.cfg.MetadataTTL) / 4):
				}
			}
		}
	})
	return c.group.Wait()
}

// expire has the next look at the metadata not be one at old ones.
func (c *cluster) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refresh = true
}

// stale tells that a broker does not agree with what we know.
func (c *cluster) stale() {
	c.expire()
	select {
	case c.nudge <- struct{}{}:
	default:
	}
}

// update looks at the metadata, which the transport keeps fresh, and starts
// what they ask for. The context ends the goroutines that it starts.
func (c *cluster) update(ctx context.Context) error {
	c.mu.Lock()
	refresh := c.refresh
	c.refresh = false
	c.mu.Unlock()
	if refresh {
		// The transport asks again only with new connections.
		c.transport.CloseIdleConnections()
		c.stats.refreshes.Add(1)
	}
	request := &metadata.Request{}
	if c.cfg.Pattern == "" {
		request.TopicNames = c.cfg.Topics
	}
	timeout, cancel := context.WithTimeout(ctx, c.cfg.DialTimeout+c.cfg.RequestTimeout)
	defer cancel()
	m, err := c.transport.RoundTrip(timeout, c.addr, request)
	if err != nil {
		return err
	}
	answer, ok := m.(*metadata.Response)
	if !ok {
		return fmt.Errorf("the answer is a %T", m)
	}
	if c.notices.over("metadata") {
		c.log.Info("the cluster answers again")
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	c.learn(answer)
	for _, p := range c.parts {
		if t := c.topics[p.topic]; t != nil {
			if leader, ok := t.leaders[p.id]; ok {
				p.leader = leader
			}
		}
		if p.leader >= 0 && c.brokers[p.leader] == nil {
			id, b := p.leader, &broker{make(chan struct{}, 1), make(chan struct{}, 1)}
			c.brokers[id] = b
			c.group.Go(func() error { return c.fetch(ctx, id, b, true) })
			c.group.Go(func() error { return c.fetch(ctx, id, b, false) })
		}
	}
	c.wakeAll()
	return nil
}

// learn takes over what metadata say of the topics. It needs mu.
func (c *cluster) learn(m *metadata.Response) {
	seen := make(map[string]bool)
	changed := !c.known
	for i := range m.Topics {
		t := &m.Topics[i]
		if !c.wants(t.Name, t.IsInternal) {
			continue
		}
		switch err := protocolError(t.ErrorCode); {
		case t.ErrorCode == 0:
			if c.notices.over("topic " + t.Name) {
				c.log.Info("the topic is there", "topic", t.Name)
			}
		case errors.Is(err, kafkago.UnknownTopicOrPartition):
			if c.notices.due("topic " + t.Name) {
				c.log.Warn("the topic does not exist; waiting for it", "topic", t.Name)
			}
			continue
		default:
			if !errors.Is(err, kafkago.LeaderNotAvailable) { // as while it is made
				if c.notices.due("topic " + t.Name) {
					c.log.Warn("nothing can be learned about the topic; trying again", "topic", t.Name, "err", c.cfg.Explain(err))
				}
			}
			seen[t.Name] = true // it may well be there
			continue
		}
		seen[t.Name] = true
		old := c.topics[t.Name]
		if old == nil {
			old = &topic{leaders: make(map[int32]int32)}
			c.topics[t.Name] = old
			changed = true
		}
		old.missed = 0
		for _, p := range t.Partitions {
			if _, ok := old.leaders[p.PartitionIndex]; !ok {
				changed = true
			}
			old.leaders[p.PartitionIndex] = p.LeaderID
		}
	}
	for name, t := range c.topics {
		if seen[name] {
			continue
		}
		if t.missed++; t.missed >= missedOften {
			delete(c.topics, name)
			changed = true
		}
	}
	if !c.known {
		c.known = true
		c.atStart = make(map[tp]bool)
		for name, t := range c.topics {
			for id := range t.leaders {
				c.atStart[tp{name, id}] = true
			}
		}
	}
	if changed {
		close(c.changed)
		c.changed = make(chan struct{})
	}
}

// wants reports whether a topic is to be read.
func (c *cluster) wants(name string, internal bool) bool {
	if slices.Contains(c.cfg.Topics, name) {
		return true
	}
	if internal || strings.HasPrefix(name, "__") {
		return false
	}
	ok, _ := path.Match(c.cfg.Pattern, name) // Validate has seen the pattern
	return ok && c.cfg.Pattern != ""
}

// partitions returns all partitions that are to be read, in order, and a channel
// that is closed when there are others. known is false before the cluster has
// first been heard of.
func (c *cluster) partitions() (all []tp, known bool, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(c.topics)) {
		for _, id := range slices.Sorted(maps.Keys(c.topics[name].leaders)) {
			all = append(all, tp{name, id})
		}
	}
	return all, c.known, c.changed
}

// isNew reports whether a partition appeared while we were running.
func (c *cluster) isNew(p tp) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known && !c.atStart[p]
}

// open begins to fetch a partition at offset next.
func (c *cluster) open(name tp, next int64) *partition {
	p := &partition{tp: name, full: make(chan *chunk, depth), leader: -1, next: next, moved: time.Now()}
	p.end.Store(-1)
	for range depth {
		p.free = append(p.free, new(chunk))
	}
	c.mu.Lock()
	i, _ := slices.BinarySearchFunc(c.parts, name, func(p *partition, name tp) int { return compareTP(p.tp, name) })
	c.parts = slices.Insert(c.parts, i, p)
	c.mu.Unlock()
	select {
	case c.nudge <- struct{}{}: // to learn its leader
	default:
	}
	return p
}

// close ends the fetching of a partition.
func (c *cluster) close(p *partition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.parts, p); i >= 0 {
		c.parts = slices.Delete(c.parts, i, i+1)
	}
	p.epoch++
	p.held = true
}

// seek drops what was fetched of a partition and goes on at next, after a pause.
func (c *cluster) seek(p *partition, next int64, pause time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.epoch++
	p.next, p.held, p.due, p.moved = next, false, time.Now().Add(pause), time.Now()
	for {
		select {
		case k := <-p.full:
			p.free = append(p.free, k)
		default:
			c.wake(p)
			return
		}
	}
}

// release gives back a chunk that the lane has read.
func (c *cluster) release(p *partition, k *chunk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.free = append(p.free, k)
	p.moved = time.Now()
	c.wake(p)
}

// wake lets p be fetched. It needs mu.
func (c *cluster) wake(p *partition) {
	b := c.brokers[p.leader]
	if b == nil {
		return
	}
	for _, wake := range []chan struct{}{b.backlog, b.fresh} {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

func (c *cluster) wakeAll() {
	for _, p := range c.parts {
		c.wake(p)
	}
}

// fetch fetches from one broker until ctx is done: the partitions that are known
// to have more, or the others.
func (c *cluster) fetch(ctx context.Context, id int32, b *broker, backlog bool) error {
	wake := b.fresh
	if backlog {
		wake = b.backlog
	}
	f := c.newFetch(id, backlog)
	pause := 50 * time.Millisecond
	notice := fmt.Sprintf("broker %d", id)
	for {
		wait := c.collect(f, backlog)
		if len(f.parts) > 0 {
			err := c.exchange(ctx, f)
			if ctx.Err() != nil {
				return nil
			}
			c.distribute(f, err)
			if err == nil {
				if c.notices.over(notice) {
					c.log.Info("the broker answers again", "broker", id)
				}
				pause, wait = 50*time.Millisecond, time.Duration(f.throttled)*time.Millisecond
			} else {
				if c.notices.due(notice) {
					c.log.Warn("no answer from a broker; trying again", "broker", id, "err", c.cfg.Explain(err))
				}
				c.stats.requestErrors.Add(1)
				c.stale()
				f = c.newFetch(id, backlog) // the connection may still use the other
				pause = min(2*pause, mostPause)
				wait = pause/2 + rand.N(pause)
			}
			if wait <= 0 {
				continue
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(min(wait, time.Minute)):
			}
			continue
		}
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case <-timer:
		}
	}
}

func (c *cluster) newFetch(id int32, backlog bool) *fetch {
	f := &fetch{
		broker: id, clientID: c.cfg.ClientID, limit: c.cfg.MaxBatchBytes,
		maxWait: int32(c.cfg.MaxWait / time.Millisecond), minBytes: int32(c.cfg.MinBytes), maxBytes: int32(min(c.cfg.BufferBytes/depth, 1<<30)),
	}
	if backlog {
		f.maxWait, f.minBytes = int32(min(backlogWait, c.cfg.MaxWait)/time.Millisecond), 1
	}
	if c.cfg.Isolation == ReadCommitted {
		f.isolation = 1
	}
	return f
}

// exchange sends a request and reads its answer.
func (c *cluster) exchange(ctx context.Context, f *fetch) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(f.maxWait)*time.Millisecond+c.cfg.RequestTimeout)
	defer cancel()
	c.stats.requests.Add(1)
	_, err := c.transport.RoundTrip(ctx, c.addr, f)
	return err
}

// collect makes f a request for the partitions of its broker whose lanes have
// room: those that are known to have more, or the others. If there are none, it
// returns when it has to be called again, or 0 if not before the broker's
// goroutine is woken.
func (c *cluster) collect(f *fetch, backlog bool) (wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.parts = f.parts[:0]
	now := time.Now()
	usual := max(min(c.cfg.FetchBytes, c.cfg.BufferBytes/depth/max(len(c.parts), 1)), leastFetch)
	for i := range c.parts {
		// A broker fills its answer in the order of the request: each in turn.
		p := c.parts[(i+c.turn)%len(c.parts)]
		end := p.end.Load()
		if p.leader != f.broker || p.busy || p.held || len(p.free) == 0 || backlog != (end < 0 || end > p.next) {
			continue
		}
		if d := p.due.Sub(now); d > 0 {
			if wait == 0 || d < wait {
				wait = d
			}
			continue
		}
		k := p.free[len(p.free)-1]
		p.free = p.free[:len(p.free)-1]
		size := max(usual, p.maxBytes)
		if cap(k.data) > 2*size && len(k.data) < cap(k.data)/4 {
			k.data = nil // left by a large batch
		}
		k.answered = false
		p.busy = true
		f.parts = append(f.parts, part{partition: p, epoch: p.epoch, offset: p.next, maxBytes: int32(size), chunk: k})
	}
	c.turn++
	return wait
}

// distribute hands the answer to the partitions. err is that of the exchange;
// if there is one, the chunks may still be in use.
func (c *cluster) distribute(f *fetch, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for i := range f.parts {
		p := &f.parts[i]
		p.busy = false
		if err != nil {
			p.free = append(p.free, new(chunk))
			p.trouble = err
			continue
		}
		switch {
		case p.epoch != p.partition.epoch:
			p.free = append(p.free, p.chunk) // the lane wants something else by now
		case !p.chunk.answered:
			p.refused(c, errors.New("the broker does not answer about the partition"), now)
		case errors.Is(protocolError(p.chunk.code), kafkago.OffsetOutOfRange):
			p.held = true
			p.full <- p.chunk
		case p.chunk.code != 0:
			p.refused(c, protocolError(p.chunk.code), now)
		default:
			p.deliver(c, f, now)
		}
		p.chunk = nil
	}
}

// refused puts a partition off that the broker has no records of for now. It
// needs the cluster's mu.
func (p *part) refused(c *cluster, err error, now time.Time) {
	p.free = append(p.free, p.chunk)
	p.trouble = err
	p.pause = min(max(2*p.pause, 20*time.Millisecond), mostPause)
	switch {
	case errors.Is(err, kafkago.NotLeaderForPartition), errors.Is(err, kafkago.LeaderNotAvailable), errors.Is(err, kafkago.FencedLeaderEpoch),
		errors.Is(err, kafkago.UnknownLeaderEpoch), errors.Is(err, kafkago.ReplicaNotAvailable), errors.Is(err, kafkago.UnknownTopicOrPartition),
		errors.Is(err, kafkago.ListenerNotFound), errors.Is(err, kafkago.KafkaStorageError):
		// The partition moves. If that does not end, watch will say so.
		p.pause = min(p.pause, refreshEvery)
		c.refresh = true
		select {
		case c.nudge <- struct{}{}:
		default:
		}
	default:
		if c.notices.due(p.tp.String()) {
			c.log.Warn("a partition cannot be read; trying again", "partition", p.tp.String(), "err", c.cfg.Explain(err))
		}
	}
	p.due = now.Add(p.pause)
}

// deliver hands the records to the lane, if there are any. It needs the
// cluster's mu.
func (p *part) deliver(c *cluster, f *fetch, now time.Time) {
	k := p.chunk
	if p.trouble != nil {
		p.trouble, p.pause = nil, 0
		if c.notices.over(p.tp.String()) {
			c.log.Info("the partition can be read again", "partition", p.tp.String())
		}
	}
	end := k.high
	if f.isolation == 1 {
		end = min(end, k.stable)
	}
	p.end.Store(end)
	next, whole := scan(k, p.offset, f.limit)
	switch {
	case whole:
		p.next, p.partition.maxBytes, p.moved = next, 0, now
		p.full <- k
		return
	case len(k.data) > 0 && int(p.maxBytes) < f.limit:
		// Brokers before Kafka 0.10.1 cut the first batch short: ask for more.
		p.partition.maxBytes = min(2*int(p.maxBytes), f.limit)
	case end > p.offset:
		p.due = now.Add(c.cfg.MaxWait) // the answer was full, or the broker is at odds with itself
	default:
		p.moved = now
	}
	p.free = append(p.free, k)
}

// scan looks whether the lane can do anything with a chunk, which is so if it has
// a whole batch, or one that will never be read. It returns the offset after the
// last batch and cuts off what follows it. It believes the headers; should one
// be damaged, the lane finds out and seeks.
func scan(k *chunk, offset int64, limit int) (next int64, whole bool) {
	next = offset
	at := 0
	for at < len(k.data) {
		h, err := parseHeader(k.data[at:])
		if errors.Is(err, errPartial) && (at > 0 || h.size <= limit) {
			break
		}
		if whole = true; err != nil {
			return next, true // the lane will tell what is wrong
		}
		at += h.size
		next = max(next, h.next())
	}
	if whole {
		k.data = k.data[:at]
	}
	return next, whole
}

// watch looks for partitions that have records and deliver none, and has the
// connections made anew for them.
func (c *cluster) watch(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.parts {
		end := p.end.Load()
		if len(p.free) == 0 || p.held || end >= 0 && end <= p.next && p.trouble == nil {
			p.moved = now // it is for the lane to do something, or nobody
			continue
		}
		if now.Sub(p.moved) < c.cfg.StallAfter {
			continue
		}
		err := p.trouble
		switch {
		case err != nil:
			err = c.cfg.Explain(err)
		case p.leader < 0:
			err = errors.New("no broker leads it; look at the brokers' logs")
		default:
			err = errors.New("its broker answers without records; look at the broker's log")
		}
		c.log.Error("no progress although there are records; connecting anew", "partition", p.tp.String(), "offset", p.next, "end", end, "for", c.cfg.StallAfter, "err", err)
		c.stats.stalls.Add(1)
		p.moved = now
		c.refresh = true
	}
}

// Times for which listOffset knows an offset.
const (
	latestTime   = -1
	earliestTime = -2
)

// listOffset asks for the first offset of a partition or the one after its last;
// committed leaves out what an open transaction keeps from being read.
func (c *cluster) listOffset(ctx context.Context, p tp, at int64, committed bool) (int64, error) {
	request := &listoffsets.Request{
		ReplicaID: -1,
		Topics:    []listoffsets.RequestTopic{{Topic: p.topic, Partitions: []listoffsets.RequestPartition{{Partition: p.id, CurrentLeaderEpoch: -1, Timestamp: at}}}},
	}
	if committed {
		request.IsolationLevel = 1
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	m, err := c.transport.RoundTrip(ctx, c.addr, request)
	if err != nil {
		return 0, err
	}
	if r, ok := m.(*listoffsets.Response); ok && len(r.Topics) == 1 && len(r.Topics[0].Partitions) == 1 {
		a := r.Topics[0].Partitions[0]
		if a.ErrorCode != 0 {
			return 0, protocolError(a.ErrorCode)
		}
		if a.Offset >= 0 {
			return a.Offset, nil
		}
	}
	return 0, errors.New("the broker does not know it")
}
