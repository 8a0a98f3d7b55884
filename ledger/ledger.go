// Package ledger holds the types of the durable truth: how far each lane has
// been read and what was counted up to there, kept in one transaction. The
// stores that implement it are ledger/sqlite and ledger/postgres; package
// pipeline declares the interface it calls.
//
// The guarantee: after a crash at any moment the counts are those of exactly
// the lines before each lane's position. Nothing is lost, nothing is counted
// twice.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// ErrConflict means that a lane's stored position is not the expected one:
// another process has read the lane further. The caller must stop the lane and
// drop what it has counted since its last commit.
var ErrConflict = errors.New("the lane's position was moved by another process")

// ErrLocked means that another process on this machine uses the same ledger.
var ErrLocked = errors.New("another bouncemeter uses this ledger")

// ErrCorrupt means that the stored data cannot be trusted.
var ErrCorrupt = errors.New("the ledger is damaged")

// LaneID identifies a lane within one ledger.
type LaneID int64

// Lane is the state that a lane resumes from.
type Lane struct {
	ID       LaneID
	Source   string // the source's configured name
	Name     string // unique within the source: a path, a topic/partition
	Position event.Position
	Lines    window.Lines
	// First and Last are the earliest and latest event times, Unix seconds.
	First, Last int64
	Updated     time.Time // wall clock of the last commit
}

// Entry is one piece of correlation state: a queue id that is still alive. Its
// value is opaque to the ledger.
type Entry struct {
	Key   uint64
	Value []byte
}

// Commit is one step of one lane, applied whole or not at all.
type Commit struct {
	Lane LaneID
	// Expected is the position that the delta was counted from. If the stored
	// one differs, nothing is applied and the error is ErrConflict.
	Expected event.Position
	Position event.Position
	Delta    *window.Delta
	// Upserts and Deletes are the correlation entries that changed. An entry
	// that came and went between two commits is in neither.
	Upserts []Entry
	Deletes []uint64
	Now     time.Time // wall clock, for Lane.Updated
}

// Dimension is something that counts can be grouped by or filtered on.
type Dimension uint8

const (
	BySource Dimension = iota
	ByLane
	ByOutcome
	ByCategory
	BySecondary
	ByProvider
	BySenderDomain
	ByHost
	ByStream
	Dimensions // how many there are
)

// Query asks for counts, grouped.
type Query struct {
	// Since and Until bound event time: Since <= start < Until, Unix seconds;
	// zero means unbounded. Old counts have been rolled up to hours and days
	// and are found by the start of theirs.
	Since, Until int64
	By           []Dimension
	// Step also groups by time, in slots of this many seconds; zero does not.
	Step int64
	// Where keeps only rows whose dimension has one of the values.
	Where map[Dimension][]string
	// Limit keeps the rows with most attempts; zero means 100,000.
	Limit int
}

// Row is one group of counts. Keys are in the order of Query.By; outcomes and
// categories are given by their stable names.
type Row struct {
	Start            int64 // slot, if Query.Step is set
	Keys             []string
	Attempts, Firsts int64
}

// Total is the sum of all counts, of whatever age, that share these names.
type Total struct {
	Outcome, Category, Provider, SenderDomain string
	Attempts, Firsts                          int64
}

// maxRows is more than any question has answers, if it does not ask for times.
const maxRows = 1_000_000

// QueryAll asks query, which is that of a ledger, for all rows, and fails rather
// than to leave any out.
func QueryAll(ctx context.Context, query func(context.Context, Query) ([]Row, error), q Query) ([]Row, error) {
	q.Limit = maxRows
	rows, err := query(ctx, q)
	if err == nil && len(rows) >= maxRows {
		err = fmt.Errorf("there are more than %d different counts: ask for a shorter time", maxRows)
	}
	return rows, err
}

// Totals yields the all-time sums, for counters that must not step back over a
// restart. query is that of a ledger.
func Totals(ctx context.Context, query func(context.Context, Query) ([]Row, error), yield func(Total) error) error {
	rows, err := QueryAll(ctx, query, Query{By: []Dimension{ByOutcome, ByCategory, ByProvider, BySenderDomain}})
	if err != nil {
		return err
	}
	for _, r := range rows {
		if err := yield(Total{
			Outcome: r.Keys[0], Category: r.Keys[1], Provider: r.Keys[2], SenderDomain: r.Keys[3],
			Attempts: r.Attempts, Firsts: r.Firsts,
		}); err != nil {
			return err
		}
	}
	return nil
}

// DelayTotal is the sum of all delays, of whatever age, of one provider and
// outcome.
type DelayTotal struct {
	Provider, Outcome string
	Buckets           [len(window.DelayBounds) + 1]int64 // not cumulative
	Micros            int64                              // sum of delays
}

// DomainTotal is what happened at one recipient domain in the time asked for.
type DomainTotal struct {
	Domain, Outcome, Category string
	Attempts                  int64
}

// Template is one wording of a failure; see window.TemplateCount.
type Template struct {
	Hash                           uint64
	Category, Provider, Rule, Text string
	Attempts                       int64
	First, Last                    int64 // event times in Unix seconds
}

// TemplateFilter says which templates are wanted; an empty field takes all.
type TemplateFilter struct{ Category, Provider string }

// Retention says how long counts are kept at which grain. What leaves the last
// grain is summed per series into one row without a time, so totals never
// shrink.
type Retention struct {
	Minutes   time.Duration // then rolled up to hours
	Hours     time.Duration // then rolled up to days
	Days      time.Duration // then summed without a time
	Templates time.Duration // reply wordings not seen for so long are dropped
	// TemplatesPerCategory keeps the most frequent wordings of each category.
	TemplatesPerCategory int
	Domains              time.Duration // counts per recipient domain
	Alerts               time.Duration // changes of alerts that are over; zero: for ever
}

// Kept tells from when on counts are kept by the minute and by the hour, in Unix
// seconds. What is older is kept by the hour, by the day, or without a time. It
// never goes back.
type Kept struct{ Minutes, Hours int64 }

// DefaultRetention is what the daemon uses unless configured otherwise.
var DefaultRetention = Retention{
	Minutes: 8 * 24 * time.Hour, Hours: 62 * 24 * time.Hour, Days: 3 * 366 * 24 * time.Hour,
	Templates: 62 * 24 * time.Hour, TemplatesPerCategory: 200, Domains: 62 * 24 * time.Hour,
	Alerts: 3 * 366 * 24 * time.Hour,
}
