package resources

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// routeConfig returns the route configuration of a name: a port, or HOST:PORT
// for a port that is looked into. It is nil when there is none.
func (s *Source) routeConfig(sc *scope, name string) *serve.Resource {
	hostName, portText, single := cutLast(name)
	if !single {
		portText = name
	}
	port, ok := atou(portText)
	if !ok {
		return nil
	}
	var hosts []*host
	if single {
		h := sc.byName[hostName]
		if h == nil {
			return nil
		}
		if p := h.port(port); p == nil || p.Protocol != model.Unknown {
			return nil
		}
		hosts = []*host{h}
	} else if hosts = sc.byPort[port]; len(hosts) == 0 {
		return nil
	}
	inputs := make([]any, 0, len(hosts)+1)
	inputs = append(inputs, sc.catalog.mesh)
	for _, h := range hosts {
		inputs = append(inputs, h)
		for _, alias := range sc.aliases[h.name] {
			inputs = append(inputs, alias)
		}
	}
	if e := sc.routes[name]; e.same(inputs) {
		return e.res
	}
	rc := &routev3.RouteConfiguration{
		Name:                     name,
		ValidateClusters:         wrapperspb.Bool(false),
		IgnorePortInHostMatching: true,
	}
	if single {
		rc.VirtualHosts = []*routev3.VirtualHost{{
			Name: name, Domains: []string{"*"},
			Routes: []*routev3.Route{retried(clusterName(port, "", hostName))},
		}}
	} else {
		rc.VirtualHosts = virtualHosts(sc, hosts, port)
		rc.Metadata = byDestination()
	}
	res := s.encode(name, rc)
	sc.routes[name] = &entry{res: res, inputs: inputs}
	return res
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
func virtualHosts(sc *scope, hosts []*host, port uint16) []*routev3.VirtualHost {
	taken := map[string]bool{}
	var out []*routev3.VirtualHost
	for _, origin := range []model.Origin{model.FromKubernetes, model.FromServiceEntry} {
		for _, h := range hosts {
			p := h.port(port)
			if p.svc.Origin != origin {
				continue
			}
			var domains []string
			names := domainsOf(h, p.svc, sc.key.namespace, sc.catalog.mesh.ClusterDomain)
			for _, alias := range sc.aliases[h.name] {
				names = append(names, domainsOf(alias, alias.primary(), sc.key.namespace, sc.catalog.mesh.ClusterDomain)...)
			}
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
				Name:    h.name + ":" + utoa(port),
				Domains: domains,
				Routes:  []*routev3.Route{retried(clusterName(port, "", h.name))},
			})
		}
	}
	return append(out, catchAll(sc.catalog.mesh))
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
	if svc.Origin == model.FromKubernetes {
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

// cutLast splits HOST:PORT.
func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}
