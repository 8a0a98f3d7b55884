package smtp

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	// defaultMaxBytes is what may wait in a Maildir.
	defaultMaxBytes = 1 << 30
	// block is what the smallest message takes on a disk. Counted so, the bound
	// is also one of how many messages wait.
	block = 4 << 10
	// remeasure is how often a full Maildir is looked through: somebody may have
	// made room by hand.
	remeasure = time.Minute
	// stale is after how long a message in tmp is given up, as
	// https://cr.yp.to/proto/maildir.html says: who wrote it is gone.
	stale = 36 * time.Hour
)

// room is what a Maildir may hold that is not counted yet, messages under way
// included.
type room struct {
	dir string
	max int64

	mu       sync.Mutex
	waiting  int64 // bytes in new, in whole blocks
	reserved int64 // for messages under way
	measured time.Time
}

// begin looks at what waits already, and removes what was left in tmp.
func (r *room) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.measure()
	tmp := filepath.Join(r.dir, "tmp")
	entries, _ := os.ReadDir(tmp) // a Maildir that does not exist yet is made later
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > stale {
			_ = os.Remove(filepath.Join(tmp, e.Name()))
		}
	}
}

// measure finds out what waits. If the folder cannot be read, what was known
// stays: who delivers into it will be told why.
func (r *room) measure() {
	r.measured = time.Now()
	entries, err := os.ReadDir(filepath.Join(r.dir, "new"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return
	}
	r.waiting = 0
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			r.waiting += blocks(info.Size())
		}
	}
}

// blocks rounds n up to whole blocks.
func blocks(n int64) int64 { return (n + block - 1) / block * block }

// take reserves room for a message of n bytes, if there is any.
func (r *room) take(n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.fits(n) {
		return false
	}
	r.reserved += blocks(n)
	return true
}

// has reports whether there is room for a message of n bytes.
func (r *room) has(n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fits(n)
}

func (r *room) fits(n int64) bool {
	fits := func() bool { return r.waiting+r.reserved+blocks(n) <= r.max }
	if !fits() && time.Since(r.measured) >= remeasure {
		r.measure()
	}
	return fits()
}

// stored ends what take reserved for n bytes, of which kept are in new now.
func (r *room) stored(n, kept int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reserved -= blocks(n)
	r.waiting += blocks(kept)
}

// removed tells that a message of n bytes is no longer in new.
func (r *room) removed(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = max(r.waiting-blocks(n), 0)
}
