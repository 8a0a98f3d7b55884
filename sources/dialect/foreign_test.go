package dialect

import "testing"

// What no dialect reads is told apart by how it begins.
func TestForeign(t *testing.T) {
	for line, want := range map[string]Foreign{
		"":                                ForeignNone,
		"\xc0\x00I":                       ForeignNone,
		"{\x8f\x01\x7f":                   ForeignNone, // binary
		"{":                               ForeignNone,
		`{"x":1}`:                         ForeignJSON,
		`[{ "x": 1`:                       ForeignJSON, // cut
		"Received: from mx.example":       ForeignMail,
		"__CURSOR=s=1;i=2":                ForeignExport,
		"Nov 28 10:00:00 mx1 cron[1]: hi": ForeignNone,
	} {
		if got := foreign([]byte(line)); got != want {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
	}
}
