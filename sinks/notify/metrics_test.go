package notify

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestMetrics(t *testing.T) {
	c := Collector{Stats: func() []Stats {
		return []Stats{
			{Name: "am", Kind: "alertmanager", Pending: 2, Oldest: time.Unix(1000, 0), Attempts: 7, Failures: 3, Refused: 1, LastError: "timeout"},
			{Name: "file", Kind: "file", Attempts: 5, Unreadable: 1, Success: time.Unix(2000, 0)},
		}
	}}
	want := `
# HELP bouncemeter_notify_attempts_total Deliveries that were tried.
# TYPE bouncemeter_notify_attempts_total counter
bouncemeter_notify_attempts_total{kind="alertmanager",notifier="am"} 7
bouncemeter_notify_attempts_total{kind="file",notifier="file"} 5
# HELP bouncemeter_notify_failures_total Deliveries that failed and are tried again.
# TYPE bouncemeter_notify_failures_total counter
bouncemeter_notify_failures_total{kind="alertmanager",notifier="am"} 3
bouncemeter_notify_failures_total{kind="file",notifier="file"} 0
# HELP bouncemeter_notify_last_error 1 for the class of the last attempt's error. Absent after a success.
# TYPE bouncemeter_notify_last_error gauge
bouncemeter_notify_last_error{class="timeout",kind="alertmanager",notifier="am"} 1
# HELP bouncemeter_notify_last_success_timestamp_seconds When something was delivered last. Absent if never since start.
# TYPE bouncemeter_notify_last_success_timestamp_seconds gauge
bouncemeter_notify_last_success_timestamp_seconds{kind="file",notifier="file"} 2000
# HELP bouncemeter_notify_oldest_pending_timestamp_seconds Event time of the first that waits. Absent if none does.
# TYPE bouncemeter_notify_oldest_pending_timestamp_seconds gauge
bouncemeter_notify_oldest_pending_timestamp_seconds{kind="alertmanager",notifier="am"} 1000
# HELP bouncemeter_notify_pending Alerts or changes of alerts that wait to be delivered.
# TYPE bouncemeter_notify_pending gauge
bouncemeter_notify_pending{kind="alertmanager",notifier="am"} 2
bouncemeter_notify_pending{kind="file",notifier="file"} 0
# HELP bouncemeter_notify_refused_total Deliveries that the receiver refused for good.
# TYPE bouncemeter_notify_refused_total counter
bouncemeter_notify_refused_total{kind="alertmanager",notifier="am"} 1
bouncemeter_notify_refused_total{kind="file",notifier="file"} 0
# HELP bouncemeter_notify_unreadable_total Stored changes of alerts that could not be understood.
# TYPE bouncemeter_notify_unreadable_total counter
bouncemeter_notify_unreadable_total{kind="alertmanager",notifier="am"} 0
bouncemeter_notify_unreadable_total{kind="file",notifier="file"} 1
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.CollectAndLint(c); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}
