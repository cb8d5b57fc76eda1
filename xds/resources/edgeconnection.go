package resources

import (
	"slices"
	"strings"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/isthmus-mesh/isthmus/model"
)

// edgeConnection is where a gateway leads connections to a port.
type edgeConnection struct {
	port   uint16 // of the pod
	server *edgeServer
	// names are the server names that clients of TLS ask for; none where the port is not
	// for TLS.
	names []string
	rule  servedRule
	route *model.ConnectionRoute
}

// anyName stands among server names for all that no other server has.
const anyName = "*"

// connected is which connections a gateway leads where. It is immutable.
type connected struct{ list []edgeConnection }

// connectedBy asks which connections a view's gateway leads where.
type connectedBy struct{ view *view }

func (q connectedBy) build(r *reader, _ *connected) *connected {
	out, rules := &connected{}, q.view.source.connections.get(r)
	if rules == nil {
		return out
	}
	for i := range q.view.gateway.ports {
		p := &q.view.gateway.ports[i]
		b := edgeBinder{port: p, rules: rules, namespace: q.view.scope.key.namespace, taken: map[string]bool{}}
		for _, servers := range [][]edgeServer{p.passing, p.ending, p.tcp} {
			for j := range servers {
				b.serve(&servers[j])
			}
		}
		out.list = append(out.list, b.out...)
	}
	return out
}

// edgeBinder finds the routes of connections to a port.
type edgeBinder struct {
	port      *gatewayPort
	rules     *virtuals
	namespace string // the gateway's
	out       []edgeConnection
	// taken are the server names that lead somewhere; all is taken where the port is not
	// for TLS and leads somewhere.
	taken map[string]bool
}

// serve binds the VirtualServices that name a server's Gateway, the oldest first.
func (b *edgeBinder) serve(s *edgeServer) {
	for _, rule := range b.rules.byAge {
		if !rule.For(s.gateway) || !rule.VisibleIn(b.namespace, b.rules.exports) {
			continue
		}
		if hosts := s.server.CommonHosts(rule); len(hosts) > 0 {
			b.bind(s, rule, hosts)
		}
	}
}

// bind adds the routes of a VirtualService for the hosts that a server opens to it.
func (b *edgeBinder) bind(s *edgeServer, rule *model.VirtualService, hosts []string) {
	served := servedRule{rule: rule, gateways: []string{s.gateway}, port: s.server.Port}
	routes := s.server.Mode.Takes(rule)
	var before []string // the names that routes before have
	for i := range routes {
		for _, asked := range b.asked(s, &routes[i]) {
			c := edgeConnection{port: b.port.number, server: s, rule: served, route: &routes[i]}
			if s.server.Mode.ByServerName() {
				if c.names = b.free(s, rule, hosts, asked, before); len(c.names) == 0 {
					continue
				}
				before = append(before, c.names...)
			} else if b.taken[anyName] {
				return
			} else {
				before = []string{anyName}
			}
			for _, name := range before {
				b.taken[name] = true
			}
			b.out = append(b.out, c)
		}
	}
}

// asked are the server names for which a route is, by each of its conditions that clients of
// a server can satisfy.
func (b *edgeBinder) asked(s *edgeServer, r *model.ConnectionRoute) [][]string {
	if len(r.Matches) == 0 {
		return [][]string{{anyName}}
	}
	var out [][]string
	for i := range r.Matches {
		m := &r.Matches[i]
		means := (m.Port == 0 || m.Port == s.server.Port) && (m.Namespace == "" || m.Namespace == b.namespace) &&
			(len(m.Gateways) == 0 || slices.Contains(m.Gateways, s.gateway)) && len(m.Subnets) == 0
		switch {
		case !means:
		case len(m.ServerNames) == 0:
			out = append(out, []string{anyName})
		default:
			out = append(out, m.ServerNames)
		}
	}
	return out
}

// free are the names that hosts and what is asked for have in common, as far as they are
// the server's, and nobody before has them.
func (b *edgeBinder) free(s *edgeServer, rule *model.VirtualService, hosts, asked, before []string) []string {
	own := s.server.Patterns(rule.Namespace)
	var out []string
	for _, host := range hosts {
		for _, name := range asked {
			name, ok := model.CommonHost(host, name)
			switch {
			case !ok, name != anyName && !isServerName(name), b.taken[name], slices.Contains(out, name):
			case !slices.Contains(own, b.port.nearest(name)):
				// Another server has a longer name: the connection is its.
			case slices.ContainsFunc(before, func(t string) bool { return matchHost(t, name) }):
			default:
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return out
}

// nearest is the host of the port's servers that are told apart by server name which is
// nearest to a name: the name itself, else the longest wildcard.
func (p *gatewayPort) nearest(name string) string {
	best := ""
	for _, servers := range [][]edgeServer{p.passing, p.ending, p.https} {
		for i := range servers {
			for _, pattern := range servers[i].patterns() {
				switch {
				case pattern == name:
					return name
				case matchHost(pattern, name) && len(pattern) > len(best):
					best = pattern
				}
			}
		}
	}
	return best
}

// edgeChain is a filter chain of a gateway that leads connections on, before what decides
// who may connect.
type edgeChain struct {
	*edgeConnection
	to tcpRoute
}

// edgeChains are those of all ports.
func (v *view) edgeChains(r *reader) []edgeChain {
	list := v.connected.get(r).list
	if len(list) == 0 {
		return nil
	}

	set, ground := v.destinations.get(r), v.scope.ground.get(r)
	out := make([]edgeChain, len(list))
	for i := range list {
		c := &list[i]
		var to tcpRoute
		for j := range c.route.Destinations {
			d := &c.route.Destinations[j]
			name := set.clusterOf(&c.rule, d)
			if k, ok := set.byName[name]; ok {
				policy := tcpPolicyOf(ground.ruleFor(v.scope, k.host), d.Subset, k.port)
				if j == 0 {
					to.policy = policy
				}
				// A destination that goes by nothing lets the hash be.
				to.policy.bySource = to.policy.bySource || policy.bySource
			}
			to.add(name, d.Weight)
		}
		out[i] = edgeChain{c, to.orNowhere()}
	}
	return out
}

// connectionChains are the filter chains for connections to a port: those that pass TLS on,
// those that end it, or the one that takes whatever comes.
func (p *gatewayPort) connectionChains(mesh *model.Mesh, all []edgeChain, access []*listenerv3.Filter) []*listenerv3.FilterChain {
	var out []*listenerv3.FilterChain
	for _, c := range all {
		if c.port != p.number {
			continue
		}
		chain := &listenerv3.FilterChain{
			Name:    strings.Join(append([]string{"tcp", utoa(p.number), c.server.server.Name, c.server.gateway}, c.names...), "."),
			Filters: slices.Concat(c.server.strangers(mesh).tcp, access, []*listenerv3.Filter{c.to.filter(mesh)}),
		}
		if c.server.server.Mode.ByServerName() {
			chain.FilterChainMatch = &listenerv3.FilterChainMatch{TransportProtocol: "tls", ServerNames: serverNames(c.names)}
		}
		if c.server.server.Mode.EndsTLS() {
			chain.TransportSocket = c.server.transport(mesh)
		}
		out = append(out, chain)
	}
	return out
}
