package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/tools/txtar"

	"github.com/bouncemeter/bouncemeter/internal/testcert"
	"github.com/bouncemeter/bouncemeter/sources/dialect"
	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

// routes are all there are, and what each needs beside the login of the web config
// file, which all need alike. docs/security.md has the same table.
var routes = []struct {
	method, path string
	plain        int // the answer without a login where none is configured
}{
	{"GET", "/", 200},
	{"GET", "/reason/user_unknown", 200},
	{"GET", "/providers", 200},
	{"GET", "/provider/gmail", 200},
	{"GET", "/domains", 200},
	{"GET", "/domain/shop.example", 200},
	{"GET", "/alerts", 200},
	{"GET", "/alerts/none", 404},
	{"POST", "/alerts/none/silence", 400},
	{"POST", "/silences/none/end", 200}, // by a redirect to the alerts
	{"GET", "/unclassified", 200},
	{"GET", "/try", 200},
	{"POST", "/try", 200},
	{"GET", "/sources", 200},
	{"GET", "/report", 200},
	{"GET", "/static/none", 404},
	{"GET", "/none", 404},
	{"GET", "/api/v1/counts?by=outcome", 200},
	{"GET", "/api/v1/alerts", 200},
	{"GET", "/api/v1/alerts/none", 404},
	{"GET", "/api/v1/templates", 200},
	{"GET", "/api/v1/unclassified", 200},
	{"GET", "/api/v1/categories", 200},
	{"GET", "/api/v1/sources", 200},
	{"GET", "/api/v1/report", 200},
	{"POST", "/api/v1/classify", 400}, // without a body
	{"POST", "/api/v1/explain", 400},
	{"GET", "/api/v1/openapi.json", 200},
	{"GET", "/api/none", 404},
	{"GET", "/metrics", 200},
	{"GET", "/-/healthy", 200},
	{"GET", "/-/ready", 200},
	{"POST", "/-/reload", 403}, // off unless http.reload
	{"GET", "/debug/pprof/", 404},
	{"PUT", "/", 404},
}

// site starts the daemon on a log of all dialects and waits until it is ready.
func start(t *testing.T, dir, settings string) (*rig.Site, *rig.Daemon) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and starts the program")
	}
	site := rig.NewSite(t, rig.Build(t, ""), dir, settings)
	return site, site.Start(t)
}

func ask(t *testing.T, client *http.Client, method, url string, login *[2]string) int {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if login != nil {
		r.SetBasicAuth(login[0], login[1])
	}
	answer, err := client.Do(r)
	if err != nil {
		return 0
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<20))
	return answer.StatusCode
}

// Every route that the page has is in the table, and answers as it says.
func TestRoutes(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "mail.log")
	rig.Append(t, log, nil)
	site, d := start(t, dir, rig.Tail(log))
	d.Eventually(t, "it is ready", func() bool { s, _ := site.Get("/-/ready"); return s == 200 })
	for _, r := range routes {
		if got := ask(t, http.DefaultClient, r.method, "http://"+site.Address+r.path, nil); got != r.plain {
			t.Errorf("%s %s: %d, want %d", r.method, r.path, got, r.plain)
		}
	}
	tables := ""
	for _, file := range []string{"../../web/pages.go", "../../web/api.go", "../../internal/app/http.go"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tables += string(b)
	}
	docs, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, m := range regexp.MustCompile(`"((GET|POST) (/[^"{]*))[^"]*"`).FindAllStringSubmatch(tables, -1) {
		found++
		tried := false
		for _, r := range routes {
			tried = tried || r.method == m[2] && strings.HasPrefix(r.path, strings.TrimSuffix(m[3], "/"))
		}
		if !tried && m[3] != "/live" { // that one does not end
			t.Errorf("%s is not tried", m[1])
		}
		if !strings.Contains(string(docs), "`"+m[2]+" "+strings.TrimSuffix(m[3], "/")) {
			t.Errorf("docs/security.md does not tell of %s", m[1])
		}
	}
	if found < 25 {
		t.Errorf("%d routes found", found)
	}
	d.Stop(t)
}

// With a web config file all routes speak TLS only, want the password, and if it
// says so a certificate of the client.
func TestWebConfig(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "mail.log")
	rig.Append(t, log, nil)
	authority := testcert.New(t)
	authority.Write(t, dir)
	testcert.Write(t, authority.Issue(t), dir, "server")
	own := authority.Issue(t)
	hash, err := bcrypt.GenerateFromPassword([]byte("right-horse"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	client := func(c *tls.Config) *http.Client {
		c.RootCAs = authority.Pool()
		return &http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}, Timeout: 10 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	strangers := testcert.New(t).Issue(t)
	right, wrong := &[2]string{"ann", "right-horse"}, &[2]string{"ann", "wrong"}
	for _, clients := range []bool{false, true} {
		tlsConfig := "tls_server_config: {cert_file: server.pem, key_file: server.key"
		if clients {
			tlsConfig += ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem"
		}
		write(t, filepath.Join(dir, "web.yml"), fmt.Appendf(nil, "%s}\nbasic_auth_users: {ann: '%s'}\n", tlsConfig, hash))
		site := rig.NewSite(t, rig.Build(t, ""), dir, "")
		site.Configure(t, rig.Tail(log)+fmt.Sprintf("\nhttp: {listen: %q, web_config_file: %s/web.yml, reload: true}", site.Address, dir))
		d := site.Start(t)
		good := client(&tls.Config{Certificates: []tls.Certificate{own}})
		d.Eventually(t, "it is ready", func() bool { return ask(t, good, "GET", "https://"+site.Address+"/-/ready", right) == 200 })
		for _, r := range routes {
			url := "https://" + site.Address + r.path
			if got := ask(t, http.DefaultClient, r.method, "http://"+site.Address+r.path, right); got != 0 && got != 400 {
				t.Errorf("%s %s without TLS: %d", r.method, r.path, got)
			}
			for _, login := range []*[2]string{nil, wrong} {
				if got := ask(t, good, r.method, url, login); got != 401 {
					t.Errorf("%s %s with the login %v: %d, want 401", r.method, r.path, login, got)
				}
			}
			if got := ask(t, good, r.method, url, right); got == 401 || got == 0 {
				t.Errorf("%s %s with the right login: %d", r.method, r.path, got)
			}
		}
		for name, c := range map[string]*http.Client{
			"no certificate": client(&tls.Config{}), "a certificate of others": client(&tls.Config{Certificates: []tls.Certificate{strangers}}),
		} {
			if got := ask(t, c, "GET", "https://"+site.Address+"/metrics", right); (got == 0) != clients {
				t.Errorf("client certificates wanted: %v; with %s: %d", clients, name, got)
			}
		}
		old := client(&tls.Config{Certificates: []tls.Certificate{own}, MaxVersion: tls.VersionTLS11})
		if got := ask(t, old, "GET", "https://"+site.Address+"/metrics", right); got != 0 {
			t.Errorf("TLS 1.1: %d", got)
		}
		d.Stop(t)
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Secrets of every kind, with receivers that cannot be reached and at the level
// debug: none is in a message, a page, a metric, a file, or the dump of goroutines.
func TestSecretsStaySecret(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "mail.log")
	rig.Append(t, log, nil)
	const mark = "zqsecretqz"
	now := time.Now().Add(-5 * time.Minute)
	for i := range 200 { // an alert that nobody can be told of
		rig.Append(t, log, fmt.Appendf(nil, "%s mx1 postfix/smtp[2]: %X: to=<x@r.example>, relay=none, delay=1, dsn=5.1.1, status=bounced (host mx said: 550 5.1.1 no)\n",
			now.Add(time.Duration(i)*time.Second).UTC().Format("Jan _2 15:04:05"), i+0x10000))
	}
	secret := func(name string) string {
		path := filepath.Join(dir, "secrets", name)
		write(t, path, []byte(mark+name+strings.Repeat("x", 20)+"\n"))
		return path
	}
	if err := os.Mkdir(filepath.Join(dir, "secrets"), 0o700); err != nil {
		t.Fatal(err)
	}
	url := filepath.Join(dir, "secrets", "url")
	write(t, url, []byte("http://127.0.0.1:1/"+mark+"\n"))
	chat := filepath.Join(dir, "secrets", "chat")
	write(t, chat, []byte("ntfy://ann:"+mark+"@127.0.0.1:1/topic?scheme=http\n"))
	hook := rig.FreeAddress(t)
	site, d := start(t, dir, fmt.Sprintf(`
sources:
  - {name: mta1, kind: tail, paths: [%s], timezone: UTC}
  - {name: events, kind: webhook, dialect: postal, verify: token, listen: "%s", url_path: /events, secret_file: %s}
  - {name: basic, kind: webhook, dialect: postmark, verify: basic, user: ann, listen: "%s", url_path: /basic, secret_file: %s}
  - {name: topic, kind: kafka, brokers: ["127.0.0.1:1"], topics: [mail], tls: {enabled: true}, sasl: {mechanism: plain, user: ann, password_file: %s}}
privacy: {addresses: hash, key_file: %s}
alerts: [{name: any, kind: threshold, threshold: {per_minute: 1, min_attempts: 1}}]
notify:
  - {name: a, kind: webhook, url_file: %s, secret_file: %s}
  - {name: b, kind: webhook, url: "http://127.0.0.1:1/", user: ann, password_file: %s}
  - {name: c, kind: alertmanager, urls: ["http://127.0.0.1:1"], bearer_file: %s}
  - {name: d, kind: shoutrrr, url_file: %s}
log: {level: debug}`, log, hook, secret("token"), hook, secret("basic"), secret("sasl"), secret("key"),
		url, secret("sign"), secret("password"), secret("bearer"), chat))
	d.Eventually(t, "it is ready", func() bool { s, _ := site.Get("/-/ready"); return s != 0 })
	for _, body := range []string{"wrong", mark + "wrong"} {
		r, err := http.NewRequest(http.MethodPost, "http://"+hook+"/events", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+body)
		if answer, err := http.DefaultClient.Do(r); err == nil {
			b, _ := io.ReadAll(answer.Body)
			answer.Body.Close()
			if answer.StatusCode != http.StatusUnauthorized || bytes.Contains(b, []byte(mark)) {
				t.Errorf("a wrong token: %d %s", answer.StatusCode, b)
			}
		}
	}
	if os.Getenv("FAULTS") != "" { // at its very first start the detector waits for two minutes
		d.Eventually(t, "an alert fires", func() bool { return strings.Contains(d.Output(), "msg=alert") })
		d.Eventually(t, "receivers have been tried", func() bool { return strings.Count(d.Output(), "alerts cannot be delivered") >= 4 })
	}
	nowhere(t, site, mark)
	if err := d.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	d.Eventually(t, "it has reloaded", func() bool { return strings.Contains(d.Output(), "reload") })
	if err := d.Process.Signal(syscall.SIGQUIT); err != nil { // the dump
		t.Fatal(err)
	}
	if !d.Ended(10*time.Second) || !strings.Contains(d.Output(), "goroutine ") {
		t.Fatalf("no dump\n%s", d.Output())
	}
	notIn(t, "its messages", d.Output(), mark)
	notInFiles(t, dir, mark, "secrets")
}

// nowhere looks for a text in everything that the page, the API and the metrics
// show.
func nowhere(t *testing.T, site *rig.Site, mark string) {
	t.Helper()
	for _, r := range routes {
		if r.method == "GET" {
			_, body := site.Get(r.path)
			notIn(t, r.path, body, mark)
		}
	}
}

func notIn(t *testing.T, where, text, mark string) {
	t.Helper()
	if i := strings.Index(text, mark); i >= 0 {
		t.Errorf("%s has %q", where, text[max(0, i-150):min(len(text), i+150)])
	}
}

var messageID = regexp.MustCompile(`"(message|queue)_id":"[^"]*"`)

// notInFiles looks for a text in all files below dir but some.
func notInFiles(t *testing.T, dir, mark string, but ...string) {
	t.Helper()
	looked := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		for _, b := range but {
			if e.Name() == b {
				if e.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
		}
		if !e.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		looked++
		// A Message-ID, which some take for the id in the queue, has the form of an
		// address and is none; records have it.
		notIn(t, path, string(messageID.ReplaceAll(b, nil)), mark)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if looked < 2 {
		t.Errorf("only %d files in %s", looked, dir)
	}
}

// Records of every dialect, whose addresses all have the same local part, and
// lines that cannot be read with addresses in them: by default the local part is in
// no ledger, dead letter, record, page, metric or message.
func TestNoAddressIsKept(t *testing.T) {
	const mark = "zqaddressqz"
	dir := t.TempDir()
	logs := filepath.Join(dir, "logs")
	if err := os.Mkdir(logs, 0o700); err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`"queue":"[^"]*"|[A-Za-z0-9._+-]+(@|%40|\\u0040)[A-Za-z0-9]`)
	var sources strings.Builder
	lines := 0
	for _, name := range dialect.Names() {
		archive, err := txtar.ParseFile("../../sources/dialect/testdata/" + name + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(logs, name+".log")
		for _, f := range archive.Files {
			if !strings.HasSuffix(f.Name, ".in") {
				continue
			}
			text := address.ReplaceAllStringFunc(string(f.Data), func(s string) string {
				if strings.HasPrefix(s, `"queue":"`) {
					return s // of KumoMTA: a campaign and a tenant
				}
				return mark + s[strings.IndexAny(s, "@%\\"):]
			})
			rig.Append(t, path, []byte(text))
			// What cannot be read is kept: lines without their beginnings and ends.
			for line := range strings.Lines(text) {
				rig.Append(t, path, []byte(line[min(len(line)-1, 20):]))
				cut := line[:len(line)*2/3]
				// What is left of an address without its @ is not known as one.
				if i := strings.LastIndex(cut, mark[:2]); i >= 0 && !strings.ContainsAny(cut[i:], "@%\\") {
					cut = cut[:i]
				}
				rig.Append(t, path, []byte(cut+"\n"))
				lines += 3
			}
		}
		fmt.Fprintf(&sources, "  - {name: %s, kind: tail, paths: [%s], dialect: %s, timezone: UTC}\n", name, path, name)
	}
	site, d := start(t, dir, "sources:\n"+sources.String()+"sinks: [{kind: file, path: "+dir+"/records.jsonl}]\nlog: {level: debug}")
	d.Eventually(t, "it has read all", func() bool {
		_, body := site.Get("/metrics")
		return strings.Count(body, "\nbouncemeter_lines_total{") == len(dialect.Names()) && site.Metric("bouncemeter_config_last_reload_successful") == 1
	})
	rig.Pause(t.Context(), 3*time.Second)
	nowhere(t, site, mark)
	d.Stop(t)
	notIn(t, "its messages", d.Output(), mark)
	notInFiles(t, dir, mark, "logs")
	dead, err := os.ReadFile(filepath.Join(dir, "dead-letter.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	records, err := os.ReadFile(filepath.Join(dir, "records.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(dead, []byte("\n")); n < 50 {
		t.Errorf("only %d dead letters", n)
	}
	t.Logf("%d lines of %d dialects, %d records, %d dead letters", lines, len(dialect.Names()), bytes.Count(records, []byte("\n")), bytes.Count(dead, []byte("\n")))
}
