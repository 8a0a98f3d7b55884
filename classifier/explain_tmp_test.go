package classifier

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/bouncemeter/bouncemeter/event"
)

func TestTmpExplain(t *testing.T) {
	b, err := os.ReadFile(os.Getenv("TEXTS"))
	if err != nil {
		t.Skip()
	}
	c, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	verbose := os.Getenv("V") != ""
	for _, l := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		want, text, ok := strings.Cut(l, "\t")
		if !ok {
			text, want = l, ""
		}
		e := &event.Event{Reply: event.Reply{Text: []byte(text)}}
		x := c.Explain(e)
		got := x.Verdict.Category.String()
		if want != "" && strings.Contains(" "+want+" ", " "+got+" ") {
			continue
		}
		fmt.Printf("### %s -> %s sec=%s list=%s prov=%s\n  %s\n  %s\n", want, got, x.Verdict.Secondary, x.Verdict.Blocklist, x.Provider, text, x.Normalised)
		for i, ev := range x.Evidence {
			if i < 4 || verbose {
				fmt.Printf("      %s %s:%d w=%d", ev.Rule, ev.File, ev.Line, ev.Weight)
				for j, m := range ev.Matches {
					if j < 3 {
						fmt.Printf(" [%d:%.60s|%s]", m.Line, m.Phrase, m.Text)
					}
				}
				fmt.Println()
			}
		}
	}
}
