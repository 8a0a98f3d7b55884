package kafka

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/kafkaclient"
	"github.com/bouncemeter/bouncemeter/internal/testcert"
)

// logbook collects what is logged.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logbook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logbook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *logbook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

// exchange is a connection on which an answer waits.
type exchange struct {
	request bytes.Buffer
	answer  *bytes.Reader
}

func (e *exchange) Write(b []byte) (int, error) { return e.request.Write(b) }
func (e *exchange) Read(b []byte) (int, error)  { return e.answer.Read(b) }

// In every version, the request and the answer are what the definitions of the
// protocol say, here in the words of another implementation.
func TestFetchOnTheWire(t *testing.T) {
	for version := int16(minFetchVersion); version <= maxFetchVersion; version++ {
		answer := kmsg.NewPtrFetchResponse()
		answer.Version, answer.ThrottleMillis = version, 12
		topics := map[string][]int32{"a": {3, 0}, "b": {1}}
		for _, name := range []string{"a", "b"} {
			rt := kmsg.NewFetchResponseTopic()
			rt.Topic = name
			for _, id := range topics[name] {
				rp := kmsg.NewFetchResponseTopicPartition()
				rp.Partition, rp.HighWatermark, rp.LastStableOffset, rp.LogStartOffset = id, 100, 90, 7
				rp.RecordBatches = []byte(strings.Repeat(name+strconv.Itoa(int(id)), 400))
				at := kmsg.NewFetchResponseTopicPartitionAbortedTransaction()
				at.ProducerID, at.FirstOffset = 5, 80
				rp.AbortedTransactions = append(rp.AbortedTransactions, at)
				rt.Partitions = append(rt.Partitions, rp)
			}
			answer.Topics = append(answer.Topics, rt)
		}
		answer.Topics[1].Partitions[0].ErrorCode = 6
		body := answer.AppendTo([]byte{0, 0, 0, 1})
		e := &exchange{answer: bytes.NewReader(append([]byte{0, 0, byte(len(body) >> 8), byte(len(body))}, body...))}
		f := &fetch{clientID: "me", maxWait: 250, minBytes: 1, maxBytes: 1 << 20, isolation: 1, limit: 500}
		for _, p := range []tp{{"a", 0}, {"a", 3}, {"b", 1}} {
			f.parts = append(f.parts, part{partition: &partition{tp: p}, offset: 40, maxBytes: 1000, chunk: new(chunk)})
		}
		f.Required(map[protocol.ApiKey]int16{protocol.Fetch: version})
		if _, err := f.RawExchange(e); err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		sent := e.request.Bytes()
		request := kmsg.NewPtrFetchRequest()
		request.Version = version
		if err := request.ReadFrom(sent[4+8+2+len("me"):]); err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		if request.MaxWaitMillis != 250 || request.MinBytes != 1 || request.MaxBytes != 1<<20 || request.IsolationLevel != 1 || len(request.Topics) != 2 ||
			len(request.Topics[0].Partitions) != 2 || request.Topics[0].Partitions[1].Partition != 3 || request.Topics[1].Topic != "b" ||
			request.Topics[1].Partitions[0].FetchOffset != 40 || request.Topics[1].Partitions[0].PartitionMaxBytes != 1000 ||
			request.Topics[1].Partitions[0].CurrentLeaderEpoch != -1 || version >= 7 && request.SessionEpoch != -1 {
			t.Errorf("version %d: %+v", version, request)
		}
		for i, want := range []struct {
			code int16
			data string
		}{{0, "a0"}, {0, "a3"}, {6, "b1"}} {
			k := f.parts[i].chunk
			if !k.answered || k.code != want.code || k.high != 100 || k.stable != 90 || len(k.aborted) != 1 || k.aborted[0] != (abortedTransaction{5, 80}) ||
				string(k.data) != strings.Repeat(want.data, 250) {
				t.Errorf("version %d: %s/%d: %d %d %d %v %.10q", version, f.parts[i].topic, f.parts[i].id, k.code, k.high, k.stable, k.aborted, k.data)
			}
		}
		if f.throttled != 12 || e.answer.Len() != 0 {
			t.Errorf("version %d: throttled %d, %d bytes not read", version, f.throttled, e.answer.Len())
		}

		// A cut answer is an error, wherever it is cut.
		for cut := 4; cut < len(body); cut += 7 {
			for i := range f.parts {
				f.parts[i].chunk.answered = false
			}
			f.correlation = 0
			e.answer = bytes.NewReader(append([]byte{0, 0, byte(len(body) >> 8), byte(len(body))}, body[:cut]...))
			if _, err := f.RawExchange(e); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("version %d cut at %d: %v", version, cut, err)
			}
		}
	}
	f := new(fetch)
	f.Required(map[protocol.ApiKey]int16{protocol.Fetch: 3})
	if _, err := f.RawExchange(new(exchange)); err == nil || !strings.Contains(err.Error(), "0.11") {
		t.Errorf("an old broker gives %v", err)
	}
}

func TestLeadersMove(t *testing.T) {
	c := startCluster(t, 3)
	p := producer(t, c)
	g := newLedger()
	s, stop := start(t, quick(c), g)
	for round := range 5 {
		for i := range int32(3) {
			put(t, p, i, numbers(round*100, (round+1)*100)...)
			if err := c.MoveTopicPartition("records", i, (c.LeaderFor("records", i)+1)%3); err != nil {
				t.Fatal(err)
			}
		}
		g.total(t, 3, (round+1)*100)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if s.Stats().Refreshes == 0 {
		t.Error("no leader has moved")
	}
}

// One lane that does not read keeps nobody else on its broker waiting.
func TestSlowLaneStopsNobody(t *testing.T) {
	c := startCluster(t, 2, kfake.NumBrokers(1))
	p := producer(t, c, kgo.ProducerBatchCompression(kgo.NoCompression()))
	cfg := quick(c)
	cfg.FetchBytes, cfg.MinBytes, cfg.MaxWait = 4<<10, 1, 5*time.Second
	long := strings.Repeat("x", 3000)
	for range 30 {
		put(t, p, 0, long, long)
	}
	g := newLedger()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	slow, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- s.Run(ctx, func(ctx context.Context, l *Lane) error {
			if l.id == 0 {
				if err := l.Open(ctx, event.Position{Segment: begun}); err != nil {
					return err
				}
				<-slow
			}
			return g.work(ctx, l)
		})
	}()
	for i := range 20 {
		put(t, p, 1, numbers(i, i+1)...)
		g.has(t, "records/1", numbers(0, i+1)...)
	}
	close(slow)
	g.wait(t, "the slow one", func() bool { return len(g.lines["records/0"]) == 60 })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestTLSAndLogin(t *testing.T) {
	dir := t.TempDir()
	authority := testcert.New(t)
	certificate, ca := authority.Issue(t), authority.Write(t, dir)
	for mechanism, group := range map[string]string{"plain": "", "scram-sha-256": "meters", "scram-sha-512": "meters"} {
		t.Run(mechanism, func(t *testing.T) {
			c := startCluster(t, 1, kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser(strings.ToUpper(mechanism), "meter", "right horse"),
				kfake.TLS(&tls.Config{Certificates: []tls.Certificate{certificate}}))
			password := filepath.Join(dir, mechanism)
			write(t, password, "wrong horse")
			var log logbook
			cfg := quick(c)
			cfg.Group, cfg.Log = group, log.logger()
			cfg.TLS = kafkaclient.TLS{Enabled: true, CAFile: ca}
			cfg.SASL = kafkaclient.SASL{Mechanism: mechanism, User: "meter", PasswordFile: password}
			g := newLedger()
			start(t, cfg, g)
			// The log says what is wrong, once and without the password.
			until(t, func() bool { return strings.Contains(log.String(), "sasl.user") })
			if text := log.String(); strings.Contains(text, "horse") || strings.Count(text, "\n") > 2 {
				t.Error(text)
			}
			write(t, password, "right horse\n") // is read anew
			g.wait(t, "the start", func() bool { return g.at["records/0"] == event.Position{Segment: begun} })
		})
	}
}

// until polls for what no channel tells.
func until(t testing.TB, ok func() bool) {
	t.Helper()
	tick, late := time.NewTicker(10*time.Millisecond), time.After(patience)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("it did not happen")
		}
	}
}

func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The cluster is down when we start, and goes away and comes back later.
func TestClusterGoesAndComes(t *testing.T) {
	for _, group := range []string{"", "meters"} {
		data := t.TempDir()
		port := freePort(t)
		cluster := func() *kfake.Cluster {
			return startCluster(t, 1, kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(data))
		}
		var log logbook
		var cfg Config
		{
			c := cluster()
			cfg = quick(c)
			c.Close()
		}
		cfg.Group, cfg.Log = group, log.logger()
		g := newLedger()
		start(t, cfg, g)
		until(t, func() bool { return strings.Contains(log.String(), "no answer from the cluster") })
		for round := range 3 {
			c := cluster()
			p := producer(t, c)
			put(t, p, 0, numbers(round*10, round*10+10)...)
			p.Close()
			g.total(t, 1, round*10+10)
			c.Close()
		}
		if n := strings.Count(log.String(), "\n"); n > 40 {
			t.Errorf("%d messages:\n%s", n, log.String())
		}
	}
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

func TestRefusedTopicIsToldAndTriedAgain(t *testing.T) {
	c := startCluster(t, 1)
	put(t, producer(t, c), 0, "a")
	faults := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "records", Count: 3, Err: nil})
	var log logbook
	cfg := quick(c)
	cfg.Log = log.logger()
	g := newLedger()
	start(t, cfg, g)
	g.has(t, "records/0", "a")
	if faults.Hits() != 3 || !strings.Contains(log.String(), "a partition cannot be read") || !strings.Contains(log.String(), "can be read again") {
		t.Errorf("%d faults:\n%s", faults.Hits(), log.String())
	}
}

// A partition that has records and delivers none is told, and connected to anew.
func TestWatchdog(t *testing.T) {
	var log logbook
	cfg := Config{Log: log.logger()}.withDefaults()
	c := newCluster(&cfg, nil, new(counters))
	stuck, slow, idle, broken := c.open(tp{"t", 0}, 5), c.open(tp{"t", 1}, 5), c.open(tp{"t", 2}, 5), c.open(tp{"t", 3}, 5)
	stuck.end.Store(9)
	slow.end.Store(9)
	slow.free = nil // its lane has everything that it can take
	idle.end.Store(5)
	broken.end.Store(5)
	broken.trouble = kafkago.NotLeaderForPartition
	now := time.Now()
	c.watch(now.Add(cfg.StallAfter / 2))
	if log.String() != "" || c.refresh {
		t.Fatal(log.String())
	}
	c.watch(now.Add(cfg.StallAfter + time.Second))
	if text := log.String(); strings.Count(text, "level=ERROR") != 2 || !strings.Contains(text, "t/0") || !strings.Contains(text, "t/3") || !c.refresh || c.stats.stalls.Load() != 2 {
		t.Error(text)
	}
	c.watch(now.Add(cfg.StallAfter + 2*time.Second))
	if strings.Count(log.String(), "\n") != 2 {
		t.Error("it is told too often")
	}
}

func TestNoticesOnceAMinute(t *testing.T) {
	n := new(notices)
	if n.over("a") || !n.due("a") || n.due("a") || !n.due("b") || !n.over("a") || n.over("a") || n.due("a") {
		t.Error("notices come at the wrong time")
	}
	n.all["a"].last = time.Now().Add(-noticeEvery)
	if !n.due("a") || !n.over("a") {
		t.Error("a notice does not come again")
	}
}

func TestConfigFaults(t *testing.T) {
	good := func() Config {
		c := Config{Topics: []string{"records"}}
		c.Brokers = []string{"broker.example:9092"}
		return c
	}
	if c := good(); c.Validate() != nil {
		t.Fatal(c.Validate())
	}
	for want, change := range map[string]func(*Config){
		"topics: none":       func(c *Config) { c.Topics = nil },
		"topics[0]: \"a b\"": func(c *Config) { c.Topics = []string{"a b"} },
		"topics[1]":          func(c *Config) { c.Topics = []string{"a", "a"} },
		"pattern":            func(c *Config) { c.Pattern = "[" },
		"partitions: a":      func(c *Config) { c.Group, c.Partitions = "g", []int32{1} },
		"partitions[0]":      func(c *Config) { c.Partitions = []int32{-1} },
		"partitions[1]":      func(c *Config) { c.Partitions = []int32{1, 1} },
		"start":              func(c *Config) { c.Start = "now" },
		"out_of_range":       func(c *Config) { c.OutOfRange = "skip" },
		"damaged":            func(c *Config) { c.Damaged = "latest" },
		"isolation":          func(c *Config) { c.Isolation = "none" },
		"max_record_bytes":   func(c *Config) { c.MaxRecordBytes = 1 },
		"fetch_bytes":        func(c *Config) { c.FetchBytes = 1 },
		"buffer_bytes":       func(c *Config) { c.BufferBytes = 1 },
		"max_batch_bytes":    func(c *Config) { c.MaxBatchBytes = 1 },
		"min_bytes":          func(c *Config) { c.MinBytes = -1 },
		"max_wait":           func(c *Config) { c.MaxWait = time.Minute },
		"request_timeout":    func(c *Config) { c.RequestTimeout = 1 },
		"stall_after":        func(c *Config) { c.StallAfter = 1 },
		"heartbeat_interval": func(c *Config) { c.HeartbeatInterval, c.SessionTimeout = 3*time.Second, 6*time.Second },
		"session_timeout":    func(c *Config) { c.SessionTimeout = 5 * time.Second },
		"rebalance_timeout":  func(c *Config) { c.RebalanceTimeout = 1 },
		"commit_interval":    func(c *Config) { c.CommitInterval = 1 },
		"brokers[0]":         func(c *Config) { c.Brokers = []string{"broker"} },
		"sasl.password_file": func(c *Config) { c.SASL = kafkaclient.SASL{Mechanism: "plain", User: "u"} },
	} {
		c := good()
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", want, err)
		}
	}
	c := good()
	c.Topics, c.Start, c.MaxWait = nil, "x", time.Hour
	if err := c.Validate(); strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("not all faults: %v", err)
	}
}

func TestPositionsOfOtherSources(t *testing.T) {
	l := offline(t, Config{})
	for _, p := range []event.Position{{Segment: "f3a9", Offset: 10}, {Offset: -1}, {Segment: begun, Offset: 3}} {
		if err := l.Open(t.Context(), p); err == nil {
			t.Errorf("%+v was taken", p)
		}
	}
}

func TestTopicsOf(t *testing.T) {
	if got := topicsOf([]tp{{"a", 0}, {"a", 1}, {"b", 0}}); !slices.Equal(got, []string{"a", "b"}) {
		t.Error(got)
	}
}
