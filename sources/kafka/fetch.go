package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/segmentio/kafka-go/protocol"
	_ "github.com/segmentio/kafka-go/protocol/fetch" // tells the versions that connections agree on
)

// Versions of the Fetch request that are spoken here: from Kafka 0.11 on. They
// lie within what Kafka 4 takes (4 to 18).
const (
	minFetchVersion = 4
	maxFetchVersion = 11
)

// fetch is a Fetch request to one broker for many partitions, and its answer.
// It is a message of package protocol that writes and reads itself, on the
// connections of a kafka.Transport: the records go straight into the chunks
// that the lanes read, instead of through a reader for each record.
//
// A fetch that has failed must not be used again, nor its chunks: if its
// context ended, the connection may still write into them.
type fetch struct {
	broker                      int32
	clientID                    string
	maxWait, minBytes, maxBytes int32
	isolation                   byte // 1 for read_committed
	limit                       int  // of what is kept of one partition's records
	parts                       []part
	version                     int16
	correlation                 int32
	request                     []byte
	answer                      wire
	throttled                   int32 // milliseconds for which the broker wants no requests
}

// part is one partition of a request.
type part struct {
	*partition
	epoch    int // of the partition when it was asked for
	offset   int64
	maxBytes int32
	chunk    *chunk // filled by the answer
}

// chunk is what a broker answered about one partition.
type chunk struct {
	code     int16  // of an error, else 0
	high     int64  // after the last record that all replicas have
	stable   int64  // after the last record before an open transaction
	data     []byte // whole batches and the beginning of one; at most fetch.limit
	aborted  []abortedTransaction
	answered bool
}

// abortedTransaction says that what a producer wrote in a transaction from an
// offset on, up to its abort marker, does not count.
type abortedTransaction struct{ producer, first int64 }

var (
	_ protocol.BrokerMessage = (*fetch)(nil)
	_ protocol.RawExchanger  = (*fetch)(nil)
)

// ApiKey implements protocol.Message.
func (f *fetch) ApiKey() protocol.ApiKey { return protocol.Fetch } //nolint:staticcheck // the interface's name

// Broker implements protocol.BrokerMessage.
func (f *fetch) Broker(c protocol.Cluster) (protocol.Broker, error) {
	b, ok := c.Brokers[f.broker]
	if !ok {
		return b, fmt.Errorf("broker %d is not in the cluster any more", f.broker)
	}
	return b, nil
}

// Required implements protocol.RawExchanger. The connection calls it with the
// versions that it agreed upon, before RawExchange.
func (f *fetch) Required(versions map[protocol.ApiKey]int16) bool {
	f.version = min(versions[protocol.Fetch], maxFetchVersion)
	return true
}

// RawExchange implements protocol.RawExchanger.
func (f *fetch) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	if f.version < minFetchVersion {
		return nil, errors.New("the broker is older than Kafka 0.11 and not supported; update it")
	}
	f.correlation++
	f.encode()
	if _, err := rw.Write(f.request); err != nil {
		return nil, fmt.Errorf("send a fetch request: %w", err)
	}
	if err := f.decode(rw); err != nil {
		return nil, fmt.Errorf("read the answer to a fetch request: %w", err)
	}
	return f, nil
}

// encode writes the request. Consecutive partitions of one topic share an entry.
func (f *fetch) encode() {
	b := append(f.request[:0], 0, 0, 0, 0) // size, see below
	b = binary.BigEndian.AppendUint16(b, uint16(protocol.Fetch))
	b = binary.BigEndian.AppendUint16(b, uint16(f.version))
	b = appendInt32(b, f.correlation)
	b = appendString(b, f.clientID)

	b = appendInt32(b, -1) // we are no replica
	b = appendInt32(b, f.maxWait)
	b = appendInt32(b, f.minBytes)
	b = appendInt32(b, f.maxBytes)
	b = append(b, f.isolation)
	if f.version >= 7 {
		b = appendInt32(b, 0)  // no session
		b = appendInt32(b, -1) // nor the beginning of one
	}
	topics := len(b)
	b = appendInt32(b, 0)
	n := int32(0)
	for i := 0; i < len(f.parts); n++ {
		topic := f.parts[i].topic
		b = appendString(b, topic)
		count := len(b)
		b = appendInt32(b, 0)
		first := i
		for ; i < len(f.parts) && f.parts[i].topic == topic; i++ {
			p := &f.parts[i]
			b = appendInt32(b, p.id)
			if f.version >= 9 {
				b = appendInt32(b, -1) // leader epoch: whatever it is
			}
			b = binary.BigEndian.AppendUint64(b, uint64(p.offset))
			if f.version >= 5 {
				b = binary.BigEndian.AppendUint64(b, ^uint64(0)) // log start: for replicas
			}
			b = appendInt32(b, p.maxBytes)
		}
		binary.BigEndian.PutUint32(b[count:], uint32(i-first))
	}
	binary.BigEndian.PutUint32(b[topics:], uint32(n))
	if f.version >= 7 {
		b = appendInt32(b, 0) // no forgotten topics
	}
	if f.version >= 11 {
		b = appendString(b, "") // no rack: the leader answers
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	f.request = b
}

func appendInt32(b []byte, v int32) []byte { return binary.BigEndian.AppendUint32(b, uint32(v)) }

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// maxAborted bounds the aborted transactions of one partition in an answer.
const maxAborted = 1 << 20

// decode reads the answer into the chunks.
func (f *fetch) decode(r io.Reader) error {
	w := &f.answer
	w.r, w.left, w.err = r, 4, nil
	w.left = int(w.int32())
	if id := w.int32(); w.err == nil && id != f.correlation {
		return fmt.Errorf("it answers request %d, not %d", id, f.correlation)
	}
	f.throttled = w.int32()
	if f.version >= 7 {
		if code := w.int16(); w.err == nil && code != 0 {
			return protocolError(code)
		}
		w.int32() // session
	}
	at := 0
	for topics := w.int32(); topics > 0 && w.err == nil; topics-- {
		topic := w.string()
		for partitions := w.int32(); partitions > 0 && w.err == nil; partitions-- {
			id := w.int32()
			if w.err != nil {
				break
			}
			// The order is that of the request, as far as anybody has seen.
			p := f.find(topic, id, at)
			if p < 0 {
				return fmt.Errorf("it has %s/%d, which was not asked for", topic, id)
			}
			at = p + 1
			f.decodePart(w, f.parts[p].chunk)
		}
	}
	if w.err == nil && w.left != 0 {
		return fmt.Errorf("it has %d bytes too many", w.left)
	}
	return w.err
}

// find returns the index of a partition of the request, looking from at on.
func (f *fetch) find(topic []byte, id int32, at int) int {
	for i := range f.parts {
		i = (i + at) % len(f.parts)
		if p := &f.parts[i]; p.id == id && p.topic == string(topic) && !p.chunk.answered {
			return i
		}
	}
	return -1
}

func (f *fetch) decodePart(w *wire, c *chunk) {
	c.answered = true
	c.code = w.int16()
	c.high = w.int64()
	c.stable = w.int64()
	if f.version >= 5 {
		w.int64() // first offset that the partition has
	}
	c.aborted = c.aborted[:0]
	n := w.int32()
	if n > maxAborted {
		w.fail(fmt.Errorf("it has %d aborted transactions", n))
	}
	for ; n > 0 && w.err == nil; n-- {
		c.aborted = append(c.aborted, abortedTransaction{producer: w.int64(), first: w.int64()})
	}
	if f.version >= 11 {
		w.int32() // preferred replica: none, as we have no rack
	}
	size := max(int(w.int32()), 0)
	if size > w.left {
		w.fail(io.ErrUnexpectedEOF)
	}
	if w.err != nil {
		return
	}
	keep := min(size, f.limit)
	if cap(c.data) < keep {
		c.data = make([]byte, keep)
	}
	c.data = c.data[:keep]
	w.read(c.data)
	w.skip(size - keep)
}

// wire reads the answer's fields. After an error they are zero.
type wire struct {
	r       io.Reader
	left    int // bytes of the answer that were not read
	err     error
	scratch [512]byte // a topic's name has at most 249 bytes
}

func (w *wire) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

func (w *wire) read(b []byte) {
	if w.err == nil && len(b) > w.left {
		w.err = io.ErrUnexpectedEOF
	}
	if w.err == nil {
		w.left -= len(b)
		_, w.err = io.ReadFull(w.r, b)
	}
	if w.err != nil {
		clear(b)
	}
}

func (w *wire) skip(n int) {
	for n > 0 && w.err == nil {
		m := min(n, len(w.scratch))
		w.read(w.scratch[:m])
		n -= m
	}
}

func (w *wire) int16() int16 {
	w.read(w.scratch[:2])
	return int16(binary.BigEndian.Uint16(w.scratch[:]))
}

func (w *wire) int32() int32 {
	w.read(w.scratch[:4])
	return int32(binary.BigEndian.Uint32(w.scratch[:]))
}

func (w *wire) int64() int64 {
	w.read(w.scratch[:8])
	return int64(binary.BigEndian.Uint64(w.scratch[:]))
}

// string returns a text that is valid until the next read of another one: it
// lies where no number is read to.
func (w *wire) string() []byte {
	n := int(w.int16())
	if n < 0 || n > len(w.scratch)-8 {
		w.fail(fmt.Errorf("it has a text of %d bytes", n))
		return nil
	}
	s := w.scratch[8 : 8+n]
	w.read(s)
	return s
}
