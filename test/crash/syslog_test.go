package crash

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/internal/simulate"
	"github.com/bouncemeter/bouncemeter/test/internal/rig"
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
	dir := t.TempDir()
	tcp, socket := rig.FreeAddress(t), filepath.Join(dir, "log")
	site := rig.NewSite(t, rig.Build(t, ""), dir, fmt.Sprintf(
		"sources: [{name: mta1, kind: syslog, listen: \"tcp:%s unix:%s\", timezone: UTC}]\nlimits: {commit_every: 300ms}", tcp, socket))
	now := time.Now().Add(-24 * time.Hour).Truncate(time.Second)
	mta, err := simulate.New(simulate.Config{Seed: seed, Start: now, Rate: 20})
	if err != nil {
		t.Fatal(err)
	}

	var all bytes.Buffer
	for round := range n {
		d := site.Start(t)
		network, address := "tcp", tcp
		if round%2 == 1 {
			network, address = "unixgram", socket
		}
		conn := dial(t, network, address, d)
		var lines bytes.Buffer
		now = now.Add(time.Duration(random.IntN(600)+1) * time.Second)
		if _, err := mta.WriteUntil(&lines, now); err != nil {
			t.Fatal(err)
		}
		all.Write(lines.Bytes())
		sent := 0
		for line := range strings.Lines(lines.String()) {
			if _, err := io.WriteString(conn, "<22>"+line); err != nil {
				t.Fatalf("send by %s: %v\n%s", network, err, d.Output())
			}
			sent++
		}
		_ = conn.Close()
		d.Eventually(t, fmt.Sprintf("%d lines sent by %s have come", sent, network), func() bool {
			return site.Metric(`bouncemeter_syslog_messages_total{result="received",source="mta1"}`) == float64(sent)
		})
		<-time.After(time.Duration(random.IntN(400)) * time.Millisecond)
		if round < n-1 {
			d.Kill(t)
			continue
		}
		d.Counts(t, int64(bytes.Count(all.Bytes(), []byte("\n"))))
		d.Stop(t)
	}

	log := filepath.Join(dir, "mail.log")
	if err := os.WriteFile(log, all.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	site.Exact(t, log)
}

// dial connects once the program listens.
func dial(t *testing.T, network, address string, d *rig.Daemon) net.Conn {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		conn, err := net.Dial(network, address)
		if err == nil {
			return conn
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v\n%s", err, d.Output())
		}
		<-time.After(5 * time.Millisecond)
	}
}
