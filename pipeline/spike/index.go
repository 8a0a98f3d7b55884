package spike

// index finds the places of keys in a slice: a hash table with open addressing
// that holds nothing but the places, since there may be a hundred thousand.
type index struct {
	slots []int32 // place plus 1, or zero
	used  int
}

// find returns the place of the key with that hash which is the same.
func (x *index) find(hash uint64, same func(place int32) bool) (int32, bool) {
	if len(x.slots) == 0 {
		return 0, false
	}
	mask := uint64(len(x.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		switch place := x.slots[i] - 1; {
		case place < 0:
			return 0, false
		case same(place):
			return place, true
		}
	}
}

// add adds the place of a key that is not in it; hashOf returns the hash of the
// key at a place.
func (x *index) add(hash uint64, place int32, hashOf func(place int32) uint64) {
	if 4*(x.used+1) > 3*len(x.slots) {
		old := x.slots
		x.slots = make([]int32, max(16, 2*len(old)))
		for _, o := range old {
			if o > 0 {
				x.put(hashOf(o-1), o)
			}
		}
	}
	x.put(hash, place+1)
	x.used++
}

func (x *index) put(hash uint64, slot int32) {
	mask := uint64(len(x.slots) - 1)
	i := hash & mask
	for ; x.slots[i] != 0; i = (i + 1) & mask {
	}
	x.slots[i] = slot
}

// appendTight appends with room for a sixteenth more rather than for a quarter
// where there are many: most of what there is was there at the beginning.
func appendTight[T any](all []T, x T) []T {
	if len(all) == cap(all) {
		grown := make([]T, len(all), len(all)+len(all)/16+16)
		copy(grown, all)
		all = grown
	}
	return append(all, x)
}

// emptied returns all without its elements, for the next minute, and gives room
// back that few minutes need.
func emptied[T any](all []T) []T {
	if cap(all) > 4*len(all)+1024 {
		return nil
	}
	return all[:0]
}

// mix adds a number to a hash; the constants are those of splitmix64.
func mix(hash, number uint64) uint64 {
	hash = (hash ^ number) * 0xbf58476d1ce4e5b9
	hash ^= hash >> 29
	return hash * 0x94d049bb133111eb
}

func (k *scopeKey) hash() uint64 {
	h := mix(uint64(k.view), uint64(k.ids[0])|uint64(k.ids[1])<<32)
	h = mix(h, uint64(k.ids[2])|uint64(k.ids[3])<<32)
	h = mix(h, uint64(k.ids[4]))
	return h ^ h>>32
}

func (k *groupKey) hash() uint64 {
	s := scopeKey{view: uint32(k.rule) | uint32(k.category)<<8 | uint32(k.edge)<<24, ids: k.ids}
	return s.hash()
}
