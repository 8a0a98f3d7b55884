package detectbench

import "math"

// plain is a detector as people write them first: a condition on the counts of
// one series. An alert lasts while it is true and for keepFiring minutes more.
type plain struct {
	name string
	// start returns the condition for a new series: k of n failed in the minute m.
	start func() func(m int, k, n float64) bool
}

// keepFiring spares the plain detectors flapping, for nothing.
const keepFiring = 10

// plains are the detectors that the one of package spike has to be better than.
var plains = []plain{
	{"more than 1 a minute, for 5", func() func(int, float64, float64) bool {
		w := window{size: 5}
		return func(m int, k, n float64) bool { w.add(m, k, n); return w.k > 5 }
	}},
	{"more than 10 a minute, for 5", func() func(int, float64, float64) bool {
		w := window{size: 5}
		return func(m int, k, n float64) bool { w.add(m, k, n); return w.k > 50 }
	}},
	{"more than 5%, for 5", func() func(int, float64, float64) bool { return ratioAbove(0.05, 1) }},
	{"more than 10% of 50, for 5", func() func(int, float64, float64) bool { return ratioAbove(0.10, 50) }},
	{"burn rate 14.4 and 6, objective 99%", burnRate},
	{"EWMA of counts, z > 6", func() func(int, float64, float64) bool {
		var e ewma
		return func(_ int, k, _ float64) bool { return e.z(k) > 6 }
	}},
	{"EWMA of the ratio of 5, z > 6", func() func(int, float64, float64) bool { return ewmaRatio(6) }},
	{"EWMA of the ratio of 5, z > 10", func() func(int, float64, float64) bool { return ewmaRatio(10) }},
	{"MAD of a day, z > 6", medianDeviation},
	{"binomial tail of 5, 1e-6", func() func(int, float64, float64) bool { return binomialTail(1e-6) }},
	{"binomial tail of 5, 1e-12", func() func(int, float64, float64) bool { return binomialTail(1e-12) }},
}

// window sums the last minutes.
type window struct {
	size   int
	ks, ns []float64
	k, n   float64
}

func (w *window) add(m int, k, n float64) {
	if w.ks == nil {
		w.ks, w.ns = make([]float64, w.size), make([]float64, w.size)
	}
	i := m % w.size
	w.k += k - w.ks[i]
	w.n += n - w.ns[i]
	w.ks[i], w.ns[i] = k, n
}

// ratioAbove is true if the limit is exceeded in each of 5 minutes with attempts,
// of at least some number over all.
func ratioAbove(limit, least float64) func(int, float64, float64) bool {
	w := window{size: 5}
	held := 0
	return func(m int, k, n float64) bool {
		w.add(m, k, n)
		if n > 0 {
			held++
			if k <= limit*n {
				held = 0
			}
		}
		return held >= 5 && w.n >= least
	}
}

// burnRate is that of the SRE workbook, chapter 5: 14.4 over 1 h and 5 min, or 6
// over 6 h and 30 min.
func burnRate() func(int, float64, float64) bool {
	h1, m5, h6, m30 := window{size: 60}, window{size: 5}, window{size: 360}, window{size: 30}
	return func(m int, k, n float64) bool {
		above := func(w *window, times float64) bool { return w.n > 0 && w.k > times*0.01*w.n }
		for _, w := range []*window{&h1, &m5, &h6, &m30} {
			w.add(m, k, n)
		}
		return above(&h1, 14.4) && above(&m5, 14.4) || above(&h6, 6) && above(&m30, 6)
	}
}

// ewma keeps the mean and variance of a day, exponentially weighted.
type ewma struct{ mean, variance, weight float64 }

func (e *ewma) z(x float64) float64 {
	const alpha = 1.0 / day
	z := 0.0
	if e.weight > 0.1 {
		z = (x - e.mean) / math.Sqrt(e.variance+1e-9)
	}
	a := max(alpha, alpha/(e.weight+alpha))
	off := x - e.mean
	e.mean += a * off
	e.variance = (1 - a) * (e.variance + a*off*off)
	e.weight += (1 - e.weight) * alpha
	return z
}

func ewmaRatio(limit float64) func(int, float64, float64) bool {
	var e ewma
	w := window{size: 5}
	return func(m int, k, n float64) bool {
		if w.add(m, k, n); w.n <= 0 {
			return false
		}
		return e.z(w.k/w.n) > limit && w.k >= 5
	}
}

// medianDeviation compares with the median of a day, in median absolute
// deviations of at least one failure.
func medianDeviation() func(int, float64, float64) bool {
	var ring [day]uint8
	var counts [64]int
	total := 0
	return func(m int, k, _ float64) bool {
		var middle, deviation int
		for sum := 0; middle < 63; middle++ {
			if sum += counts[middle]; 2*sum > total {
				break
			}
		}
		for sum := counts[middle]; 2*sum <= total && deviation < 63; {
			deviation++
			for _, i := range []int{middle - deviation, middle + deviation} {
				if i >= 0 && i < len(counts) {
					sum += counts[i]
				}
			}
		}
		i := m % day
		if total == day {
			counts[ring[i]]--
			total--
		}
		ring[i] = uint8(min(k, 63))
		counts[ring[i]]++
		total++
		return total > day/8 && k-float64(middle) > 6*1.4826*max(1, float64(deviation))
	}
}

// binomialTail is true if what the last 5 minutes had is that unlikely, by the
// ratio of the days before (a half-life of 3 days, and one failure at 0.2%).
func binomialTail(limit float64) func(int, float64, float64) bool {
	w := window{size: 5}
	a, b := 1.0, 500.0
	fade := math.Exp2(-1.0 / (3 * day))
	return func(m int, k, n float64) bool {
		w.add(m, k, n)
		mean := w.n * a / b
		// Bound of Chernoff, which is near the tail where it is small.
		yes := w.k >= 5 && w.k > mean && -(w.k*math.Log(w.k/mean)-(w.k-mean)) < math.Log(limit)
		a, b = (a-1)*fade+1+k, (b-500)*fade+500+n
		return yes
	}
}
