package crash

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/simulate"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/sqlite"
	"github.com/bouncemeter/bouncemeter/pipeline/spike"
	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

// TestAlertsAreTheSameAfterCrashes lets the program read a log with three
// incidents in one go, and the same log as it grows, killed after each piece. The
// changes of alerts are the same.
func TestAlertsAreTheSameAfterCrashes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills the program several times")
	}
	pieces := crashes(t)
	const history = 30 * time.Hour
	end := time.Now().UTC().Add(-time.Hour).Truncate(time.Minute)
	begin := end.Add(-history)
	incident := func(after time.Duration, domain, provider string, c event.Category) simulate.Incident {
		return simulate.Incident{Start: begin.Add(after), End: begin.Add(after + 40*time.Minute), SenderDomain: domain, Provider: provider, Category: c, Share: 0.6}
	}
	log := func(path string, write func(*simulate.Simulator, *os.File)) {
		t.Helper()
		mta, err := simulate.New(simulate.Config{
			Seed: 5, Start: begin, Location: time.UTC, Rate: 0.5,
			Incidents: []simulate.Incident{
				incident(25*time.Hour, "shop.example", "gmail", event.SPFFailed),
				incident(26*time.Hour+30*time.Minute, "", "microsoft", event.RateLimited),
				incident(28*time.Hour, "shop.example", "yahoo", event.UserUnknown),
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		write(mta, f)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	until := func(mta *simulate.Simulator, f *os.File, at time.Time) {
		t.Helper()
		if _, err := mta.WriteUntil(f, at); err != nil {
			t.Fatal(err)
		}
	}
	binary := rig.Build(t, "")

	whole := rig.NewSite(t, binary, t.TempDir(), "")
	path := filepath.Join(whole.Dir, "mail.log")
	whole.Configure(t, rig.Tail(path))
	log(path, func(mta *simulate.Simulator, f *os.File) { until(mta, f, end) })
	d := whole.Start(t)
	position := judged(t, d, whole)
	d.Stop(t)
	want := changes(t, whole)
	if len(want) < 4 {
		t.Fatalf("%d changes of alerts in three incidents: %v", len(want), want)
	}

	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 1))
	grown := rig.NewSite(t, binary, t.TempDir(), "")
	path = filepath.Join(grown.Dir, "mail.log")
	grown.Configure(t, rig.Tail(path))
	log(path, func(mta *simulate.Simulator, f *os.File) {
		for i := range pieces {
			// Half of the pieces are of the last hours, when there is something to tell.
			at := begin.Add(history * time.Duration(i+1) / time.Duration(pieces))
			if i >= pieces/2 {
				at = end.Add(-5 * time.Hour * time.Duration(pieces-1-i) / time.Duration(pieces))
			}
			until(mta, f, at)
			d := grown.Start(t)
			// It begins to judge after five seconds.
			<-time.After(time.Duration(4000+random.IntN(3500)) * time.Millisecond)
			d.Kill(t)
		}
	})
	d = grown.Start(t)
	if got := judged(t, d, grown); got != position {
		t.Errorf("judged up to %v, in one go up to %v", got, position)
	}
	d.Stop(t)
	if diff := cmp.Diff(want, changes(t, grown)); diff != "" {
		t.Errorf("%d pieces, seed %d: changes of alerts differ (-in one go, +in pieces):\n%s", pieces, seed, diff)
	}
	if diff := cmp.Diff(lasts(t, grown), replayed(t, grown)); diff != "" {
		t.Errorf("alerts by backtest --ledger differ (-stored, +replayed):\n%s", diff)
	}
	t.Logf("%d changes of alerts, the same in one go and in %d pieces", len(want), pieces)
}

// judged waits until the program has judged all that can be, and returns up to
// where that is.
func judged(t *testing.T, d *rig.Daemon, s *rig.Site) float64 {
	t.Helper()
	size, err := os.Stat(filepath.Join(s.Dir, "mail.log"))
	if err != nil {
		t.Fatal(err)
	}
	var last int64
	d.Eventually(t, "all is counted", func() bool {
		l, err := sqlite.OpenReadOnly(t.Context(), s.Ledger, sqlite.Options{})
		if err != nil {
			return false
		}
		defer l.Close()
		lanes, err := l.Lanes(t.Context())
		if err != nil || len(lanes) != 1 || lanes[0].Position.Offset < size.Size() {
			return false
		}
		last = lanes[0].Last
		return true
	})
	var position float64
	d.Eventually(t, "all is judged", func() bool {
		position = s.Metric("bouncemeter_detector_position_timestamp_seconds")
		return position >= float64((last-15)/60*60)
	})
	return position
}

// changes returns the changes of alerts in the ledger. What the servers say is left
// out: it is as of when the change was stored.
func changes(t *testing.T, s *rig.Site) (all []string) {
	t.Helper()
	for _, c := range stored(t, s, ledger.AlertFilter{}) {
		a := decoded(t, &c)
		a.Templates, a.Samples = nil, nil
		b, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%d %d %s", c.Seq, c.Time, b))
	}
	return all
}

func stored(t *testing.T, s *rig.Site, f ledger.AlertFilter) []ledger.Alert {
	t.Helper()
	l, err := sqlite.OpenReadOnly(t.Context(), s.Ledger, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	all, err := l.Alerts(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func decoded(t *testing.T, c *ledger.Alert) (a spike.Alert) {
	t.Helper()
	if err := json.Unmarshal(c.Body, &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// lasts returns the alerts that people were told of as they were last.
func lasts(t *testing.T, s *rig.Site) (all []string) {
	t.Helper()
	for _, c := range stored(t, s, ledger.AlertFilter{Latest: true}) {
		if a := decoded(t, &c); !a.Inhibited {
			all = append(all, line(a.Title, a.Since, a.Fired, a.Resolved, a.Excess))
		}
	}
	slices.Sort(all)
	return all
}

// replayed returns the alerts of backtest over the ledger's minutes.
func replayed(t *testing.T, s *rig.Site) (all []string) {
	t.Helper()
	out, err := exec.Command(s.Binary, "backtest", "--ledger", s.Ledger, "-o", "json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Alerts []struct {
			Title          string
			Started, Fired time.Time
			Resolved       *time.Time
			Excess         float64
		}
	}
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatal(err)
	}
	for _, a := range list.Alerts {
		var resolved time.Time
		if a.Resolved != nil {
			resolved = *a.Resolved
		}
		all = append(all, line(a.Title, a.Started, a.Fired, resolved, a.Excess))
	}
	slices.Sort(all)
	return all
}

func line(title string, since, fired, resolved time.Time, excess float64) string {
	return fmt.Sprintf("%s, since %s, fired %s, over %s, %.6f", title, since.UTC(), fired.UTC(), resolved.UTC(), excess)
}
