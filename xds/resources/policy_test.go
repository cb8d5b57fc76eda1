package resources

import (
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// TestGatewayShowsNothingUnguarded: through a passthrough gateway, only
// endpoints that ask for a certificate can be reached.
func TestGatewayShowsNothingUnguarded(t *testing.T) {
	m := newMesh(t)
	bookinfo(m)
	open := service("shop", "open", "10.96.0.50", port("https", 443, model.TLS, 6443))
	insert(m, m.store.Services, open)
	set := &model.EndpointSet{Host: open.Host, Cluster: testCluster, Namespace: "shop", Name: "open", Endpoints: []model.Endpoint{
		{Address: "10.0.0.8", Ports: map[string]uint16{"https": 6443}},
		{Address: "10.0.0.9", Ports: map[string]uint16{"https": 6443}, TLS: true},
	}}
	insert(m, m.store.Endpoints, set)
	for n, want := range map[string]int{"router": 1, "sidecar": 2} {
		name := clusterName(443, "", open.Host)
		if n == "router" {
			name = sniName(443, "", open.Host)
		}
		v := m.view(node(n, "istio-system", "gw-1", map[string]string{"istio": "ingressgateway"}))
		msg, err := m.resources(v, xds.TypeEndpoint, name)[name].Body.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for _, l := range msg.(*endpointv3.ClusterLoadAssignment).Endpoints {
			got += len(l.LbEndpoints)
		}
		if got != want {
			t.Errorf("a %s sees %d endpoints, want %d", n, got, want)
		}
	}
}

// TestReadNode: a node that names no cluster is refused, and the account that
// was proven stands above the one that the node claims.
func TestReadNode(t *testing.T) {
	if _, err := readNode(serve.Node{}); err == nil || !strings.Contains(err.Error(), "CLUSTER_ID") {
		t.Errorf("without CLUSTER_ID: error %v", err)
	}

	n := node("sidecar", "shop", "web-1", nil)
	n.Core.Metadata.Fields["SERVICE_ACCOUNT"] = structpb.NewStringValue("claimed")
	for proven, want := range map[string]string{"": "claimed", "web": "web"} {
		n.Identity.ServiceAccount = proven
		p, err := readNode(n)
		if err != nil {
			t.Fatal(err)
		}
		if p.account != want {
			t.Errorf("with %q proven the account is %q, want %q", proven, p.account, want)
		}
	}
}

func TestDeclaredProtocolWins(t *testing.T) {
	w := &model.Workload{Namespace: "ns", Labels: map[string]string{"app": "a"}}
	undeclared := service("ns", "a", "10.0.0.1", port("x", 1, model.Unknown, 9000))
	declared := service("ns", "b", "10.0.0.2", port("tcp", 2, model.TCP, 9000))
	declared.Selector = undeclared.Selector
	in := newInbound(w, []*model.Service{undeclared, declared}, &peerPolicy{base: model.MTLSPermissive})
	if len(in.ports) != 1 || in.ports[0].protocol != model.TCP || len(in.ports[0].services) != 2 {
		t.Errorf("ports: %+v", in.ports)
	}
}

func TestPeerPolicy(t *testing.T) {
	at := func(ns, name string, age int64, mode model.MTLSMode, selector map[string]string, ports map[uint16]model.MTLSMode) *model.PeerAuthentication {
		return &model.PeerAuthentication{Cluster: testCluster, Namespace: ns, Name: name, Created: time.Unix(age, 0), Mode: mode, Selector: selector, Ports: ports}
	}
	app := map[string]string{"app": "a"}
	for name, c := range map[string]struct {
		policies []*model.PeerAuthentication
		any, p80 model.MTLSMode
	}{
		"nothing":                 {nil, model.MTLSPermissive, model.MTLSPermissive},
		"mesh":                    {[]*model.PeerAuthentication{at("root", "m", 1, model.MTLSStrict, nil, nil)}, model.MTLSStrict, model.MTLSStrict},
		"namespace over mesh":     {[]*model.PeerAuthentication{at("root", "m", 1, model.MTLSStrict, nil, nil), at("ns", "n", 2, model.MTLSDisable, nil, nil)}, model.MTLSDisable, model.MTLSDisable},
		"unset namespace":         {[]*model.PeerAuthentication{at("root", "m", 1, model.MTLSStrict, nil, nil), at("ns", "n", 2, model.MTLSUnset, nil, nil)}, model.MTLSStrict, model.MTLSStrict},
		"workload over namespace": {[]*model.PeerAuthentication{at("ns", "n", 1, model.MTLSStrict, nil, nil), at("ns", "w", 2, model.MTLSPermissive, app, nil)}, model.MTLSPermissive, model.MTLSPermissive},
		"port over workload":      {[]*model.PeerAuthentication{at("ns", "w", 2, model.MTLSStrict, app, map[uint16]model.MTLSMode{80: model.MTLSDisable})}, model.MTLSStrict, model.MTLSDisable},
		"oldest counts":           {[]*model.PeerAuthentication{at("ns", "b", 2, model.MTLSDisable, app, nil), at("ns", "a", 1, model.MTLSStrict, app, nil)}, model.MTLSStrict, model.MTLSStrict},
		"other workload":          {[]*model.PeerAuthentication{at("ns", "w", 2, model.MTLSStrict, map[string]string{"app": "b"}, nil)}, model.MTLSPermissive, model.MTLSPermissive},
		"selector in root":        {[]*model.PeerAuthentication{at("root", "w", 2, model.MTLSStrict, app, nil)}, model.MTLSPermissive, model.MTLSPermissive},
		"other namespace":         {[]*model.PeerAuthentication{at("else", "w", 2, model.MTLSStrict, nil, nil)}, model.MTLSPermissive, model.MTLSPermissive},
	} {
		p := newNamespacePolicy("ns", "root", c.policies).of(app)
		if p.mode(0) != c.any || p.mode(80) != c.p80 {
			t.Errorf("%s: any port %d, port 80 %d, want %d, %d", name, p.mode(0), p.mode(80), c.any, c.p80)
		}
	}
}

func TestRules(t *testing.T) {
	m := newMesh(t)
	web := service("shop", "web", "10.96.0.10", port("http", 80, model.HTTP, 8080))
	insert(m, m.store.Services, web)
	rule := func(ns, name, host string, export ...string) *model.DestinationRule {
		return &model.DestinationRule{Cluster: testCluster, Namespace: ns, Name: name, Host: host, ExportTo: export}
	}
	insert(m, m.store.Destinations, rule("client", "own", "*.cluster.local"), rule("shop", "theirs", web.Host),
		rule("shop", "hidden", "*.shop.svc.cluster.local", "shop"), rule("istio-system", "root", "*.local"))
	h := newHost(m.source, web.Host, vantage{cluster: testCluster}, []*model.Service{web})
	// The Source itself reads, too, to tell what it finds.
	m.source.mu.Lock()
	r := rulesOf{m.source}.build(m.source.newReaderLocked(), nil)
	m.source.mu.Unlock()
	for client, want := range map[string]string{"client": "own", "shop": "theirs", "other": "theirs"} {
		if got := r.find(client, "istio-system", h); got == nil || got.Name != want {
			t.Errorf("clients of %s have %+v, want %s", client, got, want)
		}
	}
	for pattern, want := range map[string]bool{"*.b": true, "*": true, "a.b": true, "*.a.b": false, "b": false, "*a.b": false} {
		if matchHost(pattern, "a.b") != want {
			t.Errorf("matchHost(%q, a.b) is not %t", pattern, want)
		}
	}
}

func FuzzReadNode(f *testing.F) {
	full, err := proto.Marshal(node("sidecar", "shop", "web-1", map[string]string{"app": "web"}).Core)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		core := &corev3.Node{}
		if proto.Unmarshal(data, core) != nil {
			return
		}
		if p, err := readNode(serve.Node{Core: core}); err == nil && p.cluster == "" {
			t.Fatalf("accepted %v as %+v", core, p)
		}
	})
}

func FuzzParseEndpointsName(f *testing.F) {
	f.Add("outbound|80|v1|a.b")
	f.Add("outbound|99999||")
	f.Add("outbound_.80_._.a.b")
	f.Fuzz(func(t *testing.T, name string) {
		n, ok := parseEndpointsName(name)
		back := clusterName(n.port, n.subset, n.host)
		if n.sni {
			back = sniName(n.port, n.subset, n.host)
		}
		if ok && len(back) > len(name) {
			t.Fatalf("%q came back as %q", name, back)
		}
	})
}

// TestOutlierDetection: a rule's settings reach the cluster, a port's take their
// place, and where there is none the proxy's own judgement stands.
func TestOutlierDetection(t *testing.T) {
	five, none := uint32(5), uint32(0)
	m := newMesh(t)
	bookinfo(m)
	insert(m, m.store.Destinations, &model.DestinationRule{
		Cluster: testCluster, Namespace: "shop", Name: "api", Host: "api.shop.svc.cluster.local",
		Policy: model.TrafficPolicy{Outlier: &model.OutlierDetection{Consecutive5xx: &five, BaseEjection: time.Minute, MaxPercent: 50}},
		Ports:  map[uint16]model.TrafficPolicy{9000: {Outlier: &model.OutlierDetection{ConsecutiveGateway: &none}}},
	})
	v := m.view(node("sidecar", "shop", "web-1", nil))
	for name, want := range map[string]string{
		"outbound|7000||api.shop.svc.cluster.local": `{"consecutive_5xx": 5, "enforcing_consecutive_5xx": 100,
			"base_ejection_time": "60s", "max_ejection_percent": 50, "enforcing_success_rate": 0}`,
		"outbound|9000||api.shop.svc.cluster.local": `{"enforcing_consecutive_gateway_failure": 0, "enforcing_success_rate": 0}`,
		"outbound|80||web.shop.svc.cluster.local":   ``,
	} {
		t.Run(name, func(t *testing.T) {
			msg, err := m.resources(v, xds.TypeCluster, name)[name].Body.UnmarshalNew()
			if err != nil {
				t.Fatal(err)
			}
			got := msg.(*clusterv3.Cluster).OutlierDetection
			if want == "" {
				if got != nil {
					t.Errorf("got %v", got)
				}
				return
			}
			expected := &clusterv3.OutlierDetection{}
			if err := protojson.Unmarshal([]byte(want), expected); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(got, expected) {
				t.Errorf("got %v, want %v", got, expected)
			}
		})
	}
}

// TestDisabledPort: a TCP port without mutual TLS has one chain that asks for
// nothing, so that no connection waits for its client to speak.
func TestDisabledPort(t *testing.T) {
	for _, protocol := range []model.Protocol{model.TCP, model.TLS} {
		g := chainGroup{mesh: model.DefaultMesh("c"), port: 25, protocol: protocol, mode: model.MTLSDisable, cluster: "inbound|25||"}
		chains := g.chains()
		if len(chains) != 1 {
			t.Fatalf("%s: %d chains, want 1", protocol, len(chains))
		}
		m := chains[0].GetFilterChainMatch()
		if m.GetDestinationPort().GetValue() != 25 || m.GetTransportProtocol() != "" || len(m.GetApplicationProtocols()) > 0 || chains[0].TransportSocket != nil {
			t.Errorf("%s: it looks at more than the port: %v", protocol, m)
		}
	}
}
