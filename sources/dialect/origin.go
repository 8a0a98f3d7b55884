package dialect

import (
	"encoding/binary"
	"math/bits"

	"github.com/bouncemeter/bouncemeter/event"
)

// origins remembers how lines of Postfix began lately, after their timestamp:
// with a host and an instance, as in "mx1 postfix/". A log has few of them, and
// most lines are read by comparing their beginning with one of these instead of
// looking for its parts.
//
// It is a cache: what is not in it is read slowly and with the same result.
type origins [64]origin

type origin struct {
	place   uint64 // of the host and the instance
	n, host uint8  // lengths of the text, which ends in a slash, and of the host in it; 0 if there is none
	// The text's first bytes, as words, with masks of those that there are; and the
	// rest of it.
	words, masks [4]uint64
	rest         [originBytes - 32]byte
}

// originBytes bounds the length of an origin. Longer ones are not remembered.
const originBytes = 64

// slot returns where the origin that text begins with is or would be. It is chosen
// by the first 16 bytes, which text must have; for a short origin some of these
// are of the daemon's name, and then it is in several places.
func (o *origins) slot(text []byte) *origin {
	x := binary.LittleEndian.Uint64(text)*0x9E3779B97F4A7C15 ^ binary.LittleEndian.Uint64(text[8:])*0xD6E8FEB86659FD93
	return &o[x>>58]
}

// learn remembers the beginning of text, which is that of a line from the host
// on: the host, a blank, and the instance with its slash, of that many bytes.
func (o *origins) learn(text []byte, host, instance int) {
	n := host + len(" ") + instance
	// Some hosts and programs make a line look like one of another format to
	// auto. They are not remembered, so that auto need not look again.
	if len(text) < 16 || n > originBytes || !isAlnum(text[0]) || string(text[host+1:n]) == "Sender/" {
		return
	}
	s := o.slot(text)
	*s = origin{place: event.PlaceOf(text[:host], text[host+1:n-1]), n: uint8(n), host: uint8(host)}
	var first, mask [32]byte
	for i := range copy(first[:], text[:n]) {
		mask[i] = 0xff
	}
	for i := range s.words {
		s.words[i], s.masks[i] = binary.LittleEndian.Uint64(first[8*i:]), binary.LittleEndian.Uint64(mask[8*i:])
	}
	if n > 32 {
		copy(s.rest[:], text[32:n])
	}
}

// words are a few words of four bytes. They are in a table by a hash that is
// perfect for those that are used here.
type words [16]uint32

func (w *words) slot(x uint32) *uint32 { return &w[x*0x9E3779BF>>28] }

func (w *words) has(x uint32) bool { return *w.slot(x) == x }

func (w *words) add(all ...string) {
	for _, s := range all {
		x := binary.LittleEndian.Uint32([]byte(s))
		*w.slot(x) = x
	}
}

// What follows looks at eight bytes at once, the lowest of a word being the first
// in the text, and makes no branch that depends on them. The results have the
// highest bit of those bytes set that are wanted.

const (
	eachByte = 0x0101010101010101 // times a byte: that byte in each place
	highBits = 0x80 * eachByte
	lowBits  = 0x7f * eachByte
)

// firstByte returns the index of the first byte of which the highest bit is set,
// or 8 if there is none.
func firstByte(mask uint64) int { return bits.TrailingZeros64(mask) / 8 }

// notAlnum finds bytes that are neither ASCII letters nor digits.
func notAlnum(w uint64) uint64 {
	// Without its highest bit a byte of at most 0x7f plus 0x80-c has the highest
	// bit if it is at least c, and nothing is carried into the next one.
	digit, letter := w&lowBits, w&lowBits|0x20*eachByte
	digit = (digit + (0x80-'0')*eachByte) &^ (digit + (0x80-'9'-1)*eachByte)
	letter = (letter + (0x80-'a')*eachByte) &^ (letter + (0x80-'z'-1)*eachByte)
	return (^(digit | letter) | w) & highBits
}

// notDigit finds bytes that are no ASCII digits.
func notDigit(w uint64) uint64 {
	digit := w & lowBits
	digit = (digit + (0x80-'0')*eachByte) &^ (digit + (0x80-'9'-1)*eachByte)
	return (^digit | w) & highBits
}

// leadingDigits returns the number that the first n bytes of w write, which are
// digits.
func leadingDigits(w uint64, n int) int64 {
	w = w << (64 - 8*n) & (0x0f * eachByte) // as if there were zeros before them
	w = w * (1 + 10<<8) >> 8 & 0x00ff00ff00ff00ff
	w = w * (1 + 100<<16) >> 16 & 0x0000ffff0000ffff
	return int64(w * (1 + 10000<<32) >> 32)
}

// below finds bytes less than c, which is one of ASCII.
func below(w uint64, c byte) uint64 {
	return ^(w&lowBits + uint64(0x80-c)*eachByte | w) & highBits
}

// equal finds c. Bytes above the first that it finds may be others.
func equal(w uint64, c byte) uint64 {
	w ^= uint64(c) * eachByte // what is looked for becomes zero
	return (w - eachByte) &^ w & highBits
}

func isAlnum(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'z' }
