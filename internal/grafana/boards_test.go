package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

const folder = "../../configs/grafana/dashboards"

// everyText calls visit for each string of a dashboard as Grafana reads it.
func everyText(t *testing.T, b board, visit func(text string)) {
	t.Helper()
	text, err := b.json()
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			visit(v)
		case []any:
			for _, x := range v {
				walk(x)
			}
		case map[string]any:
			for _, x := range v {
				walk(x)
			}
		}
	}
	walk(tree)
}

func TestFilesAreGenerated(t *testing.T) {
	var want []string
	for _, b := range boards() {
		want = append(want, b.file())
		text, err := b.json()
		if err != nil {
			t.Fatal(err)
		}
		have, err := os.ReadFile(filepath.Join(folder, b.file()))
		if err != nil || string(have) != string(text) {
			t.Errorf("%s is not what go generate ./internal/grafana makes (%v)", b.file(), err)
		}
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(want, e.Name()) {
			t.Errorf("%s is no dashboard of the list", e.Name())
		}
	}
}

// TestModel holds the files against Grafana's own model of dashboards, panels and
// queries: no field that it does not know, none missing, no value out of range.
func TestModel(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	for _, b := range boards() {
		text, err := os.ReadFile(filepath.Join(folder, b.file()))
		if err != nil {
			t.Fatal(err)
		}
		//nolint:staticcheck // the model that every Grafana reads; its successor is for new ones alone
		var d dashboard.Dashboard
		if err := d.UnmarshalJSONStrict(text); err != nil && err.Error() != "" { // it returns an empty one for none
			t.Errorf("%s: %v", b.file(), err)
		}
		if err := d.Validate(); err != nil {
			t.Errorf("%s: %v", b.file(), err)
		}
	}
}

// Grafana shows panels with one id, or at one place, as one.
func TestPanelsHavePlaces(t *testing.T) {
	for _, b := range boards() {
		taken := make(map[[2]int]string)
		ids := make(map[int]bool)
		for _, p := range b.Panels {
			if ids[p.ID] {
				t.Errorf("%s: %q has the id of another panel", b.UID, p.Title)
			}
			ids[p.ID] = true
			g := p.GridPos
			if g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
				t.Errorf("%s: %q is at %+v, which is outside", b.UID, p.Title, g)
			}
			for x := g.X; x < g.X+g.W; x++ {
				for y := g.Y; y < g.Y+g.H; y++ {
					if other, ok := taken[[2]int{x, y}]; ok {
						t.Fatalf("%s: %q covers %q", b.UID, p.Title, other)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
		}
	}
}

func TestPanelsAskTheChosenPrometheus(t *testing.T) {
	for _, b := range boards() {
		for _, p := range b.Panels {
			if p.Type == "row" {
				continue
			}
			if p.Datasource == nil || *p.Datasource != prometheus || len(p.Targets) == 0 {
				t.Errorf("%s: %q asks nobody, or nothing", b.UID, p.Title)
			}
			for i, q := range p.Targets {
				if q.Datasource != prometheus || q.RefID != refID(i) || q.Instant == q.Range {
					t.Errorf("%s: %q: query %d: %+v", b.UID, p.Title, i, q)
				}
				if !strings.Contains(q.Expr, `instance=~"$instance"`) && !strings.Contains(q.Expr, "ALERTS") {
					t.Errorf("%s: %q ignores the chosen instances: %s", b.UID, p.Title, q.Expr)
				}
				if strings.Count(q.Expr, "(") != strings.Count(q.Expr, ")") {
					t.Errorf("%s: %q: brackets of %s", b.UID, p.Title, q.Expr)
				}
			}
		}
	}
}

var variable = regexp.MustCompile(`\$(?:\{(\w+)(?:[:.][^}]*)?\}|(\w+))`)

func TestVariablesAreDefined(t *testing.T) {
	for _, b := range boards() {
		known := []string{"__rate_interval", "__range", "__data", "__url_time_range"}
		for _, v := range b.Templating.List {
			if slices.Contains(known, v.Name) {
				t.Errorf("%s defines %s twice", b.UID, v.Name)
			}
			known = append(known, v.Name)
		}
		everyText(t, b, func(text string) {
			if text == "$__all" {
				return // the value of All
			}
			for _, m := range variable.FindAllStringSubmatch(text, -1) {
				if name := m[1] + m[2]; !slices.Contains(known, name) {
					t.Errorf("%s uses $%s, which it does not define: %s", b.UID, name, text)
				}
			}
		})
	}
}

var toBoard = regexp.MustCompile(`^/d/([\w-]+)\?`)

func TestLinksLeadToDashboards(t *testing.T) {
	all := boards()
	variables := regexp.MustCompile(`var-(\w+)=`)
	links := 0
	for _, b := range all {
		everyText(t, b, func(text string) {
			m := toBoard.FindStringSubmatch(text)
			if m == nil {
				return
			}
			links++
			i := slices.IndexFunc(all, func(to board) bool { return to.UID == m[1] })
			if i < 0 {
				t.Errorf("%s links to %s", b.UID, m[1])
				return
			}
			for _, v := range variables.FindAllStringSubmatch(text, -1) {
				if !slices.ContainsFunc(all[i].Templating.List, func(x vari) bool { return x.Name == v[1] }) {
					t.Errorf("%s hands %s to %s, which does not know it", b.UID, v[1], m[1])
				}
			}
		})
	}
	if links == 0 {
		t.Error("no dashboard links to another")
	}
}
