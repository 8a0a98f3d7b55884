package ledger

import "time"

// Silence keeps people from being told of some alerts for some time. Those of
// the ledger are made on the page; a configuration may name a file of others.
type Silence struct {
	ID      string // unique
	Comment string // why and who
	// Labels are those that an alert has to have, all of them and exactly: of
	// its series, such as sender_domain, and "rule" and "category".
	Labels map[string]string
	// The silence holds from From to before Until, by the wall clock.
	From, Until time.Time
}

const (
	// MaxSilences is how many silences Silences returns: those that end last.
	MaxSilences = 1000
	// KeepSilences is how long a silence that is over is kept at least.
	KeepSilences = 30 * 24 * time.Hour
)
