package correlate

import (
	"testing"

	"github.com/bouncemeter/bouncemeter/event"
)

// An expiry takes its cause from the last deferral. Where none is known, it is
// what the classifier has read from the expiry's own record.
func TestExpiryNamesItsCause(t *testing.T) {
	own := func(category, secondary event.Category) event.Event {
		return event.Event{
			Kind: event.Expiry, Outcome: event.Expired, Recipient: []byte("x@example.com"),
			Verdict: event.Verdict{Category: category, Secondary: secondary},
		}
	}
	for _, test := range []struct {
		name                      string
		category, secondary, want event.Category
	}{
		{"no text", event.Unset, event.Unset, event.Unset},
		{"expired, last reply …", event.QueueExpired, event.RateLimited, event.RateLimited},
		{"the last reply", event.MailboxFull, event.Unset, event.MailboxFull},
		{"nothing known", event.Unclassified, event.Unset, event.Unset},
	} {
		e := own(test.category, test.secondary)
		New(Config{}).Apply(&e)
		if e.Verdict.Category != event.QueueExpired || e.Verdict.Secondary != test.want || e.Verdict.Persistence != event.Permanent {
			t.Errorf("%s: %+v", test.name, e.Verdict)
		}
	}

	tab := New(Config{})
	deferral := at(1, to("x@example.com", event.Deferred, event.Greylisted))
	tab.Apply(deferral)
	e := own(event.RateLimited, event.Unset)
	e.QueueID, e.Host, e.Stream, e.Time = deferral.QueueID, deferral.Host, deferral.Stream, 2e6
	tab.Apply(&e)
	if e.Verdict.Secondary != event.Greylisted {
		t.Errorf("after a deferral: %+v", e.Verdict)
	}
}
