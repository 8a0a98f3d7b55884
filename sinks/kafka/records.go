package kafka

import (
	"context"

	"github.com/segmentio/kafka-go"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/event/record"
	"github.com/bouncemeter/bouncemeter/pipeline"
)

// Records writes classified records to a topic, keyed by the sender's domain. It
// is a pipeline.RecordSink.
type Records struct {
	Topic *Topic
	// Privacy is applied to addresses and texts.
	Privacy event.Privacy
	// Describe may be nil.
	Describe record.Describe
}

// Writer implements pipeline.RecordSink.
func (r *Records) Writer(source, lane string) pipeline.RecordWriter {
	return &recordWriter{
		queue:   r.Topic.queue(),
		encoder: record.Encoder{Privacy: r.Privacy, Describe: r.Describe},
		place:   record.Place{Source: source, Lane: lane},
	}
}

// recordWriter writes the records of one lane.
type recordWriter struct {
	queue   *queue
	encoder record.Encoder
	place   record.Place
	// Messages share pieces of memory, which the collector takes once none needs
	// them: the client may look at a message even after it has given it up.
	memory  []byte
	headers []kafka.Header
}

const (
	pieceBytes = 256 << 10
	// pieceSpare is more than most records need.
	pieceSpare = 4 << 10
)

// Add implements pipeline.RecordWriter.
func (w *recordWriter) Add(r *pipeline.Record) {
	if cap(w.memory)-len(w.memory) < pieceSpare {
		w.memory = make([]byte, 0, pieceBytes)
	}
	if len(w.headers) == cap(w.headers) {
		w.headers = make([]kafka.Header, 0, batchRecords)
	}
	w.place.Segment, w.place.Offset, w.place.Index = r.Segment, r.Offset, r.Index
	start := len(w.memory)
	w.memory = w.encoder.Append(w.memory, &w.place, r.Event)
	value := w.memory[start:len(w.memory):len(w.memory)]
	w.headers = append(w.headers, kafka.Header{Key: "id", Value: record.ID(value)})
	last := len(w.headers)
	m := kafka.Message{Value: value, Headers: w.headers[last-1 : last : last]}
	if d := r.Event.SenderDomain; len(d) > 0 {
		start = len(w.memory)
		w.memory = appendLower(w.memory, d)
		m.Key = w.memory[start:len(w.memory):len(w.memory)]
	}
	w.queue.add(m)
}

// appendLower appends a domain in lower case.
func appendLower(dst, domain []byte) []byte {
	for _, c := range domain {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

// Full implements pipeline.RecordWriter.
func (w *recordWriter) Full() bool { return w.queue.full() }

// Flush implements pipeline.RecordWriter.
func (w *recordWriter) Flush(ctx context.Context) error { return w.queue.flush(ctx) }

// Close implements pipeline.RecordWriter.
func (w *recordWriter) Close() error {
	w.queue.close()
	return nil
}
