package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/bouncemeter/bouncemeter/classifier"
	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/report"
	"github.com/bouncemeter/bouncemeter/web"
)

type explainCommand struct {
	Output string `short:"o" enum:"text,json" default:"text" help:"text or json."`
	MX     string `placeholder:"HOST" help:"The MX host that gave the reply, which tells the provider."`
	Text   string `arg:"" help:"The reply."`
	ruleFiles
}

// Run explains one verdict.
func (k explainCommand) Run(c console) error {
	rules, err := k.load()
	if err != nil {
		return err
	}
	e := event.Event{Kind: event.Attempt, Relay: []byte(k.MX), Reply: event.Reply{Text: []byte(k.Text)}}
	session := rules.NewSession()
	session.Classify(&e)
	verdict, x := verdictOf(session, &e), rules.Explain(&e)
	if k.Output == "json" {
		return report.EncodeJSON(c.out, struct {
			Verdict web.Verdict `json:"verdict"`
			classifier.Explanation
		}{verdict, x})
	}
	var b strings.Builder
	explainText(&b, &verdict, &x, useColor(c.out), textWidth(c.out))
	_, err = io.WriteString(c.out, b.String())
	return err
}

// explainText writes what decided, the winning words marked in the text, and
// what else was found.
func explainText(b *strings.Builder, v *web.Verdict, x *classifier.Explanation, color bool, width int) {
	bold, mark, plain := "", "", ""
	if color {
		bold, mark, plain = "\x1b[1m", "\x1b[1;33m", "\x1b[0m"
	}
	fmt.Fprintf(b, "%s%s%s", bold, v.Category, plain)
	if v.Secondary != "" {
		fmt.Fprintf(b, " (and %s)", v.Secondary)
	}
	if v.Persistence != "" {
		fmt.Fprintf(b, ", %s", v.Persistence)
	}
	fmt.Fprintf(b, ": %s\n\n", x.Why)
	provider := x.Provider
	if x.ProviderBy != "" {
		provider += ", known by the " + x.ProviderBy
	}
	fmt.Fprintf(b, "provider  %s\n", provider)
	if x.Code != 0 || x.Enhanced != "" {
		fmt.Fprintf(b, "code      %s\n", strings.TrimSpace(fmt.Sprintf("%s %s", zeroEmpty(x.Code), x.Enhanced)))
	}
	fmt.Fprintf(b, "text      %s\n", report.CleanPart(x.Normalised))
	if len(x.Evidence) > 0 && len(x.Evidence[0].Matches) > 0 {
		m := x.Evidence[0].Matches[0]
		fmt.Fprintf(b, "          %s%s%s%s\n", strings.Repeat(" ", len([]rune(report.CleanPart(x.Normalised[:m.Start])))), mark,
			strings.Repeat("^", len([]rune(report.CleanPart(x.Normalised[m.Start:m.End])))), plain)
	}
	for i, e := range x.Evidence {
		switch i {
		case 0:
			fmt.Fprintf(b, "\n%sdecided by%s\n", bold, plain)
		case 1:
			fmt.Fprintf(b, "\n%salso found%s\n", bold, plain)
		}
		fmt.Fprintf(b, "  %-22s %s:%d  %s: %s, weight %d\n", e.Category, e.File, e.Line, e.Rule, e.Rank, e.Weight)
		for _, m := range e.Matches {
			fmt.Fprintf(b, "  %-22s %q (line %d)\n", "", m.Text, m.Line)
		}
		if e.Source != "" {
			fmt.Fprintf(b, "  %-22s %s\n", "", e.Source)
		}
	}
	fmt.Fprintf(b, "\n%swhat to do%s", bold, plain)
	if v.Owner != "—" { // which is nobody
		fmt.Fprintf(b, " (%s)", v.Owner)
	}
	b.WriteByte('\n')
	paragraph(b, v.Advice, width)
}

func zeroEmpty(code uint16) string {
	if code == 0 {
		return ""
	}
	return fmt.Sprint(code)
}
