package prometheus

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// RecordSink is how a sink of classified records fares, for SinkCollector.
type RecordSink struct {
	Name, Kind string
	// Records and Bytes are durable at the receiver.
	Records, Bytes int64
	// Failures are sent, or written, again; Refused are not.
	Failures, Refused int64
	Held              int64 // bytes that wait for the receiver
	Failing           bool
	// Writer is nil unless the sink writes to Kafka.
	Writer *KafkaWriter
}

// KafkaWriter is what the Kafka client tells of a writer, since the start.
type KafkaWriter struct {
	Requests, Messages, Bytes, Errors, Retries int64
	Batch, Write, Throttle                     Duration
}

// Duration is how often something took how long in all.
type Duration struct {
	Count int64
	Sum   time.Duration
}

// SinkCollector shows the sinks of classified records at the time of the scrape.
type SinkCollector struct{ Sinks func() []RecordSink }

// sinkMetric is a metric of all sinks.
type sinkMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*RecordSink) float64
}

// writerMetric is a metric of sinks that write to Kafka: a counter, or a summary.
type writerMetric struct {
	desc    *prometheus.Desc
	counter func(*KafkaWriter) int64
	summary func(*KafkaWriter) Duration
}

var (
	sinkLabels  = []string{"sink", "kind"}
	sinkMetrics = []sinkMetric{
		{sinkDesc("records_total", "Classified records that are durable at the receiver."), prometheus.CounterValue, func(s *RecordSink) float64 { return float64(s.Records) }},
		{sinkDesc("bytes_total", "Bytes of those records."), prometheus.CounterValue, func(s *RecordSink) float64 { return float64(s.Bytes) }},
		{sinkDesc("failures_total", "Writes to a file, or records for Kafka, that failed and were tried again. Reading waits meanwhile."), prometheus.CounterValue, func(s *RecordSink) float64 { return float64(s.Failures) }},
		{sinkDesc("refused_total", "Records that were left out because they are too large for the receiver."), prometheus.CounterValue, func(s *RecordSink) float64 { return float64(s.Refused) }},
		{sinkDesc("held_bytes", "Bytes of records that wait for the receiver."), prometheus.GaugeValue, func(s *RecordSink) float64 { return float64(s.Held) }},
		{sinkDesc("failing", "1 while the receiver does not take records."), prometheus.GaugeValue, func(s *RecordSink) float64 {
			if s.Failing {
				return 1
			}
			return 0
		}},
	}
	writerMetrics = []writerMetric{
		{desc: writerDesc("requests_total", "Batches that were sent to brokers."), counter: func(w *KafkaWriter) int64 { return w.Requests }},
		{desc: writerDesc("messages_total", "Messages in those batches, each time they were sent."), counter: func(w *KafkaWriter) int64 { return w.Messages }},
		{desc: writerDesc("bytes_total", "Bytes of those messages before compression."), counter: func(w *KafkaWriter) int64 { return w.Bytes }},
		{desc: writerDesc("errors_total", "Batches that brokers refused or did not answer."), counter: func(w *KafkaWriter) int64 { return w.Errors }},
		{desc: writerDesc("retries_total", "Batches that the client sent again by itself."), counter: func(w *KafkaWriter) int64 { return w.Retries }},
		{desc: writerDesc("batch_seconds", "How long batches were gathered and waited until they were sent."), summary: func(w *KafkaWriter) Duration { return w.Batch }},
		{desc: writerDesc("write_seconds", "How long brokers took to answer."), summary: func(w *KafkaWriter) Duration { return w.Write }},
		{desc: writerDesc("throttle_seconds", "How long brokers asked to wait, for their quotas."), summary: func(w *KafkaWriter) Duration { return w.Throttle }},
	}
)

func sinkDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("bouncemeter_sink_"+name, help, sinkLabels, nil)
}

func writerDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("bouncemeter_kafka_writer_"+name, help, []string{"sink"}, nil)
}

// Describe implements prometheus.Collector.
func (SinkCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range sinkMetrics {
		ch <- m.desc
	}
	for _, m := range writerMetrics {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c SinkCollector) Collect(ch chan<- prometheus.Metric) {
	sinks := c.Sinks()
	for i := range sinks {
		s := &sinks[i]
		for _, m := range sinkMetrics {
			ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(s), s.Name, s.Kind)
		}
		if s.Writer == nil {
			continue
		}
		for _, m := range writerMetrics {
			if m.counter != nil {
				ch <- prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, float64(m.counter(s.Writer)), s.Name)
				continue
			}
			d := m.summary(s.Writer)
			ch <- prometheus.MustNewConstSummary(m.desc, uint64(d.Count), d.Sum.Seconds(), nil, s.Name)
		}
	}
}
