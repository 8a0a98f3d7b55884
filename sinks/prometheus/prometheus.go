// Package prometheus shows committed counts as Prometheus metrics. Counters
// are restored from the ledger before the first scrape and then follow the
// commits, so they never step back, not even over a crash: a counter that
// steps back is a reset to Prometheus, which would count the whole value again.
package prometheus

import (
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// Sink is a pipeline.Sink and a prometheus.Collector.
type Sink struct {
	mu     sync.Mutex
	counts map[key]*count
	delays map[delayKey]*delay
	lines  map[string]*window.Lines // by source
	rules  map[string]int64         // failures by the id of the rule that decided

	commitTook   prometheus.Histogram
	commitFailed prometheus.Counter
}

type key struct{ outcome, category, provider, senderDomain string }

type count struct{ attempts, firsts int64 }

type delayKey struct{ provider, outcome string }

type delay struct {
	buckets [len(window.DelayBounds) + 1]int64
	micros  int64
}

// New returns a sink without counts.
func New() *Sink {
	return &Sink{
		counts: make(map[key]*count),
		delays: make(map[delayKey]*delay),
		lines:  make(map[string]*window.Lines),
		rules:  make(map[string]int64),
		commitTook: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "bouncemeter_ledger_commit_duration_seconds",
			Help:    "How long commits to the ledger took.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		commitFailed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bouncemeter_ledger_commit_failures_total",
			Help: "Commits that failed and were tried again. Reading waits meanwhile.",
		}),
	}
}

// RestoreCount adds an all-time total that the ledger holds.
func (s *Sink) RestoreCount(outcome, category, provider, senderDomain string, attempts, firsts int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(key{outcome, category, provider, senderDomain}, attempts, firsts)
}

// RestoreDelay adds an all-time total that the ledger holds.
func (s *Sink) RestoreDelay(provider, outcome string, buckets [len(window.DelayBounds) + 1]int64, micros int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay(delayKey{provider, outcome}, buckets, micros)
}

// RestoreLines adds the line statistics of a lane that the ledger holds.
func (s *Sink) RestoreLines(source string, l window.Lines) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addLines(source, l)
}

// Committed adds what the ledger has just taken.
func (s *Sink) Committed(source string, d *window.Delta) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range d.Counts {
		c := &d.Counts[i]
		s.count(key{c.Series.Outcome.String(), c.Series.Category.String(), c.Series.Provider, c.Series.SenderDomain}, c.Attempts, c.Firsts)
	}
	for i := range d.Delays {
		c := &d.Delays[i]
		s.delay(delayKey{c.Provider, c.Outcome.String()}, c.Buckets, c.Micros)
	}
	for i := range d.Templates {
		if t := &d.Templates[i]; t.Rule != "" {
			s.rules[t.Rule] += t.Attempts
		}
	}
	s.addLines(source, d.Lines)
}

// CommitTook observes the duration of a commit.
func (s *Sink) CommitTook(d time.Duration) { s.commitTook.Observe(d.Seconds()) }

// CommitFailed counts a commit that failed.
func (s *Sink) CommitFailed() { s.commitFailed.Inc() }

// plain returns a name as the value of a label: without what is no visible
// character, which a strange sender domain may have. Names that become the same
// are counted together.
func plain(name string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, name)
}

func (s *Sink) count(k key, attempts, firsts int64) {
	k.senderDomain = plain(k.senderDomain)
	c := s.counts[k]
	if c == nil {
		c = new(count)
		s.counts[k] = c
	}
	c.attempts += attempts
	c.firsts += firsts
}

func (s *Sink) delay(k delayKey, buckets [len(window.DelayBounds) + 1]int64, micros int64) {
	d := s.delays[k]
	if d == nil {
		d = new(delay)
		s.delays[k] = d
	}
	for i, n := range buckets {
		d.buckets[i] += n
	}
	d.micros += micros
}

// metric is the delay as a histogram.
func (d *delay) metric(desc *prometheus.Desc, labels ...string) prometheus.Metric {
	buckets := make(map[float64]uint64, len(d.buckets))
	var n uint64
	for i, bound := range window.DelayBounds {
		n += uint64(d.buckets[i])
		buckets[bound] = n
	}
	n += uint64(d.buckets[len(window.DelayBounds)])
	return prometheus.MustNewConstHistogram(desc, n, float64(d.micros)/1e6, buckets, labels...)
}

func (s *Sink) addLines(source string, l window.Lines) {
	have := s.lines[source]
	if have == nil {
		have = new(window.Lines)
		s.lines[source] = have
	}
	have.Add(l)
}

var (
	seriesLabels = []string{"outcome", "category", "provider", "sender_domain"}
	attemptsDesc = prometheus.NewDesc("bouncemeter_attempts_total",
		"Delivery attempts, retries included; with outcome=\"expired\", messages given up. Delivered ones have no category. The null sender is \"<>\".", seriesLabels, nil)
	firstsDesc = prometheus.NewDesc("bouncemeter_first_outcomes_total",
		"Delivery attempts that were the first for their recipient of their message: what bouncemeter_attempts_total is without retries.", seriesLabels, nil)
	noticesDesc = prometheus.NewDesc("bouncemeter_notices_total",
		"News of recipients that is no attempt: bounce messages after a delivery, complaints, automatic answers.", seriesLabels, nil)
	rulesDesc = prometheus.NewDesc("bouncemeter_rule_hits_total",
		"Failures that the rule decided since the start. The ledger has them by wording for as long as it keeps wordings.", []string{"rule"}, nil)
	delayDesc = prometheus.NewDesc("bouncemeter_delay_seconds",
		"How long messages had been under way at each attempt, as the MTA says.", []string{"provider", "outcome"}, nil)
)

// lineMetric is one statistic of a source's lines.
type lineMetric struct {
	desc  *prometheus.Desc
	value func(*window.Lines) int64
}

func newLineMetric(name, help string, value func(*window.Lines) int64) lineMetric {
	return lineMetric{prometheus.NewDesc("bouncemeter_"+name, help, []string{"source"}, nil), value}
}

var lineMetrics = []lineMetric{
	newLineMetric("lines_total", "Lines read.", func(l *window.Lines) int64 { return l.Read }),
	newLineMetric("malformed_lines_total", "Lines, and records of arrays, that could not be read. They are in the dead-letter file.", func(l *window.Lines) int64 { return l.Malformed }),
	newLineMetric("truncated_lines_total", "Lines longer than max_line_bytes, of which only the beginning was read.", func(l *window.Lines) int64 { return l.Truncated }),
	newLineMetric("lost_bytes_total", "Bytes that were gone before they could be read, such as after copytruncate.", func(l *window.Lines) int64 { return l.Lost }),
	newLineMetric("probes_total", "Address probes, which are no attempts.", func(l *window.Lines) int64 { return l.Probes }),
	newLineMetric("rejected_clients_total", "Clients that our own server refused, which are no attempts.", func(l *window.Lines) int64 { return l.Rejected }),
	newLineMetric("unmatched_attempts_total", "Attempts whose sender no earlier line told. They count under sender_domain=\"(unknown)\".", func(l *window.Lines) int64 { return l.Unmatched }),
	newLineMetric("forgotten_queue_ids_total", "Queue ids forgotten because limits.queue_ids was reached.", func(l *window.Lines) int64 { return l.Evicted }),
	newLineMetric("folded_attempts_total", "Attempts counted under sender_domain=\"(other)\" because a limit was reached.", func(l *window.Lines) int64 { return l.Folded }),
	newLineMetric("future_events_total", "Events dated more than five minutes ahead of the clock, which count as of now.", func(l *window.Lines) int64 { return l.Future }),
	newLineMetric("repeated_events_total", "Events that were told again and not counted again.", func(l *window.Lines) int64 { return l.Repeated }),
}

// Describe implements prometheus.Collector.
func (s *Sink) Describe(ch chan<- *prometheus.Desc) {
	ch <- attemptsDesc
	ch <- firstsDesc
	ch <- noticesDesc
	ch <- delayDesc
	ch <- rulesDesc
	for _, m := range lineMetrics {
		ch <- m.desc
	}
	s.commitTook.Describe(ch)
	s.commitFailed.Describe(ch)
}

// Collect implements prometheus.Collector.
func (s *Sink) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, c := range s.counts {
		sender := k.senderDomain
		if sender == window.NullSender {
			sender = "<>" // an empty label would be no label
		}
		if o, _ := event.OutcomeByName(k.outcome); o > event.Expired {
			ch <- prometheus.MustNewConstMetric(noticesDesc, prometheus.CounterValue, float64(c.attempts), k.outcome, k.category, k.provider, sender)
			continue
		}
		ch <- prometheus.MustNewConstMetric(attemptsDesc, prometheus.CounterValue, float64(c.attempts), k.outcome, k.category, k.provider, sender)
		ch <- prometheus.MustNewConstMetric(firstsDesc, prometheus.CounterValue, float64(c.firsts), k.outcome, k.category, k.provider, sender)
	}
	for k, d := range s.delays {
		ch <- d.metric(delayDesc, k.provider, k.outcome)
	}
	for rule, n := range s.rules {
		ch <- prometheus.MustNewConstMetric(rulesDesc, prometheus.CounterValue, float64(n), rule)
	}
	for source, l := range s.lines {
		for _, m := range lineMetrics {
			ch <- prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, float64(m.value(l)), source)
		}
	}
	s.commitTook.Collect(ch)
	s.commitFailed.Collect(ch)
}

// Lane is how a lane is doing, for LaneCollector.
type Lane struct {
	Source, Lane string
	Lag          int64     // bytes or records
	LastEvent    int64     // Unix seconds, zero if none
	LastRead     time.Time // zero if never
	Failing      bool      // commits fail at present
}

// Dimension is how many names a dimension has, for LaneCollector.
type Dimension struct {
	Name            string
	Admitted, Limit int
}

var (
	laneLabels  = []string{"source", "lane"}
	lagDesc     = prometheus.NewDesc("bouncemeter_lane_lag", "What is known to wait to be read: bytes of a log, records of a partition.", laneLabels, nil)
	eventDesc   = prometheus.NewDesc("bouncemeter_lane_last_event_timestamp_seconds", "Time of the latest event that was counted since the start.", laneLabels, nil)
	readDesc    = prometheus.NewDesc("bouncemeter_lane_last_read_timestamp_seconds", "When the lane was last read up to its committed position.", laneLabels, nil)
	failingDesc = prometheus.NewDesc("bouncemeter_lane_failing", "1 while commits of this lane fail.", laneLabels, nil)
	namesDesc   = prometheus.NewDesc("bouncemeter_names", "Names that are counted by themselves.", []string{"dimension"}, nil)
	limitDesc   = prometheus.NewDesc("bouncemeter_names_limit", "How many names may be counted by themselves; the rest is \"(other)\".", []string{"dimension"}, nil)
)

// LaneCollector shows the daemon's own state at the time of the scrape.
type LaneCollector struct {
	Lanes      func() []Lane
	Dimensions func() []Dimension
}

// Describe implements prometheus.Collector.
func (LaneCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{lagDesc, eventDesc, readDesc, failingDesc, namesDesc, limitDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c LaneCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, l := range c.Lanes() {
		gauge(lagDesc, float64(l.Lag), l.Source, l.Lane)
		gauge(eventDesc, float64(l.LastEvent), l.Source, l.Lane)
		read := 0.0
		if !l.LastRead.IsZero() {
			read = float64(l.LastRead.UnixMilli()) / 1e3
		}
		gauge(readDesc, read, l.Source, l.Lane)
		failing := 0.0
		if l.Failing {
			failing = 1
		}
		gauge(failingDesc, failing, l.Source, l.Lane)
	}
	for _, d := range c.Dimensions() {
		gauge(namesDesc, float64(d.Admitted), d.Name)
		gauge(limitDesc, float64(d.Limit), d.Name)
	}
}
