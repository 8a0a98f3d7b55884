package report

import (
	"crypto/sha256"
	_ "embed" // for the page's template and style
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strconv"

	"github.com/bouncemeter/bouncemeter/internal/chart"
)

//go:embed report.html
var pageText string

// Style is the style sheet of the page: colours, tables and the like. Charts need
// chart.Style, too.
//
//go:embed report.css
var Style string

var pageStyle = Style + chart.Style

// page is the template of the page. What it shows of remote texts is cleaned
// first and then escaped by the template.
var page = template.Must(template.Must(template.New("report").Parse(chart.Template)).Parse(pageText))

// Policy is the Content-Security-Policy of the page: it allows the page its own
// style and nothing else, no script and no request.
var Policy = func() string {
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
	Attempts *chart.Chart

	Failures   string
	Categories []categoryRow
	Expired    bool
	ByCategory *chart.Chart
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
	Trend                  *chart.Chart
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
		Policy:  Policy,
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
		e.Trend = chart.Stacked(trend.axis(), "Course of "+name, []chart.Layer{{Name: name, Color: color, Values: trend.of(c.Category)}})
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

// axis is the time of a chart of c.
func (c *course) axis() chart.Axis {
	return chart.Axis{Start: c.start, Step: c.step, Slots: len(c.slots)}
}

func outcomeChart(c *course) *chart.Chart {
	layers := []chart.Layer{{Name: "bounced", Color: "bounced"}, {Name: "deferred", Color: "deferred"}, {Name: "delivered", Color: "delivered"}}
	for i := range c.slots {
		s := &c.slots[i]
		layers[0].Values = append(layers[0].Values, s.Bounced)
		layers[1].Values = append(layers[1].Values, s.Deferred)
		layers[2].Values = append(layers[2].Values, s.Delivered)
	}
	return chart.Stacked(c.axis(), "Attempts over time by outcome", layers)
}

// categoryChart stacks failed attempts by category; those without a colour of
// their own share one.
func categoryChart(c *course, categories []Category, colors map[string]string) *chart.Chart {
	var layers []chart.Layer
	rest := chart.Layer{Name: "all others", Color: "rest", Values: make([]int64, len(c.slots))}
	others := false
	for i := range categories {
		id := categories[i].Category
		if color := colors[id]; color != rest.Color {
			layers = append(layers, chart.Layer{Name: otherName(id), Color: color, Link: "#" + otherName(id), Values: c.of(id)})
			continue
		}
		others = true
		for k, n := range c.of(id) {
			rest.Values[k] += n
		}
	}
	if others {
		layers = append(layers, rest)
	}
	return chart.Stacked(c.axis(), "Failures over time by category", layers)
}
