package prometheus

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// PostfixCollector shows the counts of a Sink by the names of
// prometheus-postfix-exporter (the Debian package, github.com/kumina/postfix_exporter
// 0.3), so that dashboards and alerts made for it go on working. What it counts
// and a Sink does not is left out: TLS, SASL, connections to smtpd, sizes, the
// queue.
type PostfixCollector struct {
	Sink  *Sink
	Lanes func() []Lane
}

var (
	postfixUp        = prometheus.NewDesc("postfix_up", "Whether the log is read and its counts are stored.", []string{"path"}, nil)
	postfixProcessed = prometheus.NewDesc("postfix_smtp_messages_processed_total", "Attempts by outcome in Postfix's words.", []string{"status"}, nil)
	postfixDeferred  = prometheus.NewDesc("postfix_smtp_deferred_messages_total", "Attempts that were deferred.", nil, nil)
	postfixExpired   = prometheus.NewDesc("postfix_qmgr_messages_expired_total", "Messages given up because they were too long in the queue.", nil, nil)
	postfixRejected  = prometheus.NewDesc("postfix_smtpd_messages_rejected_total", "Clients that our own server refused; the code is not known.", []string{"code"}, nil)
	postfixUnread    = prometheus.NewDesc("postfix_unsupported_log_entries_total", "Lines that should have been a record and could not be read.", []string{"service", "level"}, nil)
	postfixDelay     = prometheus.NewDesc("postfix_smtp_delivery_delay_seconds", "How long messages had been under way at each attempt. Stages are not told apart.", []string{"stage"}, nil)
)

// Describe implements prometheus.Collector.
func (PostfixCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{postfixUp, postfixProcessed, postfixDeferred, postfixExpired, postfixRejected, postfixUnread, postfixDelay} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c PostfixCollector) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	outcomes, lines, delays := c.sums()
	// Postfix's own words. All three are there from the start: a rate of a
	// counter that appears later misses its first step.
	counter(postfixProcessed, outcomes[event.Delivered], "sent")
	counter(postfixProcessed, outcomes[event.Deferred], "deferred")
	counter(postfixProcessed, outcomes[event.Bounced], "bounced")
	counter(postfixDeferred, outcomes[event.Deferred])
	counter(postfixExpired, outcomes[event.Expired])
	counter(postfixRejected, lines.Rejected, "")
	counter(postfixUnread, lines.Malformed, "", "")
	ch <- delays.metric(postfixDelay, "total")
	for _, l := range c.Lanes() {
		up := 1.0
		if l.Failing {
			up = 0
		}
		ch <- prometheus.MustNewConstMetric(postfixUp, prometheus.GaugeValue, up, l.Lane)
	}
}

// sums adds up all that the sink holds.
func (c PostfixCollector) sums() (outcomes map[event.Outcome]int64, lines window.Lines, delays delay) {
	s := c.Sink
	s.mu.Lock()
	defer s.mu.Unlock()
	outcomes = make(map[event.Outcome]int64)
	for k, n := range s.counts {
		o, _ := event.OutcomeByName(k.outcome)
		outcomes[o] += n.attempts
	}
	for _, l := range s.lines {
		lines.Add(*l)
	}
	for _, d := range s.delays {
		for i, n := range d.buckets {
			delays.buckets[i] += n
		}
		delays.micros += d.micros
	}
	return outcomes, lines, delays
}
