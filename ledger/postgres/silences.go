package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bouncemeter/bouncemeter/ledger"
)

// Silences returns the silences, the one that ends last first.
func (l *Ledger) Silences(ctx context.Context) ([]ledger.Silence, error) {
	type row struct {
		ledger.Silence
		err error
	}
	rows, err := list(ctx, l, "list silences", func(v [][]byte) row {
		s := row{Silence: ledger.Silence{ID: string(v[0]), Comment: string(v[1]), From: time.Unix(number(v[3]), 0).UTC(), Until: time.Unix(number(v[4]), 0).UTC()}}
		if err := json.Unmarshal(v[2], &s.Labels); err != nil {
			s.err = fmt.Errorf("list silences: the labels of %s: %w", s.ID, err)
		}
		return s
	}, "SELECT id, comment, labels::text, since, until FROM silences ORDER BY until DESC, id LIMIT $1", int64(ledger.MaxSilences))
	var all []ledger.Silence
	for i := range rows {
		if rows[i].err != nil {
			return nil, rows[i].err
		}
		all = append(all, rows[i].Silence)
	}
	return all, err
}

// SetSilence stores a silence in place of the one of the same ID.
func (l *Ledger) SetSilence(ctx context.Context, s *ledger.Silence) error {
	labels, err := json.Marshal(s.Labels)
	if err != nil {
		return fmt.Errorf("store silence %s: %w", s.ID, err)
	}
	return l.write(ctx, "store silence", func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM silences WHERE until < $1", s.From.Add(-ledger.KeepSilences).Unix()); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO silences (id, comment, labels, since, until) VALUES ($1, $2, $3::text::jsonb, $4, $5)
			ON CONFLICT (id) DO UPDATE SET comment = excluded.comment, labels = excluded.labels, since = excluded.since, until = excluded.until`,
			text(s.ID), text(s.Comment), string(labels), s.From.Unix(), s.Until.Unix())
		return err
	})
}
