// Command gen writes the reference of the configuration and its JSON schema
// from the structs of package config: their comments, tags and defaults.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/bouncemeter/bouncemeter/internal/config"
)

func main() {
	structs := flag.String("structs", ".", "folder of package config")
	referenceFile := flag.String("reference", "", "Markdown file to write")
	schemaFile := flag.String("schema", "", "JSON schema to write")
	flag.Parse()
	if err := run(*structs, *referenceFile, *schemaFile); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(structs, referenceFile, schemaFile string) error {
	root, err := describe(structs)
	if err != nil {
		return err
	}
	if err := os.WriteFile(referenceFile, reference(root), 0o644); err != nil {
		return err
	}
	data, err := schema(root)
	if err != nil {
		return err
	}
	return os.WriteFile(schemaFile, data, 0o644)
}

// setting is one key of the configuration.
type setting struct {
	key     string
	doc     string // the field's comment on one line
	typ     reflect.Type
	words   []string // those allowed, if only some are
	value   reflect.Value
	fields  []setting // of a group, or of the items of a list of groups
	needed  []string  // keys that the items of a list need
	ofItems bool      // fields belong to the items of a list
}

// describe reads the settings from the structs in dir.
func describe(dir string) (setting, error) {
	docs, err := comments(dir)
	if err != nil {
		return setting{}, err
	}
	defaults := config.Default()
	root := setting{typ: reflect.TypeFor[config.Config](), value: reflect.ValueOf(defaults)}
	if root.fields, err = fields(root.value, docs); err != nil {
		return setting{}, err
	}
	return root, nil
}

// items says of the types of lists what an item is where nothing is said, and
// which keys it needs.
var items = map[reflect.Type]struct {
	byDefault reflect.Value
	needed    []string
}{
	reflect.TypeFor[config.Source]():   {reflect.ValueOf(config.DefaultSource()), []string{"name", "kind"}},
	reflect.TypeFor[config.Alert]():    {reflect.ValueOf(config.DefaultAlert()), []string{"name"}},
	reflect.TypeFor[config.Notifier](): {reflect.ValueOf(config.DefaultNotifier()), []string{"kind"}},
	reflect.TypeFor[config.Sink]():     {reflect.ValueOf(config.DefaultSink()), []string{"kind"}},
}

func fields(v reflect.Value, docs map[string]string) ([]setting, error) {
	var all []setting
	for i := range v.NumField() {
		f := v.Type().Field(i)
		s := setting{key: f.Tag.Get("yaml"), doc: docs[v.Type().Name()+"."+f.Name], typ: f.Type, value: v.Field(i)}
		if s.key == "-" {
			continue
		}
		if s.doc == "" {
			return nil, fmt.Errorf("%s.%s has no comment: it is the manual", v.Type().Name(), f.Name)
		}
		if words := f.Tag.Get("enum"); words != "" {
			s.words = strings.Split(words, ",")
		}
		if s.key == "dialect" {
			s.words = config.Dialects()
		}
		// Go's comments start with the field's Go name; readers know the key.
		if rest, ok := strings.CutPrefix(s.doc, f.Name); ok && strings.IndexAny(rest, " :") == 0 {
			s.doc = "`" + s.key + "`" + rest
		}
		var err error
		switch {
		case f.Type.Kind() == reflect.Struct:
			s.fields, err = fields(v.Field(i), docs)
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
			item := items[f.Type.Elem()]
			s.fields, err = fields(item.byDefault, docs)
			s.needed, s.ofItems = item.needed, true
		}
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// comments returns the comments of all struct fields in dir by "Type.Field".
func comments(dir string) (map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	docs := make(map[string]string)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		for _, decl := range f.Decls {
			types, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range types.Specs {
				t, ok := spec.(*ast.TypeSpec)
				if !ok {
					continue
				}
				s, ok := t.Type.(*ast.StructType)
				if !ok {
					continue
				}
				for _, field := range s.Fields.List {
					for _, name := range field.Names {
						docs[t.Name.Name+"."+name.Name] = strings.Join(strings.Fields(field.Doc.Text()), " ")
					}
				}
			}
		}
	}
	return docs, nil
}

// reference returns the manual of all settings as Markdown.
func reference(root setting) []byte {
	var b bytes.Buffer
	b.WriteString(`<!-- Generated from internal/config by go generate; change the comments there. -->
# Configuration

The daemon reads one YAML file (` + "`bouncemeter run -c FILE`" + `), then environment variables, then command line flags, each over the one before. ` + "`bouncemeter check -c FILE`" + ` lists all faults at once. An unknown key is an error.

- Durations have a unit: ` + "`500ms`, `30s`, `12h`, `8d`" + `. Sizes too: ` + "`64KiB`, `16MiB`" + `. Numbers, durations and sizes are above zero.
- Relative paths in the file start at the file's folder; elsewhere at the folder that the daemon was started in.
- Environment variables are named by the path: ` + "`BOUNCEMETER_HTTP__LISTEN=:9725`" + ` sets ` + "`http.listen`" + `. Two underscores separate levels, and a number picks an item of a list: ` + "`BOUNCEMETER_SOURCES__0__PATHS=/var/log/mail.log,/var/log/mail2.log`" + `. An empty variable counts as not set.
- Editors complete and check the file by its schema, configs/schema.json, if its first line is ` + "`# yaml-language-server: $schema=PATH-OR-URL`" + `.
`)
	for _, s := range root.fields {
		writeSetting(&b, "", s, 2)
	}
	return b.Bytes()
}

func writeSetting(b *bytes.Buffer, path string, s setting, level int) {
	path += s.key
	if s.fields == nil {
		fmt.Fprintf(b, "- **`%s`** (%s%s)<br>%s\n", path, typeName(s), defaultText(s), s.doc)
		return
	}
	if s.ofItems {
		path += "[]"
	}
	fmt.Fprintf(b, "\n%s %s\n\n%s\n\n", strings.Repeat("#", level), path, s.doc)
	var groups []setting
	for _, f := range s.fields {
		if f.fields != nil {
			groups = append(groups, f)
			continue
		}
		writeSetting(b, path+".", f, level+1)
	}
	for _, g := range groups {
		writeSetting(b, path+".", g, level+1)
	}
}

func typeName(s setting) string {
	switch s.typ {
	case reflect.TypeFor[time.Duration]():
		return "duration"
	case reflect.TypeFor[config.Size]():
		return "size"
	}
	switch {
	case s.words != nil && s.typ.Kind() == reflect.Slice:
		return "list of `" + strings.Join(s.words, "`, `") + "`"
	case s.words != nil:
		return "`" + strings.Join(s.words, "`, `") + "`"
	case s.typ.Kind() == reflect.Slice:
		return "list of texts"
	case s.typ.Kind() == reflect.Int, s.typ.Kind() == reflect.Float64:
		return "number"
	case s.typ.Kind() == reflect.Bool:
		return "true or false"
	}
	return "text"
}

// defaultText is "" where there is no default.
func defaultText(s setting) string {
	if s.value.IsZero() && s.typ.Kind() != reflect.Bool {
		return ""
	}
	return fmt.Sprintf(", default `%v`", plain(s.value))
}

// plain returns a value as it is written in the file.
func plain(v reflect.Value) any {
	switch x := v.Interface().(type) {
	case time.Duration:
		return config.FormatDuration(x)
	case config.Size:
		return x.String()
	default:
		return x
	}
}

// schema returns the JSON schema of the configuration file.
func schema(root setting) ([]byte, error) {
	s := schemaOf(root)
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "bouncemeter configuration"
	s["required"] = []string{"sources"}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(s)
	return b.Bytes(), err
}

func schemaOf(s setting) map[string]any {
	m := make(map[string]any)
	switch {
	case s.fields != nil:
		properties := make(map[string]any)
		for _, f := range s.fields {
			properties[f.key] = schemaOf(f)
		}
		m["type"] = "object"
		m["properties"] = properties
		m["additionalProperties"] = false
		if s.ofItems {
			m["required"] = s.needed
			m = map[string]any{"type": "array", "items": m}
			if s.key == "sources" {
				m["minItems"] = 1
			}
		}
	case s.typ == reflect.TypeFor[time.Duration]():
		m["type"] = "string"
		m["pattern"] = `^([0-9]+d)?([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))*$`
	case s.typ == reflect.TypeFor[config.Size]():
		m["type"] = "string"
		m["pattern"] = `^[0-9]+ *(B|KiB|MiB|GiB)$`
	case s.typ.Kind() == reflect.Slice:
		m["type"] = "array"
		words := map[string]any{"type": "string"}
		if s.words != nil {
			words["enum"] = s.words
		}
		m["items"] = words
	case s.typ.Kind() == reflect.Int:
		m["type"] = "integer"
		m["minimum"] = 1
	case s.typ.Kind() == reflect.Float64:
		m["type"] = "number"
		m["exclusiveMinimum"] = 0
	case s.typ.Kind() == reflect.Bool:
		m["type"] = "boolean"
	default:
		m["type"] = "string"
	}
	if s.words != nil && s.typ.Kind() != reflect.Slice {
		m["enum"] = s.words
	}
	if s.doc != "" {
		m["description"] = s.doc
	}
	if s.fields == nil && defaultText(s) != "" {
		m["default"] = plain(s.value)
	}
	return m
}
