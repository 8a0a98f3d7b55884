package detectbench

import "testing"

// TestSmall holds a few days of each scenario to bounds that leave chance some
// room; bouncemeter bench detector measures in earnest.
func TestSmall(t *testing.T) {
	for _, c := range Scenarios {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			s := c.Scenario
			s.Seed, s.Days, s.Domains, s.PerMinute = 1, 4, 20, 1500
			got, err := Run(s, 1)
			if err != nil {
				t.Fatal(err)
			}
			if s.ProviderWide {
				if got.WideTold == 0 || got.WideTold > 2.5 {
					t.Errorf("%+v", got)
				}
				return
			}
			if got.Recall100 < 0.9 || got.False > 20 || got.Delay100 > 10 {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestSameSeedSameScore(t *testing.T) {
	s := Scenario{Seed: 7, Days: 3, Domains: 5, PerMinute: 200, Spikes: true, Bursts: true}
	a, err := Run(s, 1)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Run(s, 1)
	if err != nil {
		t.Fatal(err)
	}
	a.Nanos, b.Nanos = 0, 0
	if a != b {
		t.Errorf("%+v and %+v", a, b)
	}
}
