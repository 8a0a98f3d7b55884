// Command mkmaillog writes a simulated Postfix log to standard output, for
// benchmarks and for trying things out:
//
//	go run ./internal/simulate/cmd/mkmaillog -bytes 1G -seed 1 > mail.log
//
// The same flags give the same bytes.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/bouncemeter/bouncemeter/internal/simulate"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mkmaillog:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("mkmaillog", flag.ExitOnError)
	size := flags.String("bytes", "100M", "stop at the first `size` reached: a number with K, M or G for powers of 1000")
	seed := flags.Uint64("seed", 1, "another seed, another log")
	start := flags.String("start", "2026-01-12T00:00:00Z", "`time` of the first line, RFC 3339")
	rfc3339 := flags.Bool("rfc3339", false, "write RFC 3339 timestamps")
	rate := flags.Float64("rate", 0, "messages a second on average (default 9)")
	recipients := flags.Int("recipient-domains", 0, "to how many domains the mail goes (default 5000)")
	tally := flags.String("tally", "", "write what the log means to this `file`, as JSON")
	if err := flags.Parse(args); err != nil {
		return err
	}
	limit, err := humanize.ParseBytes(*size)
	if err != nil {
		return fmt.Errorf("-bytes: %w; write for example 100M or 1G", err)
	}
	t, err := time.Parse(time.RFC3339, *start)
	if err != nil {
		return fmt.Errorf("-start: %w", err)
	}
	s, err := simulate.New(simulate.Config{Seed: *seed, Start: t, RFC3339: *rfc3339, Rate: *rate, RecipientDomains: *recipients})
	if err != nil {
		return err
	}
	for written := uint64(0); written < limit; {
		t = t.Add(time.Second)
		n, err := s.WriteUntil(out, t)
		if err != nil {
			return err
		}
		written += uint64(n)
	}
	if *tally == "" {
		return nil
	}
	b, err := json.MarshalIndent(s.Tally(), "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(*tally, append(b, '\n'), 0o666)
}
