package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/app"
	"github.com/bouncemeter/bouncemeter/internal/config"
	"github.com/bouncemeter/bouncemeter/internal/simulate"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/alertjson"
)

type demoCommand struct {
	Listen  string        `default:"127.0.0.1:9725" placeholder:"ADDRESS" help:"Where the page and the metrics are; another port is taken if it is in use (${default})."`
	History time.Duration `default:"12h" help:"How much past to make up (${default})."`
	For     time.Duration `placeholder:"TIME" help:"Stop after this long; else with Ctrl-C."`
	Seed    uint64        `default:"1" help:"Another seed makes another mail server (${default})."`
}

// The demonstration's incident: a sender domain's SPF record breaks, and Gmail
// refuses most of its mail.
const (
	demoIncidentAfter = 30 * time.Second
	demoSender        = "shop.example"
	demoProvider      = "gmail"
	demoShare         = 0.6
	demoRate          = 6 // messages a second, at every hour: the alert comes as soon at night
)

// Run makes up a mail server, lets the daemon read its log and shows what it
// finds.
func (d demoCommand) Run(ctx context.Context, c console) error {
	if d.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.For)
		defer cancel()
	}
	dir, err := os.MkdirTemp("", "bouncemeter-demo-")
	if err != nil {
		return fmt.Errorf("make a folder for the demonstration: %w", err)
	}
	defer os.RemoveAll(dir)

	live := time.Now()
	// Some of it is in the minute before a full one, so that the minute is judged
	// soon after.
	incident := live.Add(demoIncidentAfter + 20*time.Second).Truncate(time.Minute).Add(-20 * time.Second)
	if incident.Before(live.Add(demoIncidentAfter / 2)) {
		incident = incident.Add(time.Minute)
	}
	mta, err := simulate.New(simulate.Config{
		Seed: d.Seed, Start: live.Add(-d.History), Location: time.Local, Rate: demoRate, Even: true,
		Incidents: []simulate.Incident{{
			Start: incident, SenderDomain: demoSender, Provider: demoProvider,
			Category: event.SPFFailed, Share: demoShare,
		}},
	})
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "mail.log")
	log, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("make the simulated log: %w", err)
	}
	defer log.Close()

	fmt.Fprintf(c.out, "A simulated Postfix writes the log of the last %s …\n", span(d.History))
	started := time.Now()
	size, err := mta.WriteUntil(log, live)
	if err != nil {
		return fmt.Errorf("write the simulated log %s: %w", path, err)
	}
	wrote := time.Since(started)

	cfg := d.config(dir, path)
	a, err := app.Open(ctx, app.Options{Config: cfg, Log: slog.New(slog.DiscardHandler), Version: versionString()})
	if err != nil {
		return err
	}
	defer a.Close()
	url := "http://" + a.Address()
	fmt.Fprintf(c.out, `
  log      %s (%d MB in %.1f s; it goes on live)
  page     %s/
  metrics  %s/metrics
  report   bouncemeter report --ledger %s

In %.0f seconds the SPF record of %s breaks, and %s begins to refuse
its mail. The alert comes within three minutes of that. Ctrl-C ends the demonstration.

`, path, size>>20, wrote.Seconds(), url, url, cfg.Ledger.SQLite, time.Until(incident).Seconds(), demoSender, demoProvider)

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.Run(ctx) })
	g.Go(func() error { return writeLive(ctx, mta, log) })
	g.Go(func() error { return d.watch(ctx, a, c.out) })
	err = g.Wait()
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	fmt.Fprintln(c.out, "\nThe demonstration is over; its files are gone.")
	return err
}

// config is a daemon with default settings and everything in dir.
func (d demoCommand) config(dir, log string) config.Config {
	cfg := config.Default()
	source := config.DefaultSource()
	source.Name, source.Kind, source.Paths = "demo", "tail", []string{log}
	cfg.Sources = []config.Source{source}
	cfg.Ledger.SQLite = filepath.Join(dir, "ledger.db")
	cfg.HTTP.Listen = d.Listen
	if l, err := net.Listen("tcp", d.Listen); err == nil {
		l.Close()
	} else if host, _, err := net.SplitHostPort(d.Listen); err == nil {
		cfg.HTTP.Listen = net.JoinHostPort(host, "0")
	}
	return cfg
}

// writeLive lets the simulated server go on at the pace of the clock.
func writeLive(ctx context.Context, mta *simulate.Simulator, w io.Writer) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if _, err := mta.WriteUntil(w, now); err != nil {
				return fmt.Errorf("write the simulated log: %w", err)
			}
		}
	}
}

// watch shows the latest minutes against the time before: every 2 seconds in
// place on a terminal, else every 10 seconds below each other.
func (d demoCommand) watch(ctx context.Context, a *app.App, w io.Writer) error {
	every, inPlace := 10*time.Second, false
	if isTerminal(w) {
		every, inPlace = 2*time.Second, true
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	v := view{span: 3 * time.Minute, rows: 8, color: useColor(w)}
	lines := 0
	var seen int64
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if width, _, err := size(w); err == nil {
				v.width = width // a line that breaks would be two to overwrite
			}
			text, err := v.text(ctx, a.Ledger(), now)
			if err != nil {
				return err
			}
			news, err := alertNews(ctx, a.Ledger(), &seen, a.Address(), textWidth(w))
			if err != nil {
				return err
			}
			if inPlace && lines > 0 {
				fmt.Fprintf(w, "\x1b[%dA\x1b[J", lines)
			}
			fmt.Fprint(w, news, text)
			lines = strings.Count(text, "\n")
		}
	}
}

// alertNews tells of the alerts that began or ended since *seen.
func alertNews(ctx context.Context, l app.Ledger, seen *int64, address string, width int) (string, error) {
	changes, err := l.Alerts(ctx, ledger.AlertFilter{After: *seen})
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for i := range changes {
		*seen = changes[i].Seq
		a, err := alertjson.Decode(&changes[i])
		if err != nil {
			return "", err
		}
		if a.Inhibited {
			continue
		}
		fmt.Fprintf(&b, "\n%s  %s, %s: %s\n", a.Updated.Local().Format(time.TimeOnly), strings.ToUpper(string(a.State)), a.Severity, a.Title)
		paragraph(&b, a.Summary, width)
		if a.State == alertjson.Firing {
			for _, t := range a.Templates[:min(len(a.Templates), 1)] {
				paragraph(&b, "They say, for example: "+t.Text, width)
			}
			paragraph(&b, "What to do: "+a.Advice, width)
		}
		fmt.Fprintf(&b, "  http://%s/alerts/%s\n\n", address, a.ID)
	}
	return b.String(), nil
}

// textWidth is how long a line of text should be: it fits on the terminal, and
// can be read.
func textWidth(w io.Writer) int {
	const readable = 98
	if width, _, err := size(w); err == nil && width > 0 {
		return min(width, readable)
	}
	return readable
}

// paragraph writes words in lines of a width, indented.
func paragraph(b *strings.Builder, text string, width int) {
	used := 0
	for word := range strings.FieldsSeq(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case used == 0:
			b.WriteString("  ")
			used = 2
		case used+1+n > width:
			b.WriteString("\n  ")
			used = 2
		default:
			b.WriteByte(' ')
			used++
		}
		b.WriteString(word)
		used += n
	}
	b.WriteByte('\n')
}
