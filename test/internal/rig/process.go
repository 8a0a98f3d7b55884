package rig

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Resources is what a process takes.
type Resources struct {
	RSS, Peak   int64 // bytes
	Descriptors int
	Threads     int
	CPU         float64 // seconds
}

// Measure returns what a process takes, as Linux tells it.
func Measure(pid int) (r Resources, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return r, err
	}
	field := func(name string) int64 {
		_, rest, _ := strings.Cut(string(status), "\n"+name+":")
		n, _ := strconv.ParseInt(strings.Fields(rest + " 0")[0], 10, 64)
		return n
	}
	r.RSS, r.Peak, r.Threads = field("VmRSS")<<10, field("VmHWM")<<10, int(field("Threads"))
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return r, err
	}
	r.Descriptors = len(open)
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return r, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	if f := strings.Fields(rest); len(f) > 12 { // utime and stime, in hundredths of a second
		user, _ := strconv.ParseFloat(f[11], 64)
		system, _ := strconv.ParseFloat(f[12], 64)
		r.CPU = (user + system) / 100
	}
	return r, nil
}
