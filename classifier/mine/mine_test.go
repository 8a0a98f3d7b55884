package mine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bouncemeter/bouncemeter/classifier"
	"github.com/bouncemeter/bouncemeter/event"
)

func add(m *Miner, s *classifier.Session, text, provider string, at int64) {
	e := event.Event{Reply: event.Reply{Text: []byte(text)}}
	m.Add(Reply{Template: s.Template(&e, nil), Sample: s.Sample(&e, nil), Provider: provider, Time: at})
}

func TestClusters(t *testing.T) {
	c, err := classifier.New(classifier.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := c.NewSession()
	m := New()
	for i := range 50 {
		add(m, s, fmt.Sprintf("550 blorp %d: the frobnicator of <user%d@example.com> is asleep on %s", i, i, []string{"monday", "friday"}[i%2]), "other", int64(i))
	}
	add(m, s, "450 nothing like it", "gmail", 7)
	clusters, overflow := m.Clusters()
	if len(clusters) != 2 || overflow != 0 {
		t.Fatalf("%d clusters, %d without a place, want 2 and 0: %v", len(clusters), overflow, clusters)
	}
	top := clusters[0]
	if want := "blorp N the frobnicator of ADDR is asleep on " + Wildcard; top.Template != want || top.Count != 50 || top.First != 0 || top.Last != 49 {
		t.Errorf("got %+v, want 50 of %q from 0 to 49", top, want)
	}
	if len(top.Samples) != maxSamples || top.Providers["other"] != 50 || clusters[1].Providers["gmail"] != 1 {
		t.Errorf("samples %q, providers %v", top.Samples, top.Providers)
	}

	// The draft, once it has a category, is a rule that knows the samples.
	draft := strings.Replace(top.Draft("drafted"), "category: unclassified", "category: policy", 1)
	file := filepath.Join(t.TempDir(), "draft.yaml")
	if err := os.WriteFile(file, []byte("rules:\n"+draft), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err = classifier.New(classifier.Options{RuleFiles: []string{file}})
	if err != nil {
		t.Fatalf("%v\n%s", err, draft)
	}
	for _, f := range c.Test() {
		t.Error(f)
	}
}

func TestDraftWithoutWords(t *testing.T) {
	m := New()
	m.Add(Reply{Template: []byte("N HOST N")})
	clusters, _ := m.Clusters()
	if d := clusters[0].Draft("x"); !strings.HasPrefix(d, "#") {
		t.Errorf("a draft without words: %s", d)
	}
}

// Whatever comes, every reply is counted once, memory is bounded, and a
// template has the number of words of all its replies.
func TestEveryReplyIsCounted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := New()
		total := uint64(0)
		for _, words := range rapid.SliceOf(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "N"}), 0, 6)).Draw(t, "replies") {
			m.Add(Reply{Template: []byte(strings.Join(words, " "))})
			total++
		}
		clusters, sum := m.Clusters()
		for _, c := range clusters {
			sum += c.Count
		}
		if sum != total {
			t.Fatalf("%d counted of %d", sum, total)
		}
	})
}

func TestOverflow(t *testing.T) {
	m := New()
	for i := range maxClusters + 5 {
		m.Add(Reply{Template: fmt.Appendf(nil, "word%d", i), Count: 2})
	}
	if clusters, overflow := m.Clusters(); len(clusters) != maxClusters || overflow != 10 {
		t.Errorf("%d clusters, %d without a place, want %d and 10", len(clusters), overflow, maxClusters)
	}
}
