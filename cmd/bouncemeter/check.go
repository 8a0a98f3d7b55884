package main

import (
	"fmt"
	"os"

	"github.com/bouncemeter/bouncemeter/classifier"
	"github.com/bouncemeter/bouncemeter/internal/config"
)

type checkCommand struct {
	Config string `short:"c" required:"" type:"path" placeholder:"FILE" help:"Configuration to check."`
}

// Run reports all faults of a configuration and of the rules it names.
func (k checkCommand) Run(c console) error {
	cfg, err := config.Load(k.Config, os.Environ(), nil)
	if err != nil {
		return err
	}
	for _, w := range cfg.Warnings {
		fmt.Fprintln(c.err, "warning:", w.Error())
	}
	if _, err := classifier.New(classifier.Options{RuleFiles: cfg.Rules.Files, ProviderFiles: cfg.Rules.Providers}); err != nil {
		return usageError{err}
	}
	_, err = fmt.Fprintf(c.out, "%s is fine: %d source(s), ledger %s, http %s\n", k.Config, len(cfg.Sources), cfg.Ledger.SQLite, cfg.HTTP.Listen)
	return err
}
