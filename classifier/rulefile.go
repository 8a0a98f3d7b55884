package classifier

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/bouncemeter/bouncemeter/event"
)

// Fault is something wrong with a rule file, and what to do about it.
type Fault struct {
	File    string // as given, or rules/NAME for a shipped file
	Line    int
	Rule    string // id, if it is about one rule
	Problem string
	Remedy  string
}

// Error returns the fault in one line that begins with its place.
func (f Fault) Error() string {
	s := fmt.Sprintf("%s:%d: ", f.File, f.Line)
	if f.Rule != "" {
		s += "rule " + f.Rule + ": "
	}
	s += f.Problem
	if f.Remedy != "" {
		s += ": " + f.Remedy
	}
	return s
}

// faults collects what is wrong, so that all is told at once.
type faults []Fault

func (f *faults) add(n place, rule, remedy, problem string, args ...any) {
	*f = append(*f, Fault{File: n.file, Line: n.line, Rule: rule, Problem: fmt.Sprintf(problem, args...), Remedy: remedy})
}

func (f faults) err() error {
	slices.SortStableFunc(f, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	errs := make([]error, len(f))
	for i := range f {
		errs[i] = f[i]
	}
	return errors.Join(errs...)
}

// place is where something stands.
type place struct {
	file string
	line int
}

// quote is a string of a rule file and where it stands.
type quote struct {
	s string
	place
}

// rule is one rule as its file states it.
type rule struct {
	place
	id          string
	category    event.Category
	secondary   event.Category
	any         []quote
	all         [][]quote
	not         []quote
	codes       []codeRange
	enhanced    []enhancedPattern
	stages      uint16   // a bit for each event.Stage; 0 for any
	providers   []string // sorted; nil for any
	distinctive bool
	priority    int
	persistence event.Persistence
	blocklist   string
	regex       []quote
	source      string
	examples    []quote
}

// codeRange is a basic reply code, or with x for a digit a range of them.
type codeRange struct{ low, high uint16 }

// enhancedPattern is an enhanced status code in which class 0 means any, and
// which may leave the detail open.
type enhancedPattern struct {
	code      event.Enhanced
	anyDetail bool
}

func (p enhancedPattern) match(e event.Enhanced) bool {
	return (p.code.Class == 0 && e.Class != 0 || p.code.Class == e.Class) && p.code.Subject == e.Subject && (p.anyDetail || p.code.Detail == e.Detail)
}

// providerSpec is one entry of a providers file.
type providerSpec struct {
	place
	id      string
	mx      []quote // host name suffixes
	domains []quote // recipient domains
	text    []quote // phrases that only its servers say
}

// listSpec is one entry of the blocklist catalogue.
type listSpec struct {
	place
	Blocklist
	text []quote
}

// Blocklist describes a list of bad senders.
type Blocklist struct {
	Name   string `json:"name"`
	Kind   string `json:"kind"` // ip, domain or url: what the list contains
	Lookup string `json:"lookup,omitempty"`
	Delist string `json:"delist,omitempty"`
}

// source holds all that rule files say before it is compiled.
type source struct {
	faults    faults
	words     map[string][]string
	wordLines map[string]place
	rules     map[string]*rule
	providers map[string]*providerSpec
	lists     map[string]*listSpec
}

func newSource() *source {
	return &source{
		words: map[string][]string{}, wordLines: map[string]place{}, rules: map[string]*rule{},
		providers: map[string]*providerSpec{}, lists: map[string]*listSpec{},
	}
}

// readShipped reads the embedded files.
func (s *source) readShipped(files fs.FS) {
	names, err := fs.Glob(files, "rules/*.yaml")
	if err == nil {
		for _, name := range append(names, "providers.yaml") {
			var b []byte
			if b, err = fs.ReadFile(files, name); err != nil {
				break
			}
			s.read(name, b, false)
		}
	}
	if err != nil { // embedded files are always there
		s.faults.add(place{file: "rules", line: 1}, "", "", "%v", err)
	}
}

// readUser reads a user's file, or all *.yaml files of a directory.
func (s *source) readUser(name string) {
	files := []string{name}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		if files, err = filepath.Glob(filepath.Join(name, "*.yaml")); err == nil && len(files) == 0 {
			s.faults.add(place{name, 1}, "", "put rules into files named *.yaml, or remove the directory from the configuration", "no rule files in the directory")
		}
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			s.faults.add(place{file, 1}, "", "correct the path or the permissions", "read rules: %v", errors.Unwrap(err))
			continue
		}
		s.read(file, b, true)
	}
}

// read takes one file in. A user's rules replace earlier ones of the same id.
func (s *source) read(file string, b []byte, user bool) {
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		line := 1
		msg := strings.TrimPrefix(err.Error(), "yaml: ")
		if _, e := fmt.Sscanf(msg, "line %d:", &line); e == nil {
			_, msg, _ = strings.Cut(msg, ": ")
		}
		s.faults.add(place{file, line}, "", "check the indentation, and put text with colons, braces or quotes in single quotes", "not valid YAML: %s", msg)
		return
	}
	if len(doc.Content) == 0 {
		return
	}
	d := decoder{s: s, file: file}
	var provider []string
	d.mapping(doc.Content[0], "", map[string]func(*yaml.Node){
		"provider": func(n *yaml.Node) { provider = plain(d.strings(n)) },
		"words": func(n *yaml.Node) {
			for i := 0; i+1 < len(n.Content); i += 2 {
				name := n.Content[i].Value
				at := d.at(n.Content[i])
				if earlier, ok := s.wordLines[name]; ok && !user {
					s.faults.add(at, "", "use another name", "words %s are listed already at %s:%d", name, earlier.file, earlier.line)
				}
				list := plain(d.strings(n.Content[i+1]))
				if user { // a user's words come on top
					list = append(slices.Clone(s.words[name]), list...)
				}
				s.words[name], s.wordLines[name] = list, at
			}
		},
		"rules": func(n *yaml.Node) {
			for _, item := range d.items(n) {
				if r := d.rule(item, provider); r != nil {
					if earlier, ok := s.rules[r.id]; ok && (!user || earlier.file == file) {
						s.faults.add(r.place, r.id, "give each rule its own id", "the id is used already at %s:%d", earlier.file, earlier.line)
					}
					s.rules[r.id] = r
				}
			}
		},
		"providers": func(n *yaml.Node) {
			for _, item := range d.items(n) {
				d.provider(item, user)
			}
		},
		"blocklists": func(n *yaml.Node) {
			for _, item := range d.items(n) {
				d.blocklist(item)
			}
		},
	})
}

// decoder reads YAML nodes and remembers where they stood.
type decoder struct {
	s    *source
	file string
}

func (d *decoder) at(n *yaml.Node) place { return place{d.file, n.Line} }

// mapping calls the function for each key of n.
func (d *decoder) mapping(n *yaml.Node, rule string, keys map[string]func(*yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		d.s.faults.add(d.at(n), rule, "write key: value lines", "want a mapping here")
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if f, ok := keys[k.Value]; ok {
			f(n.Content[i+1])
			continue
		}
		names := make([]string, 0, len(keys))
		for name := range keys {
			names = append(names, name)
		}
		slices.Sort(names)
		d.s.faults.add(d.at(k), rule, "use one of "+strings.Join(names, ", "), "unknown key %q", k.Value)
	}
}

func (d *decoder) items(n *yaml.Node) []*yaml.Node {
	if n.Kind != yaml.SequenceNode {
		d.s.faults.add(d.at(n), "", "begin each entry with a dash", "want a list here")
		return nil
	}
	return n.Content
}

// strings reads one string or a list of them.
func (d *decoder) strings(n *yaml.Node) []quote {
	if n.Kind == yaml.ScalarNode {
		return []quote{{n.Value, d.at(n)}}
	}
	list := make([]quote, 0, len(n.Content))
	for _, item := range d.items(n) {
		if item.Kind != yaml.ScalarNode {
			d.s.faults.add(d.at(item), "", "put the text in single quotes", "want a text here")
			continue
		}
		list = append(list, quote{item.Value, d.at(item)})
	}
	return list
}

func plain(q []quote) []string {
	list := make([]string, len(q))
	for i := range q {
		list[i] = q[i].s
	}
	return list
}

func (d *decoder) rule(n *yaml.Node, provider []string) *rule {
	r := &rule{place: d.at(n), providers: provider}
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == "id" {
				r.id = n.Content[i+1].Value
			}
		}
	}
	bad := func(n *yaml.Node, remedy, problem string, args ...any) {
		d.s.faults.add(d.at(n), r.id, remedy, problem, args...)
	}
	category := func(n *yaml.Node) event.Category {
		c, ok := event.CategoryByID(n.Value)
		if !ok {
			bad(n, "use an id of docs/categories.md"+nearest(n.Value), "there is no category %q", n.Value)
		}
		return c
	}
	d.mapping(n, r.id, map[string]func(*yaml.Node){
		"id":        func(*yaml.Node) {},
		"category":  func(n *yaml.Node) { r.category = category(n) },
		"secondary": func(n *yaml.Node) { r.secondary = category(n) },
		"any":       func(n *yaml.Node) { r.any = d.strings(n) },
		"all": func(n *yaml.Node) {
			if n.Kind == yaml.ScalarNode {
				r.all = append(r.all, d.strings(n))
				return
			}
			for _, item := range d.items(n) {
				r.all = append(r.all, d.strings(item))
			}
		},
		"not": func(n *yaml.Node) { r.not = d.strings(n) },
		"code": func(n *yaml.Node) {
			for _, q := range d.strings(n) {
				c, ok := parseCodeRange(q.s)
				if !ok {
					bad(n, "write three digits such as 550, or 5xx", "%q is not a reply code", q.s)
				}
				r.codes = append(r.codes, c)
			}
		},
		"enhanced": func(n *yaml.Node) {
			for _, q := range d.strings(n) {
				p, ok := parseEnhancedPattern(q.s)
				if !ok {
					bad(n, "write 5.1.1, x.1.1 for classes 4 and 5, or 5.1.x for every detail", "%q is not an enhanced status code", q.s)
				}
				r.enhanced = append(r.enhanced, p)
			}
		},
		"stage": func(n *yaml.Node) {
			for _, q := range d.strings(n) {
				stage, ok := event.StageByName(q.s)
				if !ok || stage == event.StageUnknown {
					bad(n, "use connect, helo, tls, auth, mail, rcpt, data, end_of_data or quit", "there is no stage %q", q.s)
				}
				r.stages |= 1 << stage
			}
		},
		"provider": func(n *yaml.Node) { r.providers = plain(d.strings(n)) },
		"distinctive": func(n *yaml.Node) {
			if n.Decode(&r.distinctive) != nil {
				bad(n, "write true or false", "distinctive is %q", n.Value)
			}
		},
		"priority": func(n *yaml.Node) {
			if n.Decode(&r.priority) != nil || r.priority < -100 || r.priority > 100 {
				bad(n, "write a whole number from -100 to 100", "priority is %q", n.Value)
			}
		},
		"persistence": func(n *yaml.Node) {
			switch n.Value {
			case event.Transient.String():
				r.persistence = event.Transient
			case event.Permanent.String():
				r.persistence = event.Permanent
			default:
				bad(n, "write permanent or transient", "there is no persistence %q", n.Value)
			}
		},
		"blocklist": func(n *yaml.Node) { r.blocklist = n.Value },
		"regex":     func(n *yaml.Node) { r.regex = d.strings(n) },
		"source":    func(n *yaml.Node) { r.source = n.Value },
		"examples":  func(n *yaml.Node) { r.examples = d.strings(n) },
	})
	if r.id == "" {
		bad(n, "add a line id: with a name of its own", "the rule has no id")
		return nil
	}
	if r.category == event.Unset && !slices.ContainsFunc(n.Content, func(k *yaml.Node) bool { return k.Value == "category" }) {
		bad(n, "add category: with an id of docs/categories.md", "the rule has no category")
	}
	if len(r.any)+len(r.all)+len(r.codes)+len(r.enhanced) == 0 {
		bad(n, "add the words to look for under any:", "the rule has no condition")
	}
	if len(r.any)+len(r.all) == 0 && len(r.not)+len(r.regex) > 0 {
		bad(n, "add any: or all:", "not: and regex: need words that are looked for first")
	}
	if len(r.all) > 29 {
		bad(n, "split the rule", "more than 29 entries under all:")
		r.all = r.all[:29]
	}
	return r
}

func (d *decoder) provider(n *yaml.Node, user bool) {
	p := &providerSpec{place: d.at(n)}
	d.mapping(n, "", map[string]func(*yaml.Node){
		"id":      func(n *yaml.Node) { p.id = n.Value },
		"mx":      func(n *yaml.Node) { p.mx = d.strings(n) },
		"domains": func(n *yaml.Node) { p.domains = d.strings(n) },
		"text":    func(n *yaml.Node) { p.text = d.strings(n) },
	})
	if p.id == "" || strings.Trim(p.id, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		d.s.faults.add(p.place, "", "use lower case letters, digits and _", "provider id %q", p.id)
		return
	}
	if earlier, ok := d.s.providers[p.id]; ok {
		if !user {
			d.s.faults.add(p.place, "", "join the two", "provider %s is listed already at line %d", p.id, earlier.line)
			return
		}
		earlier.mx = append(earlier.mx, p.mx...)
		earlier.domains = append(earlier.domains, p.domains...)
		earlier.text = append(earlier.text, p.text...)
		return
	}
	d.s.providers[p.id] = p
}

func (d *decoder) blocklist(n *yaml.Node) {
	l := &listSpec{place: d.at(n)}
	d.mapping(n, "", map[string]func(*yaml.Node){
		"name":   func(n *yaml.Node) { l.Name = n.Value },
		"kind":   func(n *yaml.Node) { l.Kind = n.Value },
		"lookup": func(n *yaml.Node) { l.Lookup = n.Value },
		"delist": func(n *yaml.Node) { l.Delist = n.Value },
		"text":   func(n *yaml.Node) { l.text = d.strings(n) },
	})
	switch l.Kind {
	case "ip", "domain", "url":
	default:
		d.s.faults.add(l.place, "", "write ip, domain or url", "blocklist %s has kind %q", l.Name, l.Kind)
	}
	if l.Name == "" || len(l.text) == 0 {
		d.s.faults.add(l.place, "", "give it a name and the words that name it under text", "incomplete blocklist")
		return
	}
	d.s.lists[l.Name] = l
}

func parseCodeRange(s string) (codeRange, bool) {
	if len(s) != 3 || s[0] < '2' || s[0] > '5' {
		return codeRange{}, false
	}
	low, err1 := strconv.ParseUint(strings.ReplaceAll(s, "x", "0"), 10, 16)
	high, err2 := strconv.ParseUint(strings.ReplaceAll(s, "x", "9"), 10, 16)
	return codeRange{uint16(low), uint16(high)}, err1 == nil && err2 == nil
}

func parseEnhancedPattern(s string) (enhancedPattern, bool) {
	var p enhancedPattern
	anyClass := strings.HasPrefix(s, "x.")
	if anyClass {
		s = "5" + s[1:]
	}
	if strings.HasSuffix(s, ".x") {
		p.anyDetail = true
		s = s[:len(s)-1] + "0"
	}
	e, n := event.ParseEnhanced([]byte(s))
	if n == 0 || n != len(s) {
		return p, false
	}
	p.code = e
	if anyClass {
		p.code.Class = 0
	}
	return p, true
}

// nearest suggests the category whose id shares the longest beginning with s.
func nearest(s string) string {
	best, id := 2, ""
	for _, c := range event.Categories() {
		n := 0
		for n < len(s) && n < len(c.String()) && s[n] == c.String()[n] {
			n++
		}
		if n > best {
			best, id = n, c.String()
		}
	}
	if id == "" {
		return ""
	}
	return "; did you mean " + id + "?"
}
