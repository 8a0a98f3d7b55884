// Package smtp takes bounce mails and abuse reports from mail servers by SMTP
// (RFC 5321) or LMTP (RFC 2033). A message is on disk, in a Maildir, before it is
// acknowledged, and the Maildir is read as package mailbox does: nothing is lost
// and nothing is counted twice, whatever is killed when. If the answer is lost the
// mail server sends the message again; then it is known by its Message-ID.
//
// Nothing is ever sent on: it is no relay, and it sends no bounces.
package smtp

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
	"golang.org/x/sync/errgroup"

	"github.com/bouncemeter/bouncemeter/sources/mailbox"
)

// Config says where to listen, and to whom.
type Config struct {
	// LMTP speaks that instead of SMTP: there is an answer for each recipient.
	LMTP bool
	// Listen is an address such as 127.0.0.1:2424, or unix:/path/of/a/socket.
	Listen string
	// Allow lists the networks that may connect; without any, all may.
	Allow []netip.Prefix
	// Recipients lists the addresses, or the domains, that messages may be to, in
	// lower case; without any, they may be to all.
	Recipients []string
	// CertFile and KeyFile, if given, let clients encrypt by STARTTLS (RFC 3207).
	// They are read anew for each connection.
	CertFile, KeyFile string
	// Maildir is where messages wait to be counted.
	Maildir string
	// MaxMessageBytes is how much of a message is kept. Longer ones are taken
	// and cut. Zero means 1 MiB.
	MaxMessageBytes int
	// MaxBytes is how much may wait in the Maildir, in blocks of 4 KiB. What comes
	// then is refused with 452, and the mail server tries again later. Zero means
	// 1 GiB.
	MaxBytes int64
	Log      *slog.Logger
}

// Source listens for messages and hands them out as a lane.
type Source struct {
	config  Config
	mailbox *mailbox.Source
	room    *room

	noteMu sync.Mutex
	noted  time.Time // when a message that was not taken was last logged
	missed int       // messages that were not taken since
}

const (
	// maxTaken bounds what a client may send of one message at all.
	maxTaken = 256 << 20
	// maxConnections are there at a time, at the most.
	maxConnections = 200
	nag            = time.Minute // how often it is logged that messages are not taken
)

// New checks c and returns a source for it. It does not listen yet.
func New(c Config) (*Source, error) {
	if c.MaxMessageBytes == 0 {
		c.MaxMessageBytes = 1 << 20
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if _, _, err := address(c.Listen); err != nil {
		return nil, err
	}
	if c.Maildir == "" {
		return nil, errors.New("no Maildir is given, where messages wait to be counted")
	}
	c.MaxBytes = cmp.Or(c.MaxBytes, defaultMaxBytes)
	if least := blocks(int64(c.MaxMessageBytes)); c.MaxBytes < least {
		return nil, fmt.Errorf("spool_bytes: no message of %d bytes fits into %d; write at least %d", c.MaxMessageBytes, c.MaxBytes, least)
	}
	s := &Source{config: c, room: &room{dir: c.Maildir, max: c.MaxBytes}}
	var err error
	s.mailbox, err = mailbox.New(mailbox.Config{
		Paths: []string{c.Maildir}, MaxMessageBytes: c.MaxMessageBytes, Delete: true, Removed: s.room.removed, Log: c.Log,
	})
	return s, err
}

// address splits what Config.Listen says.
func address(listen string) (network, address string, err error) {
	if path, ok := strings.CutPrefix(listen, "unix:"); ok && path != "" {
		return "unix", path, nil
	}
	if _, port, err := net.SplitHostPort(listen); err != nil || port == "" {
		return "", "", fmt.Errorf("listen: %q is neither host:port nor unix:PATH; write it like 127.0.0.1:2424", listen)
	}
	return "tcp", listen, nil
}

// Run listens, and calls work for the lane of the messages, until ctx is done.
func (s *Source) Run(ctx context.Context, work func(context.Context, *mailbox.Lane) error) error {
	network, where, err := address(s.config.Listen)
	if err != nil {
		return err
	}
	if network == "unix" {
		// A killed process leaves its socket behind, which would be in the way.
		if c, err := net.Dial(network, where); err == nil {
			return errors.Join(fmt.Errorf("listen on %s: another process answers there; stop it or choose another path", where), c.Close())
		}
		if err := os.Remove(where); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("listen on %s: %w", where, err)
		}
	}
	s.room.begin()
	var config net.ListenConfig
	l, err := config.Listen(ctx, network, where)
	if err != nil {
		return fmt.Errorf("listen for %s: %w; choose another address, or stop who uses it", s.protocol(), err)
	}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{source: s}, nil }))
	server.LMTP, server.Domain = s.config.LMTP, name()
	server.MaxRecipients, server.MaxMessageBytes, server.MaxLineLength = 1000, maxTaken, 64<<10
	server.ReadTimeout, server.WriteTimeout = 5*time.Minute, time.Minute
	server.EnableSMTPUTF8, server.EnableBINARYMIME = true, true
	server.ErrorLog = slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug)
	if s.config.CertFile != "" {
		server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.certificate}
	}
	l = &listener{Listener: l, source: s, free: make(chan struct{}, maxConnections)}
	s.config.Log.Info("listening for mail", "protocol", s.protocol(), "address", l.Addr().String())

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := server.Serve(l)
		if ctx.Err() != nil || errors.Is(err, smtp.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serve %s: %w", s.protocol(), err)
	})
	g.Go(func() error {
		<-ctx.Done()
		return ignoreClosed(server.Close())
	})
	g.Go(func() error { return s.mailbox.Run(ctx, work) })
	return g.Wait()
}

func (s *Source) protocol() string {
	if s.config.LMTP {
		return "LMTP"
	}
	return "SMTP"
}

// name is what the server calls itself.
func name() string {
	if host, err := os.Hostname(); err == nil && host != "" {
		return host
	}
	return "localhost"
}

func (s *Source) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(s.config.CertFile, s.config.KeyFile)
	if err != nil {
		s.config.Log.Error("the certificate for STARTTLS cannot be read; clients go on without, or not at all", "err", err)
	}
	return &c, err
}

// allowed reports whether a client may connect. Who may use a local socket is up
// to its permissions.
func (s *Source) allowed(client net.Addr) bool {
	a, ok := client.(*net.TCPAddr)
	if !ok || len(s.config.Allow) == 0 {
		return true
	}
	ip := a.AddrPort().Addr().Unmap().WithZone("")
	return slices.ContainsFunc(s.config.Allow, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// listener sends away who may not connect, and who is one too many.
type listener struct {
	net.Listener
	source *Source
	free   chan struct{} // holds one for each connection
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if !l.source.allowed(c.RemoteAddr()) {
			l.source.config.Log.Debug("a client that is not in allow was sent away", "client", c.RemoteAddr().String())
			refuse(c, "554 5.7.1 You may not send here\r\n")
			continue
		}
		select {
		case l.free <- struct{}{}:
			return &conn{Conn: c, free: l.free}, nil
		default:
			refuse(c, "421 4.3.2 Too many connections\r\n")
		}
	}
}

// refuse ends a connection before the greeting, with words that fit into the
// system's buffer if anybody reads them.
func refuse(c net.Conn, reply string) {
	_ = c.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(c, reply)
	_ = c.Close()
}

// conn is a connection that counts.
type conn struct {
	net.Conn
	once sync.Once
	free chan struct{}
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.once.Do(func() { <-c.free })
	return c.Conn.Close()
}

func ignoreClosed(err error) error {
	if errors.Is(err, smtp.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// session is one connection of a mail server.
type session struct {
	source   *Source
	from, to string
}

func (c *session) Reset()        { c.from, c.to = "", "" }
func (c *session) Logout() error { return nil }

func (c *session) Mail(from string, _ *smtp.MailOptions) error {
	if !c.source.room.has(int64(c.source.config.MaxMessageBytes)) {
		return c.source.full() // before the message is sent for nothing
	}
	c.from = from
	return nil
}

func (c *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if !c.source.wanted(to) {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "Not a recipient here"}
	}
	if c.to == "" {
		c.to = to
	}
	return nil
}

// wanted reports whether messages may be to an address.
func (s *Source) wanted(to string) bool {
	if len(s.config.Recipients) == 0 {
		return true
	}
	to = strings.ToLower(to)
	return slices.Contains(s.config.Recipients, to) || slices.Contains(s.config.Recipients, to[strings.LastIndexByte(to, '@')+1:])
}

// Data stores the message once, however many recipients it has, with the fields
// that a final delivery adds (RFC 5321 section 4.4).
func (c *session) Data(r io.Reader) error {
	head := "Return-Path: <" + oneLine(c.from) + ">\r\nDelivered-To: " + oneLine(c.to) + "\r\n"
	s, limit := c.source, int64(c.source.config.MaxMessageBytes)
	if !s.room.take(limit) {
		return s.full()
	}
	n, err := mailbox.Deliver(s.config.Maildir, io.MultiReader(strings.NewReader(head), r), limit)
	s.room.stored(limit, n)
	if err != nil {
		s.note(err)
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "Cannot store the message now"}
	}
	return nil
}

// full tells a client that there is no room (RFC 3463: X.3.1, mail system full).
func (s *Source) full() error {
	s.note(fmt.Errorf("%d bytes wait in the Maildir already; look why they are not counted, or raise spool_bytes", s.config.MaxBytes))
	return &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 3, 1}, Message: "Too many messages wait to be counted"}
}

// note logs that messages are not taken, but not each time.
func (s *Source) note(err error) {
	s.noteMu.Lock()
	defer s.noteMu.Unlock()
	s.missed++
	if now := time.Now(); now.Sub(s.noted) >= nag {
		s.config.Log.Error("messages cannot be stored; mail servers will try again", "maildir", s.config.Maildir, "messages", s.missed, "err", err)
		s.noted, s.missed = now, 0
	}
}

// oneLine keeps an address from adding header fields.
func oneLine(s string) string { return strings.NewReplacer("\r", "", "\n", "").Replace(s) }
