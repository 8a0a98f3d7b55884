package sqlite

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"github.com/bouncemeter/bouncemeter/internal/failpoint"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/internal/counts"
)

// Lease returns at once unless this process holds one already: the lock on the
// ledger keeps others out. The context it returns ends with ctx, with release,
// and when the ledger is closed.
func (l *Ledger) Lease(ctx context.Context) (lease context.Context, release func(), err error) {
	if l.turn == nil {
		return nil, nil, fmt.Errorf("ledger %s: lease: it is open for reading only", l.path)
	}
	select {
	case <-l.closing: // the holder may not have released it yet
		return nil, nil, fmt.Errorf("ledger %s: lease: %w", l.path, fs.ErrClosed)
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("ledger %s: lease: %w", l.path, ctx.Err())
	case l.leases <- struct{}{}:
	}
	lease, cancel := context.WithCancelCause(ctx)
	l.ending.Store(&cancel)
	release = sync.OnceFunc(func() {
		cancel(context.Canceled)
		l.ending.CompareAndSwap(&cancel, nil)
		<-l.leases
	})
	select {
	case <-l.closing: // Close may not have seen it
		release()
		return nil, nil, fmt.Errorf("ledger %s: lease: %w", l.path, fs.ErrClosed)
	default:
		return lease, release, nil
	}
}

// Detection returns the detector's stored state.
func (l *Ledger) Detection(ctx context.Context) (ledger.Detection, error) {
	var d ledger.Detection
	err := l.read(ctx, "read detection", func(c *conn) error {
		return c.query(ctx, "SELECT position, state FROM detection", func(row []value) error {
			d.Position, _ = row[0].(int64)
			d.State, _ = row[1].([]byte)
			return nil
		})
	})
	return d, err
}

// CommitDetector applies c whole or not at all. An error that wraps
// ledger.ErrConflict is final; after any other the caller may call again with
// the same step: if the first had been applied unseen, the second is recognised
// by its content and reported as done.
func (l *Ledger) CommitDetector(ctx context.Context, c *ledger.DetectorCommit) error {
	digest := c.Digest()
	return l.write(ctx, "commit detection", func(w *conn) error {
		state := c.State
		if state == nil {
			state = []byte{} // nil would be NULL
		}
		changed, err := w.exec("UPDATE detection SET position = ?, state = ?, digest = ?3, updated = ? WHERE position = ? AND digest != ?3",
			c.Position, state, digest[:], c.Now.Unix(), c.Expected)
		if err != nil {
			return err
		}
		if changed == 0 {
			return repeated(w, c.Expected, digest)
		}
		for i := range c.Alerts {
			if err := addAlert(w, &c.Alerts[i]); err != nil {
				return err
			}
		}
		failpoint.DetectionStored.Hit()
		return nil
	})
}

// repeated returns nil if the step with this digest is what was applied last.
func repeated(w *conn, expected int64, digest [32]byte) error {
	var position int64
	var stored []byte
	if err := w.query(context.Background(), "SELECT position, digest FROM detection", func(row []value) error {
		position, _ = row[0].(int64)
		stored, _ = row[1].([]byte)
		return nil
	}); err != nil {
		return err
	}
	if string(stored) == string(digest[:]) {
		return nil
	}
	return fmt.Errorf("%w: detection is at %d, expected %d", ledger.ErrConflict, position, expected)
}

func addAlert(w *conn, a *ledger.Alert) error {
	if _, err := w.exec("UPDATE alert_changes SET latest = 0 WHERE id = ? AND latest = 1", a.ID); err != nil {
		return err
	}
	_, err := w.exec("INSERT INTO alert_changes (id, state, open, latest, rule, time, body) VALUES (?, ?, ?, 1, ?, ?, ?)",
		a.ID, a.State, a.Open, a.Rule, a.Time, string(a.Body))
	return err
}

// Alerts returns the changes of alerts that match f, in order of Seq.
func (l *Ledger) Alerts(ctx context.Context, f ledger.AlertFilter) ([]ledger.Alert, error) {
	if err := counts.CheckAlerts(&f); err != nil {
		return nil, fmt.Errorf("list alerts: %w", err)
	}
	// Only what is asked for, so that the engine finds the index.
	where, args := "WHERE seq > ? AND time < ?", []value{f.After, f.Until}
	if f.Since != 0 {
		where, args = where+" AND time >= ?", append(args, f.Since)
	}
	if f.ID != "" {
		where, args = where+" AND id = ?", append(args, f.ID)
	}
	if f.Latest {
		where += " AND latest = 1"
		if f.Open {
			where += " AND open = 1"
		}
	}
	order := " ORDER BY seq LIMIT ?"
	if f.Newest {
		order = " ORDER BY seq DESC LIMIT ?"
	}
	var all []ledger.Alert
	err := l.read(ctx, "list alerts", func(c *conn) error {
		return c.query(ctx, "SELECT seq, id, state, open, rule, time, body FROM alert_changes "+where+order,
			func(row []value) error {
				var a ledger.Alert
				a.Seq, _ = row[0].(int64)
				a.ID, _ = row[1].(string)
				a.State, _ = row[2].(string)
				a.Open = row[3] == int64(1)
				a.Rule, _ = row[4].(string)
				a.Time, _ = row[5].(int64)
				body, _ := row[6].(string)
				a.Body = []byte(body)
				all = append(all, a)
				return nil
			}, append(args, int64(f.Limit))...)
	})
	if f.Newest {
		slices.Reverse(all)
	}
	return all, err
}

// Notified returns the Seq of the last change that the notifier has delivered;
// zero if there is none.
func (l *Ledger) Notified(ctx context.Context, notifier string) (int64, error) {
	var seq int64
	err := l.read(ctx, "read notifier", func(c *conn) (err error) {
		seq, err = c.integer("SELECT seq FROM notifiers WHERE name = ?", 0, notifier)
		return err
	})
	return seq, err
}

// SetNotified moves the notifier forward to seq, never back.
func (l *Ledger) SetNotified(ctx context.Context, notifier string, seq int64) error {
	return l.write(ctx, "move notifier", func(w *conn) error {
		_, err := w.exec("INSERT INTO notifiers (name, seq) VALUES (?, ?) ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)", notifier, seq)
		return err
	})
}

// deleteAlerts deletes all changes of the alerts that were over before oldest.
func deleteAlerts(w *conn, oldest int64) error {
	_, err := w.exec("DELETE FROM alert_changes WHERE id IN (SELECT id FROM alert_changes WHERE latest = 1 AND open = 0 AND time < ?)", oldest)
	return err
}
