package prometheus

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/bouncemeter/bouncemeter/pipeline/window"
)

func TestPostfixNames(t *testing.T) {
	s := New()
	s.RestoreCount("deferred", "rate_limited", "gmail", "shop.example", 7, 3)
	s.RestoreCount("expired", "expired", "gmail", "shop.example", 2, 0)
	s.RestoreCount("complaint", "", "yahoo", "shop.example", 4, 0) // no attempt
	s.RestoreLines("mta1", window.Lines{Rejected: 9, Malformed: 1})
	s.Committed("mta1", delta())
	c := PostfixCollector{Sink: s, Lanes: func() []Lane {
		return []Lane{{Lane: "/var/log/mail.log"}, {Lane: "/var/log/old.log", Failing: true}}
	}}
	want := `
# HELP postfix_qmgr_messages_expired_total Messages given up because they were too long in the queue.
# TYPE postfix_qmgr_messages_expired_total counter
postfix_qmgr_messages_expired_total 2
# HELP postfix_smtp_deferred_messages_total Attempts that were deferred.
# TYPE postfix_smtp_deferred_messages_total counter
postfix_smtp_deferred_messages_total 7
# HELP postfix_smtp_messages_processed_total Attempts by outcome in Postfix's words.
# TYPE postfix_smtp_messages_processed_total counter
postfix_smtp_messages_processed_total{status="bounced"} 5
postfix_smtp_messages_processed_total{status="deferred"} 7
postfix_smtp_messages_processed_total{status="sent"} 5
# HELP postfix_smtpd_messages_rejected_total Clients that our own server refused; the code is not known.
# TYPE postfix_smtpd_messages_rejected_total counter
postfix_smtpd_messages_rejected_total{code=""} 9
# HELP postfix_unsupported_log_entries_total Lines that should have been a record and could not be read.
# TYPE postfix_unsupported_log_entries_total counter
postfix_unsupported_log_entries_total{level="",service=""} 2
# HELP postfix_up Whether the log is read and its counts are stored.
# TYPE postfix_up gauge
postfix_up{path="/var/log/mail.log"} 1
postfix_up{path="/var/log/old.log"} 0
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want), "postfix_qmgr_messages_expired_total", "postfix_smtp_deferred_messages_total",
		"postfix_smtp_messages_processed_total", "postfix_smtpd_messages_rejected_total", "postfix_unsupported_log_entries_total", "postfix_up"); err != nil {
		t.Error(err)
	}
	if n := testutil.CollectAndCount(c, "postfix_smtp_delivery_delay_seconds"); n != 1 {
		t.Errorf("%d delays", n)
	}
}
