package app

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/internal/config"
	"github.com/bouncemeter/bouncemeter/ledger"
)

// opened opens a daemon whose files are in dir, with further settings.
func opened(t *testing.T, dir, settings string) *App {
	t.Helper()
	file := filepath.Join(dir, "bouncemeter.yaml")
	if err := os.WriteFile(file, []byte(settings+"http: {listen: '127.0.0.1:0'}\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := Open(t.Context(), Options{Config: *c, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// run runs a daemon until the end of the test.
func run(t *testing.T, a *App) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-ended, a.Close()); err != nil {
			t.Error(err)
		}
	})
}

// Alerts that have been over for longer than the retention go, and others stay.
func TestAlertsAreNotKeptForEver(t *testing.T) {
	a := opened(t, t.TempDir(), "sources: [{name: in, kind: tail, paths: [mail.log]}]\nledger: {sqlite: ledger.db, retention: {alerts: 30d}}\n")
	days := func(n int) int64 { return time.Now().Add(-time.Duration(n) * 24 * time.Hour).Unix() }
	if err := a.ledger.CommitDetector(t.Context(), &ledger.DetectorCommit{Position: 60, Now: time.Now(), Alerts: []ledger.Alert{
		{ID: "old", State: "resolved", Rule: "r", Time: days(31), Body: []byte("{}")},
		{ID: "recent", State: "resolved", Rule: "r", Time: days(29), Body: []byte("{}")},
		{ID: "open", State: "firing", Open: true, Rule: "r", Time: days(31), Body: []byte("{}")},
	}}); err != nil {
		t.Fatal(err)
	}
	run(t, a)
	until(t, "the old alert is gone", func() bool {
		all, err := a.ledger.Alerts(t.Context(), ledger.AlertFilter{})
		has := func(id string) bool {
			return slices.ContainsFunc(all, func(a ledger.Alert) bool { return a.ID == id })
		}
		// The detector may end the open one meanwhile, which it does not know.
		return err == nil && !has("old") && has("recent") && has("open")
	})
}

func TestIsDSN(t *testing.T) {
	odd := filepath.Join(t.TempDir(), "host=x")
	if err := os.WriteFile(odd, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Dir(odd))
	for where, want := range map[string]bool{
		"postgres://reader@db.example/bouncemeter":       true,
		"postgresql:///bouncemeter?host=/run/postgresql": true,
		"host=db.example user=reader":                    true,
		" service = mail":                                true,
		"/var/lib/bouncemeter/ledger.db":                 false,
		"ledger.db":                                      false,
		"/mnt/day=1/ledger.db":                           false,
		"host=x":                                         false, // which is a file
		"":                                               false,
	} {
		if got := isDSN(where); got != want {
			t.Errorf("%q: %v, want %v", where, got, want)
		}
	}
}
