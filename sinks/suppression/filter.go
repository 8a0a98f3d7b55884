package suppression

import (
	"hash/maphash"
	"sync/atomic"
)

// filter tells addresses that may be in the database from those that are not,
// without a lock: most deliveries are to recipients that never failed. It is a
// Bloom filter of two bits an address, and forgets nothing: an address that has
// left the database costs a look-up. With a million of them, one in 70 others does.
type filter struct {
	seed maphash.Seed
	bits []atomic.Uint64
}

const filterWords = 1 << 18 // 2 MiB

func newFilter() filter {
	return filter{maphash.MakeSeed(), make([]atomic.Uint64, filterWords)}
}

func (f *filter) add(address []byte) {
	h := maphash.Bytes(f.seed, address)
	for range 2 {
		f.bits[h>>6%filterWords].Or(1 << (h & 63))
		h >>= 32
	}
}

func (f *filter) has(address []byte) bool {
	h := maphash.Bytes(f.seed, address)
	return f.bits[h>>6%filterWords].Load()>>(h&63)&1 != 0 && f.bits[h>>38%filterWords].Load()>>(h>>32&63)&1 != 0
}
