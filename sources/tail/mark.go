package tail

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/bouncemeter/bouncemeter/event"
)

const (
	headBytes = 1024 // how much of a file's beginning identifies it
	tailBytes = 256  // how much before the position must be unchanged
)

// mark is what Position.Segment says: which file the offset counts in, told by
// what was read of it, so that it is found again whatever it is called by then
// and however it is compressed.
type mark struct {
	head uint64 // hash of the first headBytes, or of all before the offset if less
	tail uint64 // hash of the last tailBytes before the offset, or of all before it
	// ino is the file's inode number. It is a hint: it prefers one of several
	// files that agree with the hashes, and never outvotes them.
	ino uint64
	// modified is when the file had last been written as it was read, in Unix
	// nanoseconds. Files of one stream are written one after the other, so
	// what was written later is newer. It decides only where the file is gone.
	modified int64
}

// String encodes m. The encoding is version 1; another gets another digit.
func (m mark) String() string {
	b := make([]byte, 0, 72)
	b = append(b, '1')
	for _, v := range [...]uint64{m.head, m.tail, m.ino, uint64(m.modified)} {
		b = append(b, '.')
		b = strconv.AppendUint(b, v, 16)
	}
	return string(b)
}

// parseMark decodes what String made.
func parseMark(s string) (m mark, err error) {
	parts := strings.Split(s, ".")
	if len(parts) != 5 || parts[0] != "1" {
		return mark{}, errors.New("not an encoding this version knows")
	}
	var v [4]uint64
	for i := range v {
		if v[i], err = strconv.ParseUint(parts[i+1], 16, 64); err != nil {
			return mark{}, err
		}
	}
	m = mark{head: v[0], tail: v[1], ino: v[2], modified: int64(v[3])}
	if m.String() != s {
		return mark{}, errors.New("not as it was written")
	}
	return m, nil
}

// place is a decoded event.Position.
type place struct {
	mark
	// offset is 0 only for a lane that began at the end of nothing: all that
	// is written from then on is to be read.
	offset int64
	// unset is the zero Position: nothing was ever read.
	unset bool
}

func parsePosition(p event.Position) (place, error) {
	if p == (event.Position{}) {
		return place{unset: true}, nil
	}
	m, err := parseMark(p.Segment)
	if err == nil && p.Offset < 0 {
		err = errors.New("negative offset")
	}
	if err != nil {
		return place{}, fmt.Errorf("stored position %q@%d cannot be read: %w", p.Segment, p.Offset, err)
	}
	return place{mark: m, offset: p.Offset}, nil
}

func (p place) position() event.Position {
	if p.unset {
		return event.Position{}
	}
	return event.Position{Segment: p.mark.String(), Offset: p.offset}
}

// hash is the first half of a half of SHA-256: remote servers can choose much
// of what is in a log.
func hash(b []byte) uint64 {
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:])
}

// suffix keeps the last tailBytes of what is added.
type suffix struct {
	buf [tailBytes]byte
	n   int
}

func (s *suffix) bytes() []byte { return s.buf[:s.n] }

func (s *suffix) add(p []byte) {
	if len(p) >= tailBytes {
		s.n = copy(s.buf[:], p[len(p)-tailBytes:])
		return
	}
	if over := s.n + len(p) - tailBytes; over > 0 {
		copy(s.buf[:], s.buf[over:s.n])
		s.n -= over
	}
	s.n += copy(s.buf[s.n:], p)
}

// prefix keeps the first headBytes of what is added.
type prefix struct {
	buf [headBytes]byte
	n   int
}

func (p *prefix) add(b []byte) {
	if p.n < headBytes {
		p.n += copy(p.buf[p.n:], b)
	}
}

// topBytes is how much of a file's first line is kept: many times what the names
// of columns need.
const topBytes = 64 << 10

// firstLine keeps the first line of what is added.
type firstLine struct {
	buf   []byte
	whole bool // there is no more of it to come, or no more is kept
}

func (f *firstLine) add(b []byte) {
	if f.whole {
		return
	}
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		b, f.whole = b[:i], true
	}
	if room := topBytes - len(f.buf); len(b) >= room {
		b, f.whole = b[:room], true
	}
	f.buf = append(f.buf, b...)
}

// line returns the line without its ending. What it returns is not changed later.
func (f *firstLine) line() []byte {
	return bytes.TrimSuffix(f.buf[:len(f.buf):len(f.buf)], []byte("\r"))
}

// name is the file's stable name: the hash of its first line, as far as that
// is in the head. A line has the same name and offset however often, under
// whatever file name and however compressed it is read.
func (p *prefix) name() string {
	first := p.buf[:p.n]
	if i := bytes.IndexByte(first, '\n'); i >= 0 {
		first = first[:i]
	}
	return strconv.FormatUint(hash(first), 16)
}

func modified(fi os.FileInfo) int64 { return fi.ModTime().UnixNano() }
