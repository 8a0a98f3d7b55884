package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	_ "time/tzdata" // time zones have names on machines without a zone database, too

	"github.com/bouncemeter/bouncemeter/sinks/notify"
)

// Bounds of what package tail takes.
const (
	minLineBytes Size = 256
	maxLineBytes Size = 16 << 20
	minPoll           = 10 * time.Millisecond
	maxPoll           = time.Minute
	// What package kafka takes.
	minSession = 6 * time.Second
	maxSession = 5 * time.Minute
)

// maxPeriod bounds durations: longer ones are slips of the pen, and sums with
// points in time could overflow.
const maxPeriod = 100 * 366 * 24 * time.Hour

// minKey is the shortest key for hashes of addresses, in bytes. A shorter one
// can be guessed, and with it the addresses.
const minKey = 16

// check finds what is wrong with the values themselves.
func (l *loader) check(c *Config) {
	l.checkSources(c.Sources)
	l.checkReceivers(c)
	l.checkRetention(c.Ledger.Retention)
	l.checkLedger(c)
	for _, p := range []struct {
		path   string
		period time.Duration
	}{
		{"ledger.postgres.timeout", c.Ledger.Postgres.Timeout},
		{"limits.queue_lifetime", c.Limits.QueueLifetime},
		{"limits.lateness", c.Limits.Lateness},
		{"limits.commit_every", c.Limits.CommitEvery},
	} {
		if p.period > maxPeriod {
			l.fault(p.path, "it is longer than a hundred years", "leave it out to get the default")
		}
	}
	if c.Privacy.Addresses == "hash" && c.Privacy.KeyFile == "" {
		l.fault("privacy.key_file", "hashes of addresses need a key", "make one with: openssl rand -hex 32 > FILE; chmod 600 FILE, and name the file here")
	}
	if c.DeadLetter.Path == "" {
		c.DeadLetter.Path = filepath.Join(c.StateDir(), "dead-letter.jsonl")
	}
	if c.DeadLetter.Path == c.Ledger.SQLite {
		l.fault("dead_letter.path", "this is the file of the ledger", "name another file")
	}
	l.checkListen(c.HTTP.Listen)
	if c.HTTP.ExternalURL != "" {
		l.explained("http.external_url", notify.CheckURL(c.HTTP.ExternalURL))
	}
	l.checkAlerts(c.Alerts)
	l.checkNotify(c.Notify)
	l.checkSinks(c)
}

func (l *loader) checkSources(sources []Source) {
	if len(sources) == 0 && !l.failed("sources") {
		l.fault("sources", "there are no sources, so nothing would be read", "add one: sources: [{name: mta, kind: tail, paths: [/var/log/mail.log]}]")
	}
	names := make(map[string]int)
	paths := make(map[string]string)
	stdin := ""
	for i, s := range sources {
		path := fmt.Sprintf("sources[%d]", i)
		if l.failed(path) {
			continue
		}
		first, again := names[s.Name]
		switch {
		case s.Name == "":
			if !l.failed(path + ".name") {
				l.fault(path+".name", "the source has no name", "give it one such as mta1")
			}
		case !validName(s.Name):
			l.fault(path+".name", fmt.Sprintf("%q is not a name", s.Name), "use lower-case letters, digits, _ and -")
		case again:
			l.fault(path+".name", fmt.Sprintf("%q is the name of sources[%d] already", s.Name, first), "give each source a name of its own")
		default:
			names[s.Name] = i
		}
		if known := Dialects(); !slices.Contains(known, s.Dialect) {
			l.fault(path+".dialect", fmt.Sprintf("%q is not a dialect", s.Dialect), suggest(s.Dialect, known))
		}
		l.checkMapping(path, s)
		if _, err := time.LoadLocation(s.Timezone); err != nil || s.Timezone == "" {
			l.fault(path+".timezone", fmt.Sprintf("%q is not a time zone", s.Timezone), "use an IANA name such as Europe/Berlin, or UTC or Local")
		}
		if n := s.MaxLineBytes; n < minLineBytes || n > maxLineBytes {
			l.fault(path+".max_line_bytes", fmt.Sprintf("%v is out of bounds", n), fmt.Sprintf("use %v to %v", minLineBytes, maxLineBytes))
		}
		if p := s.Poll; p < minPoll || p > maxPoll {
			l.fault(path+".poll", fmt.Sprintf("%s is out of bounds", FormatDuration(p)), fmt.Sprintf("use %s to %s", FormatDuration(minPoll), FormatDuration(maxPoll)))
		}
		if s.Kind != "" {
			l.only(path, "source", s.Kind, sourceKinds, s, DefaultSource())
		}
		switch s.Kind {
		case "tail", "maildir":
			l.checkPaths(path, s, paths)
		case "lmtp", "smtp":
			l.checkPaths(path, s, paths)
			l.checkMail(path, &s)
		case "kafka":
			l.checkKafka(path, s)
		case "journald":
			l.checkJournal(path, s)
		case "stdin":
			if stdin != "" {
				l.fault(path+".kind", "standard input is read by "+stdin+" already", "remove one of the two")
			}
			stdin = path
		case "":
			if !l.failed(path + ".kind") {
				l.fault(path+".kind", "the source has no kind", "write kind: tail to follow log files")
			}
		}
	}
}

func (l *loader) checkKafka(path string, s Source) {
	if len(s.Topics) == 0 && s.Pattern == "" && !l.failed(path+".topics") {
		l.fault(path+".topics", "there are no topics to read", "name them: topics: [delivery-status], or set a pattern")
	}
	if d := s.SessionTimeout; d != 0 && (d < minSession || d > maxSession) {
		l.fault(path+".session_timeout", fmt.Sprintf("%s is out of bounds", FormatDuration(d)), fmt.Sprintf("use %s to %s", FormatDuration(minSession), FormatDuration(maxSession)))
	}
	ids, err := s.PartitionIDs()
	slices.Sort(ids)
	switch {
	case l.failed(path + ".partitions"):
	case err != nil:
		l.fault(path+".partitions", err.Error(), `write them as "0-3, 7"`)
	case len(slices.Compact(slices.Clone(ids))) < len(ids):
		l.fault(path+".partitions", "one is named twice", "name each once")
	case len(ids) > 0 && s.Group != "":
		l.fault(path+".partitions", "a group shares the partitions by itself", "remove either group or partitions")
	}
	// The rest is checked where it is used, files of keys and passwords included.
	if !l.failed(path+".brokers") && !l.failed(path+".tls") && !l.failed(path+".sasl") {
		l.explained(path, s.Cluster().Check())
	}
}

// checkPaths checks what a source tails; seen maps the paths of all sources so
// far to where they stand.
func (l *loader) checkPaths(path string, s Source, seen map[string]string) {
	if len(s.Paths) == 0 && !l.failed(path+".paths") {
		l.fault(path+".paths", "there are no files to follow", "add the log: paths: [/var/log/mail.log]")
	}
	for i, pattern := range s.Paths {
		p := fmt.Sprintf("%s.paths[%d]", path, i)
		if l.failed(p) {
			continue
		}
		if pattern == "" {
			l.fault(p, "the path is empty", "name a log file")
			continue
		}
		if _, err := filepath.Match(pattern, ""); err != nil {
			l.fault(p, fmt.Sprintf("%q is not a pattern", pattern), `close the bracket, or write \[ for a bracket in a name`)
			continue
		}
		if first, again := seen[pattern]; again {
			l.fault(p, "this file is read by "+first+" already and would be counted twice", "remove one of the two")
			continue
		}
		seen[pattern] = p
	}
}

func (l *loader) checkRetention(r Retention) {
	for _, p := range []struct {
		key    string
		period time.Duration
	}{
		{"minutes", r.Minutes}, {"hours", r.Hours}, {"days", r.Days}, {"templates", r.Templates}, {"domains", r.Domains},
		{"alerts", r.Alerts},
	} {
		if p.period > maxPeriod {
			l.fault("ledger.retention."+p.key, "it is longer than a hundred years", "write at most 36600d")
		}
	}
	if r.Hours < r.Minutes {
		l.fault("ledger.retention.hours", fmt.Sprintf("%s is shorter than minutes, which is %s", FormatDuration(r.Hours), FormatDuration(r.Minutes)), "counts per hour follow those per minute: write at least as much")
	}
	if r.Days < r.Hours {
		l.fault("ledger.retention.days", fmt.Sprintf("%s is shorter than hours, which is %s", FormatDuration(r.Days), FormatDuration(r.Hours)), "counts per day follow those per hour: write at least as much")
	}
}

func (l *loader) checkListen(address string) {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || strings.ContainsAny(host, " /") {
		l.fault("http.listen", fmt.Sprintf("%q is not an address with a port", address), "write it as 127.0.0.1:9725 or [::1]:9725, or :9725 for all addresses")
	}
}

// failed tells whether path has a fault already, so that no second one follows
// from it.
func (l *loader) failed(path string) bool {
	return slices.ContainsFunc(l.faults, func(f Fault) bool { return f.Path == path })
}

func validName(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_-") == ""
}

// checkHost finds what is wrong with the files and folders that the values
// name.
func (l *loader) checkHost(c *Config) {
	for i, s := range c.Sources {
		if s.Kind != "tail" {
			continue
		}
		for j, pattern := range s.Paths {
			l.checkLogs(fmt.Sprintf("sources[%d].paths[%d]", i, j), pattern)
		}
	}
	l.checkJournalHost(c)
	l.checkReceiverHost(c)
	l.checkLedgerHost(c)
	if c.DeadLetter.Enabled && (c.Ledger.SQLite == "" || filepath.Dir(c.DeadLetter.Path) != c.StateDir()) {
		l.checkFolder("dead_letter.path", c.DeadLetter.Path)
	}
	for i, file := range c.Rules.Files {
		l.checkReadable(fmt.Sprintf("rules.files[%d]", i), file)
	}
	for i, file := range c.Rules.Providers {
		l.checkReadable(fmt.Sprintf("rules.providers[%d]", i), file)
	}
	if c.HTTP.WebConfigFile != "" {
		l.checkReadable("http.web_config_file", c.HTTP.WebConfigFile)
	}
	l.checkNotifyHost(c)
	l.checkSinksHost(c)
	if c.Privacy.KeyFile != "" {
		c.Privacy.Key = l.readSecret("privacy.key_file", c.Privacy.KeyFile)
		if n := len(c.Privacy.Key); n < minKey && !l.failed("privacy.key_file") {
			l.fault("privacy.key_file", fmt.Sprintf("the key has %d bytes, which can be guessed", n), "make one with: openssl rand -hex 32")
		}
	}
}

// checkLogs warns only: a log may come, or become readable, later.
func (l *loader) checkLogs(path, pattern string) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return // a fault by now
	}
	if len(files) == 0 {
		l.warn(path, fmt.Sprintf("no file matches %s now", pattern), "check the path; it is fine if the file comes later")
	}
	for _, file := range files {
		if err := readable(file); err != nil {
			l.warn(path, fmt.Sprintf("%s cannot be read: %v", file, reason(err)), "let the daemon's user read it, on Debian through the group adm")
		}
	}
}

// checkFolder checks that the folder of a file to be written exists.
func (l *loader) checkFolder(path, file string) {
	folder := filepath.Dir(file)
	switch info, err := os.Stat(folder); {
	case errors.Is(err, fs.ErrNotExist):
		l.fault(path, fmt.Sprintf("the folder %s does not exist", folder), fmt.Sprintf("make it, writable for the daemon's user: install -d -o USER %s", folder))
	case err != nil:
		l.fault(path, fmt.Sprintf("the folder %s cannot be used: %v", folder, reason(err)), "let the daemon's user enter it")
	case !info.IsDir():
		l.fault(path, fmt.Sprintf("%s is not a folder", folder), "name a file in a folder")
	default:
		if info, err := os.Stat(file); err == nil && info.IsDir() {
			l.fault(path, fmt.Sprintf("%s is a folder", file), "name a file in it")
		}
	}
}

func (l *loader) checkReadable(path, file string) {
	if err := readable(file); err != nil {
		l.fault(path, fmt.Sprintf("%s cannot be read: %v", file, reason(err)), "correct the name, or let the daemon's user read it")
	}
}

func readable(file string) error {
	// Opening a named pipe would wait for a writer.
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return errors.New("it is a folder")
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	return f.Close()
}

func (l *loader) readSecret(path, file string) Secret {
	const limit = 64 << 10
	data, err := readFile(file, limit)
	if err != nil {
		l.fault(path, fmt.Sprintf("%s cannot be read: %v", file, reason(err)), "correct the name, or let the daemon's user read it")
		return ""
	}
	if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o004 != 0 {
		l.warn(path, fmt.Sprintf("every user of this machine can read %s", file), "chmod 640 "+file)
	}
	return Secret(strings.TrimSpace(string(data)))
}
