package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bouncemeter/bouncemeter/internal/kafkaclient"
	"github.com/bouncemeter/bouncemeter/ledger/alertjson"
	"github.com/bouncemeter/bouncemeter/sinks/notify"
)

// Notifier tells somebody, or some program, of alerts.
type Notifier struct {
	// Name of the notifier in metrics and in the ledger, which remembers what it
	// has delivered: lower-case letters, digits, _ and -. Left out, it is the
	// kind. One with a new name starts with the alerts that are open.
	Name string `yaml:"name"`
	// Kind of notifier. For people: alertmanager, webhook, and shoutrrr for chat,
	// mail and push services. For programs, every change of every alert as it is:
	// file, log (the daemon's own messages) and kafka.
	Kind string `yaml:"kind" enum:"alertmanager,webhook,shoutrrr,file,log,kafka"`
	// MinSeverity leaves out what is less severe.
	MinSeverity string `yaml:"min_severity" enum:"ticket,warning,critical"`
	// Match says which alerts it is for; left out, for all.
	Match NotifyMatch `yaml:"match"`
	// Digest sends a summary of what got worse, what got better and what is new,
	// to webhook and shoutrrr: daily at 8:00 of the day before, weekly on Mondays of
	// the week before. Left out, none is sent.
	Digest string `yaml:"digest" enum:"daily,weekly"`

	// URLs of all Alertmanagers of one cluster, such as http://127.0.0.1:9093.
	// Each of them is told of everything.
	URLs []string `yaml:"urls"`
	// Resend is how often an open alert is sent to Alertmanager again, 10s to 10m.
	// Alertmanager ends an alert that has not been sent for four times as long.
	Resend time.Duration `yaml:"resend"`
	// URL that a webhook posts to.
	URL string `yaml:"url"`
	// URLFile holds the URL of a webhook that is secret, or that of shoutrrr, as
	// its documentation describes for each service.
	URLFile string `yaml:"url_file" format:"path"`
	// SecretFile holds the key that a webhook's messages are signed with
	// (HMAC-SHA256, Standard Webhooks). Without it they are not signed.
	SecretFile string `yaml:"secret_file" format:"path"`
	// Timeout of one request, 1s to 30s.
	Timeout time.Duration `yaml:"timeout"`
	// User logs in to Alertmanager or a webhook, by basic authentication.
	User string `yaml:"user"`
	// PasswordFile holds the password of user. It is read anew for each request.
	PasswordFile string `yaml:"password_file" format:"path"`
	// BearerFile holds a token to log in with instead. It is read anew for each
	// request.
	BearerFile string `yaml:"bearer_file" format:"path"`

	// Title is a template of package text/template for the first line, for
	// webhook and shoutrrr. docs/alerts.md says what it may use.
	Title string `yaml:"title"`
	// Text is a template for the rest.
	Text string `yaml:"text"`

	// Path of the file, one JSON object a line. It may be rotated by renaming.
	Path string `yaml:"path" format:"path"`

	// Brokers of the Kafka cluster to start from, as host:port.
	Brokers []string `yaml:"brokers"`
	// Topic that changes are written to, keyed by the alert's id.
	Topic string `yaml:"topic"`
	// TLS of the connections to brokers; of those to https URLs all but enabled.
	TLS TLS `yaml:"tls"`
	// SASL logs in to the brokers.
	SASL SASL `yaml:"sasl"`
}

// NotifyMatch says which alerts a notifier is for. Within a field one pattern
// must match, and every field that is given must match. A * stands for any text,
// and a pattern that begins with ! excludes what the rest of it matches.
type NotifyMatch struct {
	// Rules by name.
	Rules []string `yaml:"rules"`
	// Kinds of rules, such as ratio, breadth or silence.
	Kinds []string `yaml:"kinds"`
	// Severities of the alerts.
	Severities []string `yaml:"severities"`
	// Categories of the failures.
	Categories []string `yaml:"categories"`
	// Groups of categories.
	Groups []string `yaml:"groups"`
	// Providers by id, such as gmail.
	Providers []string `yaml:"providers"`
	// SenderDomains as patterns, such as *.shop.example.
	SenderDomains []string `yaml:"sender_domains"`
	// Sources by name.
	Sources []string `yaml:"sources"`
	// Hosts that send.
	Hosts []string `yaml:"hosts"`
	// Streams by name, such as Postfix instances.
	Streams []string `yaml:"streams"`
}

// DefaultNotifier returns what holds for a notifier where nothing is said. Its
// kind has to be given.
func DefaultNotifier() Notifier {
	return Notifier{
		MinSeverity: string(alertjson.Ticket), Resend: time.Minute, Timeout: 10 * time.Second, SASL: SASL{Mechanism: "none"},
	}
}

// notifierKinds are the kinds of notifiers with their settings.
var notifierKinds = kinds{
	"":             {"name", "kind", "min_severity", "match"},
	"alertmanager": {"urls", "resend", "timeout", "user", "password_file", "bearer_file", "tls"},
	"webhook":      {"url", "url_file", "secret_file", "timeout", "user", "password_file", "bearer_file", "tls", "title", "text", "digest"},
	"shoutrrr":     {"url_file", "title", "text", "digest"},
	"file":         {"path"},
	"log":          {},
	"kafka":        {"brokers", "topic", "tls", "sasl"},
}

// checkNotify completes the notifiers and finds what is wrong with them.
func (l *loader) checkNotify(all []Notifier) {
	names := make(map[string]int)
	for i := range all {
		n, path := &all[i], fmt.Sprintf("notify[%d]", i)
		if l.failed(path) || l.failed(path+".kind") {
			continue
		}
		if n.Kind == "" {
			l.fault(path+".kind", "the notifier has no kind", "write kind: "+oneOf(notifierKinds.names()))
			continue
		}
		if n.Name == "" && !l.failed(path+".name") {
			n.Name = n.Kind
		}
		first, again := names[n.Name]
		switch {
		case !validName(n.Name):
			l.fault(path+".name", fmt.Sprintf("%q is not a name", n.Name), "use lower-case letters, digits, _ and -")
		case again:
			l.fault(path+".name", fmt.Sprintf("%q is the name of notify[%d] already", n.Name, first), "give each notifier a name of its own")
		default:
			names[n.Name] = i
		}
		l.only(path, "notifier", n.Kind, notifierKinds, *n, DefaultNotifier())
		l.between(path+".resend", n.Resend, 10*time.Second, 10*time.Minute)
		l.between(path+".timeout", n.Timeout, time.Second, 30*time.Second)
		for j, word := range n.Match.Severities {
			if !slices.Contains(alertjson.Severities, alertjson.Severity(strings.TrimPrefix(word, "!"))) {
				l.fault(fmt.Sprintf("%s.match.severities[%d]", path, j), fmt.Sprintf("%q is not known", word), "use ticket, warning or critical")
			}
		}
		l.checkReceiver(path, n)
	}
}

func (l *loader) between(path string, d, low, high time.Duration) {
	if (d < low || d > high) && !l.failed(path) {
		l.fault(path, fmt.Sprintf("%s is out of bounds", FormatDuration(d)), fmt.Sprintf("use %s to %s", FormatDuration(low), FormatDuration(high)))
	}
}

// checkReceiver finds what is wrong with where alerts go, without looking at
// files.
func (l *loader) checkReceiver(path string, n *Notifier) {
	switch n.Kind {
	case "alertmanager":
		if len(n.URLs) == 0 && !l.failed(path+".urls") {
			l.fault(path+".urls", "there are none", "name every member: urls: [http://127.0.0.1:9093]")
		}
		for i, u := range n.URLs {
			l.explained(fmt.Sprintf("%s.urls[%d]", path, i), notify.CheckURL(u))
		}
	case "webhook":
		switch {
		case n.URL == "" && n.URLFile == "" && !l.failed(path+".url"):
			l.fault(path+".url", "there is none", "write url, or url_file if it is secret")
		case n.URL != "" && n.URLFile != "":
			l.fault(path+".url", "there is a url_file, too", "remove one")
		case n.URL != "":
			l.explained(path+".url", notify.CheckURL(n.URL))
		}
	case "shoutrrr":
		if n.URLFile == "" && !l.failed(path+".url_file") {
			l.fault(path+".url_file", "there is none", "put the URL, which holds secrets, into a file and name it")
		}
	case "file":
		if n.Path == "" && !l.failed(path+".path") {
			l.fault(path+".path", "the file has no name", "name one such as /var/log/bouncemeter/alerts.jsonl")
		}
	case "kafka":
		if n.Topic == "" && !l.failed(path+".topic") {
			l.fault(path+".topic", "there is none", "name the topic")
		}
		if !l.failed(path+".brokers") && !l.failed(path+".tls") && !l.failed(path+".sasl") {
			l.explained(path, n.Cluster().Check())
		}
	}
	if n.Kind == "alertmanager" || n.Kind == "webhook" {
		l.explained(path, n.http().Check())
	}
	if n.Title != "" || n.Text != "" {
		_, err := notify.NewTemplate(notify.TemplateConfig{Title: n.Title, Text: n.Text})
		l.explained(path, err)
	}
}

// explained adds the fault of an error, or of several joined ones, that read
// "FIELD: PROBLEM; REMEDY" or "PROBLEM; REMEDY".
func (l *loader) explained(path string, err error) {
	for _, err := range causes(err) {
		problem, remedy := split(err)
		p := path
		if field, rest, ok := strings.Cut(problem, ": "); ok && !strings.Contains(field, " ") {
			p, problem = path+"."+field, rest
		}
		l.fault(p, problem, remedy)
	}
}

// causes returns the errors that err joins, or err alone.
func causes(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// split returns the two halves of an error that reads "PROBLEM; REMEDY".
func split(err error) (problem, remedy string) {
	problem, remedy, ok := strings.Cut(err.Error(), "; ")
	if !ok {
		remedy = "correct it"
	}
	return problem, remedy
}

// checkNotifyHost tries the files that notifiers need.
func (l *loader) checkNotifyHost(c *Config) {
	for i := range c.Notify {
		n, path := &c.Notify[i], fmt.Sprintf("notify[%d]", i)
		if slices.ContainsFunc(l.faults, func(f Fault) bool { return strings.HasPrefix(f.Path, path) }) {
			continue
		}
		for _, f := range []struct{ key, file string }{
			{"secret_file", n.SecretFile}, {"password_file", n.PasswordFile}, {"bearer_file", n.BearerFile}, {"url_file", n.URLFile},
		} {
			if f.file != "" {
				l.readSecret(path+"."+f.key, f.file)
			}
		}
		if l.failed(path + ".url_file") {
			continue
		}
		var err error
		switch n.Kind {
		case "alertmanager":
			_, err = notify.NewAlertmanager(n.Alertmanager(""))
		case "webhook":
			_, err = notify.NewWebhook(n.Webhook(""))
		case "shoutrrr":
			_, err = notify.NewShoutrrr(n.Shoutrrr(""))
		case "file":
			l.checkFolder(path+".path", n.Path)
		}
		l.explained(path, err)
	}
	if c.Silences != "" {
		_, err := notify.OpenSilences(c.Silences, nil)
		for _, err := range causes(err) {
			problem, remedy := split(err)
			l.fault("silences", problem, remedy)
		}
	}
}

func (n *Notifier) http() notify.HTTPConfig {
	return notify.HTTPConfig{
		Timeout: n.Timeout, CAFile: n.TLS.CAFile, CertFile: n.TLS.CertFile, KeyFile: n.TLS.KeyFile, ServerName: n.TLS.ServerName,
		User: n.User, PasswordFile: n.PasswordFile, BearerFile: n.BearerFile,
	}
}

// Alertmanager returns what a notifier of this kind is made from. Link is the
// address of the daemon's page as people reach it.
func (n *Notifier) Alertmanager(link string) notify.AlertmanagerConfig {
	return notify.AlertmanagerConfig{URLs: n.URLs, HTTP: n.http(), Resend: n.Resend, Link: link}
}

// Webhook returns what a notifier of this kind is made from.
func (n *Notifier) Webhook(link string) notify.WebhookConfig {
	return notify.WebhookConfig{
		URL: n.URL, URLFile: n.URLFile, HTTP: n.http(), SecretFile: n.SecretFile, Name: n.Name, Title: n.Title, Text: n.Text, Link: link,
	}
}

// Shoutrrr returns what a notifier of this kind is made from.
func (n *Notifier) Shoutrrr(link string) notify.ShoutrrrConfig {
	return notify.ShoutrrrConfig{URLFile: n.URLFile, Name: n.Name, Title: n.Title, Text: n.Text, Link: link}
}

// Cluster is how the notifier's Kafka cluster is reached.
func (n *Notifier) Cluster() kafkaclient.Config {
	s := Source{Brokers: n.Brokers, TLS: n.TLS, SASL: n.SASL}
	return s.Cluster()
}

// Routing returns which alerts the notifier is for.
func (n *Notifier) Routing() notify.Match {
	m := n.Match
	return notify.Match{
		Rules: m.Rules, Kinds: m.Kinds, Severities: m.Severities, Categories: m.Categories, Groups: m.Groups,
		Providers: m.Providers, SenderDomains: m.SenderDomains, Sources: m.Sources, Hosts: m.Hosts, Streams: m.Streams,
	}
}
