// Package crash kills the real program at random moments while its log grows
// and rotates, and compares what it counted with a one-shot count.
package crash

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
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

// crashes is how often the program is killed: CRASHES, or a few.
func crashes(t *testing.T) int {
	if s := os.Getenv("CRASHES"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("CRASHES: %v", err)
		}
		return n
	}
	return 4
}

func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "bouncemeter")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/bouncemeter").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

func TestCountsAreExactAfterCrashes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills the program several times")
	}
	n := crashes(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("%d crashes, seed %d", n, seed)
	random := rand.New(rand.NewPCG(seed, 1))
	binary, dir := build(t), t.TempDir()
	w := newWriter(t, dir, seed)
	config := filepath.Join(dir, "bouncemeter.yaml")
	ledger := filepath.Join(dir, "ledger.db")
	if err := os.WriteFile(config, fmt.Appendf(nil, `
sources:
  - {name: mta1, kind: tail, paths: [%s], timezone: UTC, poll: 20ms}
ledger: {sqlite: %s}
limits: {commit_every: 100ms}
http: {listen: "127.0.0.1:0"}
`, w.path, ledger), 0o600); err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(t.Context())
	written := make(chan error, 1)
	go func() { written <- w.run(ctx) }()

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
	terms := 0
	for range n {
		cmd := start()
		<-time.After(time.Duration(20+random.IntN(1200)) * time.Millisecond)
		if random.IntN(5) == 0 {
			terms++
			terminate(t, cmd, &output)
			continue
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatalf("the program ended by itself: %v\n%s", err, output.String())
		}
		_ = cmd.Wait() // killed
		if strings.Contains(output.String(), "panic") {
			t.Fatal(output.String())
		}
	}
	stop()
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes written, %d rotations, %d SIGTERMs", w.bytes, w.rotations, terms)

	want := report(t, binary, "--timezone", "UTC", w.all)
	cmd := start()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		got := report(t, binary, "--ledger", ledger)
		if got["lines"] == want["lines"] {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after two minutes %v of %v lines are counted\n%s", got["lines"], want["lines"], output.String())
		}
		<-time.After(200 * time.Millisecond)
	}
	// Nothing more may come.
	<-time.After(time.Second)
	terminate(t, cmd, &output)
	got := report(t, binary, "--ledger", ledger)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the ledger differs from the one-shot count (-one-shot +ledger):\n%s", diff)
	}
	checkOracle(t, w.all, got)
}

// terminate asks the program to stop, which it must do well and soon. It may
// not yet have come so far as to listen to signals.
func terminate(t *testing.T, cmd *exec.Cmd, output *bytes.Buffer) {
	t.Helper()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("the program ended by itself: %v\n%s", err, output.String())
	}
	late := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
	err := cmd.Wait()
	if !late.Stop() {
		t.Fatalf("10 seconds after SIGTERM it was still there\n%s", output.String())
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGTERM && output.Len() == 0 {
		return
	}
	if err != nil {
		t.Fatalf("after SIGTERM: %v\n%s", err, output.String())
	}
}

// report returns the JSON report of files or of a ledger.
func report(t *testing.T, binary string, args ...string) map[string]any {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"report", "-o", "json"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		if strings.Contains(stderr.String(), "no such file") {
			return map[string]any{} // the daemon has not made its ledger yet
		}
		t.Fatalf("report %v: %v\n%s", args, err, stderr.String())
	}
	var r map[string]any
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// checkOracle counts statuses in the simplest way there is.
func checkOracle(t *testing.T, path string, got map[string]any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var lines, sent, deferred, bounced, expired float64
	for line := range strings.Lines(string(b)) {
		lines++
		attempt := strings.Contains(line, ": to=<")
		switch {
		case attempt && strings.Contains(line, ", status=sent ("):
			sent++
		case attempt && strings.Contains(line, ", status=deferred ("):
			deferred++
		case attempt && strings.Contains(line, ", status=bounced ("):
			bounced++
		case strings.Contains(line, ", status=expired, returned to sender"):
			expired++
		}
	}
	want := map[string]any{"delivered": sent, "deferred": deferred, "bounced": bounced, "expired": expired}
	if diff := cmp.Diff(want, got["outcomes"]); diff != "" || got["lines"] != lines {
		t.Errorf("%v of %v lines; outcomes (-grep +got)\n%s", got["lines"], lines, diff)
	}
}

// writer writes a log, line by line and in halves of lines, and rotates it.
type writer struct {
	path      string // the live log
	all       string // everything ever written, for the one-shot count
	live, log *os.File
	mta       *simulate.Simulator
	random    *rand.Rand
	now       time.Time
	pending   bytes.Buffer // written by the simulator, not yet to the files
	bytes     int64
	rotations int
}

func newWriter(t *testing.T, dir string, seed uint64) *writer {
	t.Helper()
	w := &writer{
		path: filepath.Join(dir, "mail.log"), all: filepath.Join(dir, "everything"),
		random: rand.New(rand.NewPCG(seed, 2)), now: time.Now().Add(-4 * 24 * time.Hour),
	}
	var err error
	if w.mta, err = simulate.New(simulate.Config{Seed: seed, Start: w.now, Rate: 5, Lifetime: 12 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	if w.log, err = os.Create(w.all); err != nil {
		t.Fatal(err)
	}
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.live.Close(); w.log.Close() })
	return w
}

func (w *writer) open() (err error) {
	w.live, err = os.OpenFile(w.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return err
}

// run writes until ctx is done.
func (w *writer) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Duration(w.random.IntN(10)) * time.Millisecond):
		}
		w.now = w.now.Add(time.Duration(w.random.IntN(20_000)) * time.Millisecond)
		if _, err := w.mta.WriteUntil(&w.pending, w.now); err != nil {
			return err
		}
		if err := w.write(w.random.IntN(w.pending.Len() + 1)); err != nil {
			return err
		}
		if w.random.IntN(60) == 0 {
			if err := w.rotate(); err != nil {
				return fmt.Errorf("rotate: %w", err)
			}
		}
	}
}

func (w *writer) write(n int) error {
	b := w.pending.Next(n)
	w.bytes += int64(len(b))
	_, err := io.MultiWriter(w.live, w.log).Write(b)
	return err
}

// finish writes the rest, so that the log ends with a line.
func (w *writer) finish() error { return w.write(w.pending.Len()) }

// rotate does what logrotate does, in one of its ways. What is written is
// never in the middle of a line, as with a real MTA that is told to reopen.
func (w *writer) rotate() error {
	if err := w.finish(); err != nil {
		return err
	}
	w.rotations++
	for i := w.rotations; i > 0; i-- {
		for _, suffix := range []string{"", ".gz"} {
			err := os.Rename(fmt.Sprintf("%s.%d%s", w.path, i, suffix), fmt.Sprintf("%s.%d%s", w.path, i+1, suffix))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	if w.random.IntN(3) == 0 { // copytruncate
		if err := copyFile(w.path+".1", w.path); err != nil {
			return err
		}
		return w.live.Truncate(0)
	}
	if err := os.Rename(w.path, w.path+".1"); err != nil {
		return err
	}
	if err := w.live.Close(); err != nil {
		return err
	}
	if err := w.open(); err != nil {
		return err
	}
	if w.random.IntN(2) == 0 { // delaycompress
		if _, err := os.Stat(w.path + ".2"); err == nil {
			return compress(w.path + ".2")
		}
	}
	return nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func compress(path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(path + ".gz")
	if err != nil {
		return err
	}
	z := gzip.NewWriter(out)
	_, err = io.Copy(z, in)
	return errors.Join(err, z.Close(), out.Close(), os.Remove(path))
}
