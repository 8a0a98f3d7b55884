package event

import "time"

// Position says how far a lane has been read: everything before it has been
// counted, nothing after it has. Positions are compared for equality by the
// ledger and interpreted only by the source that made them.
type Position struct {
	// Segment names what Offset counts in: for a tailed file the source's
	// encoding of the file's content fingerprint, empty for a Kafka partition.
	Segment string
	// Offset is the first byte (decoded, for a compressed file) or record that
	// has not been read. It never points inside a line.
	Offset int64
}

// Line is one raw record without its line ending.
type Line struct {
	Text   []byte // aliases Batch.Buffer
	Offset int64  // where the record starts, in the unit of Position.Offset
}

// Batch is a run of lines of one lane, in order. The caller owns it and hands
// it to the source to be filled, so that reading and processing may overlap
// with as many batches as the caller likes.
type Batch struct {
	Lines []Line
	// Segment is the stable name of what the offsets count in, such as a hash of
	// the beginning of the file: the same line has the same Segment and Offset
	// however often it is read. Empty for a Kafka partition.
	Segment string
	// Header is the first line of the file that the lines are from, wherever in
	// it they stand: in some formats it names the columns. It is nil where lines
	// come from no file. The source may give it to many batches, so it is not to
	// be changed.
	Header []byte
	// Next is the position after the last line: what is committed once the
	// batch has been counted. It moves even when a batch has no lines.
	Next Position
	// Reference is a time close to and not before the lines' own: the wall
	// clock for a live log, the modification time of a finished file. Formats
	// whose timestamps lack the year take it from here.
	Reference time.Time
	// Truncated counts the lines that were longer than the source's limit and
	// of which only the beginning is here.
	Truncated int
	// Lag is how much the source knows to be waiting after this batch, in the
	// unit of Position.Offset; zero once it has caught up.
	Lag int64
	// Lost counts what the source had to skip because it is gone, such as the
	// bytes between a copy and a truncation. It is reported, never hidden.
	Lost int64

	// Buffer backs the lines. The source grows and reuses it.
	Buffer []byte
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	lines, buffer := b.Lines[:0], b.Buffer[:0]
	*b = Batch{Lines: lines, Buffer: buffer}
}
