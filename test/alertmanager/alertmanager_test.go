// Package alertmanager tests alerts from the ledger's outbox to real Prometheus
// Alertmanagers and what they tell their own receivers.
package alertmanager

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/alertjson"
	"github.com/bouncemeter/bouncemeter/ledger/sqlite"
	"github.com/bouncemeter/bouncemeter/sinks/notify"
	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

// patience is how long a test waits for what is to become true.
const patience = time.Minute

// resend is how often open alerts are sent: short, so that the test is.
const resend = time.Second

// member is a real Alertmanager.
type member struct {
	folder, address string
	receiver        string // URL that it tells
	program         *rig.Program
}

func newMember(t *testing.T, receiver string) *member {
	t.Helper()
	if os.Getenv("ALERTMANAGER") == "" {
		t.Skip("needs an Alertmanager: test/alertmanager/run.sh")
	}
	m := &member{folder: t.TempDir(), address: rig.FreeAddress(t), receiver: receiver}
	m.start(t)
	return m
}

func (m *member) start(t *testing.T) {
	t.Helper()
	// The shipped example's inhibition is not used here: what is sent is tested.
	config := filepath.Join(m.folder, "alertmanager.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `
route: {receiver: test, group_by: [alertname], group_wait: 1s, group_interval: 1s, repeat_interval: 1h}
receivers: [{name: test, webhook_configs: [{url: "%s", send_resolved: true}]}]
`, m.receiver), 0o600); err != nil {
		t.Fatal(err)
	}
	m.program = rig.Start(t, exec.Command(os.Getenv("ALERTMANAGER"), "--config.file="+config, "--storage.path="+filepath.Join(m.folder, "data"),
		"--web.listen-address="+m.address, "--cluster.listen-address=", "--log.level=warn"))
	m.program.Until(t, "the Alertmanager is ready", patience, func() bool {
		r, err := http.Get("http://" + m.address + "/-/ready")
		if err != nil {
			return false
		}
		defer r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
}

func (m *member) kill(t *testing.T) {
	t.Helper()
	m.program.End(t, syscall.SIGKILL, patience)
}

// stop ends the member so that it remembers what it has told.
func (m *member) stop(t *testing.T) {
	t.Helper()
	m.program.End(t, syscall.SIGTERM, patience)
}

// amAlert is what the API tells of an alert.
type amAlert struct {
	Labels           map[string]string
	StartsAt, EndsAt time.Time
}

// alerts returns the active alerts by name.
func (m *member) alerts(t *testing.T) map[string]amAlert {
	t.Helper()
	r, err := http.Get("http://" + m.address + "/api/v2/alerts?active=true")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	var all []amAlert
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	byName := make(map[string]amAlert)
	for _, a := range all {
		byName[a.Labels["alertname"]] = a
	}
	return byName
}

func (m *member) names(t *testing.T) []string {
	t.Helper()
	var all []string
	for name := range m.alerts(t) {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// told is what an Alertmanager's receiver hears, as "name status title".
type told struct {
	mu  sync.Mutex
	all []string
}

func (o *told) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var m struct {
		Alerts []struct {
			Status              string
			Labels, Annotations map[string]string
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range m.Alerts {
		o.all = append(o.all, fmt.Sprintf("%s %s %s", a.Labels["alertname"], a.Status, a.Annotations["summary"]))
	}
}

func (o *told) has(what string) bool { return o.count(what) > 0 }

func (o *told) count(what string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.all {
		if s == what {
			n++
		}
	}
	return n
}

// detector stores changes of alerts as the real one does.
type detector struct {
	ledger   *sqlite.Ledger
	position int64
	since    map[string]time.Time
}

func (d *detector) change(t *testing.T, name string, state alertjson.State) {
	t.Helper()
	now := time.Now().UTC()
	a := alertjson.Alert{
		ID: "id-" + name, Incident: "id-" + name, Rule: name, Kind: "ratio", State: state, Severity: alertjson.Critical,
		Labels: map[string]string{"provider": "gmail", "sender_domain": "shop.example"}, Updated: now, Title: name + " title <b>",
		Samples: []string{"550 \x00 \"quoted\" @channel ümlaut"},
	}
	if d.since[name].IsZero() {
		d.since[name] = now.Add(-5 * time.Minute).Truncate(time.Second)
	}
	a.Since = d.since[name]
	if !state.Open() {
		a.Resolved = now
	}
	body, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	c := &ledger.DetectorCommit{
		Expected: d.position, Position: d.position + 60, Now: now,
		Alerts: []ledger.Alert{{ID: a.ID, State: string(state), Open: state.Open(), Rule: name, Time: now.Unix(), Body: body}},
	}
	if d.position == 0 {
		c.Position = now.Unix()
	}
	if err := d.ledger.CommitDetector(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	d.position = c.Position
}

// run starts the notifier; stop ends it.
func (d *detector) run(t *testing.T, members ...*member) (stop func()) {
	t.Helper()
	c := notify.AlertmanagerConfig{Resend: resend, HTTP: notify.HTTPConfig{Timeout: 2 * time.Second}}
	for _, m := range members {
		c.URLs = append(c.URLs, "http://"+m.address)
	}
	a, err := notify.NewAlertmanager(c)
	if err != nil {
		t.Fatal(err)
	}
	outbox, err := notify.New(notify.Options{Notifiers: []notify.Config{{Name: "am", Kind: "alertmanager", Teller: a}}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- outbox.Run(ctx, d.ledger) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestLifeOfAlerts(t *testing.T) {
	heard := [2]*told{{}, {}}
	var members [2]*member
	for i := range members {
		s := httptest.NewServer(heard[i])
		t.Cleanup(s.Close)
		members[i] = newMember(t, s.URL)
	}
	one, two := members[0], members[1]
	l, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := &detector{ledger: l, since: make(map[string]time.Time)}
	stop := d.run(t, one, two)
	defer func() { stop() }()
	both := func(what string, is func(m *member) bool) {
		t.Helper()
		for i, m := range members {
			rig.Eventually(t, patience, fmt.Sprintf("member %d: %s", i+1, what), func() bool { return is(m) })
		}
	}
	lists := func(names ...string) func(m *member) bool {
		return func(m *member) bool { return cmp.Equal(m.names(t), names) || len(m.names(t))+len(names) == 0 }
	}

	t.Log("fires: every member knows it, since when it began, and tells its receiver")
	d.change(t, "spf", alertjson.Firing)
	both("the alert is active", lists("spf"))
	for i, m := range members {
		got := m.alerts(t)["spf"]
		if !got.StartsAt.Equal(d.since["spf"]) || got.Labels["severity"] != "critical" || got.Labels["sender_domain"] != "shop.example" {
			t.Errorf("member %d has %+v", i+1, got)
		}
		rig.Eventually(t, patience, "the receiver is told", func() bool { return heard[i].has("spf firing spf title <\u200bb>") })
	}

	t.Log("is sent again: it outlives the end that was told first")
	first := one.alerts(t)["spf"].EndsAt
	rig.Eventually(t, patience, "the end moves on", func() bool { return one.alerts(t)["spf"].EndsAt.After(first.Add(2 * resend)) })
	<-time.After(5 * resend)
	both("it is still active", lists("spf"))

	t.Log("a member is restarted with nothing in its memory, and learns of it")
	one.kill(t)
	one.start(t)
	both("the alert is active", lists("spf"))

	outage, err := time.ParseDuration(os.Getenv("OUTAGE"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("both are down for %v; meanwhile one alert ends, another begins and a third does both", outage)
	rig.Eventually(t, patience, "the restarted member has told its receiver", func() bool { return heard[0].count("spf firing spf title <\u200bb>") == 2 })
	one.stop(t)
	two.stop(t)
	d.change(t, "spf", alertjson.Resolved)
	d.change(t, "rate", alertjson.Firing)
	d.change(t, "brief", alertjson.Firing)
	<-time.After(outage)
	d.change(t, "brief", alertjson.Resolved)
	one.start(t)
	two.start(t)
	both("only what is open is active", lists("rate"))
	for i := range heard {
		rig.Eventually(t, patience, "the receiver is told of the end", func() bool { return heard[i].has("spf resolved spf title <\u200bb>") })
	}

	t.Log("the daemon is restarted: nothing changes")
	stop()
	stop = d.run(t, one, two)
	<-time.After(6 * resend)
	both("it is still active", lists("rate"))

	t.Log("ends: with an end of its own, at once")
	d.change(t, "rate", alertjson.Resolved)
	both("nothing is active", lists())
	for i := range heard {
		rig.Eventually(t, patience, "the receiver is told", func() bool { return heard[i].has("rate resolved rate title <\u200bb>") })
	}

	t.Log("the daemon is gone for good: Alertmanager ends the alert by itself")
	d.change(t, "last", alertjson.Firing)
	both("the alert is active", lists("last"))
	stop()
	both("nothing is active", lists())
	for i, m := range members {
		if out := m.program.Output(); strings.Contains(out, "level=error") && !strings.Contains(out, "context canceled") {
			t.Errorf("member %d complained:\n%s", i+1, out)
		}
	}
}
