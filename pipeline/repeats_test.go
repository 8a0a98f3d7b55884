package pipeline

import (
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/pipeline/correlate"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// An event that is told again is counted as such, is no attempt, and has no
// record.
func TestRepeatedEvents(t *testing.T) {
	records := &memoryRecords{durable: map[string]int{}}
	writer := &memoryWriter{m: records}
	j := &joiner{
		table:   correlate.New(correlate.Config{EventIDs: 100}),
		counter: window.NewCounter(window.Config{Span: 60, CoarseSpan: 3600, SenderDomains: window.NewNames(10), RecipientDomains: window.NewNames(10), Hosts: window.NewNames(10), Streams: window.NewNames(10), MaxSeries: 10}),
		records: []RecordWriter{writer},
	}
	b := &event.Batch{Reference: time.Unix(1790000000, 0), Lines: []event.Line{{Offset: 0}, {Offset: 10}, {Offset: 20}}}
	j.begin(b)
	for line, id := range []string{"1", "2", "1"} {
		events := []event.Event{{Kind: event.Attempt, Outcome: event.Delivered, Time: 1790000000e6, Delay: -1, ID: []byte(id), Recipient: []byte("ann@x.example")}}
		j.events(b, events)
		j.hand(b, line, events)
	}
	if err := writer.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := j.counter.Delta()
	var attempts int64
	for _, c := range d.Counts {
		attempts += c.Attempts
	}
	if attempts != 2 || d.Lines.Repeated != 1 || len(records.durable) != 2 {
		t.Errorf("%d attempts, %d repeated, records %v", attempts, d.Lines.Repeated, records.durable)
	}
}
