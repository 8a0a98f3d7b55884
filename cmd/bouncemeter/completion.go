package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Run prints a script that completes commands, flags and their values. It is
// made from the same model as the help, so it is never behind.
func (k completionCommand) Run(c console, app *kong.Kong) error {
	var script string
	switch k.Shell {
	case "bash":
		script = bashCompletion(app.Model.Node)
	case "zsh":
		// zsh runs bash completions once asked to.
		script = "autoload -U +X bashcompinit && bashcompinit\n" + bashCompletion(app.Model.Node)
	case "fish":
		script = fishCompletion(app.Model.Node)
	}
	_, err := fmt.Fprint(c.out, script)
	return err
}

// walk calls visit for every command with its path, the program itself first.
func walk(n *kong.Node, path []string, visit func(n *kong.Node, path []string)) {
	visit(n, path)
	for _, child := range n.Children {
		if !child.Hidden {
			walk(child, append(slices.Clone(path), child.Name), visit)
		}
	}
}

// flags returns the flags that n takes, those of its parents included.
func flags(n *kong.Node) []*kong.Flag {
	var all []*kong.Flag
	for _, group := range n.AllFlags(true) {
		all = append(all, group...)
	}
	return all
}

func children(n *kong.Node) []string {
	var names []string
	for _, c := range n.Children {
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	return names
}

func bashCompletion(root *kong.Node) string {
	var b strings.Builder
	b.WriteString(`# bash completion for bouncemeter
_bouncemeter() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} path="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    [[ ${COMP_WORDS[i]} == -* ]] || path="$path ${COMP_WORDS[i]}"
  done
  local words=""
  case "$path" in
`)
	var cases []string
	walk(root, nil, func(n *kong.Node, path []string) {
		words := children(n)
		var values strings.Builder
		for _, f := range flags(n) {
			words = append(words, "--"+f.Name)
			if len(f.EnumSlice()) > 0 {
				names := "--" + f.Name
				if f.Short != 0 {
					names += "|-" + string(f.Short)
				}
				fmt.Fprintf(&values, "      case \"$prev\" in %s) COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return;; esac\n", names, strings.Join(f.EnumSlice(), " "))
			}
		}
		for _, p := range n.Positional {
			words = append(words, p.EnumSlice()...)
		}
		pattern := `""`
		if len(path) > 0 {
			pattern = `" ` + strings.Join(path, " ") + `"*`
		}
		cases = append(cases, fmt.Sprintf("    %s)\n%s      words='%s';;\n", pattern, values.String(), strings.Join(words, " ")))
	})
	slices.Reverse(cases) // the longer path first
	b.WriteString(strings.Join(cases, ""))
	b.WriteString(`  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  [[ ${#COMPREPLY[@]} -gt 0 || $cur == -* ]] || COMPREPLY=($(compgen -f -- "$cur"))
}
complete -o filenames -F _bouncemeter bouncemeter
`)
	return b.String()
}

func fishCompletion(root *kong.Node) string {
	var b strings.Builder
	b.WriteString("# fish completion for bouncemeter\n")
	walk(root, nil, func(n *kong.Node, path []string) {
		condition := "__fish_use_subcommand"
		if len(path) > 0 {
			condition = "__fish_seen_subcommand_from " + path[len(path)-1]
		}
		for _, c := range n.Children {
			if !c.Hidden {
				fmt.Fprintf(&b, "complete -c bouncemeter -f -n '%s' -a %s -d %s\n", condition, c.Name, quote(c.Help))
			}
		}
		for _, f := range flags(n) {
			fmt.Fprintf(&b, "complete -c bouncemeter -n '%s' -l %s", condition, f.Name)
			if f.Short != 0 {
				fmt.Fprintf(&b, " -s %s", string(f.Short))
			}
			if len(f.EnumSlice()) > 0 {
				fmt.Fprintf(&b, " -x -a '%s'", strings.Join(f.EnumSlice(), " "))
			} else if !f.IsBool() {
				b.WriteString(" -r")
			}
			fmt.Fprintf(&b, " -d %s\n", quote(f.Help))
		}
		for _, p := range n.Positional {
			if len(p.EnumSlice()) > 0 {
				fmt.Fprintf(&b, "complete -c bouncemeter -f -n '%s' -a '%s'\n", condition, strings.Join(p.EnumSlice(), " "))
			}
		}
	})
	return b.String()
}

// quote makes a word of s for the shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
