package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// total waits until the lanes of "records" have n lines each, numbered.
func (g *ledger) total(t testing.TB, partitions, n int) {
	t.Helper()
	want := numbers(0, n)
	for p := range partitions {
		lane := fmt.Sprintf("records/%d", p)
		g.has(t, lane, want...)
		g.locked(func() {
			if !slices.IsSorted(g.offsets[lane]) {
				t.Errorf("%s is out of order", lane)
			}
		})
	}
}

// members waits until the group has as many that are settled.
func members(t testing.TB, c *kfake.Cluster, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := c.WaitGroupStable(ctx, "meters", n); err != nil {
		t.Fatalf("no group of %d: %v", n, err)
	}
}

func TestGroupSharesPartitionsAndLosesNothing(t *testing.T) {
	const partitions, rounds, each = 6, 8, 200
	c := startCluster(t, partitions)
	p := producer(t, c)
	cfg := quick(c)
	cfg.Group = "meters"
	g := newLedger()
	var sources []*Source
	var stops []func() error
	join := func() {
		s, stop := start(t, cfg, g)
		sources, stops = append(sources, s), append(stops, stop)
	}
	join()
	members(t, c, 1)
	for round := range rounds {
		for i := range int32(partitions) {
			put(t, p, i, numbers(round*each, (round+1)*each)...)
		}
		switch round {
		case 1, 3, 5:
			join()
			members(t, c, len(stops))
		case 2, 6: // one leaves
			if err := stops[0](); err != nil {
				t.Fatal(err)
			}
			stops = stops[1:]
		case 4:
			c.RehashCoordinators()
		case 7:
			c.ShufflePartitionLeaders()
		}
	}
	g.total(t, partitions, rounds*each)
	members(t, c, 2)
	g.wait(t, "that two share all partitions", func() bool {
		n := 0
		for _, running := range g.running {
			n += running
		}
		return n == partitions
	})
	for _, s := range sources {
		if s.Stats().Generations == 0 {
			t.Error("a source was never a member")
		}
	}
	// The group is told how far the ledger is.
	for _, stop := range stops {
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range int32(partitions) {
		if at := c.GroupInfo("meters").Commits["records"][i].Offset; at != rounds*each {
			t.Errorf("the group is at offset %d of partition %d, not %d", at, i, rounds*each)
		}
	}
}

// What could not be told to the group is told the next time, even if nothing new
// has come; what was told is not told again.
func TestOffsetsAreToldUntilTheyAre(t *testing.T) {
	var done commits
	told := 0
	tell := func(answer error) error {
		return done.tell(func(all map[string]map[int]int64) error {
			told++
			if all["records"][1] != 7 {
				t.Errorf("told %v", all)
			}
			return answer
		})
	}
	if err := tell(nil); err != nil || told != 0 {
		t.Fatalf("told %d times of nothing, %v", told, err)
	}
	done.set(tp{"records", 1}, 7)
	refusal := errors.New("no coordinator")
	if err := tell(refusal); !errors.Is(err, refusal) {
		t.Fatalf("the refusal is %v", err)
	}
	for range 2 {
		if err := tell(nil); err != nil {
			t.Fatal(err)
		}
	}
	if told != 2 {
		t.Errorf("told %d times, want once more after the refusal", told)
	}
}

// The ledger's position counts, whatever the group says.
func TestOffsetsOfTheGroupDoNotMatter(t *testing.T) {
	c := startCluster(t, 1)
	p := producer(t, c)
	put(t, p, 0, numbers(0, 100)...)
	cfg := quick(c)
	cfg.Group = "meters"
	_, stop := start(t, cfg, newLedger())
	members(t, c, 1)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	g := newLedger() // a new one
	start(t, cfg, g)
	g.total(t, 1, 100)
}

func TestGroupTakesUpNewTopicsAndPartitions(t *testing.T) {
	c := startCluster(t, 1)
	cfg := quick(c)
	cfg.Group, cfg.Topics, cfg.Pattern = "meters", nil, "*"
	g := newLedger()
	start(t, cfg, g)
	start(t, cfg, g)
	members(t, c, 2)
	addPartitions(t, producer(t, c), "records", 3)
	if err := c.CreateTopic("more", 2, nil); err != nil {
		t.Fatal(err)
	}
	p := producer(t, c)
	for i := range int32(3) {
		put(t, p, i, numbers(0, 10)...)
	}
	if err := p.ProduceSync(t.Context(), &kgo.Record{Topic: "more", Partition: 1, Value: []byte("a")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	g.total(t, 3, 10)
	g.has(t, "more/1", "a")
}

// A member that the group has given up, but that does not know it, moves no
// position: the ledger refuses it.
func TestLostCoordinatorAndHeartbeats(t *testing.T) {
	t.Parallel()
	const partitions, each = 4, 100
	c := startCluster(t, partitions)
	p := producer(t, c)
	cfg := quick(c)
	cfg.Group = "meters"
	g := newLedger()
	start(t, cfg, g)
	start(t, cfg, g)
	members(t, c, 2)
	for round := range 2 {
		for i := range int32(partitions) {
			put(t, p, i, numbers(round*each, (round+1)*each)...)
		}
		faults := c.Fault(kfake.Fault{
			Keys: []kmsg.Key{kmsg.Heartbeat, kmsg.JoinGroup, kmsg.SyncGroup}, Count: 3,
			Err: []*kerr.Error{kerr.NotCoordinator, kerr.UnknownMemberID}[round],
		})
		if err := faults.Wait(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
	}
	g.total(t, partitions, 2*each)
	members(t, c, 2)
}

// Kafka 4 takes no older versions than these (KIP-896), and kafka-go speaks
// some of the oldest.
func TestVersionsThatKafka4Takes(t *testing.T) {
	oldest := map[int16]int16{ // from the message definitions of Kafka 4.0
		int16(kmsg.Fetch): 4, int16(kmsg.ListOffsets): 1, int16(kmsg.Metadata): 0, int16(kmsg.OffsetCommit): 2, int16(kmsg.OffsetFetch): 1,
		int16(kmsg.FindCoordinator): 0, int16(kmsg.JoinGroup): 2, int16(kmsg.Heartbeat): 0, int16(kmsg.LeaveGroup): 0, int16(kmsg.SyncGroup): 0,
		int16(kmsg.ApiVersions): 0,
	}
	c := startCluster(t, 2)
	p := producer(t, c)
	put(t, p, 0, numbers(0, 10)...)
	p.Close()         // it speaks other versions
	var mu sync.Mutex // guards seen
	seen := make(map[int16]int16)
	heartbeat := make(chan struct{}, 1)
	c.Control(func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		seen[r.Key()] = r.GetVersion()
		if r.Key() == int16(kmsg.Heartbeat) {
			select {
			case heartbeat <- struct{}{}:
			default:
			}
		}
		return nil, nil, false
	})
	cfg := quick(c)
	cfg.Group = "meters"
	g := newLedger()
	_, stop := start(t, cfg, g)
	g.total(t, 1, 10)
	<-heartbeat
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for key, version := range seen {
		if least, ok := oldest[key]; !ok || version < least {
			t.Errorf("%s in version %d; Kafka 4 takes %d and later (known: %v)", kmsg.NameForKey(key), version, least, ok)
		}
	}
	for key := range oldest {
		if _, ok := seen[key]; !ok {
			t.Errorf("%s was not seen", kmsg.NameForKey(key))
		}
	}
}
