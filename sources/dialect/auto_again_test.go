package dialect

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What auto remembers of the line before saves time and changes nothing: every
// line means the same to a recogniser that has seen others and to a new one.
func TestAutoRemembersNothingThatMatters(t *testing.T) {
	b, err := os.ReadFile("testdata/postfix.txtar")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	for _, line := range lines {
		if len(line) > 30 { // the same on the same host, broken in several ways
			lines = append(lines, "X"+line[1:], line[:3]+"x"+line[4:], line[:10]+"T"+line[11:], line[:17]+" "+line[18:], line[:15]+"."+line[16:])
		}
	}
	p := newAuto(time.UTC, false)
	for _, line := range lines {
		for range 2 {
			got, gotErr := p.Parse([]byte(line), nil)
			want, wantErr := newAuto(time.UTC, false).Parse([]byte(line), nil)
			if diff := cmp.Diff(want, got); diff != "" || (gotErr == nil) != (wantErr == nil) {
				t.Fatalf("%q: errors %v and %v, (-new +used)\n%s", line, wantErr, gotErr, diff)
			}
		}
	}
}
