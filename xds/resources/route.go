package resources

import (
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
	hosts  []hostNames
}

type hostNames struct {
	host    *host
	aliases []*host
}

func (a hostNames) equal(b hostNames) bool {
	return a.host == b.host && slices.Equal(a.aliases, b.aliases)
}

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

	now := &routed{port: port, single: single}
	for _, h := range list {
		now.hosts = append(now.hosts, hostNames{h, sight.aliases[h.name]})
	}
	if old != nil && slices.EqualFunc(old.hosts, now.hosts, hostNames.equal) {
		return old
	}
	return now
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
	if to.single {
		rc.VirtualHosts = []*routev3.VirtualHost{{
			Name: q.name, Domains: []string{"*"},
			Routes: []*routev3.Route{retried(mesh, clusterName(to.port, "", to.hosts[0].host.name))},
		}}
	} else {
		rc.VirtualHosts = to.virtualHosts(mesh, q.scope.key.namespace)
		rc.Metadata = byDestination()
	}
	return q.scope.source.encode(old, q.name, rc)
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

// virtualHosts tells hosts apart by the request's host header. A name that two
// of them claim goes to the first, Kubernetes services before others.
func (to *routed) virtualHosts(mesh *model.Mesh, namespace string) []*routev3.VirtualHost {
	taken := map[string]bool{}
	var out []*routev3.VirtualHost
	for _, origin := range []model.Origin{model.FromKubernetes, model.FromServiceEntry} {
		for _, h := range to.hosts {
			p := h.host.port(to.port)
			if p.svc.Origin != origin {
				continue
			}

			names := domainsOf(h.host, p.svc, namespace, mesh.ClusterDomain)
			for _, alias := range h.aliases {
				names = append(names, domainsOf(alias, alias.primary(), namespace, mesh.ClusterDomain)...)
			}
			var domains []string
			for _, d := range names {
				if !taken[d] {
					taken[d] = true
					domains = append(domains, d)
				}
			}
			if len(domains) == 0 {
				continue
			}

			out = append(out, &routev3.VirtualHost{
				Name:    h.host.name + ":" + utoa(to.port),
				Domains: domains,
				Routes:  []*routev3.Route{retried(mesh, clusterName(to.port, "", h.host.name))},
			})
		}
	}
	return append(out, catchAll(mesh))
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
