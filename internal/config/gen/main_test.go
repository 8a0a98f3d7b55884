package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGeneratedFilesAreCurrent(t *testing.T) {
	dir := t.TempDir()
	reference, schema := filepath.Join(dir, "reference"), filepath.Join(dir, "schema")
	if err := run("..", reference, schema); err != nil {
		t.Fatal(err)
	}
	for have, made := range map[string]string{
		"../../../docs/configuration.md": reference,
		"../../../configs/schema.json":   schema,
	} {
		got, err := os.ReadFile(have)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(made)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is not current; run: go generate ./internal/config\n(-want +got):\n%s", have, diff)
		}
	}
}

func TestSchemaRefusesUnknownKeysEverywhere(t *testing.T) {
	root, err := describe("..")
	if err != nil {
		t.Fatal(err)
	}
	data, err := schema(root)
	if err != nil {
		t.Fatal(err)
	}
	var check func(path string, v any)
	objects := 0
	check = func(path string, v any) {
		m, ok := v.(map[string]any)
		if !ok {
			return
		}
		if m["type"] == "object" {
			objects++
			if m["additionalProperties"] != false {
				t.Errorf("%s allows unknown keys", path)
			}
		}
		for key, value := range m {
			check(path+"/"+key, value)
		}
	}
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	check("", v)
	if objects < 9 {
		t.Errorf("only %d groups are described", objects)
	}
}
