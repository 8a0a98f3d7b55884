package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/bouncemeter/bouncemeter/internal/app"
	"github.com/bouncemeter/bouncemeter/internal/config"
	"github.com/bouncemeter/bouncemeter/sources/dialect"
)

type topCommand struct {
	Window   time.Duration `default:"10m" placeholder:"TIME" help:"What counts as now (${default}); usual is the week before, from the rotated logs beside the files."`
	Once     bool          `help:"Read what is there, show it and end."`
	From     string        `default:"auto" placeholder:"DIALECT" help:"Format of the logs; auto finds out each line's own."`
	Timezone string        `default:"Local" placeholder:"ZONE" help:"Time zone of timestamps that do not tell it, such as Europe/Berlin."`
	Files    []string      `arg:"" name:"file" help:"Live logs, such as /var/log/mail.log."`
}

// Run follows logs and shows why mail fails now, by provider, against the usual.
// Nothing is kept: the counts are in a folder that goes away.
func (t topCommand) Run(ctx context.Context, c console) error {
	if t.Window < time.Minute {
		return usageError{fmt.Errorf("--window: counts are by the minute; take at least 1m")}
	}
	location, err := time.LoadLocation(t.Timezone)
	if err != nil {
		return usageError{fmt.Errorf("--timezone: %w", err)}
	}
	if _, err := dialect.New(t.From, location); err != nil {
		return usageError{err}
	}
	dir, err := os.MkdirTemp("", "bouncemeter-top-")
	if err != nil {
		return fmt.Errorf("make a folder for the counts: %w", err)
	}
	defer os.RemoveAll(dir)
	cfg, err := t.config(dir)
	if err != nil {
		return err
	}
	a, err := app.Open(ctx, app.Options{Config: cfg, Log: slog.New(slog.DiscardHandler), Version: versionString()})
	if err != nil {
		return err
	}
	defer a.Close()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g, running := errgroup.WithContext(ctx)
	g.Go(func() error { return a.Run(running) })
	g.Go(func() error {
		defer stop() // ends what runs
		return t.watch(running, a, c.out)
	})
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// config is a daemon with default settings that follows the files and has
// everything in dir.
func (t topCommand) config(dir string) (config.Config, error) {
	cfg := config.Default()
	source := config.DefaultSource()
	source.Name, source.Kind, source.Dialect, source.Timezone = "top", "tail", t.From, t.Timezone
	for _, name := range t.Files {
		f, err := os.Open(name) // a daemon would wait for it; who asks has mistyped
		if err != nil {
			return cfg, fmt.Errorf("%w; name a log that you may read", err)
		}
		f.Close()
		path, err := filepath.Abs(name)
		if err != nil {
			return cfg, err
		}
		source.Paths = append(source.Paths, path)
	}
	cfg.Sources = []config.Source{source}
	cfg.Ledger.SQLite = filepath.Join(dir, "ledger.db")
	// Old logs are looked at by the minute, too.
	forever := 100 * 365 * 24 * time.Hour
	cfg.Ledger.Retention.Minutes, cfg.Ledger.Retention.Hours, cfg.Ledger.Retention.Days = forever, forever, forever
	cfg.DeadLetter.Enabled = false
	cfg.HTTP.Listen = "127.0.0.1:0" // nobody is told of it
	return cfg, nil
}

// watch shows the view: every 2 seconds in place on a terminal, else every 10
// seconds below each other, or once.
func (t topCommand) watch(ctx context.Context, a *app.App, w io.Writer) error {
	v := view{span: t.Window, rows: 30, color: useColor(w)}
	inPlace := isTerminal(w) && !t.Once
	every := 10 * time.Second
	switch {
	case t.Once:
		every = 200 * time.Millisecond
	case inPlace:
		every = 2 * time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			waiting, begun := a.Behind()
			if t.Once && (!begun || waiting > 0) {
				continue
			}
			if width, height, err := size(w); err == nil {
				v.width, v.rows = width, height-4
			}
			text, err := v.text(ctx, a.Ledger(), now)
			if err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
			if waiting > 0 {
				text += fmt.Sprintf("  %.1f MB are still to be read\n", float64(waiting)/1e6)
			}
			if inPlace {
				text = "\x1b[H\x1b[J" + strings.ReplaceAll(text, "\n", "\x1b[K\n")
			}
			if _, err := io.WriteString(w, text); err != nil || t.Once {
				return err
			}
		}
	}
}

// size is that of a terminal.
func size(w io.Writer) (width, height int, err error) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, 0, errors.New("no terminal")
	}
	return term.GetSize(int(f.Fd()))
}
