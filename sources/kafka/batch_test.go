package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/bouncemeter/bouncemeter/event"
)

// testRecord is a record of a hand-made batch; a nil value is a tombstone.
type testRecord struct {
	delta      int
	key, value []byte
	headers    int
}

// appendRecords encodes records as the documentation of Kafka has them.
func appendRecords(b []byte, records []testRecord) []byte {
	for _, r := range records {
		p := []byte{0}                                // attributes
		p = binary.AppendVarint(p, int64(r.delta)*10) // time
		p = binary.AppendVarint(p, int64(r.delta))
		for _, field := range [][]byte{r.key, r.value} {
			if field == nil {
				p = binary.AppendVarint(p, -1)
				continue
			}
			p = append(binary.AppendVarint(p, int64(len(field))), field...)
		}
		p = binary.AppendVarint(p, int64(r.headers))
		for range r.headers {
			p = append(binary.AppendVarint(p, 3), "key"...)
			p = binary.AppendVarint(p, -1)
		}
		b = append(binary.AppendVarint(b, int64(len(p))), p...)
	}
	return b
}

// batchOf makes a batch of what follows the header.
func batchOf(base int64, attributes int16, lastDelta, count int, maxTime, producer int64, records []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(base))
	b = binary.BigEndian.AppendUint32(b, uint32(headerBytes-12+len(records)))
	b = append(b, 0, 0, 0, 7, 2, 0, 0, 0, 0) // leader epoch, format, checksum
	b = binary.BigEndian.AppendUint16(b, uint16(attributes))
	b = binary.BigEndian.AppendUint32(b, uint32(lastDelta))
	b = binary.BigEndian.AppendUint64(b, uint64(maxTime)) // first time
	b = binary.BigEndian.AppendUint64(b, uint64(maxTime))
	b = binary.BigEndian.AppendUint64(b, uint64(producer))
	b = append(b, 0, 0, 0, 0, 0, 0) // producer epoch, sequence
	b = binary.BigEndian.AppendUint32(b, uint32(count))
	return sign(append(b, records...))
}

// sign sets the checksum of a batch.
func sign(b []byte) []byte {
	binary.BigEndian.PutUint32(b[atChecksum:], crc32.Checksum(b[atAttributes:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// simple makes a batch of values with consecutive offsets.
func simple(base int64, values ...string) []byte {
	var records []testRecord
	for i, v := range values {
		records = append(records, testRecord{delta: i, value: []byte(v)})
	}
	return batchOf(base, 0, len(values)-1, len(values), 1000, -1, appendRecords(nil, records))
}

// pack compresses as producers do.
func pack(t testing.TB, codec int, xerialForm bool, records []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	switch codec {
	case codecNone:
		return records
	case codecGzip:
		w := gzip.NewWriter(&b)
		_, err := w.Write(records)
		check(err)
		check(w.Close())
	case codecSnappy:
		if !xerialForm {
			return s2.EncodeSnappy(nil, records)
		}
		b.Write(append(slices.Clone(xerial), 0, 0, 0, 1, 0, 0, 0, 1))
		for chunk := range slices.Chunk(records, 1000) {
			packed := s2.EncodeSnappy(nil, chunk)
			check(binary.Write(&b, binary.BigEndian, uint32(len(packed))))
			b.Write(packed)
		}
	case codecLZ4:
		w := lz4.NewWriter(&b)
		check(w.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.BlockChecksumOption(xerialForm), lz4.ChecksumOption(!xerialForm)))
		_, err := w.Write(records)
		check(err)
		check(w.Close())
	case codecZstd:
		w, err := zstd.NewWriter(nil)
		check(err)
		return w.EncodeAll(records, nil)
	}
	return b.Bytes()
}

// offline returns an open lane without a cluster, at offset 0.
func offline(t testing.TB, cfg Config) *Lane {
	t.Helper()
	cfg.Brokers, cfg.Topics, cfg.Log = []string{"broker.example:9092"}, []string{"records"}, slog.New(slog.DiscardHandler)
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &run{Source: s, cluster: newCluster(&s.cfg, nil, &s.stats)}
	l := r.lane(tp{"records", 0}, nil)
	if err := l.Open(t.Context(), event.Position{Segment: begun}); err != nil {
		t.Fatal(err)
	}
	return l
}

// feed gives the lane a chunk as if it had been fetched.
func feed(l *Lane, data []byte, aborted ...abortedTransaction) {
	l.partition.full <- &chunk{data: data, high: 1 << 40, aborted: aborted}
}

func texts(b *event.Batch) (all []string) {
	for _, line := range b.Lines {
		all = append(all, fmt.Sprintf("%d:%s", line.Offset, line.Text))
	}
	return all
}

// Whatever a batch has, walking it gives its values at their offsets.
func TestAnyBatch(t *testing.T) {
	l := offline(t, Config{})
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.Int64Range(0, 1<<40).Draw(t, "base")
		var records []testRecord
		var want []string
		delta, tombstones := 0, 0
		from := base + int64(rapid.IntRange(0, 20).Draw(t, "from"))
		for range rapid.IntRange(1, 40).Draw(t, "records") {
			r := testRecord{delta: delta, headers: rapid.IntRange(0, 3).Draw(t, "headers")}
			if rapid.Bool().Draw(t, "key") {
				r.key = []byte("some key")
			}
			if rapid.IntRange(0, 9).Draw(t, "null") > 0 {
				r.value = []byte(rapid.StringN(0, -1, 200).Draw(t, "value"))
			}
			if at := base + int64(delta); at >= from {
				if r.value == nil {
					tombstones++
				} else {
					want = append(want, fmt.Sprintf("%d:%s", at, r.value))
				}
			}
			records = append(records, r)
			delta += rapid.IntRange(1, 3).Draw(t, "gap") // compaction
		}
		last := delta + 5 // the last ones may be gone as well
		codec := rapid.IntRange(codecNone, codecZstd).Draw(t, "codec")
		raw := appendRecords(nil, records)
		data := batchOf(base, int16(codec), last, len(records), 1000, -1, pack(fatal{}, codec, rapid.Bool().Draw(t, "form"), raw))
		h, err := parseHeader(append(data, "what follows"...))
		if err != nil || h.size != len(data) || h.next() != base+int64(last)+1 {
			t.Fatalf("%+v, %v", h, err)
		}
		if err := h.verify(data); err != nil {
			t.Fatal(err)
		}
		var b event.Batch
		b.Buffer, err = l.unpack.unpack([]byte("before"), h.attributes&codecMask, data[headerBytes:])
		if err != nil || string(b.Buffer) != "before"+string(raw) {
			t.Fatalf("unpacked %d of %d bytes, %v", len(b.Buffer), len(raw), err)
		}
		n, err := h.walk(b.Buffer[6:], from, 1<<20, &b)
		if err != nil || n != tombstones || !slices.Equal(texts(&b), want) {
			t.Fatalf("%v, %d tombstones, %v; want %d, %v", texts(&b), n, err, tombstones, want)
		}
	})
}

// fatal stands for the testing.TB that rapid's T is not, and a benchmark's broker
// does not have.
type fatal struct{ testing.TB }

func (fatal) Helper()           {}
func (fatal) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

func TestFaultsOfBatches(t *testing.T) {
	good := simple(0, "a", "b")
	change := func(at int, to byte) []byte {
		b := slices.Clone(good)
		b[at] = to
		return b
	}
	signed := func(b []byte) []byte { return sign(slices.Clone(b)) }
	bomb := batchOf(0, codecZstd, 0, 1, 0, -1, pack(t, codecZstd, false, make([]byte, 1<<20)))
	for name, test := range map[string]struct {
		data []byte
		want error
	}{
		"a flipped bit":             {change(headerBytes+3, 'x'), errChecksum},
		"an old format":             {change(atMagic, 1), errFormat},
		"the oldest format":         {change(atMagic, 0), errFormat},
		"a negative last delta":     {signed(change(atLastDelta, 0xff)), errHeader},
		"more records than offsets": {signed(change(atCount, 1)), errHeader},
		"a record too many":         {signed(change(atCount+3, 1)), errRecord},
		"a record too few":          {batchOf(0, 0, 2, 3, 0, -1, good[headerBytes:]), errRecord},
		"a length of nothing":       {signed(change(headerBytes, 0)), errRecord},
		"a length beyond the end":   {signed(change(headerBytes, 0x7e)), errRecord},
		"records in disorder":       {batchOf(0, 0, 1, 2, 0, -1, appendRecords(nil, []testRecord{{delta: 1}, {delta: 0}})), errRecord},
		"garbage for gzip":          {batchOf(0, codecGzip, 1, 2, 0, -1, []byte("garbage")), errUnpack},
		"garbage for snappy":        {batchOf(0, codecSnappy, 1, 2, 0, -1, []byte("garbage")), errUnpack},
		"garbage for xerial":        {batchOf(0, codecSnappy, 1, 2, 0, -1, append(slices.Clone(xerial), "garbage and more of it"...)), errUnpack},
		"garbage for lz4":           {batchOf(0, codecLZ4, 1, 2, 0, -1, []byte("garbage")), errUnpack},
		"garbage for zstd":          {batchOf(0, codecZstd, 1, 2, 0, -1, []byte("garbage")), errUnpack},
		"an unknown codec":          {batchOf(0, 5, 1, 2, 0, -1, []byte("garbage")), errUnpack},
		"a bomb":                    {bomb, errTooLarge},
		"a large batch":             {batchOf(0, 0, 0, 1, 0, -1, make([]byte, 100_000))[:70_000], errTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := offline(t, Config{MaxBatchBytes: 64 << 10, Damaged: Fail})
				var b event.Batch
				var err error
				for try := 0; try < tries && err == nil; try++ {
					feed(l, slices.Concat(test.data, simple(5, "next")))
					err = l.Read(t.Context(), &b)
					if len(b.Lines) > 0 || b.Next.Offset != 0 {
						t.Fatalf("%v, next %+v", texts(&b), b.Next)
					}
				}
				if !errors.Is(err, test.want) {
					t.Errorf("%v, want %v", err, test.want)
				}
			})
		})
	}
}

func TestDamagedBatchIsSkippedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := offline(t, Config{})
		bad := simple(2, "lost", "lost too", "and this")
		bad[headerBytes+4] ^= 1
		var b event.Batch
		feed(l, slices.Concat(simple(0, "a", "b"), bad, simple(5, "c")))
		if err := l.Read(t.Context(), &b); err != nil || !slices.Equal(texts(&b), []string{"0:a", "1:b"}) {
			t.Fatal(texts(&b), err)
		}
		for try := range tries {
			if err := l.Read(t.Context(), &b); err != nil || len(b.Lines) > 0 {
				t.Fatal(texts(&b), err)
			}
			if last := try == tries-1; last != (b.Lost == 3) || last != (b.Next.Offset == 5) {
				t.Fatalf("try %d: lost %d, next %+v", try, b.Lost, b.Next)
			}
			feed(l, slices.Concat(bad, simple(5, "c")))
		}
		<-l.partition.full // the source would fetch from offset 5
		feed(l, simple(5, "c"))
		if err := l.Read(t.Context(), &b); err != nil || !slices.Equal(texts(&b), []string{"5:c"}) || b.Lost != 0 {
			t.Fatal(texts(&b), err)
		}
		if l.stats.damaged.Load() != 1 || l.stats.lost.Load() != 3 || l.stats.retries.Load() != tries-1 {
			t.Error(l.stats.damaged.Load(), l.stats.lost.Load(), l.stats.retries.Load())
		}
	})
}

// marker makes the batch that ends a transaction.
func marker(offset, producer int64, commit byte) []byte {
	return batchOf(offset, control|transactional, 0, 1, 1000, producer, appendRecords(nil, []testRecord{{key: []byte{0, 0, 0, commit}, value: make([]byte, 6)}}))
}

func TestAbortedTransactionsByHand(t *testing.T) {
	l := offline(t, Config{})
	in := func(offset, producer int64, value string) []byte {
		return batchOf(offset, transactional, 0, 1, 1000, producer, appendRecords(nil, []testRecord{{value: []byte(value)}}))
	}
	feed(l, slices.Concat(
		in(0, 7, "aborted"), in(1, 8, "b"), in(2, 7, "aborted"), marker(3, 7, 0),
		in(4, 7, "e"), marker(5, 8, 1), marker(6, 7, 1),
		batchOf(7, 0, 0, 1, 1000, 7, appendRecords(nil, []testRecord{{value: []byte("h")}})), // idempotent only
		in(8, 8, "aborted"), in(9, 7, "aborted"), marker(10, 8, 0), marker(11, 7, 0), in(12, 8, "m"),
	), abortedTransaction{8, 8}, abortedTransaction{7, 9}, abortedTransaction{7, 0}) // in no order
	var b event.Batch
	if err := l.Read(t.Context(), &b); err != nil || !slices.Equal(texts(&b), []string{"1:b", "4:e", "7:h", "12:m"}) || b.Next.Offset != 13 {
		t.Fatal(texts(&b), b.Next, err)
	}
	// Nothing but markers moves the position.
	feed(l, slices.Concat(marker(13, 8, 1), marker(14, 9, 0)))
	if err := l.Read(t.Context(), &b); err != nil || len(b.Lines) > 0 || b.Next.Offset != 15 {
		t.Fatal(texts(&b), b.Next, err)
	}
}

// Lines without a year get it from the batch: batches far apart in time are not
// put together.
func TestReferenceIsThatOfTheBatch(t *testing.T) {
	l := offline(t, Config{})
	day := func(n int) int64 { return time.Date(2025, 12, n, 0, 0, 0, 0, time.UTC).UnixMilli() }
	at := func(offset int64, n int) []byte {
		return batchOf(offset, 0, 0, 1, day(n), -1, appendRecords(nil, []testRecord{{value: []byte("x")}}))
	}
	future := batchOf(3, 0, 0, 1, time.Now().UnixMicro(), -1, appendRecords(nil, []testRecord{{value: []byte("x")}}))
	feed(l, slices.Concat(at(0, 1), at(1, 2), at(2, 10), future))
	var b event.Batch
	for _, want := range []struct{ lines, day int }{{2, 2}, {1, 10}} {
		if err := l.Read(t.Context(), &b); err != nil || len(b.Lines) != want.lines || b.Reference.UnixMilli() != day(want.day) {
			t.Fatalf("%d lines, reference %s, %v; want %+v", len(b.Lines), b.Reference, err, want)
		}
	}
	if err := l.Read(t.Context(), &b); err != nil || time.Since(b.Reference).Abs() > time.Minute {
		t.Errorf("a time in other units gives %s, %v", b.Reference, err)
	}
}

// Whatever a broker sends, a lane neither panics nor goes backwards, and what it
// delivers is in order.
func FuzzRead(f *testing.F) {
	two := slices.Concat(simple(0, "a", "b"), simple(2, "c"))
	f.Add(two, false)
	f.Add(two[:len(two)-1], false)
	f.Add(two, true)
	for codec := codecGzip; codec <= codecZstd; codec++ {
		records := appendRecords(nil, []testRecord{{value: []byte(strings.Repeat("a", 100)), headers: 1}, {delta: 3, key: []byte("k")}})
		f.Add(batchOf(0, int16(codec), 4, 2, 0, 1, pack(f, codec, true, records)), true)
	}
	f.Add(slices.Concat(marker(0, 7, 0), simple(1, "a")), true)
	lane := offline(f, Config{MaxBatchBytes: 64 << 10, Damaged: Fail})
	f.Fuzz(func(t *testing.T, data []byte, signs bool) {
		for at := 0; signs && at < len(data); { // get past the checksum
			h, err := parseHeader(data[at:])
			if err != nil {
				break
			}
			sign(data[at : at+h.size])
			at += h.size
		}
		l := *lane
		l.partition, l.stats = &partition{full: make(chan *chunk, depth)}, new(laneCounters)
		k := &chunk{data: data, high: 1 << 40, aborted: []abortedTransaction{{7, 0}}}
		if _, whole := scan(k, 0, l.cfg.MaxBatchBytes); !whole {
			return
		}
		l.chunk, l.data, l.pending = k, k.data, k.aborted
		var b event.Batch
		last := int64(-1)
		for l.chunk != nil {
			before := l.at
			b.Reset()
			if err := l.take(&b); err != nil || l.faults > 0 {
				break
			}
			if l.at < before {
				t.Fatalf("at %d after %d", l.at, before)
			}
			for _, line := range b.Lines {
				if line.Offset <= last || line.Offset >= l.at || line.Offset < before {
					t.Fatalf("offset %d after %d, next %d", line.Offset, last, l.at)
				}
				last = line.Offset
			}
		}
	})
}

// A broker whose answers have wrong bits is asked again, and in the end the
// batch is left out.
func TestPoisonFromTheBroker(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	bad := simple(2, "lost", "lost")
	bad[len(bad)-2] ^= 1
	whole := slices.Concat(simple(0, "a", "b"), bad, simple(4, "c", "d"))
	starts := map[int64]int{0: 0, 2: len(simple(0, "a", "b")), 4: len(whole) - len(simple(4, "c", "d"))}
	c.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		request := r.(*kmsg.FetchRequest)
		response := request.ResponseKind().(*kmsg.FetchResponse)
		for _, topic := range request.Topics {
			rt := kmsg.NewFetchResponseTopic()
			rt.Topic = topic.Topic
			for _, p := range topic.Partitions {
				rp := kmsg.NewFetchResponseTopicPartition()
				rp.Partition, rp.HighWatermark, rp.LastStableOffset = p.Partition, 6, 6
				if at, ok := starts[p.FetchOffset]; ok {
					rp.RecordBatches = whole[at:]
				}
				rt.Partitions = append(rt.Partitions, rp)
			}
			response.Topics = append(response.Topics, rt)
		}
		return response, nil, true
	})
	put(t, producer(t, c), 0, "makes the list of offsets known")
	g := newLedger()
	s, stop := start(t, quick(c), g)
	g.has(t, "records/0", "a", "b", "c", "d")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats().Lanes[0]; g.lost["records/0"] != 2 || st.Damaged != 1 || st.Retries != tries-1 || st.Lost != 2 {
		t.Errorf("lost %d, %+v", g.lost["records/0"], st)
	}
}

// The bytes of many lines are read without allocating for them.
func TestAllocations(t *testing.T) {
	for codec := codecNone; codec <= codecZstd; codec++ {
		l := offline(t, Config{})
		var records []testRecord
		for i := range 1000 {
			records = append(records, testRecord{delta: i, key: []byte("key"), value: bytes.Repeat([]byte{byte(i)}, 370)})
		}
		packed := batchOf(0, int16(codec), 999, 1000, 1000, -1, pack(t, codec, false, appendRecords(nil, records)))
		k := &chunk{high: 1 << 40}
		var b event.Batch
		n := testing.AllocsPerRun(20, func() {
			l.at, k.data, l.partition.free = 0, packed, l.partition.free[:0]
			l.partition.full <- k
			if err := l.Read(context.Background(), &b); err != nil || len(b.Lines) != 1000 {
				t.Fatal(len(b.Lines), err)
			}
		})
		if n > 5 {
			t.Errorf("codec %d: %v allocations for 1000 records", codec, n)
		}
	}
}
