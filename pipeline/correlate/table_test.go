package correlate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/bouncemeter/bouncemeter/event"
)

func at(second int64, e event.Event) *event.Event {
	e.Time = second * 1e6
	e.Host, e.Stream = []byte("mx1"), []byte("postfix")
	if e.QueueID == nil {
		e.QueueID = []byte("4F2A1")
	}
	return &e
}

func from(sender string) event.Event {
	return event.Event{Kind: event.Arrival, SenderKnown: true, Sender: []byte(sender)}
}

func to(recipient string, o event.Outcome, c event.Category) event.Event {
	return event.Event{Kind: event.Attempt, Outcome: o, Recipient: []byte(recipient), Verdict: event.Verdict{Category: c}}
}

func TestSenderComesFromTheArrival(t *testing.T) {
	for _, test := range []struct {
		sender, domain string
		known          bool
	}{
		{"a@Shop.Example", "shop.example", true},
		{"", "", true},
		{"root", "", false}, // no domain: as good as not known
		{`"a@b"@shop.example`, "shop.example", true},
	} {
		tab := New(Config{})
		tab.Apply(at(1, from(test.sender)))
		e := at(2, to("x@example.com", event.Delivered, 0))
		tab.Apply(e)
		if string(e.SenderDomain) != test.domain || e.SenderKnown != test.known || !e.FirstOutcome {
			t.Errorf("sender %q: domain %q, known %v, first %v", test.sender, e.SenderDomain, e.SenderKnown, e.FirstOutcome)
		}
	}
}

func TestRetriesAreNoFirstOutcomes(t *testing.T) {
	tab := New(Config{})
	tab.Apply(at(0, from("a@shop.example")))
	for i, step := range []struct {
		recipient string
		outcome   event.Outcome
		first     bool
	}{
		{"x@example.com", event.Deferred, true},
		{"y@example.com", event.Delivered, true},
		{"x@example.com", event.Deferred, false},
		{"x@example.com", event.Bounced, false},
	} {
		e := at(int64(i), to(step.recipient, step.outcome, event.MailboxFull))
		tab.Apply(e)
		if e.FirstOutcome != step.first {
			t.Errorf("step %d: first outcome %v", i, e.FirstOutcome)
		}
	}
	if _, deferred := tab.Len(); deferred != 0 {
		t.Errorf("%d deferred recipients are remembered after the last outcome", deferred)
	}
}

func TestExpiryNamesTheLastCause(t *testing.T) {
	tab := New(Config{})
	tab.Apply(at(0, from("a@shop.example")))
	tab.Apply(at(1, to("x@example.com", event.Deferred, event.Greylisted)))
	tab.Apply(at(2, to("x@example.com", event.Deferred, event.ConnectionFailed)))
	e := at(3, event.Event{Kind: event.Expiry, Outcome: event.Expired, SenderKnown: true, Sender: []byte("a@shop.example")})
	tab.Apply(e)
	if e.Verdict.Category != event.QueueExpired || e.Verdict.Secondary != event.ConnectionFailed || string(e.SenderDomain) != "shop.example" {
		t.Errorf("verdict %+v, sender domain %q", e.Verdict, e.SenderDomain)
	}
}

func TestAReusedQueueIDIsANewMessage(t *testing.T) {
	tab := New(Config{})
	tab.Apply(at(0, from("a@shop.example")))
	tab.Apply(at(1, event.Event{Kind: event.Removal}))
	e := at(2, to("x@example.com", event.Delivered, 0))
	tab.Apply(e)
	if e.SenderKnown {
		t.Errorf("sender %q of a message that was removed", e.SenderDomain)
	}
	tab.Apply(at(3, from("b@news.example")))
	e = at(4, to("x@example.com", event.Delivered, 0))
	tab.Apply(e)
	if string(e.SenderDomain) != "news.example" {
		t.Errorf("sender domain %q", e.SenderDomain)
	}
}

func TestInstancesAndHostsAreApart(t *testing.T) {
	tab := New(Config{})
	tab.Apply(at(0, from("a@shop.example")))
	for _, other := range []func(*event.Event){
		func(e *event.Event) { e.Host = []byte("mx2") },
		func(e *event.Event) { e.Stream = []byte("postfix-bulk") },
		func(e *event.Event) { e.Host, e.Stream = []byte("mx1postfix"), nil },
	} {
		e := at(1, to("x@example.com", event.Delivered, 0))
		other(e)
		tab.Apply(e)
		if e.SenderKnown {
			t.Errorf("host %s, stream %s: sender %q", e.Host, e.Stream, e.SenderDomain)
		}
	}
}

func TestLifetime(t *testing.T) {
	tab := New(Config{Lifetime: time.Hour})
	tab.Apply(at(0, from("a@shop.example")))
	e := at(3600, to("x@example.com", event.Deferred, event.Greylisted))
	tab.Apply(e)
	if !e.SenderKnown {
		t.Error("forgotten within the lifetime")
	}
	e = at(3600+3601+1, to("x@example.com", event.Deferred, event.Greylisted))
	tab.Apply(e)
	if e.SenderKnown || !e.FirstOutcome {
		t.Errorf("remembered after the lifetime: known %v, first %v", e.SenderKnown, e.FirstOutcome)
	}
}

// What is kept for records is stored, so it is as privacy asks for.
func TestDetails(t *testing.T) {
	for addresses, want := range map[event.Addresses]string{event.KeepAddresses: "a@shop.example", event.DomainOnly: "*@shop.example"} {
		tab := New(Config{Details: true, Track: true, Privacy: event.Privacy{Addresses: addresses}})
		tab.Apply(at(0, event.Event{Kind: event.Arrival, Client: []byte("app[192.0.2.1]")}))
		tab.Apply(at(0, event.Event{Kind: event.Arrival, MessageID: []byte("m1@shop.example")}))
		tab.Apply(at(0, from("a@shop.example")))
		stored := store{}
		tab = restart(t, tab, stored)
		e := at(1, to("x@example.com", event.Delivered, 0))
		tab.Apply(e)
		if string(e.Client) != "app[192.0.2.1]" || string(e.MessageID) != "m1@shop.example" || string(e.Sender) != want || !e.SenderHidden {
			t.Errorf("client %q, message id %q, sender %q", e.Client, e.MessageID, e.Sender)
		}
		for _, v := range stored {
			if addresses == event.DomainOnly && strings.Contains(v, "a@shop") {
				t.Errorf("stored: %q", v)
			}
		}
	}
}

// store is what a ledger keeps.
type store map[uint64]string

// restart commits what changed and resumes from the store alone.
func restart(t interface{ Fatal(...any) }, tab *Table, s store) *Table {
	tab.Changes(
		func(key uint64, value []byte) { s[key] = string(value) },
		func(key uint64) { delete(s, key) },
	)
	fresh := New(tab.config)
	for key, value := range s {
		if err := fresh.Restore(key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	return fresh
}

// A table that is restarted from the ledger at any moments says the same as
// one that never was, and the ledger holds exactly what is alive.
func TestRestartsChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		steady := New(Config{Lifetime: time.Hour})
		restarted := New(Config{Lifetime: time.Hour, Track: true})
		s := store{}
		now := int64(100_000)
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			now += rapid.SampledFrom([]int64{0, 1, 60, 1800, 4000}).Draw(t, "pause")
			var e event.Event
			switch rapid.IntRange(0, 4).Draw(t, "kind") {
			case 0:
				e = from(rapid.SampledFrom([]string{"", "a@one.example", "b@two.example"}).Draw(t, "sender"))
			case 1:
				e = event.Event{Kind: event.Removal}
			case 2:
				e = event.Event{Kind: event.Expiry, Outcome: event.Expired}
			default:
				o := rapid.SampledFrom([]event.Outcome{event.Deferred, event.Deferred, event.Delivered, event.Bounced}).Draw(t, "outcome")
				e = to(rapid.SampledFrom([]string{"x@example.com", "y@example.com"}).Draw(t, "recipient"), o,
					rapid.SampledFrom([]event.Category{event.Greylisted, event.MailboxFull}).Draw(t, "category"))
			}
			e.QueueID = []byte(rapid.SampledFrom([]string{"A1", "B2", "C3"}).Draw(t, "queue id"))
			a, b := at(now, e), at(now, e)
			steady.Apply(a)
			restarted.Apply(b)
			if diff := cmp.Diff(facts(a), facts(b)); diff != "" {
				t.Fatalf("(-steady +restarted)\n%s", diff)
			}
			switch rapid.IntRange(0, 3).Draw(t, "restart") {
			case 0:
				restarted = restart(t, restarted, s)
			case 1:
				restarted.Changes(func(key uint64, value []byte) { s[key] = string(value) }, func(key uint64) { delete(s, key) })
				messages, deferred := restarted.Len()
				if len(s) != messages+deferred {
					t.Fatalf("%d entries are stored, %d messages and %d recipients are alive", len(s), messages, deferred)
				}
			}
		}
	})
}

func facts(e *event.Event) string {
	return fmt.Sprintf("sender %q %v, first %v, secondary %s", e.SenderDomain, e.SenderKnown, e.FirstOutcome, e.Verdict.Secondary)
}

func TestLimitForgetsTheOldest(t *testing.T) {
	tab := New(Config{Limit: 100})
	for i := range int64(101) {
		e := from("a@shop.example")
		e.QueueID = fmt.Appendf(nil, "Q%d", i)
		tab.Apply(at(1000+i, e))
	}
	messages, _ := tab.Len()
	if messages > 100 || messages < 80 {
		t.Errorf("%d messages are remembered", messages)
	}
	if n := tab.Evicted(); n != int64(101-messages) {
		t.Errorf("%d evictions are counted, %d happened", n, 101-messages)
	}
	e := to("x@example.com", event.Delivered, 0)
	e.QueueID = []byte("Q100")
	newest := at(1200, e)
	tab.Apply(newest)
	if !newest.SenderKnown {
		t.Error("the newest message was forgotten")
	}
}

// Forged sender domains are forgotten after their messages.
func TestForgedSendersAreForgotten(t *testing.T) {
	tab := New(Config{})
	for i := range int64(10 * maxIdle) {
		tab.Apply(at(i, from(fmt.Sprintf("a@d%d.example", i))))
		tab.Apply(at(i, event.Event{Kind: event.Removal}))
	}
	if n := len(tab.senders.ids); n > 2*maxIdle {
		t.Errorf("%d sender domains are remembered, and no message", n)
	}
	tab.Apply(at(0, from("a@shop.example")))
	e := at(1, to("x@example.com", event.Delivered, 0))
	tab.Apply(e)
	if string(e.SenderDomain) != "shop.example" {
		t.Errorf("sender domain %q", e.SenderDomain)
	}
}

func FuzzRestore(f *testing.F) {
	tab := New(Config{Details: true, Track: true})
	tab.Apply(at(5, from("a@shop.example")))
	tab.Apply(at(5, to("x@example.com", event.Deferred, event.Greylisted)))
	tab.Changes(func(key uint64, value []byte) { f.Add(key, append([]byte(nil), value...)) }, func(uint64) {})
	f.Fuzz(func(t *testing.T, key uint64, value []byte) {
		_ = New(Config{Details: true}).Restore(key, value) // an error or an entry, never a panic
	})
}

func BenchmarkMessage(b *testing.B) {
	tab := New(Config{Track: true})
	b.ReportAllocs()
	arrival, attempt, removal := at(1, from("a@shop.example")), at(1, to("x@example.com", event.Delivered, 0)), at(1, event.Event{Kind: event.Removal})
	id := []byte("4F2A1B00000")
	for i := 0; b.Loop(); i++ {
		for j := range 8 {
			id[3+j] = 'A' + byte(i>>(3*j))&7
		}
		for _, e := range []*event.Event{arrival, attempt, removal} {
			e.QueueID = id
			e.SenderDomain = nil
			tab.Apply(e)
		}
		if i%100_000 == 0 {
			tab.Changes(func(uint64, []byte) {}, func(uint64) {})
		}
	}
}

// TestMemory states the cost of a message in the queue.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("fills a large table")
	}
	const n = 1_000_000
	before := heap()
	tab := New(Config{Track: true})
	id := make([]byte, 0, 16)
	for i := range n {
		e := from("a@shop.example")
		id = fmt.Appendf(id[:0], "%X", i)
		e.QueueID = id
		tab.Apply(at(int64(1000+i/1000), e))
	}
	tab.Changes(func(uint64, []byte) {}, func(uint64) {})
	perMessage := float64(heap()-before) / n
	t.Logf("%.1f bytes a message", perMessage)
	if perMessage > 48 {
		t.Errorf("%.1f bytes a message, want at most 48", perMessage)
	}
	if messages, _ := tab.Len(); messages != n {
		t.Fatal("messages are missing")
	}
}

// A record that tells all by itself is believed, and leaves nothing behind.
func TestJoinedEventsAreNotRemembered(t *testing.T) {
	tab := New(Config{Track: true})
	for second, first := range []bool{true, false} {
		e := at(int64(second), to("x@example.com", event.Deferred, event.MailboxFull))
		e.Joined, e.FirstOutcome, e.SenderKnown, e.Sender = true, first, true, []byte("a@shop.example")
		tab.Apply(e)
		if e.FirstOutcome != first || string(e.SenderDomain) != "shop.example" {
			t.Errorf("first outcome %v, want %v; sender domain %q", e.FirstOutcome, first, e.SenderDomain)
		}
	}
	e := at(3, event.Event{Kind: event.Expiry, Outcome: event.Expired, Joined: true, FirstOutcome: true, Recipient: []byte("x@example.com")})
	tab.Apply(e)
	if e.Verdict.Category != event.QueueExpired || !e.FirstOutcome {
		t.Errorf("verdict %+v", e.Verdict)
	}
	if messages, deferred := tab.Len(); messages+deferred+tab.Pending() != 0 {
		t.Errorf("%d messages, %d recipients, %d changes are kept", messages, deferred, tab.Pending())
	}
}
