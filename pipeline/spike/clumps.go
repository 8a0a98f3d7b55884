package spike

import "math"

// Failures come in clumps: one bad list, one connection, retries that look like
// new messages. A clump tells that there was one, be it small or large, so evidence
// counts clumps. The dispersion, which is learned anyway, says how large they are:
// where they are of one failure with a probability of p, of two with p(1-p) and so
// on, counts vary 2/p-1 times as much as by chance (the law of Pólya and Aeppli).

// alone is the probability that a clump is of one failure only.
func alone(phi float64) float64 { return 2 / (phi + 1) }

// mostSteps bounds what a count costs. Larger ones are taken for as many times
// mostSteps.
const mostSteps = 64

// clumps is of how many clumps k failures are, as far as they tell whether x or
// y are usual: each clump makes y better than x by a factor of y/x. It is less than
// k unless each failure comes alone.
func clumps(k, x, y, alone float64) float64 {
	if k <= 1 || alone > 0.999 {
		return k
	}
	times := max(1, k/mostSteps)
	k, x, y = k/times, x/times*alone*alone, y/times*alone*alone
	// The probabilities of k and of k-1 have the ratio r (by x) or s (by y).
	more := 1 - alone
	r, s, odds := x, y, y/x
	for i := 2.0; i <= k; i++ {
		r = (x + 2*more*(i-1) - float64(more*more*(i-2)/r)) / i
		s = (y + 2*more*(i-1) - float64(more*more*(i-2)/s)) / i
		odds *= s / r
	}
	return times * min(k, math.Log(odds)/math.Log(y/x)) // infinite odds, too, are of k at most
}

// odds is the evidence of k failures in n attempts that the ratio is high rather
// than low: the logarithm of how much better it fits, where counts vary phi times
// as much as by chance.
func odds(k, n, low, high, phi float64) float64 {
	p := alone(phi)
	c := clumps(k, n*low, n*high, p)
	return float64(c*math.Log(high/low)) + float64(p*(n-k)*math.Log((1-high)/(1-low)))
}
