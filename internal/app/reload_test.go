package app

import (
	"slices"
	"testing"

	"github.com/bouncemeter/bouncemeter/internal/config"
)

// What a reload cannot change is told by its name, whatever it is.
func TestNeedRestart(t *testing.T) {
	for name, change := range map[string]func(*config.Config){
		"":                         func(*config.Config) {},
		"sources":                  func(c *config.Config) { c.Sources = append(c.Sources, config.DefaultSource()) },
		"http.listen":              func(c *config.Config) { c.HTTP.Listen = ":1" },
		"limits.series":            func(c *config.Config) { c.Limits.Series++ },
		"log.format":               func(c *config.Config) { c.Log.Format = "json" },
		"privacy":                  func(c *config.Config) { c.Privacy.Key = "another" },
		"ledger.retention.minutes": func(c *config.Config) { c.Ledger.Retention.Minutes++ },
	} {
		old, next := config.Default(), config.Default()
		change(&next)
		// These a reload changes.
		next.Rules.Files, next.Silences, next.Log.Level = []string{"own.yaml"}, "silences.yaml", "debug"
		next.Notify = []config.Notifier{config.DefaultNotifier()}
		want := []string{name}
		if name == "" {
			want = nil
		}
		if got := needRestart(&old, &next); !slices.Equal(got, want) {
			t.Errorf("%q: %q", name, got)
		}
	}
}
