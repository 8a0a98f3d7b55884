package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"golang.org/x/sync/errgroup"

	"github.com/bouncemeter/bouncemeter/internal/detectbench"
)

type benchCommand struct {
	Detector benchDetectorCommand `cmd:"" help:"Measure false alarms, recall and delay of the detector on made-up mail whose incidents are known."`
}

type benchDetectorCommand struct {
	Seed   uint64  `default:"1001" help:"The first seed (${default})."`
	Seeds  int     `default:"3" help:"How many seeds to take the average of (${default})."`
	Budget float64 `default:"1" help:"False alarms a day and 1000 series that the rule accepts (${default})."`
	Days   int     `default:"14" help:"How many days to make up; the first two are without incidents (${default})."`
}

// Run prints a line for each scenario.
func (b benchDetectorCommand) Run(_ context.Context, c console) error {
	if b.Seeds < 1 || b.Days < 3 {
		return fmt.Errorf("%d seeds and %d days; at least 1 and 3 are needed", b.Seeds, b.Days)
	}
	scores := make([][]detectbench.Score, len(detectbench.Scenarios))
	var g errgroup.Group
	g.SetLimit(2)
	for i, s := range detectbench.Scenarios {
		scores[i] = make([]detectbench.Score, b.Seeds)
		for n := range b.Seeds {
			g.Go(func() (err error) {
				x := s.Scenario
				x.Seed, x.Days = b.Seed+uint64(n), b.Days
				scores[i][n], err = detectbench.Run(x, b.Budget)
				return err
			})
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "single series\tfalse/day/1000\tin surges\tfirst 48 h\trecall 10-30\t30-100\t100 and more\tall\tdelay 100\tdelay 10\tlag\tflaps\tns")
	for i, s := range detectbench.Scenarios {
		mean := meanOf(scores[i])
		if !s.ProviderWide {
			fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%.1f\t%.0f%%\t%.0f%%\t%.1f%%\t%.0f%%\t%.0f min\t%.0f min\t%.0f min\t%.2f\t%.0f\n", s.Name,
				mean(func(x detectbench.Score) float64 { return x.False }), mean(func(x detectbench.Score) float64 { return x.Surges }),
				mean(func(x detectbench.Score) float64 { return x.FalseEarly }), 100*mean(func(x detectbench.Score) float64 { return x.Recall10 }),
				100*mean(func(x detectbench.Score) float64 { return x.Recall30 }), 100*mean(func(x detectbench.Score) float64 { return x.Recall100 }),
				100*mean(func(x detectbench.Score) float64 { return x.RecallAll }), mean(func(x detectbench.Score) float64 { return x.Delay100 }),
				mean(func(x detectbench.Score) float64 { return x.Delay10 }), mean(func(x detectbench.Score) float64 { return x.Lag }),
				mean(func(x detectbench.Score) float64 { return x.Flaps }), mean(func(x detectbench.Score) float64 { return x.Nanos }))
		}
	}
	fmt.Fprintln(w, "\nprovider-wide\tfound in 15 min\tfalse/day\talerts told of each")
	for i, s := range detectbench.Scenarios {
		mean := meanOf(scores[i])
		if s.ProviderWide {
			fmt.Fprintf(w, "%s\t%.0f%%\t%.2f\t%.2f\n", s.Name, 100*mean(func(x detectbench.Score) float64 { return x.Wide }),
				mean(func(x detectbench.Score) float64 { return x.WideFalse }), mean(func(x detectbench.Score) float64 { return x.WideTold }))
		}
	}
	return w.Flush()
}

func meanOf(all []detectbench.Score) func(func(detectbench.Score) float64) float64 {
	return func(of func(detectbench.Score) float64) (sum float64) {
		for _, s := range all {
			sum += of(s) / float64(len(all))
		}
		return sum
	}
}
