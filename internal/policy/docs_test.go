package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/config"
	"github.com/bouncemeter/bouncemeter/sinks/counts"
	"github.com/bouncemeter/bouncemeter/sinks/suppression"
	"github.com/bouncemeter/bouncemeter/sources/dialect"
)

func TestEveryDialectHasCasesAndDocs(t *testing.T) {
	docs := read(t, "docs/dialects.md")
	for _, name := range dialect.Names() {
		if strings.TrimSpace(read(t, "sources/dialect/testdata/"+name+".txtar")) == "" {
			t.Errorf("sources/dialect/testdata/%s.txtar has no cases", name)
		}
		if !strings.Contains(docs, "\n| `"+name+"` |") {
			t.Errorf("docs/dialects.md has no row for %s", name)
		}
	}
	cases, err := filepath.Glob(filepath.Join(root, "sources/dialect/testdata/*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range cases {
		if name := strings.TrimSuffix(filepath.Base(file), ".txtar"); !slices.Contains(dialect.Names(), name) {
			t.Errorf("%s belongs to no dialect", file)
		}
	}
}

// The tour passes every package; programs that only generate say themselves what
// they do.
func TestDesignNamesEveryPackage(t *testing.T) {
	design := read(t, "docs/design.md")
	told := make(map[string]bool)
	for _, f := range goFiles(t) {
		folder := f.folder()
		if f.test || f.ast.Name.Name == "main" || strings.HasPrefix(folder, "test/") || told[folder] {
			continue
		}
		told[folder] = true
		if !strings.Contains(design, "`"+folder+"`") {
			t.Errorf("docs/design.md does not name %s", folder)
		}
	}
}

// Beside the reference of the settings, what each kind is for is told where
// people look for it.
func TestEveryKindHasDocs(t *testing.T) {
	for _, test := range []struct {
		of          reflect.Type
		field, docs string
	}{
		{reflect.TypeFor[config.Sink](), "Kind", "docs/sinks.md"},
		{reflect.TypeFor[config.Notifier](), "Kind", "docs/alerts.md"},
		{reflect.TypeFor[config.Source](), "Verify", "docs/receiving.md"},
	} {
		f, _ := test.of.FieldByName(test.field)
		docs := read(t, test.docs)
		for word := range strings.SplitSeq(f.Tag.Get("enum"), ",") {
			if !strings.Contains(docs, "kind: "+word) && !strings.Contains(docs, "`"+word+"`") {
				t.Errorf("%s does not tell of %s", test.docs, word)
			}
		}
	}
}

// What the configuration allows the program makes.
func TestEveryKindIsMade(t *testing.T) {
	for file, of := range map[string]reflect.Type{
		"internal/app/build.go":  reflect.TypeFor[config.Source](),
		"internal/app/sinks.go":  reflect.TypeFor[config.Sink](),
		"internal/app/notify.go": reflect.TypeFor[config.Notifier](),
	} {
		f, _ := of.FieldByName("Kind")
		code := read(t, file)
		for word := range strings.SplitSeq(f.Tag.Get("enum"), ",") {
			if !regexp.MustCompile(`\n\t+case .*"` + word + `".*:\n`).MatchString(code) {
				t.Errorf("%s has no case of kind %s", file, word)
			}
		}
	}
}

func TestCategoriesAreCounted(t *testing.T) {
	if want := fmt.Sprintf("%d categories", len(event.Categories())); !strings.Contains(read(t, "README.md"), want) {
		t.Errorf("README.md does not say that there are %s", want)
	}
}

func TestExamplesLoad(t *testing.T) {
	examples := 0
	files(t, func(name string) {
		yamlFile := slices.Contains([]string{".yaml", ".yml"}, path.Ext(name))
		switch {
		case path.Dir(name) == "configs" && yamlFile:
			examples++
			if _, err := config.Parse("/"+name, []byte(read(t, name)), nil, nil); err != nil {
				t.Error(err)
			}
		case strings.HasPrefix(name, "configs/") && yamlFile, name == "docker-compose.yml", name == ".golangci.yml":
			var v map[string]any
			if err := yaml.Unmarshal([]byte(read(t, name)), &v); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case path.Ext(name) == ".md":
			for i, block := range blocks(read(t, name), "yaml") {
				if !strings.HasPrefix(block, "sources:") && !strings.Contains(block, "\nsources:") {
					continue
				}
				if _, err := config.Parse(fmt.Sprintf("%s (block %d)", name, i+1), []byte(block), nil, nil); err != nil {
					t.Error(err)
				}
			}
		}
	})
	if examples == 0 {
		t.Error("there is no example in configs/")
	}
}

// blocks returns the fenced code blocks of a language.
func blocks(markdown, language string) []string {
	var all []string
	for _, part := range strings.Split("\n"+markdown, "\n```"+language+"\n")[1:] {
		block, _, _ := strings.Cut(part, "\n```")
		all = append(all, block+"\n")
	}
	return all
}

// The schemas that others rely on have what is written.
func TestSchemasHaveWhatIsWritten(t *testing.T) {
	members := func(v any) []string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var all map[string]any
		if err := json.Unmarshal(b, &all); err != nil {
			t.Fatal(err)
		}
		return slices.Sorted(maps.Keys(all))
	}
	for name, written := range map[string]struct{ least, most any }{
		"configs/count.schema.json":       {counts.Row{}, counts.Row{}},
		"configs/suppression.schema.json": {suppression.Entry{}, suppression.Entry{First: time.Unix(1, 0), Code: 1, Enhanced: "a", Text: "a"}},
	} {
		var schema struct {
			Required   []string
			Properties map[string]any
		}
		if err := json.Unmarshal([]byte(read(t, name)), &schema); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(members(written.least), slices.Sorted(slices.Values(schema.Required))); diff != "" {
			t.Errorf("%s: -always written +required:\n%s", name, diff)
		}
		if diff := cmp.Diff(members(written.most), slices.Sorted(maps.Keys(schema.Properties))); diff != "" {
			t.Errorf("%s: -ever written +properties:\n%s", name, diff)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)\s]*)?\)`)

func TestLinksInDocumentsLeadSomewhere(t *testing.T) {
	files(t, func(name string) {
		if path.Ext(name) != ".md" {
			return
		}
		for _, m := range link.FindAllStringSubmatch(read(t, name), -1) {
			if strings.Contains(m[1], ":") {
				continue // to another site
			}
			if _, err := os.Stat(filepath.Join(root, path.Dir(name), m[1])); err != nil {
				t.Errorf("%s links to %s, which does not exist", name, m[1])
			}
		}
	})
}

func TestDecisionsAreNumbered(t *testing.T) {
	records, err := filepath.Glob(filepath.Join(root, "docs/decisions/*.md"))
	if err != nil || len(records) == 0 {
		t.Fatalf("no records: %v", err)
	}
	for i, file := range records {
		name := filepath.Base(file)
		if !strings.HasPrefix(name, fmt.Sprintf("%04d-", i+1)) {
			t.Errorf("%s has not the number %04d", name, i+1)
		}
		if !strings.HasPrefix(read(t, "docs/decisions/"+name), fmt.Sprintf("# %d. ", i+1)) {
			t.Errorf("%s does not start with %q", name, fmt.Sprintf("# %d. ", i+1))
		}
	}
}

// A path of somebody's machine is of no use on another.
func TestNoPathsOfOneMachine(t *testing.T) {
	personal := regexp.MustCompile(`(^|[^\w./-])/(` + `work|root|home|Users)/\w`)
	files(t, func(name string) {
		text := read(t, name)
		if strings.Contains(text, "\x00") {
			return // a program or a compressed log
		}
		for i, line := range strings.Split(text, "\n") {
			if personal.MatchString(line) && !strings.HasPrefix(name, "internal/policy/") {
				t.Errorf("%s:%d: a path of one machine: %.120s", name, i+1, line)
			}
		}
	})
}
