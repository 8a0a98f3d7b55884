package app

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/bouncemeter/bouncemeter/internal/config"
	"github.com/bouncemeter/bouncemeter/pipeline"
	"github.com/bouncemeter/bouncemeter/sources/dialect"
	"github.com/bouncemeter/bouncemeter/sources/dialect/message"
	"github.com/bouncemeter/bouncemeter/sources/journal"
	"github.com/bouncemeter/bouncemeter/sources/kafka"
	"github.com/bouncemeter/bouncemeter/sources/mailbox"
	"github.com/bouncemeter/bouncemeter/sources/smtp"
	"github.com/bouncemeter/bouncemeter/sources/spool"
	"github.com/bouncemeter/bouncemeter/sources/syslog"
	"github.com/bouncemeter/bouncemeter/sources/tail"
	"github.com/bouncemeter/bouncemeter/sources/webhook"
)

// defaultEventIDs is how many ids of events a source remembers that others send to.
const defaultEventIDs = 1_000_000

// inputs builds the configured sources. A new kind of source is one case here.
func inputs(c *config.Config, log *slog.Logger) ([]pipeline.Input, error) {
	var all []pipeline.Input
	hub := webhook.NewHub(log)
	var options []dialect.Option
	// Records have message ids, which counting does not need.
	if slices.ContainsFunc(c.Sinks, func(s config.Sink) bool { return s.Records() }) {
		options = append(options, dialect.Details)
	}
	for _, s := range c.Sources {
		location, err := time.LoadLocation(s.Timezone)
		if err != nil {
			return nil, fmt.Errorf("source %s: timezone: %w", s.Name, err)
		}
		in := pipeline.Input{Name: s.Name, EventIDs: s.EventIDs}
		if instance := c.Ledger.Postgres.Instance; c.Ledger.Shared() && instance != "" && s.Kind != "kafka" {
			in.LanePrefix = instance + ":"
		}
		if in.NewParser, err = parsers(&s, location, options...); err != nil {
			return nil, fmt.Errorf("source %s: %w", s.Name, err)
		}
		log := log.With("source", s.Name)
		switch s.Kind {
		case "tail":
			var t *tail.Source
			t, err = tail.New(tail.Config{Paths: s.Paths, Start: s.Start, MaxLineBytes: int(s.MaxLineBytes), Poll: s.Poll, Log: log})
			in.Source = lanes[*tail.Lane]{t}
		case "kafka":
			var partitions []int32
			if partitions, err = s.PartitionIDs(); err != nil {
				break
			}
			var k *kafka.Source
			k, err = kafka.New(kafka.Config{
				Config: s.Cluster(), Topics: s.Topics, Pattern: s.Pattern, Group: s.Group, Partitions: partitions,
				SessionTimeout: s.SessionTimeout, Start: s.Start, OutOfRange: s.OutOfRange, MaxRecordBytes: int(s.MaxLineBytes), Log: log,
			})
			in.Source = lanes[*kafka.Lane]{k}
		case "maildir":
			var m *mailbox.Source
			m, err = mailbox.New(mailbox.Config{Paths: s.Paths, MaxMessageBytes: max(int(s.MaxLineBytes), 1<<20), Poll: s.Poll, Log: log})
			in.Source = lanes[*mailbox.Lane]{m}
		case "lmtp", "smtp":
			var networks []netip.Prefix
			if networks, err = s.Networks(); err != nil {
				break
			}
			recipients := make([]string, len(s.Recipients))
			for i, r := range s.Recipients {
				recipients[i] = strings.ToLower(r)
			}
			var m *smtp.Source
			m, err = smtp.New(smtp.Config{
				LMTP: s.Kind == "lmtp", Listen: s.Listen, Allow: networks, Recipients: recipients, CertFile: s.TLS.CertFile, KeyFile: s.TLS.KeyFile,
				Maildir: s.Paths[0], MaxMessageBytes: max(int(s.MaxLineBytes), 1<<20), MaxBytes: int64(s.SpoolBytes), Log: log,
			})
			in.Source = lanes[*mailbox.Lane]{m}
			in.EventIDs = cmp.Or(s.EventIDs, defaultEventIDs)
		case "webhook":
			var w *webhook.Source
			w, err = webhook.New(webhook.Config{
				Hub: hub, Listen: s.Listen, Path: s.URLPath, CertFile: s.TLS.CertFile, KeyFile: s.TLS.KeyFile,
				Verify: s.Scheme(), Secrets: s.Secrets(), User: s.User, URL: s.URL, Topics: s.SNSTopics, MaxAge: s.MaxAge,
				MaxBody: int(s.MaxBodyBytes), Spool: spool.Config{Dir: c.SpoolOf(&s), MaxBytes: int64(s.SpoolBytes)}, Log: log,
			})
			in.Source = lanes[*spool.Lane]{w}
			in.EventIDs = cmp.Or(s.EventIDs, defaultEventIDs)
		case "syslog":
			var networks []netip.Prefix
			if networks, err = s.Networks(); err != nil {
				break
			}
			var r *syslog.Source
			r, err = syslog.New(syslog.Config{
				Listen: strings.Fields(s.Listen), Allow: networks, CertFile: s.TLS.CertFile, KeyFile: s.TLS.KeyFile, ClientCAFile: s.TLS.CAFile,
				MaxMessage: int(s.MaxLineBytes), MaxConnections: s.MaxConnections, IdleTimeout: s.IdleTimeout, TextOnly: !s.Lines(),
				Spool: spool.Config{Dir: c.SpoolOf(&s), MaxBytes: int64(s.SpoolBytes)}, Log: log,
			})
			in.Source = lanes[*spool.Lane]{r}
		case "journald":
			var j *journal.Source
			j, err = journal.New(journal.Config{
				Units: s.Units, Identifiers: s.Identifiers, Start: s.Start, Directory: strings.Join(s.Paths, ""),
				MaxLine: int(s.MaxLineBytes), TextOnly: !s.Lines(), Log: log,
			})
			in.Source = lanes[*journal.Lane]{j}
		case "stdin":
			var f *tail.Files
			f, err = tail.OpenFiles([]string{"-"}, tail.FilesOptions{MaxLineBytes: int(s.MaxLineBytes)})
			in.Source = oneLane{f}
		default:
			err = fmt.Errorf("unknown kind %q", s.Kind)
		}
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", s.Name, err)
		}
		all = append(all, in)
	}
	return all, nil
}

// parsers returns what makes the parsers of a source, one for each lane.
func parsers(s *config.Source, location *time.Location, options ...dialect.Option) (func() dialect.Parser, error) {
	if s.Mails() {
		return func() dialect.Parser { return &message.Parser{} }, nil
	}
	create := func() (dialect.Parser, error) { return dialect.New(s.Dialect, location, options...) }
	if s.Mapped() {
		create = func() (dialect.Parser, error) { return s.Parser(location) }
	}
	if _, err := create(); err != nil {
		return nil, err
	}
	return func() dialect.Parser {
		p, err := create()
		if err != nil {
			panic(err) // it could be made a moment ago
		}
		return p
	}, nil
}

// lanes makes a source that hands out lanes of its own type, as it cannot know
// package pipeline, a pipeline.Source.
type lanes[L pipeline.Lane] struct {
	source interface {
		Run(ctx context.Context, work func(context.Context, L) error) error
	}
}

func (s lanes[L]) Run(ctx context.Context, work func(context.Context, pipeline.Lane) error) error {
	return s.source.Run(ctx, func(ctx context.Context, l L) error { return work(ctx, l) })
}

// oneLane is a source of a single lane, such as standard input.
type oneLane struct{ lane pipeline.Lane }

func (s oneLane) Run(ctx context.Context, work func(context.Context, pipeline.Lane) error) error {
	return work(ctx, s.lane)
}
