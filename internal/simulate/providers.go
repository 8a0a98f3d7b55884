package simulate

import "github.com/bouncemeter/bouncemeter/event"

// form is how Postfix writes a reason down.
type form uint8

const (
	said        form = iota // host H said: … (in reply to …)
	refused                 // host H refused to talk to me: …
	session                 // our own words, with a relay
	unconnected             // our own words, without a relay
)

// failure is one way for a delivery to fail.
//
// In texts, %r is the recipient, %s the sender, %d the sender's domain, %D the
// recipient's, %i our address, %h and %a the relay's name and address, %x a
// short id, %n a number, %b a byte of an address and %t a time.
type failure struct {
	category event.Category
	outcome  event.Outcome // Deferred or Bounced
	form     form
	command  string // said: what the reply is to
	dsn      string
	text     string
	weight   int
	// again is how likely a retry succeeds, of 100.
	again int
}

const (
	mail = "MAIL FROM command"
	rcpt = "RCPT TO command"
	dot  = "end of DATA command"
)

const (
	deferred = event.Deferred
	bounced  = event.Bounced
)

// provider is who receives mail for some domains. The names of its hosts are
// real, so that providers can be told by them; all addresses are reserved for
// documentation (RFC 5737, RFC 3849).
type provider struct {
	name     string
	domains  []share
	hosts    []string // %d is the domain, %D with dashes for dots
	ok       string   // the reply to accepted mail
	hosted   int      // share of the other domains, of 100
	v6       bool
	failing  int // first attempts that fail, of 10,000
	failures []failure
}

// share is a domain and how many of 1000 messages go to it.
type share struct {
	domain string
	of1000 int
}

var providers = []provider{
	{name: "gmail", domains: []share{{"gmail.com", 250}}, failing: 740, v6: true,
		hosts: []string{"gmail-smtp-in.l.google.com", "gmail-smtp-in.l.google.com", "alt1.gmail-smtp-in.l.google.com", "alt2.gmail-smtp-in.l.google.com"},
		ok:    "250 2.0.0 OK  %n %x-%x%xsi%n.%n - gsmtp", failures: googleFailures},
	{name: "google_workspace", hosted: 33, failing: 770, v6: true,
		hosts: []string{"aspmx.l.google.com", "aspmx.l.google.com", "alt1.aspmx.l.google.com"},
		ok:    "250 2.0.0 OK  %n %x-%x%xsi%n.%n - gsmtp", failures: googleFailures},
	{name: "microsoft", domains: []share{{"outlook.com", 60}, {"hotmail.com", 70}, {"live.com", 15}}, hosted: 37, failing: 840,
		hosts: []string{"%D.mail.protection.outlook.com"},
		ok:    "250 2.6.0 <%x.%x@%d> [InternalId=%n%n, Hostname=AM0PR04MB%n.eurprd04.prod.outlook.com] %n bytes in 0.%n, 98.765 KB/sec Queued mail for delivery -> 250 2.1.5",
		failures: []failure{
			{event.UserUnknown, bounced, said, rcpt, "5.5.0", "550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302). [AM0PR04MB%n.eurprd04.prod.outlook.com %t %x]", 160, 0},
			{event.UserUnknown, bounced, said, rcpt, "5.1.10", "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient %r not found by SMTP address lookup [AM0PR04MB%n.eurprd04.prod.outlook.com %t %x]", 160, 0},
			{event.UserUnknown, bounced, said, rcpt, "5.4.1", "550 5.4.1 Recipient address rejected: Access denied. For more information see https://aka.ms/EXOSmtpErrors [DB5EUR01FT0%n.eop-EUR01.prod.protection.outlook.com %t %x]", 200, 0},
			{event.MailboxFull, bounced, said, dot, "5.2.2", "552 5.2.2 Submission quota exceeded: the mailbox %r is full; STOREDRV.Deliver; mailbox full [Hostname=AM0PR04MB%n.eurprd04.prod.outlook.com]", 40, 0},
			{event.RateLimited, deferred, said, mail, "4.0.0", "421 RP-002 (AM7EUR03FT%n) The mail server IP connecting to Outlook.com server has exceeded the rate limit allowed on this connection. For e-mail delivery information, please go to http://postmaster.live.com [AM7EUR03FT0%n.eop-EUR03.prod.protection.outlook.com %t %x]", 300, 40},
			{event.RateLimited, deferred, said, rcpt, "4.3.2", "451 4.3.2 Temporary server error. Too many messages from this sender, please slow down. PRX4 NextHop: [AM0PR04MB%n.eurprd04.prod.outlook.com %t %x]", 100, 45},
			{event.IPBlocklisted, bounced, said, mail, "5.7.1", "550 5.7.1 Unfortunately, messages from [%i] weren't sent. Please contact your Internet service provider since part of their network is on our block list (S3140). You can also refer your provider to http://mail.live.com/mail/troubleshooting.aspx#errors. [AM7EUR03FT0%n.eop-EUR03.prod.protection.outlook.com %t %x]", 60, 0},
			{event.IPBlocklisted, bounced, said, rcpt, "5.7.606", "550 5.7.606 Access denied, banned sending IP [%i]. To request removal from this list please visit https://sender.office.com/ and follow the directions. [DB5EUR01FT0%n.eop-EUR01.prod.protection.outlook.com %t %x]", 20, 0},
			{event.AuthFailed, bounced, said, dot, "5.7.515", "550 5.7.515 Access denied, sending domain %d does not meet the required authentication level. The sender's domain in the 5322.From address doesn't meet the authentication requirements defined for the sender. [AM0PR04MB%n.eurprd04.prod.outlook.com %t %x]", 25, 0},
			{event.DMARCFailed, bounced, said, dot, "5.7.509", "550 5.7.509 Access denied, sending domain %d does not pass DMARC verification and has a DMARC policy of reject. [AM0PR04MB%n.eurprd04.prod.outlook.com %t %x]", 25, 0},
			{event.SPFFailed, bounced, said, dot, "5.7.23", "550 5.7.23 The message was rejected because of Sender Policy Framework violation -> 550 5.7.23 SPF check of %d failed for %i [AM0PR04MB%n.eurprd04.prod.outlook.com %t %x]", 10, 0},
			{event.Greylisted, deferred, said, rcpt, "4.7.1", "450 4.7.1 Greylisted, please try again in 5 minutes [DB5EUR01FT0%n.eop-EUR01.prod.protection.outlook.com %t %x]", 20, 88},
			{event.SpamContent, bounced, said, dot, "5.7.1", "550 5.7.1 Message rejected as spam by content filtering. [AM0PR04MB%n.eurprd04.prod.outlook.com %t %x]", 60, 0},
			{event.SystemError, deferred, said, mail, "4.3.2", "451 4.3.2 Temporary internal server error, please retry later [AM0PR04MB%n.eurprd04.prod.outlook.com %t %x]", 90, 60},
		}},
	{name: "yahoo", domains: []share{{"yahoo.com", 70}, {"aol.com", 20}}, hosted: 0, failing: 1080,
		hosts: []string{"mta5.am0.yahoodns.net", "mta6.am0.yahoodns.net", "mta7.am0.yahoodns.net"},
		ok:    "250 ok dirdel",
		failures: []failure{
			{event.UserUnknown, bounced, said, dot, "5.0.0", "554 delivery error: dd This user doesn't have a yahoo.com account (%r) [0] - mtaproxy%n.mail.bf1.yahoo.com", 250, 0},
			{event.MailboxFull, bounced, said, dot, "5.2.2", "552 1 Requested mail action aborted, mailbox not found or over quota: mailbox %r is full", 60, 0},
			{event.UserInactive, bounced, said, rcpt, "5.2.1", "554 30 Sorry, your message to %r cannot be delivered. This mailbox is disabled (554.30).", 90, 0},
			{event.RateLimited, deferred, refused, "", "4.7.0", "421 4.7.0 [TSS04] Messages from %i temporarily deferred due to unexpected volume or user complaints - 4.16.55.1; see https://postmaster.yahooinc.com/error-codes", 420, 35},
			{event.IPBlocklisted, bounced, refused, "", "5.7.9", "553 5.7.1 [BL21] Connections will not be accepted from %i, because the ip is in Spamhaus's list; see https://postmaster.yahooinc.com/error-codes", 30, 0},
			{event.DMARCFailed, bounced, said, dot, "5.7.9", "554 5.7.9 Message not accepted for policy reasons: the DMARC policy of %d does not allow it. See https://postmaster.yahooinc.com/error-codes", 30, 0},
			{event.DKIMFailed, bounced, said, dot, "5.7.9", "554 5.7.9 Message not accepted: DKIM signature of %d did not verify. See https://postmaster.yahooinc.com/error-codes", 10, 0},
		}},
	{name: "icloud", domains: []share{{"icloud.com", 45}}, failing: 600,
		hosts: []string{"mx01.mail.icloud.com", "mx02.mail.icloud.com"},
		ok:    "250 2.0.0 Ok: queued as %x",
		failures: []failure{
			{event.UserUnknown, bounced, said, rcpt, "5.1.1", "550 5.1.1 <%r>: user does not exist", 300, 0},
			{event.MailboxFull, bounced, said, rcpt, "5.2.2", "552 5.2.2 <%r>: user is over quota", 120, 0},
			{event.SpamContent, bounced, said, dot, "5.7.1", "554 5.7.1 [CS01] Message rejected due to spam content. Please visit https://support.apple.com/en-us/HT204137", 30, 0},
			{event.Policy, bounced, said, dot, "5.7.1", "550 5.7.1 [HM08] Message rejected due to local policy. Please visit https://support.apple.com/en-us/HT204137", 40, 0},
			{event.RateLimited, deferred, said, mail, "4.7.1", "450 4.7.1 Too many messages from %i, please slow down and try again later", 150, 42},
		}},
	{name: "proofpoint", hosted: 6, failing: 960,
		hosts: []string{"mx0a-0012ab01.pphosted.com", "mx0b-0012ab01.pphosted.com"},
		ok:    "250 2.0.0 %x-1 Message accepted for delivery",
		failures: []failure{
			{event.UserUnknown, bounced, said, rcpt, "5.1.1", "550 5.1.1 User Unknown", 250, 0},
			{event.IPBlocklisted, bounced, refused, "", "5.0.0", "554 Blocked - see https://ipcheck.proofpoint.com/?ip=%i", 50, 0},
			{event.RateLimited, deferred, said, rcpt, "4.3.2", "452 4.3.2 Connection rate limit exceeded for %i", 120, 42},
			{event.SpamContent, bounced, said, dot, "5.7.0", "554 5.7.0 Message considered as spam: reject, id=%x-1", 80, 0},
			{event.SPFFailed, bounced, said, rcpt, "5.7.1", "550 5.7.1 SPF check failed: %i is not allowed to send mail from %d", 20, 0},
		}},
	{name: "mimecast", hosted: 5, failing: 960,
		hosts: []string{"eu-smtp-inbound-1.mimecast.com", "eu-smtp-inbound-2.mimecast.com"},
		ok:    "250 SmtpThread-%n-%n@eu-mta-%n.eu.mimecast.lan Received OK [%x.uk%n]",
		failures: []failure{
			{event.UserUnknown, bounced, said, rcpt, "5.0.0", "550 Invalid Recipient - https://community.mimecast.com/docs/DOC-1369#550 [%x.uk%n]", 200, 0},
			{event.Greylisted, deferred, said, rcpt, "4.0.0", "451 Internal resource temporarily unavailable: greylisting, new sender - https://community.mimecast.com/docs/DOC-1369#451 [%x.uk%n]", 280, 88},
			{event.SpamContent, bounced, said, dot, "5.0.0", "554 Email rejected due to security policies: spam signature detected - https://community.mimecast.com/docs/DOC-1369#554 [%x.uk%n]", 60, 0},
		}},
	{name: "gmx", domains: []share{{"gmx.de", 35}, {"web.de", 30}}, failing: 480,
		hosts: []string{"mx00.gmx.net", "mx01.gmx.net"},
		ok:    "250 Requested mail action okay, completed: id=%x-00%n",
		failures: []failure{
			{event.UserUnknown, bounced, said, rcpt, "5.0.0", "550 Requested action not taken: mailbox unavailable. No such user %r. For explanation visit https://postmaster.gmx.net/en/error-messages?ip=%i&c=rs", 220, 0},
			{event.MailboxFull, bounced, said, rcpt, "5.0.0", "552 Requested mail action aborted: exceeded storage allocation. Quota exceeded. The recipient mailbox is full. For explanation visit https://postmaster.gmx.net/en/error-messages?ip=%i&c=quot", 80, 0},
			{event.RateLimited, deferred, refused, "", "4.0.0", "421 gmx.net (mxgmx%n) Nemesis ESMTP Service not available - too many connections from %i; see https://postmaster.gmx.net/en/error-messages?ip=%i&c=re", 100, 45},
			{event.IPBlocklisted, bounced, refused, "", "5.0.0", "554 gmx.net (mxgmx%n) Nemesis ESMTP Service not available. No SMTP service. IP address is block listed. For explanation visit https://postmaster.gmx.net/en/error-messages?ip=%i&c=bl", 20, 0},
			{event.DMARCFailed, bounced, said, dot, "5.0.0", "550 Requested action not taken: DMARC policy of %d rejects this message. For explanation visit https://postmaster.gmx.net/en/error-messages?ip=%i&c=dmarc", 20, 0},
		}},
	{name: "t_online", domains: []share{{"t-online.de", 20}}, failing: 480,
		hosts: []string{"mx00.t-online.de", "mx01.t-online.de"},
		ok:    "250 2.0.0 %x Message accepted.",
		failures: []failure{
			{event.UserUnknown, bounced, said, rcpt, "5.1.1", "550 5.1.1 Unknown recipient <%r>", 200, 0},
			{event.IPBlocklisted, bounced, refused, "", "5.0.0", "554 IP=%i - A problem occurred. The IP address has a bad reputation. (Ask your postmaster for help or to contact tosa@rx.t-online.de to clarify.)", 40, 0},
			{event.RDNSMissing, bounced, refused, "", "5.0.0", "554 IP=%i - None/bad reverse DNS entry. The PTR record of your server does not match.", 10, 0},
		}},
	{name: "orange", domains: []share{{"orange.fr", 25}, {"wanadoo.fr", 10}}, failing: 840,
		hosts: []string{"smtp-in.orange.fr"},
		ok:    "250 2.0.0 %x mail accepted for delivery",
		failures: []failure{
			{event.UserUnknown, bounced, said, rcpt, "5.1.1", "550 5.1.1 Adresse d au moins un destinataire invalide. Invalid recipient. OFR_416 [416]", 200, 0},
			{event.RateLimited, deferred, refused, "", "4.0.0", "421 opme11oxm%n.bagnolet.francetelecom.fr ESMTP Trop de connexions, veuillez verifier votre configuration. Too many connections, slow down. OFR004_104 [104]", 300, 42},
			{event.MailboxFull, bounced, said, rcpt, "5.2.2", "552 5.2.2 Boite du destinataire pleine. Recipient overquota. OFR_417 [417]", 60, 0},
		}},
	{name: "mailru", domains: []share{{"mail.ru", 15}}, failing: 600,
		hosts: []string{"mxs.mail.ru"},
		ok:    "250 OK id=%x-%x-00",
		failures: []failure{
			{event.UserUnknown, bounced, said, dot, "5.0.0", "550 Message was not accepted -- invalid mailbox. Local mailbox %r is unavailable: user not found", 200, 0},
			{event.UserInactive, bounced, said, dot, "5.0.0", "550 Message was not accepted -- invalid mailbox. Local mailbox %r is unavailable: account is disabled", 50, 0},
			{event.SpamContent, bounced, said, dot, "5.0.0", "550 spam message rejected. Please visit https://help.mail.ru/notspam-support/id?c=%x or report details to abuse@corp.mail.ru. Error code: %x.", 60, 0},
		}},
	{name: "other", hosted: 19, failing: 1320,
		hosts: []string{"mx1.%d", "mail.%d"},
		ok:    "250 2.0.0 Ok: queued as %x",
		failures: []failure{
			{event.UserUnknown, bounced, said, rcpt, "5.1.1", "550 5.1.1 <%r>: Recipient address rejected: User unknown in virtual mailbox table", 260, 0},
			{event.UserUnknown, bounced, said, rcpt, "5.0.0", "550 No such user here: %r", 90, 0},
			{event.Greylisted, deferred, said, rcpt, "4.2.0", "450 4.2.0 <%r>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/%D.html", 420, 88},
			{event.Greylisted, deferred, said, rcpt, "4.7.1", "451 4.7.1 Greylisting in action, please come back in 00:05:00", 160, 88},
			{event.MailboxFull, deferred, said, rcpt, "4.2.2", "452 4.2.2 <%r>: mailbox is over its quota, try later", 50, 8},
			{event.MailboxFull, bounced, said, dot, "5.2.2", "552 5.2.2 The mailbox of %r is full", 60, 0},
			{event.UserMoved, bounced, said, rcpt, "5.1.6", "551 5.1.6 The recipient has moved, please try <new.%r>", 8, 0},
			{event.RecipientRestricted, bounced, said, rcpt, "5.7.1", "550 5.7.1 <%r>: this group takes mail only from its members", 25, 0},
			{event.RelayDenied, bounced, said, rcpt, "5.7.1", "554 5.7.1 <%r>: Relay access denied", 50, 0},
			{event.SenderRejected, bounced, said, mail, "5.1.8", "553 5.1.8 <%s>: Sender address rejected: Domain not found", 15, 0},
			{event.SenderUnverified, bounced, said, rcpt, "5.1.7", "550 5.1.7 Sender verify failed for <%s>", 12, 0},
			{event.SPFFailed, bounced, said, rcpt, "5.7.23", "550 5.7.23 <%r>: Recipient address rejected: Message rejected due to: SPF fail - not authorized. See http://www.openspf.org/Why?s=mfrom;id=%s;ip=%i;r=<UNKNOWN>", 15, 0},
			{event.DKIMFailed, bounced, said, dot, "5.7.20", "550 5.7.20 No passing DKIM signature of %d found", 8, 0},
			{event.DMARCFailed, bounced, said, dot, "5.7.1", "550 5.7.1 Rejected because the DMARC policy of %d says so", 12, 0},
			{event.SpamContent, bounced, said, dot, "5.7.1", "554 5.7.1 Spam message rejected (score 11.%n)", 70, 0},
			{event.Malware, bounced, said, dot, "5.7.0", "552 5.7.0 Virus found: Eicar-Test-Signature", 6, 0},
			{event.IPBlocklisted, bounced, said, rcpt, "5.7.1", "554 5.7.1 Service unavailable; Client host [%i] blocked using zen.spamhaus.org; https://www.spamhaus.org/query/ip/%i", 50, 0},
			{event.DomainBlocklisted, bounced, said, dot, "5.7.1", "554 5.7.1 Service unavailable; Sender domain [%d] blocked using dbl.spamhaus.org", 10, 0},
			{event.RateLimited, deferred, said, mail, "4.7.1", "450 4.7.1 Error: too much mail from %i", 100, 42},
			{event.RateLimited, deferred, refused, "", "4.7.0", "421 4.7.0 %h Error: too many connections from %i", 70, 45},
			{event.MessageTooLarge, bounced, said, mail, "5.3.4", "552 5.3.4 Message size exceeds fixed limit", 15, 0},
			{event.MessageTooLarge, bounced, session, "", "5.3.4", "message size 31457280 exceeds size limit 20971520 of server %h[%a]", 10, 0},
			{event.ConnectionFailed, deferred, unconnected, "", "4.4.1", "connect to %h[%a]:25: Connection timed out", 60, 12},
			{event.ConnectionFailed, deferred, unconnected, "", "4.4.1", "connect to %h[%a]:25: Connection refused", 40, 15},
			{event.ConnectionFailed, deferred, session, "", "4.4.2", "lost connection with %h[%a] while receiving the initial server greeting", 40, 60},
			{event.ConnectionFailed, deferred, session, "", "4.4.2", "conversation with %h[%a] timed out while sending RCPT TO", 25, 60},
			{event.DNSFailed, deferred, unconnected, "", "4.4.3", "Host or domain name not found. Name service error for name=%D type=MX: Host not found, try again", 50, 30},
			{event.BadDomain, bounced, unconnected, "", "5.4.4", "Host or domain name not found. Name service error for name=%D type=A: Host not found", 70, 0},
			{event.RoutingLoop, bounced, unconnected, "", "5.4.6", "mail for %D loops back to myself", 5, 0},
			{event.TLSFailed, deferred, session, "", "4.7.5", "Cannot start TLS: handshake failure", 12, 20},
			{event.AuthRequired, bounced, said, mail, "5.7.0", "530 5.7.0 Authentication required", 6, 0},
			{event.ProtocolError, bounced, said, mail, "5.5.4", "501 5.5.4 Syntax error in parameters or arguments: MAIL FROM:<%s>", 6, 0},
			{event.SystemError, deferred, said, rcpt, "4.3.0", "451 4.3.0 <%r>: Temporary lookup failure", 60, 56},
			{event.SystemError, deferred, said, mail, "4.3.1", "452 4.3.1 Insufficient system storage", 20, 40},
			{event.Unclassified, bounced, said, dot, "5.0.0", "550 Requested action not taken", 20, 0},
		}},
}

// googleFailures are the replies of Google's servers. SPF is named in one of
// about a thousand attempts of a first delivery.
var googleFailures = []failure{
	{event.UserUnknown, bounced, said, rcpt, "5.1.1", "550-5.1.1 The email account that you tried to reach does not exist. Please try 550-5.1.1 double-checking the recipient's email address for typos or 550-5.1.1 unnecessary spaces. For more information, go to 550 5.1.1  https://support.google.com/mail/?p=NoSuchUser %x-%x%xsi%n.%n - gsmtp", 220, 0},
	{event.UserInactive, bounced, said, rcpt, "5.2.1", "550-5.2.1 The email account that you tried to reach is inactive. For more 550-5.2.1 information, go to 550 5.2.1  https://support.google.com/mail/?p=DisabledUser %x-%x%xsi%n.%n - gsmtp", 40, 0},
	{event.MailboxFull, deferred, said, rcpt, "4.2.2", "452-4.2.2 The recipient's inbox is out of storage space. Please direct the 452-4.2.2 recipient to 452 4.2.2  https://support.google.com/mail/?p=OverQuotaTemp %x-%x%xsi%n.%n - gsmtp", 35, 8},
	{event.RateLimited, deferred, said, dot, "4.7.28", "421-4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from 421-4.7.28 your IP address [%i]. To protect our users from spam, mail sent from your 421-4.7.28 IP address has been temporarily rate limited. For more information, go to 421 4.7.28  https://support.google.com/mail/?p=UnsolicitedRateLimitError %x-%x%xsi%n.%n - gsmtp", 330, 40},
	{event.RateLimited, deferred, said, rcpt, "4.2.1", "450-4.2.1 The user you are trying to contact is receiving mail at a rate that 450-4.2.1 prevents additional messages from being delivered. Please resend your message at a later time. 450 4.2.1  https://support.google.com/mail/?p=ReceivingRate %x-%x%xsi%n.%n - gsmtp", 60, 42},
	{event.SpamContent, bounced, said, dot, "5.7.1", "550-5.7.1 [%i] Gmail has detected that this message is likely unsolicited mail. 550-5.7.1 To reduce the amount of spam sent to Gmail, this message has been blocked. For more information, go to 550 5.7.1  https://support.google.com/mail/?p=UnsolicitedMessageError %x-%x%xsi%n.%n - gsmtp", 60, 0},
	{event.SPFFailed, bounced, said, dot, "5.7.27", "550-5.7.27 Your email has been blocked because SPF didn't pass for this message. 550-5.7.27 Gmail requires all bulk email senders to authenticate their email with SPF. 550-5.7.27 Authentication results: 550-5.7.27  SPF [%d] with ip: [%i] = Did not pass 550-5.7.27  To set up SPF for your sending domain, visit 550 5.7.27  https://support.google.com/mail?p=BulkSenderSPF %x-%x%xsi%n.%n - gsmtp", 12, 0},
	{event.DKIMFailed, bounced, said, dot, "5.7.30", "550-5.7.30 Your email has been blocked because DKIM didn't pass for this message. 550-5.7.30 Gmail requires all bulk email senders to authenticate their email with DKIM. 550-5.7.30 Authentication results: DKIM = Did not pass. 550 5.7.30  https://support.google.com/mail?p=BulkSenderDKIM %x-%x%xsi%n.%n - gsmtp", 8, 0},
	{event.DMARCFailed, bounced, said, dot, "5.7.26", "550-5.7.26 Unauthenticated email from %d is not accepted due to domain's 550-5.7.26 DMARC policy. Please contact the administrator of %d domain. To learn about the 550-5.7.26 DMARC initiative, go to 550 5.7.26  https://support.google.com/mail/?p=DmarcRejection %x-%x%xsi%n.%n - gsmtp", 14, 0},
	{event.AuthFailed, bounced, said, dot, "5.7.26", "550-5.7.26 Your email has been blocked because the sender is unauthenticated. 550-5.7.26 Gmail requires all senders to authenticate with either SPF or DKIM. 550-5.7.26 Authentication results: 550-5.7.26  DKIM = did not pass 550-5.7.26  SPF [%d] with ip: [%i] = did not pass 550 5.7.26  https://support.google.com/mail/answer/81126#authentication %x-%x%xsi%n.%n - gsmtp", 12, 0},
	{event.IPBlocklisted, bounced, said, dot, "5.7.1", "550-5.7.1 [%i] The IP you're using to send mail is not authorized to send email directly to our servers. It is listed at https://www.spamhaus.org/query/ip/%i 550-5.7.1 For more information, go to 550 5.7.1  https://support.google.com/mail/?p=NotAuthorizedError %x-%x%xsi%n.%n - gsmtp", 10, 0},
	{event.MessageTooLarge, bounced, said, mail, "5.3.4", "552-5.3.4 Your message exceeded Google's message size limits. To view our message 552-5.3.4 size guidelines, go to 552 5.3.4  https://support.google.com/mail/?p=MaxSizeError %x-%x%xsi%n.%n - gsmtp", 10, 0},
	{event.RDNSMissing, bounced, said, dot, "5.7.25", "550-5.7.25 [%i] The IP address sending this message does not have a PTR record setup, 550-5.7.25 or the corresponding forward DNS entry does not match the sending IP. As a policy, Gmail does not accept messages from IPs with missing PTR records. 550 5.7.25  https://support.google.com/mail/answer/81126#ip-practices %x-%x%xsi%n.%n - gsmtp", 6, 0},
	{event.SystemError, deferred, said, dot, "4.3.0", "451-4.3.0 Mail server temporarily rejected message. For more information, go to 451 4.3.0  https://support.google.com/a/answer/3221692 %x-%x%xsi%n.%n - gsmtp", 40, 61},
}
