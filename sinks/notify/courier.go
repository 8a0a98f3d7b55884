package notify

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/alertjson"
)

const (
	// look is how often the ledger is asked for new changes.
	look = time.Second
	// page is how many changes are read at once.
	page = 500
	// A delivery that failed is repeated after firstRetry, then after twice as
	// long each time, up to lastRetry, each time shortened at random by up to a
	// half so that many daemons do not knock together.
	firstRetry = time.Second
	lastRetry  = 2 * time.Minute
	// attempt bounds one delivery.
	attempt = 30 * time.Second
	// lastWords is how long a delivery, and telling the ledger of it, may go on
	// after the end.
	lastWords = 3 * time.Second
	// recent is how far the detector may be behind the clock before it is said to
	// be catching up with the past.
	recent = time.Hour
	// noChange is stored for a notifier that began when there was no change yet,
	// as zero would mean that it has not begun.
	noChange = -1
)

// courier delivers to one notifier.
type courier struct {
	config   Config
	silences *Silences
	log      *slog.Logger
	// makeDigest may be nil.
	makeDigest func(ctx context.Context, from, until time.Time) (*Letter, error)

	// These belong to run's goroutine.
	ledger  Ledger
	desk    *desk
	began   bool  // the place in the outbox is known
	stored  int64 // seq that the ledger has as delivered
	applied int64 // seq of the last change that the desk has
	fails   int   // deliveries that failed since the last success
	told    time.Time
	looked  time.Time // when the ledger's silences were read
	catchup catchup
	// digested is when the digest was due that was told last, Unix seconds.
	digested int64

	mu    sync.Mutex
	stats Stats
}

func newCourier(c Config, o Options) *courier {
	if c.MinSeverity == "" {
		c.MinSeverity = alertjson.Ticket
	}
	return &courier{
		config: c, silences: o.Silences, makeDigest: o.Digest, log: o.Log.With("notifier", c.Name),
		stats: Stats{Name: c.Name, Kind: c.Kind},
	}
}

// run delivers until ctx is done.
func (c *courier) run(ctx context.Context, l Ledger) {
	c.ledger, c.desk, c.began, c.fails, c.looked, c.catchup, c.digested = l, newDesk(&c.config, c.silences), false, 0, time.Time{}, catchup{}, 0
	// What waits then is for another process to know.
	defer c.update(func(s *Stats) { s.Pending, s.Oldest, s.LastError = 0, time.Time{}, "" })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		wait := look
		switch err := c.step(ctx); {
		case err == nil:
			c.worked()
		case ctx.Err() == nil:
			wait = c.failed(err)
		}
		timer.Reset(wait)
	}
}

// failed notes err and returns how long to wait.
func (c *courier) failed(err error) time.Duration {
	wait := min(firstRetry<<min(c.fails, 20), lastRetry)
	wait -= time.Duration(rand.Int64N(int64(wait/2) + 1))
	wait = max(wait, retryAfter(err))
	c.fails++
	if c.fails == 1 {
		c.log.Warn("alerts cannot be delivered; they are kept and tried again", "err", err)
	}
	return wait
}

// worked notes that nothing waits because of a failure.
func (c *courier) worked() {
	if c.fails == 0 {
		return
	}
	c.log.Info("alerts wait no longer", "failures", c.fails)
	c.fails = 0
	c.update(func(s *Stats) {
		if s.LastError == classLedger {
			s.LastError = ""
		}
	})
}

// step delivers what there is to deliver now.
func (c *courier) step(ctx context.Context) error {
	if !c.began {
		if err := c.begin(ctx); err != nil {
			return c.ledgerFailed(err)
		}
		c.began = true
	}
	if c.config.Recorder != nil {
		return c.record(ctx)
	}
	if err := c.tell(ctx); err != nil {
		return err
	}
	return c.digest(ctx, time.Now())
}

// begin finds the place in the outbox. A new notifier is placed at its end, with
// the open alerts to tell; one that was here before recalls what it told.
func (c *courier) begin(ctx context.Context) error {
	seq, err := c.ledger.Notified(ctx, c.config.Name)
	if err != nil {
		return err
	}
	c.stored, c.applied = seq, seq
	if seq == 0 {
		if c.applied, err = c.end(ctx); err != nil {
			return err
		}
	}
	if c.config.Recorder != nil {
		return c.store(ctx)
	}
	c.desk = newDesk(&c.config, c.silences)
	if c.desk.made, err = c.ledger.Silences(ctx); err != nil {
		return err
	}
	open, err := c.ledger.Alerts(ctx, ledger.AlertFilter{Latest: true, Open: true})
	if err != nil {
		return err
	}
	// Those that explain others come first, or the others would be taken for told.
	slices.SortStableFunc(open, func(x, y ledger.Alert) int { return order(!inhibited(&x), !inhibited(&y)) })
	for i := range open {
		if seq != 0 {
			if err := c.recall(ctx, open[i].ID); err != nil {
				return err
			}
		} else if open[i].Seq <= c.applied {
			c.apply(&open[i], time.Now(), false)
		}
	}
	return nil
}

// inhibited reports whether an alert is explained by another, as of a change.
func inhibited(c *ledger.Alert) bool {
	a, err := alertjson.Decode(c)
	return err == nil && a.Inhibited
}

// end returns the seq of the last change of all, or noChange.
func (c *courier) end(ctx context.Context) (int64, error) {
	seq := int64(noChange)
	for {
		all, err := c.ledger.Alerts(ctx, ledger.AlertFilter{After: seq, Latest: true})
		if err != nil || len(all) == 0 {
			return seq, err
		}
		seq = all[len(all)-1].Seq
	}
}

// recall gives the desk the changes of an alert that have been dealt with.
func (c *courier) recall(ctx context.Context, id string) error {
	changes, err := c.ledger.Alerts(ctx, ledger.AlertFilter{ID: id})
	if err != nil {
		return err
	}
	for i := range changes {
		if a, err := alertjson.Decode(&changes[i]); err == nil && changes[i].Seq <= c.applied {
			c.desk.recall(&a)
		}
	}
	return nil
}

// apply gives a change to the desk. One that cannot be read is reported and left
// out: it would never become readable.
func (c *courier) apply(change *ledger.Alert, now time.Time, live bool) {
	a, err := alertjson.Decode(change)
	if err != nil {
		c.log.Error("an alert cannot be read and is not told; was it stored by a newer version?", "err", err)
		c.update(func(s *Stats) { s.Unreadable++ })
		return
	}
	c.desk.apply(&a, now, live)
}

// store tells the ledger what has been delivered.
func (c *courier) store(ctx context.Context) error {
	if c.applied == c.stored {
		return nil
	}
	// What has been delivered is so, also if that was the last thing to do.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	if err := c.ledger.SetNotified(ctx, c.config.Name, c.applied); err != nil {
		return c.ledgerFailed(err)
	}
	c.stored = c.applied
	return nil
}

// record delivers the next page of changes to a Recorder.
func (c *courier) record(ctx context.Context) error {
	changes, err := c.ledger.Alerts(ctx, ledger.AlertFilter{After: c.stored, Limit: page})
	if err != nil {
		return c.ledgerFailed(err)
	}
	if len(changes) == 0 {
		c.pending(0, time.Time{})
		return nil
	}
	c.applied = changes[len(changes)-1].Seq
	wanted := changes[:0:0]
	for i := range changes {
		// What cannot be read cannot be judged, and is recorded as it is.
		if a, err := alertjson.Decode(&changes[i]); err != nil || a.Severity.Rank() >= c.config.MinSeverity.Rank() && c.config.Match.Matches(&a) {
			wanted = append(wanted, changes[i])
		}
	}
	if len(wanted) > 0 {
		c.pending(len(wanted), time.Unix(wanted[0].Time, 0))
		if err := c.deliver(ctx, func(ctx context.Context) error { return c.config.Recorder.Record(ctx, wanted) }); err != nil {
			return err
		}
	}
	c.pending(0, time.Time{})
	return c.store(ctx)
}

// tell brings the desk up to date and delivers what is news to a Teller.
func (c *courier) tell(ctx context.Context) error {
	now := time.Now()
	if now.Sub(c.looked) >= lookAgain {
		made, err := c.ledger.Silences(ctx)
		if err != nil {
			return c.ledgerFailed(err)
		}
		c.desk.made, c.looked = made, now
	}
	if err := c.read(ctx, now); err != nil {
		return c.ledgerFailed(err)
	}
	n := c.desk.news(now, false)
	oldest := now
	for i := range n.Items {
		if t := n.Items[i].Updated; t.Before(oldest) {
			oldest = t
		}
	}
	live, err := c.live(ctx, now, oldest)
	if err != nil {
		return c.ledgerFailed(err)
	}
	if !live {
		n = c.desk.news(now, true)
	}
	c.pending(len(n.Items), oldest)
	every := c.config.Teller.Every()
	if len(n.Items) > 0 || every > 0 && now.Sub(c.told) >= every {
		if err := c.deliver(ctx, func(ctx context.Context) error { return c.config.Teller.Tell(ctx, n) }); err != nil {
			return err
		}
		c.desk.told(n)
		c.told = now
		c.pending(0, time.Time{})
	}
	if !live {
		return nil // what is held back would be taken for told after a restart
	}
	return c.store(ctx)
}

// read gives the desk all changes that it does not have yet.
func (c *courier) read(ctx context.Context, now time.Time) error {
	for {
		changes, err := c.ledger.Alerts(ctx, ledger.AlertFilter{After: c.applied, Limit: page})
		if err != nil || len(changes) == 0 {
			return err
		}
		live, err := c.live(ctx, now, time.Unix(changes[0].Time, 0))
		if err != nil {
			return err
		}
		for i := range changes {
			if c.desk.alerts[changes[i].ID] == nil {
				if err := c.recall(ctx, changes[i].ID); err != nil {
					return err
				}
			}
			c.apply(&changes[i], now, live)
			c.applied = changes[i].Seq
		}
	}
}

// live reports whether what happened at event time t is news: that was just now,
// or the detector is not catching up with the past, as it does when it reads old
// logs. Nobody wants to be called for what its next minutes may end.
func (c *courier) live(ctx context.Context, now, t time.Time) (bool, error) {
	if now.Sub(t) <= recent {
		return true, nil
	}
	if now.Sub(c.catchup.asked) >= catchupEvery {
		d, err := c.ledger.Detection(ctx)
		if err != nil {
			return false, err
		}
		c.catchup.ask(now, d.Position)
	}
	return !c.catchup.on, nil
}

// catchup finds out whether the detector is catching up: it is far behind the
// clock and runs faster than it.
type catchup struct {
	asked    time.Time
	position int64
	on       bool
}

// catchupEvery is how often it is found out.
const catchupEvery = 10 * time.Second

func (u *catchup) ask(now time.Time, position int64) {
	passed := now.Sub(u.asked)
	moved := time.Duration(position-u.position) * time.Second
	behind := position > 0 && now.Sub(time.Unix(position, 0)) > recent
	// The first answer, and one after a long time, tell no speed.
	u.on = behind && (passed > 3*catchupEvery || moved > 2*passed)
	u.asked, u.position = now, position
}

// deliver makes one attempt, and counts it. One that is under way when ctx ends
// may end soon: if it were cut off nobody would know whether it had succeeded,
// and it would be made again.
func (c *courier) deliver(ctx context.Context, do func(context.Context) error) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), attempt)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(lastWords, cancel) })
	defer stop()
	err := do(limited)
	refused := isRefused(err)
	c.update(func(s *Stats) {
		s.Attempts++
		switch {
		case refused:
			s.Refused++
		case err != nil:
			s.Failures++
		default:
			s.Success = time.Now()
		}
		s.LastError = class(err)
	})
	if refused {
		c.log.Error("the receiver refused alerts; they are not sent again", "err", err)
		return nil
	}
	return err
}

// ledgerFailed notes a failure that is not the receiver's.
func (c *courier) ledgerFailed(err error) error {
	c.update(func(s *Stats) { s.LastError = classLedger })
	return err
}

func (c *courier) pending(n int, oldest time.Time) {
	if n == 0 {
		oldest = time.Time{}
	}
	c.update(func(s *Stats) { s.Pending, s.Oldest = n, oldest })
}

func (c *courier) update(change func(*Stats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.stats)
}

func (c *courier) snapshot() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}
