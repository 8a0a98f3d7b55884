package report

import (
	"cmp"
	"crypto/sha256"
	_ "embed" // for the page's template and style
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strconv"
	"strings"
	"time"
)

//go:embed report.html
var pageText string

//go:embed report.css
var pageStyle string

// page is the template of the page. What it shows of remote texts is cleaned
// first and then escaped by the template.
var page = template.Must(template.New("report").Parse(pageText))

// policy allows the page its own style and nothing else: no script, no request.
var policy = func() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
}()

// What a page shows at the most.
const (
	pageNames  = 25  // of each list of names
	pageOpen   = 3   // explanations unfolded
	pageColors = 7   // categories with a colour of their own
	pageSlots  = 400 // of a chart
)

// WriteHTML writes r as one page that needs nothing else: no script, no font
// and no request; it follows the reader's choice of a dark or light theme. Its
// content and order are those of WriteTable.
//
// The charts are drawn here rather than by a chart library: as shapes that
// stretch, with text that does not, they stay readable on a phone, and coloured
// by classes they follow the theme under a policy that forbids inline styles.
func WriteHTML(w io.Writer, r *Report) error {
	if err := page.Execute(w, newPage(r)); err != nil {
		return fmt.Errorf("write report page: %w", err)
	}
	return nil
}

type pageNotice struct{ Outcome, Category, Count string }

type pageData struct {
	Notices []pageNotice
	Policy  string
	Style   template.CSS
	Span    string
	Reading []string
	Nothing string

	Tries    string
	Outcomes []outcomeCard
	Attempts *chart

	Failures   string
	Categories []categoryRow
	Expired    bool
	ByCategory *chart
	Explained  []explanation

	Lists []nameList
}

type outcomeCard struct {
	Name, Count, Share string
	// X and Width place the share in a bar of 1000; Width is 0 where the
	// outcome is no share of the attempts.
	X, Width float64
}

type categoryRow struct {
	Name, Color                          string
	Attempts, Bounced, Deferred, Expired string
	Share                                string
	Bar                                  float64
	Providers, SenderDomains             []place
}

type place struct{ Name, Share string }

type explanation struct {
	Name, Color, Summary   string
	Open                   bool
	Meaning, Owner, Advice string
	Causes                 string
	Samples                []pageSample
	Trend                  *chart
	Peak                   string
}

type pageSample struct{ Text, Source string }

type nameList struct {
	Title, Kind, Remark string
	Expired             bool
	Rows                []nameRow
}

type nameRow struct {
	Name, Attempts, Failed, Ratio, Expired, Reason string
	Bar                                            float64
}

func newPage(r *Report) *pageData {
	p := &pageData{
		Policy:  policy,
		Style:   template.CSS(pageStyle), //nolint:gosec // a constant of ours
		Span:    r.span(),
		Reading: r.reading(),
		Nothing: r.nothing(),
		Tries:   r.tries(),
	}
	for _, n := range r.Notices {
		p.Notices = append(p.Notices, pageNotice{n.Outcome, n.Category, count(n.Count)})
	}
	if r.Attempts == 0 && r.Outcomes.Expired == 0 {
		return p
	}
	p.outcomes(r)
	c := r.Trend.course(pageSlots)
	p.Attempts = outcomeChart(&c)
	if p.Nothing != "" {
		return p
	}
	p.Failures = r.failures()
	p.Expired = r.Outcomes.Expired > 0
	colors := make(map[string]string)
	for i := range r.Categories {
		id := r.Categories[i].Category
		color := "rest"
		if i < pageColors {
			color = "c" + strconv.Itoa(i)
		}
		colors[id] = color
		p.categories(r, &r.Categories[i], color)
	}
	p.ByCategory = categoryChart(&c, r.Categories, colors)
	small := r.Trend.course(160)
	for i := range r.Categories {
		c := &r.Categories[i]
		p.explain(r, &small, c, colors[c.Category], i < pageOpen)
	}
	p.names("Providers", "provider", r.Providers, otherName)
	p.names("Sender domains", "sender domain", r.SenderDomains, senderName)
	p.names("Recipient domains", "recipient domain", r.RecipientDomains, otherName)
	return p
}

func (p *pageData) outcomes(r *Report) {
	x := 0.0
	for _, o := range r.shares() {
		card := outcomeCard{Name: o.name, Count: count(o.n)}
		if o.name == "expired" {
			if o.n == 0 {
				continue
			}
			card.Share = "messages given up"
		} else {
			card.Share = percent(o.n, r.Attempts)
			card.X, card.Width = x, barLength(o.n, r.Attempts)
			x += card.Width
		}
		p.Outcomes = append(p.Outcomes, card)
	}
}

// barLength is a share of 1000.
func barLength(n, of int64) float64 {
	if of <= 0 {
		return 0
	}
	return 1000 * float64(n) / float64(of)
}

func (p *pageData) categories(r *Report, c *Category, color string) {
	name := otherName(c.Category)
	p.Categories = append(p.Categories, categoryRow{
		Name: name, Color: color,
		Attempts: count(c.Attempts), Bounced: count(c.Bounced), Deferred: count(c.Deferred), Expired: count(c.Expired),
		Share: r.share(c), Bar: barLength(c.Attempts, r.Outcomes.Failures()),
		Providers: places(c.Providers, otherName), SenderDomains: places(c.SenderDomains, senderName),
	})
}

// places lists the most frequent names with their shares.
func places(counts map[string]int64, show func(string) string) []place {
	all := tallies(counts, show)
	var total int64
	for _, t := range all {
		total += t.n
	}
	var top []place
	for _, t := range all[:min(len(all), 3)] {
		top = append(top, place{t.name, roundPercent(t.n, total)})
	}
	return top
}

func (p *pageData) explain(r *Report, trend *course, c *Category, color string, open bool) {
	name := otherName(c.Category)
	e := explanation{
		Name: name, Color: color, Summary: r.summary(c), Open: open,
		Meaning: c.Meaning, Owner: c.Owner, Advice: c.Advice, Causes: c.causes(),
	}
	for i := range c.Samples {
		e.Samples = append(e.Samples, pageSample{Clean(c.Samples[i].Text), c.Samples[i].source()})
	}
	if peak := r.Trend.peak(c.Category); peak != nil && len(trend.slots) > 1 {
		e.Peak = r.Trend.peakText(c.Category, peak)
		e.Trend = newChart(trend, "Course of "+name, []layer{{name, color, trend.of(c.Category)}})
	}
	p.Explained = append(p.Explained, e)
}

func (p *pageData) names(title, kind string, names []Name, show func(string) string) {
	l := nameList{Title: title, Kind: kind}
	more := 0
	for i := range names {
		n := &names[i]
		if n.Failures()+n.Expired == 0 {
			continue
		}
		if len(l.Rows) == pageNames {
			more++
			continue
		}
		l.Expired = l.Expired || n.Expired > 0
		l.Rows = append(l.Rows, nameRow{
			Name: show(n.Name), Attempts: count(n.Attempts), Failed: count(n.Failures()),
			Ratio: percent(n.Failures(), n.Attempts), Expired: count(n.Expired), Reason: Clean(n.TopCategory),
			Bar: barLength(n.Failures(), n.Attempts),
		})
	}
	if more > 0 {
		l.Remark = "the worst " + strconv.Itoa(pageNames)
	}
	if len(l.Rows) > 0 {
		p.Lists = append(p.Lists, l)
	}
}

// layer is one part of a stacked chart.
type layer struct {
	name, color string
	values      []int64
}

// chart is a stacked chart over time, ready to draw: Slots wide and 1000 high,
// y downwards.
type chart struct {
	Label  string
	Slots  int
	Layers []chartLayer
	Hits   []chartHit
	Lines  []chartLine
	Ticks  []chartTick
	Every  string
}

type chartLayer struct{ Name, Color, Path string }

// chartHit is a slot with what to tell of it.
type chartHit struct {
	X    int
	Text string
}

// chartLine is a horizontal line of the scale; Y is in percent.
type chartLine struct {
	Y    string
	Text string
}

// chartTick is a mark of the time axis; X is in percent.
type chartTick struct {
	X, Text, Class string
}

func outcomeChart(c *course) *chart {
	if len(c.slots) < 2 {
		return nil
	}
	layers := []layer{{name: "bounced", color: "bounced"}, {name: "deferred", color: "deferred"}, {name: "delivered", color: "delivered"}}
	for i := range c.slots {
		s := &c.slots[i]
		layers[0].values = append(layers[0].values, s.Bounced)
		layers[1].values = append(layers[1].values, s.Deferred)
		layers[2].values = append(layers[2].values, s.Delivered)
	}
	return newChart(c, "Attempts over time by outcome", layers)
}

// categoryChart stacks failed attempts by category; those without a colour of
// their own share one.
func categoryChart(c *course, categories []Category, colors map[string]string) *chart {
	if len(c.slots) < 2 {
		return nil
	}
	var layers []layer
	rest := layer{name: "all others", color: "rest", values: make([]int64, len(c.slots))}
	others := false
	for i := range categories {
		id := categories[i].Category
		if color := colors[id]; color != rest.color {
			layers = append(layers, layer{otherName(id), color, c.of(id)})
			continue
		}
		others = true
		for k, n := range c.of(id) {
			rest.values[k] += n
		}
	}
	if others {
		layers = append(layers, rest)
	}
	return newChart(c, "Failures over time by category", layers)
}

func newChart(c *course, label string, layers []layer) *chart {
	h := &chart{Label: label, Slots: len(c.slots), Every: every(c.step)}
	sums := make([]int64, len(c.slots))
	for _, l := range layers {
		for i, v := range l.values {
			sums[i] += v
		}
	}
	var top int64
	for _, n := range sums {
		top = max(top, n)
	}
	top = roundUp(top)
	gap := 0.0
	if len(c.slots) <= 100 {
		gap = 0.12
	}
	base := make([]float64, len(c.slots))
	for _, l := range layers {
		var path strings.Builder
		for i, v := range l.values {
			if v == 0 {
				continue
			}
			height := 1000 * float64(v) / float64(top)
			y := 1000 - base[i]
			fmt.Fprintf(&path, "M%s %sh%sV%sh-%sz", short(float64(i)+gap/2), short(y), short(1-gap), short(y-height), short(1-gap))
			base[i] += height
		}
		h.Layers = append(h.Layers, chartLayer{l.name, l.color, path.String()})
	}
	for i, n := range sums {
		if n == 0 {
			continue
		}
		text := moment(c.slots[i].Start)
		for _, l := range layers {
			if v := l.values[i]; v > 0 {
				text += "\n" + l.name + ": " + count(v)
			}
		}
		h.Hits = append(h.Hits, chartHit{i, text})
	}
	h.Lines = []chartLine{{"0", count(top)}, {"50", count(top / 2)}}
	h.Ticks = ticks(c)
	return h
}

// short writes a coordinate without needless digits.
func short(f float64) string { return strconv.FormatFloat(f, 'f', -1, 32) }

// roundUp returns the next number that makes a good scale: even, and at most
// half as large again.
func roundUp(n int64) int64 {
	if n <= 10 {
		return max(n+n%2, 2)
	}
	unit := int64(1)
	for unit*100 < n {
		unit *= 10
	}
	for _, m := range []int64{10, 12, 16, 20, 24, 30, 40, 50, 60, 80} {
		if m*unit >= n {
			return m * unit
		}
	}
	return 100 * unit
}

// tickSteps are distances of marks on a time axis.
var tickSteps = []time.Duration{
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour,
	day, 2 * day, 4 * day, 7 * day, 14 * day, 28 * day, 91 * day, 182 * day, 364 * day,
}

const day = 24 * time.Hour

// ticks places up to eight marks at round times.
func ticks(c *course) []chartTick {
	span := time.Duration(len(c.slots)) * c.step
	step := tickSteps[len(tickSteps)-1]
	for _, s := range tickSteps {
		if span/s <= 8 {
			step = s
			break
		}
	}
	var all []chartTick
	end := c.start.Add(span)
	for t, n := c.start.Truncate(step), 0; t.Before(end) && n < 16; t = t.Add(step) {
		if t.Before(c.start) {
			continue
		}
		at := 100 * float64(t.Sub(c.start)) / float64(span)
		class := ""
		if t.Unix()/int64(step/time.Second)%2 != 0 {
			class = "minor" // left out on phones; midnight never is
		}
		switch {
		case at < 4:
			class += " first"
		case at > 94:
			continue // no room for its text
		}
		text := t.Format("Jan 2")
		if step < day && t.Hour() != 0 {
			text = t.Format("15:04")
		} else if step > 28*day {
			text = t.Format("Jan 2006")
		}
		all = append(all, chartTick{strconv.FormatFloat(at, 'f', 2, 64), text, cmp.Or(strings.TrimSpace(class), "major")})
		n++
	}
	return all
}
