package app

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/event/record"
	"github.com/bouncemeter/bouncemeter/internal/config"
	"github.com/bouncemeter/bouncemeter/pipeline"
	"github.com/bouncemeter/bouncemeter/sinks/file"
	"github.com/bouncemeter/bouncemeter/sinks/kafka"
	"github.com/bouncemeter/bouncemeter/sinks/prometheus"
	"github.com/bouncemeter/bouncemeter/sources/dialect"
)

// recordSinks are the sinks of classified records.
type recordSinks struct {
	all   []pipeline.RecordSink
	stats []func() prometheus.RecordSink
	close []func() error
}

// newRecordSinks opens the configured sinks. A new kind of sink is one case here.
func newRecordSinks(c *config.Config, describe record.Describe, log *slog.Logger) (_ *recordSinks, err error) {
	r := &recordSinks{}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.closeAll())
		}
	}()
	for i := range c.Sinks {
		s := &c.Sinks[i]
		log := log.With("sink", s.Name)
		var err error
		switch s.Kind {
		case "file":
			err = r.addFile(s, file.Config{
				Path: s.Path, MaxBytes: int64(s.MaxBytes), Keep: s.Keep, Sync: s.Sync, Privacy: privacy(c), Describe: describe, Log: log,
			})
		case "kafka":
			err = r.addTopic(s, kafka.Records{Privacy: privacy(c), Describe: describe}, log)
		default:
			err = fmt.Errorf("unknown kind %q (have file, kafka)", s.Kind)
		}
		if err != nil {
			return nil, fmt.Errorf("sink %s: %w", s.Name, err)
		}
	}
	return r, nil
}

func (r *recordSinks) addFile(s *config.Sink, c file.Config) error {
	f, err := file.New(c)
	if err != nil {
		return err
	}
	r.all, r.close = append(r.all, f), append(r.close, f.Close)
	r.stats = append(r.stats, func() prometheus.RecordSink {
		x := f.Stats()
		return prometheus.RecordSink{Name: s.Name, Kind: s.Kind, Records: x.Records, Bytes: x.Bytes, Failures: x.Failures, Failing: x.Failing}
	})
	return nil
}

func (r *recordSinks) addTopic(s *config.Sink, records kafka.Records, log *slog.Logger) error {
	topic, err := kafka.NewTopic(kafka.Config{
		Config: s.Cluster(), Topic: s.Topic, Compression: s.Compression,
		MaxBatchBytes: int64(s.MaxBatchBytes), MaxHeldBytes: int64(s.MaxHeldBytes), Log: log,
	})
	if err != nil {
		return err
	}
	records.Topic = topic
	r.all, r.close = append(r.all, &records), append(r.close, topic.Close)
	r.stats = append(r.stats, func() prometheus.RecordSink {
		x := topic.Stats()
		w := x.Writer
		return prometheus.RecordSink{
			Name: s.Name, Kind: s.Kind, Records: x.Records, Bytes: x.Bytes, Failures: x.Failures, Refused: x.Refused, Held: x.Held, Failing: x.Failing,
			Writer: &prometheus.KafkaWriter{
				Requests: w.Writes, Messages: w.Messages, Bytes: w.Bytes, Errors: w.Errors, Retries: w.Retries,
				Batch: prometheus.Duration(w.Batch), Write: prometheus.Duration(w.Write), Throttle: prometheus.Duration(w.Throttle),
			},
		}
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
		case s.Kind == "maildir", s.Kind == "lmtp":
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
