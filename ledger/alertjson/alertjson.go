// Package alertjson reads alerts in the form in which the ledger holds them: the
// JSON form of the detector's (package spike). It is a reader of its own, so that
// alerts which another version has stored can be shown and told, too.
package alertjson

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/bouncemeter/bouncemeter/ledger"
)

// State says where an alert is in its life.
type State string

const (
	// Firing is going on.
	Firing State = "firing"
	// Persisting has been going on for so long that it is no news.
	Persisting State = "persisting"
	// Stale means that nothing has been sent, so nobody can know whether it is
	// over.
	Stale State = "stale"
	// Resolved is over.
	Resolved State = "resolved"
)

// Open reports whether the alert is not over.
func (s State) Open() bool { return s != Resolved }

// Severity says how soon somebody should look.
type Severity string

const (
	// Ticket is for working hours.
	Ticket Severity = "ticket"
	// Warning wants a look today.
	Warning Severity = "warning"
	// Critical costs much mail right now.
	Critical Severity = "critical"
)

// Severities lists the words for severities, the least severe first.
var Severities = []Severity{Ticket, Warning, Critical}

// Rank orders severities. One that is unknown, of a newer version perhaps, is
// above all, so that it is told.
func (s Severity) Rank() int {
	if i := slices.Index(Severities, s); i >= 0 {
		return i
	}
	return len(Severities)
}

// Alert is an alert as the ledger keeps it. Ratios are between 0 and 1.
type Alert struct {
	// ID is the same from firing to the end.
	ID string `json:"id"`
	// Incident is the ID of the alert for what this one has in common with
	// others, or its own. Inhibited is true while that explains this one.
	Incident  string `json:"incident"`
	Inhibited bool   `json:"inhibited"`

	Rule     string   `json:"rule"`
	Kind     string   `json:"kind"`
	State    State    `json:"state"`
	Severity Severity `json:"severity"`
	// Labels are the dimensions of the rule and their names.
	Labels   map[string]string `json:"labels"`
	Category string            `json:"category,omitempty"`

	// Since is when it began, Fired when that was known, Updated the event time
	// of this change, Resolved the end.
	Since    time.Time `json:"since"`
	Fired    time.Time `json:"fired"`
	Updated  time.Time `json:"updated"`
	Resolved time.Time `json:"resolved,omitzero"`
	Ending   string    `json:"ending,omitempty"`
	// Flaps is how often it had ended and came back.
	Flaps int `json:"flaps,omitempty"`

	// Failures of Attempts failed since the beginning: Ratio. Usual is what was
	// learned before, Null the upper bound of it that was tested against, Excess
	// the failures beyond the usual.
	Failures   int64   `json:"failures"`
	Attempts   int64   `json:"attempts"`
	Ratio      float64 `json:"ratio"`
	Usual      float64 `json:"usual"`
	Null       float64 `json:"null"`
	Excess     float64 `json:"excess"`
	Dispersion float64 `json:"dispersion,omitempty"`
	// Score is the evidence when it fired; it fires above Threshold.
	Score     float64 `json:"score"`
	Threshold float64 `json:"threshold"`
	// Cold is true if the series was known for less than a day.
	Cold bool `json:"cold"`

	// Members of Active series rise together, and Top are some of them.
	Members int      `json:"members,omitempty"`
	Active  int      `json:"active,omitempty"`
	Top     []string `json:"top,omitempty"`

	Explanation []Share  `json:"explanation,omitempty"`
	Unchanged   []string `json:"unchanged,omitempty"`

	Title   string `json:"title"`
	Summary string `json:"summary"`
	Advice  string `json:"advice,omitempty"`
	Silence string `json:"silence,omitempty"`

	// Templates and Samples are what remote servers said.
	Templates []Wording `json:"templates,omitempty"`
	Samples   []string  `json:"samples,omitempty"`
}

// Share is the part that one name of a dimension has in the excess.
type Share struct {
	Dimension string  `json:"dimension"`
	Element   string  `json:"element"`
	Excess    float64 `json:"excess"`
	Share     float64 `json:"share"`
	Expected  float64 `json:"expected"`
	Surprise  float64 `json:"surprise"`
}

// Wording is one wording of a reply.
type Wording struct {
	Text     string `json:"text"`
	Attempts int64  `json:"attempts"`
}

// Decode reads the alert of a change.
func Decode(c *ledger.Alert) (Alert, error) {
	var a Alert
	if err := json.Unmarshal(c.Body, &a); err != nil {
		return a, fmt.Errorf("read change %d of alert %s: %w", c.Seq, c.ID, err)
	}
	a.ID = c.ID
	if !a.State.Open() && a.Resolved.IsZero() {
		a.Resolved = a.Updated
	}
	return a, nil
}
