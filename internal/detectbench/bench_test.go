package detectbench

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// small is a scenario of a few days with a seed for training.
func small(s Scenario) Scenario {
	s.Seed, s.Days, s.Domains, s.PerMinute = 1, 3, 16, 1500
	return s
}

// The bounds leave chance some room; bouncemeter bench detector measures in
// earnest.
func TestSingles(t *testing.T) {
	for _, c := range Singles {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			scores, err := Run(small(c.Scenario), Options{Budgets: []float64{1}})
			if err != nil {
				t.Fatal(err)
			}
			if got := scores[0]; got.Recall100 < 0.8 || got.False > 30 || got.Delay100 > 20 {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestScripts(t *testing.T) {
	for _, c := range Scripts {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			scores, err := Run(small(c.Scenario), Options{Budgets: []float64{1}})
			if err != nil {
				t.Fatal(err)
			}
			got := scores[0]
			switch c.Script {
			case Stop:
				if got.Told > 1 { // one is by chance
					t.Errorf("told of %v alerts while nothing can be sent", got.Told)
				}
			case Flapping:
				if got.Found == 0 || got.Told > 3 {
					t.Errorf("%+v", got)
				}
			default:
				if got.Told == 0 || got.Told > 2.5 || got.FalseShared > 5 {
					t.Errorf("%+v", got)
				}
			}
		})
	}
}

// TestPlain holds the plain detectors to what they are known for, so that the
// comparison is with what it says.
func TestPlain(t *testing.T) {
	step := func(p *plain, usual, incident float64) (before, after bool) {
		judge := p.start()
		for m := range 3 * day {
			before = judge(m, usual, 100) || before
		}
		for m := 3 * day; m < 3*day+10; m++ {
			after = judge(m, incident, 100) || after
		}
		return before, after
	}
	for i := range plains {
		p := &plains[i]
		if before, _ := step(p, 0, 0); before {
			t.Errorf("%s: fires though nothing fails", p.name)
		}
		if _, after := step(p, 0, 95); !after {
			t.Errorf("%s: does not fire though 95%% fail where nothing has failed", p.name)
		}
	}
}

func TestSameSeedSameScore(t *testing.T) {
	s := Scenario{Seed: 7, Days: 3, Domains: 5, PerMinute: 200, Spikes: true, Bursts: true}
	run := func() []Score {
		scores, err := Run(s, Options{Budgets: []float64{1, 10}, Plain: true})
		if err != nil {
			t.Fatal(err)
		}
		for i := range scores {
			scores[i].Nanos = 0
		}
		return scores
	}
	if diff := cmp.Diff(run(), run()); diff != "" {
		t.Error(diff)
	}
}
