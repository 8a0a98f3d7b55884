package kafka

import (
	"sync"
	"time"
)

// noticeEvery is how often a trouble that lasts is logged.
const noticeEvery = time.Minute

// notices keeps the log readable: one message a minute about each trouble, and
// one when it is over.
type notices struct {
	mu  sync.Mutex
	all map[string]*notice
}

type notice struct {
	last  time.Time // when it was last logged
	lasts bool
}

// due reports whether the trouble that key names is to be logged now.
func (n *notices) due(key string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	t, now := n.all[key], time.Now()
	if t == nil {
		if n.all == nil {
			n.all = make(map[string]*notice)
		}
		t = new(notice)
		n.all[key] = t
	} else if now.Sub(t.last) < noticeEvery {
		return false
	}
	t.last, t.lasts = now, true
	return true
}

// over reports whether the trouble that key names was logged and not over yet.
func (n *notices) over(key string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.all[key]
	if t == nil || !t.lasts {
		return false
	}
	t.lasts = false
	return true
}
