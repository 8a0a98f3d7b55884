// Package config reads the daemon's configuration: a YAML file, then the
// environment, then command line flags, each over the one before.
//
// The structs here are the manual: docs/configuration.md and
// configs/schema.json are generated from their fields, comments, tags and
// defaults. Tags: yaml is the key, enum lists the words allowed, format:"path"
// marks names of files. Every number, size and duration has to be above zero.
package config

import (
	"path/filepath"
	"time"

	"github.com/bouncemeter/bouncemeter/ledger"
)

//go:generate go run ./gen -structs . -reference ../../docs/configuration.md -schema ../../configs/schema.json

// Config is the whole configuration.
type Config struct {
	// Where records of deliveries come from. At least one is needed.
	Sources []Source `yaml:"sources"`
	// The ledger is the durable truth: how far each log has been read, and what
	// was counted up to there.
	Ledger Ledger `yaml:"ledger"`
	// Bounds on memory, and how often counts are made durable. They are per
	// daemon unless said otherwise.
	Limits Limits `yaml:"limits"`
	// What is kept of the addresses in the records.
	Privacy Privacy `yaml:"privacy"`
	// Additions to the built-in knowledge of replies and providers.
	Rules Rules `yaml:"rules"`
	// What is worth an alert: rules in addition to the built-in ones.
	Alerts []Alert `yaml:"alerts"`
	// Who is told of alerts, and how.
	Notify []Notifier `yaml:"notify"`
	// Silences is a file of silences and maintenance windows, during which people
	// are not told; docs/alerts.md describes it. It is read again when it
	// changes, and may come later.
	Silences string `yaml:"silences" format:"path"`
	// Where classified records and counts go, and the suppression list;
	// docs/sinks.md describes it.
	Sinks []Sink `yaml:"sinks"`
	// Lines that should have been records but could not be read are kept here,
	// with where they were found.
	DeadLetter DeadLetter `yaml:"dead_letter"`
	// Metrics, health and reload are served over HTTP.
	HTTP HTTP `yaml:"http"`
	// The daemon's own messages, written to standard error.
	Log Log `yaml:"log"`

	// Warnings are what Load found unwise but not wrong.
	Warnings Faults `yaml:"-"`
}

// Source is one place that records come from.
type Source struct {
	// Name of the source in metrics and in the ledger: lower-case letters,
	// digits, _ and -. It has to be unique. A source that is renamed is a new
	// source: its logs are read and counted again.
	Name string `yaml:"name"`
	// Kind of source: tail follows log files through rotation, stdin reads
	// standard input once, kafka reads topics. maildir reads bounce mails and
	// abuse reports from Maildirs, lmtp and smtp take them from mail servers.
	// webhook receives the events of mail providers by HTTP, syslog the log of mail
	// servers over the network or a local socket. journald reads the journal of
	// systemd.
	Kind string `yaml:"kind" enum:"tail,stdin,kafka,maildir,lmtp,smtp,webhook,syslog,journald"`
	// Units are those of systemd whose journal kind journald reads, such as
	// postfix@-.service; .service may be left out. The journal itself notes which
	// unit an entry is of.
	Units []string `yaml:"units"`
	// Identifiers are names of programs that kind journald reads, such as sm-mta,
	// besides those of units. Any program may take any name.
	Identifiers []string `yaml:"identifiers"`
	// Listen is where kinds lmtp and smtp listen: an address such as
	// 127.0.0.1:2424, or unix:/path/of/a/socket. For kind webhook it is an address with a port, which several may share. For
	// kind syslog it is one or more addresses with spaces between, each with its
	// transport: udp:127.0.0.1:5514, tcp::5514 for all addresses, tls::6514, or
	// unix:/path/of/a/socket.
	Listen string `yaml:"listen"`
	// Allow lists the networks that senders of kinds syslog, lmtp and smtp may be
	// in, such as 192.0.2.0/24 or one address. Left out, anybody's messages are
	// taken. UDP senders can pretend to be others.
	Allow []string `yaml:"allow"`
	// Recipients lists what mail of kinds lmtp and smtp may be to: domains such as
	// bounces.shop.example, and addresses. Mail to others is refused. Left out, it
	// may be to all.
	Recipients []string `yaml:"recipients"`
	// MaxConnections is how many connections kind syslog has at a time; one
	// address may have a quarter of them. Left out, it is 256.
	MaxConnections int `yaml:"max_connections"`
	// IdleTimeout is after what time without a message kind syslog closes a
	// connection. Left out, it is 1h.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// Paths of the log files to follow, for kind tail, or of the Maildirs; for
	// kinds lmtp and smtp the Maildir in which messages wait until they are counted. Of
	// log files patterns such as /var/log/mail/*.log match those that appear
	// later, too. Rotated files need not be named: they are found beside the
	// live one by their content. Of kind journald it is the folder of a journal
	// that is not this machine's. Relative paths start at the folder of the
	// configuration file.
	Paths []string `yaml:"paths" format:"path"`
	// Dialect is the format of the records. That of bounce mails is always
	// message: whole mails, which may come from Kafka, too. json and csv are
	// records that fields explains.
	Dialect string `yaml:"dialect"`
	// Start is where to begin with a log or partition that was never read
	// before: at the beginning of the oldest rotated file or record that is
	// still there, or at the end. One that appears later is read from its
	// beginning.
	Start string `yaml:"start" enum:"beginning,end"`
	// Timezone of timestamps that do not tell it (RFC 3164), as an IANA name
	// such as Europe/Berlin. Local is that of this machine.
	Timezone string `yaml:"timezone"`
	// MaxLineBytes is how much of a line is kept; the rest of a longer one is
	// skipped, and the line counted as truncated. 256B to 16MiB.
	MaxLineBytes Size `yaml:"max_line_bytes"`
	// Fields say what stands where in records of dialect json or csv.
	Fields Fields `yaml:"fields"`
	// Outcomes say what the words in the field outcome mean, for dialect json or
	// csv.
	Outcomes Outcomes `yaml:"outcomes"`
	// TimeFormat is how times are written in records of dialect json or csv, with
	// the conversions of strptime: %Y %m %d %H %M %S %f %z %b %y %e %T %F. Left
	// out, they are as RFC 3339 says, perhaps with a space in the middle, or
	// seconds or milliseconds since 1970.
	TimeFormat string `yaml:"time_format"`
	// Columns are the names of the columns of dialect csv. Left out, they are in
	// the first line of each file.
	Columns []string `yaml:"columns"`
	// Separator is between the fields of dialect csv: one character, or tab.
	// Left out, it is a comma.
	Separator string `yaml:"separator"`
	// Poll is how often the files are looked at, 10ms to 1m. File events make
	// it faster where the file system has them.
	Poll time.Duration `yaml:"poll"`

	// Brokers of the Kafka cluster to start from, as host:port; one that answers
	// is enough, and the others are found through it.
	Brokers []string `yaml:"brokers"`
	// Topics to read, by name. One that does not exist yet is waited for.
	Topics []string `yaml:"topics"`
	// Pattern also reads every topic whose name matches it, such as mail.*;
	// topics that appear later, too.
	Pattern string `yaml:"pattern"`
	// Group is the consumer group that shares the partitions among several
	// bouncemeters with one ledger. Other programs may not be members. Without
	// it this daemon reads all partitions.
	Group string `yaml:"group"`
	// SessionTimeout is after how long without a sign of life a member of the
	// group counts as gone and others get its partitions, 6s to 5m. Left out, it
	// is 30s.
	SessionTimeout time.Duration `yaml:"session_timeout"`
	// Partitions that this daemon alone reads of each topic, such as "0-3, 7", where
	// there is no group: restarts move nothing then. Left out, it is all.
	Partitions string `yaml:"partitions"`
	// OutOfRange is where to go on if the next record was deleted before it was
	// read: at the earliest or the latest there is, both counted as lost; or
	// fail, which stops the source.
	OutOfRange string `yaml:"out_of_range" enum:"earliest,latest,fail"`
	// TLS encrypts the connections to the brokers. For kind webhook it is the
	// certificate and key of the receiver; without it something in front has to
	// speak HTTPS. For kind syslog it is those of the addresses that say tls, and
	// with ca_file senders need a certificate of these authorities.
	TLS TLS `yaml:"tls"`
	// SASL logs in to the brokers.
	SASL SASL `yaml:"sasl"`

	// URLPath is the path of the URL at which kind webhook receives, such as
	// /sendgrid. Each source has its own.
	URLPath string `yaml:"url_path"`
	// Verify is how requests prove where they are from. Left out, it follows from
	// the dialect: sns for ses; sendgrid, mailgun, mandrill and postal for
	// theirs; basic for sparkpost and postmark; token for all others.
	Verify string `yaml:"verify" enum:"sns,sendgrid,mailgun,mandrill,postal,basic,token,none"`
	// SecretFile holds what verify needs: the provider's public or signing key,
	// or the password or token that it sends. Several lines are several secrets,
	// each of which fits, so that they can be changed without a gap.
	SecretFile string `yaml:"secret_file" format:"path"`
	// User is the name for basic.
	User string `yaml:"user"`
	// URL is the address that Mandrill was told, letter for letter: it signs it.
	URL string `yaml:"url"`
	// SNSTopics are the names (ARNs) of the topics that are believed, whose
	// subscriptions are confirmed as they begin.
	SNSTopics []string `yaml:"sns_topics"`
	// MaxAge is how old a signature may be, at most 2d. Left out, it is 26h, since
	// providers send for a day what was not taken.
	MaxAge time.Duration `yaml:"max_age"`
	// MaxBodyBytes is how large a request may be, unpacked, 1KiB to 16MiB. Left
	// out, it is 8MiB.
	MaxBodyBytes Size `yaml:"max_body_bytes"`
	// Spool is the folder in which what was received waits until it is counted.
	// Left out, it is spool/NAME beside the ledger, or in /var/lib/bouncemeter.
	Spool string `yaml:"spool" format:"path"`
	// SpoolBytes is how much may wait, for kinds lmtp and smtp in the Maildir; what
	// comes then is refused, to be sent again later. Of kind syslog connections
	// wait and datagrams are dropped. Left out, it is 1GiB.
	SpoolBytes Size `yaml:"spool_bytes"`

	// EventIDs is how many ids of events are remembered, for two days at the
	// most, so that events that are told again do not count again: for providers,
	// who repeat what was not acknowledged. Left out, it is 1000000 for kinds
	// webhook, lmtp and smtp, and no event is known to repeat for others. Each takes up to 40
	// bytes.
	EventIDs int `yaml:"event_ids"`

	// Secret is what SecretFile holds.
	Secret Secret `yaml:"-"`
}

// TLS says how connections are encrypted: version 1.2 or later. What is said of
// brokers holds for the servers of notifiers, too.
type TLS struct {
	// Enabled encrypts all connections to the cluster.
	Enabled bool `yaml:"enabled"`
	// CAFile has the certificates, in PEM, of the authorities that the brokers'
	// certificates may come from. Left out, they are those of the system.
	CAFile string `yaml:"ca_file" format:"path"`
	// CertFile is the certificate, in PEM, that is shown to the brokers if they
	// want one. It is read anew for each connection.
	CertFile string `yaml:"cert_file" format:"path"`
	// KeyFile is the key of cert_file.
	KeyFile string `yaml:"key_file" format:"path"`
	// ServerName is the name that the brokers' certificates must have. Left out,
	// it is that of the broker's address.
	ServerName string `yaml:"server_name"`
}

// SASL says how to log in.
type SASL struct {
	// Mechanism of the login. With plain the password can be read on the way
	// unless tls is enabled.
	Mechanism string `yaml:"mechanism" enum:"none,plain,scram-sha-256,scram-sha-512"`
	// User to log in as.
	User string `yaml:"user"`
	// PasswordFile holds the password; white space around it is dropped. It is
	// read anew for each connection.
	PasswordFile string `yaml:"password_file" format:"path"`
}

// Ledger says where the durable state is: in sqlite, or in postgres.
type Ledger struct {
	// SQLite is the database file. Its folder has to exist and to be writable;
	// two daemons cannot share it. Anyone may read it meanwhile with sqlite3 or
	// bouncemeter report --ledger.
	SQLite string `yaml:"sqlite" format:"path"`
	// Postgres is a PostgreSQL that many instances share, in place of sqlite;
	// docs/ledger.md tells how to set it up.
	Postgres Postgres `yaml:"postgres"`
	// How long counts are kept, and how finely.
	Retention Retention `yaml:"retention"`
}

// Postgres says where in a PostgreSQL the ledger is, and how it is used.
type Postgres struct {
	// DSNFile holds how the server is reached:
	// postgres://user:password@host:5432/database?sslmode=verify-full, or
	// key=value pairs, as other programs take them. Several hosts may be named.
	DSNFile string `yaml:"dsn_file" format:"path"`
	// Schema of the tables. Instances with the same schema share one ledger.
	Schema string `yaml:"schema"`
	// Instance is the name of this one among those that share the ledger. It is
	// needed if a source reads or receives on this machine: the lanes of one
	// source are told apart by it. An instance that is renamed reads its logs
	// again. Lower-case letters, digits, dots, _ and -.
	Instance string `yaml:"instance"`
	// Connections is the greatest number of connections, to which detection and
	// roll-up add one each. Commits of more lanes take turns.
	Connections int `yaml:"connections"`
	// Timeout ends a statement that takes longer; a commit is tried again.
	Timeout time.Duration `yaml:"timeout"`

	// DSN is what DSNFile holds.
	DSN Secret `yaml:"-"`
}

// Retention says how long counts are kept at which grain. Totals never shrink:
// what leaves the last grain is summed per series without a time.
type Retention struct {
	// Minutes is how long counts are kept per minute, then they are summed per
	// hour.
	Minutes time.Duration `yaml:"minutes"`
	// Hours is how long counts are kept per hour, then they are summed per day.
	// At least as long as minutes.
	Hours time.Duration `yaml:"hours"`
	// Days is how long counts are kept per day, then they are summed without a
	// time. At least as long as hours.
	Days time.Duration `yaml:"days"`
	// Templates is how long a wording of a reply is kept after it was last seen.
	Templates time.Duration `yaml:"templates"`
	// TemplatesPerCategory is how many wordings are kept of each category, the
	// most frequent ones.
	TemplatesPerCategory int `yaml:"templates_per_category"`
	// Domains is how long counts per recipient domain are kept.
	Domains time.Duration `yaml:"domains"`
	// Alerts is how long alerts that are over are kept.
	Alerts time.Duration `yaml:"alerts"`
}

// Limits bound memory. What is beyond a limit is folded into "(other)" and
// shown as such; totals stay exact.
type Limits struct {
	// SenderDomains is how many sender domains are counted apart: those with
	// most recent mail.
	SenderDomains int `yaml:"sender_domains"`
	// RecipientDomains is how many recipient domains are counted apart.
	RecipientDomains int `yaml:"recipient_domains"`
	// Hosts is how many sending hosts are counted apart.
	Hosts int `yaml:"hosts"`
	// Streams is how many streams (Postfix instances, tags) are counted apart.
	Streams int `yaml:"streams"`
	// Series is how many combinations of outcome, category, provider, sender
	// domain, host and stream are counted apart.
	Series int `yaml:"series"`
	// QueueIDs is how many messages in the queue are remembered per log at the
	// most, to tell the sender of a later outcome. Each costs about 50 bytes of
	// memory while it lives.
	QueueIDs int `yaml:"queue_ids"`
	// QueueLifetime is how long a message is remembered after its last sign of
	// life. Take the MTA's queue lifetime (Postfix maximal_queue_lifetime) and a
	// day more.
	QueueLifetime time.Duration `yaml:"queue_lifetime"`
	// Lateness is how far the records of one log or partition may be out of
	// order and still be looked at for alerts. Alerts come that much later.
	Lateness time.Duration `yaml:"lateness"`
	// CommitEvery is how often counts are made durable. Metrics show committed
	// counts only.
	CommitEvery time.Duration `yaml:"commit_every"`
}

// Privacy says what is kept of addresses.
type Privacy struct {
	// Addresses: domain keeps the domain only, hash adds a keyed hash of the
	// local part (so that repeats can be told), keep stores full addresses.
	// Addresses inside reply texts are treated alike.
	Addresses string `yaml:"addresses" enum:"domain,hash,keep"`
	// KeyFile holds the key for hash, at least 16 bytes; make one with: openssl
	// rand -hex 32. Hashes made with another key cannot be compared.
	KeyFile string `yaml:"key_file" format:"path"`

	// Key is what KeyFile holds, without surrounding white space.
	Key Secret `yaml:"-"`
}

// Rules name files that add to the built-in knowledge.
type Rules struct {
	// Files of classification rules. They are tried before the built-in ones of
	// the same strength.
	Files []string `yaml:"files" format:"path"`
	// Providers are files that tell which MX hosts belong to which provider.
	Providers []string `yaml:"providers" format:"path"`
}

// DeadLetter is where unreadable records are kept.
type DeadLetter struct {
	// Enabled keeps unreadable records. Without it they are counted only.
	Enabled bool `yaml:"enabled"`
	// Path of the file, one JSON object a line. Left out, it is
	// dead-letter.jsonl beside the ledger, or in /var/lib/bouncemeter.
	Path string `yaml:"path" format:"path"`
	// MaxBytes is how large the file may grow before it is replaced; one older
	// file is kept.
	MaxBytes Size `yaml:"max_bytes"`
}

// HTTP is the daemon's web server.
type HTTP struct {
	// Listen is the address and port, such as 127.0.0.1:9725, or :9725 for all
	// addresses.
	Listen string `yaml:"listen"`
	// ExternalURL is the address at which people reach the page, such as
	// https://bouncemeter.example.com. Links in alerts start with it; left out,
	// there are none.
	ExternalURL string `yaml:"external_url"`
	// WebConfigFile sets up TLS and passwords in the format that Prometheus
	// exporters share (exporter-toolkit).
	WebConfigFile string `yaml:"web_config_file" format:"path"`
	// Reload allows POST /-/reload, which does what SIGHUP does.
	Reload bool `yaml:"reload"`
	// PostfixNames shows some counts also by the names of
	// prometheus-postfix-exporter, for dashboards made for it; docs/metrics.md
	// lists them.
	PostfixNames bool `yaml:"postfix_names"`
}

// Log is about the daemon's own messages.
type Log struct {
	// Level is the least important kind of message that is written.
	Level string `yaml:"level" enum:"debug,info,warn,error"`
	// Format: text is for people, logfmt and json are for machines. auto takes
	// text on a terminal and logfmt elsewhere.
	Format string `yaml:"format" enum:"auto,logfmt,json,text"`
}

// stateDir is where packages and images keep what has to stay.
const stateDir = "/var/lib/bouncemeter"

// StateDir is the folder of what this machine keeps: the ledger, if that is a
// file, dead letters and spools.
func (c *Config) StateDir() string {
	if c.Ledger.SQLite == "" {
		return stateDir
	}
	return filepath.Dir(c.Ledger.SQLite)
}

// Default returns the configuration that holds where nothing is said. It has no
// sources.
func Default() Config {
	return Config{
		Ledger: Ledger{
			SQLite:    stateDir + "/ledger.db",
			Postgres:  Postgres{Schema: "bouncemeter", Connections: 8, Timeout: 30 * time.Second},
			Retention: Retention(ledger.DefaultRetention),
		},
		Limits: Limits{
			SenderDomains: 1000, RecipientDomains: 10_000, Hosts: 200, Streams: 200,
			Series: 100_000, QueueIDs: 2_000_000,
			QueueLifetime: 6 * 24 * time.Hour, Lateness: 15 * time.Second, CommitEvery: time.Second,
		},
		Privacy:    Privacy{Addresses: "domain"},
		DeadLetter: DeadLetter{Enabled: true, MaxBytes: 16 << 20},
		HTTP:       HTTP{Listen: "127.0.0.1:9725"},
		Log:        Log{Level: "info", Format: "auto"},
	}
}

// sourceKinds are the kinds of sources with their settings.
var sourceKinds = kinds{
	"": {
		"name", "kind", "dialect", "timezone", "max_line_bytes", "event_ids",
		"fields", "outcomes", "time_format", "columns", "separator", // of dialects json and csv
	},
	"tail":     {"paths", "start", "poll"},
	"stdin":    {},
	"kafka":    {"brokers", "topics", "pattern", "group", "session_timeout", "partitions", "start", "out_of_range", "tls", "sasl"},
	"maildir":  {"paths", "poll"},
	"lmtp":     {"listen", "allow", "recipients", "paths", "spool_bytes", "tls"},
	"smtp":     {"listen", "allow", "recipients", "paths", "spool_bytes", "tls"},
	"webhook":  {"listen", "url_path", "verify", "secret_file", "user", "url", "sns_topics", "max_age", "max_body_bytes", "spool", "spool_bytes", "tls"},
	"syslog":   {"listen", "allow", "max_connections", "idle_timeout", "spool", "spool_bytes", "tls"},
	"journald": {"units", "identifiers", "paths", "start"},
}

// DefaultSource returns what holds for a source where nothing is said. Its name
// and kind have to be given.
func DefaultSource() Source {
	return Source{
		Dialect: "postfix", Start: "beginning", Timezone: "Local",
		MaxLineBytes: 64 << 10, Poll: 250 * time.Millisecond,
		OutOfRange: "earliest", SASL: SASL{Mechanism: "none"},
	}
}
