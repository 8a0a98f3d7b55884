// Package lmtp takes bounce mails and abuse reports from a mail server over LMTP
// (RFC 2033). A message is on disk, in a Maildir, before it is acknowledged, and
// the Maildir is read as package mailbox does: nothing is lost and nothing is
// counted twice, whatever is killed when. If the answer is lost the mail server
// sends the message again, and it counts again.
package lmtp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/emersion/go-smtp"
	"golang.org/x/sync/errgroup"

	"github.com/bouncemeter/bouncemeter/sources/mailbox"
)

// Config says where to listen.
type Config struct {
	// Listen is an address such as 127.0.0.1:2424, or unix:/path/of/a/socket.
	// LMTP has no access control of its own: it should be one that only the mail
	// server reaches.
	Listen string
	// Maildir is where messages wait to be counted.
	Maildir string
	// MaxMessageBytes is how much of a message is kept. Longer ones are taken
	// and cut. Zero means 1 MiB.
	MaxMessageBytes int
	Log             *slog.Logger
}

// Source listens for messages and hands them out as a lane.
type Source struct {
	config  Config
	mailbox *mailbox.Source
}

// maxTaken bounds what a client may send of one message at all.
const maxTaken = 256 << 20

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
	m, err := mailbox.New(mailbox.Config{Paths: []string{c.Maildir}, MaxMessageBytes: c.MaxMessageBytes, Delete: true, Log: c.Log})
	if err != nil {
		return nil, err
	}
	return &Source{c, m}, nil
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
	var config net.ListenConfig
	l, err := config.Listen(ctx, network, where)
	if err != nil {
		return fmt.Errorf("listen for LMTP: %w; choose another address, or stop who uses it", err)
	}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{source: s}, nil }))
	server.LMTP, server.Domain = true, "bouncemeter"
	server.MaxRecipients, server.MaxMessageBytes, server.MaxLineLength = 1000, maxTaken, 64<<10
	server.ReadTimeout, server.WriteTimeout = 5*time.Minute, time.Minute
	server.EnableSMTPUTF8, server.EnableBINARYMIME = true, true
	server.ErrorLog = slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug)
	s.config.Log.Info("listening for LMTP", "address", l.Addr().String())

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := server.Serve(l)
		if ctx.Err() != nil || errors.Is(err, smtp.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serve LMTP: %w", err)
	})
	g.Go(func() error {
		<-ctx.Done()
		return ignoreClosed(server.Close())
	})
	g.Go(func() error { return s.mailbox.Run(ctx, work) })
	return g.Wait()
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
	c.from = from
	return nil
}

func (c *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if c.to == "" {
		c.to = to
	}
	return nil
}

// Data stores the message once, however many recipients it has, with the fields
// that a final delivery adds (RFC 5321 section 4.4).
func (c *session) Data(r io.Reader) error {
	head := "Return-Path: <" + oneLine(c.from) + ">\r\nDelivered-To: " + oneLine(c.to) + "\r\n"
	limit := int64(c.source.config.MaxMessageBytes)
	if err := mailbox.Deliver(c.source.config.Maildir, io.MultiReader(strings.NewReader(head), r), limit); err != nil {
		c.source.config.Log.Error("a message could not be stored; the mail server will try again", "err", err)
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "Cannot store the message now"}
	}
	return nil
}

// oneLine keeps an address from adding header fields.
func oneLine(s string) string { return strings.NewReplacer("\r", "", "\n", "").Replace(s) }
