package crash

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

// Providers send events until they are answered with 200, and some twice. The
// program is killed meanwhile, also between receipt and answer: each event counts
// once in the end.
func TestReceivedEventsCountOnceAfterCrashes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills the program several times")
	}
	n := crashes(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("%d crashes, seed %d", n, seed)
	random := rand.New(rand.NewPCG(seed, 2))
	dir := t.TempDir()
	address := rig.FreeAddress(t)
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	site := rig.NewSite(t, rig.Build(t, ""), dir, fmt.Sprintf(`
sources:
  - {name: events, kind: webhook, dialect: postal, verify: token, listen: "%s", url_path: /events, secret_file: token}
limits: {commit_every: 100ms}`, address))
	d := site.Start(t)

	ctx, stop := context.WithCancel(t.Context())
	providers := rig.StartProviders(ctx, "http://"+address+"/events", seed)

	for range n {
		<-time.After(time.Duration(100+random.IntN(900)) * time.Millisecond)
		d.Kill(t)
		d = site.Start(t)
	}
	stop()
	total := providers.Sent()
	t.Logf("%d events", total)
	counted := func() int64 { return rig.Report(t, site.Binary, "--ledger", site.Ledger).Outcomes["bounced"] }
	d.Eventually(t, "all events are counted", func() bool {
		return site.Metric("bouncemeter_config_last_reload_successful") == 1 && counted() >= total
	})
	<-time.After(time.Second) // nothing more may come
	d.Stop(t)
	if got := counted(); got != total {
		t.Errorf("%v events are counted, %d were sent", got, total)
	}
	if files, err := filepath.Glob(filepath.Join(dir, "spool", "events", "*.spool")); err != nil || len(files) != 1 {
		t.Errorf("the spool has files %v, %v", files, err)
	}
}
