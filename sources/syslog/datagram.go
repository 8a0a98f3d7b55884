package syslog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bouncemeter/bouncemeter/sources/spool"
)

const (
	// socketBuffer is what the system is asked to keep of datagrams that were not
	// read yet. It may give less (net.core.rmem_max).
	socketBuffer = 8 << 20
	// waitingBytes bounds what was read and is not in the spool yet. It bridges a
	// disk that is slow for a moment.
	waitingBytes = 4 << 20
)

// datagrams receives on one socket, UDP or Unix. One goroutine reads, so that the
// socket's buffer does not overflow while another writes.
type datagrams struct {
	source *Source
	spool  *spool.Spool
	read   func(b []byte) (n int, truncated bool, peer netip.AddrPort, err error)
	conn   interface {
		net.PacketConn
		SetReadBuffer(bytes int) error
	}
	local bool

	mu      sync.Mutex
	waiting *batch        // what was read
	wake    chan struct{} // there is some of it; holds at most one
	room    chan struct{} // it was taken; holds at most one
}

func newDatagrams(s *Source, conn net.PacketConn, sp *spool.Spool) (*datagrams, error) {
	d := &datagrams{source: s, spool: sp, waiting: &batch{}, wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	switch c := conn.(type) {
	case *net.UDPConn:
		d.conn = c
		overflow, err := countOverflow(c)
		if err != nil {
			return nil, fmt.Errorf("count what the system drops: %w", err)
		}
		d.read = func(b []byte) (int, bool, netip.AddrPort, error) {
			n, oob, flags, peer, err := c.ReadMsgUDPAddrPort(b, overflow.control[:])
			s.stats.overflow.Add(overflow.since(oob))
			return n, flags&truncatedFlag != 0, peer, err
		}
	case *net.UnixConn:
		d.conn, d.local = c, true
		// Who logs is not told apart from who may connect: that is for the
		// permissions of the folder, as with /dev/log.
		if err := os.Chmod(conn.LocalAddr().String(), 0o666); err != nil {
			return nil, err
		}
		d.read = func(b []byte) (int, bool, netip.AddrPort, error) {
			n, _, flags, _, err := c.ReadMsgUnix(b, nil)
			return n, flags&truncatedFlag != 0, netip.AddrPort{}, err
		}
	default:
		return nil, fmt.Errorf("%T is no socket that is known", conn)
	}
	return d, nil
}

// serve receives until ctx is done.
func (d *datagrams) serve(ctx context.Context) error {
	if err := d.conn.SetReadBuffer(socketBuffer); err != nil {
		d.source.config.Log.Warn("the buffer for datagrams stays as small as it is", "err", err)
	}
	done := make(chan struct{}) // closed when nothing more is read
	var g errgroup.Group
	g.Go(func() error {
		defer close(done)
		return d.receive(ctx)
	})
	g.Go(func() error { d.write(done); return nil })
	return errors.Join(g.Wait(), d.conn.Close())
}

func (d *datagrams) receive(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = d.conn.SetReadDeadline(time.Now().Add(linger)) })
	defer stop()
	s := d.source
	buffer := make([]byte, min(s.config.MaxMessage, 256<<10))
	sender := []byte(s.hostname)
	for {
		n, truncated, peer, err := d.read(buffer)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			// A datagram that could not be delivered may be told here; another may
			// come all the same.
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("receive on %s: %w", d.conn.LocalAddr(), err)
			}
			s.note("a datagram could not be received", "address", d.conn.LocalAddr().String(), "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		if !d.local {
			address := peer.Addr().Unmap().WithZone("")
			if !s.allowed(address) {
				s.stats.refused.Add(1)
				s.note("messages of senders that are not in allow are refused", "sender", address)
				continue
			}
			sender = address.AppendTo(sender[:0])
		}
		d.put(buffer[:n], sender, truncated)
	}
}

// put hands a message to who writes. It waits only if too much is waiting.
func (d *datagrams) put(message, sender []byte, truncated bool) {
	for {
		d.mu.Lock()
		full := d.waiting.size() >= waitingBytes
		if !full {
			d.source.add(d.waiting, message, sender, truncated)
		}
		d.mu.Unlock()
		select {
		case d.wake <- struct{}{}:
		default:
		}
		if !full {
			return
		}
		<-d.room
	}
}

// write writes what was read to the spool, until done is closed. What the spool
// does not take is dropped: waiting would hold up programs on this machine, and
// lose the same elsewhere.
func (d *datagrams) write(done <-chan struct{}) {
	b, last := &batch{}, false
	for {
		d.mu.Lock()
		b, d.waiting = d.waiting, b
		d.mu.Unlock()
		select {
		case d.room <- struct{}{}:
		default:
		}
		if err := d.source.store(d.spool, b); err != nil {
			d.source.note("messages cannot be stored and are dropped", "err", err)
			d.source.drop(b)
		}
		b.reset(waitingBytes)
		if last {
			return
		}
		select {
		case <-d.wake:
		case <-done:
			last = true
		}
	}
}
