package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Hub listens for the sources of one process: those with the same address share
// one server.
type Hub struct {
	log *slog.Logger

	mu      sync.Mutex // guards servers and all that is in them
	servers map[string]*server
}

// server is one address while sources use it.
type server struct {
	sources map[string]*Source // by path
	address net.Addr
	http    *http.Server
	g       errgroup.Group
	failed  chan struct{} // closed if serving ended by itself
	err     error         // why
}

// NewHub returns a hub that does not listen yet.
func NewHub(log *slog.Logger) *Hub {
	return &Hub{log: log, servers: make(map[string]*server)}
}

// Address returns where the hub listens on behalf of a Config.Listen, which may
// leave the port to the system; nil while it does not.
func (h *Hub) Address(listen string) net.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v := h.servers[listen]; v != nil {
		return v.address
	}
	return nil
}

// serve hands the requests for s to it until ctx is done.
func (h *Hub) serve(ctx context.Context, s *Source) error {
	v, err := h.join(ctx, s)
	if err != nil {
		return err
	}
	defer h.leave(s, v)
	select {
	case <-ctx.Done():
		return nil
	case <-v.failed:
		return fmt.Errorf("receive on %s: %w", s.config.Listen, v.err)
	}
}

func (h *Hub) join(ctx context.Context, s *Source) (*server, error) {
	c := &s.config
	h.mu.Lock()
	defer h.mu.Unlock()
	v := h.servers[c.Listen]
	if v == nil {
		var listen net.ListenConfig
		l, err := listen.Listen(ctx, "tcp", c.Listen)
		if err != nil {
			return nil, fmt.Errorf("listen for events: %w; choose another address, or stop who uses it", err)
		}
		v = h.start(l, c)
		h.servers[c.Listen] = v
		h.log.Info("listening for events", "address", l.Addr().String(), "tls", c.CertFile != "")
	}
	if v.sources[c.Path] != nil {
		return nil, fmt.Errorf("path %s on %s is that of another source already; give each its own", c.Path, c.Listen)
	}
	v.sources[c.Path] = s
	return v, nil
}

func (h *Hub) start(l net.Listener, c *Config) *server {
	v := &server{sources: make(map[string]*Source), address: l.Addr(), failed: make(chan struct{})}
	v.http = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.mu.Lock()
			s := v.sources[r.URL.Path]
			h.mu.Unlock()
			if s == nil {
				http.NotFound(w, r)
				return
			}
			s.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      2 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
	}
	if c.CertFile != "" {
		cert, key := c.CertFile, c.KeyFile
		v.http.TLSConfig = &tls.Config{
			MinVersion: tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				c, err := tls.LoadX509KeyPair(cert, key)
				return &c, err
			},
		}
	}
	v.g.Go(func() error {
		serve := v.http.Serve
		if v.http.TLSConfig != nil {
			serve = func(l net.Listener) error { return v.http.ServeTLS(l, "", "") }
		}
		if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
			v.err = err
			close(v.failed)
		}
		return nil
	})
	return v
}

// leave takes s off its server, and stops that after the last one.
func (h *Hub) leave(s *Source, v *server) {
	h.mu.Lock()
	delete(v.sources, s.config.Path)
	last := len(v.sources) == 0
	if last {
		delete(h.servers, s.config.Listen)
	}
	h.mu.Unlock()
	if !last {
		return
	}
	// Requests under way are answered, unless their senders take too long: they
	// will send them again.
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := v.http.Shutdown(ctx); err != nil {
		h.log.Warn("stop receiving events", "err", errors.Join(err, v.http.Close()))
	}
	_ = v.g.Wait() // it returns nil
}
