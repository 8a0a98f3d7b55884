package tail

import (
	"bytes"
	"context"
	"io"
	"slices"

	"github.com/bouncemeter/bouncemeter/event"
)

// chunkBytes is how much is read at a time: enough that system calls do not
// matter, little enough that the lines are still in the processor's cache when
// they are parsed. See BenchmarkChunk.
const chunkBytes = 256 << 10

// reader splits one open file into lines.
type reader struct {
	*file
	max   int // Config.MaxLineBytes
	chunk int // how much to read at a time

	first []byte // what the file began with when it was opened

	off   int64 // all before it has been taken from the file
	start int64 // all before it has been delivered; never inside a line
	head  prefix
	top   firstLine
	seen  suffix // what is before off
	done  suffix // what is before start

	// The unfinished line: its first bytes without leading NULs, where they
	// are in the file, and whether more than max+1 (there may be a CR) of them
	// were seen, in which case the rest is dropped.
	carry []byte
	begin int64
	long  bool
}

// newReader reads f from the beginning.
func newReader(f *file, maxLine, chunk int) (*reader, error) {
	r := &reader{file: f, max: maxLine, chunk: chunk}
	if r.dec != nil {
		return r, nil
	}
	first := make([]byte, tailBytes)
	n, err := f.f.ReadAt(first, 0)
	if err == io.EOF {
		err = nil
	}
	r.first = first[:n]
	return r, err
}

// fill reads one chunk and appends the lines that end in it to b, which must
// be empty. It returns how many bytes it read: 0 and io.EOF at the end.
func (r *reader) fill(b *event.Batch) (int, error) {
	c := len(r.carry)
	if need := c + r.chunk; cap(b.Buffer) < need {
		b.Buffer = make([]byte, 0, need+r.chunk/8) // unfinished lines differ in length
	}
	buf := b.Buffer[:c+r.chunk]
	copy(buf, r.carry)
	n, err := r.read(buf[c:], r.off)
	if n == 0 {
		return 0, err
	}
	// In this order: the time of the look is one at which the file was the same.
	if err := r.look(); err != nil {
		return 0, err
	}
	if err := r.same(); err != nil {
		return 0, err
	}
	b.Buffer = buf[:c+n]
	data := buf[c : c+n]
	if last := r.split(b, c); last > 0 {
		r.done = r.seen
		r.done.add(data[:last])
		r.start = r.off + int64(last)
	}
	r.head.add(data)
	r.top.add(data)
	r.seen.add(data)
	r.off += int64(n)
	return n, nil
}

// same returns errReplaced if the file is not the one any more that was read or,
// before anything was read, opened. It is asked after a read, not before: what
// was read is only believed if the file was still the same then.
func (r *reader) same() error {
	same, err := r.holds(r.first, 0)
	if err == nil && same {
		same, err = r.holds(r.seen.bytes(), r.off-int64(r.seen.n))
	}
	if err == nil && !same {
		return errReplaced
	}
	return err
}

// split finds the lines in b.Buffer, of which the first c bytes are the carry
// and the rest is from r.off on. It returns how much of that rest is before
// the end of the last line.
func (r *reader) split(b *event.Batch, c int) (last int) {
	buf := b.Buffer
	base := r.off - int64(c) // buf[i] is the file's byte base+i, for i >= c
	from := c
	i := bytes.IndexByte(buf[from:], '\n')
	if i >= 0 && (c > 0 || r.long) {
		r.deliver(b, buf[:from+i], r.begin)
		from += i + 1
		i = bytes.IndexByte(buf[from:], '\n')
	}
	for i >= 0 {
		line := buf[from : from+i]
		at := base + int64(from)
		from += i + 1
		if n := len(line); n == 0 || line[0] != 0 && line[n-1] != '\r' && n <= r.max {
			b.Lines = append(b.Lines, event.Line{Text: line, Offset: at})
		} else {
			k := nulls(line)
			r.deliver(b, line[k:], at+int64(k))
		}
		i = bytes.IndexByte(buf[from:], '\n')
	}
	rest := buf[from:]
	if len(r.carry) == 0 && !r.long {
		rest = rest[nulls(rest):]
		r.begin = base + int64(len(buf)-len(rest))
	}
	if !r.long {
		if room := r.max + 1 - len(r.carry); len(rest) > room {
			rest, r.long = rest[:room], true
		}
		r.carry = append(r.carry, rest...)
	}
	return from - c
}

// deliver appends a line that may be too long or end in CR, and forgets the
// unfinished one.
func (r *reader) deliver(b *event.Batch, line []byte, at int64) {
	if !r.long {
		line = bytes.TrimSuffix(line, []byte("\r"))
	}
	if len(line) > r.max {
		line = line[:r.max]
		b.Truncated++
	}
	b.Lines = append(b.Lines, event.Line{Text: line, Offset: at})
	r.carry, r.long = r.carry[:0], false
}

// nulls returns how many NUL bytes b begins with. They are no text: holes
// where a crash lost data, or where a file was truncated under a writer that
// does not append.
func nulls(b []byte) int {
	i := 0
	for i < len(b) && b[i] == 0 {
		i++
	}
	return i
}

// finish delivers what is left without a line ending: the file is finished, so
// it counts as a line. Nothing but NULs is no line.
func (r *reader) finish(b *event.Batch) {
	if len(r.carry) > 0 {
		b.Buffer = append(b.Buffer[:0], r.carry...)
		r.deliver(b, b.Buffer, r.begin)
	}
	r.start, r.done = r.off, r.seen
}

// drop forgets the unfinished line and returns how long it was.
func (r *reader) drop() int64 {
	n := r.off - r.start
	r.carry, r.long = r.carry[:0], false
	return n
}

// place is the position before which all has been delivered.
func (r *reader) place() place {
	return place{
		mark: mark{
			head:     hash(r.head.buf[:min(int64(r.head.n), r.start)]),
			tail:     hash(r.done.bytes()),
			ino:      inode(r.info),
			modified: modified(r.info),
		},
		offset: r.start,
	}
}

// finding is how a file compares with a position.
type finding uint8

const (
	other  finding = iota // a different file
	short                 // the same file, or a copy, that ends before the position
	within                // it contains the position
)

// seek moves a new reader to p, and tells whether what is there is what p was
// made of. The reader is at p only if the answer is within, and at the end of
// the file if it is short.
func (r *reader) seek(ctx context.Context, p place) (finding, error) {
	headLen := int(min(p.offset, headBytes))
	if r.dec == nil {
		n, err := r.f.ReadAt(r.head.buf[:], 0)
		if err != nil && err != io.EOF {
			return other, err
		}
		if n < headLen || hash(r.head.buf[:headLen]) != p.head {
			return other, nil
		}
		if err := r.readTop(); err != nil {
			return other, err
		}
		r.off = min(p.offset, r.info.Size())
		r.head.n = int(min(int64(n), r.off))
		n, err = r.f.ReadAt(r.seen.buf[:min(r.off, tailBytes)], max(0, r.off-tailBytes))
		if err != nil && err != io.EOF {
			return other, err
		}
		r.seen.n = n
	} else if err := r.decodeTo(ctx, p.offset, func() bool {
		return r.head.n < headLen || hash(r.head.buf[:headLen]) == p.head
	}); err != nil {
		return other, err
	}
	if r.head.n < headLen || hash(r.head.buf[:headLen]) != p.head {
		return other, nil
	}
	r.start, r.done, r.begin = r.off, r.seen, r.off
	switch {
	case r.off < p.offset:
		return short, nil
	case hash(r.done.bytes()) != p.tail:
		return other, nil
	default:
		return within, nil
	}
}

// decodeTo decodes until off, the end of the file or until plausible, which is
// asked once the head is known, says that this is another file.
func (r *reader) decodeTo(ctx context.Context, off int64, plausible func() bool) error {
	buf := make([]byte, 64<<10)
	for r.off < off {
		if err := ctx.Err(); err != nil {
			return err
		}
		piece := buf[:min(int64(len(buf)), off-r.off)]
		if r.off == 0 {
			piece = piece[:min(len(piece), headBytes)]
		}
		n, err := r.read(piece, r.off)
		r.head.add(piece[:n])
		r.top.add(piece[:n])
		r.seen.add(piece[:n])
		r.off += int64(n)
		if err == io.EOF || err == nil && !plausible() {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// seekEnd moves a new reader of a plain file to the beginning of its last,
// unfinished line, or to its end if there is none.
func (r *reader) seekEnd() error {
	n, err := r.f.ReadAt(r.head.buf[:], 0)
	if err != nil && err != io.EOF {
		return err
	}
	r.head.n = n
	end := r.info.Size()
	buf := make([]byte, 64<<10)
	for end > 0 {
		from := max(0, end-int64(len(buf)))
		piece := buf[:end-from]
		if _, err := io.ReadFull(io.NewSectionReader(r.f, from, end-from), piece); err != nil {
			return err
		}
		if i := bytes.LastIndexByte(piece, '\n'); i >= 0 {
			end = from + int64(i) + 1
			break
		}
		end = from
	}
	if end > 0 {
		if err := r.readTop(); err != nil {
			return err
		}
	}
	n, err = r.f.ReadAt(r.seen.buf[:min(end, tailBytes)], max(0, end-tailBytes))
	if err != nil && err != io.EOF {
		return err
	}
	r.seen.n = n
	r.head.n = int(min(int64(r.head.n), end))
	r.off, r.start, r.begin, r.done = end, end, end, r.seen
	return nil
}

// describe sets what b says about where its lines are from.
func (r *reader) describe(b *event.Batch) {
	b.Segment = r.head.name()
	b.Header = r.top.line()
	b.Lag = r.waiting(r.off)
}

// readTop reads the first line of a plain file that will not be read from its
// beginning. A file that has no whole line yet is.
func (r *reader) readTop() error {
	buf := make([]byte, 4<<10)
	for off := int64(0); !r.top.whole; {
		n, err := r.f.ReadAt(buf, off)
		r.top.add(buf[:n])
		off += int64(n)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sameBeginning reports whether the first bytes of a and b are the same, as far as
// both have any.
func sameBeginning(a, b *file) bool {
	var x, y prefix
	for _, f := range []struct {
		*file
		*prefix
	}{{a, &x}, {b, &y}} {
		for f.n < headBytes {
			n, err := f.read(f.buf[f.n:], int64(f.n))
			f.n += n
			if err != nil {
				break
			}
		}
	}
	n := min(x.n, y.n)
	return slices.Equal(x.buf[:n], y.buf[:n])
}
