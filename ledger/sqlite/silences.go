package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/bouncemeter/bouncemeter/ledger"
)

// Silences returns the silences, the one that ends last first.
func (l *Ledger) Silences(ctx context.Context) ([]ledger.Silence, error) {
	var all []ledger.Silence
	err := l.read(ctx, "list silences", func(c *conn) error {
		return c.query(ctx, "SELECT id, comment, labels, since, until FROM silences ORDER BY until DESC, id LIMIT ?", func(row []value) error {
			var s ledger.Silence
			s.ID, _ = row[0].(string)
			s.Comment, _ = row[1].(string)
			labels, _ := row[2].(string)
			since, _ := row[3].(int64)
			until, _ := row[4].(int64)
			s.From, s.Until = time.Unix(since, 0).UTC(), time.Unix(until, 0).UTC()
			if err := json.Unmarshal([]byte(labels), &s.Labels); err != nil {
				return fmt.Errorf("the labels of silence %s: %w", s.ID, err)
			}
			all = append(all, s)
			return nil
		}, int64(ledger.MaxSilences))
	})
	return all, err
}

// SetSilence stores a silence in place of the one of the same ID.
func (l *Ledger) SetSilence(ctx context.Context, s *ledger.Silence) error {
	labels, err := json.Marshal(s.Labels)
	if err != nil {
		return fmt.Errorf("store silence %s: %w", s.ID, err)
	}
	return l.write(ctx, "store silence", func(w *conn) error {
		if _, err := w.exec("DELETE FROM silences WHERE until < ?", s.From.Add(-ledger.KeepSilences).Unix()); err != nil {
			return err
		}
		_, err := w.exec("INSERT OR REPLACE INTO silences (id, comment, labels, since, until) VALUES (?, ?, ?, ?, ?)",
			s.ID, s.Comment, string(labels), s.From.Unix(), s.Until.Unix())
		return err
	})
}
