package notify

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Stats tells how one notifier fares.
type Stats struct {
	Name, Kind string
	// Pending is how much there is to deliver: changes for records, alerts for
	// news. At most 500 changes are looked at. Oldest is the event time of the
	// first of them; zero if there is none.
	Pending int
	Oldest  time.Time
	// Attempts is how often something was sent. Failures of them are tried
	// again, Refused ones are not.
	Attempts, Failures, Refused int64
	// Unreadable is how many stored changes could not be understood.
	Unreadable int64
	// LastError is the class of the last attempt's error: ledger, timeout, dns,
	// connection, tls, status, refused or other; empty after a success.
	LastError string
	// Success is when something was delivered last; zero if never since start.
	Success time.Time
}

// Collector shows the stats of the notifiers that run as Prometheus metrics.
type Collector struct {
	// Stats returns them; see Outbox.Stats.
	Stats func() []Stats
}

var (
	labels      = []string{"notifier", "kind"}
	pendingDesc = prometheus.NewDesc("bouncemeter_notify_pending", "Alerts or changes of alerts that wait to be delivered.", labels, nil)
	oldestDesc  = prometheus.NewDesc("bouncemeter_notify_oldest_pending_timestamp_seconds", "Event time of the first that waits. Absent if none does.", labels, nil)
	triesDesc   = prometheus.NewDesc("bouncemeter_notify_attempts_total", "Deliveries that were tried.", labels, nil)
	failsDesc   = prometheus.NewDesc("bouncemeter_notify_failures_total", "Deliveries that failed and are tried again.", labels, nil)
	refusedDesc = prometheus.NewDesc("bouncemeter_notify_refused_total", "Deliveries that the receiver refused for good.", labels, nil)
	badDesc     = prometheus.NewDesc("bouncemeter_notify_unreadable_total", "Stored changes of alerts that could not be understood.", labels, nil)
	errorDesc   = prometheus.NewDesc("bouncemeter_notify_last_error", "1 for the class of the last attempt's error. Absent after a success.", append(labels[:2:2], "class"), nil)
	successDesc = prometheus.NewDesc("bouncemeter_notify_last_success_timestamp_seconds", "When something was delivered last. Absent if never since start.", labels, nil)
)

// Describe implements prometheus.Collector.
func (Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{pendingDesc, oldestDesc, triesDesc, failsDesc, refusedDesc, badDesc, errorDesc, successDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c Collector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.Stats() {
		send := func(d *prometheus.Desc, t prometheus.ValueType, v float64, more ...string) {
			ch <- prometheus.MustNewConstMetric(d, t, v, append([]string{s.Name, s.Kind}, more...)...)
		}
		send(pendingDesc, prometheus.GaugeValue, float64(s.Pending))
		send(triesDesc, prometheus.CounterValue, float64(s.Attempts))
		send(failsDesc, prometheus.CounterValue, float64(s.Failures))
		send(refusedDesc, prometheus.CounterValue, float64(s.Refused))
		send(badDesc, prometheus.CounterValue, float64(s.Unreadable))
		if !s.Oldest.IsZero() {
			send(oldestDesc, prometheus.GaugeValue, float64(s.Oldest.Unix()))
		}
		if s.LastError != "" {
			send(errorDesc, prometheus.GaugeValue, 1, s.LastError)
		}
		if !s.Success.IsZero() {
			send(successDesc, prometheus.GaugeValue, float64(s.Success.Unix()))
		}
	}
}
