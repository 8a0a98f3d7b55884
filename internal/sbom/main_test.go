package main

import (
	"bytes"
	"encoding/json"
	"os"
	"runtime/debug"
	"testing"
)

func TestList(t *testing.T) {
	d := list("1.2.3", &debug.BuildInfo{
		GoVersion: "go1.26.1", Main: debug.Module{Path: "example.com/program", Version: "(devel)"},
		Deps: []*debug.Module{
			{Path: "example.com/a", Version: "v1.0.0+incompatible", Sum: "h1:x="},
			{Path: "example.com/b", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/c", Version: "v2.0.0"}},
		},
	})
	if c := d.Metadata.Component; c.PURL != "pkg:golang/example.com/program@1.2.3" || c.Type != "application" {
		t.Errorf("%+v", c)
	}
	var got []string
	for _, c := range d.Components {
		got = append(got, c.PURL)
	}
	want := []string{"pkg:golang/std@1.26.1", "pkg:golang/example.com/a@v1.0.0%2Bincompatible", "pkg:golang/example.com/c@v2.0.0"}
	for i := range want {
		if len(got) != len(want) || got[i] != want[i] {
			t.Fatalf("%v, want %v", got, want)
		}
	}
}

// A test is a program, too.
func TestRun(t *testing.T) {
	var out bytes.Buffer
	if err := run([]string{"1.0.0", os.Args[0]}, &out); err != nil {
		t.Fatal(err)
	}
	var d document
	if err := json.Unmarshal(out.Bytes(), &d); err != nil || d.Format != "CycloneDX" || len(d.Components) == 0 {
		t.Errorf("%v, %s", err, &out)
	}
	if err := run([]string{"1.0.0", "main.go"}, &out); err == nil {
		t.Error("a text is no program")
	}
}
