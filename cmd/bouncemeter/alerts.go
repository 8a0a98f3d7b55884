package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/bouncemeter/bouncemeter/internal/app"
	"github.com/bouncemeter/bouncemeter/internal/config"
	"github.com/bouncemeter/bouncemeter/internal/report"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/alertjson"
)

type alertsCommand struct {
	List    alertsListCommand    `cmd:"" default:"withargs" help:"List the open alerts and those that ended lately."`
	Explain alertsExplainCommand `cmd:"" help:"Say how an alert came about: every number of the decision."`
}

// alertsFrom says which ledger is read; the daemon may be running.
type alertsFrom struct {
	Ledger string `placeholder:"FILE-or-DSN" xor:"from" help:"The daemon's ledger, a file or a postgres:// URL; the daemon may be running."`
	Config string `short:"c" type:"path" placeholder:"FILE" xor:"from" help:"The daemon's configuration, which names the ledger."`
}

// open opens the ledger for reading.
func (f alertsFrom) open(ctx context.Context) (app.Ledger, error) {
	if f.Config != "" {
		c, err := config.Load(f.Config, os.Environ(), nil)
		if err != nil {
			return nil, err
		}
		return app.OpenLedgerOf(ctx, c)
	}
	if f.Ledger == "" {
		return nil, usageError{fmt.Errorf("alerts: of which ledger? Name it with --ledger FILE-or-DSN, or the daemon's configuration with -c FILE")}
	}
	return app.OpenLedger(ctx, f.Ledger)
}

// alertChange is a change of an alert as it is printed.
type alertChange struct {
	Seq   int64           `json:"seq"`
	Time  time.Time       `json:"time"`
	Alert json.RawMessage `json:"alert"`

	alert alertjson.Alert
}

func changesOf(all []ledger.Alert) ([]alertChange, error) {
	changes := make([]alertChange, 0, len(all))
	for i := range all {
		a, err := alertjson.Decode(&all[i])
		if err != nil {
			return nil, fmt.Errorf("%w; was it stored by a newer version of bouncemeter", err)
		}
		changes = append(changes, alertChange{all[i].Seq, time.Unix(all[i].Time, 0).UTC(), all[i].Body, a})
	}
	return changes, nil
}

type alertsListCommand struct {
	alertsFrom
	Last   string `default:"7d" placeholder:"TIME" help:"How far back alerts that are over are listed, such as 24h or 90d."`
	Open   bool   `help:"List open alerts only."`
	Output string `short:"o" enum:"table,json" default:"table" help:"Form of the list: table or json."`
}

// Run lists the open alerts, the most severe first, and then those that are
// over, the last first.
func (k alertsListCommand) Run(ctx context.Context, c console) error {
	last, err := config.ParseDuration(k.Last)
	if err != nil {
		return usageError{fmt.Errorf("--last: %w; write it as 24h or 7d", err)}
	}
	l, err := k.open(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	all, err := l.Alerts(ctx, ledger.AlertFilter{Latest: true, Open: true})
	if err != nil {
		return err
	}
	if !k.Open {
		over, err := l.Alerts(ctx, ledger.AlertFilter{Latest: true, Since: time.Now().Add(-last).Unix(), Newest: true})
		if err != nil {
			return err
		}
		all = append(all, slices.DeleteFunc(over, func(a ledger.Alert) bool { return a.Open })...)
	}
	changes, err := changesOf(all)
	if err != nil {
		return err
	}
	slices.SortStableFunc(changes, func(a, b alertChange) int {
		x, y := &a.alert, &b.alert
		switch {
		case x.State.Open() != y.State.Open():
			if x.State.Open() {
				return -1
			}
			return 1
		case x.State.Open():
			return cmp.Or(slices.Index(alertjson.Severities, y.Severity)-slices.Index(alertjson.Severities, x.Severity), y.Since.Compare(x.Since))
		}
		return y.Resolved.Compare(x.Resolved)
	})
	if k.Output == "json" {
		return report.EncodeJSON(c.out, map[string]any{"alerts": changes})
	}
	if len(changes) == 0 {
		_, err := fmt.Fprintf(c.out, "No alert is open, and none ended in the last %s.\n", k.Last)
		return err
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSTATE\tSEVERITY\tSINCE\tLASTED\tWHAT")
	for i := range changes {
		a := &changes[i].alert
		end := a.Resolved
		if a.State.Open() {
			end = time.Now()
		}
		state := string(a.State)
		if a.Inhibited && a.State.Open() {
			state += " (part of " + a.Incident + ")"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", report.Clean(a.ID), report.Clean(state), report.Clean(string(a.Severity)),
			a.Since.Local().Format("2006-01-02 15:04"), lasted(end.Sub(a.Since)), report.Clean(cmp.Or(a.Title, a.Rule)))
	}
	return w.Flush()
}

func lasted(d time.Duration) string {
	switch {
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
}

type alertsExplainCommand struct {
	alertsFrom
	Output string `short:"o" enum:"text,json" default:"text" help:"Form of the explanation: text or json."`
	ID     string `arg:"" help:"The alert's id, or the beginning of it."`
}

// Run prints every number of the decision, and how the alert went on.
func (k alertsExplainCommand) Run(ctx context.Context, c console) error {
	l, err := k.open(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	id, err := k.find(ctx, l)
	if err != nil {
		return err
	}
	all, err := l.Alerts(ctx, ledger.AlertFilter{ID: id})
	if err != nil {
		return err
	}
	changes, err := changesOf(all)
	if err != nil {
		return err
	}
	last := &changes[len(changes)-1]
	if k.Output == "json" {
		return report.EncodeJSON(c.out, map[string]any{"alert": last.Alert, "changes": changes})
	}
	w := bufio.NewWriter(c.out)
	explainAlert(w, &last.alert)
	explainHistory(w, changes)
	return w.Flush()
}

// find returns the one id that begins with what was given.
func (k alertsExplainCommand) find(ctx context.Context, l app.Ledger) (string, error) {
	found := make(map[string]bool)
	for after := int64(0); ; {
		all, err := l.Alerts(ctx, ledger.AlertFilter{Latest: true, After: after})
		if err != nil {
			return "", err
		}
		if len(all) == 0 {
			break
		}
		for i := range all {
			if all[i].ID == k.ID {
				return k.ID, nil
			}
			if strings.HasPrefix(all[i].ID, k.ID) {
				found[all[i].ID] = true
			}
		}
		after = all[len(all)-1].Seq
	}
	switch ids := slices.Sorted(maps.Keys(found)); len(ids) {
	case 0:
		return "", fmt.Errorf("there is no alert %q in the ledger; bouncemeter alerts list shows which there are", k.ID)
	case 1:
		return ids[0], nil
	default:
		return "", usageError{fmt.Errorf("several alerts begin with %q: %s", k.ID, strings.Join(ids, ", "))}
	}
}

// explainAlert writes what is known of an alert, for people.
func explainAlert(w io.Writer, a *alertjson.Alert) {
	clock := func(t time.Time) string { return t.Local().Format("2006-01-02 15:04 MST") }
	say := func(format string, args ...any) {
		for i := range args {
			switch v := args[i].(type) {
			case string:
				args[i] = report.Clean(v)
			case alertjson.State:
				args[i] = report.Clean(string(v))
			case alertjson.Severity:
				args[i] = report.Clean(string(v))
			}
		}
		fmt.Fprintf(w, format+"\n", args...)
	}
	say("%s", cmp.Or(a.Title, a.Rule))
	if a.Summary != "" {
		say("%s", a.Summary)
	}
	say("\nWhat it is")
	say("  alert         %s, rule %s, kind %s", a.ID, a.Rule, a.Kind)
	say("  state         %s, severity %s", a.State, a.Severity)
	for _, d := range slices.Sorted(maps.Keys(a.Labels)) {
		say("  %-13s %s", strings.ReplaceAll(d, "_", " "), cmp.Or(a.Labels[d], "(none)"))
	}
	if a.Category != "" && a.Labels["category"] == "" {
		say("  category      %s, of most of the failures", a.Category)
	}
	say("  since         %s, as far as the counts tell", clock(a.Since))
	if !a.Fired.IsZero() {
		say("  known         %s, %s later", clock(a.Fired), lasted(a.Fired.Sub(a.Since)))
	}
	if !a.State.Open() {
		say("  over          %s, after %s: %s", clock(a.Resolved), lasted(a.Resolved.Sub(a.Since)), cmp.Or(a.Ending, "no reason was kept"))
	}
	if a.Flaps > 0 {
		say("  came back     %d times", a.Flaps)
	}
	if a.Inhibited {
		say("  part of       %s, which explains it: people are not told of this one", a.Incident)
	}

	if a.Attempts > 0 {
		say("\nWhat was counted since then")
		say("  %d of %d attempts failed so: %s.", a.Failures, a.Attempts, share(a.Ratio))
		expected := float64(a.Failures) - a.Excess
		say("  Usual is %s, which would be %s: %s more than usual%s.", share(a.Usual), quantity(expected), quantity(a.Excess), times(a.Ratio, a.Usual))
	}
	say("\nWhy it was judged so")
	if a.Null > 0 {
		say("  What is usual is not known exactly. It was tested against an upper bound of it, %s.", share(a.Null))
	}
	if a.Dispersion > 0 {
		say("  Single minutes vary %.2f times as much as by chance alone; the evidence was divided by that.", a.Dispersion)
	}
	if a.Threshold > 0 {
		say("  The evidence when it fired was %.1f, in natural logarithms of odds; it fires above %.1f.", a.Score, a.Threshold)
		if a.Kind == "ratio" {
			// The bound of Lorden with three alternatives, as the detector has it.
			say("  By chance alone that happens at most %.2g times a day in 1000 series.", 1000*1440*3/math.Exp(a.Threshold))
		}
	}
	if a.Cold {
		say("  The series was known for less than a day, so what is usual rests on what others of its kind do.")
	}
	if a.Members > 0 {
		say("  %d of %d active series rise at the same time.", a.Members, a.Active)
		for _, name := range a.Top {
			say("    %s", name)
		}
	}
	if len(a.Explanation) > 0 {
		say("\nWhere it is")
		for _, s := range a.Explanation {
			usual := ""
			if s.Expected > 0 {
				usual = fmt.Sprintf(", of %s of the attempts; surprise %.3f", share(s.Expected), s.Surprise)
			}
			say("  %-13s %-30s %s of the excess (%s failures)%s",
				strings.ReplaceAll(s.Dimension, "_", " "), cmp.Or(s.Element, "(none)"), share(s.Share), quantity(s.Excess), usual)
		}
	}
	list := func(title string, items []string) {
		if len(items) == 0 {
			return
		}
		say("\n%s", title)
		for _, s := range items {
			say("  %s", s)
		}
	}
	list("As usual", a.Unchanged)
	if len(a.Templates) > 0 {
		say("\nWhat the servers say")
		for _, t := range a.Templates {
			say("  %6d  %s", t.Attempts, t.Text)
		}
	}
	list("Samples", a.Samples)
	if a.Advice != "" {
		say("\nWhat to do\n  %s", a.Advice)
	}
	say("\nHow to silence it, in the file that the configuration names as silences")
	say("  silences: [{comment: why and who, match: {ids: [%s]}, until: %s}]", a.ID, time.Now().Add(24*time.Hour).UTC().Format(time.RFC3339))
}

// explainHistory writes how an alert went on.
func explainHistory(w io.Writer, changes []alertChange) {
	fmt.Fprintln(w, "\nHow it went on")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := range changes {
		a := &changes[i].alert
		state := string(a.State)
		if a.Inhibited {
			state += ", part of " + a.Incident
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%d of %d\t%s\t%s beyond the usual\n", changes[i].Time.Local().Format("2006-01-02 15:04"),
			report.Clean(state), report.Clean(string(a.Severity)), a.Failures, a.Attempts, share(a.Ratio), quantity(a.Excess))
	}
	_ = t.Flush() // w keeps its error
}

// share writes a ratio in percent with three significant digits.
func share(ratio float64) string { return fmt.Sprintf("%.3g%%", ratio*100) }

// quantity writes a number of failures.
func quantity(n float64) string {
	if n < 10 {
		return fmt.Sprintf("%.1f", max(0, n))
	}
	return fmt.Sprintf("%.0f", n)
}

func times(ratio, usual float64) string {
	if usual <= 0 {
		return ""
	}
	return fmt.Sprintf(", %.3g times the ratio", ratio/usual)
}
