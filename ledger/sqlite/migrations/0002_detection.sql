-- What the detection of spikes needs: how many firsts came too late to be
-- judged, where the detector stands, what its alerts did, and how far each
-- notifier has delivered them.

-- Of firsts, those that came when the lane had already moved on: a detector
-- judges firsts - late, which is the same whenever it looks.
ALTER TABLE count_minutes ADD COLUMN late INTEGER NOT NULL DEFAULT 0;

-- The detector's one row. It moves in the same transaction as its alerts.
CREATE TABLE detection (
  one      INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
  position INTEGER NOT NULL,            -- event time before which all minutes have been judged
  state    BLOB    NOT NULL,            -- what it knew then; opaque here
  digest   BLOB    NOT NULL,            -- of the step that led here: tells a repeat of it
  updated  INTEGER NOT NULL             -- wall clock of that step
) STRICT;
INSERT INTO detection (one, position, state, digest, updated) VALUES (1, 0, x'', x'', 0);

-- Each change of each alert, never altered: what notifiers deliver in order.
CREATE TABLE alert_changes (
  seq    INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, -- counts up, never used again
  id     TEXT    NOT NULL,              -- of the alert, the same from firing to its end
  state  TEXT    NOT NULL,              -- firing, resolved …
  open   INTEGER NOT NULL,              -- 1 while the alert is not over
  latest INTEGER NOT NULL,              -- 1 for the last change of the alert
  rule   TEXT    NOT NULL,
  time   INTEGER NOT NULL,              -- event time of the change
  body   TEXT    NOT NULL               -- the whole alert then, as JSON
) STRICT;
CREATE INDEX alert_changes_by_id ON alert_changes (id, seq);
CREATE INDEX alert_changes_by_time ON alert_changes (time);
CREATE INDEX alert_changes_latest ON alert_changes (open, seq) WHERE latest = 1;

-- How far each notifier has delivered the changes.
CREATE TABLE notifiers (
  name TEXT    NOT NULL PRIMARY KEY,
  seq  INTEGER NOT NULL                 -- alert_changes.seq of the last one delivered
) STRICT, WITHOUT ROWID;

-- Every alert as it is now, the latest change first.
CREATE VIEW alerts AS
  SELECT id, rule, state, open,
         datetime((SELECT min(f.time) FROM alert_changes AS f WHERE f.id = c.id), 'unixepoch') AS first,
         datetime(time, 'unixepoch') AS last, body
  FROM alert_changes AS c WHERE latest = 1 ORDER BY seq DESC;
