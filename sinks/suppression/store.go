package suppression

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// schemaVersion is PRAGMA user_version.
const schemaVersion = 1

const schema = `
CREATE TABLE IF NOT EXISTS recipients (
  address    TEXT PRIMARY KEY,
  listed     INTEGER NOT NULL,  -- 1 if it is on the list
  reason     TEXT NOT NULL,     -- a category, or complaint
  failures   INTEGER NOT NULL,  -- since the last delivery, 16 at the most
  first      INTEGER NOT NULL,  -- of those, microseconds since 1970; 0 is never
  last       INTEGER NOT NULL,
  code       INTEGER NOT NULL,  -- of the last failure; 0 if there is none
  enhanced   TEXT NOT NULL,
  text       TEXT NOT NULL,
  complained INTEGER NOT NULL,  -- when it last did
  delivered  INTEGER NOT NULL,  -- the last delivery that is known
  removed    INTEGER NOT NULL,  -- when somebody took it off the list
  times      TEXT NOT NULL,     -- of the failures, a JSON array
  updated    INTEGER NOT NULL,  -- wall clock, Unix seconds
  changed    INTEGER NOT NULL,  -- numbers changes that are to be published; 0 is none
  published  INTEGER NOT NULL   -- 1 if others have been told that it is listed
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS recipients_changed ON recipients (changed) WHERE changed > 0;
CREATE TABLE IF NOT EXISTS target (name TEXT NOT NULL);  -- where changes are published
CREATE VIEW IF NOT EXISTS suppressed AS
  SELECT address, iif(complained > 0, 'complaint', reason) AS reason, failures,
    iif(first > 0, strftime('%Y-%m-%dT%H:%M:%SZ', first / 1000000, 'unixepoch'), '') AS first,
    strftime('%Y-%m-%dT%H:%M:%SZ', max(last, complained) / 1000000, 'unixepoch') AS last,
    code, enhanced, text
  FROM recipients WHERE listed;
`

const (
	// forgetAfter is for how long nothing has to be heard of a recipient that is
	// not on the list until its failures are forgotten.
	forgetAfter = inARow
	// withdrawnFor is for how long it is remembered that one had left the list, so
	// that older failures that come late, or again, do not list it anew.
	withdrawnFor = 31 * 24 * time.Hour
)

// store keeps the states of recipients.
type store struct {
	path  string
	limit int // Config.Failures
	db    *sql.DB
	// seq is the greatest number in changed; one transaction at a time uses it.
	seq int64
}

func connect(path, more string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, OmitHost: true}).String()+"?_txlock=immediate&_pragma=busy_timeout(5000)"+more)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

func openStore(path string, limit int, sync bool) (*store, error) {
	// Addresses are nobody else's business; SQLite makes its other files alike.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open the suppression list: %w; make its folder writable for the daemon's user", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("open the suppression list: %w", err)
	}
	mode := "FULL"
	if !sync {
		mode = "OFF"
	}
	db, err := connect(path, "&_pragma=journal_mode(WAL)&_pragma=synchronous("+mode+")")
	if err != nil {
		return nil, fmt.Errorf("open the suppression list %s: %w", path, err)
	}
	s := &store{path: path, limit: limit, db: db}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(s.fault("open", err), db.Close())
	}
	return s, nil
}

func (s *store) prepare() error {
	var version int
	if err := s.db.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > schemaVersion {
		return fmt.Errorf("a newer bouncemeter has made it (version %d)", version)
	}
	if _, err := s.db.Exec(schema + fmt.Sprintf("PRAGMA user_version = %d", schemaVersion)); err != nil {
		return err
	}
	if err := s.db.QueryRow("SELECT coalesce(max(changed), 0) FROM recipients").Scan(&s.seq); err != nil {
		return err
	}
	// The limit may have been changed.
	const listed = "(complained > 0 OR failures >= ?1)"
	s.seq++
	_, err := s.db.Exec("UPDATE recipients SET listed = "+listed+", changed = ?2 WHERE listed != "+listed, s.limit, s.seq)
	return err
}

func (s *store) close() error { return s.db.Close() }

func (s *store) fault(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s the suppression list %s: %w", doing, s.path, err)
}

// others returns a number that is another one once another program has changed
// the database.
func (s *store) others(ctx context.Context) (version int64, err error) {
	err = s.db.QueryRowContext(ctx, "PRAGMA data_version").Scan(&version)
	return version, s.fault("read", err)
}

// aim says where changes are published: where they were before, or, and then the
// whole list is a change, somewhere else.
func (s *store) aim(target string) error {
	var name string
	err := s.db.QueryRow("SELECT name FROM target").Scan(&name)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return s.fault("read", err)
	}
	if name == target {
		return nil
	}
	s.seq++
	tx, err := s.db.Begin()
	if err != nil {
		return s.fault("write", err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	if _, err = tx.Exec("DELETE FROM target"); err == nil {
		_, err = tx.Exec("INSERT INTO target VALUES (?)", target)
	}
	if err == nil {
		_, err = tx.Exec("UPDATE recipients SET published = 0, changed = iif(listed, ?, 0)", s.seq)
	}
	if err == nil {
		err = tx.Commit()
	}
	return s.fault("write", err)
}

// forget deletes what has been heard of too long ago, but nothing that is listed,
// or that others believe to be listed.
func (s *store) forget(now time.Time) error {
	_, err := s.db.Exec("DELETE FROM recipients WHERE NOT listed AND NOT published AND updated < iif(failures > 0, ?, ?)",
		now.Add(-forgetAfter).Unix(), now.Add(-withdrawnFor).Unix())
	return s.fault("clear", err)
}

// addresses yields the addresses of all recipients.
func (s *store) addresses(yield func([]byte)) error {
	rows, err := s.db.Query("SELECT address FROM recipients")
	if err != nil {
		return s.fault("read", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var address sql.RawBytes
		if err := rows.Scan(&address); err != nil {
			return s.fault("read", err)
		}
		yield(address)
	}
	return s.fault("read", rows.Err())
}

// add adds what was told of recipients, and reports whether the list may have
// changed.
func (s *store) add(ctx context.Context, told map[string]*state, now time.Time) (changed bool, err error) {
	defer func() { err = s.fault("write", err) }()
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	for address, news := range told {
		var old row
		err := old.scan(tx.QueryRowContext(ctx, "SELECT "+rowColumns+" FROM recipients WHERE address = ?", address))
		unknown := errors.Is(err, sql.ErrNoRows)
		if err != nil && !unknown {
			return false, err
		}
		is := old
		is.join(news)
		if is.equal(&old.state) || unknown && len(is.failed) == 0 && is.complained == 0 {
			continue
		}
		is.listed = is.state.listed(s.limit)
		if is.listed || old.listed {
			s.seq++
			is.changed, changed = s.seq, true
		}
		if err := is.put(ctx, tx, address, now); err != nil {
			return false, err
		}
	}
	return changed, tx.Commit()
}

// row is a recipient as it is stored.
type row struct {
	state
	listed, published bool
	changed           int64
}

// rowColumns are what scan reads.
const rowColumns = "reason, last, code, enhanced, text, complained, delivered, removed, times, listed, published, changed"

func (r *row) scan(from *sql.Row) error {
	var times []byte
	err := from.Scan(&r.last.reason, &r.last.at, &r.last.code, &r.last.enhanced, &r.last.text, &r.complained, &r.delivered, &r.removed, &times, &r.listed, &r.published, &r.changed)
	if err != nil {
		return err
	}
	return json.Unmarshal(times, &r.failed)
}

func (r *row) put(ctx context.Context, tx *sql.Tx, address string, now time.Time) error {
	var first int64
	if len(r.failed) > 0 {
		first = r.failed[0]
	}
	times, err := json.Marshal(append([]int64{}, r.failed...))
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT OR REPLACE INTO recipients VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		address, r.listed, r.last.reason, len(r.failed), first, r.last.at, r.last.code, r.last.enhanced, r.last.text,
		r.complained, r.delivered, r.removed, string(times), now.Unix(), r.changed, r.published)
	return err
}

// change is an entry that was added or changed, or that has left the list.
type change struct {
	number int64
	listed bool
	entry  Entry
}

// changes returns the first changes that have not been published.
func (s *store) changes(ctx context.Context, limit int) (all []change, err error) {
	rows, err := s.db.QueryContext(ctx, "SELECT changed, listed, "+entryColumns+" FROM recipients WHERE changed > 0 ORDER BY changed LIMIT ?", limit)
	if err != nil {
		return nil, s.fault("read", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var c change
		if err := c.entry.scan(rows, &c.number, &c.listed); err != nil {
			return nil, s.fault("read", err)
		}
		all = append(all, c)
	}
	return all, s.fault("read", rows.Err())
}

// published notes that others know of changes. What has changed again meanwhile
// is still to be published.
func (s *store) published(ctx context.Context, all []change) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return s.fault("write", err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	for i := range all {
		c := &all[i]
		if _, err := tx.ExecContext(ctx, "UPDATE recipients SET published = ?1, changed = iif(changed = ?2, 0, changed) WHERE address = ?3",
			c.listed, c.number, c.entry.Address); err != nil {
			return s.fault("write", err)
		}
	}
	return s.fault("write", tx.Commit())
}

// Remove takes addresses off the list in the database at path, whatever they were
// listed for; what happens from now on counts. It returns those that were not on
// it. The daemon may be running, and publishes it.
func Remove(ctx context.Context, path string, addresses []string, now time.Time) (missing []string, err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, notThere(path)
	}
	db, err := connect(path, "&mode=rw")
	if err != nil {
		return nil, fmt.Errorf("open the suppression list %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	s := &store{path: path, limit: MostFailures, db: db}
	if err := db.QueryRowContext(ctx, "SELECT coalesce(max(changed), 0) FROM recipients").Scan(&s.seq); err != nil {
		return nil, s.fault("read", err)
	}
	told := make(map[string]*state)
	for _, a := range addresses {
		address := string(appendLower(nil, []byte(a)))
		var listed bool
		err := db.QueryRowContext(ctx, "SELECT listed FROM recipients WHERE address = ?", address).Scan(&listed)
		switch {
		case errors.Is(err, sql.ErrNoRows), err == nil && !listed:
			missing = append(missing, a)
		case err != nil:
			return nil, s.fault("read", err)
		default:
			told[address] = &state{removed: now.UnixMicro()}
		}
	}
	_, err = s.add(ctx, told, now)
	return missing, err
}

func notThere(path string) error {
	return fmt.Errorf("open the suppression list %s: %w; name the path of the sink of kind suppression", path, fs.ErrNotExist)
}

// Read yields the list in the database at path, in order of addresses. The daemon
// may be running.
func Read(ctx context.Context, path string, yield func(*Entry) error) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return notThere(path)
	}
	db, err := connect(path, "&mode=ro")
	if err != nil {
		return fmt.Errorf("open the suppression list %s: %w", path, err)
	}
	s := &store{path: path, db: db}
	return errors.Join(s.list(ctx, yield), db.Close())
}

// list yields the list in order of addresses.
func (s *store) list(ctx context.Context, yield func(*Entry) error) error {
	rows, err := s.db.QueryContext(ctx, "SELECT "+entryColumns+" FROM recipients WHERE listed ORDER BY address")
	if err != nil {
		return s.fault("read", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var e Entry
		if err := e.scan(rows); err != nil {
			return s.fault("read", err)
		}
		if err := yield(&e); err != nil {
			return err
		}
	}
	return s.fault("read", rows.Err())
}
