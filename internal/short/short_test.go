package short

import (
	"bytes"
	"math/bits"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Equal texts are equal bytes, of any length and alphabet.
func TestEqualIfTheBytesAre(t *testing.T) {
	text := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 'a', 'b'}), 0, Max)
	rapid.Check(t, func(t *rapid.T) {
		x := text.Draw(t, "x")
		y := text.Draw(t, "y")
		if rapid.Bool().Draw(t, "alike") { // differ in one byte, or not at all
			y = bytes.Clone(x)
			if len(y) > 0 {
				y[rapid.IntRange(0, len(y)-1).Draw(t, "at")] = rapid.SampledFrom([]byte{0, 'a', 'b'}).Draw(t, "byte")
			}
		}
		a, ok := Make(x)
		if !ok {
			t.Fatalf("%q is too long", x)
		}
		b, _ := Make(y)
		if (a == b) != bytes.Equal(x, y) {
			t.Fatalf("%q and %q: texts equal %v", x, y, a == b)
		}
		s := NewSeed()
		if a == b && a.Hash(s) != b.Hash(s) {
			t.Fatalf("%q has two hashes", x)
		}
	})
}

func TestTooLong(t *testing.T) {
	if _, ok := Make([]byte(strings.Repeat("x", Max+1))); ok {
		t.Errorf("a text of %d bytes", Max+1)
	}
}

// A change of any bit of a text changes about half of the bits of its hash, and
// no two of many similar texts meet.
func TestHashesSpread(t *testing.T) {
	s := Seed{}
	for n := 1; n <= Max; n++ {
		b := []byte(strings.Repeat("q", n))
		first, _ := Make(b)
		flipped := 0
		for i := range 8 * n {
			b[i/8] ^= 1 << (i % 8)
			other, _ := Make(b)
			flipped += bits.OnesCount64(first.Hash(s) ^ other.Hash(s))
			b[i/8] ^= 1 << (i % 8)
		}
		if mean := float64(flipped) / float64(8*n); mean < 28 || mean > 36 {
			t.Errorf("length %d: a bit changes %.1f bits of 64", n, mean)
		}
	}
	seen := make(map[uint64]bool)
	const ids = 300_000
	for i := range ids {
		id := []byte("4dqK0H0000z117L")
		for k, v := 6, i; v > 0; k, v = k+1, v/36 {
			id[k] = "0123456789abcdefghijklmnopqrstuvwxyz"[v%36]
		}
		x, _ := Make(id)
		seen[x.Hash(s)] = true
	}
	if len(seen) != ids {
		t.Errorf("%d of %d queue ids share a hash", ids-len(seen), ids)
	}
}

func BenchmarkHash(b *testing.B) {
	names := [][]byte{[]byte("gmail.com"), []byte("company2334.example"), []byte("gmx.de"), []byte("4dqK0H71N6z1185")}
	s := NewSeed()
	b.ReportAllocs()
	b.SetBytes(12)
	var sum uint64
	i := 0
	for b.Loop() {
		t, _ := Make(names[i&3])
		sum += t.Hash(s)
		i++
	}
	_ = sum
}
