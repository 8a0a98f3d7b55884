package web

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/dustin/go-humanize"

	"github.com/bouncemeter/bouncemeter/internal/chart"
	"github.com/bouncemeter/bouncemeter/ledger"
)

// wording is one wording of replies.
type wording struct {
	Text, Provider, ProviderLink, Category, CategoryLink, Rule, Count, First, Last string
}

type wordingsPanel struct {
	Rows   []wording
	Codes  []code
	Remark string
}

// code is how often a status code was in replies.
type code struct{ Code, Count, Share string }

// wordings shows what servers have said. Counts are of all time, since a ledger
// does not keep wordings by time; those last seen before the range are left out.
func (c *scope) wordings(f ledger.TemplateFilter, limit int) (*wordingsPanel, error) {
	all, err := c.s.o.Ledger.Templates(c.ctx, f, 1000)
	if err != nil {
		return nil, err
	}
	p := &wordingsPanel{}
	codes := make(map[string]int64)
	var sum int64
	shown := 0
	for _, t := range all {
		if t.Last < c.v.since || t.First >= c.v.until {
			continue
		}
		if code := codeOf(t.Text); code != "" {
			codes[code] += t.Attempts
			sum += t.Attempts
		}
		if shown++; shown > limit {
			continue
		}
		p.Rows = append(p.Rows, wording{
			Text: short(t.Text, 600), Provider: show(ledger.ByProvider, t.Provider), ProviderLink: c.v.to(ledger.ByProvider, t.Provider),
			Category: show(ledger.ByCategory, t.Category), CategoryLink: c.v.to(ledger.ByCategory, t.Category), Rule: short(t.Rule, 80),
			Count: humanize.Comma(t.Attempts), First: moment(t.First), Last: moment(t.Last),
		})
	}
	if shown > limit {
		p.Remark = fmt.Sprintf("the %d most frequent of %d", limit, shown)
	}
	for _, name := range slices.SortedFunc(maps.Keys(codes), func(a, b string) int {
		return cmp.Or(cmp.Compare(codes[b], codes[a]), cmp.Compare(a, b))
	}) {
		if len(p.Codes) == 12 {
			break
		}
		p.Codes = append(p.Codes, code{name, humanize.Comma(codes[name]), chart.Percent(codes[name], sum)})
	}
	return p, nil
}

// codeOf returns the basic and the enhanced status code (RFC 5321 section 4.2,
// RFC 3463) that a reply begins with, such as "550 5.7.26", or "" if there is
// none.
func codeOf(text string) string {
	if len(text) < 3 || text[0] < '4' || text[0] > '5' || !digits(text[1:3]) || len(text) > 3 && text[3] != ' ' && text[3] != '-' {
		return ""
	}
	basic := text[:3]
	if len(text) < 9 {
		return basic
	}
	rest := text[4:]
	i := 0
	for i < len(rest) && i < 9 && (rest[i] == '.' || digits(rest[i:i+1])) {
		i++
	}
	var class, subject, detail int
	if n, err := fmt.Sscanf(rest[:i], "%d.%d.%d", &class, &subject, &detail); n == 3 && err == nil && class == int(basic[0]-'0') {
		return fmt.Sprintf("%s %d.%d.%d", basic, class, subject, detail)
	}
	return basic
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
