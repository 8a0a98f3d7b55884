package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/bouncemeter/bouncemeter/internal/app"
	"github.com/bouncemeter/bouncemeter/internal/config"
	"github.com/bouncemeter/bouncemeter/internal/hostile"
	"github.com/bouncemeter/bouncemeter/ledger"
)

// TestHostile reads a log whose every field from outside is an attack, and checks
// that all commands, the metrics, the API, the page and the alerts show nothing
// that a terminal or an eye could take for something else.
func TestHostile(t *testing.T) {
	var log bytes.Buffer
	if err := hostile.PostfixLog(&log, time.Now()); err != nil {
		t.Fatal(err)
	}
	file := write(t, "mail.log", log.String())
	inert := func(name, text string) {
		t.Helper()
		if what, found := hostile.Acting(text); found {
			t.Errorf("%s: there is %s", name, what)
		}
	}
	show := func(args ...string) string {
		t.Helper()
		code, out, stderr := call(t, hostile.Text+"\n", args...)
		if code != 0 {
			t.Errorf("%s: exit code %d, %s", args, code, stderr)
		}
		inert(fmt.Sprint(args), strings.ReplaceAll(out+stderr, "\t", " "))
		return out
	}
	for _, args := range [][]string{
		{"report", file}, {"report", "-o", "json", file}, {"report", "-o", "html", file}, {"mine", file}, {"mine", "-o", "json", file}, {"backtest", file}, {"backtest", "-o", "json", file}, {"backtest", "-o", "html", file},
		{"top", "--once", file}, {"classify"}, {"classify", "-o", "json"}, {"explain", hostile.Text}, {"explain", "-o", "json", hostile.Text},
	} {
		if out := show(args...); len(out) < 50 {
			t.Errorf("%s: only %q", args, out)
		}
	}

	dir := t.TempDir()
	c := config.Default()
	source := config.DefaultSource()
	source.Name, source.Kind, source.Paths, source.Dialect = "mta", "tail", []string{file}, "postfix"
	c.Sources = []config.Source{source}
	c.Ledger.SQLite = filepath.Join(dir, "ledger.db")
	c.HTTP.Listen = "127.0.0.1:0"
	told := filepath.Join(dir, "alerts.jsonl")
	c.Notify = []config.Notifier{{Name: "file", Kind: "file", Path: told}, {Name: "log", Kind: "log"}}
	var messages bytes.Buffer
	a, err := app.Open(t.Context(), app.Options{Config: c, Log: slog.New(slog.NewTextHandler(&messages, nil)), Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	get := func(path string) string {
		t.Helper()
		r, err := http.Get("http://" + a.Address() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != http.StatusOK {
			t.Errorf("%s: %s %v", path, r.Status, err)
		}
		return string(body)
	}
	alerts := func() []ledger.Alert {
		all, err := a.Ledger().Alerts(t.Context(), ledger.AlertFilter{})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	deadline, tick := time.After(time.Minute), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for {
		if text, err := os.ReadFile(told); err == nil && bytes.HasSuffix(text, []byte("\n")) {
			break
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no alert in a minute\n%s", get("/api/v1/counts?by=outcome,category,sender_domain"))
		case err := <-done:
			t.Fatal(err)
		}
	}
	id := alerts()[0].ID
	for _, path := range []string{
		"/metrics", "/", "/alerts", "/alerts/" + id, "/sources", "/unclassified", "/reason/spf_failed", "/reason/unclassified", "/provider/gmail", "/domains", "/report",
		"/api/v1/counts?by=provider,sender_domain,host,stream", "/api/v1/alerts", "/api/v1/alerts/" + id, "/api/v1/templates", "/api/v1/unclassified", "/api/v1/sources", "/api/v1/report",
	} {
		text := get(path)
		if inert(path, text); strings.HasPrefix(path, "/api/") && !json.Valid([]byte(text)) {
			t.Errorf("%s: no JSON", path)
		}
	}
	for _, args := range [][]string{{"alerts", "list", "--ledger", c.Ledger.SQLite}, {"alerts", "explain", "--ledger", c.Ledger.SQLite, id}, {"alerts", "explain", "--ledger", c.Ledger.SQLite, "-o", "json", id}, {"report", "--ledger", c.Ledger.SQLite}} {
		show(args...)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	inert("messages", messages.String())
	// What is for programs keeps what there was, but controls no terminal.
	for _, name := range []string{told, filepath.Join(dir, "dead-letter.jsonl")} {
		text, err := os.ReadFile(name)
		if err != nil || len(text) == 0 {
			t.Errorf("%s: %d bytes, %v", name, len(text), err)
		}
		if i := bytes.IndexFunc(text, func(r rune) bool { return r != '\n' && unicode.IsControl(r) }); i >= 0 {
			t.Errorf("%s: there is %q", name, text[i])
		}
	}
}
