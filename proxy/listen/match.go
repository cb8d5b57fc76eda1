package listen

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// matcher finds the filter chain of a connection. As in Envoy, criteria are
// looked at in a fixed order (destination port, destination address, server
// name, transport protocol, application protocol); at each the most specific
// group that fits is taken, and there is no way back from it. What fits
// nowhere gets the default chain. It is immutable.
type matcher struct {
	ports    map[uint16]*portGroup // 0: chains that name no port
	fallback *chain                // nil: none
}

// portGroup is the chains of one destination port.
type portGroup struct {
	prefixes []prefixGroup // longest first
}

type prefixGroup struct {
	prefix netip.Prefix // not valid: any
	names  nameGroup
	needs  inspection // what the choice below depends on
}

type nameGroup struct {
	exact    map[string]*transportGroup
	wildcard map[string]*transportGroup // by suffix with its leading dot
	any      *transportGroup
}

type transportGroup struct {
	byName map[string]*protocolGroup // "" is any
}

type protocolGroup struct {
	byName map[string]*chain // "" is any
}

func newMatcher(chains []*chain, fallback *chain) *matcher {
	m := &matcher{ports: map[uint16]*portGroup{}, fallback: fallback}
	for _, c := range chains {
		m.add(c)
	}
	for _, g := range m.ports {
		slices.SortStableFunc(g.prefixes, func(a, b prefixGroup) int { return cmp.Compare(b.bits(), a.bits()) })
	}
	return m
}

func (p *prefixGroup) bits() int {
	if !p.prefix.IsValid() {
		return -1
	}
	return p.prefix.Bits()
}

func (m *matcher) add(c *chain) {
	f := &c.cfg.Match
	g := m.ports[f.DestinationPort]
	if g == nil {
		g = &portGroup{}
		m.ports[f.DestinationPort] = g
	}

	prefixes := f.PrefixRanges
	if len(prefixes) == 0 {
		prefixes = []netip.Prefix{{}}
	}

	for _, p := range prefixes {
		group := g.prefix(p)
		group.needs = group.needs.and(needsOf(c))
		names := &group.names
		if len(f.ServerNames) == 0 {
			addTransport(&names.any, c)
		}
		for _, n := range f.ServerNames {
			names.add(n, c)
		}
	}
}

// needsOf tells what has to be seen to know whether a chain is the one.
func needsOf(c *chain) inspection {
	f := &c.cfg.Match
	var n inspection
	n.tls = len(f.ServerNames) > 0 || f.TransportProtocol != "" || len(f.ApplicationProtocols) > 0 ||
		c.cfg.TCP != nil && c.cfg.TCP.SNICluster
	// Protocols inside TLS are those that its ClientHello offers.
	n.http = len(f.ApplicationProtocols) > 0 && f.TransportProtocol != "tls"
	return n
}

// and joins what two look for.
func (n inspection) and(o inspection) inspection {
	n.tls = n.tls || o.tls
	n.http = n.http || o.http
	return n
}

// prefix returns the group of a prefix.
func (g *portGroup) prefix(p netip.Prefix) *prefixGroup {
	for i := range g.prefixes {
		if g.prefixes[i].prefix == p {
			return &g.prefixes[i]
		}
	}
	g.prefixes = append(g.prefixes, prefixGroup{prefix: p})
	return &g.prefixes[len(g.prefixes)-1]
}

func (n *nameGroup) add(name string, c *chain) {
	into := &n.exact
	if strings.HasPrefix(name, "*.") {
		into, name = &n.wildcard, name[1:]
	}
	if *into == nil {
		*into = map[string]*transportGroup{}
	}
	t := (*into)[name]
	addTransport(&t, c)
	(*into)[name] = t
}

func addTransport(t **transportGroup, c *chain) {
	if *t == nil {
		*t = &transportGroup{byName: map[string]*protocolGroup{}}
	}
	f := &c.cfg.Match
	p := (*t).byName[f.TransportProtocol]
	if p == nil {
		p = &protocolGroup{byName: map[string]*chain{}}
		(*t).byName[f.TransportProtocol] = p
	}

	if len(f.ApplicationProtocols) == 0 {
		p.byName[""] = c
	}
	for _, a := range f.ApplicationProtocols {
		p.byName[a] = c
	}
}

// needs tells what has to be seen of a connection before its chain can be
// chosen: nothing where no chain for its destination asks for it. There the
// connection does not wait, and a server that speaks first is heard at once.
func (m *matcher) needs(dst netip.AddrPort) inspection {
	var n inspection
	if m.fallback != nil {
		n = needsOf(m.fallback)
	}

	g := m.ports[dst.Port()]
	if g == nil {
		g = m.ports[0]
	}
	if g != nil {
		if p := g.of(dst.Addr()); p != nil {
			n = n.and(p.needs)
		}
	}
	return n
}

// find returns the chain, nil when the connection is to be closed.
func (m *matcher) find(dst netip.AddrPort, s *seen) *chain {
	g := m.ports[dst.Port()]
	if g == nil {
		g = m.ports[0]
	}
	if g != nil {
		if c := g.find(dst.Addr(), s); c != nil {
			return c
		}
	}
	return m.fallback
}

func (g *portGroup) find(dst netip.Addr, s *seen) *chain {
	if p := g.of(dst); p != nil {
		return p.names.find(s)
	}
	return nil
}

// of returns the group of the longest prefix that holds an address, nil when
// none does.
func (g *portGroup) of(dst netip.Addr) *prefixGroup {
	for i := range g.prefixes {
		if p := &g.prefixes[i]; !p.prefix.IsValid() || p.prefix.Contains(dst) {
			return p
		}
	}
	return nil
}

func (n *nameGroup) find(s *seen) *chain {
	if s.sni != "" {
		if t := n.exact[s.sni]; t != nil {
			return t.find(s)
		}
		for rest := s.sni; len(n.wildcard) > 0; {
			i := strings.IndexByte(rest, '.')
			if i < 0 {
				break
			}
			if t := n.wildcard[rest[i:]]; t != nil {
				return t.find(s)
			}
			rest = rest[i+1:]
		}
	}

	if n.any != nil {
		return n.any.find(s)
	}
	return nil
}

func (t *transportGroup) find(s *seen) *chain {
	p := t.byName[s.transport()]
	if p == nil {
		p = t.byName[""]
	}
	if p == nil {
		return nil
	}

	for _, a := range s.protocols() {
		if c := p.byName[a]; c != nil {
			return c
		}
	}
	return p.byName[""]
}
