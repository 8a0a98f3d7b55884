package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// costs measures what a report costs against how large the log is, and against how
// many domains its mail goes to, and returns a table of it. The chart of both is
// written to svg.
func costs(svg string, largest int64) (string, error) {
	dir, err := os.MkdirTemp("", "bouncemeter-bench-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "bouncemeter")
	maker := filepath.Join(dir, "mkmaillog")
	if err := errors.Join(
		build(binary, "./cmd/bouncemeter", releaseFlags...),
		build(maker, "./internal/simulate/cmd/mkmaillog"),
	); err != nil {
		return "", err
	}
	report := program{args: []string{binary, "report", "-o", "json"}}
	log := filepath.Join(dir, "mail.log")

	var sizes []int64
	for _, hundredths := range []int64{1, 3, 10, 30, 100} { // about evenly on a logarithmic scale
		sizes = append(sizes, largest/100*hundredths)
	}
	size, err := growing(maker, log, daysAgo(30), sizes, func(n int64) (point, error) { return cost(report, log, n) })
	if err != nil {
		return "", err
	}
	var domains []point
	for _, n := range []int{100, 1000, 10_000, 100_000} {
		var stderr strings.Builder
		cmd := exec.Command(maker, "-bytes", strconv.FormatInt(largest/20, 10), "-recipient-domains", strconv.Itoa(n))
		cmd.Stderr = &stderr
		if cmd.Stdout, err = os.Create(log); err != nil {
			return "", err
		}
		if err := errors.Join(cmd.Run(), cmd.Stdout.(*os.File).Close()); err != nil {
			return "", fmt.Errorf("make a log: %w: %s", err, stderr.String())
		}
		p, err := cost(report, log, largest/20)
		if err != nil {
			return "", err
		}
		p.x = float64(n)
		domains = append(domains, p)
	}
	if err := os.WriteFile(svg, costChart(size, domains), 0o644); err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d cores (%s/%s, %s), on %s.\n\n| log | domains | wall s | CPU s/GB | peak MB |\n|---|---|---|---|---|\n",
		runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), time.Now().UTC().Format("2 January 2006"))
	row := func(p point, domains int) {
		fmt.Fprintf(&b, "| %s | %s | %.2f | %.2f | %.0f |\n", humanize.SIWithDigits(float64(p.bytes), 0, "B"), humanize.Comma(int64(domains)), p.wall, p.cpu, p.peak)
	}
	for _, p := range size {
		row(p, usualDomains)
	}
	for _, p := range domains {
		row(p, int(p.x))
	}
	return b.String(), nil
}

// usualDomains is to how many domains the mail of a simulated log goes.
const usualDomains = 5000

// point is what one report took.
type point struct {
	x     float64 // bytes, or domains
	bytes int64
	wall  float64 // seconds
	cpu   float64 // seconds a GB
	peak  float64 // MB
}

// growing has a log written as far as each of sizes, to the end of a line, and
// measures it there: the largest is all that has to be made and to fit on the disk.
func growing(maker, path, start string, sizes []int64, measure func(size int64) (point, error)) (points []point, err error) {
	cmd := exec.Command(maker, "-start", start, "-bytes", strconv.FormatInt(sizes[len(sizes)-1]*11/10, 10))
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() {
		_ = cmd.Process.Kill() // it may have more to write
		_ = cmd.Wait()
	}()
	log, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	in, written := bufio.NewReaderSize(pipe, 1<<20), int64(0)
	for _, size := range sizes {
		n, err := io.CopyN(log, in, size-written)
		if err != nil {
			return nil, fmt.Errorf("make a log: %w", err)
		}
		rest, err := in.ReadBytes('\n')
		if err != nil {
			return nil, fmt.Errorf("make a log: %w", err)
		}
		if _, err := log.Write(rest); err != nil {
			return nil, err
		}
		written += n + int64(len(rest))
		p, err := measure(written)
		if err != nil {
			return nil, err
		}
		p.x = float64(written)
		points = append(points, p)
	}
	return points, nil
}

// cost is the median of some reports: of five, of fewer if they take long.
func cost(p program, log string, size int64) (point, error) {
	const budget = 20 * time.Second
	var all []figure
	for began := time.Now(); len(all) < 5 && (len(all) == 0 || time.Since(began) < budget); {
		f, err := measure(p, log)
		if err != nil {
			return point{}, err
		}
		all = append(all, f)
	}
	return point{
		bytes: size,
		wall:  median(all, func(f figure) float64 { return f.wall.Seconds() }),
		cpu:   median(all, func(f figure) float64 { return f.cpu.Seconds() }) / (float64(size) / 1e9),
		peak:  median(all, func(f figure) float64 { return float64(f.rss) / 1024 }),
	}, nil
}
