package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/lmittmann/tint"
	"github.com/mattn/go-isatty"

	"github.com/bouncemeter/bouncemeter/internal/app"
	"github.com/bouncemeter/bouncemeter/internal/config"
)

type runCommand struct {
	Config string            `short:"c" required:"" type:"path" placeholder:"FILE" help:"Configuration file."`
	Set    map[string]string `placeholder:"PATH=VALUE" help:"Override a setting, such as http.listen=127.0.0.1:9000."`
}

// Run runs the daemon until SIGINT or SIGTERM; SIGHUP reloads.
func (r runCommand) Run(ctx context.Context, c console) error {
	load := func() (*config.Config, error) {
		flags := make(map[string]any, len(r.Set))
		for k, v := range r.Set {
			flags[k] = v
		}
		return config.Load(r.Config, os.Environ(), flags)
	}
	cfg, err := load()
	if err != nil {
		return err
	}
	log, level := newLogger(c.err, cfg.Log)
	limitMemory(log)
	a, err := app.Open(ctx, app.Options{Config: *cfg, Reload: load, Log: log, Level: level, Version: versionString()})
	if err != nil {
		if ctx.Err() != nil {
			log.Info("stopped while starting")
			return nil // as asked, and nothing had begun
		}
		return err
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	reloading := make(chan struct{})
	ctx, done := context.WithCancel(ctx)
	go func() {
		defer close(reloading)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hup:
				_ = a.Reload() // logged there
			}
		}
	}()
	err = a.Run(ctx)
	done()
	<-reloading
	if closeErr := a.Close(); err == nil {
		err = closeErr
	}
	return err
}

// limitMemory trades some time for memory, of which a daemon beside a mail
// server is to take little, and lets the garbage collector know the limit that
// the container or unit sets, so that it works harder instead of being killed.
func limitMemory(log *slog.Logger) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(40)
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if limit, err := memlimit.Set(memlimit.WithRatio(0.9), memlimit.WithProvider(memlimit.FromCgroup)); err == nil && limit > 0 {
		log.Debug("memory limit", "bytes", limit)
	}
}

// newLogger returns the daemon's log: for people on a terminal, else logfmt.
func newLogger(w io.Writer, c config.Log) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(app.Level(c.Level))
	format := c.Format
	if format == "auto" {
		format = "logfmt"
		if isTerminal(w) {
			format = "text"
		}
	}
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})), level
	case "text":
		return slog.New(tint.NewTextHandler(w, &tint.Options{Level: level, NoColor: !useColor(w)})), level
	default:
		return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})), level
	}
}

// isTerminal reports whether w is one.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// useColor reports whether to colour what is written to w: on a terminal,
// unless NO_COLOR is set (no-color.org).
func useColor(w any) bool {
	return isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
