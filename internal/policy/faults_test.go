package policy

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The tests that docs/faults.md rests on exist, and it has a row for every fault.
func TestFaultsAreTried(t *testing.T) {
	table, docs := read(t, "test/faults/table.go"), read(t, "docs/faults.md")
	tests := regexp.MustCompile(`"((?:[a-z0-9]+/)+)(Test\w+)"`).FindAllStringSubmatch(table, -1)
	if len(tests) < 40 {
		t.Fatalf("only %d tests found", len(tests))
	}
	for _, m := range tests {
		files, err := filepath.Glob(filepath.Join(root, m[1], "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, name := range files {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			found = found || strings.Contains(string(b), "\nfunc "+m[2]+"(t *testing.T)")
		}
		if !found {
			t.Errorf("test/faults/table.go: there is no %s in %s", m[2], path.Clean(m[1]))
		}
	}
	for _, m := range regexp.MustCompile(`name: +"([^"]+)"`).FindAllStringSubmatch(table, -1) {
		if !strings.Contains(docs, "\n| "+m[1]+" |") {
			t.Errorf("docs/faults.md has no row %q; make it anew: go run ./test/faults -write docs/faults.md", m[1])
		}
	}
}
