package config

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/bouncemeter/bouncemeter/internal/kafkaclient"
)

// Sink is where classified records go, beside being counted. The ledger moves
// past a record only after the sink has it: while a sink cannot take records,
// reading waits, and nothing is lost.
type Sink struct {
	// Name of the sink in metrics: lower-case letters, digits, _ and -. Left out,
	// it is the kind.
	Name string `yaml:"name"`
	// Kind of sink: file writes JSON lines, kafka a topic.
	Kind string `yaml:"kind" enum:"file,kafka"`

	// Path of the file. It may be rotated by renaming, too.
	Path string `yaml:"path" format:"path"`
	// MaxBytes is how large the file may get; then it is renamed to PATH.1, which
	// was renamed to PATH.2 before, and so on.
	MaxBytes Size `yaml:"max_bytes"`
	// Keep is how many renamed files are kept.
	Keep int `yaml:"keep"`
	// Sync waits until the disk has the records. Without it, they survive a crash
	// of the daemon, but not one of the machine.
	Sync bool `yaml:"sync"`

	// Brokers of the Kafka cluster to start from, as host:port.
	Brokers []string `yaml:"brokers"`
	// Topic that records are written to, keyed by the sender's domain, with their
	// id in the header id.
	Topic string `yaml:"topic"`
	// Compression of what is written to Kafka.
	Compression string `yaml:"compression" enum:"none,gzip,snappy,lz4,zstd"`
	// MaxBatchBytes is how large a batch of records for Kafka may get before it is
	// compressed. The topic's max.message.bytes must not be less, and larger
	// records are left out and counted.
	MaxBatchBytes Size `yaml:"max_batch_bytes"`
	// MaxHeldBytes is how much may wait for the brokers, of all logs together.
	MaxHeldBytes Size `yaml:"max_held_bytes"`
	// TLS encrypts the connections to the brokers.
	TLS TLS `yaml:"tls"`
	// SASL logs in to the brokers.
	SASL SASL `yaml:"sasl"`
}

// DefaultSink returns what holds for a sink where nothing is said. Its kind has
// to be given.
func DefaultSink() Sink {
	return Sink{
		MaxBytes: 256 << 20, Keep: 4, Sync: true,
		Compression: "lz4", MaxBatchBytes: 1_000_000, MaxHeldBytes: 32 << 20, SASL: SASL{Mechanism: "none"},
	}
}

// keysOfSink lists the settings that a kind of sink has beside name and kind.
var keysOfSink = map[string][]string{
	"file":  {"path", "max_bytes", "keep", "sync"},
	"kafka": {"brokers", "topic", "compression", "max_batch_bytes", "max_held_bytes", "tls", "sasl"},
}

// Cluster is how the sink's Kafka cluster is reached.
func (s *Sink) Cluster() kafkaclient.Config {
	source := Source{Brokers: s.Brokers, TLS: s.TLS, SASL: s.SASL}
	return source.Cluster()
}

// checkSinks completes the sinks and finds what is wrong with them.
func (l *loader) checkSinks(c *Config) {
	names, files := make(map[string]int), make(map[string]string)
	files[c.Ledger.SQLite], files[c.DeadLetter.Path] = "the ledger", "dead letters"
	for i := range c.Sinks {
		s, path := &c.Sinks[i], fmt.Sprintf("sinks[%d]", i)
		if l.failed(path) || l.failed(path+".kind") {
			continue
		}
		if s.Kind == "" {
			l.fault(path+".kind", "the sink has no kind", "write kind: file or kafka")
			continue
		}
		if s.Name == "" && !l.failed(path+".name") {
			s.Name = s.Kind
		}
		first, again := names[s.Name]
		switch {
		case !validName(s.Name):
			l.fault(path+".name", fmt.Sprintf("%q is not a name", s.Name), "use lower-case letters, digits, _ and -")
		case again:
			l.fault(path+".name", fmt.Sprintf("%q is the name of sinks[%d] already", s.Name, first), "give each sink a name of its own")
		default:
			names[s.Name] = i
		}
		l.onlyKeys(path, "sink of kind "+s.Kind, reflect.ValueOf(s).Elem(), reflect.ValueOf(DefaultSink()), keysOfSink[s.Kind])
		switch s.Kind {
		case "file":
			other, used := files[s.Path]
			switch {
			case l.failed(path + ".path"):
			case s.Path == "":
				l.fault(path+".path", "the file has no name", "name one such as /var/log/bouncemeter/records.jsonl")
			case used:
				l.fault(path+".path", "this is the file of "+other, "name another file")
			default:
				files[s.Path] = path
			}
		case "kafka":
			if s.Topic == "" && !l.failed(path+".topic") {
				l.fault(path+".topic", "there is none", "name the topic")
			}
			l.checkLoop(path, s, c.Sources)
			if !l.failed(path+".brokers") && !l.failed(path+".tls") && !l.failed(path+".sasl") {
				l.explained(path, s.Cluster().Check())
			}
		}
	}
}

// checkLoop finds a sink that writes what a source of the same configuration
// reads: each record would come round for ever.
func (l *loader) checkLoop(path string, s *Sink, sources []Source) {
	for i, source := range sources {
		if source.Kind != "kafka" || !slices.Contains(source.Topics, s.Topic) {
			continue
		}
		if slices.ContainsFunc(source.Brokers, func(b string) bool { return slices.Contains(s.Brokers, b) }) {
			l.fault(path+".topic", fmt.Sprintf("sources[%d] reads this topic, so records would come round for ever", i), "write to another topic")
		}
	}
}

// onlyKeys finds settings beside name and kind that are not among keys.
func (l *loader) onlyKeys(path, what string, v, otherwise reflect.Value, keys []string) {
	for i := range v.NumField() {
		key := v.Type().Field(i).Tag.Get("yaml")
		if key != "name" && key != "kind" && !slices.Contains(keys, key) && !reflect.DeepEqual(v.Field(i).Interface(), otherwise.Field(i).Interface()) {
			l.fault(path+"."+key, "a "+what+" has no such setting", "remove it; it has "+oneOf(keys))
		}
	}
}

// checkSinksHost tries the folders that sinks need.
func (l *loader) checkSinksHost(c *Config) {
	for i := range c.Sinks {
		if s := &c.Sinks[i]; s.Kind == "file" {
			l.checkFolder(fmt.Sprintf("sinks[%d].path", i), s.Path)
		}
	}
}
