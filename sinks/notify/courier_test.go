package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/alertjson"
)

// memory is a Ledger.
type memory struct {
	mu       sync.Mutex
	changes  []ledger.Alert
	notified map[string]int64
	position int64
	silences []ledger.Silence
	fail     error
}

func newMemory() *memory { return &memory{notified: make(map[string]int64)} }

func (m *memory) Alerts(_ context.Context, f ledger.AlertFilter) (all []ledger.Alert, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	latest := make(map[string]int64)
	for _, c := range m.changes {
		latest[c.ID] = c.Seq
	}
	for _, c := range m.changes {
		if c.Seq <= f.After || f.ID != "" && c.ID != f.ID || f.Latest && (latest[c.ID] != c.Seq || f.Open && !c.Open) {
			continue
		}
		if all = append(all, c); f.Limit > 0 && len(all) == f.Limit {
			break
		}
	}
	return all, nil
}

func (m *memory) Silences(context.Context) ([]ledger.Silence, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.silences, m.fail
}

func (m *memory) Detection(context.Context) (ledger.Detection, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return ledger.Detection{Position: m.position}, nil
}

func (m *memory) Notified(_ context.Context, name string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.notified[name], nil
}

func (m *memory) SetNotified(_ context.Context, name string, seq int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.notified[name]; !ok || seq > old {
		m.notified[name] = seq
	}
	return nil
}

// add stores a change of an alert as of now.
func (m *memory) add(id string, state alertjson.State, change ...func(*alertjson.Alert)) {
	m.addAt(time.Now(), id, state, change...)
}

func (m *memory) addAt(t time.Time, id string, state alertjson.State, change ...func(*alertjson.Alert)) {
	a := alertjson.Alert{
		ID: id, Incident: id, Rule: "authentication", Kind: "ratio", State: state, Severity: alertjson.Warning,
		Labels: map[string]string{"provider": "gmail", "sender_domain": id + ".example"},
		Title:  id, Since: t.Add(-5 * time.Minute), Updated: t, Excess: 100,
	}
	if !state.Open() {
		a.Resolved = t
	}
	for _, f := range change {
		f(&a)
	}
	body, err := json.Marshal(a)
	if err != nil {
		panic(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changes = append(m.changes, ledger.Alert{
		Seq: int64(len(m.changes)) + 1, ID: id, State: string(state), Open: state.Open(), Rule: a.Rule, Time: t.Unix(), Body: body,
	})
}

func severity(s alertjson.Severity) func(*alertjson.Alert) {
	return func(a *alertjson.Alert) { a.Severity = s }
}
func excess(n float64) func(*alertjson.Alert) { return func(a *alertjson.Alert) { a.Excess = n } }

// within says that another open alert explains this one.
func within(incident string) func(*alertjson.Alert) {
	return func(a *alertjson.Alert) { a.Incident, a.Inhibited = incident, true }
}

// fake is a Teller and a Recorder that writes down what it gets.
type fake struct {
	mu    sync.Mutex
	err   error
	block bool
	every time.Duration
	calls int
	heard []string
	open  []string
}

func (f *fake) Every() time.Duration { return f.every }

func (f *fake) Tell(ctx context.Context, n *News) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.block {
		<-ctx.Done()
		return ctx.Err()
	}
	if f.err != nil {
		return f.err
	}
	var words []string
	for _, i := range n.Items {
		word := i.ID + " " + string(i.State)
		if i.Again {
			word += " again"
		}
		words = append(words, word)
	}
	if len(words) > 0 {
		f.heard = append(f.heard, strings.Join(words, ", "))
	}
	f.open = nil
	for _, i := range n.Open {
		f.open = append(f.open, i.ID)
	}
	return nil
}

func (f *fake) Record(_ context.Context, changes []ledger.Alert) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.err != nil {
		return f.err
	}
	for _, c := range changes {
		f.heard = append(f.heard, fmt.Sprint(c.Seq))
	}
	return nil
}

func (f *fake) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// take returns what was heard since the last call.
func (f *fake) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	heard := f.heard
	f.heard = nil
	return heard
}

// start runs an outbox in the bubble; stop ends it.
func start(t *testing.T, l Ledger, silences *Silences, configs ...Config) (b *Outbox, stop func()) {
	t.Helper()
	b, err := New(Options{Notifiers: configs, Silences: silences, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx, l) }()
	return b, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// later lets d pass.
func later(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (f *fake) expect(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, f.take()); diff != "" {
		t.Errorf("heard (-want +got):\n%s", diff)
	}
}

func teller(f *fake) Config { return Config{Name: "people", Kind: "test", Teller: f} }

func TestPeopleAreToldOfTheBeginningTheWorseAndTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f := newMemory(), &fake{}
		_, stop := start(t, l, nil, teller(f))
		defer func() { stop() }()
		later(5 * time.Second)
		l.add("a", alertjson.Firing)
		later(2 * time.Second)
		f.expect(t, "a firing")
		l.add("a", alertjson.Firing, excess(120)) // hardly more
		l.add("a", alertjson.Stale)
		l.add("a", alertjson.Persisting)
		later(time.Hour)
		f.expect(t)
		l.add("a", alertjson.Firing, excess(1000))
		later(2 * time.Second)
		f.expect(t, "a firing again")
		l.add("a", alertjson.Firing, excess(1000), severity(alertjson.Critical))
		later(2 * time.Second)
		f.expect(t, "a firing again")
		// A restart repeats nothing, and forgets nothing.
		stop()
		_, stop = start(t, l, nil, teller(f))
		later(time.Minute)
		f.expect(t)
		l.add("a", alertjson.Resolved, severity(alertjson.Critical))
		later(2 * time.Second)
		f.expect(t, "a resolved again")
		l.add("a", alertjson.Firing, func(a *alertjson.Alert) { a.Flaps = 1 })
		later(2 * time.Second)
		f.expect(t, "a firing")
	})
}

func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f := newMemory(), &fake{}
		b, stop := start(t, l, nil, teller(f))
		defer stop()
		later(5 * time.Second)
		l.add("before", alertjson.Firing)
		later(2 * time.Second)
		f.expect(t, "before firing")

		f.set(errors.New("down"))
		calls := f.calls
		l.add("over", alertjson.Firing)
		later(10 * time.Minute)
		l.add("over", alertjson.Resolved)
		l.add("before", alertjson.Resolved)
		l.add("still", alertjson.Firing, severity(alertjson.Critical))
		later(50 * time.Minute)
		s := b.Stats()[0]
		if s.Pending != 3 || s.Oldest.IsZero() || s.LastError != "other" || s.Failures != int64(f.calls-calls) {
			t.Errorf("stats during the outage: %+v", s)
		}
		// Twice as long each time up to 2 minutes, each 1/2 to 1 of that.
		if n := f.calls - calls; n < 30 || n > 70 {
			t.Errorf("%d attempts in an hour", n)
		}
		f.set(nil)
		later(2 * time.Minute)
		f.expect(t, "still firing, before resolved again, over resolved")
		if s := b.Stats()[0]; s.Pending != 0 || !s.Oldest.IsZero() || s.LastError != "" || s.Success.IsZero() {
			t.Errorf("stats after the outage: %+v", s)
		}
		if got := l.notified["people"]; got != int64(len(l.changes)) {
			t.Errorf("delivered up to %d of %d", got, len(l.changes))
		}
	})
}

// What had not been delivered when the daemon was stopped is delivered
// afterwards, also if nothing had ever been.
func TestOutageOverRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f := newMemory(), &fake{err: errors.New("down")}
		_, stop := start(t, l, nil, teller(f))
		later(5 * time.Second)
		l.add("a", alertjson.Firing)
		later(3 * time.Hour)
		l.add("a", alertjson.Resolved)
		stop()
		l.position = time.Now().Unix()
		f.set(nil)
		_, stop = start(t, l, nil, teller(f))
		defer stop()
		later(time.Minute)
		f.expect(t, "a resolved")
	})
}

func TestWhatIsLongOverIsNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f := newMemory(), &fake{}
		b, stop := start(t, l, nil, teller(f))
		defer stop()
		later(5 * time.Second)
		f.set(errors.New("down"))
		l.add("a", alertjson.Firing)
		later(time.Minute)
		l.add("a", alertjson.Resolved)
		later(25 * time.Hour)
		f.set(nil)
		later(5 * time.Minute)
		f.expect(t)
		if s := b.Stats()[0]; s.Pending != 0 {
			t.Errorf("stats: %+v", s)
		}
	})
}

func TestNewNotifierBeginsWithOpenAlerts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, people, records := newMemory(), &fake{}, &fake{}
		l.add("old", alertjson.Firing)
		l.add("old", alertjson.Resolved)
		l.add("open", alertjson.Firing)
		_, stop := start(t, l, nil, teller(people), Config{Name: "records", Recorder: records})
		defer stop()
		later(3 * time.Second)
		people.expect(t, "open firing")
		records.expect(t)
		l.add("open", alertjson.Resolved)
		later(3 * time.Second)
		people.expect(t, "open resolved again")
		records.expect(t, "4")
	})
}

// A daemon that reads last week's logs finds last week's alerts.
func TestPastIsNoNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, people, records := newMemory(), &fake{}, &fake{}
		_, stop := start(t, l, nil, teller(people), Config{Name: "records", Recorder: records})
		defer stop()
		later(5 * time.Second)
		past := time.Now().Add(-7 * 24 * time.Hour)
		l.mu.Lock()
		l.position = past.Unix()
		l.mu.Unlock()
		// An hour a second.
		for i := range 7*24 - 1 {
			at := past.Add(time.Duration(i) * time.Hour)
			switch i {
			case 10:
				l.addAt(at, "a", alertjson.Firing)
			case 12:
				l.addAt(at, "a", alertjson.Resolved)
			case 100:
				l.addAt(at, "b", alertjson.Firing)
			}
			l.mu.Lock()
			l.position = at.Unix()
			l.mu.Unlock()
			later(time.Second)
			people.expect(t)
		}
		for range 60 { // now in step with the clock
			l.mu.Lock()
			l.position = time.Now().Unix()
			l.mu.Unlock()
			later(time.Second)
		}
		people.expect(t, "b firing")
		records.expect(t, "1", "2", "3")
	})
}

// A feed that is hours late, but no faster than the clock, is all there is.
func TestLateFeedIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f := newMemory(), &fake{}
		_, stop := start(t, l, nil, teller(f))
		defer stop()
		for range 120 {
			l.mu.Lock()
			l.position = time.Now().Add(-3 * time.Hour).Unix()
			l.mu.Unlock()
			later(time.Second)
		}
		l.addAt(time.Now().Add(-3*time.Hour), "a", alertjson.Firing)
		for range 120 {
			l.mu.Lock()
			l.position = time.Now().Add(-3 * time.Hour).Unix()
			l.mu.Unlock()
			later(time.Second)
		}
		f.expect(t, "a firing")
	})
}

func TestOneAlertForAnIncident(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f, only := newMemory(), &fake{}, &fake{}
		configs := []Config{teller(f), {Name: "owner of m1", Teller: only, Match: Match{SenderDomains: []string{"m1.example"}}}}
		_, stop := start(t, l, nil, configs...)
		defer func() { stop() }()
		later(5 * time.Second)
		l.add("first", alertjson.Firing)
		later(2 * time.Second)
		f.expect(t, "first firing")
		l.add("group", alertjson.Firing, func(a *alertjson.Alert) {
			a.Kind, a.Labels = "breadth", map[string]string{"provider": "gmail"}
		})
		l.add("first", alertjson.Firing, within("group"), excess(5000))
		l.add("m1", alertjson.Firing, within("group"))
		l.add("m2", alertjson.Firing, within("group"))
		later(2 * time.Second)
		f.expect(t, "group firing")
		// A part that was stored before the group was is not told either, and a
		// part that ends is not told as over.
		l.add("group2", alertjson.Resolved)
		l.add("m3", alertjson.Firing, within("group2"))
		l.add("group2", alertjson.Firing)
		later(2 * time.Second)
		f.expect(t, "group2 firing")
		stop()
		_, stop = start(t, l, nil, configs...)
		later(2 * time.Second)
		l.add("m3", alertjson.Resolved, within("group2"))
		l.add("group2", alertjson.Resolved)
		later(2 * time.Second)
		f.expect(t, "group2 resolved again")
		// Who is not told of the group is told of the part.
		only.expect(t, "m1 firing")
		// What goes on after the group's end is told, what ended before is not.
		l.add("m1", alertjson.Resolved, within("group"))
		l.add("group", alertjson.Resolved)
		l.add("m2", alertjson.Firing)
		later(2 * time.Second)
		f.expect(t, "first firing again, m2 firing, group resolved again")
		only.expect(t, "m1 resolved again")
	})
}

func TestRouting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, all, urgent, gmail := newMemory(), &fake{}, &fake{}, &fake{}
		_, stop := start(t, l, nil, teller(all),
			Config{Name: "urgent", Teller: urgent, MinSeverity: alertjson.Critical},
			Config{Name: "records of gmail", Recorder: gmail, Match: Match{Providers: []string{"gmail"}}})
		defer stop()
		later(5 * time.Second)
		l.add("a", alertjson.Firing)
		yahoo := func(a *alertjson.Alert) { a.Labels["provider"] = "yahoo" }
		l.add("b", alertjson.Firing, severity(alertjson.Ticket), yahoo)
		later(2 * time.Second)
		all.expect(t, "a firing, b firing")
		urgent.expect(t)
		gmail.expect(t, "1")
		l.add("a", alertjson.Firing, severity(alertjson.Critical))
		l.add("b", alertjson.Resolved, yahoo)
		later(2 * time.Second)
		all.expect(t, "a firing again, b resolved again")
		urgent.expect(t, "a firing")
		gmail.expect(t, "3")
	})
}

func TestSilencedWhileItLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f := newMemory(), &fake{}
		file := filepath.Join(t.TempDir(), "silences.yaml")
		silences, err := OpenSilences(file, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		_, stop := start(t, l, silences, teller(f))
		defer func() { stop() }()
		later(5 * time.Second)
		write(t, file, fmt.Sprintf("silences: [{comment: move, match: {sender_domains: [a.example, b.example]}, until: %s}]", time.Now().Add(time.Hour).Format(time.RFC3339)))
		later(10 * time.Second)
		l.add("a", alertjson.Firing)
		l.add("b", alertjson.Firing)
		l.add("c", alertjson.Firing)
		later(30 * time.Minute)
		f.expect(t, "c firing")
		l.add("a", alertjson.Resolved)
		// A restart changes nothing, and a file that is wrong neither.
		stop()
		_, stop = start(t, l, silences, teller(f))
		write(t, file, "silences: [{]")
		later(20 * time.Minute)
		f.expect(t)
		later(20 * time.Minute)
		f.expect(t, "b firing")
	})
}

// TestSilencedOnThePage checks that silences of the ledger hold within seconds,
// for alerts that have all of their labels, and until they end.
func TestSilencedOnThePage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f := newMemory(), &fake{}
		_, stop := start(t, l, nil, teller(f))
		defer stop()
		later(5 * time.Second)
		l.mu.Lock()
		l.silences = []ledger.Silence{
			{ID: "1", Labels: map[string]string{"rule": "authentication", "provider": "gmail", "sender_domain": "a.example"}, From: time.Now(), Until: time.Now().Add(time.Hour)},
			{ID: "2", Labels: map[string]string{"rule": "rate_limits", "provider": "gmail"}, From: time.Now(), Until: time.Now().Add(time.Hour)},
			{ID: "3", From: time.Now(), Until: time.Now().Add(time.Hour)},
		}
		l.mu.Unlock()
		later(2 * lookAgain)
		l.add("a", alertjson.Firing)
		l.add("b", alertjson.Firing)
		later(30 * time.Minute)
		f.expect(t, "b firing")
		later(40 * time.Minute)
		f.expect(t, "a firing")
	})
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRefusedIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f, r := newMemory(), &fake{}, &fake{}
		b, stop := start(t, l, nil, teller(f), Config{Name: "records", Recorder: r})
		defer stop()
		later(5 * time.Second)
		f.set(Refused(errors.New("no")))
		r.set(Refused(errors.New("no")))
		l.add("a", alertjson.Firing)
		later(time.Minute)
		for _, s := range b.Stats() {
			if s.Attempts != 1 || s.Refused != 1 || s.LastError != "refused" || s.Pending != 0 {
				t.Errorf("stats: %+v", s)
			}
		}
		f.set(nil)
		r.set(nil)
		l.add("a", alertjson.Resolved)
		later(time.Minute)
		f.expect(t, "a resolved again")
		r.expect(t, "2")
	})
}

func TestOneReceiverDoesNotHoldUpAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stuck, f := newMemory(), &fake{block: true}, &fake{}
		b, stop := start(t, l, nil, Config{Name: "stuck", Teller: stuck}, teller(f))
		defer stop()
		later(5 * time.Second)
		l.add("a", alertjson.Firing)
		later(2 * time.Second)
		f.expect(t, "a firing")
		later(time.Minute)
		if s := b.Stats()[0]; s.LastError != "timeout" || s.Pending != 1 {
			t.Errorf("stats: %+v", s)
		}
	})
}

func TestLedgerThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f := newMemory(), &fake{}
		l.fail = errors.New("locked")
		b, stop := start(t, l, nil, teller(f))
		defer stop()
		l.add("a", alertjson.Firing)
		later(time.Minute)
		if s := b.Stats()[0]; s.LastError != "ledger" {
			t.Errorf("stats: %+v", s)
		}
		l.mu.Lock()
		l.fail = nil
		l.mu.Unlock()
		later(2 * time.Minute)
		f.expect(t, "a firing")
		l.mu.Lock()
		l.fail = errors.New("locked")
		l.mu.Unlock()
		later(5 * time.Second)
		l.mu.Lock()
		l.fail = nil
		l.mu.Unlock()
		later(time.Minute)
		if s := b.Stats()[0]; s.LastError != "" {
			t.Errorf("stats afterwards: %+v", s)
		}
	})
}

func TestUnreadableChangeIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f := newMemory(), &fake{}
		b, stop := start(t, l, nil, teller(f))
		defer stop()
		later(5 * time.Second)
		l.changes = append(l.changes, ledger.Alert{Seq: 1, ID: "x", Body: []byte(`{"since": 7}`)})
		l.add("a", alertjson.Firing)
		later(3 * time.Second)
		f.expect(t, "a firing")
		if s := b.Stats()[0]; s.Unreadable != 1 {
			t.Errorf("stats: %+v", s)
		}
	})
}

// Whatever fails and restarts: records get every change once or more, in order;
// people know in the end what is open, and nobody is told of an end without a
// beginning unless nothing could be told meanwhile.
func TestAnyHistory(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			l, people, records := newMemory(), &fake{every: time.Minute}, &fake{}
			configs := []Config{teller(people), {Name: "records", Recorder: records}}
			_, stop := start(t, l, nil, configs...)
			later(5 * time.Second)
			open := make(map[string]bool)
			var recorded []string
			for range rapid.IntRange(1, 30).Draw(rt, "steps") {
				switch rapid.IntRange(0, 5).Draw(rt, "what") {
				case 0:
					stop()
					_, stop = start(t, l, nil, configs...)
				case 1:
					err := rapid.SampledFrom([]error{nil, errors.New("down")}).Draw(rt, "error")
					people.set(err)
					records.set(err)
				default:
					id := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "id")
					state := alertjson.Firing
					if open[id] && rapid.Bool().Draw(rt, "end") {
						state = alertjson.Resolved
					}
					open[id] = state.Open()
					l.add(id, state, excess(rapid.Float64Range(10, 1e4).Draw(rt, "excess")))
				}
				later(time.Duration(rapid.IntRange(0, 300).Draw(rt, "seconds")) * time.Second)
				recorded = append(recorded, records.take()...)
			}
			people.set(nil)
			records.set(nil)
			later(5 * time.Minute)
			recorded = append(recorded, records.take()...)
			stop()
			var want []string
			for id, is := range open {
				if is {
					want = append(want, id)
				}
			}
			slices.Sort(want)
			if diff := cmp.Diff(want, people.open); diff != "" {
				rt.Errorf("open in the end (-want +got):\n%s", diff)
			}
			var all []string
			for i := range l.changes {
				all = append(all, fmt.Sprint(i+1))
			}
			if diff := cmp.Diff(all, slices.Compact(recorded)); diff != "" {
				rt.Errorf("recorded (-want +got):\n%s", diff)
			}
			known := make(map[string]bool)
			for _, message := range people.take() {
				for word := range strings.SplitSeq(message, ", ") {
					f := strings.Fields(word)
					if f[1] == "firing" {
						known[f[0]] = true
					} else if len(f) == 3 && !known[f[0]] {
						rt.Errorf("%s: told as over again, but never as firing", f[0])
					} else {
						known[f[0]] = false
					}
				}
			}
		})
	})
}

// What one look at the outbox costs with many open alerts, all told.
func BenchmarkNews(b *testing.B) {
	d := newDesk(&Config{MinSeverity: alertjson.Ticket, Match: Match{SenderDomains: []string{"*.example"}}}, nil)
	now := time.Now()
	for i := range 1000 {
		a := spf(alertjson.Firing)
		a.ID, a.Incident = fmt.Sprint(i), fmt.Sprint(i)
		d.apply(&a, now, true)
	}
	d.told(d.news(now, false))
	b.ReportAllocs()
	for b.Loop() {
		if n := d.news(now, false); len(n.Items) != 0 || len(n.Open) != 1000 {
			b.Fatal(len(n.Items), len(n.Open))
		}
	}
}
