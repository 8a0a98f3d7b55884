package main

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

type manCommand struct{}

// Run prints the manual page, made from the same model as the help.
func (manCommand) Run(c console, app *kong.Kong) error {
	var b strings.Builder
	b.WriteString(".\\\" Made by bouncemeter man.\n.TH BOUNCEMETER 1\n.SH NAME\nbouncemeter \\- tells why outbound mail does not arrive\n")
	b.WriteString(".SH SYNOPSIS\n.B bouncemeter\n.I COMMAND\n[\\fIOPTION\\fR]... [\\fIARGUMENT\\fR]...\n.SH DESCRIPTION\n")
	fmt.Fprintf(&b, "%s\n.SH COMMANDS\n", roff(app.Model.Help))
	walk(app.Model.Node, nil, func(n *kong.Node, path []string) {
		if len(path) == 0 || len(n.Children) > 0 {
			return
		}
		fmt.Fprintf(&b, ".SS %s", roff(strings.Join(path, " ")))
		for _, p := range n.Positional {
			fmt.Fprintf(&b, " %s", roff(p.Summary()))
		}
		fmt.Fprintf(&b, "\n%s\n", roff(n.Help))
		for _, p := range n.Positional {
			if p.Help != "" {
				fmt.Fprintf(&b, ".TP\n.I %s\n%s\n", roff(p.Name), roff(p.Help))
			}
		}
		for _, f := range n.Flags {
			if f.Hidden || f.Name == "help" {
				continue
			}
			b.WriteString(".TP\n")
			if f.Short != 0 {
				fmt.Fprintf(&b, "\\fB\\-%c\\fR, ", f.Short)
			}
			fmt.Fprintf(&b, "\\fB\\-\\-%s\\fR", roff(f.Name))
			if !f.IsBool() {
				fmt.Fprintf(&b, "=\\fI%s\\fR", roff(f.FormatPlaceHolder()))
			}
			fmt.Fprintf(&b, "\n%s\n", roff(f.Help))
		}
	})
	b.WriteString(`.SH EXIT STATUS
0 if all is well, 1 if something failed, 2 if the usage or the configuration is wrong.
.SH SIGNALS
.B run
reloads its configuration on SIGHUP, and stores what it has read and ends on SIGTERM.
.SH FILES
.TP
.I /etc/bouncemeter/bouncemeter.yaml
the configuration of the service
.TP
.I /var/lib/bouncemeter
the ledger and the lines that could not be read
.SH SEE ALSO
.BR postfix (1),
.BR prometheus (1)
`)
	_, err := fmt.Fprint(c.out, b.String())
	return err
}

// roff makes text of s: it is no request, and hyphens stay what they are.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
