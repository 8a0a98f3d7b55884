package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// Window is what one series did in one minute, as far as it came in time: see
// window.Count.Late. Once every lane has passed the minute it does not change.
type Window struct {
	Start                                                           int64 // Unix seconds, a multiple of 60
	Source, Outcome, Category, Provider, SenderDomain, Host, Stream string
	Firsts                                                          int64
}

// Detection is where the detector of spikes stands. There is one in a ledger.
type Detection struct {
	// Position is the event time, in Unix seconds, before which all windows
	// have been judged; zero at the beginning.
	Position int64
	// State is what the detector knew at Position; opaque to the ledger.
	State []byte
}

// Alert is one change of one alert.
type Alert struct {
	// Seq numbers the changes in the order in which they were stored. The
	// ledger sets it.
	Seq int64
	// ID is the same for all changes of one alert, from firing to the end.
	ID string
	// State is where the alert is now, such as "firing" or "resolved".
	State string
	// Open reports whether the alert is not over.
	Open bool
	Rule string
	// Time is the event time of the change, in Unix seconds.
	Time int64
	// Body is the whole alert as JSON; opaque to the ledger.
	Body []byte
}

// DetectorCommit is one step of the detector, applied whole or not at all.
type DetectorCommit struct {
	// Expected is the stored position. If another is stored, nothing is applied
	// and the error is ErrConflict.
	Expected, Position int64
	State              []byte
	Alerts             []Alert
	Now                time.Time // wall clock
}

// Digest identifies what the step does, so that a store can tell a repeat of
// it from another step to the same position. Now and the alerts' Seq are left
// out.
func (c *DetectorCommit) Digest() [sha256.Size]byte {
	h := sha256.New()
	number := func(n int64) {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], uint64(n))
		h.Write(b[:])
	}
	text := func(s []byte) {
		number(int64(len(s)))
		h.Write(s)
	}
	number(c.Expected)
	number(c.Position)
	text(c.State)
	for i := range c.Alerts {
		a := &c.Alerts[i]
		text([]byte(a.ID))
		text([]byte(a.State))
		if a.Open {
			number(1)
		} else {
			number(0)
		}
		text([]byte(a.Rule))
		number(a.Time)
		text(a.Body)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// AlertFilter says which changes of alerts are wanted.
type AlertFilter struct {
	// After keeps changes with a greater Seq.
	After int64
	// ID keeps the changes of one alert; empty takes all.
	ID string
	// Since and Until bound Time: Since <= time < Until; zero is unbounded.
	Since, Until int64
	// Latest keeps only the last change that each alert has ever made, and then
	// Open only those that are not over; without Latest it has no effect.
	Latest, Open bool
	// Limit keeps the first, or with Newest the last; zero means 10,000.
	Limit  int
	Newest bool
}
