package pipeline

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bouncemeter/bouncemeter/sources/dialect"
)

type letters []string

func (l *letters) Put(d DeadLetter) {
	*l = append(*l, fmt.Sprintf("%d, %d: %s: %v", d.Offset, d.Record, d.Text, d.Err))
}

// The records of an array count without those that cannot be read, which are told
// with their place, a bounded number of them for each line, with any number of
// scanners.
func TestArraysWithOddRecords(t *testing.T) {
	const good = `{"event":"delivered","email":"a@one.example","timestamp":1768190468}`
	lines := []string{
		"[" + good + "," + good + "]",
		"[" + good + `,{"event":"bounce"},` + good + `,{"a":01}]`,
		"noise",
		"[" + strings.Repeat("{},", 99) + good + "]",
		"[" + good,
	}
	want := letters{
		`1, 2: {"event":"bounce"}: malformed record: the recipient is missing`,
		`1, 4: {"a":01}: malformed record: a JSON number is written wrongly`,
		`2, 0: noise: malformed record: not JSON`,
	}
	for i := range 16 {
		want = append(want, fmt.Sprintf("3, %d: {}: malformed record: the member that says what happened is missing", i+1))
	}
	want[len(want)-1] += " (and 83 more records of the same array, which are not kept)"
	want = append(want, "4, 2: : malformed record: the JSON ends too early")
	for workers := range 4 {
		o, counter := oneShot(workers)
		var got letters
		o.DeadLetters = &got
		o.NewParser = func() dialect.Parser {
			p, err := dialect.New("sendgrid", time.UTC)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		if err := Scan(context.Background(), &memoryLane{lines: lines, batch: 2}, o); err != nil {
			t.Fatal(err)
		}
		d := counter.Delta()
		var attempts int64
		for _, c := range d.Counts {
			attempts += c.Attempts
		}
		if attempts != 6 || d.Lines.Malformed != 2+1+99+1 || d.Lines.Read != int64(len(lines)) {
			t.Errorf("%d workers: %d attempts, lines %+v", workers, attempts, d.Lines)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d workers: -want +got:\n%s", workers, diff)
		}
	}
}
