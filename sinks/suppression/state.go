package suppression

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode"
)

const (
	// MostFailures is how many failures are kept of a recipient.
	MostFailures = 16
	// inARow is how far failures may lie apart and still be in a row.
	inARow = 366 * 24 * time.Hour
)

// state is what is known of a recipient. Times are microseconds since 1970; 0 is
// never.
//
// A failure is known by its time: two in one instant are one, and so is a record
// that comes again. Everything here is a maximum, or the greatest elements of a
// set, so join is idempotent, commutative and associative: a state depends on
// which facts were told, not on how often or in which order.
type state struct {
	delivered  int64   // the last delivery
	removed    int64   // when somebody took it off the list
	complained int64   // the last complaint since it was removed
	failed     []int64 // since the last delivery or removal, ascending; the last MostFailures
	last       failure // the last of failed
}

// failure is a failure for good.
type failure struct {
	at       int64
	reason   string // a category
	code     uint16
	enhanced string
	text     string
}

func compareFailures(a, b failure) int {
	return cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(a.reason, b.reason), cmp.Compare(a.code, b.code),
		strings.Compare(a.enhanced, b.enhanced), strings.Compare(a.text, b.text))
}

// join adds what o knows.
func (s *state) join(o *state) {
	s.delivered, s.removed, s.complained = max(s.delivered, o.delivered), max(s.removed, o.removed), max(s.complained, o.complained)
	if s.complained <= s.removed {
		s.complained = 0
	}
	good := max(s.delivered, s.removed)
	failed := slices.Concat(s.failed, o.failed)
	slices.Sort(failed)
	failed = slices.Compact(failed)
	if n := len(failed); n > 0 {
		after := max(good, failed[n-1]-inARow.Microseconds())
		first, _ := slices.BinarySearch(failed, after+1)
		failed = failed[max(first, n-MostFailures):]
	}
	s.failed = failed
	if compareFailures(o.last, s.last) > 0 {
		s.last = o.last
	}
	if s.last.at <= good {
		s.last = failure{}
	}
}

func (s *state) equal(o *state) bool {
	return s.delivered == o.delivered && s.removed == o.removed && s.complained == o.complained && slices.Equal(s.failed, o.failed) && s.last == o.last
}

// listed reports whether the recipient is on the list. limit is
// Config.Failures.
func (s *state) listed(limit int) bool { return s.complained > 0 || len(s.failed) >= limit }

// clean makes a text harmless: what was written by a stranger shall neither
// break a line nor move a terminal's cursor.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}
