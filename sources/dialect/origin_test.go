package dialect

import (
	"encoding/binary"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bouncemeter/bouncemeter/event"
)

// parsersOfPostfix are those that remember how lines began.
var parsersOfPostfix = []func() Parser{
	func() Parser { return newAuto(time.UTC, false) },
	func() Parser { return newPostfix(time.UTC, true) },
}

func withReference(p Parser) Parser {
	p.Reference(time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC))
	return p
}

// What is remembered of the lines before saves time and changes nothing: every
// line means the same to a parser that has seen others and to a new one.
func TestNothingIsRememberedThatMatters(t *testing.T) {
	b, err := os.ReadFile("testdata/postfix.txtar")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	for _, line := range lines {
		if len(line) > 30 { // the same on the same host, broken in several ways
			lines = append(lines, "X"+line[1:], line[:3]+"x"+line[4:], line[:10]+"T"+line[11:], line[:17]+" "+line[18:], line[:15]+"."+line[16:],
				strings.Replace(line, "]", "", 1), strings.Replace(line, "[", "", 1), strings.Replace(line, "[", "[x", 1), strings.Replace(line, ": ", ":", 1),
				line[:16]+strings.Repeat("long-", 7)+line[16:], line[:len(line)/2], line[:min(len(line), 58)], strings.Replace(line, "/", "/x/error[1]: ", 1),
				strings.Replace(line, "/", "/x/", 1), strings.Replace(line, "/smtp[", "/x/error[", 1), strings.Replace(line, "/smtp[", "/error[", 1), strings.Replace(line, "/", "/x y", 1), strings.Replace(line, "[", ":[", 1),
				strings.Replace(line, "]: ", "]: A", 1), strings.Replace(line, "]: ", "]: Ä", 1), strings.Replace(line, "]: ", "]: 0123456789abcdefghijklmnopqrs", 1))
		}
	}
	for _, make := range parsersOfPostfix {
		p := withReference(make())
		for _, line := range lines {
			for range 2 {
				got, gotErr := p.Parse([]byte(line), nil)
				want, wantErr := withReference(make()).Parse([]byte(line), nil)
				if diff := cmp.Diff(want, got); diff != "" || (gotErr == nil) != (wantErr == nil) {
					t.Fatalf("%q: errors %v and %v, (-new +used)\n%s", line, wantErr, gotErr, diff)
				}
			}
		}
		checkNext(t, make, lines)
	}
}

func notStrange(p *postfix, line string) bool {
	n, s := p.skip([]event.Line{{Text: []byte(line)}}, new(postfixLine))
	return n == 1 || s == telling
}

// checkNext tells whether a parser that takes several lines says of each what one
// says that takes them apart.
func checkNext(t *testing.T, make func() Parser, lines []string) {
	t.Helper()
	var batch []event.Line
	for _, line := range lines {
		batch = append(batch, event.Line{Text: []byte(line)})
	}
	p, one := Skipping(withReference(make())), withReference(make())
	seen := 0
	for rest := batch; len(rest) > 0; {
		n, events, gotErr := p.Next(rest, nil, 1)
		for i, line := range rest[:n] {
			want, wantErr := one.Parse(line.Text, nil)
			var got []event.Event
			var err error
			if i == n-1 {
				got, err = events, gotErr
			}
			if diff := cmp.Diff(want, got); diff != "" || (err == nil) != (wantErr == nil) {
				t.Fatalf("%q: errors %v and %v, (-one +of several)\n%s", line.Text, wantErr, err, diff)
			}
		}
		rest, seen = rest[n:], seen+len(events)
	}
	if len(lines) > 100 && seen < 20 {
		t.Errorf("%d events of %d lines", seen, len(lines))
	}
}

// The same for lines that nobody has thought of.
func FuzzOrigins(f *testing.F) {
	f.Add("mx1", "postfix/smtp[311]: 4F2A1B3C5D: to=<a@b.example>, relay=none, delay=1, dsn=4.4.1, status=deferred (x)", "postfix/qmgr[97]: 4F2A1B3C5D: removed")
	f.Add("info", "Sender/smtp[311]: 4F2A1B3C5D: from=<a@b.example>, size=1", "Sender/smtp: 4F2A1B3C5D: from=<a@b.example>, size=2")
	f.Add("mail-out-03.eu-west.example.com", "postfix/smtp[311]: 4F2A1B3C5D: removed", "postfiy/smtp[311]: 4F2A1B3C5D: removed")
	f.Add("mx-3.example.com", "postfix-out/smtp[311]: 4F2A1B3C5D: removed", "postfix-ouu/smtp[311]: 4F2A1B3C5D: removed")
	f.Add("m", "p/smtp[311]: 4F2A1B3C5D: removed, to be longer", "q/smtp[311]: 4F2A1B3C5D: removed, to be longer")
	f.Add("{", "x/y: 4F2A1B3C5D: removed                   ", "x/y[: 4F2A1B3C5D: removed               ")
	f.Fuzz(func(t *testing.T, host, one, other string) {
		for _, stamp := range []string{"Jan 12 04:01:07 ", "2026-01-12T04:01:07.123456+01:00 "} {
			for _, make := range parsersOfPostfix {
				p := withReference(make())
				lines := []string{"Jan 12 04:01:07 " + host + " " + one, stamp + host + " " + other, stamp + host + " " + one}
				checkNext(t, make, lines)
				for _, line := range lines {
					got, gotErr := p.Parse([]byte(line), nil)
					want, wantErr := withReference(make()).Parse([]byte(line), nil)
					if diff := cmp.Diff(want, got); diff != "" || (gotErr == nil) != (wantErr == nil) {
						t.Fatalf("%q: errors %v and %v, (-new +used)\n%s", line, wantErr, gotErr, diff)
					}
					a, isAuto := p.(*auto)
					if isAuto && len(line) >= 20 && recognise([]byte(line)) != shapePostfix && notStrange(a.postfix, line) {
						t.Fatalf("%q is familiar and none of Postfix", line)
					}
				}
			}
		}
	})
}

// Eight bytes at once are the same as one by one, whatever stands beside them.
func TestBytesAtOnce(t *testing.T) {
	for _, c := range []struct {
		name   string
		atOnce func(uint64) uint64
		single func(byte) bool
	}{
		{"notAlnum", notAlnum, func(c byte) bool { return !isAlnum(c) }},
		{"notDigit", notDigit, func(c byte) bool { return !isDigit(c) }},
		{"below", func(w uint64) uint64 { return below(w, '['+1) }, func(c byte) bool { return c <= '[' }},
	} {
		for beside := range 256 {
			for b := range 256 {
				word := []byte{byte(b), byte(beside), byte(b), byte(beside), byte(beside), byte(b), byte(b), byte(beside)}
				mask := c.atOnce(binary.LittleEndian.Uint64(word))
				for i, x := range word {
					want := uint64(0)
					if c.single(x) {
						want = 0x80
					}
					if mask>>(8*i)&0xff != want {
						t.Fatalf("%s(% x) is %016x: wrong at %d", c.name, word, mask, i)
					}
				}
			}
		}
	}
}

// Numbers are the same whatever follows them.
func TestLeadingSeconds(t *testing.T) {
	for text, want := range map[string]int64{
		"": -1, "x": -1, ".5": -1, "0": 0, "7": 7e6, "12": 12e6, "1234567": 1234567e6, "12345678": 12345678e6, "1234567890": 1234567890e6,
		"0.": 0, "0.5": 5e5, "1.3": 13e5, "0.06": 6e4, "3612.25": 361225e4, "1234567.123456": 1234567123456, "1.1234567": 1123456, "9.99999999": 9999999,
	} {
		for _, rest := range []string{"", ", ", ", delays=0.1/0.02/0.6/0.58, dsn=2.0.0"} {
			if got, n := leadingSeconds([]byte(text + rest)); got != want || n != len(text) && want >= 0 {
				t.Errorf("%q: %d in %d bytes, want %d", text+rest, got, n, want)
			}
		}
	}
}

// The end of a queue id is found in whichever word it is.
func TestIDLength(t *testing.T) {
	for n := range maxQueueID {
		for _, rest := range []string{"", ":", ": removed", " x 4F2A1B3C5D: 4F2A1B3C5D: ", "-"} {
			text := strings.Repeat("4Fz9", 10)[:n] + rest
			if got := idLength([]byte(text)); got != n {
				t.Errorf("%q: %d, want %d", text, got, n)
			}
		}
	}
}

// The words that lines which tell something go on with are told from all others.
func TestWords(t *testing.T) {
	p := newPostfix(time.UTC, true)
	n := 0
	for _, w := range p.tell {
		if w != 0 {
			n++
		}
	}
	if n != 9 { // else two are in one place
		t.Errorf("%d words", n)
	}
	for _, s := range []string{"to=<", "from", "remo", "reje", "milt", "canc", "mess", "clie", "uid="} {
		if !p.tell.has(binary.LittleEndian.Uint32([]byte(s))) {
			t.Errorf("no %q", s)
		}
	}
	if p.tell.has(binary.LittleEndian.Uint32([]byte("stat"))) {
		t.Error(`"stat" is no word`)
	}
}
