package correlate

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/bouncemeter/bouncemeter/event"
)

func starting(at int64, number, queueID, recipient string) *event.Event {
	return &event.Event{
		Kind: event.Arrival, Time: at * 1e6, Host: []byte("mx1"), DeliveryID: []byte(number),
		QueueID: []byte(queueID), Recipient: []byte(recipient),
	}
}

func result(at int64, number string, outcome event.Outcome, category event.Category) *event.Event {
	return &event.Event{
		Kind: event.Attempt, Outcome: outcome, Time: at * 1e6, Host: []byte("mx1"), DeliveryID: []byte(number),
		Verdict: event.Verdict{Category: category},
	}
}

func sentBy(at int64, queueID, sender string) *event.Event {
	return &event.Event{
		Kind: event.Arrival, Time: at * 1e6, Host: []byte("mx1"), QueueID: []byte(queueID), SenderKnown: true, Sender: []byte(sender),
	}
}

// A result by number gets recipient, message and sender, once, and a verdict
// that may depend on the recipient.
func TestDeliveryNumbers(t *testing.T) {
	var judged []string
	table := New(Config{Classify: func(e *event.Event) { judged = append(judged, string(e.Recipient)) }})
	table.Apply(sentBy(1, "93", "news@shop.example"))
	table.Apply(starting(1, "7", "93", "ann@x.example"))
	table.Apply(starting(1, "8", "93", "bob@y.example"))
	e := result(2, "8", event.Bounced, event.UserUnknown)
	table.Apply(e)
	if string(e.QueueID) != "93" || string(e.Recipient) != "bob@y.example" || string(e.SenderDomain) != "shop.example" || !e.FirstOutcome {
		t.Errorf("result 8 is %q of %q by %q, first %v", e.Recipient, e.QueueID, e.SenderDomain, e.FirstOutcome)
	}
	e = result(2, "8", event.Bounced, event.UserUnknown)
	table.Apply(e)
	if e.Recipient != nil {
		t.Errorf("a second result 8 has the recipient %q", e.Recipient)
	}
	if fmt.Sprint(judged) != "[bob@y.example]" {
		t.Errorf("judged anew: %v", judged)
	}
}

// The expiry in the record of the last deferral ends that delivery's message,
// for the cause of that deferral.
func TestExpiryByNumber(t *testing.T) {
	table := New(Config{})
	table.Apply(sentBy(1, "93", "news@shop.example"))
	table.Apply(starting(1, "7", "93", "ann@x.example"))
	table.Apply(result(2, "7", event.Deferred, event.Greylisted))
	e := &event.Event{Kind: event.Expiry, Outcome: event.Expired, Time: 2e6, Host: []byte("mx1"), DeliveryID: []byte("7")}
	table.Apply(e)
	if e.Verdict.Category != event.QueueExpired || e.Verdict.Secondary != event.Greylisted || string(e.SenderDomain) != "shop.example" {
		t.Errorf("%v because of %v for %q", e.Verdict.Category, e.Verdict.Secondary, e.SenderDomain)
	}
	unknown := &event.Event{Kind: event.Expiry, Outcome: event.Expired, Time: 2e6, Host: []byte("mx1"), DeliveryID: []byte("8")}
	table.Apply(unknown)
	if unknown.Verdict.Category != event.QueueExpired || unknown.QueueID != nil {
		t.Errorf("unknown: %v of %q", unknown.Verdict.Category, unknown.QueueID)
	}
}

// A table that stops at any place and goes on from what it stored says the same.
func TestDeliveriesSurviveARestart(t *testing.T) {
	stored := map[uint64][]byte{}
	table := New(Config{Track: true})
	restart := func() {
		table.Changes(
			func(key uint64, value []byte) { stored[key] = bytes.Clone(value) },
			func(key uint64) { delete(stored, key) },
		)
		table = New(Config{Track: true})
		for key, value := range stored {
			if err := table.Restore(key, value); err != nil {
				t.Fatal(err)
			}
		}
	}
	table.Apply(sentBy(1, "93", "news@shop.example"))
	table.Apply(starting(1, "7", "93", "ann@x.example"))
	local := starting(1, "8", "93", "bob@mx1.example")
	local.Local = true
	table.Apply(local)
	restart()
	e := result(2, "8", event.Delivered, event.Unset)
	table.Apply(e)
	if string(e.Recipient) != "bob@mx1.example" || !e.Local || string(e.SenderDomain) != "shop.example" {
		t.Errorf("after a restart %q, local %v, by %q", e.Recipient, e.Local, e.SenderDomain)
	}
	restart()
	e = result(3, "8", event.Delivered, event.Unset)
	table.Apply(e)
	if e.Recipient != nil {
		t.Errorf("a delivery that ended before the restart is back: %q", e.Recipient)
	}
	if err := table.Restore(5, []byte{entryDelivery, 0}); err == nil {
		t.Error("a value that is too short was taken")
	}
}

// However many deliveries never end, memory stays bounded.
func TestDeliveriesAreBounded(t *testing.T) {
	table := New(Config{})
	for i := range 2 * maxDeliveries {
		table.Apply(starting(int64(i), fmt.Sprint(i), "93", "ann@x.example"))
	}
	if n := len(table.deliveries.all); n > maxDeliveries {
		t.Errorf("%d deliveries are remembered", n)
	}
	e := result(2*maxDeliveries, fmt.Sprint(2*maxDeliveries-1), event.Delivered, event.Unset)
	table.Apply(e)
	if e.Recipient == nil {
		t.Error("the youngest was forgotten")
	}
}

// What our own MTA defers again without a word has the cause of before, and
// leaves it as it is.
func TestRepeatWithoutText(t *testing.T) {
	table := New(Config{})
	attempt := func(repeat bool, category event.Category) *event.Event {
		return &event.Event{
			Kind: event.Attempt, Outcome: event.Deferred, Time: 1e6, Host: []byte("mx1"), QueueID: []byte("93"),
			Recipient: []byte("ann@x.example"), Repeat: repeat, Verdict: event.Verdict{Category: category},
		}
	}
	table.Apply(attempt(false, event.Greylisted))
	e := attempt(true, event.Unclassified)
	table.Apply(e)
	if e.Verdict.Category != event.Greylisted || e.FirstOutcome {
		t.Errorf("%v, first %v", e.Verdict.Category, e.FirstOutcome)
	}
	end := &event.Event{Kind: event.Expiry, Outcome: event.Expired, Time: 2e6, Host: []byte("mx1"), QueueID: []byte("93")}
	table.Apply(end)
	if end.Verdict.Secondary != event.Greylisted {
		t.Errorf("expired because of %v", end.Verdict.Secondary)
	}
}
