package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A line of Postfix, and what is said of a delivery in it: what a program looks
// like that is written for the purpose with package regexp.
var (
	postfixLine  = regexp.MustCompile(`^\S+ +\S+ \S+ (\S+) postfix[^/ ]*/(\w+)\[\d+\]: (.*)$`)
	deliveryLine = regexp.MustCompile(`^(\w+): to=<([^>]*)>,.* relay=([^,]+),.* delay=([\d.]+),.* dsn=([\d.]+), status=(\w+)`)
)

// countByRegexps prints the deliveries of a log by outcome and status code.
func countByRegexps(log string, to io.Writer) error {
	f, err := os.Open(log)
	if err != nil {
		return err
	}
	defer f.Close()
	n := make(map[string]int)
	lines := bufio.NewScanner(bufio.NewReaderSize(f, 1<<20))
	for lines.Scan() {
		line := postfixLine.FindSubmatch(lines.Bytes())
		if line == nil {
			continue
		}
		if d := deliveryLine.FindSubmatch(line[3]); d != nil {
			n[string(d[6])+" "+string(d[5])]++
		}
	}
	for _, key := range slices.Sorted(maps.Keys(n)) {
		if _, err := fmt.Fprintln(to, key, n[key]); err != nil {
			return err
		}
	}
	return lines.Err()
}

// followed has prometheus-postfix-exporter, which reads no file from its
// beginning, follow an empty one to which the log is then copied. The wall time
// is from there to when its metrics tell of a last line of a kind of its own; the
// CPU time is that of the whole process.
func followed(p program, log string) (figure, error) {
	dir, err := os.MkdirTemp("", "bouncemeter-bench-exporter-")
	if err != nil {
		return figure{}, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "mail.log")
	to, err := os.Create(file)
	if err != nil {
		return figure{}, err
	}
	defer to.Close()
	from, err := os.Open(log)
	if err != nil {
		return figure{}, err
	}
	defer from.Close()
	address, err := freeAddress()
	if err != nil {
		return figure{}, err
	}
	cmd := exec.Command(p.args[0], "--postfix.logfile_path", file, "--postfix.showq_path", filepath.Join(dir, "showq"), "--web.listen-address", address)
	cmd.Env = append(os.Environ(), p.env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return figure{}, err
	}
	fail := func(err error) (figure, error) {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return figure{}, fmt.Errorf("%w\n%s", err, stderr.String())
	}
	const last = `postfix_unsupported_log_entries_total{service="end"}`
	tells := func(text string) error {
		for began := time.Now(); !strings.Contains(page(address, "/metrics"), text); <-time.After(20 * time.Millisecond) {
			if time.Since(began) > 5*time.Minute {
				return errors.New("its metrics do not tell what was written after five minutes")
			}
		}
		return nil
	}
	if err := tells("postfix_up"); err != nil {
		return fail(err)
	}
	started := time.Now()
	if _, err := io.Copy(to, from); err != nil {
		return fail(err)
	}
	if _, err := to.WriteString("Jan 12 00:00:00 mx1 postfix/end[1]: end\n"); err != nil {
		return fail(err)
	}
	if err := tells(last); err != nil {
		return fail(err)
	}
	wall := time.Since(started)
	_ = cmd.Process.Kill() // nothing of it is needed any more
	_ = cmd.Wait()
	return used(cmd.ProcessState, wall), nil
}
