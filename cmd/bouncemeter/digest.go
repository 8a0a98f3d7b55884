package main

import (
	"context"
	"fmt"
	"html/template"
	"strings"
	"time"

	"github.com/bouncemeter/bouncemeter/internal/config"
	"github.com/bouncemeter/bouncemeter/internal/digest"
	"github.com/bouncemeter/bouncemeter/internal/report"
)

type digestCommand struct {
	alertsFrom
	Last   string `default:"7d" placeholder:"TIME" help:"How long a time is compared with the one before, such as 24h or 7d (${default})."`
	Until  string `placeholder:"DATE" help:"The end of it, such as 2026-03-06 for the end of the day before; left out, the last full hour."`
	Output string `short:"o" enum:"text,json,html" default:"text" help:"Form of the digest: text, json or html."`
}

// Run prints what got worse, what got better and what is new.
func (k digestCommand) Run(ctx context.Context, c console) error {
	last, err := config.ParseDuration(k.Last)
	if err != nil || last < time.Hour {
		return usageError{fmt.Errorf("--last: %q is not a time of an hour at least; write it as 24h or 7d", k.Last)}
	}
	until := time.Now().Truncate(time.Hour)
	if k.Until != "" {
		if until, err = time.ParseInLocation(time.DateOnly, k.Until, time.Local); err != nil {
			return usageError{fmt.Errorf("--until: %q is not a date; write it as 2026-03-06", k.Until)}
		}
	}
	l, err := k.open(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	d, err := digest.Make(ctx, l, until.Add(-last), until)
	if err != nil {
		return err
	}
	switch k.Output {
	case "json":
		return report.EncodeJSON(c.out, d)
	case "html":
		return digestPage.Execute(c.out, d)
	}
	fmt.Fprintf(c.out, "%s\n\n", report.Clean(d.Title()))
	for _, line := range d.Lines() {
		if _, err := fmt.Fprintln(c.out, report.Clean(line)); err != nil {
			return err
		}
	}
	return nil
}

// digestPage needs nothing else: it can be mailed.
var digestPage = template.Must(template.New("").Funcs(template.FuncMap{
	"item": func(s string) string {
		if rest, ok := strings.CutPrefix(s, "- "); ok {
			return rest
		}
		return ""
	},
	"head": func(s string) bool { return strings.HasSuffix(s, ":") },
}).Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{{.Title}}</title>
<style>:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.3rem}h2{font-size:1.1rem;margin:1.2rem 0 .2rem}p{margin:.3rem 0}.item{padding-left:1.2rem;text-indent:-.8rem}</style></head><body>
<h1>{{.Title}}</h1>
{{range .Lines}}{{if not .}}{{else if head .}}<h2>{{.}}</h2>
{{else}}{{with item .}}<p class="item">– {{.}}</p>
{{else}}<p>{{.}}</p>
{{end}}{{end}}{{end}}</body></html>
`))
