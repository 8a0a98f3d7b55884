package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/sources/dialect"
	"github.com/bouncemeter/bouncemeter/sources/tail"
)

type initCommand struct {
	Output string `short:"o" default:"bouncemeter.yaml" placeholder:"FILE" help:"Where to write the configuration; - is standard output (${default})."`
	Force  bool   `help:"Replace a file that exists."`
	Root   string `default:"/" placeholder:"FOLDER" hidden:"" help:"Look below this folder."`
	State  string `default:"/var/lib/bouncemeter" placeholder:"FOLDER" help:"Folder of the ledger, if it exists; else the ledger is beside the configuration (${default})."`
}

// places are where mail servers write their logs, those of one program before
// those of all, which may repeat them.
var places = []string{
	"var/log/mail.log", "var/log/maillog", "var/log/mail/mail.log", "var/log/mail",
	"var/log/exim4/mainlog", "var/log/exim/mainlog", "var/log/exim/main.log", "var/log/exim_mainlog",
	"var/log/qmail/current", "var/log/qmail/send/current", "var/log/haraka.log", "var/log/haraka/haraka.log",
	"var/log/zone-mta.log", "var/log/zone-mta/zone-mta.log", "var/log/pmta/acct.csv", "var/log/pmta/log",
}

var everything = []string{"var/log/syslog", "var/log/messages"}

// sampleBytes is how much of a log is looked at.
const sampleBytes = 8 << 20

// foundLog is a log with deliveries.
type foundLog struct{ path, dialect string }

// Run finds the logs of mail servers and writes a configuration that reads them.
func (i initCommand) Run(ctx context.Context, c console) error {
	if i.Output != "-" && !i.Force {
		if _, err := os.Lstat(i.Output); err == nil {
			return usageError{fmt.Errorf("%s exists: choose another file with -o, or replace it with --force", i.Output)}
		}
	}
	logs, err := i.find(ctx, places, nil, c.err)
	if err == nil {
		logs, err = i.find(ctx, everything, logs, c.err)
	}
	if err != nil {
		return err
	}
	if len(logs) == 0 {
		return errors.New("no log of a mail server was found below /var/log: name one in a configuration of your own (docs/configuration.md), or see what it is with bouncemeter report FILE; if the journal is the only log, let rsyslog write /var/log/mail.log")
	}
	text := i.config(logs)
	if i.Output == "-" {
		_, err := io.WriteString(c.out, text)
		return err
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if i.Force {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(i.Output, flags, 0o640)
	if err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	if _, err := f.WriteString(text); err != nil {
		return errors.Join(fmt.Errorf("write the configuration: %w", err), f.Close())
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	for _, l := range logs {
		fmt.Fprintf(c.out, "found    %s (%s)\n", l.path, l.dialect)
	}
	fmt.Fprintf(c.out, `wrote    %[1]s

What to do next:
  bouncemeter report %[2]s    why mail failed so far
  bouncemeter check -c %[1]s    whether all is well with the configuration
  bouncemeter run -c %[1]s    the daemon; its page is at http://127.0.0.1:9725/
Then say in %[1]s who is to be told of alerts (docs/alerts.md).
`, i.Output, logs[0].path)
	return nil
}

// find adds the logs among the places whose lines a dialect takes. A dialect
// that has a log already gets no second one: lines would be counted twice.
func (i initCommand) find(ctx context.Context, places []string, logs []foundLog, stderr io.Writer) ([]foundLog, error) {
	have := slices.Clone(logs)
	for _, place := range places {
		path := filepath.Join(i.Root, place)
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		name, err := recognise(ctx, path)
		if err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			remedy := ""
			if errors.Is(err, fs.ErrPermission) {
				remedy = "; may this user read it? On Debian the group adm may"
			}
			fmt.Fprintf(stderr, "bouncemeter: %v%s\n", err, remedy)
			continue
		}
		if name == "" && info.Size() == 0 {
			name = i.server()
		}
		if name != "" && !slices.ContainsFunc(have, func(l foundLog) bool { return l.dialect == name }) {
			logs = append(logs, foundLog{path, name})
		}
	}
	return logs, nil
}

// server is the dialect of the mail server that is installed, for a log in which
// nothing stands yet; "" if it cannot be told.
func (i initCommand) server() string {
	for _, s := range []struct{ file, dialect string }{
		{"etc/postfix/main.cf", "postfix"}, {"etc/exim4", "exim"}, {"etc/exim", "exim"},
		{"etc/mail/sendmail.cf", "sendmail"}, {"etc/smtpd.conf", "opensmtpd"},
	} {
		if _, err := os.Stat(filepath.Join(i.Root, s.file)); err == nil {
			return s.dialect
		}
	}
	return ""
}

// config is the text of a configuration that reads the logs.
func (i initCommand) config(logs []foundLog) string {
	var b strings.Builder
	b.WriteString("# Made by bouncemeter init. What each setting means, and all others:\n# docs/configuration.md\nsources:\n")
	for _, l := range logs {
		fmt.Fprintf(&b, "  - {name: %s, kind: tail, paths: [%q], dialect: %s}\n", l.dialect, l.path, l.dialect)
	}
	ledger := "ledger.db # beside this file"
	if info, err := os.Stat(i.State); err == nil && info.IsDir() {
		ledger = filepath.Join(i.State, "ledger.db")
	}
	fmt.Fprintf(&b, "ledger:\n  sqlite: %s\nprivacy:\n  addresses: domain # no full address is stored or shown\nhttp:\n  listen: 127.0.0.1:9725 # page, /metrics, /-/healthy, /-/ready\n", ledger)
	b.WriteString("# The built-in alerts hold without a word. Who is told of them (docs/alerts.md):\n# notify:\n#   - {kind: alertmanager, urls: [\"http://127.0.0.1:9093\"]}\n")
	return b.String()
}

// recognise returns the dialect of most lines at the beginning of a log, or "" if
// it has none of a mail server. It is auto where that understands more, such as
// lines in a container's log.
func recognise(ctx context.Context, path string) (string, error) {
	auto, unread, err := sample(ctx, path, dialect.Auto)
	if err != nil {
		return "", err
	}
	lines := auto.(dialect.Recogniser).Recognised()
	best := ""
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		if lines[name] > lines[best] {
			best = name
		}
	}
	if best == "" {
		return "", nil
	}
	if _, own, err := sample(ctx, path, best); err != nil || own > unread {
		best = dialect.Auto
	}
	return best, nil
}

// sample parses the beginning of a log and returns how many lines could not be
// read.
func sample(ctx context.Context, path, name string) (p dialect.Parser, unread int, err error) {
	if p, err = dialect.New(name, time.Local); err != nil {
		return nil, 0, err
	}
	files, err := tail.OpenFiles([]string{path}, tail.FilesOptions{})
	if err != nil {
		return nil, 0, err
	}
	defer files.Close()
	var batch event.Batch
	var events []event.Event
	for read := 0; read < sampleBytes; {
		err := files.Read(ctx, &batch)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, 0, err
		}
		p.Reference(batch.Reference)
		if h, ok := p.(dialect.Headed); ok {
			h.Header(batch.Header)
		}
		for _, line := range batch.Lines {
			read += len(line.Text)
			if events, err = p.Parse(line.Text, events[:0]); err != nil {
				unread++
			}
		}
	}
	return p, unread, nil
}
