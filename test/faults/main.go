// Command faults tries every fault that is promised to do no harm, with the real
// program and, as far as they are there, with real servers, and prints what came
// of it. With -write it makes docs/faults.md of that.
//
//	go run ./test/faults              what needs no more than a minute each
//	go run ./test/faults -full        all of it, for an hour or so
//	go run ./test/faults -full -only bombs -write docs/faults.md
//	                                  one row, anew in the page
//
// The tests are those of this and other packages, which the table names; what they
// report about what they did starts with "figure: ".
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"
)

// figureMark begins what a test reports for the table.
const figureMark = "figure: "

// result is what came of one test.
type result struct {
	status  string // pass, fail, skip
	took    float64
	figures []string
	skipped string // why
	said    []byte // the end of what it printed
}

func main() {
	full := flag.Bool("full", false, "try everything at full length")
	write := flag.String("write", "", "write the table to this `file`")
	only := flag.String("only", "", "only the faults whose name contains this `text`")
	from := flag.String("from", "", "take the results from this `file`, made with -keep, instead of running the tests")
	own := flag.Bool("own", false, "only the tests of this package: what go test ./... runs anyway is left out")
	keep := flag.String("keep", "", "keep what the tests say in this `file`")
	flag.Parse()
	if err := run(*full, *own, *only, *write, *from, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

func run(full, own bool, only, write, from, keep string) error {
	var chosen []fault
	for _, f := range faults {
		if own {
			f.tests = slices.DeleteFunc(slices.Clone(f.tests), func(t string) bool { return !strings.HasPrefix(t, "test/faults/") })
		}
		if strings.Contains(f.name, only) && (!own || len(f.tests) > 0) {
			chosen = append(chosen, f)
		}
	}
	results := make(map[string]*result) // by package and test
	if from != "" {
		b, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := parse(bytes.NewReader(b), results); err != nil {
			return err
		}
	} else if err := try(chosen, full, keep, results); err != nil {
		return err
	}
	failed := 0
	for _, f := range chosen {
		verdict, note := judge(f, results)
		if verdict == "FAILS" {
			failed++
		}
		fmt.Printf("%-8s %s\n", verdict, f.name)
		if note != "" {
			fmt.Printf("         %s\n", strings.ReplaceAll(note, "<br>", "\n         "))
		}
		if verdict == "FAILS" {
			for _, t := range f.tests {
				if r := results[t]; r != nil && r.status == "fail" {
					fmt.Printf("%s\n", r.said)
				}
			}
		}
	}
	if write != "" {
		text := page(chosen, results, full)
		if only != "" || own {
			old, err := os.ReadFile(write)
			if err != nil {
				return err
			}
			text = renew(old, chosen, results, full)
		}
		if err := os.WriteFile(write, text, 0o644); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d faults do harm", failed, len(chosen))
	}
	return nil
}

// try runs the tests of the faults, package by package.
func try(chosen []fault, full bool, keep string, results map[string]*result) error {
	tests := make(map[string][]string)
	var packages []string
	for _, f := range chosen {
		for _, t := range f.tests {
			pkg, name := path.Split(t)
			if tests[pkg] == nil {
				packages = append(packages, pkg)
			}
			if !slices.Contains(tests[pkg], name) {
				tests[pkg] = append(tests[pkg], name)
			}
		}
	}
	kept := io.Discard
	if keep != "" {
		f, err := os.Create(keep)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		kept = f
	}
	form := "FAULTS=short"
	if full {
		form = "FAULTS=full"
	}
	for _, pkg := range packages {
		fmt.Fprintf(os.Stderr, "%s: %d tests\n", pkg, len(tests[pkg]))
		cmd := exec.Command("go", "test", "-json", "-v", "-count=1", "-timeout", "3h", "-run", "^("+strings.Join(tests[pkg], "|")+")$", "./"+pkg)
		cmd.Env = append(os.Environ(), form)
		var output bytes.Buffer
		cmd.Stdout, cmd.Stderr = io.MultiWriter(&output, kept), os.Stderr
		runErr := cmd.Run() // a failed test is a result
		before := len(results)
		if err := parse(&output, results); err != nil {
			return err
		}
		if runErr != nil && len(results) == before {
			return fmt.Errorf("test %s: %w", pkg, runErr)
		}
	}
	return nil
}

// maxSaid is how much of what a failed test printed is shown.
const maxSaid = 4000

// module is what package names begin with.
const module = "github.com/bouncemeter/bouncemeter/"

// parse takes the results out of what go test -json says.
func parse(r io.Reader, results map[string]*result) error {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 64<<20)
	last := make(map[string]string) // by test, what may be why it is skipped
	for s.Scan() {
		var e struct {
			Action, Package, Test, Output string
			Elapsed                       float64
		}
		if err := json.Unmarshal(s.Bytes(), &e); err != nil || e.Test == "" {
			continue // what the build says
		}
		name, sub, _ := strings.Cut(e.Test, "/")
		key := strings.TrimPrefix(e.Package, module) + "/" + name
		res := results[key]
		if res == nil {
			res = new(result)
			results[key] = res
		}
		switch e.Action {
		case "output":
			res.said = append(res.said, e.Output...)
			res.said = res.said[max(0, len(res.said)-maxSaid):]
			if _, text, ok := strings.Cut(e.Output, figureMark); ok {
				res.figures = append(res.figures, strings.TrimSpace(text))
			}
			if _, text, ok := strings.Cut(e.Output, ".go:"); ok {
				_, last[key], _ = strings.Cut(strings.TrimSpace(text), ": ")
			}
		case "pass", "fail", "skip":
			if sub == "" {
				res.status, res.took = e.Action, e.Elapsed
			}
			if e.Action == "skip" {
				res.skipped = last[key]
			}
		}
	}
	return s.Err()
}

// judge says how a fault went, and what is to be known about it.
func judge(f fault, results map[string]*result) (verdict, note string) {
	passed, untried := 0, 0
	var failed, notes []string
	for _, t := range f.tests {
		r := results[t]
		switch {
		case r == nil:
			untried++
			notes = append(notes, path.Base(t)+" was not run")
			continue
		case r.status == "skip":
			notes = append(notes, path.Base(t)+" skipped: "+r.skipped)
		case r.status == "pass":
			passed++
		default:
			failed = append(failed, path.Base(t))
		}
		notes = append(notes, r.figures...)
	}
	note = strings.Join(notes, "<br>")
	switch {
	case len(failed) > 0:
		return "FAILS", strings.Join(failed, ", ") + "<br>" + note
	case untried == len(f.tests):
		return "untried", ""
	case passed == 0:
		return "skipped", note
	case f.loses != "":
		return "as told", note
	}
	return "holds", note
}

// page is docs/faults.md.
func page(chosen []fault, results map[string]*result, full bool) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<!-- Made by go run ./test/faults -write docs/faults.md; change test/faults/table.go. -->
# Faults

What can go wrong, what is promised then, how that was tried, and what came of it.
The numbers are compared with a count of its own that knows nothing of the program
(test/internal/oracle), and with a one-shot report of everything that was written.

Run on %s: %s/%s, %d processors, %s. The figures tell for how long.
Rows that say so were tried at full length (go run ./test/faults -full).

| fault | what is promised | how it is tried | result |
|---|---|---|---|
`, time.Now().UTC().Format("2 January 2006"), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	for _, f := range chosen {
		b.WriteString(row(f, results, full))
	}
	b.WriteString(notes)
	return b.Bytes()
}

// row is the line of a fault.
func row(f fault, results map[string]*result, full bool) string {
	verdict, note := judge(f, results)
	promise := f.promise
	if f.loses != "" {
		promise += " **Lost:** " + f.loses
	}
	var tests []string
	for _, t := range f.tests {
		tests = append(tests, "`"+t+"`")
	}
	result := "**" + verdict + "**"
	if full {
		result += ", at full length"
	}
	if note != "" {
		result += "<br>" + cell(note)
	}
	return fmt.Sprintf("| %s | %s | %s<br>%s | %s |\n", f.name, promise, f.how, strings.Join(tests, "<br>"), result)
}

// renew puts the rows of the chosen faults into the page that there is, each at its
// place in the table.
func renew(old []byte, chosen []fault, results map[string]*result, full bool) []byte {
	const head = "|---|---|---|---|\n"
	before, rest, _ := strings.Cut(string(old), head)
	rows := make(map[string]string)
	for strings.HasPrefix(rest, "| ") {
		line, after, _ := strings.Cut(rest, "\n")
		name, _, _ := strings.Cut(line[2:], " |")
		rows[name], rest = line+"\n", after
	}
	for _, f := range chosen {
		rows[f.name] = row(f, results, full)
	}
	var b bytes.Buffer
	b.WriteString(before + head)
	for _, f := range faults {
		b.WriteString(rows[f.name])
	}
	b.WriteString(rest)
	return b.Bytes()
}

func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "<br>", "<br>", "<", "&lt;", ">", "&gt;").Replace(s)
}
