package classifier

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
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
		var r struct {
			Text, Stage, Label string
			Accept             []string
		}
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
		if r.Label != "" && e.Verdict.Category.String() != r.Label && !slices.Contains(r.Accept, e.Verdict.Category.String()) {
			x := c.Explain(e)
			fmt.Printf("### %s %v -> %s\n    %s\n    %s\n", r.Label, r.Accept, e.Verdict.Category, r.Text, x.Normalised)
			for i, ev := range x.Evidence {
				if i < 5 {
					fmt.Printf("      %s %s:%d w=%d", ev.Rule, ev.File, ev.Line, ev.Weight)
					for j, m := range ev.Matches {
						if j < 4 {
							fmt.Printf(" [%d:%.70s|%s]", m.Line, m.Phrase, m.Text)
						}
					}
					fmt.Println()
				}
			}
		}
	}
}
