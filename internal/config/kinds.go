package config

import (
	"maps"
	"reflect"
	"slices"
)

// kinds lists the settings that each kind of source, sink or notifier has, and
// under "" those that all have.
type kinds map[string][]string

// names are the kinds in order.
func (k kinds) names() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(k)), func(kind string) bool { return kind == "" })
}

// has returns the kinds that have a setting, or "" alone if all do.
func (k kinds) has(key string) []string {
	if slices.Contains(k[""], key) {
		return []string{""}
	}
	return slices.DeleteFunc(k.names(), func(kind string) bool { return !slices.Contains(k[kind], key) })
}

// only finds settings of v, which is one of these kinds, that its kind does not
// have: they would do nothing. What stands in otherwise holds if nothing is said.
func (l *loader) only(path, what, kind string, k kinds, v, otherwise any) {
	value, nothing := reflect.ValueOf(v), reflect.ValueOf(otherwise)
	for i := range value.NumField() {
		key := value.Type().Field(i).Tag.Get("yaml")
		if key == "-" || slices.Contains(k[""], key) || slices.Contains(k[kind], key) {
			continue
		}
		if !reflect.DeepEqual(value.Field(i).Interface(), nothing.Field(i).Interface()) && !l.failed(path+"."+key) {
			l.fault(path+"."+key, "a "+what+" of kind "+kind+" has no such setting", "remove it, or write kind: "+oneOf(k.has(key)))
		}
	}
}
