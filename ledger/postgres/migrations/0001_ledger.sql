-- The ledger of bouncemeter: how far each lane has been read, and what was
-- counted up to there. All times are Unix seconds; a count's start is the
-- beginning of its minute, hour or day of event time (UTC), never the time of
-- reading.
--
-- Counts are kept at several grains at once. The table marks says from where
-- to where each grain is complete. Do not add the tables up yourself: the view
-- attempts has everything exactly once.

-- A lane is one ordered stream of lines: a partition of a topic, a log file and
-- its successors. Its row moves in the same transaction as its counts.
CREATE TABLE lanes (
  id        integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  source    text   COLLATE "C" NOT NULL, -- the source's name in the configuration
  name      text   COLLATE "C" NOT NULL, -- unique within the source: topic/partition, a path
  segment   bytea  NOT NULL DEFAULT '',  -- what position counts in: a file's fingerprint; empty for a partition
  position  bigint NOT NULL DEFAULT 0,   -- first byte or record that has not been read
  read      bigint NOT NULL DEFAULT 0,   -- lines, all of them
  malformed bigint NOT NULL DEFAULT 0,   -- lines that should have been a record but could not be read
  truncated bigint NOT NULL DEFAULT 0,   -- lines longer than the limit
  probes    bigint NOT NULL DEFAULT 0,   -- address probes, which are no attempts
  rejected  bigint NOT NULL DEFAULT 0,   -- clients that our own server refused
  lost      bigint NOT NULL DEFAULT 0,   -- bytes that were gone before they could be read
  unmatched bigint NOT NULL DEFAULT 0,   -- attempts whose sender no earlier line told
  evicted   bigint NOT NULL DEFAULT 0,   -- queue ids forgotten because the limit was reached
  folded    bigint NOT NULL DEFAULT 0,   -- attempts whose domain was folded into (other)
  future    bigint NOT NULL DEFAULT 0,   -- events dated ahead of the clock
  first     bigint NOT NULL DEFAULT 0,   -- earliest event; 0 if there was none yet
  last      bigint NOT NULL DEFAULT 0,   -- latest event
  updated   bigint NOT NULL DEFAULT 0,   -- wall clock of the last commit
  UNIQUE (source, name)
) WITH (fillfactor = 50);

-- A series is one combination of the dimensions that are counted by. Rows are
-- never changed or deleted, and their ids count up without gaps.
CREATE TABLE series (
  id            integer PRIMARY KEY,
  outcome       text COLLATE "C" NOT NULL, -- delivered, deferred, bounced, expired …
  category      text COLLATE "C" NOT NULL, -- why it failed; empty if delivered
  secondary     text COLLATE "C" NOT NULL, -- for expired: what kept it in the queue
  provider      text COLLATE "C" NOT NULL, -- who answered: gmail, microsoft …
  sender_domain text COLLATE "C" NOT NULL, -- empty for the null sender
  host          text COLLATE "C" NOT NULL, -- the sending MTA
  stream        text COLLATE "C" NOT NULL, -- its instance or tag
  UNIQUE (sender_domain, provider, category, outcome, secondary, host, stream)
);

-- How far each grain of the counts reaches:
--   minutes_from    count_minutes has everything from here on
--   minutes_summed  count_hours has everything before this
--   hours_from      … and from here on
--   hours_summed    count_days has everything before this
--   days_from       … and from here on; what is older is in count_totals
CREATE TABLE marks (
  name text   COLLATE "C" PRIMARY KEY,
  at   bigint NOT NULL
);
INSERT INTO marks (name, at) VALUES
  ('minutes_from', 0), ('minutes_summed', 0), ('hours_from', 0), ('hours_summed', 0), ('days_from', 0);

-- Attempts: each try to deliver one message to one recipient (for expired:
-- messages given up). Firsts: those that were the first outcome of their
-- recipient, retries left out. Late: of these, those that came when the lane had
-- already moved on; a detector judges firsts - late. Each commit updates the
-- rows of the current minute, so pages keep room for that.
CREATE TABLE count_minutes (
  start    bigint  NOT NULL,
  lane     integer NOT NULL,             -- lanes.id
  series   integer NOT NULL,             -- series.id
  attempts bigint  NOT NULL,
  firsts   bigint  NOT NULL,
  late     bigint  NOT NULL,
  PRIMARY KEY (start, lane, series)
) WITH (fillfactor = 70);

CREATE TABLE count_hours (
  start    bigint  NOT NULL,
  lane     integer NOT NULL,
  series   integer NOT NULL,
  attempts bigint  NOT NULL,
  firsts   bigint  NOT NULL,
  PRIMARY KEY (start, lane, series)
);

CREATE TABLE count_days (
  start    bigint  NOT NULL,
  lane     integer NOT NULL,
  series   integer NOT NULL,
  attempts bigint  NOT NULL,
  firsts   bigint  NOT NULL,
  PRIMARY KEY (start, lane, series)
);

-- What has left the last grain, without a time: start is always 0.
CREATE TABLE count_totals (
  start    bigint  NOT NULL CHECK (start = 0),
  lane     integer NOT NULL,
  series   integer NOT NULL,
  attempts bigint  NOT NULL,
  firsts   bigint  NOT NULL,
  PRIMARY KEY (start, lane, series)
);

-- Attempts per recipient domain: by hour, later moved to days, then dropped.
CREATE TABLE domain_hours (
  start    bigint  NOT NULL,
  lane     integer NOT NULL,
  domain   text    COLLATE "C" NOT NULL,
  outcome  text    COLLATE "C" NOT NULL,
  category text    COLLATE "C" NOT NULL,
  attempts bigint  NOT NULL,
  PRIMARY KEY (start, lane, domain, outcome, category)
) WITH (fillfactor = 70);

CREATE TABLE domain_days (LIKE domain_hours INCLUDING INDEXES);

-- How long attempts took: by hour, later moved to days, then to start 0. Each
-- column counts the attempts that took longer than the column before it says
-- and no longer than its own name says; over counts the rest.
CREATE TABLE delay_hours (
  start    bigint  NOT NULL,
  lane     integer NOT NULL,
  provider text    COLLATE "C" NOT NULL,
  outcome  text    COLLATE "C" NOT NULL,
  s1 bigint NOT NULL, s2_5 bigint NOT NULL, s5 bigint NOT NULL, s10 bigint NOT NULL,
  s30 bigint NOT NULL, m1 bigint NOT NULL, m5 bigint NOT NULL, m15 bigint NOT NULL,
  h1 bigint NOT NULL, h4 bigint NOT NULL, h12 bigint NOT NULL, d1 bigint NOT NULL,
  d2 bigint NOT NULL, d5 bigint NOT NULL, over bigint NOT NULL,
  micros   bigint  NOT NULL,             -- the sum of all delays, in microseconds
  PRIMARY KEY (start, lane, provider, outcome)
) WITH (fillfactor = 50);

CREATE TABLE delay_days (LIKE delay_hours INCLUDING INDEXES);

-- The wordings of failures, one row for each as its variable parts are masked,
-- and how often each lane saw them.
CREATE TABLE templates (
  category text   COLLATE "C" NOT NULL,
  provider text   COLLATE "C" NOT NULL,
  hash     bigint NOT NULL,              -- identifies the masked wording
  rule     text   COLLATE "C" NOT NULL,  -- the rule that decided the category last
  text     text   COLLATE "C" NOT NULL,  -- the first sample seen, redacted
  PRIMARY KEY (category, provider, hash)
);

CREATE TABLE template_counts (
  category text    COLLATE "C" NOT NULL,
  provider text    COLLATE "C" NOT NULL,
  hash     bigint  NOT NULL,
  lane     integer NOT NULL,
  attempts bigint  NOT NULL,
  first    bigint  NOT NULL,
  last     bigint  NOT NULL,
  PRIMARY KEY (category, provider, hash, lane)
) WITH (fillfactor = 70);

-- Correlation: what is known of the queue ids that are still alive.
CREATE TABLE entries (
  lane  integer NOT NULL,
  key   bigint  NOT NULL,                -- hash of host, instance and queue id
  value bytea   NOT NULL,                -- opaque here
  PRIMARY KEY (lane, key)
);

-- The detector's one row. It moves in the same transaction as its alerts.
CREATE TABLE detection (
  one      integer PRIMARY KEY CHECK (one = 1),
  position bigint NOT NULL,              -- event time before which all minutes have been judged
  state    bytea  NOT NULL,              -- what it knew then; opaque here
  digest   bytea  NOT NULL,              -- of the step that led here: tells a repeat of it
  updated  bigint NOT NULL               -- wall clock of that step
);
INSERT INTO detection (one, position, state, digest, updated) VALUES (1, 0, '', '', 0);

-- Each change of each alert, never altered: what notifiers deliver in order.
CREATE TABLE alert_changes (
  seq    bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- counts up, never used again
  id     text    COLLATE "C" NOT NULL,   -- of the alert, the same from firing to its end
  state  text    COLLATE "C" NOT NULL,   -- firing, resolved …
  open   boolean NOT NULL,               -- while the alert is not over
  latest boolean NOT NULL,               -- the last change of the alert
  rule   text    COLLATE "C" NOT NULL,
  time   bigint  NOT NULL,               -- event time of the change
  body   bytea   NOT NULL                -- the whole alert then, as JSON
);
CREATE INDEX alert_changes_by_id ON alert_changes (id, seq);
CREATE INDEX alert_changes_by_time ON alert_changes (time);
CREATE INDEX alert_changes_latest ON alert_changes (open, seq) WHERE latest;

-- How far each notifier has delivered the changes.
CREATE TABLE notifiers (
  name text   COLLATE "C" PRIMARY KEY,
  seq  bigint NOT NULL                   -- alert_changes.seq of the last one delivered
);

-- Every attempt exactly once, at the grain that it is complete at: minutes for
-- the last hours, then hours, then days, then without a time. Its sums are the
-- exact totals.
CREATE VIEW attempts AS
  SELECT to_timestamp(c.start) AS time, c.start, c.span, l.source, l.name AS lane,
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
  SELECT to_timestamp(c.start) AS time, c.start, l.source, l.name AS lane,
         s.outcome, s.category, s.secondary, s.provider, s.sender_domain, s.host, s.stream,
         c.attempts, c.firsts
  FROM count_minutes AS c JOIN series AS s ON s.id = c.series JOIN lanes AS l ON l.id = c.lane
  WHERE c.start >= (SELECT at FROM marks WHERE name = 'minutes_from');

-- The attempts of the last weeks by hour, the current one included.
CREATE VIEW attempts_by_hour AS
  SELECT to_timestamp(c.start) AS time, c.start, l.source, l.name AS lane,
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
  SELECT to_timestamp(start) AS time, start, span, domain, outcome, category, sum(attempts)::bigint AS attempts
  FROM (
    SELECT start, 3600 AS span, domain, outcome, category, attempts FROM domain_hours
    UNION ALL
    SELECT start, 86400, domain, outcome, category, attempts FROM domain_days
  ) AS d GROUP BY start, span, domain, outcome, category;

-- How long attempts took, for each lane.
CREATE VIEW delays AS
  SELECT to_timestamp(start) AS time, 3600 AS span, * FROM delay_hours
  UNION ALL
  SELECT to_timestamp(start), CASE start WHEN 0 THEN 0 ELSE 86400 END, * FROM delay_days;

-- The wordings of failures with readable times.
CREATE VIEW wordings AS
  SELECT t.category, t.provider, sum(c.attempts)::bigint AS attempts,
         to_timestamp(min(c.first)) AS first, to_timestamp(max(c.last)) AS last, t.rule, t.text, to_hex(t.hash) AS hash
  FROM templates AS t JOIN template_counts AS c USING (category, provider, hash)
  GROUP BY t.category, t.provider, t.hash;

-- Every alert as it is now, the latest change first.
CREATE VIEW alerts AS
  SELECT id, rule, state, open,
         to_timestamp((SELECT min(f.time) FROM alert_changes AS f WHERE f.id = c.id)) AS first,
         to_timestamp(time) AS last, convert_from(body, 'UTF8')::json AS body
  FROM alert_changes AS c WHERE latest ORDER BY seq DESC;
