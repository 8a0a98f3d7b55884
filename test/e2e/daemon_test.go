package e2e

import (
	"bytes"
	"errors"
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

	"github.com/google/go-cmp/cmp"

	"github.com/bouncemeter/bouncemeter/internal/simulate"
)

// daemon is the real program, with one source.
type daemon struct {
	cmd          *exec.Cmd
	output       *bytes.Buffer
	ledger, http string
}

func startDaemon(t *testing.T, log, folder string) *daemon {
	t.Helper()
	return startDaemonWith(t, fmt.Sprintf("{name: mta1, kind: tail, paths: [%s], timezone: UTC}", log), folder)
}

// startDaemonWith starts it with another source than a log.
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

// The real logrotate, in its usual ways, loses nothing and repeats nothing.
func TestLogrotate(t *testing.T) {
	needsServers(t)
	for name, options := range map[string]string{
		"create":        "create",
		"compress":      "create\ncompress",
		"delaycompress": "create\ncompress\ndelaycompress",
		"dateext":       "create\ndateext\ndateformat -%Y%m%d-%s\ncompress",
		"copytruncate":  "copytruncate",
		"xz":            "create\ncompress\ncompresscmd /usr/bin/xz\ncompressext .xz",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Chmod(dir, 0o755); err != nil { // logrotate insists
				t.Fatal(err)
			}
			log, all := filepath.Join(dir, "mail.log"), filepath.Join(dir, "everything")
			rules := filepath.Join(t.TempDir(), "logrotate.conf")
			if err := os.WriteFile(rules, fmt.Appendf(nil, "%s {\nrotate 100\nmissingok\n%s\n}\n", log, options), 0o600); err != nil {
				t.Fatal(err)
			}
			mta, now := simulator(t)
			appendTo := func(path string, b []byte) {
				f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
				if err != nil {
					t.Fatal(err)
				}
				_, err = f.Write(b)
				if err := errors.Join(err, f.Close()); err != nil {
					t.Fatal(err)
				}
			}
			d := startDaemon(t, log, dir)
			for i := range 8 {
				now = now.Add(10 * time.Minute)
				var b bytes.Buffer
				if _, err := mta.WriteUntil(&b, now); err != nil {
					t.Fatal(err)
				}
				appendTo(log, b.Bytes())
				appendTo(all, b.Bytes())
				if i == 4 { // rotations while nobody looks
					d.stop(t)
				}
				if out, err := exec.Command("logrotate", "-f", "-s", filepath.Join(dir, "state"), rules).CombinedOutput(); err != nil {
					t.Fatalf("logrotate: %v\n%s", err, out)
				}
				if i == 6 {
					d = startDaemon(t, log, dir)
				}
				<-time.After(1100 * time.Millisecond) // dateformat has seconds
			}
			eventually(t, d, "all lines are counted", func() bool { return d.counted(t, mta.Tally().Lines) })
			d.stop(t)
			if diff := cmp.Diff(report(t, "--timezone", "UTC", all), report(t, "--ledger", d.ledger)); diff != "" {
				t.Errorf("(-one-shot +ledger)\n%s", diff)
			}
		})
	}
}

// A full disk stops the counting, is said, and costs nothing once there is room.
func TestDiskFull(t *testing.T) {
	needsServers(t)
	dir := t.TempDir()
	small := filepath.Join(dir, "small")
	if err := os.Mkdir(small, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=350k"); err != nil {
		t.Skipf("mount a small file system: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(small, syscall.MNT_DETACH) })
	log := filepath.Join(dir, "mail.log")
	mta, now := simulator(t)
	var b bytes.Buffer
	if _, err := mta.WriteUntil(&b, now.Add(6*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(log, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, log, small)
	eventually(t, d, "it says that the disk is full", func() bool {
		status, body := d.get(t, "/-/ready")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "make room in "+small)
	})
	if status, _ := d.get(t, "/-/healthy"); status != http.StatusOK {
		t.Errorf("healthy: %d", status)
	}
	if err := syscall.Mount("tmpfs", small, "tmpfs", syscall.MS_REMOUNT, "size=100m"); err != nil {
		t.Fatal(err)
	}
	eventually(t, d, "all lines are counted", func() bool { return d.counted(t, mta.Tally().Lines) })
	if status, _ := d.get(t, "/-/ready"); status != http.StatusOK {
		t.Errorf("ready: %d", status)
	}
	d.stop(t)
	if diff := cmp.Diff(report(t, "--timezone", "UTC", log), report(t, "--ledger", d.ledger)); diff != "" {
		t.Errorf("(-one-shot +ledger)\n%s", diff)
	}
}

// A second daemon on the same ledger, a damaged ledger and a missing folder:
// each is refused with the remedy, and nothing is started over.
func TestRefusals(t *testing.T) {
	needsServers(t)
	dir := t.TempDir()
	log := filepath.Join(dir, "mail.log")
	mta, now := simulator(t)
	var b bytes.Buffer
	if _, err := mta.WriteUntil(&b, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(log, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	first := startDaemon(t, log, dir)
	eventually(t, first, "all lines are counted", func() bool { return first.counted(t, mta.Tally().Lines) })
	refused := func(folder string, code int, want ...string) {
		t.Helper()
		d := startDaemon(t, log, folder)
		err := d.cmd.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != code {
			t.Errorf("%v, want exit code %d", err, code)
		}
		for _, w := range want {
			if !strings.Contains(d.output.String(), w) {
				t.Errorf("no %q in\n%s", w, d.output.String())
			}
		}
	}
	refused(dir, 1, "another bouncemeter uses this ledger", fmt.Sprint(first.cmd.Process.Pid))
	first.stop(t)

	refused(filepath.Join(dir, "none"), 2, "does not exist", "make it")

	good, err := os.ReadFile(first.ledger)
	if err != nil {
		t.Fatal(err)
	}
	broken := bytes.Clone(good)
	for i := 3 * 4096; i < 6*4096; i++ {
		broken[i] ^= 0x55
	}
	if err := os.WriteFile(first.ledger, broken, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(dir, 1, "damaged", "backup")
	if err := os.WriteFile(first.ledger, good, 0o600); err != nil {
		t.Fatal(err)
	}
	again := startDaemon(t, log, dir)
	eventually(t, again, "it goes on with the backup", func() bool { return again.counted(t, mta.Tally().Lines) })
	again.stop(t)
}

// SIGHUP swaps the rules, or keeps the old ones and says why.
func TestReload(t *testing.T) {
	needsServers(t)
	dir := t.TempDir()
	log := filepath.Join(dir, "mail.log")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, log, dir)
	eventually(t, d, "it is ready", func() bool { s, _ := d.get(t, "/-/ready"); return s == http.StatusOK })
	config := d.cmd.Args[len(d.cmd.Args)-1]
	good, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	reload := func(text string, successful bool) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		want := "\nbouncemeter_config_last_reload_successful 0\n"
		if successful {
			want = "\nbouncemeter_config_last_reload_successful 1\n"
		}
		eventually(t, d, "the reload is over", func() bool { _, m := d.get(t, "/metrics"); return strings.Contains(m, want) })
	}
	reload(string(good)+"rules: {files: [/none.yaml]}\n", false)
	reload(string(good), true)
	reload(string(good)+"limits: {series: 7}\n", false) // takes a restart
	reload(string(good)+"log: {level: debug}\n", true)
	d.stop(t)
	for _, want := range []string{"/none.yaml", "limits changed, which takes a restart"} {
		if !strings.Contains(d.output.String(), want) {
			t.Errorf("no %q in\n%s", want, d.output.String())
		}
	}
}
