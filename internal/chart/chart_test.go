package chart

import (
	"encoding/xml"
	"html/template"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var start = time.Date(2026, 1, 12, 4, 0, 0, 0, time.UTC)

var page = template.Must(template.New("").Parse(Template))

func draw(t rapid.TB, c *Chart) string {
	t.Helper()
	var b strings.Builder
	for _, name := range []string{"chart", "spark"} {
		if err := page.ExecuteTemplate(&b, name, c); err != nil {
			t.Fatal(err)
		}
	}
	d := xml.NewDecoder(strings.NewReader("<p>" + b.String() + "</p>"))
	d.Entity = xml.HTMLEntity
	for {
		token, err := d.Token()
		if token == nil {
			if err.Error() != "EOF" {
				t.Fatalf("%v in %s", err, b.String())
			}
			return b.String()
		}
	}
}

func TestRoundUp(t *testing.T) {
	for n := range int64(200_000) {
		got := roundUp(n)
		if got < n || got%2 != 0 || n > 10 && got > n*3/2 {
			t.Fatalf("roundUp(%d) = %d", n, got)
		}
	}
	for r := 0.0; r <= 1; r += 0.0005 {
		got := roundUpRatio(r)
		if got < r || r > .002 && got > 2*r {
			t.Fatalf("roundUpRatio(%g) = %g", r, got)
		}
	}
}

// TestTicks checks that a time axis has some marks, but not too many to read.
func TestTicks(t *testing.T) {
	for span, step := range map[time.Duration]time.Duration{
		time.Hour: time.Minute, 6 * time.Hour: 5 * time.Minute, day: 10 * time.Minute, 6 * day: time.Hour,
		14 * day: time.Hour, 40 * day: day, 400 * day: day, 3000 * day: 8 * day,
	} {
		all := ticks(Axis{start, step, int(span / step)})
		if n := len(all); n < 2 || n > 10 {
			t.Errorf("%v: %d ticks", span, n)
		}
	}
	// A day from 04:00 has its midnight named, and that is not left out on
	// phones.
	found := false
	for _, k := range ticks(Axis{start, time.Hour, 24}) {
		found = found || k.Text == "Jan 13" && k.Class == "major"
	}
	if !found {
		t.Error("midnight is not named")
	}
}

func TestEvery(t *testing.T) {
	for step, want := range map[time.Duration]string{
		time.Minute: "minute", 5 * time.Minute: "5 minutes", time.Hour: "hour", 6 * time.Hour: "6 hours", day: "day", 3 * day: "3 days",
	} {
		if got := Every(step); got != want {
			t.Errorf("%v: %s, want %s", step, got, want)
		}
	}
}

func TestPercent(t *testing.T) {
	for _, c := range []struct {
		n, of int64
		want  string
	}{{0, 10, "0%"}, {1, 0, "–"}, {1, 10, "10%"}, {1, 100_000, "0.001%"}, {12, 1000, "1.2%"}, {1, 2000, "0.05%"}, {999, 1000, "100%"}} {
		if got := Percent(c.n, c.of); got != c.want {
			t.Errorf("%d of %d is %s, want %s", c.n, c.of, got, c.want)
		}
	}
}

func TestStacked(t *testing.T) {
	c := Stacked(Axis{start, time.Hour, 3}, "all", []Layer{{Name: "a", Color: "c0", Values: []int64{2, 0, 4}}, {Name: "<b>", Color: "c1", Link: "/b", Values: []int64{2, 0, 0}}})
	// The scale ends at 4: a of the first slot is half as high, and b stands on it.
	if c.Layers[0].Path != "M0.06 1000h0.88V500h-0.88zM2.06 1000h0.88V0h-0.88z" || c.Layers[1].Path != "M0.06 500h0.88V0h-0.88z" {
		t.Errorf("paths %q %q", c.Layers[0].Path, c.Layers[1].Path)
	}
	if len(c.Hits) != 2 || c.Hits[1].Text != "2026-01-12 06:00\na: 4" {
		t.Errorf("hits %+v", c.Hits)
	}
	got := draw(t, c)
	if !strings.Contains(got, "&lt;b&gt;") || strings.Contains(got, "<b>") {
		t.Errorf("names are not escaped: %s", got)
	}
	if Stacked(Axis{start, time.Hour, 1}, "", nil) != nil || Ratios(Axis{start, time.Hour, 1}, "", nil, nil) != nil {
		t.Error("a chart of one slot tells nothing")
	}
}

func TestRatios(t *testing.T) {
	a := Axis{start, time.Hour, 4}
	c := Ratios(a, "ratio", []Line{{Name: "gmail", Color: "c0", Failures: []int64{1, 1, 0, 5}, Attempts: []int64{10, 20, 0, 50}}}, &Band{.05, .1})
	// The scale ends at 10%: 10% is at the top, 5% in the middle, and after the
	// gap there is a dash.
	if got := c.Lines[0].Path; got != "M0.25 0h.5L1.5 500M3.25 0h.5" {
		t.Errorf("path %q", got)
	}
	if c.Band.Y != "0" || c.Band.Height != "500" {
		t.Errorf("band %+v", c.Band)
	}
	if c.Hits[1].Text != "2026-01-12 05:00\ngmail: 5%, 1 of 20" {
		t.Errorf("hits %+v", c.Hits)
	}
	c.Mark(a, []Mark{{start.Add(time.Hour), "fired"}, {start.Add(-1), "before"}, {start.Add(4 * time.Hour), "after"}})
	if len(c.Marks) != 1 || c.Marks[0] != (mark{"25.00", "fired"}) {
		t.Errorf("marks %+v", c.Marks)
	}
	draw(t, c)
	var none *Chart
	none.Mark(a, []Mark{{start, "fired"}}) // does nothing
}

// TestInside checks that no shape leaves the chart, whatever the counts are.
func TestInside(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 300).Draw(t, "slots")
		a := Axis{start, time.Minute, n}
		values := func(label string, most int64) []int64 {
			return rapid.SliceOfN(rapid.Int64Range(0, most), n, n).Draw(t, label)
		}
		failures, attempts := values("failures", 1e12), values("attempts", 1e12)
		for i := range failures {
			failures[i] = min(failures[i], attempts[i])
		}
		low := rapid.Float64Range(0, 1).Draw(t, "low")
		high := rapid.Float64Range(low, 1).Draw(t, "high")
		for _, c := range []*Chart{
			Stacked(a, "x", []Layer{{Name: "a", Color: "c0", Values: failures}, {Name: "b", Color: "c1", Values: attempts}}),
			Ratios(a, "x", []Line{{Name: "a", Color: "c0", Failures: failures, Attempts: attempts}}, &Band{low, high}),
		} {
			if s := draw(t, c); strings.Contains(s, "NaN") || strings.Contains(s, "Inf") || strings.Contains(s, `"-`) || strings.Contains(s, " -") {
				t.Fatalf("a coordinate is outside: %s", s)
			}
		}
	})
}
