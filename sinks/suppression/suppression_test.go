package suppression

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/pipeline"
)

func config(path string) Config {
	return Config{
		Path: path, Reasons: []string{"user_unknown", "user_inactive", Complaint}, Failures: 2,
		Privacy: event.Privacy{Addresses: event.KeepAddresses}, Log: slog.New(slog.DiscardHandler), unsafe: true,
	}
}

func open(t testing.TB, c Config) *Sink {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// happened is a record of a recipient, at a second: "bounced user_unknown",
// "delivered", "complaint", "expired user_unknown".
func happened(second int64, recipient, what string) *pipeline.Record {
	outcome, category, _ := strings.Cut(what, " ")
	e := &event.Event{Kind: event.Attempt, Time: second * 1e6, Recipient: []byte(recipient)}
	e.Outcome, _ = event.OutcomeByName(outcome)
	e.Verdict.Category, _ = event.CategoryByID(category)
	switch {
	case e.Outcome == event.Expired:
		e.Kind = event.Expiry
		e.Verdict.Secondary = e.Verdict.Category
		e.Verdict.Category, _ = event.CategoryByID("queue_expired")
	case e.Outcome > event.Expired:
		e.Kind = event.Notice
	}
	e.Reply = event.Reply{Code: 550, Enhanced: event.Enhanced{Class: 5, Subject: 1, Detail: 1}, Text: []byte("550 5.1.1 " + recipient + ": no")}
	return &pipeline.Record{Event: e}
}

func flush(t interface{ Fatal(...any) }, w pipeline.RecordWriter) {
	if err := w.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// listed returns "address reason failures" of all on the list.
func listed(t interface{ Fatal(...any) }, path string) (all []string) {
	if err := Read(context.Background(), path, func(e *Entry) error {
		all = append(all, fmt.Sprint(e.Address, " ", e.Reason, " ", e.Failures))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestList(t *testing.T) {
	for _, test := range []struct {
		name string
		told []string // at the seconds 1, 2, 3, …
		want string
	}{
		{"failed once", []string{"bounced user_unknown"}, ""},
		{"failed twice", []string{"bounced user_unknown", "bounced user_inactive"}, "user_inactive 2"},
		{"delivered in between", []string{"bounced user_unknown", "delivered", "bounced user_unknown"}, ""},
		{"delivered afterwards", []string{"bounced user_unknown", "bounced user_unknown", "delivered"}, ""},
		{"failed again after that", []string{"bounced user_unknown", "bounced user_unknown", "delivered", "bounced user_unknown", "bounced user_unknown"}, "user_unknown 2"},
		{"other reasons", []string{"bounced mailbox_full", "bounced spam_content", "deferred user_unknown", "bounced user_unknown"}, ""},
		{"expired for a reason", []string{"expired user_unknown", "expired mailbox_full", "expired user_unknown"}, "user_unknown 2"},
		{"bounces that came back", []string{"delivered", "oob_bounce user_unknown", "oob_bounce user_unknown"}, "user_unknown 2"},
		{"complained", []string{"delivered", "complaint"}, "complaint 0"},
		{"complained, and got mail", []string{"complaint", "delivered"}, "complaint 0"},
		{"complained, and failed", []string{"complaint", "bounced user_unknown"}, "complaint 1"},
	} {
		for _, together := range []bool{false, true} {
			t.Run(fmt.Sprint(test.name, ", together ", together), func(t *testing.T) {
				c := config(filepath.Join(t.TempDir(), "list.db"))
				w := open(t, c).Writer("mta1", "a")
				for i, what := range test.told {
					w.Add(happened(int64(i+1), "Ann@X.example", what))
					if !together {
						flush(t, w)
					}
				}
				flush(t, w)
				want := []string(nil)
				if test.want != "" {
					want = []string{"ann@x.example " + test.want}
				}
				if diff := cmp.Diff(want, listed(t, c.Path)); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			})
		}
	}
}

// facts draws what happened to one recipient.
func facts(t *rapid.T) []state {
	one := rapid.Custom(func(t *rapid.T) state {
		at := rapid.Int64Range(1, 12).Draw(t, "at")
		if rapid.IntRange(0, 9).Draw(t, "long before") == 0 {
			at -= 2 * inARow.Microseconds()
			at += 3 * inARow.Microseconds() * rapid.Int64Range(0, 1).Draw(t, "long after")
		}
		at = max(at, 1)
		switch rapid.IntRange(0, 6).Draw(t, "what") {
		case 0:
			return state{delivered: at}
		case 1:
			return state{complained: at}
		case 2:
			return state{removed: at}
		default:
			return state{failed: []int64{at}, last: failure{at: at, reason: rapid.SampledFrom([]string{"user_unknown", "user_inactive"}).Draw(t, "reason")}}
		}
	})
	return rapid.SliceOfN(one, 0, 30).Draw(t, "facts")
}

// A state does not depend on how often facts are told, in which order, or which
// of them together.
func TestStateIsASetOfFacts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := facts(t)
		var want state
		for i := range all {
			want.join(&all[i])
		}
		again := append(slices.Clone(all), all[:rapid.IntRange(0, len(all)).Draw(t, "repeats")]...)
		again = rapid.Permutation(again).Draw(t, "order")
		var left, right state
		cut := rapid.IntRange(0, len(again)).Draw(t, "cut")
		for i := range again[:cut] {
			left.join(&again[i])
		}
		for i := range again[cut:] {
			right.join(&again[cut+i])
		}
		left.join(&right)
		if !left.equal(&want) {
			t.Errorf("once %+v, in another way %+v", want, left)
		}
	})
}

// The state is what the words of the documentation say.
func TestStateIsWhatWasTold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s state
		failed, delivered, complained, removed := make(map[int64]bool), int64(0), int64(0), int64(0)
		for _, f := range facts(t) {
			s.join(&f)
			delivered, complained, removed = max(delivered, f.delivered, f.removed), max(complained, f.complained), max(removed, f.removed)
			for _, at := range f.failed {
				failed[at] = true
			}
		}
		n, last := 0, int64(0)
		for at := range failed {
			last = max(last, at)
		}
		for at := range failed {
			if at > delivered && at > last-inARow.Microseconds() {
				n++
			}
		}
		if got := len(s.failed); got != min(n, MostFailures) || s.complained > 0 != (complained > removed) {
			t.Errorf("%+v, want %d failures", s, n)
		}
	})
}

// Lanes that crash and read again what they had not committed, in whatever order
// they come, make the list that comes without crashes. Recipients have failed
// before, so that nothing hangs on an unknown one's delivery.
func TestCrashes(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		names := []string{"ann@x.example", "bob@x.example", "Ann@x.example"}
		lanes := make([][]*pipeline.Record, rapid.IntRange(1, 3).Draw(t, "lanes"))
		for i := range lanes {
			for range rapid.IntRange(0, 8).Draw(t, "records") {
				lanes[i] = append(lanes[i], happened(rapid.Int64Range(10, 20).Draw(t, "at"), rapid.SampledFrom(names).Draw(t, "to"),
					rapid.SampledFrom([]string{"bounced user_unknown", "bounced user_inactive", "delivered", "deferred user_unknown"}).Draw(t, "what")))
			}
		}
		run := func(path string, crashes bool) []string {
			c := config(path)
			s, err := New(c)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			w := s.Writer("mta", "first")
			for _, name := range names {
				w.Add(happened(1, name, "bounced user_unknown"))
			}
			flush(t, w)
			if !crashes {
				for _, lane := range lanes {
					w := s.Writer("mta", "a")
					for _, r := range lane {
						w.Add(r)
					}
					flush(t, w)
				}
				return listed(t, path)
			}
			at, committed := make([]int, len(lanes)), make([]int, len(lanes))
			writers := make([]pipeline.RecordWriter, len(lanes))
			for i := range lanes {
				writers[i] = s.Writer("mta", fmt.Sprint(i))
			}
			r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
			for left := 12; ; {
				done := true
				for i := range lanes {
					done = done && committed[i] == len(lanes[i])
				}
				if done {
					return listed(t, path)
				}
				i := r.IntN(len(lanes))
				switch r.IntN(4) {
				case 0, 1:
					if at[i] < len(lanes[i]) {
						writers[i].Add(lanes[i][at[i]])
						at[i]++
					}
				case 2:
					flush(t, writers[i])
					if left--; left < 0 || r.IntN(2) == 0 { // else it crashes before the ledger has moved
						committed[i] = at[i]
						continue
					}
					fallthrough
				case 3:
					if left--; left < 0 {
						continue
					}
					_ = writers[i].Close()
					writers[i], at[i] = s.Writer("mta", fmt.Sprint(i)), committed[i]
				}
			}
		}
		want := run(filepath.Join(dir, fmt.Sprint(n, ".db")), false)
		if diff := cmp.Diff(want, run(filepath.Join(dir, fmt.Sprint(n, "-crashes.db")), true)); diff != "" {
			t.Errorf("-without +with crashes:\n%s", diff)
		}
		_ = os.RemoveAll(dir)
		_ = os.Mkdir(dir, 0o700)
	})
}

func TestHashed(t *testing.T) {
	c := config(filepath.Join(t.TempDir(), "list.db"))
	c.Privacy = event.Privacy{Addresses: event.HashLocal, Key: []byte("0123456789abcdef")}
	c.Failures = 1
	w := open(t, c).Writer("mta1", "a")
	w.Add(happened(1, "ann@x.example", "bounced user_unknown"))
	w.Add(happened(2, "ANN@x.example", "bounced user_unknown"))
	flush(t, w)
	n := 0
	if err := Read(t.Context(), c.Path, func(e *Entry) error {
		n++
		if b, err := json.Marshal(e); err != nil || strings.Contains(strings.ToLower(string(b)), "ann") || !strings.HasSuffix(e.Address, "@x.example") || e.Failures != 2 {
			t.Errorf("%s, %v", b, err)
		}
		return nil
	}); err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
}

// What is on the list stays over restarts, deliveries still withdraw it, and
// another limit holds at once.
func TestRestart(t *testing.T) {
	c := config(filepath.Join(t.TempDir(), "list of mine?.db"))
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix() - 1000
	w := s.Writer("mta1", "a")
	for i := range int64(2) {
		w.Add(happened(now+i, "ann@x.example", "bounced user_unknown"))
		w.Add(happened(now+i, "bob@x.example", "bounced user_unknown"))
	}
	w.Add(happened(now, "eve@x.example", "bounced user_unknown"))
	flush(t, w)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if i, err := os.Stat(c.Path); err != nil || i.Mode().Perm()&0o007 != 0 {
		t.Error(i, err)
	}
	c.Failures = 1
	s = open(t, c)
	w = s.Writer("mta1", "a")
	w.Add(happened(now+100, "bob@x.example", "delivered"))
	flush(t, w)
	if got := listed(t, c.Path); !slices.Equal(got, []string{"ann@x.example user_unknown 2", "eve@x.example user_unknown 1"}) {
		t.Errorf("%v", got)
	}
}

// Removed by hand, an address is off the list, also for those who are told; what
// happened before does not bring it back, what happens then does.
func TestRemove(t *testing.T) {
	c := config(filepath.Join(t.TempDir(), "list.db"))
	m := &memory{values: make(map[string]string)}
	c.Publisher, c.Target = m, "a"
	s := open(t, c)
	w := s.Writer("mta1", "a")
	now := time.Now()
	add := func(after time.Duration, what string) {
		w.Add(happened(now.Add(after).Unix(), "ann@x.example", what))
		flush(t, w)
		if err := s.publish(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	add(-time.Hour, "complaint")
	missing, err := Remove(t.Context(), c.Path, []string{"Ann@x.example", "bob@x.example"}, now)
	if err != nil || !slices.Equal(missing, []string{"bob@x.example"}) {
		t.Error(missing, err)
	}
	add(-time.Hour, "complaint") // comes again
	add(-2*time.Hour, "bounced user_unknown")
	add(-3*time.Hour, "bounced user_unknown")
	if got := listed(t, c.Path); len(got) != 0 || len(m.values) != 0 {
		t.Error(got, m.values)
	}
	add(time.Hour, "complaint")
	if got := listed(t, c.Path); len(got) != 1 || len(m.values) != 1 {
		t.Error(got, m.values)
	}
	if _, err := Remove(t.Context(), c.Path+".gone", nil, now); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// Rows that no longer matter go; those on the list stay.
func TestForget(t *testing.T) {
	c := config(filepath.Join(t.TempDir(), "list.db"))
	s := open(t, c)
	w := s.Writer("mta1", "a")
	for i, what := range []string{"bounced user_unknown", "bounced user_unknown", "delivered"} {
		for j, name := range []string{"once", "listed", "withdrawn"} {
			if i <= j {
				w.Add(happened(int64(i+1), name+"@x.example", what))
			}
		}
		flush(t, w)
	}
	left := func(after time.Duration) (names []string) {
		if err := s.store.forget(time.Now().Add(after)); err != nil {
			t.Fatal(err)
		}
		if err := s.store.addresses(func(a []byte) { names = append(names, strings.TrimSuffix(string(a), "@x.example")) }); err != nil {
			t.Fatal(err)
		}
		return names
	}
	for _, test := range []struct {
		after time.Duration
		want  []string
	}{
		{0, []string{"listed", "once", "withdrawn"}},
		{withdrawnFor + time.Minute, []string{"listed", "once"}},
		{forgetAfter + time.Minute, []string{"listed"}},
	} {
		if got := left(test.after); !slices.Equal(got, test.want) {
			t.Errorf("after %s: %v, want %v", test.after, got, test.want)
		}
	}
}

func TestFaults(t *testing.T) {
	c := config(filepath.Join(t.TempDir(), "gone", "list.db"))
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), "make its folder writable") {
		t.Errorf("no folder: %v", err)
	}
	c.Privacy.Addresses = event.DomainOnly
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), "privacy.addresses") {
		t.Errorf("no addresses: %v", err)
	}
	c = config(filepath.Join(t.TempDir(), "list.db"))
	c.Export = "list.xls"
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), ".csv") {
		t.Errorf("a form that does not exist: %v", err)
	}
	c.Export = ""
	c.Reasons = append(c.Reasons, "bad_luck")
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), "bad_luck") {
		t.Errorf("a reason that does not exist: %v", err)
	}
	c.Failures = MostFailures + 1
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), "failures") {
		t.Errorf("too many failures: %v", err)
	}
	if err := Read(t.Context(), c.Path, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a list that does not exist: %v", err)
	}
	c = config(c.Path)
	if err := os.WriteFile(c.Path, []byte(strings.Repeat("no database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), c.Path) {
		t.Errorf("another file: %v", err)
	}
}

// After a failure everything is written by the next flush.
func TestFailedWrite(t *testing.T) {
	c := config(filepath.Join(t.TempDir(), "list.db"))
	s := open(t, c)
	w := s.Writer("mta1", "a")
	w.Add(happened(1, "ann@x.example", "complaint"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Flush(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if got := s.Stats(); !got.Failing || got.Failures != 1 || got.Records != 0 {
		t.Errorf("%+v", got)
	}
	flush(t, w)
	if got := s.Stats(); got.Failing || got.Records != 1 || len(listed(t, c.Path)) != 1 {
		t.Errorf("%+v", got)
	}
}

// A date in the far future is not believed: it could hide what happens until
// then.
func TestFuture(t *testing.T) {
	c := config(filepath.Join(t.TempDir(), "list.db"))
	w := open(t, c).Writer("mta1", "a")
	now := time.Now().Unix()
	w.Add(happened(now, "ann@x.example", "bounced user_unknown"))
	w.Add(happened(now+400*86400, "ann@x.example", "delivered"))
	w.Add(happened(now+1, "ann@x.example", "bounced user_unknown"))
	flush(t, w)
	if got := listed(t, c.Path); len(got) != 1 {
		t.Error(got)
	}
}

// memory is a Publisher that may fail.
type memory struct {
	values  map[string]string
	waiting [][2]string // "" is nil
	fail    bool
	told    int
}

func (m *memory) Add(key, value []byte) {
	m.waiting = append(m.waiting, [2]string{string(key), string(value)})
}

func (m *memory) Flush(context.Context) error {
	for len(m.waiting) > 0 {
		if m.fail && len(m.waiting)%2 == 0 {
			return errors.New("away")
		}
		if kv := m.waiting[0]; kv[1] == "" {
			delete(m.values, kv[0])
		} else {
			m.values[kv[0]] = kv[1]
		}
		m.waiting = m.waiting[1:]
		m.told++
	}
	return nil
}

// Others know the list in the end, whenever they fail, when the daemon restarts,
// and if they are new.
func TestPublish(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "suppression")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		c := config(filepath.Join(dir, "list.db"))
		m := &memory{values: make(map[string]string)}
		c.Publisher, c.Target = m, "a"
		s, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		w := s.Writer("mta", "a")
		at := int64(0)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 8).Draw(t, "step") {
			case 0:
				_ = s.publish(t.Context())
			case 1: // half of a page is sent, while more happens
				changes, err := s.store.changes(t.Context(), page)
				if err != nil {
					t.Fatal(err)
				}
				at++
				w.Add(happened(at, "ann@x.example", "delivered"))
				w.Add(happened(at+1, "ann@x.example", "bounced user_unknown"))
				at++
				flush(t, w)
				for i := range changes {
					if value := []byte(nil); changes[i].listed {
						value, _ = json.Marshal(&changes[i].entry)
						m.Add([]byte(changes[i].entry.Address), value)
					} else {
						m.Add([]byte(changes[i].entry.Address), nil)
					}
				}
				if m.Flush(t.Context()) == nil {
					if err := s.store.published(t.Context(), changes); err != nil {
						t.Fatal(err)
					}
				}
			case 2:
				m.fail = !m.fail
			case 3:
				if rapid.Bool().Draw(t, "another target") {
					m = &memory{values: make(map[string]string)}
					c.Publisher, c.Target = m, c.Target+"a"
				} else { // what was waiting is lost
					m.waiting = nil
				}
				_ = s.Close()
				if s, err = New(c); err != nil {
					t.Fatal(err)
				}
				w = s.Writer("mta", "a")
			default:
				at++
				w.Add(happened(at, rapid.SampledFrom([]string{"ann@x.example", "bob@x.example"}).Draw(t, "to"),
					rapid.SampledFrom([]string{"bounced user_unknown", "bounced user_unknown", "delivered"}).Draw(t, "what")))
				flush(t, w)
			}
		}
		m.fail = false
		if err := s.publish(t.Context()); err != nil {
			t.Fatal(err)
		}
		told := m.told
		if err := s.publish(t.Context()); err != nil || m.told != told {
			t.Errorf("published again: %d, %v", m.told-told, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		want := make(map[string]string)
		if err := Read(t.Context(), c.Path, func(e *Entry) error {
			b, err := json.Marshal(e)
			want[e.Address] = string(b)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(want, m.values) {
			t.Errorf("listed %v, published %v", want, m.values)
		}
	})
}

// Run publishes and exports by itself, and goes on after failures.
func TestRun(t *testing.T) {
	c := config(filepath.Join(t.TempDir(), "list.db"))
	c.Export = filepath.Join(t.TempDir(), "list.txt")
	m := &memory{values: make(map[string]string)}
	c.Publisher = m
	s := open(t, c)
	synctest.Test(t, func(t *testing.T) {
		s.changed = make(chan struct{}, 1)
		ctx, cancel := context.WithCancel(t.Context())
		m.fail = true
		w := s.Writer("mta1", "a")
		add := func(name string) {
			w.Add(happened(1, name+"@x.example", "complaint"))
			flush(t, w)
		}
		add("ann")
		add("bob")
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		exported := func() string {
			b, err := os.ReadFile(c.Export)
			if err != nil {
				t.Error(err)
			}
			return string(b)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := exported(); got != "ann@x.example\nbob@x.example\n" || len(m.values) != 0 || !s.Stats().Failing {
			t.Errorf("%q, %v, %+v", got, m.values, s.Stats())
		}
		m.fail = false
		add("eve")
		time.Sleep(time.Second)
		synctest.Wait()
		if got := exported(); strings.Contains(got, "eve") || len(m.values) != 3 || s.Stats().Failing {
			t.Errorf("%q, %v, %+v", got, m.values, s.Stats())
		}
		time.Sleep(exportEvery)
		synctest.Wait()
		if got := exported(); !strings.Contains(got, "eve") {
			t.Errorf("%q", got)
		}
		// What another program takes off the list is exported without it, too.
		if missing, err := Remove(ctx, c.Path, []string{"ann@x.example"}, time.Now()); len(missing) > 0 || err != nil {
			t.Error(missing, err)
		}
		time.Sleep(lookEvery + exportEvery)
		synctest.Wait()
		if got := exported(); got != "bob@x.example\neve@x.example\n" || len(m.values) != 2 {
			t.Errorf("%q, %v", got, m.values)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestFormats(t *testing.T) {
	x := &Entry{
		V: 1, Address: "=ann@x.example", Reason: "user_unknown", Failures: 2, Code: 550, Enhanced: "5.1.1", Text: "-no, \"user\"",
		First: time.Unix(1795512000, 0).UTC(), Last: time.Unix(1795512060, 0).UTC(),
	}
	y := &Entry{V: 1, Address: "bob@x.example", Reason: Complaint, Last: time.Unix(1795512060, 0).UTC()}
	for format, want := range map[Format]string{
		Text: "=ann@x.example\nbob@x.example\n",
		CSV: "address,reason,failures,first,last,code,enhanced,text\n" +
			"'=ann@x.example,user_unknown,2,2026-11-24T09:20:00Z,2026-11-24T09:21:00Z,550,5.1.1,\"'-no, \"\"user\"\"\"\n" +
			"bob@x.example,complaint,0,,2026-11-24T09:21:00Z,,,\n",
		JSON: `{"v":1,"address":"=ann@x.example","reason":"user_unknown","failures":2,"first":"2026-11-24T09:20:00Z","last":"2026-11-24T09:21:00Z","code":550,"enhanced":"5.1.1","text":"-no, \"user\""}` + "\n" +
			`{"v":1,"address":"bob@x.example","reason":"complaint","failures":0,"last":"2026-11-24T09:21:00Z"}` + "\n",
	} {
		var b strings.Builder
		e, err := NewEncoder(&b, format)
		if err == nil {
			err = errors.Join(e.Encode(x), e.Encode(y), e.Flush())
		}
		if diff := cmp.Diff(want, b.String()); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", format, err, diff)
		}
	}
}

// The filter has no false negatives and few false positives; most deliveries cost
// next to nothing.
func TestFilter(t *testing.T) {
	f := newFilter()
	wrong := 0
	for i := range 200_000 {
		f.add(fmt.Append(nil, i))
	}
	for i := range 200_000 {
		if !f.has(fmt.Append(nil, i)) {
			t.Fatalf("%d is forgotten", i)
		}
		if f.has(fmt.Append(nil, -1-i)) {
			wrong++
		}
	}
	if wrong > 200 {
		t.Errorf("%d of 200,000 are taken for known", wrong)
	}
	w := open(t, config(filepath.Join(t.TempDir(), "list.db"))).Writer("mta1", "a")
	r := happened(1, "ann@x.example", "delivered")
	w.Add(r)
	if n := testing.AllocsPerRun(100, func() { w.Add(r) }); n > 0 {
		t.Errorf("%v allocations for a delivery", n)
	}
}

func BenchmarkWrite(b *testing.B) {
	s := open(b, config(filepath.Join(b.TempDir(), "list.db")))
	w := s.Writer("mta1", "a")
	for i := int64(0); b.Loop(); i++ {
		w.Add(happened(i+1, fmt.Sprint(i%10_000, "@x.example"), "bounced user_unknown"))
		if w.Full() {
			flush(b, w)
		}
	}
	flush(b, w)
}
