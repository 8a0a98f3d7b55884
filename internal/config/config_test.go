package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/bouncemeter/bouncemeter/sources/tail"
)

const minimal = "sources: [{name: mta1, kind: tail, paths: [/var/log/mail.log]}]\n"

// Each file in testdata/bad has one fault, after which it is named, and the
// message for it in its first line.
func TestBad(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(string(data), "\n")
			want, ok := strings.CutPrefix(first, "# want: ")
			if !ok {
				t.Fatal("the first line is not: # want: MESSAGE")
			}
			_, err = Parse(file, data, nil, nil)
			if err == nil {
				t.Fatal("no fault was found")
			}
			if diff := cmp.Diff(file+want, err.Error()); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMinimal(t *testing.T) {
	got, err := Parse("c.yaml", []byte(minimal), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	source := DefaultSource()
	source.Name, source.Kind, source.Paths = "mta1", "tail", []string{"/var/log/mail.log"}
	want.Sources = []Source{source}
	want.DeadLetter.Path = "/var/lib/bouncemeter/dead-letter.jsonl"
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Every setting that there is, with a value of its own, is read into its field and
// nowhere else.
func TestEveryField(t *testing.T) {
	for _, yes := range []bool{false, true} {
		want := Default()
		n := 0
		in := fill(reflect.ValueOf(&want).Elem(), "", yes, &n)
		got := Default()
		l := &loader{file: "/etc/bm/c.yaml", lines: make(map[string]int), setters: make(map[string]string)}
		l.decodeStruct("", reflect.ValueOf(&got).Elem(), in)
		if len(l.faults) > 0 {
			t.Fatal(l.faults)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if n < 200 {
			t.Errorf("only %d settings", n)
		}
	}
}

// fill sets everything below v to values that differ from each other, and truths to
// yes, and returns what a file says for it. n counts the values.
func fill(v reflect.Value, tag reflect.StructTag, yes bool, n *int) any {
	if v.Kind() == reflect.Struct {
		in := make(map[string]any)
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.Tag.Get("yaml") != "-" {
				in[f.Tag.Get("yaml")] = fill(v.Field(i), f.Tag, yes, n)
			}
		}
		return in
	}
	if v.Kind() == reflect.Slice {
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		return []any{fill(v.Index(0), tag, yes, n), fill(v.Index(1), tag, yes, n)}
	}
	*n++
	switch v.Addr().Interface().(type) {
	case *time.Duration:
		v.SetInt(int64(*n) * int64(time.Second))
		return fmt.Sprintf("%ds", *n)
	case *Size:
		v.SetInt(int64(*n) << 10)
		return fmt.Sprintf("%dKiB", *n)
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(yes)
		return yes
	case reflect.Int:
		v.SetInt(int64(*n))
		return *n
	case reflect.Float64:
		v.SetFloat(float64(*n) / 8)
		return float64(*n) / 8
	}
	text := fmt.Sprintf("/text/%d", *n)
	if words := tag.Get("enum"); words != "" {
		list := strings.Split(words, ",")
		text = list[*n%len(list)]
	}
	v.SetString(text)
	return text
}

func TestFileOfManySettings(t *testing.T) {
	file := `
sources:
  - name: mta1
    kind: tail
    paths: [logs/a.log, "/var/log/mail/*.log"]
    dialect: postfix
    start: end
    timezone: Europe/Berlin
    max_line_bytes: 8KiB
    poll: 250ms
ledger:
  sqlite: state/ledger.db
  retention: {minutes: 1d, hours: 2d12h, days: 100h, templates: 1h, templates_per_category: 3, domains: 5m, alerts: 30d}
limits:
  sender_domains: 1
  recipient_domains: 2
  hosts: 3
  streams: 4
  series: 5
  queue_ids: 6
  queue_lifetime: 7d
  lateness: 1m
  commit_every: 8s
privacy: {addresses: hash, key_file: key}
rules: {files: [r.yaml], providers: [p.yaml]}
dead_letter: {enabled: false, path: bad.jsonl, max_bytes: 1MiB}
http: {listen: ":1", external_url: "https://bm.example/", web_config_file: web.yml, reload: true}
log: {level: debug, format: json}
silences: silences.yaml
alerts:
  - name: auth
    why: because
    kind: threshold
    match: {categories: [spf_failed], groups: [authorization], outcomes: [bounced], providers: [gmail], sender_domains: [a.example], sources: [mta1], hosts: [mx1]}
    by: [sender_domain, provider]
    budget: 0.5
    gates: {min_failures: 1, min_windows: 3, min_ratio: 0.1, min_times: 1.5, min_rise: 0.2, min_excess: 7}
    severity: critical
    threshold: {ratio: 0.3, per_minute: 2.5, over: 10m, for: 2m, min_attempts: 9}
    objective: 0.9
    no_breadth: true
    no_trend: true
  - {name: expiry, off: true}
notify:
  - kind: alertmanager
    min_severity: warning
    match: {rules: [a], kinds: [ratio], severities: ["!ticket"], categories: [c], groups: [g], providers: [p], sender_domains: ["*.d"], sources: [s], hosts: [h], streams: [t]}
    urls: ["http://am.example:9093"]
    resend: 30s
    timeout: 5s
    user: ann
    password_file: password
    tls: {ca_file: ca.pem, cert_file: cert.pem, key_file: key.pem, server_name: am}
  - {name: hook, kind: webhook, url_file: url, secret_file: secret, bearer_file: /bearer, title: T, text: X}
  - {name: file, kind: file, path: alerts.jsonl}
  - {name: bus, kind: kafka, brokers: ["k.example:9092"], topic: alerts}
sinks:
  - {kind: file, path: records.jsonl, max_bytes: 1MiB, keep: 2, sync: false}
  - {name: out, kind: kafka, brokers: ["k.example:9092"], topic: classified, compression: zstd, max_batch_bytes: 512KiB, max_held_bytes: 1MiB, tls: {enabled: true, server_name: k}}
`
	got, err := Parse("/etc/bm/c.yaml", []byte(file), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	expiry := DefaultAlert()
	expiry.Name, expiry.Off = "expiry", true
	hook, file2, bus := DefaultNotifier(), DefaultNotifier(), DefaultNotifier()
	hook.Name, hook.Kind, hook.Title, hook.Text = "hook", "webhook", "T", "X"
	hook.URLFile, hook.SecretFile, hook.BearerFile = "/etc/bm/url", "/etc/bm/secret", "/bearer"
	file2.Name, file2.Kind, file2.Path = "file", "file", "/etc/bm/alerts.jsonl"
	out := DefaultSink()
	out.Name, out.Kind, out.Brokers, out.Topic, out.Compression = "out", "kafka", []string{"k.example:9092"}, "classified", "zstd"
	out.MaxBatchBytes, out.MaxHeldBytes, out.TLS = 512<<10, 1<<20, TLS{Enabled: true, ServerName: "k"}
	records := DefaultSink()
	records.Name, records.Kind, records.Path, records.MaxBytes, records.Keep, records.Sync = "file", "file", "/etc/bm/records.jsonl", 1<<20, 2, false
	bus.Name, bus.Kind, bus.Brokers, bus.Topic = "bus", "kafka", []string{"k.example:9092"}, "alerts"
	want := &Config{
		Sources: []Source{{
			Name: "mta1", Kind: "tail", Paths: []string{"/etc/bm/logs/a.log", "/var/log/mail/*.log"},
			Dialect: "postfix", Start: "end", Timezone: "Europe/Berlin", MaxLineBytes: 8192, Poll: 250 * time.Millisecond,
			OutOfRange: "earliest", SASL: SASL{Mechanism: "none"},
		}},
		Ledger: Ledger{SQLite: "/etc/bm/state/ledger.db", Postgres: Default().Ledger.Postgres, Retention: Retention{
			Minutes: 24 * time.Hour, Hours: 60 * time.Hour, Days: 100 * time.Hour,
			Templates: time.Hour, TemplatesPerCategory: 3, Domains: 5 * time.Minute, Alerts: 30 * 24 * time.Hour,
		}},
		Limits: Limits{
			SenderDomains: 1, RecipientDomains: 2, Hosts: 3, Streams: 4, Series: 5, QueueIDs: 6,
			QueueLifetime: 7 * 24 * time.Hour, Lateness: time.Minute, CommitEvery: 8 * time.Second,
		},
		Privacy:    Privacy{Addresses: "hash", KeyFile: "/etc/bm/key"},
		Rules:      Rules{Files: []string{"/etc/bm/r.yaml"}, Providers: []string{"/etc/bm/p.yaml"}},
		Sinks:      []Sink{records, out},
		DeadLetter: DeadLetter{Path: "/etc/bm/bad.jsonl", MaxBytes: 1 << 20},
		HTTP:       HTTP{Listen: ":1", ExternalURL: "https://bm.example/", WebConfigFile: "/etc/bm/web.yml", Reload: true},
		Log:        Log{Level: "debug", Format: "json"},
		Silences:   "/etc/bm/silences.yaml",
		Alerts: []Alert{{
			Name: "auth", Why: "because", Kind: "threshold",
			Match: AlertMatch{
				Categories: []string{"spf_failed"}, Groups: []string{"authorization"}, Outcomes: []string{"bounced"},
				Providers: []string{"gmail"}, SenderDomains: []string{"a.example"}, Sources: []string{"mta1"}, Hosts: []string{"mx1"},
			},
			By: []string{"sender_domain", "provider"}, Budget: 0.5,
			Gates:    Gates{MinFailures: 1, MinWindows: 3, MinRatio: 0.1, MinTimes: 1.5, MinRise: 0.2, MinExcess: 7},
			Severity: "critical", Threshold: Threshold{Ratio: 0.3, PerMinute: 2.5, Over: 10 * time.Minute, For: 2 * time.Minute, MinAttempts: 9},
			Objective: 0.9, NoBreadth: true, NoTrend: true,
		}, expiry},
		Notify: []Notifier{{
			Name: "alertmanager", Kind: "alertmanager", MinSeverity: "warning",
			Match: NotifyMatch{
				Rules: []string{"a"}, Kinds: []string{"ratio"}, Severities: []string{"!ticket"}, Categories: []string{"c"}, Groups: []string{"g"},
				Providers: []string{"p"}, SenderDomains: []string{"*.d"}, Sources: []string{"s"}, Hosts: []string{"h"}, Streams: []string{"t"},
			},
			URLs: []string{"http://am.example:9093"}, Resend: 30 * time.Second, Timeout: 5 * time.Second, User: "ann", PasswordFile: "/etc/bm/password",
			TLS:  TLS{CAFile: "/etc/bm/ca.pem", CertFile: "/etc/bm/cert.pem", KeyFile: "/etc/bm/key.pem", ServerName: "am"},
			SASL: SASL{Mechanism: "none"},
		}, hook, file2, bus},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAllFaultsAtOnceInOrderOfTheFile(t *testing.T) {
	file := `sources:
  - {name: MTA, kind: tail}
http:
  listen: nowhere
  reload: perhaps
log: {level: loud}
`
	_, err := Parse("c.yaml", []byte(file), []string{"BOUNCEMETER_LIMITS__SERIES=few"}, map[string]any{"ledger.sqlite": 3})
	faults, ok := errors.AsType[Faults](err)
	if !ok {
		t.Fatalf("the error is %T: %v", err, err)
	}
	var got []string
	for _, f := range faults {
		got = append(got, fmt.Sprintf("%s:%d %s %s", f.File, f.Line, f.Setter, f.Path))
	}
	want := []string{
		"c.yaml:2  sources[0].name", "c.yaml:2  sources[0].paths",
		"c.yaml:4  http.listen", "c.yaml:5  http.reload", "c.yaml:6  log.level",
		":0 BOUNCEMETER_LIMITS__SERIES limits.series", ":0 command line ledger.sqlite",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPostgres(t *testing.T) {
	c, err := Parse("/etc/bm/c.yaml", []byte(minimal+"ledger:\n  postgres: {dsn_file: dsn, schema: mail, instance: mx1, connections: 3, timeout: 5s}\n"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Postgres{DSNFile: "/etc/bm/dsn", Schema: "mail", Instance: "mx1", Connections: 3, Timeout: 5 * time.Second}
	if diff := cmp.Diff(want, c.Ledger.Postgres); diff != "" || c.Ledger.SQLite != "" || !c.Ledger.Shared() {
		t.Errorf("sqlite %q (-want +got):\n%s", c.Ledger.SQLite, diff)
	}
	if c.DeadLetter.Path != "/var/lib/bouncemeter/dead-letter.jsonl" {
		t.Errorf("dead letters go to %s", c.DeadLetter.Path)
	}
	// Also by the environment alone.
	c, err = Parse("c.yaml", []byte(minimal), []string{"BOUNCEMETER_LEDGER__POSTGRES__DSN_FILE=/run/dsn", "BOUNCEMETER_LEDGER__POSTGRES__INSTANCE=mx2"}, nil)
	if err != nil || !c.Ledger.Shared() || c.Ledger.Postgres.DSNFile != "/run/dsn" {
		t.Errorf("by the environment: %+v, %v", c, err)
	}
}

func TestFlagsOverEnvironmentOverFile(t *testing.T) {
	file := minimal + "http: {listen: '127.0.0.1:1'}\nlog: {level: error, format: json}\nlimits: {hosts: 7}\n"
	env := []string{"BOUNCEMETER_HTTP__LISTEN=127.0.0.1:2", "BOUNCEMETER_LOG__LEVEL=warn", "HTTP__LISTEN=x"}
	c, err := Parse("c.yaml", []byte(file), env, map[string]any{"http.listen": "127.0.0.1:3", "http.reload": true, "limits.commit_every": time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if c.HTTP.Listen != "127.0.0.1:3" || c.Log.Level != "warn" || c.Log.Format != "json" || c.Limits.Hosts != 7 ||
		!c.HTTP.Reload || c.Limits.CommitEvery != time.Minute {
		t.Errorf("got %+v", c)
	}
}

func TestEnvironmentReachesIntoLists(t *testing.T) {
	env := []string{
		"BOUNCEMETER_SOURCES__1__NAME=b", "BOUNCEMETER_SOURCES__1__KIND=tail", "BOUNCEMETER_SOURCES__1__PATHS=b.log, /c.log",
		"BOUNCEMETER_SOURCES__0__PATHS__1=/x.log", "BOUNCEMETER_SOURCES__0__START=end",
		"BOUNCEMETER_RULES__FILES=/r1.yaml,/r2.yaml",
		"BOUNCEMETER_LOG__LEVEL=", // as good as not set
	}
	c, err := Parse("/etc/c.yaml", []byte(minimal), env, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, b := DefaultSource(), DefaultSource()
	a.Name, a.Kind, a.Start, a.Paths = "mta1", "tail", "end", []string{"/var/log/mail.log", "/x.log"}
	b.Name, b.Kind, b.Paths = "b", "tail", []string{"b.log", "/c.log"} // relative to where the daemon was started
	if diff := cmp.Diff([]Source{a, b}, c.Sources); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/r1.yaml", "/r2.yaml"}, c.Rules.Files); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEnvironmentAloneIsEnough(t *testing.T) {
	c, err := Parse("", nil, []string{"BOUNCEMETER_SOURCES__0__NAME=in", "BOUNCEMETER_SOURCES__0__KIND=stdin"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Sources) != 1 || c.Sources[0].Kind != "stdin" || c.Sources[0].Start != "beginning" {
		t.Errorf("got %+v", c.Sources)
	}
}

func TestEnvironmentFaults(t *testing.T) {
	for _, test := range []struct {
		env  []string
		want string
	}{
		{[]string{"BOUNCEMETER_HTPP__LISTEN=:1"}, `BOUNCEMETER_HTPP__LISTEN: htpp: there is no such setting; did you mean http?`},
		{[]string{"BOUNCEMETER_LEDGER_SQLITE=/x"}, `BOUNCEMETER_LEDGER_SQLITE: ledger_sqlite: there is no such setting; use sources, ledger, limits, privacy, rules, alerts, notify, silences, sinks, dead_letter, http or log`},
		{[]string{"BOUNCEMETER_LIMITS__SERIES=x"}, `BOUNCEMETER_LIMITS__SERIES: limits.series: "x" is not a whole number; write a number such as 1000`},
		{[]string{"BOUNCEMETER_SOURCES__2__NAME=x"}, `BOUNCEMETER_SOURCES__2__NAME: sources[2].name: there are only 1 items before it; set either the whole or its parts, and the items of a list in order from 0`},
		{[]string{"BOUNCEMETER_HTTP=x", "BOUNCEMETER_HTTP__LISTEN=:1"}, `BOUNCEMETER_HTTP__LISTEN: http.listen: is part of what has a value of its own; set either the whole or its parts, and the items of a list in order from 0`},
		{[]string{"BOUNCEMETER_HTTP__0=x"}, `BOUNCEMETER_HTTP__0: http: a list is not a group of settings; write the keys below it, indented: listen, external_url, web_config_file, reload, postfix_names`},
		// Set by Kubernetes for a service named bouncemeter.
		{[]string{"BOUNCEMETER_SERVICE_HOST=192.0.2.1", "BOUNCEMETER_PORT=tcp://192.0.2.1:9725", "BOUNCEMETER_PORT_9725_TCP_ADDR=192.0.2.1"}, ""},
	} {
		_, err := Parse("c.yaml", []byte(minimal), test.env, nil)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.env, diff)
		}
	}
}

func TestAliasBombIsRefusedQuickly(t *testing.T) {
	file := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for i := 'b'; i < 'k'; i++ {
		file += fmt.Sprintf("%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", i, i, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1)
	}
	if _, err := Parse("c.yaml", []byte(file), nil, nil); err == nil {
		t.Error("accepted")
	}
}

func TestMergeKeysAndAliases(t *testing.T) {
	file := `sources:
  - &a {name: a, kind: tail, paths: [/a.log], poll: 2s}
  - {<<: *a, name: b, paths: [/b.log]}
`
	c, err := Parse("c.yaml", []byte(file), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Sources) != 2 || c.Sources[1].Name != "b" || c.Sources[1].Poll != 2*time.Second {
		t.Errorf("got %+v", c.Sources)
	}
}

// host writes files below a folder of its own and returns it.
func host(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestHost(t *testing.T) {
	const base = "sources: [{name: a, kind: tail, paths: [a.log]}]\n"
	for name, test := range map[string]struct {
		file     string
		want     string // DIR stands for the folder
		warnings string
	}{
		"fine": {file: base + "ledger: {sqlite: ledger.db}\n"},
		"log not there yet": {
			file:     "sources: [{name: a, kind: tail, paths: ['b*.log']}]\nledger: {sqlite: ledger.db}\n",
			warnings: "DIR/c.yaml:1: sources[0].paths[0]: no file matches DIR/b*.log now; check the path; it is fine if the file comes later",
		},
		"log is a folder": {
			file:     "sources: [{name: a, kind: tail, paths: [/]}]\nledger: {sqlite: ledger.db}\n",
			warnings: "DIR/c.yaml:1: sources[0].paths[0]: / cannot be read: it is a folder; let the daemon's user read it, on Debian through the group adm",
		},
		"DSN": {
			file: base + "ledger: {postgres: {dsn_file: dsn, instance: mx1}}\ndead_letter: {enabled: false}\n",
		},
		"no DSN": {
			file: base + "ledger: {postgres: {dsn_file: a.log, instance: mx1}}\ndead_letter: {enabled: false}\n",
			want: "DIR/c.yaml:2: ledger.postgres.dsn_file: the DSN cannot be understood; write postgres://user:password@host:5432/database?sslmode=verify-full with special characters of the password percent-encoded, or key=value pairs",
		},
		"no file of a DSN": {
			file: base + "ledger: {postgres: {dsn_file: no, instance: mx1}}\ndead_letter: {enabled: false}\n",
			want: "DIR/c.yaml:2: ledger.postgres.dsn_file: DIR/no cannot be read: no such file or directory; correct the name, or let the daemon's user read it",
		},
		"missing folder": {
			file: base + "ledger: {sqlite: no/ledger.db}\n",
			want: "DIR/c.yaml:2: ledger.sqlite: the folder DIR/no does not exist; make it, writable for the daemon's user: install -d -o USER DIR/no",
		},
		"ledger is a folder": {
			file: base + "ledger: {sqlite: .}\n",
			want: "DIR/c.yaml:2: ledger.sqlite: DIR is a folder; name a file in it",
		},
		"folder is a file": {
			file: base + "ledger: {sqlite: a.log/ledger.db}\n",
			want: "DIR/c.yaml:2: ledger.sqlite: DIR/a.log is not a folder; name a file in a folder",
		},
		"missing rules and web config": {
			file: base + "ledger: {sqlite: ledger.db}\nrules: {files: [r.yaml], providers: [p.yaml]}\nhttp: {web_config_file: w.yml}\n",
			want: "DIR/c.yaml:3: rules.files[0]: DIR/r.yaml cannot be read: no such file or directory; correct the name, or let the daemon's user read it\n" +
				"DIR/c.yaml:3: rules.providers[0]: DIR/p.yaml cannot be read: no such file or directory; correct the name, or let the daemon's user read it\n" +
				"DIR/c.yaml:4: http.web_config_file: DIR/w.yml cannot be read: no such file or directory; correct the name, or let the daemon's user read it",
		},
		"notifiers": {
			file: base + "ledger: {sqlite: ledger.db}\nnotify:\n- {kind: shoutrrr, url_file: a.log}\n" +
				"- {kind: webhook, url: 'https://hooks.example', secret_file: no}\n" +
				"- {kind: alertmanager, urls: ['https://am.example'], tls: {ca_file: a.log}}\n- {kind: file, path: no/alerts.jsonl}\nsilences: a.log\n",
			want: "DIR/c.yaml:4: notify[0].url_file: the URL in DIR/a.log begins with no service that is known; have bark, discord, generic, googlechat, gotify, hangouts, ifttt, join, lark, logger, matrix, mattermost, notifiarr, ntfy, opsgenie, pagerduty, pushbullet, pushover, rocketchat, signal, slack, smtp, teams, telegram, wecom, zulip\n" +
				"DIR/c.yaml:5: notify[1].secret_file: DIR/no cannot be read: no such file or directory; correct the name, or let the daemon's user read it\n" +
				"DIR/c.yaml:6: notify[2].tls.ca_file: there is no certificate in DIR/a.log; it has to be in PEM\n" +
				"DIR/c.yaml:7: notify[3].path: the folder DIR/no does not exist; make it, writable for the daemon's user: install -d -o USER DIR/no\n" +
				"DIR/c.yaml:8: silences: DIR/a.log: line 1: cannot unmarshal !!str `xy`; correct the YAML",
		},
		"missing key": {
			file: base + "ledger: {sqlite: ledger.db}\nprivacy: {addresses: hash, key_file: no}\n",
			want: "DIR/c.yaml:3: privacy.key_file: DIR/no cannot be read: no such file or directory; correct the name, or let the daemon's user read it",
		},
		"short key": {
			file: base + "ledger: {sqlite: ledger.db}\nprivacy: {addresses: hash, key_file: a.log}\n",
			want: "DIR/c.yaml:3: privacy.key_file: the key has 2 bytes, which can be guessed; make one with: openssl rand -hex 32",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := host(t, map[string]string{"c.yaml": test.file, "a.log": "xy\n", "dsn": "postgres://meter:secret@db.example/mail"})
			c, err := Load(filepath.Join(dir, "c.yaml"), nil, nil)
			got, warnings := "", ""
			if err != nil {
				got = err.Error()
			} else {
				warnings = c.Warnings.Error()
			}
			if diff := cmp.Diff(test.want, strings.ReplaceAll(got, dir, "DIR")); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.warnings, strings.ReplaceAll(warnings, dir, "DIR")); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKeyFile(t *testing.T) {
	key := strings.Repeat("k", 32)
	dir := host(t, map[string]string{
		"c.yaml": "sources: [{name: a, kind: stdin}]\nledger: {sqlite: l.db}\nprivacy: {addresses: hash, key_file: key}\n",
		"key":    key + "\n",
	})
	if err := os.Chmod(filepath.Join(dir, "key"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Load(filepath.Join(dir, "c.yaml"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if string(c.Privacy.Key) != key {
		t.Error("the key was not read as it is")
	}
	if len(c.Warnings) != 1 || c.Warnings[0].Path != "privacy.key_file" || !strings.Contains(c.Warnings[0].Remedy, "chmod") {
		t.Errorf("a key that all can read gives %v", c.Warnings)
	}
}

func TestLoadMissingFile(t *testing.T) {
	_, err := Load("no/such.yaml", nil, nil)
	want := "no/such.yaml: cannot be read: no such file or directory; name the configuration file with -c"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestSecretIsNeverShown(t *testing.T) {
	const secret = "hunter2hunter2"
	c := Config{Privacy: Privacy{Key: secret}}
	holder := struct{ S Secret }{secret}
	var shown strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&shown, verb+"\n", Secret(secret))
		fmt.Fprintf(&shown, verb+"\n", holder)
		fmt.Fprintf(&shown, verb+"\n", c)
	}
	for _, marshal := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal} {
		for _, v := range []any{holder, c, map[string]any{"k": Secret(secret)}} {
			out, err := marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			shown.Write(out)
		}
	}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&shown, nil), slog.NewJSONHandler(&shown, nil)} {
		slog.New(handler).Info("x", "secret", Secret(secret), "holder", holder)
	}
	for _, form := range []string{secret, fmt.Sprintf("%x", secret)} {
		if strings.Contains(shown.String(), form) {
			t.Errorf("%q is shown:\n%s", form, &shown)
		}
	}
	if Secret("").String() != "" {
		t.Error("no secret looks like one")
	}
}

func TestSizesAndDurationsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := Size(rapid.Int64().Draw(t, "size"))
		if got, err := ParseSize(size.String()); err != nil || got != size {
			t.Errorf("%d is written %s and read %d, %v", int64(size), size, got, err)
		}
		d := time.Duration(rapid.Int64Min(0).Draw(t, "duration"))
		if rapid.Bool().Draw(t, "round") {
			d = d.Truncate(time.Hour)
		}
		if got, err := ParseDuration(FormatDuration(d)); err != nil || got != d {
			t.Errorf("%d is written %s and read %d, %v", d, FormatDuration(d), got, err)
		}
	})
}

func TestParseValues(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"30s": 30 * time.Second, "8d": 192 * time.Hour, "1d12h": 36 * time.Hour, "1h30m": 90 * time.Minute, "0d": 0,
	} {
		if got, err := ParseDuration(in); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "d", "5", "-1d", "1d-1h", "1d25h", "1.5d", "9999999d", "99999999999999999999d", "1d1d"} {
		if got, err := ParseDuration(in); err == nil {
			t.Errorf("ParseDuration(%q) = %v", in, got)
		}
	}
	for in, want := range map[string]Size{"64KiB": 65536, "1 MiB": 1 << 20, "512B": 512, "2GiB": 2 << 30} {
		if got, err := ParseSize(in); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "64", "64K", "64kb", "1.5MiB", "9999999999GiB", "KiB"} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("ParseSize(%q) = %v", in, got)
		}
	}
}

// Whatever the input, Parse returns a usable configuration or says in Faults
// what is wrong, the same each time.
func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal), "HTTP__LISTEN", ":1")
	f.Add([]byte("sources:\n  - &a {name: a}\n  - *a\n"), "SOURCES__0__PATHS__0", "x")
	f.Add([]byte("a: [&b [*b]]\n1: 2\n? {a: b}\n: c\n"), "SOURCES__0", "")
	f.Add([]byte("sources: !!binary x\nhttp: 2020-01-01\nlog: .nan\n---\n"), "__", "x")
	f.Fuzz(func(t *testing.T, data []byte, name, value string) {
		env := []string{Prefix + name + "=" + value}
		c, err := Parse("c.yaml", data, env, nil)
		if err == nil {
			if len(c.Sources) == 0 || c.Limits.Series <= 0 || c.Limits.CommitEvery <= 0 {
				t.Errorf("accepted %+v", c)
			}
			return
		}
		faults, ok := errors.AsType[Faults](err)
		if !ok || len(faults) == 0 || err.Error() == "" {
			t.Errorf("the error is %T: %v", err, err)
		}
		if _, again := Parse("c.yaml", data, env, nil); again == nil || again.Error() != err.Error() {
			t.Errorf("first:\n%v\nthen:\n%v", err, again)
		}
	})
}

func TestBoundsAreThoseOfTail(t *testing.T) {
	for _, test := range []struct {
		bytes Size
		poll  time.Duration
		fine  bool
	}{
		{minLineBytes, minPoll, true},
		{maxLineBytes, maxPoll, true},
		{minLineBytes - 1, minPoll, false},
		{maxLineBytes + 1, minPoll, false},
		{minLineBytes, minPoll - 1, false},
		{minLineBytes, maxPoll + 1, false},
	} {
		c := tail.Config{Paths: []string{"x"}, MaxLineBytes: int(test.bytes), Poll: test.poll}
		if err := c.Validate(); (err == nil) != test.fine {
			t.Errorf("package tail says %v to %v and %v", err, test.bytes, test.poll)
		}
		_, err := Parse("", nil, nil, map[string]any{
			"sources.0.name": "a", "sources.0.kind": "tail", "sources.0.paths": []string{"x"},
			"sources.0.max_line_bytes": test.bytes, "sources.0.poll": test.poll,
		})
		if (err == nil) != test.fine {
			t.Errorf("Parse says %v to %v and %v", err, test.bytes, test.poll)
		}
	}
}

func TestSyslogSource(t *testing.T) {
	c, err := Parse("c.yaml", []byte(`
sources:
  - {name: a, kind: syslog, listen: "udp:127.0.0.1:5514 tcp:[::1]:5514 unix:/run/x", allow: [192.0.2.25, "2001:db8::1/32"], max_connections: 10, idle_timeout: 1d, spool_bytes: 1MiB}
  - {name: b, kind: syslog, listen: "tls::6514", tls: {cert_file: c.pem, key_file: k.pem, ca_file: ca.pem}, dialect: kumomta}
  - {name: c, kind: syslog, listen: "udp::514", dialect: auto}
`), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	networks, err := c.Sources[0].Networks()
	if err != nil || fmt.Sprint(networks) != "[192.0.2.25/32 2001:db8::/32]" {
		t.Errorf("networks are %v, %v", networks, err)
	}
	if !c.Sources[0].Lines() || c.Sources[1].Lines() || !c.Sources[2].Lines() {
		t.Error("postfix and auto have lines of a log, kumomta has not")
	}
	if n := len(c.Warnings); n != 1 || c.Warnings[0].Path != "sources[2].allow" {
		t.Errorf("warnings: %v", c.Warnings)
	}
}
