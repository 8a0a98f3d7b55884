package simulate

import (
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

// servers are the machines whose log it is, collected in one file.
var servers = [...]struct {
	name, addr, instance string
	longIDs              bool // enable_long_queue_ids
}{
	{"mx1", "192.0.2.10", "postfix", false},
	{"mx2", "192.0.2.11", "postfix-out", true},
}

// writer puts lines together.
type writer struct {
	location *time.Location
	rfc3339  bool
	random   *rand.Rand // the simulator's

	buf          []byte
	lines, bytes int64 // of all that was written

	now    int64 // microseconds since the Unix epoch
	second int64
	stamp  []byte // of second; for RFC 3339 without fraction and zone
	zone   []byte
}

// flush writes what is buffered to w.
func (l *writer) flush(w io.Writer) (n int64, err error) {
	m, err := w.Write(l.buf)
	l.bytes += int64(len(l.buf))
	l.buf = l.buf[:0]
	return int64(m), err
}

// at sets the time of the lines to come.
func (l *writer) at(now int64) {
	l.now = now
	second := now / 1e6
	if second == l.second && l.stamp != nil {
		return
	}
	l.second = second
	t := time.Unix(second, 0).In(l.location)
	if l.rfc3339 {
		l.stamp = t.AppendFormat(l.stamp[:0], "2006-01-02T15:04:05")
		l.zone = t.AppendFormat(l.zone[:0], "-07:00")
	} else {
		l.stamp = t.AppendFormat(l.stamp[:0], time.Stamp)
	}
}

// header starts a line: the timestamp and the server's name.
func (l *writer) header(server uint8) {
	l.buf = append(l.buf, l.stamp...)
	if l.rfc3339 {
		l.buf = append(l.buf, '.')
		l.buf = appendBase(l.buf, l.now%1e6, 10, 6, upperHex)
		l.buf = append(l.buf, l.zone...)
	}
	l.text(" ", servers[server].name, " ")
}

// pid writes the process id that ends a program's name.
func (l *writer) pid(n uint32) {
	l.text("[")
	l.number(int64(n))
	l.text("]: ")
}

// postfix starts a line of one of Postfix's daemons about m.
func (l *writer) postfix(m *message, daemon string) {
	l.header(m.server)
	l.text(servers[m.server].instance, daemon)
	if daemon == "/qmgr" {
		l.pid(977)
	} else {
		l.pid(20_000 + m.local%40)
	}
}

// about starts a line about the queue file of m.
func (l *writer) about(m *message, daemon string) {
	l.postfix(m, daemon)
	l.buf = append(l.buf, m.id...)
	l.text(": ")
}

func (l *writer) text(parts ...string) {
	for _, p := range parts {
		l.buf = append(l.buf, p...)
	}
}

func (l *writer) number(n int64) { l.buf = strconv.AppendInt(l.buf, n, 10) }

func (l *writer) end() {
	l.buf = append(l.buf, '\n')
	l.lines++
}

func (l *writer) host(h host) { l.text(h.name, "[", h.addr, "]") }

// client writes the beginning of the conversation by which m is handed in.
func (l *writer) client(m *message) {
	l.postfix(m, "/smtpd")
	l.text("connect from ")
	l.app(m)
	l.end()
	if m.local%2 == 0 {
		l.postfix(m, "/smtpd")
		l.text("Anonymous TLS connection established from ")
		l.app(m)
		l.text(": ", tls13)
		l.end()
	}
	l.about(m, "/smtpd")
	l.text("client=")
	l.app(m)
	if m.local%4 == 0 {
		l.text(", sasl_method=PLAIN, sasl_username=app")
		l.number(int64(m.local % 12))
	}
	l.end()
}

// app writes the name of the client that hands m in.
func (l *writer) app(m *message) {
	n := int64(m.local % 12)
	l.text("app")
	l.number(n)
	l.text(".prod.internal.example[198.51.100.")
	l.number(100 + n)
	l.text("]")
}

// disconnect writes the end of that conversation.
func (l *writer) disconnect(m *message) {
	l.postfix(m, "/smtpd")
	l.text("disconnect from ")
	l.app(m)
	n := int64(len(m.pending))
	l.text(" ehlo=2 starttls=1 mail=1 rcpt=")
	l.number(n)
	l.text(" data=1 quit=1 commands=")
	l.number(6 + n)
	l.end()
}

// queued writes that m's data has arrived.
func (l *writer) queued(m *message, sender string) {
	l.about(m, "/cleanup")
	l.text("message-id=<")
	l.number(m.arrived)
	l.text(".")
	l.number(int64(m.local))
	if sender == "" {
		sender = "internal.example"
	}
	l.text("@", sender, ">")
	l.end()
	if m.home {
		sender = ""
	}
	l.active(m, sender)
}

// active writes that m is to be tried.
func (l *writer) active(m *message, sender string) {
	l.about(m, "/qmgr")
	l.text("from=<")
	l.sender(m.local, sender)
	l.text(">, size=")
	l.number(int64(m.size))
	l.text(", nrcpt=")
	l.number(int64(max(1, len(m.pending))))
	l.text(" (queue active)")
	l.end()
}

// senderLocals are the local parts of people and programs that send; the empty
// one stands for one of many addresses that bounces return to.
var senderLocals = [...]string{"", "", "", "", "noreply", "orders", "hello", "office"}

// sender writes an address in the domain; none for the null sender.
func (l *writer) sender(local uint32, domain string) {
	if domain == "" {
		return
	}
	if name := senderLocals[local%uint32(len(senderLocals))]; name != "" {
		l.text(name)
	} else {
		l.text("bounce+")
		l.buf = strconv.AppendUint(l.buf, uint64(local), 36)
	}
	l.text("@", domain)
}

var recipientLocals = [...]string{"customer", "reader", "member", "student", "guest", "fan", "buyer", "subscriber"}

func (l *writer) recipient(local uint32, domain string) {
	l.text(recipientLocals[local%uint32(len(recipientLocals))], ".")
	l.number(int64(local / 1000))
	l.text("@", domain)
}

// attempt writes a delivery line up to the beginning of the reason.
func (l *writer) attempt(m *message, daemon string, to func(), relay host, setup int64, dsn, status string) {
	l.about(m, daemon)
	l.text("to=<")
	to()
	l.text(">, relay=")
	if relay.name == "" {
		l.text("none")
	} else {
		l.host(relay)
		l.text(":25")
	}
	age := l.now - m.arrived
	setup = min(setup, age/2)
	transfer := min(int64(m.local%64)*10_000, age/4)
	l.text(", delay=")
	l.buf = appendDelay(l.buf, age)
	l.text(", delays=")
	l.buf = appendDelay(l.buf, max(0, age-setup-transfer-10_000))
	l.text("/0.01/")
	l.buf = appendDelay(l.buf, setup)
	l.text("/")
	l.buf = appendDelay(l.buf, transfer)
	l.text(", dsn=", dsn, ", status=", status, " (")
}

// delivery is a message on its way to one recipient.
type delivery struct {
	*message
	sender string // its domain
	to     recipient
	domain *domain // the recipient's
	relay  host
}

// sent writes that the recipient has the message.
func (l *writer) sent(d *delivery, setup int64) {
	l.attempt(d.message, "/smtp", func() { l.recipient(d.to.local, d.domain.name) }, d.relay, setup, "2.0.0", "sent")
	l.fill(providers[d.domain.provider].ok, d)
	l.text(")")
	l.end()
}

// failed writes why the recipient does not have the message.
func (l *writer) failed(d *delivery, setup int64) {
	f := d.to.why
	status := "bounced"
	if f.outcome == event.Deferred {
		status = "deferred"
	}
	if f.form == said && f.outcome == event.Deferred && d.local%8 == 0 {
		// Another mail exchanger was tried first.
		other := *d
		other.relay = d.domain.hosts[l.random.IntN(len(d.domain.hosts))]
		l.about(d.message, "/smtp")
		l.reason(&other)
		l.end()
	}
	relay, daemon, prefix := d.relay, "/smtp", ""
	if f.form == unconnected {
		relay = host{}
	}
	if d.attempts > 1 && (f.form == unconnected || f.form == refused) && l.random.IntN(2) == 0 {
		// The queue manager has given the destination up for a while.
		relay, daemon, prefix = host{}, "/error", "delivery temporarily suspended: "
	}
	l.attempt(d.message, daemon, func() { l.recipient(d.to.local, d.domain.name) }, relay, setup, f.dsn, status)
	l.text(prefix)
	l.reason(d)
	l.text(")")
	l.end()
}

func (l *writer) reason(d *delivery) {
	f := d.to.why
	switch f.form {
	case said:
		l.text("host ")
		l.host(d.relay)
		l.text(" said: ")
	case refused:
		l.text("host ")
		l.host(d.relay)
		l.text(" refused to talk to me: ")
	}
	l.fill(f.text, d)
	if f.form == said {
		l.text(" (in reply to ", f.command, ")")
	}
}

// home writes that a bounce has come back to its sender.
func (l *writer) home(m *message, domain string) {
	l.attempt(m, "/smtp", func() { l.sender(m.local, domain) }, host{"hub.internal.example", "198.51.100.99"}, 20_000, "2.0.0", "sent")
	l.text("250 2.0.0 Ok: queued as ")
	l.buf = appendHex(l.buf, l.random.Uint32())
	l.text(")")
	l.end()
}

// notification writes that b tells m's sender of the failure.
func (l *writer) notification(m, b *message) {
	l.about(m, "/bounce")
	l.text("sender non-delivery notification: ")
	l.buf = append(l.buf, b.id...)
	l.end()
}

func (l *writer) expired(m *message, sender string) {
	l.about(m, "/qmgr")
	l.text("from=<")
	l.sender(m.local, sender)
	l.text(">, status=expired, returned to sender")
	l.end()
}

func (l *writer) removed(m *message) {
	l.about(m, "/qmgr")
	l.text("removed")
	l.end()
}

// fill writes a text with the parts that vary; see failure and others.
func (l *writer) fill(text string, d *delivery) {
	for {
		i := strings.IndexByte(text, '%')
		if i < 0 {
			l.text(text)
			return
		}
		l.text(text[:i])
		switch text[i+1] {
		case 'r':
			l.recipient(d.to.local, d.domain.name)
		case 's':
			l.sender(d.local, d.sender)
		case 'd':
			l.text(d.sender)
		case 'D':
			l.text(d.domain.name)
		case 'i':
			l.text(servers[d.server].addr)
		case 'h':
			l.text(d.relay.name)
		case 'a':
			l.text(d.relay.addr)
		case 'b':
			l.number(1 + l.random.Int64N(250))
		case 'n':
			l.number(100 + l.random.Int64N(9900))
		case 't':
			l.buf = time.UnixMicro(l.now).UTC().AppendFormat(l.buf, "2006-01-02T15:04:05.000Z")
		case 'x':
			l.buf = appendHex(l.buf, l.random.Uint32())
		}
		text = text[i+2:]
	}
}

// tls13 is what Postfix says of an encrypted connection.
const tls13 = "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits) key-exchange X25519 server-signature RSA-PSS (2048 bits) server-digest SHA256"

// chatterPerMessage is how many other lines there are for each message.
const chatterPerMessage = 0.75

// others are lines that have nothing to do with a delivery, so that of the parts
// that vary (see failure) they have only %b, %n and %x. The program is Postfix's
// if it begins with a slash, and has no process id if it ends in a colon.
var others = []struct {
	program, text string
	kind          event.Kind // Rejection, Probe, or none
	weight        float64
}{
	{"/smtpd", "Anonymous TLS connection established from unknown[203.0.113.%b]: " + tls13, 0, 30},
	{"/smtp", "Trusted TLS connection established to mx%b.company.example[203.0.113.%b]:25: " + tls13, 0, 60},
	{"opendkim", "%x: DKIM-Signature field added (s=mail, d=shop.example)", 0, 30},
	{"dovecot:", "imap-login: Login: user=<office%b@internal.example>, method=PLAIN, rip=203.0.113.%b, lip=192.0.2.10, mpid=%n, TLS, session=<%x%x%x>", 0, 30},
	{"dovecot:", "imap(office%b@internal.example)<%n><%x%x>: Disconnected: Logged out in=%n out=%n deleted=0 expunged=0 trashed=0 hdr_count=%n hdr_bytes=%n body_count=0 body_bytes=0", 0, 30},
	{"rspamd", "<%x>; proxy; rspamd_task_write_log: id: <%x.%x@internal.example>, ip: 203.0.113.%b, (default: F (no action): [-1.30/15.00] [DMARC_POLICY_ALLOW(-0.50){}]), len: %n, time: %n.%nms", 0, 10},
	{"/anvil", "statistics: max connection rate %b/60s for (smtp:198.51.100.%b) at Jan 12 04:00:07", 0, 6},
	{"/anvil", "statistics: max cache size %b at Jan 12 04:00:07", 0, 3},
	{"/postscreen", "CONNECT from [203.0.113.%b]:%n to [192.0.2.10]:25", 0, 25},
	{"/postscreen", "PASS OLD [203.0.113.%b]:%n", 0, 12},
	{"/postscreen", "DISCONNECT [203.0.113.%b]:%n", 0, 6},
	{"/postscreen", "NOQUEUE: reject: RCPT from [203.0.113.%b]:%n: 550 5.7.1 Service unavailable; client [203.0.113.%b] blocked using zen.spamhaus.org; from=<offer@bad.example>, to=<office%b@internal.example>, proto=ESMTP, helo=<pc%b.bad.example>", event.Rejection, 5},
	{"/smtpd", "NOQUEUE: reject: RCPT from unknown[203.0.113.%b]: 554 5.7.1 <office@elsewhere.example>: Relay access denied; from=<offer@bad.example> to=<office@elsewhere.example> proto=ESMTP helo=<pc%b>", event.Rejection, 5},
	{"/smtpd", "lost connection after AUTH from unknown[203.0.113.%b]", 0, 10},
	{"/smtpd", "warning: hostname pc%b.bad.example does not resolve to address 203.0.113.%b: Name or service not known", 0, 6},
	{"/smtpd", "warning: unknown[203.0.113.%b]: SASL LOGIN authentication failed: authentication failure, sasl_username=admin", 0, 10},
	{"/scache", "statistics: start interval Jan 12 03:57:07", 0, 2},
	{"/smtp", "%x: to=<office%b@company.example>, relay=mx1.company.example[203.0.113.%b]:25, delay=0.8, delays=0.01/0.01/0.5/0.3, dsn=2.1.5, status=deliverable (250 2.1.5 Ok)", event.Probe, 1},
	{"sshd", "Failed password for invalid user admin from 203.0.113.%b port %n ssh2", 0, 8},
	{"CRON", "(root) CMD (/usr/lib/sysstat/debian-sa1 1 1)", 0, 3},
	{"kernel:", "[%n.%n] [UFW BLOCK] IN=eth0 OUT= SRC=203.0.113.%b DST=192.0.2.10 LEN=40 TTL=244 PROTO=TCP SPT=%n DPT=23 WINDOW=1024", 0, 6},
}

var otherPick = func() picker {
	weights := make([]float64, len(others))
	for i, o := range others {
		weights[i] = o.weight
	}
	return newPicker(weights)
}()

// chatter writes one such line and returns its kind.
func (l *writer) chatter() event.Kind {
	o := &others[otherPick.pick(l.random)]
	m := &message{server: uint8(l.random.IntN(len(servers))), local: l.random.Uint32()}
	switch {
	case o.program[0] == '/':
		l.postfix(m, o.program)
	case strings.HasSuffix(o.program, ":"):
		l.header(m.server)
		l.text(o.program, " ")
	default:
		l.header(m.server)
		l.text(o.program)
		l.pid(1000 + m.local%5000)
	}
	l.fill(o.text, &delivery{message: m})
	l.end()
	return o.kind
}

// appendDelay appends a time span as Postfix does: from ten seconds on whole
// ones, else two significant digits, at most hundredths, no zeros at the end.
func appendDelay(b []byte, micros int64) []byte {
	if micros >= 10e6 {
		return strconv.AppendInt(b, (micros+500_000)/1e6, 10)
	}
	hundredths := (micros + 5_000) / 10_000
	if micros >= 1e6 {
		hundredths = (micros + 50_000) / 100_000 * 10
	}
	b = strconv.AppendInt(b, hundredths/100, 10)
	if hundredths%100 != 0 {
		b = append(b, '.', byte('0'+hundredths/10%10))
		if hundredths%10 != 0 {
			b = append(b, byte('0'+hundredths%10))
		}
	}
	return b
}

const (
	upperHex = "0123456789ABCDEF"
	// queueDigits are the digits of long queue ids: no vowels, so that there
	// are no words. The last is kept as a separator.
	queueDigits = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"
)

// appendQueueID appends the id of a queue file that was made at now and has this
// inode, short (microseconds and inode in hexadecimal) or long (seconds and
// microseconds to the base 52, inode to the base 51).
func appendQueueID(b []byte, now int64, inode uint32, long bool) []byte {
	if !long {
		b = appendBase(b, now%1e6, 16, 5, upperHex)
		return appendBase(b, int64(inode), 16, 1, upperHex)
	}
	b = appendBase(b, now/1e6, 52, 6, queueDigits)
	b = appendBase(b, now%1e6, 52, 4, queueDigits)
	b = append(b, 'z')
	return appendBase(b, int64(inode), 51, 1, queueDigits)
}

// appendBase appends n in the base of some digits, with at least width of them.
func appendBase(b []byte, n, base int64, width int, digits string) []byte {
	var reversed [16]byte
	i := 0
	for ; n > 0 || i < width; n /= base {
		reversed[i] = digits[n%base]
		i++
	}
	for i--; i >= 0; i-- {
		b = append(b, reversed[i])
	}
	return b
}

func appendHex(b []byte, n uint32) []byte { return appendBase(b, int64(n), 16, 8, upperHex) }
