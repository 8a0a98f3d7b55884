package dialect

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

const powermtaHeader = "type,timeLogged,timeQueued,orig,rcpt,orcpt,dsnAction,dsnStatus,dsnDiag,dsnMta,bounceCat,srcType,srcMta,dlvType,dlvSourceIp,dlvDestinationIp,dlvEsmtpAvailable,dlvSize,vmta,jobId,envId,queue,vmtaPool"

// recordLines are records as they are on average: about a kilobyte for most.
var recordLines = []struct{ dialect, name, line string }{
	{"kumomta", "delivery", `{"type":"Delivery","id":"1d98076abbbc11ed940250ebf67f93bd","sender":"bounce-1234@news.shop.example","recipient":"ann.smith@customer.example","queue":"spring:acme@customer.example","site":"ip-1->(mx1|mx2).customer.example@smtp_client","size":41047,"response":{"code":250,"enhanced_code":{"class":2,"subject":0,"detail":0},"content":"Ok: queued as 8A5475CCBBC611EDA12250EBF67F93BD","command":"."},"peer_address":{"name":"mx1.customer.example.","addr":"192.0.2.25"},"timestamp":1768190467,"event_time":"2026-01-12T04:01:07.123456789Z","created":1768190465,"created_time":"2026-01-12T04:01:05.123456789Z","num_attempts":0,"bounce_classification":"Uncategorized","egress_pool":"pool0","egress_source":"ip-1","source_address":{"address":"198.51.100.1:53210"},"feedback_report":null,"meta":{"tenant":"acme","campaign":"spring"},"headers":{"Subject":"Your order of yesterday","X-Mailer":"shop 1.0"},"delivery_protocol":"ESMTP","reception_protocol":"ESMTP","nodeid":"557f3ad4-2c8c-11ee-976e-782d7e12e173","tls_cipher":"TLS_AES_256_GCM_SHA384","tls_protocol_version":"TLSv1.3","tls_peer_subject_name":["C=US","O=Customer","CN=mx1.customer.example"],"provider_name":null,"session_id":"7f1b0c3e-2c8c-11ee-976e-782d7e12e173"}`},
	{"kumomta", "bounce", `{"type":"Bounce","id":"1d98076abbbc11ed940250ebf67f93bd","sender":"bounce-1234@news.shop.example","recipient":"ann.smith@customer.example","queue":"spring:acme@customer.example","site":"ip-1->(mx1|mx2).customer.example@smtp_client","size":41047,"response":{"code":550,"enhanced_code":{"class":5,"subject":1,"detail":1},"content":"The email account that you tried to reach does not exist. Please try double-checking the recipient's email address for typos or unnecessary spaces.","command":"RCPT TO:<ann.smith@customer.example>\r\n"},"peer_address":{"name":"mx1.customer.example.","addr":"192.0.2.25"},"timestamp":1768190467,"event_time":"2026-01-12T04:01:07.123456789Z","created":1768190465,"created_time":"2026-01-12T04:01:05.123456789Z","num_attempts":0,"bounce_classification":"InvalidRecipient","egress_pool":"pool0","egress_source":"ip-1","source_address":{"address":"198.51.100.1:53210"},"feedback_report":null,"meta":{"tenant":"acme","campaign":"spring"},"headers":{"Subject":"Your order of yesterday","X-Mailer":"shop 1.0"},"delivery_protocol":"ESMTP","reception_protocol":"ESMTP","nodeid":"557f3ad4-2c8c-11ee-976e-782d7e12e173","session_id":"7f1b0c3e-2c8c-11ee-976e-782d7e12e173"}`},
	{"ses", "bounce", `{"eventType":"Bounce","bounce":{"feedbackId":"010001944f1e2a3b-0f0e0d0c-0000-11e6-8f96-7be8a1b2c3d4-000000","bounceType":"Permanent","bounceSubType":"General","bouncedRecipients":[{"emailAddress":"ann.smith@customer.example","action":"failed","status":"5.1.1","diagnosticCode":"smtp; 550-5.1.1 The email account that you tried to reach does not exist. Please try\n550 5.1.1 double-checking the address for typos or unnecessary spaces."}],"timestamp":"2026-01-12T04:01:07.123Z","remoteMtaIp":"192.0.2.25","reportingMTA":"dns; a8-50.smtp-out.amazonses.com"},"mail":{"timestamp":"2026-01-12T04:01:05.000Z","source":"Shop News <bounce-1234@news.shop.example>","sourceArn":"arn:aws:ses:us-east-1:123456789012:identity/news.shop.example","sendingAccountId":"123456789012","messageId":"010001944f1e2a3b-61b59c11-9236-11e6-8f96-7be8a1b2c3d4-000000","destination":["ann.smith@customer.example"],"headersTruncated":false,"headers":[{"name":"From","value":"Shop News <news@shop.example>"},{"name":"To","value":"ann.smith@customer.example"},{"name":"Subject","value":"Your order of yesterday"},{"name":"MIME-Version","value":"1.0"},{"name":"Content-Type","value":"multipart/alternative; boundary=\"----=_Part_0_1\""}],"commonHeaders":{"from":["Shop News <news@shop.example>"],"to":["ann.smith@customer.example"],"messageId":"<1234@news.shop.example>","subject":"Your order of yesterday"},"tags":{"ses:configuration-set":["transactional"],"ses:source-ip":["198.51.100.7"],"ses:outgoing-ip":["198.51.100.1"],"ses:from-domain":["news.shop.example"]}}}`},
	{"ses", "bounce in sns", `{"Type":"Notification","MessageId":"22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324","TopicArn":"arn:aws:sns:us-east-1:123456789012:ses-events","Subject":"Amazon SES Email Event Notification","Message":"{\"eventType\":\"Bounce\",\"bounce\":{\"feedbackId\":\"010001944f1e2a3b-0f0e0d0c-0000-11e6-8f96-7be8a1b2c3d4-000000\",\"bounceType\":\"Permanent\",\"bounceSubType\":\"General\",\"bouncedRecipients\":[{\"emailAddress\":\"ann.smith@customer.example\",\"action\":\"failed\",\"status\":\"5.1.1\",\"diagnosticCode\":\"smtp; 550-5.1.1 The email account that you tried to reach does not exist. Please try\\n550 5.1.1 double-checking the address for typos or unnecessary spaces.\"}],\"timestamp\":\"2026-01-12T04:01:07.123Z\",\"remoteMtaIp\":\"192.0.2.25\",\"reportingMTA\":\"dns; a8-50.smtp-out.amazonses.com\"},\"mail\":{\"timestamp\":\"2026-01-12T04:01:05.000Z\",\"source\":\"Shop News <bounce-1234@news.shop.example>\",\"sourceArn\":\"arn:aws:ses:us-east-1:123456789012:identity/news.shop.example\",\"sendingAccountId\":\"123456789012\",\"messageId\":\"010001944f1e2a3b-61b59c11-9236-11e6-8f96-7be8a1b2c3d4-000000\",\"destination\":[\"ann.smith@customer.example\"],\"headersTruncated\":false,\"headers\":[{\"name\":\"From\",\"value\":\"Shop News <news@shop.example>\"},{\"name\":\"To\",\"value\":\"ann.smith@customer.example\"},{\"name\":\"Subject\",\"value\":\"Your order of yesterday\"},{\"name\":\"MIME-Version\",\"value\":\"1.0\"},{\"name\":\"Content-Type\",\"value\":\"multipart/alternative; boundary=\\\"----=_Part_0_1\\\"\"}],\"commonHeaders\":{\"from\":[\"Shop News <news@shop.example>\"],\"to\":[\"ann.smith@customer.example\"],\"messageId\":\"<1234@news.shop.example>\",\"subject\":\"Your order of yesterday\"},\"tags\":{\"ses:configuration-set\":[\"transactional\"],\"ses:source-ip\":[\"198.51.100.7\"],\"ses:outgoing-ip\":[\"198.51.100.1\"],\"ses:from-domain\":[\"news.shop.example\"]}}}\n","Timestamp":"2026-01-12T04:01:08.000Z","SignatureVersion":"1","Signature":"EXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRNEXAMPLEw6JRN","SigningCertURL":"https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem","UnsubscribeURL":"https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe"}`},
	{"sendgrid", "bounce", `[{"email":"ann.smith@customer.example","timestamp":1768190467,"smtp-id":"<1234@news.shop.example>","event":"bounce","category":["receipts","vip"],"sg_event_id":"Ym91bmNlLTQtNTA0ODUxOTUtZXVvMmlLeGRTYXlQRjRZRTQtLUk3QS0w","sg_message_id":"euo2iKxdSayPF4YE4--I7A.recvd-5f54b5d587-pczjm-1-67BADEEA-6.0","reason":"550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the address for typos.","status":"5.1.1","type":"bounce","bounce_classification":"Invalid Address","ip":"198.51.100.1","tls":1,"order_id":"4711","customer":"ann"}]`},
	{"mailgun", "bounce", `{"signature":{"timestamp":"1768190468","token":"0123456789abcdef0123456789abcdef0123456789abcdef","signature":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"},"event-data":{"id":"G9Bn5sl1TC6nu79C8C0bwg","timestamp":1768190467.225501,"log-level":"error","event":"failed","severity":"permanent","reason":"bounce","tags":["receipts","vip"],"recipient":"ann.smith@customer.example","recipient-domain":"customer.example","recipient-provider":"Other","envelope":{"transport":"smtp","sender":"bounce+1234@mg.shop.example","sending-ip":"198.51.100.1","targets":"ann.smith@customer.example"},"message":{"headers":{"to":"Ann <ann.smith@customer.example>","message-id":"20260112040105.1.A1B2C3@mg.shop.example","from":"Shop News <news@shop.example>","subject":"Your order of yesterday"},"attachments":[],"size":41047},"flags":{"is-routed":false,"is-authenticated":true,"is-system-test":false,"is-test-mode":false,"is-delayed-bounce":false},"delivery-status":{"tls":true,"mx-host":"mx1.customer.example","attempt-no":1,"description":"","session-seconds":0.4331989288330078,"retry-seconds":600,"enhanced-code":"5.1.1","code":550,"message":"5.1.1 The email account that you tried to reach does not exist. Please try\n5.1.1 double-checking the address for typos.","certificate-verified":true},"storage":{"url":"https://storage.example/v3/domains/mg.shop.example/messages/abc","key":"abc"},"campaigns":[],"user-variables":{"order":"4711"}}}`},
	{"sparkpost", "bounce", `[{"msys":{"message_event":{"type":"bounce","amp_enabled":false,"bounce_class":"10","campaign_id":"spring","click_tracking":true,"customer_id":"1","delv_method":"esmtp","error_code":"550","event_id":"92356927693813857","friendly_from":"news@shop.example","injection_time":"2026-01-12T04:01:05.000Z","ip_address":"192.0.2.25","sending_ip":"198.51.100.1","ip_pool":"transactional","mailbox_provider":"Other","mailbox_provider_region":"Global","message_id":"000443ee14578172be22","msg_from":"msprvs1=17836@bounces.shop.example","msg_size":"41047","num_retries":"0","open_tracking":true,"rcpt_meta":{"order":"4711"},"rcpt_tags":["vip"],"rcpt_to":"ann.smith@customer.example","raw_rcpt_to":"ann.smith@customer.example","rcpt_hash":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","raw_reason":"550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the address for typos.","reason":"550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the address for typos.","recv_method":"rest","routing_domain":"customer.example","sending_domain":"shop.example","subaccount_id":"101","subject":"Your order of yesterday","template_id":"receipt","template_version":"1","timestamp":"1768190467","transactional":"1","transmission_id":"65832150921904138"}}}]`},
	{"postmark", "bounce", `{"RecordType":"Bounce","ID":692560173,"Type":"HardBounce","TypeCode":1,"Name":"Hard bounce","Tag":"receipts","MessageID":"2f0e1d3c-0000-4000-8000-000000000001","Metadata":{"order":"4711"},"ServerID":23,"MessageStream":"outbound","Description":"The server was unable to deliver your message (ex: unknown user, mailbox not found).","Details":"smtp;550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the address for typos.","Email":"ann.smith@customer.example","From":"news@shop.example","BouncedAt":"2026-01-12T04:01:07.1234567Z","DumpAvailable":true,"Inactive":true,"CanActivate":true,"Subject":"Your order of yesterday","Content":"Return-Path: <>\r\nReceived: by mx.example\r\nDiagnostic line of the original message\r\nDiagnostic line of the original message\r\nDiagnostic line of the original message\r\nDiagnostic line of the original message\r\nDiagnostic line of the original message\r\nDiagnostic line of the original message\r\n"}`},
	{"powermta", "delivery", `d,2026-01-12 04:01:07+0000,2026-01-12 04:01:05+0000,bounce-1234@news.shop.example,ann.smith@customer.example,,relayed,2.0.0 (success),"smtp;250 2.0.0 Ok, queued as 8A5475CCBBC6",mx1.customer.example (192.0.2.25),,smtp,app.shop.example (198.51.100.7),smtp,198.51.100.1,192.0.2.25,"ENHANCEDSTATUSCODES,PIPELINING,8BITMIME,SIZE,STARTTLS",41047,ip-1,spring,,customer.example/ip-1,transactional`},
	{"postal", "bounce", `{"event":"MessageDeliveryFailed","timestamp":1768190468.79515,"payload":{"message":{"id":12345,"token":"abcdefghijkl","direction":"outgoing","message_id":"5817a64332f44@news.shop.example","to":"ann.smith@customer.example","from":"bounce-1234@news.shop.example","subject":"Your order of yesterday","timestamp":1768190465.25,"spam_status":"NotChecked","tag":"receipts"},"status":"HardFail","details":"Permanent SMTP delivery error when sending to mx1.customer.example:25","output":"550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the address for typos.","sent_with_ssl":true,"timestamp":1768190467.5,"time":0.5},"uuid":"62498fda-ffc5-42f9-b23e-cea5274c513a"}`},
	{"mandrill", "bounce", `[{"event":"hard_bounce","msg":{"ts":1768190465,"subject":"Your order of yesterday","email":"ann.smith@customer.example","sender":"news@shop.example","tags":["receipts","vip"],"opens":[],"clicks":[],"state":"bounced","metadata":{"order":"4711"},"_id":"0123456789abcdef0123456789abcdef","_version":"AbCdEfGh","bounce_description":"bad_mailbox","bgtools_code":10,"diag":"smtp;550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the address for typos.","smtp_events":[],"resends":[]},"_id":"0123456789abcdef0123456789abcdef","ts":1768190467}]`},
	{"mandrill", "bounce in a form", `mandrill_events=%5B%7B%22event%22%3A%22hard_bounce%22%2C%22msg%22%3A%7B%22ts%22%3A1768190465%2C%22subject%22%3A%22Your+order+of+yesterday%22%2C%22email%22%3A%22ann.smith%40customer.example%22%2C%22sender%22%3A%22news%40shop.example%22%2C%22tags%22%3A%5B%22receipts%22%2C%22vip%22%5D%2C%22opens%22%3A%5B%5D%2C%22clicks%22%3A%5B%5D%2C%22state%22%3A%22bounced%22%2C%22metadata%22%3A%7B%22order%22%3A%224711%22%7D%2C%22_id%22%3A%220123456789abcdef0123456789abcdef%22%2C%22_version%22%3A%22AbCdEfGh%22%2C%22bounce_description%22%3A%22bad_mailbox%22%2C%22bgtools_code%22%3A10%2C%22diag%22%3A%22smtp%3B550+5.1.1+The+email+account+that+you+tried+to+reach+does+not+exist.+Please+try+double-checking+the+address+for+typos.%22%2C%22smtp_events%22%3A%5B%5D%2C%22resends%22%3A%5B%5D%7D%2C%22_id%22%3A%220123456789abcdef0123456789abcdef%22%2C%22ts%22%3A1768190467%7D%5D`},
	{"brevo", "bounce", `{"event":"hard_bounce","email":"ann.smith@customer.example","id":26224,"date":"2026-01-12 05:01:07","ts":1768190467,"message-id":"<202601120401.12345678901@smtp-relay.shop.example>","ts_event":1768190467,"subject":"Your order of yesterday","X-Mailin-custom":"order:4711","template_id":22,"tag":"[\"receipts\"]","tags":["receipts"],"reason":"550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the address for typos.","sending_ip":"198.51.100.1","ts_epoch":1768190467123,"sender_email":"news@shop.example"}`},
}

func BenchmarkRecords(b *testing.B) {
	for _, l := range recordLines {
		b.Run(l.dialect+"/"+l.name, func(b *testing.B) {
			p, err := New(l.dialect, time.UTC)
			if err != nil {
				b.Fatal(err)
			}
			p.Reference(time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC))
			setHeader(p, []byte(powermtaHeader))
			line := []byte(l.line)
			events := make([]event.Event, 0, 4)
			b.SetBytes(int64(len(line) + 1))
			b.ReportAllocs()
			for b.Loop() {
				if events, err = p.Parse(line, events[:0]); err != nil || len(events) == 0 {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// BenchmarkEncodingJSON is what the standard library takes for the bounce of
// KumoMTA in BenchmarkRecords, into a struct that has no more than is read of it.
func BenchmarkEncodingJSON(b *testing.B) {
	line := []byte(recordLines[1].line)
	b.SetBytes(int64(len(line) + 1))
	b.ReportAllocs()
	for b.Loop() {
		var r struct {
			Type, ID, Sender, Recipient, Queue string
			Response                           struct {
				Code     int
				Enhanced struct{ Class, Subject, Detail int } `json:"enhanced_code"`
				Content  string
				Command  string
			}
			Peer     struct{ Name, Addr string } `json:"peer_address"`
			Source   struct{ Address string }    `json:"source_address"`
			Time     string                      `json:"event_time"`
			Created  string                      `json:"created_time"`
			Attempts int                         `json:"num_attempts"`
			Meta     map[string]any
		}
		if err := json.Unmarshal(line, &r); err != nil || r.Response.Code != 550 {
			b.Fatal(err)
		}
	}
}

// BenchmarkJSONSkip is the time that checking alone takes.
func BenchmarkJSONSkip(b *testing.B) {
	line := []byte(recordLines[0].line)
	var a arena
	var w walker
	b.SetBytes(int64(len(line) + 1))
	b.ReportAllocs()
	for b.Loop() {
		w.start(line, &a)
		w.skip()
		if w.end() != nil {
			b.Fatal(w.err)
		}
	}
}

// Parsing allocates nothing but the memory for strings that are put together,
// one piece for many records.
func TestRecordsAllocations(t *testing.T) {
	for _, l := range recordLines {
		p, err := New(l.dialect, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		setHeader(p, []byte(powermtaHeader))
		events := make([]event.Event, 0, 4)
		for _, line := range []string{l.line, l.line[:len(l.line)*2/3], "[" + l.line + "]"} {
			line := []byte(line)
			if n := testing.AllocsPerRun(100, func() { events, _ = p.Parse(line, events[:0]) }); n > 0.1 {
				t.Errorf("%s %s: %v allocations for %q", l.dialect, l.name, n, line)
			}
		}
	}
}

// Wherever a record is cut, it is malformed: half a record tells nothing. What is
// whole of an array counts.
func TestCutRecords(t *testing.T) {
	for _, l := range recordLines {
		p, err := New(l.dialect, time.UTC)
		if err != nil {
			t.Fatal(err)
		}
		line := []byte(l.line)
		if line[0] != '{' && line[0] != '[' {
			continue
		}
		for n := range line {
			whole := 0
			if line[0] == '[' && n == len(line)-1 {
				whole = 1
			}
			if events, err := p.Parse(line[:n], nil); err == nil || len(events) != whole {
				t.Fatalf("%s: %d events, error %v from %q", l.dialect, len(events), err, line[:n])
			}
		}
		if _, err := p.Parse(bytes.Repeat(line, 2), nil); err == nil {
			t.Errorf("%s: two records on a line are not malformed", l.dialect)
		}
	}
}
