// Package app puts the daemon together from its configuration, runs it, and
// changes or stops it on request. It is the only package that knows all
// others.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/config"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/pipeline"
	"github.com/bouncemeter/bouncemeter/pipeline/detect"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
	"github.com/bouncemeter/bouncemeter/sinks/deadletter"
	"github.com/bouncemeter/bouncemeter/sinks/prometheus"
	"github.com/bouncemeter/bouncemeter/web"
)

// Options is what an App works with.
type Options struct {
	Config config.Config
	// Reload reads the configuration anew. Nil means it cannot be.
	Reload func() (*config.Config, error)
	Log    *slog.Logger
	// Level is the level of Log, for a reload to change. May be nil.
	Level   *slog.LevelVar
	Version string
}

// App is a daemon: sources, ledger, sinks and the web server. Between Open and
// Close it holds the ledger's lock.
type App struct {
	o       Options
	log     *slog.Logger
	ledger  Ledger
	sink    *prometheus.Sink
	web     *web.Server
	dead    *deadletter.Sink // nil keeps no dead letters
	rules   *ruleset
	names   names
	notify  *notifying
	records *recordSinks
	detect  *detect.Runner
	daemon  *pipeline.Daemon
	inputs  []pipeline.Input
	reloads reloads
	http    net.Listener

	cleanup []func() error // last in, first out
}

// names are the dimensions' admitted names, shared by all lanes.
type names struct {
	senderDomains, recipientDomains, hosts, streams *window.Names
}

// Open makes everything ready that can fail: the rules are read, the ledger is
// locked or reached, and read, the port is bound. For a server that is away it
// waits, until ctx is done. After an error nothing is left open.
func Open(ctx context.Context, o Options) (_ *App, err error) {
	a := &App{o: o, log: o.Log}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	c := &o.Config
	for _, w := range c.Warnings {
		a.log.Warn("configuration", "warning", w.Error())
	}
	if a.rules, err = newRuleset(c); err != nil {
		return nil, err
	}
	if err = a.openLedger(ctx); err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	if c.DeadLetter.Enabled {
		if err = a.openDeadLetters(); err != nil {
			return nil, err
		}
	}
	if a.inputs, err = inputs(c, a.log); err != nil {
		return nil, err
	}
	if a.notify, err = newNotifying(c, a.ledger, a.log); err != nil {
		return nil, err
	}
	a.cleanup = append(a.cleanup, a.notify.close)
	if a.detect, err = newDetector(c, detect.Options{Log: a.log}); err != nil {
		return nil, err
	}
	closed := func() int64 { return a.detect.Stats().Position }
	if a.records, err = newRecordSinks(sinkParts{config: c, describe: describe(c, a.rules), closed: closed, log: a.log}); err != nil {
		return nil, err
	}
	a.cleanup = append(a.cleanup, a.records.closeAll)
	a.openWeb()
	a.daemon = pipeline.New(a.pipelineOptions())
	a.reloads.success = time.Now()
	if a.http, err = a.listen(); err != nil {
		return nil, err
	}
	a.cleanup = append(a.cleanup, func() error {
		// The web server closes it, too.
		if err := a.http.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return a, nil
}

// Close releases what Open took, the last first.
func (a *App) Close() error {
	var errs []error
	for i := len(a.cleanup) - 1; i >= 0; i-- {
		errs = append(errs, a.cleanup[i]())
	}
	a.cleanup = nil
	return errors.Join(errs...)
}

// Address is where the web server listens.
func (a *App) Address() string { return a.http.Addr().String() }

// Ledger is the open ledger, for those who show its counts.
func (a *App) Ledger() Ledger { return a.ledger }

func (a *App) openDeadLetters() error {
	c := &a.o.Config
	d, err := deadletter.Open(deadletter.Config{Path: deadLetters(c), MaxBytes: int64(c.DeadLetter.MaxBytes), Privacy: privacy(c)}, a.log)
	if err != nil {
		return err
	}
	a.dead = d
	a.cleanup = append(a.cleanup, d.Close)
	return nil
}

func (a *App) openWeb() {
	c := &a.o.Config
	o := web.Options{
		Ledger: a.ledger, Classifier: a.rules.current.Load, Lanes: a.lanes,
		TryRules: a.tryRules,
		Minutes:  c.Ledger.Retention.Minutes, Hours: c.Ledger.Retention.Hours, Shared: c.Ledger.Shared(), Version: a.o.Version, Log: a.log,
	}
	if c.DeadLetter.Enabled {
		o.DeadLetters = deadLetters(c)
	}
	a.web = web.New(o)
}

// deadLetters is where the file of unreadable lines is.
func deadLetters(c *config.Config) string {
	if c.DeadLetter.Path == "" {
		return filepath.Join(c.StateDir(), "dead-letter.jsonl")
	}
	return c.DeadLetter.Path
}

func privacy(c *config.Config) event.Privacy {
	p := event.Privacy{Key: []byte(c.Privacy.Key)}
	switch c.Privacy.Addresses {
	case "hash":
		p.Addresses = event.HashLocal
	case "keep":
		p.Addresses = event.KeepAddresses
	}
	return p
}

func (a *App) pipelineOptions() pipeline.Options {
	c := &a.o.Config
	o := pipeline.Options{
		Ledger:        a.ledger,
		NewClassifier: a.rules.session,
		Privacy:       privacy(c),
		RecordSinks:   a.records.all,
		Sinks:         []pipeline.Sink{a.sink, a.web},
		Log:           a.log,
		CommitEvery:   c.Limits.CommitEvery,
		Retention:     ledger.Retention(c.Ledger.Retention),
		SenderDomains: a.names.senderDomains, RecipientDomains: a.names.recipientDomains,
		Hosts: a.names.hosts, Streams: a.names.streams,
		MaxSeries: c.Limits.Series, QueueIDs: c.Limits.QueueIDs, QueueLifetime: c.Limits.QueueLifetime, Lateness: c.Limits.Lateness,
		CommitTook: a.sink.CommitTook, CommitFailed: a.sink.CommitFailed,
	}
	if a.dead != nil {
		o.DeadLetters = a.dead
	}
	return o
}

// Run reads until ctx is done, commits what was read and returns nil; or until
// every source is used up, when the web server goes on until ctx is done.
func (a *App) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.daemon.Run(ctx, a.inputs) })
	g.Go(func() error { return a.lead(ctx) })
	for _, run := range a.records.run {
		g.Go(func() error { return run(ctx) })
	}
	g.Go(func() error { return a.serve(ctx, a.http, a.handler()) })
	g.Go(func() error { return a.web.Run(ctx) })
	g.Go(func() error { watchdog(ctx, a.log); return nil })
	a.log.Info("started", "version", a.o.Version, "sources", len(a.inputs), "ledger", a.ledger.Name(), "http", "http://"+a.Address())
	sdNotify(a.log, daemon.SdNotifyReady)
	err := g.Wait()
	sdNotify(a.log, daemon.SdNotifyStopping)
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	if err != nil {
		a.log.Error("stopped", "err", err)
	} else {
		a.log.Info("stopped")
	}
	return err
}

// sdNotify tells systemd, if it started us (sd_notify(3)).
func sdNotify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("notify systemd", "state", state, "err", err)
	}
}

// watchdog tells systemd that we are alive, twice as often as it asks for.
func watchdog(ctx context.Context, log *slog.Logger) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		return
	}
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			sdNotify(log, daemon.SdNotifyWatchdog)
		}
	}
}
