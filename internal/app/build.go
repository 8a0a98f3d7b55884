package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/bouncemeter/bouncemeter/internal/config"
	"github.com/bouncemeter/bouncemeter/pipeline"
	"github.com/bouncemeter/bouncemeter/sources/dialect"
	"github.com/bouncemeter/bouncemeter/sources/tail"
)

// inputs builds the configured sources. A new kind of source is one case here.
func inputs(c *config.Config, log *slog.Logger) ([]pipeline.Input, error) {
	var all []pipeline.Input
	for _, s := range c.Sources {
		location, err := time.LoadLocation(s.Timezone)
		if err != nil {
			return nil, fmt.Errorf("source %s: timezone: %w", s.Name, err)
		}
		if _, err := dialect.New(s.Dialect, location); err != nil {
			return nil, fmt.Errorf("source %s: %w", s.Name, err)
		}
		in := pipeline.Input{Name: s.Name, NewParser: func() dialect.Parser {
			p, err := dialect.New(s.Dialect, location)
			if err != nil {
				panic(err) // it could be made a moment ago
			}
			return p
		}}
		switch s.Kind {
		case "tail":
			t, err := tail.New(tail.Config{
				Paths: s.Paths, Start: s.Start, MaxLineBytes: int(s.MaxLineBytes), Poll: s.Poll,
				Log: log.With("source", s.Name),
			})
			if err != nil {
				return nil, fmt.Errorf("source %s: %w", s.Name, err)
			}
			in.Source = tailSource{t}
		case "stdin":
			f, err := tail.OpenFiles([]string{"-"}, tail.FilesOptions{MaxLineBytes: int(s.MaxLineBytes)})
			if err != nil {
				return nil, fmt.Errorf("source %s: %w", s.Name, err)
			}
			in.Source = oneLane{f}
		default:
			return nil, fmt.Errorf("source %s: unknown kind %q (have tail, stdin)", s.Name, s.Kind)
		}
		all = append(all, in)
	}
	return all, nil
}

// tailSource makes a tail.Source, which cannot know package pipeline, a
// pipeline.Source.
type tailSource struct{ *tail.Source }

func (s tailSource) Run(ctx context.Context, work func(context.Context, pipeline.Lane) error) error {
	return s.Source.Run(ctx, func(ctx context.Context, l *tail.Lane) error { return work(ctx, l) })
}

// oneLane is a source of a single lane, such as standard input.
type oneLane struct{ lane pipeline.Lane }

func (s oneLane) Run(ctx context.Context, work func(context.Context, pipeline.Lane) error) error {
	return work(ctx, s.lane)
}
