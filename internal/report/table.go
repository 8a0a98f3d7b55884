package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// TableOptions says how WriteTable shows a report.
type TableOptions struct {
	// Width is the width of the terminal in columns; zero means 100. No line is
	// wider. Below 80, what does not fit is cut off.
	Width int
	// Color allows ANSI colours.
	Color bool
	// Unicode allows characters beyond ASCII: bars, sparklines and what remote
	// servers wrote. Without it those are shown as escapes.
	Unicode bool
	// Top is how many providers and domains are listed; zero means 10.
	Top int
	// Explain is how many categories are explained; zero means 5.
	Explain int
}

// minTable is the width that tables are laid out for at the least.
const minTable = 80

// WriteTable writes r for people to read on a terminal: outcomes, then why mail
// failed, what to do about the most frequent reasons, and where it failed.
func WriteTable(w io.Writer, r *Report, o TableOptions) error {
	o.Width = cmp.Or(o.Width, 100)
	o.Top = cmp.Or(o.Top, 10)
	o.Explain = cmp.Or(o.Explain, 5)
	if text.RuneWidth('█') != 1 {
		o.Unicode = false // an East Asian locale, where bars are twice as wide as meant
	}
	p := &painter{o: o, width: max(o.Width, minTable)}
	p.header(r)
	if r.Attempts > 0 || r.Outcomes.Expired > 0 {
		p.outcomes(r)
	}
	if s := r.nothing(); s != "" {
		p.line("")
		p.wrapped("", "", s, plain)
	} else {
		p.categories(r)
		p.explain(r)
		p.names("Providers", "provider", r.Providers, otherName)
		p.names("Sender domains", "sender domain", r.SenderDomains, senderName)
		p.names("Recipient domains", "recipient domain", r.RecipientDomains, otherName)
	}
	p.notices(r)
	_, err := io.WriteString(w, p.b.String())
	return err
}

// style is the parameter of an ANSI SGR sequence (ECMA-48 section 8.3.117).
type style string

const (
	plain   style = ""
	bold    style = "1"
	faint   style = "2"
	red     style = "31"
	green   style = "32"
	yellow  style = "33"
	magenta style = "35"
	cyan    style = "36"
)

type painter struct {
	o     TableOptions
	width int
	b     strings.Builder
}

// paint adds a style to a text that has been shown already.
func (p *painter) paint(s string, as style) string {
	if !p.o.Color || as == plain || s == "" {
		return s
	}
	return "\x1b[" + string(as) + "m" + s + "\x1b[0m"
}

var toASCII = strings.NewReplacer("–", "-", "—", "-", "…", "...", "“", `"`, "”", `"`, "×", "x", "·", ",")

// show makes a text fit for the terminal's character set.
func (p *painter) show(s string) string {
	if p.o.Unicode {
		return s
	}
	s = toASCII.Replace(s)
	var b strings.Builder
	for _, r := range s {
		if r < 0x80 {
			b.WriteRune(r)
		} else {
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

// line writes one line, cut at the terminal's width.
func (p *painter) line(s string) {
	if text.StringWidthWithoutEscSequences(s) > p.o.Width {
		s = text.Trim(s, p.o.Width)
	}
	p.b.WriteString(strings.TrimRight(s, " "))
	p.b.WriteByte('\n')
}

// title writes a heading and, beside it if there is room, a remark.
func (p *painter) title(s, remark string) {
	p.line("")
	s, remark = p.show(s), p.show(remark)
	if text.StringWidthWithoutEscSequences(s)+2+text.StringWidthWithoutEscSequences(remark) <= p.o.Width {
		p.line(p.paint(s, bold) + "  " + p.paint(remark, faint))
		return
	}
	p.line(p.paint(s, bold))
	p.wrapped("  ", "", remark, faint)
}

// readable is the width beyond which running text is hard to read.
const readable = 110

// wrapped writes a text over as many lines as it needs, the first one headed by
// a label and the others indented like it.
func (p *painter) wrapped(indent, label, s string, as style) {
	lead := indent + label
	hang := strings.Repeat(" ", text.StringWidthWithoutEscSequences(lead))
	for i, l := range wrap(p.show(s), max(min(p.o.Width, readable)-len(hang), 10)) {
		if i > 0 {
			lead = hang
		} else if label != "" {
			lead = indent + p.paint(label, faint)
		}
		p.line(lead + p.paint(l, as))
	}
}

// wrap breaks a text between words into lines no wider than width; words that
// are wider are broken anywhere.
func wrap(s string, width int) []string {
	var lines []string
	var line strings.Builder
	used := 0
	flush := func() {
		lines = append(lines, line.String())
		line.Reset()
		used = 0
	}
	for word := range strings.FieldsSeq(s) {
		w := text.StringWidthWithoutEscSequences(word)
		if line.Len() > 0 && used+1+w > width {
			flush()
		}
		if line.Len() > 0 {
			line.WriteByte(' ')
			used++
		}
		if w <= width {
			line.WriteString(word)
			used += w
			continue
		}
		for _, r := range word {
			if rw := text.RuneWidth(r); line.Len() > 0 && used+rw > width {
				flush()
			}
			line.WriteRune(r)
			used += text.RuneWidth(r)
		}
	}
	if line.Len() > 0 {
		flush()
	}
	return lines
}

// fit cuts a text to a width.
func (p *painter) fit(s string, width int) string {
	s = p.show(s)
	if text.StringWidthWithoutEscSequences(s) <= width {
		return s
	}
	return text.Snip(s, width, p.show("…"))
}

// fitList joins as many items as fit, the first one in any case.
func (p *painter) fitList(items []string, width int) string {
	s := ""
	for i, item := range items {
		next := s + p.show(item)
		if i > 0 {
			next = s + ", " + p.show(item)
		}
		if i > 0 && text.StringWidthWithoutEscSequences(next) > width {
			break
		}
		s = next
	}
	return p.fit(s, width)
}

// bar draws a share of width; what is not zero is never invisible.
func (p *painter) bar(n, of int64, width int) string {
	if n <= 0 || of <= 0 {
		return ""
	}
	eighths := max(int(float64(n)/float64(of)*float64(width*8)+0.5), 1)
	if !p.o.Unicode {
		return strings.Repeat("#", max((eighths+4)/8, 1))
	}
	s := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		s += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return s
}

// sparkline draws a course, one character a value; zero differs from little.
func (p *painter) sparkline(values []int64) string {
	levels := []rune("▁▂▃▄▅▆▇█")
	if !p.o.Unicode {
		levels = []rune("_.:-=+*#")
	}
	top := slices.Max(values)
	line := make([]rune, len(values))
	for i, v := range values {
		level := 0
		if v > 0 {
			level = 1 + int(float64(v)/float64(top)*float64(len(levels)-2)+0.5)
		}
		line[i] = levels[level]
	}
	return string(line)
}

// column is one column of a table.
type column struct {
	name  string
	right bool
}

// grid writes a table without borders.
func (p *painter) grid(columns []column, rows [][]string) {
	t := table.NewWriter()
	s := table.StyleDefault
	s.Options = table.OptionsNoBordersAndSeparators
	s.Format = table.FormatOptions{}
	s.Box.PaddingLeft, s.Box.PaddingRight = "  ", ""
	t.SetStyle(s)
	var header table.Row
	var configs []table.ColumnConfig
	for i, c := range columns {
		align := text.AlignLeft
		if c.right {
			align = text.AlignRight
		}
		header = append(header, p.paint(c.name, faint))
		configs = append(configs, table.ColumnConfig{Number: i + 1, Align: align, AlignHeader: align})
	}
	t.SetColumnConfigs(configs)
	t.AppendHeader(header)
	for _, cells := range rows {
		var row table.Row
		for _, c := range cells {
			row = append(row, c)
		}
		t.AppendRow(row)
	}
	for l := range strings.Lines(t.Render()) {
		p.line(strings.TrimSuffix(l, "\n"))
	}
}

// number shows a count, and little of it if there is none.
func (p *painter) number(n int64, as style) string {
	if n == 0 {
		return p.paint("0", faint)
	}
	return p.paint(count(n), as)
}

func (p *painter) header(r *Report) {
	title := "Mail deliveries"
	if s := r.span(); s != "" {
		title += ", " + s
	}
	p.wrapped("", "", title, bold)
	p.wrapped("", "", strings.Join(r.reading(), " · "), faint)
}

func (p *painter) outcomes(r *Report) {
	p.title("Outcomes", r.tries())
	width := min(p.width-40, 60)
	var rows [][]string
	for _, o := range r.shares() {
		as := outcomeStyle[o.name]
		share, bar := percent(o.n, r.Attempts), p.bar(o.n, r.Attempts, width)
		if o.name == "expired" {
			if o.n == 0 {
				continue
			}
			share, bar = "", p.show("messages given up, no attempts")
			as = plain
		}
		rows = append(rows, []string{p.paint(o.name, outcomeStyle[o.name]), count(o.n), p.show(share), p.paint(bar, as)})
	}
	p.grid([]column{{"outcome", false}, {"attempts", true}, {"share", true}, {"", false}}, rows)
}

// notices lists what came beside the attempts.
func (p *painter) notices(r *Report) {
	if len(r.Notices) == 0 {
		return
	}
	rest := ""
	all := r.Notices
	if len(all) > p.o.Top {
		rest = fmt.Sprintf("the %d most frequent", p.o.Top)
		all = all[:p.o.Top]
	}
	p.title("Reported back", rest)
	var rows [][]string
	for _, n := range all {
		rows = append(rows, []string{n.Outcome, p.show(cmp.Or(n.Category, "–")), count(n.Count)})
	}
	p.grid([]column{{"outcome", false}, {"category", false}, {"count", true}}, rows)
}

var outcomeStyle = map[string]style{"delivered": green, "deferred": yellow, "bounced": red, "expired": magenta}

func (p *painter) categories(r *Report) {
	p.title("Why mail failed", r.failures())
	columns := []column{{"category", false}, {"attempts", true}, {"share", true}}
	longest := 0
	for i := range r.Categories {
		longest = max(longest, len(r.Categories[i].Category))
	}
	used := 2 + longest + 2 + len(count(r.Attempts)) + 2 + 6
	type numbers struct {
		name string
		of   func(*Category) int64
		as   style
	}
	var shown []numbers
	for _, c := range []numbers{
		{"bounced", func(c *Category) int64 { return c.Bounced }, red},
		{"deferred", func(c *Category) int64 { return c.Deferred }, yellow},
		{"expired", func(c *Category) int64 { return c.Expired }, magenta},
	} {
		if slices.ContainsFunc(r.Categories, func(x Category) bool { return c.of(&x) > 0 }) {
			shown = append(shown, c)
			columns = append(columns, column{c.name, true})
			used += 2 + 9
		}
	}
	// Where it failed stands beside the numbers if there is room, else below.
	room := (p.width - used - 4) / 2
	beside := room >= 20
	if beside {
		room = min(room, 40)
		columns = append(columns, column{"top providers", false}, column{"worst sender domains", false})
	} else {
		columns = append(columns, column{"", false})
	}
	var rows, where [][]string
	for i := range r.Categories {
		c := &r.Categories[i]
		name := otherName(c.Category)
		row := []string{p.paint(p.show(name), bold), p.number(c.Attempts, plain), p.show(r.share(c))}
		for _, s := range shown {
			row = append(row, p.number(s.of(c), s.as))
		}
		if beside {
			row = append(row, p.places(c.Providers, otherName, room), p.places(c.SenderDomains, senderName, room))
		} else {
			row = append(row, p.paint(p.bar(c.Attempts, r.Outcomes.Failures(), p.width-used-2), red))
			half := (p.width - 2 - longest - 4) / 2
			where = append(where, []string{p.show(name), p.places(c.Providers, otherName, half), p.places(c.SenderDomains, senderName, half)})
		}
		rows = append(rows, row)
	}
	p.grid(columns, rows)
	if !beside {
		p.line("")
		p.grid([]column{{"category", false}, {"top providers", false}, {"worst sender domains", false}}, where)
	}
}

// places shows the most frequent names with their shares.
func (p *painter) places(counts map[string]int64, show func(string) string, width int) string {
	all := tallies(counts, show)
	var total int64
	for _, t := range all {
		total += t.n
	}
	items := make([]string, 0, 3)
	for _, t := range all[:min(len(all), 3)] {
		share := roundPercent(t.n, total)
		name := p.fit(t.name, max(width-len(share)-1, 1))
		items = append(items, name+" "+share)
	}
	return p.fitList(items, width)
}

func (p *painter) explain(r *Report) {
	trend := r.Trend.course(60)
	for i := range r.Categories[:min(len(r.Categories), p.o.Explain)] {
		c := &r.Categories[i]
		p.title(otherName(c.Category), r.summary(c))
		p.wrapped("  ", "what    ", c.Meaning, plain)
		if len(c.Samples) > 0 {
			s := &c.Samples[0]
			p.wrapped("  ", "reply   ", "“"+Clean(s.Text)+"”", cyan)
			p.wrapped("  ", "        ", s.source(), faint)
		}
		if causes := c.causes(); causes != "" {
			p.wrapped("  ", "causes  ", causes, plain)
		}
		p.wrapped("  ", "owner   ", c.Owner, plain)
		p.wrapped("  ", "advice  ", c.Advice, plain)
		if peak := r.Trend.peak(c.Category); peak != nil && len(trend.slots) > 1 {
			p.line("  " + p.paint("trend   ", faint) + p.paint(p.sparkline(trend.of(c.Category)), red))
			p.wrapped("  ", "        ", r.Trend.peakText(c.Category, peak), faint)
		}
	}
}

func (p *painter) names(title, kind string, names []Name, show func(string) string) {
	names = slices.DeleteFunc(slices.Clone(names), func(n Name) bool { return n.Failures()+n.Expired == 0 })
	if len(names) == 0 {
		return
	}
	rest := ""
	if more := len(names) - p.o.Top; more > 0 {
		rest = fmt.Sprintf("the worst %d", p.o.Top)
		names = names[:p.o.Top]
	}
	p.title(title, rest)
	columns := []column{{kind, false}, {"attempts", true}, {"failed", true}, {"ratio", true}}
	expired := slices.ContainsFunc(names, func(n Name) bool { return n.Expired > 0 })
	if expired {
		columns = append(columns, column{"expired", true})
	}
	bar := min(p.width-2-26-2-10-2-9-2-6-2-9-2-20-2, 30)
	if bar >= 8 {
		columns = append(columns, column{"", false})
	}
	columns = append(columns, column{"top reason", false})
	room := 26
	if bar < 8 {
		room = p.width - 2 - 2 - 9 - 2 - 9 - 2 - 6 - 2 - 20
		if expired {
			room -= 2 + 8
		}
	}
	var rows [][]string
	for i := range names {
		n := &names[i]
		row := []string{p.fit(show(n.Name), room), p.number(n.Attempts, plain), p.number(n.Failures(), plain), p.show(percent(n.Failures(), n.Attempts))}
		if expired {
			row = append(row, p.number(n.Expired, magenta))
		}
		if bar >= 8 {
			row = append(row, p.paint(p.bar(n.Failures(), n.Attempts, bar), red))
		}
		rows = append(rows, append(row, p.fit(n.TopCategory, 20)))
	}
	p.grid(columns, rows)
}
