package main

import (
	"bytes"
	"os"
	"testing"
)

func TestDocumentIsCurrent(t *testing.T) {
	got, err := os.ReadFile("../../../docs/categories.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, document()) {
		t.Error("docs/categories.md is not current: run go generate ./classifier")
	}
}
