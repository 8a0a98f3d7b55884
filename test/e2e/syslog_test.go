package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bouncemeter/bouncemeter/internal/testcert"
	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

// A real rsyslog takes messages as programs log them, and sends them on in each
// way that docs/receiving.md names. All come to the same counts.
func TestRsyslog(t *testing.T) {
	needsServers(t)
	dir := t.TempDir()
	mta, now := simulator(t)
	var lines bytes.Buffer
	if _, err := mta.WriteUntil(&lines, now.Add(20*time.Minute)); err != nil {
		t.Fatal(err)
	}
	want := bytes.Count(lines.Bytes(), []byte("\n"))
	log := filepath.Join(dir, "mail.log")
	if err := os.WriteFile(log, lines.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	authority := testcert.New(t)
	authority.Write(t, dir)
	testcert.Write(t, authority.Issue(t), dir, "cert")

	// A daemon for each way, since the counts of a ledger are of all its sources.
	ways := []struct{ name, listen, action string }{
		{"tcp", "tcp:127.0.0.1:%d", `protocol="tcp" TCP_Framing="octet-counted" template="RSYSLOG_ForwardFormat"`},
		{"5424", "tcp:127.0.0.1:%d", `protocol="tcp" TCP_Framing="octet-counted" template="RSYSLOG_SyslogProtocol23Format"`},
		{"default", "tcp:127.0.0.1:%d", `protocol="tcp"`},
		{"tls", "tls:127.0.0.1:%d", `protocol="tcp" TCP_Framing="octet-counted" template="RSYSLOG_SyslogProtocol23Format" StreamDriver="ossl" StreamDriverMode="1" StreamDriverAuthMode="x509/certvalid"`},
		{"udp", "udp:127.0.0.1:%d", `protocol="udp" template="RSYSLOG_SyslogProtocol23Format"`},
	}
	var rules bytes.Buffer
	socket := filepath.Join(dir, "rsyslog")
	fmt.Fprintf(&rules, `global(workDirectory="%[1]s" maxMessageSize="64k" parser.permitSlashInProgramName="on" defaultNetstreamDriverCAFile="%[1]s/ca.pem" defaultNetstreamDriverCertFile="%[1]s/cert.pem" defaultNetstreamDriverKeyFile="%[1]s/cert.key")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="%[2]s" IgnoreTimestamp="off" UseSysTimeStamp="off" RateLimit.Interval="0")
`, dir, socket)
	sites, daemons := make([]*rig.Site, len(ways)), make([]*rig.Daemon, len(ways))
	for i, w := range ways {
		folder := filepath.Join(dir, w.name)
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		port := rig.FreePort(t)
		extra := ""
		if w.name == "tls" {
			extra = fmt.Sprintf(", tls: {cert_file: %[1]s/cert.pem, key_file: %[1]s/cert.key, ca_file: %[1]s/ca.pem}", dir)
		}
		sites[i], daemons[i] = start(t, fmt.Sprintf(`{name: mta1, kind: syslog, listen: "%s", timezone: UTC%s}`, fmt.Sprintf(w.listen, port), extra), folder)
		daemons[i].Eventually(t, "it listens", func() bool { return strings.Contains(daemons[i].Output(), "listening for syslog") })
		fmt.Fprintf(&rules, `action(type="omfwd" target="127.0.0.1" port="%d" queue.type="LinkedList" queue.size="200000" queue.dequeueBatchSize="100" action.resumeRetryCount="-1" %s)`+"\n", port, w.action)
	}
	config := filepath.Join(dir, "rsyslog.conf")
	if err := os.WriteFile(config, rules.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	server := exec.Command("rsyslogd", "-n", "-f", config, "-i", filepath.Join(dir, "pid"))
	server.Stderr, server.Env = &output, append(os.Environ(), "TZ=UTC")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		server.Process.Kill()
		server.Wait()
	}()

	program := logSocket(t, socket, &output)
	for line := range strings.Lines(lines.String()) {
		// As syslog(3) writes it: with the time and without a host.
		stamp, rest := line[:len(time.Stamp)], line[len(time.Stamp)+1:]
		_, rest, _ = strings.Cut(strings.TrimSuffix(rest, "\n"), " ")
		if _, err := fmt.Fprintf(program, "<22>%s %s", stamp, rest); err != nil {
			t.Fatalf("%v\n%s", err, output.String())
		}
	}
	var first map[string]any
	for i, w := range ways {
		site, d := sites[i], daemons[i]
		if w.name == "udp" { // what is lost is counted
			d.Eventually(t, "all datagrams are accounted for", func() bool {
				return site.Sum(`bouncemeter_syslog_messages_total{result="received",source="mta1"}`)+
					site.Sum(`bouncemeter_syslog_messages_total{result="dropped_overflow",source="mta1"}`) >= float64(want)
			})
			d.Stop(t)
			continue
		}
		d.Counts(t, int64(want))
		d.Stop(t)
		got := report(t, "--ledger", site.Ledger)
		if got["malformed"] != float64(0) {
			t.Errorf("%s: %v lines are malformed", w.name, got["malformed"])
		}
		if first == nil {
			first = got
			whole := report(t, "--timezone", "UTC", log)
			if diff := cmp.Diff(whole["outcomes"], got["outcomes"]); diff != "" {
				t.Errorf("%s (-file +syslog)\n%s", w.name, diff)
			}
			if diff := cmp.Diff(whole["categories"], got["categories"]); diff != "" {
				t.Errorf("%s (-file +syslog)\n%s", w.name, diff)
			}
			continue
		}
		if diff := cmp.Diff(first, got); diff != "" {
			t.Errorf("(-%s +%s)\n%s", ways[0].name, w.name, diff)
		}
	}
}

// logSocket connects to a datagram socket once it is there.
func logSocket(t *testing.T, path string, output *bytes.Buffer) io.Writer {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		conn, err := net.Dial("unixgram", path)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
			return conn
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v\n%s", err, output.String())
		}
		<-time.After(20 * time.Millisecond)
	}
}
