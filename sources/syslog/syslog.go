// Package syslog receives the log of mail servers over the network, or from a
// local socket: RFC 5424 and RFC 3164 messages over UDP (RFC 5426), TCP
// (RFC 6587), TLS (RFC 5425) and Unix datagram sockets such as /dev/log.
//
// Each message becomes one line of a log file (appendLine), waits on disk in a
// spool (package spool) and is read from there. The guarantees:
//
//   - What is in the spool is counted once, whatever is killed when.
//   - Syslog knows no acknowledgement, so senders cannot tell what has arrived.
//     What is under way in sockets when the process ends is lost, a few
//     milliseconds' worth; so is what UDP loses.
//   - While the spool is full or its disk fails, streams are not read on, so that
//     their senders keep what they have. Datagrams are dropped, so that no program
//     that logs is held up. All that is known to be dropped is counted.
//   - Memory is bounded: for each connection twice the length of a message and
//     128 KiB, for each socket of datagrams a few megabytes.
package syslog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bouncemeter/bouncemeter/sources/spool"
)

// The networks of Config.Listen.
const (
	UDP  = "udp"
	TCP  = "tcp"
	TLS  = "tls"
	Unix = "unix"
)

const (
	// DefaultMaxConnections is for some hundred mail servers.
	DefaultMaxConnections = 256
	// DefaultIdleTimeout is long: a sender that does not notice that it was cut
	// off loses what it sends next.
	DefaultIdleTimeout = time.Hour
	// DefaultMaxMessage is as much as UDP can carry.
	DefaultMaxMessage = 64 << 10

	nag = time.Minute // how often the same trouble is logged
	// linger is how long is still taken what has arrived when the source stops.
	linger = 200 * time.Millisecond
)

// Config says what to receive. The zero value of a field means its default, where
// it has one.
type Config struct {
	// Listen are addresses as ParseListen reads them.
	Listen []string
	// Allow are the networks that senders may be in. None means all. It does not
	// concern local sockets.
	Allow []netip.Prefix
	// CertFile and KeyFile, in PEM, are the certificate for TLS. They are read
	// anew for each connection.
	CertFile, KeyFile string
	// ClientCAFile has the authorities, in PEM, that senders' certificates come
	// from. With it a sender needs one.
	ClientCAFile string
	// MaxMessage is how many bytes of a message are kept. Default 64 KiB.
	MaxMessage int
	// MaxConnections is how many streams there may be at a time. One address may
	// have a quarter of them. Default 256.
	MaxConnections int
	// IdleTimeout is after what time without a message a stream is closed.
	// Default 1h.
	IdleTimeout time.Duration
	// TextOnly keeps the text of messages only, for programs that log JSON.
	TextOnly bool
	// Spool is where messages wait until they are counted.
	Spool spool.Config
	// Log takes messages about trouble. Default slog.Default.
	Log *slog.Logger
}

// Source receives messages and hands them out as a lane, each as one line.
type Source struct {
	config   Config
	hostname string // of this machine, for messages of local sockets
	stats    counters
	streams  streams

	noteMu sync.Mutex
	noted  map[string]time.Time // when which trouble was last logged

	listening func(net.Addr) // for tests
}

type counters struct {
	received, undated                     atomic.Int64
	full, overflow, refused, cut, empty   atomic.Int64
	peer, limit, handshake, framing, idle atomic.Int64
}

// Stats is what became of messages and streams since the start of the process.
type Stats struct {
	// Received messages are in the spool. The Undated among them told no time, so
	// it is that of receipt.
	Received, Undated int64

	// Messages that were dropped: because the spool was full or its disk failed,
	// because the system's buffer was full (UDP, where the system tells), because
	// their sender is not allowed, because the stream ended in their middle, or
	// because nothing was in them.
	Full, Overflow, Refused, Cut, Empty int64

	// Connections are the streams there are.
	Connections int64
	// Streams that were closed: because their sender is not allowed, because there
	// are too many, because of TLS, because no messages could be told apart in
	// them, or because nothing came for long.
	Peer, Limit, Handshake, Framing, Idle int64
}

// ParseListen splits an address to listen on: udp:HOST:PORT, tcp:HOST:PORT,
// tls:HOST:PORT, where HOST may be empty for all addresses, or unix:PATH.
func ParseListen(listen string) (network, address string, err error) {
	network, address, _ = strings.Cut(listen, ":")
	switch network {
	case Unix:
		if address != "" && !strings.ContainsAny(address, "\x00@") {
			return network, address, nil
		}
	case UDP, TCP, TLS:
		host, port, err := net.SplitHostPort(address)
		if err == nil && port != "" && !strings.ContainsAny(host, " /") {
			return network, address, nil
		}
	}
	return "", "", fmt.Errorf("%q is not an address to listen on; write it like udp:127.0.0.1:5514, tcp::5514, tls::6514 or unix:/run/bouncemeter/log", listen)
}

// New checks c and returns a source for it. It does not listen yet.
func New(c Config) (*Source, error) {
	c.MaxMessage = cmp.Or(c.MaxMessage, DefaultMaxMessage)
	c.MaxConnections = cmp.Or(c.MaxConnections, DefaultMaxConnections)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, DefaultIdleTimeout)
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if len(c.Listen) == 0 {
		return nil, errors.New("there is no address to listen on; write one like udp:127.0.0.1:5514")
	}
	for _, listen := range c.Listen {
		network, _, err := ParseListen(listen)
		if err != nil {
			return nil, err
		}
		if network == TLS && (c.CertFile == "" || c.KeyFile == "") {
			return nil, fmt.Errorf("listen on %s: TLS takes a certificate and its key; name their files", listen)
		}
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("the name of this machine, for messages of local sockets: %w", err)
	}
	c.Spool.Log = c.Log
	return &Source{config: c, hostname: host, noted: make(map[string]time.Time)}, nil
}

// Stats tells what became of messages and streams.
func (s *Source) Stats() Stats {
	c := &s.stats
	return Stats{
		Received: c.received.Load(), Undated: c.undated.Load(),
		Full: c.full.Load(), Overflow: c.overflow.Load(), Refused: c.refused.Load(), Cut: c.cut.Load(), Empty: c.empty.Load(),
		Connections: s.streams.len(),
		Peer:        c.peer.Load(), Limit: c.limit.Load(), Handshake: c.handshake.Load(), Framing: c.framing.Load(), Idle: c.idle.Load(),
	}
}

// Run opens the spool, calls work for its lane and receives messages, until ctx
// is done.
func (s *Source) Run(ctx context.Context, work func(context.Context, *spool.Lane) error) error {
	return spool.Serve(ctx, s.config.Spool, work, s.receive)
}

// receive listens on all addresses until ctx is done.
func (s *Source) receive(ctx context.Context, sp *spool.Spool) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, listen := range s.config.Listen {
		serve, address, err := s.listen(ctx, listen, sp)
		if err != nil {
			g.Go(func() error { return err }) // ends the others, too
			break
		}
		s.config.Log.Info("listening for syslog", "network", address.Network(), "address", address.String())
		if s.listening != nil {
			s.listening(address)
		}
		g.Go(func() error { return serve(ctx) })
	}
	return g.Wait()
}

// listen takes an address and returns what serves it until ctx is done.
func (s *Source) listen(ctx context.Context, listen string, sp *spool.Spool) (serve func(context.Context) error, _ net.Addr, err error) {
	network, address, err := ParseListen(listen)
	if err != nil {
		return nil, nil, err
	}
	var config net.ListenConfig
	switch network {
	case UDP, Unix:
		if network == Unix {
			if err := removeSocket(address); err != nil {
				return nil, nil, fmt.Errorf("listen on %s: %w", listen, err)
			}
			network = "unixgram"
		}
		conn, err := config.ListenPacket(ctx, network, address)
		if err != nil {
			return nil, nil, fmt.Errorf("listen for syslog: %w; choose another address, or stop who uses it", err)
		}
		d, err := newDatagrams(s, conn, sp)
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("listen on %s: %w", listen, err), conn.Close())
		}
		return d.serve, conn.LocalAddr(), nil
	default:
		config.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 8}
		l, err := config.Listen(ctx, "tcp", address)
		if err != nil {
			return nil, nil, fmt.Errorf("listen for syslog: %w; choose another address, or stop who uses it", err)
		}
		return func(ctx context.Context) error { return s.accept(ctx, l, network == TLS, sp) }, l.Addr(), nil
	}
}

// removeSocket removes a socket that a killed process has left behind.
func removeSocket(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%s is there and no socket; choose another path", path)
	}
	if c, err := net.Dial("unixgram", path); err == nil {
		return errors.Join(errors.New("another process listens there; stop it or choose another path"), c.Close())
	}
	return os.Remove(path)
}

// allowed reports whether messages of peer are taken.
func (s *Source) allowed(peer netip.Addr) bool {
	if len(s.config.Allow) == 0 {
		return true
	}
	for _, network := range s.config.Allow {
		if network.Contains(peer) {
			return true
		}
	}
	return false
}

// batch is messages on their way to the spool.
type batch struct {
	records []spool.Record
	text    []byte // of the records
	undated int64
}

// recordBytes is what a record takes besides its text.
const recordBytes = 32

func (b *batch) size() int { return len(b.text) + len(b.records)*recordBytes }

// reset empties b and keeps its memory, if that is no more than keep.
func (b *batch) reset(keep int) {
	if cap(b.text) > keep {
		b.text = nil
	}
	b.records, b.text, b.undated = b.records[:0], b.text[:0], 0
}

// add appends a message to b as a line.
func (s *Source) add(b *batch, message, sender []byte, truncated bool) {
	start := len(b.text)
	if s.config.TextOnly {
		b.text = appendText(b.text, message)
	} else {
		var r remarks
		b.text, r = appendLine(b.text, message, sender, time.Now())
		if r.undated {
			b.undated++
		}
		if r.nameCut {
			s.note("messages say postfix and not which of its programs, so what the queue manager repeats cannot always be told from new failures; in rsyslog take the template RSYSLOG_ForwardFormat, or set parser.permitSlashInProgramName", "sender", string(sender))
		}
	}
	if len(b.text) == start {
		s.stats.empty.Add(1)
		return
	}
	b.records = append(b.records, spool.Record{Text: b.text[start:len(b.text):len(b.text)], Truncated: truncated})
}

// store writes b to the spool. The caller resets b.
func (s *Source) store(sp *spool.Spool, b *batch) error {
	if len(b.records) == 0 {
		return nil
	}
	if err := sp.Append(b.records...); err != nil {
		return err
	}
	s.stats.received.Add(int64(len(b.records)))
	s.stats.undated.Add(b.undated)
	return nil
}

// drop gives up what could not be stored.
func (s *Source) drop(b *batch) { s.stats.full.Add(int64(len(b.records))) }

// note logs trouble, but the same not each time.
func (s *Source) note(message string, args ...any) {
	s.noteMu.Lock()
	defer s.noteMu.Unlock()
	if now := time.Now(); now.Sub(s.noted[message]) >= nag {
		s.noted[message] = now
		s.config.Log.Warn(message, args...) //nolint:sloglint // a few constant messages
	}
}
