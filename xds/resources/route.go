package resources

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

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

// routeKey asks for a whole route configuration by its name; nil: there is none.
type routeKey struct {
	scope *scope
	name  string
}

func (q routeKey) build(r *reader, old *serve.Resource) *serve.Resource {
	mesh, to := q.scope.mesh.get(r), q.scope.routed.get(r, routedOf(q))
	if to == nil {
		return nil
	}

	rc := &routev3.RouteConfiguration{
		Name:                     q.name,
		ValidateClusters:         wrapperspb.Bool(false),
		IgnorePortInHostMatching: true,
	}
	if to.single {
		rc.VirtualHosts = []*routev3.VirtualHost{{Name: q.name, Domains: []string{"*"}, Routes: to.hosts[0].routes()}}
	} else {
		for _, v := range to.hosts {
			rc.VirtualHosts = append(rc.VirtualHosts, v.message(v.name+":"+utoa(to.port)))
		}
		rc.VirtualHosts = append(rc.VirtualHosts, catchAll(mesh))
		rc.Metadata = byDestination()
	}
	boundBodies(rc)
	return q.scope.source.encode(old, q.name, rc)
}

// tableKey asks for the route configuration of a port that many share, without its
// virtual hosts, which are resources of their own. It says the same whatever hosts
// there are.
type tableKey struct {
	scope *scope
	name  string
}

func (q tableKey) build(r *reader, old *serve.Resource) *serve.Resource {
	mesh := q.scope.mesh.get(r)
	return q.scope.source.encode(old, q.name, &routev3.RouteConfiguration{
		Name:                     q.name,
		ValidateClusters:         wrapperspb.Bool(false),
		IgnorePortInHostMatching: true,
		VirtualHosts:             []*routev3.VirtualHost{catchAll(mesh)},
		Vhds:                     &routev3.Vhds{ConfigSource: adsSource()},
		Metadata:                 byDestination(),
		// Of all hosts together. If it followed the largest, a change of that one
		// would send the configuration again.
		MaxDirectResponseBodySizeBytes: wrapperspb.UInt32(model.MaxDirectBody),
	})
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

// routeConfig returns the route configuration of a name, with its virtual hosts or
// with those apart; nil when there is none.
func (sc *scope) routeConfig(r *reader, name string, hostsApart bool) *serve.Resource {
	// Of names that lead nowhere nothing is remembered: clients make them up.
	list, _, single := sc.sights.get(r).behind(name)
	switch {
	case len(list) == 0:
		return nil
	case hostsApart && !single:
		return sc.tables.get(r, tableKey{sc, name})
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
