package rig

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Program is one that runs: the real one, or a server that it talks to.
type Program struct {
	*exec.Cmd
	output buffer
	ended  chan struct{} // closed once Wait has returned
	err    error         // of Wait
}

// buffer may be read while a process writes to it.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Start starts a program and keeps what it says. It is killed at the end of the
// test if it still runs; if the test has failed, the end of what it said is shown.
func Start(t testing.TB, command *exec.Cmd) *Program {
	t.Helper()
	p := &Program{Cmd: command, ended: make(chan struct{})}
	p.Stdout, p.Stderr = &p.output, &p.output
	p.WaitDelay = 5 * time.Second // what it has started may have its output
	if err := p.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.ended
		if t.Failed() {
			text := p.Output()
			t.Logf("%v said at the end:\n%s", p.Args, text[max(0, len(text)-6000):])
		}
	})
	return p
}

// Output is what it has said.
func (p *Program) Output() string { return p.output.String() }

// Ended returns after the program has ended, or within, and reports which.
func (p *Program) Ended(within time.Duration) bool {
	select {
	case <-p.ended:
		return true
	case <-time.After(within):
		return false
	}
}

// Until waits for something to become true of a program that runs.
func (p *Program) Until(t testing.TB, what string, within time.Duration, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("%v, and not yet: %s\n%s", within, what, p.Output())
		}
		if p.Ended(50*time.Millisecond) && !is() {
			t.Fatalf("it ended before: %s: %v\n%s", what, p.err, p.Output())
		}
	}
}

// Eventually waits for something to become true.
func Eventually(t testing.TB, within time.Duration, what string, is func() bool) {
	t.Helper()
	tick, late := time.NewTicker(100*time.Millisecond), time.After(within)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%v, and not yet: %s", within, what)
		}
	}
}

// End sends a signal that ends the program, and waits for that.
func (p *Program) End(t testing.TB, signal syscall.Signal, within time.Duration) {
	t.Helper()
	if err := p.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	if !p.Ended(within) {
		t.Errorf("%v after %v %v was still there", within, signal, p.Args)
		_ = p.Process.Kill()
		<-p.ended
	}
}

// Resources is what a process takes.
type Resources struct {
	RSS, Peak   int64 // bytes
	Descriptors int
	Threads     int
	CPU         float64 // seconds
}

// Measure returns what a process takes, as Linux tells it.
func Measure(pid int) (r Resources, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return r, err
	}
	field := func(name string) int64 {
		_, rest, _ := strings.Cut(string(status), "\n"+name+":")
		n, _ := strconv.ParseInt(strings.Fields(rest + " 0")[0], 10, 64)
		return n
	}
	r.RSS, r.Peak, r.Threads = field("VmRSS")<<10, field("VmHWM")<<10, int(field("Threads"))
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return r, err
	}
	r.Descriptors = len(open)
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return r, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	if f := strings.Fields(rest); len(f) > 12 { // utime and stime, in hundredths of a second
		user, _ := strconv.ParseFloat(f[11], 64)
		system, _ := strconv.ParseFloat(f[12], 64)
		r.CPU = (user + system) / 100
	}
	return r, nil
}
