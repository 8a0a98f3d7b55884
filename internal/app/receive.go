package app

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bouncemeter/bouncemeter/pipeline"
	"github.com/bouncemeter/bouncemeter/sources/spool"
	"github.com/bouncemeter/bouncemeter/sources/syslog"
	"github.com/bouncemeter/bouncemeter/sources/webhook"
)

// received tells what became of the requests to webhook sources, and of the
// messages to syslog sources.
type received struct{ inputs []pipeline.Input }

var (
	requestsDesc = prometheus.NewDesc("bouncemeter_received_requests_total",
		"Requests to webhook sources, by what became of them.", []string{"source", "result"}, nil)
	receivedDesc = prometheus.NewDesc("bouncemeter_received_bytes_total",
		"Bytes of the requests that webhook sources have stored.", []string{"source"}, nil)
	messagesDesc = prometheus.NewDesc("bouncemeter_syslog_messages_total",
		"Messages to syslog sources, by what became of them.", []string{"source", "result"}, nil)
	undatedDesc = prometheus.NewDesc("bouncemeter_syslog_undated_total",
		"Messages to syslog sources without a time, which got that of receipt.", []string{"source"}, nil)
	connectionsDesc = prometheus.NewDesc("bouncemeter_syslog_connections",
		"Connections that syslog sources have.", []string{"source"}, nil)
	closedDesc = prometheus.NewDesc("bouncemeter_syslog_closed_connections_total",
		"Connections that syslog sources have refused or closed, by the reason.", []string{"source", "reason"}, nil)
)

// Describe implements prometheus.Collector.
func (r received) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{requestsDesc, receivedDesc, messagesDesc, undatedDesc, connectionsDesc, closedDesc} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (r received) Collect(to chan<- prometheus.Metric) {
	for _, in := range r.inputs {
		l, ok := in.Source.(lanes[*spool.Lane])
		if !ok {
			continue
		}
		switch s := l.source.(type) {
		case *webhook.Source:
			collectWebhook(to, in.Name, s.Stats())
		case *syslog.Source:
			collectSyslog(to, in.Name, s.Stats())
		}
	}
}

// labelled is a count by the value of a label.
type labelled struct {
	label string
	n     int64
}

func counters(to chan<- prometheus.Metric, d *prometheus.Desc, source string, counts ...labelled) {
	for _, c := range counts {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(c.n), source, c.label)
	}
}

func collectWebhook(to chan<- prometheus.Metric, source string, s webhook.Stats) {
	counters(to, requestsDesc, source, labelled{"accepted", s.Accepted}, labelled{"ignored", s.Ignored}, labelled{"refused", s.Refused},
		labelled{"too_large", s.TooLarge}, labelled{"unavailable", s.Unavailable})
	to <- prometheus.MustNewConstMetric(receivedDesc, prometheus.CounterValue, float64(s.Bytes), source)
}

func collectSyslog(to chan<- prometheus.Metric, source string, s syslog.Stats) {
	counters(to, messagesDesc, source, labelled{"received", s.Received}, labelled{"dropped_full", s.Full}, labelled{"dropped_overflow", s.Overflow},
		labelled{"dropped_refused", s.Refused}, labelled{"dropped_cut", s.Cut}, labelled{"dropped_empty", s.Empty})
	to <- prometheus.MustNewConstMetric(undatedDesc, prometheus.CounterValue, float64(s.Undated), source)
	to <- prometheus.MustNewConstMetric(connectionsDesc, prometheus.GaugeValue, float64(s.Connections), source)
	counters(to, closedDesc, source, labelled{"refused", s.Peer}, labelled{"too_many", s.Limit}, labelled{"tls", s.Handshake},
		labelled{"framing", s.Framing}, labelled{"idle", s.Idle})
}
