package resources

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

const (
	early = "2026-01-01T00:00:00Z"
	late  = "2026-01-02T00:00:00Z"
)

// gatewayDoc is a Gateway that selects the scene's gateway.
func gatewayDoc(namespace, name, created, servers string) string {
	return fmt.Sprintf("---\nkind: Gateway\nmetadata: {name: %s, namespace: %s, creationTimestamp: %q}\nspec: {selector: {istio: ingressgateway}, servers: [%s]}\n",
		name, namespace, created, servers)
}

// httpPort is a server for HTTP on port 80.
func httpPort(hosts string) string {
	return "{port: {number: 80, name: http, protocol: HTTP}, hosts: [" + hosts + "]}"
}

// routeDoc is a VirtualService whose answer tells its name.
func routeDoc(namespace, name, created, spec string) string {
	return fmt.Sprintf("---\nkind: VirtualService\nmetadata: {name: %s, namespace: %s, creationTimestamp: %q}\nspec: {%s}\n", name, namespace, created, spec)
}

// says is a route that answers with a name, for requests below a path.
func says(name, path string) string {
	match := ""
	if path != "" {
		match = "match: [{uri: {prefix: " + path + "}}], "
	}
	return "{" + match + "directResponse: {status: 200, body: {string: " + name + "}}}"
}

// edge lists what the scene's gateway routes on a port of its pod: a line for each host,
// with what its routes come to, in order.
func (s *scene) edge(port string) string {
	s.t.Helper()
	var lines []string
	for _, v := range message[*routev3.RouteConfiguration](s, s.gateway, xds.TypeRoute, "http."+port).GetVirtualHosts() {
		line := strings.Join(v.Domains, " ") + ":"
		for _, r := range v.Routes {
			line += " " + cmpPath(r.Match) + "=" + where(r)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func cmpPath(m *routev3.RouteMatch) string {
	if m.GetPath() != "" {
		return m.GetPath()
	}
	return m.GetPrefix()
}

func where(r *routev3.Route) string {
	switch {
	case r.GetDirectResponse() != nil:
		return string(r.GetDirectResponse().GetBody().GetInlineBytes())
	case r.GetRedirect() != nil:
		return "redirect"
	}
	return r.GetRoute().GetCluster()
}

// TestGatewayServes: which requests of a gateway's clients are routed, and by what.
func TestGatewayServes(t *testing.T) {
	front := gatewayDoc("shop", "front", early, httpPort(`"*"`))
	const bound = `gateways: [shop/front], hosts: [a.example], http: `
	for name, c := range map[string]struct{ docs, want string }{
		"nothing is bound": {
			docs: front + routeDoc("shop", "v", early, `hosts: [a.example], http: [`+says("v", "")+`]`),
		},
		"a service": {
			docs: front + routeDoc("shop", "v", early, `gateways: [front], hosts: ["*"], http: [{match: [{uri: {exact: /hello}}], route: [{destination: {host: web, port: {number: 80}}}]}]`),
			want: "*: /hello=outbound|80||" + webHost,
		},
		"the only port": {
			docs: front + routeDoc("shop", "v", early, `gateways: [front], hosts: [a.example], http: [{route: [{destination: {host: web}}]}]`),
			want: "a.example: /=outbound|80||" + webHost,
		},
		"a service that there is not": {
			docs: front + routeDoc("shop", "v", early, `gateways: [front], hosts: [a.example], http: [{route: [{destination: {host: nobody}}]}]`),
			want: "a.example: /=BlackHoleCluster",
		},
		"a service that its namespace does not see": {
			docs: front + "---\nkind: Service\nmetadata: {name: secret, namespace: shop, annotations: {networking.istio.io/exportTo: .}}\nspec: {clusterIP: 10.96.0.77, ports: [{name: http, port: 80}]}\n" +
				routeDoc("shop", "mine", early, `gateways: [shop/front], hosts: [a.example], http: [{route: [{destination: {host: secret}}]}]`) +
				routeDoc("other", "theirs", early, `gateways: [shop/front], hosts: [b.example], http: [{route: [{destination: {host: secret.shop.svc.cluster.local}}]}]`),
			want: "a.example: /=outbound|80||secret.shop.svc.cluster.local\nb.example: /=BlackHoleCluster",
		},
		"hosts in common": {
			docs: gatewayDoc("shop", "front", early, httpPort(`"*.example", a.test`)) +
				routeDoc("shop", "v", early, `gateways: [front], hosts: [a.example, "*.b.example", "*.test", c.other], http: [`+says("v", "")+`]`),
			want: "*.b.example: /=v\na.example: /=v\na.test: /=v",
		},
		"hosts for namespaces": {
			docs: gatewayDoc("shop", "front", early, httpPort(`./a.example, other/b.example, "*/c.example"`)) +
				routeDoc("shop", "mine", early, `gateways: [front], hosts: ["*"], http: [`+says("mine", "")+`]`) +
				routeDoc("other", "theirs", late, `gateways: [shop/front], hosts: ["*"], http: [`+says("theirs", "")+`]`),
			want: "a.example: /=mine\nb.example: /=theirs\nc.example: /=mine",
		},
		"several for a host": {
			docs: front + routeDoc("shop", "young", late, bound+`[`+says("young", "/y")+`, `+says("young-all", "")+`]`) +
				routeDoc("other", "old", early, bound+`[`+says("old", "/o")+`, `+says("old-all", "")+`]`),
			want: "a.example: /o=old /y=young /=old-all",
		},
		"sidecars alone": {
			docs: front + routeDoc("shop", "v", early, `gateways: [front, mesh], hosts: [a.example], http: [{match: [{gateways: [mesh], uri: {prefix: /m}}, {gateways: [front], uri: {prefix: /f}}, {uri: {prefix: /both}}], directResponse: {status: 200, body: {string: v}}}]`),
			want: "a.example: /f=v /both=v",
		},
		"not shown to the gateway": {
			docs: front + routeDoc("shop", "v", early, `exportTo: ["."], `+bound+`[`+says("v", "")+`]`),
		},
		"another's host": {
			docs: front + gatewayDoc("tenant", "theirs", late, httpPort(`a.example, b.example`)) +
				routeDoc("shop", "mine", late, bound+`[`+says("mine", "/m")+`]`) +
				routeDoc("tenant", "stolen", early, `gateways: [theirs], hosts: [a.example, b.example], http: [`+says("stolen", "")+`]`),
			want: "a.example: /m=mine\nb.example: /=stolen",
		},
		"to HTTPS": {
			docs: gatewayDoc("shop", "front", early, `{port: {number: 80, name: http, protocol: HTTP}, tls: {httpsRedirect: true}, hosts: ["*.example"]}`) +
				routeDoc("shop", "v", early, bound+`[`+says("v", "")+`]`),
			want: "*.example: /=redirect\na.example: /=redirect",
		},
		"conditions on the port that is called": {
			docs: front + routeDoc("shop", "v", early, bound+`[{match: [{port: 80, uri: {prefix: /called}}, {port: 8080, uri: {prefix: /pod}}], directResponse: {status: 200, body: {string: v}}}]`),
			want: "a.example: /called=v",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, gatewayService+c.docs)
			if got := s.edge("8080"); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			checkReferences(t, s.mesh, s.gateway)
		})
	}
}

// gatewayService leads port 80 to the pod's 8080, as the chart's does.
const gatewayService = "---\nkind: Service\nmetadata: {name: istio-ingressgateway, namespace: istio-system}\n" +
	"spec: {clusterIP: 10.96.0.99, selector: {istio: ingressgateway}, ports: [{name: http2, port: 80, targetPort: 8080}, {name: tls, port: 15443}]}\n"

// TestGatewayNormalizesPaths: as the mesh configuration says, and no otherwise.
func TestGatewayNormalizesPaths(t *testing.T) {
	for paths, want := range map[model.PathNormalization][2]bool{
		model.PathsBase: {true, false}, model.PathsMerged: {true, true}, model.PathsAsTheyCome: {false, false},
	} {
		mesh := model.DefaultMesh(testCluster)
		mesh.Paths = paths
		m := &hcmv3.HttpConnectionManager{}
		if err := edgeHTTP(mesh, "r", nil).GetTypedConfig().UnmarshalTo(m); err != nil {
			t.Fatal(err)
		}
		if got := [2]bool{m.GetNormalizePath().GetValue(), m.GetMergeSlashes()}; got != want {
			t.Errorf("paths %d: normalized, slashes merged: %v; want %v", paths, got, want)
		}
	}
}

// TestGatewayHasWhatItsRoutesName: clusters and endpoints of the services that routes lead
// to, those without mutual TLS too, and of no others.
func TestGatewayHasWhatItsRoutesName(t *testing.T) {
	s := newScene(t, gatewayService+gatewayDoc("shop", "front", early, httpPort(`"*"`))+
		routeDoc("shop", "v", early, `gateways: [front], hosts: ["*"], http: [{route: [{destination: {host: web, subset: v1}, weight: 1}, {destination: {host: set}, weight: 1}], mirror: {host: shadow}}]`)+
		"---\nkind: DestinationRule\nmetadata: {name: d, namespace: shop}\nspec: {host: web, subsets: [{name: v1, labels: {}}]}\n")
	other := service("shop", "other", "10.96.0.20", port("http", 80, model.HTTP, 8080))
	shadow := service("shop", "shadow", "10.96.0.21", port("http", 80, model.HTTP, 8080))
	headless := service("shop", "set", "", port("http", 80, model.HTTP, 9090))
	headless.Headless, headless.Resolution, headless.Addresses = true, model.ByDestination, nil
	insert(s.mesh, s.store.Services, other, shadow, headless)
	insert(s.mesh, s.store.Endpoints, &model.EndpointSet{Host: headless.Host, Cluster: testCluster, Namespace: "shop", Name: "set",
		Endpoints: []model.Endpoint{{Address: "10.0.0.9", Ports: map[string]uint16{"http": 9090}}}})

	clusters := s.resources(s.gateway, xds.TypeCluster)
	want := []string{"BlackHoleCluster", "outbound|80|v1|" + webHost, "outbound|80||set.shop.svc.cluster.local", "outbound|80||shadow.shop.svc.cluster.local"}
	if got := slices.Sorted(maps.Keys(clusters)); !slices.Equal(got, want) {
		t.Errorf("clusters %q, want %q", got, want)
	}
	set := decoded[*clusterv3.Cluster](t, clusters["outbound|80||set.shop.svc.cluster.local"])
	if set.GetType() != clusterv3.Cluster_EDS {
		t.Errorf("a headless service is resolved by %v: a client has chosen no pod", set.GetType())
	}
	if got := s.reached(s.gateway, set.Name); got != "10.0.0.9 plaintext" {
		t.Errorf("of the headless service %q is reached", got)
	}
	if got := s.reached(s.gateway, "outbound|80|v1|"+webHost); got != "10.0.0.1 mutual, 10.0.0.2 mutual" {
		t.Errorf("of web %q is reached", got)
	}
	if got := s.reached(s.gateway, clusterName(80, "", other.Host)); got != "" {
		t.Errorf("%q is reached, where no route leads", got)
	}
	if got := slices.Sorted(maps.Keys(s.resources(s.gateway, xds.TypeEndpoint))); !slices.Equal(got, want[1:]) {
		t.Errorf("all load assignments: %q, want %q", got, want[1:])
	}
}

// TestGatewayFollowsItsRoutes: a VirtualService that comes, and changes, is told of.
func TestGatewayFollowsItsRoutes(t *testing.T) {
	s := newScene(t, gatewayService+gatewayDoc("shop", "front", early, httpPort(`"*"`)))
	if got := s.edge("8080"); got != "" {
		t.Fatalf("routes %q", got)
	}
	for _, path := range []string{"/a", "/b"} {
		s.addObject([]byte(strings.TrimPrefix(routeDoc("shop", "v", early, `gateways: [front], hosts: ["*"], http: [{match: [{uri: {prefix: `+path+`}}], route: [{destination: {host: web}}]}]`), "---\n")))
		if got, want := s.edge("8080"), "*: "+path+"=outbound|80||"+webHost; got != want {
			t.Errorf("routes %q, want %q", got, want)
		}
		if s.resources(s.gateway, xds.TypeCluster)["outbound|80||"+webHost] == nil || s.reached(s.gateway, "outbound|80||"+webHost) == "" {
			t.Error("the service has no cluster, or no endpoints")
		}
	}
}

// TestPlaintextBesideTLS: on a port that passes TLS through, too, HTTP is told by its
// first bytes.
func TestPlaintextBesideTLS(t *testing.T) {
	s := newScene(t, gatewayService+gatewayDoc("istio-system", "g", early,
		`{port: {number: 80, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH}, hosts: ["*.local"]}, `+httpPort(`"*"`)))
	l := message[*listenerv3.Listener](s, s.gateway, xds.TypeListener, "0.0.0.0_8080")
	var got []string
	for _, c := range l.FilterChains {
		got = append(got, c.Name+" "+c.GetFilterChainMatch().GetTransportProtocol())
	}
	if want := []string{"passthrough tls", "http raw_buffer"}; !slices.Equal(got, want) || len(l.ListenerFilters) != 1 {
		t.Errorf("chains %q, %d filters; want %q", got, len(l.ListenerFilters), want)
	}
}

// TestGatewaySpeaksWhatIsDeclared: clients of a gateway choose their HTTP version without
// knowing the application; it is spoken to in the one that its port declares. Callers in
// the mesh choose for themselves.
func TestGatewaySpeaksWhatIsDeclared(t *testing.T) {
	s := newScene(t, gatewayService+gatewayDoc("shop", "front", early, httpPort(`"*"`))+
		routeDoc("shop", "v", early, `gateways: [front], hosts: ["*"], http: [{route: [{destination: {host: plain}, weight: 1}, {destination: {host: rpc}, weight: 1}, {destination: {host: asks}, weight: 1}]}]`)+
		"---\nkind: DestinationRule\nmetadata: {name: d, namespace: shop}\nspec: {host: asks, trafficPolicy: {connectionPool: {http: {useClientProtocol: true}}}}\n")
	insert(s.mesh, s.store.Services,
		service("shop", "plain", "10.96.0.21", port("http", 80, model.HTTP, 8080)),
		service("shop", "asks", "10.96.0.22", port("http", 80, model.HTTP, 8080)),
		service("shop", "rpc", "10.96.0.23", port("grpc", 80, model.GRPC, 8080)))

	for _, tt := range []struct{ name, edge, mesh string }{
		{name: "plain", edge: "HTTP/1.1", mesh: "the caller's"},
		{name: "rpc", edge: "HTTP/2", mesh: "HTTP/2"},
		{name: "asks", edge: "the caller's", mesh: "the caller's"},
	} {
		name := clusterName(80, "", tt.name+".shop.svc.cluster.local")
		if got := spokenIn(t, s.resources(s.gateway, xds.TypeCluster)[name]); got != tt.edge {
			t.Errorf("%s is spoken to in %s from the gateway, want %s", tt.name, got, tt.edge)
		}
		if got := spokenIn(t, s.resources(s.client, xds.TypeCluster)[name]); got != tt.mesh {
			t.Errorf("%s is spoken to in %s from the mesh, want %s", tt.name, got, tt.mesh)
		}
	}
}

// spokenIn is the HTTP version of a cluster.
func spokenIn(t *testing.T, r *serve.Resource) string {
	t.Helper()
	o := &httpv3.HttpProtocolOptions{}
	if err := decoded[*clusterv3.Cluster](t, r).TypedExtensionProtocolOptions[xds.HTTPOptions].UnmarshalTo(o); err != nil {
		t.Fatal(err)
	}
	switch {
	case o.GetUseDownstreamProtocolConfig() != nil:
		return "the caller's"
	case o.GetExplicitHttpConfig().GetHttp2ProtocolOptions() != nil:
		return "HTTP/2"
	case o.GetExplicitHttpConfig().GetHttpProtocolOptions() != nil:
		return "HTTP/1.1"
	}
	return "nothing"
}
