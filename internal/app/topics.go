package app

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bouncemeter/bouncemeter/pipeline"
	"github.com/bouncemeter/bouncemeter/sources/kafka"
)

// topicsRead tells how Kafka sources fare. Their lag is that of their lanes.
type topicsRead struct{ inputs []pipeline.Input }

// topicMetric is a counter of a Kafka source.
type topicMetric struct {
	desc  *prometheus.Desc
	value func(*kafka.Stats) int64
}

func topicDesc(name, help string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc("bouncemeter_kafka_source_"+name, help, append([]string{"source"}, more...), nil)
}

var (
	topicMetrics = []topicMetric{
		{topicDesc("requests_total", "Requests for records to brokers."), func(s *kafka.Stats) int64 { return s.Requests }},
		{topicDesc("request_errors_total", "Requests for records that had no answer."), func(s *kafka.Stats) int64 { return s.RequestErrors }},
		{topicDesc("refreshes_total", "How often connections were made anew, since a partition had moved or nothing came."), func(s *kafka.Stats) int64 { return s.Refreshes }},
		{topicDesc("stalls_total", "How often a partition had records and delivered none for 30 s."), func(s *kafka.Stats) int64 { return s.Stalls }},
		{topicDesc("generations_total", "How often the group shared out its partitions."), func(s *kafka.Stats) int64 { return s.Generations }},
	}
	skippedDesc = topicDesc("skipped_records_total", "Records that are none for us, by the reason.", "lane", "reason")
	damagedDesc = topicDesc("damaged_batches_total", "Batches that could not be read, also when fetched again.", "lane")
)

// Describe implements prometheus.Collector.
func (topicsRead) Describe(to chan<- *prometheus.Desc) {
	for _, m := range topicMetrics {
		to <- m.desc
	}
	to <- skippedDesc
	to <- damagedDesc
}

// Collect implements prometheus.Collector.
func (r topicsRead) Collect(to chan<- prometheus.Metric) {
	for _, in := range r.inputs {
		l, ok := in.Source.(lanes[*kafka.Lane])
		if !ok {
			continue
		}
		source, ok := l.source.(*kafka.Source)
		if !ok {
			continue
		}
		s := source.Stats()
		for _, m := range topicMetrics {
			to <- prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, float64(m.value(&s)), in.Name)
		}
		for i := range s.Lanes {
			lane := &s.Lanes[i]
			name := lane.Name()
			to <- prometheus.MustNewConstMetric(skippedDesc, prometheus.CounterValue, float64(lane.Tombstones), in.Name, name, "tombstone")
			to <- prometheus.MustNewConstMetric(skippedDesc, prometheus.CounterValue, float64(lane.Aborted), in.Name, name, "aborted")
			to <- prometheus.MustNewConstMetric(damagedDesc, prometheus.CounterValue, float64(lane.Damaged), in.Name, name)
		}
	}
}
