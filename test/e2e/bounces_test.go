package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/smtp"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

// Postfix hands the bounce messages that it makes to the daemon, by SMTP and by
// LMTP: each counts once, with its category.
func TestBouncesArrive(t *testing.T) {
	needsServers(t)
	refusing := (&peer{answer: func(stage, sender, _ string) string {
		if stage == "RCPT" && sender != "" {
			return "550 5.1.1 no such user here"
		}
		return ""
	}}).listen(t)
	folder := t.TempDir()
	ports := make(map[string]int)
	for _, kind := range []string{"smtp", "lmtp"} {
		ports[kind] = rig.FreePort(t)
	}
	source := func(kind string) string {
		return fmt.Sprintf(`{name: %[1]s, kind: %[1]s, listen: "127.0.0.1:%d", paths: [%s], recipients: [%[1]s.shop.example], allow: [127.0.0.0/8]}`,
			kind, ports[kind], filepath.Join(folder, kind))
	}
	site, d := start(t, source("smtp")+", "+source("lmtp"), folder)
	d.Eventually(t, "the daemon listens", func() bool {
		for _, port := range ports {
			c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				return false
			}
			c.Close()
		}
		return true
	})
	p := newPostfix(t, fmt.Sprintf("[127.0.0.1]:%d", refusing), func(transport *bytes.Buffer) {
		fmt.Fprintf(transport, "/@smtp\\.shop\\.example$/ smtp:[127.0.0.1]:%d\n", ports["smtp"])
		fmt.Fprintf(transport, "/@lmtp\\.shop\\.example$/ lmtp:inet:127.0.0.1:%d\n", ports["lmtp"])
	})
	const each = 5
	for kind := range ports {
		for i := range each {
			from := fmt.Sprintf("news@%s.shop.example", kind)
			if err := smtp.SendMail(p.address, nil, from, []string{fmt.Sprintf("x%d@customer.example", i)}, []byte("Subject: News\r\n\r\nBuy.\r\n")); err != nil {
				t.Fatal(err)
			}
		}
	}
	log := p.settle(t)
	for kind := range ports {
		want := fmt.Sprintf(`bouncemeter_notices_total{category="user_unknown",outcome="oob_bounce",provider="internal",sender_domain="%s.shop.example"} %d`, kind, each)
		d.Eventually(t, want, func() bool {
			_, metrics := site.Get("/metrics")
			return strings.Contains(metrics, want)
		})
	}
	d.Stop(t)
	if t.Failed() {
		t.Log("\n" + log)
	}
}
