// Package short turns short texts, such as domains, host names and queue ids,
// into a few words that are compared and hashed without a loop: on the way of
// every log line, half of the cost of a table is what it does with its keys.
package short

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
)

// Max is the length of the longest Text, in bytes.
const Max = 31

// Text is a text of up to Max bytes. Texts are equal with == if and only if
// their bytes are. It has no more than four words, so that the compiler keeps it
// in registers.
type Text struct {
	// a and b are the first words of the text, c and d the last. They overlap,
	// since the text is shorter than four words, and so the highest byte of b
	// is in c or d, too: in its place is the length.
	a, b, c, d uint64
}

// Make returns text as a Text, and false if it is too long for one.
func Make(text []byte) (t Text, ok bool) {
	n := len(text)
	if n > Max {
		return Text{}, false
	}
	length := uint64(n) << 56
	if n >= 8 {
		return Text{
			binary.LittleEndian.Uint64(text),
			binary.LittleEndian.Uint64(text[min(8, n-8):])<<8>>8 | length,
			binary.LittleEndian.Uint64(text[max(n-16, 0):]),
			binary.LittleEndian.Uint64(text[n-8:]),
		}, true
	}
	var a uint64
	switch {
	case n >= 4:
		a = uint64(binary.LittleEndian.Uint32(text)) | uint64(binary.LittleEndian.Uint32(text[n-4:]))<<32
	case n > 0:
		a = uint64(text[0]) | uint64(text[n/2])<<8 | uint64(text[n-1])<<16
	}
	return Text{a: a, b: length}, true
}

// IsZero reports whether t is the empty text.
func (t Text) IsZero() bool { return t.b == 0 }

// Seed chooses one of many hash functions. Tables of texts that strangers choose
// take a random one (NewSeed), so that nobody can choose texts that meet.
type Seed struct{ a, b uint64 }

// NewSeed returns a random seed.
func NewSeed() Seed {
	return Seed{maphash.Bytes(maphash.MakeSeed(), nil), maphash.Bytes(maphash.MakeSeed(), nil)}
}

// Odd constants without pattern: the fractional parts of the square roots of 2,
// 3, 5 and 7.
const (
	root2 = 0x6a09e667f3bcc909
	root3 = 0xbb67ae8584caa73b
	root5 = 0x3c6ef372fe94f82b
	root7 = 0xa54ff53a5f1d36f1
)

// Hash returns a hash of t, all bits of which are good. It is the same on every
// machine and in every process, so a hash with a fixed seed may be stored.
func (t Text) Hash(s Seed) uint64 {
	x := mix(t.a^s.a^root2, t.d^s.b^root3)
	y := mix(t.b^s.b^root5, t.c^s.a^root7)
	return mix(x^root3, y^root2)
}

// mix folds a product of 128 bits.
func mix(x, y uint64) uint64 {
	hi, lo := bits.Mul64(x, y)
	return hi ^ lo
}
