// Command bench measures bouncemeter beside the tools that people use on mail
// logs today: it makes a log, runs every program in turn for some rounds, and
// prints medians and the ratio to wc -l in the same rounds.
//
//	go run ./test/bench                 1 GB, five rounds
//	go run ./test/bench -bytes 100M -slow 20M
//	go run ./test/bench -write docs/performance.md
//
// With -costs it measures what a report costs against the size of the log, from
// 200 MB to 20 GB, which have to fit into the folder for temporary files (TMPDIR),
// and against the number of domains, instead:
//
//	go run ./test/bench -costs docs/costs.svg -write docs/performance.md
//
// With -goals it measures everything that has a goal, and tells what is reached:
//
//	go run ./test/bench -goals -write docs/performance.md
//	go run ./test/bench -goals -only kafka,demo
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
)

// program is one competitor. Its command gets the log as its last argument.
type program struct {
	name string
	env  []string
	args []string
	slow bool   // reads the short log, in one round
	does string // what it works out
	// run replaces measure, for what does not end by itself.
	run func(p program, log string) (figure, error)
}

// measured runs the program once on a log.
func (p program) measured(log string) (figure, error) {
	if p.run != nil {
		return p.run(p, log)
	}
	return measure(p, log)
}

// figure is what one run took.
type figure struct {
	wall, cpu time.Duration
	rss       int64 // KiB
}

func main() {
	size := flag.String("bytes", "1G", "`size` of the log")
	slow := flag.String("slow", "100M", "`size` of the log for programs that take minutes")
	rounds := flag.Int("rounds", 5, "how often each program runs")
	write := flag.String("write", "", "put the table between the markers of this `file`")
	chart := flag.String("costs", "", "measure against size and domains, and draw that into this `file`")
	largest := flag.String("largest", "20G", "`size` of the largest log for -costs")
	wanted := flag.Bool("goals", false, "measure everything that has a goal")
	only := flag.String("only", "", "with -goals: these `parts`, as log,kafka")
	log := flag.String("regexps", "", "be the program that counts this `log` by Go's regexp")
	flag.Parse()
	var err error
	switch {
	case *log != "":
		err = countByRegexps(*log, os.Stdout)
	case *only != "" && !*wanted:
		err = errors.New("-only goes with -goals; add it, or leave -only out")
	case *chart != "":
		err = runCosts(*chart, *largest, *write)
	case *wanted:
		err = runGoals(*only, *write)
	default:
		err = run(*size, *slow, *rounds, *write)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// releaseFlags is what configs/package/build.sh builds the program with.
var releaseFlags = []string{"-trimpath", "-pgo=cmd/bouncemeter/release.pgo"}

// build builds a package of this module.
func build(path, pkg string, flags ...string) error {
	args := append([]string{"build", "-o", path}, flags...)
	if out, err := exec.Command("go", append(args, pkg)...).CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

func run(size, slow string, rounds int, write string) error {
	dir, err := os.MkdirTemp("", "bouncemeter-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "bouncemeter")
	if err := build(binary, "./cmd/bouncemeter", releaseFlags...); err != nil {
		return err
	}
	long, short := filepath.Join(dir, "mail.log"), filepath.Join(dir, "short.log")
	for path, size := range map[string]string{long: size, short: slow} {
		if err := makeLog(path, size); err != nil {
			return err
		}
	}
	var missing []string
	var programs []program
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, p := range competitors(binary, self) {
		if _, err := exec.LookPath(p.args[0]); err != nil {
			missing = append(missing, p.name)
			continue
		}
		programs = append(programs, p)
	}
	figures := make([][]figure, len(programs))
	for round := range rounds {
		for i, p := range programs {
			log := long
			if p.slow {
				if round > 0 {
					continue
				}
				log = short
			}
			f, err := p.measured(log)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			figures[i] = append(figures[i], f)
		}
	}
	table, err := render(programs, figures, long, short, missing, rounds)
	if err != nil {
		return err
	}
	return tell(table, "bench", write)
}

func runCosts(chart, largest, write string) error {
	bytes, err := humanize.ParseBytes(largest)
	if err != nil {
		return fmt.Errorf("-largest: %w", err)
	}
	table, err := costs(chart, int64(bytes))
	if err != nil {
		return err
	}
	return tell(table, "costs", write)
}

func runGoals(only, write string) error {
	if only != "" && write != "" {
		return errors.New("-only: a document shows all goals; leave out -only or -write")
	}
	table, err := goals(strings.FieldsFunc(only, func(r rune) bool { return r == ',' }))
	if err != nil {
		return err
	}
	return tell(table, "goals", write)
}

// tell prints a table and puts it between the markers of its name in a document,
// unless that is "".
func tell(table, name, document string) error {
	fmt.Print(table)
	if document == "" {
		return nil
	}
	return replace(document, name, table)
}

// mtail and exporter are programs that both tables compare with.
var (
	mtail    = program{name: "mtail", args: []string{"mtail", "-one_shot", "-progs", "/usr/share/doc/mtail/examples/postfix.mtail", "-logs"}, slow: true, does: "counters; no senders, no reasons"}
	exporter = program{name: "prometheus-postfix-exporter", args: []string{"prometheus-postfix-exporter"}, run: followed, slow: true, does: "counters; no senders, no reasons"}
)

func competitors(binary, self string) []program {
	return []program{
		{name: "cat", args: []string{"cat"}, does: "nothing"},
		{name: "wc -l", args: []string{"wc", "-l"}, does: "lines"},
		{name: "mawk", args: []string{"mawk", `/ status=/ { match($0, /status=[a-z]+/); s = substr($0, RSTART + 7, RLENGTH - 7); match($0, /dsn=[0-9.]+/); n[s " " substr($0, RSTART + 4, RLENGTH - 4)]++ } END { for (k in n) print k, n[k] }`}, does: "counts by status and dsn; no senders, no reasons"},
		{name: "bouncemeter report, 1 core", env: []string{"GOMAXPROCS=1"}, args: []string{binary, "report", "-o", "json"}, does: "all"},
		{name: "bouncemeter report, 2 cores", env: []string{"GOMAXPROCS=2"}, args: []string{binary, "report", "-o", "json"}, does: "all"},
		{name: "bouncemeter run, catching up, 1 core", env: []string{"GOMAXPROCS=1"}, args: []string{binary}, run: catchUp(binary), does: "all, stored in a ledger, with metrics, pages and detection"},
		{name: "pflogsumm", args: []string{"pflogsumm"}, slow: true, does: "report; no reasons"},
		mtail,
		exporter,
		{name: "Go's regexp", args: []string{self, "-regexps"}, slow: true, does: "counts by status and dsn, by two expressions; no senders, no reasons"},
	}
}

// daysAgo is when a log begins: not so long ago that a ledger would keep it by the
// hour, since then a daemon had less to do, and long enough that it has ended.
func daysAgo(n int) string {
	return time.Now().UTC().AddDate(0, 0, -n).Format(time.RFC3339)
}

func makeLog(path, size string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "run", "./internal/simulate/cmd/mkmaillog", "-start", daysAgo(4), "-bytes", size)
	cmd.Stdout, cmd.Stderr = f, os.Stderr
	return errors.Join(cmd.Run(), f.Close())
}

// measure runs p once; what it prints is read and thrown away.
func measure(p program, log string) (figure, error) {
	cmd := exec.Command(p.args[0], append(slices.Clone(p.args[1:]), log)...)
	cmd.Env = append(os.Environ(), p.env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return figure{}, err
	}
	started := time.Now()
	if err := cmd.Start(); err != nil {
		return figure{}, err
	}
	if _, err := io.Copy(io.Discard, out); err != nil {
		return figure{}, err
	}
	if err := cmd.Wait(); err != nil {
		return figure{}, fmt.Errorf("%w: %s", err, stderr.String())
	}
	return used(cmd.ProcessState, time.Since(started)), nil
}

// used is what a process that has ended took.
func used(s *os.ProcessState, wall time.Duration) figure {
	f := figure{wall: wall, cpu: s.UserTime() + s.SystemTime()}
	if usage, ok := s.SysUsage().(*syscall.Rusage); ok {
		f.rss = int64(usage.Maxrss) //nolint:unconvert // 32 bits on some machines
	}
	return f
}

func render(programs []program, figures [][]figure, long, short string, missing []string, rounds int) (string, error) {
	sizes := map[bool]float64{}
	for slow, path := range map[bool]string{false: long, true: short} {
		info, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		sizes[slow] = float64(info.Size()) / 1e9
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d cores (%s/%s, %s), log of %.2f GB, medians of %d rounds, one after the other in each round; programs marked * read %.2f GB once.\n\n",
		runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), sizes[false], rounds, sizes[true])
	b.WriteString("| program | wall s/GB | × wc -l | CPU s/GB | MB/s | peak MB | what it works out |\n|---|---|---|---|---|---|---|\n")
	perGB := make([]float64, len(programs))
	var wc float64
	for i, p := range programs {
		perGB[i] = median(figures[i], func(f figure) float64 { return f.wall.Seconds() }) / sizes[p.slow]
		if p.name == "wc -l" {
			wc = perGB[i]
		}
	}
	for i, p := range programs {
		mark := ""
		if p.slow {
			mark = " *"
		}
		fmt.Fprintf(&b, "| %s%s | %.3f | %.1f | %.2f | %.0f | %.0f | %s |\n", p.name, mark, perGB[i], perGB[i]/wc,
			median(figures[i], func(f figure) float64 { return f.cpu.Seconds() })/sizes[p.slow], 1000/perGB[i],
			median(figures[i], func(f figure) float64 { return float64(f.rss) / 1024 }), p.does)
	}
	if len(missing) > 0 {
		fmt.Fprintf(&b, "\nNot installed, so not measured: %s.\n", strings.Join(missing, ", "))
	}
	return b.String(), nil
}

func median(figures []figure, value func(figure) float64) float64 {
	var all []float64
	for _, f := range figures {
		all = append(all, value(f))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// replace puts a table between the markers of its name in a document.
func replace(path, name, table string) error {
	begin, end := "<!-- "+name+": begin -->\n", "<!-- "+name+": end -->"
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text := string(b)
	i, j := strings.Index(text, begin), strings.Index(text, end)
	if i < 0 || j < i {
		return fmt.Errorf("%s lacks the markers %q and %q", path, begin, end)
	}
	return os.WriteFile(path, []byte(text[:i+len(begin)]+"\n"+table+"\n"+text[j:]), 0o644)
}
