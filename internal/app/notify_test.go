package app

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/bouncemeter/bouncemeter/internal/config"
	"github.com/bouncemeter/bouncemeter/internal/kafkaclient"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/alertjson"
	"github.com/bouncemeter/bouncemeter/ledger/sqlite"
	"github.com/bouncemeter/bouncemeter/pipeline"
)

// receiver is a webhook that passes on the names of the alerts it is told of.
func receiver(t *testing.T) (url string, heard <-chan string) {
	names := make(chan string, 100)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m struct {
			Alerts []struct {
				Status string
				Labels map[string]string
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		for _, a := range m.Alerts {
			names <- a.Labels["alertname"] + " " + a.Status
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, names
}

func configured(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("c.yaml", []byte("sources: [{name: in, kind: stdin}]\n"+text), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// step stores changes of alerts as the detector does.
func step(t *testing.T, l pipeline.AlertLedger, states map[string]alertjson.State) {
	t.Helper()
	d, err := l.Detection(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c := &ledger.DetectorCommit{Expected: d.Position, Position: max(d.Position+60, now.Unix()), Now: now}
	for name, state := range states {
		body, err := json.Marshal(alertjson.Alert{ID: name, Incident: name, Rule: name, State: state, Severity: alertjson.Warning, Since: now, Updated: now})
		if err != nil {
			t.Fatal(err)
		}
		c.Alerts = append(c.Alerts, ledger.Alert{ID: name, State: string(state), Open: state.Open(), Rule: name, Time: now.Unix(), Body: body})
	}
	if err := l.CommitDetector(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, heard <-chan string, want string) {
	t.Helper()
	select {
	case got := <-heard:
		if got != want {
			t.Errorf("told of %q, want %q", got, want)
		}
	case <-time.After(20 * time.Second):
		t.Errorf("not told of %q", want)
	}
}

func TestNotifiersFollowTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	l, err := sqlite.Open(t.Context(), filepath.Join(dir, "ledger.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file := filepath.Join(dir, "alerts.jsonl")
	first, heardFirst := receiver(t)
	second, heardSecond := receiver(t)
	log := slog.New(slog.DiscardHandler)
	notifiers := func(url string) *config.Config {
		return configured(t, "notify: [{kind: webhook, url: '"+url+"'}, {kind: file, path: "+file+"}, {kind: log}]")
	}
	n, err := newNotifying(notifiers(first), nil, log)
	if err != nil {
		t.Fatal(err)
	}
	lease, release, err := l.Lease(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- n.run(lease, l) }()

	step(t, l, map[string]alertjson.State{"spf": alertjson.Firing})
	expect(t, heardFirst, "spf firing")

	// The same notifier at another place goes on where it was.
	outbox, end, err := newOutbox(notifiers(second), nil, log)
	if err != nil {
		t.Fatal(err)
	}
	n.swap(outbox, end)
	step(t, l, map[string]alertjson.State{"spf": alertjson.Resolved})
	expect(t, heardSecond, "spf resolved")
	for _, s := range n.stats() {
		if s.Failures != 0 {
			t.Errorf("stats: %+v", s)
		}
	}
	release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := n.close(); err != nil {
		t.Error(err)
	}
	if len(heardFirst)+len(heardSecond) > 0 {
		t.Error("somebody was told twice")
	}
	b, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if lines := strings.Count(string(b), "\n"); lines > 2 {
		t.Errorf("%d records of 2 changes", lines)
	}
}

func TestEveryKindOfNotifierIsBuilt(t *testing.T) {
	url := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(url, []byte("ntfy://ntfy.example/topic"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := configured(t, `notify:
- {kind: alertmanager, urls: ["http://127.0.0.1:9093"]}
- {kind: webhook, url: "https://hooks.example"}
- {kind: shoutrrr, url_file: `+url+`}
- {kind: file, path: /alerts.jsonl}
- {kind: log}
- {kind: kafka, brokers: ["127.0.0.1:9092"], topic: alerts}
`)
	n, err := newNotifying(c, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if got := len(n.stats()); got != 6 {
		t.Errorf("%d notifiers", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.run(ctx, nil); err != nil {
		t.Error(err)
	}
	if err := n.close(); err != nil {
		t.Error(err)
	}
}

// Changes reach the topic with the alert's id as the key, in order.
func TestTopic(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "alerts"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	to, err := newTopic(ctx, kafkaclient.Config{Brokers: cluster.ListenAddrs()}, "alerts")
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"1", "2", "3"} {
		if err := to.Produce(ctx, []byte("spf"), []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics("alerts"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var got []string
	for len(got) < 3 {
		f := client.PollFetches(ctx)
		if err := f.Err0(); err != nil {
			t.Fatal(err)
		}
		f.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Key)+" "+string(r.Value)) })
	}
	if strings.Join(got, ", ") != "spf 1, spf 2, spf 3" {
		t.Errorf("the topic has %q", got)
	}
}

// Without notifiers there is nothing to do, and nothing is done: the loop waits
// for a reload or the end of the lease.
func TestNobodyToNotify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := newNotifying(configured(t, ""), nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- n.run(ctx, nil) }()
		synctest.Wait() // for ever, if the loop is busy
		outbox, release, err := newOutbox(configured(t, ""), nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		n.swap(outbox, release)
		synctest.Wait()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := n.close(); err != nil {
			t.Error(err)
		}
	})
}
