package spool

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
)

// A frame is one record on disk:
//
//	checksum (8 digits) ' ' time (11 digits) mark record '\n'
//
// The checksum is of all after it but the line feed. The mark is a space, or + if
// the record is only the beginning of what was received.
const (
	sumDigits  = 8
	timeDigits = 11
	sumEnd     = sumDigits + 1
	markAt     = sumEnd + timeDigits
	headBytes  = markAt + 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendFrame(b []byte, millis int64, r Record) []byte {
	start := len(b)
	b = append(b, "00000000 "...)
	var time [8]byte
	binary.BigEndian.PutUint64(time[:], uint64(millis)<<20) // the upper 11 digits
	b = hex.AppendEncode(b, time[:])[:start+markAt]
	mark := byte(' ')
	if r.Truncated {
		mark = '+'
	}
	b = append(b, mark)
	b = append(b, r.Text...)
	text := b[start+headBytes:]
	for i := bytes.IndexByte(text, '\n'); i >= 0; i = bytes.IndexByte(text, '\n') {
		text[i] = ' '
		text = text[i+1:]
	}
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], crc32.Checksum(b[start+sumEnd:], castagnoli))
	hex.Encode(b[start:], sum[:])
	return append(b, '\n')
}

// parseFrame reads a frame without its line feed. The text aliases it.
func parseFrame(frame []byte) (millis int64, r Record, ok bool) {
	if len(frame) < headBytes || frame[sumDigits] != ' ' || frame[markAt] != ' ' && frame[markAt] != '+' {
		return 0, Record{}, false
	}
	sum, ok := parseHex(frame[:sumDigits])
	if !ok || uint32(sum) != crc32.Checksum(frame[sumEnd:], castagnoli) {
		return 0, Record{}, false
	}
	time, ok := parseHex(frame[sumEnd:markAt])
	return int64(time), Record{Text: frame[headBytes:], Truncated: frame[markAt] == '+'}, ok
}

func parseHex(digits []byte) (n uint64, ok bool) {
	for _, c := range digits {
		switch {
		case '0' <= c && c <= '9':
			n = n<<4 | uint64(c-'0')
		case 'a' <= c && c <= 'f':
			n = n<<4 | uint64(c-'a'+10)
		default:
			return 0, false
		}
	}
	return n, true
}

// lastFrame returns the offset after the last whole frame of a segment: a damaged
// one in the middle takes none of those after it along.
func lastFrame(r io.Reader) (end int64, err error) {
	b := bufio.NewReaderSize(r, 64<<10)
	var at int64
	var frame []byte
	for {
		part, err := b.ReadSlice('\n')
		at += int64(len(part))
		frame = append(frame, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return end, nil
		case err != nil:
			return 0, err
		default:
			if _, _, ok := parseFrame(frame[:len(frame)-1]); ok {
				end = at
			}
			frame = frame[:0]
		}
	}
}
