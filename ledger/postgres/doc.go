// Package postgres keeps the ledger in a PostgreSQL schema that many instances
// share: for more than one machine. migrations/ says what each table and column
// means; they are those of package sqlite, but that everything that is counted
// has its lane in the key, so that instances never wait for each other's rows.
//
// Guarantees: a commit is one transaction, and its first statement refuses it
// if the lane is not where the commit was counted from. So of two instances
// that read the same lane one goes on and the other gets ledger.ErrConflict,
// whatever was delayed, paused or restarted. A connection that is lost during
// COMMIT leaves the outcome unknown; the repeat finds out by the position.
//
// Commits hold an advisory lock of the schema shared, and the steps of a roll-up
// hold it alone: how far each grain reaches (the table marks) does not change
// between the moment a commit looks and its end. One instance at a time rolls
// up, detects and migrates, each by an advisory lock that the server releases
// when the connection ends.
package postgres
