package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/bouncemeter/bouncemeter/sources/dialect"
)

// logs are small logs of every kind that a mail operator has. Each has one
// delivery, one deferral and one bounce of an unknown user unless it says
// otherwise.
var logs = map[string]struct {
	text     string
	outcomes string // delivered deferred bounced expired; "1 1 1 0" if empty
	notices  string // "oob_bounce=1 …"
	// category of the failures, "user_unknown mailbox_full" if empty: what is
	// bounced is an unknown user, and what is deferred a full mailbox.
	category string
}{
	"postfix": {text: `Jan 12 04:01:07 mx1 postfix/smtp[311]: 4F2A1B30: to=<ann@x.example>, relay=mx.x.example[192.0.2.25]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 2.0.0 Ok)
Jan 12 04:01:07 mx1 postfix/smtp[311]: 4F2A1B31: to=<bob@x.example>, relay=mx.x.example[192.0.2.25]:25, delay=1, delays=0/0/0/1, dsn=4.2.2, status=deferred (host mx.x.example[192.0.2.25] said: 452 4.2.2 Mailbox full (in reply to RCPT TO command))
Jan 12 04:01:07 mx1 postfix/smtp[311]: 4F2A1B32: to=<eve@x.example>, relay=mx.x.example[192.0.2.25]:25, delay=1, delays=0/0/0/1, dsn=5.1.1, status=bounced (host mx.x.example[192.0.2.25] said: 550 5.1.1 User unknown (in reply to RCPT TO command))
Jan 12 04:01:08 mx1 sshd[99]: Accepted publickey for ann
`},
	"postfix in RFC 5424, with its name whole and cut": {text: `<22>1 2026-01-12T04:01:07.123456+01:00 mx1 postfix/smtp 311 - - 4F2A1B30: to=<ann@x.example>, relay=mx.x.example[192.0.2.25]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 2.0.0 Ok)
<22>1 2026-01-12T04:01:07Z mx1 postfix 311 - [meta sequenceId="1" x="\"]"][other] ` + "\xef\xbb\xbf" + `4F2A1B31: to=<bob@x.example>, relay=mx.x.example[192.0.2.25]:25, delay=1, delays=0/0/0/1, dsn=4.2.2, status=deferred (host mx.x.example[192.0.2.25] said: 452 4.2.2 Mailbox full (in reply to RCPT TO command))
<22>1 2026-01-12T04:01:07Z mx1 postfix 311 - -  4F2A1B32: to=<eve@x.example>, relay=mx.x.example[192.0.2.25]:25, delay=1, delays=0/0/0/1, dsn=5.1.1, status=bounced (host mx.x.example[192.0.2.25] said: 550 5.1.1 User unknown (in reply to RCPT TO command))
`},
	"postfix, journalctl -o json": {text: `{"__CURSOR":"s=1","__REALTIME_TIMESTAMP":"1768190467000000","_HOSTNAME":"mx1","SYSLOG_IDENTIFIER":"postfix/smtp","_PID":"311","PRIORITY":"6","MESSAGE":"4F2A1B30: to=<ann@x.example>, relay=mx.x.example[192.0.2.25]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 2.0.0 \"Ok\")"}
{"MESSAGE":"4F2A1B31: to=<bob@x.example>, relay=mx.x.example[192.0.2.25]:25, delay=1, delays=0/0/0/1, dsn=4.2.2, status=deferred (host mx.x.example[192.0.2.25] said: 452 4.2.2 Mailbox full (in reply to RCPT TO command))","_PID":"311","SYSLOG_IDENTIFIER":"postfix/smtp","_HOSTNAME":"mx1","__REALTIME_TIMESTAMP":"1768190467000001"}
{"__REALTIME_TIMESTAMP":"1768190467000002","_HOSTNAME":"mx1","SYSLOG_IDENTIFIER":"postfix/smtp","MESSAGE":` + octets(`4F2A1B32: to=<eve@x.example>, relay=mx.x.example[192.0.2.25]:25, delay=1, delays=0/0/0/1, dsn=5.1.1, status=bounced (host mx.x.example[192.0.2.25] said: 550 5.1.1 User unknown `+"\xe9"+` (in reply to RCPT TO command))`) + `}
{"__REALTIME_TIMESTAMP":"1768190467000003","_HOSTNAME":"mx1","SYSLOG_IDENTIFIER":"sshd","MESSAGE":null}
`},
	"postfix in a container, Docker's json-file": {text: `{"log":"Jan 12 04:01:07 mx1 postfix/smtp[311]: 4F2A1B30: to=\u003cann@x.example\u003e, relay=mx.x.example[192.0.2.25]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 2.0.0 Ok)\n","stream":"stdout","time":"2026-01-12T04:01:07.5Z"}
{"log":"Jan 12 04:01:07 mx1 postfix/smtp[311]: 4F2A1B31: to=\u003cbob@x.example\u003e, relay=mx.x.example[192.0.2.25]:25, delay=1, delays=0/0/0/1, dsn=4.2.2, status=deferred (host mx.x.example[192.0.2.25] said: 452 4.2.2 Mailbox full (in reply to RCPT TO command))\n","stream":"stdout","time":"2026-01-12T04:01:07.5Z"}
{"log":"Jan 12 04:01:07 mx1 postfix/smtp[311]: 4F2A1B32: to=\u003ceve@x.example\u003e, relay=mx.x.example[192.0.2.25]:25, delay=1, delays=0/0/0/1, dsn=5.1.1, status=bounced (host mx.x.example[192.0.2.25] said: 550 5.1.1 User unknown (in reply to RCPT TO command))\n","stream":"stdout","time":"2026-01-12T04:01:07.5Z"}
{"log":"entrypoint: starting\n","stream":"stderr","time":"2026-01-12T04:01:07.5Z"}
`},
	"postfix in a container, Kubernetes": {text: `2026-01-12T04:01:07.123456789Z stdout F Jan 12 04:01:07 mx1 postfix/smtp[311]: 4F2A1B30: to=<ann@x.example>, relay=mx.x.example[192.0.2.25]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 2.0.0 Ok)
2026-01-12T04:01:07.123456789Z stdout F Jan 12 04:01:07 mx1 postfix/smtp[311]: 4F2A1B31: to=<bob@x.example>, relay=mx.x.example[192.0.2.25]:25, delay=1, delays=0/0/0/1, dsn=4.2.2, status=deferred (host mx.x.example[192.0.2.25] said: 452 4.2.2 Mailbox full (in reply to RCPT TO command))
2026-01-12T04:01:07.123456789Z stdout F Jan 12 04:01:07 mx1 postfix/smtp[311]: 4F2A1B32: to=<eve@x.example>, relay=mx.x.example[192.0.2.25]:25, delay=1, delays=0/0/0/1, dsn=5.1.1, status=bounced (host mx.x.example[192.0.2.25] said: 550 5.1.1 User unknown (in reply to RCPT TO command))
2026-01-12T04:01:07.123456789Z stderr F entrypoint: starting
`},
	"exim": {text: `2026-01-12 04:01:07 1rOaBc-000001-AB <= news@shop.example H=app [192.0.2.80] P=esmtp S=400
2026-01-12 04:01:07 1rOaBc-000001-AB => ann@x.example R=dnslookup T=remote_smtp H=mx.x.example [192.0.2.25] C="250 ok"
2026-01-12 04:01:07 1rOaBc-00000000001-ABCD == bob@x.example R=dnslookup T=remote_smtp defer (-44) H=mx.x.example [192.0.2.25]: SMTP error from remote mail server after RCPT TO:<bob@x.example>: 452 4.2.2 Mailbox full
2026-01-12 04:01:07 +0100 [7] 1rOaBc-000001-AB ** eve@x.example R=dnslookup T=remote_smtp H=mx.x.example [192.0.2.25]: SMTP error from remote mail server after RCPT TO:<eve@x.example>: 550-5.1.1 User\n550 5.1.1 unknown
2026-01-12 04:01:07 1rOaBc-000001-AB Completed
`},
	"exim in RFC 5424": {text: `<22>1 2026-01-12T04:01:07Z mx1 exim 311 - - 2026-01-12 04:01:07 1rOaBc-000001-AB => ann@x.example R=dnslookup T=remote_smtp H=mx.x.example [192.0.2.25] C="250 ok"
<22>1 2026-01-12T04:01:07Z mx1 exim4 311 - - 1rOaBc-000001-AB == bob@x.example R=dnslookup T=remote_smtp defer (-44) H=mx.x.example [192.0.2.25]: SMTP error from remote mail server after RCPT TO:<bob@x.example>: 452 4.2.2 Mailbox full
<22>1 2026-01-12T04:01:07Z mx1 exim 311 - - 1rOaBc-000001-AB ** eve@x.example R=dnslookup T=remote_smtp H=mx.x.example [192.0.2.25]: SMTP error from remote mail server after RCPT TO:<eve@x.example>: 550 5.1.1 User unknown
`},
	"sendmail": {text: `Jan 12 04:01:07 mx1 sm-mta[311]: 60C411aa012345: from=<news@shop.example>, size=25, class=0, nrcpts=3, msgid=<1@shop.example>, proto=ESMTP, daemon=MTA, relay=app.example [192.0.2.80]
Jan 12 04:01:07 mx1 sm-mta[311]: 60C411aa012345: to=<ann@x.example>, delay=00:00:02, xdelay=00:00:01, mailer=esmtp, pri=30025, relay=mx.x.example. [192.0.2.25], dsn=2.0.0, stat=Sent (Ok: queued as 4F2A1B)
Jan 12 04:01:07 mx1 sendmail[311]: 60C411aa012345: to=<bob@x.example>, delay=00:00:02, xdelay=00:00:01, mailer=esmtp, pri=30025, relay=mx.x.example. [192.0.2.25], dsn=4.2.2, reply=452 4.2.2 Mailbox full, stat=Deferred: 452 4.2.2 Mailbox full
Jan 12 04:01:07 mx1 bulk[311]: 60C411aa012345: to=<eve@x.example>, delay=00:00:02, xdelay=00:00:01, mailer=esmtp, pri=30025, relay=mx.x.example. [192.0.2.25], dsn=5.1.1, stat=User unknown
`},
	"opensmtpd": {text: `Jan 12 04:01:07 mx1 smtpd[311]: 0a1b2c3d4e5f6071 mta delivery evpid=1122334455667788 from=<news@shop.example> to=<ann@x.example> rcpt=<-> source="198.51.100.1" relay="192.0.2.25 (mx.x.example)" delay=1s result="Ok" stat="250 2.0.0 Ok"
Jan 12 04:01:07 mx1 smtpd[311]: 0a1b2c3d4e5f6071 mta delivery evpid=1122334455667789 from=<news@shop.example> to=<bob@x.example> rcpt=<-> source="198.51.100.1" relay="192.0.2.25 (mx.x.example)" delay=1s result="TempFail" stat="452 4.2.2 Mailbox full"
2026-01-12T04:01:07Z mx1 smtpd[311]: 0a1b2c3d4e5f6071 mta event=delivery evpid=112233445566778a from=<news@shop.example> to=<eve@x.example> rcpt=<-> source=198.51.100.1 relay=192.0.2.25 (mx.x.example) delay=1s result=PermFail stat=550 5.1.1 User unknown
`},
	"qmail, TAI64N": {text: `@40000000696470950bebc200 new msg 93128
@40000000696470950bebc200 info msg 93128: bytes 900 from <news@shop.example> qp 311 uid 1000
@40000000696470950bebc200 starting delivery 7: msg 93128 to remote ann@x.example
@40000000696470950bebc200 starting delivery 8: msg 93128 to remote bob@x.example
@40000000696470950bebc200 starting delivery 9: msg 93128 to remote eve@x.example
@40000000696470950bebc200 status: local 0/10 remote 3/20
@40000000696470960bebc200 delivery 7: success: 192.0.2.25_accepted_message./Remote_host_said:_250_2.0.0_Ok/
@40000000696470960bebc200 delivery 8: deferral: Connected_to_192.0.2.25_but_sender_was_rejected./Remote_host_said:_452_4.2.2_Mailbox_full/
@40000000696470960bebc200 delivery 9: failure: 192.0.2.25_does_not_like_recipient./Remote_host_said:_550_5.1.1_User_unknown/Giving_up_on_192.0.2.25./
@40000000696470960bebc200 end msg 93128
`},
	"haraka, text": {text: `2026-01-12T04:01:07.123Z [NOTICE] [6C2E-11AA.1.1] [outbound] recipient <bob@x.example> deferred: 452 4.2.2 Mailbox full
2026-01-12T04:01:07.123Z [NOTICE] [6C2E-11AA.1.1] [outbound] recipient <eve@x.example> rejected: 550 5.1.1 User unknown
2026-01-12T04:01:07.123Z [NOTICE] [6C2E-11AA.1.1] [outbound]  delivered file=1_0 domain=x.example host=mx.x.example ip=192.0.2.25 port=25 mode=SMTP tls=Y auth=N response="Ok" delay=1.5 fails=0 rcpts=1/1/1
`},
	"haraka, logfmt": {text: `2026-01-12T04:01:07.123Z level=NOTICE uuid=6C2E-11AA.1.1 origin=outbound message="recipient <bob@x.example> deferred: 452 4.2.2 Mailbox full"
2026-01-12T04:01:07.123Z level=NOTICE uuid=6C2E-11AA.1.1 origin=outbound message="recipient <eve@x.example> rejected: 550 5.1.1 User unknown"
2026-01-12T04:01:07.123Z level=NOTICE uuid=6C2E-11AA.1.1 origin=outbound message="" delivered file=1_0 domain=x.example host=mx.x.example ip=192.0.2.25 port=25 mode=SMTP tls=Y auth=N response="Ok" delay=0.25 fails=0 rcpts=1/0/0
`},
	"haraka, JSON": {text: `2026-01-12T04:01:07.123Z {"level":"NOTICE","uuid":"6C2E-11AA.1.1","origin":"outbound","message":"recipient <bob@x.example> deferred: 452 4.2.2 Mailbox full"}
2026-01-12T04:01:07.123Z {"level":"NOTICE","uuid":"6C2E-11AA.1.1","origin":"outbound","message":"recipient <eve@x.example> rejected: 550 5.1.1 User unknown"}
2026-01-12T04:01:07.123Z {"level":"NOTICE","uuid":"6C2E-11AA.1.1","origin":"outbound","message":"","delivered file":"1_0","host":"mx.x.example","ip":"192.0.2.25","response":"Ok","delay":0.25,"fails":0,"rcpts":"1/0/0"}
`},
	"haraka in a container, without times": {text: `{"log":"[NOTICE] [6C2E-11AA.1.1] [outbound] recipient \u003cbob@x.example\u003e deferred: 452 4.2.2 Mailbox full\n","stream":"stdout","time":"2026-01-12T04:01:07.5Z"}
2026-01-12T04:01:07.123456789Z stdout F {"level":"NOTICE","uuid":"6C2E-11AA.1.1","origin":"outbound","message":"recipient <eve@x.example> rejected: 550 5.1.1 User unknown"}
{"log":"level=NOTICE uuid=6C2E-11AA.1.1 origin=outbound message=\"\" delivered file=1_0 host=mx.x.example ip=192.0.2.25 response=\"Ok\" delay=0.25 fails=0 rcpts=1/0/0\n","stream":"stdout","time":"2026-01-12T04:01:07.5Z"}
`},
	"zonemta": {text: `2026-01-12T04:01:07.5Z info Sender/default/77 id=18d0c0ffee 18d0c0ffee000abcde.001 ACCEPTED from=news@shop.example to=ann@x.example src=198.51.100.1 mx=mx.x.example[192.0.2.25] message-id=<1@shop.example> (250 2.0.0 Ok)
2026-01-12T04:01:07.5Z info Sender/default/77 id=18d0c0ffee 18d0c0ffee000abcde.002 DEFERRED[capacity] from=news@shop.example to=bob@x.example src=198.51.100.1 mx=mx.x.example[192.0.2.25] message-id=<1@shop.example> (452 4.2.2 Mailbox full)
2026-01-12T04:01:07.5Z info Sender/default/77 id=18d0c0ffee 18d0c0ffee000abcde.003 REJECTED[recipient] from=news@shop.example to=eve@x.example src=198.51.100.1 mx=mx.x.example[192.0.2.25] message-id=<1@shop.example> (550 5.1.1 User unknown)
`},
	"powermta": {text: "type,timeLogged,timeQueued,orig,rcpt,dsnStatus,dsnDiag,dsnMta,bounceCat,vmta\r\n" +
		"d,2026-01-12 04:01:07+0000,2026-01-12 04:01:06+0000,news@shop.example,ann@x.example,2.0.0 (success),smtp;250 2.0.0 Ok,mx.x.example (192.0.2.25),,bulk\r\n" +
		"t,2026-01-12 04:01:07+0000,2026-01-12 04:01:06+0000,news@shop.example,bob@x.example,4.2.2 (mailbox full),smtp;452 4.2.2 Mailbox full,mx.x.example (192.0.2.25),quota-issues,bulk\r\n" +
		"b,2026-01-12 04:01:07+0000,2026-01-12 04:01:06+0000,news@shop.example,eve@x.example,5.1.1 (bad destination mailbox address),\"smtp;550 5.1.1 User unknown, sorry\",mx.x.example (192.0.2.25),bad-mailbox,bulk\r\n"},
	"kumomta": {text: kumomta},
	"ses, published": {text: `{"eventType":"Delivery","mail":{"timestamp":"2026-01-12T04:01:06.000Z","messageId":"m1","source":"news@shop.example","destination":["ann@x.example"]},"delivery":{"timestamp":"2026-01-12T04:01:07.000Z","recipients":["ann@x.example"],"smtpResponse":"250 2.0.0 Ok"}}
{"eventType":"DeliveryDelay","mail":{"timestamp":"2026-01-12T04:01:06.000Z","messageId":"m2","source":"news@shop.example","destination":["bob@x.example"]},"deliveryDelay":{"timestamp":"2026-01-12T04:01:07.000Z","delayType":"MailboxFull","delayedRecipients":[{"emailAddress":"bob@x.example","status":"4.2.2","diagnosticCode":"smtp; 452 4.2.2 Mailbox full"}]}}
{"eventType":"Bounce","mail":{"timestamp":"2026-01-12T04:01:06.000Z","messageId":"m3","source":"news@shop.example","destination":["eve@x.example","ann@x.example"]},"bounce":{"timestamp":"2026-01-12T04:01:07.000Z","bounceType":"Permanent","bounceSubType":"General","feedbackId":"f","reportingMTA":"dns; a.smtp-out.amazonses.com","remoteMtaIp":"192.0.2.25","bouncedRecipients":[{"emailAddress":"eve@x.example","action":"failed","status":"5.1.1","diagnosticCode":"smtp; 550 5.1.1 User unknown"}]}}
`},
	"ses, in envelopes, indented": {text: `{
  "Type": "Notification",
  "MessageId": "n1",
  "TopicArn": "arn:aws:sns:eu-central-1:123456789012:mail",
  "Timestamp": "2026-01-12T04:01:07.000Z",
  "Message": "{\"notificationType\":\"Bounce\",\"mail\":{\"timestamp\":\"2026-01-12T04:01:06.000Z\",\"messageId\":\"m3\",\"source\":\"news@shop.example\",\"destination\":[\"eve@x.example\"]},\"bounce\":{\"timestamp\":\"2026-01-12T04:01:07.000Z\",\"bounceType\":\"Permanent\",\"bounceSubType\":\"General\",\"feedbackId\":\"f\",\"reportingMTA\":\"dns; a.smtp-out.amazonses.com\",\"remoteMtaIp\":\"192.0.2.25\",\"bouncedRecipients\":[{\"emailAddress\":\"eve@x.example\",\"status\":\"5.1.1\",\"diagnosticCode\":\"smtp; 550 5.1.1 User unknown\"}]}}"
}
{
  "version": "0",
  "detail-type": "Email Delivered",
  "source": "aws.ses",
  "detail": {"eventType":"Delivery","mail":{"timestamp":"2026-01-12T04:01:06.000Z","messageId":"m1","source":"news@shop.example","destination":["ann@x.example"]},"delivery":{"timestamp":"2026-01-12T04:01:07.000Z","recipients":["ann@x.example"],"smtpResponse":"250 2.0.0 Ok"}}
}
{"Type":"SubscriptionConfirmation","MessageId":"s","TopicArn":"arn:aws:sns:eu-central-1:123456789012:mail","Token":"x","SubscribeURL":"https://sns.eu-central-1.amazonaws.com/"}
`, outcomes: "1 0 1 0", category: "user_unknown"},
	"ses, as Firehose joins it": {text: `{"eventType":"Delivery","mail":{"timestamp":"2026-01-12T04:01:06.000Z","messageId":"m1","source":"news@shop.example","destination":["ann@x.example"]},"delivery":{"timestamp":"2026-01-12T04:01:07.000Z","recipients":["ann@x.example"],"smtpResponse":"250 2.0.0 Ok"}}{"eventType":"Send","mail":{"messageId":"m2"}}{"eventType":"Bounce","mail":{"timestamp":"2026-01-12T04:01:06.000Z","messageId":"m3","source":"news@shop.example","destination":["eve@x.example"]},"bounce":{"timestamp":"2026-01-12T04:01:07.000Z","bounceType":"Permanent","bounceSubType":"General","feedbackId":"f","reportingMTA":"dns; a.smtp-out.amazonses.com","remoteMtaIp":"192.0.2.25","bouncedRecipients":[{"emailAddress":"eve@x.example","status":"5.1.1","diagnosticCode":"smtp; 550 5.1.1 User unknown"}]}}`,
		outcomes: "1 0 1 0", category: "user_unknown"},
	"sendgrid, an array on a line":        {text: "[" + sendgridEvents("") + "]\n"},
	"sendgrid, an array on several lines": {text: "[" + sendgridEvents("\r\n") + "]\r\n"},
	"sendgrid, a line each":               {text: strings.ReplaceAll(sendgridEvents("\n"), "},\n", "}\n")},
	"sendgrid, indented":                  {text: indent("[" + sendgridEvents("") + "]")},
	"mailgun": {text: `{"signature":{"timestamp":"1768190467","token":"t","signature":"s"},"event-data":{"event":"delivered","id":"1","timestamp":1768190467.5,"recipient":"ann@x.example","envelope":{"sender":"news@shop.example"},"delivery-status":{"code":250,"message":"OK","mx-host":"mx.x.example"}}}
{"event":"failed","severity":"temporary","log-level":"warn","id":"2","timestamp":1768190467.5,"recipient":"bob@x.example","envelope":{"sender":"news@shop.example"},"delivery-status":{"code":452,"message":"4.2.2 Mailbox full","mx-host":"mx.x.example","attempt-no":1}}
{"signature":{},"event-data":{"event":"failed","severity":"permanent","reason":"bounce","id":"3","timestamp":1768190467.5,"recipient":"eve@x.example","envelope":{"sender":"news@shop.example"},"delivery-status":{"code":550,"message":"5.1.1 User unknown","mx-host":"mx.x.example","attempt-no":1}}}
`},
	"sparkpost": {text: `[{"msys":{"message_event":{"type":"delivery","event_id":"1","timestamp":"1768190467","rcpt_to":"ann@x.example","msg_from":"news@shop.example","message_id":"m1"}}},{"msys":{"message_event":{"type":"delay","event_id":"2","timestamp":"1768190467","rcpt_to":"bob@x.example","msg_from":"news@shop.example","message_id":"m2","raw_reason":"452 4.2.2 Mailbox full","error_code":"452"}}},{"msys":{"message_event":{"type":"bounce","event_id":"3","timestamp":"1768190467","rcpt_to":"eve@x.example","msg_from":"news@shop.example","message_id":"m3","raw_reason":"550 5.1.1 User unknown","error_code":"550","bounce_class":"10"}}},{"msys":{}}]
`},
	"postmark": {text: `{"RecordType":"Delivery","MessageID":"m1","Recipient":"ann@x.example","DeliveredAt":"2026-01-12T04:01:07Z","Details":"Test"}
{"RecordType":"Bounce","ID":2,"Type":"Transient","TypeCode":2,"MessageID":"m2","Email":"bob@x.example","From":"news@shop.example","BouncedAt":"2026-01-12T04:01:07.1234567Z","Details":"smtp;452 4.2.2 Mailbox full"}
{"RecordType":"Bounce","ID":3,"Type":"HardBounce","TypeCode":1,"MessageID":"m3","Email":"eve@x.example","From":"news@shop.example","BouncedAt":"2026-01-12T05:01:07.1234567+01:00","Details":"smtp;550 5.1.1 User unknown"}
`},
	"postal": {text: `{"event":"MessageSent","timestamp":1768190467.5,"uuid":"u1","payload":{"message":{"id":1,"token":"t1","direction":"outgoing","message_id":"1@shop.example","to":"ann@x.example","from":"news@shop.example","timestamp":1768190466.5},"status":"Sent","details":"Message accepted by mx.x.example (192.0.2.25)","output":"250 2.0.0 Ok","sent_with_ssl":true,"timestamp":1768190467.5,"time":0.5}}
{"event":"MessageDelayed","timestamp":1768190467.5,"uuid":"u2","payload":{"message":{"id":2,"token":"t2","direction":"outgoing","message_id":"2@shop.example","to":"bob@x.example","from":"news@shop.example","timestamp":1768190466.5},"status":"SoftFail","details":"Temporary SMTP delivery error","output":"452 4.2.2 Mailbox full","timestamp":1768190467.5,"time":0.5}}
{"event":"MessageDeliveryFailed","timestamp":1768190467.5,"uuid":"u3","payload":{"message":{"id":3,"token":"t3","direction":"outgoing","message_id":"3@shop.example","to":"eve@x.example","from":"news@shop.example","timestamp":1768190466.5},"status":"HardFail","details":"Permanent SMTP delivery error","output":"550 5.1.1 User unknown","timestamp":1768190467.5,"time":0.5}}
`},
	"mandrill": {text: `[{"event":"send","_id":"1","ts":1768190467,"msg":{"_id":"1","ts":1768190466,"email":"ann@x.example","sender":"news@shop.example","state":"sent","smtp_events":[]}},{"event":"deferral","_id":"2","ts":1768190467,"msg":{"_id":"2","ts":1768190466,"email":"bob@x.example","sender":"news@shop.example","state":"deferred","diag":"452 4.2.2 Mailbox full"}},{"event":"hard_bounce","_id":"3","ts":1768190467,"msg":{"_id":"3","ts":1768190466,"email":"eve@x.example","sender":"news@shop.example","state":"bounced","bounce_description":"bad_mailbox","diag":"smtp;550 5.1.1 User unknown"}}]
`},
	"brevo": {text: `{"event":"delivered","email":"ann@x.example","message-id":"<1@shop.example>","ts_event":1768190467,"date":"2026-01-12 04:01:07"}
{"event":"deferred","email":"bob@x.example","message-id":"<2@shop.example>","ts_event":1768190467,"reason":"452 4.2.2 Mailbox full"}
{"event":"hard_bounce","email":"eve@x.example","message-id":"<3@shop.example>","ts_event":1768190467,"reason":"550 5.1.1 User unknown"}
`},
	"bouncemeter": {text: `{"v":1,"time":"2026-01-12T04:01:07Z","kind":"attempt","outcome":"delivered","first":true}
{"v":1,"time":"2026-01-12T04:01:07Z","kind":"attempt","outcome":"deferred","first":true,"category":"mailbox_full"}
{"v":1,"time":"2026-01-12T04:01:07Z","kind":"attempt","outcome":"bounced","first":true,"category":"user_unknown"}
{"v":1,"time":"2026-01-12T04:01:07Z","kind":"notice","outcome":"complaint"}
`, notices: "complaint=1"},
	"JSON that a program logged through syslog": {text: "Jan 12 04:01:07 mx1 kumo-hook[7]: " + strings.ReplaceAll(strings.TrimSuffix(kumomta, "\n"), "\n", "\nJan 12 04:01:07 mx1 kumo-hook[7]: ") + "\n"},
	"several at once": {text: `2026-01-12 04:01:07 1rOaBc-000001-AB => ann@x.example R=dnslookup T=remote_smtp H=mx.x.example [192.0.2.25] C="250 ok"
Jan 12 04:01:07 mx1 postfix/smtp[311]: 4F2A1B31: to=<bob@x.example>, relay=mx.x.example[192.0.2.25]:25, delay=1, delays=0/0/0/1, dsn=4.2.2, status=deferred (host mx.x.example[192.0.2.25] said: 452 4.2.2 Mailbox full (in reply to RCPT TO command))
{"email":"eve@x.example","timestamp":1768190467,"event":"bounce","type":"bounce","sg_message_id":"m3","reason":"550 5.1.1 User unknown","status":"5.1.1"}
`},
}

const kumomta = `{"type":"Delivery","id":"a1","sender":"news@shop.example","recipient":"ann@x.example","queue":"x.example","site":"s","size":1,"response":{"code":250,"enhanced_code":null,"content":"OK","command":"."},"peer_address":{"name":"mx.x.example.","addr":"192.0.2.25"},"timestamp":1768190467,"created":1768190466,"num_attempts":0}
{"type":"TransientFailure","id":"a2","sender":"news@shop.example","recipient":["bob@x.example"],"queue":"x.example","site":"s","size":1,"response":{"code":452,"enhanced_code":{"class":4,"subject":2,"detail":2},"content":"Mailbox full","command":"RCPT TO:<bob@x.example>\r\n"},"peer_address":{"name":"mx.x.example.","addr":"192.0.2.25"},"timestamp":1768190467,"created":1768190466,"num_attempts":0}
{"type":"Bounce","id":"a3","sender":"news@shop.example","recipient":"eve@x.example","queue":"x.example","site":"s","size":1,"response":{"code":550,"enhanced_code":{"class":5,"subject":1,"detail":1},"content":"User unknown","command":"RCPT TO:<eve@x.example>"},"peer_address":{"name":"mx.x.example.","addr":"192.0.2.25"},"timestamp":1768190467,"created":1768190466,"num_attempts":0}
`

func sendgridEvents(separator string) string {
	return strings.Join([]string{
		`{"email":"ann@x.example","timestamp":1768190467,"event":"delivered","sg_event_id":"a","sg_message_id":"m1","response":"250 2.0.0 Ok","category":["news"]}`,
		`{"email":"bob@x.example","timestamp":1768190467,"event":"deferred","sg_event_id":"b","sg_message_id":"m2","response":"452 4.2.2 Mailbox full","attempt":"1"}`,
		`{"email":"eve@x.example","timestamp":1768190467,"event":"bounce","type":"bounce","sg_event_id":"c","sg_message_id":"m3","reason":"550 5.1.1 User unknown","status":"5.1.1"}`,
	}, ","+separator)
}

func indent(text string) string {
	var b bytes.Buffer
	if err := json.Indent(&b, []byte(text), "", "  "); err != nil {
		panic(err)
	}
	return b.String() + "\n"
}

// octets is a text as the journal writes what is no UTF-8.
func octets(text string) string {
	return strings.ReplaceAll(fmt.Sprint([]byte(text)), " ", ",")
}

// A log of each kind gives a report without any flag.
func TestReportOfEveryKind(t *testing.T) {
	for name, log := range logs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, out, stderr := call(t, "", "report", "-o", "json", write(t, "log", log.text))
			if code != 0 || stderr != "" {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			checkReport(t, out, log.outcomes, log.category, log.notices)
		})
	}
}

// No dialect is left out.
func TestEveryDialectHasALog(t *testing.T) {
	for _, name := range dialect.Names() {
		found := name == dialect.Auto
		for log := range logs {
			found = found || strings.HasPrefix(log, name)
		}
		if !found {
			t.Errorf("logs has none of dialect %s", name)
		}
	}
}

// KumoMTA keeps its records in segments that are compressed and have no ending.
func TestReportOfSegments(t *testing.T) {
	for _, text := range []string{kumomta, indent("[" + sendgridEvents("") + "]")} {
		var packed bytes.Buffer
		z, err := zstd.NewWriter(&packed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := z.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		code, out, stderr := call(t, "", "report", "-o", "json", write(t, "20260112-040107", packed.String()))
		if code != 0 || stderr != "" {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
		checkReport(t, out, "", "", "")
	}
}

func checkReport(t *testing.T, out, outcomes, category, notices string) {
	t.Helper()
	var r struct {
		Malformed int64
		Outcomes  struct{ Delivered, Deferred, Bounced, Expired int64 }
		Notices   []struct {
			Outcome string
			Count   int64
		}
		Categories []struct{ Category string }
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if outcomes == "" {
		outcomes = "1 1 1 0"
	}
	o := r.Outcomes
	if got := fmt.Sprint(o.Delivered, o.Deferred, o.Bounced, o.Expired); got != outcomes || r.Malformed != 0 {
		t.Errorf("delivered, deferred, bounced, expired %s, want %s; %d malformed\n%s", got, outcomes, r.Malformed, out)
	}
	if category == "" {
		category = "user_unknown mailbox_full"
	}
	want, got := make(map[string]bool), make(map[string]bool)
	for c := range strings.FieldsSeq(category) {
		want[c] = true
	}
	for _, c := range r.Categories {
		got[c.Category] = true
	}
	if !maps.Equal(got, want) {
		t.Errorf("categories %v, want %v", got, want)
	}
	var told []string
	for _, n := range r.Notices {
		told = append(told, fmt.Sprintf("%s=%d", n.Outcome, n.Count))
	}
	if diff := cmp.Diff(notices, strings.Join(told, " ")); diff != "" {
		t.Errorf("reported back (-want +got):\n%s", diff)
	}
}

// What is no log is told, with the way to read it.
func TestReportOfWhatIsNoLog(t *testing.T) {
	const mail = "From: MAILER-DAEMON@mx1.example\nTo: news@shop.example\nSubject: Undelivered\n\nNo.\n"
	for text, want := range map[string]string{
		"From MAILER-DAEMON Mon Jan 12 04:01:07 2026\n" + mail: "ingest",
		mail: "ingest",
		`{"when":"2026-01-12","what":"bounced"}` + "\n":                      "--sample",
		"__CURSOR=s=1\n__REALTIME_TIMESTAMP=1768190467000000\nMESSAGE=x\n\n": "-o json",
	} {
		code, out, stderr := call(t, "", "report", write(t, "file", text))
		if code != 1 || out != "" || !strings.Contains(stderr, want) {
			t.Errorf("%q: exit code %d, %s%s", text, code, out, stderr)
		}
	}
}
