package window

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/short"
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
func (n *Names) observe(t *spellings, now int64) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	t.traffic(func(s string, seen uint32) {
		if e := n.known[s]; e != nil {
			e.volume += float64(seen)
		}
	})
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

// dimension numbers the names of one dimension within one lane.
type dimension struct {
	names      *Names
	generation uint64
	spellings  spellings
	text       []string // by id
	byText     map[string]uint32
	reserved   [3]spelling
	scratch    []byte
	leaving    func(*spelling) // called for what is about to be forgotten, if set
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
	d.spellings = newSpellings()
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

// commit reports the traffic since the last call, and forgets the numbers if
// names have lost their place meanwhile.
func (d *dimension) commit(now int64) {
	if g := d.names.observe(&d.spellings, now); g != d.generation {
		d.generation = g
		d.forget()
	}
}

// forget forgets all spellings.
func (d *dimension) forget() {
	if d.leaving != nil {
		d.each(d.leaving)
	}
	d.spellings = newSpellings()
}

// each calls yield for all that find returns.
func (d *dimension) each(yield func(*spelling)) {
	for i := range d.reserved {
		yield(&d.reserved[i])
	}
	for i := range d.spellings.slots {
		yield(&d.spellings.slots[i])
	}
	for _, l := range d.spellings.long {
		yield(&l.spelling)
	}
}

// find returns a name as written in a record: in lower case, cut at 255 bytes
// (RFC 1035 section 2.3.4), without control characters and the parentheses
// that mark names of ours. The result is valid until the next call.
func (d *dimension) find(written []byte) *spelling {
	if len(written) == 0 {
		return &d.reserved[idEmpty]
	}
	t, ok := short.Make(written)
	if !ok {
		return d.findLong(written)
	}
	s := d.spellings.find(t)
	if s.free() {
		if d.spellings.n >= localLimit {
			d.forget()
		}
		name := d.clean(written)
		s = d.spellings.insert(spelling{text: t, id: d.number(d.names.lookup(name))}, name)
	}
	s.seen++
	return s
}

func (d *dimension) findLong(written []byte) *spelling {
	l := d.spellings.long[string(written)]
	if l == nil {
		if len(d.spellings.long) >= localLimit {
			d.forget()
		}
		name := d.clean(written)
		l = &longSpelling{spelling{id: d.number(d.names.lookup(name))}, name}
		d.spellings.long[string(written)] = l
	}
	l.seen++
	return &l.spelling
}

// spelling is what one lane remembers of a name as it is written in records: its
// number, its traffic since the last commit, and where its events were counted
// lately. It fills one line of the processor's cache and has no pointers.
type spelling struct {
	text short.Text
	id   uint32 // of the name, or of Other
	seen uint32

	// As a recipient domain: the cell it was counted in last, an index into
	// Delta.Domains that is valid if the period is the counter's, and what is not in
	// it yet.
	period   uint64
	cell     int32
	attempts uint32
	outcome  event.Outcome
	category event.Category
}

// free reports whether the slot has no name.
func (s *spelling) free() bool { return s.text.IsZero() }

type longSpelling struct {
	spelling
	name string
}

// spellings finds names as they are written. It is a hash table with linear
// probing: each event looks up four names, and this takes a fraction of the time
// of a map of the language.
type spellings struct {
	slots []spelling // a power of two
	clean []string   // by slot: the name that the spelling means
	n     int
	seed  short.Seed               // who chooses names cannot choose where they meet
	long  map[string]*longSpelling // those that are no short.Text
}

func newSpellings() spellings {
	const slots = 16
	return spellings{
		slots: make([]spelling, slots), clean: make([]string, slots), seed: short.NewSeed(), long: make(map[string]*longSpelling),
	}
}

// find returns the slot of a name, or the free slot where it belongs.
func (t *spellings) find(text short.Text) *spelling {
	slots := t.slots
	for i := int(text.Hash(t.seed)); ; i++ {
		s := &slots[i&(len(slots)-1)]
		if s.text == text || s.free() {
			return s
		}
	}
}

// insert adds a name that is not there.
func (t *spellings) insert(s spelling, clean string) *spelling {
	if t.n >= len(t.slots)/2 {
		old, names := t.slots, t.clean
		t.slots, t.clean = make([]spelling, 2*len(old)), make([]string, 2*len(old))
		for i := range old {
			if !old[i].free() {
				t.place(old[i], names[i])
			}
		}
	}
	t.n++
	return t.place(s, clean)
}

func (t *spellings) place(s spelling, clean string) *spelling {
	i := int(s.text.Hash(t.seed)) & (len(t.slots) - 1)
	for !t.slots[i].free() {
		i = (i + 1) & (len(t.slots) - 1)
	}
	t.slots[i], t.clean[i] = s, clean
	return &t.slots[i]
}

// traffic calls yield for the names that were seen since the last call.
func (t *spellings) traffic(yield func(name string, seen uint32)) {
	for i := range t.slots {
		if s := &t.slots[i]; s.seen > 0 {
			yield(t.clean[i], s.seen)
			s.seen = 0
		}
	}
	for _, l := range t.long {
		if l.seen > 0 {
			yield(l.name, l.seen)
			l.seen = 0
		}
	}
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
