package spike

import "math"

// maxOver is the longest time over which limits are taken, in minutes.
const maxOver = 60

// bucket is how many minutes the long windows of burn rates are made of.
const bucket = 5

// burns are the pairs of windows of the SRE workbook, chapter 5, in minutes: both
// must burn the budget this many times too fast.
var burns = []struct {
	long, short int
	times       float64
	severity    Severity
}{
	{60, 5, 14.4, Critical},
	{360, 30, 6, Critical},
	{4320, 360, 1, Ticket},
}

// sums is k of n in one minute or bucket.
type sums struct{ k, n float32 }

// meter holds the recent counts of one scope, for the kinds threshold and burn.
type meter struct {
	place
	k, n    float64 // in the minute being judged
	minutes []sums  // the last hour, by minute
	buckets []sums  // the last three days, by five minutes; burn only
	held    int32   // for how many minutes the limits are exceeded
	firing  bool
	below   int32 // for how many minutes they no longer are
}

func newMeter(r *rule, p place) meter {
	t := meter{place: p}
	if r.Kind == Burn {
		t.minutes = make([]sums, 60)
		t.buckets = make([]sums, burns[len(burns)-1].long/bucket)
		return t
	}
	t.minutes = make([]sums, int(r.Threshold.Over.Minutes()))
	return t
}

// over sums the last minutes.
func (t *meter) over(m int32, minutes int) (k, n float64) {
	all, at := t.minutes, int(m)
	if minutes > len(all) {
		all, at, minutes = t.buckets, int(m)/bucket, minutes/bucket
	}
	for i := range min(minutes, len(all)) {
		s := all[((at-i)%len(all)+len(all))%len(all)]
		k += float64(s.k)
		n += float64(s.n)
	}
	return k, n
}

func (d *Detector) judgeMeters(m int32) {
	for i := range d.meters {
		t := &d.meters[i]
		if s := &d.scopes[t.scope]; s.stamp == m {
			t.n = float64(s.n)
		}
		if d.rules[t.rule].foreign {
			t.n += t.k
		}
		t.k = min(t.k, t.n)
		t.minutes[int(m)%len(t.minutes)] = sums{float32(t.k), float32(t.n)}
		if len(t.buckets) > 0 {
			b := &t.buckets[int(m)/bucket%len(t.buckets)]
			if m%bucket == 0 {
				*b = sums{}
			}
			b.k += float32(t.k)
			b.n += float32(t.n)
		}
		d.judgeMeter(m, int32(i))
		t.k, t.n = 0, 0
	}
}

// exceeded reports whether the limits of the rule are exceeded, over how many
// minutes, by k of n, and how severe that is.
func (t *meter) exceeded(m int32, r *rule) (minutes int, k, n float64, limit float64, severity Severity, yes bool) {
	if r.Kind == Burn {
		for _, b := range burns {
			limit = min(b.times*(1-r.Objective), 1)
			k, n = t.over(m, b.long)
			ks, ns := t.over(m, b.short)
			if n >= float64(r.Threshold.MinAttempts) && ns > 0 && k > limit*n && ks > limit*ns {
				return b.long, k, n, limit, b.severity, true
			}
		}
		return 0, 0, 0, 0, "", false
	}
	l := &r.Threshold
	minutes = int(l.Over.Minutes())
	k, n = t.over(m, minutes)
	yes = n >= float64(l.MinAttempts) && (l.Ratio == 0 || k > l.Ratio*n) && (l.PerMinute == 0 || k > l.PerMinute*float64(minutes))
	return minutes, k, n, l.Ratio, "", yes
}

func (d *Detector) judgeMeter(m, i int32) {
	t := &d.meters[i]
	r := &d.rules[t.rule]
	minutes, k, n, limit, severity, yes := t.exceeded(m, r)
	if !yes {
		t.held = 0
		if !t.firing {
			return
		}
		if t.below++; t.below < quiet {
			return
		}
		t.firing = false
		if a := d.meterAlert(i); a != nil {
			d.end(m, a, "below the limit")
		}
		return
	}
	t.below = 0
	t.held = min(t.held+1, math.MaxInt16)
	if t.firing {
		if a := d.meterAlert(i); a != nil {
			a.Failures, a.Attempts, a.data = int64(k), int64(n), m
			a.expected = limit * n
			a.measure()
			if severity == Critical && a.Severity != Critical {
				d.tellAs(m, a, severity)
			}
		}
		return
	}
	if float64(t.held) <= r.Threshold.For.Minutes() {
		return
	}
	a := d.begin(m, m+1-int32(minutes), t.rule, t.category, d.labels(t.rule, t.scope, t.category), r.Kind)
	a.of, a.place = ofMeter, i
	a.Failures, a.Attempts = int64(k), int64(n)
	a.Usual, a.Null, a.expected = limit, limit, limit*n
	a.Threshold = 0
	a.measure()
	t.firing = true
	d.tellAs(m, a, severity)
}

// tellAs tells of an alert whose severity the rule's windows decide, unless the
// rule has one.
func (d *Detector) tellAs(m int32, a *alert, s Severity) {
	a.fixed = s
	d.tell(m, a)
}

func (d *Detector) meterAlert(i int32) *alert {
	for _, a := range d.alerts {
		if a.of == ofMeter && a.place == i && a.State.Open() {
			return a
		}
	}
	return nil
}
