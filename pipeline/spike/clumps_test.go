package spike

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// logLikelihood is that of k failures, up to what does not depend on x, if clumps
// come by chance, x failures are usual and a clump is of one failure with the
// probability p: the sum over all numbers of clumps.
func logLikelihood(k int, x, p float64) float64 {
	lambda := x * p // clumps
	if k == 0 {
		return -lambda
	}
	sum := 0.0
	for j := 1; j <= k; j++ {
		gamma := func(n int) float64 { v, _ := math.Lgamma(float64(n)); return v }
		ways := gamma(k) - gamma(j) - gamma(k-j+1) // k failures in j clumps
		sum += math.Exp(float64(j)*math.Log(lambda) - gamma(j+1) + ways + float64(j)*math.Log(p) + float64(k-j)*math.Log(1-p))
	}
	return -lambda + math.Log(sum)
}

// Evidence is the ratio of likelihoods, so the mean of its factor is 1 as long as
// all is as usual, and a budget of false alarms holds however failures clump.
func TestOddsAreThoseOfClumps(t *testing.T) {
	const n = 1e9 // attempts of which next to none fails
	for _, phi := range []float64{1.1, 1.5, 3, 8} {
		for _, x := range []float64{0.01, 0.3, 4} {
			for _, times := range []float64{2, 4, 30} {
				for _, k := range []int{0, 1, 2, 5, 20, mostSteps} {
					want := logLikelihood(k, times*x, alone(phi)) - logLikelihood(k, x, alone(phi))
					got := odds(float64(k), n, x/n, times*x/n, phi)
					if math.Abs(got-want) > 1e-5*(1+math.Abs(want)) {
						t.Errorf("%d failures where %v are usual, %v times, dispersion %v: odds %v, want %v", k, x, times, phi, got, want)
					}
				}
			}
		}
	}
}

func TestOddsWithoutClumpsAreBinomial(t *testing.T) {
	for _, k := range []float64{0, 1, 7, 300} {
		want := k*math.Log(0.4/0.1) + (500-k)*math.Log(0.6/0.9)
		if got := odds(k, 500, 0.1, 0.4, 1); math.Abs(got-want) > 1e-9*math.Abs(want) {
			t.Errorf("%v of 500: odds %v, want %v", k, got, want)
		}
	}
}

func TestClumps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := float64(rapid.IntRange(1, 5000).Draw(t, "failures"))
		x := rapid.Float64Range(1e-9, 1e4).Draw(t, "usual")
		y := x * rapid.Float64Range(1.1, 1e6).Draw(t, "times")
		p := alone(rapid.Float64Range(1, 1000).Draw(t, "dispersion"))
		c := clumps(k, x, y, p)
		if !(c >= 0.999 && c <= k) {
			t.Fatalf("%v failures are of %v clumps", k, c)
		}
		if more := clumps(k+1, x, y, p); k != mostSteps && !(more >= c-1e-6*c) {
			t.Fatalf("%v failures are of %v clumps, one more of %v", k, c, more)
		}
	})
}
