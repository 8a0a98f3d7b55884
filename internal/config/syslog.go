package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bouncemeter/bouncemeter/sources/dialect"
	"github.com/bouncemeter/bouncemeter/sources/syslog"
)

// maxHeld bounds the unfinished messages of all connections.
const maxHeld Size = 64 << 20

// Lines reports whether the dialect's records are lines of a log with a time and
// a host in front. Of others that come through syslog or the journal the text is
// the whole record.
func (s *Source) Lines() bool { return dialect.IsLog(s.Dialect) }

// ofFiles are the dialects whose records mean nothing without the rest of their
// file.
var ofFiles = []string{"powermta", MappedCSV, Messages}

// Networks are those that senders may be in.
func (s *Source) Networks() ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range s.Allow {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			a, err := netip.ParseAddr(text)
			if err != nil || a.Zone() != "" {
				return nil, fmt.Errorf("%q is neither a network nor an address", text)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

// checkAllow checks the networks that senders may be in.
func (l *loader) checkAllow(path string, s *Source) {
	for i := range s.Allow {
		if _, err := (&Source{Allow: s.Allow[i : i+1]}).Networks(); err != nil {
			l.fault(fmt.Sprintf("%s.allow[%d]", path, i), err.Error(), "write it like 192.0.2.0/24, 2001:db8::/32 or 192.0.2.25")
		}
	}
}

// checkSyslog checks one receiver of syslog.
func (l *loader) checkSyslog(path string, s *Source) {
	encrypted, remote := false, false
	listens := strings.Fields(s.Listen)
	if len(listens) == 0 && !l.failed(path+".listen") {
		l.fault(path+".listen", "there is no address to listen on", "write one like udp:127.0.0.1:5514, or several with spaces between")
	}
	for i, listen := range listens {
		network, address, err := syslog.ParseListen(listen)
		switch {
		case err != nil:
			l.fault(path+".listen", fmt.Sprintf("%q is not an address with its transport", listen), "write it like udp:127.0.0.1:5514, tcp::5514, tls::6514 or unix:/run/bouncemeter/log")
			return
		case slices.Contains(listens[:i], listen):
			l.fault(path+".listen", listen+" is there twice", "remove one of the two")
		case network == syslog.Unix && !filepath.IsAbs(address):
			l.fault(path+".listen", fmt.Sprintf("%q is not the whole path of a socket", address), "begin it with /")
		}
		encrypted = encrypted || network == syslog.TLS
		remote = remote || network != syslog.Unix && !strings.HasPrefix(address, "127.") && !strings.HasPrefix(address, "[::1]") && !strings.HasPrefix(address, "localhost:")
	}
	l.checkAllow(path, s)
	if remote && len(s.Allow) == 0 && s.TLS.CAFile == "" {
		l.warn(path+".allow", "the messages of anybody who reaches this address are counted", "list the networks of your mail servers")
	}
	if slices.Contains(ofFiles, s.Dialect) {
		l.fault(path+".dialect", fmt.Sprintf("records of dialect %s are not sent by syslog", s.Dialect), "name the mail server, such as postfix")
	}
	switch {
	case encrypted && (s.TLS.CertFile == "" || s.TLS.KeyFile == ""):
		l.fault(path+".tls", "TLS takes a certificate and its key", "write tls: {cert_file: FILE, key_file: FILE}")
	case !encrypted && s.TLS != (TLS{}):
		l.fault(path+".tls", "no address to listen on is one of TLS", "write listen: tls::6514, or remove it")
	}
	connections := s.MaxConnections
	if connections == 0 {
		connections = syslog.DefaultMaxConnections
	}
	if held := s.MaxLineBytes * Size(connections); held > maxHeld || connections > int(maxHeld) {
		l.fault(path+".max_connections", fmt.Sprintf("%d connections with %v each take more than %v of memory", connections, s.MaxLineBytes, maxHeld), "lower it, or max_line_bytes")
	}
}
