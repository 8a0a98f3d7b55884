package app

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/bouncemeter/bouncemeter/internal/config"
	"github.com/bouncemeter/bouncemeter/internal/simulate"
	"github.com/bouncemeter/bouncemeter/ledger"
)

// counted is all that detection, pages and reports are made of, but for where the
// records came from.
type counted struct {
	Series   []ledger.Row
	Delays   []ledger.DelayTotal
	Domains  []ledger.DomainTotal
	Wordings map[uint64]int64 // attempts by template
}

// count runs a daemon until done says that it has counted everything, and returns
// what it has counted and the text of its metrics.
func count(t *testing.T, c *config.Config, done func(lines int64) bool) counted {
	t.Helper()
	c.Ledger.SQLite = filepath.Join(t.TempDir(), "ledger.db")
	c.HTTP.Listen = "127.0.0.1:0"
	c.Limits.CommitEvery = 50 * time.Millisecond
	a, err := Open(t.Context(), Options{Config: *c, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var lines int64
		lanes, err := a.ledger.Lanes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lanes {
			lines += l.Lines.Read
			if l.Lines.Malformed > 0 {
				t.Fatalf("%s: %+v", l.Name, l.Lines)
			}
		}
		if done(lines) {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d lines are counted; sinks: %+v", lines, a.records.states())
		}
	}
	for _, s := range a.records.states() {
		if s.Records == 0 || s.Failures > 0 || s.Refused > 0 || s.Held > 0 {
			t.Errorf("%+v", s)
		}
	}
	got := everything(t, a)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	return got
}

func everything(t *testing.T, a *App) (c counted) {
	t.Helper()
	var err error
	if c.Series, err = a.ledger.Query(t.Context(), ledger.Query{
		By: []ledger.Dimension{
			ledger.ByOutcome, ledger.ByCategory, ledger.BySecondary, ledger.ByProvider, ledger.BySenderDomain, ledger.ByHost, ledger.ByStream,
		},
		Step: 60, Limit: 1 << 20,
	}); err != nil {
		t.Fatal(err)
	}
	if c.Delays, err = a.ledger.DelayTotals(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.Domains, err = a.ledger.DomainCounts(t.Context(), 0, 1<<40, 1<<20); err != nil {
		t.Fatal(err)
	}
	templates, err := a.ledger.Templates(t.Context(), ledger.TemplateFilter{}, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	c.Wordings = make(map[uint64]int64)
	for _, x := range templates {
		c.Wordings[x.Hash] += x.Attempts
	}
	return c
}

// What a forwarder beside the mail server has classified a central instance counts
// alike, by way of Kafka or of a file.
func TestForwarded(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a few seconds")
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "classified"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	dir := t.TempDir()
	log, records := filepath.Join(dir, "mail.log"), filepath.Join(dir, "records.jsonl")
	lines := writeLog(t, log)

	edge := config.Default()
	mail := config.DefaultSource()
	mail.Name, mail.Kind, mail.Paths, mail.Timezone = "mta1", "tail", []string{log}, "UTC"
	file, bus := config.DefaultSink(), config.DefaultSink()
	file.Name, file.Kind, file.Path = "file", "file", records
	bus.Name, bus.Kind, bus.Brokers, bus.Topic = "bus", "kafka", cluster.ListenAddrs(), "classified"
	edge.Sources, edge.Sinks = []config.Source{mail}, []config.Sink{file, bus}
	want := count(t, &edge, func(n int64) bool { return n == lines })
	if len(want.Series) < 1000 || len(want.Domains) < 100 || len(want.Wordings) < 20 {
		t.Fatalf("the log tells little: %d series, %d domains, %d wordings", len(want.Series), len(want.Domains), len(want.Wordings))
	}

	text, err := os.ReadFile(records)
	if err != nil {
		t.Fatal(err)
	}
	written := int64(bytes.Count(text, []byte{'\n'}))
	for _, way := range []config.Source{
		{Name: "topic", Kind: "kafka", Brokers: cluster.ListenAddrs(), Topics: []string{"classified"}, Group: "bouncemeter"},
		{Name: "file", Kind: "tail", Paths: []string{records}},
	} {
		t.Run(way.Name, func(t *testing.T) {
			source := config.DefaultSource()
			source.Name, source.Kind, source.Dialect = way.Name, way.Kind, "bouncemeter"
			source.Brokers, source.Topics, source.Group, source.Paths = way.Brokers, way.Topics, way.Group, way.Paths
			central := config.Default()
			central.Sources = []config.Source{source}
			got := count(t, &central, func(n int64) bool { return n == written })
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-at the edge +in the centre:\n%.3000s", diff)
			}
		})
	}
}

// writeLog writes a simulated log and returns how many lines it has.
func writeLog(t *testing.T, path string) int64 {
	t.Helper()
	start := time.Now().Add(-6 * time.Hour).Truncate(time.Second)
	s, err := simulate.New(simulate.Config{Seed: 1, Start: start, RFC3339: true, RecipientDomains: 300})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	if _, err := s.WriteUntil(&log, start.Add(15*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, log.Bytes(), 0o640); err != nil {
		t.Fatal(err)
	}
	return int64(bytes.Count(log.Bytes(), []byte{'\n'}))
}
