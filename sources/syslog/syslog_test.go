package syslog

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/testcert"
	"github.com/bouncemeter/bouncemeter/sources/spool"
)

// running is a source that receives, and the lines that it hands out.
type running struct {
	*Source
	t         *testing.T
	addresses []net.Addr
	lines     chan string
	stop      func()
}

func run(t *testing.T, c Config) *running {
	t.Helper()
	if c.Spool.Dir == "" {
		c.Spool.Dir = t.TempDir()
	}
	c.Log = slog.New(slog.DiscardHandler)
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	s.hostname = "here"
	listening := make(chan net.Addr, len(c.Listen))
	s.listening = func(a net.Addr) { listening <- a }
	r := &running{Source: s, t: t, lines: make(chan string, 100_000)}
	ctx, cancel := context.WithCancel(t.Context())
	var g errgroup.Group
	g.Go(func() error {
		return s.Run(ctx, func(ctx context.Context, lane *spool.Lane) error { return r.read(ctx, lane) })
	})
	var once bool
	r.stop = func() {
		if once {
			return
		}
		once = true
		cancel()
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(r.stop)
	for range c.Listen {
		select {
		case a := <-listening:
			r.addresses = append(r.addresses, a)
		case <-time.After(10 * time.Second):
			t.Fatal("it does not listen")
		}
	}
	return r
}

func (r *running) read(ctx context.Context, lane *spool.Lane) error {
	if err := lane.Open(ctx, event.Position{}); err != nil {
		return err
	}
	defer lane.Close()
	for {
		var b event.Batch
		if err := lane.Read(ctx, &b); err != nil {
			return nil // stopped
		}
		for _, line := range b.Lines {
			r.lines <- string(line.Text)
		}
		if b.Truncated > 0 {
			r.lines <- fmt.Sprintf("%d truncated", b.Truncated)
		}
	}
}

// want waits for lines, in any order.
func (r *running) want(lines ...string) {
	r.t.Helper()
	var got []string
	for range lines {
		select {
		case line := <-r.lines:
			got = append(got, line)
		case <-time.After(10 * time.Second):
			r.t.Fatalf("only %q came of %q; %+v", got, lines, r.Stats())
		}
	}
	slices.Sort(got)
	slices.Sort(lines)
	if !slices.Equal(got, lines) {
		r.t.Errorf("got %q, want %q", got, lines)
	}
}

// counted waits until the counts are as wanted, Connections included.
func (r *running) counted(want Stats) {
	r.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); r.Stats() != want; <-tick.C {
		if time.Now().After(deadline) {
			r.t.Fatalf("counts are %+v, want %+v", r.Stats(), want)
		}
	}
}

func (r *running) dial(i int) net.Conn {
	r.t.Helper()
	a := r.addresses[i]
	c, err := net.Dial(a.Network(), a.String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

func send(t *testing.T, c io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// counts puts the length in front of a message.
func counts(message string) string { return fmt.Sprintf("%d %s", len(message), message) }

// closed waits until the other side has closed c.
func closed(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Fatalf("the connection is still there: %v", err)
	}
}

func TestTransports(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	r := run(t, Config{Listen: []string{"udp:127.0.0.1:0", "unix:" + path, "tcp:127.0.0.1:0", "udp:[::1]:0"}})
	send(t, r.dial(0), "<22>Jan 12 04:01:07 mx1 p[1]: by UDP\n")
	send(t, r.dial(0), "<22>Jan 12 04:01:07 p[1]: by UDP without a host")
	send(t, r.dial(1), "<22>Jan 12 04:01:07 p[1]: by a local socket")
	send(t, r.dial(3), "<22>Jan 12 04:01:07 p[1]: by IPv6")
	counted, lines := r.dial(2), r.dial(2)
	send(t, counted, counts("<22>Jan 12 04:01:07 mx1 p: by\na count"))
	send(t, lines, "<22>1 2026-01-12T04:01:07Z mx1 p 1 - - by a line\n<22>p: and one ")
	send(t, lines, "more\n")
	r.want("Jan 12 04:01:07 mx1 p[1]: by UDP", "Jan 12 04:01:07 127.0.0.1 p[1]: by UDP without a host", "Jan 12 04:01:07 here p[1]: by a local socket",
		"Jan 12 04:01:07 ::1 p[1]: by IPv6", "Jan 12 04:01:07 mx1 p: by a count", "2026-01-12T04:01:07Z mx1 p[1]: by a line", r.undated(" 127.0.0.1 p: and one more"))
	send(t, r.dial(0), "\r\n")
	r.counted(Stats{Received: 7, Undated: 1, Empty: 1, Connections: 2})
	_ = lines.Close()
	send(t, counted, "20 <22>half")
	_ = counted.Close()
	r.counted(Stats{Received: 7, Undated: 1, Empty: 1, Cut: 1})
}

// undated waits for the line whose time is that of receipt, checks that, and
// returns it to be expected again.
func (r *running) undated(rest string) string {
	r.t.Helper()
	var others []string
	defer func() {
		for _, line := range others {
			r.lines <- line
		}
	}()
	for {
		select {
		case line := <-r.lines:
			others = append(others, line)
			stamp, ok := strings.CutSuffix(line, rest)
			if !ok {
				continue
			}
			if at, err := time.Parse(time.RFC3339, stamp); err != nil || time.Since(at).Abs() > time.Minute || len(stamp) != len(stamped) {
				r.t.Errorf("%q is no time of receipt: %v", stamp, err)
			}
			return line
		case <-time.After(10 * time.Second):
			r.t.Fatalf("no line ends with %q", rest)
		}
	}
}

func TestLongMessages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	r := run(t, Config{Listen: []string{"udp:127.0.0.1:0", "tcp:127.0.0.1:0", "unix:" + path}, MaxMessage: 300})
	long := "<22>Jan 12 04:01:07 mx1 p: " + strings.Repeat("x", 20_000)
	want := long[4:300]
	for i := range r.addresses {
		c := r.dial(i)
		send(t, c, long)
		if i == 1 {
			send(t, c, strings.Repeat("x", 100_000)+"\n<22>Jan 12 04:01:07 mx1 p: next\n")
			r.want(want, "1 truncated", "Jan 12 04:01:07 mx1 p: next")
			continue
		}
		r.want(want, "1 truncated")
	}
}

func TestAllow(t *testing.T) {
	r := run(t, Config{
		Listen: []string{"udp:127.0.0.1:0", "tcp:127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "log")},
		Allow:  []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("127.0.0.5/32")},
	})
	send(t, r.dial(0), "<22>Jan 12 04:01:07 mx1 p: refused")
	closed(t, r.dial(1))
	send(t, r.dial(2), "<22>Jan 12 04:01:07 p: allowed")
	for i := range 2 {
		local := net.Addr(&net.UDPAddr{IP: net.IPv4(127, 0, 0, 5)})
		if i == 1 {
			local = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 5)}
		}
		d := net.Dialer{LocalAddr: local}
		c, err := d.DialContext(t.Context(), r.addresses[i].Network(), r.addresses[i].String())
		if err != nil {
			t.Skipf("no second address: %v", err)
		}
		send(t, c, "<22>Jan 12 04:01:07 mx1 p: allowed\n")
		_ = c.Close()
	}
	r.want("Jan 12 04:01:07 here p: allowed", "Jan 12 04:01:07 mx1 p: allowed", "Jan 12 04:01:07 mx1 p: allowed")
	r.counted(Stats{Received: 3, Refused: 1, Peer: 1})
}

// One sender cannot take all connections, nor all of them more than there are,
// nor somebody keep one by sending slowly, or garbage.
func TestHostilePeers(t *testing.T) {
	r := run(t, Config{Listen: []string{"tcp:127.0.0.1:0"}, MaxConnections: 8, IdleTimeout: 50 * time.Millisecond})
	first, second := r.dial(0), r.dial(0)
	r.counted(Stats{Connections: 2})
	closed(t, r.dial(0)) // a quarter is 2
	send(t, first, "<22>half a mess")
	closed(t, first)
	closed(t, second)
	r.counted(Stats{Limit: 1, Idle: 2, Cut: 1})
	garbage := r.dial(0)
	send(t, garbage, "16 03 01 this is no syslog")
	closed(t, garbage)
	r.counted(Stats{Limit: 1, Idle: 2, Cut: 1, Received: 1, Framing: 1})
	endless := r.dial(0)
	send(t, endless, "<22>"+strings.Repeat("x", 2*DefaultMaxMessage))
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); ; <-tick.C {
		if _, err := endless.Write([]byte("x")); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("somebody may keep a connection by sending a byte now and then")
		}
	}
	r.counted(Stats{Limit: 1, Idle: 3, Cut: 1, Received: 2, Framing: 1})
	var all streams
	for i := range 9 {
		if got, want := all.enter(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 8), i < 8; got != want {
			t.Errorf("connection %d was taken: %v", i, got)
		}
	}
	all.leave(netip.MustParseAddr("192.0.2.0"))
	if !all.enter(netip.MustParseAddr("2001:db8::1"), 100) || all.byPeer[netip.MustParseAddr("2001:db8::")] != 1 {
		t.Errorf("connections are counted as %v", all.byPeer)
	}
}

// While nothing can be stored, streams wait and lose nothing, and datagrams are
// dropped and counted.
func TestFullSpool(t *testing.T) {
	dir := t.TempDir()
	c := Config{Listen: []string{"udp:127.0.0.1:0", "tcp:127.0.0.1:0"}, Spool: spool.Config{Dir: dir, MaxBytes: 2000}}
	// The lane reads, but nothing is committed.
	r := run(t, c)
	text := "<22>Jan 12 04:01:07 mx1 p: " + strings.Repeat("x", 400)
	for range 3 {
		send(t, r.dial(0), text)
		r.want(text[4:])
	}
	conn := r.dial(1)
	send(t, conn, text+"\n")
	r.want(text[4:])
	send(t, conn, text+"\n")
	send(t, r.dial(0), text)
	r.counted(Stats{Received: 4, Full: 1, Connections: 1})
	r.stop() // the one that waits is lost with the process
	if got := r.Stats(); got.Full != 2 || got.Connections != 0 {
		t.Errorf("at the end counts are %+v", got)
	}
	// What is in the spool is there after a restart.
	c.Spool.MaxBytes = 1 << 20
	again := run(t, c)
	again.want(text[4:], text[4:], text[4:], text[4:])
}

// What has arrived when the source stops is taken.
func TestStopTakesWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	c := Config{Listen: []string{"tcp:127.0.0.1:0", "udp:127.0.0.1:0"}, Spool: spool.Config{Dir: dir}}
	r := run(t, c)
	conn := r.dial(0)
	send(t, conn, "<22>Jan 12 04:01:07 mx1 p: 0\n")
	r.want("Jan 12 04:01:07 mx1 p: 0")
	const n = 1000
	want := []string{"Jan 12 04:01:07 mx1 p: 0"}
	for i := 1; i <= n; i++ {
		send(t, conn, fmt.Sprintf("<22>Jan 12 04:01:07 mx1 p: %d\n", i))
		want = append(want, fmt.Sprintf("Jan 12 04:01:07 mx1 p: %d", i))
	}
	send(t, r.dial(1), "<22>Jan 12 04:01:07 mx1 p: datagram")
	want = append(want, "Jan 12 04:01:07 mx1 p: datagram")
	r.stop()
	run(t, c).want(want...)
}

func TestSocketLeftBehind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	left, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if err := removeSocket(path); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a socket that is in use: %v", err)
	}
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	if err := removeSocket(path); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := removeSocket(path); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file: %v", err)
	}
	r := run(t, Config{Listen: []string{"unix:" + path + "2"}})
	if info, err := os.Stat(path + "2"); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("who logs must be able to write: %v, %v", info, err)
	}
	r.stop()
}

func TestAddressInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := New(Config{Listen: []string{"udp:127.0.0.1:0", "tcp:" + l.Addr().String()}, Spool: spool.Config{Dir: t.TempDir()}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Run(t.Context(), func(ctx context.Context, lane *spool.Lane) error {
		err := lane.Open(ctx, event.Position{})
		<-ctx.Done()
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "listen for syslog") {
		t.Errorf("it is said as %v", err)
	}
}

func TestParseListen(t *testing.T) {
	for in, want := range map[string]string{
		"udp:127.0.0.1:514": "udp 127.0.0.1:514", "tcp::5514": "tcp :5514", "tls:[::1]:6514": "tls [::1]:6514", "unix:/dev/log": "unix /dev/log",
		"": "", "127.0.0.1:514": "", "udp:127.0.0.1": "", "unix:": "", "tcp:a b:1": "", "http://x:1": "", "unix:@abstract": "",
	} {
		network, address, err := ParseListen(in)
		if got := strings.TrimSpace(network + " " + address); got != want || (err == nil) != (want != "") {
			t.Errorf("%q is %q, %v", in, got, err)
		}
	}
	for _, c := range []Config{{}, {Listen: []string{"x"}}, {Listen: []string{"tls:127.0.0.1:0"}}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	authority := testcert.New(t)
	client := authority.Issue(t)
	c := Config{Listen: []string{"tls:127.0.0.1:0"}}
	c.CertFile, c.KeyFile = testcert.Write(t, authority.Issue(t), dir, "server")
	for _, mutual := range []bool{false, true} {
		if mutual {
			c.ClientCAFile = authority.Write(t, dir)
		}
		r := run(t, c)
		for _, certificate := range []bool{false, true} {
			config := &tls.Config{RootCAs: authority.Pool(), MinVersion: tls.VersionTLS12}
			if certificate {
				config.Certificates = []tls.Certificate{client}
			}
			conn, err := tls.Dial("tcp", r.addresses[0].String(), config)
			if err != nil {
				t.Fatal(err)
			}
			if mutual && !certificate {
				closed(t, conn)
				r.counted(Stats{Handshake: 1})
			} else {
				send(t, conn, counts("<22>Jan 12 04:01:07 mx1 p: x"))
				r.want("Jan 12 04:01:07 mx1 p: x")
			}
			_ = conn.Close()
		}
		plain := r.dial(0)
		send(t, plain, "<22>Jan 12 04:01:07 mx1 p: x\n")
		closed(t, plain)
		r.stop()
	}
	if err := os.Remove(c.KeyFile); err != nil {
		t.Fatal(err)
	}
	r := run(t, c)
	closed(t, r.dial(0))
	r.counted(Stats{Handshake: 1})
}

// A sender that ends when it likes, and many at a time: each message arrives.
func TestManySenders(t *testing.T) {
	r := run(t, Config{Listen: []string{"tcp:127.0.0.1:0"}, MaxConnections: 64})
	const senders, each = 16, 500
	var g errgroup.Group
	for i := range senders {
		conn := r.dial(0)
		g.Go(func() error {
			var b bytes.Buffer
			for j := range each {
				message := fmt.Sprintf("<22>Jan 12 04:01:07 mx%d p: %d", i, j)
				if i%2 == 0 {
					b.WriteString(counts(message))
				} else {
					b.WriteString(message + "\n")
				}
				if j%7 == 0 {
					if _, err := b.WriteTo(conn); err != nil {
						return err
					}
				}
			}
			_, err := b.WriteTo(conn)
			_ = conn.Close()
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	r.counted(Stats{Received: senders * each})
	next := make(map[string]int)
	for range senders * each {
		var host string
		var n int
		line := <-r.lines
		if _, err := fmt.Sscanf(line, "Jan 12 04:01:07 %s p: %d", &host, &n); err != nil || next[host] != n {
			t.Fatalf("%q does not follow %d: %v", line, next[host], err)
		}
		next[host]++
	}
}

func BenchmarkReceive(b *testing.B) {
	message := "<22>Jan 12 04:01:07 mx1 postfix/smtp[311]: 4F2A1B3C: to=<ann@example.com>, relay=mx.example.com[192.0.2.1]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 2.0.0 OK)\n"
	s, err := New(Config{Listen: []string{"tcp:127.0.0.1:0"}, Spool: spool.Config{Dir: b.TempDir(), MaxBytes: 1 << 40}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	listening := make(chan net.Addr, 1)
	s.listening = func(a net.Addr) { listening <- a }
	ctx, cancel := context.WithCancel(b.Context())
	var g errgroup.Group
	g.Go(func() error {
		return s.Run(ctx, func(ctx context.Context, lane *spool.Lane) error {
			err := lane.Open(ctx, event.Position{})
			<-ctx.Done()
			return err
		})
	})
	address := <-listening
	conn, err := net.Dial(address.Network(), address.String())
	if err != nil {
		b.Fatal(err)
	}
	chunk := []byte(strings.Repeat(message, 100))
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	var sent int64
	for b.Loop() {
		if _, err := conn.Write(chunk); err != nil {
			b.Fatal(err)
		}
		sent += 100
	}
	_ = conn.Close()
	for s.Stats().Received < sent {
		<-time.After(time.Millisecond)
	}
	b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "messages/s")
	cancel()
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
}
