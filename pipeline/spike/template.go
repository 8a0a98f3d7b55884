package spike

import (
	"hash/fnv"
	"slices"
)

// Heard is how often a provider used one wording in one minute.
type Heard struct {
	Provider, Text string
	Attempts       int64
	// First is when it was heard for the first time ever, in Unix seconds; zero
	// means in this minute.
	First int64
}

const (
	// learnWordings is for how many minutes a provider's wordings are only
	// learned.
	learnWordings = 3 * 1440
	// newFor is for how many minutes after it was first heard a wording is new.
	newFor = 60
	// mostWordings bounds what is kept of one provider; those that were not heard
	// for longest are forgotten.
	mostWordings = 4096
)

// wording is one wording of a provider.
type wording struct {
	hash        uint64
	first, last int32
	n, all      float64 // its attempts, and those of all wordings, since first; while it is new
	text        string  // while it is new
	told        bool
}

// voice is what is known of one provider: its wordings by hash.
type voice struct {
	provider string
	first    int32
	known    []wording
}

type wordings struct {
	voices []voice // by name
	heard  []Heard // of the minute to be judged next
}

// Hear adds the wordings of the minute that Window is called for next.
func (d *Detector) Hear(all []Heard) { d.wordings.heard = append(d.wordings.heard, all...) }

func hashOf(text string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text))
	return h.Sum64()
}

func (w *wordings) voice(m int32, provider string) *voice {
	i, ok := slices.BinarySearchFunc(w.voices, provider, func(v voice, name string) int {
		switch {
		case v.provider < name:
			return -1
		case v.provider > name:
			return 1
		}
		return 0
	})
	if !ok {
		w.voices = slices.Insert(w.voices, i, voice{provider: provider, first: m})
	}
	return &w.voices[i]
}

func (v *voice) find(hash uint64) (int, bool) {
	return slices.BinarySearchFunc(v.known, hash, func(w wording, h uint64) int {
		switch {
		case w.hash < h:
			return -1
		case w.hash > h:
			return 1
		}
		return 0
	})
}

// judge learns the minute's wordings and raises alerts for those that are new
// and frequent. Such an alert ends when the wording is no longer new.
func (w *wordings) judge(d *Detector, m int32) {
	heard := w.heard
	w.heard = w.heard[:0]
	sums := make(map[string]float64)
	for _, h := range heard {
		if h.Attempts <= 0 || h.Text == "" {
			continue
		}
		v := w.voice(m, h.Provider)
		hash := hashOf(h.Text)
		i, ok := v.find(hash)
		if !ok {
			v.known = slices.Insert(v.known, i, wording{hash: hash, first: m})
			if m-v.first >= learnWordings && (h.First == 0 || int64(m)-h.First/60 < newFor) {
				v.known[i].text = h.Text
			}
		}
		v.known[i].last = m
		v.known[i].n += float64(h.Attempts)
		sums[h.Provider] += float64(h.Attempts)
	}
	for i := range w.voices {
		v := &w.voices[i]
		for j := range v.known {
			x := &v.known[j]
			if x.text == "" {
				continue
			}
			x.all += sums[v.provider]
			if m-x.first >= newFor {
				x.text, x.n, x.all = "", 0, 0
				continue
			}
			for ri := range d.rules {
				if r := &d.rules[ri]; r.Kind == Template && !x.told && r.admits(v.provider) &&
					x.n >= float64(r.Gates.MinFailures) && x.n >= r.Gates.MinRatio*x.all {
					x.told = true
					d.fireWording(m, uint8(ri), v.provider, x)
				}
			}
		}
		v.bound()
	}
	for _, a := range d.alerts {
		if a.of == ofWording && a.State.Open() && m-a.fired >= newFor {
			d.end(m, a, "known by now")
		}
	}
}

func (r *rule) admits(provider string) bool {
	return len(r.Match.Providers) == 0 || slices.Contains(r.Match.Providers, provider)
}

func (v *voice) bound() {
	if len(v.known) <= mostWordings {
		return
	}
	lasts := make([]int32, 0, len(v.known))
	for _, x := range v.known {
		lasts = append(lasts, x.last)
	}
	slices.Sort(lasts)
	least := lasts[len(lasts)/4]
	v.known = slices.DeleteFunc(v.known, func(x wording) bool { return x.last <= least && x.text == "" })
}

func (d *Detector) fireWording(m int32, ri uint8, provider string, x *wording) {
	a := d.begin(m, x.first, ri, 0, map[Dimension]string{Provider: provider}, Template)
	a.of, a.place = ofWording, -1
	a.ID = id(a.Rule, Template, a.Labels, int64(x.first)*60+int64(x.hash%60)) // two may begin in one minute
	a.Incident = a.ID
	a.Failures, a.Attempts = int64(x.n), int64(x.all)
	a.measure()
	a.Threshold = 0
	a.Templates = []Wording{{Text: x.text, Attempts: int64(x.n)}}
	d.tell(m, a)
}
