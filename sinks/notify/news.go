package notify

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/alertjson"
)

// known is what a notifier knows of one alert.
type known struct {
	now  alertjson.Alert
	told *alertjson.Alert // as it was told last; nil if it was not told
	// owed is true if there was something to tell that has not been told: the
	// receiver was down. Even what is over by then is told.
	owed bool
}

// desk decides what is news for one notifier. Its state follows from the changes
// it was given, and from what it told.
type desk struct {
	minSeverity alertjson.Severity
	match       Match
	silences    *Silences
	made        []ledger.Silence // on the page

	alerts map[string]*known // by ID; what is over and told, or not to be told, is dropped
}

func newDesk(c *Config, s *Silences) *desk {
	return &desk{minSeverity: c.MinSeverity, match: c.Match, silences: s, alerts: make(map[string]*known)}
}

// giveUp is how long what is over may wait to be told.
const giveUp = 24 * time.Hour

// apply takes in the change of an alert to a. If live, what is worth telling is
// owed from now on.
func (d *desk) apply(a *alertjson.Alert, now time.Time, live bool) {
	k := d.alerts[a.ID]
	if k == nil {
		k = &known{}
		d.alerts[a.ID] = k
	}
	k.now = *a
	if live && d.worth(k, now) {
		k.owed = true
	}
	if !a.State.Open() && k.told == nil && !k.owed {
		delete(d.alerts, a.ID)
	}
	// What this one explains is not owed any more.
	for _, part := range d.alerts {
		if part.owed && part.now.State.Open() && part.now.Incident == a.ID && d.explained(&part.now) {
			part.owed = false
		}
	}
}

// recall takes in a change that has been dealt with before a restart: if it was
// worth telling then it was told.
func (d *desk) recall(a *alertjson.Alert) {
	d.apply(a, a.Updated, false)
	k := d.alerts[a.ID]
	switch {
	case k == nil:
	case !a.State.Open():
		delete(d.alerts, a.ID)
	case d.worth(k, a.Updated):
		k.told = a
	}
}

// worth reports whether the alert as it is should be told at the time given.
func (d *desk) worth(k *known, now time.Time) bool {
	a := &k.now
	if !a.State.Open() {
		return (k.told != nil || k.owed) && !d.silenced(a, now)
	}
	return a.Severity.Rank() >= d.minSeverity.Rank() && d.match.Matches(a) && d.newer(k) && !d.explained(a) && !d.silenced(a, now)
}

// silenced reports whether people are not to be told of a at the time given.
func (d *desk) silenced(a *alertjson.Alert, now time.Time) bool {
	return d.silences.covers(a, now) || slices.ContainsFunc(d.made, func(s ledger.Silence) bool { return s.Covers(now, a.Rule, a.Category, a.Labels) })
}

// newer reports whether an open alert is news compared with what was told: it is
// more severe, came back, or there are many more failures. That it persists, or
// that nothing has been sent for a while, is none.
func (d *desk) newer(k *known) bool {
	old, a := k.told, &k.now
	return old == nil || a.Severity.Rank() > old.Severity.Rank() || a.Flaps > old.Flaps || a.Excess >= 4*old.Excess+10
}

// explained reports whether another open alert, which the same receiver is told
// of, explains this one.
func (d *desk) explained(a *alertjson.Alert) bool {
	if !a.Inhibited || a.Incident == a.ID {
		return false
	}
	incident, ok := d.alerts[a.Incident]
	return ok && incident.now.State.Open() && incident.now.Severity.Rank() >= d.minSeverity.Rank() && d.match.Matches(&incident.now)
}

// news returns what there is to tell. With quiet nothing is told, only what is
// open.
func (d *desk) news(now time.Time, quiet bool) *News {
	n := &News{Now: now}
	for _, id := range slices.Sorted(maps.Keys(d.alerts)) {
		k := d.alerts[id]
		item := Item{Alert: k.now, Again: k.told != nil}
		tell := !quiet && d.worth(k, now)
		if !k.now.State.Open() && (!tell || now.Sub(k.now.Resolved) > giveUp) {
			if quiet {
				continue
			}
			delete(d.alerts, id)
			continue
		}
		if tell {
			n.Items = append(n.Items, item)
		}
		if k.now.State.Open() && (tell || k.told != nil) {
			n.Open = append(n.Open, item)
		}
	}
	slices.SortStableFunc(n.Items, func(a, b Item) int {
		return cmp.Or(order(a.State.Open(), b.State.Open()), cmp.Compare(b.Severity.Rank(), a.Severity.Rank()), a.Since.Compare(b.Since))
	})
	return n
}

// order puts true before false.
func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// told notes that the receiver has the news, or never will.
func (d *desk) told(n *News) {
	for i := range n.Items {
		a := &n.Items[i].Alert
		if !a.State.Open() {
			delete(d.alerts, a.ID)
			continue
		}
		k := d.alerts[a.ID]
		k.told, k.owed = a, false
	}
}
