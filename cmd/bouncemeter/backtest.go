package main

import (
	"context"
	"fmt"
	"html/template"
	"io"
	"os"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/bouncemeter/bouncemeter/classifier"
	"github.com/bouncemeter/bouncemeter/internal/app"
	"github.com/bouncemeter/bouncemeter/internal/config"
	"github.com/bouncemeter/bouncemeter/internal/report"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/pipeline"
	"github.com/bouncemeter/bouncemeter/pipeline/correlate"
	"github.com/bouncemeter/bouncemeter/pipeline/spike"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
	"github.com/bouncemeter/bouncemeter/sources/dialect"
	"github.com/bouncemeter/bouncemeter/sources/tail"
)

type backtestCommand struct {
	Config   string   `short:"c" type:"path" placeholder:"FILE" help:"Take the alert rules and the classification rules of this configuration; else the built-in ones."`
	Ledger   string   `placeholder:"FILE-or-DSN" help:"Judge the minutes of a daemon's ledger instead of logs, a file or a postgres:// URL; the daemon may be running."`
	Budget   float64  `placeholder:"NUMBER" help:"Give all rules this budget: false alarms a day and 1000 series, 0.001 to 1000."`
	From     string   `default:"auto" placeholder:"DIALECT" help:"Format of the logs; auto finds out each line's own."`
	Timezone string   `default:"Local" placeholder:"ZONE" help:"Time zone of timestamps that do not tell it, such as Europe/Berlin."`
	Output   string   `short:"o" enum:"table,json,html" default:"table" help:"Form of the list: table, json or html."`
	Files    []string `arg:"" optional:"" name:"file" help:"Logs, plain or compressed, the oldest first or in any order."`
}

// Run lists the alerts that would have been raised.
func (b backtestCommand) Run(ctx context.Context, c console) error {
	rules := spike.DefaultRules()
	var known classifier.Options
	if b.Config != "" {
		cfg, err := config.Load(b.Config, os.Environ(), nil)
		if err != nil {
			return err
		}
		rules = app.AlertRules(cfg)
		known = classifier.Options{RuleFiles: cfg.Rules.Files, ProviderFiles: cfg.Rules.Providers}
	}
	if b.Budget != 0 {
		for i := range rules {
			rules[i].Budget = b.Budget
		}
	}
	d, err := spike.New(spike.Config{Rules: rules, Location: time.Local})
	if err != nil {
		return usageError{err}
	}
	var judged backtest
	switch {
	case b.Ledger != "" && len(b.Files) > 0:
		return usageError{fmt.Errorf("backtest: logs and --ledger are given; name one of the two")}
	case b.Ledger != "":
		err = judged.ledger(ctx, d, b.Ledger)
	case len(b.Files) == 0:
		return usageError{fmt.Errorf("backtest: what? Name logs such as /var/log/mail.log*, or a daemon's ledger with --ledger FILE")}
	default:
		err = b.files(ctx, c, known, d, &judged)
	}
	if err != nil {
		return err
	}
	switch b.Output {
	case "json":
		return judged.json(c.out)
	case "html":
		return backtestPage.Execute(c.out, &judged)
	}
	return judged.table(c.out)
}

// backtest is what a detector found.
type backtest struct {
	First, Last time.Time
	minutes     int
	alerts      []spike.Alert // as they were last, in order of firing
	at          map[string]int
}

// Alerts are those that people would have been told of.
func (j *backtest) Alerts() []spike.Alert {
	return slices.DeleteFunc(slices.Clone(j.alerts), func(a spike.Alert) bool { return a.Inhibited })
}

// Days is how much was judged.
func (j *backtest) Days() float64 { return float64(j.minutes) / 1440 }

func (j *backtest) window(d *spike.Detector, start int64, rows []spike.Row) {
	t := time.Unix(start, 0)
	if j.First.IsZero() {
		j.First, j.at = t, make(map[string]int)
	}
	j.Last = t
	j.minutes = int(j.Last.Sub(j.First).Minutes()) + 1
	for _, c := range d.Window(start, rows) {
		i, ok := j.at[c.Alert.ID]
		if !ok {
			i = len(j.alerts)
			j.at[c.Alert.ID] = i
			j.alerts = append(j.alerts, spike.Alert{})
		}
		j.alerts[i] = c.Alert
	}
}

// over is the event time before which all minutes of a ledger are over: up to where
// its daemon has judged or, if it judges nothing, the minute of the latest record.
func over(ctx context.Context, l app.Ledger) (int64, error) {
	d, err := l.Detection(ctx)
	if err != nil || d.Position > 0 {
		return d.Position, err
	}
	lanes, err := l.Lanes(ctx)
	latest := int64(0)
	for i := range lanes {
		latest = max(latest, lanes[i].Last)
	}
	return min(latest, time.Now().Unix()) / 60 * 60, err
}

func (j *backtest) ledger(ctx context.Context, d *spike.Detector, where string) error {
	l, err := app.OpenLedger(ctx, where)
	if err != nil {
		return err
	}
	defer l.Close()
	until, err := over(ctx, l)
	if err != nil {
		return err
	}
	var start int64
	var rows []spike.Row
	err = l.Windows(ctx, 0, until, func(w *ledger.Window) error {
		if w.Start != start && start != 0 {
			j.window(d, start, rows)
			rows = rows[:0]
		}
		start = w.Start
		rows = append(rows, spike.Row{
			Source: w.Source, Outcome: w.Outcome, Category: w.Category, Provider: w.Provider,
			SenderDomain: w.SenderDomain, Host: w.Host, Stream: w.Stream, Firsts: w.Firsts,
		})
		return nil
	})
	if err == nil && start != 0 {
		j.window(d, start, rows)
	}
	return err
}

func (b backtestCommand) files(ctx context.Context, c console, rules classifier.Options, d *spike.Detector, j *backtest) error {
	location, err := time.LoadLocation(b.Timezone)
	if err != nil {
		return usageError{fmt.Errorf("--timezone: %w", err)}
	}
	if _, err := dialect.New(b.From, location); err != nil {
		return usageError{err}
	}
	known, err := classifier.New(rules)
	if err != nil {
		return usageError{err}
	}
	files, err := tail.OpenFiles(b.Files, tail.FilesOptions{Incomplete: sayIncomplete(c.err)})
	if err != nil {
		return err
	}
	defer files.Close()
	stop := progress(files, c.err)
	defer stop()
	counter := window.NewCounter(window.Config{
		Span: 60, CoarseSpan: 3600,
		SenderDomains: window.NewNames(reportNames), RecipientDomains: window.NewNames(reportNames),
		Hosts: window.NewNames(reportNames), Streams: window.NewNames(reportNames), MaxSeries: reportSeries,
	})
	err = pipeline.Scan(ctx, files, pipeline.OneShot{
		NewParser: func() dialect.Parser {
			p, err := dialect.New(b.From, location)
			if err != nil {
				panic(err) // it could be made a moment ago
			}
			return p
		},
		NewClassifier: func() pipeline.Classifier { return known.NewSession() },
		Table:         correlate.New(correlate.Config{Classify: known.NewSession().Classify}),
		Counter:       counter,
		Workers:       min(runtime.GOMAXPROCS(0), 8),
	})
	stop()
	if err != nil {
		return err
	}
	counts := counter.Delta().Counts
	slices.SortStableFunc(counts, func(a, b window.Count) int { return int(a.Start-b.Start) / 60 })
	var rows []spike.Row
	for i := range counts {
		n := &counts[i]
		rows = append(rows, spike.Row{
			Source: "logs", Outcome: n.Series.Outcome.String(), Category: n.Series.Category.String(), Provider: n.Series.Provider,
			SenderDomain: n.Series.SenderDomain, Host: n.Series.Host, Stream: n.Series.Stream, Firsts: n.Firsts,
		})
		if i+1 == len(counts) || counts[i+1].Start != n.Start {
			j.window(d, n.Start, rows)
			rows = rows[:0]
		}
	}
	return nil
}

func (j *backtest) table(out io.Writer) error {
	all := j.Alerts()
	if j.minutes == 0 {
		_, err := fmt.Fprintln(out, "There are no deliveries in it, so nothing was judged.")
		return err
	}
	fmt.Fprintf(out, "%.1f days, %s to %s: %d alerts, %.1f a day.\n", j.Days(), j.First.Format("2006-01-02 15:04"), j.Last.Format("2006-01-02 15:04"), len(all), float64(len(all))/max(j.Days(), 1))
	if len(all) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FIRED\tAFTER\tSEVERITY\tLASTED\tBEYOND USUAL\tWHAT")
	for i := range all {
		a := &all[i]
		how := "open"
		if a.State == spike.Resolved {
			how = lasted(a.Resolved.Sub(a.Since))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.0f\t%s\n", a.Fired.Local().Format("2006-01-02 15:04"), lasted(a.Fired.Sub(a.Since)), a.Severity, how, a.Excess, report.Clean(a.Title))
	}
	return w.Flush()
}

// json writes what the table has, for programs. The form is stable.
func (j *backtest) json(out io.Writer) error {
	type alert struct {
		Rule     string                     `json:"rule"`
		Kind     spike.Kind                 `json:"kind"`
		Severity spike.Severity             `json:"severity"`
		Labels   map[spike.Dimension]string `json:"labels"`
		Category string                     `json:"category"`
		Started  time.Time                  `json:"started"`
		Fired    time.Time                  `json:"fired"`
		Resolved *time.Time                 `json:"resolved"`
		Baseline float64                    `json:"baseline"`
		Ratio    float64                    `json:"ratio"`
		Excess   float64                    `json:"excess"`
		Title    string                     `json:"title"`
		Summary  string                     `json:"summary"`
	}
	all := []alert{}
	for _, a := range j.Alerts() {
		x := alert{
			Rule: a.Rule, Kind: a.Kind, Severity: a.Severity, Labels: a.Labels, Category: a.Category, Started: a.Since, Fired: a.Fired,
			Baseline: a.Usual, Ratio: a.Ratio, Excess: a.Excess, Title: a.Title, Summary: a.Summary,
		}
		if a.State == spike.Resolved {
			x.Resolved = &a.Resolved
		}
		all = append(all, x)
	}
	return report.EncodeJSON(out, map[string]any{"alerts": all})
}

// backtestPage needs nothing else: it can be mailed.
var backtestPage = template.Must(template.New("").Funcs(template.FuncMap{
	"clock": func(t time.Time) string { return t.Local().Format("2006-01-02 15:04") },
	"clean": report.Clean,
}).Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Alerts that would have been raised</title>
<style>
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
article{border-left:.3rem solid #888;padding:.1rem 1rem;margin:1.5rem 0}.critical{border-color:#c22}.warning{border-color:#d80}
h2{font-size:1.1rem;margin:0}p{margin:.3rem 0}small{opacity:.75}
</style></head><body>
<h1>Alerts that would have been raised</h1>
{{with .Alerts}}{{range .}}<article class="{{.Severity}}"><h2>{{clean .Title}}</h2>
<small>{{.Severity}}, rule {{.Rule}}, fired {{clock .Fired}}</small>
<p>{{clean .Summary}}</p><p>{{clean .Advice}}</p></article>
{{end}}{{else}}<p>None, in {{printf "%.1f" .Days}} days.</p>{{end}}
</body></html>
`))
