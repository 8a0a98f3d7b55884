package main

import (
	"bytes"
	"cmp"
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
	bound  float64 // 0 for a figure that stands beside one with a goal
	most   bool    // the bound is a most; otherwise a least
	unit   string
	figure float64
	needs  string // what it takes to measure it, if it was not measured
	by     string // the command that measures it alone
}

// reached reports whether the figure is good enough.
func (g goal) reached() bool {
	if g.most {
		return g.figure <= g.bound
	}
	return g.figure >= g.bound
}

const goalRounds = 3 // of what takes less than a minute

// built are the programs that are measured, and a folder for what they need.
type built struct{ dir, binary, maker string }

// parts measure what has a goal, one after the other.
var parts = []struct {
	name    string
	measure func(built) ([]goal, error)
}{
	{"log", logGoals}, {"latency", latencyGoal}, {"demo", demoGoal}, {"detection", detectionGoals}, {"kafka", kafkaGoals}, {"stages", stageGoals}, {"memory", memoryGoals},
}

// goals measures everything that has a goal, or these parts of it, and returns a
// table.
func goals(only []string) (string, error) {
	var names []string
	for _, part := range parts {
		names = append(names, part.name)
	}
	for _, name := range only {
		if !slices.Contains(names, name) {
			return "", fmt.Errorf("-only: %q is not a part of the goals; use %s", name, strings.Join(names, ", "))
		}
	}
	dir, err := os.MkdirTemp("", "bouncemeter-bench-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	b := built{dir, filepath.Join(dir, "bouncemeter"), filepath.Join(dir, "mkmaillog")}
	if err := errors.Join(
		build(b.binary, "./cmd/bouncemeter", releaseFlags...),
		build(b.maker, "./internal/simulate/cmd/mkmaillog"),
	); err != nil {
		return "", err
	}
	load := loadAverage()
	var all []goal
	for _, part := range parts {
		if len(only) > 0 && !slices.Contains(only, part.name) {
			continue
		}
		more, err := part.measure(b)
		if err != nil {
			return "", fmt.Errorf("%s: %w", part.name, err)
		}
		for _, g := range more {
			g.by = cmp.Or(g.by, "go run ./test/bench -goals -only "+part.name)
			all = append(all, g)
		}
	}
	return goalTable(all, load), nil
}

// loadAverage is what other programs do on this machine, in a few words; "" where
// the system does not tell.
func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	minute, _, found := strings.Cut(string(b), " ")
	if err != nil || !found {
		return ""
	}
	return ", load average " + minute + " before the start"
}

func goalTable(all []goal, load string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d cores (%s/%s, %s), on %s%s.\n\n| goal | figure | reached | by itself |\n|---|---|---|---|\n",
		runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), time.Now().UTC().Format("2 January 2006"), load)
	for _, g := range all {
		what, figure, verdict := g.what, short(g.figure)+g.unit, "yes"
		switch {
		case g.needs != "":
			figure, verdict = "not measured: needs "+g.needs, "–"
		case g.bound == 0:
			verdict = "–"
		case !g.reached():
			verdict = "**no**"
		}
		if g.bound > 0 {
			word := "at least"
			if g.most {
				word = "at most"
			}
			what = fmt.Sprintf("%s: %s %s%s", what, word, short(g.bound), g.unit)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | `%s` |\n", what, figure, verdict, strings.ReplaceAll(g.by, "|", `\|`))
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

// The goals of logs are of these sizes.
const smallLog, largeLog = 200e6, 2e9

// logGoals measures whole programs on a log of 2 GB and on its beginning, beside
// others.
func logGoals(b built) ([]goal, error) {
	log := filepath.Join(b.dir, "mail.log")
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	const ours, both, daemon = "report", "report on two cores", "daemon"
	report := []string{b.binary, "report", "-o", "json"}
	one := []string{"GOMAXPROCS=1"}
	programs := map[string]program{
		ours:        {env: one, args: report},
		both:        {env: []string{"GOMAXPROCS=2"}, args: report},
		daemon:      {env: one, args: report, run: catchUp(b.binary)},
		"wc":        {args: []string{"wc", "-l"}},
		"mawk":      {args: []string{"mawk", `/ status=/ { match($0, /to=<[^>]*/); to = substr($0, RSTART + 4, RLENGTH - 4); sub(/.*@/, "", to); match($0, /dsn=[0-9.]+/); n[to " " substr($0, RSTART + 4, RLENGTH - 4)]++ } END { for (k in n) print k, n[k] }`}},
		"pflogsumm": {args: []string{"pflogsumm"}},
		"mtail":     mtail,
		"exporter":  exporter,
		"regexps":   {args: []string{self, "-regexps"}},
	}
	figures := map[int64]map[string][]figure{smallLog: {}, largeLog: {}}
	_, err = growing(b.maker, log, daysAgo(4), []int64{smallLog, largeLog}, func(size int64) (point, error) {
		of, once := figures[smallLog], []string{"mtail", "exporter"}
		often := []string{ours, "mawk", "regexps"}
		if size >= largeLog {
			of, once, often = figures[largeLog], []string{"pflogsumm", daemon}, []string{"wc", "mawk", ours, both}
		}
		for round := range goalRounds {
			for _, name := range slices.Concat(often, once) {
				p := programs[name]
				if _, err := exec.LookPath(p.args[0]); err != nil || round > 0 && slices.Contains(once, name) {
					continue
				}
				f, err := p.measured(log)
				if err != nil {
					return point{}, fmt.Errorf("%s: %w", name, err)
				}
				of[name] = append(of[name], f)
			}
		}
		return point{}, nil
	})
	if err != nil {
		return nil, err
	}
	wall := func(size int64, name string) float64 {
		return median(figures[size][name], func(f figure) float64 { return f.wall.Seconds() })
	}
	rss := func(size int64) float64 {
		return median(figures[size][ours], func(f figure) float64 { return float64(f.rss) / 1024 })
	}
	beside := func(size int64, what, name string, least float64) goal {
		g := goal{what: what, bound: least, unit: " times its speed"}
		if len(figures[size][name]) == 0 {
			command := programs[name].args[0]
			g.needs = fmt.Sprintf("%s (apt-get install %[1]s)", command)
			return g
		}
		g.figure = wall(size, name) / wall(size, ours)
		return g
	}
	return []goal{
		beside(largeLog, "report on one core, of a log of 2 GB, beside pflogsumm", "pflogsumm", 50),
		{what: "… beside `wc -l`", bound: 8, most: true, unit: " times its time", figure: wall(largeLog, ours) / wall(largeLog, "wc")},
		{what: "… on two cores, beside `wc -l`", bound: 5, most: true, unit: " times its time", figure: wall(largeLog, both) / wall(largeLog, "wc")},
		{what: "… on two cores, beside one", bound: 1.5, unit: " times its speed", figure: wall(largeLog, ours) / wall(largeLog, both)},
		beside(largeLog, "… beside mawk counting by domain and status code", "mawk", 0),
		{what: "… memory at the most", bound: 64, most: true, unit: " MB", figure: rss(largeLog)},
		{what: "… memory for 2 GB, beside 200 MB", bound: 1.1, most: true, unit: " times", figure: rss(largeLog) / rss(smallLog)},
		beside(smallLog, "report on one core, of 200 MB, start included, beside mtail", "mtail", 50),
		beside(smallLog, "… beside mawk", "mawk", 1),
		{what: "… beside Lightmeter's parser, which only parses", bound: 3, unit: " times its speed", needs: "gitlab.com/lightmeter/controlcenter, which the Go module proxy does not have"},
		beside(smallLog, "… beside prometheus-postfix-exporter, which only counts", "exporter", 0),
		beside(smallLog, "… beside two expressions of Go's regexp for each line, which only count", "regexps", 0),
		{what: "daemon that catches up on 2 GB, on one core, beside the report", bound: 0.7, unit: " times its speed", figure: wall(largeLog, ours) / wall(largeLog, daemon)},
	}, nil
}

// latencyGoal is how long a line takes from the log to /metrics, at the most.
func latencyGoal(b built) (all []goal, err error) {
	log, config := filepath.Join(b.dir, "live.log"), filepath.Join(b.dir, "live.yaml")
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("sources:\n  - {name: live, kind: tail, paths: [%s]}\nledger: {sqlite: %s/live.db}\nhttp: {listen: %q}\n", log, b.dir, address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(b.binary, "run", "-c", config)
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
func stageGoals(built) ([]goal, error) {
	const parsers, classify = "go test -run xxx -bench 'MTA|Mapped|Records|EncodingJSON' -cpu 1 ./sources/dialect", "go test -run xxx -bench Classify -cpu 1 ./classifier"
	d, err := benchmarks("./sources/dialect", "MTA|Mapped|Records|EncodingJSON", "-benchtime", "3000x", "-count", "5")
	if err != nil {
		return nil, err
	}
	c, err := benchmarks("./classifier", "Classify/(cached|uncached|expressions)", "-count", "3")
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
		{what: "… beside the same rules as a list of Go's regular expressions", bound: 300, unit: " times its speed", figure: c["Classify/expressions ns/op"] / c["Classify/cached ns/op"], by: classify},
	}, nil
}

// memoryGoals takes what the tests of memory tell.
func memoryGoals(built) (all []goal, err error) {
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
