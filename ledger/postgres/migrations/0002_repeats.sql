-- Events that were told again, known by their ids, and not counted again.
ALTER TABLE lanes ADD COLUMN repeated bigint NOT NULL DEFAULT 0;
