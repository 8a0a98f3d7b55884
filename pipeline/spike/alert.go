package spike

import (
	"fmt"
	"hash/fnv"
	"time"
)

// State says where an alert is in its life.
type State string

const (
	// Firing is going on.
	Firing State = "firing"
	// Persisting has been going on for so long (6 h) that it is no news any
	// more. It stays open until it ends, and fires again if it gets much worse.
	Persisting State = "persisting"
	// Stale means that nothing has been attempted in its scope for 30 minutes,
	// so nobody can know whether it is over.
	Stale State = "stale"
	// Resolved is over.
	Resolved State = "resolved"
)

// Open reports whether the alert is not over.
func (s State) Open() bool { return s != Resolved }

// Change is one step in the life of one alert: it fired, got much worse,
// persists, went stale, or is over. Alert is the whole alert as of then.
type Change struct {
	// Time is the event time at which it was known: the end of the minute that
	// told, in Unix seconds.
	Time  int64
	Alert Alert
}

// Alert says what is wrong, since when, and how it is known. Its JSON form is
// stored and handed to notifiers. Ratios are between 0 and 1.
type Alert struct {
	// ID is the same from firing to the end, and whenever the same minutes are
	// judged again.
	ID string `json:"id"`
	// Incident is the ID of the alert for what this one has in common with
	// others, or its own. Inhibited is true if that is another alert that is
	// open: notifiers then keep quiet about this one.
	Incident  string `json:"incident"`
	Inhibited bool   `json:"inhibited"`

	Rule string `json:"rule"`
	// Kind is that of the rule, "breadth" for what many of its series share, or
	// "trend".
	Kind     Kind     `json:"kind"`
	State    State    `json:"state"`
	Severity Severity `json:"severity"`
	// Labels identify the series: the dimensions of the rule and their values.
	Labels map[Dimension]string `json:"labels"`
	// Category is what most of the failures are, if it is one.
	Category string `json:"category,omitempty"`

	// Since is when it began as far as the counts tell, Fired when it was known,
	// Updated the event time of this change, Resolved the end.
	Since    time.Time `json:"since"`
	Fired    time.Time `json:"fired"`
	Updated  time.Time `json:"updated"`
	Resolved time.Time `json:"resolved,omitzero"`
	// Ending says why it is over, in a few words.
	Ending string `json:"ending,omitempty"`
	// Flaps is how often it had ended and came back.
	Flaps int `json:"flaps,omitempty"`

	// Failures of Attempts have failed since the beginning: Ratio. Usual is the
	// ratio learned before, Null the upper bound of it that was tested against,
	// Excess the failures beyond the usual.
	Failures int64   `json:"failures"`
	Attempts int64   `json:"attempts"`
	Ratio    float64 `json:"ratio"`
	Usual    float64 `json:"usual"`
	Null     float64 `json:"null"`
	Excess   float64 `json:"excess"`
	// Dispersion is how much more than by chance the counts of single minutes
	// vary: 1 is by chance alone.
	Dispersion float64 `json:"dispersion,omitempty"`
	// Score is the evidence at the time of firing; it fires above Threshold.
	Score     float64 `json:"score"`
	Threshold float64 `json:"threshold"`
	// Cold is true if the series is known for less than a day, so that "usual"
	// rests on what others of its kind do.
	Cold bool `json:"cold"`

	// Members is how many series rise together, and Active how many could, for
	// kind breadth. Top names those with most excess.
	Members int      `json:"members,omitempty"`
	Active  int      `json:"active,omitempty"`
	Top     []string `json:"top,omitempty"`

	// Explanation says where the excess is, the most telling dimension first.
	Explanation []Share `json:"explanation,omitempty"`
	// Unchanged says what is as usual, to narrow the search.
	Unchanged []string `json:"unchanged,omitempty"`

	// Title, Summary, Advice and Silence are for people.
	Title   string `json:"title"`
	Summary string `json:"summary"`
	Advice  string `json:"advice,omitempty"`
	Silence string `json:"silence,omitempty"`

	// Templates and Samples are left to the caller: the wordings behind the
	// failures, most frequent first, and single replies without addresses. Both
	// come from remote servers and may be hostile.
	Templates []Wording `json:"templates,omitempty"`
	Samples   []string  `json:"samples,omitempty"`
}

// Breadth is the Kind of alerts for what many series share.
const Breadth Kind = "breadth"

// Wording is one wording of a refusal.
type Wording struct {
	Text     string `json:"text"`
	Attempts int64  `json:"attempts"`
}

// Share is the part that one element of a dimension has in an excess.
type Share struct {
	Dimension Dimension `json:"dimension"`
	Element   string    `json:"element"`
	// Excess is its number of failures beyond the usual, and Share that as a part
	// of the whole excess: the explanatory power.
	Excess float64 `json:"excess"`
	Share  float64 `json:"share"`
	// Expected is its share of what is usual. If Share is far from it, the
	// element matters; Surprise measures that (Jensen-Shannon, in nats).
	Expected float64 `json:"expected"`
	Surprise float64 `json:"surprise"`
}

// id returns an identifier that is the same for the same rule, labels and
// beginning.
func id(rule string, kind Kind, labels map[Dimension]string, since int64) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s\x00%d", rule, kind, since)
	for _, d := range dimensions {
		if v, ok := labels[d]; ok {
			fmt.Fprintf(h, "\x00%s\x00%s", d, v)
		}
	}
	return fmt.Sprintf("%016x", h.Sum64())
}
