// Package memory bounds the memory of the real program.
package memory

import (
	"bufio"
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
)

// The daemon with a million messages in the queue, all of them deferred once,
// to a hundred thousand recipient domains, stays under 150 MB.
func TestMillionQueueIDs(t *testing.T) {
	if testing.Short() {
		t.Skip("reads half a gigabyte")
	}
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("needs /proc to see the memory of a process")
	}
	const ids, domains, deferred, limit = 1_000_000, 100_000, 100_000, 150 << 10 // KiB
	dir := t.TempDir()
	log := filepath.Join(dir, "mail.log")
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	start := time.Now().Add(-20 * time.Hour)
	lines := 0
	for i := range ids {
		now := start.Add(time.Duration(i) * 60 * time.Millisecond).Format("2006-01-02T15:04:05.000000Z07:00")
		fmt.Fprintf(w, "%s mx1 postfix/qmgr[1]: %X: from=<a@s%d.example>, size=1, nrcpt=1 (queue active)\n", now, 0x10000000+i, i%50)
		lines++
		if i%(ids/deferred) == 0 {
			fmt.Fprintf(w, "%s mx1 postfix/smtp[2]: %X: to=<x@r%d.example>, relay=none, delay=1, delays=0/0/1/0, dsn=4.4.1, status=deferred (connect to mx.r%d.example[192.0.2.1]:25: Connection timed out)\n",
				now, 0x10000000+i, i/(ids/deferred)%domains, i%domains)
			lines++
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "bouncemeter")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/bouncemeter").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	free, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	config := filepath.Join(dir, "bouncemeter.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "sources:\n  - {name: mta1, kind: tail, paths: [%s]}\nledger: {sqlite: %s/ledger.db}\nhttp: {listen: \"%s\"}\n", log, dir, address), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, round := range []string{"first start", "restart"} {
		cmd := exec.Command(binary, "run", "-c", config)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(2 * time.Minute); read(get("http://"+address+"/metrics")) != float64(lines); {
			if time.Now().After(deadline) {
				cmd.Process.Kill()
				t.Fatalf("%s: two minutes, and not all is counted\n%s", round, stderr.String())
			}
			<-time.After(200 * time.Millisecond)
		}
		<-time.After(3 * time.Second) // the restart has to restore the queue ids
		peak := highWater(t, cmd.Process.Pid)
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%s: %v\n%s", round, err, stderr.String())
		}
		t.Logf("%s: %d MB at the most", round, peak>>10)
		if peak > limit {
			t.Errorf("%s: %d MB at the most, the limit is %d MB", round, peak>>10, limit>>10)
		}
		if round == "restart" && !strings.Contains(stderr.String(), fmt.Sprintf("messages=%d deferred=%d", ids, deferred)) {
			t.Errorf("the restart did not restore the queue ids:\n%s", stderr.String())
		}
	}
}

// read returns how many lines the metrics say were read.
func read(metrics string) float64 {
	_, rest, _ := strings.Cut(metrics, "\nbouncemeter_lines_total{source=\"mta1\"} ")
	number, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return -1
	}
	return n
}

func get(url string) string {
	r, err := http.Get(url)
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

// highWater returns the most memory that the process ever had, in KiB.
func highWater(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib
}
