package ruleimport

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bouncemeter/bouncemeter/classifier"
	"github.com/bouncemeter/bouncemeter/event"
)

const kumo = `# our classes
[rules]
InvalidRecipient = [
  "^(451|550) [45]\\.1\\.[1234] ",
  'frobnicated (user|box) is\s+gone',  # a comment
  "no widget for .* here",
]
QuotaIssues = ["^552 5\\.2\\.2 ", "larder (is )?stuffed"]
Novel = ["x"]
SpamBlock = ['(?:\d+\.){3}\d+ shunned', 'backref (a)\1']
`

const power = `
smtp-listener 0/0:25
<bounce-category-patterns>
# ours
/larder stuffed/ quota-issues
/frobnicated (user|box)/ bad-mailbox
/5\.7\.1 .*widget/ policy-related
</bounce-category-patterns>
/ignored/ spam-related
`

// load compiles imported rules beside the shipped ones.
func load(t *testing.T, yaml string) *classifier.Session {
	t.Helper()
	file := filepath.Join(t.TempDir(), "imported.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := classifier.New(classifier.Options{RuleFiles: []string{file}})
	if err != nil {
		t.Fatalf("%v\n%s", err, yaml)
	}
	return c.NewSession()
}

func check(t *testing.T, s *classifier.Session, reply string, want event.Category) {
	t.Helper()
	e := event.Event{Reply: event.Reply{Text: []byte(reply)}}
	s.Classify(&e)
	if e.Verdict.Category != want {
		t.Errorf("%s: %s by %s, want %s", reply, e.Verdict.Category, e.Verdict.Rule, want)
	}
}

func TestKumoMTA(t *testing.T) {
	var b strings.Builder
	faults, err := KumoMTA(&b, "bounce.toml", strings.NewReader(kumo))
	if err != nil {
		t.Fatal(err)
	}
	s := load(t, b.String())
	check(t, s, "550 5.1.4 zzz", event.UserUnknown)
	check(t, s, "550 The frobnicated box is gone", event.UserUnknown)
	check(t, s, "550 no widget for you or me here", event.UserUnknown)
	check(t, s, "552 5.2.2 zzz", event.MailboxFull)
	check(t, s, "450 larder is stuffed", event.MailboxFull)
	check(t, s, "450 larder stuffed", event.MailboxFull)
	check(t, s, "550 198.51.100.7 shunned", event.IPBlocklisted)
	var lines []int
	for _, f := range faults {
		lines = append(lines, f.Line)
		if f.File != "bounce.toml" || f.Remedy == "" {
			t.Errorf("fault without place or remedy: %+v", f)
		}
	}
	if len(faults) != 2 || lines[0] != 9 || lines[1] != 10 {
		t.Errorf("faults %v, want the class of line 9 and the back-reference of line 10", faults)
	}
}

func TestPowerMTA(t *testing.T) {
	var b strings.Builder
	faults, err := PowerMTA(&b, "config", strings.NewReader(power))
	if err != nil || len(faults) > 0 {
		t.Fatal(err, faults)
	}
	s := load(t, b.String())
	check(t, s, "550 larder stuffed", event.MailboxFull)
	check(t, s, "550 Frobnicated users", event.UserUnknown)
	check(t, s, "550 5.7.1 we have no widget", event.Policy)
	if strings.Contains(b.String(), "ignored") {
		t.Error("a line outside of the section was taken")
	}
}

func TestMalformed(t *testing.T) {
	for text, want := range map[string]string{
		"[rules]\na = [\n\"x\n":    "f:3: the string lacks its closing",
		"[rules\n":                 "f:1: the name of a table",
		"[rules]\na\n":             "f:2: want key",
		"[rules]\na = [1]\n":       "f:2: want a string",
		"[rules]\na = [\"\\d\"]\n": `f:2: \d is no escape`,
	} {
		if _, err := KumoMTA(&strings.Builder{}, "f", strings.NewReader(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	for text, want := range map[string]string{
		"nothing": "f:1: no <bounce-category-patterns>",
		"<bounce-category-patterns>\nspam spam-related\n": "f:2: \"spam spam-related\" is no pattern",
	} {
		if _, err := PowerMTA(&strings.Builder{}, "f", strings.NewReader(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func FuzzImport(f *testing.F) {
	f.Add(kumo)
	f.Add(power)
	f.Fuzz(func(t *testing.T, text string) {
		var b strings.Builder
		_, _ = KumoMTA(&b, "f", strings.NewReader(text))
		_, _ = PowerMTA(&b, "f", strings.NewReader(text))
	})
}
