//go:build failpoint

package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// target is the step to end at, and how many times to let pass first.
var target = sync.OnceValues(func() (Point, *atomic.Int64) {
	n, name, found := strings.Cut(os.Getenv("FAILPOINT"), "@")
	left, err := strconv.ParseInt(n, 10, 64)
	if !found || err != nil {
		return "", nil
	}
	var a atomic.Int64
	a.Store(left)
	return Point(name), &a
})

// Hit ends the process if this is the step to end at.
func (p Point) Hit() {
	if name, left := target(); left == nil || name != p || left.Add(-1) != 0 {
		return
	}
	fmt.Fprintf(os.Stderr, "failpoint %s\n", p)
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // until it arrives
}
