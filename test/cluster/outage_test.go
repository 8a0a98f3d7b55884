package cluster

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/test/internal/rig"
	"github.com/bouncemeter/bouncemeter/test/postgrestest"
)

// mailLog is a log that lines are appended to.
type mailLog struct {
	path string
	n    int64 // attempts
}

// write appends n deliveries, one in ten of which bounced.
func (l *mailLog) write(t *testing.T, n int) {
	t.Helper()
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		l.n++
		status := "dsn=2.0.0, status=sent (250 2.0.0 OK)"
		if l.n%10 == 0 {
			status = "dsn=5.1.1, status=bounced (host mx.test[192.0.2.1] said: 550 5.1.1 No such user here (in reply to RCPT TO command))"
		}
		at := time.Now().Add(-time.Hour).UTC().Format("2006-01-02T15:04:05.000000Z")
		if _, err := fmt.Fprintf(f, "%s mx1 postfix/smtp[311]: 4F%08X: to=<a@x.test>, relay=mx.test[192.0.2.1]:25, delay=1, delays=0/0/0/1, %s\n", at, l.n, status); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestServerOutage has two machines with the same configuration, but for the
// instance's name, share a PostgreSQL that is not there at first, goes away and
// comes back.
func TestServerOutage(t *testing.T) {
	pg := postgrestest.Start(t)
	pg.Stop(t)
	dsn := newDSN(t, pg.OwnerDSN())
	var logs [2]*mailLog
	var all [2]*instance
	for i := range all {
		// The same path on both machines, as far as the ledger can see.
		machine := t.TempDir()
		logs[i] = &mailLog{path: filepath.Join(machine, "mail.log")}
		logs[i].write(t, 1000*(i+1))
		all[i] = newInstance(t, fmt.Sprint("mx", i+1), dsn, fmt.Sprintf("sources: [{name: mta, kind: tail, paths: [%s], timezone: UTC}]", logs[i].path))
		all[i].start(t)
	}
	attempts := func() int64 { return number(pg, "SELECT coalesce(sum(attempts), 0)::bigint FROM bouncemeter.attempts") }
	counted := func(within time.Duration) {
		t.Helper()
		want := logs[0].n + logs[1].n
		rig.Eventually(t, within, fmt.Sprintf("%d attempts in the ledger", want), func() bool { return attempts() >= want })
		if n := attempts(); n != want {
			t.Errorf("%d attempts are in the ledger, want %d", n, want)
		}
	}

	for _, i := range all {
		rig.Eventually(t, 20*time.Second, i.name+" is alive", func() bool { status, _ := i.Get("/-/healthy"); return status == http.StatusOK })
		if status, text := i.Get("/-/ready"); status != http.StatusServiceUnavailable || !strings.Contains(text, "check that the server runs") {
			t.Errorf("%s is not waiting: %d %s", i.name, status, text)
		}
	}
	if out, err := exec.Command(rig.Build(t, ""), "check", "-c", all[0].Config).CombinedOutput(); err != nil || !strings.Contains(string(out), "warning: ledger 127.0.0.1") {
		t.Errorf("check: %v\n%s", err, out)
	}
	if out, err := exec.Command(rig.Build(t, ""), "health", "http://"+all[0].Address).CombinedOutput(); err == nil || !strings.Contains(string(out), "waiting for the ledger") {
		t.Errorf("health: %v\n%s", err, out)
	}
	pg.Start(t)
	counted(30 * time.Second)
	for _, i := range all {
		rig.Eventually(t, 10*time.Second, i.name+" is ready", i.Ready)
	}
	// The sum over all instances is what was committed, none counted twice.
	rig.Eventually(t, 10*time.Second, "the instances' counters add up to the ledger", func() bool {
		return all[0].Sum("bouncemeter_attempts_total")+all[1].Sum("bouncemeter_attempts_total") == float64(logs[0].n+logs[1].n)
	})
	if n := all[0].Sum("bouncemeter_attempts_total"); n != 1000 {
		t.Errorf("mx1 shows %v attempts, want its own 1000", n)
	}
	if n := number(pg, "SELECT count(*) FROM bouncemeter.lanes WHERE source = 'mta' AND (name LIKE 'mx1:/%' OR name LIKE 'mx2:/%')"); n != 2 {
		t.Errorf("%d lanes have their instance's name, want 2", n)
	}
	// Either page shows both.
	rig.Eventually(t, 30*time.Second, "mx2 shows the counts of both", func() bool {
		_, text := all[1].Get("/api/v1/counts?by=source&last=24h")
		return strings.Contains(text, `"attempts":3000`) || strings.Contains(text, `"attempts": 3000`)
	})

	pg.Kill(t)
	for i, l := range logs {
		l.write(t, 500)
		rig.Eventually(t, 20*time.Second, all[i].name+" is not ready", func() bool {
			status, text := all[i].Get("/-/ready")
			return status == http.StatusServiceUnavailable && strings.Contains(text, "lane mx")
		})
		if all[i].Sum("bouncemeter_lane_failing") != 1 {
			t.Errorf("%s does not show that commits fail", all[i].name)
		}
	}
	pg.Start(t)
	counted(40 * time.Second)
	for i, l := range logs {
		rig.Eventually(t, 10*time.Second, all[i].name+" is ready again", all[i].Ready)
		l.write(t, 10)
	}
	counted(20 * time.Second)

	if out := string(rig.Output(t, rig.Build(t, ""), "report", "--ledger", pg.OwnerDSN(), "-o", "json")); !strings.Contains(out, fmt.Sprintf(`"attempts":%d,`, logs[0].n+logs[1].n)) && !strings.Contains(out, fmt.Sprintf(`"attempts": %d,`, logs[0].n+logs[1].n)) {
		t.Errorf("the report is of other counts: %.300s", out)
	}
	rig.Output(t, rig.Build(t, ""), "backtest", "--ledger", pg.OwnerDSN())
	rig.Output(t, rig.Build(t, ""), "alerts", "list", "-c", all[0].Config)
	rig.Output(t, rig.Build(t, ""), "check", "-c", all[0].Config)
	for _, i := range all {
		i.daemon.Stop(t)
		if text := i.daemon.Output(); strings.Contains(text, postgrestest.Password) {
			t.Errorf("%s logs the password", i.name)
		}
	}

	// What waiting does not help against ends the start, with the remedy.
	wrong := newInstance(t, "mx3", newDSN(t, pg.DSN(postgrestest.Owner, "wrong-password")), "sources: [{name: mta, kind: stdin}]")
	out, err := exec.Command(rig.Build(t, ""), "run", "-c", wrong.Config).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "the password is wrong: correct the DSN") || strings.Contains(string(out), "wrong-password") {
		t.Errorf("with a wrong password: %v\n%s", err, out)
	}
	if out, err := exec.Command(rig.Build(t, ""), "check", "-c", wrong.Config).CombinedOutput(); err == nil || !strings.Contains(string(out), "the password is wrong") {
		t.Errorf("check with a wrong password: %v\n%s", err, out)
	}
}
