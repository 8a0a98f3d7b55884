package classifier

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Every mistake is told with its place and what to do, all in one go.
func TestRuleFileFaults(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string // "line: words of the problem | words of the remedy"
	}{
		{"not yaml", "rules: [\n", []string{"1: not valid YAML | indentation"}},
		{"not a mapping", "- a\n", []string{"1: want a mapping | key: value"}},
		{"unknown top key", "rulez: []\n", []string{`1: unknown key "rulez" | rules`}},
		{"unknown rule key", "rules:\n  - id: a\n    category: policy\n    text: [x]\n    any: [y]\n", []string{`4: unknown key "text" | any`}},
		{"no id", "rules:\n  - category: policy\n    any: [x]\n", []string{"2: no id | id:"}},
		{"bad category", "rules:\n  - {id: a, category: spf_fail, any: [x]}\n", []string{`2: no category "spf_fail" | spf_failed`}},
		{"no category", "rules:\n  - {id: a, any: [x]}\n", []string{"2: no category | category:"}},
		{"no condition", "rules:\n  - {id: a, category: policy}\n", []string{"2: no condition | any:"}},
		{"same id", "rules:\n  - {id: a, category: policy, any: [x]}\n  - {id: a, category: policy, any: [y]}\n", []string{"3: used already | its own id"}},
		{"bad code", "rules:\n  - {id: a, category: policy, code: 5}\n", []string{`2: "5" is not a reply code | three digits`}},
		{"bad enhanced", "rules:\n  - {id: a, category: policy, enhanced: 5.1}\n", []string{`2: "5.1" is not an enhanced | x.1.1`}},
		{"bad stage", "rules:\n  - {id: a, category: policy, any: [x], stage: rctp}\n", []string{`2: no stage "rctp" | rcpt`}},
		{"bad persistence", "rules:\n  - {id: a, category: policy, any: [x], persistence: soft}\n", []string{`2: no persistence "soft" | transient`}},
		{"bad priority", "rules:\n  - {id: a, category: policy, any: [x], priority: high}\n", []string{`2: priority is "high" | whole number`}},
		{"bad provider", "rules:\n  - {id: a, category: policy, any: [x], provider: gmial}\n", []string{`2: no provider "gmial" | correct the name`}},
		{"bad blocklist", "rules:\n  - {id: a, category: ip_blocklisted, any: [x], blocklist: zen}\n", []string{`2: no blocklist "zen" | correct the name`}},
		{"bad regex", "rules:\n  - {id: a, category: policy, any: [x], regex: '('}\n", []string{"2: missing closing | RE2"}},
		{"unknown words", "rules:\n  - {id: a, category: policy, any: ['{nobody} x']}\n", []string{"2: no words are listed as {nobody}: add them under words"}},
		{"open bracket", "rules:\n  - {id: a, category: policy, any: ['(a|b x']}\n", []string{"2: lacks the closing bracket"}},
		{"no meaning", "rules:\n  - {id: a, category: policy, any: [is the]}\n", []string{"2: no word that carries meaning"}},
		{"circle", "words:\n  a: ['{b}']\n  b: ['{a}']\nrules:\n  - {id: a, category: policy, any: ['{a}']}\n", []string{"5: contains itself"}},
		{"colon without quotes", "rules:\n  - id: a\n    category: policy\n    any: [x]\n    examples:\n      - 550 no: way\n", []string{"6: want a text | single quotes"}},
		{"two faults", "rules:\n  - {id: a, category: x, any: [x]}\n  - {id: b, category: y, any: [x]}\n", []string{"2: no category | docs", "3: no category | docs"}},
		{"provider id", "providers:\n  - {id: A B}\n", []string{`2: provider id "A B" | lower case`}},
		{"same host", "providers:\n  - {id: mine, mx: [pphosted.com]}\n", []string{"belongs to both | remove"}},
		{"list kind", "blocklists:\n  - {name: Mine, kind: host, text: [mine.test]}\n", []string{`2: kind "host" | ip, domain or url`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := write(t, t.TempDir(), "own.yaml", tt.text)
			_, err := New(Options{RuleFiles: []string{file}})
			if err == nil {
				t.Fatal("no error")
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(tt.want) {
				t.Fatalf("%d faults, want %d:\n%v", len(lines), len(tt.want), err)
			}
			for i, want := range tt.want {
				line, words, ok := strings.Cut(want, ": ")
				prefix := fmt.Sprintf("%s:%s: ", file, line)
				if !ok || strings.ContainsAny(line, " abcdefghijklmnopqrstuvwxyz") {
					prefix, words = "", want
				}
				if !strings.HasPrefix(lines[i], prefix) {
					t.Errorf("%s\nis not at %s", lines[i], prefix)
				}
				for _, w := range strings.Split(words, " | ") {
					if !strings.Contains(lines[i], w) {
						t.Errorf("%s\ndoes not say %q", lines[i], w)
					}
				}
			}
			var f Fault
			if !errors.As(err, &f) {
				t.Error("the error has no Fault in it")
			}
		})
	}
}

func TestRuleFileMissing(t *testing.T) {
	dir := t.TempDir()
	_, err := New(Options{RuleFiles: []string{dir + "/none.yaml", dir}})
	if err == nil || !strings.Contains(err.Error(), "none.yaml:1: ") || !strings.Contains(err.Error(), "no rule files in the directory") {
		t.Errorf("got %v", err)
	}
}
