package app

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// exported returns the names of all metrics, of those without a value at
// present, too.
func exported(t *testing.T) map[string]bool {
	t.Helper()
	registry := openApp(t).registry()
	descriptions := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptions)
		registry.Describe(descriptions)
	}()
	name := regexp.MustCompile(`fqName: "([^"]+)"`)
	names := make(map[string]bool)
	for d := range descriptions {
		m := name.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("no name in %s", d)
		}
		names[m[1]] = true
	}
	return names
}

// Names of metrics in texts. Recorded ones have colons.
var metricName = regexp.MustCompile(`(?:[a-z_]+:)?(?:bouncemeter|go|process)_[a-z0-9_]+(?::[a-z0-9_]+)?`)

func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	// The first column of a table names them.
	documented := make(map[string]bool)
	for line := range strings.Lines(string(text)) {
		if row, ok := strings.CutPrefix(line, "| `"); ok {
			column, _, _ := strings.Cut(row, " |")
			for _, name := range metricName.FindAllString(column, -1) {
				documented[name] = true
			}
		}
	}
	names := exported(t)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if strings.HasPrefix(name, "bouncemeter_") && !documented[name] {
			t.Errorf("docs/metrics.md does not tell of %s", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(documented)) {
		if !names[name] {
			t.Errorf("docs/metrics.md tells of %s, which is not exported", name)
		}
	}
}

// What dashboards and rules ask for is exported, or recorded by the rules.
func TestDashboardsAndRulesNameMetricsThatExist(t *testing.T) {
	names := exported(t)
	for _, label := range []string{"bouncemeter_ratios", "bouncemeter_mail", "bouncemeter_daemon"} {
		names[label] = true // groups of rules
	}
	rules, err := os.ReadFile("../../configs/prometheus/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`record: (\S+)`).FindAllStringSubmatch(string(rules), -1) {
		names[m[1]] = true
	}
	files, err := filepath.Glob("../../configs/grafana/dashboards/*.json")
	if err != nil || len(files) != 4 {
		t.Fatalf("dashboards: %v, %v", files, err)
	}
	for _, file := range append(files, "../../configs/prometheus/rules.yaml", "../../configs/prometheus/rules_test.yaml", "../../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := metricName.FindAllString(string(text), -1)
		for _, name := range found {
			histogram := strings.TrimSuffix(name, "_bucket")
			if !names[name] && !names[histogram] {
				t.Errorf("%s asks for %s, which is not exported", file, name)
			}
		}
		if len(found) == 0 {
			t.Errorf("%s names no metric", file)
		}
	}
}

func TestPostfixNamesAreAsked(t *testing.T) {
	a := openApp(t)
	for _, on := range []bool{false, true} {
		a.o.Config.HTTP.PostfixNames = on
		w := httptest.NewRecorder()
		a.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://127.0.0.1:9725/metrics", nil))
		if got := strings.Contains(w.Body.String(), "\npostfix_smtp_deferred_messages_total 0\n"); got != on {
			t.Errorf("with postfix_names: %v the name is there: %v", on, got)
		}
	}
}
