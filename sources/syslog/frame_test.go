package syslog

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// frames hands data to a framer in pieces of the sizes that pieces draws, as a
// connection would, and returns the messages; a truncated one ends with "…".
func frames(most int, data []byte, piece func(left int) int) (messages []string, err error) {
	f := framer{max: most}
	var buffer []byte
	for len(data) > 0 {
		n := min(piece(len(data)), len(data), f.room()-len(buffer))
		buffer, data = append(buffer, data[:n]...), data[n:]
		for {
			message, truncated, used, err := f.next(buffer)
			if message != nil {
				text := string(message)
				if truncated {
					text += "…"
				}
				messages = append(messages, text)
			}
			buffer = buffer[used:]
			if err != nil {
				return messages, err
			}
			if message == nil {
				break
			}
		}
		if len(buffer) >= f.room() {
			return messages, errors.New("the framer is stuck")
		}
	}
	return messages, nil
}

func whole(left int) int { return left }

func TestFrames(t *testing.T) {
	long := strings.Repeat("x", 25)
	for _, test := range []struct {
		name, in string
		want     []string
		err      error
	}{
		{"lines", "<1>a\n<2>b\r\n\n<3>c", []string{"<1>a", "<2>b"}, nil},
		{"NUL", "<1>a\x00<2>b\x00\n<3>c\n", []string{"<1>a", "<2>b", "<3>c"}, nil},
		{"counted", "4 <1>a5 <2>\nb10 12 <3>abcd", []string{"<1>a", "<2>\nb", "12 <3>abcd"[:10]}, nil},
		{"counted, with line feeds that are not", "4 <1>a\n4 <2>b\n\n4 <3>c", []string{"<1>a", "<2>b", "<3>c"}, nil},
		{"as long as may be", long[:20] + "\r\n" + long[:21] + "\n<1>a\n", []string{long[:20], long[:20] + "…", "<1>a"}, nil},
		{"too long", "<1>" + long + "\n<2>b\n", []string{("<1>" + long)[:20] + "…", "<2>b"}, nil},
		{"counted, too long", "25 " + long + "4 <2>b", []string{long[:20] + "…", "<2>b"}, nil},
		{"lines that have no priority", "Jan 12\n22 x\n", []string{"Jan 12", "22 x"}, nil},
		{"a count of nothing", "0 4 <1>a", nil, errFrame},
		{"no count", "4 <1>a<2>b\n", []string{"<1>a"}, errFrame},
		{"a count with nothing after it", "4<1>a", nil, errFrame},
		{"a count out of bounds", "99999999 <1>a", nil, errFrame},
		{"a count without an end", "999999999999999999999", nil, errFrame},
		{"a date", "2026-01-12T04:01:07Z mx1 p: x\n", nil, errFrame},
	} {
		for size := 1; size <= len(test.in); size++ {
			got, err := frames(20, []byte(test.in), func(int) int { return size })
			if diff := cmp.Diff(test.want, got); diff != "" || !errors.Is(err, test.err) {
				t.Fatalf("%s, by %d bytes: %v (-want +got):\n%s", test.name, size, err, diff)
			}
		}
	}
}

// Whatever the messages are and however they are cut up on their way, they
// arrive, as far as they may be long.
func TestFramesModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		counted := rapid.Bool().Draw(t, "counted")
		most := rapid.IntRange(1, 40).Draw(t, "max")
		var data []byte
		var want []string
		for _, b := range rapid.SliceOfN(rapid.SliceOfN(rapid.ByteRange(1, 126), 1, 60), 1, 10).Draw(t, "messages") {
			if !counted {
				b = bytes.Map(func(r rune) rune {
					if r == '\n' || r == '\r' {
						return 'x'
					}
					return r
				}, b)
				if len(data) == 0 && b[0] >= '0' && b[0] <= '9' {
					b[0] = '<'
				}
				data = append(append(data, b...), '\n')
			} else {
				data = append(fmt.Appendf(data, "%d ", len(b)), b...)
			}
			text := string(b)
			if len(b) > most {
				text = string(b[:most]) + "…"
			}
			want = append(want, text)
		}
		got, err := frames(most, data, func(int) int { return rapid.IntRange(1, 50).Draw(t, "piece") })
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Fatalf("%v (-want +got):\n%s", err, diff)
		}
	})
}

// How a stream is cut up on its way does not matter, and no stream gets stuck.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("<1>a\n<2>b\r\n"), uint8(3))
	f.Add([]byte("4 <1>a5 <2>\nb"), uint8(1))
	f.Add([]byte("25 xxxxxxxxxxxxxxxxxxxxxxxxx4 <2>b"), uint8(7))
	f.Fuzz(func(t *testing.T, data []byte, size uint8) {
		one, oneErr := frames(20, data, whole)
		two, twoErr := frames(20, data, func(int) int { return int(size) + 1 })
		if diff := cmp.Diff(one, two); diff != "" || !errors.Is(twoErr, oneErr) {
			t.Errorf("%v, by %d bytes %v (-whole +in pieces):\n%s", oneErr, size, twoErr, diff)
		}
		if oneErr != nil && !errors.Is(oneErr, errFrame) {
			t.Error(oneErr)
		}
	})
}
