package kafka

import (
	"context"

	"github.com/segmentio/kafka-go"
)

// Values writes values by key, such as counts or the entries of a list: of two
// values of one key the last one counts, so the topic may be compacted. It is used
// by one goroutine.
type Values struct{ queue *queue }

// NewValues returns a writer to t.
func NewValues(t *Topic) *Values { return &Values{t.queue()} }

// Add takes a value, or nil for a key that is to be removed, a tombstone. Their
// memory then belongs to the writer.
func (v *Values) Add(key, value []byte) { v.queue.add(kafka.Message{Key: key, Value: value}) }

// Flush returns nil once all replicas that are in sync have everything. After an
// error what they do not have, or may not have, is still held; it has to be
// flushed before another value of the same key is added, since it comes later
// else.
func (v *Values) Flush(ctx context.Context) error { return v.queue.flush(ctx) }
