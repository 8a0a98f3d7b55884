// Package memory bounds the memory of the real program.
package memory

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bouncemeter/bouncemeter/test/internal/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

// The daemon with a million messages in the queue, all of them deferred once,
// to a hundred thousand recipient domains, stays under 150 MB.
func TestMillionQueueIDs(t *testing.T) {
	if testing.Short() {
		t.Skip("reads half a gigabyte")
	}
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("needs /proc to see the memory of a process")
	}
	const ids, domains, deferred, limit = 1_000_000, 100_000, 100_000, 150 << 20
	dir := t.TempDir()
	log := filepath.Join(dir, "mail.log")
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	start := time.Now().Add(-20 * time.Hour)
	last, lines := start.Add(ids*60*time.Millisecond), 0
	for i := range ids {
		now := start.Add(time.Duration(i) * 60 * time.Millisecond).Format("2006-01-02T15:04:05.000000Z07:00")
		fmt.Fprintf(w, "%s mx1 postfix/qmgr[1]: %X: from=<a@s%d.example>, size=1, nrcpt=1 (queue active)\n", now, 0x10000000+i, i%50)
		lines++
		if i%(ids/deferred) == 0 {
			fmt.Fprintf(w, "%s mx1 postfix/smtp[2]: %X: to=<x@r%d.example>, relay=none, delay=1, delays=0/0/1/0, dsn=4.4.1, status=deferred (connect to mx.r%d.example[192.0.2.1]:25: Connection timed out)\n",
				now, 0x10000000+i, i/(ids/deferred)%domains, i%domains)
			lines++
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	site := rig.NewSite(t, rig.Build(t, ""), dir, fmt.Sprintf("sources: [{name: mta1, kind: tail, paths: [%s]}]", log))
	for _, round := range []string{"first start", "restart"} {
		d := site.Start(t)
		d.Counts(t, int64(lines))
		if round == "restart" { // its metrics are those of before, until it has the queue ids again
			d.Eventually(t, "the queue ids are restored", func() bool {
				return strings.Contains(d.Output(), fmt.Sprintf("messages=%d deferred=%d", ids, deferred))
			})
		}
		d.Eventually(t, "all but the last minutes are judged", func() bool { // the last that may make memory grow
			return int64(site.Sum("bouncemeter_detector_position_timestamp_seconds")) > last.Add(-2*time.Minute).Unix()
		})
		used, err := rig.Measure(d.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		d.Stop(t)
		t.Logf("%s: %d MB at the most", round, used.Peak>>20)
		if used.Peak > limit {
			t.Errorf("%s: %d MB at the most, the limit is %d MB", round, used.Peak>>20, limit>>20)
		}
	}
}
