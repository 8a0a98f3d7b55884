package kafkatest

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/kafkaclient"
	ours "github.com/bouncemeter/bouncemeter/sources/kafka"
	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

const partitions = 4

// truth is what a topic's records mean, counted where they are made.
type truth struct {
	Outcomes   map[string]int64
	Categories map[string]int64
}

// failure is one of the answers that are made up.
type failure struct {
	kind, outcome, category string
	code, subject, detail   int
	text                    string
}

var failures = []failure{
	{"TransientFailure", "deferred", "greylisted", 451, 7, 1, "Greylisting in action, please come back later"},
	{"TransientFailure", "deferred", "mailbox_full", 452, 2, 2, "Mailbox is full"},
	{"TransientFailure", "deferred", "rate_limited", 421, 7, 0, "Too many connections from your address"},
	{"Bounce", "bounced", "user_unknown", 550, 1, 1, "No such user here"},
	{"Bounce", "bounced", "spf_failed", 550, 7, 23, "SPF validation failed"},
}

// maker makes records of KumoMTA: nine of ten are deliveries.
type maker struct {
	random *rand.Rand
	truth  truth
	n      int64
}

func newMaker() *maker {
	return &maker{random: rand.New(rand.NewPCG(1, 2)), truth: truth{map[string]int64{}, map[string]int64{}}}
}

func (m *maker) next() []byte {
	m.n++
	kind, code, subject, detail, text, command := "Delivery", 250, 0, 0, "OK queued as 8A5475CCBBC6", "."
	if m.random.IntN(10) == 0 {
		f := &failures[m.random.IntN(len(failures))]
		kind, code, subject, detail, text, command = f.kind, f.code, f.subject, f.detail, f.text, "RCPT TO:<x>"
		m.truth.Outcomes[f.outcome]++
		m.truth.Categories[f.category]++
	} else {
		m.truth.Outcomes["delivered"]++
	}
	domain := m.random.IntN(2000)
	return fmt.Appendf(nil, `{"type":%q,"id":"%016x%016x","sender":"bounce-%d@s%d.example","recipient":"user%d@d%d.test","queue":"spring:acme@d%d.test","site":"ip-1->(mx1|mx2).d%d.test@smtp_client","size":%d,"response":{"code":%d,"enhanced_code":{"class":%d,"subject":%d,"detail":%d},"content":%q,"command":%q},"peer_address":{"name":"mx1.d%d.test.","addr":"192.0.2.%d"},"timestamp":%d,"created":%d,"num_attempts":0,"bounce_classification":"Uncategorized","egress_pool":"pool0","egress_source":"ip-1","source_address":{"address":"198.51.100.1:53210"},"feedback_report":null,"meta":{},"headers":{},"delivery_protocol":"ESMTP","reception_protocol":"ESMTP","nodeid":"557f3ad4-2c8c-11ee-976e-782d7e12e173"}`,
		kind, m.random.Uint64(), m.random.Uint64(), m.n, m.random.IntN(200), m.random.IntN(1e6), domain, domain, domain, m.random.IntN(1e5),
		code, code/100, subject, detail, text, command, domain, m.random.IntN(256), 1790000000+m.n/1000, 1790000000+m.n/1000-2)
}

// fill makes a topic with n records, and returns what they mean.
func fill(t testing.TB, s *Server, topic string, n int) truth {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Addr), kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.ProducerBatchMaxBytes(1_000_000),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(50_000), kgo.ProducerLinger(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	create(t, client, topic)
	m := newMaker()
	var failed atomic.Pointer[error]
	for i := range n {
		client.Produce(t.Context(), &kgo.Record{Topic: topic, Partition: int32(i % partitions), Value: m.next()}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Store(&err)
			}
		})
	}
	if err := client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := failed.Load(); err != nil {
		t.Fatal(*err)
	}
	return m.truth
}

func create(t testing.TB, client *kgo.Client, topic string) {
	t.Helper()
	request := kmsg.NewPtrCreateTopicsRequest()
	one := kmsg.NewCreateTopicsRequestTopic()
	one.Topic, one.NumPartitions, one.ReplicationFactor = topic, partitions, 1
	request.Topics = append(request.Topics, one)
	r, err := request.RequestWith(t.Context(), client)
	if err != nil || r.Topics[0].ErrorCode != 0 {
		t.Fatal(r, err)
	}
}

// readerEnv makes the test binary read a topic: HOW ADDRESS TOPIC RECORDS. How is
// Reader, the client library's own, one for each partition; or source, ours, up to
// the lines of a batch.
const readerEnv = "KAFKATEST_READER"

func TestMain(m *testing.M) {
	var how, addr, topic string
	var n int
	if _, err := fmt.Sscan(os.Getenv(readerEnv), &how, &addr, &topic, &n); err != nil {
		rig.Main(m)
	}
	read := readWithReader
	if how == "source" {
		read = readWithSource
	}
	if err := read(addr, topic, n); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func readWithReader(addr, topic string, n int) error {
	var g errgroup.Group
	for p := range partitions {
		g.Go(func() error {
			r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{addr}, Topic: topic, Partition: p, MinBytes: 1, MaxBytes: 8 << 20, QueueCapacity: 10_000, MaxWait: 250 * time.Millisecond})
			defer func() { _ = r.Close() }()
			for range n / partitions {
				if _, err := r.ReadMessage(context.Background()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func readWithSource(addr, topic string, n int) error {
	source, err := ours.New(ours.Config{Config: kafkaclient.Config{Brokers: []string{addr}}, Topics: []string{topic}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var lines atomic.Int64
	err = source.Run(ctx, func(ctx context.Context, l *ours.Lane) error {
		if err := l.Open(ctx, event.Position{}); err != nil {
			return err
		}
		var b event.Batch
		for l.Read(ctx, &b) == nil {
			if lines.Add(int64(len(b.Lines))) >= int64(n) {
				cancel()
			}
		}
		return l.Close()
	})
	if got := lines.Load(); err == nil && got != int64(n) {
		err = fmt.Errorf("%d records were read, not %d", got, n)
	}
	return err
}

// figure is what reading a topic took.
type figure struct{ wall, cpu time.Duration }

func (f figure) String(n int) string {
	return fmt.Sprintf("%.0f records/s, %.2f CPU s a million", float64(n)/f.wall.Seconds(), f.cpu.Seconds()/float64(n)*1e6)
}

// run runs a command to its end.
func run(t testing.TB, cmd *exec.Cmd) figure {
	t.Helper()
	started := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%.2000s", cmd.Args, err, out)
	}
	return figure{time.Since(started), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
}

// count runs the daemon with these sources and sinks until it has counted n
// records, and returns what it says of them and what that took.
func count(t testing.TB, settings string, n int) (truth, figure) {
	t.Helper()
	d := start(t, t.TempDir(), settings, "GOMAXPROCS=1")
	var f figure
	began, first := time.Time{}, 0.0
	d.Until(t, fmt.Sprintf("%d records are counted", n), 5*time.Minute, func() bool {
		lines := d.Sum("bouncemeter_lines_total")
		if began.IsZero() && lines > 0 {
			began, first = time.Now(), lines
		}
		if lines != float64(n) {
			return false
		}
		f.wall = time.Duration(float64(time.Since(began)) * lines / max(1, lines-first))
		return true
	})
	d.Stop(t)
	f.cpu = d.ProcessState.UserTime() + d.ProcessState.SystemTime()
	return d.report(t), f
}

// reported returns what a report in JSON says.
func reported(t testing.TB, b []byte) truth {
	t.Helper()
	var report struct {
		Outcomes   map[string]int64
		Categories []struct {
			Category string
			Attempts int64
		}
	}
	if err := json.Unmarshal(b, &report); err != nil {
		t.Fatal(err)
	}
	got := truth{map[string]int64{}, map[string]int64{}}
	for outcome, n := range report.Outcomes {
		if n > 0 {
			got.Outcomes[outcome] = n
		}
	}
	for _, c := range report.Categories {
		got.Categories[c.Category] = c.Attempts
	}
	return got
}

// TestServerThroughput has the real program count two million records (or
// KAFKA_RECORDS) exactly, on one core, from a real Kafka; then count them again
// while it writes them to another topic; then count what it has written. It tells
// what that took, beside kcat, the client library's Reader and our source alone,
// which only read.
func TestServerThroughput(t *testing.T) {
	s := Start(t)
	n := 2_000_000
	if v := os.Getenv("KAFKA_RECORDS"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
	}
	n -= n % partitions
	want := fill(t, s, "events", n)
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Addr))
	if err != nil {
		t.Fatal(err)
	}
	create(t, client, "classified")
	client.Close()

	if kcat, err := exec.LookPath("kcat"); err != nil {
		t.Log("no kcat to compare with: install kcat")
	} else {
		cmd := exec.Command(kcat, "-C", "-b", s.Addr, "-t", "events", "-o", "beginning", "-e", "-q", "-f", "")
		t.Logf("kcat, reading:           %s", run(t, cmd).String(n))
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"Reader", "source"} {
		reader := exec.Command(self)
		reader.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s events %d", readerEnv, how, s.Addr, n))
		t.Logf("%s, reading:         %s", how, run(t, reader).String(n))
	}

	source := func(topic, dialect string) string {
		return fmt.Sprintf("sources: [{name: events, kind: kafka, brokers: [%q], topics: [%s], group: meter-%s, dialect: %s}]", s.Addr, topic, topic+dialect, dialect)
	}
	check := func(what, settings string) {
		t.Helper()
		got, f := count(t, settings, n)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-made +counted):\n%s", what, diff)
		}
		t.Logf("%s %s", what, f.String(n))
	}
	check("counting:               ", source("events", "kumomta"))
	check("counting and forwarding:", source("events", "kumomta")+fmt.Sprintf("\nsinks: [{kind: kafka, brokers: [%q], topic: classified}]", s.Addr))
	check("counting what was sent: ", source("classified", "bouncemeter"))
}
