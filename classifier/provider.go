package classifier

import (
	"bytes"
	"strings"
)

// Providers that no list names.
const (
	// Other is every provider that is not known.
	Other = "other"
	// Local is a delivery that never left the machine.
	Local = "local"
	// Internal is a relay on this machine of which nothing else is known, such
	// as a content filter.
	Internal = "internal"
)

const (
	providerOther uint16 = iota
	providerLocal
	providerInternal
)

// providers tells who answered from a host name or a recipient's domain.
type providers struct {
	names   []string
	index   map[string]uint16
	mx      map[string]uint16 // host name suffix
	domains map[string]uint16
}

func (p *providers) compile(s *source) {
	p.names = []string{Other, Local, Internal}
	p.index, p.mx, p.domains = map[string]uint16{}, map[string]uint16{}, map[string]uint16{}
	for _, id := range sortedKeys(s.providers) {
		spec := s.providers[id]
		n := uint16(len(p.names))
		p.names = append(p.names, id)
		p.index[id] = n
		for _, q := range spec.mx {
			p.set(s, p.mx, q, n, "host")
		}
		for _, q := range spec.domains {
			p.set(s, p.domains, q, n, "domain")
		}
	}
}

func (p *providers) set(s *source, m map[string]uint16, q quote, n uint16, what string) {
	name := strings.ToLower(strings.Trim(q.s, "."))
	if other, ok := m[name]; ok && other != n {
		s.faults.add(q.place, "", "remove it from one of the two", "%s %s belongs to both %s and %s", what, name, p.names[other], p.names[n])
	}
	m[name] = n
}

// suffix returns the provider of the longest suffix of name, from a label on,
// that m has.
func suffix(m map[string]uint16, name, scratch []byte) uint16 {
	name = bytes.TrimSuffix(name, []byte("."))
	if len(name) > 255 {
		return providerOther
	}
	low := scratch[:0]
	for _, c := range name {
		low = append(low, lower[c])
	}
	for {
		if n, ok := m[string(low)]; ok {
			return n
		}
		dot := bytes.IndexByte(low, '.')
		if dot < 0 {
			return providerOther
		}
		low = low[dot+1:]
	}
}

// loopback reports whether a relay is on this machine.
func loopback(relay, ip []byte) bool {
	return bytes.HasPrefix(ip, []byte("127.")) || string(ip) == "::1" || string(relay) == "localhost" || bytes.HasPrefix(relay, []byte("127.")) || string(relay) == "::1"
}

// noRelay reports whether the record names nobody who answered.
func noRelay(relay []byte) bool { return len(relay) == 0 || string(relay) == "none" }
