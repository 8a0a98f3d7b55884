-- Silences that people made on the page: alerts that nobody is told of for a
-- while.
CREATE TABLE silences (
  id      text   COLLATE "C" PRIMARY KEY,
  comment text   NOT NULL,              -- why and who
  labels  jsonb  NOT NULL,              -- those that an alert has to have
  since   bigint NOT NULL,              -- wall clock
  until   bigint NOT NULL
);
