package classifier

import (
	"bufio"
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/bouncemeter/bouncemeter/event"
)

// Stronger evidence is trusted more, and nothing is certain.
func TestConfidenceFollowsEvidence(t *testing.T) {
	const usual = 60
	last := float32(0)
	for rank := rankStatus; rank <= rankProviderText; rank++ {
		c := confidence(rank, usual)
		if c <= last || c >= 1 {
			t.Errorf("%s has confidence %v after %v of weaker evidence", rankNames[rank], c, last)
		}
		last = c
	}
	if vague := confidence(rankText, weight(event.Policy)); vague >= confidence(rankText, usual) {
		t.Errorf("words that only tell a refusal have confidence %v, as much as words that tell why", vague)
	}
}

// What says 0.9 is right at least nine times of ten: checked on labelled replies,
// one JSON object a line with text, label and accept (further labels that are
// right), named by BOUNCEMETER_LABELLED. A level of confidence may be wrong by no
// more than chance explains (two standard deviations). Replies that the rules were
// written for tell little, as all of them are right: take others.
func TestConfidenceIsCalibrated(t *testing.T) {
	name := os.Getenv("BOUNCEMETER_LABELLED")
	if name == "" {
		t.Skip("BOUNCEMETER_LABELLED names no file of labelled replies")
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	type level struct{ right, all int }
	levels := map[float32]*level{}
	s := shippedRules(t).NewSession()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var row struct {
			Text, Label string
			Accept      []string
		}
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		e := eventOf(row.Text)
		s.Classify(e)
		l := levels[e.Verdict.Confidence]
		if l == nil {
			l = new(level)
			levels[e.Verdict.Confidence] = l
		}
		l.all++
		if c := e.Verdict.Category.String(); c == row.Label || slices.Contains(row.Accept, c) {
			l.right++
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	for c, l := range levels {
		share, n := float64(l.right)/float64(l.all), float64(l.all)
		t.Logf("confidence %.2f: %d of %d right (%.3f)", c, l.right, l.all, share)
		if floor := float64(c) - 2*math.Sqrt(float64(c)*(1-float64(c))/n); share < floor {
			t.Errorf("confidence %.2f: only %d of %d are right", c, l.right, l.all)
		}
	}
}
