package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

// mta is a mail server other than Postfix, of which only the files are needed:
// Debian's packages cannot be installed side by side, so run.sh unpacks them.
type mta struct {
	name string
	// config returns the configuration; routes are recipient domains and the
	// loopback addresses that they go to at r.peerPort, all others go to
	// 127.0.0.1.
	config func(t *testing.T, r *running, routes map[string]string) string
	// command starts it in the foreground, in namespaces of its own.
	command func(r *running) string
	// settled reports whether every message of the log has left the queue.
	settled func(r *running, log string) bool
	// truth counts the outcomes in the log by the simplest means.
	truth func(log string) map[string]any
	// own are the categories that differ from those of the cases, since the MTA
	// tells less or decides otherwise.
	own map[string]string // by route and text
	// quiet is set if the bounce message for an expired message does not tell the
	// cause.
	quiet bool
}

// running is a started MTA with everything in one folder.
type running struct {
	files, dir, log string // the unpacked packages; its folder; the log
	port, peerPort  int
}

// routes of mtaCases, besides the address that answers as the case says.
const (
	nobody  = "127.0.0.2" // nobody listens
	blocked = "127.0.0.3" // greets with 554
	small   = "127.0.0.4" // announces a SIZE that is too small
)

// mtaCases are what the peer answers.
var mtaCases = slices.Concat(articleReplies, []reply{
	{stage: "END", text: "550-5.7.26 This mail has been blocked because the sender is unauthenticated.\n550-5.7.26 Gmail requires all senders to authenticate with either SPF or DKIM.\n550 5.7.26  Authentication results: DKIM = did not pass", category: "auth_failed"},
	{stage: "RCPT", text: "450 4.2.0 <x@case.example>: Recipient address rejected: Greylisted, see http://postgrey.example/", category: "greylisted"},
	{stage: "RCPT", text: "452 4.2.2 The recipient's inbox is out of storage space", category: "mailbox_full"},
	{stage: "MAIL", text: "451 4.7.0 Too many connections from your host, slow down", category: "rate_limited"},
	{stage: "RCPT", text: "550 5.1.1 <x@case.example>: stat=Sent, result=\"Ok\" => x (250 2.0.0 a hostile reply) User unknown", category: "user_unknown"},
	{route: nobody, category: "connection_failed"},
	{route: blocked, category: "ip_blocklisted"},
	{route: small, category: "message_too_large"},
	{stage: "RCPT", text: "", category: ""}, // delivered
})

var mtas = []mta{
	{
		name: "exim",
		own:  map[string]string{small: ""}, // tries all the same, and the peer takes it
		config: func(t *testing.T, r *running, routes map[string]string) string {
			var routers strings.Builder
			for domain, address := range routes {
				fmt.Fprintf(&routers, "to_%s:\n  driver = manualroute\n  domains = %s\n  route_list = * %s byname\n  self = send\n  transport = smtp\n", strings.ReplaceAll(domain, ".", "_"), domain, address)
			}
			return fmt.Sprintf(eximConf, r.dir, r.port, routers.String(), r.peerPort, r.files+exim4)
		},
		command: func(r *running) string {
			return fmt.Sprintf("exec %s%s -C %s/config -bdf -q3s", r.files, exim4, r.dir)
		},
		settled: func(_ *running, log string) bool {
			for _, m := range regexp.MustCompile(`(?m)^\S+ \S+ (\S+) <= `).FindAllStringSubmatch(log, -1) {
				if !strings.Contains(log, " "+m[1]+" Completed") {
					return false
				}
			}
			return true
		},
		truth: func(log string) map[string]any {
			count := counter(log)
			given := count(`(?m)^\S+ \S+ \S+ \*\* \S+: retry timeout exceeded$`)
			return map[string]any{
				"delivered": count(`(?m)^\S+ \S+ \S+ [=-]> `), "deferred": count(`(?m)^\S+ \S+ \S+ == `),
				"bounced": count(`(?m)^\S+ \S+ \S+ \*\* `) - given, "expired": given,
			}
		},
	},
	{
		name: "sendmail",
		own:  map[string]string{small: ""}, // tries all the same, and the peer takes it
		config: func(t *testing.T, r *running, routes map[string]string) string {
			var rules strings.Builder
			for domain, address := range routes {
				fmt.Fprintf(&rules, "R$* < @ %s . > $*\t$#esmtp $@ [%s] $: $1 < @ %s > $2\n", domain, address, domain)
			}
			source := fmt.Sprintf(sendmailMC, r.dir, r.port, r.peerPort, rules.String())
			cf := r.files + "/sendmail-cf/usr/share/sendmail/cf/"
			m4 := exec.Command("m4", "-D_CF_DIR_="+cf, cf+"m4/cf.m4", "-")
			m4.Stdin = strings.NewReader(source)
			out, err := m4.Output()
			if err != nil {
				t.Fatalf("m4: %v", err)
			}
			return string(out)
		},
		command: func(r *running) string {
			return fmt.Sprintf("exec %s/sendmail-bin/usr/libexec/sendmail/sendmail -L sm-mta -bD -q3s -C %s/config", r.files, r.dir)
		},
		settled: func(r *running, _ string) bool {
			waiting, _ := filepath.Glob(r.dir + "/spool/*")
			return len(waiting) == 0
		},
		truth: func(log string) map[string]any {
			outcomes := map[string]any{"delivered": 0.0, "deferred": 0.0, "bounced": 0.0, "expired": counter(log)(`: Cannot send message for`)}
			names := map[string]string{"2": "delivered", "4": "deferred", "5": "bounced"}
			for _, m := range regexp.MustCompile(`(?m): to=(<\S+>), .*?, dsn=(\d)`).FindAllStringSubmatch(log, -1) {
				outcomes[names[m[2]]] = outcomes[names[m[2]]].(float64) + float64(strings.Count(m[1], "<"))
			}
			return outcomes
		},
	},
	{
		name:  "opensmtpd",
		own:   map[string]string{blocked: "connection_failed"}, // "Network error on destination MXs"
		quiet: true,
		config: func(t *testing.T, r *running, routes map[string]string) string {
			var actions, matches strings.Builder
			for domain, address := range routes {
				fmt.Fprintf(&actions, "action %q relay host smtp://%s:%d\n", domain, address, r.peerPort)
				fmt.Fprintf(&matches, "match from any for domain %q action %q\n", domain, domain)
			}
			return fmt.Sprintf(opensmtpdConf, r.port, r.peerPort, actions.String(), matches.String())
		},
		command: func(r *running) string {
			return fmt.Sprintf("mount -t tmpfs tmpfs /var/spool && mkdir -p /var/spool/smtpd && chmod 711 /var/spool/smtpd && "+
				"mount -t tmpfs tmpfs /var/lib && mkdir -p /var/lib/opensmtpd/empty && mount -t tmpfs tmpfs /run && "+
				"exec %s/opensmtpd/usr/sbin/smtpd -F -f %s/config", r.files, r.dir)
		},
		settled: func(_ *running, log string) bool {
			for _, m := range regexp.MustCompile(`smtp envelope evpid=(\w+)`).FindAllStringSubmatch(log, -1) {
				if !regexp.MustCompile(`evpid=` + m[1] + ` .* result="(Ok|PermFail)"|Expire for ` + m[1]).MatchString(log) {
					return false
				}
			}
			return true
		},
		truth: func(log string) map[string]any {
			count := counter(log)
			return map[string]any{
				"delivered": count(`mta delivery .*? delay=\w+ result="Ok"`), "deferred": count(`mta delivery .*? delay=\w+ result="TempFail"`),
				"bounced": count(`mta delivery .*? delay=\w+ result="PermFail"`), "expired": count(`relay: Expire for`),
			}
		},
	},
}

// counter counts matches in a log.
func counter(log string) func(expression string) float64 {
	return func(expression string) float64 {
		return float64(len(regexp.MustCompile(expression).FindAllString(log, -1)))
	}
}

const exim4 = "/exim4-daemon-light/usr/sbin/exim4"

const eximConf = `primary_hostname = mx1.sender.example
exim_path = %[5]s
timezone = UTC
spool_directory = %[1]s/spool
log_file_path = %[1]s/%%slog
pid_file_path = %[1]s/pid
daemon_smtp_ports = %[2]d
local_interfaces = 127.0.0.1
log_selector = +queue_time +outgoing_interface
tls_advertise_hosts =
acl_smtp_rcpt = accept
rfc1413_query_timeout = 0s
keep_environment =
delay_warning =
begin routers
%[3]sall:
  driver = manualroute
  route_list = * 127.0.0.1 byname
  self = send
  transport = smtp
begin transports
smtp:
  driver = smtp
  port = %[4]d
  allow_localhost
  hosts_avoid_tls = *
  connect_timeout = 3s
begin retry
* * F,12s,4s
`

const sendmailMC = `divert(0)dnl
OSTYPE(` + "`linux'" + `)dnl
define(` + "`confDOMAIN_NAME', `mx1.sender.example'" + `)dnl
define(` + "`QUEUE_DIR', `%[1]s/spool'" + `)dnl
define(` + "`confPID_FILE', `%[1]s/pid'" + `)dnl
define(` + "`STATUS_FILE', `%[1]s/statistics'" + `)dnl
define(` + "`confTO_QUEUERETURN', `12s'" + `)dnl
define(` + "`confTO_QUEUEWARN', `1h'" + `)dnl
define(` + "`confTO_ICONNECT', `3s'" + `)dnl
define(` + "`confDONT_PROBE_INTERFACES', `True'" + `)dnl
define(` + "`confLOG_LEVEL', `9'" + `)dnl
define(` + "`confQUEUE_LA', `1000'" + `)dnl
define(` + "`confREFUSE_LA', `1000'" + `)dnl
define(` + "`ESMTP_MAILER_ARGS', `TCP $h %[3]d'" + `)dnl
define(` + "`SMART_HOST', `esmtp:[127.0.0.1]'" + `)dnl
undefine(` + "`ALIAS_FILE'" + `)dnl
FEATURE(` + "`nocanonify'" + `)dnl
FEATURE(` + "`promiscuous_relay'" + `)dnl
FEATURE(` + "`accept_unresolvable_domains'" + `)dnl
FEATURE(` + "`no_default_msa'" + `)dnl
DAEMON_OPTIONS(` + "`Port=%[2]d, Addr=127.0.0.1, Name=MTA'" + `)dnl
MAILER(` + "`local'" + `)dnl
MAILER(` + "`smtp'" + `)dnl
LOCAL_RULE_0
%[4]s`

const opensmtpdConf = `queue ttl 12s
listen on 127.0.0.1 port %[1]d
action "all" relay host smtp://127.0.0.1:%[2]d
%[3]s%[4]smatch from any for any action "all"
`

// TestMTAs sends a message for each case through each MTA and compares what the
// report says with the log and with what the peer did.
func TestMTAs(t *testing.T) {
	needsServers(t)
	files := os.Getenv("E2E_MTAS")
	if files == "" {
		t.Skip("needs the unpacked packages of other MTAs; run test/e2e/run.sh")
	}
	for _, m := range mtas {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			m.test(t, files)
		})
	}
}

func (m *mta) test(t *testing.T, files string) {
	good := &peer{answer: func(stage, sender, _ string) string {
		if n := caseNumber(sender); n >= 0 && mtaCases[n].stage == stage {
			return mtaCases[n].text
		}
		return "" // bounces are taken
	}}
	var mu sync.Mutex
	var bounces []string
	good.keep = func(sender, _, message string) {
		mu.Lock()
		defer mu.Unlock()
		if sender == "" {
			bounces = append(bounces, message)
		}
	}
	r := &running{files: files, peerPort: good.listen(t), port: rig.FreePort(t)}
	(&peer{banner: "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org"}).listenAt(t, fmt.Sprintf("%s:%d", blocked, r.peerPort))
	(&peer{size: 500}).listenAt(t, fmt.Sprintf("%s:%d", small, r.peerPort))
	m.start(t, r)

	body := strings.Repeat("A line of text that makes the message longer than 500 bytes.\r\n", 20)
	for i := range mtaCases {
		from, to := fmt.Sprintf("a@case%02d.example", i), fmt.Sprintf("x@to%02d.example", i)
		message := fmt.Sprintf("From: %s\r\nTo: %s\r\nSubject: case %d\r\n\r\n%s", from, to, i, body)
		if err := smtp.SendMail(fmt.Sprintf("127.0.0.1:%d", r.port), nil, from, []string{to}, []byte(message)); err != nil {
			t.Fatal(err)
		}
	}
	log := m.settle(t, r)

	got := report(t, "--timezone", "UTC", r.log)
	if diff := cmp.Diff(m.truth(log), got["outcomes"]); diff != "" {
		t.Errorf("outcomes (-grep +report):\n%s", diff)
	}
	if got["malformed"] != 0.0 || got["unmatched"] != 0.0 {
		t.Errorf("%v malformed, %v without a sender", got["malformed"], got["unmatched"])
	}
	m.compare(t, "log", false, categoriesBySender(got))
	if t.Failed() {
		t.Log("\n" + log)
	}

	// The bounce messages tell the same.
	dir := t.TempDir()
	mu.Lock()
	defer mu.Unlock()
	for i, b := range bounces {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.eml", i)), []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.compare(t, "bounce messages", m.quiet, ingestedCategories(t, dir))
	if t.Failed() {
		t.Log("\n" + ingest(t, dir))
	}
}

// compare checks that each case has its category and no other, or with quiet
// none for what expired.
func (m *mta) compare(t *testing.T, where string, quiet bool, got map[string][]string) {
	t.Helper()
	for i, c := range mtaCases {
		domain := fmt.Sprintf("case%02d.example", i)
		category := c.category
		if own, ok := m.own[c.route+c.text]; ok {
			category = own
		}
		if quiet && (strings.HasPrefix(c.text, "4") || c.route == nobody || c.route == blocked) {
			category = ""
		}
		categories := slices.DeleteFunc(got[domain], func(g string) bool { return g == "expired" && category != "expired" })
		want := strings.Fields(category) // two words: either is right
		if len(categories) != min(len(want), 1) || len(want) > 0 && !slices.Contains(want, categories[0]) {
			t.Errorf("%s: %s %q %s: category %v, want %v", where, domain, c.text, c.route, categories, want)
		}
	}
}

// categoriesBySender returns the categories of each sender domain in a report.
func categoriesBySender(report map[string]any) map[string][]string {
	domains := make(map[string][]string)
	for _, c := range report["categories"].([]any) {
		c := c.(map[string]any)
		for domain := range c["sender_domains"].(map[string]any) {
			domains[domain] = append(domains[domain], c["category"].(string))
		}
	}
	return domains
}

// ingestedCategories returns the categories of the bounce messages in a folder.
func ingestedCategories(t *testing.T, dir string) map[string][]string {
	t.Helper()
	domains := make(map[string][]string)
	for line := range strings.Lines(ingest(t, dir)) {
		var record struct {
			Category     string
			Secondary    string
			SenderDomain string `json:"sender_domain"`
		}
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		category := record.Category
		if category == "expired" && record.Secondary != "" {
			category = record.Secondary
		}
		if !slices.Contains(domains[record.SenderDomain], category) {
			domains[record.SenderDomain] = append(domains[record.SenderDomain], category)
		}
	}
	return domains
}

func caseNumber(address string) int {
	var n int
	if _, err := fmt.Sscanf(address[strings.LastIndexByte(address, '@')+1:], "case%d.example", &n); err != nil {
		return -1
	}
	return n
}

// The users that the MTAs change to, in a passwd file that only they see.
const (
	mtaUser   = 65111
	mtaPasswd = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/false\n" +
		"Debian-exim:x:65111:65111::/nonexistent:/bin/false\nsmmta:x:65112:65112::/nonexistent:/bin/false\nsmmsp:x:65113:65113::/nonexistent:/bin/false\n" +
		"opensmtpd:x:65114:65114::/var/lib/opensmtpd/empty:/bin/false\nopensmtpq:x:65115:65115::/var/lib/opensmtpd/empty:/bin/false\n"
	mtaGroup = "root:x:0:\nnogroup:x:65534:\nDebian-exim:x:65111:\nsmmta:x:65112:\nsmmsp:x:65113:\nopensmtpd:x:65114:\nopensmtpq:x:65115:\n"
)

// start runs the MTA in mount, host name and process namespaces of its own, with
// /dev/log going to r.log in the form that rsyslog writes.
func (m *mta) start(t *testing.T, r *running) {
	t.Helper()
	dir, err := os.MkdirTemp("", "bouncemeter-"+m.name+"-")
	if err != nil {
		t.Fatal(err)
	}
	r.dir, r.log = dir, filepath.Join(dir, "mainlog")
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "spool"), 0o700); err != nil {
		t.Fatal(err)
	}
	routes := make(map[string]string)
	for i, c := range mtaCases {
		if c.route != "" {
			routes[fmt.Sprintf("to%02d.example", i)] = c.route
		}
	}
	for name, text := range map[string]string{"config": m.config(t, r, routes), "passwd": mtaPasswd, "group": mtaGroup} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if m.name == "exim" {
		for _, name := range []string{dir, filepath.Join(dir, "spool")} {
			if err := os.Chown(name, mtaUser, mtaUser); err != nil {
				t.Fatalf("%v; the MTAs need root", err)
			}
		}
	}
	receiveSyslog(t, filepath.Join(dir, "syslog"), r.log)
	script := fmt.Sprintf("mount --bind %[1]s/passwd /etc/passwd && mount --bind %[1]s/group /etc/group && "+
		"mkdir %[1]s/dev && mount -t tmpfs tmpfs %[1]s/dev && "+
		"for d in null zero random urandom; do touch %[1]s/dev/$d && mount --bind /dev/$d %[1]s/dev/$d || exit; done && "+
		"touch %[1]s/dev/log && mount --bind %[1]s/syslog %[1]s/dev/log && ln -s /proc/self/fd %[1]s/dev/fd && "+
		"mount --rbind %[1]s/dev /dev && hostname mx1.sender.example && %[2]s", dir, m.command(r))
	var out bytes.Buffer
	cmd := exec.Command("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script)
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &out, append(os.Environ(), "TZ=UTC")
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Log(out.String())
		}
	})
	for deadline := time.Now().Add(2 * time.Minute); ; {
		conn, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", r.port))
		if err == nil {
			conn.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s ended: %v\n%s", m.name, err, out.String())
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen", m.name)
		}
	}
}

// receiveSyslog writes what comes to a socket like /dev/log to a file, with the
// host, which only the receiver knows.
func receiveSyslog(t *testing.T, socket, file string) {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 64<<10)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				return // closed
			}
			text := strings.TrimRight(string(buffer[:n]), "\x00\n")
			if _, rest, ok := strings.Cut(text, ">"); ok {
				text = rest
			}
			if len(text) < len(time.Stamp) {
				continue
			}
			text = strings.ReplaceAll(text[:len(time.Stamp)]+" mx1"+text[len(time.Stamp):], "\n", "#012")
			f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
			if err == nil {
				fmt.Fprintln(f, text)
				f.Close()
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
}

// settle waits until nothing is left in the queue.
func (m *mta) settle(t *testing.T, r *running) string {
	t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	quiet := 0
	for {
		log, err := os.ReadFile(r.log)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if m.settled(r, string(log)) {
			quiet++
		} else {
			quiet = 0
		}
		if quiet == 4 { // bounces, too, are on their way or gone
			return string(log)
		}
		if time.Now().After(deadline) {
			t.Fatalf("after three minutes there still are messages in the queue\n%s", log)
		}
		<-time.After(500 * time.Millisecond)
	}
}
