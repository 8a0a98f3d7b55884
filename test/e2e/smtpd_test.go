package e2e

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
)

// peer is a mail server on the loopback that answers as its test case says.
type peer struct {
	listener net.Listener
	banner   string // instead of 220, if set
	size     int    // announced with SIZE, if set
	// answer returns the reply to a command at a stage (MAIL, RCPT, DATA, END)
	// of a message from sender to recipient; "" is a plain yes.
	answer func(stage, sender, recipient string) string
	// keep is handed each message that was taken, if set; by several goroutines.
	keep  func(sender, recipient, message string)
	conns sync.WaitGroup
}

// listen starts the server; it ends with the test.
func (p *peer) listen(t *testing.T) int {
	t.Helper()
	return p.listenAt(t, "127.0.0.1:0")
}

// listenAt is listen at an address of the loopback network.
func (p *peer) listenAt(t *testing.T, address string) int {
	t.Helper()
	l, err := net.Listen("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	p.listener = l
	p.conns.Add(1)
	go func() {
		defer p.conns.Done()
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			p.conns.Add(1)
			go func() {
				defer p.conns.Done()
				defer conn.Close()
				p.serve(conn)
			}()
		}
	}()
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

func (p *peer) serve(conn net.Conn) {
	in := bufio.NewReader(conn)
	say := func(reply string) { fmt.Fprint(conn, strings.ReplaceAll(reply, "\n", "\r\n")+"\r\n") }
	if p.banner != "" {
		say(p.banner)
		return
	}
	say("220 peer.example ESMTP")
	var sender, recipient string
	stage := func(name, yes string) bool {
		if p.answer != nil {
			if reply := p.answer(name, sender, recipient); reply != "" {
				say(reply)
				return false
			}
		}
		say(yes)
		return true
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		verb := strings.ToUpper(strings.TrimSpace(line))
		switch {
		case strings.HasPrefix(verb, "EHLO"):
			size := ""
			if p.size > 0 {
				size = fmt.Sprintf("250-SIZE %d\n", p.size)
			}
			say("250-peer.example\n" + size + "250-ENHANCEDSTATUSCODES\n250 8BITMIME")
		case strings.HasPrefix(verb, "MAIL FROM:"):
			sender, recipient = address(line), ""
			stage("MAIL", "250 2.1.0 Ok")
		case strings.HasPrefix(verb, "RCPT TO:"):
			recipient = address(line)
			stage("RCPT", "250 2.1.5 Ok")
		case verb == "DATA":
			if !stage("DATA", "354 go ahead") {
				continue
			}
			var message strings.Builder
			for {
				if line, err = in.ReadString('\n'); err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				message.WriteString(strings.TrimPrefix(line, ".")) // RFC 5321 section 4.5.2
			}
			if stage("END", "250 2.0.0 Ok: queued as 4F2A1B") && p.keep != nil {
				p.keep(sender, recipient, message.String())
			}
		case verb == "QUIT":
			say("221 2.0.0 Bye")
			return
		default:
			say("250 2.0.0 Ok")
		}
	}
}

func address(line string) string {
	_, rest, _ := strings.Cut(line, "<")
	a, _, _ := strings.Cut(rest, ">")
	return a
}
