// Package e2e runs bouncemeter against real servers. The tests are skipped
// unless E2E_SERVERS is set; run.sh installs what they need and sets it.
package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/smtp"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

func needsServers(t *testing.T) {
	t.Helper()
	if os.Getenv("E2E_SERVERS") == "" {
		t.Skip("needs real servers; run test/e2e/run.sh")
	}
}

// reply is one way for a delivery to end, and the category that it has to get.
type reply struct {
	stage, text string // stage "": what route says
	category    string
	route       string // the transport, if not the peer that answers
}

// articleReplies are the examples of Symantec's article 162445 about bounces
// of Email Security.cloud.
var articleReplies = []reply{
	{stage: "MAIL", text: "552 5.3.4 Message size exceeds fixed maximum message size", category: "message_too_large"},
	{stage: "END", text: "552 Message size exceeds fixed limit", category: "message_too_large"},
	{stage: "RCPT", text: "552 Mailbox is full", category: "mailbox_full"},
	{stage: "END", text: "552 Requested mail action aborted: exceeded storage allocation", category: "mailbox_full"},
	{stage: "RCPT", text: "550 User unknown", category: "user_unknown"},
	{stage: "RCPT", text: "554 5.7.1 Recipient address rejected: No such user", category: "user_unknown"},
	{stage: "RCPT", text: "550 5.7.1 Unable to Relay", category: "relay_denied"},
	{stage: "RCPT", text: "554 5.7.1 Relay access denied", category: "relay_denied"},
	{stage: "END", text: "550 5.7.1 Message rejected as spam by Content Filtering.", category: "spam_content"},
	{stage: "END", text: "554 Denied (Mode: normal)", category: "policy"},
	{stage: "END", text: "550 Denied by policy", category: "policy"},
	{stage: "END", text: "552 MS-Office file containing VBA macros found inside of the email", category: "malware"},
	{stage: "END", text: "550 5.7.1 Message rejected due to content restrictions", category: "policy"},
	{stage: "MAIL", text: "554 5.1.0 Sender denied", category: "sender_rejected"},
	{stage: "MAIL", text: "553 Envelope sender rejected", category: "sender_rejected"},
	{stage: "RCPT", text: "550 SPF check failed. Sender not authorized", category: "spf_failed"},
	{stage: "RCPT", text: "550 Sender verify failed", category: "sender_unverified"},
	{stage: "RCPT", text: "550 5.7.1 SPF unauthorized mail is prohibited.", category: "spf_failed"},
	{stage: "END", text: "554 5.4.7 [internal] exceeded max time without delivery", category: "expired"},
}

// otherReplies are further shapes: several lines, deferrals, and failures that
// Postfix itself words. Addresses of the closed port are filled in.
var otherReplies = []reply{
	{stage: "END", text: "550-5.7.26 This mail has been blocked because the sender is unauthenticated.\n550-5.7.26 Gmail requires all senders to authenticate with either SPF or DKIM.\n550 5.7.26  Authentication results: DKIM = did not pass", category: "auth_failed"},
	{stage: "RCPT", text: "450 4.2.0 <x@case.example>: Recipient address rejected: Greylisted, see http://postgrey.example/", category: "greylisted"},
	{stage: "RCPT", text: "452 4.2.2 The recipient's inbox is out of storage space", category: "mailbox_full"},
	{stage: "MAIL", text: "421 4.7.0 Too many connections from your host, slow down", category: "rate_limited"},
	{stage: "RCPT", text: "550 5.1.1 <x@case.example>: status=sent (250 2.0.0 a hostile reply) User unknown", category: "user_unknown"},
	{route: "smtp:[127.0.0.1]:%[1]d", category: "connection_failed"},          // refused
	{route: "smtp:[127.0.0.1]:%[2]d", category: "ip_blocklisted"},             // banner 554
	{route: "smtp:[127.0.0.1]:%[3]d", category: "message_too_large"},          // SIZE too small
	{route: "smtp:[127.0.0.1]:%[1]d", category: "connection_failed"},          // the site is dead now, says postfix/error
	{route: "smtp:[no-such-host.invalid]", category: "bad_domain dns_failed"}, // RFC 2606: never exists
	{stage: "RCPT", text: "", category: ""},                                   // delivered
}

func TestPostfix(t *testing.T) {
	needsServers(t)
	cases := slices.Concat(articleReplies, otherReplies)
	number := func(address string) int {
		var n int
		if _, err := fmt.Sscanf(address[strings.LastIndexByte(address, '@')+1:], "case%d.example", &n); err != nil {
			return -1
		}
		return n
	}
	good := &peer{answer: func(stage, sender, recipient string) string {
		if n := number(sender); sender != "" && n >= 0 && cases[n].stage == stage {
			return cases[n].text
		}
		return "" // bounces are taken
	}}
	bounces := t.TempDir()
	var bounced atomic.Int64
	good.keep = func(sender, _, message string) {
		if sender == "" {
			name := fmt.Sprintf("%d.eml", bounced.Add(1))
			if err := os.WriteFile(filepath.Join(bounces, name), []byte(message), 0o600); err != nil {
				t.Error(err)
			}
		}
	}
	closedPort := rig.FreePort(t)
	goodPort := good.listen(t)
	blockedPort := (&peer{banner: "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org"}).listen(t)
	smallPort := (&peer{size: 500}).listen(t)

	p := newPostfix(t, fmt.Sprintf("[127.0.0.1]:%d", goodPort), func(transport *bytes.Buffer) {
		for i, c := range cases {
			if c.route != "" {
				route := c.route
				if strings.Contains(route, "%") {
					route = fmt.Sprintf(route, closedPort, blockedPort, smallPort)
					route, _, _ = strings.Cut(route, "%!(EXTRA")
				}
				fmt.Fprintf(transport, "/@to%02d\\.example$/ %s\n", i, route)
			}
		}
	})
	body := strings.Repeat("A line of text that makes the message longer than 500 bytes.\r\n", 20)
	for i := range cases {
		message := fmt.Sprintf("From: a@case%02d.example\r\nTo: x@to%02d.example\r\nSubject: case %d\r\n\r\n%s", i, i, i, body)
		if err := smtp.SendMail(p.address, nil, fmt.Sprintf("a@case%02d.example", i), []string{fmt.Sprintf("x@to%02d.example", i)}, []byte(message)); err != nil {
			t.Fatal(err)
		}
	}
	log := p.settle(t)

	// What is true, counted by the simplest means.
	attempts := regexp.MustCompile(`(?m)^.*: to=<[^>]*>, .*?, status=(\w+) \(`)
	statuses := map[string]float64{}
	for _, m := range attempts.FindAllStringSubmatch(log, -1) {
		statuses[m[1]]++
	}
	for _, m := range regexp.MustCompile(`(?m)^.*: from=<[^>]*>, status=(expired), returned`).FindAllStringSubmatch(log, -1) {
		statuses[m[1]]++
	}
	r := report(t, p.log)
	want := map[string]any{"delivered": statuses["sent"], "deferred": statuses["deferred"], "bounced": statuses["bounced"], "expired": statuses["expired"]}
	if diff := cmp.Diff(want, r["outcomes"]); diff != "" {
		t.Errorf("outcomes (-grep +report):\n%s", diff)
	}
	if lines := float64(strings.Count(log, "\n")); r["lines"] != lines || r["malformed"] != 0.0 || r["unmatched"] != 0.0 {
		t.Errorf("%v of %v lines, %v malformed, %v without a sender", r["lines"], lines, r["malformed"], r["unmatched"])
	}
	if statuses["expired"] == 0 || statuses["deferred"] == 0 || statuses["bounced"] < 19 {
		t.Errorf("the log lacks what was to be tested: %v", statuses)
	}
	// Each case has a sender domain of its own.
	got := map[string]map[string]float64{} // sender domain → category → attempts
	for _, c := range r["categories"].([]any) {
		c := c.(map[string]any)
		for domain, n := range c["sender_domains"].(map[string]any) {
			if got[domain] == nil {
				got[domain] = map[string]float64{}
			}
			got[domain][c["category"].(string)] += n.(float64)
		}
	}
	for i, c := range cases {
		domain := fmt.Sprintf("case%02d.example", i)
		var categories []string
		for category := range got[domain] {
			if category != "expired" || c.category == "expired" {
				categories = append(categories, category)
			}
		}
		// Two words: either is right.
		want := strings.Fields(c.category)
		if len(categories) != min(len(want), 1) || len(want) > 0 && !slices.Contains(want, categories[0]) {
			t.Errorf("%s %q %s: category %v, want %v", domain, c.text, c.route, categories, want)
		}
	}

	// The bounce messages that Postfix sends tell the same.
	told := map[string]string{} // sender domain → category
	for line := range strings.Lines(ingest(t, bounces)) {
		var record struct {
			Outcome, Category, Sender, Recipient string
			SenderDomain                         string `json:"sender_domain"`
		}
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		if record.Outcome != "oob_bounce" || number(record.Recipient) >= 0 || record.Recipient == "" {
			t.Errorf("a record of a bounce: %s", line)
		}
		told[record.SenderDomain] = record.Category
	}
	for i, c := range cases {
		domain := fmt.Sprintf("case%02d.example", i)
		if want := strings.Fields(c.category); len(want) > 0 && !slices.Contains(want, told[domain]) {
			t.Errorf("%s %q %s: its bounce message has category %q, want %v", domain, c.text, c.route, told[domain], want)
		} else if len(want) == 0 && told[domain] != "" {
			t.Errorf("%s was delivered and has a bounce message", domain)
		}
	}
}

func ingest(t *testing.T, args ...string) string {
	t.Helper()
	return string(rig.Output(t, rig.Build(t, ""), append([]string{"ingest", "-o", "json"}, args...)...))
}

func TestMain(m *testing.M) { rig.Main(m) }

func report(t *testing.T, args ...string) map[string]any {
	t.Helper()
	var r map[string]any
	if err := json.Unmarshal(rig.ReportJSON(t, rig.Build(t, ""), args...), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// postfix is a real Postfix with everything in one folder.
type postfix struct {
	dir, log, address string
}

const mainCF = `compatibility_level = 3.6
mail_owner = postfix
setgid_group = postdrop
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/mail.log
maillog_file_prefixes = %[1]s
myhostname = mx1.sender.example
mydestination =
local_transport = error:no local mail here
mynetworks = 127.0.0.0/8
inet_interfaces = loopback-only
inet_protocols = ipv4
relayhost = %[2]s
transport_maps = regexp:%[1]s/etc/transport
alias_maps =
smtp_tls_security_level = none
smtp_host_lookup = native
smtpd_relay_restrictions = permit_mynetworks, reject
default_destination_recipient_limit = 1
maximal_queue_lifetime = 12s
bounce_queue_lifetime = 12s
queue_run_delay = 4s
minimal_backoff_time = 4s
maximal_backoff_time = 4s
`

const masterCF = `127.0.0.1:%d inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
lmtp unix - - n - - lmtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
`

func newPostfix(t *testing.T, relayhost string, routes func(*bytes.Buffer)) *postfix {
	t.Helper()
	dir, err := os.MkdirTemp("", "bouncemeter-postfix-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"etc", "queue", "data"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	owner, err := user.Lookup("postfix")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(owner.Uid)
	if err := os.Chown(filepath.Join(dir, "data"), uid, -1); err != nil {
		t.Fatalf("%v; Postfix needs root", err)
	}
	port := rig.FreePort(t)

	var transport bytes.Buffer
	routes(&transport)
	for name, text := range map[string]string{
		"main.cf":   fmt.Sprintf(mainCF, dir, relayhost),
		"master.cf": fmt.Sprintf(masterCF, port),
		"transport": transport.String(),
	} {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := &postfix{dir: dir, log: filepath.Join(dir, "mail.log"), address: fmt.Sprintf("127.0.0.1:%d", port)}
	t.Cleanup(func() { _ = p.command("stop").Run() })
	if out, err := p.command("start").CombinedOutput(); err != nil {
		t.Fatalf("start Postfix: %v\n%s%s", err, out, p.read(t))
	}
	return p
}

func (p *postfix) command(args ...string) *exec.Cmd {
	return exec.Command("postfix", append([]string{"-c", filepath.Join(p.dir, "etc")}, args...)...)
}

func (p *postfix) read(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(p.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

// settle waits until every message has left the queue, and stops Postfix.
func (p *postfix) settle(t *testing.T) string {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		log := p.read(t)
		arrived := regexp.MustCompile(`(?m)postfix/cleanup\[\d+\]: (\w+): message-id=`).FindAllStringSubmatch(log, -1)
		gone := 0
		for _, m := range arrived {
			if strings.Contains(log, ": "+m[1]+": removed") {
				gone++
			}
		}
		if len(arrived) > 0 && gone == len(arrived) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after two minutes %d of %d messages have left the queue\n%s", gone, len(arrived), log)
		}
		<-time.After(500 * time.Millisecond)
	}
	if out, err := p.command("stop").CombinedOutput(); err != nil {
		t.Fatalf("stop Postfix: %v\n%s", err, out)
	}
	return p.read(t)
}
