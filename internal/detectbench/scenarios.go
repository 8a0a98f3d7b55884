package detectbench

import "strconv"

// Named is a scenario of bouncemeter bench detector.
type Named struct {
	Name string
	Scenario
}

// Singles have incidents of single series, on two makes of mail, with failures
// that come one by one and in clumps. Scripts have one incident a day.
var (
	Singles = []Named{
		{"daily shape, surges", Scenario{Domains: 50, PerMinute: 3000, Spikes: true}},
		{"daily shape, failures in clumps", Scenario{Domains: 50, PerMinute: 3000, Spikes: true, Clumps: 1}},
		{"bursts, outages, time zones", Scenario{Domains: 50, PerMinute: 3000, Spikes: true, Bursts: true}},
		{"bursts, failures in clumps", Scenario{Domains: 50, PerMinute: 3000, Spikes: true, Bursts: true, Clumps: 1}},
	}
	Scripts = []Named{
		{"a whole provider, 3 times for an hour", Scenario{Domains: 50, PerMinute: 3000, Script: ProviderWide}},
		{"the same, among incidents of single series", Scenario{Domains: 50, PerMinute: 3000, Script: ProviderWide, Spikes: true}},
		{"the same, in clumps", Scenario{Domains: 50, PerMinute: 3000, Script: ProviderWide, Clumps: 1}},
		{"the same, in bursts", Scenario{Domains: 50, PerMinute: 3000, Script: ProviderWide, Bursts: true}},
		{"a whole domain, 10 times for an hour", Scenario{Domains: 50, PerMinute: 3000, Script: DomainWide}},
		{"slowly up to 10 times in 4 hours", Scenario{Domains: 50, PerMinute: 3000, Script: Ramp}},
		{"30 times, on and off, 9 times 10 minutes", Scenario{Domains: 50, PerMinute: 3000, Script: Flapping}},
		{"nothing is sent for 45 minutes", Scenario{Domains: 50, PerMinute: 3000, Script: Stop}},
	}
)

func number(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
