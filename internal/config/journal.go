package config

import (
	"fmt"
	"os"
	"os/exec"
	"slices"

	"github.com/bouncemeter/bouncemeter/sources/journal"
)

// checkJournal checks a source that reads the journal.
func (l *loader) checkJournal(path string, s Source) {
	if len(s.Units)+len(s.Identifiers) == 0 && !l.failed(path+".units") && !l.failed(path+".identifiers") {
		l.fault(path+".units", "nothing says which entries of the journal are read", "name the mail server's unit: units: [postfix@-.service]")
	}
	for i, unit := range s.Units {
		l.explained(fmt.Sprintf("%s.units[%d]", path, i), journal.CheckUnit(unit))
	}
	for i, identifier := range s.Identifiers {
		if identifier == "" {
			l.fault(fmt.Sprintf("%s.identifiers[%d]", path, i), "the name is empty", "name a program such as sm-mta")
		}
	}
	if len(s.Paths) > 1 {
		l.fault(path+".paths", "a journal is in one folder", "name one, or none for this machine's")
	}
	if slices.Contains(ofFiles, s.Dialect) {
		l.fault(path+".dialect", fmt.Sprintf("records of dialect %s are not in a journal", s.Dialect), "name the mail server, such as postfix")
	}
}

// checkJournalHost looks for what reads the journal.
func (l *loader) checkJournalHost(c *Config) {
	for i, s := range c.Sources {
		if s.Kind != "journald" {
			continue
		}
		path := fmt.Sprintf("sources[%d]", i)
		if _, err := exec.LookPath("journalctl"); err != nil {
			l.warn(path+".kind", "there is no journalctl, which reads the journal", "install systemd, or follow a log file by kind: tail")
		}
		for j, folder := range s.Paths {
			if info, err := os.Stat(folder); err != nil || !info.IsDir() {
				l.warn(fmt.Sprintf("%s.paths[%d]", path, j), folder+" is no folder now", "name the folder of the journal's files, such as /var/log/journal")
			}
		}
	}
}
