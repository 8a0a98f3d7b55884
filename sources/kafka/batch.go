package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/bouncemeter/bouncemeter/event"
)

// A partition is a row of record batches. This file reads them in place, as
// https://kafka.apache.org/documentation/#recordbatch describes them (message
// format 2, since Kafka 0.11). Offsets within a batch and between batches may
// have gaps: compaction removes records.

// headerBytes is the size of a batch without its records.
const headerBytes = 61

// Places in the header of a batch.
const (
	atLength     = 8  // of what follows it
	atMagic      = 16 // the message format
	atChecksum   = 17
	atAttributes = 21 // the checksum covers all from here on
	atLastDelta  = 23
	atMaxTime    = 35
	atProducer   = 43
	atCount      = 57
)

// Bits of a batch's attributes; the lowest three are the codec.
const (
	codecMask     = 0x07
	transactional = 0x10
	control       = 0x20
)

// Faults of a batch. What has one may be read well when it is fetched again.
var (
	errChecksum = errors.New("its checksum is wrong")
	errFormat   = errors.New("it has the message format of Kafka before 0.11; let the producers write format 2, and the topic be written anew")
	errHeader   = errors.New("its header makes no sense")
	errRecord   = errors.New("its records make no sense")
	errTooLarge = errors.New("it is larger than max_batch_bytes")
)

// errPartial means that the end of the batch is missing, as often in the last
// one of an answer.
var errPartial = errors.New("the batch is not complete")

// header is what a batch says of itself.
type header struct {
	base       int64 // offset of its first record, or of where that was
	size       int   // of the whole batch, in bytes
	attributes int16
	lastDelta  int32 // offset of its last record, from base
	count      int32 // of records that are left
	maxTime    int64 // latest time of its records, Unix milliseconds
	producer   int64
	checksum   uint32
}

// next is the offset after the batch.
func (h *header) next() int64 { return h.base + int64(h.lastDelta) + 1 }

// parseHeader reads the header of the batch that data begins with. The error is
// errPartial if data does not have the whole batch; h is set if it has the whole
// header.
func parseHeader(data []byte) (h header, err error) {
	if len(data) < atMagic+1 {
		return header{}, errPartial
	}
	h.base = int64(binary.BigEndian.Uint64(data))
	length := int32(binary.BigEndian.Uint32(data[atLength:]))
	h.size = int(length) + atLength + 4
	if data[atMagic] < 2 {
		// An old message, or several of them compressed: its offset is the last.
		if length <= 0 || h.base < 0 {
			return h, errHeader
		}
		return h, errFormat
	}
	if data[atMagic] > 2 {
		return h, fmt.Errorf("it has the unknown message format %d", data[atMagic])
	}
	if length < headerBytes-atLength-4 || h.base < 0 {
		return h, errHeader
	}
	if len(data) < headerBytes {
		return h, errPartial
	}
	h.checksum = binary.BigEndian.Uint32(data[atChecksum:])
	h.attributes = int16(binary.BigEndian.Uint16(data[atAttributes:]))
	h.lastDelta = int32(binary.BigEndian.Uint32(data[atLastDelta:]))
	h.maxTime = int64(binary.BigEndian.Uint64(data[atMaxTime:]))
	h.producer = int64(binary.BigEndian.Uint64(data[atProducer:]))
	h.count = int32(binary.BigEndian.Uint32(data[atCount:]))
	if h.lastDelta < 0 || h.count < 0 || int64(h.count) > int64(h.lastDelta)+1 || h.next() < 0 {
		return h, errHeader
	}
	if len(data) < h.size {
		return h, errPartial
	}
	return h, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// verify checks the batch that data begins with against its checksum.
func (h *header) verify(data []byte) error {
	if crc32.Checksum(data[atAttributes:h.size], castagnoli) != h.checksum {
		return errChecksum
	}
	return nil
}

// walk appends to b a line for every record of the batch whose offset is at
// least from. records is what follows the header, decompressed; the lines alias
// it. A value longer than limit is cut and counted in b.Truncated; tombstones,
// the records without a value of a compacted topic, have no line.
func (h *header) walk(records []byte, from int64, limit int, b *event.Batch) (tombstones int, err error) {
	last := -1
	i := 0
	for n := h.count; n > 0; n-- {
		length, start := varint(records, i)
		if start < 0 || length < 0 || length > len(records)-start {
			return tombstones, errRecord
		}
		i = start + length
		r := records[start:i]    // attributes of the record come first; they have no meaning yet
		_, j := varint(r, 1)     // time
		delta, j := varint(r, j) // offset from base
		keyBytes, j := varint(r, j)
		if j < 0 || delta <= last || delta > int(h.lastDelta) || keyBytes < -1 || keyBytes > len(r)-j {
			return tombstones, errRecord
		}
		last = delta
		valueBytes, j := varint(r, j+max(keyBytes, 0))
		if j < 0 || valueBytes < -1 || valueBytes > len(r)-j {
			return tombstones, errRecord
		}
		offset := h.base + int64(delta)
		if offset < from {
			continue // the broker sends whole batches
		}
		if valueBytes < 0 {
			tombstones++
			continue
		}
		value := r[j : j+valueBytes : j+valueBytes] // headers follow
		if valueBytes > limit {
			value = value[:limit:limit]
			b.Truncated++
		}
		b.Lines = append(b.Lines, event.Line{Text: value, Offset: offset})
	}
	if i != len(records) {
		return tombstones, errRecord
	}
	return tombstones, nil
}

// isAbort reports whether the control batch with these records ends its
// producer's transaction by an abort. Other controls, also unknown ones, do not
// matter to a reader.
func isAbort(records []byte) bool {
	_, i := varint(records, 0)
	_, i = varint(records, i+1) // time
	_, i = varint(records, i)   // offset
	n, i := varint(records, i)
	// The key is a version and a type: 0 for abort.
	return i >= 0 && n >= 4 && n <= len(records)-i && records[i+2] == 0 && records[i+3] == 0
}

// varint reads a number in zigzag encoding at b[i:] and returns it with the
// place after it, or a negative place if there is none or i is negative.
func varint(b []byte, i int) (value, next int) {
	if uint(i) < uint(len(b)) && b[i] < 0x80 {
		return int(b[i]>>1) ^ -int(b[i]&1), i + 1
	}
	return longVarint(b, i)
}

func longVarint(b []byte, i int) (value, next int) {
	if uint(i) >= uint(len(b)) {
		return 0, -1
	}
	u, n := binary.Uvarint(b[i:])
	if n <= 0 {
		return 0, -1
	}
	return int(u>>1) ^ -int(u&1), i + n
}
