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
	"text/tabwriter"
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

// foundLog is a log with deliveries: a file, or the journal's entries of some
// units.
type foundLog struct {
	path, dialect string
	units         []string
}

// journalUnits are those of systemd that the mail servers' entries in the journal
// are of.
var journalUnits = map[string][]string{
	"postfix": {"postfix@-.service", "postfix.service"}, "exim": {"exim4.service", "exim.service"},
	"sendmail": {"sendmail.service"}, "opensmtpd": {"opensmtpd.service", "smtpd.service"},
}

// journal returns the journal as a log if there is one, and a mail server whose
// entries may be in it.
func (i initCommand) journal() []foundLog {
	server := i.server()
	for _, folder := range []string{"var/log/journal", "run/log/journal"} {
		if info, err := os.Stat(filepath.Join(i.Root, folder)); err == nil && info.IsDir() && server != "" {
			return []foundLog{{path: "the journal", dialect: server, units: journalUnits[server]}}
		}
	}
	return nil
}

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
		logs = i.journal()
	}
	if len(logs) == 0 {
		return errors.New("no log of a mail server was found below /var/log: name one in a configuration of your own (docs/configuration.md), or see what it is with bouncemeter report FILE")
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
	w := tabwriter.NewWriter(c.out, 0, 0, 4, ' ', 0)
	fmt.Fprintf(w, "wrote    %[1]s\n\nWhat to do next:\n", i.Output)
	if logs[0].units == nil {
		fmt.Fprintf(w, "  bouncemeter report %s\twhy mail failed so far\n", logs[0].path)
	} else {
		fmt.Fprintf(w, "  journalctl -o short-iso-precise -u %s | bouncemeter report -\twhy mail failed so far\n", logs[0].units[0])
	}
	fmt.Fprintf(w, "  bouncemeter check -c %s\twhether all is well with the configuration\n", i.Output)
	fmt.Fprintf(w, "  bouncemeter run -c %s\tthe daemon; its page is at http://127.0.0.1:9725/\n", i.Output)
	fmt.Fprintf(w, "Then say in %s who is to be told of alerts (docs/alerts.md).\n", i.Output)
	return w.Flush()
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
			logs = append(logs, foundLog{path: path, dialect: name})
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
		if l.units != nil {
			fmt.Fprintf(&b, "  - {name: %s, kind: journald, units: [%s], dialect: %s}\n", l.dialect, strings.Join(l.units, ", "), l.dialect)
			continue
		}
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
