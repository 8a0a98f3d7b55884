package main

import (
	"strings"
	"testing"
)

func TestCheckShowsHowASampleMaps(t *testing.T) {
	config := write(t, "c.yaml", `sources:
  - {name: mta, kind: tail, paths: [/var/log/mail.log]}
  - name: gw
    kind: tail
    paths: [/var/log/gw.csv]
    dialect: csv
    fields: {time: When, outcome: Result, recipient: To, text: Reply}
    outcomes: {bounced: [F], ignored: [X]}
ledger: {sqlite: ledger.db}
`)
	sample := write(t, "gw.csv", "When,Result,To,Reply,Size\n2026-01-12T04:01:07Z,F,ann@x.example,550 5.1.1 no such user,77\n2026-01-12T04:01:07Z,X,ann@x.example,,77\n2026-01-12T04:01:07Z,?,ann@x.example,,77\n")
	code, out, stderr := call(t, "", "check", "-c", config, "--sample", sample)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	for _, want := range []string{"text       Reply   550 5.1.1 no such user", "-          Size    77", "2026-01-12T04:01:07Z attempt bounced, to ann@x.example", "user_unknown", "no news of a delivery", "add it to outcomes"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	code, out, _ = call(t, "", "check", "-c", config, "--sample", write(t, "mail.log", aLog), "--source", "mta")
	if code != 0 || !strings.Contains(out, "removal") || strings.Contains(out, "line 6") {
		t.Errorf("exit code %d, %s", code, out)
	}
	// What tells nothing is passed over.
	quiet := strings.Repeat("Jan 12 04:01:07 mx1 sshd[99]: Accepted publickey for ann\n", 50)
	code, out, _ = call(t, "", "check", "-c", config, "--sample", write(t, "whole.log", quiet+aLog), "--source", "mta")
	if code != 0 || !strings.Contains(out, "removal") || strings.Contains(out, "line 1\n") {
		t.Errorf("exit code %d, %s", code, out)
	}
	code, out, _ = call(t, "", "check", "-c", config, "--sample", write(t, "quiet.log", quiet), "--source", "mta")
	if code != 0 || !strings.Contains(out, "No line (of 50) tells of a delivery: see whether postfix is their dialect.") {
		t.Errorf("exit code %d, %s", code, out)
	}
	if code, _, stderr = call(t, "", "check", "-c", config, "--sample", sample, "--source", "other"); code != 2 || !strings.Contains(stderr, "mta, gw") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}
