package classifier

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bouncemeter/bouncemeter/event"
)

func eventOf(text string) *event.Event {
	return &event.Event{Outcome: event.Bounced, Reply: event.Reply{Text: []byte(text)}}
}

// traffic is what a mail log has: the examples of all rules, each with many
// different addresses, hosts, IP addresses and ids, as Postfix writes them.
func traffic(b testing.TB, n int) (*Classifier, []event.Event, int64) {
	c, all := replies(b)
	events := make([]event.Event, n)
	var bytes int
	for i := range events {
		reply := all[i*31%len(all)]
		reply = strings.ReplaceAll(reply, "192.0.2.1", fmt.Sprintf("198.51.100.%d", i%250))
		reply = strings.ReplaceAll(reply, "example.com", fmt.Sprintf("host%d.example.com", i))
		reply += fmt.Sprintf(" - id %xz%d", i*7919, i)
		events[i] = *eventOf(reply)
		events[i].Relay = fmt.Appendf(nil, "mx%d.provider%d.example", i%3, i%50)
		bytes += len(reply)
	}
	return c, events, int64(bytes / n)
}

func BenchmarkClassify(b *testing.B) {
	c, events, size := traffic(b, 20_000)
	b.Run("cached", func(b *testing.B) {
		s := c.NewSession()
		for i := range events {
			s.Classify(&events[i])
		}
		b.SetBytes(size)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			s.Classify(&events[i%len(events)])
		}
	})
	b.Run("uncached", func(b *testing.B) {
		s := c.NewSession()
		b.SetBytes(size)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			var q query
			e := &events[i%len(events)]
			s.who(e, &q)
			s.prepare(e, &q)
			s.evaluate(&q)
		}
	})
	// What can be said of the rules by expressions, the first that matches decides.
	b.Run("expressions", func(b *testing.B) {
		all := exported(b, c)
		b.SetBytes(size)
		for i := 0; b.Loop(); i++ {
			text := events[i%len(events)].Reply.Text
			for _, r := range all {
				if r.Match(text) {
					break
				}
			}
		}
	})
	b.Run("normalise", func(b *testing.B) {
		s := c.NewSession()
		b.SetBytes(size)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			s.text.normalise(events[i%len(events)].Reply.Text, c.t.keep)
		}
	})
}

// With ten times the rules, the work for a reply must stay about the same.
func BenchmarkTenTimesTheRules(b *testing.B) {
	_, events, size := traffic(b, 20_000)
	src := newSource()
	src.readShipped(shipped)
	rules, phrases := len(src.rules), 0
	for _, r := range src.rules {
		phrases += len(r.any)
	}
	var extra strings.Builder
	extra.WriteString("rules:\n")
	for i := range 9 * rules {
		fmt.Fprintf(&extra, "- id: extra_%d\n  category: policy\n  any:\n", i)
		for j := range phrases / rules {
			fmt.Fprintf(&extra, "  - 'filler%s ~ (padding%s|stuffing%s) message'\n", name(i*phrases+j), name(i), name(j))
		}
	}
	src.read("extra.yaml", []byte(extra.String()), true)
	t := compile(src)
	if len(src.faults) > 0 {
		b.Fatal(src.faults.err())
	}
	s := newSession(t, 1)
	b.SetBytes(size)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		var q query
		e := &events[i%len(events)]
		s.who(e, &q)
		s.prepare(e, &q)
		s.evaluate(&q)
	}
}

// name writes n in letters.
func name(n int) string {
	var b []byte
	for ; n > 0; n /= 26 {
		b = append(b, 'a'+byte(n%26))
	}
	return string(b)
}

func BenchmarkNew(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := New(Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDetails(b *testing.B) {
	c, events, size := traffic(b, 20_000)
	s := c.NewSession()
	b.SetBytes(size)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.Details(&events[i%len(events)])
	}
}

// A reply costs no allocation once a session has seen its longest.
func TestClassifyDoesNotAllocate(t *testing.T) {
	c, events, _ := traffic(t, 2000)
	s := c.NewSession()
	buf := make([]byte, 0, maxSample+64)
	i := 0
	run := func() {
		e := &events[i%len(events)]
		s.Classify(e)
		buf = s.Sample(e, buf[:0])
		i++
	}
	for range events {
		run()
	}
	if n := testing.AllocsPerRun(len(events), run); n != 0 {
		t.Errorf("%v allocations a reply, want none", n)
	}
	var q query
	cold := func() {
		e := &events[i%len(events)]
		s.who(e, &q)
		s.prepare(e, &q)
		s.evaluate(&q)
		i++
	}
	for range events {
		cold()
	}
	if n := testing.AllocsPerRun(len(events), cold); n != 0 {
		t.Errorf("%v allocations a reply without the cache, want none", n)
	}
}
