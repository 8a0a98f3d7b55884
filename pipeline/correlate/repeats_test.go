package correlate

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/bouncemeter/bouncemeter/event"
)

func told(id, recipient string) *event.Event {
	return &event.Event{Kind: event.Attempt, Outcome: event.Bounced, ID: []byte(id), Recipient: []byte(recipient)}
}

func TestRepeated(t *testing.T) {
	const day = 24 * 60 * 60
	table := New(Config{EventIDs: 1000})
	expiry := told("1", "ann@x.example")
	expiry.Kind, expiry.Outcome = event.Expiry, event.Expired
	for i, test := range []struct {
		e    *event.Event
		now  int64
		want bool
	}{
		{told("1", "ann@x.example"), 10 * day, false},
		{told("1", "ann@x.example"), 10 * day, true},
		{told("1", "bob@x.example"), 10 * day, false}, // one record, two recipients
		{expiry, 10 * day, false},                     // one record, two events
		{told("2", "ann@x.example"), 10 * day, false},
		{told("", "ann@x.example"), 10 * day, false},
		{told("", "ann@x.example"), 10 * day, false}, // nothing is known of it
		{told("1", "ann@x.example"), 12 * day, true},
		{told("1", "ann@x.example"), 9 * day, true}, // the clock went back
		{told("1", "ann@x.example"), 12*day + 1, false},
		{told("1", "ann@x.example"), 14 * day, true},
	} {
		if got := table.Repeated(test.e, test.now); got != test.want {
			t.Errorf("%d: %v, want %v", i, got, test.want)
		}
	}
	none := New(Config{})
	for range 2 {
		if none.Repeated(told("1", "ann@x.example"), 0) {
			t.Error("a table without ids knows one")
		}
	}
}

// What the ledger holds is what is known after a restart.
func TestRepeatedAfterARestart(t *testing.T) {
	entries := make(map[uint64][]byte)
	restart := func(old *Table) *Table {
		if old != nil {
			old.Changes(
				func(key uint64, value []byte) { entries[key] = bytes.Clone(value) },
				func(key uint64) { delete(entries, key) },
			)
		}
		table := New(Config{EventIDs: 1000, Track: true})
		for key, value := range entries {
			if err := table.Restore(key, value); err != nil {
				t.Fatal(err)
			}
		}
		return table
	}
	table := restart(nil)
	now := int64(1790000000)
	for i := range 100 {
		table.Repeated(told(fmt.Sprint(i), "ann@x.example"), now)
	}
	table = restart(table)
	for i := range 100 {
		if !table.Repeated(told(fmt.Sprint(i), "ann@x.example"), now+60) {
			t.Fatalf("%d is forgotten", i)
		}
	}
	if len(entries) != 100 || table.Pending() != 0 {
		t.Errorf("%d entries, %d changes pending", len(entries), table.Pending())
	}
	// Three days later they are gone from the ledger, too.
	table.Repeated(told("later", "ann@x.example"), now+3*24*60*60)
	table = restart(table)
	if len(entries) != 1 || table.events.n != 1 {
		t.Errorf("%d entries, %d in memory", len(entries), table.events.n)
	}
	if err := table.Restore(7, []byte{entryEvent, 1, 2}); err == nil {
		t.Error("a cut entry was taken")
	}
}

func TestEventIDsAreBounded(t *testing.T) {
	table := New(Config{EventIDs: 1000})
	for i := range 10_000 {
		if table.Repeated(told(fmt.Sprint(i), "ann@x.example"), int64(1790000000+i)) {
			t.Fatal("an id is known before it came")
		}
		if table.events.n > 1000 {
			t.Fatalf("%d ids", table.events.n)
		}
	}
	if table.Evicted() < 9000 {
		t.Error("what was forgotten is not counted")
	}
	if !table.Repeated(told("9500", "ann@x.example"), 1790010000) {
		t.Error("one of the last ids is forgotten")
	}
}
