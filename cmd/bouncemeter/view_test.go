package main

import (
	"context"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/bouncemeter/bouncemeter/ledger"
)

// fixed is a ledger with given rows: the latest, then those before.
type fixed struct {
	latest, before []ledger.Row
	last           int64
	queries        []ledger.Query
}

func (f *fixed) Query(_ context.Context, q ledger.Query) ([]ledger.Row, error) {
	f.queries = append(f.queries, q)
	if len(q.By) == 4 {
		return f.latest, nil
	}
	return f.before, nil
}

func (f *fixed) Lanes(context.Context) ([]ledger.Lane, error) {
	return []ledger.Lane{{Last: f.last}}, nil
}

func row(n int64, keys ...string) ledger.Row { return ledger.Row{Keys: keys, Attempts: n, Firsts: n} }

func TestViewMarksWhatJumped(t *testing.T) {
	now := time.Date(2026, 3, 20, 13, 22, 40, 0, time.UTC)
	l := &fixed{last: now.Unix() - 5,
		latest: []ledger.Row{
			row(60, "delivered", "", "gmail", "shop.example"),
			row(40, "bounced", "spf_failed", "gmail", "shop.example"),
			row(5, "bounced", "spf_failed", "gmail", "other.example"),
			row(3, "deferred", "greylisted", "yahoo", ""),
			row(97, "delivered", "", "yahoo", "\x1b[2Jevil"),
			row(50, "expired", "expired", "yahoo", "shop.example"), // no attempts
		},
		before: []ledger.Row{
			row(990, "delivered", "", "gmail"), row(10, "bounced", "spf_failed", "gmail"),
			row(970, "delivered", "", "yahoo"), row(30, "deferred", "greylisted", "yahoo"),
			row(9, "bounced", "mailbox_full", "yahoo"),
		},
	}
	text, err := view{span: 10 * time.Minute, rows: 10}.text(t.Context(), l, now)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(text, "\n")
	if !strings.Contains(lines[0], "205 attempts in the last 10m, 23.4% failed") {
		t.Errorf("%q", lines[0])
	}
	// 45 of 105 at gmail, usually 1 of 100.
	if got := strings.Join(strings.Fields(lines[2]), " "); got != "spf_failed gmail 42.86% 1.00% ▲ 43× shop.example: 40 of 45" {
		t.Errorf("%q", got)
	}
	// 3 of 100 at yahoo, usually as much: no mark. The null sender has a name.
	if got := strings.Join(strings.Fields(lines[3]), " "); got != "greylisted yahoo 3.00% 2.97% <>: 3 of 3" {
		t.Errorf("%q", got)
	}
	if len(lines) != 5 {
		t.Errorf("%d lines\n%s", len(lines), text)
	}
	if want := now.Add(-10 * time.Minute).Truncate(time.Minute).Unix(); l.queries[0].Since != want || l.queries[1].Until != want {
		t.Errorf("asked for %+v", l.queries)
	}
}

// The mark of a rise stands before what a narrow terminal cuts off, and no line is
// longer than it.
func TestViewFits(t *testing.T) {
	now := time.Date(2026, 1, 12, 12, 0, 0, 0, time.UTC)
	l := &fixed{last: now.Unix() - 5,
		latest: []ledger.Row{
			row(60, "delivered", "", "google_workspace", "a-rather-long-name.shop.example"),
			row(45, "bounced", "recipient_restricted", "google_workspace", "a-rather-long-name.shop.example"),
		},
		before: []ledger.Row{row(990, "delivered", "", "google_workspace"), row(10, "bounced", "recipient_restricted", "google_workspace")},
	}
	for _, width := range []int{0, 80} {
		text, err := view{span: 10 * time.Minute, rows: 10, width: width}.text(t.Context(), l, now)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(text, "\n")[1:] {
			if width > 1 && utf8.RuneCountInString(line) > width-1 {
				t.Errorf("%q is wider than %d", line, width)
			}
		}
		if !strings.Contains(text, "▲ 43×") {
			t.Errorf("no mark in\n%s", text)
		}
	}
}

// Of a log that has ended the last minutes are shown.
func TestViewOfAnOldLog(t *testing.T) {
	now := time.Date(2026, 3, 20, 13, 22, 40, 0, time.UTC)
	l := &fixed{last: now.AddDate(0, -1, 0).Unix()}
	text, err := view{span: 10 * time.Minute, rows: 10}.text(t.Context(), l, now)
	if err != nil {
		t.Fatal(err)
	}
	if l.queries[0].Until != l.last+1 || !strings.Contains(text, "no failures") {
		t.Errorf("asked for %+v\n%s", l.queries[0], text)
	}
}

func TestViewFitsTheTerminal(t *testing.T) {
	l := &fixed{latest: []ledger.Row{
		row(5, "bounced", "user_unknown", "gmail", "a\x1b]0;title\x07.example"),
		row(4, "bounced", "mailbox_full", "gmail", "b.example"),
	}}
	text, err := view{span: time.Hour, rows: 1, width: 50}.text(t.Context(), l, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(text, "\x1b\x07") || !strings.Contains(text, "in the last 1h,") || !strings.Contains(text, "and 1 more") {
		t.Errorf("%q", text)
	}
	for _, line := range strings.Split(text, "\n")[1:] {
		if len([]rune(line)) > 49 {
			t.Errorf("%d characters: %q", len(line), line)
		}
	}
}

func TestTopOnce(t *testing.T) {
	code, out, stderr := call(t, "", "top", "--once", write(t, "mail.log", aLog))
	if code != 0 || stderr != "" || !strings.Contains(out, "mailbox_full") || !strings.Contains(out, "2026-01-12") {
		t.Errorf("exit code %d\n%s%s", code, out, stderr)
	}
	for _, args := range [][]string{{"top", "/nowhere/mail.log"}, {"top", "--window", "1s", write(t, "l", "")}, {"top"}} {
		if code, _, stderr := call(t, "", args...); code == 0 || stderr == "" {
			t.Errorf("%q: exit code %d, %s", args, code, stderr)
		}
	}
}
