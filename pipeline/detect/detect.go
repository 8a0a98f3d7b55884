// Package detect judges the ledger's closed minutes with package spike and
// stores the alerts, for as long as it holds the ledger's lease.
//
// A minute is judged once every lane that is being read has passed it; see
// watermark. The detector's state, the position up to which it has judged and
// the changes of alerts are stored in one step, so neither a restart nor another
// process that takes over forgets or repeats anything: what was judged since the
// last step is judged again, from the same windows and with the same result.
package detect

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/pipeline/spike"
)

const (
	// every is how often it looks for minutes to judge.
	every = time.Second
	// settle is for how long no lane has to appear before anything is judged at the
	// very first start, so that one that comes first does not leave the others
	// behind: processes that share a ledger start some time apart.
	settle       = 5 * time.Second
	settleShared = 30 * time.Second
	// idleAfter is after how much time without a commit a lane holds up nobody.
	idleAfter = 2 * time.Minute
	// blink is how long the ledger may be out of sight: after more, lanes get
	// idleAfter again, since they could not commit either.
	blink = 10 * time.Second
	// liveWithin is how far behind the clock a lane may be to be called live:
	// while live lanes are idle, time goes on by the clock.
	liveWithin = time.Hour
	// saveEvery is after how many seconds of event time the state is stored if
	// no alert changes, and longStep how many are judged in one go.
	saveEvery = 600
	longStep  = 6 * 3600
	// relearn is how many seconds of the past are judged again, without telling,
	// if the stored state cannot be used.
	relearn = 7 * 86400
	// quoted is how many wordings of replies an alert shows.
	quoted = 3
	// mostWordings is among how many they are looked for.
	mostWordings = 1000
)

// Ledger is what the detector reads and writes.
type Ledger interface {
	Lanes(ctx context.Context) ([]ledger.Lane, error)
	Windows(ctx context.Context, since, until int64, yield func(*ledger.Window) error) error
	Detection(ctx context.Context) (ledger.Detection, error)
	CommitDetector(ctx context.Context, c *ledger.DetectorCommit) error
	Alerts(ctx context.Context, f ledger.AlertFilter) ([]ledger.Alert, error)
	Templates(ctx context.Context, f ledger.TemplateFilter, limit int) ([]ledger.Template, error)
}

// Options is what a Runner works with.
type Options struct {
	Spike spike.Config
	// Lateness is that of the lanes' counters: see window.Config.
	Lateness time.Duration
	// Shared is set if other processes write to the ledger, too.
	Shared bool
	Log    *slog.Logger
}

// Stats tells how detection fares.
type Stats struct {
	spike.Stats
	// Leading reports whether this process is the one that detects.
	Leading bool
	// Position is the event time before which all is judged, in Unix seconds.
	Position int64
	// Changes counts the stored changes of alerts since the start.
	Changes int64
}

// Runner detects. Its methods may be called concurrently, Run not.
type Runner struct {
	o Options

	mu    sync.Mutex
	stats Stats

	ledger   Ledger
	detector *spike.Detector
	wordings bool // a rule is about them
	hearing  hearing
	stored   int64     // position in the ledger
	since    time.Time // when the lanes came into sight, or again
	looked   time.Time // when they were last seen
	lanes    int       // how many there were
	grown    time.Time // when there were more than before
	changes  []spike.Change
}

// New checks the rules.
func New(o Options) (*Runner, error) {
	if _, err := spike.New(o.Spike); err != nil {
		return nil, err
	}
	return &Runner{o: o, wordings: aboutWordings(o.Spike.Rules)}, nil
}

// Stats tells how detection fares.
func (r *Runner) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// Run judges what comes until ctx, the lease on l, is done, when it returns nil.
// After an error it may be called again.
func (r *Runner) Run(ctx context.Context, l Ledger) error {
	r.ledger = l
	defer func() {
		r.mu.Lock()
		// What the next one knows of them is not known here.
		r.stats = Stats{Changes: r.stats.Changes}
		r.mu.Unlock()
	}()
	now := time.Now()
	r.since, r.looked, r.lanes, r.grown = now, now, 0, now
	r.mu.Lock()
	r.stats.Leading = true
	r.mu.Unlock()
	tick := time.NewTicker(every)
	defer tick.Stop()
	err := r.resume(ctx)
	for err == nil {
		if err = r.step(ctx, time.Now()); err != nil {
			break
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("detect spikes: %w", err)
}

// resume takes up the stored state.
func (r *Runner) resume(ctx context.Context) error {
	d, err := spike.New(r.o.Spike)
	if err != nil {
		return err
	}
	r.detector, r.changes, r.hearing = d, nil, hearing{}
	stored, err := r.ledger.Detection(ctx)
	if err != nil {
		return err
	}
	r.stored = stored.Position
	if stored.Position == 0 {
		return nil
	}
	err = d.Restore(stored.State)
	if errors.Is(err, spike.ErrState) {
		r.o.Log.Warn("what is usual is learned anew from the stored counts", "err", err)
		err = r.relearn(ctx)
	}
	return err
}

// relearn judges the past again. What it finds there was told when it happened;
// alerts that are not found again end.
func (r *Runner) relearn(ctx context.Context) error {
	var err error
	if r.detector, err = spike.New(r.o.Spike); err != nil {
		return err
	}
	if _, err := r.windows(ctx, max(60, r.stored-relearn), r.stored); err != nil {
		return err
	}
	found := make(map[string]bool)
	for _, a := range r.detector.Open() {
		found[a.ID] = true
	}
	open, err := r.ledger.Alerts(ctx, ledger.AlertFilter{Latest: true, Open: true})
	if err != nil {
		return err
	}
	for i := range open {
		if found[open[i].ID] {
			continue
		}
		var a spike.Alert
		if err := json.Unmarshal(open[i].Body, &a); err != nil {
			return fmt.Errorf("read alert %s: %w", open[i].ID, err)
		}
		a.State, a.Ending = spike.Resolved, "what is usual was learned anew"
		a.Updated = time.Unix(r.stored, 0).UTC()
		a.Resolved = a.Updated
		r.changes = append(r.changes, spike.Change{Time: r.stored, Alert: a})
	}
	return nil
}

// step judges what has closed by now.
func (r *Runner) step(ctx context.Context, now time.Time) error {
	lanes, err := r.ledger.Lanes(ctx)
	if err != nil {
		return err
	}
	if now.Sub(r.looked) > blink {
		r.since = now
	}
	r.looked = now
	position := r.position()
	if position == 0 && !r.beginning(lanes, now) {
		position = first(lanes)
	}
	if until := watermark(lanes, now, r.since, r.o.Lateness, position); position > 0 && until > position {
		if err := r.hear(ctx, now); err != nil {
			return err
		}
		if err := r.judge(ctx, until); err != nil {
			return err
		}
	}
	if len(r.changes) > 0 || r.position()-r.stored >= saveEvery {
		if err := r.store(ctx); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Stats, r.stats.Leading, r.stats.Position = r.detector.Stats(), true, r.position()
	return nil
}

func (r *Runner) position() int64 { return max(r.stored, r.detector.Position()) }

// judge judges the minutes from the position to until, and stores on the way
// what would be much to judge again.
func (r *Runner) judge(ctx context.Context, until int64) error {
	since := r.position()
	if since == 0 {
		lanes, err := r.ledger.Lanes(ctx)
		if err != nil {
			return err
		}
		since = first(lanes)
	}
	for since > 0 && since < until {
		next := min(since+longStep, until)
		changes, err := r.windows(ctx, since, next)
		if err != nil {
			return err
		}
		r.changes = append(r.changes, changes...)
		if next < until {
			if err := r.store(ctx); err != nil {
				return err
			}
		}
		since = next
	}
	return nil
}

// windows judges the minutes with since <= start < until.
func (r *Runner) windows(ctx context.Context, since, until int64) (changes []spike.Change, err error) {
	minute := since
	var rows []spike.Row
	err = r.ledger.Windows(ctx, since, until, func(w *ledger.Window) error {
		if w.Start != minute {
			changes = append(changes, r.detector.Window(minute, rows)...)
			minute, rows = w.Start, rows[:0]
		}
		rows = append(rows, spike.Row{
			Source: w.Source, Outcome: w.Outcome, Category: w.Category, Provider: w.Provider,
			SenderDomain: w.SenderDomain, Host: w.Host, Stream: w.Stream, Firsts: w.Firsts,
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	changes = append(changes, r.detector.Window(minute, rows)...)
	if minute < until-60 {
		changes = append(changes, r.detector.Window(until-60, nil)...)
	}
	return changes, nil
}

// store makes durable what was judged. A failed attempt is repeated, since it
// may have been applied unseen.
func (r *Runner) store(ctx context.Context) error {
	c := &ledger.DetectorCommit{Expected: r.stored, Position: r.position(), State: r.detector.State(), Now: time.Now()}
	for i := range r.changes {
		a := &r.changes[i].Alert
		if err := r.quote(ctx, a); err != nil {
			return err
		}
		body, err := json.Marshal(a)
		if err != nil {
			return fmt.Errorf("write alert %s: %w", a.ID, err)
		}
		c.Alerts = append(c.Alerts, ledger.Alert{
			ID: a.ID, State: string(a.State), Open: a.State.Open(), Rule: a.Rule, Time: r.changes[i].Time, Body: body,
		})
	}
	var err error
	for range 3 {
		if err = r.ledger.CommitDetector(ctx, c); err == nil || errors.Is(err, ledger.ErrConflict) || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return err
	}
	for _, change := range r.changes {
		a := &change.Alert
		r.o.Log.Info("alert", "state", a.State, "title", a.Title, "severity", a.Severity, "id", a.ID, "inhibited", a.Inhibited)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Changes += int64(len(r.changes))
	r.stored, r.changes = c.Position, nil
	return nil
}

// quote adds what the servers say.
func (r *Runner) quote(ctx context.Context, a *spike.Alert) error {
	switch a.Kind {
	case spike.Silence, spike.Drop, spike.Surge, spike.Template:
		return nil
	}
	all, err := r.ledger.Templates(ctx, ledger.TemplateFilter{Category: a.Category, Provider: a.Labels[spike.Provider]}, mostWordings)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(t ledger.Template) bool { return t.Last < a.Since.Unix() })
	// A wording that came up with the rise tells more than one that is always there.
	slices.SortStableFunc(all, func(x, y ledger.Template) int {
		return cmp.Or(recent(y, a)-recent(x, a), cmp.Compare(y.Attempts, x.Attempts), cmp.Compare(x.Text, y.Text))
	})
	a.Templates = nil
	for _, t := range all[:min(len(all), quoted)] {
		a.Templates = append(a.Templates, spike.Wording{Text: t.Text, Attempts: t.Attempts})
	}
	return nil
}

// recent is 1 if the wording is about as old as the alert.
func recent(t ledger.Template, a *spike.Alert) int {
	if t.First >= a.Since.Unix()-600 {
		return 1
	}
	return 0
}

// first is the minute of the first event of all lanes, 0 without any.
func first(lanes []ledger.Lane) (start int64) {
	for _, l := range lanes {
		if l.First > 0 && (start == 0 || l.First < start) {
			start = l.First
		}
	}
	return start / 60 * 60
}

// beginning reports whether lanes still appear, or some have not committed
// anything yet, in the first while that the ledger is looked at: what is judged
// first would leave them behind.
func (r *Runner) beginning(lanes []ledger.Lane, now time.Time) bool {
	if n := len(lanes); n > r.lanes {
		r.lanes, r.grown = n, now
	}
	wait := settle
	if r.o.Shared {
		wait = settleShared
	}
	return now.Sub(r.grown) < wait ||
		now.Sub(r.since) < idleAfter && slices.ContainsFunc(lanes, func(l ledger.Lane) bool { return l.Updated.IsZero() })
}

// watermark is the event time, a whole minute, before which nothing more is
// expected: the least that a lane being read has reached, less the lateness. A
// lane that has been idle for a while, in which it could commit, holds up nobody:
// time counts from since on, when the ledger came into sight. If all are idle,
// time goes on by the clock where mail was read as it was sent, and stands still
// where an old log has come to its end.
//
// Lanes that lag behind position are left out: their minutes have been judged
// without them.
func watermark(lanes []ledger.Lane, now, since time.Time, lateness time.Duration, position int64) int64 {
	var least, latest int64
	live := false
	for _, l := range lanes {
		if l.Last == 0 {
			continue
		}
		latest = max(latest, l.Last)
		switch {
		case now.Sub(l.Updated) >= idleAfter && now.Sub(since) >= idleAfter:
			live = live || l.Updated.Unix()-l.Last < int64(liveWithin.Seconds())
		case l.Last < position:
		case least == 0 || l.Last < least:
			least = l.Last
		}
	}
	switch {
	case least > 0:
	case live:
		least = now.Add(-idleAfter).Unix()
	default:
		least = latest
	}
	// What claims to be of the future waits for it.
	least = min(least, now.Unix())
	return max(0, least-int64(lateness.Seconds())) / 60 * 60
}
