// Package kafka writes classified records (see package record) and counts to Kafka
// topics.
//
// Nothing counts as written before all replicas of a partition that are in sync
// have it. Records are written at least once: after a crash, or after an answer
// of a broker that was lost, some come again. Each has its id in the header "id",
// so that consumers can drop the repeats. (The client library can neither write
// idempotently nor in transactions.)
//
// Where things are: topic.go hands messages to the client and learns what became
// of them; records.go and values.go say what is written.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/metadata"

	"github.com/bouncemeter/bouncemeter/internal/kafkaclient"
)

// Config says which topic is written, and how.
type Config struct {
	kafkaclient.Config
	Topic string
	// Compression is none, gzip, snappy, lz4 or zstd; left out, it is lz4.
	Compression string
	// MaxBatchBytes is how large a batch for one partition may get before it is
	// compressed. The topic's max.message.bytes must not be less. Zero is 1 MB.
	MaxBatchBytes int64
	// MaxHeldBytes is how much may wait for the brokers, of all lanes together.
	// Zero is 32 MiB.
	MaxHeldBytes int64
	Log          *slog.Logger
}

const (
	// defaultBatchBytes is what brokers take unless configured otherwise
	// (message.max.bytes), less what a batch itself needs.
	defaultBatchBytes = 1_000_000
	defaultHeldBytes  = 32 << 20
	// batchRecords is how many messages make a batch.
	batchRecords = 2000
	// linger is how long a batch waits for more messages.
	linger = 5 * time.Millisecond
	// attempts is how often the client tries before it tells us, who try for ever.
	attempts = 3
	// requestTimeout bounds a request to a broker.
	requestTimeout = 10 * time.Second
)

var codecs = map[string]kafka.Compression{
	"": kafka.Lz4, "none": 0, "gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd,
}

// Stats tells what has become of messages since the start.
type Stats struct {
	// Records and Bytes (of values) that all replicas in sync have.
	Records, Bytes int64
	// Failures counts messages that were not taken, or of which that is not known.
	// They are sent again.
	Failures int64
	// Refused counts messages that are too large to be ever taken. They are not
	// sent again.
	Refused int64
	// Held is how many bytes wait for the brokers now.
	Held int64
	// Failing reports whether the last messages were not taken.
	Failing bool
	// Writer sums up what the client library tells of itself.
	Writer WriterStats
}

// WriterStats sums up kafka.WriterStats since the start.
type WriterStats struct {
	Writes, Messages, Bytes, Errors, Retries int64
	// How often, and how long in all, batches were gathered, waited for the
	// brokers to answer, and were throttled by them.
	Batch, Write, Throttle Duration
}

// Duration is how often something took how long in all.
type Duration struct {
	Count int64
	Sum   time.Duration
}

func (d *Duration) add(s kafka.DurationStats) {
	d.Count += s.Count
	d.Sum += s.Sum
}

// Topic is a topic that is written to. It may be used by several goroutines.
type Topic struct {
	config Config
	log    *slog.Logger
	line   *lifeline
	writer *kafka.Writer
	end    context.CancelFunc // of all requests

	held                       atomic.Int64
	records, bytes             atomic.Int64
	failures, refused, failing atomic.Int64

	mu       sync.Mutex
	stats    WriterStats
	reported time.Time // when a refusal was logged
}

// NewTopic returns a topic. It does not wait for the brokers.
func NewTopic(c Config) (*Topic, error) {
	codec, ok := codecs[c.Compression]
	switch {
	case c.Topic == "":
		return nil, errors.New("topic: there is none; name the topic to write to")
	case !ok:
		return nil, fmt.Errorf("compression: %q is unknown; use none, gzip, snappy, lz4 or zstd", c.Compression)
	}
	if c.MaxBatchBytes == 0 {
		c.MaxBatchBytes = defaultBatchBytes
	}
	if c.MaxHeldBytes == 0 {
		c.MaxHeldBytes = defaultHeldBytes
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(context.Background())
	transport, err := c.Transport(ctx, c.Topic)
	if err != nil {
		end()
		return nil, err
	}
	t := &Topic{config: c, log: c.Log, end: end, line: &lifeline{life: ctx, transport: transport}}
	t.failing.Store(1) // until it is proven that the brokers take something
	t.writer = &kafka.Writer{
		Addr: c.Addr(), Topic: c.Topic, Balancer: balancer{}, RequiredAcks: kafka.RequireAll, Compression: codec,
		BatchSize: batchRecords, BatchBytes: c.MaxBatchBytes, BatchTimeout: linger,
		MaxAttempts: attempts, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout,
		Async: true, Completion: t.completed, Transport: t.line,
	}
	return t, nil
}

// Name returns the topic's name.
func (t *Topic) Name() string { return t.config.Topic }

// Close ends all requests. What has not been taken by then is given up.
func (t *Topic) Close() error {
	t.end()
	err := t.writer.Close()
	t.line.transport.CloseIdleConnections()
	return err
}

// Stats tells what has become of messages.
func (t *Topic) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.writer.Stats() // since the last call
	t.stats.Writes += w.Writes
	t.stats.Messages += w.Messages
	t.stats.Bytes += w.Bytes
	t.stats.Errors += w.Errors
	t.stats.Retries += w.Retries
	t.stats.Batch.add(w.BatchTime)
	t.stats.Write.add(w.WriteTime)
	t.stats.Throttle.add(w.WaitTime)
	return Stats{
		Records: t.records.Load(), Bytes: t.bytes.Load(), Failures: t.failures.Load(), Refused: t.refused.Load(),
		Held: t.held.Load(), Failing: t.failing.Load() != 0 && t.failures.Load() > 0, Writer: t.stats,
	}
}

// refuse counts a message that is too large, and says so once a minute.
func (t *Topic) refuse(size int64) {
	n := t.refused.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.reported) < time.Minute {
		return
	}
	t.reported = time.Now()
	t.log.Error("records are too large for the topic and left out; raise max_batch_bytes and the topic's max.message.bytes",
		"topic", t.config.Topic, "bytes", size, "limit", t.config.MaxBatchBytes, "so_far", n)
}

// explain says what the operator can do about an error.
func (t *Topic) explain(err error) error {
	if errors.Is(err, kafka.MessageSizeTooLarge) {
		return fmt.Errorf("write to topic %s: %w; set max_batch_bytes to no more than the topic's max.message.bytes", t.config.Topic, err)
	}
	return fmt.Errorf("write to topic %s: %w", t.config.Topic, t.config.Explain(err))
}

// completed is called by the client with messages of one partition, which may be
// of several queues, and what became of them.
func (t *Topic) completed(messages []kafka.Message, err error) {
	if err != nil {
		t.failures.Add(int64(len(messages)))
		t.failing.Store(1)
	} else {
		t.failing.Store(0)
	}
	for start := 0; start < len(messages); {
		q := messages[start].WriterData.(*queue)
		end := start + 1
		for end < len(messages) && messages[end].WriterData == messages[start].WriterData {
			end++
		}
		q.completed(messages[start:end], err)
		start = end
	}
}

// queue holds the messages of one user of the topic until all replicas have them.
// Its methods are called by one goroutine, but for completed.
type queue struct {
	topic *Topic
	next  []kafka.Message // not handed to the client yet

	mu     sync.Mutex
	away   int             // with the client
	failed []kafka.Message // came back
	err    error           // why, the last time
	closed bool
	home   chan struct{} // receives when away has become 0
}

func (t *Topic) queue() *queue { return &queue{topic: t, home: make(chan struct{}, 1)} }

// add takes a message, whose memory then belongs to the queue.
func (q *queue) add(m kafka.Message) {
	t := q.topic
	// The client counts headers and more; a batch of one message has to fit.
	if size := messageSize(&m); size > t.config.MaxBatchBytes {
		t.refuse(size)
		return
	}
	t.held.Add(int64(len(m.Value)))
	m.WriterData = q
	q.next = append(q.next, m)
	// While brokers do not answer, handing over could wait for them.
	if len(q.next) >= batchRecords && t.failing.Load() == 0 {
		q.hand(context.Background())
	}
}

// messageSize is at least what the client takes a message for.
func messageSize(m *kafka.Message) int64 {
	n := 100 + len(m.Key) + len(m.Value)
	for _, h := range m.Headers {
		n += 20 + len(h.Key) + len(h.Value)
	}
	return int64(n)
}

// hand gives all messages that it has to the client.
func (q *queue) hand(ctx context.Context) {
	all := q.next
	q.mu.Lock()
	if len(q.failed) > 0 {
		all = slices.Concat(q.failed, all)
		q.failed = nil
	}
	q.away += len(all)
	q.mu.Unlock()
	if len(all) == 0 {
		return
	}
	// The client takes all of them or, if it does not know the topic's partitions,
	// none.
	if err := q.topic.writer.WriteMessages(ctx, all...); err != nil {
		q.topic.completed(all, err)
	}
	q.next = q.next[:0] // they have been copied
}

// completed notes what became of messages.
func (q *queue) completed(messages []kafka.Message, err error) {
	t := q.topic
	var size int64
	for i := range messages {
		size += int64(len(messages[i].Value))
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case err == nil:
		t.records.Add(int64(len(messages)))
		t.bytes.Add(size)
		t.held.Add(-size)
	case q.closed:
		t.held.Add(-size)
	default:
		q.err = err
		for i := range messages { // without what the client has set
			m := &messages[i]
			q.failed = append(q.failed, kafka.Message{Key: m.Key, Value: m.Value, Headers: m.Headers, WriterData: q})
		}
	}
	if q.away -= len(messages); q.away == 0 {
		select {
		case q.home <- struct{}{}:
		default:
		}
	}
}

// full reports whether no more should be added before a flush.
func (q *queue) full() bool {
	return q.topic.held.Load() >= q.topic.config.MaxHeldBytes
}

// flush returns nil once all replicas have all messages. After an error those
// that they do not have, or may not have, are still held.
func (q *queue) flush(ctx context.Context) error {
	q.hand(ctx)
	for {
		q.mu.Lock()
		away, failed, err := q.away, len(q.failed), q.err
		q.mu.Unlock()
		if away == 0 {
			if failed > 0 {
				return q.topic.explain(err)
			}
			return nil
		}
		select {
		case <-q.home:
		case <-ctx.Done():
			return fmt.Errorf("write to topic %s: %w", q.topic.config.Topic, ctx.Err())
		}
	}
}

// close forgets all messages that the client does not have.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	var size int64
	for _, all := range [][]kafka.Message{q.next, q.failed} {
		for i := range all {
			size += int64(len(all[i].Value))
		}
	}
	q.topic.held.Add(-size)
	q.next, q.failed, q.closed = nil, nil, true
}

// balancer puts messages of one key into one partition, the same that the Java
// client would. Those without a key, but with an id, are spread by it, so that a
// repeat is in the partition of the first.
type balancer struct{}

func (balancer) Balance(m kafka.Message, partitions ...int) int {
	if len(m.Key) == 0 && len(m.Headers) > 0 {
		m.Key = m.Headers[0].Value
	}
	return kafka.Murmur2Balancer{Consistent: true}.Balance(m, partitions...)
}

// lifeline is a transport whose requests end when life does. The client asks for
// a topic's partitions before each message; it remembers the answer for a while.
type lifeline struct {
	life      context.Context
	transport *kafka.Transport
	layout    atomic.Pointer[layout]
}

type layout struct {
	response kafka.Response
	until    time.Time
}

// layoutTTL is less than the time in which the transport notices changes.
const layoutTTL = 200 * time.Millisecond

var errClosed = errors.New("the sink is closed")

// RoundTrip implements kafka.RoundTripper.
func (l *lifeline) RoundTrip(ctx context.Context, addr net.Addr, r kafka.Request) (kafka.Response, error) {
	_, asks := r.(*metadata.Request)
	if asks {
		if known := l.layout.Load(); known != nil && time.Now().Before(known.until) {
			return known.response, nil
		}
	}
	if l.life.Err() != nil {
		return nil, errClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.life, cancel)()
	response, err := l.transport.RoundTrip(ctx, addr, r)
	if asks && err == nil {
		l.layout.Store(&layout{response, time.Now().Add(layoutTTL)})
	}
	return response, err
}
