package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/bouncemeter/bouncemeter/classifier/mine"
	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/report"
	"github.com/bouncemeter/bouncemeter/sources/dialect"
	"github.com/bouncemeter/bouncemeter/sources/tail"
)

type mineCommand struct {
	Output string   `short:"o" enum:"text,json" default:"text" help:"text, which is a rule file to complete, or json."`
	From   string   `default:"auto" placeholder:"DIALECT" help:"Format of the logs, or replies: one reply a line; auto finds out each line's own."`
	Top    int      `default:"20" help:"How many wordings to show at the most (${default})."`
	Files  []string `arg:"" optional:"" name:"file" help:"Logs; without any, standard input."`
	ruleFiles
}

// replies is the dialect of plain replies, one a line.
type replies struct{}

func (replies) Reference(time.Time) {}

func (replies) Parse(line []byte, dst []event.Event) ([]event.Event, error) {
	return append(dst, event.Event{Kind: event.Attempt, Outcome: event.Bounced, Reply: event.Reply{Text: line}}), nil
}

// Run groups the replies that no rule explains, the most frequent first, each
// with a draft of a rule.
func (k mineCommand) Run(ctx context.Context, c console) error {
	rules, err := k.load()
	if err != nil {
		return err
	}
	var parser dialect.Parser = replies{}
	if k.From != "replies" {
		if parser, err = dialect.New(k.From, time.Local); err != nil {
			return usageError{err}
		}
	}
	if len(k.Files) == 0 {
		k.Files = []string{"-"}
	}
	files, err := tail.OpenFiles(k.Files, tail.FilesOptions{Incomplete: sayIncomplete(c.err)})
	if err != nil {
		return err
	}
	defer files.Close()
	if err := files.Open(ctx, event.Position{}); err != nil {
		return err
	}
	session, miner := rules.NewSession(), mine.New()
	var batch event.Batch
	var events []event.Event
	var template, sample []byte
	failures, unknown, unread := 0, 0, 0
	for {
		err := files.Read(ctx, &batch)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		parser.Reference(batch.Reference)
		if h, ok := parser.(dialect.Headed); ok {
			h.Header(batch.Header)
		}
		for _, line := range batch.Lines {
			if events, err = parser.Parse(line.Text, events[:0]); err != nil {
				unread++
			}
			for i := range events {
				e := &events[i]
				if e.Kind != event.Attempt || !e.Outcome.Failure() {
					continue
				}
				failures++
				session.Classify(e)
				if e.Verdict.Category != event.Unclassified {
					continue
				}
				unknown++
				template, sample = session.Template(e, template[:0]), session.Sample(e, sample[:0])
				miner.Add(mine.Reply{Template: template, Sample: sample, Provider: e.Provider, Time: e.Time})
			}
		}
	}
	if unread > 0 {
		fmt.Fprintf(c.err, "bouncemeter: %d lines could not be read; name their format with --from if it is another\n", unread)
	}
	clusters, overflow := miner.Clusters()
	shown := clusters[:min(len(clusters), max(k.Top, 0))]
	if k.Output == "json" {
		return report.EncodeJSON(c.out, struct {
			Failures     int            `json:"failures"`
			Unclassified int            `json:"unclassified"`
			Overflow     uint64         `json:"overflow"`
			Clusters     []mine.Cluster `json:"clusters"`
		}{failures, unknown, overflow, shown})
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# %d of %d failures are unclassified. Wordings: %d, shown: %d.\n", unknown, failures, len(clusters), len(shown))
	for i, cluster := range shown {
		fmt.Fprintf(&b, "\n# %d times\n%s", cluster.Count, cluster.Draft(fmt.Sprintf("mine_%d", i+1)))
	}
	_, err = io.WriteString(c.out, b.String())
	return err
}
