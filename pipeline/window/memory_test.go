package window

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/bouncemeter/bouncemeter/event"
)

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// What a series takes while it is known, and with a count in one window.
func TestMemory(t *testing.T) {
	const senders, hosts, streams = 1000, 10, 10
	const n = senders * hosts * streams
	c := testConfig()
	c.SenderDomains, c.MaxSeries = NewNames(senders), 2*n
	k := NewCounter(c)
	add := func(sender, host, stream int) {
		k.Add(&event.Event{
			Kind: event.Attempt, Outcome: event.Delivered, Time: 1000e6, SenderKnown: true, SenderDomain: fmt.Appendf(nil, "s%d.example", sender),
			Host: fmt.Appendf(nil, "mx%d", host), Stream: fmt.Appendf(nil, "stream%d", stream), Recipient: []byte("a@one.example"), Provider: "other",
		})
	}
	for i := range senders {
		add(i, 0, 0) // names are no part of a series
	}
	before := heap()
	for i := range n {
		add(i%senders, i/senders%hosts, i/senders/hosts)
	}
	counted := float64(heap()-before) / n
	if got := len(k.Delta().Counts); got != n {
		t.Errorf("%d series, want %d", got, n)
	}
	k.Delta() // the memory for deltas is used in turn
	kept := float64(heap()-before) / n
	runtime.KeepAlive(k)
	t.Logf("%.0f bytes a series, %.0f with a count that is not committed yet", kept, counted)
	if kept > 96 || counted > 180 {
		t.Error("want at most 96 and 180")
	}
}
