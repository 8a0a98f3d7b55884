package app

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bouncemeter/bouncemeter/pipeline"
	"github.com/bouncemeter/bouncemeter/sources/spool"
	"github.com/bouncemeter/bouncemeter/sources/webhook"
)

// received tells what became of the requests to webhook sources.
type received struct{ inputs []pipeline.Input }

var (
	requestsDesc = prometheus.NewDesc("bouncemeter_received_requests_total",
		"Requests to webhook sources, by what became of them.", []string{"source", "result"}, nil)
	receivedDesc = prometheus.NewDesc("bouncemeter_received_bytes_total",
		"Bytes of the requests that webhook sources have stored.", []string{"source"}, nil)
)

// Describe implements prometheus.Collector.
func (r received) Describe(to chan<- *prometheus.Desc) {
	to <- requestsDesc
	to <- receivedDesc
}

// Collect implements prometheus.Collector.
func (r received) Collect(to chan<- prometheus.Metric) {
	for _, in := range r.inputs {
		l, ok := in.Source.(lanes[*spool.Lane])
		if !ok {
			continue
		}
		w, ok := l.source.(*webhook.Source)
		if !ok {
			continue
		}
		s := w.Stats()
		for _, c := range []struct {
			result string
			n      int64
		}{
			{"accepted", s.Accepted}, {"ignored", s.Ignored}, {"refused", s.Refused}, {"too_large", s.TooLarge}, {"unavailable", s.Unavailable},
		} {
			to <- prometheus.MustNewConstMetric(requestsDesc, prometheus.CounterValue, float64(c.n), in.Name, c.result)
		}
		to <- prometheus.MustNewConstMetric(receivedDesc, prometheus.CounterValue, float64(s.Bytes), in.Name)
	}
}
