package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/internal/testcert"
	"github.com/bouncemeter/bouncemeter/sources/mailbox"
)

// start runs a source on a socket and hands what its lane reads to the channel.
func start(t *testing.T, c Config) (messages <-chan string, stop func()) {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	read, ended, opened := make(chan string, 10), make(chan error, 1), make(chan struct{})
	go func() {
		ended <- s.Run(ctx, func(ctx context.Context, l *mailbox.Lane) error {
			if err := l.Open(ctx, event.Position{}); err != nil {
				return err
			}
			close(opened)
			defer l.Close()
			var b event.Batch
			for {
				if err := l.Read(ctx, &b); err != nil {
					return nil
				}
				for _, m := range b.Lines {
					read <- string(m.Text)
				}
				l.Committed(b.Next)
			}
		})
	}()
	<-opened
	return read, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func dial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial(network, address)
	for deadline := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(deadline); {
		conn, err = net.Dial(network, address) // it is about to listen
	}
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func send(t *testing.T, path, from string, to []string, text string) error {
	t.Helper()
	return deliver(smtp.NewClientLMTP(dial(t, "unix", path)), from, to, text)
}

func deliver(c *smtp.Client, from string, to []string, text string) error {
	defer c.Close()
	if err := c.Mail(from, nil); err != nil {
		return err
	}
	for _, to := range to {
		if err := c.Rcpt(to, nil); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write([]byte(text)); err != nil {
		return err
	}
	return w.Close()
}

func TestMessagesArrive(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "lmtp")
	messages, stop := start(t, Config{LMTP: true, Listen: "unix:" + socket, Maildir: filepath.Join(dir, "mail"), MaxMessageBytes: 200})
	defer stop()
	if err := send(t, socket, "", []string{"bounces@shop.example", "other@shop.example"}, "Subject: failure\r\n\r\n550 no\r\n"); err != nil {
		t.Fatal(err)
	}
	if got, want := <-messages, "Return-Path: <>\r\nDelivered-To: bounces@shop.example\r\nSubject: failure\r\n\r\n550 no\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := send(t, socket, "a@b.example", []string{"bounces@shop.example"}, "Subject: long\r\n\r\n"+strings.Repeat("x", 500)+"\r\n"); err != nil {
		t.Fatal(err)
	}
	if got := <-messages; len(got) != 200 || !strings.Contains(got, "Subject: long") {
		t.Errorf("a long message: %q", got)
	}
}

// What cannot be stored is not acknowledged.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	socket, mail := filepath.Join(dir, "lmtp"), filepath.Join(dir, "mail")
	_, stop := start(t, Config{LMTP: true, Listen: "unix:" + socket, Maildir: mail})
	defer stop()
	if err := os.RemoveAll(filepath.Join(mail, "tmp")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(mail, "tmp"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := send(t, socket, "", []string{"bounces@shop.example"}, "Subject: failure\r\n\r\n")
	if status := new(smtp.SMTPError); !errors.As(err, &status) || status.Code != 451 {
		t.Errorf("error %v", err)
	}
}

// A full Maildir refuses for now, before the message is sent, and takes again what
// fits once something is counted. What waits is known after a restart.
func TestFullMaildir(t *testing.T) {
	dir := t.TempDir()
	socket, mail := filepath.Join(dir, "lmtp"), filepath.Join(dir, "mail")
	const message = "Subject: failure\r\n\r\n"
	for _, sub := range []string{"new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(mail, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// Before the start: one message waits, and two were given up, one of them just now.
	for name, age := range map[string]time.Duration{"new/1.first.host": 0, "tmp/2.old.host": 37 * time.Hour, "tmp/3.young.host": 0} {
		path := filepath.Join(mail, name)
		if err := errors.Join(os.WriteFile(path, []byte("Subject: waited\r\n\r\n"), 0o600), os.Chtimes(path, time.Time{}, time.Now().Add(-age))); err != nil {
			t.Fatal(err)
		}
	}
	s, err := New(Config{LMTP: true, Listen: "unix:" + socket, Maildir: mail, MaxMessageBytes: 4096, MaxBytes: 3*4096 + 100})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended, count := make(chan error, 1), make(chan chan int)
	go func() {
		ended <- s.Run(ctx, func(ctx context.Context, l *mailbox.Lane) error {
			if err := l.Open(ctx, event.Position{}); err != nil {
				return err
			}
			defer l.Close()
			var b event.Batch
			for {
				select {
				case <-ctx.Done():
					return nil
				case counted := <-count:
					n := 0
					for {
						if err := l.Read(ctx, &b); err != nil || len(b.Lines) == 0 {
							break
						}
						n++
					}
					l.Committed(b.Next)
					counted <- n
				}
			}
		})
	}()
	to := []string{"bounces@shop.example"}
	for range 2 { // with the one that waited, the room is full
		if err := send(t, socket, "", to, message); err != nil {
			t.Fatal(err)
		}
	}
	client := smtp.NewClientLMTP(dial(t, "unix", socket))
	defer client.Close()
	err = client.Mail("", nil)
	if status := new(smtp.SMTPError); !errors.As(err, &status) || status.Code != 452 || status.EnhancedCode != (smtp.EnhancedCode{4, 3, 1}) {
		t.Errorf("a full Maildir answers %v", err)
	}
	// One that was let in before the room was full is refused at its end.
	session := &session{source: s}
	if status := new(smtp.SMTPError); !errors.As(session.Data(strings.NewReader(message)), &status) || status.Code != 452 {
		t.Errorf("a message at a full Maildir: %v", status)
	}
	counted := make(chan int)
	count <- counted
	if n := <-counted; n != 3 {
		t.Errorf("%d messages waited", n)
	}
	if err := send(t, socket, "", to, message); err != nil {
		t.Errorf("there is room again: %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(mail, "tmp", "*")); err != nil || len(left) != 1 || filepath.Base(left[0]) != "3.young.host" {
		t.Errorf("tmp has %v, %v", left, err)
	}
}

// Room that somebody made by hand is seen after a minute.
func TestRoomMadeByHand(t *testing.T) {
	dir := t.TempDir()
	message := filepath.Join(dir, "new", "1.x.host")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "new"), 0o700), os.WriteFile(message, make([]byte, 5000), 0o600)); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		r := &room{dir: dir, max: 4 * block}
		r.begin()
		if !r.take(5000) || r.has(1) {
			t.Error("two blocks wait, and two are reserved")
		}
		r.stored(5000, 0) // it could not be written
		if !r.take(8192) || r.has(1) {
			t.Error("what could not be stored takes no room")
		}
		if err := os.Remove(message); err != nil {
			t.Fatal(err)
		}
		if r.has(1) {
			t.Error("the folder is looked through each time")
		}
		time.Sleep(remeasure)
		if !r.has(8192) || r.has(8193) {
			t.Error("half of the room should be free")
		}
		r.removed(5000) // counted after all
		if r.waiting != 0 {
			t.Errorf("%d bytes wait", r.waiting)
		}
	})
}

func TestSecondListener(t *testing.T) {
	dir := t.TempDir()
	config := Config{LMTP: true, Listen: "unix:" + filepath.Join(dir, "lmtp"), Maildir: filepath.Join(dir, "mail")}
	_, stop := start(t, config)
	defer stop()
	if err := send(t, filepath.Join(dir, "lmtp"), "", []string{"a@b.example"}, "Subject: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("error %v", err)
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []Config{{Listen: "nowhere", Maildir: "x"}, {Listen: "unix:", Maildir: "x"}, {Listen: "127.0.0.1:0"}, {Listen: "127.0.0.1:0", Maildir: "x", MaxBytes: 1000}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}

// freePort returns an address of the loopback that nobody listens at.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestSMTP(t *testing.T) {
	dir, address := t.TempDir(), freePort(t)
	authority := testcert.New(t)
	cert, key := testcert.Write(t, authority.Issue(t), dir, "server")
	messages, stop := start(t, Config{
		Listen: address, Maildir: filepath.Join(dir, "mail"), CertFile: cert, KeyFile: key,
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Recipients: []string{"bounces.shop.example", "abuse@shop.example"},
	})
	defer stop()
	for _, test := range []struct {
		to      []string
		refused bool
	}{
		{[]string{"news+ann=x.example@Bounces.Shop.Example"}, false},
		{[]string{"Abuse@shop.example"}, false},
		{[]string{"news@shop.example"}, true},
		{[]string{"a@b.bounces.shop.example"}, true},
	} {
		err := deliver(smtp.NewClient(dial(t, "tcp", address)), "", test.to, "Subject: failure\r\n\r\n550 no\r\n")
		status := new(smtp.SMTPError)
		if refused := errors.As(err, &status) && status.Code == 550; refused != test.refused || err != nil && !refused {
			t.Errorf("%s: error %v", test.to, err)
		}
		if err == nil {
			if got, want := <-messages, "Return-Path: <>\r\nDelivered-To: "+test.to[0]+"\r\nSubject: failure\r\n\r\n550 no\r\n"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	}
	c, err := smtp.NewClientStartTLS(dial(t, "tcp", address), &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	if err := deliver(c, "", []string{"abuse@shop.example"}, "Subject: encrypted\r\n\r\n"); err != nil {
		t.Error(err)
	}
	if got := <-messages; !strings.Contains(got, "Subject: encrypted") {
		t.Errorf("got %q", got)
	}
}

// Who may not connect, or is one too many, is told so and sent away.
func TestClientsAreSentAway(t *testing.T) {
	for want, test := range map[string]struct {
		allow string
		open  int
	}{
		"554": {"192.0.2.0/24", 0},
		"421": {"127.0.0.1/32", 2},
	} {
		s := &Source{config: Config{Allow: []netip.Prefix{netip.MustParsePrefix(test.allow)}, Log: slog.New(slog.DiscardHandler)}}
		inner, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l := &listener{Listener: inner, source: s, free: make(chan struct{}, 2)}
		accepted, ended := make(chan net.Conn, 3), make(chan struct{})
		go func() {
			defer close(ended)
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				accepted <- c
			}
		}()
		var taken []net.Conn
		for range test.open {
			defer dial(t, "tcp", inner.Addr().String()).Close()
			taken = append(taken, <-accepted)
		}
		refused := dial(t, "tcp", inner.Addr().String())
		if answer, err := io.ReadAll(refused); err != nil || !strings.HasPrefix(string(answer), want) {
			t.Errorf("%q, %v, want %s", answer, err, want)
		}
		refused.Close()
		for _, c := range taken {
			c.Close()
			c.Close() // makes room once
		}
		if test.open > 0 {
			defer dial(t, "tcp", inner.Addr().String()).Close()
			(<-accepted).Close()
		}
		l.Close()
		<-ended
	}
}
