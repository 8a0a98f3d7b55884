package notify

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/bouncemeter/bouncemeter/ledger/alertjson"
)

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"gmail", "gmail", true},
		{"gmail", "gmail2", false},
		{"*", "", true},
		{"*", "x", true},
		{"*.shop.example", "news.shop.example", true},
		{"*.shop.example", "shop.example", false},
		{"Shop.Example", "shop.example", true},
		{"mx*.example.*", "mx1.example.com", true},
		{"mx*.example.*", "mx1.sample.com", false},
		{"a*a", "a", false},
		{"a*b*c", "a1b2b3c", true},
		{"**", "x", true},
	} {
		if got := glob(c.pattern, c.s); got != c.want {
			t.Errorf("glob(%q, %q) = %v", c.pattern, c.s, got)
		}
	}
}

func TestGlobOfPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pieces := rapid.SliceOfN(rapid.StringMatching(`[a-c]{0,3}`), 1, 5).Draw(t, "pieces")
		between := rapid.SliceOfN(rapid.StringMatching(`[a-c]{0,3}`), len(pieces)-1, len(pieces)-1).Draw(t, "between")
		s := pieces[0]
		for i, b := range between {
			s += b + pieces[i+1]
		}
		if p := strings.Join(pieces, "*"); !glob(p, s) {
			t.Errorf("glob(%q, %q) is false", p, s)
		}
	})
}

func TestMatch(t *testing.T) {
	a := &alertjson.Alert{
		ID: "7", Rule: "authentication", Kind: "ratio", Severity: alertjson.Critical, Category: "spf_failed",
		Labels: map[string]string{"provider": "gmail", "sender_domain": "shop.example"},
	}
	for name, c := range map[string]struct {
		m    Match
		want bool
	}{
		"nothing asked":      {Match{}, true},
		"id":                 {Match{IDs: []string{"7"}}, true},
		"other id":           {Match{IDs: []string{"8"}}, false},
		"one of two":         {Match{Providers: []string{"yahoo", "gmail"}}, true},
		"both fields":        {Match{Providers: []string{"gmail"}, Rules: []string{"auth*"}}, true},
		"one field only":     {Match{Providers: []string{"gmail"}, Rules: []string{"content"}}, false},
		"excluded":           {Match{Providers: []string{"!gmail"}}, false},
		"other excluded":     {Match{Providers: []string{"!yahoo"}}, true},
		"all but":            {Match{SenderDomains: []string{"*.example", "!shop.example"}}, false},
		"category":           {Match{Categories: []string{"spf_failed"}}, true},
		"group":              {Match{Groups: []string{"authorization"}}, true},
		"other group":        {Match{Groups: []string{"content"}}, false},
		"severity":           {Match{Severities: []string{"critical"}}, true},
		"kind":               {Match{Kinds: []string{"breadth"}}, false},
		"no such label":      {Match{Hosts: []string{"*"}}, false},
		"label not excluded": {Match{Hosts: []string{"!mx1"}}, true},
	} {
		if got := c.m.Matches(a); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
