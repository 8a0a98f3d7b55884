// Package cluster has the tests of many instances on one ledger, with a real
// PostgreSQL and a real Apache Kafka.
package cluster

import (
	"bytes"
	"context"
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
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bouncemeter/bouncemeter/test/postgrestest"
)

var binary string // the real program

func TestMain(m *testing.M) {
	if os.Getenv("E2E_SERVERS") != "1" {
		os.Exit(m.Run()) // all tests skip
	}
	dir, err := os.MkdirTemp("", "cluster-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "bouncemeter")
	build := exec.Command("go", "build", "-o", binary, "./cmd/bouncemeter")
	build.Dir = "../.."
	code := 1
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// eventually waits for a condition.
func eventually(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	tick, late := time.NewTicker(100*time.Millisecond), time.After(within)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// log is what an instance says, over all its lives.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// instance is one daemon, which can be killed and started again.
type instance struct {
	name, config, address string
	log                   log
	cmd                   *exec.Cmd
	ended                 chan struct{} // closed when cmd has ended
	err                   error         // of cmd, once ended
}

// newInstance writes the configuration of an instance with these settings. It
// does not start it.
func newInstance(t *testing.T, name, dsnFile, settings string) *instance {
	t.Helper()
	free, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	i := &instance{name: name, address: free.Addr().String()}
	_ = free.Close()
	dir := t.TempDir()
	i.config = filepath.Join(dir, "bouncemeter.yaml")
	text := fmt.Sprintf("%s\nledger: {postgres: {dsn_file: %s, instance: %s}}\nhttp: {listen: %q}\ndead_letter: {path: %s}\n",
		settings, dsnFile, name, i.address, filepath.Join(dir, "dead-letter.jsonl"))
	if err := os.WriteFile(i.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if i.cmd != nil {
			_ = i.cmd.Process.Signal(syscall.SIGCONT)
			i.kill(t)
		}
		if t.Failed() {
			text := i.log.String()
			t.Logf("end of the log of %s:\n%s", name, text[max(0, len(text)-6000):])
		}
	})
	return i
}

func (i *instance) start(t *testing.T) {
	t.Helper()
	cmd, ended := exec.Command(binary, "run", "-c", i.config), make(chan struct{})
	cmd.Stderr = &i.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	i.cmd, i.ended = cmd, ended
	go func() {
		i.err = cmd.Wait()
		close(ended)
	}()
}

func (i *instance) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := i.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
}

// kill ends it as a crash does.
func (i *instance) kill(t *testing.T) {
	t.Helper()
	i.signal(t, syscall.SIGKILL)
	<-i.ended
	i.cmd = nil
}

// stop ends it in good order.
func (i *instance) stop(t *testing.T) {
	t.Helper()
	i.signal(t, syscall.SIGTERM)
	select {
	case <-i.ended:
		if i.err != nil {
			t.Errorf("%s: %v", i.name, i.err)
		}
	case <-time.After(30 * time.Second):
		t.Errorf("%s does not stop", i.name)
		i.kill(t)
	}
	i.cmd = nil
}

// get asks for a page, and returns status 0 if nobody answers.
func (i *instance) get(path string) (status int, text string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+i.address+path, nil)
	if err != nil {
		return 0, err.Error()
	}
	r, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, err.Error()
	}
	return r.StatusCode, string(b)
}

func (i *instance) ready() bool {
	status, _ := i.get("/-/ready")
	return status == http.StatusOK
}

// metric sums the samples whose line begins so.
func (i *instance) metric(t *testing.T, prefix string) (sum float64) {
	t.Helper()
	_, text := i.get("/metrics")
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, prefix)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' ')+1:]), 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// newDSN writes the DSN of the server's owner into a file.
func newDSN(t *testing.T, dsn string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "dsn")
	if err := os.WriteFile(file, []byte(dsn+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func owner(s *postgrestest.Server) string {
	return s.DSN(postgrestest.Owner, postgrestest.Password)
}

// number asks the ledger for a number; without an answer it is -1.
func number(s *postgrestest.Server, query string, args ...any) (n int64) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, owner(s))
	if err != nil {
		return -1
	}
	defer func() { _ = c.Close(ctx) }()
	if err := c.QueryRow(ctx, query, args...).Scan(&n); err != nil {
		return -1
	}
	return n
}

// output runs the program and returns what it prints.
func output(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(binary, args...)
	var faults bytes.Buffer
	cmd.Stderr = &faults
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("bouncemeter %v: %v\n%s", args, err, faults.String())
	}
	return out
}
