package syslog

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bouncemeter/bouncemeter/sources/spool"
)

const (
	handshakeTimeout = 10 * time.Second
	// messageTimeout is how long a message may take from its first byte to its
	// last. It keeps connections from those who send a byte now and then.
	messageTimeout = time.Minute
	firstBuffer    = 8 << 10
	// batchBytes is how much is written to the spool at a time.
	batchBytes = 64 << 10
	// firstPause and longPause are those while the spool takes nothing.
	firstPause, longPause = 50 * time.Millisecond, 5 * time.Second
)

// streams counts connections.
type streams struct {
	mu     sync.Mutex
	all    int
	byPeer map[netip.Addr]int
}

func (t *streams) len() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return int64(t.all)
}

// network is whom a connection is counted for: an address, or the network of
// IPv6 that one customer usually has.
func network(peer netip.Addr) netip.Addr {
	if peer.Is6() {
		if p, err := peer.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return peer
}

// enter counts a connection of peer, unless there are limit of them or a quarter
// of that is peer's.
func (t *streams) enter(peer netip.Addr, limit int) bool {
	peer = network(peer)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all >= limit || t.byPeer[peer] >= max(limit/4, 1) {
		return false
	}
	if t.byPeer == nil {
		t.byPeer = make(map[netip.Addr]int)
	}
	t.all++
	t.byPeer[peer]++
	return true
}

func (t *streams) leave(peer netip.Addr) {
	peer = network(peer)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all--
	if t.byPeer[peer]--; t.byPeer[peer] == 0 {
		delete(t.byPeer, peer)
	}
}

// accept takes connections until ctx is done.
func (s *Source) accept(ctx context.Context, l net.Listener, encrypted bool, sp *spool.Spool) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var g errgroup.Group // of connections, which end by themselves
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return g.Wait()
			}
			if errors.Is(err, net.ErrClosed) {
				return errors.Join(fmt.Errorf("accept on %s: %w", l.Addr(), err), g.Wait())
			}
			s.note("a connection could not be accepted", "address", l.Addr().String(), "err", err)
			select { // out of file descriptors, perhaps
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		peer := remote(conn)
		switch {
		case !s.allowed(peer):
			s.stats.peer.Add(1)
			s.note("connections of senders that are not in allow are refused", "sender", peer)
			_ = conn.Close()
			continue
		case !s.streams.enter(peer, s.config.MaxConnections):
			s.stats.limit.Add(1)
			s.note("connections are refused: there are too many; raise max_connections, or find out who opens them", "sender", peer)
			_ = conn.Close()
			continue
		}
		g.Go(func() error {
			defer s.streams.leave(peer)
			defer conn.Close()
			s.serve(ctx, conn, peer, encrypted, sp)
			return nil
		})
	}
}

// remote returns the address of the other end.
func remote(conn net.Conn) netip.Addr {
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// serve reads one connection to its end.
func (s *Source) serve(ctx context.Context, conn net.Conn, peer netip.Addr, encrypted bool, sp *spool.Spool) {
	if encrypted {
		config, err := s.tls()
		if err != nil {
			s.stats.handshake.Add(1)
			s.note("TLS cannot begin", "err", err)
			return
		}
		secure := tls.Server(conn, config)
		handshake, cancel := context.WithTimeout(ctx, handshakeTimeout)
		err = secure.HandshakeContext(handshake)
		cancel()
		if err != nil {
			s.stats.handshake.Add(1)
			s.note("TLS could not be agreed on with a sender", "sender", peer, "err", err)
			return
		}
		conn = secure
	}
	// The deadline of the end is the last one that is set.
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = conn.SetReadDeadline(time.Now().Add(linger))
	})
	defer func() {
		if !stop() {
			<-ended
		}
	}()
	c := stream{source: s, spool: sp, conn: conn, sender: []byte(peer.String()), framer: framer{max: s.config.MaxMessage}}
	err := c.read(ctx)
	var timeout net.Error
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, errFrame):
		s.stats.framing.Add(1)
		s.note("a stream cannot be read and is closed", "sender", peer, "err", err)
	case errors.As(err, &timeout) && timeout.Timeout():
		s.stats.idle.Add(1)
	case !errors.Is(err, io.EOF):
		s.config.Log.Debug("a stream broke off", "sender", peer, "err", err)
	}
}

// tls returns what connections are encrypted with, from the files as they are
// now.
func (s *Source) tls() (*tls.Config, error) {
	c := &s.config
	certificate, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}
	if c.ClientCAFile != "" {
		pem, err := os.ReadFile(c.ClientCAFile)
		if err != nil {
			return nil, fmt.Errorf("read the authorities of senders: %w", err)
		}
		config.ClientCAs, config.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !config.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate in PEM", c.ClientCAFile)
		}
	}
	return config, nil
}

// stream is one connection; it belongs to one goroutine.
type stream struct {
	source *Source
	spool  *spool.Spool
	conn   net.Conn
	sender []byte
	framer framer
	batch  batch
}

// read takes messages until the stream ends; the error says how.
func (c *stream) read(ctx context.Context) error {
	buffer := make([]byte, 0, min(firstBuffer, c.framer.room()))
	limit := c.source.config.IdleTimeout
	deadline := time.Now().Add(limit)
	begun := false // a message, which has not ended
	for {
		if ctx.Err() == nil { // else it is set for the end
			if err := c.conn.SetReadDeadline(deadline); err != nil {
				return err
			}
			if ctx.Err() != nil { // just now
				_ = c.conn.SetReadDeadline(time.Now().Add(linger))
			}
		}
		n, err := c.conn.Read(buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
		used, messages, failed := c.take(ctx, buffer)
		if failed != nil {
			return failed
		}
		rest := copy(buffer, buffer[used:])
		buffer = buffer[:rest]
		if err != nil {
			if rest > 0 {
				c.source.stats.cut.Add(1)
			}
			return err
		}
		switch was := begun; {
		case rest == 0 && !c.framer.skipping():
			begun, deadline = false, time.Now().Add(limit)
		case !was || messages > 0: // another has begun
			begun, deadline = true, time.Now().Add(min(limit, messageTimeout))
		}
		switch {
		case rest == cap(buffer):
			larger := make([]byte, rest, min(2*rest, c.framer.room()))
			copy(larger, buffer)
			buffer = larger
		case rest == 0 && cap(buffer) > firstBuffer:
			buffer = make([]byte, 0, firstBuffer)
		}
	}
}

// take stores the messages in data, of which it returns how much they were.
func (c *stream) take(ctx context.Context, data []byte) (used, messages int, err error) {
	for used < len(data) {
		message, truncated, n, err := c.framer.next(data[used:])
		used += n
		if message != nil {
			messages++
			c.source.add(&c.batch, message, c.sender, truncated)
			if c.batch.size() >= batchBytes {
				c.store(ctx)
			}
		}
		if err != nil {
			c.store(ctx)
			return used, messages, err
		}
		if n == 0 || message == nil {
			break
		}
	}
	c.store(ctx)
	return used, messages, nil
}

// store writes to the spool. While that takes nothing it waits, and the sender
// with it.
func (c *stream) store(ctx context.Context) {
	defer c.batch.reset(batchBytes)
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		err := c.source.store(c.spool, &c.batch)
		if err == nil {
			return
		}
		c.source.note("messages cannot be stored; streams wait", "err", err)
		select {
		case <-ctx.Done():
			c.source.drop(&c.batch)
			return
		case <-time.After(pause):
		}
	}
}
