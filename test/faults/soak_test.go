package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/test/internal/oracle"
	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

// soaking is how long the soak lasts: SOAK, or by FAULTS 40 seconds in the short
// form and half an hour in the full one.
func soaking(t *testing.T) (d time.Duration) {
	t.Helper()
	if s := os.Getenv("SOAK"); s != "" {
		var err error
		if d, err = time.ParseDuration(s); err != nil {
			t.Fatalf("SOAK: %v", err)
		}
	} else if d = 30 * time.Minute; short(t) {
		d = 40 * time.Second
	}
	const around = 2 * time.Minute // to build, and to count what is left on a busy machine
	if end, ok := t.Deadline(); ok && time.Until(end) < d+around {
		t.Fatalf("go test ends after %v, the soak takes %v and some minutes: give it -timeout %v", time.Until(end).Round(time.Second), d, d+10*time.Minute)
	}
	return d
}

const (
	soakRate = 100_000 // lines a second, five times a big site's
	// soakBehind is how far the daemon may be behind before the writer waits: a
	// machine that is too slow for the rate shows in the rate, not as a loss.
	soakBehind = 64 << 20
	// soakFile is how large a log grows before it is rotated.
	soakFile = 100 << 20
	soakKeep = 4 // rotated logs
)

// flood writes a log without end: the same lines again and again, each time dated
// now, and rotates it.
type flood struct {
	site *rig.Site
	path string
	text []byte // of whole lines
	lag  string // the metric

	lines, rotations int64
	passes           int64 // of the whole text
	rest             []byte
	file             *os.File
	size             int64
	held             time.Duration // waiting for the daemon
}

func (f *flood) run(ctx context.Context) error {
	var err error
	if f.file, err = os.Create(f.path); err != nil {
		return err
	}
	f.rest = bytes.Clone(f.text)
	began := time.Now()
	var looked time.Time
	for ctx.Err() == nil {
		rig.Pause(ctx, tick)
		if time.Since(looked) > 250*time.Millisecond {
			for waits := time.Now(); f.site.Metric(f.lag) > soakBehind && ctx.Err() == nil; waits = time.Now() {
				rig.Pause(ctx, 10*tick)
				f.held += time.Since(waits)
				began = began.Add(time.Since(waits)) // what was not written then is not made up for
			}
			looked = time.Now()
		}
		due := min(int64(time.Since(began).Seconds()*soakRate)-f.lines, soakRate/5)
		if err := f.write(due); err != nil {
			return err
		}
	}
	return f.file.Close()
}

// write writes n lines that are dated now.
func (f *flood) write(n int64) error {
	now := time.Now().UTC().AppendFormat(nil, "Jan _2 15:04:05")
	for n > 0 {
		if len(f.rest) == 0 {
			f.passes++
			f.rest = f.rest[:0]
			f.rest = append(f.rest, f.text...)
		}
		end := 0
		for ; n > 0 && end < len(f.rest); n-- {
			copy(f.rest[end:], now)
			end += bytes.IndexByte(f.rest[end:], '\n') + 1
			f.lines++
		}
		if _, err := f.file.Write(f.rest[:end]); err != nil {
			return err
		}
		f.size += int64(end)
		f.rest = f.rest[end:]
	}
	if f.size < soakFile {
		return nil
	}
	return f.rotate()
}

func (f *flood) rotate() error {
	if err := f.file.Close(); err != nil {
		return err
	}
	for i := soakKeep; i >= 0; i-- {
		from := fmt.Sprintf("%s.%d", f.path, i)
		if i == 0 {
			from = f.path
		}
		if err := os.Rename(from, fmt.Sprintf("%s.%d", f.path, i+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	_ = os.Remove(fmt.Sprintf("%s.%d", f.path, soakKeep+1))
	f.rotations++
	f.size = 0
	var err error
	f.file, err = os.Create(f.path)
	return err
}

// sample is what the daemon takes at a moment.
type sample struct {
	rig.Resources
	goroutines float64
}

// A hundred thousand lines a second, with rotations, a stop and a kill: memory,
// goroutines and descriptors stay as they are, and the counts are exact.
func TestSoak(t *testing.T) {
	long := soaking(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "mail.log")
	site := rig.NewSite(t, rig.Build(t, ""), dir, rig.Tail(path))
	f := &flood{site: site, path: path, text: mail(t, 1_000_000), lag: fmt.Sprintf("bouncemeter_lane_lag{lane=%q,source=\"mta1\"}", path)}
	each, err := oracle.Count(bytes.NewReader(f.text))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), long)
	defer stop()
	began := time.Now()
	d := site.Start(t)
	done := make(chan error, 1)
	go func() { done <- f.run(ctx) }()
	var peak int64
	var cpu float64
	for life := range 3 {
		var samples []sample
		for until := began.Add(long * time.Duration(life+1) / 3); time.Now().Before(until); rig.Pause(t.Context(), min(time.Second, long/100)) {
			r, err := rig.Measure(d.Process.Pid)
			if err != nil {
				t.Fatalf("%v\n%s", err, d.Output())
			}
			if n := site.Metric("go_goroutines"); n >= 0 {
				samples = append(samples, sample{r, n})
			}
		}
		flat(t, samples)
		last := samples[len(samples)-1]
		peak, cpu = max(peak, last.Peak), cpu+last.CPU
		switch life {
		case 0:
			d.Stop(t)
			d = site.Start(t)
		case 1:
			d.Kill(t)
			d = site.Start(t)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	d.Counts(t, f.lines)
	settled()
	d.Stop(t)
	part, err := oracle.Count(bytes.NewReader(f.text[:len(f.text)-len(f.rest)]))
	if err != nil {
		t.Fatal(err)
	}
	got := rig.Report(t, site.Binary, "--ledger", site.Ledger)
	for outcome, n := range part.Outcomes {
		if want := n + f.passes*each.Outcomes[outcome]; got.Outcomes[outcome] != want {
			t.Errorf("%s: %d counted, %d written", outcome, got.Outcomes[outcome], want)
		}
	}
	if got.Lines != f.lines || got.Lost > 0 {
		t.Errorf("%d of %d lines, %d bytes lost", got.Lines, f.lines, got.Lost)
	}
	figure(t, "%v at %d lines/s (%.0f s of it the writer waited for the daemon on a busy machine), %d rotations, a stop and a kill: %d lines exact; %s of memory at the most, goroutines and descriptors flat; %.1f µs of processor a line",
		took.Round(time.Second), int(float64(f.lines)/took.Seconds()), f.held.Seconds(), f.rotations, f.lines, megabytes(peak), cpu/float64(f.lines)*1e6)
}

// flat checks that what the daemon takes has not grown between the second and the
// last third of its life.
func flat(t *testing.T, samples []sample) {
	t.Helper()
	n := len(samples) / 3
	if n < 1 {
		t.Errorf("only %d samples", len(samples))
		return
	}
	median := func(s []sample, of func(sample) float64) float64 {
		var v []float64
		for _, x := range s {
			v = append(v, of(x))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	for _, c := range []struct {
		name        string
		of          func(sample) float64
		times, plus float64
	}{
		{"memory", func(s sample) float64 { return float64(s.RSS) }, 1.25, 10e6},
		{"goroutines", func(s sample) float64 { return s.goroutines }, 1, 8},
		{"descriptors", func(s sample) float64 { return float64(s.Descriptors) }, 1, 6},
	} {
		before, after := median(samples[n:2*n], c.of), median(samples[2*n:], c.of)
		if after > before*c.times+c.plus {
			t.Errorf("%s has grown from %.0f to %.0f", c.name, before, after)
		}
	}
}
