package main

// fault is a row of the table: what may happen, what is promised then, how it was
// tried.
type fault struct {
	name    string
	promise string
	// loses is what is lost by nature, and how that is counted; empty if nothing.
	loses string
	how   string
	tests []string // package/Test
}

var faults = []fault{
	{
		name:    "kill -9 at any step",
		promise: "Position and counts move in one transaction: the lines after the last commit are read again, their counts were not stored. Records come again with the same ids.",
		how:     "The program, built with failpoints at every step from the log to the ledger, kills itself at each of them (internal/failpoint) while its log grows and rotates; also at random moments.",
		tests:   []string{"test/faults/TestKillPoints", "test/faults/TestEveryFailpointIsTried", "test/faults/TestNoFailpointsInTheProgram", "test/crash/TestCountsAreExactAfterCrashes", "ledger/sqlite/TestKill"},
	},
	{
		name:    "kill -9 while events or syslog come in",
		promise: "What was acknowledged is on disk and counts once; what was not is sent again.",
		how:     "Four providers send over HTTP until they are answered, some events twice; syslog over TCP and a socket.",
		tests:   []string{"test/faults/TestKillPointsOfASpool", "test/crash/TestReceivedEventsCountOnceAfterCrashes", "test/crash/TestReceivedSyslogCountsOnceAfterCrashes"},
	},
	{
		name:    "power loss",
		promise: "Commits are synced. Should the disk have lied about the end of the write-ahead log, the log is read again from the last commit that is whole.",
		how:     "The write-ahead log is cut at a random byte after each of many kills, where it has not been moved into the ledger's file yet.",
		tests:   []string{"test/faults/TestPowerLoss"},
	},
	{
		name:    "rotation by rename, compressed, with dates, while stopped",
		promise: "Every line once, whatever the rotated files are called and how they are compressed.",
		how:     "The real logrotate every second while 50,000 lines a second are written, the daemon stopped during one of the rotations; a model test of all kinds in any order.",
		tests:   []string{"test/faults/TestLogrotateUnderLoad", "sources/tail/TestModel", "sources/tail/TestCompressedKnownFileIsNotReadAgain", "sources/tail/TestLateWriteToLeftFileIsCounted"},
	},
	{
		name:    "rotation by copytruncate",
		promise: "The rest is read from the copy; no line counts twice.",
		loses:   "what is written between the end of the copy and the truncation is in no file any more; it is lost by logrotate, unless it had been read. bouncemeter counts bytes that it saw and could not read any more.",
		how:     "The real logrotate every second while 50,000 lines a second are written.",
		tests:   []string{"test/faults/TestCopytruncateUnderLoad", "sources/tail/TestCopytruncateWhileWriting", "sources/tail/TestTruncationWithoutCopyIsCounted"},
	},
	{
		name:    "an inode that is used again",
		promise: "A file is known by its content; the inode is a hint.",
		how:     "Logs are made until one has the inode of that which was read before.",
		tests:   []string{"test/faults/TestReusedInode", "sources/tail/TestReusedInodeIsNoIdentity", "sources/tail/TestSameHeadInTwoFiles"},
	},
	{
		name:    "half a line at the end",
		promise: "A line counts when its end has come, or its file is finished.",
		how:     "Lines are written in halves, with kills in between.",
		tests:   []string{"test/faults/TestPartialLastLine", "sources/tail/TestUnfinishedLineOfFinishedFileCounts"},
	},
	{
		name:    "a line without end",
		promise: "Its first 64 KiB are kept, it counts as truncated, memory stays as it is.",
		how:     "A gigabyte without a line feed, with the data of the process limited.",
		tests:   []string{"test/faults/TestEndlessLine"},
	},
	{
		name:    "holes of NUL bytes, bytes that are no UTF-8",
		promise: "Holes are no lines; what is shown is UTF-8.",
		how:     "A sparse hole within a log, and broken UTF-8 in replies and domains; pages, API and metrics are checked.",
		tests:   []string{"test/faults/TestOddBytes", "sources/tail/TestOddBytes", "sources/tail/TestHoleAfterTruncationUnderWriter"},
	},
	{
		name:    "the ledger's disk is full or read-only",
		promise: "Reading stops, /-/ready says why, nothing is half written; it goes on by itself.",
		how:     "A small tmpfs that is enlarged later, with a kill while it is full; then mounted read-only.",
		tests:   []string{"test/faults/TestDiskOfTheLedger", "ledger/sqlite/TestFullFileSystem", "ledger/sqlite/TestFullDisk"},
	},
	{
		name:    "a damaged ledger",
		promise: "It is refused with the remedy, or reads as before; it is never started over.",
		loses:   "SQLite has no checksums of pages. Closing the ledger notes one of the whole file, so whatever happens to it while no daemon runs is found. After a kill there is none: a changed byte within a number is not seen then. Keep ledgers on disks that check themselves, and backups.",
		how:     "Single bytes at random places are changed; pages are overwritten.",
		tests:   []string{"test/faults/TestDamagedLedger", "ledger/sqlite/TestSumOfAClosedLedger", "ledger/sqlite/TestDamage", "ledger/sqlite/TestDamageMet", "test/faults/TestRefusals"},
	},
	{
		name:    "a second daemon on the same ledger",
		promise: "It is refused, with the process id of the first.",
		how:     "Two are started.",
		tests:   []string{"test/faults/TestRefusals", "ledger/sqlite/TestLock"},
	},
	{
		name:    "the clock jumps",
		promise: "Counts are by the time in the log. Records dated more than five minutes ahead of the clock count as of now and in bouncemeter_future_events_total.",
		how:     "The program is built with a clock that jumps while it reads (libfaketime does nothing for Go programs).",
		tests:   []string{"test/faults/TestClockJumps", "pipeline/TestAWrongClockMovesNothing"},
	},
	{
		name:    "late lines, lines out of order",
		promise: "They count in their own minute. Detection leaves out what comes later than limits.lateness.",
		how:     "A log shuffled over a day and by seconds.",
		tests:   []string{"test/faults/TestShuffledLines"},
	},
	{
		name:    "lines that cannot be read",
		promise: "Counted, kept as dead letters with their place, and nothing waits for them; of an array the other records count.",
		how:     "Every hundredth line is noise, cut or says nothing; records of Kafka that cannot be decoded; an odd event among a thousand, by HTTP, Kafka and file.",
		tests:   []string{"test/faults/TestPoisonLines", "sources/kafka/TestDamagedBatchIsSkippedAndCounted", "internal/app/TestAnOddEventOfAnArray", "sources/dialect/TestOddRecords"},
	},
	{
		name:    "Kafka: brokers restart, leaders move, the group is shared out anew",
		promise: "The ledger owns the positions; a partition that another took is no longer committed.",
		how:     "A simulated cluster with faults, and a real Apache Kafka.",
		tests:   []string{"sources/kafka/TestClusterGoesAndComes", "sources/kafka/TestLeadersMove", "sources/kafka/TestGroupSharesPartitionsAndLosesNothing", "sources/kafka/TestWatchdog", "sources/kafka/TestLostCoordinatorAndHeartbeats", "sources/kafka/TestServer", "test/kafkatest/TestServerStartsAgain"},
	},
	{
		name:    "many instances on one PostgreSQL: kills, a zombie, both servers crash",
		promise: "A commit applies only where the lane is as it was read; whoever comes late changes nothing and starts over.",
		how:     "Three programs in one group on a real PostgreSQL and a real Kafka: killed, stopped by SIGSTOP until another has taken over and then woken, the servers crashed.",
		tests:   []string{"test/cluster/TestServerChaos", "test/cluster/TestServerOutage"},
	},
	{
		name:    "what is received is not counted for long",
		promise: "What may wait is bounded. Beyond it providers are answered 503, mail servers 452, connections of syslog wait and datagrams are dropped and counted.",
		how:     "Spools and Maildirs that are full, before and after a restart, until something is counted.",
		tests:   []string{"sources/webhook/TestFullSpool", "sources/syslog/TestFullSpool", "sources/spool/TestFull", "sources/smtp/TestFullMaildir", "sources/smtp/TestRoomMadeByHand", "sources/smtp/TestFullDisk"},
	},
	{
		name:    "a sink of records is down or slow",
		promise: "Nothing counts before its record is kept: the log waits on its disk, memory stays as it is.",
		how:     "The file of records on a full disk, with a kill meanwhile; a Kafka that fails in any way, or is away.",
		tests:   []string{"test/faults/TestSinkDown", "sinks/kafka/TestNothingIsLost", "sinks/kafka/TestNoBrokers", "pipeline/TestRecordsAreDurableBeforeTheLedgerMoves"},
	},
	{
		name:    "a receiver of alerts is down",
		promise: "Alerts wait in the ledger; counting and the other receivers go on.",
		how:     "An hour in virtual time, also over a restart; real Alertmanagers that forget, are down and come back.",
		tests:   []string{"sinks/notify/TestOutage", "sinks/notify/TestOutageOverRestart", "sinks/notify/TestOneReceiverDoesNotHoldUpAnother", "test/alertmanager/TestLifeOfAlerts"},
	},
	{
		name:    "SIGTERM while a sink or the ledger hangs",
		promise: "It ends within 10 seconds; what was not taken is counted after the next start.",
		how:     "Records into a pipe that nobody reads; a ledger that fails.",
		tests:   []string{"test/faults/TestStopWithAHungSink", "pipeline/TestStopWithAFailingLedger"},
	},
	{
		name:    "a new configuration with mistakes",
		promise: "The old one stays whole; every mistake is told with its place.",
		how:     "SIGHUP with a missing file, an unknown key, a change that takes a restart.",
		tests:   []string{"test/faults/TestReload"},
	},
	{
		name:    "millions of domains",
		promise: "Names are bounded, what is beyond is folded into (other), totals are exact, memory is bounded.",
		how:     "Five million messages, each with a random sender and recipient domain of its own; a million messages in the queue.",
		tests:   []string{"test/faults/TestRandomDomains", "test/memory/TestMillionQueueIDs"},
	},
	{
		name:    "hostile replies",
		promise: "Text of strangers is text everywhere: escaped in pages, terminals, messages and labels, and cannot fake a field.",
		how:     "A table of payloads in every field of every place that shows text; all parsers are fuzzed.",
		tests:   []string{"cmd/bouncemeter/TestHostile", "sinks/notify/TestHostileMessage"},
	},
	{
		name:    "huge or deeply nested JSON",
		promise: "Malformed, in no more memory than others.",
		how:     "A million brackets, ten thousand levels, strings of 100 MiB, by log and by HTTP.",
		tests:   []string{"test/faults/TestHugeJSON", "sources/webhook/TestBoundsOfBodies"},
	},
	{
		name:    "decompression bombs",
		promise: "Memory is bounded; what asks for more is refused and counted as lost.",
		how:     "Ten gigabytes of zeros by gzip, as much of one letter by zstd, a zstd window of 512 MiB, a dictionary of xz; a stop in the middle.",
		tests:   []string{"test/faults/TestBombs", "sources/tail/TestXzWithHugeDictionaryIsRefused"},
	},
	{
		name:    "a long time under load",
		promise: "Memory, goroutines and descriptors stay as they are; counts are exact.",
		how:     "100,000 lines a second, or what the machine gives, with rotations, a stop and a kill.",
		tests:   []string{"test/faults/TestSoak"},
	},
	{
		name:    "a log that is missing or may not be read",
		promise: "Said once a minute at the most, tried again; other logs go on.",
		how:     "A folder that is made later, a folder in place of a file.",
		tests:   []string{"test/faults/TestUnreadableAndMissingLogs", "sources/tail/TestNothingIsDecidedWhileAFileIsUnreadable"},
	},
}

// notes end the page.
const notes = `
**Holds**: nothing was lost, repeated or miscounted. **As told**: what is lost is
what the second column says. **Skipped**: a server that the row needs was not there.
`
