package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/bouncemeter/bouncemeter/internal/config"
	"github.com/bouncemeter/bouncemeter/internal/report"
	"github.com/bouncemeter/bouncemeter/sinks/notify"
	sink "github.com/bouncemeter/bouncemeter/sinks/prometheus"
)

// serve answers HTTP until ctx is done, and then finishes what was asked.
func (a *App) serve(ctx context.Context) error {
	server := &http.Server{
		Handler:           a.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		stopped <- server.Shutdown(last)
	})
	webConfig := a.o.Config.HTTP.WebConfigFile
	// What it would say of itself is in our own messages, or in its error.
	err := web.Serve(a.http, server, &web.FlagConfig{WebConfigFile: &webConfig}, slog.New(slog.DiscardHandler))
	if stop() {
		return fmt.Errorf("serve http: %w", err) // it ended by itself
	}
	if err := <-stopped; err != nil {
		// A client that does not finish must not keep the daemon.
		err = errors.Join(err, server.Close())
		a.log.Warn("stop the web server", "err", err)
	}
	return nil
}

// handler routes all requests. None but /-/reload changes anything.
func (a *App) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.registry(), promhttp.HandlerOpts{EnableOpenMetrics: true}))
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "bouncemeter is alive.") })
	mux.HandleFunc("GET /-/ready", a.ready)
	mux.HandleFunc("POST /-/reload", a.reload)
	mux.HandleFunc("GET /{$}", a.page)
	mux.HandleFunc("GET /api/v1/report", a.api)
	return http.NewCrossOriginProtection().Handler(headers(mux))
}

// headers tells browsers to trust nothing but this server.
func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}

func (a *App) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	version.Version = a.o.Version
	r.MustRegister(
		a.sink,
		notify.Collector{Stats: a.notify.stats},
		sink.LaneCollector{Lanes: a.laneStates, Dimensions: a.dimensions},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		versioncollector.NewCollector("bouncemeter"),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "bouncemeter_config_last_reload_successful",
			Help: "1 unless the last reload of the configuration failed.",
		}, func() float64 {
			a.reloads.mu.Lock()
			defer a.reloads.mu.Unlock()
			if a.reloads.failed {
				return 0
			}
			return 1
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "bouncemeter_config_last_reload_success_timestamp_seconds",
			Help: "When the configuration in force was loaded.",
		}, func() float64 {
			a.reloads.mu.Lock()
			defer a.reloads.mu.Unlock()
			return float64(a.reloads.success.Unix())
		}),
	)
	return r
}

func (a *App) laneStates() []sink.Lane {
	var all []sink.Lane
	for _, s := range a.daemon.Status() {
		all = append(all, sink.Lane{Source: s.Source, Lane: s.Lane, Lag: s.Lag, LastEvent: s.LastEvent, LastRead: s.Read, Failing: s.Err != nil})
	}
	return all
}

func (a *App) dimensions() []sink.Dimension {
	var all []sink.Dimension
	for _, d := range []struct {
		name  string
		names interface{ Len() (int, int) }
	}{
		{"sender_domain", a.names.senderDomains}, {"recipient_domain", a.names.recipientDomains},
		{"host", a.names.hosts}, {"stream", a.names.streams},
	} {
		admitted, limit := d.names.Len()
		all = append(all, sink.Dimension{Name: d.name, Admitted: admitted, Limit: limit})
	}
	return all
}

// ready tells whether counting goes on: 200, or 503 with the lanes whose
// commits fail.
func (a *App) ready(w http.ResponseWriter, _ *http.Request) {
	var failing bytes.Buffer
	for _, s := range a.daemon.Status() {
		if s.Err != nil {
			fmt.Fprintf(&failing, "source %s, lane %s: %v\n", s.Source, s.Lane, s.Err)
		}
	}
	if failing.Len() > 0 {
		http.Error(w, failing.String(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "bouncemeter is ready.")
}

func (a *App) reload(w http.ResponseWriter, _ *http.Request) {
	if !a.o.Config.HTTP.Reload {
		http.Error(w, "reload by HTTP is off; set http.reload: true, or send SIGHUP", http.StatusForbidden)
		return
	}
	if err := a.Reload(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintln(w, "reloaded")
}

// span reads the time range of a request: the last 24 hours, or ?last=7d up to
// a year.
func span(r *http.Request) (since, until int64, err error) {
	last := 24 * time.Hour
	if s := r.FormValue("last"); s != "" {
		if last, err = parseLast(s); err != nil {
			return 0, 0, err
		}
	}
	now := time.Now()
	return now.Add(-last).Unix(), now.Add(24 * time.Hour).Unix(), nil
}

func (a *App) gather(w http.ResponseWriter, r *http.Request) *report.Report {
	since, until, err := span(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), 30*time.Second)
	defer cancel()
	rep, err := report.FromLedger(ctx, a.ledger, since, until)
	if err != nil {
		a.log.Error("answer a request from the ledger", "path", r.URL.Path, "err", err)
		http.Error(w, "the ledger cannot be read; the log says why", http.StatusInternalServerError)
		return nil
	}
	return rep
}

// page shows the report of a time range.
func (a *App) page(w http.ResponseWriter, r *http.Request) {
	if rep := a.gather(w, r); rep != nil {
		a.answer(w, "text/html; charset=utf-8", func(b *bytes.Buffer) error { return report.WriteHTML(b, rep) })
	}
}

// api gives the same as JSON.
func (a *App) api(w http.ResponseWriter, r *http.Request) {
	if rep := a.gather(w, r); rep != nil {
		a.answer(w, "application/json", func(b *bytes.Buffer) error { return report.WriteJSON(b, rep) })
	}
}

func (a *App) answer(w http.ResponseWriter, contentType string, render func(*bytes.Buffer) error) {
	var b bytes.Buffer
	if err := render(&b); err != nil {
		a.log.Error("render an answer", "err", err)
		http.Error(w, "the answer could not be made; the log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	if _, err := w.Write(b.Bytes()); err != nil {
		a.log.Debug("send an answer", "err", err)
	}
}

// parseLast reads a length of time such as 90m, 24h or 7d, up to a year.
func parseLast(s string) (time.Duration, error) {
	d, err := config.ParseDuration(s)
	if err != nil || d <= 0 || d > 366*24*time.Hour {
		return 0, fmt.Errorf("last=%q is no length of time up to 366d, such as 24h or 7d", s)
	}
	return d, nil
}
