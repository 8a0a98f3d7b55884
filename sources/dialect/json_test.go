package dialect

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// tree reads a value whole, by the same calls that dialects make. Numbers are
// json.Number.
func tree(w *walker) any {
	switch w.peek() {
	case '{':
		m := map[string]any{}
		for more := w.object(); more; more = w.member() {
			key := string(w.key)
			m[key] = tree(w)
		}
		return m
	case '[':
		a := []any{}
		for more := w.array(); more; more = w.element() {
			a = append(a, tree(w))
		}
		return a
	case '"':
		return string(w.text())
	case 't', 'f':
		return string(w.text()) == "true"
	case 'n':
		w.text()
		return nil
	default:
		return json.Number(w.text())
	}
}

// depth returns how deep the brackets of JSON are nested at the most.
func depth(line []byte) int {
	deepest, now, inside := 0, 0, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case inside && c == '\\':
			i++
		case c == '"':
			inside = !inside
		case !inside && (c == '{' || c == '['):
			now++
			deepest = max(deepest, now)
		case !inside && (c == '}' || c == ']'):
			now--
		}
	}
	return deepest
}

func FuzzJSON(f *testing.F) {
	for _, s := range jsonSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var a, skipped arena
		var w walker
		w.start(line, &skipped)
		w.skip()
		skipErr := w.end()
		if len(skipped.b) != 0 {
			t.Errorf("skipping filled the arena")
		}
		w.start(line, &a)
		got := tree(&w)
		err := w.end()
		if !errors.Is(err, skipErr) {
			t.Fatalf("reading says %v, skipping %v", err, skipErr)
		}
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("%v does not wrap ErrMalformed", err)
		}
		valid := json.Valid(line) && depth(line) <= jsonDepth
		if valid != (err == nil) {
			t.Fatalf("%v for what encoding/json calls valid: %v", err, valid)
		}
		if err != nil || !utf8.Valid(line) {
			return
		}
		d := json.NewDecoder(bytes.NewReader(line))
		d.UseNumber()
		var want any
		if err := d.Decode(&want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(want, got) {
			t.Errorf("got %v, encoding/json says %v", got, want)
		}
	})
}

var jsonSeeds = []string{
	`{"a":1,"b":[true,false,null,"x"],"c":{"d":{}},"e":[],"f":-1.5e+3}`,
	` [ 1 , 2 ] `, `"a\"\\\/\b\f\n\r\tz"`, `"\u00e9\ud83d\ude00\ud800x\udc00"`, `"ü"`, `""`, `{"":""}`,
	`{"a\u0062":1}`, `{"a":1,"a":2}`, "\"\x80\"", "0", "-0", "1E9", "0.5",
	"", " ", "{", "[", `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `[1,]`, `[1 2]`, `{1:2}`, `{"a" 1}`, "[}", "{]",
	"nul", "tru", "falsee", "01", "-", "1.", "1e", ".5", "+1", `"`, `"\`, `"\u12`, `"\u12g4"`, `"\x"`, "\"a\nb\"", "\"\x1f\"", "1 2", "{} {}", "\x00", "\v1", "1\x00",
	strings.Repeat("[", jsonDepth) + strings.Repeat("]", jsonDepth),
	strings.Repeat("[", jsonDepth+1) + strings.Repeat("]", jsonDepth+1),
	strings.Repeat(`{"a":`, jsonDepth) + "1" + strings.Repeat("}", jsonDepth),
	strings.Repeat(`{"a":`, jsonDepth) + "[]" + strings.Repeat("}", jsonDepth),
	`{"long key with escapes \n and more than eight bytes":"a long string without any, and a quote here \" and there"}`,
}

// Deep nesting costs no stack and is refused early.
func TestJSONDepth(t *testing.T) {
	line := bytes.Repeat([]byte("["), 10<<20)
	var a arena
	var w walker
	w.start(line, &a)
	w.skip()
	if err := w.end(); !errors.Is(err, errJSONDepth) {
		t.Errorf("error %v, want that it is too deep", err)
	}
}

// A value of the wrong type is malformed, null is an absent one.
func TestJSONTypes(t *testing.T) {
	take := map[string]func(w *walker){
		"object": func(w *walker) {
			for more := w.object(); more; more = w.member() {
				w.skip()
			}
		},
		"array": func(w *walker) {
			for more := w.array(); more; more = w.element() {
				w.skip()
			}
		},
		"text":   func(w *walker) { w.text() },
		"number": func(w *walker) { w.number(0) },
	}
	for _, test := range []struct{ value, fit string }{
		{`{"a":[]}`, "object"}, {`[{"a":1}]`, "array"}, {`"a"`, "text"}, {`12`, "text number"}, {`"12"`, "text number"}, {`""`, "text number"},
		{`true`, "text"}, {`null`, "object array text number"}, {`99999999999999999999`, "text"},
	} {
		for name, f := range take {
			var a arena
			var w walker
			w.start([]byte(test.value), &a)
			f(&w)
			err := w.end()
			if fits := strings.Contains(test.fit, name); fits != (err == nil) || !fits && !errors.Is(err, errJSONType) {
				t.Errorf("%s as %s: %v", test.value, name, err)
			}
		}
	}
}

// Strings stay what they are while the arena grows.
func TestArenaGrows(t *testing.T) {
	var a arena
	var w walker
	var line strings.Builder
	line.WriteString("[0")
	for range 2000 {
		line.WriteString(`,"tab\there"`)
	}
	line.WriteString("]")
	w.start([]byte(line.String()), &a)
	var all [][]byte
	for more := w.array(); more; more = w.element() {
		all = append(all, w.text())
	}
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	for _, s := range all[1:] {
		if string(s) != "tab\there" {
			t.Fatalf("got %q", s)
		}
		if cap(s) != len(s) {
			t.Fatal("appending to one string would change another")
		}
	}
}

func FuzzDecimal(f *testing.F) {
	for _, s := range []string{"0", "-1", "1546899001.225501", "1.7e9", "12e-1", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "0.0000019", "1e400000000000", "0e99999999", "1.", ".1", "e1", "", "-", "1e", "5.1.1"} {
		f.Add(s, 6)
		f.Add(s, 0)
	}
	f.Fuzz(func(t *testing.T, s string, scale int) {
		if scale < 0 || scale > 9 || len(s) > 40 {
			t.Skip()
		}
		if _, e, ok := strings.Cut(strings.ToLower(s), "e"); ok && len(strings.TrimLeft(e, "+-0")) > 3 {
			t.Skip() // too large for the model
		}
		got, ok := decimal([]byte(s), scale)
		if strings.Trim(s, "-+0123456789.eE") != "" {
			if ok {
				t.Fatalf("%q is no number", s)
			}
			return // perhaps a form of Go's own
		}
		want, isNumber := new(big.Rat).SetString(s)
		if ok && !isNumber {
			t.Fatalf("%q is no number", s)
		}
		if !isNumber {
			return
		}
		want.Mul(want, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)))
		cutOff := new(big.Int).Quo(want.Num(), want.Denom())
		if ok && (!cutOff.IsInt64() || cutOff.Int64() != got) {
			t.Errorf("%q times 10^%d is %d, want %s", s, scale, got, cutOff)
		}
		if !ok && json.Valid([]byte(s)) && cutOff.IsInt64() && cutOff.Int64() != -1<<63 {
			t.Errorf("%q times 10^%d is not read; it is %s", s, scale, cutOff)
		}
	})
}
