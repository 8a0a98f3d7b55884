package main

import (
	"fmt"
	"io"
	"os"

	"github.com/bouncemeter/bouncemeter/classifier"
	"github.com/bouncemeter/bouncemeter/classifier/ruleimport"
)

type rulesCommand struct {
	Lint   rulesLint   `cmd:"" help:"Find rules that are unreachable, shadowed, duplicate or too broad."`
	Test   rulesTest   `cmd:"" help:"Classify every rule's examples and compare."`
	Import rulesImport `cmd:"" help:"Print another mail server's bounce rules as a rule file."`
	Export rulesExport `cmd:"" help:"Print the rules as a bounce classifier of KumoMTA."`
}

type rulesLint struct{ ruleFiles }

// Run lints the shipped rules together with the user's.
func (k rulesLint) Run(c console) error {
	rules, err := k.load()
	if err != nil {
		return err
	}
	return showFaults(c.out, rules.Lint(), len(rules.Rules()), "no faults")
}

type rulesTest struct{ ruleFiles }

// Run tests the examples of the shipped rules and the user's.
func (k rulesTest) Run(c console) error {
	rules, err := k.load()
	if err != nil {
		return err
	}
	return showFaults(c.out, rules.Test(), len(rules.Rules()), "every example is right")
}

func showFaults(w io.Writer, faults []classifier.Fault, rules int, fine string) error {
	for _, f := range faults {
		fmt.Fprintln(w, f.Error())
	}
	if len(faults) > 0 {
		return fmt.Errorf("%d fault(s) in %d rules", len(faults), rules)
	}
	_, err := fmt.Fprintf(w, "%d rules: %s\n", rules, fine)
	return err
}

type rulesImport struct {
	From string `enum:"kumomta,powermta" required:"" help:"kumomta (a bounce classifier, TOML) or powermta (<bounce-category-patterns>)."`
	File string `arg:"" help:"The file to read."`
}

// Run writes the rules to standard output; what could not be taken over goes
// to standard error, line by line.
func (k rulesImport) Run(c console) error {
	f, err := os.Open(k.File)
	if err != nil {
		return fmt.Errorf("read rules: %w", err)
	}
	defer f.Close()
	read := ruleimport.KumoMTA
	if k.From == "powermta" {
		read = ruleimport.PowerMTA
	}
	left, err := read(c.out, k.File, f)
	for _, fault := range left {
		fmt.Fprintln(c.err, fault.Error())
	}
	return err
}

type rulesExport struct{ ruleFiles }

// Run exports the shipped rules together with the user's.
func (k rulesExport) Run(c console) error {
	rules, err := k.load()
	if err != nil {
		return err
	}
	return rules.ExportKumoMTA(c.out)
}
