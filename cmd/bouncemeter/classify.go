package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/bouncemeter/bouncemeter/classifier"
	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/web"
)

// ruleFiles are the flags of every command that classifies.
type ruleFiles struct {
	Rules     []string `placeholder:"FILE" help:"Further classification rules."`
	Providers []string `placeholder:"FILE" help:"Further provider files."`
}

func (r ruleFiles) load() (*classifier.Classifier, error) {
	c, err := classifier.New(classifier.Options{RuleFiles: r.Rules, ProviderFiles: r.Providers})
	if err != nil {
		return nil, usageError{err}
	}
	return c, nil
}

type classifyCommand struct {
	Output string   `short:"o" enum:"text,json" default:"text" help:"text or json (one object a line)."`
	MX     string   `placeholder:"HOST" help:"The MX host that gave the reply, which tells the provider."`
	Texts  []string `arg:"" optional:"" name:"text" help:"Replies. Without any, one per line of standard input."`
	ruleFiles
}

// Run classifies the arguments or the lines of standard input.
func (k classifyCommand) Run(ctx context.Context, c console) error {
	rules, err := k.load()
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(c.out, 64<<10)
	session := rules.NewSession()
	show := k.text
	if k.Output == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		show = func(w io.Writer, r *web.Verdict) error { return encoder.Encode(r) }
	}
	one := func(text []byte) error {
		e := event.Event{Kind: event.Attempt, Relay: []byte(k.MX), Reply: event.Reply{Text: text}}
		session.Classify(&e)
		r := verdictOf(session, &e)
		return show(out, &r)
	}
	if len(k.Texts) > 0 {
		for _, t := range k.Texts {
			if err := one([]byte(t)); err != nil {
				return err
			}
		}
		return out.Flush()
	}
	in := bufio.NewReaderSize(c.in, 1<<20)
	for ctx.Err() == nil {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			// A reply has 512 bytes (RFC 5321 section 4.5.3.1.5): a line of a
			// megabyte is judged by its beginning, the rest is passed over.
			start := bytes.Clone(line)
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = in.ReadSlice('\n')
			}
			line = start
		}
		if len(line) > 0 {
			if err := one(bytes.TrimRight(line, "\r\n")); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
		if in.Buffered() == 0 {
			// Nothing waits: let whoever feeds us line by line have the answer.
			if err := out.Flush(); err != nil {
				return err
			}
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return ctx.Err()
}

func verdictOf(session *classifier.Session, e *event.Event) web.Verdict {
	d := session.Details(e)
	return web.NewVerdict(&e.Verdict, e.Provider, &d)
}

func (k classifyCommand) text(w io.Writer, r *web.Verdict) error {
	parts := []string{r.Category}
	if r.Secondary != "" {
		parts[0] += " (and " + r.Secondary + ")"
	}
	for _, p := range []string{r.Persistence, r.Provider, "owner: " + r.Owner} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	if r.Blocklist != nil {
		parts = append(parts, "blocklist: "+r.Blocklist.Name)
	}
	if r.RetryAfter > 0 {
		parts = append(parts, fmt.Sprintf("retry after: %ds", r.RetryAfter))
	}
	if r.Rule != "" {
		parts = append(parts, "rule: "+r.Rule)
	}
	_, err := fmt.Fprintln(w, strings.Join(parts, " · "))
	return err
}
