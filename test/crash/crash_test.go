// Package crash kills the real program at random moments while its log grows
// and rotates, and compares what it counted with a one-shot count.
package crash

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/test/internal/oracle"
	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

// crashes is how often the program is killed: CRASHES, or a few.
func crashes(t *testing.T) int {
	if s := os.Getenv("CRASHES"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("CRASHES: %v", err)
		}
		return n
	}
	return 4
}

func TestCountsAreExactAfterCrashes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills the program several times")
	}
	n := crashes(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("%d crashes, seed %d", n, seed)
	random := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	w := rig.NewWriter(t, dir, seed)
	site := rig.NewSite(t, rig.Build(t, ""), dir, rig.Tail(w.Path)+"limits: {commit_every: 100ms}")

	ctx, stop := context.WithCancel(t.Context())
	written := make(chan error, 1)
	go func() { written <- w.Run(ctx) }()

	terms := 0
	for range n {
		d := site.Start(t)
		<-time.After(time.Duration(20+random.IntN(1200)) * time.Millisecond)
		if random.IntN(5) == 0 {
			terms++
			d.Stop(t)
			continue
		}
		d.Kill(t)
	}
	stop()
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes written, %d rotations, %d SIGTERMs", w.Bytes, w.Rotations, terms)

	want, err := oracle.CountFiles(w.All)
	if err != nil {
		t.Fatal(err)
	}
	d := site.Start(t)
	d.Counts(t, want.Lines)
	<-time.After(time.Second) // nothing more may come
	d.Stop(t)
	site.Exact(t, w.All)
}
