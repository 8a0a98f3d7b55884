package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with the configuration.
type Fault struct {
	// File and Line tell where a value of the file stands. Line is 0 where the
	// fault is that something is missing.
	File string
	Line int
	// Setter names what set the value if the file did not: the environment
	// variable, or "command line".
	Setter  string
	Path    string // such as sources[0].paths; empty for the file as a whole
	Problem string
	Remedy  string
}

// Error returns the fault as one line: PLACE: PATH: PROBLEM; REMEDY.
func (f Fault) Error() string {
	var b strings.Builder
	switch {
	case f.Setter != "":
		fmt.Fprintf(&b, "%s: ", f.Setter)
	case f.File != "" && f.Line > 0:
		fmt.Fprintf(&b, "%s:%d: ", f.File, f.Line)
	case f.File != "":
		fmt.Fprintf(&b, "%s: ", f.File)
	}
	if f.Path != "" {
		fmt.Fprintf(&b, "%s: ", f.Path)
	}
	b.WriteString(f.Problem)
	if f.Remedy != "" {
		fmt.Fprintf(&b, "; %s", f.Remedy)
	}
	return b.String()
}

// Faults are all faults of one configuration, in the order of the file.
type Faults []Fault

// Error returns one fault a line.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

func (fs Faults) sort() {
	slices.SortStableFunc(fs, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Setter, b.Setter), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Path, b.Path))
	})
}

// suggest names the candidate that a mistyped word probably means, or all of
// them.
func suggest(word string, candidates []string) string {
	best, distance := "", max(2, len(word)/3)+1
	for _, c := range candidates {
		if d := edits(strings.ToLower(word), c); d < distance {
			best, distance = c, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %s?", best)
	}
	return "use " + oneOf(candidates)
}

// oneOf lists words as "a, b or c".
func oneOf(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// edits is the Levenshtein distance of a and b in bytes. Words of the
// configuration are short; a very long a is simply far away.
func edits(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
