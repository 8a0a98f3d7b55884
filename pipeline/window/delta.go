package window

import "github.com/bouncemeter/bouncemeter/event"

// Series is one combination of the dimensions that failures are counted by.
// A Counter hands out one pointer per combination for the life of the process,
// so stores may remember their row by the pointer.
type Series struct {
	Outcome  event.Outcome
	Category event.Category // Unset for delivered
	// Secondary is set for expired messages only: what kept them in the queue.
	Secondary    event.Category
	SenderDomain string // see the constants below for those that are no domain
	*Route              // never nil; the same one for many series
}

// Route is which way mail goes: from which MTA of ours to whom. There are few.
type Route struct{ Provider, Host, Stream string }

// What stands in place of a name that is not a domain. No domain looks alike.
const (
	NullSender = ""          // the null sender: bounces that we sent
	Unknown    = "(unknown)" // the record does not tell and no other line did
	Other      = "(other)"   // folded: the limit for this dimension was reached
)

// Count is what one series did in one minute of event time.
type Count struct {
	Series *Series
	Start  int64 // Unix seconds, a multiple of Span
	// Attempts counts tries (for Expired: messages given up). Firsts counts
	// those that were the first outcome of their recipient, retries left out.
	Attempts, Firsts int64
	// Late is how many of Firsts came after the lane had moved on by more than
	// the lateness allowed (Config.Lateness). The rest of Firsts depends on the
	// lane's lines only, not on when they are looked at, and is final once the
	// lane is past the window: it is what detectors judge.
	Late int64
}

// DomainCount is what happened at one recipient domain in one hour.
type DomainCount struct {
	Start    int64 // Unix seconds, a multiple of 3600
	Domain   string
	Outcome  event.Outcome
	Category event.Category
	Attempts int64
}

// DelayBounds are the upper bounds, in seconds, of the delay buckets; a last
// bucket takes what is longer.
var DelayBounds = [...]float64{1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 43200, 86400, 172800, 432000}

// DelayCount is how long attempts took in one hour.
type DelayCount struct {
	Start    int64 // Unix seconds, a multiple of 3600
	Provider string
	Outcome  event.Outcome
	Buckets  [len(DelayBounds) + 1]int64 // not cumulative
	Micros   int64                       // sum of delays
}

// TemplateCount is how often one wording of a failure was seen at one provider and
// for one category.
type TemplateCount struct {
	Hash     uint64 // event.Verdict.Template
	Category event.Category
	Provider string
	Rule     string
	Text     string // the first sample seen, redacted
	Attempts int64
	// First and Last are event times in Unix seconds.
	First, Last int64
}

// Lines tells what a lane's lines were. They only grow.
type Lines struct {
	Read      int64 // all lines
	Malformed int64 // records that could not be read
	Truncated int64 // longer than the limit
	Probes    int64 // address probes, which count as no attempt
	Rejected  int64 // clients that our own server refused
	Lost      int64 // bytes that were gone before they could be read
	Unmatched int64 // attempts whose sender no earlier line told
	Evicted   int64 // queue ids forgotten because the limit was reached
	Folded    int64 // attempts whose domain was folded into Other
	Future    int64 // events dated ahead of the clock
	Repeated  int64 // events that were told again and not counted again
}

// Add adds o to l.
func (l *Lines) Add(o Lines) {
	l.Read += o.Read
	l.Malformed += o.Malformed
	l.Truncated += o.Truncated
	l.Probes += o.Probes
	l.Rejected += o.Rejected
	l.Lost += o.Lost
	l.Unmatched += o.Unmatched
	l.Evicted += o.Evicted
	l.Folded += o.Folded
	l.Future += o.Future
	l.Repeated += o.Repeated
}

// Delta is what a lane has counted since its last commit: additions, never
// absolute values. Each slice has at most one element per key.
type Delta struct {
	Counts    []Count
	Domains   []DomainCount
	Delays    []DelayCount
	Templates []TemplateCount
	Lines     Lines
	// First and Last are the event times, in Unix seconds, of the earliest and
	// latest attempt or expiry of the delta; both zero if there was none.
	First, Last int64
}
