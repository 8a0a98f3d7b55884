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
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bouncemeter/bouncemeter/pipeline/spike"
	"github.com/bouncemeter/bouncemeter/test/internal/rig"
	"github.com/bouncemeter/bouncemeter/test/kafkatest"
	"github.com/bouncemeter/bouncemeter/test/postgrestest"
)

const (
	partitions = 8
	instances  = 3
	minutes    = 30 * 60
	incident   = 26 * 60 // an hour of it
	perMinute  = 6       // messages in each partition
)

// counts are what a ledger is to have of one sender, outcome and category.
type counts struct{ Attempts, Firsts int64 }

// line is what a mail server logs at a second of a minute.
type line struct {
	second int
	text   string
}

// maker makes the logs of Postfix servers, one a partition, for 30 hours. A
// message is delivered, or bounces, minutes after its sender was told; what is
// deferred is delivered ten minutes later. One sender is refused for SPF by one
// provider in the hour of the incident.
type maker struct {
	random  *rand.Rand
	start   time.Time
	n       int64 // lines
	queued  int64 // messages
	planned [partitions]map[int][]line
	truth   map[string]counts // by sender, outcome and category
}

func newMaker(random *rand.Rand, start time.Time) *maker {
	m := &maker{random: random, start: start, truth: make(map[string]counts)}
	for p := range m.planned {
		m.planned[p] = make(map[int][]line)
	}
	return m
}

func (m *maker) plan(p, minute, second int, format string, args ...any) {
	at := m.start.Add(time.Duration(minute)*time.Minute + time.Duration(second)*time.Second)
	text := at.UTC().Format("2006-01-02T15:04:05.000000Z") + " mx" + strconv.Itoa(p) + " postfix/" + fmt.Sprintf(format, args...)
	m.planned[p][minute] = append(m.planned[p][minute], line{second, text})
}

// message plans all lines of a message that arrives then, and is first tried
// after some minutes.
func (m *maker) message(p, minute, second, after int) {
	m.queued++
	id := fmt.Sprintf("4F%08X", m.queued)
	relay := []string{"gmail-smtp-in.l.google.com", "mta5.am0.yahoodns.net", "mx1.other.test"}[m.random.IntN(3)]
	sender := m.random.IntN(3)
	outcome, category, reply := "delivered", "", "dsn=2.0.0, status=sent (250 2.0.0 OK)"
	tried := minute + after
	switch c := m.random.Float64(); {
	case minute >= minutes-20: // nothing is to remain at the end
		tried = minute
	case sender == 0 && strings.HasPrefix(relay, "gmail") && tried >= incident && tried < incident+60 && c < 0.4:
		outcome, category, reply = "bounced", "spf_failed", "dsn=5.7.23, status=bounced (host "+relay+"[192.0.2.1] said: 550 5.7.23 SPF validation failed (in reply to end of DATA command))"
	case c < 0.02:
		outcome, category, reply = "bounced", "user_unknown", "dsn=5.1.1, status=bounced (host "+relay+"[192.0.2.1] said: 550 5.1.1 No such user here (in reply to RCPT TO command))"
	case c < 0.04:
		outcome, category, reply = "deferred", "greylisted", "dsn=4.7.1, status=deferred (host "+relay+"[192.0.2.1] said: 451 4.7.1 Greylisting in action, please come back later (in reply to RCPT TO command))"
	}
	count := func(outcome, category string, first int64) {
		key := fmt.Sprintf("s%d.example %s %s", sender, outcome, category)
		c := m.truth[key]
		m.truth[key] = counts{c.Attempts + 1, c.Firsts + first}
	}
	attempt := func(minute int, reply string) {
		m.plan(p, minute, second, "smtp[311]: %s: to=<a@x.test>, relay=%s[192.0.2.1]:25, delay=1, delays=0/0/0/1, %s", id, relay, reply)
	}
	m.plan(p, minute, second, "qmgr[12]: %s: from=<bounce@s%d.example>, size=1, nrcpt=1 (queue active)", id, sender)
	attempt(tried, reply)
	count(outcome, category, 1)
	if outcome == "deferred" {
		tried += 10
		attempt(tried, "dsn=2.0.0, status=sent (250 2.0.0 OK)")
		count("delivered", "", 0)
	}
	m.plan(p, tried, second, "qmgr[12]: %s: removed", id)
}

// minute returns the lines of a partition's minute, in order.
func (m *maker) minute(p, minute int) []line {
	for k := range perMinute {
		m.message(p, minute, k*59/(perMinute-1), 1+m.random.IntN(4))
	}
	all := m.planned[p][minute]
	delete(m.planned[p], minute)
	slices.SortStableFunc(all, func(a, b line) int { return a.second - b.second })
	m.n += int64(len(all))
	return all
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

// TestServerChaos has three instances count the lines of mail servers that are
// produced meanwhile, over 8 partitions into a PostgreSQL. They are killed at random, one is stopped for so
// long that others take its lanes over, and goes on; the broker is
// restarted, PostgreSQL crashes. Every record counts once, and the alerts are those that one
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

	dsn := newDSN(t, pg.OwnerDSN())
	var all [instances]*instance
	for i := range all {
		all[i] = newInstance(t, fmt.Sprint("meter", i+1), dsn, fmt.Sprintf(
			"sources: [{name: logs, kind: kafka, brokers: [%q], topics: [delivery-status], group: meters, dialect: postfix, timezone: UTC, session_timeout: 6s}]", broker.Addr))
		all[i].start(t)
	}
	for _, i := range all {
		rig.Eventually(t, 60*time.Second, i.name+" is ready", i.Ready)
	}

	// Produce at a steady pace, as long as it takes to do everything below; the
	// rest then comes as fast as it can.
	start := time.Now().Add(-33 * time.Hour).Truncate(time.Hour)
	m := newMaker(rand.New(rand.NewPCG(seed, 1)), start)
	logFile, err := os.Create(filepath.Join(t.TempDir(), "mail.log"))
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
			for p := range partitions {
				for _, line := range m.minute(p, minute) {
					if _, err := fmt.Fprintln(logFile, line.text); err != nil {
						failed.Store(&err)
					}
					client.Produce(t.Context(), &kgo.Record{Topic: "delivery-status", Partition: int32(p), Value: []byte(line.text)}, func(_ *kgo.Record, err error) {
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
		rig.Eventually(t, 60*time.Second, "all partitions are read after "+what, func() bool {
			return number(pg, "SELECT count(*) FROM bouncemeter.lanes WHERE updated > $1", since) == partitions
		})
	}
	leader := func() int {
		return slices.IndexFunc(all[:], func(i *instance) bool { return i.Sum("bouncemeter_detector_leading") == 1 })
	}
	goesOn("the start")

	began := time.Now()
	say := func(format string, args ...any) {
		t.Logf("%3.0f s, %6d counted: "+format, append([]any{time.Since(began).Seconds(), counted()}, args...)...)
	}
	for range 3 {
		i := all[random.IntN(instances)]
		i.daemon.Kill(t)
		say("%s was killed", i.name)
		<-time.After(time.Duration(random.IntN(2000)) * time.Millisecond)
		i.start(t)
		goesOn("a kill")
	}

	broker.Stop(t)
	say("the broker was stopped")
	broker.Start(t)
	goesOn("the broker's restart")

	pg.Kill(t)
	t.Log("PostgreSQL was killed")
	<-time.After(time.Duration(random.IntN(2000)) * time.Millisecond)
	pg.Start(t)
	goesOn("PostgreSQL's crash")

	// Another one detects within 10 s of the death of who did.
	rig.Eventually(t, 30*time.Second, "one detects", func() bool { return leader() >= 0 })
	i := leader()
	all[i].daemon.Kill(t)
	killed := time.Now()
	rig.Eventually(t, 10*time.Second, "another one detects", func() bool { return leader() >= 0 })
	say("%s, which detected, was killed; %s did %.1f s later", all[i].name, all[leader()].name, time.Since(killed).Seconds())
	all[i].start(t)
	goesOn("the detector's death")

	// A zombie: it is stopped while it has counted what is not committed, and
	// others commit its partitions further.
	rig.Eventually(t, 60*time.Second, "each has partitions", func() bool {
		return !slices.ContainsFunc(all[:], func(i *instance) bool { return i.Sum("bouncemeter_lane_last_read_timestamp_seconds") == 0 })
	})
	zombie := all[random.IntN(instances)]
	zombie.signal(t, syscall.SIGSTOP)
	say("%s was stopped", zombie.name)
	goesOn("one was stopped") // by the others
	conflicts := strings.Count(zombie.daemon.Output(), "was moved by another process")
	zombie.signal(t, syscall.SIGCONT)
	say("%s goes on", zombie.name)
	rig.Eventually(t, 30*time.Second, "the commit of the one that was stopped is refused", func() bool {
		return strings.Count(zombie.daemon.Output(), "was moved by another process") > conflicts
	})
	rig.Eventually(t, 60*time.Second, "it is a member again, with partitions", func() bool {
		return zombie.Ready() && zombie.Sum("bouncemeter_lane_last_read_timestamp_seconds") > 0 && zombie.Sum("bouncemeter_lane_failing") == 0
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
	rig.Eventually(t, 90*time.Second, "all is counted", func() bool { return counted() >= m.n })
	say("all is counted, of %d", m.n)
	end := start.Add(minutes * time.Minute).Unix()
	rig.Eventually(t, 90*time.Second, "all but the last minute is judged", func() bool {
		i := leader()
		return i >= 0 && int64(all[i].Sum("bouncemeter_detector_position_timestamp_seconds")) >= end-60
	})
	say("all is judged")

	if n := counted(); n != m.n {
		t.Errorf("%d lines were counted, want %d", n, m.n)
	}
	if n := number(pg, "SELECT sum(unmatched)::bigint FROM bouncemeter.lanes"); n != 0 {
		t.Errorf("the senders of %d attempts were lost", n)
	}
	if diff := cmp.Diff(m.truth, ledgerCounts(t, pg.OwnerDSN())); diff != "" {
		t.Errorf("counts (-made +counted):\n%s", diff)
	}
	readers := make(map[string][]string)
	for _, i := range all {
		_, text := i.Get("/metrics")
		for line := range strings.Lines(text) {
			if lane, ok := strings.CutPrefix(line, "bouncemeter_lane_lag{"); ok {
				lane, _, _ = strings.Cut(lane, "}")
				readers[lane] = append(readers[lane], i.name)
			}
		}
	}
	for lane, names := range readers {
		if len(names) != 1 || len(readers) != partitions {
			t.Errorf("%s of %d lanes is read by %v", lane, len(readers), names)
		}
	}
	for _, i := range all {
		i.daemon.Stop(t)
	}
	compareAlerts(t, pg.OwnerDSN(), logFile.Name())
}

// ledgerCounts are a ledger's counts by sender, outcome and category.
func ledgerCounts(t *testing.T, dsn string) map[string]counts {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(t.Context()) }()
	rows, err := c.Query(t.Context(), `SELECT sender_domain || ' ' || outcome || ' ' || category, sum(attempts)::bigint, sum(firsts)::bigint
		FROM bouncemeter.attempts GROUP BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]counts)
	var key string
	var n counts
	if _, err := pgx.ForEachRow(rows, []any{&key, &n.Attempts, &n.Firsts}, func() error { all[key] = n; return nil }); err != nil {
		t.Fatal(err)
	}
	return all
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
	if err := json.Unmarshal(rig.Output(t, rig.Build(t, ""), "backtest", "--from", "postfix", "--timezone", "UTC", "-o", "json", records), &want); err != nil {
		t.Fatal(err)
	}
	var list struct {
		Alerts []struct{ Alert spike.Alert }
	}
	if err := json.Unmarshal(rig.Output(t, rig.Build(t, ""), "alerts", "list", "--ledger", dsn, "--last", "90d", "-o", "json"), &list); err != nil {
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
