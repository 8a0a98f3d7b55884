package main

import (
	"context"
	"slices"

	"github.com/bouncemeter/bouncemeter/sinks/suppression"
)

type suppressionCommand struct {
	List suppressionListCommand `cmd:"" default:"withargs" help:"Print the recipients that should not be mailed any more."`
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
