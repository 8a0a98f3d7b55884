// Package mine groups replies that no rule knows by their wording, so that the
// most frequent can be read first and get a rule.
//
// It is Drain (P. He, J. Zhu, Z. Zheng, M. R. Lyu: "Drain: An Online Log Parsing
// Approach with Fixed Depth Tree", ICWS 2017): templates hang in a tree by their
// number of words and their first words, and a reply joins the most similar
// template of its leaf or begins one. The masks of package classifier stand in
// for Drain's own; where replies of one template differ, it gets a wildcard.
package mine

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Wildcard stands in a template for words that differ.
const Wildcard = "<*>"

const (
	prefixWords = 2    // levels of the tree below the number of words
	similarity  = 0.6  // share of equal words from which a reply joins a template
	maxWords    = 200  // longer replies are grouped by their beginning
	maxSamples  = 3    // kept for each cluster, all different
	maxClusters = 5000 // further wordings are counted together
)

// Cluster is a group of replies of one wording.
type Cluster struct {
	// Template is the wording, with masks and wildcards.
	Template string `json:"template"`
	Count    uint64 `json:"count"`
	// Providers has the count by who answered.
	Providers map[string]uint64 `json:"providers"`
	// First and Last are when it was seen, in microseconds since the Unix epoch.
	First int64 `json:"first"`
	Last  int64 `json:"last"`
	// Samples are a few different replies, safe to show.
	Samples []string `json:"samples"`

	words []string
}

// Miner gathers clusters. It is used by one goroutine.
type Miner struct {
	leaves map[string][]*Cluster
	all    []*Cluster
	// overflow counts the replies of wordings that came after the limit.
	overflow uint64
}

// New returns an empty miner.
func New() *Miner { return &Miner{leaves: map[string][]*Cluster{}} }

// Reply is one reply, or several equal ones.
type Reply struct {
	Template []byte // as Session.Template gives it
	Sample   []byte // as Session.Sample gives it
	Provider string
	Time     int64  // event time, in microseconds since the Unix epoch
	Count    uint64 // 0 means 1
}

// Add puts a reply into its cluster. It keeps no reference to its slices.
func (m *Miner) Add(r Reply) {
	words := strings.Fields(string(r.Template))
	if len(words) > maxWords {
		words = words[:maxWords]
	}
	n := max(r.Count, 1)
	key := leaf(words)
	c := closest(m.leaves[key], words)
	if c == nil {
		if len(m.all) == maxClusters {
			m.overflow += n
			return
		}
		c = &Cluster{Providers: map[string]uint64{}, First: r.Time, Last: r.Time, words: words}
		m.leaves[key] = append(m.leaves[key], c)
		m.all = append(m.all, c)
	}
	for i, w := range words {
		if c.words[i] != w {
			c.words[i] = Wildcard
		}
	}
	c.Count += n
	c.Providers[r.Provider] += n
	c.First, c.Last = min(c.First, r.Time), max(c.Last, r.Time)
	if len(c.Samples) < maxSamples && !slices.ContainsFunc(c.Samples, func(s string) bool { return s == string(r.Sample) }) {
		c.Samples = append(c.Samples, string(bytes.Clone(r.Sample)))
	}
}

// leaf returns the path of words in the tree.
func leaf(words []string) string {
	var b strings.Builder
	fmt.Fprint(&b, len(words))
	for _, w := range words[:min(prefixWords, len(words))] {
		b.WriteByte(' ')
		b.WriteString(w)
	}
	return b.String()
}

// closest returns the cluster that shares most words, if it shares enough, the
// older of two.
func closest(leaf []*Cluster, words []string) *Cluster {
	var best *Cluster
	most := -1
	for _, c := range leaf {
		equal := 0
		for i, w := range words {
			if c.words[i] == w {
				equal++
			}
		}
		if equal > most && float64(equal) >= similarity*float64(len(words)) {
			best, most = c, equal
		}
	}
	return best
}

// Clusters returns all clusters, the most frequent first, and how many replies
// had a wording for which there was no place.
func (m *Miner) Clusters() (clusters []Cluster, overflow uint64) {
	for _, c := range m.all {
		c.Template = strings.Join(c.words, " ")
		clusters = append(clusters, *c)
	}
	slices.SortStableFunc(clusters, func(a, b Cluster) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Template, b.Template))
	})
	return clusters, m.overflow
}

// draftWords is how many words a draft's phrase has at most: enough to be this
// wording, few enough to be a wording.
const draftWords = 6

// Draft returns a rule for the cluster, to be completed by a person: its phrase
// is the longest run of words that all replies share, its category is for the
// person to say.
func (c Cluster) Draft(id string) string {
	var run, best []string
	for _, w := range append(slices.Clone(c.words), Wildcard) {
		if w == Wildcard || w == "." || w == strings.ToUpper(w) && w != strings.ToLower(w) {
			if len(run) > len(best) {
				best = run
			}
			run = nil
			continue
		}
		run = append(run, w)
	}
	var b strings.Builder
	if len(best) == 0 {
		return fmt.Sprintf("# %s: its replies share no words; look at the samples\n", c.Template)
	}
	fmt.Fprintf(&b, "- id: %s\n  category: unclassified # say which\n  any:\n    - %s\n  examples:\n", id, quoted(strings.Join(best[:min(draftWords, len(best))], " ")))
	for _, s := range c.Samples {
		fmt.Fprintf(&b, "    - %s\n", quoted(s))
	}
	return b.String()
}

// quoted returns a YAML string in single quotes.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
