package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/simulate"
)

func TestBacktest(t *testing.T) {
	begin := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	incident := begin.Add(12 * time.Hour)
	mta, err := simulate.New(simulate.Config{
		Seed: 1, Start: begin, Location: time.UTC, Rate: 2,
		Incidents: []simulate.Incident{{Start: incident, SenderDomain: "shop.example", Provider: "gmail", Category: event.SPFFailed, Share: 0.6}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	if _, err := mta.WriteUntil(&log, incident.Add(30*time.Minute)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "mail.log")
	if err := os.WriteFile(path, log.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, stderr := call(t, "", "backtest", "--timezone", "UTC", "-o", "json", path)
	if code != 0 {
		t.Fatal(stderr)
	}
	var got struct {
		Alerts []struct {
			Rule, Category          string
			Labels                  map[string]string
			Started, Fired          time.Time
			Resolved                *time.Time
			Baseline, Ratio, Excess float64
		}
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Alerts) != 1 {
		t.Fatalf("%d alerts, want that of the incident alone:\n%s", len(got.Alerts), out)
	}
	a := got.Alerts[0]
	if a.Rule != "authentication" || a.Category != "spf_failed" || a.Labels["sender_domain"] != "shop.example" || a.Labels["provider"] != "gmail" {
		t.Errorf("it is of %s %s %v", a.Rule, a.Category, a.Labels)
	}
	if late := a.Fired.Sub(incident); late < 0 || late > 5*time.Minute {
		t.Errorf("fired %s after the beginning", late)
	}
	if a.Resolved != nil || a.Ratio < 0.4 || a.Baseline > 0.02 || a.Excess < 5 {
		t.Errorf("resolved %v, ratio %v, usual %v, excess %v; the incident goes on and 60%% fail", a.Resolved, a.Ratio, a.Baseline, a.Excess)
	}
	for form, want := range map[string]string{"table": "SPF failed for shop.example at gmail", "html": "<h2>SPF failed for shop.example at gmail"} {
		if code, out, stderr := call(t, "", "backtest", "--timezone", "UTC", "-o", form, path); code != 0 || !strings.Contains(out, want) {
			t.Errorf("%s: exit %d, %s%s", form, code, out, stderr)
		}
	}
	// A configuration brings its classification rules along.
	rule := write(t, "rules.yaml", "rules:\n- id: ours\n  category: policy\n  provider: gmail\n  priority: 100\n  any: [\"spf didn't pass\"]\n")
	config := write(t, "bouncemeter.yaml", "sources: [{name: mta1, kind: tail, paths: ["+path+"]}]\nledger: {sqlite: "+filepath.Join(t.TempDir(), "ledger.db")+"}\nrules: {files: ["+rule+"]}\n")
	if code, out, stderr := call(t, "", "backtest", "--timezone", "UTC", "-c", config, path); code != 0 || strings.Contains(out, "SPF failed") {
		t.Errorf("with a rule that calls it policy: exit %d, %s%s", code, out, stderr)
	}
	if code, _, stderr := call(t, "", "backtest"); code == 0 || !strings.Contains(stderr, "Name logs") {
		t.Errorf("without a log: exit %d, %s", code, stderr)
	}
}
