package notify

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSilenceTimes(t *testing.T) {
	list, err := ParseSilences([]byte(`
silences:
  - comment: nightly campaign
    match: {rules: [rate_limits]}
    timezone: Europe/Berlin
    weekly:
      - {days: [fri, Sat], from: "22:00", to: "04:00"}
      - {from: "12:00", to: "12:30"}
  - comment: move to the new address, Ann
    match: {hosts: [mx1.example.com]}
    from: 2026-03-01T10:00:00+01:00
    until: 2026-03-02T10:00:00Z
  - comment: Sundays in March
    match: {providers: [gmail]}
    timezone: UTC
    until: 2026-04-01T00:00:00Z
    weekly: [{days: [sun], from: "00:00", to: "24:00"}]
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		silence int
		at      string
		want    bool
	}{
		// Friday 6 March 2026; Berlin is an hour ahead of UTC.
		{0, "2026-03-06T20:59:59Z", false},
		{0, "2026-03-06T21:00:00Z", true},
		{0, "2026-03-07T02:59:59Z", true},
		{0, "2026-03-07T03:00:00Z", false},
		{0, "2026-03-08T02:00:00Z", true}, // Sunday morning after Saturday
		{0, "2026-03-09T02:00:00Z", false},
		{0, "2026-03-09T11:10:00Z", true},
		{0, "2026-03-09T11:30:00Z", false},
		{1, "2026-03-01T08:59:59Z", false},
		{1, "2026-03-01T09:00:00Z", true},
		{1, "2026-03-02T09:59:59Z", true},
		{1, "2026-03-02T10:00:00Z", false},
		{2, "2026-03-29T23:59:00Z", true},
		{2, "2026-03-30T00:00:00Z", false},
		{2, "2026-04-05T12:00:00Z", false},
		// Summer time: the clock in Berlin shows 22:00 an hour earlier.
		{0, "2026-07-03T20:00:00Z", true},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := list[c.silence].active(at); got != c.want {
			t.Errorf("silence %d at %s: %v", c.silence, c.at, got)
		}
	}
}

func TestSilencesTellAllFaults(t *testing.T) {
	_, err := ParseSilences([]byte(`
silences:
  - match: {}
  - comment: x
    match: {severities: [urgent]}
    from: 2026-03-02T10:00:00Z
    until: 2026-03-01T10:00:00Z
    timezone: Mars/Base
    weekly: [{days: [monday], from: 9, to: "25:00"}]
`))
	if err == nil {
		t.Fatal("no fault")
	}
	want := []string{
		`silences[0].match: nothing is given, so all alerts would be silenced; if that is meant write rules: ["*"]`,
		`silences[0].comment: there is none; say why, for those who wonder later`,
		`silences[0].until: there is no end, and alerts would be forgotten; write a time such as 2026-01-31T18:00:00Z`,
		`silences[1].match.severities: "urgent" is unknown; have ticket, warning, critical`,
		`silences[1].until: it is not after from`,
		`silences[1].timezone: "Mars/Base" is not a time zone; use an IANA name such as Europe/Berlin`,
		`silences[1].weekly[0].days: "monday" is no day; have mon, tue, wed, thu, fri, sat, sun`,
		`silences[1].weekly[0]: from "9" to "25:00" are no times of day; write them in quotes, such as from: "22:00"`,
	}
	if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, bad := range []string{"silences: [{mach: {}}]", "silence: []", "silences: 7", "- a", "silences: [{from: noon}]"} {
		if _, err := ParseSilences([]byte(bad)); err == nil {
			t.Errorf("%s: no fault", bad)
		}
	}
	for _, fine := range []string{"", "silences: []", "# nothing"} {
		if _, err := ParseSilences([]byte(fine)); err != nil {
			t.Errorf("%q: %v", fine, err)
		}
	}
}

func FuzzParseSilences(f *testing.F) {
	f.Add([]byte("silences: [{comment: x, match: {rules: [a]}, until: 2026-03-01T10:00:00Z, weekly: [{days: [mon], from: \"22:00\", to: \"04:00\"}]}]"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		list, err := ParseSilences(data)
		if err != nil {
			return
		}
		for i := range list {
			list[i].active(time.Unix(1_700_000_000, 0))
		}
	})
}

// The example file, and those in the manual, are right.
func TestExamplesOfSilences(t *testing.T) {
	example, err := os.ReadFile("../../configs/silences/example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	manual, err := os.ReadFile("../../docs/alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	all := []string{string(example)}
	for _, block := range strings.Split(string(manual), "\n```yaml\n")[1:] {
		if strings.HasPrefix(block, "silences:") {
			block, _, _ = strings.Cut(block, "\n```")
			all = append(all, strings.ReplaceAll(block, "3f9c…", "3f9c"))
		}
	}
	if len(all) != 2 {
		t.Fatalf("%d examples", len(all))
	}
	for _, text := range all {
		if list, err := ParseSilences([]byte(text)); err != nil || len(list) != 2 {
			t.Errorf("%d silences, %v in\n%s", len(list), err, text)
		}
	}
}
