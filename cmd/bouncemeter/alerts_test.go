package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/alertjson"
	"github.com/bouncemeter/bouncemeter/ledger/sqlite"
)

// ledgerWithAlerts returns the file of a ledger with an open and an ended alert.
func ledgerWithAlerts(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ledger.db")
	l, err := sqlite.Open(t.Context(), file, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	now := time.Now().Truncate(time.Minute).UTC()
	begun := now.Add(-90 * time.Minute)
	open := alertjson.Alert{
		ID: "aaaa1111", Incident: "aaaa1111", Rule: "authentication", Kind: "ratio", State: alertjson.Firing, Severity: alertjson.Critical, Category: "spf_failed",
		Labels: map[string]string{"provider": "gmail", "sender_domain": "shop.example"},
		Since:  begun, Fired: begun.Add(6 * time.Minute), Updated: begun.Add(6 * time.Minute),
		Failures: 340, Attempts: 2833, Ratio: 0.12, Usual: 0.001, Null: 0.002, Excess: 337.2, Dispersion: 1.4, Score: 40.2, Threshold: 15.28, Cold: true,
		Explanation: []alertjson.Share{{Dimension: "host", Element: "mx1.example.com", Excess: 330, Share: 0.98, Expected: 0.4, Surprise: 0.2}},
		Unchanged:   []string{"gmail from 3 other domains"}, Title: "SPF failures of shop.example at gmail: 12%", Summary: "340 of 2833 failed.",
		Advice: "Check the SPF record.", Samples: []string{"550 \x1b[31mSPF failed"}, Templates: []alertjson.Wording{{Text: "550 5.7.26 SPF failed", Attempts: 300}},
	}
	over := open
	over.ID, over.Incident, over.Rule, over.Severity, over.State, over.Title = "aabb2222", "aabb2222", "content", alertjson.Warning, alertjson.Resolved, "Spam verdicts"
	over.Resolved, over.Updated, over.Ending = now.Add(-10*time.Minute), now.Add(-10*time.Minute), "back to usual"
	ancient := over
	ancient.ID, ancient.Updated = "cccc3333", now.Add(-30*24*time.Hour)
	c := &ledger.DetectorCommit{Position: now.Unix(), Now: now}
	for _, a := range []alertjson.Alert{over, open, ancient} {
		body, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		c.Alerts = append(c.Alerts, ledger.Alert{ID: a.ID, State: string(a.State), Open: a.State.Open(), Rule: a.Rule, Time: a.Updated.Unix(), Body: body})
	}
	if err := l.CommitDetector(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAlertsList(t *testing.T) {
	file := ledgerWithAlerts(t)
	code, out, stderr := call(t, "", "alerts", "list", "--ledger", file)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 0 || stderr != "" || len(lines) != 3 || !strings.HasPrefix(lines[1], "aaaa1111  firing") || !strings.HasPrefix(lines[2], "aabb2222  resolved") ||
		!strings.Contains(lines[1], "SPF failures of shop.example at gmail: 12%") || !strings.Contains(lines[2], "1 h 20 min") {
		t.Errorf("exit code %d, %s\n%s", code, stderr, out)
	}
	c := write(t, "c.yaml", "sources: [{name: in, kind: stdin}]\nledger: {sqlite: "+file+"}\n")
	if _, viaConfig, _ := call(t, "", "alerts", "-c", c); viaConfig != out {
		t.Errorf("by the configuration:\n%s", viaConfig)
	}
	_, out, _ = call(t, "", "alerts", "list", "--ledger", file, "--last", "60d", "-o", "json")
	var got struct {
		Alerts []struct {
			Seq   int64
			Alert alertjson.Alert
		}
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || len(got.Alerts) != 3 || got.Alerts[0].Alert.Failures != 340 || got.Alerts[0].Seq != 2 {
		t.Errorf("%v: %s", err, out)
	}
	if _, out, _ = call(t, "", "alerts", "list", "--ledger", file, "--open"); strings.Count(out, "\n") != 2 {
		t.Errorf("open ones:\n%s", out)
	}
	for _, args := range [][]string{{"list"}, {"list", "--ledger", file, "--last", "soon"}, {"list", "--ledger", file, "-c", c}, {"explain", "--ledger", file, "aa"}} {
		if code, _, stderr := call(t, "", append([]string{"alerts"}, args...)...); code != 2 || stderr == "" {
			t.Errorf("%q: exit code %d, %s", args, code, stderr)
		}
	}
}

func TestAlertsExplain(t *testing.T) {
	file := ledgerWithAlerts(t)
	code, out, stderr := call(t, "", "alerts", "explain", "--ledger", file, "aaaa")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	for _, want := range []string{
		"SPF failures of shop.example at gmail: 12%\n", "rule authentication, kind ratio", "provider      gmail", "340 of 2833 attempts failed so: 12%.",
		"Usual is 0.1%, which would be 2.8: 337 more than usual, 120 times the ratio.", "an upper bound of it, 0.2%", "1.40 times as much as by chance",
		"was 40.2, in natural logarithms of odds; it fires above 15.3", "at most 1 times a day in 1000 series", "less than a day",
		"mx1.example.com", "98% of the excess (330 failures), of 40% of the attempts; surprise 0.200",
		"gmail from 3 other domains", "300  550 5.7.26 SPF failed", "Check the SPF record.", "match: {ids: [aaaa1111]}", "How it went on",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Error("what a server said reaches the terminal as it is")
	}
	_, out, _ = call(t, "", "alerts", "explain", "--ledger", file, "aaaa1111", "-o", "json")
	var got struct {
		Alert   alertjson.Alert
		Changes []struct{ Seq int64 }
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Alert.Score != 40.2 || len(got.Changes) != 1 {
		t.Errorf("%v: %s", err, out)
	}
	if code, _, stderr := call(t, "", "alerts", "explain", "--ledger", file, "dddd"); code != 1 || !strings.Contains(stderr, "alerts list") {
		t.Errorf("no such alert: exit code %d, %s", code, stderr)
	}
}
