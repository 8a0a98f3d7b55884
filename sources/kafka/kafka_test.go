package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bouncemeter/bouncemeter/event"
)

// patience is how long a test waits for what must happen.
var patience = map[bool]time.Duration{false: 15 * time.Second, true: time.Minute}[os.Getenv("E2E_SERVERS") == "1"]

// startCluster starts a cluster of three brokers with a topic "records".
func startCluster(t testing.TB, partitions int32, more ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(3), kfake.SeedTopics(partitions, "records")}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// quick is a configuration for tests: it reads the topic "records".
func quick(c *kfake.Cluster) Config {
	cfg := Config{
		Topics: []string{"records"}, MaxWait: 20 * time.Millisecond, RequestTimeout: 3 * time.Second, StallAfter: 5 * time.Second,
		HeartbeatInterval: 100 * time.Millisecond, SessionTimeout: 6 * time.Second, RebalanceTimeout: 6 * time.Second, CommitInterval: 200 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
	}
	cfg.Brokers, cfg.MetadataTTL, cfg.DialTimeout = c.ListenAddrs(), 200*time.Millisecond, 3*time.Second
	return cfg
}

// producer returns a client that puts records where they say.
func producer(t testing.TB, c *kfake.Cluster, more ...kgo.Opt) *kgo.Client {
	t.Helper()
	p, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(1 << 20),
		kgo.MetadataMinAge(50 * time.Millisecond),
	}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// put writes values to a partition of "records" and waits until it has them.
func put(t testing.TB, p *kgo.Client, partition int32, values ...string) {
	t.Helper()
	var all []*kgo.Record
	for _, v := range values {
		all = append(all, &kgo.Record{Topic: "records", Partition: partition, Value: []byte(v)})
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.ProduceSync(ctx, all...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// ledger is a stand-in for the real one: positions by lane, moved only from
// where they are expected to be, and what was read up to there.
type ledger struct {
	mu        sync.Mutex
	at        map[string]event.Position
	lines     map[string][]string
	offsets   map[string][]int64
	lost      map[string]int64
	truncated int
	conflicts int
	running   map[string]int
	changed   chan struct{} // closed and made anew at each change
	fail      func(lane string) error
}

func newLedger() *ledger {
	return &ledger{
		at: make(map[string]event.Position), lines: make(map[string][]string), offsets: make(map[string][]int64), lost: make(map[string]int64),
		running: make(map[string]int), changed: make(chan struct{}),
	}
}

func (g *ledger) tell() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// work reads a lane as the pipeline does: it opens it at the stored position and
// commits every batch, or starts over if somebody else has.
func (g *ledger) work(ctx context.Context, l *Lane) error {
	for {
		err := g.once(ctx, l)
		if !errors.Is(err, errConflict) {
			return err
		}
	}
}

var errConflict = errors.New("conflict")

func (g *ledger) once(ctx context.Context, l *Lane) (err error) {
	g.mu.Lock()
	at := g.at[l.Name()]
	g.running[l.Name()]++
	g.tell()
	g.mu.Unlock()
	defer func() {
		err = errors.Join(err, l.Close())
		g.mu.Lock()
		defer g.mu.Unlock()
		g.running[l.Name()]--
		g.tell()
	}()
	if err := l.Open(ctx, at); err != nil {
		return err
	}
	var b event.Batch
	for {
		if err := l.Read(ctx, &b); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		g.mu.Lock()
		if g.at[l.Name()] != at {
			g.conflicts++
			g.mu.Unlock()
			return errConflict
		}
		if g.fail != nil {
			if err := g.fail(l.Name()); err != nil {
				g.mu.Unlock()
				return err
			}
		}
		for _, line := range b.Lines {
			g.lines[l.Name()] = append(g.lines[l.Name()], string(line.Text))
			g.offsets[l.Name()] = append(g.offsets[l.Name()], line.Offset)
		}
		g.lost[l.Name()] += b.Lost
		g.truncated += b.Truncated
		moved := at != b.Next
		g.at[l.Name()], at = b.Next, b.Next
		g.tell()
		g.mu.Unlock()
		if moved {
			l.Committed(at)
		}
	}
}

// locked calls look with the ledger locked.
func (g *ledger) locked(look func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	look()
}

// wait waits until ok, which is called with the ledger locked.
func (g *ledger) wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	late := time.After(patience)
	for {
		g.mu.Lock()
		done, changed := ok(), g.changed
		g.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-late:
			g.mu.Lock()
			defer g.mu.Unlock()
			n := make(map[string]int)
			for name, lines := range g.lines {
				n[name] = len(lines)
			}
			t.Fatalf("%s did not happen; read %v, at %v, lost %v", what, n, g.at, g.lost)
		}
	}
}

// has waits until a lane has delivered want, all of it and nothing else.
func (g *ledger) has(t testing.TB, lane string, want ...string) {
	t.Helper()
	g.wait(t, fmt.Sprintf("%s with %d lines", lane, len(want)), func() bool { return len(g.lines[lane]) >= len(want) })
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Equal(g.lines[lane], want) {
		t.Fatalf("%s: %.200q, want %.200q", lane, g.lines[lane], want)
	}
}

// start runs a source until the test or stop ends it.
func start(t testing.TB, cfg Config, g *ledger) (s *Source, stop func() error) {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, g.work) }()
	stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			return errors.New("the source does not stop")
		}
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return s, stop
}

func numbers(from, to int) []string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprint("record ", i))
	}
	return all
}

func TestEveryCodec(t *testing.T) {
	for name, codec := range map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	} {
		t.Run(name, func(t *testing.T) {
			c := startCluster(t, 1)
			want := numbers(0, 5000)
			want = append(want, strings.Repeat("long ", 10_000), "", "end")
			put(t, producer(t, c, kgo.ProducerBatchCompression(codec)), 0, want...)
			g := newLedger()
			s, stop := start(t, quick(c), g)
			g.has(t, "records/0", want...)
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			for i, at := range g.offsets["records/0"] {
				if at != int64(i) {
					t.Fatalf("line %d is at offset %d", i, at)
				}
			}
			if st := s.Stats().Lanes[0]; st.Records != int64(len(want)) || st.Offset != st.End || st.Open {
				t.Errorf("%+v", st)
			}
		})
	}
}

func TestKeysHeadersAndTombstonesArePassedOver(t *testing.T) {
	c := startCluster(t, 1)
	p := producer(t, c)
	now := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	headers := []kgo.RecordHeader{{Key: "id", Value: []byte("value with a\nline")}, {Key: "empty"}, {Key: "", Value: bytes.Repeat([]byte("x"), 300)}}
	if err := p.ProduceSync(t.Context(),
		&kgo.Record{Topic: "records", Key: []byte("key"), Value: []byte("one"), Headers: headers, Timestamp: now},
		&kgo.Record{Topic: "records", Key: []byte("key"), Headers: headers, Timestamp: now},
		&kgo.Record{Topic: "records", Value: []byte("three"), Headers: headers[:1], Timestamp: now.Add(time.Minute)},
	).FirstErr(); err != nil {
		t.Fatal(err)
	}
	g := newLedger()
	var reference time.Time
	s, err := New(quick(c))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := s.Run(ctx, func(ctx context.Context, l *Lane) error {
		defer cancel()
		if err := l.Open(ctx, event.Position{}); err != nil {
			return err
		}
		var b event.Batch
		for len(b.Lines) == 0 {
			if err := l.Read(ctx, &b); err != nil {
				return err
			}
		}
		for _, line := range b.Lines {
			g.lines[l.Name()] = append(g.lines[l.Name()], string(line.Text))
		}
		if reference = b.Reference; b.Lag != 0 || b.Next != (event.Position{Offset: 3}) {
			t.Errorf("lag %d, next %+v", b.Lag, b.Next)
		}
		return l.Close()
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"one", "three"}; !slices.Equal(g.lines["records/0"], want) {
		t.Errorf("%q, want %q", g.lines["records/0"], want)
	}
	if !reference.Equal(now.Add(time.Minute)) {
		t.Errorf("reference %s", reference)
	}
	if st := s.Stats().Lanes[0]; st.Tombstones != 1 {
		t.Errorf("%+v", st)
	}
}

func TestAbortedTransactions(t *testing.T) {
	for _, isolation := range []string{ReadCommitted, ReadUncommitted} {
		t.Run(isolation, func(t *testing.T) {
			c := startCluster(t, 1)
			plain := producer(t, c)
			one, two := producer(t, c, kgo.TransactionalID("one")), producer(t, c, kgo.TransactionalID("two"))
			begin := func(p *kgo.Client) {
				if err := p.BeginTransaction(); err != nil {
					t.Fatal(err)
				}
			}
			end := func(p *kgo.Client, commit kgo.TransactionEndTry) {
				if err := p.EndTransaction(t.Context(), commit); err != nil {
					t.Fatal(err)
				}
			}
			put(t, plain, 0, "a")
			begin(one)
			put(t, one, 0, "b aborted")
			begin(two)
			put(t, two, 0, "c")
			put(t, one, 0, "d aborted")
			put(t, plain, 0, "e")
			end(one, kgo.TryAbort)
			begin(one)
			put(t, one, 0, "f")
			end(two, kgo.TryCommit)
			end(one, kgo.TryCommit)
			begin(two)
			put(t, two, 0, "g aborted")
			end(two, kgo.TryAbort)
			put(t, plain, 0, "h")

			cfg := quick(c)
			cfg.Isolation = isolation
			g := newLedger()
			s, stop := start(t, cfg, g)
			if isolation == ReadUncommitted {
				g.has(t, "records/0", "a", "b aborted", "c", "d aborted", "e", "f", "g aborted", "h")
				return
			}
			g.has(t, "records/0", "a", "c", "e", "f", "h")
			// An open transaction holds back what comes after it.
			begin(one)
			put(t, one, 0, "i")
			put(t, plain, 0, "j")
			end(one, kgo.TryCommit)
			g.has(t, "records/0", "a", "c", "e", "f", "h", "i", "j")
			begin(one)
			put(t, one, 0, "k aborted")
			end(one, kgo.TryAbort)
			last := c.PartitionInfo("records", 0).HighWatermark
			g.wait(t, "the end", func() bool { return g.at["records/0"].Offset == last }) // past the marker
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			if st := s.Stats().Lanes[0]; st.Aborted != 4 || st.Offset != st.End {
				t.Errorf("%+v", st)
			}
		})
	}
}

func TestCompactedTopic(t *testing.T) {
	c := startCluster(t, 1)
	if err := c.CreateTopic("compacted", 1, map[string]string{"cleanup.policy": "compact", "segment.bytes": "100", "min.cleanable.dirty.ratio": "0"}); err != nil {
		t.Fatal(err)
	}
	p := producer(t, c)
	for i := range 40 {
		if err := p.ProduceSync(t.Context(), &kgo.Record{Topic: "compacted", Key: fmt.Append(nil, i%7), Value: fmt.Append(nil, i)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	c.Compact()
	cfg := quick(c)
	cfg.Topics = []string{"compacted"}
	g := newLedger()
	start(t, cfg, g)
	g.wait(t, "the end", func() bool { return g.at["compacted/0"].Offset == 40 })
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := len(g.lines["compacted/0"]); n >= 40 || n < 7 || g.lines["compacted/0"][n-1] != "39" {
		t.Errorf("%q", g.lines["compacted/0"])
	}
	for i, at := range g.offsets["compacted/0"] {
		if g.lines["compacted/0"][i] != fmt.Sprint(at) {
			t.Errorf("offset %d has %s", at, g.lines["compacted/0"][i])
		}
	}
}

func TestLongRecordsAreCut(t *testing.T) {
	c := startCluster(t, 1)
	long := strings.Repeat("0123456789", 100)
	put(t, producer(t, c), 0, "short", long, "after")
	cfg := quick(c)
	cfg.MaxRecordBytes = 256
	g := newLedger()
	start(t, cfg, g)
	g.has(t, "records/0", "short", long[:256], "after")
	g.locked(func() {
		if g.truncated != 1 {
			t.Errorf("%d truncated", g.truncated)
		}
	})
}

// A batch is larger than what is fetched at a time, and than a partition's share.
func TestBatchLargerThanAFetch(t *testing.T) {
	c := startCluster(t, 2)
	cfg := quick(c)
	cfg.FetchBytes, cfg.BufferBytes = 4<<10, 1<<20
	large := strings.Repeat("x", 900_000)
	p := producer(t, c, kgo.ProducerBatchCompression(kgo.NoCompression()))
	put(t, p, 0, "a", large, "b")
	put(t, p, 1, large, "c", large)
	cfg.MaxRecordBytes = 1 << 20
	g := newLedger()
	start(t, cfg, g)
	g.has(t, "records/0", "a", large, "b")
	g.has(t, "records/1", large, "c", large)
}

func TestStartAtEnd(t *testing.T) {
	c := startCluster(t, 2)
	p := producer(t, c)
	put(t, p, 0, numbers(0, 10)...)
	cfg := quick(c)
	cfg.Start = End
	g := newLedger()
	_, stop := start(t, cfg, g)
	g.wait(t, "the start", func() bool {
		return g.at["records/0"] == event.Position{Offset: 10} && g.at["records/1"] == event.Position{Segment: begun}
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	// What comes while nobody reads is not lost: the end was found out and
	// stored, also where it was 0.
	put(t, p, 0, "a")
	put(t, p, 1, "b")
	start(t, cfg, g)
	g.has(t, "records/0", "a")
	g.has(t, "records/1", "b")
}

func TestTopicsAndPartitionsThatAppear(t *testing.T) {
	c := startCluster(t, 1)
	p := producer(t, c)
	put(t, p, 0, "old")
	cfg := quick(c)
	cfg.Topics, cfg.Pattern, cfg.Start = []string{"records", "late"}, "new-*", End
	g := newLedger()
	start(t, cfg, g)
	g.wait(t, "the start", func() bool { return g.at["records/0"] == event.Position{Offset: 1} })
	for _, name := range []string{"late", "new-one", "other"} {
		if err := c.CreateTopic(name, 1, nil); err != nil {
			t.Fatal(err)
		}
		if err := p.ProduceSync(t.Context(), &kgo.Record{Topic: name, Value: []byte(name)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	addPartitions(t, p, "records", 2)
	put(t, producer(t, c), 1, "new")
	put(t, p, 0, "last")
	// What appears while we run is read from its beginning.
	g.has(t, "late/0", "late")
	g.has(t, "new-one/0", "new-one")
	g.has(t, "records/1", "new")
	g.has(t, "records/0", "last")
	g.mu.Lock()
	if len(g.at) != 4 {
		t.Errorf("%v", g.at)
	}
	g.mu.Unlock()
	if err := c.DeleteTopic("late"); err != nil {
		t.Fatal(err)
	}
	g.wait(t, "the end of a deleted topic", func() bool { return g.running["late/0"] == 0 })
}

// A topic that is deleted and made anew is read again as soon as its old lane is
// done, even if that takes longer than the topic was gone.
func TestTopicThatIsMadeAnew(t *testing.T) {
	c := startCluster(t, 1)
	cfg := quick(c)
	cfg.Topics, cfg.Pattern = nil, "*"
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	opened, gone, release, done := make(chan string, 10), make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var first sync.Once
	go func() {
		done <- s.Run(ctx, func(ctx context.Context, l *Lane) error {
			opened <- l.Name()
			<-ctx.Done()
			if l.Name() == "records/0" {
				first.Do(func() { close(gone); <-release })
			}
			return nil
		})
	}()
	await := func(lane string) {
		t.Helper()
		select {
		case got := <-opened:
			if got != lane {
				t.Fatalf("%s was opened, want %s", got, lane)
			}
		case <-time.After(patience):
			t.Fatalf("%s was not opened", lane)
		}
	}
	await("records/0")
	if err := c.DeleteTopic("records"); err != nil {
		t.Fatal(err)
	}
	<-gone
	for _, topic := range []string{"records", "tells-that-it-is-seen"} {
		if err := c.CreateTopic(topic, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	await("tells-that-it-is-seen/0")
	close(release)
	await("records/0")
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func addPartitions(t testing.TB, p *kgo.Client, topic string, count int32) {
	t.Helper()
	request := kmsg.NewPtrCreatePartitionsRequest()
	rt := kmsg.NewCreatePartitionsRequestTopic()
	rt.Topic, rt.Count = topic, count
	request.Topics = append(request.Topics, rt)
	r, err := request.RequestWith(t.Context(), p)
	if err != nil || r.Topics[0].ErrorCode != 0 {
		t.Fatal(r, err)
	}
}

func TestOutOfRange(t *testing.T) {
	type lane struct {
		at   int64
		lost int64
		line string
	}
	for policy, want := range map[string][2]lane{
		// the lane was at 3; records 0 to 9 were deleted of 20
		Earliest: {{20, 7, "record 10"}, {20, 1, "record 10"}},
		Latest:   {{20, 17, ""}, {20, 10, ""}},
	} {
		t.Run(policy, func(t *testing.T) {
			for i, at := range []int64{3, 1000} {
				c := startCluster(t, 1)
				p := producer(t, c)
				put(t, p, 0, numbers(0, 20)...)
				if err := c.DeleteRecords("records", 0, 10); err != nil {
					t.Fatal(err)
				}
				cfg := quick(c)
				cfg.OutOfRange = policy
				g := newLedger()
				g.at["records/0"] = event.Position{Offset: at}
				_, stop := start(t, cfg, g)
				g.wait(t, "the end", func() bool { return g.at["records/0"].Offset == want[i].at })
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				if g.lost["records/0"] != want[i].lost {
					t.Errorf("from %d: lost %d, want %d", at, g.lost["records/0"], want[i].lost)
				}
				if lines := g.lines["records/0"]; want[i].line != "" && (len(lines) != 10 || lines[0] != want[i].line) || want[i].line == "" && len(lines) > 0 {
					t.Errorf("from %d: %q", at, lines)
				}
			}
		})
	}
	t.Run(Fail, func(t *testing.T) {
		c := startCluster(t, 1)
		put(t, producer(t, c), 0, numbers(0, 20)...)
		if err := c.DeleteRecords("records", 0, 10); err != nil {
			t.Fatal(err)
		}
		cfg := quick(c)
		cfg.OutOfRange = Fail
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		g := newLedger()
		g.at["records/0"] = event.Position{Offset: 3}
		if err := s.Run(t.Context(), g.work); err == nil || !strings.Contains(err.Error(), "offset 3") || !strings.Contains(err.Error(), "out_of_range") {
			t.Errorf("%v", err)
		}
	})
}

func TestStaticPartitions(t *testing.T) {
	c := startCluster(t, 4)
	p := producer(t, c)
	for i := range int32(4) {
		put(t, p, i, fmt.Sprint(i))
	}
	cfg := quick(c)
	cfg.Partitions = []int32{1, 3}
	g := newLedger()
	_, stop := start(t, cfg, g)
	g.has(t, "records/1", "1")
	g.has(t, "records/3", "3")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if lanes := slices.Sorted(maps.Keys(g.at)); !slices.Equal(lanes, []string{"records/1", "records/3"}) {
		t.Errorf("%v", lanes)
	}
}

func TestErrorOfWorkEndsTheSource(t *testing.T) {
	broken := errors.New("broken")
	for _, group := range []string{"", "meters"} {
		c := startCluster(t, 2)
		put(t, producer(t, c), 0, "a")
		cfg := quick(c)
		cfg.Group = group
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		g := newLedger()
		g.fail = func(string) error { return broken }
		if err := s.Run(t.Context(), g.work); !errors.Is(err, broken) {
			t.Errorf("group %q: %v", group, err)
		}
		for lane, n := range g.running {
			if n != 0 {
				t.Errorf("%s still runs", lane)
			}
		}
	}
}
