package spike

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// start is a Monday, midnight UTC.
const start = int64(1_700_438_400)

// incident raises the ratio of failures from one minute to another.
type incident struct {
	from, to         int
	domain, provider string // empty: all
	ratio            float64
}

// mail is a small sender: every domain sends about rate messages a minute to
// every provider, and a thousandth of them fails for SPF.
type mail struct {
	seed      uint64
	rate      int
	domains   int
	incidents []incident
}

var providers = []string{"gmail", "gmx", "microsoft", "yahoo"}

// minute returns the counts of a minute; they depend on nothing but the minute.
func (x *mail) minute(m int) []Row {
	r := rand.New(rand.NewPCG(x.seed, uint64(m)))
	var rows []Row
	for _, p := range providers {
		for i := range x.domains {
			domain := fmt.Sprintf("d%d.example", i)
			ratio := 0.001
			for _, c := range x.incidents {
				if m >= c.from && m < c.to && (c.domain == "" || c.domain == domain) && (c.provider == "" || c.provider == p) {
					ratio = c.ratio
				}
			}
			n, k := int64(r.IntN(2*x.rate)), int64(0)
			for range n {
				if r.Float64() < ratio {
					k++
				}
			}
			rows = append(rows, Row{Source: "mta1", Outcome: "delivered", Provider: p, SenderDomain: domain, Host: "mx1", Firsts: n - k})
			if k > 0 {
				rows = append(rows, Row{Source: "mta1", Outcome: "bounced", Category: "spf_failed", Provider: p, SenderDomain: domain, Host: "mx1", Firsts: k})
			}
		}
	}
	return rows
}

func detector(t testing.TB, c Config) *Detector {
	t.Helper()
	d, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// run judges minutes and returns the changes.
func run(d *Detector, from, to int, rows func(int) []Row) (all []Change) {
	for m := from; m < to; m++ {
		all = append(all, d.Window(start+int64(m)*60, rows(m))...)
	}
	return all
}

// told are the changes that people would be told of.
func told(all []Change) (told []Alert) {
	for _, c := range all {
		if !c.Alert.Inhibited {
			told = append(told, c.Alert)
		}
	}
	return told
}

func states(all []Alert) string {
	var s []string
	for _, a := range all {
		s = append(s, string(a.State))
	}
	return strings.Join(s, " ")
}

const day = 1440

func TestOneDomainAtOneProvider(t *testing.T) {
	x := mail{seed: 1, rate: 10, domains: 5, incidents: []incident{{2*day + 60, 2*day + 120, "d3.example", "gmail", 0.12}}}
	all := told(run(detector(t, Config{}), 0, 3*day, x.minute))
	if len(all) < 2 {
		t.Fatalf("got %d changes, want the beginning and the end", len(all))
	}
	first, last := all[0], all[len(all)-1]
	want := map[Dimension]string{SenderDomain: "d3.example", Provider: "gmail"}
	for _, a := range all {
		if a.ID != first.ID || !cmp.Equal(a.Labels, want) {
			t.Errorf("an alert of %v, want of %v only", a.Labels, want)
		}
	}
	begun := time.Unix(start+(2*day+60)*60, 0)
	if first.State != Firing || first.Fired.Sub(begun) < 0 || first.Fired.Sub(begun) > 10*time.Minute {
		t.Errorf("%s at %s, want firing within 10 minutes of %s", first.State, first.Fired, begun)
	}
	if off := first.Since.Sub(begun); off < -10*time.Minute || off > 10*time.Minute {
		t.Errorf("since %s, want about %s", first.Since, begun)
	}
	if last.State != Resolved || last.Resolved.Sub(begun) < time.Hour || last.Resolved.Sub(begun) > 75*time.Minute {
		t.Errorf("%s at %s, want resolved within 15 minutes of the end", last.State, last.Resolved)
	}
	if last.Ratio < 0.08 || last.Ratio > 0.16 || last.Usual > 0.002 {
		t.Errorf("ratio %v, usual %v; 12%% failed in the incident, 0.1%% before", last.Ratio, last.Usual)
	}
	if first.Category != "spf_failed" || !strings.Contains(first.Advice, "dig +short TXT d3.example") {
		t.Errorf("category %q with advice %q", first.Category, first.Advice)
	}
}

// What is copied into a shell is a name, or not there.
func TestHostName(t *testing.T) {
	for name, want := range map[string]bool{
		"shop.example": true, "xn--bcher-kva.example": true, "": false, "(other)": false, "-f.example": false,
		"a.example;id": false, "$(id).example": false, "a b.example": false, "localhost": false, "b\u00fccher.example": false,
	} {
		if got := hostName(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func TestManyDomainsAtOneProvider(t *testing.T) {
	x := mail{seed: 2, rate: 10, domains: 20, incidents: []incident{{2 * day, 2*day + 60, "", "yahoo", 0.03}}}
	changes := run(detector(t, Config{}), 0, 3*day, x.minute)
	all := told(changes)
	ids := make(map[string]bool)
	for _, a := range all {
		if a.Kind != Breadth || !cmp.Equal(a.Labels, map[Dimension]string{Provider: "yahoo"}) {
			t.Errorf("told of %s %v, want of yahoo alone; day %.2f %s", a.Kind, a.Labels, float64(a.Updated.Unix()-start)/86400, a.Summary)
		}
		ids[a.ID] = true
	}
	if len(ids) != 1 {
		t.Fatalf("told of %d alerts, want one", len(ids))
	}
	if last := all[len(all)-1]; last.State != Resolved {
		t.Errorf("it ends as %s", last.State)
	}
	if off := all[0].Fired.Unix() - start - 2*day*60; off < 0 || off > 10*60 {
		t.Errorf("fired %d s after the beginning", off)
	}
	if all[0].Active != 20 || all[0].Members < 4 {
		t.Errorf("%d of %d rise; there are 20 domains", all[0].Members, all[0].Active)
	}
	for _, c := range changes {
		if c.Alert.Inhibited && !ids[c.Alert.Incident] {
			t.Errorf("%v is inhibited by %s, which is not known", c.Alert.Labels, c.Alert.Incident)
		}
	}
	open := make(map[string]bool)
	for _, c := range changes {
		open[c.Alert.ID] = c.Alert.State.Open()
	}
	for id, o := range open {
		if o {
			t.Errorf("alert %s is open hours after the incident", id)
		}
	}
}

func TestNothingHappens(t *testing.T) {
	x := mail{seed: 3, rate: 10, domains: 50}
	if all := told(run(detector(t, Config{}), 0, 4*day, x.minute)); len(all) > 0 {
		t.Errorf("%d changes without any incident, the first: %s", len(all), all[0].Title)
	}
}

func TestVolumeAloneIsNoFailure(t *testing.T) {
	x := mail{seed: 4, rate: 5, domains: 10}
	big := mail{seed: 5, rate: 100, domains: 10}
	d := detector(t, Config{})
	all := told(run(d, 0, 3*day, func(m int) []Row {
		if m >= 2*day && m < 2*day+60 {
			return big.minute(m)
		}
		return x.minute(m)
	}))
	if len(all) > 0 {
		t.Errorf("a campaign of twenty times the usual volume: %s %s", all[0].Title, all[0].Summary)
	}
}

func TestDeadFeed(t *testing.T) {
	x := mail{seed: 6, rate: 10, domains: 3}
	rows := func(m int) []Row {
		if m >= 2*day && m < 2*day+90 {
			return nil
		}
		return x.minute(m)
	}
	all := told(run(detector(t, Config{}), 0, 2*day+200, rows))
	if states(all) != "firing resolved" {
		t.Fatalf("states %q, want one alert that is over at the end", states(all))
	}
	a := all[0]
	if a.Rule != "dead_feed" || a.Labels[Source] != "mta1" || a.Severity != Critical {
		t.Errorf("got %s %v %s", a.Rule, a.Labels, a.Severity)
	}
	if want := start + 2*day*60; a.Since.Unix() != want || a.Fired.Unix() > want+30*60 {
		t.Errorf("since %s, fired %s; it stopped at %s", a.Since, a.Fired, time.Unix(want, 0).UTC())
	}
	if !strings.Contains(a.Summary, "Nothing has come since 00:00 UTC") {
		t.Errorf("it says %q", a.Summary)
	}
}

func TestThreshold(t *testing.T) {
	rules := []Rule{{Name: "limit", Kind: Threshold, Match: Match{Outcomes: []string{"bounced"}}, Threshold: Limits{Ratio: 0.05, Over: 10 * time.Minute, For: 3 * time.Minute}}}
	row := func(m int) []Row {
		k := int64(2)
		if m >= 100 && m < 150 {
			k = 10
		}
		return []Row{
			{Source: "s", Outcome: "delivered", Provider: "p", SenderDomain: "d", Firsts: 100 - k},
			{Source: "s", Outcome: "bounced", Category: "policy", Provider: "p", SenderDomain: "d", Firsts: k},
		}
	}
	all := told(run(detector(t, Config{Rules: rules}), 0, 300, row))
	if states(all) != "firing resolved" {
		t.Fatalf("states %q", states(all))
	}
	// After 4 minutes of 10% and 6 of 2% the last ten have 5.2%; three minutes later it fires.
	if m := (all[0].Fired.Unix() - start) / 60; m != 107 {
		t.Errorf("fired at the end of minute %d, want 106", m-1)
	}
	if all[0].Usual != 0.05 || all[0].Severity == "" {
		t.Errorf("limit %v, severity %q", all[0].Usual, all[0].Severity)
	}
}

func TestBurn(t *testing.T) {
	rules := []Rule{{Name: "slo", Kind: Burn, Objective: 0.99}}
	row := func(m int) []Row {
		k := int64(0)
		if m >= 2*day {
			k = 20
		}
		return []Row{{Source: "s", Outcome: "delivered", Firsts: 100 - k}, {Source: "s", Outcome: "deferred", Category: "greylisted", Firsts: k}}
	}
	all := told(run(detector(t, Config{Rules: rules}), 0, 2*day+120, row))
	if len(all) == 0 || all[len(all)-1].Severity != Critical {
		t.Fatalf("20%% fail where 1%% may: %v", states(all))
	}
}

func TestNewWording(t *testing.T) {
	d := detector(t, Config{Rules: []Rule{{Name: "new_template", Kind: Template, By: []Dimension{Provider}, Severity: Ticket}}})
	var all []Change
	x := mail{seed: 7, rate: 5, domains: 2}
	for m := range 5 * day {
		heard := []Heard{{Provider: "gmail", Text: "550 no such user", Attempts: 3}}
		if m >= 4*day {
			heard = append(heard, Heard{Provider: "gmail", Text: "550 something new", Attempts: 2})
		}
		d.Hear(heard)
		all = append(all, d.Window(start+int64(m)*60, x.minute(m))...)
	}
	var of []Alert
	for _, a := range told(all) {
		if a.Rule == "new_template" {
			of = append(of, a)
		}
	}
	if states(of) != "firing resolved" || of[0].Templates[0].Text != "550 something new" || of[0].Severity != Ticket {
		t.Errorf("got %q %+v", states(of), of)
	}
}

func TestTrend(t *testing.T) {
	rules := []Rule{{Name: "slow", Kind: Ratio, By: []Dimension{Provider}, Match: Match{Categories: []string{"spf_failed"}}}}
	row := func(m int) []Row {
		n, ratio := int64(2000), 0.01
		if days := m / day; days >= 25 {
			ratio *= 1 + 0.1*float64(days-25)
		}
		k := int64(float64(n) * ratio)
		if m%10 != 0 {
			return nil
		}
		return []Row{{Source: "s", Outcome: "delivered", Provider: "p", Firsts: n - k}, {Source: "s", Outcome: "bounced", Category: "spf_failed", Provider: "p", Firsts: k}}
	}
	all := told(run(detector(t, Config{Rules: rules}), 0, 60*day, row))
	if len(all) == 0 || all[0].Kind != Trend || all[0].Severity != Ticket {
		t.Fatalf("a ratio that grows by a tenth of its first value a day: %d changes", len(all))
	}
}

// scenario has everything in it that a state has to keep.
func scenario() (Config, mail) {
	rules := append(DefaultRules(),
		Rule{Name: "limit", Kind: Threshold, By: []Dimension{Provider}, Threshold: Limits{Ratio: 0.02}},
		Rule{Name: "slo", Kind: Burn, Objective: 0.99},
		Rule{Name: "surge", Kind: Surge, By: []Dimension{Provider}},
		Rule{Name: "drop", Kind: Drop, By: []Dimension{Provider}},
	)
	return Config{Rules: rules}, mail{seed: 8, rate: 6, domains: 8, incidents: []incident{
		{day + 60, day + 180, "d1.example", "gmail", 0.15},
		{day + 400, day + 460, "", "yahoo", 0.06},
		{2 * day, 2*day + 600, "d2.example", "gmx", 0.3},
	}}
}

func TestSameAlertsInPieces(t *testing.T) {
	c, x := scenario()
	whole := detector(t, c)
	want := run(whole, 0, 3*day, x.minute)
	if len(want) < 6 {
		t.Fatalf("the scenario has %d changes only", len(want))
	}
	r := rand.New(rand.NewPCG(9, 9))
	var got []Change
	d := detector(t, c)
	for m := 0; m < 3*day; {
		next := min(m+1+r.IntN(200), 3*day)
		got = append(got, run(d, m, next, x.minute)...)
		m = next
		state := d.State()
		d = detector(t, c)
		if err := d.Restore(state); err != nil {
			t.Fatal(err)
		}
		if again := d.State(); !bytes.Equal(state, again) {
			t.Fatalf("at minute %d the restored detector has another state", m)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("alerts differ (-whole +pieces):\n%s", diff)
	}
	if !bytes.Equal(whole.State(), d.State()) {
		t.Error("states differ")
	}
}

func TestSameAlertsInAnyOrderOfRows(t *testing.T) {
	c, x := scenario()
	want := run(detector(t, c), 0, day+500, x.minute)
	got := run(detector(t, c), 0, day+500, func(m int) []Row {
		rows := x.minute(m)
		r := rand.New(rand.NewPCG(1, uint64(m)))
		r.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		return rows
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("alerts differ (-sorted +shuffled):\n%s", diff)
	}
}

func TestAgainIsIgnored(t *testing.T) {
	c, x := scenario()
	d := detector(t, c)
	run(d, 0, 100, x.minute)
	state := d.State()
	for _, at := range []int64{start + 99*60, start, start + 100*60 + 1, -60} {
		if got := d.Window(at, x.minute(99)); got != nil {
			t.Errorf("window %d changed something", at)
		}
	}
	if d.Stats().Ignored != 4 {
		t.Errorf("ignored %d, want 4", d.Stats().Ignored)
	}
	d.ignored = 0
	if !bytes.Equal(state, d.State()) {
		t.Error("the state has changed")
	}
}

func TestRestoreForOtherRules(t *testing.T) {
	c, x := scenario()
	d := detector(t, c)
	run(d, 0, 2*day+100, x.minute)
	open := d.Open()
	if len(open) < 2 {
		t.Fatalf("%d alerts are open, want that of d2.example and the limit", len(open))
	}
	state := d.State()

	fewer := Config{Rules: slices.DeleteFunc(slices.Clone(c.Rules), func(r Rule) bool { return r.Name == "authentication" })}
	d = detector(t, fewer)
	if err := d.Restore(state); err != nil {
		t.Fatal(err)
	}
	var ended []string
	for _, ch := range d.Window(start+(2*day+100)*60, x.minute(2*day+100)) {
		if ch.Alert.Rule == "authentication" && ch.Alert.State == Resolved {
			ended = append(ended, ch.Alert.ID)
		}
	}
	for _, a := range open {
		if a.Rule == "authentication" && !slices.Contains(ended, a.ID) {
			t.Errorf("%s is open, and its rule is gone", a.Title)
		}
	}
	run(d, 2*day+101, 3*day, x.minute)

	// The other way round: what is known of the rules that stay is kept.
	reversed := slices.Clone(c.Rules)
	slices.Reverse(reversed)
	d = detector(t, Config{Rules: reversed})
	if err := d.Restore(state); err != nil {
		t.Fatal(err)
	}
	if got := len(d.Open()); got != len(open) {
		t.Errorf("%d alerts are open with the rules in another order, want %d", got, len(open))
	}
	run(d, 2*day+100, 3*day, x.minute)
}

func TestRestoreRefusesDamage(t *testing.T) {
	c, x := scenario()
	d := detector(t, c)
	run(d, 0, day+100, x.minute)
	state := d.State()
	rapid.Check(t, func(t *rapid.T) {
		bad := bytes.Clone(state)
		switch rapid.IntRange(0, 1).Draw(t, "kind") {
		case 0:
			bad = bad[:rapid.IntRange(0, len(bad)-1).Draw(t, "length")]
		case 1:
			bad[rapid.IntRange(0, len(bad)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
		}
		fresh, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := fresh.Restore(bad); !errors.Is(err, ErrState) {
			t.Fatalf("got %v, want ErrState", err)
		}
	})
}

func TestForgets(t *testing.T) {
	d := detector(t, Config{MaxSeries: 500})
	for m := range 3 * day {
		var rows []Row
		for i := range 5 {
			rows = append(rows, Row{Source: "s", Outcome: "bounced", Category: "user_unknown", Provider: "p", SenderDomain: fmt.Sprintf("d%d.example", 5*m+i), Firsts: 1})
		}
		d.Window(start+int64(m)*60, rows)
		if s := d.Stats(); m%poolEvery == 0 && s.Series+s.Scopes > 500 {
			t.Fatalf("%d series and %d scopes, bound is 500", s.Series, s.Scopes)
		}
	}
	if d.Stats().Evicted == 0 {
		t.Error("none of 20,000 domains is counted as forgotten")
	}
	for i := range d.names {
		if n := len(d.names[i].all); n > 500 {
			t.Errorf("%d names are kept", n)
		}
	}
}

func TestGapsDoNoHarm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, x := scenario()
		d, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		at := start
		for range rapid.IntRange(1, 60).Draw(t, "windows") {
			at += 60 * int64(rapid.SampledFrom([]int{1, 1, 1, 2, 30, 1000, 20000}).Draw(t, "gap"))
			for _, change := range d.Window(at, x.minute(rapid.IntRange(0, 3*day).Draw(t, "minute"))) {
				if change.Time > at+60 {
					t.Fatalf("a change at %d, after the window %d", change.Time, at)
				}
			}
			if d.Position() != at+60 {
				t.Fatalf("position %d, want %d", d.Position(), at+60)
			}
		}
	})
}

func TestAlertAsJSON(t *testing.T) {
	c, x := scenario()
	for _, change := range run(detector(t, c), 0, 3*day, x.minute) {
		b, err := json.Marshal(change.Alert)
		if err != nil {
			t.Fatal(err)
		}
		var a Alert
		if err := json.Unmarshal(b, &a); err != nil {
			t.Fatal(err)
		}
		if a.Title == "" || a.Summary == "" || a.Advice == "" || a.Silence == "" || a.Severity == "" {
			t.Errorf("a tired person misses something: %s", b)
		}
	}
}

func TestTexts(t *testing.T) {
	for r, want := range map[float64]string{0: "0%", 0.000001: "0%", 0.00034: "0.034%", 0.0049: "0.49%", 0.015: "1.5%", 0.12: "12%", 0.999: "100%", 1: "100%"} {
		if got := percent(r); got != want {
			t.Errorf("percent(%v) = %q, want %q", r, got, want)
		}
	}
	for x, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := count(x); got != want {
			t.Errorf("count(%v) = %q, want %q", x, got, want)
		}
	}
	for id, want := range map[string]string{"spf_failed": "SPF failed", "user_unknown": "user unknown", "ip_blocklisted": "IP blocklisted"} {
		if got := Readable(id); got != want {
			t.Errorf("Readable(%q) = %q, want %q", id, got, want)
		}
	}
}

// TestYear lets a year go by in which domains come and go, incidents happen and
// providers find new words: what is kept does not grow.
func TestYear(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while")
	}
	rules := append(DefaultRules(), Rule{Name: "wordings", Kind: Template, By: []Dimension{Provider}},
		Rule{Name: "burn", Kind: Burn, Objective: 0.99, By: []Dimension{Provider}}, Rule{Name: "drop", Kind: Drop, By: []Dimension{Provider}})
	before := heap()
	d := detector(t, Config{Rules: rules})
	r := rand.New(rand.NewPCG(12, 0))
	var rows []Row
	var half, year int
	var heapHalf, heapYear int64
	for m := range 365 * day {
		today := m / day
		if m%10 != 0 && m%day != day/2 {
			continue // nothing comes
		}
		rows = rows[:0]
		incident := m%(9*day) < 300
		for _, p := range providers[:2] {
			for i := range 4 {
				domain := fmt.Sprintf("d%d.example", i)
				if i == 3 {
					domain = fmt.Sprintf("day%d.example", today/4) // never comes again
				}
				k := 0
				if ratio := r.Float64(); ratio < 0.03 || incident && i < 2 && ratio < 0.5 {
					k = 1 + r.IntN(2)
				}
				rows = append(rows, Row{Source: "mta1", Outcome: "delivered", Provider: p, SenderDomain: domain, Host: "mx1", Firsts: int64(9 - k)})
				if k > 0 {
					rows = append(rows, Row{Source: "mta1", Outcome: "bounced", Category: "policy", Provider: p, SenderDomain: domain, Host: "mx1", Firsts: int64(k)})
				}
			}
		}
		if m%70 == 0 {
			d.Hear([]Heard{{Provider: "gmail", Text: "550 as ever", Attempts: 5}, {Provider: "gmail", Text: fmt.Sprintf("550 of day %d", today), Attempts: 1}})
		}
		d.Window(start+int64(m)*60, rows)
		if m%day == day/2 {
			size := len(d.State())
			if today < 180 && today > 60 {
				half = max(half, size)
			} else if today >= 180 {
				year = max(year, size)
			}
			switch today {
			case 179:
				heapHalf = heap() - before
			case 364:
				heapYear = heap() - before
			}
		}
	}
	// A wording takes some ten bytes, up to mostWordings a provider.
	if allowed := half + half/5 + 180*12; year > allowed {
		t.Errorf("the state takes %d bytes in the second half of the year, %d in the first", year, half)
	}
	if allowed := heapHalf + heapHalf/5 + 180*100; heapYear > allowed {
		t.Errorf("the detector takes %d bytes of the heap after a year, %d after half of it", heapYear, heapHalf)
	}
	if n := len(d.alerts); n > 100 {
		t.Errorf("%d alerts are kept", n)
	}
}

// crowd makes minutes of 5,000 pairs of a domain and a provider with mail in four
// of five minutes, a hundredth of which fails for one of four reasons each. In the
// first five minutes all of it does, so that all have a series from then on.
func crowd() (rules []Rule, minute func(m int) []Row) {
	const pairs, minutes, beginning = 5000, 40, 5
	all := []string{"spf_failed", "user_unknown", "rate_limited", "spam_content"}
	r := rand.New(rand.NewPCG(1, 1))
	windows := make([][]Row, minutes)
	for m := range windows {
		for i := range pairs {
			if r.IntN(5) == 0 {
				continue
			}
			x := Row{Source: "mta1", Outcome: "delivered", Provider: providers[i%4], SenderDomain: fmt.Sprintf("d%d.example", i/4), Host: "mx1", Firsts: int64(1 + r.IntN(10))}
			windows[m] = append(windows[m], x)
			for c, name := range all {
				if r.Float64() < 0.01 || m == 0 && i%5 == c%5 || m < beginning {
					x.Outcome, x.Category, x.Firsts = "bounced", name, 1
					windows[m] = append(windows[m], x)
				}
			}
		}
	}
	rules = []Rule{{Name: "crowd", Kind: Ratio, By: []Dimension{SenderDomain, Provider, Category}, Match: Match{Categories: all}}}
	return rules, func(m int) []Row {
		if m < minutes {
			return windows[m]
		}
		return windows[beginning+m%(minutes-beginning)]
	}
}

// heap is what is in use after a collection.
func heap() int64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// bytesPerSeries is the most that a series may take of the heap, with all that
// belongs to it.
const bytesPerSeries = 160

func TestBytesPerSeries(t *testing.T) {
	rules, minute := crowd()
	for name, rules := range map[string][]Rule{"one rule by reason": rules, "built-in rules": DefaultRules()} {
		t.Run(name, func(t *testing.T) {
			before := heap()
			d := detector(t, Config{Rules: rules})
			for m := range 301 {
				d.Window(start+int64(m)*60, minute(m))
			}
			n := int64(d.Stats().Series)
			got := (heap() - before) / n
			t.Logf("%d series of %d scopes, %d B each", n, len(d.scopes), got)
			if n < 15000 || got > bytesPerSeries {
				t.Errorf("%d series take %d B each, at most %d are allowed", n, got, bytesPerSeries)
			}
			runtime.KeepAlive(d)
		})
	}
}

// BenchmarkWindow is a minute of 20,000 series.
func BenchmarkWindow(b *testing.B) {
	rules, minute := crowd()
	before := heap()
	d := detector(b, Config{Rules: rules})
	m := 0
	for ; m < 300; m++ {
		d.Window(start+int64(m)*60, minute(m))
	}
	held := heap() - before
	n := float64(len(d.series))
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		d.Window(start+int64(m)*60, minute(m))
		m++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/series")
	b.ReportMetric(float64(held)/n, "B/series")
	b.ReportMetric(float64(len(d.State()))/n, "stored-B/series")
	b.ReportMetric(n, "series")
}
