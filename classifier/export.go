package classifier

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/bouncemeter/bouncemeter/event"
)

// ExportKumoMTA writes the rules as a bounce classifier file of KumoMTA: an
// array of regular expressions for each category, the closer causes first.
// Expressions cannot say everything that rules can: rules for one provider or
// stage, or with all:, are left out, and what not: rules out is not ruled out.
// The file says how many were left out.
func (c *Classifier) ExportKumoMTA(w io.Writer) error {
	t := c.t
	order := make([]int, 0, len(t.rules))
	left := 0
	for i := range t.rules {
		r := &t.rules[i]
		if r.category == event.Unset || len(r.all) > 0 || r.stages != 0 || len(r.regexps) > 0 || len(r.providers) > 0 && !r.distinctive {
			left++
			continue
		}
		order = append(order, i)
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := &t.rules[a], &t.rules[b]
		return cmp.Or(cmp.Compare(y.rank, x.rank), cmp.Compare(y.weight, x.weight))
	})
	var categories []event.Category
	lines := map[event.Category][]string{}
	for _, i := range order {
		r := &t.rules[i]
		if _, ok := lines[r.category]; !ok {
			categories = append(categories, r.category)
		}
		codes := r.codeExpression()
		if !r.hasPhrases() {
			lines[r.category] = append(lines[r.category], codes)
			continue
		}
		for _, q := range r.any {
			lines[r.category] = append(lines[r.category], "(?i)"+codes+t.expression(q.s))
		}
	}
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "# Written by bouncemeter rules export; %d of %d rules cannot be said as expressions.\n[rules]\n", left, len(t.rules))
	for _, category := range categories {
		fmt.Fprintf(out, "%s = [\n", category)
		for _, line := range lines[category] {
			if strings.Contains(line, "'") {
				fmt.Fprintf(out, "  %q,\n", line)
			} else {
				fmt.Fprintf(out, "  '%s',\n", line)
			}
		}
		fmt.Fprintln(out, "]")
	}
	return out.Flush()
}

// codeExpression returns the beginning of an expression for r's codes, as
// KumoMTA shows a reply to its rules: "550 5.1.1 text".
func (r *compiledRule) codeExpression() string {
	if len(r.codes)+len(r.enhanced) == 0 {
		return ""
	}
	var codes, enhanced []string
	for _, c := range r.codes {
		low, high := fmt.Sprint(c.low), fmt.Sprint(c.high)
		var b strings.Builder
		for i := range low {
			if low[i] == high[i] {
				b.WriteByte(low[i])
			} else {
				b.WriteString(`\d`)
			}
		}
		codes = append(codes, b.String())
	}
	for _, p := range r.enhanced {
		class, detail := fmt.Sprint(p.code.Class), fmt.Sprint(p.code.Detail)
		if p.code.Class == 0 {
			class = "[45]"
		}
		if p.anyDetail {
			detail = `\d+`
		}
		enhanced = append(enhanced, fmt.Sprintf(`%s\.%d\.%s`, class, p.code.Subject, detail))
	}
	expr := `^\d{3} `
	if len(codes) > 0 {
		expr = "^(?:" + strings.Join(codes, "|") + ") "
	}
	if len(enhanced) > 0 {
		expr += "(?:" + strings.Join(enhanced, "|") + `)\b`
	}
	if r.hasPhrases() {
		expr += ".*"
	}
	return expr
}

// skipped is what may stand between two words of a phrase: punctuation, and
// words without a meaning of their own.
var skipped = func() string {
	words := make([]string, 0, len(stopWords))
	for _, w := range stopWords {
		words = append(words, regexp.QuoteMeta(w))
	}
	return `\W+(?:(?:` + strings.Join(words, "|") + `)\W+)*`
}()

// expression returns a phrase as a regular expression.
func (t *tables) expression(phrase string) string {
	var b strings.Builder
	gap := ""
	for rest := strings.TrimSpace(phrase); rest != ""; rest = strings.TrimSpace(rest) {
		end := strings.IndexByte(rest, ' ')
		if rest[0] == '(' {
			end = closing(rest) + 1
			if end < len(rest) && rest[end] == '*' {
				end++
			}
		}
		if end < 0 {
			end = len(rest)
		}
		part := rest[:end]
		rest = rest[end:]
		switch part {
		case "~":
			gap = `\W+(?:\w+\W+){0,5}?`
			continue
		case "..":
			gap = `\W.*?\b`
			continue
		}
		if b.Len() > 0 {
			b.WriteString(cmp.Or(gap, skipped))
		}
		gap = ""
		b.WriteString(t.partExpression(part))
	}
	return b.String()
}

func (t *tables) partExpression(part string) string {
	oneOf := func(members []string, ending string) string {
		list := make([]string, len(members))
		for i, m := range members {
			list[i] = t.expression(m + ending)
		}
		return "(?:" + strings.Join(list, "|") + ")"
	}
	switch {
	case part == maskAddress:
		return `\S+@\S+`
	case part == maskIP:
		return `[0-9a-fA-F]*[.:][0-9a-fA-F.:]+`
	case part == maskHost:
		return `[\w-]+(?:\.[\w-]+)+`
	case part == maskNumber:
		return `\w*\d\w*`
	case part[0] == '{':
		return oneOf(t.words[strings.Trim(part, "{}")], "")
	case part[0] == '(':
		if strings.HasSuffix(part, "*") {
			return oneOf(alternatives(part[1:closing(part)]), "*")
		}
		return oneOf(alternatives(part[1:closing(part)]), "")
	case strings.HasSuffix(part, "#"):
		return regexp.QuoteMeta(strings.TrimSuffix(part, "#")) + `\d\w*\b`
	case strings.HasSuffix(part, "*"):
		return `\b` + regexp.QuoteMeta(strings.TrimSuffix(part, "*")) + `\w*`
	}
	return `\b` + regexp.QuoteMeta(part) + `\b`
}
