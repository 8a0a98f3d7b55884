package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/bouncemeter/bouncemeter/internal/config"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/pipeline/detect"
	"github.com/bouncemeter/bouncemeter/pipeline/spike"
)

// AlertRules returns the built-in rules and those of the configuration: one of the
// same name replaces a built-in one, or switches it off.
func AlertRules(c *config.Config) []spike.Rule {
	rules := spike.DefaultRules()
	for i := range c.Alerts {
		a := &c.Alerts[i]
		at := slices.IndexFunc(rules, func(r spike.Rule) bool { return r.Name == a.Name })
		switch {
		case a.Off && at >= 0:
			rules = slices.Delete(rules, at, at+1)
		case a.Off:
		case at >= 0:
			rules[at] = alertRule(a)
		default:
			rules = append(rules, alertRule(a))
		}
	}
	return rules
}

func alertRule(a *config.Alert) spike.Rule {
	r := spike.Rule{
		Name: a.Name, Why: a.Why, Kind: spike.Kind(a.Kind), Budget: a.Budget,
		Match: spike.Match{
			Categories: a.Match.Categories, Groups: a.Match.Groups, Outcomes: a.Match.Outcomes,
			Providers: a.Match.Providers, SenderDomains: a.Match.SenderDomains, Sources: a.Match.Sources, Hosts: a.Match.Hosts,
		},
		Gates: spike.Gates(a.Gates), Severity: spike.Severity(a.Severity), Threshold: spike.Limits(a.Threshold),
		Objective: a.Objective, NoBreadth: a.NoBreadth, NoTrend: a.NoTrend,
	}
	for _, d := range a.By {
		r.By = append(r.By, spike.Dimension(d))
	}
	return r
}

func newDetector(c *config.Config, o detect.Options) (*detect.Runner, error) {
	o.Spike = spike.Config{Rules: AlertRules(c), Location: time.Local}
	o.Lateness, o.Shared = c.Limits.Lateness, c.Ledger.Shared()
	r, err := detect.New(o)
	if err != nil {
		return nil, fmt.Errorf("alerts: %w", err)
	}
	return r, nil
}

// leadAgain is how long to wait before the lease is asked for again.
const leadAgain = time.Second

// lead detects and notifies while this process holds the ledger's lease, and
// waits for it else. What fails is tried again; only a damaged ledger ends it.
func (a *App) lead(ctx context.Context) error {
	for ctx.Err() == nil {
		err := a.leadOnce(ctx)
		if errors.Is(err, ledger.ErrCorrupt) {
			return err
		}
		if err != nil && ctx.Err() == nil {
			a.log.Error("detection and notifying stopped and start again", "err", err, "pause", leadAgain)
		}
		select {
		case <-ctx.Done():
		case <-time.After(leadAgain):
		}
	}
	return nil
}

func (a *App) leadOnce(ctx context.Context) error {
	lease, release, err := a.ledger.Lease(ctx)
	if err != nil {
		return err
	}
	defer release()
	g, lease := errgroup.WithContext(lease)
	g.Go(func() error { return a.detect.Run(lease, a.ledger) })
	g.Go(func() error { return a.notify.run(lease, a.ledger) })
	for _, c := range a.records.counts {
		g.Go(func() error { return c.Run(lease, a.ledger) })
	}
	return g.Wait()
}

// detectorMetrics shows how detection fares.
func detectorMetrics(stats func() detect.Stats) []prometheus.Collector {
	gauge := func(name, help string, value func(detect.Stats) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(stats()) })
	}
	counter := func(name, help string, value func(detect.Stats) int64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value(stats())) })
	}
	return []prometheus.Collector{
		gauge("bouncemeter_detector_leading", "1 if this process detects and notifies, 0 if another one of the same ledger does.", func(s detect.Stats) float64 {
			if s.Leading {
				return 1
			}
			return 0
		}),
		gauge("bouncemeter_detector_position_timestamp_seconds", "Event time before which everything has been judged.", func(s detect.Stats) float64 { return float64(s.Position) }),
		gauge("bouncemeter_detector_series", "Series that are judged.", func(s detect.Stats) float64 { return float64(s.Series) }),
		gauge("bouncemeter_alerts_open", "Alerts that are not over.", func(s detect.Stats) float64 { return float64(s.Open) }),
		counter("bouncemeter_alert_changes_total", "Changes of alerts that were stored.", func(s detect.Stats) int64 { return s.Changes }),
		counter("bouncemeter_detector_forgotten_total", "Names that were forgotten because there were too many.", func(s detect.Stats) int64 { return s.Evicted }),
	}
}
