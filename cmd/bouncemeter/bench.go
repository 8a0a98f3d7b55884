package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"text/tabwriter"

	"golang.org/x/sync/errgroup"

	"github.com/bouncemeter/bouncemeter/internal/detectbench"
)

type benchCommand struct {
	Detector benchDetectorCommand `cmd:"" help:"Measure false alarms, recall and delay of the detector on made-up mail whose incidents are known."`
}

type benchDetectorCommand struct {
	Seed    uint64    `default:"1001" help:"The first seed (${default}). Seeds 1 to 10 are for trying out changes, 1001 to 1020 for measuring."`
	Seeds   int       `default:"3" help:"How many seeds to take the average of (${default})."`
	Budget  []float64 `default:"1,0.1,10" help:"False alarms a day and 1000 series that the rule accepts; several are compared (${default})."`
	Days    int       `default:"14" help:"How many days to make up; the first two are without incidents (${default})."`
	Only    string    `enum:"all,singles,scripts" default:"all" help:"Incidents of single series only (singles), or those of many and special ones only (scripts)."`
	NoPlain bool      `help:"Leave out the plain detectors that are compared."`
	Jobs    int       `default:"0" help:"How many scenarios to run at the same time; 0 is one per core."`
}

// Run prints a table for each scenario.
func (b benchDetectorCommand) Run(_ context.Context, c console) error {
	if b.Seeds < 1 || b.Days < 3 {
		return usageError{fmt.Errorf("%d seeds and %d days; at least 1 and 3 are needed", b.Seeds, b.Days)}
	}
	if len(b.Budget) == 0 {
		return usageError{fmt.Errorf("--budget: at least one is needed")}
	}
	var g errgroup.Group
	g.SetLimit(b.Jobs)
	if b.Jobs <= 0 {
		g.SetLimit(runtime.GOMAXPROCS(0))
	}
	measure := func(all []detectbench.Named, o detectbench.Options) [][][]detectbench.Score {
		scores := make([][][]detectbench.Score, len(all))
		for i, s := range all {
			scores[i] = make([][]detectbench.Score, b.Seeds)
			for n := range b.Seeds {
				g.Go(func() (err error) {
					x := s.Scenario
					x.Seed, x.Days = b.Seed+uint64(n), b.Days
					scores[i][n], err = detectbench.Run(x, o)
					return err
				})
			}
		}
		return scores
	}
	var singles, scripts []detectbench.Named
	if b.Only != "scripts" {
		singles = detectbench.Singles
	}
	if b.Only != "singles" {
		scripts = detectbench.Scripts
	}
	single := measure(singles, detectbench.Options{Budgets: b.Budget, Plain: !b.NoPlain})
	script := measure(scripts, detectbench.Options{Budgets: b.Budget[:1]})
	if err := g.Wait(); err != nil {
		return err
	}
	for i, s := range singles {
		if err := printSingles(c.out, s.Name, single[i]); err != nil {
			return err
		}
	}
	return printScripts(c.out, scripts, script)
}

func printSingles(out io.Writer, name string, bySeed [][]detectbench.Score) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "%s\tfalse/day/1000\tin surges\tfirst 48 h\trecall 10-30\t30-100\t100 and more\tall\tdelay 100\tdelay 10\t9 of 10\tlag\tflaps\tns\n", name)
	for i := range bySeed[0] {
		mean := meanOf(bySeed, i)
		fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%.1f\t%.0f%%\t%.0f%%\t%.1f%%\t%.0f%%\t%.1f min\t%.1f min\t%.0f min\t%.0f min\t%.2f\t%.0f\n", bySeed[0][i].Detector,
			mean(func(x *detectbench.Score) float64 { return x.False }), mean(func(x *detectbench.Score) float64 { return x.Surges }),
			mean(func(x *detectbench.Score) float64 { return x.FalseEarly }), 100*mean(func(x *detectbench.Score) float64 { return x.Recall10 }),
			100*mean(func(x *detectbench.Score) float64 { return x.Recall30 }), 100*mean(func(x *detectbench.Score) float64 { return x.Recall100 }),
			100*mean(func(x *detectbench.Score) float64 { return x.RecallAll }), mean(func(x *detectbench.Score) float64 { return x.Delay100 }),
			mean(func(x *detectbench.Score) float64 { return x.Delay10 }), mean(func(x *detectbench.Score) float64 { return x.Late }),
			mean(func(x *detectbench.Score) float64 { return x.Lag }), mean(func(x *detectbench.Score) float64 { return x.Flaps }),
			mean(func(x *detectbench.Score) float64 { return x.Nanos }))
	}
	fmt.Fprintln(w)
	return w.Flush()
}

func printScripts(out io.Writer, all []detectbench.Named, scores [][][]detectbench.Score) error {
	if len(all) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "one incident a day\tfound\tin 15 min\tdelay\talerts told of each\tfalse/day of many\tfalse/day/1000 of one")
	for i, s := range all {
		mean := meanOf(scores[i], 0)
		fmt.Fprintf(w, "%s\t%.0f%%\t%.0f%%\t%.0f min\t%.2f\t%.2f\t%.2f\n", s.Name, 100*mean(func(x *detectbench.Score) float64 { return x.Found }),
			100*mean(func(x *detectbench.Score) float64 { return x.Soon }), mean(func(x *detectbench.Score) float64 { return x.Delay }),
			mean(func(x *detectbench.Score) float64 { return x.Told }), mean(func(x *detectbench.Score) float64 { return x.FalseShared }),
			mean(func(x *detectbench.Score) float64 { return x.False }))
	}
	return w.Flush()
}

// meanOf returns a function that averages a figure of detector i over the seeds.
func meanOf(bySeed [][]detectbench.Score, i int) func(func(*detectbench.Score) float64) float64 {
	return func(of func(*detectbench.Score) float64) (sum float64) {
		for _, scores := range bySeed {
			sum += of(&scores[i]) / float64(len(bySeed))
		}
		return sum
	}
}
