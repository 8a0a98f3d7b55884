package policy

import (
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
)

// layer says what a package may import. Its tests are free.
type layer struct {
	folder string   // a pattern of package path
	ours   []string // patterns of the project's packages; cmd is never among them
	// pure packages take values and return values: no file, network, clock, log
	// or context, and no modules but these.
	pure    bool
	modules []string
}

// layers are in order: the first that matches a package's folder holds.
var layers = []layer{
	{folder: "event", pure: true},
	{folder: "event/record", ours: []string{"event"}, pure: true},
	{folder: "sources/dialect", ours: []string{"event"}, pure: true},
	{folder: "sources/dialect/message", ours: []string{"event"}, pure: true, modules: []string{"github.com/emersion/go-message", "github.com/emersion/go-message/charset"}},
	{folder: "pipeline/correlate", ours: []string{"event", "internal/short"}, pure: true, modules: []string{"github.com/cespare/xxhash/v2"}},
	{folder: "pipeline/window", ours: []string{"event", "internal/short"}, pure: true, modules: []string{"github.com/cespare/xxhash/v2"}},
	{folder: "pipeline/spike", ours: []string{"event", "pipeline/window"}, pure: true},
	{folder: "pipeline/detect", ours: []string{"ledger", "pipeline/spike"}},
	// The classifier is pure but for the rule files that it reads when it is made.
	{folder: "classifier", ours: []string{"event"}},
	{folder: "classifier/internal/categories", ours: []string{"event"}},
	{folder: "classifier/ruleimport", ours: []string{"classifier", "event"}},
	{folder: "classifier/mine", ours: []string{"classifier", "event"}},
	{folder: "ledger", ours: []string{"event", "pipeline/window"}},
	{folder: "ledger/*", ours: []string{"event", "internal/durable", "ledger", "ledger/internal/counts", "pipeline/window"}},
	{folder: "ledger/internal/counts", ours: []string{"ledger", "pipeline/window"}, pure: true},
	{folder: "pipeline", ours: []string{"event", "ledger", "pipeline/*", "sources/dialect"}},
	{folder: "sources/kafka", ours: []string{"event", "internal/kafkaclient"}},
	{folder: "sources/smtp", ours: []string{"event", "sources/mailbox"}},
	{folder: "sources/webhook", ours: []string{"event", "sources/spool"}},
	{folder: "sources/syslog", ours: []string{"event", "sources/spool"}},
	{folder: "sources/*", ours: []string{"event", "internal/durable"}},
	{folder: "sinks/kafka", ours: []string{"event", "event/record", "internal/kafkaclient", "ledger", "pipeline", "pipeline/window"}},
	{folder: "sinks/notify", ours: []string{"event", "internal/durable", "ledger", "ledger/alertjson"}},
	{folder: "sinks/counts", ours: []string{"ledger"}},
	{folder: "sinks/suppression", ours: []string{"event", "pipeline"}},
	// A sink takes what the pipeline hands out, in the pipeline's types.
	{folder: "sinks/*", ours: []string{"event", "event/record", "internal/durable", "ledger", "pipeline", "pipeline/window"}},
	{folder: "web", ours: []string{"classifier", "classifier/mine", "event", "internal/chart", "internal/report", "ledger", "ledger/alertjson", "ledger/cache", "pipeline/window"}},
	{folder: "internal/chart", pure: true, modules: []string{"github.com/dustin/go-humanize"}},
	{folder: "internal/config", ours: []string{"event", "internal/kafkaclient", "ledger", "ledger/alertjson", "ledger/postgres", "sinks/notify", "sinks/suppression", "sources/dialect", "sources/journal", "sources/syslog", "sources/webhook"}},
	{folder: "internal/config/gen", ours: []string{"internal/config", "sources/dialect"}},
	{folder: "internal/report", ours: []string{"event", "internal/chart", "ledger", "pipeline/window"}},
	{folder: "internal/digest", ours: []string{"event", "ledger", "ledger/alertjson", "pipeline/spike"}},
	{folder: "internal/detectbench", ours: []string{"pipeline/spike"}},
	{folder: "internal/simulate", ours: []string{"event"}},
	{folder: "internal/simulate/cmd/*", ours: []string{"event", "internal/simulate"}},
	{folder: "internal/durable"},
	{folder: "internal/failpoint"},
	{folder: "internal/grafana"},
	{folder: "internal/hostile", pure: true},
	{folder: "internal/kafkaclient"},
	{folder: "internal/short", pure: true},
	{folder: "internal/policy"},
	{folder: "internal/sbom"},
	{folder: "internal/testcert"},
	{folder: "internal/app", ours: []string{"*", "*/*", "sources/dialect/message"}},
	{folder: "cmd/*", ours: []string{"*", "*/*", "sources/dialect/message"}},
	// What counts for itself, to compare with, may know nothing of ours.
	{folder: "test/internal/oracle"},
	{folder: "test/internal/*", ours: []string{"internal/simulate", "test/internal/oracle"}},
	{folder: "test/*", ours: []string{"internal/testcert", "test/internal/rig"}},
}

func TestImportsGoOneWay(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		i := slices.IndexFunc(layers, func(l layer) bool { return matches(l.folder, f.folder()) })
		if i < 0 {
			t.Errorf("%s: package %s is not in the table of layers; add it where it belongs", f.name, f.folder())
			continue
		}
		l := layers[i]
		for _, p := range f.imports {
			if ours, ok := strings.CutPrefix(p, module+"/"); ok {
				if ours == "internal/failpoint" && !l.pure {
					continue // nothing, but in programs built to be killed
				}
				allowed := slices.ContainsFunc(l.ours, func(pattern string) bool { return matches(pattern, ours) }) && !strings.HasPrefix(ours, "cmd/")
				if !allowed {
					t.Errorf("%s imports %s; %s may import only %v", f.name, ours, l.folder, l.ours)
				}
				continue
			}
			if l.pure && strings.Contains(strings.Split(p, "/")[0], ".") && !slices.Contains(l.modules, p) {
				t.Errorf("%s imports %s; %s may import only the standard library and %v", f.name, p, l.folder, l.modules)
			}
			if l.pure && slices.Contains([]string{"os", "io/fs", "net", "net/http", "log", "log/slog", "context", "database/sql", "os/exec", "math/rand", "math/rand/v2"}, p) {
				t.Errorf("%s imports %s; %s is pure: hand it values", f.name, p, l.folder)
			}
		}
		if l.pure {
			f.uses("time", []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}, func(n ast.Node, name string) {
				t.Errorf("%s: time.%s; %s is pure: hand it the time", f.at(n), name, l.folder)
			})
		}
	}
}

func matches(pattern, folder string) bool {
	ok, err := path.Match(pattern, folder)
	return ok && err == nil
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	comments := make(map[string][]string) // by folder, the files with a package comment
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		all := comments[f.folder()]
		if f.ast.Doc != nil {
			all = append(all, f.name)
			start := "Package " + f.ast.Name.Name + " "
			if f.ast.Name.Name == "main" {
				start = "Command " + path.Base(f.folder()) + " "
			}
			if text := f.ast.Doc.Text(); !strings.HasPrefix(text, start) {
				t.Errorf("%s: the package comment does not start with %q", f.name, start)
			}
		}
		comments[f.folder()] = all
	}
	for folder, in := range comments {
		if len(in) != 1 {
			t.Errorf("%s has %d package comments, want one: %v", folder, len(in), in)
		}
	}
}

// Sleeping hides a race or a missing signal. Tests sleep in virtual time only;
// those in test/ watch real processes and poll with a deadline.
func TestNobodySleeps(t *testing.T) {
	all := goFiles(t)
	virtual := make(map[string]bool) // folders whose tests use synctest
	for _, f := range all {
		if f.test && f.importsAs("testing/synctest") != "" {
			virtual[f.folder()] = true
		}
	}
	for _, f := range all {
		if strings.HasPrefix(f.name, "test/") || f.test && virtual[f.folder()] {
			continue
		}
		f.uses("time", []string{"Sleep"}, func(n ast.Node, _ string) {
			t.Errorf("%s: time.Sleep; wait for a signal or a timer and the context, and in tests use testing/synctest", f.at(n))
		})
	}
}

// A regular expression on the hot path costs more than all else together. The
// classifier alone has a fallback on them, in the file that compiles rules; the
// import and export of others' rules are no hot path.
func TestNoRegexpOnTheHotPath(t *testing.T) {
	allowed := []string{"classifier/compile.go", "classifier/export.go", "classifier/ruleimport/ruleimport.go"}
	for _, f := range goFiles(t) {
		hot := slices.Contains([]string{"event", "classifier", "pipeline", "sources", "sinks", "ledger"}, strings.Split(f.name, "/")[0])
		if hot && !f.test && f.importsAs("regexp") != "" && !slices.Contains(allowed, f.name) {
			t.Errorf("%s imports regexp", f.name)
		}
	}
}

// Registration by import hides what a program is made of.
func TestNoInitFunctions(t *testing.T) {
	for _, f := range goFiles(t) {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: func init; call it from a list", f.at(fn))
			}
		}
	}
}
