package web

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/bouncemeter/bouncemeter/ledger"
	"github.com/bouncemeter/bouncemeter/ledger/cache"
)

const (
	// maxWatchers bounds the browsers that are told of changes; others can still
	// reload.
	maxWatchers = 200
	// leastPause is between two messages to a browser.
	leastPause = 5 * time.Second
	// keepAlive is how often a browser hears something in any case, so that
	// what is between does not give the connection up.
	keepAlive = 30 * time.Second
)

// hub tells browsers that something has changed.
type hub struct {
	mu       sync.Mutex
	wake     chan struct{} // closed at the next change, and then replaced
	changes  uint64
	watchers int
	done     chan struct{} // closed when the server ends
	once     sync.Once
}

func newHub() *hub { return &hub{wake: make(chan struct{}), done: make(chan struct{})} }

// changed wakes all who wait.
func (h *hub) changed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changes++
	close(h.wake)
	h.wake = make(chan struct{})
}

func (h *hub) wait() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.wake
}

// version is another one after each change.
func (h *hub) version() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changes
}

func (h *hub) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers >= maxWatchers {
		return false
	}
	h.watchers++
	return true
}

func (h *hub) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watchers--
}

func (h *hub) close() { h.once.Do(func() { close(h.done) }) }

// events is a stream of server-sent events (the HTML standard, chapter 9.2): one
// named "change" after something was counted or an alert has changed, at most
// every few seconds. The page then asks for itself again.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	if !s.live.enter() {
		w.Header().Set("Retry-After", "60")
		http.Error(w, "too many pages are open; reload to see what is new", http.StatusServiceUnavailable)
		return
	}
	defer s.live.leave()
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy must not hold it back
	say := func(text string) bool {
		// The server's limit is for answers that end; not all writers have one.
		_ = control.SetWriteDeadline(time.Now().Add(2 * keepAlive))
		if _, err := fmt.Fprint(w, text); err != nil {
			return false
		}
		return control.Flush() == nil
	}
	if !say("retry: 10000\n\n") {
		return
	}
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	pause := time.NewTimer(0) // runs while nothing may be told
	defer pause.Stop()
	changed, resting := s.live.wait(), true
	for {
		var wake <-chan struct{}
		if !resting {
			wake = changed
		}
		select {
		case <-r.Context().Done():
			return
		case <-s.live.done:
			return
		case <-alive.C:
			if !say(":\n\n") {
				return
			}
		case <-pause.C:
			resting = false
		case <-wake:
			changed, resting = s.live.wait(), true
			pause.Reset(leastPause)
			if !say("event: change\ndata:\n\n") {
				return
			}
		}
	}
}

// Run keeps the memory that pages answer from warm, and watches the alerts,
// until ctx is done; then it ends all streams of events.
func (s *Server) Run(ctx context.Context) error {
	defer s.live.close()
	warm := time.NewTimer(0)
	defer warm.Stop()
	alerts := time.NewTicker(leastPause)
	defer alerts.Stop()
	last := int64(-1)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-warm.C:
			if err := s.warm(ctx); err != nil && ctx.Err() == nil {
				s.o.Log.Warn("load counts for the page", "err", err)
			}
			warm.Reset(time.Minute)
		case <-alerts.C:
			if now := s.lastAlert(ctx, last); now != last {
				if last >= 0 {
					s.live.changed()
				}
				last = now
			}
		}
	}
}

// lastAlert returns the number of the last change of an alert.
func (s *Server) lastAlert(ctx context.Context, after int64) int64 {
	for {
		changes, err := s.o.Ledger.Alerts(ctx, ledger.AlertFilter{After: max(after, 0), Limit: 1000})
		if err != nil || len(changes) == 0 {
			return max(after, 0)
		}
		after = changes[len(changes)-1].Seq
	}
}

// warm loads what the pages of the ranges that are offered need. What is usual
// for them is in the same slots.
func (s *Server) warm(ctx context.Context) error {
	now := s.o.Now().Unix()
	end := (now + cache.Finest - 1) / cache.Finest * cache.Finest
	for _, w := range []struct{ length, step int64 }{{day, cache.Finest}, {15 * day, 3600}, {60 * day, day}} {
		from := max((end-w.length)/max(w.step, 3600)*max(w.step, 3600), 0)
		if err := s.cache.Warm(ctx, from, end, w.step); err != nil {
			return err
		}
	}
	return nil
}
