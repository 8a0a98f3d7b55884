package lmtp

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/bouncemeter/bouncemeter/event"
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

func send(t *testing.T, path, from string, to []string, text string) error {
	t.Helper()
	conn, err := net.Dial("unix", path)
	for deadline := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(deadline); {
		conn, err = net.Dial("unix", path) // it is about to listen
	}
	if err != nil {
		t.Fatal(err)
	}
	c := smtp.NewClientLMTP(conn)
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
	messages, stop := start(t, Config{Listen: "unix:" + socket, Maildir: filepath.Join(dir, "mail"), MaxMessageBytes: 200})
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
	_, stop := start(t, Config{Listen: "unix:" + socket, Maildir: mail})
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

func TestSecondListener(t *testing.T) {
	dir := t.TempDir()
	config := Config{Listen: "unix:" + filepath.Join(dir, "lmtp"), Maildir: filepath.Join(dir, "mail")}
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
	for _, c := range []Config{{Listen: "nowhere", Maildir: "x"}, {Listen: "unix:", Maildir: "x"}, {Listen: "127.0.0.1:0"}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}
