package policy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/bouncemeter/bouncemeter"

// root is the top of the tree, seen from this package.
const root = "../.."

// goFile is one parsed file of the project.
type goFile struct {
	name    string // from the top of the tree, with slashes
	test    bool
	fset    *token.FileSet
	ast     *ast.File
	imports []string
}

// folder is the file's folder, which for a file of the project names its
// package.
func (f *goFile) folder() string { return path.Dir(f.name) }

// at tells where a node stands.
func (f *goFile) at(n ast.Node) string {
	return f.name + ":" + strconv.Itoa(f.fset.Position(n.Pos()).Line)
}

// importsAs returns the name under which the file knows a package of the
// standard library, or "" if it does not import it.
func (f *goFile) importsAs(name string) string {
	for _, s := range f.ast.Imports {
		if s.Path.Value == strconv.Quote(name) {
			if s.Name != nil {
				return s.Name.Name
			}
			return path.Base(name)
		}
	}
	return ""
}

// uses calls found for each use of pkg.NAME with one of the names.
func (f *goFile) uses(pkg string, names []string, found func(n ast.Node, name string)) {
	local := f.importsAs(pkg)
	if local == "" {
		return
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := selector.X.(*ast.Ident); ok && x.Name == local {
			for _, name := range names {
				if selector.Sel.Name == name {
					found(n, name)
				}
			}
		}
		return true
	})
}

// files calls visit for every file of the tree that belongs to the project,
// with its name from the top.
func files(t *testing.T, visit func(name string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		switch {
		case d.IsDir() && (name == ".git" || name == "bin" || name == "dist"):
			return fs.SkipDir
		case d.Type().IsRegular() && name != ".git": // which a linked work tree has
			visit(name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// goFiles parses the whole project.
func goFiles(t *testing.T) []*goFile {
	t.Helper()
	var all []*goFile
	files(t, func(name string) {
		if path.Ext(name) != ".go" || strings.Contains("/"+name, "/testdata/") {
			return
		}
		f := &goFile{name: name, test: strings.HasSuffix(name, "_test.go"), fset: token.NewFileSet()}
		var err error
		f.ast, err = parser.ParseFile(f.fset, filepath.Join(root, filepath.FromSlash(name)), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range f.ast.Imports {
			p, err := strconv.Unquote(s.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			f.imports = append(f.imports, p)
		}
		all = append(all, f)
	})
	if len(all) < 10 {
		t.Fatalf("only %d Go files below %s", len(all), root)
	}
	return all
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
