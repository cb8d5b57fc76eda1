package resources

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/compile"
	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// These tests hold configuration to having an effect: what differs in the
// objects that people write must differ in what proxies are sent. Objects go
// through the same functions as in package kube.

const webHost = "web.shop.svc.cluster.local"

// scene is a mesh with a service web in namespace shop, whose two pods listen
// on 8080, and a gateway.
type scene struct {
	*mesh
	client  serve.View // a sidecar in namespace client
	gateway serve.View
}

// newScene adds objects, as YAML documents, to the scene.
func newScene(t *testing.T, docs string) *scene {
	t.Helper()
	m := newMesh(t)
	web := service("shop", "web", "10.96.0.10", port("http", 80, model.HTTP, 8080))
	insert(m, m.store.Services, web)
	m.endpoints(web, "10.0.0.1", "10.0.0.2")
	d := utilyaml.NewYAMLReader(bufioReader(docs))
	for {
		doc, err := d.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		m.addObject(doc)
	}
	return &scene{
		mesh:    m,
		client:  m.view(node("sidecar", "client", "c-1", map[string]string{"app": "c"})),
		gateway: m.view(node("router", "istio-system", "gw-1", map[string]string{"istio": "ingressgateway"})),
	}
}

// addObject compiles one object into rows.
func (m *mesh) addObject(doc []byte) {
	m.t.Helper()
	raw, err := yaml.YAMLToJSON(doc)
	if err != nil {
		m.t.Fatal(err)
	}
	if bytes.Equal(bytes.TrimSpace(raw), []byte("null")) {
		return
	}
	if bytes.Contains(raw, []byte(`"kind":"Service"`)) {
		svc := &corev1.Service{}
		if err := yaml.Unmarshal(doc, svc); err != nil {
			m.t.Fatal(err)
		}
		row, reason := compile.Service(testCluster, svc, "cluster.local", "")
		if row == nil {
			m.t.Fatal(reason)
		}
		insert(m, m.store.Services, row)
		return
	}
	obj, err := api.Decode(raw)
	if err != nil {
		m.t.Fatalf("%v in\n%s", err, doc)
	}
	switch obj.Kind {
	case api.KindServiceEntry:
		rows := compile.ServiceEntry(testCluster, obj, nil)
		insert(m, m.store.Services, rows.Services...)
		insert(m, m.store.Endpoints, rows.Endpoints...)
		insert(m, m.store.Traits, rows.Traits...)
	case api.KindDestinationRule:
		insert(m, m.store.Destinations, compile.DestinationRule(testCluster, obj, "cluster.local"))
	case api.KindVirtualService:
		insert(m, m.store.Virtuals, compile.VirtualService(testCluster, obj, "cluster.local"))
	case api.KindPeerAuthentication:
		insert(m, m.store.Peers, compile.PeerAuthentication(testCluster, obj))
	case api.KindRequestAuthentication:
		insert(m, m.store.Authentications, compile.RequestAuthentication(testCluster, obj))
	case api.KindAuthorizationPolicy:
		insert(m, m.store.Policies, compile.AuthorizationPolicy(testCluster, obj))
	case api.KindGateway:
		insert(m, m.store.Gateways, compile.Gateway(testCluster, obj))
	}
}

// message decodes a resource of a view; nil when there is none.
func message[T proto.Message](s *scene, v serve.View, typeURL, name string) (none T) {
	s.t.Helper()
	res := s.resources(v, typeURL, name)[name]
	if res == nil {
		return none
	}
	msg, err := res.Body.UnmarshalNew()
	if err != nil {
		s.t.Fatal(err)
	}
	return msg.(T)
}

func (s *scene) cluster(v serve.View, name string) *clusterv3.Cluster {
	return message[*clusterv3.Cluster](s, v, xds.TypeCluster, name)
}

// reached lists the endpoints of a load assignment in order: address, "mutual"
// or "plaintext", and the priority where it is not the first.
func (s *scene) reached(v serve.View, name string) string {
	var out []string
	for _, l := range message[*endpointv3.ClusterLoadAssignment](s, v, xds.TypeEndpoint, name).GetEndpoints() {
		for _, e := range l.LbEndpoints {
			how := "plaintext"
			if e.GetMetadata().GetFilterMetadata()[transportMatchKey] != nil {
				how = "mutual"
			}
			text := e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress() + " " + how
			if l.Priority > 0 {
				text += " later"
			}
			out = append(out, text)
		}
	}
	return strings.Join(out, ", ")
}

func bufioReader(s string) *bufio.Reader { return bufio.NewReader(strings.NewReader(s)) }

// TestExternalNameHasAnEffect: a service of type ExternalName is a way out by
// DNS, to which rules apply.
func TestExternalNameHasAnEffect(t *testing.T) {
	const service = `
apiVersion: v1
kind: Service
metadata: {name: ext, namespace: client}
spec: {type: ExternalName, externalName: httpbin.org, ports: [{name: http, port: 80}]}
`
	const name = "outbound|80||ext.client.svc.cluster.local"
	plain := newScene(t, service)
	c := plain.cluster(plain.client, name)
	if c.GetType() != clusterv3.Cluster_STRICT_DNS || c.GetTransportSocket() != nil || len(c.GetTransportSocketMatches()) != 0 {
		t.Errorf("without a rule: %v", c)
	}
	if got := c.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints()[0].GetEndpoint().GetAddress().GetSocketAddress().GetAddress(); got != "httpbin.org" {
		t.Errorf("it leads to %s", got)
	}
	for _, host := range []string{"ext", "ext.client", "ext.client.svc.cluster.local"} {
		if got := plain.routed("80", host); got != name {
			t.Errorf("%s is routed to %s", host, got)
		}
	}
	ruled := newScene(t, service+`---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ext, namespace: client}
spec: {host: ext, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
`)
	if ruled.cluster(ruled.client, name).GetTransportSocket() == nil {
		t.Error("a rule changes nothing")
	}
}

// TestExternalNameFollowsInTheMesh: a name for a service of the mesh leads to
// that service's endpoints, by its rules, at all of its ports.
func TestExternalNameFollowsInTheMesh(t *testing.T) {
	alias := func(name, target string) string {
		return "---\napiVersion: v1\nkind: Service\nmetadata: {name: " + name + ", namespace: client}\n" +
			"spec: {type: ExternalName, externalName: " + target + "}\n"
	}
	s := newScene(t, alias("ext", webHost)+alias("twice", "ext.client.svc.cluster.local.")+
		alias("round", "circle.client.svc.cluster.local")+alias("circle", "round.client.svc.cluster.local"))
	for host, want := range map[string]string{
		"ext":                              "outbound|80||" + webHost,
		"ext.client.svc":                   "outbound|80||" + webHost,
		"twice.client.svc.cluster.local":   "outbound|80||" + webHost,
		"circle.client.svc.cluster.local":  passthroughCluster,
		"unknown.client.svc.cluster.local": passthroughCluster,
	} {
		if got := s.routed("80", host); got != want {
			t.Errorf("%s is routed to %s, want %s", host, got, want)
		}
	}
	for _, r := range s.resources(s.gateway, xds.TypeCluster) {
		if strings.Contains(r.Name, "ext") {
			t.Errorf("the gateway has %s", r.Name)
		}
	}
}

// TestAliasOfWhatIsNotVisible: a name for a service that is not exported to the
// client's namespace gives it no way there that it would not have without.
func TestAliasOfWhatIsNotVisible(t *testing.T) {
	s := newScene(t, `
apiVersion: v1
kind: Service
metadata: {name: ext, namespace: client}
spec: {type: ExternalName, externalName: hidden.prod.svc.cluster.local, ports: [{name: http, port: 80}]}
`)
	hidden := service("prod", "hidden", "10.96.0.50", port("http", 80, model.HTTP, 8080))
	hidden.ExportTo = []string{"prod"}
	insert(s.mesh, s.store.Services, hidden)
	if got, want := s.routed("80", "ext"), "outbound|80||ext.client.svc.cluster.local"; got != want {
		t.Errorf("routed to %s, want %s", got, want)
	}
}

// routed finds the cluster of requests with a Host, in the client's route
// configuration.
func (s *scene) routed(config, host string) string {
	fallback := ""
	for _, v := range message[*routev3.RouteConfiguration](s, s.client, xds.TypeRoute, config).GetVirtualHosts() {
		to := v.GetRoutes()[0].GetRoute().GetCluster()
		if slices.Contains(v.GetDomains(), host) {
			return to
		}
		if slices.Contains(v.GetDomains(), "*") {
			fallback = to
		}
	}
	return fallback
}

const bothMutual = "10.0.0.1 mutual, 10.0.0.2 mutual"

// TestClientsFollowPeerAuthentication: where a server takes no mutual TLS,
// clients speak plaintext, and the passthrough gateway does not lead there.
func TestClientsFollowPeerAuthentication(t *testing.T) {
	for _, tt := range []struct {
		name    string
		policy  string
		client  string
		gateway string
	}{
		{
			name:    "no policy",
			client:  bothMutual,
			gateway: bothMutual,
		},
		{
			name:   "namespace",
			policy: "{mtls: {mode: DISABLE}}",
			client: "10.0.0.1 plaintext, 10.0.0.2 plaintext",
		},
		{
			name:    "one workload",
			policy:  "{selector: {matchLabels: {version: v1}}, mtls: {mode: DISABLE}}",
			client:  "10.0.0.1 plaintext, 10.0.0.2 mutual",
			gateway: "10.0.0.2 mutual",
		},
		{
			name:   "the port",
			policy: "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: DISABLE}}}",
			client: "10.0.0.1 plaintext, 10.0.0.2 plaintext",
		},
		{
			name:    "another port",
			policy:  "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, portLevelMtls: {80: {mode: DISABLE}}}",
			client:  bothMutual,
			gateway: bothMutual,
		},
		{
			name:    "all but the port",
			policy:  "{selector: {matchLabels: {app: web}}, mtls: {mode: DISABLE}, portLevelMtls: {8080: {mode: STRICT}}}",
			client:  bothMutual,
			gateway: bothMutual,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			doc := ""
			if tt.policy != "" {
				doc = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p, namespace: shop}\nspec: " + tt.policy
			}
			s := newScene(t, doc)
			name := "outbound|80||" + webHost
			if got := s.reached(s.client, name); got != tt.client {
				t.Errorf("a client reaches %s, want %s", got, tt.client)
			}
			if got := s.reached(s.gateway, sniName(80, "", webHost)); got != tt.gateway {
				t.Errorf("a passthrough gateway reaches %s, want %s", got, tt.gateway)
			}
		})
	}
}

// TestPolicyReachesClientsInTime: a policy that comes later rebuilds the load
// assignments of its namespace, and those alone.
func TestPolicyReachesClientsInTime(t *testing.T) {
	s := newScene(t, "")
	name := "outbound|80||" + webHost
	other := service("other", "api", "10.96.0.11", port("http", 80, model.HTTP, 8080))
	insert(s.mesh, s.store.Services, other)
	s.endpoints(other, "10.0.0.9")
	_, changed, err := s.client.Resources(xds.TypeEndpoint, []string{name})
	if err != nil {
		t.Fatal(err)
	}
	kept := s.resources(s.client, xds.TypeEndpoint, "outbound|80||"+other.Host)["outbound|80||"+other.Host]
	insert(s.mesh, s.store.Peers, &model.PeerAuthentication{Cluster: testCluster, Namespace: "shop", Name: "p", Mode: model.MTLSDisable})
	waitFor(t, changed)
	if got, want := s.reached(s.client, name), "10.0.0.1 plaintext, 10.0.0.2 plaintext"; got != want {
		t.Errorf("reached %s, want %s", got, want)
	}
	if s.resources(s.client, xds.TypeEndpoint, "outbound|80||"+other.Host)["outbound|80||"+other.Host] != kept {
		t.Error("the endpoints of another namespace were built anew")
	}
}

func waitFor(t *testing.T, ch <-chan struct{}) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(20 * time.Second):
		t.Fatal("nobody was told")
	}
}

// TestHeadlessFollowsPeerAuthentication: the same where there is no load
// assignment, but a cluster that goes where the client wanted to.
func TestHeadlessFollowsPeerAuthentication(t *testing.T) {
	for policy, mutual := range map[string]bool{
		"{}":                      true,
		"{mtls: {mode: DISABLE}}": false,
		"{selector: {matchLabels: {version: v4}}, mtls: {mode: STRICT}, portLevelMtls: {7777: {mode: DISABLE}}}": false,
		"{selector: {matchLabels: {version: v4}}, mtls: {mode: STRICT}, portLevelMtls: {7778: {mode: DISABLE}}}": true,
	} {
		s := newScene(t, "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p, namespace: data}\nspec: "+policy)
		set := service("data", "set", "", port("tcp", 7777, model.TCP, 7777))
		insert(s.mesh, s.store.Services, set)
		s.endpoints(set, "10.0.0.4", "10.0.0.5")
		if c := s.cluster(s.client, "outbound|7777||"+set.Host); (c.GetTransportSocket() != nil) != mutual {
			t.Errorf("%s: mutual TLS is %t, want %t", policy, !mutual, mutual)
		}
	}
}

// TestUncapturedPortIsPlaintext: a port that the pod keeps out of its proxy
// (excludeInboundPorts), and those that the proxy itself answers on.
func TestUncapturedPortIsPlaintext(t *testing.T) {
	s := newScene(t, "")
	app := service("shop", "app", "10.96.0.12", port("tcp-a", 9000, model.TCP, 9000),
		port("tcp-b", 9001, model.TCP, 9001), port("http-metrics", 15090, model.HTTP, 15090))
	insert(s.mesh, s.store.Services, app)
	ports := map[string]uint16{"tcp-a": 9000, "tcp-b": 9001, "http-metrics": 15090}
	insert(s.mesh, s.store.Endpoints, &model.EndpointSet{Host: app.Host, Cluster: testCluster, Namespace: "shop", Name: "app",
		Endpoints: []model.Endpoint{{Address: "10.0.0.3", Ports: ports, TLS: true, Capture: &model.Capture{Except: []uint16{9001}}}}})
	for number, want := range map[string]string{"9000": "mutual", "9001": "plaintext", "15090": "plaintext"} {
		name := "outbound|" + number + "||" + app.Host
		if got := s.reached(s.client, name); got != "10.0.0.3 "+want {
			t.Errorf("port %s: %s, want %s", number, got, want)
		}
		if got := s.reached(s.gateway, "outbound_."+number+"_._."+app.Host); (got != "") != (want == "mutual") {
			t.Errorf("port %s: the gateway reaches %q", number, got)
		}
	}
}

// TestGatewayLeadsToNoGateway: the server name of a gateway's own service would
// send a connection round and round.
func TestGatewayLeadsToNoGateway(t *testing.T) {
	s := newScene(t, `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g, namespace: istio-system}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 15443, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH}, hosts: ["*.global"]}]}
`)
	gw := service("istio-system", "istio-ingressgateway", "10.96.0.99", port("tls", 15443, model.TLS, 15443))
	insert(s.mesh, s.store.Services, gw)
	insert(s.mesh, s.store.Endpoints, &model.EndpointSet{Host: gw.Host, Cluster: testCluster, Namespace: "istio-system", Name: gw.Name,
		Endpoints: []model.Endpoint{{Address: "10.0.0.77", Ports: map[string]uint16{"tls": 15443}, TLS: true, Router: true}}})
	if got := s.reached(s.gateway, sniName(15443, "", gw.Host)); got != "" {
		t.Errorf("a passthrough gateway reaches %s", got)
	}
	if got := s.reached(s.client, "outbound|15443||"+gw.Host); got == "" {
		t.Error("a sidecar does not reach the gateway")
	}
}

// TestPassthroughIsForTheMeshOnly: a ClientHello that offers none of the mesh's
// protocol names is an application's own TLS, and passes nowhere.
func TestPassthroughIsForTheMeshOnly(t *testing.T) {
	for _, hosts := range []string{`"*.global"`, `"*"`} {
		s := newScene(t, `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g, namespace: istio-system}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 15443, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH}, hosts: [`+hosts+`]}]}
`)
		l := message[*listenerv3.Listener](s, s.gateway, xds.TypeListener, "0.0.0.0_15443")
		for _, fc := range l.GetFilterChains() {
			if got := fc.GetFilterChainMatch().GetApplicationProtocols(); !slices.Equal(got, append(alpnMeshTCP(), alpnMeshHTTP()...)) {
				t.Errorf("hosts %s: a chain takes the protocols %v", hosts, got)
			}
		}
		if l.GetDefaultFilterChain() != nil || len(l.GetFilterChains()) != 1 {
			t.Errorf("hosts %s: there is another way through", hosts)
		}
	}
}
