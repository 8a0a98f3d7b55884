// Package notify tells people and other programs of alerts.
//
// The ledger holds every change of every alert in an order: an outbox. For each
// notifier the ledger also knows the last change that has been delivered. One
// goroutine per notifier reads what comes after, delivers it and moves on, so a
// receiver that is down, a crash or a restart delays what is told but loses
// nothing, and one receiver cannot hold up another. What was delivered right
// before a crash may be delivered again.
//
// There are two styles of notifiers:
//
//   - Records (file, log, Kafka) get every change as it is stored, in order.
//   - News (Alertmanager, webhook, chat, mail) is for people. They are told when
//     an alert begins, gets worse and ends; not of alerts that another one
//     explains, that a silence covers, or that are long over. After an outage
//     they get what is news by then, in one message.
//
// Where things are: courier.go delivers, news.go decides what is news, silence.go
// and match.go say for whom; digest.go is about the regular letter; template.go
// and text.go make texts of alerts and the texts of remote servers harmless; there
// is one file per kind of receiver.
package notify

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/alertjson"
)

// Ledger is the part of the ledger that notifiers need; see
// pipeline.AlertLedger.
type Ledger interface {
	Alerts(ctx context.Context, f ledger.AlertFilter) ([]ledger.Alert, error)
	Detection(ctx context.Context) (ledger.Detection, error)
	Notified(ctx context.Context, notifier string) (int64, error)
	SetNotified(ctx context.Context, notifier string, seq int64) error
	Silences(ctx context.Context) ([]ledger.Silence, error)
}

// Recorder is a receiver of every change. It is used by one goroutine.
type Recorder interface {
	// Record returns nil once all changes are durable at the receiver. After an
	// error it is called again with the same changes, and perhaps more.
	Record(ctx context.Context, changes []ledger.Alert) error
}

// Teller is a receiver of news for people. It is used by one goroutine.
type Teller interface {
	// Tell returns nil once the receiver has the news. An error made by Refused
	// means that it never will have them; any other is tried again, then with
	// what is news by that time.
	Tell(ctx context.Context, n *News) error
	// Every is how often Tell is called even without news while alerts are
	// open; zero means never.
	Every() time.Duration
}

// News is what there is to tell.
type News struct {
	// Items have begun, got worse or ended since they were told last: open ones
	// first, the most severe first.
	Items []Item
	// Open are all alerts that the receiver knows as open, or will after this,
	// by ID.
	Open []Item
	Now  time.Time
}

// Item is one alert as it is now.
type Item struct {
	alertjson.Alert
	// Again is true if it has been told before that the alert fires.
	Again bool
}

// Config is one notifier.
type Config struct {
	// Name under which the ledger remembers how far it is; unique. A notifier of
	// a new name starts now: with the alerts that are open.
	Name string
	Kind string // for metrics and messages
	// MinSeverity and Match say which alerts it is for; the zero values take all.
	MinSeverity alertjson.Severity
	Match       Match
	// Digest says how often a Teller that is a Writer is told what got worse, what
	// got better and what is new.
	Digest Schedule
	// Exactly one of these is set.
	Recorder Recorder
	Teller   Teller
}

// Options is what an Outbox works with.
type Options struct {
	Notifiers []Config
	// Silences may be nil.
	Silences *Silences
	// Digest makes the digest of a time; its ID is set afterwards. Without it none
	// is told.
	Digest func(ctx context.Context, from, until time.Time) (*Letter, error)
	Log    *slog.Logger
}

// Outbox delivers to all notifiers.
type Outbox struct{ couriers []*courier }

// New returns an outbox. It fails if a notifier has no name, or one that another
// has.
func New(o Options) (*Outbox, error) {
	b := &Outbox{}
	seen := make(map[string]bool)
	for _, c := range o.Notifiers {
		if c.Name == "" || seen[c.Name] || (c.Recorder == nil) == (c.Teller == nil) {
			return nil, fmt.Errorf("notifier %q: each needs a name of its own and one receiver", c.Name)
		}
		seen[c.Name] = true
		b.couriers = append(b.couriers, newCourier(c, o))
	}
	return b, nil
}

// Run delivers what l holds until ctx is done, and returns nil. Only the process
// that holds the lease may call it.
func (b *Outbox) Run(ctx context.Context, l Ledger) error {
	var g errgroup.Group
	for _, c := range b.couriers {
		g.Go(func() error { c.run(ctx, l); return nil })
	}
	return g.Wait()
}

// Stats returns how each notifier fares, in the order of the configuration.
func (b *Outbox) Stats() []Stats {
	all := make([]Stats, 0, len(b.couriers))
	for _, c := range b.couriers {
		all = append(all, c.snapshot())
	}
	return all
}
