package resources

import (
	"cmp"
	"slices"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// edgeServer is a server of a Gateway that leads where VirtualServices say. It is immutable.
type edgeServer struct {
	gateway   string // NAMESPACE/NAME
	namespace string // the Gateway's
	server    *model.GatewayServer
	// opensServices tells that the Gateway may pass on to any Service: it is of the
	// workload's own namespace, or of the mesh's root.
	opensServices bool
}

func newEdgeServer(gw *model.Gateway, server *model.GatewayServer, opensServices bool) edgeServer {
	return edgeServer{gateway: gw.QualifiedName(), namespace: gw.Namespace, server: server, opensServices: opensServices}
}

// httpSet is servers of a port of a gateway that share their routes: all that have no
// TLS, or one that ends it, whose hosts are told apart by their server name before.
type httpSet struct {
	name    string // of the route configuration
	servers []edgeServer
	// misdirected are hosts of other servers that end TLS on the port.
	misdirected []string
}

// httpSets are those of the port.
func (p *gatewayPort) httpSets() []httpSet {
	var out []httpSet
	if len(p.http) > 0 {
		out = append(out, httpSet{name: plainRoutes(p.number), servers: p.http})
	}
	for i := range p.https {
		out = append(out, httpSet{name: p.https[i].routes(), servers: p.https[i : i+1], misdirected: p.otherHosts(i)})
	}
	return out
}

// plainRoutes is the name of the route configuration of a pod's port.
func plainRoutes(port uint16) string { return "http." + utoa(port) }

// plainChain serves HTTP without TLS, to those whom access lets pass; besideTLS tells that TLS comes to the port, too.
func (p *gatewayPort) plainChain(mesh *model.Mesh, access []*hcmv3.HttpFilter, besideTLS bool) *listenerv3.FilterChain {
	c := &listenerv3.FilterChain{Name: "http", Filters: []*listenerv3.Filter{edgeHTTP(mesh, plainRoutes(p.number), access)}}
	if besideTLS {
		c.FilterChainMatch = &listenerv3.FilterChainMatch{TransportProtocol: "raw_buffer"}
	}
	return c
}

// edgeHTTP serves clients that are not of the mesh, by the configuration that RDS
// gives under the name: what they say of themselves does not count.
func edgeHTTP(mesh *model.Mesh, routeName string, access []*hcmv3.HttpFilter) *listenerv3.Filter {
	m := httpManager(mesh, "outbound_"+routeName)
	m.HttpFilters = slices.Concat(access, routeFilters(), m.HttpFilters)
	m.UseRemoteAddress = wrapperspb.Bool(true)
	m.ForwardClientCertDetails = hcmv3.HttpConnectionManager_SANITIZE_SET
	m.SetCurrentClientCertDetails = &hcmv3.HttpConnectionManager_SetCurrentClientCertDetails{
		Subject: wrapperspb.Bool(true), Cert: true, Dns: true, Uri: true,
	}
	m.RouteSpecifier = &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
		ConfigSource: adsSource(), RouteConfigName: routeName,
	}}
	return filter("envoy.filters.network.http_connection_manager", m)
}

// servedHost is a host name for which a port of a gateway routes requests.
type servedHost struct {
	domain   string
	owner    string // the namespace of the oldest Gateway that has it
	redirect bool
	// misdirected tells that requests for the host belong on another connection: one
	// whose TLS was opened for it.
	misdirected bool
	rules       []servedRule // the oldest first
}

// servedRule is a VirtualService that has a say in a host, with the Gateways by which
// it has it, and the port that its clients call.
type servedRule struct {
	rule     *model.VirtualService
	gateways []string
	port     uint16
}

// served is what the ports of a gateway route. It is immutable.
type served struct {
	byRoutes map[string][]servedHost // by the name of the route configuration
}

// servedBy asks what a view's gateway routes.
type servedBy struct{ view *view }

func (q servedBy) build(r *reader, _ *served) *served {
	rules := q.view.source.virtuals.get(r)
	out := &served{byRoutes: map[string][]servedHost{}}
	for _, set := range q.view.gateway.httpSets() {
		out.byRoutes[set.name] = set.servedHosts(rules, q.view.scope.key.namespace)
	}
	return out
}

// servedHosts are the hosts that servers and VirtualServices share, by name. namespace
// is the gateway's own: VirtualServices that are not shown to it do not count.
func (set *httpSet) servedHosts(rules *virtuals, namespace string) []servedHost {
	byDomain := map[string]*servedHost{}
	for i := range set.servers {
		s := &set.servers[i]
		if s.server.RedirectToHTTPS {
			for _, h := range s.server.Hosts {
				_, pattern := splitGatewayHost(h)
				serveHost(byDomain, pattern, s, nil)
			}
		}
		for _, rule := range rules.byAge {
			if !rule.For(s.gateway) || !rule.VisibleIn(namespace, rules.exports) {
				continue
			}
			for _, domain := range s.server.CommonHosts(rule) {
				serveHost(byDomain, domain, s, rule)
			}
		}
	}

	for _, host := range set.misdirected {
		byDomain[host] = &servedHost{domain: host, misdirected: true}
	}

	out := make([]servedHost, 0, len(byDomain))
	for _, h := range byDomain {
		slices.SortStableFunc(h.rules, func(a, b servedRule) int { return a.rule.CompareAge(b.rule) })
		out = append(out, *h)
	}
	slices.SortFunc(out, func(a, b servedHost) int { return cmp.Compare(a.domain, b.domain) })
	return out
}

// serveHost adds a server, and what routes its requests, to a host. A host that a
// Gateway of one namespace has is not given to a younger one of another, which would
// read requests that are not meant for it.
func serveHost(byDomain map[string]*servedHost, domain string, s *edgeServer, rule *model.VirtualService) {
	h := byDomain[domain]
	if h == nil {
		h = &servedHost{domain: domain, owner: s.namespace}
		byDomain[domain] = h
	}
	if h.owner != s.namespace {
		return
	}

	h.redirect = h.redirect || s.server.RedirectToHTTPS
	if rule == nil {
		return
	}
	i := slices.IndexFunc(h.rules, func(have servedRule) bool { return have.rule == rule })
	if i < 0 {
		h.rules = append(h.rules, servedRule{rule: rule, port: s.server.Port})
		i = len(h.rules) - 1
	}
	if !slices.Contains(h.rules[i].gateways, s.gateway) {
		h.rules[i].gateways = append(h.rules[i].gateways, s.gateway)
	}
}

// edgeRoutesKey asks for a route configuration of a gateway.
type edgeRoutesKey struct {
	view *view
	name string
}

func (q edgeRoutesKey) build(r *reader, old *serve.Resource) *serve.Resource {
	v, mesh := q.view, q.view.source.mesh.get(r)
	rc := &routev3.RouteConfiguration{
		Name:                     q.name,
		ValidateClusters:         wrapperspb.Bool(false),
		IgnorePortInHostMatching: true,
	}
	for _, h := range v.served.get(r).byRoutes[q.name] {
		if routes := v.edgeRoutes(r, mesh, &h); len(routes) > 0 {
			rc.VirtualHosts = append(rc.VirtualHosts, &routev3.VirtualHost{
				Name: h.domain, Domains: []string{h.domain}, Routes: routes,
			})
		}
	}
	boundBodies(rc)
	return v.source.encode(old, rc.Name, rc)
}

// edgeRoutes are the routes of a host: those of its VirtualServices one after the
// other, and last the first that any request satisfies, wherever it stood.
func (v *view) edgeRoutes(r *reader, mesh *model.Mesh, h *servedHost) []*routev3.Route {
	if h.misdirected {
		return []*routev3.Route{misdirected()}
	}
	if h.redirect {
		return []*routev3.Route{redirectToHTTPS()}
	}

	var out []*routev3.Route
	var last *routev3.Route
	for i := range h.rules {
		s := &h.rules[i]
		b := routeBuilder{
			mesh: mesh, namespace: v.scope.key.namespace, traits: v.scope.key.traits, port: s.port, gateways: s.gateways,
			clusterOf: func(d *model.WeightedDestination) string { return v.destinations.get(r).clusterOf(s, d) },
			hashOf:    func(d *model.WeightedDestination) *model.ConsistentHash { return v.hashOf(r, s, d) },
		}
		for _, route := range b.routes(s.rule) {
			switch {
			case !catchesAll(route.Match):
				out = append(out, route)
			case last == nil:
				last = route
			}
		}
	}
	if last != nil {
		out = append(out, last)
	}
	return out
}

// hashOf is by what the endpoints of a destination of a gateway's route are picked.
func (v *view) hashOf(r *reader, s *servedRule, d *model.WeightedDestination) *model.ConsistentHash {
	hashing := v.source.hashing.get(r)
	if hashing == nil {
		return nil
	}
	to := v.destinations.get(r)
	k := to.byName[to.clusterOf(s, d)]
	return hashing.hashFor(v.scope.key.namespace, v.source.mesh.get(r).RootNamespace, k.host, k.subset, k.port)
}

// catchesAll tells whether every request satisfies a condition.
func catchesAll(m *routev3.RouteMatch) bool {
	return m.GetPrefix() == "/" && len(m.Headers) == 0 && len(m.QueryParameters) == 0
}

func redirectToHTTPS() *routev3.Route {
	return &routev3.Route{
		Name:  "https-redirect",
		Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_Redirect{Redirect: &routev3.RedirectAction{
			SchemeRewriteSpecifier: &routev3.RedirectAction_HttpsRedirect{HttpsRedirect: true},
			ResponseCode:           routev3.RedirectAction_MOVED_PERMANENTLY,
		}},
	}
}

// misdirected tells a client that another connection is for its request (RFC 9110
// section 15.5.20): by this one it might evade what its host asks of a client's TLS.
func misdirected() *routev3.Route {
	return &routev3.Route{
		Name:   "misdirected",
		Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 421}},
	}
}

// httpSets are those of all ports.
func (g *gateway) httpSets() []httpSet {
	var out []httpSet
	for i := range g.ports {
		out = append(out, g.ports[i].httpSets()...)
	}
	return out
}

// edgeRouteNames are the route configurations of the gateway.
func (g *gateway) edgeRouteNames() []string {
	var out []string
	for _, set := range g.httpSets() {
		out = append(out, set.name)
	}
	return out
}

// edgeRouteConfig returns the route configuration of a name; nil when there is none.
func (v *view) edgeRouteConfig(r *reader, name string) *serve.Resource {
	if !slices.Contains(v.gateway.edgeRouteNames(), name) {
		// Of names that lead nowhere nothing is remembered: clients make them up.
		return nil
	}
	return v.edgeRouteConfigs.get(r, edgeRoutesKey{v, name})
}
