package app

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/bouncemeter/bouncemeter/internal/config"
	"github.com/bouncemeter/bouncemeter/internal/digest"
	"github.com/bouncemeter/bouncemeter/internal/kafkaclient"
	"github.com/bouncemeter/bouncemeter/ledger/alertjson"
	"github.com/bouncemeter/bouncemeter/sinks/notify"
)

// notifying runs the notifiers of the configuration in force. A reload swaps
// them.
type notifying struct {
	mu      sync.Mutex
	outbox  *notify.Outbox
	release context.CancelFunc // ends what outbox uses
	swapped chan struct{}      // closed when outbox is no longer in force
}

func newNotifying(c *config.Config, l digest.Ledger, log *slog.Logger) (*notifying, error) {
	outbox, release, err := newOutbox(c, l, log)
	if err != nil {
		return nil, err
	}
	return &notifying{outbox: outbox, release: release, swapped: make(chan struct{})}, nil
}

// newOutbox builds the configured notifiers. A new kind of notifier is one case
// here. What it uses ends with release. Digests are made of l.
func newOutbox(c *config.Config, l digest.Ledger, log *slog.Logger) (_ *notify.Outbox, release context.CancelFunc, err error) {
	ctx, release := context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			release()
		}
	}()
	o := notify.Options{Log: log, Digest: func(ctx context.Context, from, until time.Time) (*notify.Letter, error) {
		d, err := digest.Make(ctx, l, from, until)
		if err != nil {
			return nil, err
		}
		return &notify.Letter{Title: d.Title(), Lines: d.Lines()}, nil
	}}
	if c.Silences != "" {
		if o.Silences, err = notify.OpenSilences(c.Silences, log); err != nil {
			return nil, nil, fmt.Errorf("silences: %w", err)
		}
	}
	link := strings.TrimSuffix(c.HTTP.ExternalURL, "/")
	for i := range c.Notify {
		n := &c.Notify[i]
		x := notify.Config{Name: n.Name, Kind: n.Kind, MinSeverity: alertjson.Severity(n.MinSeverity), Match: n.Routing(), Digest: notify.Schedule(n.Digest)}
		switch n.Kind {
		case "alertmanager":
			x.Teller, err = notify.NewAlertmanager(n.Alertmanager(link))
		case "webhook":
			x.Teller, err = notify.NewWebhook(n.Webhook(link))
		case "shoutrrr":
			x.Teller, err = notify.NewShoutrrr(n.Shoutrrr(link))
		case "file":
			x.Recorder, err = notify.NewFile(n.Path)
		case "log":
			x.Recorder = notify.NewLog(log)
		case "kafka":
			var t notify.Topic
			t, err = newTopic(ctx, n.Cluster(), n.Topic)
			x.Recorder = notify.NewKafka(t)
		default:
			err = fmt.Errorf("unknown kind %q", n.Kind)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("notifier %s: %w", n.Name, err)
		}
		o.Notifiers = append(o.Notifiers, x)
	}
	outbox, err := notify.New(o)
	return outbox, release, err
}

// run delivers what l holds until ctx, the lease on l, is done.
func (n *notifying) run(ctx context.Context, l notify.Ledger) error {
	for ctx.Err() == nil {
		n.mu.Lock()
		outbox, swapped := n.outbox, n.swapped
		n.mu.Unlock()
		if err := runUntil(ctx, swapped, func(ctx context.Context) error { return outbox.Run(ctx, l) }); err != nil {
			return err
		}
		select { // an outbox without notifiers returns at once
		case <-swapped:
		case <-ctx.Done():
		}
	}
	return nil
}

// runUntil runs f with a context that also ends when stop is closed.
func runUntil(ctx context.Context, stop <-chan struct{}, f func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	})
	err := f(ctx)
	cancel()
	watching.Wait()
	return err
}

// swap puts another outbox into force. Deliveries of the old one end before it
// begins; what they did not deliver it does.
func (n *notifying) swap(outbox *notify.Outbox, release context.CancelFunc) {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.swapped)
	n.release()
	n.outbox, n.release, n.swapped = outbox, release, make(chan struct{})
}

// close ends what the notifiers use.
func (n *notifying) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.release()
	return nil
}

// stats tells how the notifiers in force fare.
func (n *notifying) stats() []notify.Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.outbox.Stats()
}

// topic is a Kafka topic that alerts are written to.
type topic struct {
	cluster kafkaclient.Config
	writer  *kafka.Writer
}

// newTopic returns the topic of a name. Its connections end with ctx.
func newTopic(ctx context.Context, cluster kafkaclient.Config, name string) (*topic, error) {
	transport, err := cluster.Transport(ctx, name)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, transport.CloseIdleConnections)
	return &topic{cluster, &kafka.Writer{
		Addr: cluster.Addr(), Topic: name, Balancer: kafka.Murmur2Balancer{Consistent: true}, RequiredAcks: kafka.RequireAll,
		BatchSize: 1, MaxAttempts: 1, Transport: transport, // the outbox tries again
	}}, nil
}

// Produce implements notify.Topic.
func (t *topic) Produce(ctx context.Context, key, value []byte) error {
	if err := t.writer.WriteMessages(ctx, kafka.Message{Key: key, Value: value}); err != nil {
		return fmt.Errorf("write to topic %s: %w", t.writer.Topic, t.cluster.Explain(err))
	}
	return nil
}
