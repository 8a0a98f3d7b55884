package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/internal/simulate"
)

// daemon is the real program, with one source.
type daemon struct {
	cmd          *exec.Cmd
	output       *bytes.Buffer
	ledger, http string
}

// startDaemonWith starts it with a source.
func startDaemonWith(t *testing.T, source, folder string) *daemon {
	t.Helper()
	free, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{ledger: filepath.Join(folder, "ledger.db"), http: free.Addr().String(), output: new(bytes.Buffer)}
	free.Close()
	config := filepath.Join(t.TempDir(), "bouncemeter.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `
sources:
  - %s
ledger: {sqlite: %s}
http: {listen: "%s"}
`, source, d.ledger, d.http), 0o600); err != nil {
		t.Fatal(err)
	}
	d.cmd = exec.Command(binary, "run", "-c", config)
	d.cmd.Stderr = d.output
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.cmd.Process.Kill() })
	return d
}

// stop ends the daemon as systemd does, and checks that it goes well.
func (d *daemon) stop(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("%v\n%s", err, d.output.String())
	}
	started := time.Now()
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, d.output.String())
	}
	if took := time.Since(started); took > 10*time.Second {
		t.Errorf("stopping took %v", took)
	}
}

// get returns the status and body of a page, or 0 while there is no server.
func (d *daemon) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	r, err := http.Get("http://" + d.http + path)
	if err != nil {
		return 0, ""
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// eventually waits for something to become true.
func eventually(t *testing.T, d *daemon, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("a minute, and not yet: %s\n%s", what, d.output.String())
		}
		<-time.After(100 * time.Millisecond)
	}
}

// counted reports whether the daemon shows that it has counted so many lines.
func (d *daemon) counted(t *testing.T, lines int64) bool {
	t.Helper()
	_, metrics := d.get(t, "/metrics")
	_, rest, found := strings.Cut(metrics, "\nbouncemeter_lines_total{source=\"mta1\"} ")
	if !found {
		return false
	}
	value, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseFloat(value, 64) // from a million on it is written with an exponent
	if err != nil {
		t.Fatal(err)
	}
	return n == float64(lines)
}

func simulator(t *testing.T) (*simulate.Simulator, time.Time) {
	t.Helper()
	start := time.Now().Add(-24 * time.Hour).Truncate(time.Second)
	mta, err := simulate.New(simulate.Config{Seed: 7, Start: start, Rate: 5})
	if err != nil {
		t.Fatal(err)
	}
	return mta, start
}
