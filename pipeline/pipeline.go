// Package pipeline joins everything: it reads lanes, parses, classifies,
// correlates and counts their lines, and commits each step to the ledger. It
// owns the goroutines and the commit order.
package pipeline

import (
	"context"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// Source finds lanes to read: log files, Kafka partitions.
type Source interface {
	// Run calls work for each lane, in a goroutine of its own, for as long as
	// the lane exists, and again if it comes back. It returns nil once ctx is
	// done or a finite source is used up, after every call of work has
	// returned; or the first error of its own or of work. The context handed
	// to work ends when the lane is taken away: work then commits and returns.
	Run(ctx context.Context, work func(context.Context, Lane) error) error
}

// Lane is one ordered stream of lines. Its methods are called by one goroutine.
type Lane interface {
	// Name is unique within the source and stays the same over restarts.
	Name() string
	// Open starts reading at from, or where the source's configuration says if
	// from is the zero Position.
	Open(ctx context.Context, from event.Position) error
	// Read fills b with the next lines. It blocks until there is at least one
	// line, or until the position moved or some time has passed without any,
	// when it returns an empty batch so that the caller can commit. It returns
	// io.EOF, with an empty batch, once a finite lane is used up, and ctx's
	// error once ctx is done.
	Read(ctx context.Context, b *event.Batch) error
	// Committed tells that the ledger now holds p: the source may release what
	// is before it.
	Committed(p event.Position)
	Close() error
}

// Ledger is the durable truth; see package ledger for the guarantee. Its
// methods may be called concurrently.
type Ledger interface {
	// Lane returns the state of a lane, which is created at the zero position
	// when it is first asked for.
	Lane(ctx context.Context, source, name string) (ledger.Lane, error)
	// Entries yields the lane's correlation entries in no particular order.
	// The value is valid during the call only.
	Entries(ctx context.Context, lane ledger.LaneID, yield func(ledger.Entry) error) error
	// Commit applies c whole or not at all. An error that wraps
	// ledger.ErrConflict is final; after any other the caller may call again
	// with the same commit, also if the first had been applied unseen: then
	// the second is recognised by its position and reported as done.
	Commit(ctx context.Context, c *ledger.Commit) error
	// Query returns grouped counts, most attempts first, or in order of time if
	// Step is set.
	Query(ctx context.Context, q ledger.Query) ([]ledger.Row, error)
	// Rollup applies r as of now, and returns what is kept from then on.
	Rollup(ctx context.Context, r ledger.Retention, now time.Time) (ledger.Kept, error)
	Close() error
}

// AlertLedger is the part of the ledger that detection and notifying use. Its
// methods may be called concurrently.
type AlertLedger interface {
	// Lease returns once this process alone may detect and notify on this
	// ledger. The context it returns ends when that is over, such as because a
	// connection was lost; release gives it up.
	Lease(ctx context.Context) (lease context.Context, release func(), err error)
	// Lanes returns all lanes, by source and name.
	Lanes(ctx context.Context) ([]ledger.Lane, error)
	// Windows yields the windows with since <= start < until in order of start;
	// those of one minute and series are summed over lanes. The value is valid
	// during the call only.
	Windows(ctx context.Context, since, until int64, yield func(*ledger.Window) error) error
	// Detection returns the detector's stored state.
	Detection(ctx context.Context) (ledger.Detection, error)
	// CommitDetector applies c whole or not at all. As with Commit, ErrConflict
	// is final, and a repeat of what had been applied unseen is recognised.
	CommitDetector(ctx context.Context, c *ledger.DetectorCommit) error
	// Alerts returns changes of alerts in order of Seq.
	Alerts(ctx context.Context, f ledger.AlertFilter) ([]ledger.Alert, error)
	// Notified returns the Seq of the last change that a notifier has
	// delivered; zero for one that never did.
	Notified(ctx context.Context, notifier string) (int64, error)
	// SetNotified moves it forward, never back.
	SetNotified(ctx context.Context, notifier string, seq int64) error
	// Silences returns the silences that people made on the page, also those
	// that are over.
	Silences(ctx context.Context) ([]ledger.Silence, error)
}

// Classifier says who answered and why an attempt failed. Each is used by one
// goroutine; *classifier.Session is one.
type Classifier interface {
	// Classify sets e.Provider and, for a failure, e.Verdict.
	Classify(e *event.Event)
	// Sample appends a readable form of e's reply to dst, without addresses.
	Sample(e *event.Event, dst []byte) []byte
}

// Sink is told what was committed, such as to count it on for /metrics.
type Sink interface {
	// Committed is called once for each commit, in order within a lane, after
	// the ledger has it. It must not block and may not keep d.
	Committed(source string, d *window.Delta)
}

// RecordSink takes the classified record of every event, at least once: the
// ledger moves past a record only after the sink has made it durable. After a
// crash records may come again, with the same id.
type RecordSink interface {
	// Writer returns the writer of one lane. It is used by that lane's
	// goroutine alone.
	Writer(source, lane string) RecordWriter
}

// RecordWriter takes the records of one lane.
type RecordWriter interface {
	// Add takes one record, which is valid during the call only. It neither waits
	// for the receiver nor fails: what could not be handed over is kept, and told
	// by Full and Flush.
	Add(r *Record)
	// Full reports whether the writer holds as much as it should. The lane then
	// commits, and so waits for Flush, before it reads on: a slow receiver slows
	// the lane, and memory stays bounded.
	Full() bool
	// Flush returns nil once everything added is durable at the receiver. After
	// an error the caller calls it again: nothing was dropped.
	Flush(ctx context.Context) error
	// Close drops what was not flushed: the lane is being read again or is gone.
	Close() error
}

// Record is an event and where it came from.
type Record struct {
	Source, Lane, Segment string
	Offset                int64
	// Index tells the events of one line apart; the first is 0. With the four
	// above it identifies the record, however often it is read.
	Index int
	// Event is an Attempt, Expiry, Notice or Rejection, classified and joined.
	Event *event.Event
}

// DeadLetters keeps the lines, and the records of arrays, that could not be read,
// for people to look at.
type DeadLetters interface {
	Put(l DeadLetter)
}

// DeadLetter is what could not be read, and where it is.
type DeadLetter struct {
	Source, Lane, Segment string
	Offset                int64 // of the line
	// Record tells which record of the array that the line is, from 1; it is 0
	// where it is the line.
	Record int
	Text   []byte // valid during the call only
	Err    error
}
