package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/internal/counts"
)

// Detection returns the detector's stored state.
func (l *Ledger) Detection(ctx context.Context) (ledger.Detection, error) {
	var d ledger.Detection
	err := l.read(ctx, "read detection", func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, "SELECT position, state FROM detection").Scan(&d.Position, &d.State)
	})
	return d, err
}

// CommitDetector applies c whole or not at all. An error that wraps
// ledger.ErrConflict is final; after any other the caller may call again with
// the same step: if the first had been applied unseen, the second is recognised
// by its content and reported as done.
func (l *Ledger) CommitDetector(ctx context.Context, c *ledger.DetectorCommit) error {
	digest := c.Digest()
	state := c.State
	if state == nil {
		state = []byte{} // nil would be NULL
	}
	return l.write(ctx, "commit detection", func(ctx context.Context, tx pgx.Tx) error {
		// Whoever gets the row first goes first, so that changes can be seen in
		// the order of their seq.
		moved, err := tx.Exec(ctx, "UPDATE detection SET position = $1, state = $2, digest = $3, updated = $4 WHERE position = $5 AND digest != $3",
			c.Position, state, digest[:], c.Now.Unix(), c.Expected)
		if err != nil {
			return err
		}
		if moved.RowsAffected() == 0 {
			var position int64
			var stored []byte
			err := tx.QueryRow(ctx, "SELECT position, digest FROM detection").Scan(&position, &stored)
			switch {
			case err != nil && !errors.Is(err, pgx.ErrNoRows):
				return err
			case err == nil && bytes.Equal(stored, digest[:]):
				return nil
			}
			return fmt.Errorf("%w: detection is at %d, expected %d", ledger.ErrConflict, position, c.Expected)
		}
		b := &pgx.Batch{}
		for i := range c.Alerts {
			a := &c.Alerts[i]
			body := a.Body
			if body == nil {
				body = []byte{}
			}
			b.Queue("UPDATE alert_changes SET latest = false WHERE id = $1 AND latest", text(a.ID))
			b.Queue("INSERT INTO alert_changes (id, state, open, latest, rule, time, body) VALUES ($1, $2, $3, true, $4, $5, $6)",
				text(a.ID), text(a.State), a.Open, text(a.Rule), a.Time, body)
		}
		return tx.SendBatch(ctx, b).Close()
	})
}

// Alerts returns the changes of alerts that match f, in order of Seq.
func (l *Ledger) Alerts(ctx context.Context, f ledger.AlertFilter) ([]ledger.Alert, error) {
	if err := counts.CheckAlerts(&f); err != nil {
		return nil, fmt.Errorf("list alerts: %w", err)
	}
	// Only what is asked for, so that the server finds the index.
	where, args := "WHERE seq > $1 AND time < $2", []any{f.After, f.Until}
	and := func(condition string, arg any) {
		args = append(args, arg)
		where += " AND " + condition + " $" + strconv.Itoa(len(args))
	}
	if f.Since != 0 {
		and("time >=", f.Since)
	}
	if f.ID != "" {
		and("id =", text(f.ID))
	}
	if f.Latest {
		where += " AND latest"
		if f.Open {
			where += " AND open"
		}
	}
	order := " ORDER BY seq"
	if f.Newest {
		order = " ORDER BY seq DESC"
	}
	args = append(args, int64(f.Limit))
	all, err := list(ctx, l, "list alerts", func(v [][]byte) ledger.Alert {
		return ledger.Alert{
			Seq: number(v[0]), ID: string(v[1]), State: string(v[2]), Open: v[3][0] != 0,
			Rule: string(v[4]), Time: number(v[5]), Body: bytes.Clone(v[6]),
		}
	}, "SELECT seq, id, state, open, rule, time, body FROM alert_changes "+where+order+" LIMIT $"+strconv.Itoa(len(args)), args...)
	if f.Newest {
		slices.Reverse(all)
	}
	return all, err
}

// Notified returns the Seq of the last change that the notifier has delivered;
// zero if there is none.
func (l *Ledger) Notified(ctx context.Context, notifier string) (int64, error) {
	seqs, err := list(ctx, l, "read notifier", func(v [][]byte) int64 { return number(v[0]) }, "SELECT seq FROM notifiers WHERE name = $1", text(notifier))
	if err != nil || len(seqs) == 0 {
		return 0, err
	}
	return seqs[0], nil
}

// SetNotified moves the notifier forward to seq, never back.
func (l *Ledger) SetNotified(ctx context.Context, notifier string, seq int64) error {
	return l.write(ctx, "move notifier", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO notifiers AS n (name, seq) VALUES ($1, $2)
			ON CONFLICT (name) DO UPDATE SET seq = greatest(n.seq, excluded.seq)`, text(notifier), seq)
		return err
	})
}
