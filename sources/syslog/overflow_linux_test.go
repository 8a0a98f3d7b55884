package syslog

import (
	"net"
	"testing"
	"time"
)

// Each datagram is either read or counted as dropped by the system.
func TestOverflow(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	o, err := countOverflow(conn)
	if err != nil {
		t.Fatal(err)
	}
	sender, err := net.Dial("udp", conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	var read, dropped int64
	receive := func() bool {
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, oob, _, _, err := conn.ReadMsgUDPAddrPort(make([]byte, 100), o.control[:])
		if err == nil {
			read++
			dropped += o.since(oob)
		}
		return err == nil
	}
	const floods, each = 3, 1000
	for range floods {
		for range each - 1 {
			send(t, sender, "<22>p: x")
		}
		for receive() {
		}
		send(t, sender, "<22>p: x") // with it the system tells
		receive()
	}
	if read+dropped != floods*each || dropped == 0 {
		t.Errorf("%d were sent: %d read, %d dropped", floods*each, read, dropped)
	}
}
