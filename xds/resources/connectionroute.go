package resources

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/model"
)

// connectionRoute is where connections go that ask for one of some server names, at one of
// some addresses. It is immutable.
type connectionRoute struct {
	names   []string       // none: any, and none at all
	subnets []netip.Prefix // none: any
	to      tcpRoute
}

func (r connectionRoute) equal(o connectionRoute) bool {
	return slices.Equal(r.names, o.names) && slices.Equal(r.subnets, o.subnets) && r.to.equal(o.to)
}

// connectionVirtualsOf asks for the VirtualServices where any of them routes connections.
// It is nil in most meshes: there listeners do not depend on VirtualServices.
type connectionVirtualsOf struct{ source *Source }

func (q connectionVirtualsOf) build(r *reader, _ *virtuals) *virtuals {
	v := q.source.virtuals.get(r)
	if !slices.ContainsFunc(v.byAge, (*model.VirtualService).RoutesConnections) {
		return nil
	}
	return v
}

// connectionRouter finds the routes of connections for the clients of a namespace.
type connectionRouter struct {
	namespace, root string
	virtuals        *virtuals // nil: there are no routes
	rules           *rules
	sight           *sight
}

// routes are those of the VirtualService that counts for a host, for connections to its
// port, in order; none: all of them go to the host.
func (c *connectionRouter) routes(h *host, p *hostPort) []connectionRoute {
	if c.virtuals == nil {
		return nil
	}
	v := c.virtuals.find(c.namespace, c.root, h)
	if v == nil {
		return nil
	}

	var list []model.ConnectionRoute
	switch p.Protocol {
	case model.TLS:
		list = v.TLS
	case model.TCP, model.Unknown:
		list = v.TCP
	}
	return connectionRoutes(list, func(m *model.ConnectionMatch) bool {
		return (m.Port == 0 || m.Port == p.Number) && (m.Namespace == "" || m.Namespace == c.namespace) &&
			(len(m.Gateways) == 0 || slices.Contains(m.Gateways, model.MeshGateway))
	}, func(r *model.ConnectionRoute) tcpRoute { return c.to(r, p.Number) })
}

// connectionRoutes are routes of a VirtualService as far as conditions are about the
// clients, which means tells.
func connectionRoutes(list []model.ConnectionRoute, means func(*model.ConnectionMatch) bool, to func(*model.ConnectionRoute) tcpRoute) []connectionRoute {
	var out []connectionRoute
	for i := range list {
		r := &list[i]
		if len(r.Matches) == 0 {
			// What comes after it would never be reached.
			return append(out, connectionRoute{to: to(r)})
		}
		for j := range r.Matches {
			if m := &r.Matches[j]; means(m) {
				out = append(out, connectionRoute{serverNames(m.ServerNames), m.Subnets, to(r)})
			}
		}
	}
	return out
}

// serverNames are names as filter chains match them; none: any.
func serverNames(names []string) []string {
	if slices.Contains(names, "*") {
		return nil
	}
	return names
}

// to is where a route leads clients that call a port. Where a destination does not name a
// port, it is the host's only one, else the one that is called.
func (c *connectionRouter) to(r *model.ConnectionRoute, called uint16) tcpRoute {
	var out tcpRoute
	for i := range r.Destinations {
		d := &r.Destinations[i]
		h, number := c.sight.byName[d.Host], d.Port
		if number == 0 && h != nil && len(h.ports) == 1 {
			number = h.ports[0].Number
		}
		number = cmp.Or(number, called)
		if h != nil {
			policy := tcpPolicyOf(c.rules.find(c.namespace, c.root, h), d.Subset, number)
			if i == 0 {
				out.policy = policy
			}
			// A destination that goes by nothing lets the hash be.
			out.policy.bySource = out.policy.bySource || policy.bySource
		}
		out.add(clusterName(number, d.Subset, d.Host), d.Weight)
	}
	return out.orNowhere()
}

// reachable leaves out of routes, of which the first that holds is taken, what is never
// reached: filter chains are chosen by the longest name that fits, whatever their order.
func reachable(routes []connectionRoute) []connectionRoute {
	var out []connectionRoute
	var taken []string
	for _, r := range routes {
		if len(r.names) == 0 {
			return append(out, r)
		}
		r.names = slices.DeleteFunc(slices.Clone(r.names), func(name string) bool {
			return slices.ContainsFunc(taken, func(t string) bool { return matchHost(t, name) })
		})
		slices.Sort(r.names)
		r.names = slices.Compact(r.names)
		if len(r.names) > 0 {
			out = append(out, r)
			taken = append(taken, r.names...)
		}
	}
	return out
}

// namedLike are the routes with those of their names that are the host's, too: on a
// listener that several hosts share, no other's are its to route.
func namedLike(host string, routes []connectionRoute) []connectionRoute {
	var out []connectionRoute
	for _, r := range routes {
		var names []string
		for _, name := range r.names {
			if common, ok := model.CommonHost(name, host); ok && isServerName(common) {
				names = append(names, common)
			}
		}
		if len(names) > 0 || len(r.names) == 0 {
			r.names = names
			out = append(out, r)
		}
	}
	return out
}

// at are the routes of connections to an address.
func at(address string, routes []connectionRoute) []connectionRoute {
	ip, err := netip.ParseAddr(address)
	var out []connectionRoute
	for _, r := range routes {
		here := len(r.subnets) == 0 || err == nil && slices.ContainsFunc(r.subnets, func(s netip.Prefix) bool { return s.Contains(ip) })
		if here {
			r.subnets = nil
			out = append(out, r)
		}
	}
	return out
}

// placedRoute is a route of connections to a prefix; one that is not valid is any address.
type placedRoute struct {
	prefix netip.Prefix
	connectionRoute
}

// spread lays routes out within a prefix (not valid: everywhere) as filter chains are
// chosen: by the longest prefix first, so that each holds all routes of what is around it.
func spread(within netip.Prefix, routes []connectionRoute) []placedRoute {
	prefixes := []netip.Prefix{within}
	for _, r := range routes {
		for _, s := range r.subnets {
			if p, ok := narrower(within, s); ok && !slices.Contains(prefixes, p) {
				prefixes = append(prefixes, p)
			}
		}
	}

	var out []placedRoute
	for _, p := range prefixes {
		var here []connectionRoute
		for _, r := range routes {
			if len(r.subnets) == 0 || slices.ContainsFunc(r.subnets, func(s netip.Prefix) bool { return holds(s, p) }) {
				r.subnets = nil
				here = append(here, r)
			}
		}
		for _, r := range reachable(here) {
			out = append(out, placedRoute{p, r})
		}
	}
	return out
}

// holds tells whether all addresses of p are in s.
func holds(s, p netip.Prefix) bool {
	return p.IsValid() && s.Bits() <= p.Bits() && s.Contains(p.Addr())
}

// narrower is what two prefixes have in common.
func narrower(a, b netip.Prefix) (netip.Prefix, bool) {
	switch {
	case !a.IsValid(), holds(a, b):
		return b, true
	case holds(b, a):
		return a, true
	}
	return netip.Prefix{}, false
}
