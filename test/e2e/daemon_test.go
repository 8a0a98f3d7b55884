package e2e

import (
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/internal/simulate"
	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

// start starts the real program with sources and its ledger in folder.
func start(t *testing.T, sources, folder string) (*rig.Site, *rig.Daemon) {
	t.Helper()
	site := rig.NewSite(t, rig.Build(t, ""), folder, "sources: ["+sources+"]")
	return site, site.Start(t)
}

func simulator(t *testing.T) (*simulate.Simulator, time.Time) {
	t.Helper()
	start := time.Now().Add(-24 * time.Hour).Truncate(time.Second)
	mta, err := simulate.New(simulate.Config{Seed: 7, Start: start, Rate: 5})
	if err != nil {
		t.Fatal(err)
	}
	return mta, start
}
