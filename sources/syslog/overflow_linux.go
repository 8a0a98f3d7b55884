package syslog

import (
	"encoding/binary"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// truncatedFlag is set for a datagram that is longer than the buffer.
const truncatedFlag = unix.MSG_TRUNC

// overflow knows how many datagrams the system had to drop, since the socket's
// buffer was full. The system tells it with the next datagram (SO_RXQ_OVFL,
// socket(7)).
type overflow struct {
	control [64]byte
	seen    uint32
}

func countOverflow(c *net.UDPConn) (*overflow, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1)
	}); err != nil {
		return nil, err
	}
	return &overflow{}, failed
}

// since returns how many were dropped since it was last asked; n bytes of control
// came with a datagram.
func (o *overflow) since(n int) int64 {
	for b := o.control[:n]; len(b) >= syscall.CmsgLen(0); {
		header, data, rest, err := unix.ParseOneSocketControlMessage(b)
		if err != nil {
			return 0
		}
		if header.Level == unix.SOL_SOCKET && header.Type == unix.SO_RXQ_OVFL && len(data) >= 4 {
			total := binary.NativeEndian.Uint32(data)
			dropped := total - o.seen // it begins anew after 2^32
			o.seen = total
			return int64(dropped)
		}
		b = rest
	}
	return 0
}
