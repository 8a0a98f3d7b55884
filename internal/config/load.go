package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"
	yamlv3 "go.yaml.in/yaml/v3"
)

// Prefix starts the names of all environment variables that are read. Two
// underscores separate levels, a number picks an item of a list:
// BOUNCEMETER_SOURCES__0__PATHS=/var/log/mail.log. A list of texts may also be
// given whole, separated by commas. An empty variable counts as not set.
const Prefix = "BOUNCEMETER_"

// maxFile bounds the configuration file, which is read whole.
const maxFile = 1 << 20

// Load reads the file at path, lays env (in the form of os.Environ) and flags
// (by path, such as "http.listen") over it, and checks the result and what it
// refers to on this machine. An empty path means no file. If anything is wrong
// the error is Faults with all of it.
func Load(path string, env []string, flags map[string]any) (*Config, error) {
	var data []byte
	if path != "" {
		var err error
		if data, err = readFile(path, maxFile); err != nil {
			return nil, Faults{{File: path, Problem: fmt.Sprintf("cannot be read: %v", reason(err)), Remedy: "name the configuration file with -c"}}
		}
	}
	l, c := parse(path, data, env, flags)
	if c != nil {
		l.checkHost(c)
	}
	return l.result(c)
}

// Parse does what Load does with the content of a file, except that nothing on
// this machine is looked at: files and folders need not exist, and
// Privacy.Key is not read. The name is for messages, and relative paths start
// at its folder.
func Parse(name string, data []byte, env []string, flags map[string]any) (*Config, error) {
	l, c := parse(name, data, env, flags)
	return l.result(c)
}

// loader collects what it finds wrong while it reads one configuration.
type loader struct {
	file     string
	lines    map[string]int    // where each path stands in the file
	setters  map[string]string // what set each path that the file did not set last
	faults   Faults
	warnings Faults
}

func parse(file string, data []byte, env []string, flags map[string]any) (*loader, *Config) {
	l := &loader{file: file, lines: make(map[string]int), setters: make(map[string]string)}
	k := koanf.New(".")
	if !l.loadFile(k, data) || !l.loadEnv(k, env) || !l.loadFlags(k, flags) {
		return l, nil
	}
	c := Default()
	l.decodeStruct("", reflect.ValueOf(&c).Elem(), k.Raw())
	l.check(&c)
	return l, &c
}

func (l *loader) result(c *Config) (*Config, error) {
	if len(l.faults) > 0 {
		l.faults.sort()
		return nil, l.faults
	}
	l.warnings.sort()
	c.Warnings = l.warnings
	return c, nil
}

func (l *loader) loadFile(k *koanf.Koanf, data []byte) bool {
	decoder := yamlv3.NewDecoder(bytes.NewReader(data))
	var doc yamlv3.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return true // empty, or only comments
	case err != nil:
		l.syntax(err)
		return false
	}
	root := doc.Content[0]
	if root.Kind == yamlv3.ScalarNode && root.Tag == "!!null" {
		return true
	}
	if root.Kind != yamlv3.MappingNode {
		l.faults = append(l.faults, Fault{File: l.file, Line: root.Line, Problem: "the file is not a mapping of settings", Remedy: "start it with a key such as sources:"})
		return false
	}
	if err := decoder.Decode(new(yamlv3.Node)); !errors.Is(err, io.EOF) {
		l.faults = append(l.faults, Fault{File: l.file, Problem: "there is more than one YAML document in the file", Remedy: "remove the line ---"})
		return false
	}
	l.locate("", root)
	if err := k.Load(rawbytes.Provider(data), yaml.Parser()); err != nil {
		l.syntax(err)
		return false
	}
	return true
}

// syntax turns an error of the YAML package, which may list several, into
// faults with their lines.
func (l *loader) syntax(err error) {
	problems := []string{strings.TrimPrefix(err.Error(), "yaml: ")}
	if list, ok := errors.AsType[*yamlv3.TypeError](err); ok {
		problems = list.Errors
	}
	for _, problem := range problems {
		f := Fault{File: l.file, Problem: problem, Remedy: "correct the YAML"}
		if rest, ok := strings.CutPrefix(problem, "line "); ok {
			if number, text, ok := strings.Cut(rest, ": "); ok {
				if line, err := strconv.Atoi(number); err == nil {
					f.Line, f.Problem = line, text
				}
			}
		}
		l.faults = append(l.faults, f)
	}
}

// locate remembers the line of each path. What stands behind an alias or a
// merge key has the line of the alias: following them could take for ever.
func (l *loader) locate(path string, n *yamlv3.Node) {
	switch n.Kind {
	case yamlv3.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			p := join(path, n.Content[i].Value)
			l.lines[p] = n.Content[i].Line
			l.locate(p, n.Content[i+1])
		}
	case yamlv3.SequenceNode:
		for i, item := range n.Content {
			p := join(path, strconv.Itoa(i))
			l.lines[p] = item.Line
			l.locate(p, item)
		}
	}
}

func (l *loader) loadEnv(k *koanf.Koanf, environ []string) bool {
	names := make(map[string]string)
	provider := env.Provider("", env.Opt{
		Prefix:      Prefix,
		EnvironFunc: func() []string { return environ },
		TransformFunc: func(name, value string) (string, any) {
			if value == "" || serviceLink(name) {
				return "", nil
			}
			path := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, Prefix), "__", "."))
			names[path] = name
			return path, value
		},
	})
	return l.overlay(k, provider, func(path string) string { return names[path] })
}

// serviceLink tells the variables that Kubernetes sets in every container of a
// namespace with a service named bouncemeter, such as BOUNCEMETER_SERVICE_HOST
// and BOUNCEMETER_PORT_9725_TCP. They are no settings.
func serviceLink(name string) bool {
	return !strings.Contains(name, "__") &&
		(strings.Contains(name, "_SERVICE_HOST") || strings.Contains(name, "_SERVICE_PORT") ||
			strings.HasSuffix(name, "_PORT") || strings.Contains(name, "_PORT_"))
}

func (l *loader) loadFlags(k *koanf.Koanf, flags map[string]any) bool {
	return l.overlay(k, confmap.Provider(flags, ""), func(string) string { return "command line" })
}

// overlay lays a provider of values by path over what k has. Unlike the file,
// such a layer can reach into lists.
func (l *loader) overlay(k *koanf.Koanf, provider koanf.Provider, setter func(path string) string) bool {
	before := len(l.faults)
	err := k.Load(provider, nil, koanf.WithMergeFunc(func(src, dest map[string]any) error {
		for _, flat := range slices.SortedFunc(maps.Keys(src), comparePaths) {
			keys := strings.Split(flat, ".")
			path := join("", keys...)
			l.forget(path)
			// What is above it and was not there before has the same origin.
			for i := range keys {
				if p := join("", keys[:i+1]...); !l.known(p) {
					l.setters[p] = setter(flat)
				}
			}
			if _, err := put(dest, keys, src[flat]); err != nil {
				l.fault(path, err.Error(), "set either the whole or its parts, and the items of a list in order from 0")
			}
		}
		return nil
	}))
	if err != nil {
		l.fault("", err.Error(), "")
	}
	return len(l.faults) == before
}

// comparePaths orders items of lists by number.
func comparePaths(a, b string) int {
	return slices.CompareFunc(strings.Split(a, "."), strings.Split(b, "."), func(a, b string) int {
		i, aNumber := index(a)
		j, bNumber := index(b)
		if aNumber && bNumber {
			return cmp.Compare(i, j)
		}
		return cmp.Compare(a, b)
	})
}

// put sets the value at keys below dst, makes what is missing on the way, and
// returns dst with it.
func put(dst any, keys []string, value any) (any, error) {
	if len(keys) == 0 {
		return value, nil
	}
	if i, ok := index(keys[0]); ok {
		list, ok := dst.([]any)
		if !ok && dst != nil {
			return dst, errors.New("is an item of what is not a list")
		}
		if i > len(list) {
			return dst, fmt.Errorf("there are only %d items before it", len(list))
		}
		if i == len(list) {
			list = append(list, nil)
		}
		item, err := put(list[i], keys[1:], value)
		list[i] = item
		return list, err
	}
	m, ok := dst.(map[string]any)
	if !ok && dst != nil {
		return dst, errors.New("is part of what has a value of its own")
	}
	if m == nil {
		m = make(map[string]any)
	}
	item, err := put(m[keys[0]], keys[1:], value)
	m[keys[0]] = item
	return m, err
}

// index reads a key that is the number of a list item.
func index(key string) (int, bool) {
	i, err := strconv.ParseUint(key, 10, 31)
	return int(i), err == nil
}

// join makes a path as it is shown: sources[0].paths.
func join(path string, keys ...string) string {
	for _, key := range keys {
		switch _, number := index(key); {
		case number:
			path += "[" + key + "]"
		case path == "":
			path = key
		default:
			path += "." + key
		}
	}
	return path
}

// forget drops what is known of the place of path and of all below it.
func (l *loader) forget(path string) {
	below := func(p string) bool {
		rest, ok := strings.CutPrefix(p, path)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	}
	maps.DeleteFunc(l.lines, func(p string, _ int) bool { return below(p) })
	maps.DeleteFunc(l.setters, func(p, _ string) bool { return below(p) })
}

// known tells whether the place of path itself is known.
func (l *loader) known(path string) bool {
	return l.lines[path] > 0 || l.setters[path] != ""
}

// place finds what set path, or the nearest above it that anything set.
func (l *loader) place(path string) (line int, setter string) {
	for path != "" {
		if setter, ok := l.setters[path]; ok {
			return 0, setter
		}
		if line, ok := l.lines[path]; ok {
			return line, ""
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return 0, ""
}

func (l *loader) fault(path, problem, remedy string) {
	l.faults = append(l.faults, l.newFault(path, problem, remedy))
}

func (l *loader) warn(path, problem, remedy string) {
	l.warnings = append(l.warnings, l.newFault(path, problem, remedy))
}

func (l *loader) newFault(path, problem, remedy string) Fault {
	f := Fault{Path: path, Problem: problem, Remedy: remedy}
	if f.Line, f.Setter = l.place(path); f.Setter == "" {
		f.File = l.file
	}
	return f
}

// fromFile tells whether the file set path.
func (l *loader) fromFile(path string) bool {
	line, _ := l.place(path)
	return line > 0
}

// resolve makes a relative path of the file start at the file's folder.
func (l *loader) resolve(path, value string) string {
	if value == "" || filepath.IsAbs(value) || !l.fromFile(path) {
		return value
	}
	return filepath.Join(filepath.Dir(l.file), value)
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("it is larger than %v", Size(limit))
	}
	return data, err
}

// reason is err without the operation and path that os adds.
func reason(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}
