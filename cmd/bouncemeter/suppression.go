package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bouncemeter/bouncemeter/sinks/suppression"
)

type suppressionCommand struct {
	List   suppressionListCommand   `cmd:"" default:"withargs" help:"Print the recipients that should not be mailed any more."`
	Remove suppressionRemoveCommand `cmd:"" help:"Take recipients off the list, such as those who asked for mail again."`
}

type suppressionListCommand struct {
	Output string   `short:"o" enum:"text,csv,json" default:"text" help:"Form of the list: text is one address a line, json one object a line, csv has a line of names first."`
	Reason []string `placeholder:"REASON" help:"Only those listed for this category, or for a complaint. May be repeated."`
	File   string   `arg:"" help:"The list: the path of the daemon's sink of kind suppression. The daemon may be running."`
}

// Run prints the list in order of addresses.
func (k suppressionListCommand) Run(ctx context.Context, c console) error {
	e, err := suppression.NewEncoder(c.out, suppression.Format(k.Output))
	if err != nil {
		return err
	}
	if err := suppression.Read(ctx, k.File, func(x *suppression.Entry) error {
		if len(k.Reason) > 0 && !slices.Contains(k.Reason, x.Reason) {
			return nil
		}
		return e.Encode(x)
	}); err != nil {
		return err
	}
	return e.Flush()
}

type suppressionRemoveCommand struct {
	File    string   `arg:"" help:"The list: the path of the daemon's sink of kind suppression. The daemon may be running."`
	Address []string `arg:"" help:"The addresses, as the list shows them."`
}

// Run takes addresses off the list. Those that are not on it are an error, once
// the others are off.
func (k suppressionRemoveCommand) Run(ctx context.Context) error {
	missing, err := suppression.Remove(ctx, k.File, k.Address, time.Now())
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("not on the list: %s", strings.Join(missing, ", "))
	}
	return nil
}
