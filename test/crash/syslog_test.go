package crash

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bouncemeter/bouncemeter/internal/simulate"
)

// What has been received by syslog counts once, whatever is killed when. Nobody
// can know what was under way, so each time all is let in before the program is
// killed, counted or not.
func TestReceivedSyslogCountsOnceAfterCrashes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills the program several times")
	}
	n := crashes(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("%d crashes, seed %d", n, seed)
	random := rand.New(rand.NewPCG(seed, 2))
	binary, dir := build(t), t.TempDir()
	tcp, pages, socket := freeAddress(t), freeAddress(t), filepath.Join(dir, "log")
	config, ledger := filepath.Join(dir, "bouncemeter.yaml"), filepath.Join(dir, "ledger.db")
	if err := os.WriteFile(config, fmt.Appendf(nil, `
sources: [{name: mta1, kind: syslog, listen: "tcp:%s unix:%s", timezone: UTC}]
ledger: {sqlite: %s}
limits: {commit_every: 300ms}
http: {listen: "%s"}
`, tcp, socket, ledger, pages), 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Now().Add(-24 * time.Hour).Truncate(time.Second)
	mta, err := simulate.New(simulate.Config{Seed: seed, Start: now, Rate: 20})
	if err != nil {
		t.Fatal(err)
	}

	var output, all bytes.Buffer
	for round := range n {
		output.Reset()
		cmd := exec.Command(binary, "run", "-c", config)
		cmd.Stderr = &output
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		network, address := "tcp", tcp
		if round%2 == 1 {
			network, address = "unixgram", socket
		}
		conn := dial(t, network, address, &output)
		var lines bytes.Buffer
		now = now.Add(time.Duration(random.IntN(600)+1) * time.Second)
		if _, err := mta.WriteUntil(&lines, now); err != nil {
			t.Fatal(err)
		}
		all.Write(lines.Bytes())
		sent := 0
		for line := range strings.Lines(lines.String()) {
			if _, err := io.WriteString(conn, "<22>"+line); err != nil {
				t.Fatalf("send by %s: %v\n%s", network, err, output.String())
			}
			sent++
		}
		_ = conn.Close()
		received := fmt.Sprintf("\nbouncemeter_syslog_messages_total{result=\"received\",source=\"mta1\"} %d\n", sent)
		for deadline := time.Now().Add(time.Minute); !strings.Contains(metrics(pages), received); {
			if time.Now().After(deadline) {
				t.Fatalf("%d lines were sent by %s and have not come\n%s\n%s", sent, network, metrics(pages), output.String())
			}
			<-time.After(time.Millisecond)
		}
		<-time.After(time.Duration(random.IntN(400)) * time.Millisecond)
		if round == n-1 {
			for deadline := time.Now().Add(time.Minute); report(t, binary, "--ledger", ledger)["lines"] != float64(bytes.Count(all.Bytes(), []byte("\n"))) && time.Now().Before(deadline); {
				<-time.After(100 * time.Millisecond)
			}
			terminate(t, cmd, &output)
			break
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatalf("the program ended by itself: %v\n%s", err, output.String())
		}
		_ = cmd.Wait() // killed
	}

	log := filepath.Join(dir, "mail.log")
	if err := os.WriteFile(log, all.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	got := report(t, binary, "--ledger", ledger)
	t.Logf("%v lines", got["lines"])
	checkOracle(t, log, got)
	if diff := cmp.Diff(report(t, binary, "--timezone", "UTC", log), got); diff != "" {
		t.Errorf("(-one-shot +ledger)\n%s", diff)
	}
}

// dial connects once the program listens.
func dial(t *testing.T, network, address string, output *bytes.Buffer) net.Conn {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		conn, err := net.Dial(network, address)
		if err == nil {
			return conn
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v\n%s", err, output.String())
		}
		<-time.After(5 * time.Millisecond)
	}
}

func metrics(address string) string {
	r, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		return ""
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return ""
	}
	return string(b)
}
