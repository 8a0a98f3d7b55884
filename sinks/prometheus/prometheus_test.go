package prometheus

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

func delta() *window.Delta {
	spf := &window.Series{Outcome: event.Bounced, Category: event.SPFFailed, SenderDomain: "shop.example", Route: &window.Route{Provider: "gmail", Host: "mx1"}}
	// Another host's series has the same labels.
	other := &window.Series{Outcome: event.Bounced, Category: event.SPFFailed, SenderDomain: "shop.example", Route: &window.Route{Provider: "gmail", Host: "mx2"}}
	null := &window.Series{Outcome: event.Delivered, SenderDomain: window.NullSender, Route: &window.Route{Provider: "other"}}
	d := &window.Delta{
		Counts: []window.Count{{Series: spf, Start: 60, Attempts: 3, Firsts: 2}, {Series: spf, Start: 120, Attempts: 1}, {Series: other, Start: 60, Attempts: 1, Firsts: 1}, {Series: null, Attempts: 5, Firsts: 5}},
		Lines:  window.Lines{Read: 12, Malformed: 1},
	}
	delay := window.DelayCount{Provider: "gmail", Outcome: event.Bounced, Micros: 2_000_000 + 600_000_000_000}
	delay.Buckets[1], delay.Buckets[len(window.DelayBounds)] = 1, 1 // 2 s, and a week
	d.Delays = []window.DelayCount{delay}
	return d
}

func TestCounts(t *testing.T) {
	s := New()
	s.RestoreCount("bounced", "spf_failed", "gmail", "shop.example", 100, 90)
	s.RestoreLines("mta1", window.Lines{Read: 1000})
	s.Committed("mta1", delta())
	want := `
# HELP bouncemeter_attempts_total Delivery attempts, retries included; with outcome="expired", messages given up. Delivered ones have no category. The null sender is "<>".
# TYPE bouncemeter_attempts_total counter
bouncemeter_attempts_total{category="",outcome="delivered",provider="other",sender_domain="<>"} 5
bouncemeter_attempts_total{category="spf_failed",outcome="bounced",provider="gmail",sender_domain="shop.example"} 105
# HELP bouncemeter_lines_total Lines read.
# TYPE bouncemeter_lines_total counter
bouncemeter_lines_total{source="mta1"} 1012
# HELP bouncemeter_first_outcomes_total Delivery attempts that were the first for their recipient of their message: what bouncemeter_attempts_total is without retries.
# TYPE bouncemeter_first_outcomes_total counter
bouncemeter_first_outcomes_total{category="",outcome="delivered",provider="other",sender_domain="<>"} 5
bouncemeter_first_outcomes_total{category="spf_failed",outcome="bounced",provider="gmail",sender_domain="shop.example"} 93
`
	if err := testutil.CollectAndCompare(s, strings.NewReader(want), "bouncemeter_attempts_total", "bouncemeter_first_outcomes_total", "bouncemeter_lines_total"); err != nil {
		t.Error(err)
	}
}

func TestNoticesAreNoAttempts(t *testing.T) {
	s := New()
	s.RestoreCount("complaint", "", "yahoo", "shop.example", 2, 0)
	s.Committed("bounces", &window.Delta{Counts: []window.Count{
		{Series: &window.Series{Outcome: event.Complaint, SenderDomain: "shop.example", Route: &window.Route{Provider: "yahoo"}}, Attempts: 1},
	}})
	want := `
# HELP bouncemeter_notices_total News of recipients that is no attempt: bounce messages after a delivery, complaints, automatic answers.
# TYPE bouncemeter_notices_total counter
bouncemeter_notices_total{category="",outcome="complaint",provider="yahoo",sender_domain="shop.example"} 3
`
	if err := testutil.CollectAndCompare(s, strings.NewReader(want), "bouncemeter_notices_total", "bouncemeter_attempts_total", "bouncemeter_first_outcomes_total"); err != nil {
		t.Error(err)
	}
}

// A rule's hits are those of all wordings that it decided.
func TestRuleHits(t *testing.T) {
	s := New()
	for range 2 {
		s.Committed("mta1", &window.Delta{Templates: []window.TemplateCount{
			{Hash: 1, Rule: "mailbox_full", Attempts: 3}, {Hash: 2, Rule: "mailbox_full", Attempts: 1}, {Hash: 3, Attempts: 7},
		}})
	}
	want := `
# HELP bouncemeter_rule_hits_total Failures that the rule decided since the start. The ledger has them by wording for as long as it keeps wordings.
# TYPE bouncemeter_rule_hits_total counter
bouncemeter_rule_hits_total{rule="mailbox_full"} 8
`
	if err := testutil.CollectAndCompare(s, strings.NewReader(want), "bouncemeter_rule_hits_total"); err != nil {
		t.Error(err)
	}
}

func TestDelays(t *testing.T) {
	s := New()
	s.Committed("mta1", delta())
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(s)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "bouncemeter_delay_seconds" {
			continue
		}
		h := f.GetMetric()[0].GetHistogram()
		if h.GetSampleCount() != 2 || h.GetSampleSum() != 600_002 {
			t.Errorf("count %d, sum %v", h.GetSampleCount(), h.GetSampleSum())
		}
		for _, b := range h.GetBucket() {
			want := uint64(0)
			if b.GetUpperBound() >= 2.5 {
				want = 1
			}
			if b.GetCumulativeCount() != want {
				t.Errorf("bucket %v: %d, want %d", b.GetUpperBound(), b.GetCumulativeCount(), want)
			}
		}
		return
	}
	t.Error("there is no delay histogram")
}

func TestLint(t *testing.T) {
	s := New()
	s.Committed("mta1", delta())
	s.CommitTook(time.Millisecond)
	s.CommitFailed()
	lanes := LaneCollector{
		Lanes: func() []Lane {
			return []Lane{{Source: "mta1", Lane: "/var/log/mail.log", LastRead: time.Unix(1, 0), Failing: true}}
		},
		Dimensions: func() []Dimension { return []Dimension{{"sender_domain", 3, 1000}} },
	}
	for _, c := range []prometheus.Collector{s, lanes} {
		problems, err := testutil.CollectAndLint(c)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}
