// Package counts publishes the ledger's counts, minute by minute, to a topic or
// a file.
//
// A minute is published once it is closed: every lane that is being read has
// passed it. Values are absolute. What comes late, however late, is published as
// a new version of its row: a row's version is how many attempts it counts, which
// only grows, so equal versions are equal rows, and the greatest is the truth.
// Whoever keeps the greatest version of each id therefore has the ledger's counts
// of all closed minutes, in whatever order and however often rows come.
//
// What has been published is remembered in the ledger: for each hour, how many
// attempts it had then. An hour that has more by now is looked at again. So after
// a crash, or when another process takes over, at most the rows of a few hours
// come again, as they were or newer; none is left out.
package counts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"time"

	"github.com/bouncemeter/bouncemeter/ledger"
)

// Ledger is the part of the ledger that is needed; see pipeline.Ledger and
// pipeline.AlertLedger.
type Ledger interface {
	Query(ctx context.Context, q ledger.Query) ([]ledger.Row, error)
	Notified(ctx context.Context, notifier string) (int64, error)
	SetNotified(ctx context.Context, notifier string, seq int64) error
}

// Receiver takes rows.
type Receiver interface {
	// Add hands over a row, as JSON, and its id.
	Add(id, row []byte)
	// Flush returns nil once everything added is durable. After an error it is
	// called again: nothing was dropped.
	Flush(ctx context.Context) error
}

// Row is what one series did in one minute.
type Row struct {
	V int `json:"v"` // 1
	// ID is the same for all versions of a row, and for no other.
	ID string `json:"id"`
	// Version is greater for a newer state of the row.
	Version int64 `json:"version"`
	// Start is the beginning of the minute, in event time.
	Start   time.Time `json:"start"`
	Seconds int64     `json:"seconds"` // 60

	Source       string `json:"source"`
	Outcome      string `json:"outcome"`
	Category     string `json:"category"`  // empty if delivered
	Secondary    string `json:"secondary"` // for expired: what kept it in the queue
	Provider     string `json:"provider"`
	SenderDomain string `json:"sender_domain"` // empty for the null sender
	Host         string `json:"host"`
	Stream       string `json:"stream"`

	// Attempts are all tries; Firsts those that were the first of their recipient.
	Attempts int64 `json:"attempts"`
	Firsts   int64 `json:"firsts"`
}

// dimensions of a row, in the order in which names takes them.
var dimensions = []ledger.Dimension{
	ledger.BySource, ledger.ByOutcome, ledger.ByCategory, ledger.BySecondary, ledger.ByProvider, ledger.BySenderDomain, ledger.ByHost, ledger.ByStream,
}

// rowOf returns the row of a group by dimensions.
func rowOf(r *ledger.Row) Row {
	k := r.Keys
	row := Row{
		V: 1, Version: r.Attempts, Start: time.Unix(r.Start, 0).UTC(), Seconds: minute,
		Source: k[0], Outcome: k[1], Category: k[2], Secondary: k[3], Provider: k[4], SenderDomain: k[5], Host: k[6], Stream: k[7],
		Attempts: r.Attempts, Firsts: r.Firsts,
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d", r.Start)
	for _, name := range k {
		fmt.Fprintf(h, " %d:%s", len(name), name)
	}
	row.ID = hex.EncodeToString(h.Sum(nil)[:16])
	return row
}

const (
	minute, hour = 60, 3600
	// tick is how often it looks whether more minutes are closed.
	tick = 5 * time.Second
	// recent is how many hours before the last closed minute are looked at
	// whenever one is closed, and once in recentEvery; all others once in allEvery.
	recent      = 2
	recentEvery = time.Minute
	allEvery    = 10 * time.Minute
	// atOnce is how many rows wait for the receiver before it is waited for.
	atOnce = 20_000
	// slots is how many hours the ledger remembers.
	slots = 2048
	// mostHours is how far back rows are published at the most.
	mostHours = slots - 48
	// reportEvery is how often a failure that lasts is logged.
	reportEvery = time.Minute
)

// Config says what is published where.
type Config struct {
	// Name under which the ledger remembers what was published. Under a new one
	// everything is published that the ledger has by minute.
	Name     string
	Receiver Receiver
	// Keep is how long the ledger has counts by minute.
	Keep time.Duration
	// Closed returns the event time, in Unix seconds, before which minutes are
	// closed; 0 if that is not known yet.
	Closed func() int64
	Log    *slog.Logger
}

// Sink publishes counts. Run may be called again, but not concurrently.
type Sink struct{ config Config }

// New returns a sink.
func New(c Config) *Sink { return &Sink{c} }

// Run publishes what is closed until ctx is done, when it returns nil. Only the
// process that holds the lease on l may call it.
func (s *Sink) Run(ctx context.Context, l Ledger) error {
	r := &run{Config: s.config, ledger: l, hours: make(map[int64]int64), minutes: make(map[int64]int64)}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var reported time.Time
	for {
		if err := r.step(ctx, time.Now()); err != nil {
			if errors.Is(err, ledger.ErrCorrupt) {
				return err
			}
			if ctx.Err() == nil && time.Since(reported) >= reportEvery {
				reported = time.Now()
				r.Log.Error("counts are not published; trying again", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// run is one call of Run.
type run struct {
	Config
	ledger Ledger
	closed int64 // up to here recent hours have been looked at
	// When recent hours, and all, were last looked at.
	recently, looked time.Time
	added            int // rows since the last flush
	// What has been published: attempts by the start of the hour, as the ledger
	// knows it, too; and of the minute, as far as this process has done it.
	hours, minutes map[int64]int64
}

// step publishes what is closed, or changed, and was not published.
func (r *run) step(ctx context.Context, now time.Time) error {
	// What an earlier step has left comes before newer rows.
	if err := r.flush(ctx); err != nil {
		return err
	}
	closed := floor(r.Closed(), minute)
	all := now.Sub(r.looked) >= allEvery
	if closed <= 0 || closed == r.closed && now.Sub(r.recently) < recentEvery && !all {
		return nil
	}
	// The ledger may have rolled up the minutes of the hour in which Keep ends.
	oldest := floor(now.Add(-min(r.Keep, mostHours*time.Hour)).Unix(), hour) + 2*hour
	since := oldest
	if !all {
		since = max(oldest, floor(closed, hour)-recent*hour)
	}
	if since < closed {
		hours, err := r.ledger.Query(ctx, ledger.Query{Since: since, Until: closed, Step: hour, Limit: math.MaxInt32})
		if err != nil {
			return fmt.Errorf("look for new counts: %w", err)
		}
		for i := range hours {
			if err := r.hour(ctx, &hours[i], closed); err != nil {
				return err
			}
		}
	}
	r.closed, r.recently = closed, now
	if all {
		r.looked = now
		old := func(start, _ int64) bool { return start < oldest }
		maps.DeleteFunc(r.hours, old)
		maps.DeleteFunc(r.minutes, old)
	}
	return nil
}

// hour publishes the minutes of an hour that were closed, or changed, since it
// was published.
func (r *run) hour(ctx context.Context, h *ledger.Row, closed int64) error {
	published, ok := r.hours[h.Start]
	if !ok {
		v, err := r.ledger.Notified(ctx, r.slot(h.Start))
		if err != nil {
			return fmt.Errorf("look what was published: %w", err)
		}
		published = decode(h.Start, v)
		r.hours[h.Start] = published
	}
	// Less than was published is fewer minutes: after a restart it may take a while
	// until it is known again that they are closed.
	if h.Attempts <= published {
		return nil
	}
	minutes, err := r.ledger.Query(ctx, ledger.Query{Since: h.Start, Until: min(h.Start+hour, closed), Step: minute})
	if err != nil {
		return fmt.Errorf("look for new counts: %w", err)
	}
	done := make(map[int64]int64)
	for i := range minutes {
		m := &minutes[i]
		if r.minutes[m.Start] == m.Attempts {
			continue
		}
		if done[m.Start], err = r.minute(ctx, m.Start); err != nil {
			return err
		}
	}
	if err := r.flush(ctx); err != nil {
		return err
	}
	maps.Copy(r.minutes, done)
	// What came in the meantime is not in this number, so it is looked for again.
	if err := r.ledger.SetNotified(ctx, r.slot(h.Start), encode(h.Start, h.Attempts)); err != nil {
		return fmt.Errorf("note what was published: %w", err)
	}
	r.hours[h.Start] = h.Attempts
	return nil
}

// minute hands over all rows of a minute, and returns how many attempts they
// count.
func (r *run) minute(ctx context.Context, start int64) (attempts int64, err error) {
	rows, err := r.ledger.Query(ctx, ledger.Query{Since: start, Until: start + minute, Step: minute, By: dimensions, Limit: math.MaxInt32})
	if err != nil {
		return 0, fmt.Errorf("read the counts of a minute: %w", err)
	}
	for i := range rows {
		row := rowOf(&rows[i])
		b, err := json.Marshal(&row)
		if err != nil {
			return 0, fmt.Errorf("write counts as JSON: %w", err)
		}
		r.Receiver.Add([]byte(row.ID), b)
		attempts += row.Attempts
		if r.added++; r.added >= atOnce {
			if err := r.flush(ctx); err != nil {
				return 0, err
			}
		}
	}
	return attempts, nil
}

func (r *run) flush(ctx context.Context) error {
	if err := r.Receiver.Flush(ctx); err != nil {
		return err
	}
	r.added = 0
	return nil
}

// The ledger remembers one number for each name, which never goes back. A name
// is used again for an hour slots later, so it is the hour in the upper bits and
// its attempts in the lower ones.

const attemptBits = 40 // 10^12 attempts an hour

// slot is the name for an hour. No notifier's name has a slash.
func (r *run) slot(start int64) string {
	return fmt.Sprintf("counts/%s/%d", r.Name, start/hour%slots)
}

func encode(start, attempts int64) int64 {
	return start/hour<<attemptBits | min(attempts, 1<<attemptBits-1)
}

// decode returns the attempts of an hour, 0 if v is of another one.
func decode(start, v int64) int64 {
	if v>>attemptBits != start/hour {
		return 0
	}
	return v & (1<<attemptBits - 1)
}

func floor(t, span int64) int64 { return t - t%span }
