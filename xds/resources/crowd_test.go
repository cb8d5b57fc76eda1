package resources

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/isthmus-mesh/isthmus/compile"
	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// agedEntry is a ServiceEntry made on a day of January.
func agedEntry(name string, day int, spec string) string {
	return fmt.Sprintf("---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: %s, namespace: client, creationTimestamp: \"2026-01-%02dT00:00:00Z\"}\nspec: %s\n", name, day, spec)
}

// listenerChains lists a listener's chains: server names, and the cluster or
// "http".
func (s *scene) listenerChains(name string) []string {
	l := message[*listenerv3.Listener](s, s.client, xds.TypeListener, name)
	leads := func(fc *listenerv3.FilterChain) string {
		tcp := &tcpv3.TcpProxy{}
		last := fc.Filters[len(fc.Filters)-1]
		if last.GetTypedConfig().UnmarshalTo(tcp) != nil {
			return "http"
		}
		return tcp.GetCluster()
	}
	var out []string
	for _, fc := range l.GetFilterChains() {
		out = append(out, strings.Join(fc.GetFilterChainMatch().GetServerNames(), " ")+" -> "+leads(fc))
	}
	if fc := l.GetDefaultFilterChain(); fc != nil {
		out = append(out, "else -> "+leads(fc))
	}
	return out
}

// TestOlderEntryHasTheConnections: hosts that nothing in a connection tells apart
// are served by age, whatever names they choose: at an address, a prefix, and on
// a whole port.
func TestOlderEntryHasTheConnections(t *testing.T) {
	for where, c := range map[string]struct{ addresses, listener, want string }{
		"address": {"addresses: [10.20.0.1],", "10.20.0.1_9000", " -> outbound|9000||*.z.example.com"},
		"prefix":  {"addresses: [10.20.0.0/16],", "0.0.0.0_9000", "10.20.0.0/16 -> outbound|9000||*.z.example.com\nelse -> " + passthroughCluster},
		"port":    {"", "0.0.0.0_9000", "else -> outbound|9000||*.z.example.com"},
	} {
		spec := func(host string) string {
			return `{hosts: ["` + host + `"], ` + c.addresses + ` resolution: STATIC, ports: [{number: 9000, name: tcp, protocol: TCP}], endpoints: [{address: 10.9.0.1}]}`
		}
		s := newScene(t, agedEntry("z", 1, spec("*.z.example.com"))+agedEntry("a", 2, spec("*.a.example.com")))
		if got := s.chains(c.listener); got != c.want {
			t.Errorf("%s: chains\n%s\nwant\n%s", where, got, c.want)
		}
	}
}

// TestWildcardEntryActs: each port of a wildcard host, by its protocol: HTTP by
// the Host header, TCP by the port, and one that declares none by either name.
func TestWildcardEntryActs(t *testing.T) {
	s := newScene(t, agedEntry("e", 1, `{hosts: ["*.bar.global"], location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 8000, name: http, protocol: HTTP}, {number: 9000, name: tcp, protocol: TCP}, {number: 7000, name: x}], endpoints: [{address: 10.9.0.1}]}`))
	if got, want := s.routed("8000", "*.bar.global"), "outbound|8000||*.bar.global"; got != want {
		t.Errorf("HTTP is routed to %q, want %q", got, want)
	}
	if got, want := s.chains("0.0.0.0_9000"), "else -> outbound|9000||*.bar.global"; got != want {
		t.Errorf("TCP: chains\n%s\nwant\n%s", got, want)
	}
	if got, want := s.routed("7000", "*.bar.global"), "outbound|7000||*.bar.global"; got != want {
		t.Errorf("without a protocol: routed to %q, want %q", got, want)
	}
}

// TestTLSWithoutDeclaredProtocol: a host without an address, on a port that
// declares no protocol, is known by the server name where the client speaks TLS,
// also where unknown hosts are shut out.
func TestTLSWithoutDeclaredProtocol(t *testing.T) {
	s := newScene(t, agedEntry("e", 1, `{hosts: ["*.example.com"], resolution: NONE, ports: [{number: 8443, name: any}]}`))
	closed := compile.Mesh(testCluster, &meshconfig.MeshConfig{OutboundTrafficPolicy: &meshconfig.MeshConfig_OutboundTrafficPolicy{
		Mode: meshconfig.MeshConfig_OutboundTrafficPolicy_REGISTRY_ONLY,
	}})
	insert(s.mesh, s.store.Meshes, closed)
	s.client = s.view(node("sidecar", "client", "c-1", nil))
	got := s.listenerChains("0.0.0.0_8443")
	if want := "*.example.com -> outbound|8443||*.example.com"; !slices.Contains(got, want) {
		t.Errorf("chains %q, want %q among them", got, want)
	}
	if want := "else -> " + blackHoleCluster; !slices.Contains(got, want) {
		t.Errorf("chains %q, want %q among them", got, want)
	}
	if c := s.cluster(s.client, "outbound|8443||*.example.com"); c.GetType() != clusterv3.Cluster_ORIGINAL_DST {
		t.Errorf("cluster %v", c)
	}
}

// TestPrefixChangesNothingForHTTP: HTTP goes by the Host header, as in Istio;
// compile.EntryNotes says so.
func TestPrefixChangesNothingForHTTP(t *testing.T) {
	s := newScene(t, agedEntry("e", 1, `{hosts: [api.example.com], addresses: [10.20.0.0/16], resolution: NONE, ports: [{number: 80, name: http, protocol: HTTP}]}`))
	if got, want := s.routed("80", "api.example.com"), "outbound|80||api.example.com"; got != want {
		t.Errorf("routed to %s, want %s", got, want)
	}
	for name := range s.resources(s.client, xds.TypeListener) {
		if strings.HasPrefix(name, "10.20.") {
			t.Errorf("there is a listener %s", name)
		}
	}
}

// TestTwoGatewaysOnOnePort: their hosts count together; a Gateway that does not
// count adds none.
func TestTwoGatewaysOnOnePort(t *testing.T) {
	gateway := func(namespace, name, hosts string) string {
		return "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: " + name + ", namespace: " + namespace + "}\n" +
			"spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 15443, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH}, hosts: [" + hosts + "]}]}\n"
	}
	s := newScene(t, gateway("istio-system", "a", `"*.global"`)+gateway("istio-system", "b", `"shop/*.local"`)+gateway("other", "c", `"*.example.com"`))
	got := slices.Sorted(maps.Keys(s.resources(s.gateway, xds.TypeListener)))
	if !slices.Equal(got, []string{"0.0.0.0_15443"}) {
		t.Errorf("listeners %q", got)
	}
	if got, want := s.chains("0.0.0.0_15443"), ""; got != want {
		t.Errorf("a sidecar has the gateway's listener: %s", got)
	}
	s.client = s.gateway
	if got, want := s.listenerChains("0.0.0.0_15443"), []string{"*.global *.local -> " + blackHoleCluster}; !slices.Equal(got, want) {
		t.Errorf("chains %q, want %q", got, want)
	}
	for _, name := range []string{"outbound_.80_._.web.shop.global", "outbound_.80_._." + webHost} {
		if s.cluster(s.gateway, name) == nil {
			t.Errorf("%s is not reached", name)
		}
	}
}

// TestPassthroughLeadsToNoServiceEntry: whoever writes a ServiceEntry chooses its
// endpoints, so a stranger's server name must not lead there. api.Warnings says
// so to who writes the Gateway.
func TestPassthroughLeadsToNoServiceEntry(t *testing.T) {
	for _, hosts := range []string{`"*.example.com"`, `"*"`} {
		s := newScene(t, agedEntry("vm", 1, `{hosts: [vm.example.com], location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 10.9.0.1, serviceAccount: sa}]}`)+`---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g, namespace: istio-system}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 15443, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH}, hosts: [`+hosts+`]}]}
`)
		for name := range s.resources(s.gateway, xds.TypeCluster) {
			if strings.HasPrefix(name, "outbound_.") && strings.Contains(name, "vm") {
				t.Errorf("hosts %s: the gateway has %s", hosts, name)
			}
		}
	}
}

// TestPassthroughKeepsToItsCluster: what a ServiceEntry adds to a Service, as a rule
// the gateway of another cluster, is for clients in this one. The gateway had it too:
// with all pods gone it led callers of the other cluster back there, and while their
// connections lasted they never noticed that the pods had come back.
func TestPassthroughKeepsToItsCluster(t *testing.T) {
	s := newScene(t, `---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g, namespace: istio-system}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 15443, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH}, hosts: ["*.local"]}]}
`)
	entry := &model.Service{
		Host: webHost, Cluster: testCluster, Namespace: "shop", Name: "elsewhere",
		Origin: model.FromServiceEntry, JoinsService: true, Resolution: model.ByEndpoints,
		Ports: []model.Port{port("http", 80, model.HTTP, 80)},
	}
	insert(s.mesh, s.store.Services, entry)
	insert(s.mesh, s.store.Endpoints, &model.EndpointSet{
		Host: webHost, Cluster: testCluster, Namespace: "shop", Name: "elsewhere",
		Endpoints: []model.Endpoint{{Address: "203.0.113.9", Ports: map[string]uint16{"http": 15443}, TLS: true}},
	})
	client := s.loadAssignment(s.client, "outbound|80||"+webHost).String()
	if !strings.Contains(client, "203.0.113.9") {
		t.Errorf("a client in the cluster has %s", client)
	}
	name := "outbound_.80_._." + webHost
	if s.cluster(s.gateway, name) == nil {
		t.Fatalf("the gateway has no %s", name)
	}
	if got := s.loadAssignment(s.gateway, name).String(); strings.Contains(got, "203.0.113.9") {
		t.Errorf("the gateway has %s", got)
	}
}

// TestClientsRuleStandsAlone: a rule of the client's namespace takes the place of
// that of the service's namespace, and inherits nothing of it.
func TestClientsRuleStandsAlone(t *testing.T) {
	const own = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a, namespace: shop}
spec: {host: web, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}
`
	const clients = `---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: b, namespace: client}
spec: {host: web.shop.svc.cluster.local, trafficPolicy: {tls: {mode: DISABLE}}}
`
	name := "outbound|80||" + webHost
	s := newScene(t, own)
	if c := s.cluster(s.client, name); c.GetLbPolicy() != clusterv3.Cluster_ROUND_ROBIN || len(c.GetTransportSocketMatches()) == 0 {
		t.Errorf("with the service's rule: %v", c)
	}
	s = newScene(t, own+clients)
	if c := s.cluster(s.client, name); c.GetLbPolicy() != clusterv3.Cluster_LEAST_REQUEST || len(c.GetTransportSocketMatches()) != 0 || c.GetTransportSocket() != nil {
		t.Errorf("with the client's rule too: %v", c)
	}
}

// TestRegionsOfEntries: endpoints of the client's zone come first, unless the
// mesh's localityLbSetting says no.
func TestRegionsOfEntries(t *testing.T) {
	const name = "outbound|80||api.example.com"
	s := newScene(t, agedEntry("e", 1, `{hosts: [api.example.com], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 10.9.0.1, locality: r1/z1}, {address: 10.9.0.2, locality: r1/z2}, {address: 10.9.0.3, locality: r2/z9}]}`))
	insert(s.mesh, s.store.Workloads, &model.Workload{Cluster: testCluster, Namespace: "client", Name: "c-1", Node: "n1", Locality: "r1/z1"})
	view := func() serve.View { return s.view(node("sidecar", "client", "c-1", nil)) }
	if got, want := s.reached(view(), name), "10.9.0.1 plaintext, 10.9.0.2 plaintext later, 10.9.0.3 plaintext later"; got != want {
		t.Errorf("reached %s, want %s", got, want)
	}
	off := &meshconfig.MeshConfig{LocalityLbSetting: &networking.LocalityLoadBalancerSetting{Enabled: wrapperspb.Bool(false)}}
	insert(s.mesh, s.store.Meshes, compile.Mesh(testCluster, off))
	if got, want := s.reached(view(), name), "10.9.0.1 plaintext, 10.9.0.2 plaintext, 10.9.0.3 plaintext"; got != want {
		t.Errorf("with localityLbSetting off: reached %s, want %s", got, want)
	}
}

// TestConnectTimeoutReachesClusters: of MeshConfig's fields that once changed
// nothing, this one does.
func TestConnectTimeoutReachesClusters(t *testing.T) {
	s := newScene(t, "")
	insert(s.mesh, s.store.Meshes, compile.Mesh(testCluster, &meshconfig.MeshConfig{ConnectTimeout: durationpb.New(3 * time.Second)}))
	s.client = s.view(node("sidecar", "client", "c-1", nil))
	if got := s.cluster(s.client, "outbound|80||"+webHost).GetConnectTimeout().AsDuration(); got != 3*time.Second {
		t.Errorf("connect timeout %s, want 3s", got)
	}
}
