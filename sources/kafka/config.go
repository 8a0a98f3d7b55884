package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/bouncemeter/bouncemeter/internal/kafkaclient"
)

// Where to begin in a partition that was never read before.
const (
	Beginning = "beginning"
	End       = "end"
)

// Where to go on if a lane's position is not in its partition.
const (
	Earliest = "earliest"
	Latest   = "latest"
)

// Fail stops the source; see Config.OutOfRange and Config.Damaged.
const Fail = "fail"

// Skip goes on after what cannot be read; see Config.Damaged.
const Skip = "skip"

// Which records are read of transactions.
const (
	ReadCommitted   = "read_committed"
	ReadUncommitted = "read_uncommitted"
)

// Config says what to read from a Kafka cluster. The zero value of a field
// means its default, but for the brokers and the topics.
type Config struct {
	kafkaclient.Config `yaml:",inline"`

	// Topics to read, by name. One that does not exist is waited for.
	Topics []string `yaml:"topics"`
	// Pattern also reads every topic whose name matches it, as understood by
	// path.Match: * is any run of characters, ? any one. Topics that appear
	// later are read from then on; those whose names begin with two underscores
	// are the cluster's own and never match.
	Pattern string `yaml:"pattern"`
	// Group is the consumer group whose members share the partitions. It must
	// have no other members than bouncemeter. Without it, this process reads
	// the partitions alone; see Partitions.
	Group string `yaml:"group"`
	// Partitions to read of each topic if there is no group; all if none are
	// given. Two processes may not read the same one: the ledger refuses the
	// second.
	Partitions []int32 `yaml:"partitions"`

	// Start is where to begin in a partition that was never read before:
	// Beginning (the default) is its oldest record, End is after its newest. A
	// partition that appears while the daemon runs is read from its beginning
	// either way. Offsets that the group may have committed do not count: the
	// ledger alone knows what has been counted.
	Start string `yaml:"start" enum:",beginning,end"`
	// OutOfRange is where to go on if the next record is not in the partition:
	// it was deleted before it was read, or the topic was made anew, or the
	// cluster lost its end. Earliest (the default) and Latest count what was
	// skipped as lost; Fail stops.
	OutOfRange string `yaml:"out_of_range" enum:",earliest,latest,fail"`
	// Damaged says what to do with a batch of records that cannot be read,
	// such as one with a wrong checksum, after it was fetched several times:
	// Skip (the default) counts its records as lost, Fail stops.
	Damaged string `yaml:"damaged" enum:",skip,fail"`
	// Isolation is ReadCommitted (the default), which leaves out the records of
	// aborted transactions and waits for open ones to end, or ReadUncommitted.
	Isolation string `yaml:"isolation" enum:",read_committed,read_uncommitted"`
	// MaxRecordBytes is how much of a record is kept; longer ones are cut and
	// counted as truncated. Default 64 KiB, at least 256 bytes, at most 16 MiB.
	MaxRecordBytes int `yaml:"max_record_bytes"`

	// FetchBytes is how much is fetched of one partition at a time, as it is on
	// the broker. Default 1 MiB, at least 4 KiB.
	FetchBytes int `yaml:"fetch_bytes"`
	// BufferBytes bounds what waits in memory for all partitions together, as
	// it is on the broker; many partitions fetch less each. Default 64 MiB.
	BufferBytes int `yaml:"buffer_bytes"`
	// MaxBatchBytes is the largest batch of records that is read, both as it is
	// on the broker and decompressed. A larger one is damaged. It should not be
	// less than the brokers' message.max.bytes. Default 64 MiB.
	MaxBatchBytes int `yaml:"max_batch_bytes"`
	// MinBytes is how much a broker collects before it answers while there is
	// no backlog, but for no longer than MaxWait. Default 16 KiB.
	MinBytes int `yaml:"min_bytes"`
	// MaxWait is how long a broker may wait for MinBytes. Default 250ms, at
	// most 5s.
	MaxWait time.Duration `yaml:"max_wait"`
	// RequestTimeout is how long an answer may take beyond MaxWait. Default 10s.
	RequestTimeout time.Duration `yaml:"request_timeout"`
	// StallAfter is how long a partition may have records and deliver none
	// before an error is logged and the connections are made anew. Default 30s.
	StallAfter time.Duration `yaml:"stall_after"`

	// HeartbeatInterval is how often the group's coordinator hears from us, and
	// so how soon we hear of a rebalance. Default 500ms.
	HeartbeatInterval time.Duration `yaml:"heartbeat_interval"`
	// SessionTimeout is how long the group waits for a member that is not heard
	// of. A lane that is taken away has to commit within it. Default 30s, at
	// least 6s (the brokers' group.min.session.timeout.ms).
	SessionTimeout time.Duration `yaml:"session_timeout"`
	// RebalanceTimeout is how long the group waits for its members to give up
	// their partitions. Default 30s.
	RebalanceTimeout time.Duration `yaml:"rebalance_timeout"`
	// CommitInterval is how often the ledger's positions are told to the group,
	// for tools that show its lag. Default 5s.
	CommitInterval time.Duration `yaml:"commit_interval"`

	// Log takes changes of state, and at most one message a minute about each
	// trouble that lasts. Default slog.Default.
	Log *slog.Logger `yaml:"-"`

	// dial replaces the network in tests.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Validate reports all faults at once, each with the field and the remedy. It
// reads the files of certificates and the password, but connects to nobody.
func (c *Config) Validate() error {
	var faults []error
	fault := func(format string, values ...any) { faults = append(faults, fmt.Errorf(format, values...)) }
	if err := c.Check(); err != nil {
		faults = append(faults, err)
	}
	if len(c.Topics) == 0 && c.Pattern == "" {
		fault("topics: none given; name the topics to read, or set a pattern")
	}
	for i, topic := range c.Topics {
		if !isTopic(topic) {
			fault("topics[%d]: %q is not the name of a topic: up to 249 letters, digits, dots, underscores and hyphens", i, topic)
		} else if slices.Contains(c.Topics[:i], topic) {
			fault("topics[%d]: %q is named twice; remove one", i, topic)
		}
	}
	if _, err := path.Match(c.Pattern, ""); err != nil {
		fault("pattern: %q: %w; close the bracket", c.Pattern, err)
	}
	if c.Group != "" && len(c.Partitions) > 0 {
		fault("partitions: a group spreads the partitions by itself; remove either group or partitions")
	}
	for i, p := range c.Partitions {
		if p < 0 {
			fault("partitions[%d]: %d is negative; they are counted from 0", i, p)
		} else if slices.Contains(c.Partitions[:i], p) {
			fault("partitions[%d]: %d is named twice; remove one", i, p)
		}
	}
	choice := func(field, value string, choices ...string) {
		if value != "" && !slices.Contains(choices, value) {
			fault("%s: %q; use %s", field, value, strings.Join(choices, " or "))
		}
	}
	choice("start", c.Start, Beginning, End)
	choice("out_of_range", c.OutOfRange, Earliest, Latest, Fail)
	choice("damaged", c.Damaged, Skip, Fail)
	choice("isolation", c.Isolation, ReadCommitted, ReadUncommitted)
	size := func(field string, value, least, most int) {
		if value != 0 && (value < least || value > most) {
			fault("%s: %d; use %d to %d bytes", field, value, least, most)
		}
	}
	size("max_record_bytes", c.MaxRecordBytes, 256, 16<<20)
	size("fetch_bytes", c.FetchBytes, 4<<10, 64<<20)
	size("buffer_bytes", c.BufferBytes, 1<<20, 1<<30)
	size("max_batch_bytes", c.MaxBatchBytes, 64<<10, 1<<30)
	size("min_bytes", c.MinBytes, 1, 16<<20)
	duration := func(field string, value, least, most time.Duration) {
		if value != 0 && (value < least || value > most) {
			fault("%s: %s; use %s to %s", field, value, least, most)
		}
	}
	duration("max_wait", c.MaxWait, 10*time.Millisecond, 5*time.Second)
	duration("request_timeout", c.RequestTimeout, time.Second, 5*time.Minute)
	duration("stall_after", c.StallAfter, 5*time.Second, time.Hour)
	duration("heartbeat_interval", c.HeartbeatInterval, 100*time.Millisecond, 10*time.Second)
	duration("session_timeout", c.SessionTimeout, 6*time.Second, 5*time.Minute)
	duration("rebalance_timeout", c.RebalanceTimeout, time.Second, 5*time.Minute)
	duration("commit_interval", c.CommitInterval, 100*time.Millisecond, time.Hour)
	if d := c.withDefaults(); d.HeartbeatInterval > d.SessionTimeout/3 {
		fault("heartbeat_interval: %s; use at most a third of the session timeout of %s", d.HeartbeatInterval, d.SessionTimeout)
	}
	return errors.Join(faults...)
}

// isTopic reports whether a topic can have this name.
func isTopic(name string) bool {
	for _, r := range []byte(name) {
		if r-'0' >= 10 && (r|0x20)-'a' >= 26 && r != '.' && r != '_' && r != '-' {
			return false
		}
	}
	return name != "" && name != "." && name != ".." && len(name) <= 249
}

// withDefaults returns c with every field set.
func (c Config) withDefaults() Config {
	set(&c.Start, Beginning)
	set(&c.OutOfRange, Earliest)
	set(&c.Damaged, Skip)
	set(&c.Isolation, ReadCommitted)
	set(&c.MaxRecordBytes, 64<<10)
	set(&c.FetchBytes, 1<<20)
	set(&c.BufferBytes, 64<<20)
	set(&c.MaxBatchBytes, 64<<20)
	set(&c.MinBytes, 16<<10)
	set(&c.MaxWait, 250*time.Millisecond)
	set(&c.RequestTimeout, 10*time.Second)
	set(&c.StallAfter, 30*time.Second)
	set(&c.HeartbeatInterval, 500*time.Millisecond)
	set(&c.SessionTimeout, 30*time.Second)
	set(&c.RebalanceTimeout, 30*time.Second)
	set(&c.CommitInterval, 5*time.Second)
	c.Config = c.Config.WithDefaults()
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c
}

// set gives a field its default.
func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
