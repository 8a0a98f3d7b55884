package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/bouncemeter/bouncemeter/event"
	"github.com/bouncemeter/bouncemeter/pipeline"
	"github.com/bouncemeter/bouncemeter/sinks/suppression"
)

func TestSuppression(t *testing.T) {
	file := filepath.Join(t.TempDir(), "list.db")
	s, err := suppression.New(suppression.Config{
		Path: file, Reasons: []string{"user_unknown", suppression.Complaint}, Failures: 1, Privacy: event.Privacy{Addresses: event.KeepAddresses},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() // the daemon is running meanwhile
	w := s.Writer("mta1", "log")
	w.Add(&pipeline.Record{Event: &event.Event{
		Kind: event.Attempt, Outcome: event.Bounced, Time: 1795512000e6, Recipient: []byte("ann@x.example"),
		Verdict: event.Verdict{Category: event.UserUnknown}, Reply: event.Reply{Code: 550, Text: []byte("550 no such user")},
	}})
	w.Add(&pipeline.Record{Event: &event.Event{Kind: event.Notice, Outcome: event.Complaint, Time: 1795512000e6, Recipient: []byte("eve@x.example")}})
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args        []string
		code        int
		out, errors string
	}{
		{[]string{"list", file}, 0, "ann@x.example\neve@x.example\n", ""},
		{[]string{file}, 0, "ann@x.example\neve@x.example\n", ""},
		{[]string{"list", "-o", "json", "--reason", "user_unknown", file}, 0,
			`{"v":1,"address":"ann@x.example","reason":"user_unknown","failures":1,"first":"2026-11-24T09:20:00Z","last":"2026-11-24T09:20:00Z","code":550,"text":"550 no such user"}` + "\n", ""},
		{[]string{"remove", file, "EVE@x.example", "bob@x.example"}, 1, "", "not on the list: bob@x.example"},
		{[]string{"list", "-o", "csv", file}, 0,
			"address,reason,failures,first,last,code,enhanced,text\nann@x.example,user_unknown,1,2026-11-24T09:20:00Z,2026-11-24T09:20:00Z,550,,550 no such user\n", ""},
		{[]string{"list", file + ".gone"}, 1, "", "name the path of the sink of kind suppression"},
		{[]string{"list"}, 2, "", "<file>"},
	} {
		code, out, errors := call(t, "", append([]string{"suppression"}, test.args...)...)
		if code != test.code || out != test.out && code != 2 || !strings.Contains(errors, test.errors) {
			t.Errorf("%v: %d\n%s\n%s", test.args, code, out, errors)
		}
	}
}
