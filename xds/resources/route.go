package resources

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// routed is the hosts that a route configuration leads to, each with its other
// names. It is immutable.
type routed struct {
	port uint16
	// single is a host that has the configuration for itself; else hosts share
	// the port and are told apart by name.
	single bool
	hosts  []routedHost
	// beyond are those that are routed though the mesh does not know them.
	beyond []routedName
	// onlyPorts are the ports of destinations that have one alone.
	onlyPorts map[string]uint16
}

// routedHost is a host with what routes its requests: nil for nothing but its name.
type routedHost struct {
	host    *host
	aliases []*host
	rule    *model.VirtualService
}

func (a routedHost) equal(b routedHost) bool {
	return a.host == b.host && a.rule == b.rule && slices.Equal(a.aliases, b.aliases)
}

func (a *routed) equal(b *routed) bool {
	return b != nil && slices.EqualFunc(a.hosts, b.hosts, routedHost.equal) && slices.Equal(a.beyond, b.beyond) &&
		maps.Equal(a.onlyPorts, b.onlyPorts)
}

// beyondPort is the port on which hosts are routed that the mesh does not know: that
// of HTTP, as in Istio.
const beyondPort = 80

// behind finds the hosts behind the name of a route configuration: a port, or
// HOST:PORT for a port that is looked into. There may be none.
func (s *sight) behind(name string) (list []*host, port uint16, single bool) {
	hostName, portText, single := cutLast(name)
	if !single {
		portText = name
	}
	port, ok := atou(portText)
	switch {
	case !ok:
		return nil, 0, false
	case !single:
		return s.byPort[port], port, false
	}

	h := s.byName[hostName]
	if h == nil {
		return nil, 0, false
	}
	if p := h.port(port); p == nil || p.Protocol != model.Unknown {
		return nil, 0, false
	}
	return []*host{h}, port, true
}

// routedOf asks for the hosts behind a name.
type routedOf struct {
	scope *scope
	name  string
}

func (q routedOf) build(r *reader, old *routed) *routed {
	sight := q.scope.sights.get(r)
	list, port, single := sight.behind(q.name)
	if len(list) == 0 {
		return nil
	}

	s, client := q.scope.source, q.scope.key.namespace
	rules, root := s.virtuals.get(r), s.mesh.get(r).RootNamespace
	now := &routed{port: port, single: single}
	for _, h := range list {
		rule := rules.find(client, root, h)
		now.hosts = append(now.hosts, routedHost{h, sight.aliases[h.name], rule})
		now.notePorts(rule, sight)
	}
	if !single && port == beyondPort {
		now.beyond = rules.beyond(client, root, sight.byName)
		for _, b := range now.beyond {
			now.notePorts(b.rule, sight)
		}
	}
	if now.equal(old) {
		return old
	}
	return now
}

// notePorts notes the ports of the rule's destinations that have one alone.
func (to *routed) notePorts(rule *model.VirtualService, s *sight) {
	if rule == nil {
		return
	}
	for i := range rule.HTTP {
		for _, d := range rule.HTTP[i].Destinations {
			if h := s.byName[d.Host]; h != nil && len(h.ports) == 1 {
				if to.onlyPorts == nil {
					to.onlyPorts = map[string]uint16{}
				}
				to.onlyPorts[d.Host] = h.ports[0].Number
			}
		}
	}
}

// clusterOf names the cluster of a destination. Where it does not name a port, it is
// the host's only one, else the one that the client calls (Destination.port).
func (to *routed) clusterOf(d *model.WeightedDestination) string {
	return clusterName(cmp.Or(d.Port, to.onlyPorts[d.Host], to.port), d.Subset, d.Host)
}

// routeKey asks for a route configuration by its name; nil: there is none.
type routeKey struct {
	scope *scope
	name  string
}

func (q routeKey) build(r *reader, old *serve.Resource) *serve.Resource {
	mesh, to := q.scope.source.mesh.get(r), q.scope.routed.get(r, routedOf(q))
	if to == nil {
		return nil
	}

	rc := &routev3.RouteConfiguration{
		Name:                     q.name,
		ValidateClusters:         wrapperspb.Bool(false),
		IgnorePortInHostMatching: true,
	}
	hosts := virtualHosts{
		mesh: mesh, namespace: q.scope.key.namespace, to: to,
		routes: routeBuilder{
			mesh: mesh, namespace: q.scope.key.namespace, port: to.port,
			gateways: []string{model.MeshGateway}, clusterOf: to.clusterOf,
		},
	}
	if to.single {
		rc.VirtualHosts = []*routev3.VirtualHost{{Name: q.name, Domains: []string{"*"}, Routes: hosts.routesOf(&to.hosts[0])}}
	} else {
		rc.VirtualHosts = hosts.build()
		rc.Metadata = byDestination()
	}
	boundBodies(rc)
	return q.scope.source.encode(old, q.name, rc)
}

// boundBodies raises what Envoy allows a direct response, 4 KiB, where one is larger.
func boundBodies(rc *routev3.RouteConfiguration) {
	most := 0
	for _, v := range rc.VirtualHosts {
		for _, r := range v.Routes {
			most = max(most, len(r.GetDirectResponse().GetBody().GetInlineBytes()))
		}
	}
	if most > 4096 {
		rc.MaxDirectResponseBodySizeBytes = wrapperspb.UInt32(uint32(most))
	}
}

// routeConfig returns the route configuration of a name; nil when there is none.
func (sc *scope) routeConfig(r *reader, name string) *serve.Resource {
	// Of names that lead nowhere nothing is remembered: clients make them up.
	if list, _, _ := sc.sights.get(r).behind(name); len(list) == 0 {
		return nil
	}
	return sc.routes.get(r, routeKey{sc, name})
}

// byDestination asks the proxy to send a request whose Host it does not know to
// the virtual host with the address that the client connected to. Only the
// built-in proxy reads it; with Envoy such a request goes the way of catchAll.
func byDestination() *corev3.Metadata {
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
		"isthmus": {Fields: map[string]*structpb.Value{"unknown_host": structpb.NewStringValue("original_destination")}},
	}}
}

// virtualHosts builds those of a port that many share.
type virtualHosts struct {
	mesh      *model.Mesh
	namespace string // of the clients
	to        *routed
	routes    routeBuilder
	taken     map[string]bool
	out       []*routev3.VirtualHost
}

// build tells hosts apart by the request's host header. A name that two of them
// claim goes to the first: Kubernetes services before others, and those before
// names that are only routed.
func (v *virtualHosts) build() []*routev3.VirtualHost {
	v.taken = map[string]bool{}
	for _, origin := range []model.Origin{model.FromKubernetes, model.FromServiceEntry} {
		for i := range v.to.hosts {
			h := &v.to.hosts[i]
			p := h.host.port(v.to.port)
			if p.svc.Origin != origin {
				continue
			}

			names := domainsOf(h.host, p.svc, v.namespace, v.mesh.ClusterDomain)
			for _, alias := range h.aliases {
				names = append(names, domainsOf(alias, alias.primary(), v.namespace, v.mesh.ClusterDomain)...)
			}
			v.add(h.host.name, names, v.routesOf(h))
		}
	}

	for _, b := range v.to.beyond {
		if routes := v.routes.routes(b.rule); len(routes) > 0 {
			v.add(b.name, []string{b.name}, routes)
		}
	}
	return append(v.out, catchAll(v.mesh))
}

// add adds a host under those of its names that are free.
func (v *virtualHosts) add(host string, names []string, routes []*routev3.Route) {
	var domains []string
	for _, d := range names {
		if !v.taken[d] {
			v.taken[d] = true
			domains = append(domains, d)
		}
	}
	if len(domains) > 0 {
		v.out = append(v.out, &routev3.VirtualHost{Name: host + ":" + utoa(v.to.port), Domains: domains, Routes: routes})
	}
}

// routesOf are the routes of a host: those of its VirtualService, or one to it.
func (v *virtualHosts) routesOf(h *routedHost) []*routev3.Route {
	if h.rule != nil {
		// One that is about other ports or clients alone changes nothing here.
		if routes := v.routes.routes(h.rule); len(routes) > 0 {
			return routes
		}
	}
	return []*routev3.Route{retried(v.mesh, clusterName(v.to.port, "", h.host.name))}
}

// catchAll is what becomes of requests to hosts that the mesh does not know.
func catchAll(mesh *model.Mesh) *routev3.VirtualHost {
	if !mesh.RegistryOnly {
		return &routev3.VirtualHost{
			Name: "allow_any", Domains: []string{"*"}, Routes: []*routev3.Route{routeTo(passthroughCluster)},
		}
	}
	return &routev3.VirtualHost{Name: "block_all", Domains: []string{"*"}, Routes: []*routev3.Route{{
		Name:  "default",
		Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
			Status: 502,
			Body: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{
				InlineString: "host is not known to the mesh, and outboundTrafficPolicy is REGISTRY_ONLY",
			}},
		}},
	}}}
}

// domainsOf lists the names under which clients of a namespace call a host, in
// the order of their length, then its addresses. Ports are ignored.
func domainsOf(h *host, svc *model.Service, clientNamespace, clusterDomain string) []string {
	domains := []string{h.name}
	switch {
	case h.vantage.clusterSet:
		// Nobody calls it by less than its full name (KEP-1645, DNS).
		if svc.Headless {
			domains = append(domains, "*."+h.name)
		}
	case svc.Origin == model.FromKubernetes:
		full := svc.Name + "." + svc.Namespace
		names := []string{full + ".svc", full}
		if svc.Namespace == clientNamespace {
			names = append(names, svc.Name)
		}
		domains = append(domains, names...)
		if svc.Headless {
			// Pods of a StatefulSet have names of their own below it.
			for _, n := range append([]string{h.name}, names...) {
				domains = append(domains, "*."+n)
			}
		}
	}

	for _, a := range svc.Addresses {
		if a.IsSingleIP() {
			domains = append(domains, hostLiteral(a.Addr().String()))
		}
	}
	if svc.Allocated.IsValid() {
		domains = append(domains, hostLiteral(svc.Allocated.String()))
	}
	return domains
}

// hostLiteral is an address as it stands in a host header.
func hostLiteral(ip string) string {
	if strings.Contains(ip, ":") {
		return "[" + ip + "]"
	}
	return ip
}
