package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

const (
	// idle is how long Read waits for records before it returns without any.
	idle = time.Second
	// batchBytes is about how much Read returns at a time: small batches of
	// records are put together, large ones are not taken apart.
	batchBytes = 64 << 10
	// keepBytes bounds the buffer that is kept while most of it is not needed.
	keepBytes = 8 << 20
	// referenceSpan is how far the times of the batches that Read puts together
	// may lie apart, for the sake of event.Batch.Reference.
	referenceSpan = int64(24 * time.Hour / time.Millisecond)
	// tries is how often a batch with a fault is fetched.
	tries = 4
)

// begun is the segment of a position at offset 0 that was found out, such as
// the end of an empty partition: without it, it would be the zero Position, for
// which Config.Start holds. Every other position has an empty segment.
const begun = "begun"

// step says what a lane has to find out before it can fetch.
type step uint8

const (
	ready     step = iota
	findStart      // where Config.Start is
	findRange      // what the partition has, since it does not have our offset
)

// Lane is one partition. Its position is the offset of the next record.
//
// Nothing is known of a topic but its name: if it is deleted and made anew, its
// lanes go on at their offsets, or as Config.OutOfRange says if there is no such
// offset yet.
type Lane struct {
	tp
	name    string
	cfg     *Config
	log     *slog.Logger
	cluster *cluster
	stats   *laneCounters
	// committed is told to the group; see membership.
	committed *commits

	// The rest belongs to the goroutine that reads the lane.
	partition *partition // nil unless open
	at        int64      // offset of the next record
	step      step
	pause     time.Duration // before the next try of step
	chunk     *chunk        // being read, nil if none
	data      []byte        // of chunk, not yet read
	pending   []abortedTransaction
	aborting  []int64 // producers whose transactions are aborted, at this point of chunk
	faults    int     // of the batch that comes next, in a row
	unpack    *unpacker
	timer     *time.Timer
}

// Name is "topic/partition".
func (l *Lane) Name() string { return l.name }

// Open starts reading at from, or where Config.Start says if from is the zero
// Position. It does not wait for the cluster; Read does.
func (l *Lane) Open(_ context.Context, from event.Position) error {
	if from.Offset < 0 || from.Segment != "" && (from.Segment != begun || from.Offset != 0) {
		return fmt.Errorf("position %q@%d is not one of a Kafka partition; give the source another name to start anew", from.Segment, from.Offset)
	}
	l.at, l.step, l.pause, l.faults = from.Offset, ready, 0, 0
	if from == (event.Position{}) {
		l.step = findStart
	}
	if l.timer == nil {
		l.timer = time.NewTimer(idle)
	}
	l.stats.open.Store(true)
	l.stats.offset.Store(l.at)
	if l.step == ready {
		l.partition = l.cluster.open(l.tp, l.at)
	}
	return nil
}

// Close stops reading. The lane can be opened again.
func (l *Lane) Close() error {
	if l.partition != nil {
		l.cluster.close(l.partition)
	}
	l.partition, l.chunk, l.data = nil, nil, nil
	l.stats.open.Store(false)
	return nil
}

// Committed tells that the ledger holds p, for tools that show the lag of the
// group.
func (l *Lane) Committed(p event.Position) { l.committed.set(l.tp, p.Offset) }

// position is the position at l.at.
func (l *Lane) position() event.Position {
	switch {
	case l.step == findStart:
		return event.Position{}
	case l.at == 0:
		return event.Position{Segment: begun}
	}
	return event.Position{Offset: l.at}
}

// Read fills b with the next records, one line each. It returns an empty batch
// after a second without any, and as soon as the position has moved without a
// line: when the start was found out, or past records that are not for us.
func (l *Lane) Read(ctx context.Context, b *event.Batch) error {
	if cap(b.Buffer) > keepBytes && len(b.Buffer) < cap(b.Buffer)/4 {
		b.Buffer = nil // left by a large batch
	}
	b.Reset()
	if err := l.read(ctx, b); err != nil {
		return err
	}
	b.Next = l.position()
	if b.Reference.IsZero() {
		b.Reference = time.Now()
	}
	if l.partition != nil {
		end := l.partition.end.Load()
		b.Lag = max(end-l.at, 0)
		l.stats.end.Store(end)
	}
	l.stats.offset.Store(l.at)
	return nil
}

func (l *Lane) read(ctx context.Context, b *event.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if l.step != ready {
		return l.find(ctx, b)
	}
	l.timer.Reset(idle)
	from := l.at
	for l.at == from && l.step == ready {
		if l.chunk == nil {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-l.timer.C:
				return nil
			case k := <-l.partition.full:
				if k.code != 0 { // the only error that comes here
					l.cluster.release(l.partition, k)
					l.step = findRange
					return nil
				}
				l.chunk, l.data, l.pending, l.aborting = k, k.data, k.aborted, l.aborting[:0]
				slices.SortFunc(l.pending, func(a, b abortedTransaction) int { return cmp.Compare(a.first, b.first) })
			}
		}
		if err := l.take(b); err != nil {
			return err
		}
	}
	return nil
}

// take appends to b what comes next in the chunk.
func (l *Lane) take(b *event.Batch) error {
	var reference int64
	for len(l.data) > 0 && len(b.Buffer) < batchBytes {
		h, err := parseHeader(l.data)
		if errors.Is(err, errPartial) && h.size > l.cfg.MaxBatchBytes {
			err = errTooLarge
		}
		if err == nil && len(b.Lines) > 0 && (h.maxTime > reference+referenceSpan || h.maxTime < reference-referenceSpan) {
			break
		}
		if err == nil {
			err = h.verify(l.data)
		}
		if err == nil && h.next() > l.at {
			err = l.records(&h, l.data[headerBytes:h.size], b)
		}
		if err != nil {
			if len(b.Lines) > 0 {
				break // what is before it comes first
			}
			return l.fault(b, &h, err)
		}
		l.faults = 0
		l.at = max(l.at, h.next())
		l.data = l.data[h.size:]
		if len(b.Lines) > 0 {
			reference = max(reference, h.maxTime)
		}
	}
	if reference > 0 {
		// A producer's clock may be far ahead, or count in other units.
		if t := time.UnixMilli(reference); t.Before(time.Now().Add(24 * time.Hour)) {
			b.Reference = t
		}
	}
	if len(l.data) == 0 {
		l.cluster.release(l.partition, l.chunk)
		l.chunk = nil
	}
	return nil
}

// records appends to b the records of one batch, if they count. If there is an
// error, b is left as it was.
func (l *Lane) records(h *header, packed []byte, b *event.Batch) error {
	for len(l.pending) > 0 && l.pending[0].first < h.next() {
		l.aborting = append(l.aborting, l.pending[0].producer)
		l.pending = l.pending[1:]
	}
	if h.attributes&control != 0 {
		if isAbort(packed) {
			l.aborting = slices.DeleteFunc(l.aborting, func(p int64) bool { return p == h.producer })
		}
		return nil
	}
	if h.attributes&transactional != 0 && slices.Contains(l.aborting, h.producer) {
		l.stats.aborted.Add(int64(h.count))
		return nil
	}
	lines, used, cut := len(b.Lines), len(b.Buffer), b.Truncated
	var err error
	if b.Buffer, err = l.unpack.unpack(b.Buffer, h.attributes&codecMask, packed); err != nil {
		return err
	}
	tombstones, err := h.walk(b.Buffer[used:], l.at, l.cfg.MaxRecordBytes, b)
	if err != nil {
		b.Lines, b.Buffer, b.Truncated = b.Lines[:lines], b.Buffer[:used], cut
		return err
	}
	l.stats.records.Add(int64(len(b.Lines) - lines))
	l.stats.bytes.Add(int64(len(b.Buffer) - used))
	l.stats.tombstones.Add(int64(tombstones))
	l.stats.truncated.Add(int64(b.Truncated - cut))
	return nil
}

// fault deals with a batch that cannot be read: it is fetched again, and in the
// end treated as Config.Damaged says.
func (l *Lane) fault(b *event.Batch, h *header, err error) error {
	after := l.after(h, err)
	l.cluster.release(l.partition, l.chunk)
	l.chunk, l.data = nil, nil
	if l.faults++; l.faults < tries {
		l.stats.retries.Add(1)
		l.cluster.seek(l.partition, l.at, 50*time.Millisecond<<(2*l.faults))
		return nil
	}
	l.faults = 0
	l.stats.damaged.Add(1)
	if l.cfg.Damaged == Fail {
		return fmt.Errorf("the batch of records at offset %d cannot be read: %w; mend the topic, or set damaged to skip to go on at offset %d without it", l.at, err, after)
	}
	l.log.Error("a batch of records cannot be read and is lost", "offset", l.at, "next", after, "err", err)
	l.skip(b, after)
	return nil
}

// after returns the offset at which to go on after a batch that cannot be read.
// Its header may be what is damaged: the next batch of the chunk is believed
// rather than it, and neither leads beyond the end of the partition.
func (l *Lane) after(h *header, err error) int64 {
	after := l.at + 1
	if h.size > 0 && h.size < len(l.data) {
		if next, err := parseHeader(l.data[h.size:]); (err == nil || errors.Is(err, errPartial)) && next.base > l.at {
			return next.base
		}
	}
	switch {
	case errors.Is(err, errFormat):
		after = max(after, h.base+1)
	case !errors.Is(err, errHeader):
		after = max(after, h.next())
	}
	return max(min(after, l.chunk.high), l.at+1)
}

// skip goes on at offset next and counts what is before it as lost.
func (l *Lane) skip(b *event.Batch, next int64) {
	b.Lost += next - l.at
	l.stats.lost.Add(next - l.at)
	l.at = next
	l.cluster.seek(l.partition, next, 0)
}

// find makes one try to find out what is needed before the lane can go on.
func (l *Lane) find(ctx context.Context, b *event.Batch) error {
	if l.pause > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(l.pause):
		}
	}
	first, end, err := l.bounds(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		l.pause = min(max(2*l.pause, 50*time.Millisecond), idle)
		l.cluster.stale()
		if l.cluster.notices.due("bounds " + l.name) {
			l.log.Warn("the first and last offset of a partition cannot be learned; trying again", "err", l.cfg.Explain(err))
		}
		return nil
	}
	if l.cluster.notices.over("bounds " + l.name) {
		l.log.Info("the offsets of the partition are known")
	}
	l.pause = 0
	if l.step == findStart {
		l.at = first
		if l.cfg.Start == End && !l.cluster.isNew(l.tp) {
			l.at = end
		}
		l.step = ready
		l.partition = l.cluster.open(l.tp, l.at)
		return nil
	}
	l.step = ready
	if l.at >= first && l.at <= end { // a broker that did not know yet, as after a move
		if l.cluster.notices.due("range " + l.name) {
			l.log.Warn("a broker says that it does not have an offset that is there; trying again", "offset", l.at, "first", first, "end", end)
		}
		l.cluster.seek(l.partition, l.at, 100*time.Millisecond)
		return nil
	}
	if l.cfg.OutOfRange == Fail {
		l.step = findRange // if it is read on after all
		return fmt.Errorf("offset %d, which comes next, is not in the partition, which has %d to %d; set out_of_range to earliest or latest to go on without what is missing", l.at, first, end)
	}
	next := first
	if l.cfg.OutOfRange == Latest {
		next = end
	}
	// How many records are missing is known only if the partition goes on
	// where it did. A shorter one is another one, or has lost its end: what was
	// skipped of it counts, but at least one.
	lost := next - l.at
	if l.at > end {
		lost = max(next-first, 1)
	}
	l.log.Error("the next record is not in the partition any more; going on elsewhere", "offset", l.at, "first", first, "end", end, "next", next, "lost", lost)
	b.Lost += lost
	l.stats.lost.Add(lost)
	l.at = next
	l.cluster.seek(l.partition, next, 0)
	return nil
}

// bounds returns the offset of the first record and the one after the last. To
// start at the end is to start where a reader would wait, which is before open
// transactions; what is in range goes up to the last record.
func (l *Lane) bounds(ctx context.Context) (first, end int64, err error) {
	if first, err = l.cluster.listOffset(ctx, l.tp, earliestTime, false); err != nil {
		return 0, 0, err
	}
	end, err = l.cluster.listOffset(ctx, l.tp, latestTime, l.step == findStart && l.cfg.Isolation == ReadCommitted)
	return first, end, err
}
