// Package event is the vocabulary every other package speaks: the raw lines
// that sources deliver (Line, Batch, Position) and what became of a delivery
// (Event, Outcome, Reply, Verdict, Category).
//
// It uses the words of RFC 5321 (reply, stage), RFC 3463 (enhanced status
// codes), RFC 3464 (delivery outcome) and Postfix (queue id, relay, deferred),
// and imports nothing but the standard library.
//
// Memory: an Event's byte slices alias the Batch it was parsed from. They are
// valid until that batch is filled again; whoever keeps a value copies it.
package event
