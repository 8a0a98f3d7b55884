package spike

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"runtime"
	"testing"

	"pgregory.net/rapid"
)

// signed appends the checksum that Restore wants, so that what it guards is
// reached.
func signed(body []byte) []byte {
	return binary.BigEndian.AppendUint32(bytes.Clone(body), crc32.ChecksumIEEE(body))
}

// body is a state without its checksum.
func body(d *Detector) []byte {
	state := d.State()
	return state[:len(state)-4]
}

// everyKind are rules of all kinds, and mail that gives them alerts within hours.
func everyKind() (Config, mail) {
	c, x := scenario()
	c.Rules = append(c.Rules, Rule{Name: "wordings", Kind: Template, By: []Dimension{Provider}})
	x.domains, x.rate = 4, 30
	x.incidents = []incident{{60, 90, "d1.example", "gmail", 0.2}, {13 * 60, 14 * 60, "", "yahoo", 0.1}}
	return c, x
}

// FuzzRestore feeds Restore with damage that the checksum does not tell. Either it
// is refused, or it leads to a detector that works.
func FuzzRestore(f *testing.F) {
	c, x := everyKind()
	d := detector(f, c)
	f.Add(body(d))
	heard := func(text string) []Heard { return []Heard{{Provider: "gmail", Text: text, Attempts: 9}} }
	for m := range 13*60 + 30 {
		d.Hear(heard("550 as ever"))
		d.Window(start+int64(m)*60, x.minute(m))
		switch m {
		case 3, 70, 100, 12*60 + 1:
			f.Add(body(d))
		}
	}
	f.Add(body(d))
	if len(d.Open()) == 0 {
		f.Fatal("no alert is open in the last seed")
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		d := detector(t, c)
		if err := d.Restore(signed(body)); err != nil {
			if !errors.Is(err, ErrState) {
				t.Fatalf("got %v, want ErrState", err)
			}
			return
		}
		state := d.State()
		again := detector(t, c)
		if err := again.Restore(state); err != nil {
			t.Fatalf("its own state is refused: %v", err)
		}
		if !bytes.Equal(state, again.State()) {
			t.Fatal("the state is another after it is restored")
		}
		at := max(d.Position(), start)
		for i := range int64(3) {
			d.Hear(heard("550 something new"))
			d.Window(at+60*i, x.minute(int(i)))
		}
		d.Window((at/86400+1)*86400, x.minute(0)) // what is done once a day
		d.State()
		d.Stats()
	})
}

// TestRestoreTakesNoMoreThanItIsGiven claims long lists, of each kind after lists
// that are empty.
func TestRestoreTakesNoMoreThanItIsGiven(t *testing.T) {
	const zeros = 1 << 20
	for lists := range 16 {
		d := detector(t, Config{})
		claim := append([]byte{2 * stateVersion, 0, 0, 0}, make([]byte, lists)...) // the position and two counts
		claim = append(binary.AppendVarint(claim, zeros), make([]byte, zeros)...)
		state := signed(claim)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := d.Restore(state)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrState) {
			t.Errorf("list %d: got %v, want ErrState", lists, err)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 128*uint64(len(state)) {
			t.Errorf("list %d: %d bytes made it take %d", lists, len(state), took)
		}
	}
}

// TestRestoreOfAnyHistory restores after a history of any kind and length; what
// follows is the same as without.
func TestRestoreOfAnyHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, x := everyKind()
		x.seed = rapid.Uint64().Draw(t, "seed")
		x.domains = rapid.IntRange(1, 8).Draw(t, "domains")
		x.rate = rapid.IntRange(1, 60).Draw(t, "rate")
		x.incidents = nil
		for i := range rapid.IntRange(0, 4).Draw(t, "incidents") {
			from := rapid.IntRange(0, 1500).Draw(t, fmt.Sprintf("from %d", i))
			x.incidents = append(x.incidents, incident{
				from, from + rapid.IntRange(5, 400).Draw(t, "length"), rapid.SampledFrom([]string{"", "d0.example"}).Draw(t, "domain"),
				rapid.SampledFrom(append([]string{""}, providers...)).Draw(t, "provider"), rapid.Float64Range(0, 1).Draw(t, "ratio"),
			})
		}
		c.MaxSeries = rapid.SampledFrom([]int{0, 40}).Draw(t, "most")
		whole, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		cut := rapid.IntRange(0, 1500).Draw(t, "cut")
		run(whole, 0, cut, x.minute)
		state := whole.State()
		restored, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := restored.Restore(state); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(state, restored.State()) {
			t.Fatal("the restored detector has another state")
		}
		want, got := run(whole, cut, cut+120, x.minute), run(restored, cut, cut+120, x.minute)
		if fmt.Sprintf("%+v", want) != fmt.Sprintf("%+v", got) || !bytes.Equal(whole.State(), restored.State()) {
			t.Fatalf("after %d minutes: %d changes, and %d after it was restored", cut, len(want), len(got))
		}
	})
}

// TestRestoreRefusesNumbers has what no detector writes, but a damaged state may.
func TestRestoreRefusesNumbers(t *testing.T) {
	for name, damage := range map[string]func(d *Detector){
		"a minute to come":      func(d *Detector) { d.scopes[0].last = d.next + 1 },
		"a minute below zero":   func(d *Detector) { d.series[0].last = -1 },
		"no end of time":        func(d *Detector) { d.next = math.MaxInt32 },
		"no number":             func(d *Detector) { d.series[0].a = float32(math.NaN()) },
		"an infinite sum":       func(d *Detector) { d.scopes[0].b = float32(math.Inf(1)) },
		"a sum below zero":      func(d *Detector) { d.series[0].v = -1 },
		"no ratio":              func(d *Detector) { d.parents[0].q = 0 },
		"a series of no rule":   func(d *Detector) { d.series[0].rule = 200 },
		"a series of no scope":  func(d *Detector) { d.series[0].scope = int32(len(d.scopes)) },
		"a scope without name":  func(d *Detector) { d.scopes[0].key.ids[ofProvider] = 1 << 20 },
		"a group of no series":  func(d *Detector) { d.groups[0].since, d.groups[0].first = 1, -1 },
		"a group by source":     func(d *Detector) { d.groups[0].since, d.groups[0].edge = 1, 1<<ofSource },
		"an alert of no series": func(d *Detector) { d.alerts[0].place = 1 << 20 },
		"an alert of no kind":   func(d *Detector) { d.alerts[0].of = 99 },
	} {
		t.Run(name, func(t *testing.T) {
			c, x := everyKind()
			d := detector(t, c)
			run(d, 0, 85, x.minute)
			if len(d.alerts) == 0 {
				t.Fatal("there is no alert")
			}
			damage(d)
			if err := detector(t, c).Restore(d.State()); !errors.Is(err, ErrState) {
				t.Errorf("got %v, want ErrState", err)
			}
		})
	}
}
