package window

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/bouncemeter/bouncemeter/event"
)

func testConfig() Config {
	return Config{
		Span: 60, CoarseSpan: 3600,
		SenderDomains: NewNames(100), RecipientDomains: NewNames(100), Hosts: NewNames(10), Streams: NewNames(10),
		Sample: func(e *event.Event, dst []byte) []byte { return append(dst, e.Reply.Text...) },
	}
}

// anEvent draws an attempt or expiry of a small world, so that keys collide.
func anEvent(t *rapid.T) event.Event {
	e := event.Event{
		Kind:         event.Attempt,
		Attempts:     rapid.SampledFrom([]uint32{0, 0, 0, 1, 2, math.MaxUint16, math.MaxUint32}).Draw(t, "attempts"),
		Time:         rapid.OneOf(rapid.Int64Range(0, 3*3600), rapid.SampledFrom([]int64{0, 59, 60, 3600})).Draw(t, "second") * 1e6,
		Delay:        rapid.Int64Range(-1, 1e12).Draw(t, "delay"),
		Host:         []byte(rapid.SampledFrom([]string{"mx1", "mx2"}).Draw(t, "host")),
		Stream:       []byte(rapid.SampledFrom([]string{"postfix", "bulk"}).Draw(t, "stream")),
		SenderKnown:  rapid.Bool().Draw(t, "known"),
		SenderDomain: []byte(rapid.SampledFrom([]string{"", "shop.example", "SHOP.example", "news.example"}).Draw(t, "sender")),
		Recipient:    []byte("a@" + rapid.SampledFrom([]string{"one.example", "two.example"}).Draw(t, "recipient")),
		Outcome:      rapid.SampledFrom([]event.Outcome{event.Delivered, event.Deferred, event.Bounced}).Draw(t, "outcome"),
		FirstOutcome: rapid.Bool().Draw(t, "first"),
		Provider:     rapid.SampledFrom([]string{"gmail", "other"}).Draw(t, "provider"),
	}
	if rapid.Bool().Draw(t, "place") {
		e.Place = event.PlaceOf(e.Host, e.Stream)
	}
	if rapid.IntRange(0, 9).Draw(t, "expiry") == 0 {
		e.Kind, e.Outcome, e.Recipient = event.Expiry, event.Expired, nil
		e.Verdict = event.Verdict{Category: event.QueueExpired, Secondary: event.MailboxFull}
	} else if e.Outcome != event.Delivered {
		e.Verdict.Category = rapid.SampledFrom([]event.Category{event.SPFFailed, event.UserUnknown}).Draw(t, "category")
		e.Verdict.Template = rapid.Uint64Range(1, 2).Draw(t, "wording")
		e.Reply.Text = []byte("550 no")
	}
	return e
}

// sum adds a delta up by readable keys, which is what a ledger makes of it.
func sum(into map[string]int64, d *Delta) {
	for _, c := range d.Counts {
		key := fmt.Sprintf("count %d %s %s %s %s %s %s %s", c.Start, c.Series.Outcome, c.Series.Category, c.Series.Secondary,
			c.Series.Provider, c.Series.SenderDomain, c.Series.Host, c.Series.Stream)
		into[key+" attempts"] += c.Attempts
		into[key+" firsts"] += c.Firsts
	}
	for _, c := range d.Domains {
		into[fmt.Sprintf("domain %d %s %s %s", c.Start, c.Domain, c.Outcome, c.Category)] += c.Attempts
	}
	for _, c := range d.Delays {
		into[fmt.Sprintf("delay %d %s %s", c.Start, c.Provider, c.Outcome)] += c.Micros
		for i, n := range c.Buckets {
			into[fmt.Sprintf("delay %d %s %s %d", c.Start, c.Provider, c.Outcome, i)] += n
		}
	}
	for _, c := range d.Templates {
		into[fmt.Sprintf("template %d %s %s %s", c.Hash, c.Provider, c.Category, c.Text)] += c.Attempts
	}
	into["unmatched"] += d.Lines.Unmatched
}

// model counts attempts and recipient domains as plainly as can be.
func model(into map[string]int64, e *event.Event) {
	n, seconds := int64(max(e.Attempts, 1)), e.Time/1e6
	sender := strings.ToLower(string(e.SenderDomain))
	if !e.SenderKnown {
		sender = Unknown
	}
	key := fmt.Sprintf("count %d %s %s %s %s %s %s %s", seconds/60*60, e.Outcome, e.Verdict.Category, e.Verdict.Secondary,
		e.Provider, sender, e.Host, e.Stream)
	into[key+" attempts"] += n
	if e.FirstOutcome {
		into[key+" firsts"]++
	}
	if e.Kind == event.Attempt {
		into[fmt.Sprintf("domain %d %s %s %s", seconds/3600*3600, e.RecipientDomain(), e.Outcome, e.Verdict.Category)] += n
	}
}

// However the events are cut into deltas, and in whatever order they come, the
// deltas add up to the same counts, which are those of the events.
func TestDeltasAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.SliceOfN(rapid.Custom(anEvent), 1, 60).Draw(t, "events")
		whole, plain := map[string]int64{}, map[string]int64{}
		one := NewCounter(testConfig())
		for i := range events {
			one.Add(&events[i])
			model(plain, &events[i])
		}
		sum(whole, one.Delta())
		modelled := func(s string, n int64) bool {
			return n == 0 || !strings.HasPrefix(s, "count ") && !strings.HasPrefix(s, "domain ")
		}
		if diff := cmp.Diff(plain, without(whole, modelled)); diff != "" {
			t.Fatalf("the whole differs from the events (-events +whole):\n%s", diff)
		}

		pieces := map[string]int64{}
		many := NewCounter(testConfig())
		for _, i := range rapid.Permutation(slices.Collect(seq(len(events)))).Draw(t, "order") {
			many.Add(&events[i])
			if rapid.IntRange(0, 4).Draw(t, "cut") == 0 {
				sum(pieces, many.Delta())
			}
		}
		sum(pieces, many.Delta())
		drop := func(s string, n int64) bool { return n == 0 }
		if diff := cmp.Diff(without(whole, drop), without(pieces, drop)); diff != "" {
			t.Fatalf("the pieces differ from the whole (-whole +pieces):\n%s", diff)
		}
	})
}

func seq(n int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := range n {
			if !yield(i) {
				return
			}
		}
	}
}

func without(m map[string]int64, drop func(string, int64) bool) map[string]int64 {
	out := map[string]int64{}
	for k, v := range m {
		if !drop(k, v) {
			out[k] = v
		}
	}
	return out
}

func TestWindowsAndDimensions(t *testing.T) {
	k := NewCounter(testConfig())
	e := event.Event{
		Kind: event.Attempt, Outcome: event.Bounced, Time: 119_999_999, Delay: 3e6,
		SenderKnown: true, SenderDomain: []byte("Shop.Example"), Recipient: []byte("x@Gmail.com"),
		Provider: "gmail", FirstOutcome: true, Verdict: event.Verdict{Category: event.SPFFailed},
	}
	k.Add(&e)
	e.Time, e.FirstOutcome = 120_000_000, false
	k.Add(&e)
	d := k.Delta()
	if len(d.Counts) != 2 || d.Counts[0].Start != 60 || d.Counts[1].Start != 120 {
		t.Fatalf("windows: %+v", d.Counts)
	}
	if d.Counts[0].Series != d.Counts[1].Series || d.Counts[0].Series.SenderDomain != "shop.example" {
		t.Errorf("series: %+v, %+v", d.Counts[0].Series, d.Counts[1].Series)
	}
	if d.Counts[0].Firsts != 1 || d.Counts[1].Firsts != 0 {
		t.Errorf("firsts: %+v", d.Counts)
	}
	if d.First != 119 || d.Last != 120 {
		t.Errorf("first %d, last %d", d.First, d.Last)
	}
	if len(d.Domains) != 1 || d.Domains[0].Domain != "gmail.com" || d.Domains[0].Attempts != 2 {
		t.Errorf("domains: %+v", d.Domains)
	}
	if len(d.Delays) != 1 || d.Delays[0].Buckets[2] != 2 { // 2.5 < 3 <= 5
		t.Errorf("delays: %+v", d.Delays)
	}
}

// What is older than the minutes, or the hours, that are kept is counted by the
// hour, or the day, from when that is known on; and nothing else about it changes.
func TestKeep(t *testing.T) {
	const day, hours, minutes = 86400, 20 * 86400, 25*86400 + 7*3600
	times := []int64{
		hours - day, hours - 1, // by the day
		hours, hours + 3599, minutes - 1, // by the hour
		minutes, minutes + 59, minutes + 60, // by the minute
	}
	k := NewCounter(testConfig())
	add := func() {
		for _, at := range times {
			k.Add(&event.Event{
				Kind: event.Attempt, Outcome: event.Delivered, Time: at * 1e6, FirstOutcome: true, SenderKnown: true,
				SenderDomain: []byte("shop.example"), Recipient: []byte("a@one.example"), Provider: "other",
			})
		}
	}
	starts := func(d *Delta) (counts, domains, delays map[int64]int64) {
		counts, domains, delays = map[int64]int64{}, map[int64]int64{}, map[int64]int64{}
		for _, c := range d.Counts {
			counts[c.Start] += c.Attempts
			if c.Firsts != c.Attempts {
				t.Errorf("%d firsts of %d", c.Firsts, c.Attempts)
			}
		}
		for _, c := range d.Domains {
			domains[c.Start] += c.Attempts
		}
		for _, c := range d.Delays {
			for _, n := range c.Buckets {
				delays[c.Start] += n
			}
		}
		return counts, domains, delays
	}
	for _, before := range []bool{false, true} {
		wantCounts := map[int64]int64{hours - day: 2, hours: 2, minutes - 3600: 1, minutes: 2, minutes + 60: 1}
		wantCoarse := map[int64]int64{hours - day: 2, hours: 2, minutes - 3600: 1, minutes: 3}
		if before { // some are counted before it is known
			add()
			for _, at := range times {
				wantCounts[at/60*60]++
				wantCoarse[at/3600*3600]++
			}
		}
		k.Keep(minutes, hours)
		add()
		d := k.Delta()
		counts, domains, delays := starts(d)
		for what, diff := range map[string]string{
			"counts": cmp.Diff(wantCounts, counts), "domains": cmp.Diff(wantCoarse, domains), "delays": cmp.Diff(wantCoarse, delays),
		} {
			if diff != "" {
				t.Errorf("%s, known later %v (-want +got)\n%s", what, before, diff)
			}
		}
		if d.First != times[0] || d.Last != times[len(times)-1] {
			t.Errorf("from %d to %d, want %d to %d", d.First, d.Last, times[0], times[len(times)-1])
		}
		k.Keep(math.MinInt64, math.MinInt64)
	}
}

// What is remembered beside the counts is in them however much it is.
func TestManyAttempts(t *testing.T) {
	k := NewCounter(testConfig())
	e := event.Event{
		Kind: event.Attempt, Outcome: event.Delivered, Delay: -1, SenderKnown: true, SenderDomain: []byte("shop.example"),
		Recipient: []byte("x@one.example"), FirstOutcome: true,
	}
	const n = 3*math.MaxUint16 + 7
	for range n {
		k.Add(&e)
	}
	d := k.Delta()
	if c := d.Counts[0]; c.Attempts != n || c.Firsts != n || d.Domains[0].Attempts != n {
		t.Errorf("%d attempts, %d firsts, %d of the domain, want %d", c.Attempts, c.Firsts, d.Domains[0].Attempts, n)
	}
}

// Nothing is lost when more names come than are remembered.
func TestForgottenSpellings(t *testing.T) {
	c := testConfig()
	c.RecipientDomains = NewNames(10)
	k := NewCounter(c)
	const n = 2*localLimit + 10
	for i := range n {
		for _, domain := range []string{fmt.Sprintf("r%d.example", i), "busy.example", strings.Repeat("long-", 10) + ".example"} {
			k.Add(&event.Event{Kind: event.Attempt, Outcome: event.Delivered, Delay: -1, Recipient: []byte("x@" + domain)})
		}
	}
	got := map[string]int64{}
	for _, d := range k.Delta().Domains {
		got[d.Domain] += d.Attempts
	}
	if got["busy.example"] != n || got[strings.Repeat("long-", 10)+".example"] != n || got[Other] != n-8 {
		t.Errorf("%v", got)
	}
}

// A delay is in the first bucket whose bound it does not exceed.
func TestDelayBuckets(t *testing.T) {
	for i, bound := range DelayBounds {
		for _, test := range []struct {
			micros int64
			bucket int
		}{{int64(bound*1e6) - 1, i}, {int64(bound * 1e6), i}, {int64(bound*1e6) + 1, i + 1}} {
			k := NewCounter(testConfig())
			k.Add(&event.Event{Kind: event.Attempt, Outcome: event.Delivered, Delay: test.micros})
			if d := k.Delta().Delays[0]; d.Buckets[test.bucket] != 1 {
				t.Errorf("%d us: %v, want bucket %d", test.micros, d.Buckets, test.bucket)
			}
		}
	}
}

// Names of any length are told apart.
func TestLongNames(t *testing.T) {
	k := NewCounter(testConfig())
	for _, d := range []string{"a.example", strings.Repeat("long-", 10) + ".example", strings.Repeat("long-", 11) + ".example"} {
		for range 2 {
			k.Add(&event.Event{Kind: event.Attempt, Outcome: event.Delivered, Delay: -1, Recipient: []byte("x@" + d)})
		}
	}
	d := k.Delta()
	if len(d.Domains) != 3 {
		t.Errorf("%d domains: %+v", len(d.Domains), d.Domains)
	}
	for _, c := range d.Domains {
		if c.Attempts != 2 {
			t.Errorf("%+v", c)
		}
	}
}

func TestTimesBefore1970(t *testing.T) {
	if got := window(-1, 60); got != -60 {
		t.Errorf("window(-1) = %d, want -60", got)
	}
}

// No name that a sender can choose looks like one of ours.
func TestForgedNames(t *testing.T) {
	k := NewCounter(testConfig())
	for _, s := range []string{Other, Unknown, "\x1b[31m", "\xff", strings.Repeat("x", 1000)} {
		k.Add(&event.Event{Kind: event.Attempt, Outcome: event.Delivered, SenderKnown: true, SenderDomain: []byte(s), Delay: -1})
	}
	for _, c := range k.Delta().Counts {
		s := c.Series.SenderDomain
		if s == Other || s == Unknown || strings.Contains(s, "\x1b") || strings.Contains(s, "\xff") || len(s) > 255 {
			t.Errorf("sender domain %q", s)
		}
	}
}

// A busy newcomer takes the place of a quiet name, and the total is kept.
func TestNamesFollowTheTraffic(t *testing.T) {
	for dimension, set := range map[string]func(e *event.Event, name string){
		"sender": func(e *event.Event, name string) { e.SenderKnown, e.SenderDomain = true, []byte(name) },
		"host":   func(e *event.Event, name string) { e.Host, e.Place = []byte(name), event.PlaceOf([]byte(name), nil) },
	} {
		t.Run(dimension, func(t *testing.T) {
			c := testConfig()
			c.SenderDomains, c.Hosts = NewNames(2), NewNames(2)
			k := NewCounter(c)
			add := func(second int64, name string) {
				e := event.Event{Kind: event.Attempt, Outcome: event.Delivered, Time: second * 1e6, Delay: -1}
				set(&e, name)
				k.Add(&e)
			}
			total := map[string]int64{}
			flush := func() {
				for _, c := range k.Delta().Counts {
					if dimension == "sender" {
						total[c.Series.SenderDomain] += c.Attempts
					} else {
						total[c.Series.Host] += c.Attempts
					}
				}
			}
			add(0, "a.example")
			add(0, "b.example")
			for range 10 {
				add(1, "busy.example")
				add(1, "b.example")
			}
			flush() // rebalanced: the first one an hour after time 0
			add(7200, "b.example")
			for range 10 {
				add(7200, "busy.example")
			}
			flush()
			add(7201, "busy.example")
			add(7201, "a.example")
			flush()
			want := map[string]int64{"a.example": 1, "b.example": 12, Other: 21, "busy.example": 1}
			if diff := cmp.Diff(want, total); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func BenchmarkAdd(b *testing.B) {
	k := NewCounter(testConfig())
	var events []event.Event
	for i := range 5000 {
		events = append(events, event.Event{
			Kind: event.Attempt, Outcome: event.Delivered, Time: int64(i) * 1e5, Host: []byte("mx1"), Stream: []byte("postfix"), SenderKnown: true,
			SenderDomain: fmt.Appendf(nil, "s%d.example", i*7%50), Recipient: fmt.Appendf(nil, "u@r%d.example", i*13%500), Provider: []string{"gmail", "yahoo", "other"}[i%3],
		})
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		k.Add(&events[i%len(events)])
		i++
	}
}

// One wording counts for each provider and category that it came with.
func TestWordingOfTwoProviders(t *testing.T) {
	k := NewCounter(testConfig())
	e := event.Event{
		Kind: event.Attempt, Outcome: event.Bounced, Recipient: []byte("a@one.example"),
		Reply:   event.Reply{Text: []byte("550 no")},
		Verdict: event.Verdict{Category: event.UserUnknown, Template: 7},
	}
	for _, provider := range []string{"gmail", "yahoo", "gmail"} {
		e.Provider = provider
		k.Add(&e)
	}
	got := map[string]int64{}
	for _, c := range k.Delta().Templates {
		got[c.Provider] += c.Attempts
	}
	if got["gmail"] != 2 || got["yahoo"] != 1 {
		t.Errorf("the wording was counted as %v, want gmail 2 and yahoo 1", got)
	}
}
