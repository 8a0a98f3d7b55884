-- Silences that people made on the page: alerts that nobody is told of for a
-- while.
CREATE TABLE silences (
  id      TEXT    NOT NULL PRIMARY KEY,
  comment TEXT    NOT NULL,             -- why and who
  labels  TEXT    NOT NULL,             -- those that an alert has to have, as a JSON object
  since   INTEGER NOT NULL,             -- wall clock
  until   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
