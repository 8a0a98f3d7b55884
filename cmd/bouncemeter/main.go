// Command bouncemeter tells mail operators why their mail did not arrive.
//
// Exit codes: 0 fine, 1 failed, 2 wrong usage or configuration. Results go to
// standard output, everything else to standard error.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/bouncemeter/bouncemeter/internal/config"
)

// commands is the command line; scripts depend on its names.
type commands struct {
	Init        initCommand        `cmd:"" help:"Find the mail server's log and write a configuration that reads it."`
	Run         runCommand         `cmd:"" help:"Run the daemon: read the sources, count, serve metrics and the page."`
	Demo        demoCommand        `cmd:"" help:"Show it all at work on a simulated mail server. Needs nothing, leaves nothing."`
	Bench       benchCommand       `cmd:"" help:"Measure how good the detector is."`
	Backtest    backtestCommand    `cmd:"" help:"List the alerts that logs or a ledger would have raised."`
	Top         topCommand         `cmd:"" help:"Follow logs and show why mail fails now, by provider, against the usual."`
	Report      reportCommand      `cmd:"" help:"Tell why mail failed, from existing logs or from a daemon's ledger."`
	Ingest      ingestCommand      `cmd:"" help:"Read bounce mails and abuse reports: one classified record per recipient."`
	Classify    classifyCommand    `cmd:"" help:"Say why for each reply given, or for each line of standard input."`
	Explain     explainCommand     `cmd:"" help:"Say how a verdict came about: the rule that won, its evidence, the runners-up."`
	Rules       rulesCommand       `cmd:"" help:"Check, test, import and export the classification rules."`
	Mine        mineCommand        `cmd:"" help:"Group the replies that no rule explains, with a draft of a rule for each."`
	Alerts      alertsCommand      `cmd:"" help:"List the alerts of a daemon, or explain one."`
	Digest      digestCommand      `cmd:"" help:"Compare a day or a week with the one before: what got worse, what got better, what is new."`
	Suppression suppressionCommand `cmd:"" help:"List the recipients that should not be mailed any more, or take some off the list."`
	Check       checkCommand       `cmd:"" help:"Check a configuration: all faults at once, each with its place and remedy."`
	Health      healthCommand      `cmd:"" help:"Ask a daemon whether it is ready: exit code 0 or 1."`
	Version     versionCommand     `cmd:"" help:"Print the version."`
	Man         manCommand         `cmd:"" help:"Print the manual page."`
	Completion  completionCommand  `cmd:"" help:"Print a completion script for bash, zsh or fish."`
}

// console is where a command reads and writes.
type console struct {
	in       io.Reader
	out, err io.Writer
}

// usageError is a mistake in how the program was called: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the program at once; the ledger is safe at any time.
	context.AfterFunc(ctx, stop)
	code := execute(ctx, os.Args[1:], console{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// execute runs one command line and returns the exit code.
func execute(ctx context.Context, args []string, c console) (code int) {
	var cli commands
	exited := false
	parser, err := kong.New(&cli,
		kong.Name("bouncemeter"),
		kong.Description("bouncemeter reads what became of every delivery, says why the failures happened, counts and shows them."),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Writers(c.out, c.err),
		kong.Exit(func(n int) { exited, code = true, n }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(c),
	)
	if err != nil {
		fmt.Fprintln(c.err, "bouncemeter:", err)
		return 1
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if exited {
		return code // --help
	}
	if err != nil {
		help := "bouncemeter"
		var e *kong.ParseError
		if errors.As(err, &e) && e.Context != nil && e.Context.Selected() != nil {
			help = e.Context.Selected().FullPath()
		}
		fmt.Fprintf(c.err, "bouncemeter: %v; see %s --help\n", err, help)
		return 2
	}
	err = parsed.Run()
	var faults config.Faults
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &faults):
		for _, f := range faults {
			fmt.Fprintln(c.err, f.Error())
		}
		return 2
	case errors.As(err, &usage):
		fmt.Fprintln(c.err, "bouncemeter:", err)
		return 2
	case errors.Is(err, syscall.EPIPE), errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return 1 // the reader went away, or the user did
	default:
		fmt.Fprintln(c.err, "bouncemeter:", err)
		return 1
	}
}
