// Package kafkatest starts an Apache Kafka of its own for end-to-end tests: one
// KRaft node on free loopback ports, with a plain listener and one with TLS and
// logins. It needs Java 17 and, the first time, Maven to fetch the jars; the
// script beside it installs both on Debian.
package kafkatest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed" // pom.xml
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Version of Apache Kafka that is started; that of pom.xml.
const Version = "4.1.0"

// User and Password log in to the secure listener, with PLAIN, SCRAM-SHA-256 and
// SCRAM-SHA-512.
const (
	User     = "meter"
	Password = "right-horse"
)

//go:embed pom.xml
var pom []byte

// Server is a running node.
type Server struct {
	// Addr is the plain listener, SecureAddr the one with TLS and SASL.
	Addr, SecureAddr string
	// CAFile has the certificate, in PEM, that the secure listener shows.
	CAFile string

	dir, libs string
	ports     [3]int // plain, secure, controller
	command   *exec.Cmd
	ended     chan struct{} // closed when command has ended
}

// Start starts a server that ends with the test. Unless the environment has
// E2E_SERVERS=1, it skips the test.
func Start(t testing.TB) *Server {
	t.Helper()
	if os.Getenv("E2E_SERVERS") != "1" {
		t.Skip("needs Apache Kafka: install Java 17 and Maven and set E2E_SERVERS=1, or run test/kafkatest/run.sh")
	}
	libs, err := fetch(t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{dir: t.TempDir(), libs: libs}
	s.CAFile = filepath.Join(s.dir, "ca.pem")
	if err := s.certificate(); err != nil {
		t.Fatal(err)
	}
	if err := s.configure(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.command != nil {
			s.Kill(t)
		}
		if t.Failed() {
			t.Logf("end of Kafka's log:\n%s", s.logTail())
		}
	})
	s.Start(t)
	return s
}

// fetch returns the folder of Kafka's jars, which are fetched if it is not
// there.
func fetch(logf func(string, ...any)) (string, error) {
	if _, err := exec.LookPath("java"); err != nil {
		return "", fmt.Errorf("no Java: install openjdk-17-jre-headless: %w", err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	libs := filepath.Join(cache, "bouncemeter-test", "kafka-"+Version)
	if _, err := os.Stat(libs); err == nil {
		return libs, nil
	}
	if _, err := exec.LookPath("mvn"); err != nil {
		return "", fmt.Errorf("no Maven to fetch Kafka's jars with: install maven: %w", err)
	}
	logf("fetching Apache Kafka %s from Maven Central", Version)
	if err := os.MkdirAll(filepath.Dir(libs), 0o700); err != nil {
		return "", err
	}
	// Whole or not at all, also if another test does the same.
	temporary, err := os.MkdirTemp(filepath.Dir(libs), "fetch-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(temporary) }()
	if err := os.WriteFile(filepath.Join(temporary, "pom.xml"), pom, 0o600); err != nil {
		return "", err
	}
	mvn := exec.Command("mvn", "-B", "-q", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=libs")
	mvn.Dir = temporary
	if out, err := mvn.CombinedOutput(); err != nil {
		return "", fmt.Errorf("fetch Kafka's jars: %w\n%s", err, out)
	}
	if err := os.Rename(filepath.Join(temporary, "libs"), libs); err != nil {
		if _, other := os.Stat(libs); other != nil {
			return "", err
		}
	}
	return libs, nil
}

// certificate makes one that signs itself, with its key for Kafka and without
// for clients.
func (s *Server) certificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kafka.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	both := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), public...)
	return errors.Join(os.WriteFile(s.CAFile, public, 0o600), os.WriteFile(filepath.Join(s.dir, "server.pem"), both, 0o600))
}

// configure chooses ports, and writes server.properties and an empty store.
func (s *Server) configure() error {
	var listeners []net.Listener
	for i := range s.ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		listeners = append(listeners, l)
		s.ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	for _, l := range listeners {
		_ = l.Close()
	}
	s.Addr, s.SecureAddr = fmt.Sprintf("127.0.0.1:%d", s.ports[0]), fmt.Sprintf("127.0.0.1:%d", s.ports[1])
	controller := fmt.Sprintf("127.0.0.1:%d", s.ports[2])
	properties := strings.Join([]string{
		"process.roles=broker,controller",
		"node.id=1",
		"controller.quorum.bootstrap.servers=" + controller,
		"controller.listener.names=CONTROLLER",
		"inter.broker.listener.name=PLAINTEXT",
		"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
		"listeners=PLAINTEXT://" + s.Addr + ",SASL_SSL://" + s.SecureAddr + ",CONTROLLER://" + controller,
		"advertised.listeners=PLAINTEXT://" + s.Addr + ",SASL_SSL://" + s.SecureAddr + ",CONTROLLER://" + controller,
		"ssl.keystore.type=PEM",
		"ssl.keystore.location=" + filepath.Join(s.dir, "server.pem"),
		"sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		`listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_` + User + `="` + Password + `";`,
		"listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;",
		"listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;",
		"log.dirs=" + filepath.Join(s.dir, "data"),
		"auto.create.topics.enable=false",
		"offsets.topic.num.partitions=4",
		"offsets.topic.replication.factor=1",
		"transaction.state.log.num.partitions=4",
		"transaction.state.log.replication.factor=1",
		"transaction.state.log.min.isr=1",
		"group.initial.rebalance.delay.ms=0",
		"log.cleaner.backoff.ms=200",
		"message.max.bytes=16777216",
		"", // ends the last line
	}, "\n")
	file := filepath.Join(s.dir, "server.properties")
	if err := os.WriteFile(file, []byte(properties), 0o600); err != nil {
		return err
	}
	args := []string{"format", "--standalone", "-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c", file}
	for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
		args = append(args, "--add-scram", mechanism+"=[name="+User+",password="+Password+"]")
	}
	if out, err := s.java("kafka.tools.StorageTool", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("make Kafka's store: %w\n%s", err, out)
	}
	return nil
}

func (s *Server) java(class string, args ...string) *exec.Cmd {
	return exec.Command("java", append([]string{"-Xmx768m", "-XX:+UseSerialGC", "-cp", filepath.Join(s.libs, "*"), class}, args...)...)
}

// startWithin is how long a node may take until it serves; a loaded machine
// needs it.
const startWithin = 90 * time.Second

// Start starts the server again after Stop or Kill, with what it had.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	s.command = s.java("kafka.Kafka", filepath.Join(s.dir, "server.properties"))
	s.command.Stdout, s.command.Stderr = log, log
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	command, ended := s.command, make(chan struct{})
	s.ended = ended
	go func() {
		_ = command.Wait() // it is stopped by a signal
		close(ended)
	}()
	tick, late := time.NewTicker(100*time.Millisecond), time.After(startWithin)
	defer tick.Stop()
	for {
		if text, err := os.ReadFile(s.logFile()); err == nil && bytes.Contains(text, []byte("Kafka Server started")) {
			return
		}
		select {
		case <-tick.C:
		case <-ended:
			t.Fatalf("Kafka has ended:\n%s", s.logTail())
		case <-late:
			t.Fatalf("Kafka does not start:\n%s", s.logTail())
		}
	}
}

// Stop ends the server in good order.
func (s *Server) Stop(t testing.TB) { s.signal(t, syscall.SIGTERM) }

// Kill ends the server as a crash does.
func (s *Server) Kill(t testing.TB) { s.signal(t, syscall.SIGKILL) }

func (s *Server) signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if err := s.command.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	select {
	case <-s.ended:
	case <-time.After(startWithin):
		t.Error("Kafka does not end")
		_ = s.command.Process.Kill()
	}
	s.command = nil
}

func (s *Server) logFile() string { return filepath.Join(s.dir, "kafka.log") }

// logTail returns the end of the server's log.
func (s *Server) logTail() []byte {
	text, err := os.ReadFile(s.logFile())
	if err != nil {
		return []byte(err.Error())
	}
	return text[max(0, len(text)-8<<10):]
}
