package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bouncemeter/bouncemeter/internal/config"
	"github.com/bouncemeter/bouncemeter/internal/report"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/postgres"
	"github.com/bouncemeter/bouncemeter/ledger/sqlite"
	"github.com/bouncemeter/bouncemeter/pipeline"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
	"github.com/bouncemeter/bouncemeter/sinks/prometheus"
)

// Ledger is what the daemon and those who look into its counts need of a ledger.
type Ledger interface {
	pipeline.Ledger
	pipeline.AlertLedger
	report.Querier
	// Names returns up to limit names of a dimension, the most recently active
	// first.
	Names(ctx context.Context, d ledger.Dimension, limit int) ([]string, error)
	// Totals yields the all-time sums, and DelayTotals those of delays.
	DelayTotals(ctx context.Context) ([]ledger.DelayTotal, error)
	// SetSilence stores a silence that was made on the page.
	SetSilence(ctx context.Context, s *ledger.Silence) error
	// Name tells people where the ledger is, without a secret.
	Name() string
}

// OpenLedger opens a ledger for reading: a SQLite file, or a PostgreSQL by its
// DSN, a postgres:// URL or key=value pairs.
func OpenLedger(ctx context.Context, where string) (Ledger, error) {
	if isDSN(where) {
		return postgres.OpenReadOnly(ctx, where, postgres.Options{})
	}
	return sqlite.OpenReadOnly(ctx, where, sqlite.Options{})
}

// OpenLedgerOf opens a configuration's ledger for reading.
func OpenLedgerOf(ctx context.Context, c *config.Config) (Ledger, error) {
	if p := &c.Ledger.Postgres; c.Ledger.Shared() {
		return postgres.OpenReadOnly(ctx, string(p.DSN), p.Options())
	}
	return sqlite.OpenReadOnly(ctx, c.Ledger.SQLite, sqlite.Options{})
}

// isDSN tells a DSN from the name of a file.
func isDSN(where string) bool {
	if strings.HasPrefix(where, "postgres://") || strings.HasPrefix(where, "postgresql://") {
		return true
	}
	key, _, pairs := strings.Cut(where, "=")
	if _, err := os.Stat(where); !pairs || err == nil {
		return false
	}
	return strings.Trim(key, "abcdefghijklmnopqrstuvwxyz_ ") == ""
}

// ledgerCache is a share of the daemon's memory that its bound (150 MB with a
// million messages in the queue) leaves.
const ledgerCache = 8 << 20

// openLedger opens the ledger and takes from it what the daemon begins with. It
// waits for a server that is away.
func (a *App) openLedger(ctx context.Context) error {
	c := &a.o.Config.Ledger
	var open func(ctx context.Context) (Ledger, error)
	if c.Shared() {
		open = func(ctx context.Context) (Ledger, error) {
			return postgres.Open(ctx, string(c.Postgres.DSN), c.Postgres.Options())
		}
	} else {
		open = func(ctx context.Context) (Ledger, error) {
			return sqlite.Open(ctx, c.SQLite, sqlite.Options{CacheBytes: ledgerCache})
		}
	}
	begin := func(ctx context.Context) error {
		l, err := open(ctx)
		if err != nil {
			return err
		}
		a.ledger = l
		if err := a.restore(ctx); err != nil {
			return errors.Join(fmt.Errorf("restore the counts of %s: %w", l.Name(), err), l.Close())
		}
		a.cleanup = append(a.cleanup, l.Close)
		return nil
	}
	err := begin(ctx)
	if err != nil && c.Shared() && postgres.Temporary(err) && ctx.Err() == nil {
		return a.awaitLedger(ctx, begin, err)
	}
	return err
}

// How often the server is asked for while it is away at the start, and how long
// systemd is asked to wait for us each time.
const (
	askAgain    = 2 * time.Second
	startExtend = 60 * time.Second
)

// awaitLedger tries begin until the server is there. Meanwhile the web server
// answers that we are alive and not ready, and why.
func (a *App) awaitLedger(ctx context.Context, begin func(context.Context) error, err error) error {
	listener, listenErr := a.listen()
	if listenErr != nil {
		return listenErr
	}
	var reason atomic.Pointer[error]
	reason.Store(&err)
	answering, stop := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error { return a.serve(answering, listener, waiting(&reason)) })
	tick := time.NewTicker(askAgain)
	defer tick.Stop()
	began, reported := time.Now(), time.Time{}
	for err != nil && postgres.Temporary(err) && ctx.Err() == nil {
		if time.Since(reported) >= time.Minute {
			reported = time.Now()
			a.log.Error("the ledger cannot be reached; counting begins when it can", "err", err)
		}
		sdNotify(a.log, fmt.Sprintf("STATUS=waiting for the ledger: %v\nEXTEND_TIMEOUT_USEC=%d", err, startExtend.Microseconds()))
		select {
		case <-ctx.Done():
		case <-tick.C:
			if err = begin(ctx); err != nil {
				reason.Store(&err)
			}
		}
	}
	stop()
	if served := g.Wait(); err == nil {
		err = served
	}
	if err == nil {
		a.log.Info("the ledger is there", "after", time.Since(began).Round(time.Second))
		sdNotify(a.log, "STATUS=")
	}
	return err
}

// waiting answers while the ledger cannot be reached.
func waiting(reason *atomic.Pointer[error]) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /-/healthy", healthy)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, fmt.Sprintf("waiting for the ledger: %v", *reason.Load()), http.StatusServiceUnavailable)
	})
	return headers(mux)
}

// restore takes the admitted names and the counters from the ledger, before
// anything is read or scraped. The counters of a shared ledger begin at zero:
// each instance shows what it has committed itself, so that the sum over all of
// them is what was committed.
func (a *App) restore(ctx context.Context) error {
	limits := &a.o.Config.Limits
	a.names = names{
		senderDomains:    window.NewNames(limits.SenderDomains),
		recipientDomains: window.NewNames(limits.RecipientDomains),
		hosts:            window.NewNames(limits.Hosts),
		streams:          window.NewNames(limits.Streams),
	}
	for _, d := range []struct {
		by    ledger.Dimension
		names *window.Names
		limit int
	}{
		{ledger.BySenderDomain, a.names.senderDomains, limits.SenderDomains},
		{ledger.ByHost, a.names.hosts, limits.Hosts},
		{ledger.ByStream, a.names.streams, limits.Streams},
	} {
		active, err := a.ledger.Names(ctx, d.by, d.limit)
		if err != nil {
			return err
		}
		for _, name := range active {
			d.names.Restore(name)
		}
	}
	a.sink = prometheus.New()
	if a.o.Config.Ledger.Shared() {
		return nil
	}
	if err := ledger.Totals(ctx, a.ledger.Query, func(t ledger.Total) error {
		a.sink.RestoreCount(t.Outcome, t.Category, t.Provider, t.SenderDomain, t.Attempts, t.Firsts)
		return nil
	}); err != nil {
		return err
	}
	delays, err := a.ledger.DelayTotals(ctx)
	if err != nil {
		return err
	}
	for _, d := range delays {
		a.sink.RestoreDelay(d.Provider, d.Outcome, d.Buckets, d.Micros)
	}
	lanes, err := a.ledger.Lanes(ctx)
	if err != nil {
		return err
	}
	for _, l := range lanes {
		a.sink.RestoreLines(l.Source, l.Lines)
	}
	return nil
}
