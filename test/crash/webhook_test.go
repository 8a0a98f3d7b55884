package crash

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Providers send events until they are answered with 200, and some twice. The
// program is killed meanwhile, also between receipt and answer: each event counts
// once in the end.
func TestReceivedEventsCountOnceAfterCrashes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills the program several times")
	}
	n := crashes(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("%d crashes, seed %d", n, seed)
	random := rand.New(rand.NewPCG(seed, 2))
	binary, dir := build(t), t.TempDir()
	address := freeAddress(t)
	config, ledger := filepath.Join(dir, "bouncemeter.yaml"), filepath.Join(dir, "ledger.db")
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, fmt.Appendf(nil, `
sources:
  - {name: events, kind: webhook, dialect: postal, verify: token, listen: "%s", url_path: /events, secret_file: token}
ledger: {sqlite: %s}
limits: {commit_every: 100ms}
http: {listen: "127.0.0.1:0"}
`, address, ledger), 0o600); err != nil {
		t.Fatal(err)
	}

	var output bytes.Buffer
	start := func() *exec.Cmd {
		cmd := exec.Command(binary, "run", "-c", config)
		output.Reset()
		cmd.Stderr = &output
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	cmd := start()

	// The providers: each sends one event after the other.
	const providers = 4
	ctx, stop := context.WithCancel(t.Context())
	client := &http.Client{Timeout: 5 * time.Second}
	var sent [providers]int
	var all sync.WaitGroup
	for p := range providers {
		again := rand.New(rand.NewPCG(seed, uint64(3+p)))
		all.Go(func() {
			for ctx.Err() == nil {
				event := postalEvent(p, sent[p])
				for !post(client, "http://"+address+"/events", event) {
					<-time.After(20 * time.Millisecond)
				}
				sent[p]++
				if again.IntN(10) == 0 {
					post(client, "http://"+address+"/events", event)
				}
			}
		})
	}

	for range n {
		<-time.After(time.Duration(100+random.IntN(900)) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatalf("the program ended by itself: %v\n%s", err, output.String())
		}
		_ = cmd.Wait() // killed
		cmd = start()
	}
	stop()
	all.Wait()

	total := 0
	for _, n := range sent {
		total += n
	}
	t.Logf("%d events", total)
	counted := func() float64 {
		outcomes, _ := report(t, binary, "--ledger", ledger)["outcomes"].(map[string]any)
		n, _ := outcomes["bounced"].(float64)
		return n
	}
	deadline := time.Now().Add(time.Minute)
	for counted() < float64(total) && time.Now().Before(deadline) {
		<-time.After(100 * time.Millisecond)
	}
	<-time.After(time.Second) // nothing more may come
	terminate(t, cmd, &output)
	if got := counted(); got != float64(total) {
		t.Errorf("%v events are counted, %d were sent", got, total)
	}
	if files, err := filepath.Glob(filepath.Join(dir, "spool", "events", "*.spool")); err != nil || len(files) != 1 {
		t.Errorf("the spool has files %v, %v", files, err)
	}
}

// postalEvent is a failure as Postal tells it; its uuid is unique.
func postalEvent(provider, number int) string {
	return fmt.Sprintf(`{"event":"MessageDeliveryFailed","timestamp":%d.5,"uuid":"%08d-0000-4000-8000-%012d","payload":{`+
		`"message":{"id":%d,"direction":"outgoing","message_id":"%d@shop.example","to":"ann%d@example.com","from":"news@shop.example"},`+
		`"status":"HardFail","details":"failed","output":"550 5.1.1 no such user","time":0.2}}`,
		time.Now().Unix(), provider, number, number, number, number)
}

func post(client *http.Client, url, body string) bool {
	r, err := http.NewRequest(http.MethodPost, url, bytes.NewReader([]byte(body)))
	if err != nil {
		return false
	}
	r.Header.Set("Authorization", "Bearer secret")
	answer, err := client.Do(r)
	if err != nil {
		return false // killed before the answer, or not there yet
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode == http.StatusOK
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
