package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// goal is what the project wants to reach, and a figure of it.
type goal struct {
	what   string
	bound  float64
	most   bool // the bound is a most; otherwise a least
	unit   string
	figure float64 // negative where it could not be measured
	by     string  // the command that measures it alone, if it is not this one
}

// reached reports whether the figure is good enough.
func (g goal) reached() bool {
	if g.most {
		return g.figure <= g.bound
	}
	return g.figure >= g.bound
}

const goalRounds = 3 // of what takes less than a minute

// goals measures everything that has a goal, one after the other, and returns a
// table.
func goals() (string, error) {
	dir, err := os.MkdirTemp("", "bouncemeter-bench-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	binary, maker := filepath.Join(dir, "bouncemeter"), filepath.Join(dir, "mkmaillog")
	if err := errors.Join(
		build(binary, "./cmd/bouncemeter", releaseFlags...),
		build(maker, "./internal/simulate/cmd/mkmaillog"),
	); err != nil {
		return "", err
	}
	var all []goal
	for _, part := range []func() ([]goal, error){
		func() ([]goal, error) { return programGoals(binary, maker, filepath.Join(dir, "mail.log")) },
		func() ([]goal, error) { return latencyGoal(binary, dir) },
		stageGoals,
		memoryGoals,
	} {
		more, err := part()
		if err != nil {
			return "", err
		}
		all = append(all, more...)
	}
	return goalTable(all), nil
}

func goalTable(all []goal) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d cores (%s/%s, %s), on %s.\n\n| goal | figure | reached | by itself |\n|---|---|---|---|\n",
		runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), time.Now().UTC().Format("2 January 2006"))
	for _, g := range all {
		word, verdict, by := "at least", "yes", ""
		if g.most {
			word = "at most"
		}
		figure := short(g.figure) + g.unit
		switch {
		case g.figure < 0:
			figure, verdict = "", "not measured"
		case !g.reached():
			verdict = "**no**"
		}
		if g.by != "" {
			by = "`" + strings.ReplaceAll(g.by, "|", `\|`) + "`"
		}
		fmt.Fprintf(&b, "| %s: %s %s%s | %s | %s | %s |\n", g.what, word, short(g.bound), g.unit, figure, verdict, by)
	}
	return b.String()
}

// short writes a figure with two or three digits.
func short(f float64) string {
	switch {
	case f >= 10_000:
		return humanize.Comma(int64(math.Round(f/1000)) * 1000)
	case f >= 20 || f == math.Trunc(f):
		return strconv.FormatFloat(f, 'f', 0, 64)
	case f >= 2:
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return strconv.FormatFloat(f, 'f', 2, 64)
}

// programGoals measures whole programs on a log of 2 GB, the slow ones on its
// beginning.
func programGoals(binary, maker, log string) ([]goal, error) {
	report := program{env: []string{"GOMAXPROCS=1"}, args: []string{binary, "report", "-o", "json"}}
	both := program{args: report.args}
	wc := program{args: []string{"wc", "-l"}}
	mawk := program{args: []string{"mawk", `/ status=/ { match($0, /to=<[^>]*/); to = substr($0, RSTART + 4, RLENGTH - 4); sub(/.*@/, "", to); match($0, /dsn=[0-9.]+/); n[to " " substr($0, RSTART + 4, RLENGTH - 4)]++ } END { for (k in n) print k, n[k] }`}}
	slow := map[string]program{
		"pflogsumm": {args: []string{"pflogsumm"}},
		"mtail":     {args: []string{"mtail", "-one_shot", "-progs", "/usr/share/doc/mtail/examples/postfix.mtail", "-logs"}},
	}
	perByte := map[string]float64{"pflogsumm": -1, "mtail": -1}
	var small, large, two, lines, awk, daemon []figure
	const beginning, part, largest = 60e6, 200e6, 2e9
	_, err := growing(maker, log, []int64{beginning, part, largest}, func(size int64) (point, error) {
		run := func(p program, into *[]figure) (err error) {
			measure := measure
			if p.run != nil {
				measure = p.run
			}
			f, err := measure(p, log)
			*into = append(*into, f)
			return err
		}
		switch {
		case size < part:
			for name, p := range slow {
				if _, err := exec.LookPath(p.args[0]); err != nil {
					continue
				}
				f, err := measure(p, log)
				if err != nil {
					return point{}, fmt.Errorf("%s: %w", name, err)
				}
				perByte[name] = f.wall.Seconds() / float64(size)
			}
		case size < largest:
			return point{}, run(report, &small)
		default:
			if err := run(program{env: report.env, args: report.args, run: catchUp(binary)}, &daemon); err != nil {
				return point{}, err
			}
			for range goalRounds {
				if err := errors.Join(run(wc, &lines), run(report, &large), run(both, &two)); err != nil {
					return point{}, err
				}
				if _, err := exec.LookPath("mawk"); err == nil {
					if err := run(mawk, &awk); err != nil {
						return point{}, err
					}
				}
			}
		}
		return point{}, nil
	})
	if err != nil {
		return nil, err
	}
	wall := func(f []figure) float64 {
		if len(f) == 0 {
			return -1
		}
		return median(f, func(f figure) float64 { return f.wall.Seconds() })
	}
	rss := func(f []figure) float64 { return median(f, func(f figure) float64 { return float64(f.rss) / 1024 }) }
	times := func(other float64) float64 {
		if other < 0 {
			return -1
		}
		return other / (wall(large) / largest)
	}
	return []goal{
		{what: "report on one core, of a log of 2 GB, beside pflogsumm", bound: 50, unit: " times its speed", figure: times(perByte["pflogsumm"])},
		{what: "… beside mtail", bound: 50, unit: " times its speed", figure: times(perByte["mtail"])},
		{what: "… beside mawk counting by domain and status code", bound: 1, unit: " times its speed", figure: times(wall(awk) / largest)},
		{what: "… beside `wc -l`", bound: 8, most: true, unit: " times its time", figure: wall(large) / wall(lines)},
		{what: "… on two cores, beside `wc -l`", bound: 5, most: true, unit: " times its time", figure: wall(two) / wall(lines)},
		{what: "… on two cores, beside one", bound: 1.5, unit: " times its speed", figure: wall(large) / wall(two)},
		{what: "… memory at the most", bound: 64, most: true, unit: " MB", figure: rss(large)},
		{what: "… memory for 2 GB, beside 200 MB", bound: 1.1, most: true, unit: " times", figure: rss(large) / rss(small)},
		{what: "daemon that catches up on the same log, on one core, beside the report", bound: 0.7, unit: " times its speed", figure: wall(large) / wall(daemon)},
	}, nil
}

// latencyGoal is how long a line takes from the log to /metrics, at the most.
func latencyGoal(binary, dir string) (all []goal, err error) {
	log, config := filepath.Join(dir, "live.log"), filepath.Join(dir, "live.yaml")
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("sources:\n  - {name: live, kind: tail, paths: [%s]}\nledger: {sqlite: %s/live.db}\nhttp: {listen: %q}\n", log, dir, address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, "run", "-c", config)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	worst := time.Duration(0)
	for i := range 11 {
		if _, err := fmt.Fprintf(f, "%s mx1 postfix/smtp[2]: %X: to=<x@r.example>, relay=none, delay=1, delays=0/0/1/0, dsn=4.4.1, status=deferred (connect to mx.r.example[192.0.2.1]:25: Connection timed out)\n",
			time.Now().Format(time.RFC3339Nano), 0x1000+i); err != nil {
			return nil, err
		}
		wrote := time.Now()
		for want := fmt.Sprintf("\nbouncemeter_lines_total{source=\"live\"} %d\n", i+1); !strings.Contains(page(address, "/metrics"), want); <-time.After(10 * time.Millisecond) {
			if time.Since(wrote) > time.Minute {
				return nil, fmt.Errorf("a line is not counted after a minute\n%s", stderr.String())
			}
		}
		if i > 0 { // the first waits for the start
			worst = max(worst, time.Since(wrote))
		}
	}
	return []goal{{what: "from a line in the log to /metrics, the slowest of ten", bound: 2, most: true, unit: " s", figure: worst.Seconds()}}, nil
}

func page(address, path string) string {
	r, err := http.Get("http://" + address + path)
	if err != nil {
		return ""
	}
	defer r.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(r.Body); err != nil {
		return ""
	}
	return b.String()
}

// benchmark is a line of go test -bench: its name and a number of its unit.
var benchmark = regexp.MustCompile(`(?m)^Benchmark(\S+)\s.*?\s([0-9.]+) (ns/op|MB/s|records/s)(?:\s+([0-9.]+) (MB/s|records/s))?(?:\s+([0-9.]+) (records/s))?`)

// benchmarks runs those of a package and returns the best of each and unit.
func benchmarks(pkg, which string, flags ...string) (map[string]float64, error) {
	args := append([]string{"test", "-run", "^$", "-bench", which, "-cpu", "1"}, flags...)
	out, err := exec.Command("go", append(args, pkg)...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", pkg, err, out)
	}
	best := make(map[string]float64)
	for _, m := range benchmark.FindAllStringSubmatch(string(out), -1) {
		for i := 2; i+1 < len(m) && m[i+1] != ""; i += 2 {
			f, err := strconv.ParseFloat(m[i], 64)
			if err != nil {
				return nil, err
			}
			key := m[1] + " " + m[i+1]
			if old, ok := best[key]; !ok || (m[i+1] == "ns/op") == (f < old) {
				best[key] = f
			}
		}
	}
	return best, nil
}

// stageGoals measures parsers and the classifier.
func stageGoals() ([]goal, error) {
	const parsers, classify = "go test -run xxx -bench 'MTA|Mapped|Records|EncodingJSON' -cpu 1 ./sources/dialect", "go test -run xxx -bench Classify -cpu 1 ./classifier"
	d, err := benchmarks("./sources/dialect", "MTA|Mapped|Records|EncodingJSON", "-benchtime", "3000x", "-count", "5")
	if err != nil {
		return nil, err
	}
	c, err := benchmarks("./classifier", "Classify/(cached|uncached)", "-count", "3")
	if err != nil {
		return nil, err
	}
	slowest := func(of func(name string) bool, unit string) (least float64) {
		least = -1
		for key, f := range d {
			if name, found := strings.CutSuffix(key, " "+unit); found && of(name) && (least < 0 || f < least) {
				least = f
			}
		}
		return least
	}
	isText := func(name string) bool {
		return strings.HasPrefix(name, "MTA/") && !strings.HasPrefix(name, "MTA/auto") || strings.HasPrefix(name, "Mapped/csv") || strings.HasPrefix(name, "Records/powermta")
	}
	isJSON := func(name string) bool {
		return strings.HasPrefix(name, "Records/") && !isText(name) || strings.HasPrefix(name, "Mapped/json")
	}
	return []goal{
		{what: "parsing lines of the slowest dialect of text", bound: 300, unit: " MB/s", figure: slowest(isText, "MB/s"), by: parsers},
		{what: "parsing records of the slowest dialect of JSON", bound: 300_000, unit: " a second", figure: slowest(isJSON, "records/s"), by: parsers},
		{what: "parsing JSON, beside encoding/json", bound: 6, unit: " times its speed", figure: d["EncodingJSON ns/op"] / d["Records/kumomta/bounce ns/op"], by: parsers},
		{what: "classifying a reply that is new", bound: 500_000, unit: " a second", figure: 1e9 / c["Classify/uncached ns/op"], by: classify},
		{what: "… whose wording is known", bound: 2_000_000, unit: " a second", figure: 1e9 / c["Classify/cached ns/op"], by: classify},
	}, nil
}

// memoryGoals takes what the tests of memory tell.
func memoryGoals() (all []goal, err error) {
	for _, m := range []struct {
		pkg, test string
		figure    *regexp.Regexp
		goal      goal
	}{
		{"./pipeline/correlate", "TestMemory", regexp.MustCompile(`([0-9.]+) bytes a message`), goal{what: "memory for a message in the queue", bound: 48, unit: " bytes"}},
		{"./pipeline/window", "TestMemory", regexp.MustCompile(`([0-9.]+) bytes a series`), goal{what: "memory for a series", bound: 96, unit: " bytes"}},
		{"./test/memory", "TestMillionQueueIDs", regexp.MustCompile(`([0-9.]+) MB at the most`), goal{what: "daemon with a million messages in the queue", bound: 150, unit: " MB"}},
	} {
		out, err := exec.Command("go", "test", "-count", "1", "-v", "-run", m.test, m.pkg).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", m.pkg, err, out)
		}
		var found []float64
		for _, s := range m.figure.FindAllSubmatch(out, -1) {
			f, err := strconv.ParseFloat(string(s[1]), 64)
			if err != nil {
				return nil, err
			}
			found = append(found, f)
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("%s tells no figure\n%s", m.pkg, out)
		}
		m.goal.most, m.goal.figure, m.goal.by = true, slices.Max(found), "go test -v -run "+m.test+" "+m.pkg
		all = append(all, m.goal)
	}
	return all, nil
}
