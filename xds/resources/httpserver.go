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

// httpServer is a server of a Gateway that routes requests. It is immutable.
type httpServer struct {
	gateway   string // NAMESPACE/NAME
	namespace string // the Gateway's
	server    *model.GatewayServer
}

// plainRoutes is the name of the route configuration of a pod's port.
func plainRoutes(port uint16) string { return "http." + utoa(port) }

// plainChain serves HTTP without TLS; besideTLS tells that TLS comes to the port, too.
func (p *gatewayPort) plainChain(mesh *model.Mesh, besideTLS bool) *listenerv3.FilterChain {
	c := &listenerv3.FilterChain{Name: "http", Filters: []*listenerv3.Filter{edgeHTTP(mesh, plainRoutes(p.number))}}
	if besideTLS {
		c.FilterChainMatch = &listenerv3.FilterChainMatch{TransportProtocol: "raw_buffer"}
	}
	return c
}

// edgeHTTP serves clients that are not of the mesh, by the configuration that RDS
// gives under the name: what they say of themselves does not count, and paths are
// brought into one form before they are routed, as applications will read them.
func edgeHTTP(mesh *model.Mesh, routeName string) *listenerv3.Filter {
	m := httpManager(mesh, "outbound_"+routeName)
	m.UseRemoteAddress = wrapperspb.Bool(true)
	m.NormalizePath = wrapperspb.Bool(true)
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
	rules    []servedRule // the oldest first
}

// servedRule is a VirtualService that has a say in a host, with the Gateways by which
// it has it, and the port that its clients call.
type servedRule struct {
	rule     *model.VirtualService
	gateways []string
	port     uint16
}

// served is what the ports of a gateway route. It is immutable.
type served struct{ byPort map[uint16][]servedHost }

// servedBy asks what a view's gateway routes.
type servedBy struct{ view *view }

func (q servedBy) build(r *reader, _ *served) *served {
	rules := q.view.source.virtuals.get(r)
	out := &served{byPort: map[uint16][]servedHost{}}
	for i := range q.view.gateway.ports {
		p := &q.view.gateway.ports[i]
		if len(p.http) > 0 {
			out.byPort[p.number] = p.servedHosts(rules, q.view.scope.key.namespace)
		}
	}
	return out
}

// servedHosts are the hosts that servers and VirtualServices share, by name. namespace
// is the gateway's own: VirtualServices that are not shown to it do not count.
func (p *gatewayPort) servedHosts(rules *virtuals, namespace string) []servedHost {
	byDomain := map[string]*servedHost{}
	for i := range p.http {
		s := &p.http[i]
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
func serveHost(byDomain map[string]*servedHost, domain string, s *httpServer, rule *model.VirtualService) {
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

// edgeRoutesKey asks for the route configuration of a gateway's port.
type edgeRoutesKey struct {
	view *view
	port uint16
}

func (q edgeRoutesKey) build(r *reader, old *serve.Resource) *serve.Resource {
	v, mesh := q.view, q.view.source.mesh.get(r)
	rc := &routev3.RouteConfiguration{
		Name:                     plainRoutes(q.port),
		ValidateClusters:         wrapperspb.Bool(false),
		IgnorePortInHostMatching: true,
	}
	for _, h := range v.served.get(r).byPort[q.port] {
		if routes := v.edgeRoutes(r, mesh, &h); len(routes) > 0 {
			rc.VirtualHosts = append(rc.VirtualHosts, &routev3.VirtualHost{
				Name: h.domain + ":" + utoa(q.port), Domains: []string{h.domain}, Routes: routes,
			})
		}
	}
	boundBodies(rc)
	return v.source.encode(old, rc.Name, rc)
}

// edgeRoutes are the routes of a host: those of its VirtualServices one after the
// other, and last the first that any request satisfies, wherever it stood.
func (v *view) edgeRoutes(r *reader, mesh *model.Mesh, h *servedHost) []*routev3.Route {
	if h.redirect {
		return []*routev3.Route{redirectToHTTPS()}
	}

	var out []*routev3.Route
	var last *routev3.Route
	for i := range h.rules {
		s := &h.rules[i]
		b := routeBuilder{
			mesh: mesh, namespace: v.scope.key.namespace, port: s.port, gateways: s.gateways,
			clusterOf: func(d *model.WeightedDestination) string { return v.destinations.get(r).clusterOf(s, d) },
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

// edgeRouteNames are the route configurations of the gateway.
func (g *gateway) edgeRouteNames() []string {
	var out []string
	for i := range g.ports {
		if len(g.ports[i].http) > 0 {
			out = append(out, plainRoutes(g.ports[i].number))
		}
	}
	return out
}

// edgeRouteConfig returns the route configuration of a name; nil when there is none.
func (v *view) edgeRouteConfig(r *reader, name string) *serve.Resource {
	for i := range v.gateway.ports {
		if p := &v.gateway.ports[i]; len(p.http) > 0 && plainRoutes(p.number) == name {
			return v.edgeRouteConfigs.get(r, edgeRoutesKey{v, p.number})
		}
	}
	return nil
}
