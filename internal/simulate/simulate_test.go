package simulate

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/sources/dialect"
)

var monday = time.Date(2026, 1, 12, 0, 0, 0, 0, time.UTC)

// run simulates so long and returns the log.
func run(t *testing.T, c Config, d time.Duration) (*Simulator, []byte) {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	n, err := s.WriteUntil(&log, c.Start.Add(d))
	if err != nil || n != int64(log.Len()) {
		t.Fatalf("%d bytes, %v, want %d, nil", n, err, log.Len())
	}
	return s, log.Bytes()
}

// reading is what the dialect finds in a log.
type reading struct {
	events    []event.Event
	lines     int64
	malformed []string
}

func read(t *testing.T, log []byte, location *time.Location, reference time.Time) reading {
	t.Helper()
	p, err := dialect.New("postfix", location)
	if err != nil {
		t.Fatal(err)
	}
	p.Reference(reference)
	var r reading
	for line := range bytes.Lines(log) {
		r.lines++
		if r.events, err = p.Parse(bytes.TrimSuffix(line, []byte("\n")), r.events); err != nil {
			r.malformed = append(r.malformed, string(line))
		}
	}
	return r
}

// The log is the same however often and in whatever steps it is written.
func TestDeterministic(t *testing.T) {
	c := Config{Seed: 7, Start: monday, Rate: 2}
	_, whole := run(t, c, time.Hour)
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	var pieces bytes.Buffer
	for at := c.Start; at.Before(c.Start.Add(time.Hour)); {
		at = at.Add(time.Duration(1+pieces.Len()%977) * 100 * time.Millisecond)
		if at.After(c.Start.Add(time.Hour)) {
			at = c.Start.Add(time.Hour)
		}
		if _, err := s.WriteUntil(&pieces, at); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(whole, pieces.Bytes()) {
		t.Error("the log depends on the steps in which it is written")
	}
	c.Seed++
	if _, other := run(t, c, time.Hour); bytes.Equal(whole, other) {
		t.Error("another seed writes the same log")
	}
}

// What the dialect reads is what was meant: every line, every attempt of every
// sender, at the right time.
func TestTallyIsWhatTheDialectReads(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]Config{
		"traditional":    {Seed: 1, Start: monday, Rate: 2},
		"rfc3339":        {Seed: 2, Start: monday, Rate: 2, RFC3339: true, Location: berlin},
		"new year":       {Seed: 3, Start: time.Date(2025, 12, 31, 20, 0, 0, 0, time.UTC), Rate: 2, Location: berlin},
		"summer time":    {Seed: 4, Start: time.Date(2026, 3, 28, 23, 0, 0, 0, time.UTC), Rate: 2, Location: berlin},
		"expiring":       {Seed: 5, Start: monday, Rate: 2, Lifetime: time.Hour},
		"few recipients": {Seed: 6, Start: monday, Rate: 2, SenderDomains: 300, RecipientDomains: 10},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			const d = 5 * time.Hour
			s, log := run(t, c, d)
			location := c.Location
			if location == nil {
				location = time.UTC
			}
			r := read(t, log, location, c.Start.Add(d))
			tally := s.Tally()
			if len(r.malformed) > 0 {
				t.Fatalf("%d lines are malformed, such as %s", len(r.malformed), r.malformed[0])
			}
			if tally.Lines != r.lines || tally.Bytes != int64(len(log)) {
				t.Errorf("tally of %d lines, %d bytes; there are %d, %d", tally.Lines, tally.Bytes, r.lines, len(log))
			}

			type what struct{ sender, outcome string }
			got, probes, rejections := make(map[what]int64), int64(0), int64(0)
			senders, last := make(map[string]string), c.Start.Unix()
			for i := range r.events {
				e := &r.events[i]
				if now := e.Time / 1e6; now < last || now >= c.Start.Add(d).Unix() {
					t.Fatalf("an event at %d after one at %d", now, last)
				} else {
					last = now
				}
				id := string(e.Host) + "/" + string(e.Stream) + "/" + string(e.QueueID)
				switch e.Kind {
				case event.Arrival:
					senders[id] = string(event.Domain(e.Sender))
				case event.Removal:
					if _, ok := senders[id]; !ok {
						t.Fatalf("%s is removed but has not arrived", id)
					}
					delete(senders, id)
				case event.Attempt, event.Expiry:
					sender, ok := senders[id]
					if !ok {
						t.Fatalf("%s has no sender", id)
					}
					got[what{sender, e.Outcome.String()}]++
				case event.Probe:
					probes++
				case event.Rejection:
					rejections++
				}
			}
			want := make(map[what]int64)
			for _, n := range tally.Counts {
				want[what{n.SenderDomain, n.Outcome}] += n.Attempts
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(what{})); diff != "" {
				t.Errorf("-tally +read:\n%s", diff)
			}
			if probes != tally.Probes || rejections != tally.Rejections || probes == 0 || rejections == 0 {
				t.Errorf("%d probes, %d rejections, the tally has %d, %d", probes, rejections, tally.Probes, tally.Rejections)
			}
		})
	}
}

func TestMailExpires(t *testing.T) {
	c := Config{Seed: 5, Start: monday, Rate: 2, Lifetime: time.Hour}
	s, log := run(t, c, 6*time.Hour)
	tally := s.Tally()
	expired := tally.Sum(func(c Count) bool { return c.Outcome == "expired" })
	if expired == 0 || expired != int64(bytes.Count(log, []byte("status=expired, returned to sender"))) {
		t.Errorf("%d expired", expired)
	}
	// Each message is tried for at most its lifetime and one more wait.
	r := read(t, log, time.UTC, c.Start.Add(7*time.Hour))
	for i := range r.events {
		if most := (c.Lifetime + 4300*time.Second).Microseconds(); r.events[i].Delay > most {
			t.Fatalf("a delay of %v", time.Duration(r.events[i].Delay)*time.Microsecond)
		}
	}
}

// The everyday SPF failures of a sender at Gmail are about 0.1% and, during an
// incident, about the incident's share of first attempts.
func TestIncident(t *testing.T) {
	start := monday.Add(10 * time.Hour)
	c := Config{Seed: 9, Start: start, Rate: 20, Incidents: []Incident{{
		Start: start.Add(2 * time.Hour), End: start.Add(4 * time.Hour),
		SenderDomain: "shop.example", Provider: "gmail", Category: event.SPFFailed, Share: 0.12,
	}}}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	var before Tally
	share := func() float64 {
		if _, err := s.WriteUntil(io.Discard, start.Add(2*time.Hour)); err != nil {
			t.Fatal(err)
		}
		now := s.Tally()
		of := func(category string) float64 {
			at := func(c Count) bool {
				return c.SenderDomain == "shop.example" && c.Provider == "gmail" && (category == "" || c.Category == category)
			}
			return float64(now.Sum(at) - before.Sum(at))
		}
		ratio := of("spf_failed") / of("")
		before, start = now, start.Add(2*time.Hour)
		return ratio
	}
	if r := share(); r > 0.005 {
		t.Errorf("before: %.4f", r)
	}
	if r := share(); r < 0.09 || r > 0.15 {
		t.Errorf("during: %.4f", r)
	}
	if r := share(); r > 0.005 {
		t.Errorf("after: %.4f", r)
	}
}

// The mix is that of a real log: about 165 bytes a line, a sixth delivery lines
// of about 320 bytes, an eighth of them not sent, two thirds of these deferred.
func TestMix(t *testing.T) {
	_, log := run(t, Config{Seed: 1, Start: monday.Add(6 * time.Hour), Rate: 4}, 8*time.Hour)
	var lines, deliveries, bytesOfDeliveries, failed, deferred float64
	for line := range strings.Lines(string(log)) {
		lines++
		switch {
		case strings.Contains(line, "status=deferred ("):
			deferred++
			failed++
		case strings.Contains(line, "status=bounced ("):
			failed++
		case !strings.Contains(line, "status=sent ("):
			continue
		}
		deliveries++
		bytesOfDeliveries += float64(len(line))
	}
	for _, m := range []struct {
		name           string
		got, low, high float64
	}{
		{"bytes a line", float64(len(log)) / lines, 155, 175},
		{"share of delivery lines", deliveries / lines, 0.155, 0.175},
		{"bytes a delivery line", bytesOfDeliveries / deliveries, 305, 335},
		{"share not sent", failed / deliveries, 0.10, 0.14},
		{"share deferred", deferred / failed, 0.58, 0.75},
	} {
		t.Logf("%s: %.3f", m.name, m.got)
		if m.got < m.low || m.got > m.high {
			t.Errorf("%s: %.3f, want %.3f to %.3f", m.name, m.got, m.low, m.high)
		}
	}
}

// Night is quieter than day, Sunday than Monday.
func TestVolume(t *testing.T) {
	count := func(start time.Time) int64 {
		s, err := New(Config{Seed: 1, Start: start, Rate: 5})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.WriteUntil(io.Discard, start.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		return s.Tally().Lines
	}
	day, night, sunday := count(monday.Add(11*time.Hour)), count(monday.Add(3*time.Hour)), count(monday.Add(-13*time.Hour))
	if night*2 > day {
		t.Errorf("%d lines at night, %d by day", night, day)
	}
	if sunday*10 > day*8 {
		t.Errorf("%d lines on Sunday, %d on Monday", sunday, day)
	}
}

// All categories of failure that a reply can have occur.
func TestEveryCategory(t *testing.T) {
	has := make(map[event.Category]bool)
	for _, p := range providers {
		for _, f := range p.failures {
			has[f.category] = true
		}
	}
	for _, c := range event.Categories() {
		switch c {
		case event.QueueExpired, event.SuppressedAddress, event.LocalHold:
		default:
			if !has[c] {
				t.Errorf("no failure is %s", c)
			}
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, c := range map[string]Config{
		"no start":         {},
		"negative rate":    {Start: monday, Rate: -1},
		"unknown sender":   {Start: monday, Incidents: []Incident{{SenderDomain: "nobody.example", Category: event.SPFFailed, Share: 1}}},
		"unknown provider": {Start: monday, Incidents: []Incident{{Provider: "nobody", Category: event.SPFFailed, Share: 1}}},
		"unknown to it":    {Start: monday, Incidents: []Incident{{Provider: "icloud", Category: event.TLSFailed, Share: 1}}},
		"no share":         {Start: monday, Incidents: []Incident{{Category: event.SPFFailed}}},
		"too large share":  {Start: monday, Incidents: []Incident{{Category: event.SPFFailed, Share: 60}}},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestWriteError(t *testing.T) {
	s, err := New(Config{Start: monday})
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("disk full")
	if _, err := s.WriteUntil(failing{full}, monday.Add(time.Hour)); !errors.Is(err, full) {
		t.Errorf("error %v, want %v", err, full)
	}
}

func TestAppendDelay(t *testing.T) {
	for micros, want := range map[int64]string{
		0: "0", 4_000: "0", 5_000: "0.01", 50_000: "0.05", 100_000: "0.1", 523_000: "0.52", 999_000: "1",
		1_340_000: "1.3", 2_000_000: "2", 9_940_000: "9.9", 12_700_000: "13", 86_400_000_000: "86400",
	} {
		if got := string(appendDelay(nil, micros)); got != want {
			t.Errorf("%d µs: %s, want %s", micros, got, want)
		}
	}
}

func BenchmarkWriteUntil(b *testing.B) {
	s, err := New(Config{Seed: 1, Start: monday})
	if err != nil {
		b.Fatal(err)
	}
	at := monday
	b.ReportAllocs()
	var n int64
	for b.Loop() {
		at = at.Add(time.Minute)
		m, err := s.WriteUntil(io.Discard, at)
		if err != nil {
			b.Fatal(err)
		}
		n += m
	}
	b.SetBytes(n / int64(b.N))
}
