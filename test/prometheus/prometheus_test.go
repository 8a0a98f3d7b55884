// Package prometheus tests the dashboards' queries and the rules with a real
// Prometheus that scrapes the demonstration.
package prometheus

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

// patience is how long queries may take to have data: rates need a minute, and
// the demonstration's incident comes after half of one.
const patience = 3 * time.Minute

func TestMain(m *testing.M) { rig.Main(m) }

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// server is the API of Prometheus.
type server string

func (s server) get(path string, parameters url.Values, into any) error {
	r, err := http.Get("http://" + string(s) + "/api/v1/" + path + "?" + parameters.Encode())
	if err != nil {
		return err
	}
	defer r.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: into}
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s", answer.Error)
	}
	return nil
}

// values returns how many series an expression has whose value is a number.
func (s server) values(expr string) (int, error) {
	var data struct {
		Result []struct{ Value [2]any }
	}
	if err := s.get("query", url.Values{"query": {expr}}, &data); err != nil {
		return 0, err
	}
	n := 0
	for _, r := range data.Result {
		if r.Value[1] != "NaN" {
			n++
		}
	}
	return n, nil
}

// TestQueriesHaveData asks every query of every dashboard, every variable and
// every recording rule.
func TestQueriesHaveData(t *testing.T) {
	if os.Getenv("PROMETHEUS") == "" {
		t.Skip("needs a Prometheus: test/prometheus/run.sh")
	}
	folder := t.TempDir()
	binary, free := rig.Build(t, ""), rig.FreeAddresses(t, 3)
	demo, daemon, prometheus := free[0], free[1], free[2]
	demonstration := rig.Start(t, exec.Command(binary, "demo", "--listen", demo, "--for", "10m"))
	t.Cleanup(func() { demonstration.End(t, syscall.SIGINT, patience) }) // it removes its folder
	// What the demonstration has not: a bounce after a delivery, a notifier.
	write(t, filepath.Join(folder, "Maildir/new/1.example"), bounce)
	config := filepath.Join(folder, "bouncemeter.yaml")
	write(t, config, fmt.Sprintf(`
sources: [{name: bounces, kind: maildir, paths: [%s]}]
ledger: {sqlite: %s}
notify: [{kind: file, path: %s}]
http: {listen: %q}
`, filepath.Join(folder, "Maildir"), filepath.Join(folder, "ledger.db"), filepath.Join(folder, "alerts.jsonl"), daemon))
	rig.Start(t, exec.Command(binary, "run", "-c", config))

	// As shipped, only faster.
	rules, err := os.ReadFile("../../configs/prometheus/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(folder, "rules.yaml"), strings.ReplaceAll(string(rules), "interval: 1m", "interval: 2s"))
	shipped, err := os.ReadFile("../../configs/prometheus/scrape.yaml")
	if err != nil {
		t.Fatal(err)
	}
	scrape := strings.NewReplacer("interval: 30s", "interval: 2s", `["127.0.0.1:9725"]`, fmt.Sprintf("[%q, %q]", demo, daemon)).Replace(string(shipped))
	write(t, filepath.Join(folder, "scrape.yaml"), scrape)
	rig.Start(t, exec.Command(os.Getenv("PROMETHEUS"), "--config.file="+filepath.Join(folder, "scrape.yaml"), "--storage.tsdb.path="+filepath.Join(folder, "data"),
		"--web.listen-address="+prometheus, "--log.level=warn"))

	open := queries(t)
	if len(open) < 60 {
		t.Fatalf("only %d queries", len(open))
	}
	s := server(prometheus)
	last := make(map[string]error)
	for deadline := time.Now().Add(patience); len(open) > 0 && time.Now().Before(deadline); time.Sleep(2 * time.Second) {
		for expr := range open {
			var n int
			if n, last[expr] = s.values(expr); n > 0 {
				delete(open, expr)
			}
		}
	}
	for expr, place := range open {
		t.Errorf("%s: no data (%v): %s", place, last[expr], expr)
	}

	var loaded struct {
		Groups []struct {
			Rules []struct{ Name, Type, Health, LastError string }
		}
	}
	if err := s.get("rules", nil, &loaded); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, g := range loaded.Groups {
		for _, r := range g.Rules {
			n++
			if r.Health != "ok" {
				t.Errorf("rule %s: %s %s", r.Name, r.Health, r.LastError)
			}
			if r.Type != "recording" {
				continue
			}
			if n, err := s.values(r.Name); n == 0 {
				t.Errorf("rule %s records nothing (%v)", r.Name, err)
			}
		}
	}
	if n < 15 {
		t.Errorf("%d rules are loaded", n)
	}
}

// queries returns the queries of all dashboards, with what a viewer may have
// chosen, and where each stands.
func queries(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../configs/grafana/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	chosen := strings.NewReplacer("$__rate_interval", "30s", "$__range", "10m", "$instance", ".*", "$provider", "gmail", "$sender_domain", "shop.example")
	label := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)
	all := make(map[string]string)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var board struct {
			Templating struct {
				List []struct{ Name, Type, Definition string }
			}
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(text, &board); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, v := range board.Templating.List {
			if v.Type == "query" {
				m := label.FindStringSubmatch(v.Definition)
				if m == nil {
					t.Fatalf("%s: variable %s: %s", file, v.Name, v.Definition)
				}
				all[chosen.Replace(fmt.Sprintf(`count by (%s) (%s) and on (%s) group by (%s) ({%s!="",__name__=~"bouncemeter_.+"})`, m[2], m[1], m[2], m[2], m[2]))] = filepath.Base(file) + ": variable " + v.Name
			}
		}
		for _, p := range board.Panels {
			for _, q := range p.Targets {
				all[chosen.Replace(q.Expr)] = filepath.Base(file) + ": " + p.Title
			}
		}
	}
	return all
}

const bounce = `From: MAILER-DAEMON@mx.example.net
To: bounces@shop.example
Subject: Undelivered Mail Returned to Sender
Date: Fri, 20 Nov 2026 10:00:00 +0000
Message-ID: <1@mx.example.net>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

The message could not be delivered.

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net

Final-Recipient: rfc822; ann@example.net
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 User unknown

--b--
`
