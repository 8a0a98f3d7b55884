-- The ledger of bouncemeter: how far each lane has been read, and what was
-- counted up to there. All times are Unix seconds; a count's start is the
-- beginning of its minute, hour or day of event time (UTC), never the time of
-- reading.
--
-- Counts are kept at several grains at once. The table marks says from where
-- to where each grain is complete. Do not add the tables up yourself: the view
-- attempts has everything exactly once.

-- One row for each migration that was applied; the greatest is the version of
-- this schema.
CREATE TABLE schema_versions (
  version INTEGER NOT NULL PRIMARY KEY,
  applied INTEGER NOT NULL              -- when
) STRICT;

-- A lane is one ordered stream of lines: a log file and its successors, a
-- partition of a topic. Its row moves in the same transaction as its counts.
CREATE TABLE lanes (
  id        INTEGER NOT NULL PRIMARY KEY,
  source    TEXT    NOT NULL,           -- the source's name in the configuration
  name      TEXT    NOT NULL,           -- unique within the source: a path, topic/partition
  segment   TEXT    NOT NULL DEFAULT '',-- what position counts in: a file's fingerprint; empty for a partition
  position  INTEGER NOT NULL DEFAULT 0, -- first byte or record that has not been read
  read      INTEGER NOT NULL DEFAULT 0, -- lines, all of them
  malformed INTEGER NOT NULL DEFAULT 0, -- lines that should have been a record but could not be read
  truncated INTEGER NOT NULL DEFAULT 0, -- lines longer than the limit
  probes    INTEGER NOT NULL DEFAULT 0, -- address probes, which are no attempts
  rejected  INTEGER NOT NULL DEFAULT 0, -- clients that our own server refused
  lost      INTEGER NOT NULL DEFAULT 0, -- bytes that were gone before they could be read
  unmatched INTEGER NOT NULL DEFAULT 0, -- attempts whose sender no earlier line told
  evicted   INTEGER NOT NULL DEFAULT 0, -- queue ids forgotten because the limit was reached
  folded    INTEGER NOT NULL DEFAULT 0, -- attempts whose domain was folded into (other)
  future    INTEGER NOT NULL DEFAULT 0, -- events dated ahead of the clock
  first     INTEGER NOT NULL DEFAULT 0, -- earliest event; 0 if there was none yet
  last      INTEGER NOT NULL DEFAULT 0, -- latest event
  updated   INTEGER NOT NULL DEFAULT 0, -- wall clock of the last commit
  UNIQUE (source, name)
) STRICT;

-- A series is one combination of the dimensions that are counted by. Rows are
-- never changed or deleted.
CREATE TABLE series (
  id            INTEGER NOT NULL PRIMARY KEY,
  outcome       TEXT NOT NULL,          -- delivered, deferred, bounced, expired …
  category      TEXT NOT NULL,          -- why it failed; empty if delivered
  secondary     TEXT NOT NULL,          -- for expired: what kept it in the queue
  provider      TEXT NOT NULL,          -- who answered: gmail, microsoft …
  sender_domain TEXT NOT NULL,          -- empty for the null sender
  host          TEXT NOT NULL,          -- the sending MTA
  stream        TEXT NOT NULL,          -- its instance or tag
  UNIQUE (sender_domain, provider, category, outcome, secondary, host, stream)
) STRICT;

-- How far each grain of the counts reaches:
--   minutes_from    count_minutes has everything from here on
--   minutes_summed  count_hours has everything before this
--   hours_from      … and from here on
--   hours_summed    count_days has everything before this
--   days_from       … and from here on; what is older is in count_totals
CREATE TABLE marks (
  name TEXT    NOT NULL PRIMARY KEY,
  at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO marks (name, at) VALUES
  ('minutes_from', 0), ('minutes_summed', 0), ('hours_from', 0), ('hours_summed', 0), ('days_from', 0);

-- Attempts: each try to deliver one message to one recipient (for expired:
-- messages given up). Firsts: those that were the first outcome of their
-- recipient, retries left out.
CREATE TABLE count_minutes (
  start    INTEGER NOT NULL,
  lane     INTEGER NOT NULL,            -- lanes.id
  series   INTEGER NOT NULL,            -- series.id
  attempts INTEGER NOT NULL,
  firsts   INTEGER NOT NULL,
  PRIMARY KEY (start, lane, series)
) STRICT, WITHOUT ROWID;

CREATE TABLE count_hours (
  start    INTEGER NOT NULL,
  lane     INTEGER NOT NULL,
  series   INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  firsts   INTEGER NOT NULL,
  PRIMARY KEY (start, lane, series)
) STRICT, WITHOUT ROWID;

CREATE TABLE count_days (
  start    INTEGER NOT NULL,
  lane     INTEGER NOT NULL,
  series   INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  firsts   INTEGER NOT NULL,
  PRIMARY KEY (start, lane, series)
) STRICT, WITHOUT ROWID;

-- What has left the last grain, without a time: start is always 0.
CREATE TABLE count_totals (
  start    INTEGER NOT NULL CHECK (start = 0),
  lane     INTEGER NOT NULL,
  series   INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  firsts   INTEGER NOT NULL,
  PRIMARY KEY (start, lane, series)
) STRICT, WITHOUT ROWID;

-- The pairs of outcome and category that recipient domains are counted by.
CREATE TABLE kinds (
  id       INTEGER NOT NULL PRIMARY KEY,
  outcome  TEXT NOT NULL,
  category TEXT NOT NULL,
  UNIQUE (outcome, category)
) STRICT;

-- Attempts per recipient domain: by hour, later moved to days, then dropped.
CREATE TABLE domain_hours (
  start    INTEGER NOT NULL,
  domain   TEXT    NOT NULL,
  kind     INTEGER NOT NULL,            -- kinds.id
  attempts INTEGER NOT NULL,
  PRIMARY KEY (start, domain, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE domain_days (
  start    INTEGER NOT NULL,
  domain   TEXT    NOT NULL,
  kind     INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  PRIMARY KEY (start, domain, kind)
) STRICT, WITHOUT ROWID;

-- How long attempts took: by hour, later moved to days, then to start 0. Each
-- column counts the attempts that took longer than the column before it says
-- and no longer than its own name says; over counts the rest.
CREATE TABLE delay_hours (
  start    INTEGER NOT NULL,
  provider TEXT    NOT NULL,
  outcome  TEXT    NOT NULL,
  s1 INTEGER NOT NULL, s2_5 INTEGER NOT NULL, s5 INTEGER NOT NULL, s10 INTEGER NOT NULL,
  s30 INTEGER NOT NULL, m1 INTEGER NOT NULL, m5 INTEGER NOT NULL, m15 INTEGER NOT NULL,
  h1 INTEGER NOT NULL, h4 INTEGER NOT NULL, h12 INTEGER NOT NULL, d1 INTEGER NOT NULL,
  d2 INTEGER NOT NULL, d5 INTEGER NOT NULL, over INTEGER NOT NULL,
  micros   INTEGER NOT NULL,            -- the sum of all delays, in microseconds
  PRIMARY KEY (start, provider, outcome)
) STRICT, WITHOUT ROWID;

CREATE TABLE delay_days (
  start    INTEGER NOT NULL,
  provider TEXT    NOT NULL,
  outcome  TEXT    NOT NULL,
  s1 INTEGER NOT NULL, s2_5 INTEGER NOT NULL, s5 INTEGER NOT NULL, s10 INTEGER NOT NULL,
  s30 INTEGER NOT NULL, m1 INTEGER NOT NULL, m5 INTEGER NOT NULL, m15 INTEGER NOT NULL,
  h1 INTEGER NOT NULL, h4 INTEGER NOT NULL, h12 INTEGER NOT NULL, d1 INTEGER NOT NULL,
  d2 INTEGER NOT NULL, d5 INTEGER NOT NULL, over INTEGER NOT NULL,
  micros   INTEGER NOT NULL,
  PRIMARY KEY (start, provider, outcome)
) STRICT, WITHOUT ROWID;

-- The wordings of failures, one row for each as its variable parts are masked.
CREATE TABLE templates (
  category TEXT    NOT NULL,
  provider TEXT    NOT NULL,
  hash     INTEGER NOT NULL,            -- identifies the masked wording
  rule     TEXT    NOT NULL,            -- the rule that decided the category last
  text     TEXT    NOT NULL,            -- the first sample seen, redacted
  attempts INTEGER NOT NULL,
  first    INTEGER NOT NULL,
  last     INTEGER NOT NULL,
  PRIMARY KEY (category, provider, hash)
) STRICT;

-- Correlation: what is known of the queue ids that are still alive.
CREATE TABLE entries (
  lane  INTEGER NOT NULL,
  key   INTEGER NOT NULL,               -- hash of host, instance and queue id
  value BLOB    NOT NULL,               -- opaque here
  PRIMARY KEY (lane, key)
) STRICT, WITHOUT ROWID;

-- Every attempt exactly once, at the grain that it is complete at: minutes for
-- the last hours, then hours, then days, then without a time. Its sums are the
-- exact totals.
CREATE VIEW attempts AS
  SELECT datetime(c.start, 'unixepoch') AS time, c.start, c.span, l.source, l.name AS lane,
         s.outcome, s.category, s.secondary, s.provider, s.sender_domain, s.host, s.stream,
         c.attempts, c.firsts
  FROM (
    SELECT start, 60 AS span, lane, series, attempts, firsts FROM count_minutes
      WHERE start >= (SELECT at FROM marks WHERE name = 'minutes_summed')
    UNION ALL
    SELECT start, 3600, lane, series, attempts, firsts FROM count_hours
      WHERE start >= (SELECT at FROM marks WHERE name = 'hours_summed')
    UNION ALL
    SELECT start, 86400, lane, series, attempts, firsts FROM count_days
      WHERE start >= (SELECT at FROM marks WHERE name = 'days_from')
    UNION ALL
    SELECT start, 0, lane, series, attempts, firsts FROM count_totals
  ) AS c JOIN series AS s ON s.id = c.series JOIN lanes AS l ON l.id = c.lane;

-- The attempts of the last days by minute.
CREATE VIEW attempts_by_minute AS
  SELECT datetime(c.start, 'unixepoch') AS time, c.start, l.source, l.name AS lane,
         s.outcome, s.category, s.secondary, s.provider, s.sender_domain, s.host, s.stream,
         c.attempts, c.firsts
  FROM count_minutes AS c JOIN series AS s ON s.id = c.series JOIN lanes AS l ON l.id = c.lane
  WHERE c.start >= (SELECT at FROM marks WHERE name = 'minutes_from');

-- The attempts of the last weeks by hour, the current one included.
CREATE VIEW attempts_by_hour AS
  SELECT datetime(c.start, 'unixepoch') AS time, c.start, l.source, l.name AS lane,
         s.outcome, s.category, s.secondary, s.provider, s.sender_domain, s.host, s.stream,
         c.attempts, c.firsts
  FROM (
    SELECT start, lane, series, attempts, firsts FROM count_hours
      WHERE start >= (SELECT at FROM marks WHERE name = 'hours_from')
    UNION ALL
    SELECT start - start % 3600, lane, series, attempts, firsts FROM count_minutes
      WHERE start >= (SELECT at FROM marks WHERE name = 'minutes_summed')
  ) AS c JOIN series AS s ON s.id = c.series JOIN lanes AS l ON l.id = c.lane;

-- Attempts per recipient domain.
CREATE VIEW recipient_domains AS
  SELECT datetime(d.start, 'unixepoch') AS time, d.start, d.span, d.domain, k.outcome, k.category, d.attempts
  FROM (
    SELECT start, 3600 AS span, domain, kind, attempts FROM domain_hours
    UNION ALL
    SELECT start, 86400, domain, kind, attempts FROM domain_days
  ) AS d JOIN kinds AS k ON k.id = d.kind;

-- How long attempts took.
CREATE VIEW delays AS
  SELECT datetime(start, 'unixepoch') AS time, 3600 AS span, * FROM delay_hours
  UNION ALL
  SELECT datetime(start, 'unixepoch'), iif(start = 0, 0, 86400), * FROM delay_days;

-- The wordings of failures with readable times.
CREATE VIEW wordings AS
  SELECT category, provider, attempts, datetime(first, 'unixepoch') AS first, datetime(last, 'unixepoch') AS last,
         rule, text, printf('%016x', hash) AS hash
  FROM templates;
