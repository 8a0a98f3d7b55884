package kafka

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/kafkaclient"
	"github.com/bouncemeter/bouncemeter/test/kafkatest"
)

// server is a real Apache Kafka with topics of one test.
type server struct {
	*kafkatest.Server
	producer *kgo.Client
}

func (s *server) client(t testing.TB, more ...kgo.Opt) *kgo.Client {
	t.Helper()
	p, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(s.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(1 << 20),
		kgo.ProducerBatchMaxBytes(8 << 20),
	}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// topic makes a topic and returns its name.
func (s *server) topic(t testing.TB, partitions int32, configs ...string) string {
	t.Helper()
	name := strings.ToLower(strings.NewReplacer("/", "-", " ", "-", "_", "-").Replace(t.Name()))
	request := kmsg.NewPtrCreateTopicsRequest()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, partitions, 1
	for pair := range slices.Chunk(configs, 2) {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = pair[0], &pair[1]
		rt.Configs = append(rt.Configs, c)
	}
	request.Topics = append(request.Topics, rt)
	r, err := request.RequestWith(t.Context(), s.producer)
	if err != nil || r.Topics[0].ErrorCode != 0 {
		t.Fatal(r, err)
	}
	return name
}

func (s *server) config(topic string) Config {
	cfg := Config{Topics: []string{topic}, Log: slog.New(slog.DiscardHandler), CommitInterval: time.Second, SessionTimeout: 6 * time.Second}
	cfg.Brokers = []string{s.Addr}
	return cfg
}

func send(t testing.TB, p *kgo.Client, records ...*kgo.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := p.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func values(topic string, partition int32, all ...string) (records []*kgo.Record) {
	for _, v := range all {
		records = append(records, &kgo.Record{Topic: topic, Partition: partition, Value: []byte(v)})
	}
	return records
}

// TestServer runs against a real Apache Kafka; see test/kafkatest.
func TestServer(t *testing.T) {
	s := &server{Server: kafkatest.Start(t)}
	s.producer = s.client(t)

	for name, codec := range map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	} {
		t.Run("codec "+name, func(t *testing.T) {
			topic := s.topic(t, 1)
			headers := []kgo.RecordHeader{{Key: "id", Value: []byte("1\n2")}, {Key: ""}}
			var records []*kgo.Record
			var want []string
			for i, v := range append(numbers(0, 20_000), strings.Repeat("long ", 10_000), "") {
				want = append(want, v)
				records = append(records, &kgo.Record{Topic: topic, Key: fmt.Append(nil, i), Value: []byte(v), Headers: headers})
				if i%100 == 0 {
					records = append(records, &kgo.Record{Topic: topic, Key: fmt.Append(nil, i), Headers: headers})
				}
			}
			send(t, s.client(t, kgo.ProducerBatchCompression(codec)), records...)
			g := newLedger()
			start(t, s.config(topic), g)
			g.has(t, topic+"/0", want...)
		})
	}

	t.Run("transactions", func(t *testing.T) {
		topic := s.topic(t, 2)
		var want [2][]string
		one, two := s.client(t, kgo.TransactionalID("one")), s.client(t, kgo.TransactionalID("two"))
		for round := range 20 {
			for i, p := range []*kgo.Client{one, two} {
				if err := p.BeginTransaction(); err != nil {
					t.Fatal(err)
				}
				commit := kgo.TransactionEndTry((round+i)%3 != 0)
				for partition := range int32(2) {
					all := numbers(round*10, round*10+10)
					send(t, p, values(topic, partition, all...)...)
					send(t, s.producer, values(topic, partition, "between")...)
					if commit == kgo.TryCommit {
						want[partition] = append(want[partition], all...)
					}
					want[partition] = append(want[partition], "between")
				}
				if err := p.EndTransaction(t.Context(), commit); err != nil {
					t.Fatal(err)
				}
			}
		}
		g := newLedger()
		start(t, s.config(topic), g)
		g.has(t, topic+"/0", want[0]...)
		g.has(t, topic+"/1", want[1]...)
	})

	t.Run("compaction", func(t *testing.T) {
		topic := s.topic(t, 1, "cleanup.policy", "compact", "segment.ms", "200", "min.cleanable.dirty.ratio", "0.01", "max.compaction.lag.ms", "200", "delete.retention.ms", "0")
		for i := range 500 {
			send(t, s.producer, &kgo.Record{Topic: topic, Key: fmt.Append(nil, i%7), Value: fmt.Append(nil, i)})
		}
		// The cleaner leaves the newest segment alone: begin new ones until old
		// records are gone, and read all each time.
		last := int64(500)
		for late := time.Now().Add(time.Minute); ; {
			g := newLedger()
			_, stop := start(t, s.config(topic), g)
			g.wait(t, "the end", func() bool { return g.at[topic+"/0"].Offset == last })
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			for i, at := range g.offsets[topic+"/0"] {
				if g.lines[topic+"/0"][i] != fmt.Sprint(at) {
					t.Fatalf("offset %d has %s", at, g.lines[topic+"/0"][i])
				}
			}
			if n := len(g.lines[topic+"/0"]); n < 100 {
				break
			} else if time.Now().After(late) {
				t.Fatalf("nothing is compacted: %d records", n)
			}
			send(t, s.producer, &kgo.Record{Topic: topic, Key: fmt.Append(nil, last%7), Value: fmt.Append(nil, last)})
			last++
		}
	})

	t.Run("deleted records", func(t *testing.T) {
		topic := s.topic(t, 1)
		send(t, s.producer, values(topic, 0, numbers(0, 100)...)...)
		request := kmsg.NewPtrDeleteRecordsRequest()
		rt := kmsg.NewDeleteRecordsRequestTopic()
		rt.Topic = topic
		rp := kmsg.NewDeleteRecordsRequestTopicPartition()
		rp.Offset = 60
		rt.Partitions = append(rt.Partitions, rp)
		request.Topics = append(request.Topics, rt)
		if r, err := request.RequestWith(t.Context(), s.producer); err != nil || r.Topics[0].Partitions[0].ErrorCode != 0 {
			t.Fatal(r, err)
		}
		g := newLedger()
		g.at[topic+"/0"] = event.Position{Offset: 10}
		start(t, s.config(topic), g)
		g.has(t, topic+"/0", numbers(60, 100)...)
		g.locked(func() {
			if g.lost[topic+"/0"] != 50 {
				t.Errorf("lost %d", g.lost[topic+"/0"])
			}
		})
	})

	t.Run("large batch", func(t *testing.T) {
		topic := s.topic(t, 2)
		large := strings.Repeat("x", 3<<20)
		for partition := range int32(2) {
			send(t, s.client(t, kgo.ProducerBatchCompression(kgo.NoCompression())), values(topic, partition, "a", large, "b")...)
		}
		cfg := s.config(topic)
		cfg.MaxRecordBytes, cfg.FetchBytes = 4<<20, 4<<10
		g := newLedger()
		start(t, cfg, g)
		g.has(t, topic+"/0", "a", large, "b")
		g.has(t, topic+"/1", "a", large, "b")
	})

	for _, mechanism := range []string{"plain", "scram-sha-256", "scram-sha-512"} {
		t.Run("login "+mechanism, func(t *testing.T) {
			topic := s.topic(t, 1)
			password := filepath.Join(t.TempDir(), "password")
			write(t, password, "wrong-horse")
			var log logbook
			cfg := s.config(topic)
			cfg.Group, cfg.Log = "login-"+mechanism, log.logger()
			cfg.Brokers = []string{s.SecureAddr}
			cfg.TLS = kafkaclient.TLS{Enabled: true, CAFile: s.CAFile}
			cfg.SASL = kafkaclient.SASL{Mechanism: mechanism, User: kafkatest.User, PasswordFile: password}
			g := newLedger()
			start(t, cfg, g)
			until(t, func() bool { return strings.Contains(log.String(), "sasl.user") })
			if strings.Contains(log.String(), "horse") {
				t.Error(log.String())
			}
			write(t, password, kafkatest.Password)
			send(t, s.secure(t), values(topic, 0, "a")...)
			g.has(t, topic+"/0", "a")
		})
	}

	t.Run("group and crashes", func(t *testing.T) {
		const partitions, rounds, each = 4, 4, 5000
		topic := s.topic(t, partitions)
		cfg := s.config(topic)
		cfg.Group = "crashes"
		g := newLedger()
		_, first := start(t, cfg, g)
		start(t, cfg, g)
		p := s.client(t, kgo.ProducerBatchCompression(kgo.Lz4Compression()))
		for round := range rounds {
			for partition := range int32(partitions) {
				send(t, p, values(topic, partition, numbers(round*each, (round+1)*each)...)...)
			}
			switch round {
			case 0:
				s.Kill(t)
				s.Start(t)
			case 1:
				start(t, cfg, g)
			case 2:
				if err := first(); err != nil {
					t.Fatal(err)
				}
				s.Stop(t)
				s.Start(t)
			}
		}
		for partition := range partitions {
			lane := fmt.Sprintf("%s/%d", topic, partition)
			g.has(t, lane, numbers(0, rounds*each)...)
		}
		g.locked(func() { t.Logf("%d conflicts", g.conflicts) })
	})
}

// secure returns a client of the listener with TLS.
func (s *server) secure(t testing.TB) *kgo.Client {
	t.Helper()
	ca, err := os.ReadFile(s.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(bytes.TrimSpace(ca))
	return s.client(t, kgo.SeedBrokers(s.SecureAddr), kgo.DialTLSConfig(&tls.Config{RootCAs: pool}),
		kgo.SASL(plain.Auth{User: kafkatest.User, Pass: kafkatest.Password}.AsMechanism()))
}
