package classifier

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

func BenchmarkTmpCorpus(b *testing.B) {
	f, _ := os.Open(os.Getenv("CORPUS"))
	c, err := New(Options{})
	if err != nil {
		b.Fatal(err)
	}
	var events []event.Event
	n := 0
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		var r struct{ Text string }
		json.Unmarshal(sc.Bytes(), &r)
		events = append(events, event.Event{Reply: event.Reply{Text: []byte(r.Text)}, Outcome: event.Bounced})
		n += len(r.Text)
	}
	b.Run("cold", func(b *testing.B) {
		s := c.NewSession()
		var q query
		b.ReportAllocs()
		b.SetBytes(int64(n / len(events)))
		for i := range b.N {
			e := &events[i%len(events)]
			s.prepare(e, &q)
			s.evaluate(&q)
		}
	})
	b.Run("normalise", func(b *testing.B) {
		s := c.NewSession()
		var q query
		b.ReportAllocs()
		b.SetBytes(int64(n / len(events)))
		for i := range b.N {
			e := &events[i%len(events)]
			s.prepare(e, &q)
		}
	})
	b.Run("cached", func(b *testing.B) {
		s := c.NewSession()
		b.ReportAllocs()
		b.SetBytes(int64(n / len(events)))
		for i := range b.N {
			s.Classify(&events[i%len(events)])
		}
	})
	b.Run("parse", func(b *testing.B) {
		for range b.N {
			s := newSource()
			s.readShipped(shipped)
		}
	})
	b.Run("new", func(b *testing.B) {
		for range b.N {
			New(Options{})
		}
	})
}

var _ = time.Now
