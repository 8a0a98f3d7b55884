package oracle

import (
	"strings"
	"testing"
)

func TestCount(t *testing.T) {
	c, err := Count(strings.NewReader(`Jan  2 00:00:00 mx1 postfix/qmgr[9]: 4F2: from=<a@shop.example>, size=1, nrcpt=2 (queue active)
Jan  2 00:00:00 mx2 postfix/qmgr[9]: 4F2: from=<>, size=1, nrcpt=1 (queue active)
Jan 12 00:00:01 mx1 postfix/smtp[1]: 4F2: to=<x@r.example>, relay=none, delay=1, dsn=4.4.1, status=deferred (a, status=sent (no))
Jan 12 00:00:01 mx1 postfix/smtp[1]: 4F2: to=<y@r.example>, relay=none, delay=1, dsn=2.0.0, status=sent (250 ok)
Jan 12 00:00:01 mx2 postfix/smtp[1]: 4F2: to=<y@r.example>, relay=none, delay=1, dsn=5.1.1, status=bounced (550 no)
Jan 12 00:00:01 mx1 postfix/qmgr[9]: 4F2: from=<a@shop.example>, status=expired, returned to sender
Jan 12 00:00:01 mx1 postfix/qmgr[9]: 4F2: removed
no line end`))
	if err != nil {
		t.Fatal(err)
	}
	want := Counts{Lines: 8, Outcomes: map[string]int64{"delivered": 1, "deferred": 1, "bounced": 1, "expired": 1}}
	if err := want.Differs(&Report{Lines: c.Lines, Outcomes: c.Outcomes}); err != nil {
		t.Error(err)
	}
	if c.Senders["shop.example"] != 2 || c.Senders[""] != 1 || c.Attempts() != 3 {
		t.Errorf("%+v", c)
	}
}
