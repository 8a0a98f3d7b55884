package detect

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/pipeline/spike"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// TestNewWording lets a provider say something new after four days, while the
// detector is restarted every few minutes.
func TestNewWording(t *testing.T) {
	l := open(t)
	x := newLane(t, l)
	words, err := l.Lane(t.Context(), "mta1", "words")
	if err != nil {
		t.Fatal(err)
	}
	now := func(m int) time.Time { return time.Unix(start+int64(m)*60+30, 0) }
	say := func(hash uint64, text string, first, m int, n int64) {
		position := event.Position{Offset: words.Position.Offset + 1}
		at := start + int64(m)*60
		err := l.Commit(t.Context(), &ledger.Commit{
			Lane: words.ID, Expected: words.Position, Position: position, Now: now(m),
			Delta: &window.Delta{First: at, Last: at, Templates: []window.TemplateCount{{
				Hash: hash, Category: event.Policy, Provider: "gmail", Rule: "r", Text: text, Attempts: n, First: start + int64(first)*60, Last: at,
			}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		words.Position = position
	}
	begin := func() *Runner {
		r, err := New(Options{
			Log: slog.New(slog.DiscardHandler), Lateness: 15 * time.Second,
			Spike: spike.Config{Rules: []spike.Rule{{Name: "wordings", Kind: spike.Template, By: []spike.Dimension{spike.Provider}}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		r.ledger = l
		if err := r.resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		return r
	}
	step := func(r *Runner, from, to int) {
		x.commit(t, from, to, now(to))
		if err := r.step(t.Context(), now(to)); err != nil {
			t.Fatal(err)
		}
	}
	days := 4 * 1440
	say(1, "550 as ever", 0, 1, 100)
	r := begin()
	step(r, 0, 600) // from here on it is learned what is said
	step(r, 600, days)
	for m := days; m < days+10; m++ {
		if m == days+3 {
			say(2, "550 never heard", days+3, m, 20)
			say(3, "550 as rare as it is old", 60, m, 20)
		}
		say(1, "550 as ever", 0, m, 5)
		step(r, m, m+1)
		if m%4 == 0 {
			if err := r.store(t.Context()); err != nil {
				t.Fatal(err)
			}
			r = begin()
		}
	}
	var texts []string
	for _, c := range alerts(t, l) {
		var a spike.Alert
		if err := json.Unmarshal(c.Body, &a); err != nil {
			t.Fatal(err)
		}
		if a.State == spike.Firing {
			texts = append(texts, a.Templates[0].Text)
		}
	}
	if len(texts) != 1 || texts[0] != "550 never heard" {
		t.Errorf("alerts for %q, want one for the wording that is new", texts)
	}
}
