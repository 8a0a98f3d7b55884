package main

import (
	"bytes"
	"fmt"
	"math"
	"strings"

	"github.com/dustin/go-humanize"
)

// The chart is plain SVG that stands alone, legible on light and dark pages.
const (
	panelWidth, panelHeight = 330, 190
	gapX, gapY              = 70, 70
	ink, grid, blue         = "#6b7280", "#6b728040", "#2f7ed8"
)

// costChart draws four panels: CPU time a GB and memory, against size and against
// domains. Flat is good in all of them.
func costChart(size, domains []point) []byte {
	var b bytes.Buffer
	width, height := 2*(panelWidth+gapX)+30, 2*(panelHeight+gapY)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" role="img" aria-label="What a report costs against the size of the log and the number of domains">`+"\n", width, height)
	cpu := func(p point) float64 { return p.cpu }
	peak := func(p point) float64 { return p.peak }
	bytesOf := func(x float64) string { return humanize.SIWithDigits(x, 0, "B") }
	count := func(x float64) string { return humanize.Comma(int64(x)) }
	for i, p := range []struct {
		title, below string
		points       []point
		y            func(point) float64
		label        func(float64) string
	}{
		{"CPU seconds a GB", "size of the log", size, cpu, bytesOf},
		{"CPU seconds a GB", "domains that mail goes to", domains, cpu, count},
		{"peak memory, MB", "size of the log", size, peak, bytesOf},
		{"peak memory, MB", "domains that mail goes to", domains, peak, count},
	} {
		fmt.Fprintf(&b, `<g transform="translate(%d %d)">`+"\n", 50+i%2*(panelWidth+gapX), 30+i/2*(panelHeight+gapY))
		panel(&b, p.title, p.below, p.points, p.y, p.label)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// panel draws one curve, over a logarithmic scale from its first point to its
// last, upwards from nought.
func panel(b *bytes.Buffer, title, below string, points []point, y func(point) float64, label func(float64) string) {
	most := 0.0
	for _, p := range points {
		most = max(most, y(p))
	}
	step := niceStep(most)
	top := step * math.Ceil(most*1.1/step)
	left, right := math.Log(points[0].x), math.Log(points[len(points)-1].x)
	at := func(p point) (float64, float64) {
		return (math.Log(p.x) - left) / (right - left) * panelWidth, panelHeight * (1 - y(p)/top)
	}
	text := func(x, y float64, anchor, s string) {
		fmt.Fprintf(b, `<text x="%.0f" y="%.0f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, ink, s)
	}
	text(0, -12, "start", title)
	text(panelWidth, -12, "end", "by "+below)
	for v := 0.0; v <= top*1.001; v += step {
		height := panelHeight * (1 - v/top)
		fmt.Fprintf(b, `<line x1="0" x2="%d" y1="%.1f" y2="%.1f" stroke="%s"/>`+"\n", panelWidth, height, height, grid)
		text(-6, height+4, "end", humanize.Ftoa(math.Round(v*100)/100))
	}
	var line strings.Builder
	for i, p := range points {
		x, height := at(p)
		fmt.Fprintf(&line, "%c%.1f %.1f", "ML"[min(i, 1)], x, height)
		text(x, panelHeight+18, "middle", label(p.x))
	}
	fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", line.String(), blue)
	for _, p := range points {
		x, height := at(p)
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"><title>%s: %.2f</title></circle>`+"\n", x, height, blue, label(p.x), y(p))
	}
}

// niceStep is 1, 2 or 5 times a power of ten, such that a few of it reach most.
func niceStep(most float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(most/2)))
	for _, times := range []float64{1, 2, 5} {
		if most/(unit*times) <= 5 {
			return unit * times
		}
	}
	return unit * 10
}
