package web

import (
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	// maxMade is how many pages are kept.
	maxMade = 24
	// sameFor is how long a page is the same for all who ask, and keptFor how
	// long if nothing has changed.
	sameFor = time.Second
	keptFor = 30 * time.Second
)

// pages keeps those that were made a moment ago, so that a hundred who watch the
// same page cost as much as one.
type pages struct {
	flight singleflight.Group

	// mu guards made.
	mu   sync.Mutex
	made map[string]madePage
}

type madePage struct {
	body    []byte
	at      time.Time
	version uint64
}

// get returns the page of an address: one that is new enough, or what make gives.
// Those that are not to be kept are made each time.
func (p *pages) get(address string, keep bool, version uint64, now time.Time, make func() ([]byte, error)) ([]byte, error) {
	if !keep {
		return make()
	}
	p.mu.Lock()
	old, ok := p.made[address]
	p.mu.Unlock()
	if age := now.Sub(old.at); ok && (age < sameFor || age < keptFor && old.version == version) {
		return old.body, nil
	}
	body, err, _ := p.flight.Do(address, func() (any, error) {
		body, err := make()
		if err != nil {
			return nil, err
		}
		p.keep(address, madePage{body, now, version})
		return body, nil
	})
	if err != nil {
		return nil, err
	}
	return body.([]byte), nil
}

// forget makes all pages anew.
func (p *pages) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.made)
}

func (p *pages) keep(address string, page madePage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.made == nil {
		p.made = make(map[string]madePage)
	}
	if _, ok := p.made[address]; !ok && len(p.made) >= maxMade {
		oldest := ""
		for a, x := range p.made {
			if oldest == "" || x.at.Before(p.made[oldest].at) {
				oldest = a
			}
		}
		delete(p.made, oldest)
	}
	p.made[address] = page
}
