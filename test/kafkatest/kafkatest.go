// Package kafkatest starts an Apache Kafka of its own for end-to-end tests: one
// KRaft node on free loopback ports, with a plain listener and one with TLS and
// logins. It needs Java 17 and, the first time, Maven to fetch the jars; the
// script beside it installs both on Debian.
package kafkatest

import (
	_ "embed" // pom.xml
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/internal/testcert"
	"github.com/bouncemeter/bouncemeter/test/internal/rig"
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
	// CAFile has the certificate, in PEM, of the authority of the secure listener.
	CAFile string

	dir, libs string
	program   *rig.Program
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
	free := rig.FreeAddresses(t, 3)
	s := &Server{Addr: free[0], SecureAddr: free[1], dir: t.TempDir(), libs: libs}
	authority := testcert.New(t)
	s.CAFile = authority.Write(t, s.dir)
	cert, key := testcert.PEM(t, authority.Issue(t))
	if err := os.WriteFile(filepath.Join(s.dir, "server.pem"), append(key, cert...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.configure(free[2]); err != nil {
		t.Fatal(err)
	}
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

// configure writes server.properties and an empty store.
func (s *Server) configure(controller string) error {
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
	s.program = rig.Start(t, s.java("kafka.Kafka", filepath.Join(s.dir, "server.properties")))
	s.program.Until(t, "Kafka serves", startWithin, func() bool { return strings.Contains(s.program.Output(), "Kafka Server started") })
}

// Stop ends the server in good order.
func (s *Server) Stop(t testing.TB) { s.program.End(t, syscall.SIGTERM, startWithin) }

// Kill ends the server as a crash does.
func (s *Server) Kill(t testing.TB) { s.program.End(t, syscall.SIGKILL, startWithin) }
