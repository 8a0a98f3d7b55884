package cluster

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bouncemeter/bouncemeter/pipeline/spike"
	"github.com/bouncemeter/bouncemeter/test/kafkatest"
	"github.com/bouncemeter/bouncemeter/test/postgrestest"
)

const (
	partitions = 8
	instances  = 3
	minutes    = 30 * 60
	incident   = 26 * 60 // an hour of it
	perMinute  = 12      // records in each partition
)

// maker makes the records of KumoMTA for 30 hours. One sender is refused for
// SPF by one provider in the hour of the incident.
type maker struct {
	random     *rand.Rand
	start      time.Time
	n          int64
	outcomes   map[string]int64
	categories map[string]int64
}

func (m *maker) record(at time.Time) []byte {
	m.n++
	provider := []string{"gmail-smtp-in.l.google.com.", "mx-eu.mail.am0.yahoodns.net.", "mx1.other.test."}[m.random.IntN(3)]
	sender := m.random.IntN(3)
	kind, code, enhanced, text := "Delivery", 250, [3]int{2, 0, 0}, "OK queued as 8A5475CCBBC6"
	outcome, category := "delivered", ""
	minute := int(at.Sub(m.start).Minutes())
	switch p := m.random.Float64(); {
	case sender == 0 && strings.HasPrefix(provider, "gmail") && minute >= incident && minute < incident+60 && p < 0.3:
		kind, code, enhanced, text, outcome, category = "Bounce", 550, [3]int{5, 7, 23}, "SPF validation failed", "bounced", "spf_failed"
	case p < 0.02:
		kind, code, enhanced, text, outcome, category = "Bounce", 550, [3]int{5, 1, 1}, "No such user here", "bounced", "user_unknown"
	case p < 0.04:
		kind, code, enhanced, text, outcome, category = "TransientFailure", 451, [3]int{4, 7, 1}, "Greylisting in action, please come back later", "deferred", "greylisted"
	case p < 0.042:
		kind, code, enhanced, text, outcome, category = "Bounce", 550, [3]int{5, 7, 23}, "SPF validation failed", "bounced", "spf_failed"
	}
	m.outcomes[outcome]++
	if category != "" {
		m.categories[category]++
	}
	return fmt.Appendf(nil, `{"type":%q,"id":"%032x","sender":"bounce-%d@s%d.example","recipient":"user%d@d.test","queue":"d.test","site":"x","size":1,"response":{"code":%d,"enhanced_code":{"class":%d,"subject":%d,"detail":%d},"content":%q,"command":"."},"peer_address":{"name":%q,"addr":"192.0.2.1"},"timestamp":%d,"created":%d,"num_attempts":0,"egress_source":"ip-1","nodeid":"557f3ad4-2c8c-11ee-976e-782d7e12e173"}`,
		kind, m.n, m.n, sender, m.n, code, enhanced[0], enhanced[1], enhanced[2], text, provider, at.Unix(), at.Unix()-1)
}

// topic makes a topic.
func topic(t *testing.T, client *kgo.Client, name string) {
	t.Helper()
	request := kmsg.NewPtrCreateTopicsRequest()
	one := kmsg.NewCreateTopicsRequestTopic()
	one.Topic, one.NumPartitions, one.ReplicationFactor = name, partitions, 1
	request.Topics = append(request.Topics, one)
	r, err := request.RequestWith(t.Context(), client)
	if err != nil || r.Topics[0].ErrorCode != 0 {
		t.Fatal(r, err)
	}
}

// TestServerChaos has three instances count what is produced meanwhile, over 8
// partitions into a PostgreSQL. They are killed at random, one is stopped for so
// long that others take its lanes over, and goes on; the broker and the
// PostgreSQL crash. Every record counts once, and the alerts are those that one
// process raises that reads everything in one go.
func TestServerChaos(t *testing.T) {
	pg, broker := postgrestest.Start(t), kafkatest.Start(t)
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv("CLUSTER_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("CLUSTER_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(20*time.Millisecond),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.RecordDeliveryTimeout(2*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	topic(t, client, "delivery-status")

	dsn := newDSN(t, owner(pg))
	var all [instances]*instance
	for i := range all {
		all[i] = newInstance(t, fmt.Sprint("meter", i+1), dsn, fmt.Sprintf(
			"sources: [{name: logs, kind: kafka, brokers: [%q], topics: [delivery-status], group: meters, dialect: kumomta, session_timeout: 6s}]", broker.Addr))
		all[i].start(t)
	}
	for _, i := range all {
		eventually(t, 60*time.Second, i.name+" is ready", i.ready)
	}

	// Produce at a steady pace, as long as it takes to do everything below; the
	// rest then comes as fast as it can.
	start := time.Now().Add(-33 * time.Hour).Truncate(time.Hour)
	m := &maker{random: rand.New(rand.NewPCG(seed, 1)), start: start, outcomes: map[string]int64{}, categories: map[string]int64{}}
	logFile, err := os.Create(filepath.Join(t.TempDir(), "records.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var hurry atomic.Bool
	var failed atomic.Pointer[error]
	produced := make(chan struct{})
	go func() {
		defer close(produced)
		pace := time.NewTicker(60 * time.Millisecond)
		defer pace.Stop()
		for minute := range minutes {
			if !hurry.Load() {
				<-pace.C
			}
			for k := range perMinute {
				at := start.Add(time.Duration(minute)*time.Minute + time.Duration(k*59/(perMinute-1))*time.Second)
				for p := range int32(partitions) {
					value := m.record(at)
					if _, err := logFile.Write(append(value, '\n')); err != nil {
						failed.Store(&err)
					}
					client.Produce(t.Context(), &kgo.Record{Topic: "delivery-status", Partition: p, Value: value}, func(_ *kgo.Record, err error) {
						if err != nil {
							failed.Store(&err)
						}
					})
				}
			}
		}
	}()
	counted := func() int64 { return number(pg, "SELECT coalesce(sum(read), 0)::bigint FROM bouncemeter.lanes") }
	// goesOn waits until every partition has been committed further than it was
	// when it was called.
	goesOn := func(what string) {
		t.Helper()
		since := time.Now().Unix()
		eventually(t, 60*time.Second, "all partitions are read after "+what, func() bool {
			return number(pg, "SELECT count(*) FROM bouncemeter.lanes WHERE updated > $1", since) == partitions
		})
	}
	leader := func() int {
		return slices.IndexFunc(all[:], func(i *instance) bool { return i.metric(t, "bouncemeter_detector_leading") == 1 })
	}
	goesOn("the start")

	began := time.Now()
	say := func(format string, args ...any) {
		t.Logf("%3.0f s, %6d counted: "+format, append([]any{time.Since(began).Seconds(), counted()}, args...)...)
	}
	for range 3 {
		i := all[random.IntN(instances)]
		i.kill(t)
		say("%s was killed", i.name)
		<-time.After(time.Duration(random.IntN(2000)) * time.Millisecond)
		i.start(t)
		goesOn("a kill")
	}

	broker.Kill(t)
	say("the broker was killed")
	broker.Start(t)
	goesOn("the broker's crash")

	pg.Kill(t)
	t.Log("PostgreSQL was killed")
	<-time.After(time.Duration(random.IntN(2000)) * time.Millisecond)
	pg.Start(t)
	goesOn("PostgreSQL's crash")

	// Another one detects within 10 s of the death of who did.
	eventually(t, 30*time.Second, "one detects", func() bool { return leader() >= 0 })
	i := leader()
	all[i].kill(t)
	killed := time.Now()
	eventually(t, 10*time.Second, "another one detects", func() bool { return leader() >= 0 })
	say("%s, which detected, was killed; %s did %.1f s later", all[i].name, all[leader()].name, time.Since(killed).Seconds())
	all[i].start(t)
	goesOn("the detector's death")

	// A zombie: it is stopped while it has counted what is not committed, and
	// others commit its partitions further.
	eventually(t, 60*time.Second, "each has partitions", func() bool {
		return !slices.ContainsFunc(all[:], func(i *instance) bool { return i.metric(t, "bouncemeter_lane_last_read_timestamp_seconds") == 0 })
	})
	zombie := all[random.IntN(instances)]
	zombie.signal(t, syscall.SIGSTOP)
	say("%s was stopped", zombie.name)
	goesOn("one was stopped") // by the others
	conflicts := strings.Count(zombie.log.String(), "was moved by another process")
	zombie.signal(t, syscall.SIGCONT)
	say("%s goes on", zombie.name)
	eventually(t, 30*time.Second, "the commit of the one that was stopped is refused", func() bool {
		return strings.Count(zombie.log.String(), "was moved by another process") > conflicts
	})
	eventually(t, 60*time.Second, "it is a member again, with partitions", func() bool {
		return zombie.ready() && zombie.metric(t, "bouncemeter_lane_last_read_timestamp_seconds") > 0 && zombie.metric(t, "bouncemeter_lane_failing") == 0
	})
	say("%s reads again", zombie.name)

	hurry.Store(true)
	<-produced
	if err := client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := failed.Load(); err != nil {
		t.Fatal(*err)
	}
	if err := logFile.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 90*time.Second, "all is counted", func() bool { return counted() >= m.n })
	say("all is counted, of %d", m.n)
	end := start.Add(minutes * time.Minute).Unix()
	eventually(t, 90*time.Second, "all but the last minute is judged", func() bool {
		i := leader()
		return i >= 0 && int64(all[i].metric(t, "bouncemeter_detector_position_timestamp_seconds")) >= end-60
	})
	say("all is judged")

	var report struct {
		Lines      int64
		Outcomes   map[string]int64
		Categories []struct {
			Category string
			Attempts int64
		}
	}
	if err := json.Unmarshal(output(t, "report", "--ledger", owner(pg), "-o", "json"), &report); err != nil {
		t.Fatal(err)
	}
	outcomes, categories := map[string]int64{}, map[string]int64{}
	for outcome, n := range report.Outcomes {
		if n > 0 {
			outcomes[outcome] = n
		}
	}
	for _, c := range report.Categories {
		categories[c.Category] = c.Attempts
	}
	if report.Lines != m.n {
		t.Errorf("%d records were counted, want %d", report.Lines, m.n)
	}
	if diff := cmp.Diff(m.outcomes, outcomes); diff != "" {
		t.Errorf("outcomes (-made +counted):\n%s", diff)
	}
	if diff := cmp.Diff(m.categories, categories); diff != "" {
		t.Errorf("categories (-made +counted):\n%s", diff)
	}
	for _, i := range all {
		i.stop(t)
	}
	compareAlerts(t, owner(pg), logFile.Name())
}

// alert is what backtest tells of one.
type alert struct {
	Rule                    string
	Kind                    spike.Kind
	Severity                spike.Severity
	Labels                  map[spike.Dimension]string
	Category                string
	Started, Fired          time.Time
	Resolved                *time.Time
	Baseline, Ratio, Excess float64
}

// compareAlerts checks that the ledger has the alerts that are found in the
// records when they are read in one go.
func compareAlerts(t *testing.T, dsn, records string) {
	t.Helper()
	var want struct{ Alerts []alert }
	if err := json.Unmarshal(output(t, "backtest", "--from", "kumomta", "-o", "json", records), &want); err != nil {
		t.Fatal(err)
	}
	var list struct {
		Alerts []struct{ Alert spike.Alert }
	}
	if err := json.Unmarshal(output(t, "alerts", "list", "--ledger", dsn, "--last", "90d", "-o", "json"), &list); err != nil {
		t.Fatal(err)
	}
	var got []alert
	for i := range list.Alerts {
		a := &list.Alerts[i].Alert
		if a.Inhibited {
			continue
		}
		x := alert{a.Rule, a.Kind, a.Severity, a.Labels, a.Category, a.Since, a.Fired, nil, a.Usual, a.Ratio, a.Excess}
		if !a.State.Open() {
			x.Resolved = &a.Resolved
		}
		got = append(got, x)
	}
	byTime := func(a, b alert) int {
		return strings.Compare(fmt.Sprint(a.Fired.Unix(), a.Rule, a.Labels), fmt.Sprint(b.Fired.Unix(), b.Rule, b.Labels))
	}
	slices.SortFunc(want.Alerts, byTime)
	slices.SortFunc(got, byTime)
	if diff := cmp.Diff(want.Alerts, got); diff != "" {
		t.Errorf("alerts (-in one go +by many):\n%s", diff)
	}
	if !slices.ContainsFunc(got, func(a alert) bool { return a.Category == "spf_failed" }) {
		t.Errorf("the incident raised no alert: %+v", got)
	}
	t.Logf("%d alerts, the same as in one go", len(got))
}
