package dialect

import (
	"slices"
	"strings"
)

// Explanation is how a Mapping reads one record, for whoever writes the mapping.
type Explanation struct {
	// Fields are those that are mapped, in the order of MappedFields, with what
	// the record has there: nothing, or one value or more.
	Fields []FieldValues
	// Unused is what else the record has, in its order.
	Unused []FieldValues
}

// FieldValues are the values that stand at one place of a record.
type FieldValues struct {
	Field  string // of the event; "" in Explanation.Unused
	Path   string // in JSON as in Mapping.Fields, in CSV the name of the column
	Values []string
}

// Explain says how p reads a record, which may be one that Parse refuses. It is
// empty for parsers that NewJSON and NewCSV have not made.
func Explain(p Parser, line []byte) Explanation {
	switch p := p.(type) {
	case *mappedJSON:
		w := walker{b: line, arena: &arena{}}
		var all []FieldValues
		leaves(&w, "", &all)
		return p.explain(all, func(names []string) string { return joinPath(names...) })
	case *mappedCSV:
		return p.explain(p.named(line), func(names []string) string { return names[0] })
	}
	return Explanation{}
}

// explain sorts the values of a record into those that are mapped and the rest.
func (m *mapping) explain(all []FieldValues, join func(names []string) string) (e Explanation) {
	used := make(map[string]bool)
	for f, names := range m.paths {
		if names == nil {
			continue
		}
		v := FieldValues{Field: mappedNames[f], Path: join(names)}
		if i := slices.IndexFunc(all, func(a FieldValues) bool { return a.Path == v.Path }); i >= 0 {
			v.Values = all[i].Values
		}
		used[v.Path] = true
		e.Fields = append(e.Fields, v)
	}
	for _, v := range all {
		if !used[v.Path] {
			e.Unused = append(e.Unused, v)
		}
	}
	return e
}

// leaves takes a value and appends the values in it that are no objects and no
// arrays, those with the same path together. It goes as deep as the walker does.
func leaves(w *walker, path string, all *[]FieldValues) {
	switch w.peek() {
	case '{':
		for more := w.object(); more; more = w.member() {
			name := joinPath(string(w.key))
			if path != "" {
				name = path + "." + name
			}
			leaves(w, name, all)
		}
	case '[':
		for more := w.array(); more; more = w.element() {
			leaves(w, path, all)
		}
	default:
		value := w.text()
		if w.err != nil || value == nil {
			return
		}
		i := slices.IndexFunc(*all, func(v FieldValues) bool { return v.Path == path })
		if i < 0 {
			i = len(*all)
			*all = append(*all, FieldValues{Path: path})
		}
		(*all)[i].Values = append((*all)[i].Values, string(value))
	}
}

// joinPath is the path that splitPath splits into names.
func joinPath(names ...string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = strings.NewReplacer(`\`, `\\`, ".", `\.`).Replace(name)
	}
	return strings.Join(quoted, ".")
}

// named returns the fields of a line with the names of their columns.
func (p *mappedCSV) named(line []byte) (all []FieldValues) {
	fields, err := csvFields(line, p.separator, &arena{}, nil)
	if err != nil || len(fields) != len(p.names) {
		return nil
	}
	for i, name := range p.names {
		all = append(all, FieldValues{Path: name, Values: []string{string(fields[i])}})
	}
	return all
}
