package config

import (
	"cmp"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bouncemeter/bouncemeter/sources/dialect"
	"github.com/bouncemeter/bouncemeter/sources/webhook"
)

// Bounds of what is received.
const (
	minBody  Size = 1 << 10
	maxBody  Size = 16 << 20
	minSpool Size = 1 << 20
	// maxAge is how long the ids of events are remembered (package correlate).
	maxAge = 48 * time.Hour
)

// SpoolOf is the folder in which what s receives waits until it is counted.
func (c *Config) SpoolOf(s *Source) string {
	if s.Spool != "" {
		return s.Spool
	}
	return filepath.Join(c.StateDir(), "spool", s.Name)
}

// Scheme is how requests to s are verified.
func (s *Source) Scheme() string { return cmp.Or(s.Verify, webhook.ByDialect(s.Dialect)) }

// Secrets are the lines of the source's secret file, or the one key in PEM.
func (s *Source) Secrets() []string {
	if strings.Contains(string(s.Secret), "-----BEGIN") {
		return []string{string(s.Secret)}
	}
	return strings.Fields(string(s.Secret))
}

// checkReceivers checks the sources that others send to.
func (l *loader) checkReceivers(c *Config) {
	spools, hooks := make(map[string]string), make(map[string]string)
	for i := range c.Sources {
		s, path := &c.Sources[i], fmt.Sprintf("sources[%d]", i)
		if l.failed(path) || l.failed(path+".kind") {
			continue
		}
		if least := max(minSpool, s.MaxLineBytes); s.SpoolBytes != 0 && s.SpoolBytes < least && !l.failed(path+".spool_bytes") {
			l.fault(path+".spool_bytes", fmt.Sprintf("%v is out of bounds", s.SpoolBytes), fmt.Sprintf("use %v or more", least))
		}
		if s.Kind != "webhook" && s.Kind != "syslog" {
			continue
		}
		folder := c.SpoolOf(s)
		if first, again := spools[folder]; again {
			l.fault(path+".spool", fmt.Sprintf("%s is the spool of %s already", folder, first), "give each source a folder of its own")
		}
		spools[folder] = path
		if s.Kind == "syslog" {
			l.checkSyslog(path, s)
		} else {
			l.checkWebhook(path, s, hooks)
		}
	}
}

// checkWebhook checks one receiver of events; hooks maps addresses with paths to
// the sources that have them.
func (l *loader) checkWebhook(path string, s *Source, hooks map[string]string) {
	if host, port, err := net.SplitHostPort(s.Listen); err != nil || strings.ContainsAny(host, " /") || !isPort(port) {
		if !l.failed(path + ".listen") {
			l.fault(path+".listen", fmt.Sprintf("%q is not an address with a port", s.Listen), "write it as 127.0.0.1:9726, or :9726 for all addresses")
		}
	}
	if !strings.HasPrefix(s.URLPath, "/") || strings.ContainsAny(s.URLPath, "?#{} ") {
		l.fault(path+".url_path", fmt.Sprintf("%q is not the path of a URL", s.URLPath), "write it like /"+cmp.Or(s.Name, "events"))
	}
	if first, again := hooks[s.Listen+s.URLPath]; again {
		l.fault(path+".url_path", first+" receives there already", "give each source a path of its own")
	}
	hooks[s.Listen+s.URLPath] = path
	if s.Lines() && s.Dialect != dialect.Auto || slices.Contains(ofFiles, s.Dialect) {
		l.fault(path+".dialect", fmt.Sprintf("records of dialect %s are not sent by HTTP", s.Dialect), "name the provider, such as sendgrid, or write json with fields")
	}
	scheme := s.Scheme()
	needed := func(key string, missing bool, problem, remedy string) {
		if missing && !l.failed(path+"."+key) {
			l.fault(path+"."+key, problem, remedy)
		}
	}
	needed("secret_file", s.SecretFile == "" && scheme != webhook.SNS && scheme != webhook.None,
		fmt.Sprintf("requests are verified by %s, which takes a key, password or token", scheme), "name the file that holds it")
	needed("user", s.User == "" && scheme == webhook.Basic, "there is no user to log in as", "write user: NAME, and tell the provider https://NAME:PASSWORD@…")
	needed("url", s.URL == "" && scheme == webhook.Mandrill, "Mandrill signs the address of the webhook", "write it as Mandrill was told, such as url: https://hooks.example.com/mandrill")
	needed("sns_topics", len(s.SNSTopics) == 0 && scheme == webhook.SNS, "anybody can send by SNS", "write the ARNs of the topics that are yours")
	if n := s.MaxBodyBytes; n != 0 && (n < minBody || n > maxBody) {
		l.fault(path+".max_body_bytes", fmt.Sprintf("%v is out of bounds", n), fmt.Sprintf("use %v to %v", minBody, maxBody))
	}
	if s.MaxAge > maxAge {
		l.fault(path+".max_age", fmt.Sprintf("%s is longer than ids of events are remembered, so replays would count", FormatDuration(s.MaxAge)), "write at most "+FormatDuration(maxAge))
	}
	if s.TLS.Enabled != (s.TLS.CertFile != "") || (s.TLS.CertFile != "") != (s.TLS.KeyFile != "") {
		l.fault(path+".tls", "HTTPS takes a certificate and its key", "write tls: {enabled: true, cert_file: FILE, key_file: FILE}")
	}
	if scheme == webhook.None && s.Verify == webhook.None {
		l.warn(path+".verify", "requests of anybody are taken", "see to it that only the provider reaches "+s.Listen)
	}
}

func isPort(port string) bool {
	_, err := strconv.ParseUint(port, 10, 16)
	return err == nil
}

// checkReceiverHost reads the secrets of receivers.
func (l *loader) checkReceiverHost(c *Config) {
	for i := range c.Sources {
		s, path := &c.Sources[i], fmt.Sprintf("sources[%d]", i)
		if s.Kind != "webhook" && s.Kind != "syslog" {
			continue
		}
		if s.SecretFile != "" {
			s.Secret = l.readSecret(path+".secret_file", s.SecretFile)
			if s.Secret == "" && !l.failed(path+".secret_file") {
				l.fault(path+".secret_file", s.SecretFile+" is empty", "write the key, password or token into it")
			}
		}
		for key, file := range map[string]string{"ca_file": s.TLS.CAFile, "cert_file": s.TLS.CertFile, "key_file": s.TLS.KeyFile} {
			if file != "" {
				l.checkReadable(path+".tls."+key, file)
			}
		}
	}
}
