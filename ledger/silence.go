package ledger

import (
	"cmp"
	"time"
)

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

// Covers reports whether the silence holds at t for an alert of this rule,
// category and series. A silence without labels covers nothing.
func (s *Silence) Covers(t time.Time, rule, category string, series map[string]string) bool {
	if t.Before(s.From) || !t.Before(s.Until) || len(s.Labels) == 0 {
		return false
	}
	for name, want := range s.Labels {
		have := series[name]
		switch name {
		case "rule":
			have = rule
		case "category":
			have = cmp.Or(have, category)
		}
		if have != want {
			return false
		}
	}
	return true
}

const (
	// MaxSilences is how many silences Silences returns: those that end last.
	MaxSilences = 1000
	// KeepSilences is how long a silence that is over is kept at least.
	KeepSilences = 30 * 24 * time.Hour
)
