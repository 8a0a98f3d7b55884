package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bouncemeter/bouncemeter/internal/config"
)

// machine makes files below a folder.
func machine(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const anEximLog = "2026-01-12 04:01:07 1rOabc-0001Ab-2C <= a@shop.example H=localhost P=esmtp S=100\n" +
	"2026-01-12 04:01:08 1rOabc-0001Ab-2C => x@one.example R=dnslookup T=remote_smtp H=mx.one.example [192.0.2.1] C=\"250 OK\"\n" +
	"2026-01-12 04:01:08 1rOabc-0001Ab-2C Completed\n"

func TestInit(t *testing.T) {
	for name, x := range map[string]struct {
		files map[string]string
		want  map[string]string // dialect to log
	}{
		// Debian's syslog may repeat what mail.log has: that would count twice.
		"postfix": {map[string]string{"var/log/mail.log": aLog, "var/log/syslog": aLog}, map[string]string{"postfix": "var/log/mail.log"}},
		"syslog":  {map[string]string{"var/log/syslog": "Jan 12 04:00:00 mx1 cron[1]: hello\n" + aLog}, map[string]string{"postfix": "var/log/syslog"}},
		"two": {map[string]string{"var/log/mail.log": aLog, "var/log/exim4/mainlog": anEximLog},
			map[string]string{"postfix": "var/log/mail.log", "exim": "var/log/exim4/mainlog"}},
		"in envelopes": {map[string]string{"var/log/mail.log": logs["postfix in a container, Docker's json-file"].text}, map[string]string{"auto": "var/log/mail.log"}},
		"fresh":        {map[string]string{"var/log/maillog": "", "etc/postfix/main.cf": ""}, map[string]string{"postfix": "var/log/maillog"}},
	} {
		t.Run(name, func(t *testing.T) {
			root := machine(t, x.files)
			file := filepath.Join(t.TempDir(), "bouncemeter.yaml")
			code, out, stderr := call(t, "", "init", "--root", root, "--state", root, "-o", file)
			if code != 0 || stderr != "" || !strings.Contains(out, "check -c "+file) {
				t.Fatalf("exit code %d\n%s%s", code, out, stderr)
			}
			c, err := config.Load(file, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := make(map[string]string)
			for _, s := range c.Sources {
				name, err := filepath.Rel(root, s.Paths[0])
				if err != nil {
					t.Fatal(err)
				}
				got[s.Dialect] = name
			}
			if len(c.Warnings) > 0 || len(got) != len(x.want) || c.Ledger.SQLite != filepath.Join(root, "ledger.db") {
				t.Errorf("%+v, %v", c.Sources, c.Warnings)
			}
			for dialect, log := range x.want {
				if got[dialect] != log {
					t.Errorf("%s: %q, want %q", dialect, got[dialect], log)
				}
			}
		})
	}
}

// Without a file the journal has what the mail server says.
func TestInitJournal(t *testing.T) {
	root := machine(t, map[string]string{"var/log/journal/0123/system.journal": "", "etc/postfix/main.cf": ""})
	file := filepath.Join(t.TempDir(), "bouncemeter.yaml")
	code, out, stderr := call(t, "", "init", "--root", root, "--state", root, "-o", file)
	if code != 0 || !strings.Contains(out, "found    the journal (postfix)") || !strings.Contains(out, "journalctl") {
		t.Fatalf("exit code %d\n%s%s", code, out, stderr)
	}
	c, err := config.Load(file, nil, nil)
	if err != nil || len(c.Sources) != 1 || c.Sources[0].Kind != "journald" || c.Sources[0].Units[0] != "postfix@-.service" {
		t.Errorf("%+v, %v", c, err)
	}
	if code, _, _ := call(t, "", "init", "--root", machine(t, map[string]string{"var/log/journal/0123/system.journal": ""}), "-o", "-"); code != 1 {
		t.Errorf("a journal without a mail server: exit code %d", code)
	}
}

func TestInitTellsWhatIsWrong(t *testing.T) {
	empty := machine(t, map[string]string{"var/log/syslog": "Jan 12 04:00:00 mx1 cron[1]: hello\n"})
	if code, _, stderr := call(t, "", "init", "--root", empty, "-o", "-"); code != 1 || !strings.Contains(stderr, "no log of a mail server") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	full := machine(t, map[string]string{"var/log/mail.log": aLog})
	mine := write(t, "bouncemeter.yaml", "mine")
	if code, _, stderr := call(t, "", "init", "--root", full, "-o", mine); code != 2 || !strings.Contains(stderr, "--force") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if b, err := os.ReadFile(mine); err != nil || string(b) != "mine" {
		t.Errorf("%q, %v", b, err)
	}
	if code, out, _ := call(t, "", "init", "--root", full, "-o", "-", "--state", "/nowhere"); code != 0 || !strings.Contains(out, "sqlite: ledger.db") || strings.Contains(out, "What to do") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if code, _, stderr := call(t, "", "init", "--root", full, "-o", mine, "--force"); code != 0 {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}
