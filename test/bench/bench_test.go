package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bouncemeter/bouncemeter/classifier"
	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/simulate"
	"github.com/bouncemeter/bouncemeter/pipeline"
	"github.com/bouncemeter/bouncemeter/pipeline/correlate"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
	"github.com/bouncemeter/bouncemeter/sources/dialect"
	"github.com/bouncemeter/bouncemeter/sources/tail"
)

// hours writes the log of some hours of a simulated server and returns its
// size, its lines and how many of them are attempts.
func hours(tb testing.TB, n int) (path string, size, lines, attempts int64) {
	tb.Helper()
	start := time.Date(2026, 1, 12, 0, 0, 0, 0, time.UTC)
	mta, err := simulate.New(simulate.Config{Seed: 1, Start: start})
	if err != nil {
		tb.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := mta.WriteUntil(&b, start.Add(time.Duration(n)*time.Hour)); err != nil {
		tb.Fatal(err)
	}
	path = filepath.Join(tb.TempDir(), "mail.log")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		tb.Fatal(err)
	}
	tally := mta.Tally()
	return path, tally.Bytes, tally.Lines, tally.Sum(func(c simulate.Count) bool { return c.Outcome != event.Expired.String() })
}

// scan does what the report does, up to the counts.
func scan(tb testing.TB, rules *classifier.Classifier, path string) *window.Delta {
	tb.Helper()
	files, err := tail.OpenFiles([]string{path}, tail.FilesOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	defer files.Close()
	names := func() *window.Names { return window.NewNames(10_000) }
	counter := window.NewCounter(window.Config{
		TrendSpan: 3600, Sample: rules.NewSession().Sample,
		SenderDomains: names(), RecipientDomains: names(), Hosts: names(), Streams: names(),
	})
	if err := pipeline.Scan(context.Background(), files, pipeline.OneShot{
		NewParser: func() dialect.Parser {
			p, err := dialect.New("postfix", time.UTC)
			if err != nil {
				tb.Fatal(err)
			}
			return p
		},
		NewClassifier: func() pipeline.Classifier { return rules.NewSession() },
		Table:         correlate.New(correlate.Config{}),
		Counter:       counter,
		Workers:       1,
	}); err != nil {
		tb.Fatal(err)
	}
	return counter.Delta()
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

// The whole way of a line, from the file to the counts, allocates less than
// once for each delivery line, and so nothing for the others. What is made once
// (tables, names, the first sample of each wording) is shared by all lines.
func TestAllocations(t *testing.T) {
	rules, err := classifier.New(classifier.Options{})
	if err != nil {
		t.Fatal(err)
	}
	path, _, lines, attempts := hours(t, 1)
	before := mallocs()
	delta := scan(t, rules, path)
	perAttempt := float64(mallocs()-before) / float64(attempts)
	t.Logf("%d lines, %d attempts, %.2f allocations an attempt", lines, attempts, perAttempt)
	if perAttempt > 1 {
		t.Errorf("%.2f allocations a delivery line, want at most 1", perAttempt)
	}
	if delta.Lines.Read != lines {
		t.Errorf("%d of %d lines", delta.Lines.Read, lines)
	}
}

// Lines that do not matter cost no memory at all: more of them change nothing.
func TestLinesThatDoNotMatterAllocateNothing(t *testing.T) {
	p, err := dialect.New("postfix", time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	p.Reference(time.Date(2026, 1, 13, 0, 0, 0, 0, time.UTC))
	var events []event.Event
	for _, line := range []string{
		"Jan 12 04:01:07 mx1 postfix/smtpd[311]: connect from app.example[192.0.2.1]",
		"Jan 12 04:01:07 mx1 postfix/cleanup[312]: 4F2A1B: message-id=<m@shop.example>",
		"Jan 12 04:01:07 mx1 dovecot: imap-login: Login: user=<a>",
		"Jan 12 04:01:07 mx1 postfix/anvil[313]: statistics: max connection rate 1/60s",
	} {
		b := []byte(line)
		if n := testing.AllocsPerRun(100, func() { events, err = p.Parse(b, events[:0]) }); n != 0 || err != nil {
			t.Errorf("%v allocations, %v: %s", n, err, line)
		}
	}
}

func BenchmarkScan(b *testing.B) {
	rules, err := classifier.New(classifier.Options{})
	if err != nil {
		b.Fatal(err)
	}
	path, size, lines, attempts := hours(b, 2)
	b.SetBytes(size)
	b.ReportAllocs()
	before := mallocs()
	for b.Loop() {
		scan(b, rules, path)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(lines), "ns/line")
	b.ReportMetric(float64(mallocs()-before)/float64(b.N)/float64(attempts), "allocs/attempt")
}

// The program that stands for those with expressions counts what the log means.
func TestRegexps(t *testing.T) {
	start := time.Date(2026, 1, 12, 0, 0, 0, 0, time.UTC)
	mta, err := simulate.New(simulate.Config{Seed: 1, Start: start})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "mail.log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := mta.WriteUntil(f, start.Add(10*time.Minute)); err != nil {
		t.Fatal(err)
	}
	tally := mta.Tally()
	want := map[string]int64{}
	for outcome, word := range map[event.Outcome]string{event.Delivered: "sent", event.Deferred: "deferred", event.Bounced: "bounced"} {
		want[word] = tally.Sum(func(c simulate.Count) bool { return c.Outcome == outcome.String() })
	}
	want["deliverable"] = tally.Probes
	var said bytes.Buffer
	if err := countByRegexps(path, &said); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for line := range strings.Lines(said.String()) {
		var status, code string
		var n int64
		if _, err := fmt.Sscan(line, &status, &code, &n); err != nil {
			t.Fatal(err)
		}
		got[status] += n
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-meant +counted:\n%s", diff)
	}
}

// A row says what is wanted and what came; what has no goal, and what could not be
// measured, is not reached.
func TestGoalTable(t *testing.T) {
	table := goalTable([]goal{
		{what: "fast", bound: 300, unit: " a second", figure: 299, by: "x"},
		{what: "small", bound: 1.1, most: true, unit: " times", figure: 1.1, by: "x|y"},
		{what: "beside", unit: " s", figure: 2.5, by: "x"},
		{what: "other", bound: 3, needs: "java", by: "x"},
	}, ", load average 0.10 before the start")
	for _, want := range []string{
		"load average 0.10 before the start.\n\n|",
		"| fast: at least 300 a second | 299 a second | **no** | `x` |\n",
		"| small: at most 1.10 times | 1.10 times | yes | `x\\|y` |\n",
		"| beside | 2.5 s | – | `x` |\n",
		"| other: at least 3 | not measured: needs java | – | `x` |\n",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in\n%s", want, table)
		}
	}
}

// The chart of costs is XML, and every point is in it once for each of its curves.
func TestCostChart(t *testing.T) {
	size := []point{{x: 200e6, cpu: 1.5, peak: 50}, {x: 20e9, cpu: 1.25, peak: 54}}
	domains := []point{{x: 100, cpu: 1.25, peak: 46}, {x: 100_000, cpu: 1.75, peak: 70}}
	d, points := xml.NewDecoder(bytes.NewReader(costChart(size, domains))), 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "circle" {
			points++
		}
	}
	if points != 8 {
		t.Errorf("%d points", points)
	}
	for most, want := range map[float64]float64{0.9: 0.2, 1: 0.2, 1.1: 0.5, 9.4: 2, 54: 20, 100: 20, 101: 50} {
		if step := niceStep(most); math.Abs(step-want) > 1e-9 {
			t.Errorf("steps of %v up to %v, want %v", step, most, want)
		}
	}
}
