package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/bouncemeter/bouncemeter/classifier"
	"github.com/bouncemeter/bouncemeter/internal/app"
	"github.com/bouncemeter/bouncemeter/internal/config"
	"github.com/bouncemeter/bouncemeter/internal/report"
	"github.com/bouncemeter/bouncemeter/pipeline"
	"github.com/bouncemeter/bouncemeter/pipeline/correlate"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
	"github.com/bouncemeter/bouncemeter/sources/dialect"
	"github.com/bouncemeter/bouncemeter/sources/tail"
)

type reportCommand struct {
	Output    string   `short:"o" enum:"table,json,html" default:"table" help:"Form of the report: table, json or html."`
	From      string   `default:"auto" placeholder:"DIALECT" help:"Format of the logs; auto finds out each line's own."`
	Timezone  string   `default:"Local" placeholder:"ZONE" help:"Time zone of timestamps that do not tell it, such as Europe/Berlin."`
	Ledger    string   `placeholder:"FILE-or-DSN" help:"Report from a daemon's ledger instead of logs, a file or a postgres:// URL; the daemon may be running."`
	Last      string   `placeholder:"TIME" help:"With --ledger: only this long back, such as 24h or 7d."`
	Rules     []string `placeholder:"FILE" help:"Further classification rules."`
	Providers []string `placeholder:"FILE" help:"Further provider files."`
	Files     []string `arg:"" optional:"" name:"file" help:"Logs, plain or compressed (gzip, zstd, bzip2, xz); - is standard input."`
}

// Run reports on logs or on a ledger.
func (r reportCommand) Run(ctx context.Context, c console) error {
	var rep *report.Report
	var err error
	switch {
	case r.Ledger != "" && len(r.Files) > 0:
		return usageError{fmt.Errorf("report either FILEs or --ledger")}
	case r.Ledger != "":
		rep, err = r.fromLedger(ctx)
	case len(r.Files) == 0:
		return usageError{fmt.Errorf("report: which log? Name one or more, such as /var/log/mail.log, or - for standard input")}
	case r.Last != "":
		return usageError{fmt.Errorf("--last goes with --ledger")}
	default:
		rep, err = r.fromFiles(ctx, c)
	}
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(c.out, 64<<10)
	switch r.Output {
	case "json":
		err = report.WriteJSON(out, rep)
	case "html":
		err = report.WriteHTML(out, rep)
	default:
		err = report.WriteTable(out, rep, tableOptions(c.out))
	}
	if err != nil {
		return err
	}
	return out.Flush()
}

func tableOptions(w io.Writer) report.TableOptions {
	o := report.TableOptions{Width: 100, Color: useColor(w), Unicode: true}
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			o.Width = width
		}
	}
	if l := os.Getenv("LC_ALL") + os.Getenv("LC_CTYPE") + os.Getenv("LANG"); l == "C" || l == "POSIX" {
		o.Unicode = false
	}
	return o
}

func (r reportCommand) fromLedger(ctx context.Context) (*report.Report, error) {
	var since int64
	if r.Last != "" {
		last, err := config.ParseDuration(r.Last)
		if err != nil {
			return nil, usageError{fmt.Errorf("--last: %w; write it as 24h or 7d", err)}
		}
		since = time.Now().Add(-last).Unix()
	}
	l, err := app.OpenLedger(ctx, r.Ledger)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return report.FromLedger(ctx, l, since, 0)
}

// One-shot bounds: high enough that nothing is folded in any log we heard of,
// low enough that hostile names cannot fill the memory.
const (
	reportNames  = 200_000
	reportSeries = 500_000
)

func (r reportCommand) fromFiles(ctx context.Context, c console) (*report.Report, error) {
	location, err := time.LoadLocation(r.Timezone)
	if err != nil {
		return nil, usageError{fmt.Errorf("--timezone: %w", err)}
	}
	if _, err := dialect.New(r.From, location); err != nil {
		return nil, usageError{err}
	}
	// The rules leave little of what it takes to compile them, and nothing else is
	// there yet: collecting garbage meanwhile would be a sixth of the time.
	percent := debug.SetGCPercent(800)
	rules, err := classifier.New(classifier.Options{RuleFiles: r.Rules, ProviderFiles: r.Providers})
	debug.SetGCPercent(percent)
	if err != nil {
		return nil, usageError{err}
	}
	files, err := tail.OpenFiles(r.Files, tail.FilesOptions{Incomplete: sayIncomplete(c.err)})
	if err != nil {
		return nil, err
	}
	defer files.Close()
	stopProgress := progress(files, c.err)
	defer stopProgress()

	counter := window.NewCounter(window.Config{
		TrendSpan:     int64(trendStep / time.Second),
		SenderDomains: window.NewNames(reportNames), RecipientDomains: window.NewNames(reportNames),
		Hosts: window.NewNames(reportNames), Streams: window.NewNames(reportNames),
		MaxSeries: reportSeries, Sample: rules.NewSession().Sample,
	})
	var parsers []dialect.Parser
	err = pipeline.Scan(ctx, files, pipeline.OneShot{
		NewParser: func() dialect.Parser {
			p, err := dialect.New(r.From, location)
			if err != nil {
				panic(err) // it could be made a moment ago
			}
			parsers = append(parsers, p)
			return p
		},
		NewClassifier: func() pipeline.Classifier { return rules.NewSession() },
		Table:         correlate.New(correlate.Config{Classify: rules.NewSession().Classify}),
		Counter:       counter,
		Workers:       min(runtime.GOMAXPROCS(0), 8),
	})
	stopProgress()
	if err != nil {
		return nil, err
	}
	if isTerminal(c.err) {
		sayRecognised(c.err, parsers)
	}
	delta := counter.Delta()
	b := report.NewBuilder(0)
	b.AddDelta(delta)
	counter.Trend(b.AddTrend)
	rep := b.Report()
	if r.From != "auto" {
		rep.Dialect = r.From
	}
	if rep.Attempts == 0 && rep.Outcomes.Expired == 0 && len(rep.Notices) == 0 {
		if err := otherWay(files.Name(), parsers); err != nil {
			return nil, err
		}
	}
	return rep, nil
}

// otherWay returns an error that tells how to read what is no log, if the lines
// look as if that is so.
func otherWay(name string, parsers []dialect.Parser) error {
	lines := make(map[dialect.Foreign]int64)
	for _, p := range parsers {
		if r, ok := p.(dialect.Recogniser); ok {
			for f, n := range r.Foreign() {
				lines[f] += n
			}
		}
	}
	switch {
	case lines[dialect.ForeignMail] > 0:
		return fmt.Errorf("report on %s: these are mails and no log; bouncemeter ingest tells what bounce messages and complaints say", name)
	case lines[dialect.ForeignExport] > 0:
		return fmt.Errorf("report on %s: this is a journal in its export format; take journalctl -o json, or -o short-iso", name)
	case lines[dialect.ForeignJSON] > 0:
		return fmt.Errorf("report on %s: this is JSON of a form that is not known; say in a configuration what its fields are (dialect: json), and see what comes of it with bouncemeter check --sample FILE", name)
	}
	return nil
}

// sayIncomplete tells of files that have no end. KumoMTA's newest segment never
// has one.
func sayIncomplete(w io.Writer) func(path string) {
	return func(path string) {
		fmt.Fprintf(w, "bouncemeter: %s has no end: it is still being written, or was cut; it was read as far as it goes\n", path)
	}
}

// sayRecognised tells which dialects the lines were read as, if that was found
// out.
func sayRecognised(w io.Writer, parsers []dialect.Parser) {
	lines := make(map[string]int64)
	for _, p := range parsers {
		if r, ok := p.(dialect.Recogniser); ok {
			for name, n := range r.Recognised() {
				lines[name] += n
			}
		}
	}
	names := slices.SortedFunc(maps.Keys(lines), func(a, b string) int { return cmp.Or(cmp.Compare(lines[b], lines[a]), cmp.Compare(a, b)) })
	if len(names) > 0 {
		fmt.Fprintln(w, "bouncemeter: read as", strings.Join(names, ", "))
	}
}

// trendStep is the finest step of a report's trend; the report may show a
// coarser one.
const trendStep = time.Hour

// progress shows a bar while files are read, on a terminal only. The function
// returned ends it, and may be called again.
func progress(files *tail.Files, w io.Writer) (stop func()) {
	if !isTerminal(w) {
		return func() {}
	}
	_, total := files.Progress()
	if total <= 0 {
		total = -1 // standard input: unknown
	}
	bar := progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(w), progressbar.OptionSetWidth(30),
		progressbar.OptionSetDescription("reading"), progressbar.OptionClearOnFinish(), progressbar.OptionSetElapsedTime(false), progressbar.OptionSetPredictTime(true))
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				_ = bar.Clear() // decoration
				return
			case <-tick.C:
				done, _ := files.Progress()
				_ = bar.Set64(done)
			}
		}
	}()
	var stopped bool
	return func() {
		if !stopped {
			stopped = true
			close(end)
			<-ended
		}
	}
}
