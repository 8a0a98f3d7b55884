package kafka

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/bouncemeter/bouncemeter/event"
)

// serveEnv makes the test binary a broker for benchmarks, so that its CPU time
// is not ours.
const serveEnv = "KAFKA_BENCH_SERVE_CODEC"

func TestMain(m *testing.M) {
	if codec := os.Getenv(serveEnv); codec != "" {
		if err := serve(codec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

var codecNames = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// serve is a broker whose every partition goes on for ever with one batch of
// 1000 records of 370 bytes. It ends with its standard input.
func serve(name string) error {
	var records []testRecord
	for i, v := range deliveries(1000) {
		records = append(records, testRecord{delta: i, value: []byte(v)})
	}
	raw := appendRecords(nil, records)
	var batch []byte
	for codec, n := range codecNames {
		if n == name {
			batch = batchOf(0, int16(codec), 999, 1000, 1790000000000, -1, pack(fatal{}, codec, false, raw))
		}
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, "records"), kfake.SyntheticFetch(kfake.SyntheticBatch{Batch: batch}))
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println(c.ListenAddrs()[0])
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// deliveries makes n records of 370 bytes, as an MTA would log.
func deliveries(n int) (all []string) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		v := fmt.Sprintf(`{"type":"TransientFailure","id":"%016x%016x","sender":"bounce+%d@shop.example","recipient":"user%d@mail.example","queue":"mail.example","site":"mx.mail.example","size":%d,"response":{"code":451,"enhanced_code":{"class":4,"subject":7,"detail":1},"content":"try again later %08x"},"timestamp":%d,"num_attempts":%d,"peer_address":{"addr":"192.0.2.%d"}`,
			random.Uint64(), random.Uint64(), random.IntN(1e6), random.IntN(1e6), random.IntN(1e5), random.Uint32(), 1790000000+i, random.IntN(9), random.IntN(256))
		all = append(all, (v + strings.Repeat(" ", 370))[:370])
	}
	return all
}

// BenchmarkSource reads 370-byte records of 4 partitions from a broker in
// another process: everything up to the lines. cpu-s/M is the CPU time of this
// process per million records, user and system. Beside a real Kafka and other
// clients it is measured by test/kafkatest.
func BenchmarkSource(b *testing.B) {
	for _, codec := range codecNames {
		b.Run(codec, func(b *testing.B) {
			server := exec.Command(os.Args[0])
			server.Env = append(os.Environ(), serveEnv+"="+codec)
			server.Stderr = os.Stderr
			in, err := server.StdinPipe()
			if err != nil {
				b.Fatal(err)
			}
			out, err := server.StdoutPipe()
			if err != nil {
				b.Fatal(err)
			}
			if err := server.Start(); err != nil {
				b.Fatal(err)
			}
			defer func() { _ = in.Close(); _ = server.Wait() }()
			addr, err := bufio.NewReader(out).ReadString('\n')
			if err != nil {
				b.Fatal(err)
			}
			cfg := Config{Topics: []string{"records"}}
			cfg.Brokers = []string{strings.TrimSpace(addr)}
			benchmark(b, cfg)
		})
	}
}

// benchmark reads b.N records or some more from the beginning of a topic.
func benchmark(b *testing.B, cfg Config) {
	b.Helper()
	s, err := New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var read atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	began := cpu()
	err = s.Run(ctx, func(ctx context.Context, l *Lane) error {
		if err := l.Open(ctx, event.Position{Segment: begun}); err != nil {
			return err
		}
		var batch event.Batch
		for l.Read(ctx, &batch) == nil {
			if read.Add(int64(len(batch.Lines))) >= int64(b.N) {
				cancel()
			}
		}
		return l.Close()
	})
	b.StopTimer()
	if err != nil {
		b.Fatal(err)
	}
	n := float64(read.Load())
	b.ReportMetric((cpu()-began).Seconds()/n*1e6, "cpu-s/M")
	b.ReportMetric(n/b.Elapsed().Seconds(), "rec/s")
}

// cpu is the CPU time of this process so far.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
