package app

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bouncemeter/bouncemeter/internal/config"
)

func openApp(t *testing.T) *App {
	t.Helper()
	c := config.Default()
	c.Ledger.SQLite = filepath.Join(t.TempDir(), "ledger.db")
	c.HTTP.Listen = "127.0.0.1:0"
	a, err := Open(context.Background(), Options{Config: c, Log: slog.New(slog.DiscardHandler), Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// TestOtherSites checks that no other site can make a browser post to us.
func TestOtherSites(t *testing.T) {
	handler := openApp(t).handler()
	do := func(method, path, origin string) int {
		host := "http://127.0.0.1:9725"
		if strings.Contains(origin, "rebound") {
			host = origin
		}
		r := httptest.NewRequest(method, host+path, strings.NewReader("text=550+user+unknown"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Code
	}
	for _, x := range []struct {
		method, path, origin string
		want                 int
	}{
		{http.MethodGet, "/", "https://other.example", 200},
		{http.MethodPost, "/try", "http://127.0.0.1:9725", 200},
		{http.MethodPost, "/try", "https://other.example", 403},
		{http.MethodPost, "/-/reload", "https://other.example", 403},
		{http.MethodPost, "/alerts/x/silence", "https://other.example", 403},
		{http.MethodPost, "/silences/x/end", "https://other.example", 403},
		{http.MethodPost, "/silences/x/end", "http://rebound.example:9725", 403},
		{http.MethodPost, "/silences/x/end", "", 303},
		{http.MethodPost, "/api/v1/explain", "https://other.example", 403},
		{http.MethodGet, "/metrics", "", 200},
		{http.MethodGet, "/-/healthy", "", 200},
		{http.MethodGet, "/api/v1/report", "", 200},
	} {
		if got := do(x.method, x.path, x.origin); got != x.want {
			t.Errorf("%s %s from %q: %d, want %d", x.method, x.path, x.origin, got, x.want)
		}
	}
}

// TestListensForThisMachineOnly checks the default.
func TestListensForThisMachineOnly(t *testing.T) {
	host, _, err := net.SplitHostPort(config.Default().HTTP.Listen)
	if err != nil || !net.ParseIP(host).IsLoopback() {
		t.Errorf("the default is %s", config.Default().HTTP.Listen)
	}
}
