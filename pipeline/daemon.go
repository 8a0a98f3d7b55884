package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
	"github.com/bouncemeter/bouncemeter/sources/dialect"
)

// Input is one configured source and the format of its lines.
type Input struct {
	Name      string
	Source    Source
	NewParser func() dialect.Parser
	// LanePrefix comes before the names of the lanes: those of several machines
	// with one ledger must differ.
	LanePrefix string
	// EventIDs is how many ids of events are remembered, per lane, to know those
	// that are told again: for sources whose senders repeat what was not
	// acknowledged. Zero counts every event.
	EventIDs int
}

// Options is what a Daemon works with. All fields but the sinks,
// DeadLetters and the observers are required.
type Options struct {
	Ledger        Ledger
	NewClassifier func() Classifier
	Sinks         []Sink
	RecordSinks   []RecordSink
	DeadLetters   DeadLetters
	// Privacy is applied to addresses that are stored for later records.
	Privacy event.Privacy
	Log     *slog.Logger

	// CommitEvery is how long counts stay in memory at the most, and so how
	// much is read again after a crash.
	CommitEvery time.Duration
	Retention   ledger.Retention

	// The admitted names of each dimension.
	SenderDomains, RecipientDomains, Hosts, Streams *window.Names
	MaxSeries                                       int           // a lane
	QueueIDs                                        int           // a lane
	QueueLifetime                                   time.Duration // with grace
	// Lateness is how far a lane's events may be out of order and still count
	// for detection; see window.Config.
	Lateness time.Duration

	// CommitTook and CommitFailed observe commits, for metrics.
	CommitTook   func(time.Duration)
	CommitFailed func()
}

func (o *Options) observeCommit(d time.Duration) {
	if o.CommitTook != nil {
		o.CommitTook(d)
	}
}

// Daemon reads sources into a ledger.
type Daemon struct {
	o      Options
	status statusBoard
	kept   atomic.Pointer[ledger.Kept] // nil until the first roll-up
}

// New returns a daemon that has not started.
func New(o Options) *Daemon {
	if o.CommitFailed == nil {
		o.CommitFailed = func() {}
	}
	return &Daemon{o: o}
}

// Run reads all inputs until ctx is done, when it commits what it has read and
// returns nil, or until all of them are used up. A source that fails is
// started again after a while; the others go on meanwhile. Only a damaged
// ledger ends the run with an error.
func (d *Daemon) Run(ctx context.Context, inputs []Input) error {
	g, ctx := errgroup.WithContext(ctx)
	reading, done := context.WithCancel(ctx)
	defer done()
	var sources sync.WaitGroup
	for _, in := range inputs {
		sources.Add(1)
		g.Go(func() error {
			defer sources.Done()
			return d.runSource(ctx, in)
		})
	}
	g.Go(func() error { sources.Wait(); done(); return nil })
	g.Go(func() error { d.rollup(reading); return nil })
	return g.Wait()
}

func (d *Daemon) runSource(ctx context.Context, in Input) error {
	pause := time.Second
	for {
		started := time.Now()
		err := in.Source.Run(ctx, func(ctx context.Context, lane Lane) error { return d.runLane(ctx, in, lane) })
		if err == nil || ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, ledger.ErrCorrupt) {
			return fmt.Errorf("source %s: %w", in.Name, err)
		}
		if time.Since(started) > time.Minute {
			pause = time.Second
		}
		d.o.Log.Error("source stopped and starts again", "source", in.Name, "err", err, "pause", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, time.Minute)
	}
}

// rollup applies the retention once at the start and then every hour.
func (d *Daemon) rollup(ctx context.Context) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		started := time.Now()
		kept, err := d.o.Ledger.Rollup(ctx, d.o.Retention, started)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			d.o.Log.Error("roll-up failed and is tried again in an hour", "err", err)
		default:
			d.kept.Store(&kept)
			d.o.Log.Debug("rolled up", "took", time.Since(started))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// LaneStatus is how a lane is doing.
type LaneStatus struct {
	Source, Lane string
	Position     event.Position // committed
	// Lag is what is known to wait, in the unit of Position.Offset.
	Lag int64
	// LastEvent is the latest event time committed since the start, in Unix
	// seconds; zero if there was none.
	LastEvent int64
	// Read is when the lane was last read up to its committed position.
	Read time.Time
	// Err is why commits fail at present, or nil.
	Err error
}

// Status returns the state of every lane, by source and name.
func (d *Daemon) Status() []LaneStatus { return d.status.list() }

// statusBoard holds the state of all lanes, for those who look on.
type statusBoard struct {
	mu    sync.Mutex
	lanes map[*laneStatus]bool
}

type laneStatus struct {
	board *statusBoard
	LaneStatus
}

func (b *statusBoard) add(source, lane string) *laneStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lanes == nil {
		b.lanes = make(map[*laneStatus]bool)
	}
	s := &laneStatus{b, LaneStatus{Source: source, Lane: lane}}
	b.lanes[s] = true
	return s
}

func (b *statusBoard) remove(s *laneStatus) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.lanes, s)
}

func (s *laneStatus) update(change func(*LaneStatus)) {
	s.board.mu.Lock()
	defer s.board.mu.Unlock()
	change(&s.LaneStatus)
}

func (b *statusBoard) list() []LaneStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []LaneStatus
	for s := range b.lanes {
		all = append(all, s.LaneStatus)
	}
	slices.SortFunc(all, func(a, b LaneStatus) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Lane, b.Lane))
	})
	return all
}
