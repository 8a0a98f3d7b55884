package kafkaclient

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/bouncemeter/bouncemeter/internal/testcert"
)

// The exchange of RFC 7677 section 3.
func TestScramAsInRFC7677(t *testing.T) {
	c := &scramConversation{sum: scram256, password: "pencil", nonce: "rOprNGfwEbeRWgbNEkqO", first: "n=user,r=rOprNGfwEbeRWgbNEkqO"}
	done, answer, err := c.Next(t.Context(), []byte("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"))
	if err != nil || done {
		t.Fatalf("first message: done %v, %v", done, err)
	}
	const want = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	if string(answer) != want {
		t.Errorf("answer %s, want %s", answer, want)
	}
	if done, _, err := c.Next(t.Context(), []byte("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")); err != nil || !done {
		t.Errorf("last message: done %v, %v", done, err)
	}
}

func TestScramRefusesAFalseBroker(t *testing.T) {
	start := func() *scramConversation {
		return &scramConversation{sum: scram512, password: "pencil", nonce: "abc", first: "n=user,r=abc"}
	}
	for _, challenge := range []string{
		"", "r=abc,s=W22ZaA==,i=4096", "r=other,s=W22ZaA==,i=4096", "r=abcd,s=,i=4096", "r=abcd,s=W22ZaA==,i=0", "r=abcd,s=W22ZaA==,i=99999999", "r=abcd,s=?,i=1",
	} {
		if done, _, err := start().Next(t.Context(), []byte(challenge)); err == nil || done {
			t.Errorf("%q was taken", challenge)
		}
	}
	c := start()
	if _, _, err := c.Next(t.Context(), []byte("r=abcd,s=W22ZaA==,i=1")); err != nil {
		t.Fatal(err)
	}
	if done, _, err := c.Next(t.Context(), []byte("v=AAAA")); err == nil || done {
		t.Error("a wrong signature was taken")
	}
	if _, _, err := start().Next(t.Context(), []byte("e=invalid-proof")); !errors.Is(err, kafka.SASLAuthenticationFailed) {
		t.Errorf("a refusal gives %v", err)
	}
}

func TestCheckNamesEveryFault(t *testing.T) {
	dir := t.TempDir()
	empty := write(t, dir, "empty", " \n")
	err := Config{
		Brokers: []string{"kafka1.example", "kafka2.example:70000", "kafka3.example:9092"},
		TLS:     TLS{Enabled: true, CAFile: empty},
		SASL:    SASL{Mechanism: "plain", User: "bouncemeter", PasswordFile: empty},
	}.Check()
	if err == nil {
		t.Fatal("no fault")
	}
	for _, want := range []string{"brokers[0]", "brokers[1]", "tls.ca_file", "sasl.password_file"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not about %s", err, want)
		}
	}
	if strings.Contains(err.Error(), "brokers[2]") {
		t.Errorf("%q blames a good broker", err)
	}
	for want, c := range map[string]Config{
		"brokers":            {},
		"tls.enabled":        {Brokers: []string{"k.example:9092"}, TLS: TLS{ServerName: "k.example"}},
		"tls.cert_file":      {Brokers: []string{"k.example:9092"}, TLS: TLS{Enabled: true, CertFile: "c.pem"}},
		"sasl.mechanism":     {Brokers: []string{"k.example:9092"}, SASL: SASL{User: "u"}},
		"sasl.user":          {Brokers: []string{"k.example:9092"}, SASL: SASL{Mechanism: "plain"}},
		"sasl.password_file": {Brokers: []string{"k.example:9092"}, SASL: SASL{Mechanism: "scram-sha-256", User: "u"}},
	} {
		if err := c.Check(); err == nil || !strings.HasPrefix(err.Error(), want+":") {
			t.Errorf("%+v: %v, want a fault of %s", c, err, want)
		}
	}
}

// Who lacks a right is named, also if nobody has logged in.
func TestExplainNamesThePrincipal(t *testing.T) {
	for want, c := range map[string]Config{
		`allow user "meter" what`:              {SASL: SASL{Mechanism: "plain", User: "meter"}},
		"allow the subject of tls.cert_file w": {TLS: TLS{Enabled: true, CertFile: "c.pem", KeyFile: "k.pem"}},
		"allow user ANONYMOUS":                 {},
	} {
		if err := c.Explain(kafka.TopicAuthorizationFailed); !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// Every way to log in works over TLS, with Transport and Dialer; a wrong
// password is told with its remedy and without the password.
func TestLogin(t *testing.T) {
	dir := t.TempDir()
	authority := testcert.New(t)
	certificate, ca := authority.Issue(t), authority.Write(t, dir)
	for _, mechanism := range []string{"plain", "scram-sha-256", "scram-sha-512"} {
		t.Run(mechanism, func(t *testing.T) {
			cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "records"), kfake.EnableSASL(),
				kfake.Superuser(strings.ToUpper(mechanism), "meter,=", "right horse"), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{certificate}}))
			if err != nil {
				t.Fatal(err)
			}
			defer cluster.Close()
			c := Config{
				Brokers: cluster.ListenAddrs(), TLS: TLS{Enabled: true, CAFile: ca},
				SASL: SASL{Mechanism: mechanism, User: "meter,=", PasswordFile: write(t, dir, "password", "right horse\n")},
			}
			if err := c.Check(); err != nil {
				t.Fatal(err)
			}
			if err := metadata(t, c); err != nil {
				t.Errorf("transport: %v", err)
			}
			d, err := c.Dialer()
			if err != nil {
				t.Fatal(err)
			}
			conn, err := d.DialContext(t.Context(), "tcp", c.Brokers[0])
			if err != nil {
				t.Fatalf("dialer: %v", err)
			}
			if err := conn.Close(); err != nil {
				t.Error(err)
			}

			write(t, dir, "password", "wrong horse")
			err = c.Explain(metadata(t, c))
			if err == nil || !strings.Contains(err.Error(), "sasl.user") || strings.Contains(err.Error(), "horse") {
				t.Errorf("a wrong password gives %v", err)
			}
			c.TLS.CAFile = ""
			if err := c.Explain(metadata(t, c)); err == nil || !strings.Contains(err.Error(), "tls.ca_file") {
				t.Errorf("an unknown authority gives %v", err)
			}
		})
	}
}

// metadata asks for the topics over a new transport.
func metadata(t *testing.T, c Config) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	transport, err := c.Transport(ctx, "records")
	if err != nil {
		t.Fatal(err)
	}
	defer transport.CloseIdleConnections()
	r, err := (&kafka.Client{Transport: transport}).Metadata(ctx, &kafka.MetadataRequest{Addr: c.Addr(), Topics: []string{"records"}})
	if err == nil && (len(r.Topics) != 1 || r.Topics[0].Error != nil) {
		t.Errorf("topics %v", r.Topics)
	}
	return err
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
