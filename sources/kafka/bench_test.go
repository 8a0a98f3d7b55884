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
	random := rand.New(rand.NewPCG(1, 2))
	var records []testRecord
	for i := range 1000 {
		v := fmt.Sprintf(`{"type":"TransientFailure","id":"%016x%016x","sender":"bounce+%d@shop.example","recipient":"user%d@mail.example","queue":"mail.example","site":"mx.mail.example","size":%d,"response":{"code":451,"enhanced_code":{"class":4,"subject":7,"detail":1},"content":"try again later %08x"},"timestamp":%d,"num_attempts":%d,"peer_address":{"addr":"192.0.2.%d"}`,
			random.Uint64(), random.Uint64(), random.IntN(1e6), random.IntN(1e6), random.IntN(1e5), random.Uint32(), 1790000000+i, random.IntN(9), random.IntN(256))
		records = append(records, testRecord{delta: i, value: []byte((v + strings.Repeat(" ", 370))[:370])})
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

// BenchmarkSource reads 370-byte records of 4 partitions from a broker in
// another process: everything up to the lines. cpu-s/M is the CPU time of this
// process per million records, user and system.
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
			s, err := New(cfg)
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			var read atomic.Int64
			b.SetBytes(370)
			b.ReportAllocs()
			var began time.Duration
			err = s.Run(ctx, func(ctx context.Context, l *Lane) error {
				if err := l.Open(ctx, event.Position{Segment: begun}); err != nil {
					return err
				}
				var batch event.Batch
				for {
					if err := l.Read(ctx, &batch); err != nil {
						return l.Close()
					}
					n := read.Load()
					switch {
					case n < 0: // done
					case n == 0 && read.CompareAndSwap(0, 1): // warm now
						b.ResetTimer()
						began = cpu()
					default:
						if read.Add(int64(len(batch.Lines))) >= int64(b.N) {
							cancel()
						}
					}
				}
			})
			b.StopTimer()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric((cpu()-began).Seconds()/float64(read.Load())*1e6, "cpu-s/M")
			b.ReportMetric(float64(read.Load())/b.Elapsed().Seconds(), "rec/s")
		})
	}
}

// cpu is the CPU time of this process so far.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
