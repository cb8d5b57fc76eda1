package resources

import (
	"cmp"
	"net/netip"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// anywhere describes the listener for a port at any address: what several hosts
// want of it, together. It is immutable once its destinations are complete.
type anywhere struct {
	http     bool
	names    []nameChain
	prefixes []prefixChain
	// fallback leads to a host that takes the whole port; nil: none does.
	fallback *tcpRoute
	// routed are prefixes that no host has, but routes are about; open are those of them
	// that are in no host's.
	routed, open []netip.Prefix
}

type nameChain struct {
	name string // TLS server name, or *.suffix
	to   tcpRoute
}

type prefixChain struct {
	prefix netip.Prefix
	name   string // TLS server name; empty: any connection to the prefix
	to     tcpRoute
	// routed tells that the chain is a route's, for that name alone.
	routed bool
}

func (c nameChain) equal(o nameChain) bool { return c.name == o.name && c.to.equal(o.to) }

func (c prefixChain) equal(o prefixChain) bool {
	return c.prefix == o.prefix && c.name == o.name && c.routed == o.routed && c.to.equal(o.to)
}

// anywhereOf asks what is wanted of a port at any address; nil: nothing.
type anywhereOf struct {
	scope *scope
	port  uint16
}

func (q anywhereOf) build(r *reader, old *anywhere) *anywhere {
	w := q.scope.destinations.get(r).anywhere[q.port]
	if old != nil && w != nil && old.equal(w) {
		return old
	}
	return w
}

func (w *anywhere) equal(o *anywhere) bool {
	sameFallback := w.fallback == o.fallback || w.fallback != nil && o.fallback != nil && w.fallback.equal(*o.fallback)
	return w.http == o.http && sameFallback && slices.EqualFunc(w.names, o.names, nameChain.equal) &&
		slices.EqualFunc(w.prefixes, o.prefixes, prefixChain.equal) && slices.Equal(w.routed, o.routed)
}

// sort brings the chains into an order that does not depend on that of hosts.
func (w *anywhere) sort() {
	slices.SortFunc(w.names, func(a, b nameChain) int { return cmp.Compare(a.name, b.name) })
	slices.SortFunc(w.prefixes, func(a, b prefixChain) int {
		return cmp.Or(a.prefix.Compare(b.prefix), cmp.Compare(a.name, b.name))
	})
}

// wantAnywhere adds what a port wants of the listener at any address. rule is the
// one that counts for the host, or nil; routes are those of connections that need not go
// to the host.
func (d *destinations) wantAnywhere(h *host, p *hostPort, rule *model.DestinationRule, routes []connectionRoute) {
	to := toHost(h, p.Number, rule)
	at := func() *anywhere {
		w := d.anywhere[p.Number]
		if w == nil {
			w = &anywhere{}
			d.anywhere[p.Number] = w
		}
		return w
	}
	if sharesPort(p) {
		at().http = true
		if p.Protocol == model.Unknown && isServerName(h.name) {
			// It may speak TLS as well, whose server name tells.
			at().addName(nameChain{h.name, to})
		}
		return
	}
	if p.svc.Origin != model.FromServiceEntry {
		return
	}

	if len(routes) > 0 {
		d.routeAnywhere(h, p, at, append(slices.Clip(namedLike(h.name, routes)), connectionRoute{to: to}))
		return
	}

	for _, a := range p.svc.Addresses {
		if !a.IsSingleIP() {
			chain := prefixChain{prefix: a, to: to}
			if p.Protocol == model.TLS && isServerName(h.name) {
				chain.name = h.name
			}
			at().addPrefix(chain)
		}
	}
	if len(p.svc.Addresses) > 0 {
		return
	}

	switch p.Protocol {
	case model.TLS:
		if !isServerName(h.name) {
			return
		}
		at().addName(nameChain{h.name, to})
	case model.TCP:
		if !p.svc.Allocated.IsValid() {
			at().addFallback(to)
		}
	}
}

// routeAnywhere is wantAnywhere for a host whose connections are routed: the last route
// leads to the host.
func (d *destinations) routeAnywhere(h *host, p *hostPort, at func() *anywhere, routes []connectionRoute) {
	within := slices.DeleteFunc(slices.Clone(p.svc.Addresses), netip.Prefix.IsSingleIP)
	byName := p.Protocol == model.TLS && isServerName(h.name)
	if byName {
		routes[len(routes)-1].names = []string{h.name}
	}
	if len(p.svc.Addresses) == 0 && (byName || p.Protocol == model.TCP && !p.svc.Allocated.IsValid()) {
		within = []netip.Prefix{{}}
	}

	for _, a := range within {
		for _, r := range spread(a, routes) {
			at().addRoute(r, a)
		}
	}
}

// addRoute adds a route of connections to a host within a prefix.
func (w *anywhere) addRoute(r placedRoute, within netip.Prefix) {
	if r.prefix != within && !slices.Contains(w.routed, r.prefix) {
		w.routed = append(w.routed, r.prefix)
	}
	names := r.names
	if len(names) == 0 {
		names = []string{""}
	}
	for _, name := range names {
		switch {
		case r.prefix.IsValid():
			w.addPrefix(prefixChain{prefix: r.prefix, name: name, to: r.to, routed: true})
		case name != "":
			w.addName(nameChain{name, r.to})
		default:
			w.addFallback(r.to)
		}
	}
}

// fillIn gives prefixes that are only routed what there is around them: of a connection,
// the chains of the longest prefix alone are looked at.
func (w *anywhere) fillIn() {
	slices.SortFunc(w.routed, func(a, b netip.Prefix) int { return cmp.Or(cmp.Compare(a.Bits(), b.Bits()), a.Compare(b)) })
	for _, p := range w.routed {
		around := w.around(p)
		if !around.IsValid() || slices.Contains(w.open, around) {
			w.open = append(w.open, p)
		}
		for _, c := range slices.Clone(w.prefixes) {
			if c.prefix == around {
				c.prefix, c.routed = p, true
				w.addPrefix(c)
			}
		}
		if !around.IsValid() {
			for _, c := range w.names {
				w.addPrefix(prefixChain{prefix: p, name: c.name, to: c.to, routed: true})
			}
		}
	}
}

// around is the next wider prefix that has chains; not valid: there is none.
func (w *anywhere) around(p netip.Prefix) netip.Prefix {
	var out netip.Prefix
	for _, c := range w.prefixes {
		if c.prefix != p && holds(c.prefix, p) && (!out.IsValid() || c.prefix.Bits() > out.Bits()) {
			out = c.prefix
		}
	}
	return out
}

// addFallback adds a host that takes the port at any address. The first has it.
func (w *anywhere) addFallback(to tcpRoute) {
	if w.fallback == nil {
		w.fallback = &to
	}
}

// addName adds a host that is known by its server name.
func (w *anywhere) addName(c nameChain) {
	if !slices.ContainsFunc(w.names, func(o nameChain) bool { return o.name == c.name }) {
		w.names = append(w.names, c)
	}
}

// addPrefix adds a host's claim to a prefix. Of those that speak no TLS the first
// has it.
func (w *anywhere) addPrefix(c prefixChain) {
	taken := slices.ContainsFunc(w.prefixes, func(o prefixChain) bool { return o.prefix == c.prefix && o.name == c.name })
	if !taken {
		w.prefixes = append(w.prefixes, c)
	}
}

// needsName tells whether the server name has to be looked at for a chain: a host
// that has a prefix for itself has all connections to it.
func (w *anywhere) needsName(c prefixChain) bool {
	return c.name != "" && (c.routed || slices.ContainsFunc(w.prefixes, func(o prefixChain) bool {
		return o.prefix == c.prefix && o.name != c.name
	}))
}

func (w *anywhere) prefixChain(mesh *model.Mesh, c prefixChain) *listenerv3.FilterChain {
	fc := &listenerv3.FilterChain{
		FilterChainMatch: &listenerv3.FilterChainMatch{PrefixRanges: cidrRanges(c.prefix)},
		Filters:          []*listenerv3.Filter{c.to.filter(mesh)},
	}
	if w.needsName(c) {
		fc.FilterChainMatch.ServerNames = []string{c.name}
	}
	return fc
}

func cidrRanges(prefixes ...netip.Prefix) []*corev3.CidrRange {
	var out []*corev3.CidrRange
	for _, p := range prefixes {
		out = append(out, &corev3.CidrRange{
			AddressPrefix: p.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(p.Bits())),
		})
	}
	return out
}

// wildcardListener asks for the listener of a port at any address.
type wildcardListener struct {
	scope *scope
	port  uint16
}

func (q wildcardListener) build(r *reader, old *serve.Resource) *serve.Resource {
	s := q.scope.source
	mesh, w := q.scope.mesh.get(r), q.scope.anywhere.get(r, anywhereOf(q))
	if w == nil {
		return nil
	}

	l := outboundListener(anyAddress, q.port)
	for _, c := range w.prefixes {
		l.FilterChains = append(l.FilterChains, w.prefixChain(mesh, c))
	}
	looksAtNames := len(w.names) > 0 || slices.ContainsFunc(w.prefixes, w.needsName)
	if looksAtNames {
		l.ListenerFilters = append(l.ListenerFilters, tlsInspector())
	}
	for _, c := range w.names {
		l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{
			FilterChainMatch: &listenerv3.FilterChainMatch{ServerNames: []string{c.name}},
			Filters:          []*listenerv3.Filter{c.to.filter(mesh)},
		})
	}

	if w.http {
		l.ListenerFilters = append(l.ListenerFilters, httpInspector())
		http := []*listenerv3.Filter{outboundHTTP(mesh, utoa(q.port))}
		l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{
			FilterChainMatch: &listenerv3.FilterChainMatch{ApplicationProtocols: sniffedHTTP()}, Filters: http,
		})
		if len(w.open) > 0 {
			l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{
				FilterChainMatch: &listenerv3.FilterChainMatch{PrefixRanges: cidrRanges(w.open...), ApplicationProtocols: sniffedHTTP()}, Filters: http,
			})
		}
		// On a port declared as HTTP the client speaks first, however long
		// it takes.
		l.ListenerFiltersTimeout = durationpb.New(0)
	} else if looksAtNames {
		l.ListenerFiltersTimeout = durationpb.New(sniffTimeout)
		l.ContinueOnListenerFiltersTimeout = true
	}

	rest := tcpRoute{cluster: fallbackCluster(mesh)}
	if w.fallback != nil {
		rest = *w.fallback
	}
	l.DefaultFilterChain = &listenerv3.FilterChain{Filters: []*listenerv3.Filter{rest.filter(mesh)}}
	return s.encode(old, l.Name, l)
}
