// Package kafkaclient says how to reach a Kafka cluster: brokers, TLS and
// logins, in one form for the sources and the sinks that use one.
package kafkaclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
)

// Config says how to reach a cluster.
type Config struct {
	// Brokers to start from, as host:port; one that answers is enough, and the
	// others of the cluster are found through it. Name two or three.
	Brokers []string `yaml:"brokers"`
	// ClientID names this program in the brokers' logs, metrics and quotas. Left
	// out, it is bouncemeter.
	ClientID string `yaml:"client_id"`
	// TLS encrypts the connections.
	TLS TLS `yaml:"tls"`
	// SASL logs in.
	SASL SASL `yaml:"sasl"`
	// DialTimeout is how long a connection may take, TLS and login included.
	// Left out, it is 10s.
	DialTimeout time.Duration `yaml:"dial_timeout"`
	// MetadataTTL is how long it may take until a partition that has moved to
	// another broker, or a new one, is noticed. Left out, it is 2s.
	MetadataTTL time.Duration `yaml:"metadata_ttl"`
}

// TLS says how connections are encrypted: version 1.2 or later.
type TLS struct {
	// Enabled encrypts all connections to the cluster.
	Enabled bool `yaml:"enabled"`
	// CAFile has the certificates, in PEM, of the authorities that the brokers'
	// certificates may come from. Left out, they are those of the system.
	CAFile string `yaml:"ca_file" format:"path"`
	// CertFile and KeyFile are the certificate and key, in PEM, that we show to
	// the brokers, if they want one. They are read anew for each connection, so
	// they can be replaced while the daemon runs.
	CertFile string `yaml:"cert_file" format:"path"`
	// KeyFile is the key of CertFile.
	KeyFile string `yaml:"key_file" format:"path"`
	// ServerName is the name that the brokers' certificates must have. Left out,
	// it is that of the broker's address.
	ServerName string `yaml:"server_name"`
}

// SASL says how to log in.
type SASL struct {
	// Mechanism is plain, scram-sha-256 or scram-sha-512; left out, there is no
	// login. With plain the password can be read on the way unless TLS is
	// enabled.
	Mechanism string `yaml:"mechanism" enum:",plain,scram-sha-256,scram-sha-512"`
	// User to log in as.
	User string `yaml:"user"`
	// PasswordFile holds the password; white space around it is dropped. It is
	// read anew for each connection, so the password can be changed while the
	// daemon runs.
	PasswordFile string `yaml:"password_file" format:"path"`
}

// Check returns all faults of the configuration, files that cannot be read
// included, each with the path of its field; nil if there are none.
func (c Config) Check() error {
	var faults []error
	fault := func(format string, values ...any) { faults = append(faults, fmt.Errorf(format, values...)) }
	if len(c.Brokers) == 0 {
		fault("brokers: none is given; name at least one as host:port")
	}
	for i, b := range c.Brokers {
		host, port, err := net.SplitHostPort(b)
		n, perr := strconv.ParseUint(port, 10, 16)
		if err != nil || host == "" || perr != nil || n == 0 {
			fault("brokers[%d]: %q is not host:port; write it like kafka1.example:9092", i, b)
		}
	}
	if c.DialTimeout < 0 {
		fault("dial_timeout: %s is negative; use a time such as 10s, or leave it out", c.DialTimeout)
	}
	if c.MetadataTTL < 0 {
		fault("metadata_ttl: %s is negative; use a time such as 2s, or leave it out", c.MetadataTTL)
	}
	if _, err := c.TLS.config(); err != nil {
		fault("tls.%w", err)
	}
	if m, err := c.SASL.mechanism(); err != nil {
		fault("sasl.%w", err)
	} else if m != nil {
		if _, err := c.SASL.password(); err != nil {
			fault("sasl.%w", err)
		}
	}
	return errors.Join(faults...)
}

// Addr returns the brokers in the form that package kafka wants.
func (c Config) Addr() net.Addr { return kafka.TCP(c.Brokers...) }

// Transport returns a pool of connections. It asks for the partitions of the
// given topics only, of all if there are none. One transport serves all users
// of a cluster; its owner calls CloseIdleConnections in the end. Its goroutines
// end with ctx.
func (c Config) Transport(ctx context.Context, topics ...string) (*kafka.Transport, error) {
	c = c.WithDefaults()
	config, mechanism, err := c.security()
	if err != nil {
		return nil, err
	}
	return &kafka.Transport{
		Dial:           c.Dial,
		DialTimeout:    c.DialTimeout,
		IdleTimeout:    time.Minute,
		MetadataTTL:    c.MetadataTTL,
		MetadataTopics: topics,
		ClientID:       c.ClientID,
		TLS:            config,
		SASL:           mechanism,
		Context:        ctx,
	}, nil
}

// Dialer returns what opens single connections, such as those of a consumer
// group.
func (c Config) Dialer() (*kafka.Dialer, error) {
	c = c.WithDefaults()
	config, mechanism, err := c.security()
	if err != nil {
		return nil, err
	}
	return &kafka.Dialer{
		ClientID:      c.ClientID,
		Timeout:       c.DialTimeout,
		DialFunc:      c.Dial,
		TLS:           config,
		SASLMechanism: mechanism,
	}, nil
}

// keepAlive finds dead peers on connections that wait.
const keepAlive = 15 * time.Second

// Dial opens a connection, without TLS and login.
func (c Config) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: c.WithDefaults().DialTimeout, KeepAlive: keepAlive}
	return d.DialContext(ctx, network, address)
}

// WithDefaults returns c with what is left out set, as far as that has a default.
func (c Config) WithDefaults() Config {
	c.ClientID = cmp.Or(c.ClientID, "bouncemeter")
	c.DialTimeout = cmp.Or(c.DialTimeout, 10*time.Second)
	c.MetadataTTL = cmp.Or(c.MetadataTTL, 2*time.Second)
	return c
}

func (c Config) security() (*tls.Config, sasl.Mechanism, error) {
	t, err := c.TLS.config()
	if err != nil {
		return nil, nil, fmt.Errorf("tls.%w", err)
	}
	m, err := c.SASL.mechanism()
	if err != nil {
		return nil, nil, fmt.Errorf("sasl.%w", err)
	}
	return t, m, nil
}

// config returns nil if TLS is not enabled.
func (t TLS) config() (*tls.Config, error) {
	if !t.Enabled {
		if t != (TLS{}) {
			return nil, errors.New("enabled: it is false, but there are other settings of TLS; set it to true or remove them")
		}
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file: %s has no certificate in PEM form", t.CAFile)
		}
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		return nil, errors.New("cert_file: a certificate and its key belong together; set both cert_file and key_file, or none")
	}
	if t.CertFile != "" {
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
			if err != nil {
				return nil, fmt.Errorf("cert_file: %w", err)
			}
			return &pair, nil
		}
		if _, err := load(); err != nil {
			return nil, err
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return c, nil
}

// mechanism returns nil if there is no login.
func (s SASL) mechanism() (sasl.Mechanism, error) {
	if s.Mechanism == "" {
		if s != (SASL{}) {
			return nil, errors.New("mechanism: it is missing, but there are other settings of a login; set it, or remove them")
		}
		return nil, nil
	}
	var m sasl.Mechanism
	switch s.Mechanism {
	case "plain":
		m = plain{s}
	case "scram-sha-256":
		m = scram{s, "SCRAM-SHA-256", scram256}
	case "scram-sha-512":
		m = scram{s, "SCRAM-SHA-512", scram512}
	default:
		return nil, fmt.Errorf("mechanism: %q is unknown; use plain, scram-sha-256 or scram-sha-512", s.Mechanism)
	}
	if s.User == "" {
		return nil, errors.New("user: it is missing; set the name to log in with")
	}
	if s.PasswordFile == "" {
		return nil, errors.New("password_file: it is missing; write the password to a file that only this program can read, and name it here")
	}
	return m, nil
}

func (s SASL) password() (string, error) {
	b, err := os.ReadFile(s.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("password_file: %w", err)
	}
	p := strings.TrimSpace(string(b))
	if p == "" {
		return "", fmt.Errorf("password_file: %s is empty; write the password of %s into it", s.PasswordFile, s.User)
	}
	return p, nil
}

// Explain adds what the operator can do about err to it; other errors are
// returned as they are.
func (c Config) Explain(err error) error {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var record tls.RecordHeaderError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kafka.SASLAuthenticationFailed):
		return fmt.Errorf("%w; the broker refuses user %q: check sasl.user, and the password in %s", err, c.SASL.User, c.SASL.PasswordFile)
	case errors.Is(err, kafka.UnsupportedSASLMechanism), errors.Is(err, kafka.IllegalSASLState):
		return fmt.Errorf("%w; the broker offers other ways to log in: set sasl.mechanism to one of them", err)
	case errors.Is(err, kafka.TopicAuthorizationFailed), errors.Is(err, kafka.GroupAuthorizationFailed), errors.Is(err, kafka.ClusterAuthorizationFailed):
		return fmt.Errorf("%w; allow %s what it needs with kafka-acls", err, c.principal())
	case errors.As(err, &unknown):
		return fmt.Errorf("%w; put the certificate of the authority that signed the broker's into a file and name it in tls.ca_file", err)
	case errors.As(err, &name):
		return fmt.Errorf("%w; use the name in the broker's certificate in brokers, or set tls.server_name", err)
	case errors.As(err, &record):
		return fmt.Errorf("%w; the broker does not speak TLS on this port: set tls.enabled to false, or use its other port", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		if c.SASL.Mechanism != "" {
			return fmt.Errorf("%w; the broker hung up, as some do that refuse a login: check sasl.user, the password in %s, and whether this port wants TLS", err, c.SASL.PasswordFile)
		}
		return fmt.Errorf("%w; the broker hung up: check whether this port wants TLS or a login", err)
	case errors.Is(err, kafka.UnknownTopicOrPartition):
		return fmt.Errorf("%w; create the topic, or allow %s to describe it", err, c.principal())
	}
	return err
}

// principal is whom brokers take this program for.
func (c Config) principal() string {
	switch {
	case c.SASL.User != "":
		return fmt.Sprintf("user %q", c.SASL.User)
	case c.TLS.CertFile != "":
		return "the subject of tls.cert_file"
	}
	return "user ANONYMOUS, as brokers call those without a login,"
}
