// Command security writes how old the dependencies are between the markers of
// docs/security.md, as the module proxy tells; it is for where govulncheck cannot
// reach its database. The tests beside it ask the real program for what it must
// not give: pages without a login, secrets, addresses.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

const (
	page  = "docs/security.md"
	begin = "<!-- dependencies: begin -->\n"
	end   = "<!-- dependencies: end -->\n"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "security:", err)
		os.Exit(1)
	}
}

// module is what go list tells of one.
type module struct {
	Path, Version  string
	Time           time.Time
	Main, Indirect bool
	Update         *module
}

func run() error {
	cmd := exec.Command("go", "list", "-m", "-u", "-json", "all")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("list modules: %w", err)
	}
	var table bytes.Buffer
	fmt.Fprintf(&table, "Direct dependencies as of %s, with what is newer, if anything:\n\n| module | version | of | newest | of |\n|---|---|---|---|---|\n", time.Now().UTC().Format("2 January 2006"))
	indirect, behind := 0, 0
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var m module
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("read the list of modules: %w", err)
		}
		switch {
		case m.Main:
		case m.Indirect:
			indirect++
			if m.Update != nil {
				behind++
			}
		default:
			newest, of := "", ""
			if m.Update != nil {
				newest, of = m.Update.Version, m.Update.Time.Format(time.DateOnly)
			}
			fmt.Fprintf(&table, "| %s | %s | %s | %s | %s |\n", m.Path, m.Version, m.Time.Format(time.DateOnly), newest, of)
		}
	}
	fmt.Fprintf(&table, "\nOf %d more that these need, %d have newer versions.\n", indirect, behind)
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, ok := bytes.Cut(text, []byte(begin))
	_, after, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		return fmt.Errorf("%s has no markers", page)
	}
	return os.WriteFile(page, bytes.Join([][]byte{before, []byte(begin), table.Bytes(), []byte(end), after}, nil), 0o644)
}
