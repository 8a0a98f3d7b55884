// Command grafana writes the Grafana dashboards below configs/grafana, so that
// they agree in their looks, variables and links.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

//go:generate go run . ../../configs/grafana/dashboards

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: grafana FOLDER")
		os.Exit(2)
	}
	for _, b := range boards() {
		text, err := b.json()
		if err == nil {
			err = os.WriteFile(filepath.Join(os.Args[1], b.file()), text, 0o644)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "grafana: write dashboard %s: %v\n", b.UID, err)
			os.Exit(1)
		}
	}
}

// file is the name of the dashboard's file.
func (b board) file() string { return b.UID + ".json" }

// json is the dashboard as Grafana imports it.
func (b board) json() ([]byte, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false) // queries are to be read
	e.SetIndent("", "  ")
	err := e.Encode(b)
	return text.Bytes(), err
}
