package tail

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRotationNames(t *testing.T) {
	for _, c := range []struct{ name, live, mark string }{
		{"mail.log.1", "mail.log", "1"},
		{"mail.log.0.bz2", "mail.log", "0"},
		{"mail.log.12.gz", "mail.log", "12"},
		{"mail.log-20261123", "mail.log", "20261123"},
		{"mail.log-20261123.xz", "mail.log", "20261123"},
		{"mail.log-20261123-1764000000.zst", "mail.log", "20261123-1764000000"},
		{"mail.log.2026-11-23", "mail.log", "2026-11-23"},
		{"mail.log-20261123.1", "mail.log", "20261123.1"},
		{"mail.log.old", "mail.log", "old"},
		{"maillog.1", "maillog", "1"},
		{"mx2.1", "mx2", "1"},
		{"mail-20261123.log", "mail.log", "20261123"},
		{"mail.1.log.gz", "mail.log", "1"},
		{"mail.log", "", ""},
		{"mail.log.gz", "", ""},
		{"mx-1", "", ""},
		{"mx-1.log", "", ""},
		{"192.0.2.1", "", ""},
		{"192.168.100.101", "", ""},
		{"mail.log.err", "", ""},
		{"1", "", ""}, {"", "", ""}, {".1", "", ""}, {".gz", "", ""},
	} {
		live, mark, ok := splitRotation(c.name, false)
		if !ok {
			live, mark, ok = splitRotation(c.name, true)
		}
		if live != c.live || mark != c.mark || ok != (c.mark != "") {
			t.Errorf("%s: %q %q %t, want %q %q", c.name, live, mark, ok, c.live, c.mark)
		}
	}
}

// info is a file's information with the given time.
type info struct {
	os.FileInfo
	at time.Time
}

func (i info) ModTime() time.Time { return i.at }

func TestRotationOrder(t *testing.T) {
	for _, want := range []string{
		"l.10.gz l.9.gz l.2 l.1 l.0 l",
		"l-20251231 l-20261123 l-20261123-2 l-20261124 l",
		"l.2 l.1 l-20261123 l-20261124 l", // dates since the 23rd
		"l.old l",
		"l.1.gz l.1 l",
	} {
		names := strings.Fields(want)
		var es []entry
		for i, name := range names {
			mark, _ := rotationOf(name, "l")
			es = append(es, entry{path: name, mark: mark, info: info{at: time.Unix(int64(i), 0)}})
		}
		slices.Reverse(es)
		sortEntries(es)
		var got []string
		for _, e := range es {
			got = append(got, e.path)
		}
		if !slices.Equal(got, names) {
			t.Errorf("%v, want %v", got, names)
		}
	}
}

func TestMatchFindsLiveFiles(t *testing.T) {
	f := newFolder(t)
	for _, name := range []string{
		"mail.log", "mail.log.1", "mail.log.2.gz", "mail.log-20261123", "mail-20261123.log", ".mail.log.swp", "mail.log~", "other.tmp",
		"gap.log.1",                         // being rotated: the live file is to come
		"lone.gz",                           // nobody writes to this
		"mx-1.log", "mx-2.log", "192.0.2.1", // names with numbers
		"day-20261122.log", "day-20261123.log", // dated by the writer
	} {
		f.must(os.WriteFile(f.path(name), nil, 0o600))
	}
	f.must(os.Mkdir(f.path("folder.log"), 0o700))
	for pattern, want := range map[string]string{
		"mail.log":   "mail.log",
		"missing":    "missing",
		"mail.log*":  "mail.log",
		"*.log":      "day-20261122.log day-20261123.log mail.log mx-1.log mx-2.log",
		"day-*.log":  "day-20261122.log day-20261123.log",
		"*":          "192.0.2.1 day-20261122.log day-20261123.log gap.log mail.log mx-1.log mx-2.log",
		"mail.log.*": "",
	} {
		s, err := New(Config{Paths: []string{f.path(pattern)}})
		f.must(err)
		var got []string
		for _, m := range s.match() {
			got = append(got, filepath.Base(m.path))
		}
		slices.Sort(got)
		if got := strings.Join(slices.Compact(got), " "); got != want {
			t.Errorf("%s: %s, want %s", pattern, got, want)
		}
	}
}

func TestValidateNamesAllFaults(t *testing.T) {
	c := Config{Paths: []string{"ok", "", "[x"}, Start: "middle", MaxLineBytes: 5, Poll: time.Nanosecond, Grace: -1}
	_, err := New(c)
	for _, field := range []string{"paths[1]", "paths[2]", "start", "max_line_bytes", "poll", "grace"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not in %v", field, err)
		}
	}
	if _, err := New(Config{}); err == nil {
		t.Error("no paths: no error")
	}
}
