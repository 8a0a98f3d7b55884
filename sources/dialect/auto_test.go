package dialect

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// Every line that yields an event in the cases of a dialect is taken for that
// dialect, and means the same.
func TestAutoRecognisesEveryDialect(t *testing.T) {
	for _, name := range Names() {
		if name == Auto {
			continue
		}
		archive, err := txtar.ParseFile("testdata/" + name + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			if !strings.HasSuffix(f.Name, ".in") {
				continue
			}
			own, _ := New(name, time.UTC)
			p, _ := New(Auto, time.UTC)
			reference := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)
			own.Reference(reference)
			p.Reference(reference)
			for line := range strings.Lines(string(f.Data)) {
				line = strings.TrimSpace(line)
				if header, ok := strings.CutPrefix(line, "# header "); ok {
					setHeader(own, []byte(header))
					setHeader(p, []byte(header))
				}
				if line == "" || strings.HasPrefix(line, "# ") {
					continue
				}
				want, err := own.Parse([]byte(line), nil)
				if err != nil || len(want) == 0 {
					continue
				}
				got, err := p.Parse([]byte(line), nil)
				if err != nil {
					t.Errorf("%s: %v: %s", name, err, line)
					continue
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s is taken for %s: %s\n-want +got:\n%s", name, recognise([]byte(line)).name(), line, diff)
				}
			}
		}
	}
}

func TestRecognised(t *testing.T) {
	p, _ := New(Auto, time.UTC)
	p.Reference(time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC))
	for _, line := range []string{
		"Jan 12 04:01:07 mx1 postfix/qmgr[77]: 4F2A1B3C: removed",
		"Jan 12 04:01:07 mx1 smtpd[311]: info: OpenSMTPD 7.4.0 starting",
		"Jan 12 04:01:07 mx1 postfix/anvil[77]: statistics: x",
		"Jan 12 04:01:07 mx1 sshd[99]: Accepted publickey",
	} {
		if _, err := p.Parse([]byte(line), nil); err != nil {
			t.Errorf("%v: %s", err, line)
		}
	}
	want := map[string]int64{"postfix": 2, "opensmtpd": 1}
	if diff := cmp.Diff(want, p.(Recogniser).Recognised()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestJSONMembersFit(t *testing.T) {
	if n := len(jsonMembers.bits); n > 64 {
		t.Errorf("%d names; there are 64 bits", n)
	}
}

// No row of members could be told for another's.
func TestJSONShapesAreApart(t *testing.T) {
	for i, a := range jsonShapes {
		for j, b := range jsonShapes {
			if i == j || a.dialect == b.dialect {
				continue
			}
			within := true
			for _, name := range a.members {
				within = within && (name == "" || name == b.members[0] || name == b.members[1] || name == b.members[2])
			}
			if within {
				t.Errorf("the members of %s are all among those of %s", a.dialect, b.dialect)
			}
		}
	}
}
