package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// catchUp has the daemon read a log from its beginning, with all that it does
// besides: commits, each of a second or of tens of thousands of rows, metrics, pages
// and the detector. The wall time
// ends when its API tells of the last line, and so after its commit; the CPU time
// is that of the whole process, from start to a clean stop. Nobody scrapes or
// looks at a page meanwhile.
func catchUp(binary string) func(p program, log string) (figure, error) {
	return func(p program, log string) (figure, error) {
		dir, err := os.MkdirTemp("", "bouncemeter-bench-daemon-")
		if err != nil {
			return figure{}, err
		}
		defer os.RemoveAll(dir)
		lines, err := countLines(log)
		if err != nil {
			return figure{}, err
		}
		address, err := freeAddress()
		if err != nil {
			return figure{}, err
		}
		config := filepath.Join(dir, "bouncemeter.yaml")
		if err := os.WriteFile(config, fmt.Appendf(nil, "sources:\n  - {name: bench, kind: tail, paths: [%s]}\nledger: {sqlite: %s/ledger.db}\nhttp: {listen: %q}\n", log, dir, address), 0o600); err != nil {
			return figure{}, err
		}
		cmd := exec.Command(binary, "run", "-c", config)
		cmd.Env = append(os.Environ(), p.env...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		started := time.Now()
		if err := cmd.Start(); err != nil {
			return figure{}, err
		}
		for linesRead(address) != lines {
			if time.Since(started) > 5*time.Minute {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
				return figure{}, fmt.Errorf("not all is counted after five minutes\n%s", stderr.String())
			}
			<-time.After(100 * time.Millisecond)
		}
		wall := time.Since(started)
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return figure{}, err
		}
		if err := cmd.Wait(); err != nil {
			return figure{}, fmt.Errorf("%w: %s", err, stderr.String())
		}
		return used(cmd.ProcessState, wall), nil
	}
}

// freeAddress is one of this machine that nobody listens at.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// linesRead returns how many lines the daemon says were read and counted, or -1.
func linesRead(address string) int64 {
	r, err := http.Get("http://" + address + "/api/v1/sources")
	if err != nil {
		return -1 // not started yet
	}
	defer r.Body.Close()
	var sources struct {
		Lanes []struct{ Lines struct{ Read int64 } }
	}
	if err := json.NewDecoder(r.Body).Decode(&sources); err != nil || len(sources.Lanes) != 1 {
		return -1
	}
	return sources.Lanes[0].Lines.Read
}

func countLines(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines, buf := int64(0), make([]byte, 1<<20)
	for {
		n, err := f.Read(buf)
		lines += int64(bytes.Count(buf[:n], []byte{'\n'}))
		if err == io.EOF {
			return lines, nil
		}
		if err != nil {
			return 0, err
		}
	}
}
