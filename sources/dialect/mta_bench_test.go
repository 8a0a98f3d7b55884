package dialect

import (
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

// mtaLines are the commonest kinds of line of each MTA that writes text.
var mtaLines = []struct {
	dialect string
	lines   []string
}{
	{"exim", []string{
		"2026-01-12 04:01:07 1rOaBc-000001-AB <= bounce-1234@news.shop.example H=app1.shop.example [192.0.2.80] P=esmtp S=14321 id=20260112040107.1@shop.example",
		`2026-01-12 04:01:07 1rOaBc-000001-AB => ann.smith@customer.example R=dnslookup T=remote_smtp H=mx1.customer.example [192.0.2.25] X=TLS1.3:ECDHE_X25519__RSA_PSS_RSAE_SHA256__AES_256_GCM:256 CV=yes C="250 2.0.0 Ok: queued as 9A8B7C6D5E"`,
		"2026-01-12 04:01:07 1rOaBc-000001-AB == ann.smith@customer.example R=dnslookup T=remote_smtp defer (-44) H=mx1.customer.example [192.0.2.25]: SMTP error from remote mail server after RCPT TO:<ann.smith@customer.example>: 451 4.7.1 Greylisting in action, please come back in 300 seconds",
		"2026-01-12 04:01:07 1rOaBc-000001-AB Completed",
	}},
	{"sendmail", []string{
		"Jan 12 04:01:07 mx1 sm-mta[20311]: 60C411aa020311: from=<bounce-1234@news.shop.example>, size=14321, class=0, nrcpts=1, msgid=<20260112040107.1@shop.example>, proto=ESMTP, daemon=MTA, relay=app1.shop.example [192.0.2.80]",
		"Jan 12 04:01:07 mx1 sm-mta[20311]: 60C411aa020311: to=<ann.smith@customer.example>, delay=00:00:02, xdelay=00:00:01, mailer=esmtp, pri=134321, relay=mx1.customer.example. [192.0.2.25], dsn=2.0.0, stat=Sent (Ok: queued as 9A8B7C6D5E)",
		"Jan 12 04:01:07 mx1 sm-mta[20311]: 60C411aa020311: to=<ann.smith@customer.example>, delay=01:00:02, xdelay=00:00:01, mailer=esmtp, pri=134321, relay=mx1.customer.example. [192.0.2.25], dsn=4.7.1, reply=451 4.7.1 Greylisting in action, please come back in 300 seconds, stat=Deferred: 451 4.7.1 Greylisting in action, please come back in 300 seconds",
	}},
	{"opensmtpd", []string{
		"Jan 12 04:01:07 mx1 smtpd[20311]: 0a1b2c3d4e5f6071 smtp message msgid=11223344 size=14321 nrcpt=1 proto=ESMTP",
		`Jan 12 04:01:07 mx1 smtpd[20311]: 0a1b2c3d4e5f6071 mta delivery evpid=1122334455667788 from=<bounce-1234@news.shop.example> to=<ann.smith@customer.example> rcpt=<-> source="198.51.100.1" relay="192.0.2.25 (mx1.customer.example)" delay=1s result="Ok" stat="250 2.0.0 Ok: queued as 9A8B7C6D5E"`,
		`Jan 12 04:01:07 mx1 smtpd[20311]: 0a1b2c3d4e5f6071 mta delivery evpid=1122334455667788 from=<bounce-1234@news.shop.example> to=<ann.smith@customer.example> rcpt=<-> source="198.51.100.1" relay="192.0.2.25 (mx1.customer.example)" delay=1h1s result="TempFail" stat="451 4.7.1 Greylisting in action, please come back in 300 seconds"`,
	}},
	{"qmail", []string{
		"@40000000696470a11dcd6500 info msg 93128: bytes 14321 from <bounce-1234@news.shop.example> qp 4711 uid 89",
		"@40000000696470a11dcd6500 starting delivery 77123: msg 93128 to remote ann.smith@customer.example",
		"@40000000696470a11dcd6500 status: local 0/10 remote 17/20",
		"@40000000696470a11dcd6500 delivery 77123: success: 192.0.2.25_accepted_message./Remote_host_said:_250_2.0.0_Ok:_queued_as_9A8B7C6D5E/",
		"@40000000696470a11dcd6500 delivery 77123: deferral: 192.0.2.25_does_not_like_recipient./Remote_host_said:_451_4.7.1_Greylisting_in_action,_please_come_back_in_300_seconds/Giving_up_on_192.0.2.25./",
		"@40000000696470a11dcd6500 end msg 93128",
	}},
	{"haraka", []string{
		"2026-01-12T04:01:07.123Z [NOTICE] [6C2E0A1B-11AA-4C5D-9E8F-0123456789AB.1] [core] sender <bounce-1234@news.shop.example> code=CONT msg=\"\"",
		"2026-01-12T04:01:07.123Z [NOTICE] [6C2E0A1B-11AA-4C5D-9E8F-0123456789AB.1.1] [outbound]  delivered file=1768190467123_1768190467123_0_77_aBcDeF_1_mx1 domain=customer.example host=mx1.customer.example ip=192.0.2.25 port=25 mode=SMTP tls=Y auth=N response=\"Ok: queued as 9A8B7C6D5E\" delay=1.5 fails=0 rcpts=1/0/0",
		"2026-01-12T04:01:07.123Z [NOTICE] [6C2E0A1B-11AA-4C5D-9E8F-0123456789AB.1.1] [outbound] recipient <ann.smith@customer.example> deferred: 451 4.7.1 Greylisting in action, please come back in 300 seconds",
		`2026-01-12T04:01:07.123Z level=NOTICE uuid=6C2E0A1B-11AA-4C5D-9E8F-0123456789AB.1.1 origin=outbound message="recipient <ann.smith@customer.example> deferred: 451 4.7.1 Greylisting in action, please come back in 300 seconds"`,
		`2026-01-12T04:01:07.123Z {"level":"NOTICE","uuid":"6C2E0A1B-11AA-4C5D-9E8F-0123456789AB.1.1","origin":"outbound","message":"","delivered file":"1768190467123_0","domain":"customer.example","host":"mx1.customer.example","ip":"192.0.2.25","port":25,"mode":"SMTP","tls":"Y","auth":"N","response":"Ok: queued as 9A8B7C6D5E","delay":0.25,"fails":0,"rcpts":"1/0/0"}`,
	}},
	{"zonemta", []string{
		"Jan 12 04:01:07 mx1 zone-mta[77]: info Sender/default/77 id=18d0c0ffee 18d0c0ffee000abcde.001 ACCEPTED from=bounce-1234@news.shop.example to=ann.smith@customer.example src=198.51.100.1 mx=mx1.customer.example[192.0.2.25] message-id=<20260112040107.1@shop.example> (250 2.0.0 Ok: queued as 9A8B7C6D5E)",
		"Jan 12 04:01:07 mx1 zone-mta[77]: info Sender/default/77 id=18d0c0ffee 18d0c0ffee000abcde.001 DEFERRED[greylist] from=bounce-1234@news.shop.example to=ann.smith@customer.example src=198.51.100.1 mx=mx1.customer.example[192.0.2.25] message-id=<20260112040107.1@shop.example> (451 4.7.1 Greylisting in action, please come back in 300 seconds)",
	}},
}

// BenchmarkMTA parses the lines of each MTA in turn, by its own dialect and by
// auto.
func BenchmarkMTA(b *testing.B) {
	for _, m := range mtaLines {
		for _, name := range []string{m.dialect, Auto} {
			b.Run(m.dialect+"/"+name, func(b *testing.B) {
				p, err := New(name, time.UTC)
				if err != nil {
					b.Fatal(err)
				}
				p.Reference(time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC))
				var lines [][]byte
				bytes := 0
				for _, l := range m.lines {
					lines = append(lines, []byte(l))
					bytes += len(l) + 1
				}
				events := make([]event.Event, 0, 4)
				b.SetBytes(int64(bytes))
				b.ReportAllocs()
				for b.Loop() {
					for _, line := range lines {
						if events, err = p.Parse(line, events[:0]); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
	}
}

// Parsing allocates nothing, whatever the line and however it was cut.
func TestMTAAllocations(t *testing.T) {
	for _, m := range mtaLines {
		for _, name := range []string{m.dialect, Auto} {
			p, _ := New(name, time.UTC, Details)
			p.Reference(time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC))
			events := make([]event.Event, 0, 4)
			for _, l := range m.lines {
				line := []byte(l)
				for _, line := range [][]byte{line, line[:len(line)*2/3], line[:len(line)/3]} {
					if n := testing.AllocsPerRun(50, func() { events, _ = p.Parse(line, events[:0]) }); n != 0 {
						t.Errorf("%s: %v allocations for %q", name, n, line)
					}
				}
			}
		}
	}
}

// BenchmarkAutoPostfix is what recognition costs for the commonest log.
func BenchmarkAutoPostfix(b *testing.B) {
	for _, name := range []string{"postfix", Auto} {
		b.Run(name, func(b *testing.B) {
			p, _ := New(name, time.UTC)
			p.Reference(time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC))
			bytes := 0
			var lines [][]byte
			for _, l := range postfixLines {
				lines = append(lines, []byte(l.line))
				bytes += len(l.line) + 1
			}
			events := make([]event.Event, 0, 4)
			b.SetBytes(int64(bytes))
			b.ReportAllocs()
			for b.Loop() {
				for _, line := range lines {
					events, _ = p.Parse(line, events[:0])
				}
			}
		})
	}
}
