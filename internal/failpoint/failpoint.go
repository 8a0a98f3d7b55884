// Package failpoint names the steps on the way of a line into the ledger at
// which a test can end the process, as kill -9 would. Only programs built with
// the tag failpoint do; in all others Hit is empty and the compiler leaves
// nothing of it.
//
// FAILPOINT=N@NAME ends the process the Nth time that it comes to the
// step of this name, after a line on standard error that says so.
package failpoint

// Point is a step. Its value says what has just been done.
type Point string

// The steps of a lane, in order: package pipeline.
const (
	LaneOpened     Point = "pipeline: lane opened"
	BatchRead      Point = "pipeline: batch read"
	BatchJoined    Point = "pipeline: batch counted in memory"
	CommitPrepared Point = "pipeline: commit prepared"
	RecordsFlushed Point = "pipeline: records flushed"
	CommitStored   Point = "pipeline: commit stored, the lane not told"
	SinksTold      Point = "pipeline: sinks told"
	LaneReleased   Point = "pipeline: lane released what it held"
	LaneStopping   Point = "pipeline: told to stop, last commit to come"
)

// The steps of a commit: package ledger/sqlite.
const (
	TransactionBegun     Point = "ledger: transaction begun"
	PositionMoved        Point = "ledger: position moved"
	CountsAdded          Point = "ledger: counts added"
	DomainsAdded         Point = "ledger: recipient domains added"
	DelaysAdded          Point = "ledger: delays added"
	TemplatesAdded       Point = "ledger: wordings added"
	EntriesChanged       Point = "ledger: queue ids changed"
	TransactionCommitted Point = "ledger: transaction committed, nobody told"
	RolledUp             Point = "ledger: a step of the roll-up done, not committed"
	DetectionStored      Point = "ledger: detector's step done, not committed"
)

// The steps of sources and sinks that keep something on disk.
const (
	LogLeft        Point = "sources/tail: a log read to its end and left"
	LogFound       Point = "sources/tail: a log found by its content"
	RecordsWritten Point = "sinks/file: records written, not synced"
	RecordsSynced  Point = "sinks/file: records synced"
	RecordsRotated Point = "sinks/file: file of records rotated"
	SpoolWritten   Point = "sources/spool: records written, not synced"
	SpoolSynced    Point = "sources/spool: records synced, the sender not told"
	SpoolReleased  Point = "sources/spool: a segment that was counted deleted"
)
