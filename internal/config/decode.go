package config

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// decodeStruct sets the fields of v from in. Where in says nothing v keeps what
// it has: the default.
func (l *loader) decodeStruct(path string, v reflect.Value, in any) {
	if in == nil {
		return
	}
	m, ok := in.(map[string]any)
	if !ok {
		l.fault(path, fmt.Sprintf("%s is not a group of settings", show(in)), "write the keys below it, indented: "+strings.Join(keysOf(v.Type()), ", "))
		return
	}
	fields := make(map[string]int)
	for i := range v.NumField() {
		if key := v.Type().Field(i).Tag.Get("yaml"); key != "-" {
			fields[key] = i
		}
	}
	for key, value := range m {
		p := join(path, key)
		i, known := fields[key]
		if !known {
			remedy := suggest(key, keysOf(v.Type()))
			if strings.Contains(key, ".") {
				remedy = "write one level below the other: " + strings.Replace(key, ".", ": {", 1) + ": …}"
			}
			l.fault(p, "there is no such setting", remedy)
			continue
		}
		l.decode(p, v.Field(i), value, v.Type().Field(i).Tag)
	}
}

// keysOf lists the keys of a struct's fields in their order.
func keysOf(t reflect.Type) []string {
	var keys []string
	for i := range t.NumField() {
		if key := t.Field(i).Tag.Get("yaml"); key != "-" {
			keys = append(keys, key)
		}
	}
	return keys
}

// decode sets v, which is a field with this tag or an item of it.
func (l *loader) decode(path string, v reflect.Value, in any, tag reflect.StructTag) {
	if in == nil {
		return
	}
	switch v.Addr().Interface().(type) {
	case *time.Duration:
		l.decodeDuration(path, v, in)
		return
	case *Size:
		l.decodeSize(path, v, in)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		l.decodeStruct(path, v, in)
	case reflect.Slice:
		l.decodeList(path, v, in, tag)
	case reflect.String:
		s, ok := in.(string)
		if !ok {
			l.fault(path, fmt.Sprintf("%s is not a text", show(in)), "write it in quotes if it is meant so")
			return
		}
		if words := tag.Get("enum"); words != "" {
			if list := strings.Split(words, ","); !slices.Contains(list, s) {
				l.fault(path, fmt.Sprintf("%q is not known", s), "use "+oneOf(list))
				return
			}
		}
		if tag.Get("format") == "path" {
			s = l.resolve(path, s)
		}
		v.SetString(s)
	case reflect.Bool:
		b, err := strconv.ParseBool(fmt.Sprint(in))
		if err != nil {
			l.fault(path, fmt.Sprintf("%s is neither true nor false", show(in)), "write true or false")
			return
		}
		v.SetBool(b)
	case reflect.Int:
		n, err := strconv.ParseInt(fmt.Sprint(in), 10, strconv.IntSize)
		if err != nil {
			l.fault(path, fmt.Sprintf("%s is not a whole number", show(in)), "write a number such as 1000")
			return
		}
		if n <= 0 {
			l.fault(path, fmt.Sprintf("%d is not above zero", n), "leave it out to get the default")
			return
		}
		v.SetInt(n)
	case reflect.Float64:
		n, err := strconv.ParseFloat(fmt.Sprint(in), 64)
		if err != nil || math.IsInf(n, 0) || math.IsNaN(n) {
			l.fault(path, fmt.Sprintf("%s is not a number", show(in)), "write a number such as 0.01")
			return
		}
		if n <= 0 {
			l.fault(path, fmt.Sprintf("%v is not above zero", n), "leave it out to get the default")
			return
		}
		v.SetFloat(n)
	default:
		panic("config: no way to decode a " + v.Type().String()) // a new field's type: found by every test
	}
}

func (l *loader) decodeDuration(path string, v reflect.Value, in any) {
	const remedy = "write it with its unit: 500ms, 30s, 12h or 8d"
	var d time.Duration
	switch in := in.(type) {
	case time.Duration:
		d = in
	case string:
		var err error
		if d, err = ParseDuration(in); err != nil {
			l.fault(path, err.Error(), remedy)
			return
		}
	default:
		l.fault(path, fmt.Sprintf("%s is not a duration", show(in)), remedy)
		return
	}
	if d <= 0 {
		l.fault(path, fmt.Sprintf("%v is not above zero", d), "leave it out to get the default")
		return
	}
	v.SetInt(int64(d))
}

func (l *loader) decodeSize(path string, v reflect.Value, in any) {
	const remedy = "write it with its unit: 512B, 64KiB, 16MiB or 1GiB"
	var size Size
	switch in := in.(type) {
	case Size:
		size = in
	case string:
		var err error
		if size, err = ParseSize(in); err != nil {
			l.fault(path, err.Error(), remedy)
			return
		}
	default:
		l.fault(path, fmt.Sprintf("%s is not a size", show(in)), remedy)
		return
	}
	if size <= 0 {
		l.fault(path, fmt.Sprintf("%v is not above zero", size), "leave it out to get the default")
		return
	}
	v.SetInt(int64(size))
}

// decodeList replaces the list v. Outside the file a list of texts may be one
// text with commas.
func (l *loader) decodeList(path string, v reflect.Value, in any, tag reflect.StructTag) {
	var items []any
	switch in := in.(type) {
	case []any:
		items = in
	case []string:
		for _, s := range in {
			items = append(items, s)
		}
	case string:
		if l.fromFile(path) || v.Type().Elem().Kind() != reflect.String {
			l.fault(path, fmt.Sprintf("%s is not a list", show(in)), "put each item on a line of its own that starts with - or all of them into [ ]")
			return
		}
		for s := range strings.SplitSeq(in, ",") {
			items = append(items, strings.TrimSpace(s))
		}
	default:
		l.fault(path, fmt.Sprintf("%s is not a list", show(in)), "put each item on a line of its own that starts with - or all of them into [ ]")
		return
	}
	list := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		p := join(path, strconv.Itoa(i))
		if item == nil {
			l.fault(p, "the item is empty", "remove it or fill it in")
			continue
		}
		switch item := list.Index(i).Addr().Interface().(type) {
		case *Source:
			*item = DefaultSource()
		case *Alert:
			*item = DefaultAlert()
		case *Notifier:
			*item = DefaultNotifier()
		case *Sink:
			*item = DefaultSink()
		}
		l.decode(p, list.Index(i), item, tag)
	}
	v.Set(list)
}

// show quotes a value for a message, shortened.
func show(in any) string {
	switch in.(type) {
	case map[string]any, map[any]any:
		return "a group of settings"
	case []any, []string:
		return "a list"
	}
	s := fmt.Sprint(in)
	if len(s) > 60 {
		s = s[:60] + "…"
	}
	return strconv.Quote(s)
}
