package report

import "time"

// course is a trend without gaps, in few enough slots to draw.
type course struct {
	start time.Time
	step  time.Duration
	slots []Point
}

// course returns the trend in at most limit slots: several slots of the trend
// become one if need be.
func (t *Trend) course(limit int) course {
	if len(t.Points) == 0 || t.StepSeconds <= 0 {
		return course{}
	}
	first := t.Points[0].Start.Unix()
	index := func(p *Point) int64 { return (p.Start.Unix() - first) / t.StepSeconds }
	n := index(&t.Points[len(t.Points)-1]) + 1
	merged := (n + int64(limit) - 1) / int64(limit)
	c := course{
		start: t.Points[0].Start,
		step:  time.Duration(merged*t.StepSeconds) * time.Second,
		slots: make([]Point, (n+merged-1)/merged),
	}
	for i := range c.slots {
		c.slots[i] = Point{Start: c.start.Add(time.Duration(i) * c.step), Categories: make(map[string]int64)}
	}
	for i := range t.Points {
		p := &t.Points[i]
		c.slots[index(p)/merged].merge(p)
	}
	return c
}

// of returns the counts of one category.
func (c *course) of(category string) []int64 {
	values := make([]int64, len(c.slots))
	for i := range c.slots {
		values[i] = c.slots[i].Categories[category]
	}
	return values
}

// peak returns the slot where a category was most frequent, the first of
// several, or nil if there is none.
func (t *Trend) peak(category string) *Point {
	var best *Point
	for i := range t.Points {
		p := &t.Points[i]
		if n := p.Categories[category]; n > 0 && (best == nil || n > best.Categories[category]) {
			best = p
		}
	}
	return best
}
