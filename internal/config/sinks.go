package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/kafkaclient"
	"github.com/bouncemeter/bouncemeter/sinks/suppression"
)

// Sink is where classified records or counts go. The ledger moves past a record
// only after the sink has it: while a sink cannot take records, reading waits, and
// nothing is lost. Counts follow from the ledger, and nothing waits for them.
type Sink struct {
	// Name of the sink in metrics: lower-case letters, digits, _ and -. Left out,
	// it is the kind.
	Name string `yaml:"name"`
	// Kind of sink: file writes JSON lines, kafka a topic, suppression the list of
	// recipients that should not be mailed any more.
	Kind string `yaml:"kind" enum:"file,kafka,suppression"`
	// Content of a file or topic: records, one for each event, or counts, one for
	// each minute and series, again when late mail has changed it.
	Content string `yaml:"content" enum:"records,counts"`

	// Path of the file, or of the list, which is a SQLite database. A file of JSON
	// lines may be rotated by renaming, too.
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
	// Topic that is written to: records keyed by the sender's domain, with their id
	// in the header id; counts by their id; entries of the suppression list, whose
	// topic should be compacted, by the address.
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

	// Reasons are the categories that list a recipient when its mail fails for
	// good; complaint lists those that reported mail as spam.
	Reasons []string `yaml:"reasons"`
	// Failures is how often in a row mail to a recipient has to fail for these
	// reasons, 1 to 16. A complaint lists it at once.
	Failures int `yaml:"failures"`
	// Export is a file that has the suppression list, too, written anew when it has
	// changed, once a minute at the most: addresses if it ends in .txt, else .csv or
	// .jsonl. Left out, there is none.
	Export string `yaml:"export" format:"path"`
}

// DefaultSink returns what holds for a sink where nothing is said. Its kind has
// to be given.
func DefaultSink() Sink {
	return Sink{
		Content: "records", MaxBytes: 256 << 20, Keep: 4, Sync: true,
		Compression: "lz4", MaxBatchBytes: 1_000_000, MaxHeldBytes: 32 << 20, SASL: SASL{Mechanism: "none"},
		Reasons: []string{"user_unknown", "user_inactive", suppression.Complaint}, Failures: 2,
	}
}

// sinkKinds are the kinds of sinks with their settings.
var sinkKinds = kinds{
	"":            {"name", "kind"},
	"file":        {"content", "path", "max_bytes", "keep", "sync"},
	"kafka":       {"content", "brokers", "topic", "compression", "max_batch_bytes", "max_held_bytes", "tls", "sasl"},
	"suppression": {"path", "reasons", "failures", "export", "brokers", "topic", "compression", "max_batch_bytes", "max_held_bytes", "tls", "sasl"},
}

// Records reports whether the sink takes classified records, with all that they
// tell.
func (s *Sink) Records() bool { return s.Kind != "suppression" && s.Content != "counts" }

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
			l.fault(path+".kind", "the sink has no kind", "write kind: "+oneOf(sinkKinds.names()))
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
		l.only(path, "sink", s.Kind, sinkKinds, *s, DefaultSink())
		switch s.Kind {
		case "file":
			l.checkSinkFile(path+".path", s.Path, files, "/var/log/bouncemeter/records.jsonl")
		case "suppression":
			l.checkSinkFile(path+".path", s.Path, files, "/var/lib/bouncemeter/suppression.db")
			l.checkSuppression(path, s, c.Privacy.Addresses, files)
			if s.Topic != "" || len(s.Brokers) > 0 {
				l.checkSinkTopic(path, s, c.Sources)
			}
		case "kafka":
			l.checkSinkTopic(path, s, c.Sources)
		}
	}
}

// checkSinkTopic finds a sink whose topic cannot be written to.
func (l *loader) checkSinkTopic(path string, s *Sink, sources []Source) {
	if s.Topic == "" && !l.failed(path+".topic") {
		l.fault(path+".topic", "there is none", "name the topic")
	}
	l.checkLoop(path, s, sources)
	if !l.failed(path+".brokers") && !l.failed(path+".tls") && !l.failed(path+".sasl") {
		l.explained(path, s.Cluster().Check())
	}
}

// checkSinkFile finds a sink without a file of its own.
func (l *loader) checkSinkFile(path, file string, files map[string]string, example string) {
	other, used := files[file]
	switch {
	case l.failed(path):
	case file == "":
		l.fault(path, "the file has no name", "name one such as "+example)
	case used:
		l.fault(path, "this is the file of "+other, "name another file")
	default:
		files[file] = strings.TrimSuffix(path, ".path")
	}
}

func (l *loader) checkSuppression(path string, s *Sink, addresses string, files map[string]string) {
	if addresses == "domain" && !l.failed("privacy.addresses") {
		l.fault(path+".kind", "privacy.addresses is domain, so there are no recipients to list", "set it to keep, or to hash if those who read the list have the key")
	}
	for i, r := range s.Reasons {
		if _, ok := event.CategoryByID(r); !ok && r != suppression.Complaint {
			l.fault(fmt.Sprintf("%s.reasons[%d]", path, i), fmt.Sprintf("%q is neither a category nor %s", r, suppression.Complaint), "take one of docs/categories.md")
		}
	}
	if len(s.Reasons) == 0 && !l.failed(path+".reasons") {
		l.fault(path+".reasons", "without reasons nobody is listed", "name some, or remove the sink")
	}
	if (s.Failures < 1 || s.Failures > suppression.MostFailures) && !l.failed(path+".failures") {
		l.fault(path+".failures", fmt.Sprintf("%d failures cannot be waited for", s.Failures), fmt.Sprintf("write 1 to %d", suppression.MostFailures))
	}
	if s.Export == "" || l.failed(path+".export") {
		return
	}
	if _, err := suppression.FormatOf(s.Export); err != nil {
		l.fault(path+".export", "the form of the list is not known by the file's name", "let it end in .txt (addresses), .csv or .jsonl")
	}
	l.checkSinkFile(path+".export", s.Export, files, "")
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

// checkSinksHost tries the folders that sinks need.
func (l *loader) checkSinksHost(c *Config) {
	for i := range c.Sinks {
		s := &c.Sinks[i]
		if s.Kind != "kafka" {
			l.checkFolder(fmt.Sprintf("sinks[%d].path", i), s.Path)
		}
		if s.Export != "" {
			l.checkFolder(fmt.Sprintf("sinks[%d].export", i), s.Export)
		}
	}
}
