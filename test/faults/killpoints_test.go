package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/internal/failpoint"
	"github.com/bouncemeter/bouncemeter/test/internal/oracle"
	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

// killPoint is a step to be killed at, on one of the first so many passes: those
// that are come to all the time may be at their fiftieth.
type killPoint struct {
	point  failpoint.Point
	passes int
}

// onTheWayOfALine are the steps from a log to the ledger and the records.
var onTheWayOfALine = []killPoint{
	{failpoint.LaneOpened, 1},
	{failpoint.BatchRead, 50},
	{failpoint.BatchJoined, 50},
	{failpoint.CommitPrepared, 6},
	{failpoint.RecordsWritten, 6},
	{failpoint.RecordsSynced, 6},
	{failpoint.RecordsRotated, 1},
	{failpoint.RecordsFlushed, 6},
	{failpoint.TransactionBegun, 12},
	{failpoint.PositionMoved, 6},
	{failpoint.CountsAdded, 6},
	{failpoint.DomainsAdded, 6},
	{failpoint.DelaysAdded, 6},
	{failpoint.TemplatesAdded, 6},
	{failpoint.EntriesChanged, 6},
	{failpoint.TransactionCommitted, 12},
	{failpoint.CommitStored, 6},
	{failpoint.SinksTold, 6},
	{failpoint.LaneReleased, 6},
	{failpoint.LaneStopping, 1},
	{failpoint.RolledUp, 10},
	{failpoint.LogFound, 1},
	{failpoint.LogLeft, 2},
	{failpoint.DetectionStored, 1},
}

// throughASpool are the steps of what was received.
var throughASpool = []killPoint{
	{failpoint.SpoolWritten, 50},
	{failpoint.SpoolSynced, 50},
	{failpoint.SpoolReleased, 1},
}

// Killed at every step of the way to the ledger, again and again, while the log
// grows and rotates: the counts are exact, and no record is missing.
func TestKillPoints(t *testing.T) {
	t.Parallel()
	kills := 200
	if short(t) {
		kills = 2 * len(onTheWayOfALine)
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 3))
	dir := t.TempDir()
	w := rig.NewWriter(t, dir, seed)
	w.Step = time.Second
	w.Rotate = 240 // a start looks at all rotated logs, of which none is taken away
	records := filepath.Join(dir, "records.jsonl")
	site := rig.NewSite(t, rig.Build(t, "failpoint"), dir, rig.Tail(w.Path)+fmt.Sprintf(`
limits: {commit_every: 100ms}
sinks: [{kind: file, path: %s, max_bytes: 1MiB, keep: 2000}]`, records))
	ctx, stop := context.WithCancel(t.Context())
	written := make(chan error, 1)
	go func() { written <- w.Run(ctx) }()
	killAt(t, site, random, onTheWayOfALine, kills)
	stop()
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	want, err := oracle.CountFiles(w.All)
	if err != nil {
		t.Fatal(err)
	}
	d := site.Start(t)
	d.Counts(t, want.Lines)
	settled()
	d.Stop(t)
	site.Exact(t, w.All)
	all, unique := countRecords(t, records)
	if unique != want.Attempts() {
		t.Errorf("%d different records of %d attempts", unique, want.Attempts())
	}
	figure(t, "%d kills at %d steps, each one hit; %d lines in %d logs exact; %d of %d records repeated, by their ids, none missing",
		kills, len(onTheWayOfALine), want.Lines, w.Rotations+1, all-unique, all)
}

// The same for events that are received: each that was acknowledged counts once.
func TestKillPointsOfASpool(t *testing.T) {
	t.Parallel()
	kills := 30
	if short(t) {
		kills = 2 * len(throughASpool)
	}
	seed := uint64(time.Now().UnixNano())
	dir, address := t.TempDir(), rig.FreeAddress(t)
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	site := rig.NewSite(t, rig.Build(t, "failpoint"), dir, fmt.Sprintf(`
sources:
  - {name: events, kind: webhook, dialect: postal, verify: token, listen: "%s", url_path: /events, secret_file: token, spool_bytes: 1MiB}
limits: {commit_every: 100ms}`, address))
	ctx, stop := context.WithCancel(t.Context())
	providers := rig.StartProviders(ctx, "http://"+address+"/events", seed)
	killAt(t, site, rand.New(rand.NewPCG(seed, 3)), throughASpool, kills)
	stop()
	d := site.Start(t)
	sent := providers.Sent()
	counted := func() int64 { return rig.Report(t, site.Binary, "--ledger", site.Ledger).Outcomes["bounced"] }
	d.Eventually(t, "all events are counted", func() bool { return counted() >= sent })
	settled()
	d.Stop(t)
	if got := counted(); got != sent {
		t.Errorf("%d events are counted, %d were sent", got, sent)
	}
	figure(t, "%d kills at %d steps, each one hit; %d events exact", kills, len(throughASpool), sent)
}

// killAt starts the daemon so that it is killed at one step after the other, and
// proves that it was.
func killAt(t *testing.T, site *rig.Site, random *rand.Rand, points []killPoint, kills int) {
	t.Helper()
	for i := range kills {
		p := points[i%len(points)]
		pass := 1 + random.IntN(p.passes)
		d := site.Start(t, "FAILPOINT="+strconv.Itoa(pass)+"@"+string(p.point))
		if p.point == failpoint.LaneStopping {
			d.Eventually(t, "it reads", func() bool { return strings.Contains(d.Output(), "lane opened") })
			<-time.After(time.Duration(random.IntN(300)) * time.Millisecond)
			if err := d.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}
		if !d.Ended(time.Minute) || !d.Killed() || !strings.Contains(d.Output(), "failpoint "+string(p.point)+"\n") {
			t.Fatalf("it did not come to pass %d of %q\n%s", pass, p.point, d.Output())
		}
	}
}

// countRecords returns how many records the files have, and how many of different
// ids. What a kill has cut is no record.
func countRecords(t *testing.T, path string) (all, unique int64) {
	t.Helper()
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	ids := make(map[string]bool)
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			var r struct{ ID, Kind string }
			if json.Unmarshal(s.Bytes(), &r) == nil && r.Kind == "attempt" {
				all++
				ids[r.ID] = true
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return all, int64(len(ids))
}

// Every step that has a name is one that the tests above are killed at.
func TestEveryFailpointIsTried(t *testing.T) {
	tried := make(map[string]bool)
	for _, p := range append(onTheWayOfALine, throughASpool...) {
		tried[strconv.Quote(string(p.point))] = true
	}
	file, err := parser.ParseFile(token.NewFileSet(), "../../internal/failpoint/failpoint.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ast.Inspect(file, func(node ast.Node) bool {
		if v, ok := node.(*ast.ValueSpec); ok {
			n++
			if value := v.Values[0].(*ast.BasicLit).Value; !tried[value] {
				t.Errorf("failpoint %s is not tried", value)
			}
		}
		return true
	})
	if n != len(tried) {
		t.Errorf("%d failpoints, %d tried", n, len(tried))
	}
}

// The program that people run has nothing of all this.
func TestNoFailpointsInTheProgram(t *testing.T) {
	short(t)
	program, err := os.ReadFile(rig.Build(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	for _, trace := range []string{string(failpoint.CountsAdded), string(failpoint.SpoolSynced)} {
		if bytes.Contains(program, []byte(trace)) {
			t.Errorf("the program contains %q", trace)
		}
	}
	if with, err := os.ReadFile(rig.Build(t, "failpoint")); err != nil || !bytes.Contains(with, []byte(failpoint.CountsAdded)) {
		t.Errorf("the program built for these tests contains none: %v", err)
	}
}
