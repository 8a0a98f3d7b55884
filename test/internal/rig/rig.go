// Package rig is what tests of the real program share: it builds it, runs it on
// a folder with a configuration and a ledger, writes logs for it that rotate, and
// compares what it counted with what is there.
package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/test/internal/oracle"
)

// builds holds the programs that were built, by name, in a folder that
// Main removes.
var builds struct {
	sync.Mutex
	folder string
	paths  map[string]string
}

// Main runs the tests of a package that builds programs. Call it from TestMain.
func Main(m *testing.M) {
	code := m.Run()
	if builds.folder != "" {
		_ = os.RemoveAll(builds.folder)
	}
	os.Exit(code)
}

// Build returns the path of the real program, built with tags.
func Build(t testing.TB, tags string) string {
	t.Helper()
	return build(t, tags, "-tags", tags)
}

// build returns the path of the program of a name, which is built once.
func build(t testing.TB, name string, flags ...string) string {
	t.Helper()
	builds.Lock()
	defer builds.Unlock()
	if path := builds.paths[name]; path != "" {
		return path
	}
	if builds.folder == "" {
		folder, err := os.MkdirTemp("", "bouncemeter-test-")
		if err != nil {
			t.Fatal(err)
		}
		builds.folder, builds.paths = folder, make(map[string]string)
	}
	path := filepath.Join(builds.folder, "bouncemeter-"+name)
	args := append(append([]string{"build"}, flags...), "-o", path, "github.com/bouncemeter/bouncemeter/cmd/bouncemeter")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	builds.paths[name] = path
	return path
}

// Site is a folder with a configuration, for one daemon after the other.
type Site struct {
	Binary              string
	Dir, Config, Ledger string
	Address             string   // of the page
	Prefix              []string // what the program is started by, such as prlimit
}

// NewSite makes a site in dir whose configuration is settings, a ledger and a free
// port for the page. Unless settings say otherwise the ledger is in dir.
func NewSite(t testing.TB, binary, dir, settings string) *Site {
	t.Helper()
	s := &Site{Binary: binary, Dir: dir, Config: filepath.Join(dir, "bouncemeter.yaml"), Ledger: filepath.Join(dir, "ledger.db"), Address: FreeAddress(t)}
	s.Configure(t, settings)
	return s
}

// Configure writes the configuration anew.
func (s *Site) Configure(t testing.TB, settings string) {
	t.Helper()
	if !strings.Contains(settings, "\nledger:") {
		settings += "\nledger: {sqlite: " + s.Ledger + "}"
	}
	if !strings.Contains(settings, "\nhttp:") {
		settings += "\nhttp: {listen: \"" + s.Address + "\"}"
	}
	if err := os.WriteFile(s.Config, []byte(settings+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Tail is the setting of a source that follows a Postfix log.
func Tail(path string) string {
	return fmt.Sprintf("sources: [{name: mta1, kind: tail, paths: [%s], timezone: UTC, poll: 20ms}]\n", path)
}

// Daemon is the real program, running on a site.
type Daemon struct {
	*Program
	site *Site
}

// Start starts the daemon, with further environment variables. It is killed at the
// end of the test if it still runs.
func (s *Site) Start(t testing.TB, environment ...string) *Daemon {
	t.Helper()
	args := append(append([]string(nil), s.Prefix...), s.Binary, "run", "-c", s.Config)
	command := exec.Command(args[0], args[1:]...)
	command.Env = append(os.Environ(), environment...)
	return &Daemon{Start(t, command), s}
}

// Killed reports whether the program ended by SIGKILL; it must have ended.
func (d *Daemon) Killed() bool {
	var exit *exec.ExitError
	return errors.As(d.err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
}

// Kill kills it, which it must not have forestalled.
func (d *Daemon) Kill(t testing.TB) {
	t.Helper()
	_ = d.Process.Kill()
	<-d.ended
	if !d.Killed() || strings.Contains(d.Output(), "panic") {
		t.Fatalf("the program ended by itself: %v\n%s", d.err, d.Output())
	}
}

// Stop ends it as systemd does: well, and within ten seconds. It may not yet have
// come so far as to listen to signals.
func (d *Daemon) Stop(t testing.TB) {
	t.Helper()
	if err := d.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("the program ended by itself: %v\n%s", err, d.Output())
	}
	if !d.Ended(10 * time.Second) {
		_ = d.Process.Signal(syscall.SIGQUIT)
		d.Ended(5 * time.Second)
		t.Fatalf("10 seconds after SIGTERM it was still there\n%s", d.Output())
	}
	var exit *exec.ExitError
	if errors.As(d.err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGTERM && d.Output() == "" {
		return
	}
	if d.err != nil {
		t.Fatalf("after SIGTERM: %v\n%s", d.err, d.Output())
	}
}

// Refused checks that it ends by itself with an exit code, saying all of want.
func (d *Daemon) Refused(t testing.TB, code int, want ...string) {
	t.Helper()
	if !d.Ended(30 * time.Second) {
		t.Fatalf("it was not refused\n%s", d.Output())
	}
	var exit *exec.ExitError
	if !errors.As(d.err, &exit) || exit.ExitCode() != code {
		t.Errorf("%v, want exit code %d\n%s", d.err, code, d.Output())
	}
	for _, w := range want {
		if !strings.Contains(d.Output(), w) {
			t.Errorf("no %q in\n%s", w, d.Output())
		}
	}
}

// Get returns the status and body of a page, or 0 while there is no server.
func (s *Site) Get(path string) (status int, body string) {
	client := http.Client{Timeout: 30 * time.Second}
	r, err := client.Get("http://" + s.Address + path)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, ""
	}
	return r.StatusCode, string(b)
}

// Metric returns the value of a series of /metrics, such as
// bouncemeter_lines_total{source="mta1"}, or -1 if there is none.
func (s *Site) Metric(series string) float64 {
	_, body := s.Get("/metrics")
	_, rest, found := strings.Cut("\n"+body, "\n"+series+" ")
	if !found {
		return -1
	}
	value, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return -1
	}
	return n
}

// Sum returns the sum of a metric over its labels, 0 while there is no server.
func (s *Site) Sum(metric string) (sum float64) {
	_, body := s.Get("/metrics")
	for line := range strings.Lines(body) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), metric)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		if n, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64); err == nil {
			sum += n
		}
	}
	return sum
}

// Lines is how many lines of source mta1 the daemon shows as counted.
func (s *Site) Lines() int64 { return int64(s.Metric(`bouncemeter_lines_total{source="mta1"}`)) }

// Ready reports whether it is ready, by its own word.
func (s *Site) Ready() bool {
	status, _ := s.Get("/-/ready")
	return status == http.StatusOK
}

// Eventually waits two minutes for something to become true, half an hour with
// FAULTS=full.
func (d *Daemon) Eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	patience := 2 * time.Minute
	if os.Getenv("FAULTS") == "full" {
		patience = 30 * time.Minute
	}
	d.Until(t, what, patience, is)
}

// Counts waits until the daemon shows so many lines as counted.
func (d *Daemon) Counts(t testing.TB, lines int64) {
	t.Helper()
	d.Eventually(t, fmt.Sprintf("%d lines are counted", lines), func() bool { return d.site.Lines() >= lines })
}

// Output runs a program to its end and returns what it prints.
func Output(t testing.TB, binary string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(binary, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, stderr.String())
	}
	return out
}

// ReportJSON returns bouncemeter report -o json of files or of a ledger.
func ReportJSON(t testing.TB, binary string, args ...string) []byte {
	t.Helper()
	return Output(t, binary, append([]string{"report", "-o", "json"}, args...)...)
}

// Report returns the part of a report that the oracle compares.
func Report(t testing.TB, binary string, args ...string) *oracle.Report {
	t.Helper()
	r := new(oracle.Report)
	if err := json.Unmarshal(ReportJSON(t, binary, args...), r); err != nil {
		t.Fatal(err)
	}
	return r
}

// Exact checks what the ledger counted of a log: it must be what the oracle
// counts, and to the last sample what a one-shot report says.
func (s *Site) Exact(t testing.TB, log string) {
	t.Helper()
	want, err := oracle.CountFiles(log)
	if err != nil {
		t.Fatal(err)
	}
	if err := want.Differs(Report(t, s.Binary, "--ledger", s.Ledger)); err != nil {
		t.Errorf("the ledger: %v", err)
	}
	s.SameAsOneShot(t, log)
}

// SameAsOneShot checks that the ledger says what a one-shot report of a log says.
func (s *Site) SameAsOneShot(t testing.TB, log string) {
	t.Helper()
	ledger, once := ReportJSON(t, s.Binary, "--ledger", s.Ledger), ReportJSON(t, s.Binary, "--timezone", "UTC", log)
	if !bytes.Equal(ledger, once) {
		t.Errorf("the ledger's report differs from that of the log:\n%s", firstDifference(ledger, once))
	}
}

// firstDifference shows where two texts begin to differ.
func firstDifference(a, b []byte) string {
	x, y := strings.Split(string(a), "\n"), strings.Split(string(b), "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			from := max(0, i-3)
			return fmt.Sprintf("line %d: ledger\n%s\nlog\n%s", i+1, strings.Join(x[from:min(len(x), i+4)], "\n"), strings.Join(y[from:min(len(y), i+4)], "\n"))
		}
	}
	return "one is longer"
}

// FreeAddress returns a loopback address that nobody listens at.
func FreeAddress(t testing.TB) string {
	t.Helper()
	return FreeAddresses(t, 1)[0]
}

// FreePort returns its port alone.
func FreePort(t testing.TB) int {
	t.Helper()
	return int(netip.MustParseAddrPort(FreeAddress(t)).Port())
}

// FreeAddresses returns n different ones. Their ports are below those that systems
// give to connections and to who asks for any port, so that nobody gets one of them
// by chance before, or between two starts of, the program that it is for.
func FreeAddresses(t testing.TB, n int) (all []string) {
	t.Helper()
	const first, ephemeral = 10_000, 32_768
	for tries := 0; len(all) < n; tries++ {
		l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(ephemeral-first)))
		if err != nil {
			if tries > 100 {
				t.Fatal(err)
			}
			continue // in use
		}
		defer func() { _ = l.Close() }()
		all = append(all, l.Addr().String())
	}
	return all
}

// Append appends to a file.
func Append(t testing.TB, path string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// Pause waits for d of real time, or for ctx.
func Pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
