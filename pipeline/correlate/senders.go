package correlate

import (
	"bytes"
	"encoding/binary"
)

// senders gives each sender domain in use a small number and forgets it some
// time after its last message, so that a flood of forged domains leaves nothing
// behind and a steady one costs nothing.
type senders struct {
	ids   map[string]uint32
	names []sender // index 0 stands for "not known"
	free  []uint32
	// idle holds, oldest first, the numbers that had no message at some time;
	// some may have one again.
	idle []uint32
	// lately has the numbers of domains that were found lately, by a cheap hash.
	lately [256]uint32
	lower  []byte // scratch
}

// maxIdle is how many unused domains are kept for their next message.
const maxIdle = 1024

type sender struct {
	domain string
	bytes  []byte // the same, for events
	used   uint32 // by how many messages
	idle   bool   // listed in senders.idle
}

func newSenders() senders {
	return senders{ids: make(map[string]uint32), names: make([]sender, 1)}
}

// acquire returns the number of a domain as written in an address, in use once
// more. The null sender's domain is empty and has a number like any other.
func (s *senders) acquire(domain []byte) uint32 {
	lately := &s.lately[cheapHash(domain)]
	if id := *lately; id != 0 && string(domain) == s.names[id].domain && s.names[id].bytes != nil {
		s.names[id].used++
		return id
	}
	if id, ok := s.ids[string(domain)]; ok {
		s.names[id].used++
		*lately = id
		return id
	}
	s.lower = append(s.lower[:0], domain...)
	for i, c := range s.lower {
		if 'A' <= c && c <= 'Z' {
			s.lower[i] = c + 'a' - 'A'
		}
	}
	return s.acquireDomain(s.lower)
}

// cheapHash tells most domains apart by their first and last letters.
func cheapHash(domain []byte) uint8 {
	n := len(domain)
	if n < 8 {
		return uint8(n)
	}
	x := binary.LittleEndian.Uint64(domain)*0x9E3779B97F4A7C15 ^ binary.LittleEndian.Uint64(domain[n-8:])*0xD6E8FEB86659FD93
	return uint8(x >> 56)
}

// acquireDomain is acquire for a domain in lower case.
func (s *senders) acquireDomain(domain []byte) uint32 {
	if id, ok := s.ids[string(domain)]; ok {
		s.names[id].used++
		return id
	}
	n := sender{domain: string(domain), bytes: bytes.Clone(domain), used: 1}
	if n.bytes == nil {
		n.bytes = []byte{}
	}
	var id uint32
	if last := len(s.free) - 1; last >= 0 {
		id = s.free[last]
		s.free = s.free[:last]
		s.names[id] = n
	} else {
		id = uint32(len(s.names))
		s.names = append(s.names, n)
	}
	s.ids[n.domain] = id
	return id
}

// release takes back one use of id.
func (s *senders) release(id uint32) {
	if id == 0 {
		return
	}
	n := &s.names[id]
	n.used--
	if n.used > 0 || n.idle {
		return
	}
	n.idle = true
	s.idle = append(s.idle, id)
	if len(s.idle) >= 2*maxIdle {
		for _, id := range s.idle[:maxIdle] {
			s.forget(id)
		}
		s.idle = append(s.idle[:0], s.idle[maxIdle:]...)
	}
}

// forget drops an idle number unless it is in use again.
func (s *senders) forget(id uint32) {
	n := &s.names[id]
	n.idle = false
	if n.used == 0 {
		delete(s.ids, n.domain)
		*n = sender{}
		s.free = append(s.free, id)
	}
}

// domain returns the name of id, valid while the id is in use.
func (s *senders) domain(id uint32) []byte { return s.names[id].bytes }
