package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/kafkaclient"
	"github.com/bouncemeter/bouncemeter/pipeline"
)

const patience = 20 * time.Second

func startCluster(t testing.TB, more ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(2), kfake.SeedTopics(4, "records")}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func openTopic(t testing.TB, c Config) *Topic {
	t.Helper()
	c.Topic, c.Log = "records", slog.New(slog.DiscardHandler)
	c.MetadataTTL = 100 * time.Millisecond
	topic, err := NewTopic(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := topic.Close(); err != nil {
			t.Error(err)
		}
	})
	return topic
}

func at(c *kfake.Cluster) Config {
	return Config{Config: kafkaclient.Config{Brokers: c.ListenAddrs()}}
}

func attempt(offset int64, sender string) *pipeline.Record {
	r := &pipeline.Record{Source: "mta1", Lane: "mail.log", Offset: offset, Event: &event.Event{
		Kind: event.Attempt, Outcome: event.Delivered, Delay: -1, Recipient: []byte("ann@x.example"), Provider: "other",
	}}
	if sender != "" {
		r.Event.SenderKnown, r.Event.SenderDomain = true, []byte(sender)
	}
	return r
}

// flush flushes until it is done.
func flush(t testing.TB, w pipeline.RecordWriter) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		err := w.Flush(ctx)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

// read returns the records of a topic, at least n, by partition.
func read(t testing.TB, c *kfake.Cluster, topic string, n int) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(topic), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var all []*kgo.Record
	for len(all) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%d of %d records: %v", len(all), n, err)
		}
		all = append(all, fetches.Records()...)
	}
	return all
}

func TestRecords(t *testing.T) {
	c := startCluster(t)
	topic := openTopic(t, at(c))
	sink := &Records{Topic: topic}
	const lanes, each = 3, 3000 // more than a batch
	var wg sync.WaitGroup
	for l := range int64(lanes) {
		wg.Go(func() {
			w := sink.Writer("mta1", fmt.Sprint(l))
			for i := range int64(each) {
				w.Add(attempt(i, []string{"", "Shop.example", "news.example", "bank.example"}[i%4]))
				if i == 100 {
					flush(t, w)
				}
			}
			flush(t, w)
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	ids := make(map[string]bool)
	partitions := make(map[string]int32)
	java := kgo.StickyKeyPartitioner(nil).ForTopic("records")
	for _, r := range read(t, c, "records", lanes*each) {
		var v struct {
			ID           string `json:"id"`
			SenderDomain string `json:"sender_domain"`
			Recipient    string
		}
		if err := json.Unmarshal(r.Value, &v); err != nil {
			t.Fatal(err)
		}
		if len(r.Headers) != 1 || r.Headers[0].Key != "id" || string(r.Headers[0].Value) != v.ID || v.Recipient != "*@x.example" || v.SenderDomain != string(r.Key) {
			t.Fatalf("key %q, headers %v, value %s", r.Key, r.Headers, r.Value)
		}
		ids[v.ID] = true
		if r.Key == nil {
			continue
		}
		if p, ok := partitions[string(r.Key)]; ok && p != r.Partition || int(r.Partition) != java.Partition(r, 4) {
			t.Fatalf("%s is in partitions %d and %d, Java's is %d", r.Key, p, r.Partition, java.Partition(r, 4))
		}
		partitions[string(r.Key)] = r.Partition
	}
	if len(ids) != lanes*each || len(partitions) != 3 {
		t.Errorf("%d ids, keys %v", len(ids), partitions)
	}
	s := topic.Stats()
	if s.Records != lanes*each || s.Held != 0 || s.Failing || s.Failures != 0 || s.Writer.Messages != s.Records || s.Writer.Write.Count == 0 || s.Writer.Writes != s.Writer.Batch.Count {
		t.Errorf("%+v", s)
	}
	if again := topic.Stats(); again.Writer != s.Writer {
		t.Errorf("asked again, without writes: %+v, then %+v", s.Writer, again.Writer)
	}
}

func TestCodecs(t *testing.T) {
	for codec := range codecs {
		t.Run(codec, func(t *testing.T) {
			c := startCluster(t)
			config := at(c)
			config.Compression = codec
			w := (&Records{Topic: openTopic(t, config)}).Writer("mta1", "a")
			for i := range int64(100) {
				w.Add(attempt(i, "shop.example"))
			}
			flush(t, w)
			if got := read(t, c, "records", 100); len(got) != 100 || !json.Valid(got[99].Value) {
				t.Errorf("%d records", len(got))
			}
		})
	}
}

// Brokers refuse, lose answers and move partitions: each record arrives.
func TestNothingIsLost(t *testing.T) {
	c := startCluster(t)
	n := 0
	c.KeepControl()
	c.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		n++
		switch {
		case n%7 == 2: // an error of each partition
			p := r.(*kmsg.ProduceRequest)
			answer := p.ResponseKind().(*kmsg.ProduceResponse)
			for _, topic := range p.Topics {
				at := kmsg.NewProduceResponseTopic()
				at.Topic = topic.Topic
				for _, partition := range topic.Partitions {
					ap := kmsg.NewProduceResponseTopicPartition()
					ap.Partition, ap.ErrorCode = partition.Partition, kerr.NotEnoughReplicas.Code
					at.Partitions = append(at.Partitions, ap)
				}
				answer.Topics = append(answer.Topics, at)
			}
			return answer, nil, true
		case n%7 == 4:
			return nil, errors.New("cut"), true // the connection ends
		}
		return nil, nil, false
	})
	topic := openTopic(t, at(c))
	w := (&Records{Topic: topic}).Writer("mta1", "a")
	const total = 3000
	for i := range int64(total) {
		w.Add(attempt(i, []string{"a.example", "b.example", "c.example", "d.example"}[i%4]))
		if i%300 == 299 {
			flush(t, w)
		}
		if i == total/2 {
			if err := c.MoveTopicPartition("records", 0, 0); err != nil {
				t.Fatal(err)
			}
			if err := c.MoveTopicPartition("records", 0, 1); err != nil {
				t.Fatal(err)
			}
		}
	}
	flush(t, w)
	ids := make(map[string]bool)
	for _, r := range read(t, c, "records", total) {
		ids[string(r.Headers[0].Value)] = true
	}
	if len(ids) != total {
		t.Errorf("%d of %d records arrived", len(ids), total)
	}
	if s := topic.Stats(); s.Held != 0 || s.Records != total || s.Writer.Retries == 0 {
		t.Errorf("%+v", s)
	}
}

// Without brokers nothing waits but Flush, which ends with its context; what was
// added is held, and the lane is told to stop adding.
func TestNoBrokers(t *testing.T) {
	config := Config{Config: kafkaclient.Config{Brokers: []string{"127.0.0.1:1"}}, MaxHeldBytes: 100_000}
	topic := openTopic(t, config)
	w := (&Records{Topic: topic}).Writer("mta1", "a")
	for i := int64(0); !w.Full(); i++ {
		w.Add(attempt(i, "shop.example"))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := w.Flush(ctx); err == nil || !strings.Contains(err.Error(), "records") {
		t.Errorf("%v", err)
	}
	if s := topic.Stats(); s.Records != 0 || s.Held < 100_000 {
		t.Errorf("%+v", s)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// A lane that is given up leaves nothing held, whatever comes back later.
func TestCloseForgets(t *testing.T) {
	c := startCluster(t)
	topic := openTopic(t, at(c))
	w := (&Records{Topic: topic}).Writer("mta1", "a")
	flushed := (&Records{Topic: topic}).Writer("mta1", "b")
	flushed.Add(attempt(0, "shop.example")) // so that the brokers are known to answer
	flush(t, flushed)
	for i := range int64(batchRecords + 10) { // a batch goes, ten are left
		w.Add(attempt(i, "shop.example"))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	read(t, c, "records", 1+batchRecords)
	for i := 0; topic.Stats().Held != 0; i++ {
		flushed.Add(attempt(1, "shop.example"))
		flush(t, flushed)
		if i == 1000 {
			t.Fatalf("held: %d", topic.Stats().Held)
		}
	}
}

// What is too large for the topic is left out and counted; the rest goes on.
func TestTooLarge(t *testing.T) {
	c := startCluster(t)
	config := at(c)
	config.MaxBatchBytes = 5000
	topic := openTopic(t, config)
	w := (&Records{Topic: topic}).Writer("mta1", "a")
	large := attempt(1, "shop.example")
	large.Event.Reply.Text = []byte(strings.Repeat("x", 6000))
	w.Add(attempt(0, "shop.example"))
	w.Add(large)
	for size := 4000; size < 5000; size += 7 { // around the limit
		edge := attempt(int64(size), "shop.example")
		edge.Event.Reply.Text = []byte(strings.Repeat("x", size))
		w.Add(edge)
	}
	w.Add(attempt(2, "shop.example"))
	flush(t, w)
	s := topic.Stats()
	if s.Refused < 2 || s.Records < 50 || s.Records+s.Refused != 3+143 {
		t.Errorf("%+v", s)
	}
}

// A batch that the topic does not take is told with its remedy, and held.
func TestTopicTakesLess(t *testing.T) {
	c := startCluster(t)
	c.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		p := r.(*kmsg.ProduceRequest)
		answer := p.ResponseKind().(*kmsg.ProduceResponse)
		topic := kmsg.NewProduceResponseTopic()
		partition := kmsg.NewProduceResponseTopicPartition()
		topic.Topic, partition.Partition, partition.ErrorCode = "records", p.Topics[0].Partitions[0].Partition, kerr.MessageTooLarge.Code
		topic.Partitions = append(topic.Partitions, partition)
		answer.Topics = append(answer.Topics, topic)
		return answer, nil, true
	})
	topic := openTopic(t, at(c))
	w := (&Records{Topic: topic}).Writer("mta1", "a")
	w.Add(attempt(0, "shop.example"))
	for range 2 {
		err := w.Flush(t.Context())
		if !errors.Is(err, kafka.MessageSizeTooLarge) || !strings.Contains(err.Error(), "max_batch_bytes") {
			t.Errorf("%v", err)
		}
	}
	if s := topic.Stats(); s.Held == 0 || !s.Failing || s.Failures != 2 {
		t.Errorf("%+v", s)
	}
}

func TestConfig(t *testing.T) {
	for want, c := range map[string]Config{
		"topic:":       {Config: kafkaclient.Config{Brokers: []string{"k.example:9092"}}},
		"compression:": {Config: kafkaclient.Config{Brokers: []string{"k.example:9092"}}, Topic: "a", Compression: "rar"},
		"brokers:":     {Topic: "a"},
	} {
		if _, err := NewTopic(c); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// BenchmarkRecords includes what the client does: compression, requests.
func BenchmarkRecords(b *testing.B) {
	c := startCluster(b, kfake.BlackholeProduce())
	w := (&Records{Topic: openTopic(b, at(c))}).Writer("mta1", "a")
	r := attempt(0, "shop.example")
	r.Event.Reply.Text = []byte("550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the address for typos.")
	senders := make([][]byte, 64)
	for i := range senders {
		senders[i] = fmt.Appendf(nil, "s%d.example", i)
	}
	b.ReportAllocs()
	for i := int64(0); b.Loop(); i++ {
		r.Offset, r.Event.SenderDomain = i, senders[i%64]
		w.Add(r)
		if w.Full() {
			flush(b, w)
		}
	}
	flush(b, w)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
