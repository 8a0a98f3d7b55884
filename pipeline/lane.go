package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/failpoint"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/pipeline/correlate"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// runner reads one lane. All its fields belong to the lane's goroutine.
type runner struct {
	daemon *Daemon
	input  Input
	lane   Lane
	name   string // the lane's in the ledger
	log    *slog.Logger
	status *laneStatus

	state ledger.Lane
	unit  unit
	kept  *ledger.Kept // what the counter knows of
	scanner
	joiner
	// read is the position after the last joined batch; state.Position is the
	// committed one.
	read      event.Position
	committed time.Time // wall clock of the last commit
	behind    bool      // more was waiting at the last commit
	// pending is the commit that the ledger has not taken yet. What was counted
	// is in it and nowhere else, and nothing is read until it is stored.
	pending *ledger.Commit
}

// The commit of what was read when a lane is told to stop may take this long;
// then it is given up, and the next start counts those lines again.
const lastCommit = 5 * time.Second

// runLane reads a lane until it ends or ctx is done, and commits what it read.
// Where another process has moved the position, it starts over from there.
func (d *Daemon) runLane(ctx context.Context, in Input, lane Lane) error {
	name := in.LanePrefix + lane.Name()
	log := d.o.Log.With("source", in.Name, "lane", name)
	status := d.status.add(in.Name, name)
	defer d.status.remove(status)
	for {
		r := &runner{daemon: d, input: in, lane: lane, name: name, log: log, status: status}
		err := r.run(ctx)
		if !errors.Is(err, ledger.ErrConflict) {
			return err
		}
		log.Error("lane starts over from where another process has read it to; a lane may have one reader", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(5 * time.Second):
		}
	}
}

func (r *runner) run(ctx context.Context) error {
	if err := r.open(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // taken away before anything was read
		}
		return fmt.Errorf("open %s of source %s: %w", r.name, r.input.Name, err)
	}
	defer r.close()
	for {
		err := r.lane.Read(ctx, &r.unit.batch)
		if err == nil {
			failpoint.BatchRead.Hit()
			r.keep()
			process(&r.scanner, &r.joiner, &r.unit)
			failpoint.BatchJoined.Hit()
			r.read = r.unit.batch.Next
			if r.due() {
				err = r.commit(ctx)
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return r.commit(ctx)
		case ctx.Err() != nil:
			// Told to stop: keep what was read, if the ledger takes it in time.
			failpoint.LaneStopping.Hit()
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastCommit)
			defer cancel()
			if err := r.commit(last); err != nil {
				r.log.Warn("stop without a last commit; the next start counts those lines again", "err", err)
			}
			return nil
		default:
			return fmt.Errorf("read %s of source %s: %w", r.name, r.input.Name, err)
		}
	}
}

func (r *runner) close() {
	err := r.lane.Close()
	for _, w := range r.records {
		err = errors.Join(err, w.Close())
	}
	if err != nil {
		r.log.Warn("close lane", "err", err)
	}
}

// open resumes the lane from the ledger, for which it waits.
func (r *runner) open(ctx context.Context) error {
	o := &r.daemon.o
	if err := r.persist(ctx, "resume", r.resume); err != nil {
		return err
	}
	r.status.update(func(s *LaneStatus) { s.Err = nil })
	r.read, r.committed, r.behind = r.state.Position, time.Now(), true
	if err := r.lane.Open(ctx, r.state.Position); err != nil {
		return err
	}
	for _, s := range o.RecordSinks {
		r.records = append(r.records, s.Writer(r.input.Name, r.name))
	}
	failpoint.LaneOpened.Hit()
	messages, deferred := r.table.Len()
	r.log.Info("lane opened", "offset", r.state.Position.Offset, "messages", messages, "deferred", deferred)
	return nil
}

// resume takes the lane's state from the ledger. It may be called again.
func (r *runner) resume(ctx context.Context) error {
	o := &r.daemon.o
	var err error
	if r.state, err = o.Ledger.Lane(ctx, r.input.Name, r.name); err != nil {
		return err
	}
	session := o.NewClassifier()
	table := correlate.New(correlate.Config{
		Limit: o.QueueIDs, Lifetime: o.QueueLifetime, Track: true, Classify: session.Classify, Details: len(o.RecordSinks) > 0, Privacy: o.Privacy, EventIDs: r.input.EventIDs,
	})
	if err := o.Ledger.Entries(ctx, r.state.ID, func(e ledger.Entry) error { return table.Restore(e.Key, e.Value) }); err != nil {
		return err
	}
	r.scanner = newScanner(r.input.NewParser(), session)
	r.joiner = joiner{
		table: table, dead: o.DeadLetters, source: r.input.Name, lane: r.name,
		counter: window.NewCounter(window.Config{
			Span: 60, CoarseSpan: 3600, Lateness: int64(o.Lateness / time.Second), Latest: r.state.Last,
			SenderDomains: o.SenderDomains, RecipientDomains: o.RecipientDomains, Hosts: o.Hosts, Streams: o.Streams,
			MaxSeries: o.MaxSeries, Sample: session.Sample,
		}),
	}
	return nil
}

// keep has what is old counted by the hour or day, as the ledger would, once it is
// known what the ledger keeps.
func (r *runner) keep() {
	if kept := r.daemon.kept.Load(); kept != r.kept {
		r.kept = kept
		r.counter.Keep(kept.Minutes, kept.Hours)
	}
}

// commitRows is how many rows a commit has at the most, more or less: it
// bounds memory and the time of one transaction while catching up. An entry of
// correlation, which brings its value, is like two counts. What is added to the
// same row several times between two commits is written once, but beyond this it
// saves less than it costs in memory.
const commitRows = 40_000

// due reports whether to commit: in time, before what was counted takes too much
// memory, and at once when the lane has caught up, since it may wait for its next
// line.
func (r *runner) due() bool {
	return time.Since(r.committed) >= r.daemon.o.CommitEvery || r.counter.Size()+2*r.table.Pending() >= commitRows ||
		r.behind && r.unit.batch.Lag == 0 || slices.ContainsFunc(r.records, RecordWriter.Full)
}

// commit makes the records durable that were handed on since the last commit,
// then stores what was counted together with the position up to which it was.
// While the ledger fails for a reason that may
// pass (a full disk, a lost connection) it is tried again, and the lane reads
// no further: nothing is lost and memory stays bounded.
func (r *runner) commit(ctx context.Context) error {
	d := r.daemon
	if r.read == r.state.Position {
		r.committed, r.behind = time.Now(), r.unit.batch.Lag > 0
		r.status.update(func(s *LaneStatus) { s.Lag, s.Read = r.unit.batch.Lag, r.committed })
		return nil
	}
	if r.pending == nil {
		r.pending = r.prepare()
	}
	failpoint.CommitPrepared.Hit()
	c := r.pending
	for _, w := range r.records {
		if err := r.persist(ctx, "flush records", w.Flush); err != nil {
			return err
		}
		failpoint.RecordsFlushed.Hit()
	}
	started := time.Now()
	if err := r.persist(ctx, "commit", func(ctx context.Context) error { return d.o.Ledger.Commit(ctx, c) }); err != nil {
		return err
	}
	failpoint.CommitStored.Hit()
	r.pending = nil
	r.state.Position, r.committed, r.behind = r.read, time.Now(), r.unit.batch.Lag > 0
	d.o.observeCommit(r.committed.Sub(started))
	r.status.update(func(s *LaneStatus) {
		s.Lag, s.Read, s.Err = r.unit.batch.Lag, r.committed, nil
		s.Position = r.read
		s.LastEvent = max(s.LastEvent, c.Delta.Last)
	})
	for _, sink := range d.o.Sinks {
		sink.Committed(r.input.Name, c.Delta)
	}
	failpoint.SinksTold.Hit()
	r.lane.Committed(r.read)
	failpoint.LaneReleased.Hit()
	return nil
}

// prepare takes what was counted and what changed since the last commit.
func (r *runner) prepare() *ledger.Commit {
	c := &ledger.Commit{
		Lane: r.state.ID, Expected: r.state.Position, Position: r.read,
		Delta: r.counter.Delta(), Now: time.Now(),
	}
	// The values live in one buffer: there may be a million of them.
	var values []byte
	r.table.Changes(
		func(key uint64, value []byte) {
			values = append(values, value...)
			c.Upserts = append(c.Upserts, ledger.Entry{Key: key, Value: values[len(values)-len(value):]})
		},
		func(key uint64) { c.Deletes = append(c.Deletes, key) },
	)
	return c
}

// persist does one step that makes durable what was read, trying again until it
// is done, refused for good, or ctx ends.
func (r *runner) persist(ctx context.Context, what string, step func(context.Context) error) error {
	pause := 100 * time.Millisecond
	var reported time.Time
	for {
		err := step(ctx)
		if err == nil {
			if !reported.IsZero() {
				r.log.Info("works again", "step", what)
			}
			return nil
		}
		if errors.Is(err, ledger.ErrConflict) || errors.Is(err, ledger.ErrCorrupt) || ctx.Err() != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		r.daemon.o.CommitFailed()
		r.status.update(func(s *LaneStatus) { s.Err = err })
		if time.Since(reported) >= time.Minute {
			reported = time.Now()
			r.log.Error("counts cannot be made durable; reading waits until it works again", "step", what, "err", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, err)
		case <-time.After(pause + rand.N(pause/2)):
		}
		pause = min(2*pause, 5*time.Second)
	}
}
