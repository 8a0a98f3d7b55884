package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bouncemeter/bouncemeter/ledger/alertjson"
)

func TestWhenDigestsAreDue(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		schedule         Schedule
		now              string
		due, from, until string
	}{
		{Daily, "2026-03-06 07:59", "2026-03-05 08:00", "2026-03-04 00:00", "2026-03-05 00:00"},
		{Daily, "2026-03-06 08:00", "2026-03-06 08:00", "2026-03-05 00:00", "2026-03-06 00:00"},
		{Weekly, "2026-03-06 12:00", "2026-03-02 08:00", "2026-02-23 00:00", "2026-03-02 00:00"},
		{Weekly, "2026-03-02 07:00", "2026-02-23 08:00", "2026-02-16 00:00", "2026-02-23 00:00"},
		{Weekly, "2026-03-08 23:00", "2026-03-02 08:00", "2026-02-23 00:00", "2026-03-02 00:00"},
		// The day on which the clocks change has 23 hours.
		{Daily, "2026-03-30 09:00", "2026-03-30 08:00", "2026-03-29 00:00", "2026-03-30 00:00"},
	} {
		const form = "2006-01-02 15:04"
		now, err := time.ParseInLocation(form, c.now, berlin)
		if err != nil {
			t.Fatal(err)
		}
		due, from, until := c.schedule.due(now)
		if got, want := due.Format(form)+" "+from.Format(form)+" "+until.Format(form), c.due+" "+c.from+" "+c.until; got != want {
			t.Errorf("%s at %s: %s, want %s", c.schedule, c.now, got, want)
		}
	}
}

// Write makes fake a Writer.
func (f *fake) Write(_ context.Context, l *Letter) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.err != nil {
		return f.err
	}
	f.heard = append(f.heard, "letter: "+l.Title)
	return nil
}

func TestDigestIsToldOnceADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f := newMemory(), &fake{}
		letter := func(_ context.Context, from, until time.Time) (*Letter, error) {
			return &Letter{Title: fmt.Sprintf("%s to %s", from.Format("Jan 2"), until.Format("Jan 2"))}, nil
		}
		run := func() (stop func()) {
			b, err := New(Options{Notifiers: []Config{{Name: "people", Kind: "test", Teller: f, Digest: Daily}}, Log: slog.New(slog.DiscardHandler), Digest: letter})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- b.Run(ctx, l) }()
			return func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		}
		morning := func() { // up to the next one
			now := time.Now()
			next := time.Date(now.Year(), now.Month(), now.Day(), digestHour, 0, 5, 0, now.Location())
			if !next.After(now) {
				next = next.AddDate(0, 0, 1)
			}
			later(next.Sub(now))
		}
		expect := func(n int) {
			t.Helper()
			heard := f.take()
			if len(heard) != n {
				t.Fatalf("heard %q, want %d letters", heard, n)
			}
			now := time.Now()
			if want := fmt.Sprintf("letter: %s to %s", now.AddDate(0, 0, -1).Format("Jan 2"), now.Format("Jan 2")); n > 0 && heard[0] != want {
				t.Errorf("heard %q, want %q", heard[0], want)
			}
		}
		stop := run()
		later(time.Minute)
		expect(0) // a new one begins with the next digest
		morning()
		expect(1)
		later(time.Hour)
		expect(0)
		stop()
		stop = run()
		later(time.Minute)
		expect(0) // a restart repeats nothing

		f.set(errors.New("down"))
		morning()
		later(time.Hour)
		expect(0)
		l.add("a", alertjson.Firing)
		f.set(nil)
		later(5 * time.Minute)
		if heard := strings.Join(f.take(), "; "); !strings.Contains(heard, "a firing") || !strings.Contains(heard, "letter: ") {
			t.Errorf("after an outage %q; want the alert and the letter", heard)
		}
		stop()
		later(10 * 24 * time.Hour)
		stop = run()
		later(time.Minute)
		if heard := f.take(); len(heard) != 1 {
			t.Errorf("after ten days heard %q, want the last one only", heard)
		}
		stop()
	})
}

func TestLettersAreHarmless(t *testing.T) {
	l := &Letter{Title: "a *title* @here\n", Lines: []string{"", "- they say: <script> @channel \x1b[31m\u202e", strings.Repeat("long ", 1000)}}
	for f, bad := range map[Format][]string{
		Plain:    {"@here", "@channel", "\x1b", "\u202e"},
		HTML:     {"<script>"},
		Slack:    {"<script>"},
		Markdown: {"*title*", "<script>"},
	} {
		title, text := l.message(f, f)
		for _, b := range bad {
			if strings.Contains(title+text, b) {
				t.Errorf("%s: %q is in %q %q", f, b, title, text)
			}
		}
		if len([]rune(text)) > maxMessage {
			t.Errorf("%s: %d runes", f, len([]rune(text)))
		}
	}
}
