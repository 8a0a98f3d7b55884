package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/event/record"
	"github.com/bouncemeter/bouncemeter/internal/config"
	"github.com/bouncemeter/bouncemeter/pipeline"
	"github.com/bouncemeter/bouncemeter/sinks/counts"
	"github.com/bouncemeter/bouncemeter/sinks/file"
	"github.com/bouncemeter/bouncemeter/sinks/kafka"
	"github.com/bouncemeter/bouncemeter/sinks/prometheus"
	"github.com/bouncemeter/bouncemeter/sinks/suppression"
	"github.com/bouncemeter/bouncemeter/sources/dialect"
)

// recordSinks are the configured sinks: of classified records, of counts, and the
// suppression list.
type recordSinks struct {
	all    []pipeline.RecordSink
	counts []*counts.Sink                // run by who holds the lease
	run    []func(context.Context) error // until the daemon ends
	stats  []func() prometheus.RecordSink
	close  []func() error
}

// sinkParts is what sinks are made of.
type sinkParts struct {
	config   *config.Config
	describe record.Describe
	// closed is that of counts.Config.
	closed func() int64
	log    *slog.Logger
}

// newRecordSinks opens the configured sinks. A new kind of sink is one case here.
func newRecordSinks(p sinkParts) (_ *recordSinks, err error) {
	r := &recordSinks{}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.closeAll())
		}
	}()
	for i := range p.config.Sinks {
		s := &p.config.Sinks[i]
		var err error
		switch s.Kind {
		case "file":
			err = r.addFile(s, p)
		case "kafka":
			err = r.addTopic(s, p)
		case "suppression":
			err = r.addSuppression(s, p)
		default:
			err = fmt.Errorf("unknown kind %q", s.Kind)
		}
		if err != nil {
			return nil, fmt.Errorf("sink %s: %w", s.Name, err)
		}
	}
	return r, nil
}

func (r *recordSinks) addFile(s *config.Sink, p sinkParts) error {
	f, err := file.New(file.Config{
		Path: s.Path, MaxBytes: int64(s.MaxBytes), Keep: s.Keep, Sync: s.Sync, Privacy: privacy(p.config), Describe: p.describe, Log: p.log.With("sink", s.Name),
	})
	if err != nil {
		return err
	}
	if s.Records() {
		r.all = append(r.all, f)
	} else {
		r.addCounts(s, p, file.NewValues(f))
	}
	r.close = append(r.close, f.Close)
	r.stats = append(r.stats, func() prometheus.RecordSink {
		x := f.Stats()
		return prometheus.RecordSink{Name: s.Name, Kind: s.Kind, Records: x.Records, Bytes: x.Bytes, Failures: x.Failures, Failing: x.Failing}
	})
	return nil
}

func (r *recordSinks) addTopic(s *config.Sink, p sinkParts) error {
	topic, err := r.openTopic(s, p)
	if err != nil {
		return err
	}
	if s.Records() {
		r.all = append(r.all, &kafka.Records{Topic: topic, Privacy: privacy(p.config), Describe: p.describe})
	} else {
		r.addCounts(s, p, kafka.NewValues(topic))
	}
	r.stats = append(r.stats, func() prometheus.RecordSink {
		x := topic.Stats()
		return prometheus.RecordSink{
			Name: s.Name, Kind: s.Kind, Records: x.Records, Bytes: x.Bytes, Failures: x.Failures, Refused: x.Refused, Held: x.Held, Failing: x.Failing,
			Writer: writerOf(x.Writer),
		}
	})
	return nil
}

func (r *recordSinks) openTopic(s *config.Sink, p sinkParts) (*kafka.Topic, error) {
	topic, err := kafka.NewTopic(kafka.Config{
		Config: s.Cluster(), Topic: s.Topic, Compression: s.Compression,
		MaxBatchBytes: int64(s.MaxBatchBytes), MaxHeldBytes: int64(s.MaxHeldBytes), Log: p.log.With("sink", s.Name),
	})
	if err == nil {
		r.close = append(r.close, topic.Close)
	}
	return topic, err
}

func writerOf(w kafka.WriterStats) *prometheus.KafkaWriter {
	return &prometheus.KafkaWriter{
		Requests: w.Writes, Messages: w.Messages, Bytes: w.Bytes, Errors: w.Errors, Retries: w.Retries,
		Batch: prometheus.Duration(w.Batch), Write: prometheus.Duration(w.Write), Throttle: prometheus.Duration(w.Throttle),
	}
}

func (r *recordSinks) addCounts(s *config.Sink, p sinkParts, to counts.Receiver) {
	r.counts = append(r.counts, counts.New(counts.Config{
		Name: s.Name, Receiver: to, Keep: p.config.Ledger.Retention.Minutes, Closed: p.closed, Log: p.log.With("sink", s.Name),
	}))
}

func (r *recordSinks) addSuppression(s *config.Sink, p sinkParts) error {
	c := suppression.Config{
		Path: s.Path, Reasons: s.Reasons, Failures: s.Failures, Export: s.Export, Privacy: privacy(p.config), Log: p.log.With("sink", s.Name),
	}
	var topic *kafka.Topic
	if s.Topic != "" {
		var err error
		if topic, err = r.openTopic(s, p); err != nil {
			return err
		}
		c.Publisher, c.Target = kafka.NewValues(topic), s.Topic+" at "+strings.Join(s.Brokers, ",")
	}
	list, err := suppression.New(c)
	if err != nil {
		return err
	}
	r.all, r.run, r.close = append(r.all, list), append(r.run, list.Run), append(r.close, list.Close)
	r.stats = append(r.stats, func() prometheus.RecordSink {
		x := list.Stats()
		stats := prometheus.RecordSink{Name: s.Name, Kind: s.Kind, Records: x.Records, Failures: x.Failures, Failing: x.Failing}
		if topic != nil {
			stats.Writer = writerOf(topic.Stats().Writer)
		}
		return stats
	})
	return nil
}

func (r *recordSinks) states() []prometheus.RecordSink {
	all := make([]prometheus.RecordSink, 0, len(r.stats))
	for _, stats := range r.stats {
		all = append(all, stats())
	}
	return all
}

func (r *recordSinks) closeAll() error {
	var errs []error
	for _, c := range r.close {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// describe tells records what they say beyond their events.
func describe(c *config.Config, rules *ruleset) record.Describe {
	mtas := make(map[string]string) // by source
	for i := range c.Sources {
		s := &c.Sources[i]
		switch {
		case s.Mails():
			mtas[s.Name] = config.Messages
		case s.Dialect != dialect.Auto && s.Dialect != dialect.Classified:
			mtas[s.Name] = s.Dialect
		}
	}
	return func(source string, e *event.Event, x *record.Extra) {
		x.MTA = mtas[source]
		if len(e.Reply.Text) == 0 || e.Outcome == event.Delivered {
			return
		}
		d := rules.current.Load().Details(e)
		x.Code, x.Enhanced, x.Stage, x.RetryAfter = d.Code, d.Enhanced, d.Stage, d.RetryAfter
		if d.Blocklist != nil {
			x.Blocklist = d.Blocklist.Name
		}
	}
}
