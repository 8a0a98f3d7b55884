package window

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
)

// Names admits a bounded number of names to one dimension; all others are
// folded into Other. While there is room every name is admitted. Once it is
// full, a name with more recent traffic than the quietest admitted one takes
// its place, at the next Rebalance. It is shared by all lanes and locked only
// when a lane meets a name for the first time, and at commits.
type Names struct {
	limit int

	mu       sync.Mutex
	known    map[string]*name // admitted ones and candidates
	admitted int
	// generation changes when an admitted name is dropped: lanes forget then
	// what they remember of this Names.
	generation uint64
	balanced   int64 // event time of the last Rebalance, Unix seconds
}

type name struct {
	admitted bool
	volume   float64 // recent events, halved every day
}

// halfLife is how fast the volume of a name is forgotten, in Rebalance steps.
const halfLife = 24

// NewNames returns a dimension of at most limit names.
func NewNames(limit int) *Names {
	return &Names{limit: max(limit, 1), known: make(map[string]*name)}
}

// Restore admits a name that was counted before, as long as there is room.
func (n *Names) Restore(s string) {
	switch s {
	case NullSender, Unknown, Other:
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.admit(s)
}

// Len returns how many names are admitted, and how many may be.
func (n *Names) Len() (admitted, limit int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.admitted, n.limit
}

func (n *Names) admit(s string) *name {
	e := n.known[s]
	if e == nil {
		// Candidates are bounded too: a flood of names that occur once cannot
		// grow the map, and a name with steady traffic soon finds a place.
		if len(n.known) >= 2*n.limit {
			n.forgetQuiet()
		}
		e = &name{}
		n.known[strings.Clone(s)] = e
	}
	if !e.admitted && n.admitted < n.limit {
		e.admitted = true
		n.admitted++
	}
	return e
}

// forgetQuiet drops the quieter half of the candidates.
func (n *Names) forgetQuiet() {
	var volumes []float64
	for _, e := range n.known {
		if !e.admitted {
			volumes = append(volumes, e.volume)
		}
	}
	if len(volumes) == 0 {
		return
	}
	slices.Sort(volumes)
	median := volumes[len(volumes)/2]
	for s, e := range n.known {
		if !e.admitted && e.volume <= median {
			delete(n.known, s)
		}
	}
}

// lookup returns s, or Other if it is not admitted.
func (n *Names) lookup(s string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.admit(s).admitted {
		return s
	}
	return Other
}

// observe adds the traffic of the names since the last call and rebalances
// once an hour of event time. It returns the current generation.
func (n *Names) observe(traffic []spelling, now int64) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range traffic {
		l := traffic[i].local
		if l == nil || l.seen == 0 {
			continue
		}
		if e := n.known[l.name]; e != nil {
			e.volume += float64(l.seen)
		}
		l.seen = 0
	}
	if now-n.balanced >= 3600 {
		n.balanced = now
		n.rebalance()
	}
	return n.generation
}

// rebalance gives the places to the names with most recent traffic. An
// admitted name yields only to one with twice its volume, so that two alike do
// not take turns.
func (n *Names) rebalance() {
	type ranked struct {
		s string
		*name
	}
	var in, out []ranked
	for s, e := range n.known {
		e.volume *= 1 - 0.6931/halfLife
		if e.admitted {
			in = append(in, ranked{s, e})
		} else {
			out = append(out, ranked{s, e})
		}
	}
	byVolume := func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.volume, b.volume), strings.Compare(a.s, b.s))
	}
	slices.SortFunc(in, byVolume)
	slices.SortFunc(out, func(a, b ranked) int { return byVolume(b, a) })
	for i := 0; i < min(len(in), len(out)) && out[i].volume > 2*in[i].volume+1; i++ {
		in[i].admitted, out[i].admitted = false, true
		n.generation++
	}
}

// local is what one lane remembers of a name: its number, its traffic since
// the last commit, and where its events were counted lately.
type local struct {
	name string // as admitted or not
	id   uint32 // of the name, or of Other
	seen uint32

	// As a recipient: the cell it was counted in last.
	domain domainKey
	cell   int32 // index into Delta.Domains, valid if epoch is the counter's
	epoch  uint32
}

// dimension numbers the names of one dimension within one lane.
type dimension struct {
	names      *Names
	generation uint64
	spellings  spellings
	text       []string // by id
	byText     map[string]uint32
	last       spelling // most lines name the same host as the line before
	reserved   [3]local
	scratch    []byte
}

// localLimit bounds the spellings a lane remembers of one dimension; beyond it
// all are forgotten and looked up anew.
const localLimit = 1 << 16

// The first numbers of a dimension.
const (
	idEmpty uint32 = iota
	idUnknown
	idOther
)

func newDimension(n *Names) dimension {
	d := dimension{names: n, byText: make(map[string]uint32)}
	for i, s := range []string{NullSender, Unknown, Other} {
		d.reserved[i].id = d.number(s)
	}
	d.forget()
	return d
}

func (d *dimension) number(s string) uint32 {
	id, ok := d.byText[s]
	if !ok {
		id = uint32(len(d.text))
		d.text = append(d.text, s)
		d.byText[s] = id
	}
	return id
}

func (d *dimension) forget() {
	d.spellings = newSpellings()
	d.last = spelling{}
}

// commit reports the traffic since the last call, and forgets the numbers if
// names have lost their place meanwhile.
func (d *dimension) commit(now int64) {
	if g := d.names.observe(d.spellings.slots, now); g != d.generation {
		d.generation = g
		d.forget()
	}
}

// find returns a name as written in a record: in lower case, cut at 255 bytes
// (RFC 1035 section 2.3.4), without control characters and the parentheses
// that mark names of ours.
func (d *dimension) find(written []byte) *local {
	if len(written) == 0 {
		return &d.reserved[idEmpty]
	}
	if string(written) != d.last.written {
		d.last = *d.spelling(written)
	}
	l := d.last.local
	l.seen++
	return l
}

func (d *dimension) spelling(written []byte) *spelling {
	hash := maphash.Bytes(d.spellings.seed, written)
	s := d.spellings.find(hash, written)
	if s.local == nil {
		if d.spellings.n >= localLimit {
			d.forget()
		}
		name := d.clean(written)
		s = d.spellings.insert(spelling{hash, string(written), &local{name: name, id: d.number(d.names.lookup(name))}})
	}
	return s
}

// spellings finds names as they are written in records. It is a hash table with
// linear probing: each event looks up four names, and this takes a third of the
// time of a map of the language.
type spellings struct {
	slots []spelling // a power of two
	n     int
	seed  maphash.Seed // who chooses names cannot choose where they meet
}

type spelling struct {
	hash    uint64
	written string
	*local  // nil in a free slot
}

func newSpellings() spellings {
	return spellings{slots: make([]spelling, 16), seed: maphash.MakeSeed()}
}

// find returns the slot of a name, or the free slot where it belongs.
func (t *spellings) find(hash uint64, written []byte) *spelling {
	mask := uint64(len(t.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := &t.slots[i]
		if s.local == nil || s.hash == hash && s.written == string(written) {
			return s
		}
	}
}

// insert adds a name that is not there.
func (t *spellings) insert(s spelling) *spelling {
	if t.n >= len(t.slots)/2 {
		old := t.slots
		t.slots = make([]spelling, 2*len(old))
		for _, s := range old {
			if s.local != nil {
				*t.free(s.hash) = s
			}
		}
	}
	t.n++
	slot := t.free(s.hash)
	*slot = s
	return slot
}

func (t *spellings) free(hash uint64) *spelling {
	mask := uint64(len(t.slots) - 1)
	i := hash & mask
	for t.slots[i].local != nil {
		i = (i + 1) & mask
	}
	return &t.slots[i]
}

func (d *dimension) clean(written []byte) string {
	d.scratch = d.scratch[:0]
	for _, c := range written[:min(len(written), 255)] {
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case c < ' ' || c == 0x7f || c == '(' || c == ')':
			c = '?'
		}
		d.scratch = append(d.scratch, c)
	}
	return strings.ToValidUTF8(string(d.scratch), "?")
}
