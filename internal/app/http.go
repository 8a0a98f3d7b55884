package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/bouncemeter/bouncemeter/sinks/notify"
	sink "github.com/bouncemeter/bouncemeter/sinks/prometheus"
	page "github.com/bouncemeter/bouncemeter/web"
)

// listen binds the port.
func (a *App) listen() (net.Listener, error) {
	l, err := net.Listen("tcp", a.o.Config.HTTP.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on http.listen %s: %w; is another bouncemeter running, or choose another port", a.o.Config.HTTP.Listen, err)
	}
	return l, nil
}

// serve answers HTTP until ctx is done, and then finishes what was asked and
// closes the listener.
func (a *App) serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:           handler,
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
	err := web.Serve(listener, server, &web.FlagConfig{WebConfigFile: &webConfig}, slog.New(slog.DiscardHandler))
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

// handler routes all requests. What changes anything is a POST: a reload, and
// silences of the page.
func (a *App) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.registry(), promhttp.HandlerOpts{EnableOpenMetrics: true}))
	mux.HandleFunc("GET /-/healthy", healthy)
	mux.HandleFunc("GET /-/ready", a.ready)
	mux.HandleFunc("POST /-/reload", a.reload)
	mux.Handle("/", a.web)
	return http.NewCrossOriginProtection().Handler(a.ownHost(headers(mux)))
}

// ownHost refuses what browsers post under a host name that is not ours. Another
// site can lead its own name to our address (DNS rebinding), and then is no other
// site to the browser. Programs, which send no Origin, may use any name.
func (a *App) ownHost(next http.Handler) http.Handler {
	names := []string{"localhost"}
	if u, err := url.Parse(a.o.Config.HTTP.ExternalURL); err == nil {
		names = append(names, u.Hostname())
	}
	if name, err := os.Hostname(); err == nil {
		names = append(names, name)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		browser := r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != ""
		if r.Method != http.MethodGet && r.Method != http.MethodHead && browser {
			host := (&url.URL{Host: r.Host}).Hostname()
			ours := net.ParseIP(host) != nil || slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, host) })
			if !ours {
				http.Error(w, "a browser may send this only to an address or name of this daemon; set http.external_url to the one that you use", http.StatusForbidden)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func healthy(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "bouncemeter is alive.") }

// headers tells browsers to take answers as what they say they are. The page has
// more of its own.
func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
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
		received{a.inputs},
		topicsRead{a.inputs},
		sink.SinkCollector{Sinks: a.records.states},
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
	r.MustRegister(detectorMetrics(a.detect.Stats)...)
	if a.o.Config.HTTP.PostfixNames {
		r.MustRegister(sink.PostfixCollector{Sink: a.sink, Lanes: a.laneStates})
	}
	return r
}

func (a *App) laneStates() []sink.Lane {
	var all []sink.Lane
	for _, s := range a.daemon.Status() {
		all = append(all, sink.Lane{Source: s.Source, Lane: s.Lane, Lag: s.Lag, LastEvent: s.LastEvent, LastRead: s.Read, Failing: s.Err != nil})
	}
	return all
}

// lanes tells the page how the lanes that are being read are doing.
func (a *App) lanes() []page.Lane {
	var all []page.Lane
	for _, s := range a.daemon.Status() {
		l := page.Lane{Source: s.Source, Lane: s.Lane, Lag: s.Lag, Read: s.Read}
		if s.Err != nil {
			l.Err = s.Err.Error()
		}
		all = append(all, l)
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
// commits fail, or that the ledger's server does not answer.
func (a *App) ready(w http.ResponseWriter, r *http.Request) {
	var failing bytes.Buffer
	if l, ok := a.ledger.(interface {
		Ping(ctx context.Context) error
	}); ok {
		ctx, cancel := context.WithTimeout(r.Context(), 3*time.Second)
		defer cancel()
		if err := l.Ping(ctx); err != nil {
			fmt.Fprintln(&failing, err)
		}
	}
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
