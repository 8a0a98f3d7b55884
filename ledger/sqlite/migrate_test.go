package sqlite_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/ledgertest"
	"github.com/bouncemeter/bouncemeter/ledger/sqlite"
	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

// TestMigrateVersion1 opens a ledger as the first release wrote it.
func TestMigrateVersion1(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	schema, err := os.ReadFile("migrations/0001_ledger.sql")
	if err != nil {
		t.Fatal(err)
	}
	script(t, path, `PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; BEGIN;`+string(schema)+`
		INSERT INTO schema_versions VALUES (1, 1770000000);
		INSERT INTO lanes (id, source, name, segment, position, read, first, last, updated) VALUES (1, 'mta', 'a', 's', 7, 9, 60, 3660, 5000);
		INSERT INTO series VALUES (1, 'delivered', '', '', 'gmail', 'shop.example', 'mx1.example', 'postfix'),
			(2, 'bounced', 'spf_failed', '', 'gmail', 'shop.example', 'mx1.example', 'postfix');
		INSERT INTO count_minutes VALUES (60, 1, 1, 50, 40), (60, 1, 2, 4, 3), (3660, 1, 1, 10, 9);
		INSERT INTO count_hours VALUES (0, 1, 1, 50, 40), (0, 1, 2, 4, 3);
		UPDATE marks SET at = 3600 WHERE name = 'minutes_summed';
		INSERT INTO entries VALUES (1, 5, x'76');
		COMMIT;`)
	if l, err := sqlite.OpenReadOnly(t.Context(), path, sqlite.Options{}); err == nil {
		_ = l.Close()
		t.Error("a ledger of an old version was opened for reading only")
	}
	l := open(t, path)
	check := func(delivered int64) {
		t.Helper()
		rows, err := l.Query(t.Context(), ledger.Query{By: []ledger.Dimension{ledger.ByOutcome}})
		if err != nil || len(rows) != 2 || rows[0].Attempts != delivered || rows[1].Attempts != 4 || rows[1].Firsts != 3 {
			t.Errorf("counts %+v, %v; want %d delivered, 4 bounced", rows, err, delivered)
		}
	}
	check(60)
	// Its firsts all came in time, as far as anybody knows.
	var windows []ledger.Window
	if err := l.Windows(t.Context(), 0, 7200, func(w *ledger.Window) error { windows = append(windows, *w); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(windows) != 3 || windows[0].Firsts+windows[1].Firsts != 43 || windows[2].Firsts != 9 {
		t.Errorf("windows %+v", windows)
	}
	// It goes on where it was, and with what is new.
	c := ledgertest.NewCommitter(t, l, "a")
	if c.At.Position != (event.Position{Segment: "s", Offset: 7}) {
		t.Errorf("the lane is at %+v", c.At.Position)
	}
	s := &window.Series{Outcome: event.Delivered, SenderDomain: "shop.example", Route: &window.Route{Provider: "gmail", Host: "mx1.example", Stream: "postfix"}}
	c.Commit(&window.Delta{Counts: []window.Count{{Series: s, Start: 60, Attempts: 5, Firsts: 5, Late: 5}}}, nil, nil)
	check(65)
	step := &ledger.DetectorCommit{Position: 3600, State: []byte("s"), Alerts: []ledger.Alert{{ID: "a", State: "firing", Body: []byte("{}")}}, Now: time.Unix(5000, 0)}
	if err := l.CommitDetector(t.Context(), step); err != nil {
		t.Error(err)
	}
	step = &ledger.DetectorCommit{Position: 1, Now: time.Unix(5000, 0)}
	if err := l.CommitDetector(t.Context(), step); !errors.Is(err, ledger.ErrConflict) {
		t.Errorf("a step from a position that is over gave %v", err)
	}
}
