package classifier

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/event"
)

func TestSmoke(t *testing.T) {
	start := time.Now()
	c, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Log("new", time.Since(start), "states", len(c.t.machine.fires), "terms", len(c.t.machine.stop), "rules", len(c.t.rules))
	in := os.Getenv("CORPUS")
	if in == "" {
		return
	}
	f, _ := os.Open(in)
	out, _ := os.Create(in + ".pred")
	s := c.NewSession()
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var r struct{ Text, Stage string }
		if json.Unmarshal(sc.Bytes(), &r) != nil {
			t.Fatal(sc.Text())
		}
		e := &event.Event{Reply: event.Reply{Text: []byte(r.Text)}}
		switch r.Stage {
		case "DATA":
			e.Reply.Stage = event.StageEnd
		case "RCPT":
			e.Reply.Stage = event.StageRcpt
		case "MAIL":
			e.Reply.Stage = event.StageMail
		case "HELO", "EHLO":
			e.Reply.Stage = event.StageHelo
		}
		s.Classify(e)
		fmt.Fprintln(out, e.Verdict.Category)
	}
}
