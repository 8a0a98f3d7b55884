package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"
)

// leaveWithin is how long leaving the group may take: a member that goes away
// in the middle of a rebalance would else wait for the end of it.
const leaveWithin = 5 * time.Second

// member is in the group until ctx is done.
func (r *run) member(ctx context.Context) error {
	for ctx.Err() == nil {
		// kafka-go's group knows no patterns and does not work with topics that
		// do not exist: it is told those that do, and made anew for others.
		all, known, changed := r.cluster.partitions()
		if topics := topicsOf(all); len(topics) > 0 {
			if err := r.join(ctx, topics); err != nil {
				return err
			}
			continue
		}
		if known && r.cluster.notices.due("nothing") {
			r.cfg.Log.Warn("none of the configured topics exists; waiting", "topics", r.cfg.Topics, "pattern", r.cfg.Pattern)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-time.After(noticeEvery):
		}
	}
	return nil
}

// topicsOf returns the topics of partitions that are in order.
func topicsOf(all []tp) []string {
	var topics []string
	for _, p := range all {
		if len(topics) == 0 || topics[len(topics)-1] != p.topic {
			topics = append(topics, p.topic)
		}
	}
	return topics
}

// join is in the group with these topics until ctx is done or there are others.
func (r *run) join(ctx context.Context, topics []string) (err error) {
	dialer, err := r.cfg.Dialer()
	if err != nil {
		return err
	}
	conns := &connections{dial: r.cfg.dial}
	if conns.dial == nil {
		conns.dial = r.cfg.Dial
	}
	dialer.DialFunc = conns.open
	group, err := kafkago.NewConsumerGroup(kafkago.ConsumerGroupConfig{
		ID: r.cfg.Group, Brokers: r.cfg.Brokers, Topics: topics, Dialer: dialer,
		GroupBalancers:    []kafkago.GroupBalancer{kafkago.RangeGroupBalancer{}, kafkago.RoundRobinGroupBalancer{}},
		HeartbeatInterval: r.cfg.HeartbeatInterval, SessionTimeout: r.cfg.SessionTimeout, RebalanceTimeout: r.cfg.RebalanceTimeout,
		JoinGroupBackoff: time.Second, Timeout: r.cfg.RequestTimeout,
		StartOffset: kafkago.FirstOffset, // does not matter: the ledger knows
	})
	if err != nil {
		return fmt.Errorf("join group %s: %w", r.cfg.Group, err)
	}
	// Closing the group ends its generation and waits for the lanes; so it
	// begins when ctx is done, and join returns when it is over.
	ctx, stop := context.WithCancel(ctx)
	left := make(chan struct{})
	context.AfterFunc(ctx, func() {
		_ = group.Close() // never fails
		close(left)
	})
	defer func() {
		stop()
		select {
		case <-left:
		case <-time.After(leaveWithin):
			conns.closeAll()
			<-left
		}
	}()

	const notice = "group"
	var pause time.Duration
	for {
		// What comes after this is missing in the generation, or makes one more.
		all, _, changed := r.cluster.partitions()
		generation, err := group.Next(ctx)
		if ctx.Err() != nil || errors.Is(err, kafkago.ErrGroupClosed) {
			return nil
		}
		if errors.Is(err, kafkago.RebalanceInProgress) {
			continue // the members do not agree yet; the broker sets the pace
		}
		if err != nil {
			if r.cluster.notices.due(notice) {
				r.cfg.Log.Warn("cannot be a member of the group; trying again", "group", r.cfg.Group, "err", r.cfg.Explain(err))
			}
			pause = min(max(2*pause, time.Second), mostPause)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(rand.N(pause)):
			}
			continue
		}
		pause = 0
		if r.cluster.notices.over(notice) {
			r.cfg.Log.Info("member of the group again", "group", r.cfg.Group)
		}
		r.stats.generations.Add(1)
		result := make(chan error, 1)
		generation.Start(func(over context.Context) {
			err := r.generation(ctx, over, generation, all, changed)
			others := !slices.Equal(topics, r.topics())
			if err != nil || others {
				stop()
			}
			if ctx.Err() != nil {
				// The group is being closed. Without waiting for that, it would
				// begin to join again.
				<-over.Done()
			}
			result <- err
		})
		if err := <-result; err != nil {
			return err
		}
	}
}

func (r *run) topics() []string {
	all, _, _ := r.cluster.partitions()
	return topicsOf(all)
}

// generation reads the partitions of one generation until it is over: because
// the group shares them out anew, which ends the context over, because ctx is
// done, or because there are other partitions than all to share. Then the lanes
// commit, and the group is told how far they are.
func (r *run) generation(ctx, over context.Context, generation *kafkago.Generation, all []tp, changed <-chan struct{}) error {
	var done commits
	lanes, stop := context.WithCancel(ctx)
	defer stop()
	g, lanes := errgroup.WithContext(lanes)
	count := 0
	for _, topic := range slices.Sorted(maps.Keys(generation.Assignments)) {
		for _, a := range generation.Assignments[topic] {
			count++
			p := tp{topic, int32(a.ID)}
			g.Go(func() error { return r.work(lanes, r.lane(p, &done)) })
		}
	}
	r.cfg.Log.Info("the group has shared out the partitions", "group", r.cfg.Group, "generation", generation.ID, "partitions", count)
	commit := func() {
		if err := done.tell(generation.CommitOffsets); err != nil {
			r.cfg.Log.Debug("offsets are not committed to the group, whose lag looks larger than it is", "group", r.cfg.Group, "err", err)
		}
	}
	ticker := time.NewTicker(r.cfg.CommitInterval)
	defer ticker.Stop()
	for lasts := true; lasts; {
		select {
		case <-lanes.Done(): // ctx is done, or work has failed
			lasts = false
		case <-over.Done():
			lasts = false
		case <-changed:
			var now []tp
			now, _, changed = r.cluster.partitions()
			lasts = slices.Equal(now, all)
		case <-ticker.C:
			commit()
		}
	}
	stop()
	err := g.Wait()
	commit()
	return err
}

// connections are those of the group: kafka-go has no other way to end a request
// that waits.
type connections struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	mu   sync.Mutex
	all  map[*connection]struct{}
}

// connection forgets itself when it is closed.
type connection struct {
	net.Conn
	owner *connections
}

func (c *connections) open(ctx context.Context, network, address string) (net.Conn, error) {
	n, err := c.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = make(map[*connection]struct{})
	}
	conn := &connection{n, c}
	c.all[conn] = struct{}{}
	return conn, nil
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.owner.mu.Lock()
	delete(c.owner.all, c)
	c.owner.mu.Unlock()
	return c.Conn.Close()
}

// closeAll closes what is open now.
func (c *connections) closeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.all {
		_ = conn.Conn.Close() // the user sees it
	}
}
