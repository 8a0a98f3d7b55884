package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/bouncemeter/bouncemeter/classifier"
	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/config"
	"github.com/bouncemeter/bouncemeter/ledger/postgres"
	"github.com/bouncemeter/bouncemeter/sources/dialect"
	"github.com/bouncemeter/bouncemeter/sources/tail"
)

type checkCommand struct {
	Config string `short:"c" required:"" type:"path" placeholder:"FILE" help:"Configuration to check."`
	Sample string `placeholder:"FILE" help:"Also show how a source reads the first records of this file that tell something; - is standard input."`
	Source string `placeholder:"NAME" help:"The source that --sample is for; needed if there are several."`
	Lines  int    `default:"5" help:"How many records of the sample to show (${default})."`
}

// Run reports all faults of a configuration and of the rules it names.
func (k checkCommand) Run(ctx context.Context, c console) error {
	cfg, err := config.Load(k.Config, os.Environ(), nil)
	if err != nil {
		return err
	}
	for _, w := range cfg.Warnings {
		fmt.Fprintln(c.err, "warning:", w.Error())
	}
	rules, err := classifier.New(classifier.Options{RuleFiles: cfg.Rules.Files, ProviderFiles: cfg.Rules.Providers})
	if err != nil {
		return usageError{err}
	}
	if k.Sample != "" {
		return k.explain(ctx, c.out, cfg, rules.NewSession())
	}
	where, err := checkLedger(ctx, c.err, &cfg.Ledger)
	if err != nil {
		return usageError{err}
	}
	_, err = fmt.Fprintf(c.out, "%s is fine: %d source(s), %s, http %s\n", k.Config, len(cfg.Sources), where, cfg.HTTP.Listen)
	return err
}

// checkLedger asks a PostgreSQL whether the daemon could use it. That it is away
// is a warning: the daemon would wait for it.
func checkLedger(ctx context.Context, warnings io.Writer, l *config.Ledger) (where string, err error) {
	if !l.Shared() {
		return "ledger " + l.SQLite, nil
	}
	dsn, o := string(l.Postgres.DSN), l.Postgres.Options()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err = postgres.Check(ctx, dsn, o)
	if err != nil && postgres.Temporary(err) {
		fmt.Fprintln(warnings, "warning:", err)
		err = nil
	}
	if err != nil {
		return "", err
	}
	return postgres.Where(dsn, o)
}

// explain shows how a source reads the sample, line by line.
func (k checkCommand) explain(ctx context.Context, out io.Writer, cfg *config.Config, session *classifier.Session) error {
	s, err := k.sampled(cfg.Sources)
	if err != nil {
		return usageError{err}
	}
	if s.Dialect == config.Messages {
		return usageError{fmt.Errorf("source %s reads whole mails: show how with bouncemeter ingest", s.Name)}
	}
	location, err := time.LoadLocation(s.Timezone)
	if err != nil {
		return usageError{err}
	}
	var parser dialect.Parser
	if s.Mapped() {
		parser, err = s.Parser(location)
	} else {
		parser, err = dialect.New(s.Dialect, location)
	}
	if err != nil {
		return usageError{err}
	}
	files, err := tail.OpenFiles([]string{k.Sample}, tail.FilesOptions{MaxLineBytes: int(s.MaxLineBytes)})
	if err != nil {
		return err
	}
	defer files.Close()
	var batch event.Batch
	for n, shown := 0, 0; shown < k.Lines; {
		err := files.Read(ctx, &batch)
		if errors.Is(err, io.EOF) {
			if shown == 0 && n > 0 {
				_, err := fmt.Fprintf(out, "No line (of %d) tells of a delivery: see whether %s is their dialect.\n", n, s.Dialect)
				return err
			}
			return nil
		}
		if err != nil {
			return err
		}
		parser.Reference(batch.Reference)
		if h, ok := parser.(dialect.Headed); ok {
			h.Header(batch.Header)
		}
		for _, line := range batch.Lines {
			n++
			// Most lines of a mail server's log are of no interest here; of a mapping
			// it is what it makes of any record.
			events, err := parser.Parse(line.Text, nil)
			if shown == k.Lines || len(events) == 0 && err == nil && !s.Mapped() {
				continue
			}
			shown++
			if err := explainLine(out, n, parser, session, line.Text); err != nil {
				return err
			}
		}
	}
	return nil
}

// sampled returns the source that the sample is for.
func (k checkCommand) sampled(sources []config.Source) (*config.Source, error) {
	var found *config.Source
	var names []string
	for i := range sources {
		s := &sources[i]
		names = append(names, s.Name)
		if k.Source == s.Name || k.Source == "" && (len(sources) == 1 || s.Mapped()) {
			if found != nil {
				return nil, fmt.Errorf("several sources could read the sample: choose one with --source %s", strings.Join(names, " or "))
			}
			found = s
		}
	}
	if found == nil {
		return nil, fmt.Errorf("--source names none of the sources %s: choose one of them for the sample", strings.Join(names, ", "))
	}
	return found, nil
}

func explainLine(out io.Writer, n int, parser dialect.Parser, session *classifier.Session, line []byte) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "line %d\n", n)
	e := dialect.Explain(parser, line)
	for _, f := range e.Fields {
		value := "(nothing)"
		if len(f.Values) > 0 {
			value = printable(strings.Join(f.Values, ", "))
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\n", f.Field, f.Path, value)
	}
	for _, f := range e.Unused {
		fmt.Fprintf(w, "  -\t%s\t%s\n", f.Path, printable(strings.Join(f.Values, ", ")))
	}
	events, err := parser.Parse(line, nil)
	switch {
	case err != nil:
		fmt.Fprintf(w, "  => %v\n", err)
	case len(events) == 0:
		fmt.Fprintln(w, "  => no news of a delivery")
	}
	for i := range events {
		fmt.Fprintf(w, "  => %s\n", sentence(&events[i], session))
	}
	return w.Flush()
}

// sentence tells an event in a few words.
func sentence(e *event.Event, session *classifier.Session) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", time.UnixMicro(e.Time).UTC().Format(time.RFC3339Nano), e.Kind)
	if e.Outcome != 0 {
		fmt.Fprintf(&b, " %s", e.Outcome)
	}
	if len(e.Recipient) > 0 {
		fmt.Fprintf(&b, ", to %s", printable(string(e.Recipient)))
	}
	if e.SenderKnown {
		fmt.Fprintf(&b, ", from <%s>", printable(string(e.Sender)))
	}
	if len(e.Reply.Text) > 0 {
		fmt.Fprintf(&b, ", %q", e.Reply.Text)
	}
	if e.Outcome.Failure() || e.Outcome == event.OutOfBand {
		session.Classify(e)
		fmt.Fprintf(&b, ": %s", e.Verdict.Category)
	}
	return b.String()
}

// printable makes text of a record fit for a terminal, and short.
func printable(s string) string {
	const longest = 80
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > longest {
		s = string(r[:longest]) + "…"
	}
	return s
}
