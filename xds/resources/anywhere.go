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
	// fallback leads to a host that takes the whole port.
	fallback tcpRoute
}

type nameChain struct {
	name string // TLS server name, or *.suffix
	to   tcpRoute
}

type prefixChain struct {
	prefix netip.Prefix
	name   string // TLS server name; empty: any connection to the prefix
	to     tcpRoute
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
	return w.http == o.http && w.fallback == o.fallback && slices.Equal(w.names, o.names) && slices.Equal(w.prefixes, o.prefixes)
}

// sort brings the chains into an order that does not depend on that of hosts.
func (w *anywhere) sort() {
	slices.SortFunc(w.names, func(a, b nameChain) int { return cmp.Compare(a.name, b.name) })
	slices.SortFunc(w.prefixes, func(a, b prefixChain) int {
		return cmp.Or(a.prefix.Compare(b.prefix), cmp.Compare(a.name, b.name))
	})
}

// wantAnywhere adds what a port wants of the listener at any address. rule is the
// one that counts for the host, or nil.
func (d *destinations) wantAnywhere(h *host, p *hostPort, rule *model.DestinationRule) {
	to := tcpRoute{clusterName(p.Number, "", h.name), tcpTimesOf(rule, p.Number)}
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
			if w := at(); w.fallback == (tcpRoute{}) {
				w.fallback = to
			}
		}
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
	return c.name != "" && slices.ContainsFunc(w.prefixes, func(o prefixChain) bool {
		return o.prefix == c.prefix && o.name != c.name
	})
}

func (w *anywhere) prefixChain(mesh *model.Mesh, c prefixChain) *listenerv3.FilterChain {
	fc := &listenerv3.FilterChain{
		FilterChainMatch: &listenerv3.FilterChainMatch{PrefixRanges: []*corev3.CidrRange{{
			AddressPrefix: c.prefix.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(c.prefix.Bits())),
		}}},
		Filters: []*listenerv3.Filter{c.to.filter(mesh)},
	}
	if w.needsName(c) {
		fc.FilterChainMatch.ServerNames = []string{c.name}
	}
	return fc
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
		l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{
			FilterChainMatch: &listenerv3.FilterChainMatch{ApplicationProtocols: sniffedHTTP()},
			Filters:          []*listenerv3.Filter{outboundHTTP(mesh, utoa(q.port))},
		})
		// On a port declared as HTTP the client speaks first, however long
		// it takes.
		l.ListenerFiltersTimeout = durationpb.New(0)
	} else if looksAtNames {
		l.ListenerFiltersTimeout = durationpb.New(sniffTimeout)
		l.ContinueOnListenerFiltersTimeout = true
	}

	l.DefaultFilterChain = &listenerv3.FilterChain{
		Filters: []*listenerv3.Filter{cmp.Or(w.fallback, tcpRoute{cluster: fallbackCluster(mesh)}).filter(mesh)},
	}
	return s.encode(old, l.Name, l)
}
