//go:build !linux

package syslog

import (
	"net"

	"golang.org/x/sys/unix"
)

// truncatedFlag is set for a datagram that is longer than the buffer.
const truncatedFlag = unix.MSG_TRUNC

// overflow knows nothing: only Linux tells what it had to drop.
type overflow struct{ control [0]byte }

func countOverflow(*net.UDPConn) (*overflow, error) { return &overflow{}, nil }

func (*overflow) since(int) int64 { return 0 }
