package main

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/test/internal/oracle"
	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

// The disk of the records is full for a while: the log waits on its disk, nothing
// is counted that is not recorded, and no record is missing in the end.
func TestSinkDown(t *testing.T) {
	t.Parallel()
	outage := 30 * time.Second
	if short(t) {
		outage = 3 * time.Second
	}
	small := disk(t, "2m")
	dir := t.TempDir()
	log, records := filepath.Join(dir, "mail.log"), filepath.Join(small, "records.jsonl")
	text := mail(t, 60_000)
	rig.Append(t, log, text)
	site := rig.NewSite(t, rig.Build(t, ""), dir, rig.Tail(log)+"sinks: [{kind: file, path: "+records+"}]")
	d := site.Start(t)
	d.Eventually(t, "it says that the disk is full", func() bool {
		status, body := site.Get("/-/ready")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "no space left")
	})
	before, err := rig.Measure(d.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); time.Since(began) < outage; rig.Pause(t.Context(), 100*time.Millisecond) {
		rig.Append(t, log, text[:bytes.IndexByte(text, '\n')+1])
	}
	after, err := rig.Measure(d.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if grown := after.RSS - before.RSS; grown > 20e6 {
		t.Errorf("it took %s more memory meanwhile", megabytes(grown))
	}
	want, err := oracle.CountFiles(log)
	if err != nil {
		t.Fatal(err)
	}
	d.Kill(t)
	d = site.Start(t)
	remount(t, small, 0, "500m")
	d.Counts(t, want.Lines)
	settled()
	d.Stop(t)
	site.Exact(t, log)
	all, unique := countRecords(t, records)
	if unique != want.Attempts() {
		t.Errorf("%d different records of %d attempts", unique, want.Attempts())
	}
	figure(t, "file of records on a full disk for %v, a kill meanwhile: said by /-/ready, memory flat; %d attempts counted and recorded, %d records twice", outage, unique, all-unique)
}

// A sink that hangs, a pipe that nobody reads, does not keep the daemon from
// ending, and what it did not take is counted after the next start.
func TestStopWithAHungSink(t *testing.T) {
	t.Parallel()
	short(t)
	dir := t.TempDir()
	log, pipe := filepath.Join(dir, "mail.log"), filepath.Join(dir, "records.pipe")
	rig.Append(t, log, mail(t, 30_000))
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(pipe, os.O_RDWR, 0) // there, and reads nothing
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	site := rig.NewSite(t, rig.Build(t, ""), dir, rig.Tail(log)+"sinks: [{kind: file, path: "+pipe+"}]")
	d := site.Start(t)
	d.Eventually(t, "it reads", func() bool { return strings.Contains(d.Output(), "lane opened") })
	settled()
	settled()
	if n := site.Lines(); n > 0 {
		t.Errorf("%d lines are counted whose records nobody has", n)
	}
	if status, _ := site.Get("/metrics"); status != http.StatusOK {
		t.Errorf("a sink that hangs holds up the metrics: %d", status)
	}
	began := time.Now()
	d.Stop(t)
	took := time.Since(began)
	site.Configure(t, rig.Tail(log))
	read(t, site, 30_000)
	site.Exact(t, log)
	figure(t, "ended %.1f s after SIGTERM; exact after the next start", took.Seconds())
}

// A configuration with a mistake is refused while it runs; the old one stays.
func TestReload(t *testing.T) {
	t.Parallel()
	short(t)
	dir := t.TempDir()
	log := filepath.Join(dir, "mail.log")
	rig.Append(t, log, nil)
	good := rig.Tail(log)
	site := rig.NewSite(t, rig.Build(t, ""), dir, good)
	d := site.Start(t)
	d.Eventually(t, "it is ready", func() bool { s, _ := site.Get("/-/ready"); return s == http.StatusOK })
	reload := func(text string, successful float64) {
		t.Helper()
		site.Configure(t, text)
		if err := d.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		d.Eventually(t, "the reload is over", func() bool { return site.Metric("bouncemeter_config_last_reload_successful") == successful })
	}
	reload(good+"rules: {files: [/none.yaml]}\n", 0)
	reload(good, 1)
	reload(good+"limits: {series: 7}\n", 0) // takes a restart
	reload(good+"log: {level: debug}\n", 1)
	reload(good+"lgo: {level: debug}\n", 0)
	rig.Append(t, log, mail(t, 1000))
	d.Counts(t, 1000)
	d.Stop(t)
	site.Configure(t, good)
	site.Exact(t, log)
	for _, want := range []string{"/none.yaml", "limits.series changed, which takes a restart", "lgo: there is no such setting"} {
		if !strings.Contains(d.Output(), want) {
			t.Errorf("no %q in\n%s", want, d.Output())
		}
	}
	figure(t, "a missing file, a change that takes a restart, an unknown key: the old configuration stays, the metric says so, counting goes on")
}
