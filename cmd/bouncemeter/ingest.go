package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bouncemeter/bouncemeter/classifier"
	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/event/record"
	"github.com/bouncemeter/bouncemeter/internal/report"
	"github.com/bouncemeter/bouncemeter/sources/dialect/message"
	"github.com/bouncemeter/bouncemeter/sources/mailbox"
)

type ingestCommand struct {
	Output string   `short:"o" enum:"text,json" default:"text" help:"text or json (one classified record a line)."`
	Paths  []string `arg:"" name:"path" help:"Maildirs, folders, mbox files, single messages, or - for standard input."`
	ruleFiles
}

// maxMessage is how much of a message is read: more is the returned mail's body.
const maxMessage = 8 << 20

// Run prints what each message tells about each recipient. Addresses are shown:
// nothing is stored.
func (k ingestCommand) Run(ctx context.Context, c console) error {
	rules, err := k.load()
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(c.out, 64<<10)
	session := rules.NewSession()
	encoder := record.Encoder{
		Privacy:  event.Privacy{Addresses: event.KeepAddresses},
		Describe: func(_ string, e *event.Event, x *record.Extra) { describe(session, e, x) },
	}
	var messages, silent, unreadable int
	var parser message.Parser
	var line []byte
	var events []event.Event
	err = mailbox.Walk(k.Paths, c.in, maxMessage, func(m mailbox.Message) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		messages++
		parser.Reference(time.Now())
		if events, err = parser.Parse(m.Text, events[:0]); err != nil {
			unreadable++
			fmt.Fprintf(c.err, "bouncemeter: %s: %v\n", place(m), err)
			return nil
		}
		if len(events) == 0 {
			silent++
		}
		for i := range events {
			e := &events[i]
			session.Classify(e)
			if k.Output == "json" {
				at := record.Place{Source: "ingest", Lane: m.Path, Offset: m.Offset, Index: i}
				line = append(encoder.Append(line[:0], &at, e), '\n')
			} else {
				line = append(line[:0], told(e)...)
			}
			if _, err := out.Write(line); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, out.Flush()); err != nil {
		return err
	}
	if silent+unreadable > 0 {
		fmt.Fprintf(c.err, "bouncemeter: of %d messages %d tell of no delivery and %d are no mail\n", messages, silent, unreadable)
	}
	return nil
}

func place(m mailbox.Message) string {
	if m.Offset > 0 {
		return fmt.Sprintf("%s, byte %d", m.Path, m.Offset)
	}
	return m.Path
}

// describe tells a record what the reply says beyond its category.
func describe(s *classifier.Session, e *event.Event, x *record.Extra) {
	if len(e.Reply.Text) == 0 {
		return
	}
	d := s.Details(e)
	x.Code, x.Enhanced, x.Stage, x.RetryAfter = d.Code, d.Enhanced, d.Stage, d.RetryAfter
	if d.Blocklist != nil {
		x.Blocklist = d.Blocklist.Name
	}
}

// told is an event for people.
func told(e *event.Event) string {
	info := e.Verdict.Category.Info()
	recipient := report.Clean(string(e.Recipient))
	if recipient == "" {
		recipient = "(unknown recipient)"
	}
	parts := []string{time.UnixMicro(e.Time).UTC().Format("2006-01-02 15:04"), recipient, e.Outcome.String()}
	if e.Verdict.Category != event.Unset {
		parts = append(parts, info.ID, "owner: "+info.Owner)
	}
	if e.Provider != "" {
		parts = append(parts, e.Provider)
	}
	s := strings.Join(parts, " · ") + "\n"
	if reply := report.Clean(string(e.Reply.Text)); reply != "" {
		s += "    " + reply + "\n"
	}
	return s
}
