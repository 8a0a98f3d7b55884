package config

import (
	"fmt"
	"net"
	"strings"
)

// Mails reports whether the source's records are whole mails.
func (s *Source) Mails() bool {
	return s.Kind == "maildir" || s.Kind == "lmtp" || s.Kind == "smtp" || s.Dialect == Messages
}

// checkMail checks a source that takes mails by LMTP or SMTP.
func (l *loader) checkMail(path string, s *Source) {
	if len(s.Paths) > 1 {
		l.fault(path+".paths", "messages wait in one Maildir", "name one")
	}
	if s.Listen == "" && !l.failed(path+".listen") {
		l.fault(path+".listen", "there is no address to listen on", "write listen: unix:/run/bouncemeter/lmtp, or 127.0.0.1:2424")
	}
	l.checkAllow(path, s)
	for i, r := range s.Recipients {
		if r == "" || strings.ContainsAny(r, "*<> ,") || strings.HasPrefix(r, "@") || strings.HasSuffix(r, "@") {
			l.fault(fmt.Sprintf("%s.recipients[%d]", path, i), fmt.Sprintf("%q is neither a domain nor an address", r), "write it like bounces.shop.example or abuse@shop.example")
		}
	}
	if (s.TLS.CertFile == "") != (s.TLS.KeyFile == "") {
		l.fault(path+".tls", "STARTTLS takes a certificate and its key", "write tls: {cert_file: FILE, key_file: FILE}")
	}
	host, _, err := net.SplitHostPort(s.Listen)
	if err == nil && !isLoopback(host) && len(s.Allow) == 0 && len(s.Recipients) == 0 {
		l.warn(path+".recipients", "mail of anybody to anybody is taken, and goes nowhere", "list the domain that bounces are sent to, or the networks of your mail servers in allow")
	}
}

// isLoopback reports whether only this machine reaches an address.
func isLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}
