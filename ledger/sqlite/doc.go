// Package sqlite keeps the ledger in one SQLite file: the default, for one
// machine. Anybody can look into it with the sqlite3 tool; migrations/ says
// what each table and column means.
//
// Guarantees: a commit is one transaction in write-ahead-log mode, synced to
// the disk before it is reported as done, and its first statement refuses it
// if the lane is not where the commit was counted from. One process writes (an
// exclusive lock on a file beside the ledger keeps a second one out) through
// one connection; any number of processes read, each query from one snapshot,
// and neither waits for the other.
//
// Counts are written by minute. Once an hour is over, Rollup adds its minutes
// up to hours, and later its hours to days, and deletes a finer grain only when
// its retention is over; until then both exist, so that a query over a day
// need not read its minutes. The table marks says which part of each grain is
// complete, and changes only in the transaction that makes it true. A count
// that comes late is added to every grain that already has its time.
package sqlite
