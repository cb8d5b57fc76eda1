package resources

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

const farCluster = model.ClusterID("c2")

// twoNetworks is a mesh of two clusters in networks net1 and net2, in both of which
// web has endpoints: two here, three there.
func twoNetworks(t testing.TB) *mesh {
	t.Helper()
	m := newMesh(t)
	insert(m, m.store.Clusters, &model.Cluster{ID: testCluster, Synced: true, Network: "net1"},
		&model.Cluster{ID: farCluster, Synced: true, Network: "net2"})
	insert(m, m.store.Services, webIn(testCluster), webIn(farCluster))
	m.webEndpoints(testCluster, "10.1.0.1", "10.1.0.2")
	m.webEndpoints(farCluster, "10.2.0.1", "10.2.0.2", "10.2.0.3")
	return m
}

func webIn(c model.ClusterID) *model.Service {
	web := service("shop", "web", "10.96.0.10", port("http", 80, model.HTTP, 8080))
	web.Cluster = c
	return web
}

// webEndpoints gives web endpoints in a cluster; change alters each.
func (m *mesh) webEndpoints(c model.ClusterID, addresses ...string) {
	m.webEndpointsWith(c, func(*model.Endpoint) {}, addresses...)
}

func (m *mesh) webEndpointsWith(c model.ClusterID, change func(*model.Endpoint), addresses ...string) {
	m.t.Helper()
	web := webIn(c)
	set := &model.EndpointSet{Host: web.Host, Cluster: c, Namespace: "shop", Name: "web"}
	for _, a := range addresses {
		ep := model.Endpoint{Address: a, Ports: map[string]uint16{"http": 8080}, TLS: true, Account: "shop/web"}
		change(&ep)
		set.Endpoints = append(set.Endpoints, ep)
	}
	insert(m, m.store.Endpoints, set)
}

// gateway makes a Service that leads into a network.
func gatewayTo(network, name string, addresses ...string) *model.Entrance {
	return &model.Entrance{
		Cluster: farCluster, Namespace: "istio-system", Name: name, Host: name + ".istio-system.svc.cluster.local",
		Network: network, GatewayPort: 15443, Addresses: addresses, Ports: map[uint16]uint16{15443: 15443},
	}
}

// clientIn is a sidecar of a cluster.
func clientIn(c model.ClusterID) serve.Node {
	n := node("sidecar", "client", "c-1", nil)
	n.Core.Metadata.Fields["CLUSTER_ID"] = structpb.NewStringValue(string(c))
	return n
}

// shown is the addresses of web that a proxy is sent, each with its weight.
func (m *mesh) shown(n serve.Node) map[string]int {
	m.t.Helper()
	return m.addresses(m.view(n), "outbound|80||"+webHost)
}

// addresses are those of a load assignment, each with its weight.
func (m *mesh) addresses(v serve.View, name string) map[string]int {
	m.t.Helper()
	out := map[string]int{}
	for _, l := range m.loadAssignment(v, name).Endpoints {
		for _, e := range l.LbEndpoints {
			a := e.GetEndpoint().GetAddress().GetSocketAddress()
			key := fmt.Sprintf("%s:%d", a.Address, a.GetPortValue())
			if _, twice := out[key]; twice {
				m.t.Errorf("%s comes twice", key)
			}
			out[key] = int(max(e.GetLoadBalancingWeight().GetValue(), 1))
		}
	}
	return out
}

func (m *mesh) loadAssignment(v serve.View, name string) *endpointv3.ClusterLoadAssignment {
	m.t.Helper()
	res := m.resources(v, xds.TypeEndpoint, name)[name]
	if res == nil {
		m.t.Fatalf("no %s", name)
	}
	msg, err := res.Body.UnmarshalNew()
	if err != nil {
		m.t.Fatal(err)
	}
	return msg.(*endpointv3.ClusterLoadAssignment)
}

// TestOtherNetworksAreReachedByGateways: a client sees the endpoints of its own
// network, and for the others the gateways, which share their weight.
func TestOtherNetworksAreReachedByGateways(t *testing.T) {
	near := map[string]int{"10.1.0.1:8080": 1, "10.1.0.2:8080": 1}
	with := func(more map[string]int) map[string]int {
		all := maps.Clone(near)
		maps.Copy(all, more)
		return all
	}
	for _, tt := range []struct {
		what   string
		change func(m *mesh)
		want   map[string]int
	}{
		{what: "a network without a gateway", change: func(*mesh) {}, want: near},
		{
			what:   "a gateway without an address",
			change: func(m *mesh) { insert(m, m.store.Entrances, gatewayTo("net2", "gw")) },
			want:   near,
		},
		{
			what:   "one gateway",
			change: func(m *mesh) { insert(m, m.store.Entrances, gatewayTo("net2", "gw", "192.0.2.1")) },
			want:   with(map[string]int{"192.0.2.1:15443": 3}),
		},
		{
			what:   "two addresses",
			change: func(m *mesh) { insert(m, m.store.Entrances, gatewayTo("net2", "gw", "192.0.2.1", "192.0.2.2")) },
			want: map[string]int{
				"10.1.0.1:8080": 2, "10.1.0.2:8080": 2,
				"192.0.2.1:15443": 3, "192.0.2.2:15443": 3,
			},
		},
		{
			what: "as many gateways as endpoints",
			change: func(m *mesh) {
				insert(m, m.store.Entrances, gatewayTo("net2", "a", "192.0.2.1", "192.0.2.2"), gatewayTo("net2", "b", "192.0.2.2", "192.0.2.3"))
			},
			want: with(map[string]int{"192.0.2.1:15443": 1, "192.0.2.2:15443": 1, "192.0.2.3:15443": 1}),
		},
		{
			what: "weights of endpoints",
			change: func(m *mesh) {
				m.webEndpointsWith(testCluster, func(e *model.Endpoint) { e.Weight = 10 }, "10.1.0.1")
				m.webEndpointsWith(farCluster, func(e *model.Endpoint) { e.Weight = 5 }, "10.2.0.1", "10.2.0.2", "10.2.0.3")
				insert(m, m.store.Entrances, gatewayTo("net2", "gw", "192.0.2.1"))
			},
			want: map[string]int{"10.1.0.1:8080": 2, "192.0.2.1:15443": 3},
		},
		{
			what: "a gateway of the mesh configuration",
			change: func(m *mesh) {
				insert(m, m.store.Networks, &model.Network{Cluster: testCluster, Name: "net2", Gateways: []model.NetworkGateway{{Address: "192.0.2.9", Port: 443}}})
			},
			want: with(map[string]int{"192.0.2.9:443": 3}),
		},
		{
			what: "a Service that the mesh configuration names",
			change: func(m *mesh) {
				gw := gatewayTo("", "istio-ingressgateway", "192.0.2.9")
				gw.Ports = map[uint16]uint16{443: 31443}
				namesake := *gw
				namesake.Cluster, namesake.Addresses = testCluster, []string{"192.0.2.8"}
				insert(m, m.store.Entrances, gw, &namesake)
				insert(m, m.store.Networks, &model.Network{Cluster: testCluster, Name: "net2",
					Gateways: []model.NetworkGateway{{Service: "istio-ingressgateway.istio-system.svc.cluster.local", Port: 443}}})
			},
			want: with(map[string]int{"192.0.2.9:31443": 3}),
		},
		{
			what: "a host name",
			change: func(m *mesh) {
				insert(m, m.store.Entrances, gatewayTo("net2", "gw", "lb.example.com", "other.example.com"))
				insert(m, m.store.Names, &model.Name{Cluster: testCluster, Name: "lb.example.com",
					Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")}})
			},
			want: with(map[string]int{"192.0.2.1:15443": 1, "192.0.2.2:15443": 1, "192.0.2.3:15443": 1}),
		},
		{
			what: "the configuration of another cluster",
			change: func(m *mesh) {
				insert(m, m.store.Networks, &model.Network{Cluster: farCluster, Name: "net2", Gateways: []model.NetworkGateway{{Address: "192.0.2.9", Port: 443}}})
			},
			want: near,
		},
		{
			what: "endpoints that no gateway passes on to",
			change: func(m *mesh) {
				plain := true
				m.webEndpointsWith(farCluster, func(e *model.Endpoint) { e.TLS, plain = plain, !plain }, "10.2.0.1", "10.2.0.2", "10.2.0.3")
				insert(m, m.store.Entrances, gatewayTo("net2", "gw", "192.0.2.1"))
			},
			want: with(map[string]int{"192.0.2.1:15443": 2}),
		},
		{
			what: "gateways behind gateways",
			change: func(m *mesh) {
				m.webEndpointsWith(farCluster, func(e *model.Endpoint) { e.Router = true }, "10.2.0.1")
				insert(m, m.store.Entrances, gatewayTo("net2", "gw", "192.0.2.1"))
			},
			want: near,
		},
		{
			what: "servers that take no mutual TLS",
			change: func(m *mesh) {
				insert(m, m.store.Peers, &model.PeerAuthentication{Cluster: testCluster, Namespace: "shop", Name: "off", Mode: model.MTLSDisable})
				insert(m, m.store.Entrances, gatewayTo("net2", "gw", "192.0.2.1"))
			},
			want: near,
		},
		{
			what: "clients that open no mutual TLS",
			change: func(m *mesh) {
				insert(m, m.store.Destinations, &model.DestinationRule{Cluster: testCluster, Namespace: "client", Name: "plain", Host: webHost,
					Policy: model.TrafficPolicy{TLS: &model.ClientTLS{Mode: model.ClientTLSDisable}}})
				insert(m, m.store.Entrances, gatewayTo("net2", "gw", "192.0.2.1"))
			},
			want: near,
		},
		{
			what: "a mesh without automatic mutual TLS",
			change: func(m *mesh) {
				mc := model.DefaultMesh(testCluster)
				mc.AutoMTLS = false
				insert(m, m.store.Meshes, mc)
				insert(m, m.store.Entrances, gatewayTo("net2", "gw", "192.0.2.1"))
			},
			want: near,
		},
		{
			what: "a network that nobody names",
			change: func(m *mesh) {
				insert(m, m.store.Clusters, &model.Cluster{ID: farCluster, Synced: true})
				insert(m, m.store.Entrances, gatewayTo("net2", "gw", "192.0.2.1"))
			},
			want: with(map[string]int{"10.2.0.1:8080": 1, "10.2.0.2:8080": 1, "10.2.0.3:8080": 1}),
		},
		{
			what: "a client whose network nobody names",
			change: func(m *mesh) {
				insert(m, m.store.Clusters, &model.Cluster{ID: testCluster, Synced: true})
				insert(m, m.store.Entrances, gatewayTo("net2", "gw", "192.0.2.1"))
			},
			want: with(map[string]int{"10.2.0.1:8080": 1, "10.2.0.2:8080": 1, "10.2.0.3:8080": 1}),
		},
		{
			what: "pods of the other cluster in this network",
			change: func(m *mesh) {
				m.webEndpointsWith(farCluster, func(e *model.Endpoint) { e.Network = "net1" }, "10.2.0.1")
				insert(m, m.store.Entrances, gatewayTo("net2", "gw", "192.0.2.1"))
			},
			want: with(map[string]int{"10.2.0.1:8080": 1}),
		},
		{
			what: "pods of this cluster in the other network",
			change: func(m *mesh) {
				m.webEndpointsWith(testCluster, func(e *model.Endpoint) { e.Network = "net2" }, "10.1.0.1")
				insert(m, m.store.Entrances, gatewayTo("net2", "gw", "192.0.2.1"))
			},
			want: map[string]int{"192.0.2.1:15443": 1},
		},
		{
			what: "addresses that a CIDR puts into the other network",
			change: func(m *mesh) {
				insert(m, m.store.Networks, &model.Network{Cluster: testCluster, Name: "net2", CIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/32")},
					Gateways: []model.NetworkGateway{{Address: "192.0.2.9", Port: 443}}})
			},
			want: map[string]int{"10.1.0.2:8080": 1, "192.0.2.9:443": 4},
		},
	} {
		m := twoNetworks(t)
		tt.change(m)
		if got := m.shown(clientIn(testCluster)); !maps.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.what, got, tt.want)
		}
	}
}

// TestPassthroughGatewaysShowTheirOwnNetwork: what comes from another network
// leaves for none.
func TestPassthroughGatewaysShowTheirOwnNetwork(t *testing.T) {
	m := twoNetworks(t)
	insert(m, m.store.Entrances, gatewayTo("net2", "gw", "192.0.2.1"), gatewayTo("net1", "gw1", "192.0.2.2"))
	router := node("router", "istio-system", "gw-1", map[string]string{"istio": "ingressgateway"})
	passed := func() map[string]int { return m.addresses(m.view(router), sniName(80, "", webHost)) }
	if got, want := passed(), map[string]int{"10.1.0.1:8080": 1, "10.1.0.2:8080": 1}; !maps.Equal(got, want) {
		t.Errorf("here: %v, want %v", got, want)
	}
	router.Core.Metadata.Fields["CLUSTER_ID"] = structpb.NewStringValue(string(farCluster))
	if got, want := passed(), map[string]int{"10.2.0.1:8080": 1, "10.2.0.2:8080": 1, "10.2.0.3:8080": 1}; !maps.Equal(got, want) {
		t.Errorf("there: %v, want %v", got, want)
	}
}

// TestGatewaysStandWhereTheirEndpointsAre: in the place, and with the priority, of
// the nearest endpoints behind them.
func TestGatewaysStandWhereTheirEndpointsAre(t *testing.T) {
	m := twoNetworks(t)
	insert(m, m.store.Entrances, gatewayTo("net2", "gw", "192.0.2.1"))
	insert(m, m.store.Workloads, &model.Workload{Cluster: testCluster, Namespace: "client", Name: "c-1", Locality: "r1/z1"})
	m.webEndpointsWith(testCluster, func(e *model.Endpoint) { e.Locality = "r2/z1" }, "10.1.0.1")
	places := []model.Locality{"r3/z1", "r1/z2", "r1/z3", "r1/z3"}
	m.webEndpointsWith(farCluster, func(e *model.Endpoint) {
		e.Locality, places = places[0], places[1:]
	}, "10.2.0.1", "10.2.0.2", "10.2.0.3", "10.2.0.4")

	cla := m.loadAssignment(m.view(clientIn(testCluster)), "outbound|80||"+webHost)
	if len(cla.Endpoints) != 2 {
		t.Fatalf("%v", cla)
	}
	first, last := cla.Endpoints[0], cla.Endpoints[1]
	gw := first.LbEndpoints[0]
	if first.Priority != 0 || first.Locality.Zone != "z3" || len(first.LbEndpoints) != 1 || gw.LoadBalancingWeight.GetValue() != 3 {
		t.Errorf("the gateway stands at %v", first)
	}
	if last.Priority != 1 || last.Locality.Region != "r2" || last.LbEndpoints[0].GetEndpoint().GetAddress().GetSocketAddress().Address != "10.1.0.1" {
		t.Errorf("after it comes %v", last)
	}
	meta := gw.GetMetadata().GetFilterMetadata()
	if meta["envoy.transport_socket_match"].Fields["tlsMode"].GetStringValue() != "istio" ||
		meta["istio"].Fields["workload"].GetStringValue() != ";;;;c2" || meta["istio"].Fields["network"].GetStringValue() != "net2" {
		t.Errorf("it says of itself %v", meta)
	}
}

// TestMembership: who says in which network an address is, and who comes first.
func TestMembership(t *testing.T) {
	prefix := netip.MustParsePrefix
	m := newMembership([]*model.Network{
		{Name: "cidr", CIDRs: []netip.Prefix{prefix("10.0.0.0/8"), prefix("10.1.1.0/24")}},
		{Name: "narrow", CIDRs: []netip.Prefix{prefix("10.1.0.0/16"), prefix("fd00::/8")}},
		{Name: "registry", Clusters: []model.ClusterID{"c1", "c2", "c3"}},
		{Name: "second", Clusters: []model.ClusterID{"c2"}},
	}, slices.Values([]*model.Cluster{
		{ID: "c1", Network: "namespace", DefaultNetwork: "value"},
		{ID: "c2", DefaultNetwork: "value"},
		{ID: "c4", DefaultNetwork: "value"},
		{ID: "c5"},
	}))
	for _, tt := range []struct {
		cluster      model.ClusterID
		labelled, at string
		want         string
	}{
		{"c1", "pod", "10.9.0.1", "cidr"},
		{"c1", "pod", "10.1.0.1", "narrow"},
		{"c1", "pod", "10.1.1.1", "cidr"},
		{"c1", "pod", "::ffff:10.1.1.1", "cidr"},
		{"c1", "pod", "fd00::1", "narrow"},
		{"c1", "pod", "192.0.2.1", "pod"},
		{"c1", "", "192.0.2.1", "namespace"},
		{"c2", "", "192.0.2.1", "registry"},
		{"c4", "", "192.0.2.1", "value"},
		{"c5", "", "192.0.2.1", ""},
		{"c6", "", "192.0.2.1", ""},
		{"c1", "", "a name", "namespace"},
	} {
		if got := m.of(tt.cluster, tt.labelled, tt.at); got != tt.want {
			t.Errorf("%s of %s, label %q: %q, want %q", tt.at, tt.cluster, tt.labelled, got, tt.want)
		}
	}
}

// TestNetworkChangesAtRunTime: whoever it concerns is told, and nothing else is
// built.
func TestNetworkChangesAtRunTime(t *testing.T) {
	m := twoNetworks(t)
	fill(m, 50, 3)
	v := m.view(clientIn(testCluster))
	for _, typeURL := range allTypes {
		m.resources(v, typeURL)
	}
	for _, step := range []struct {
		what   string
		change func()
		built  uint64
		want   map[string]int
	}{
		{
			what:   "a gateway gets an address",
			change: func() { insert(m, m.store.Entrances, gatewayTo("net2", "gw", "192.0.2.1")) },
			built:  1,
			want:   map[string]int{"10.1.0.1:8080": 1, "10.1.0.2:8080": 1, "192.0.2.1:15443": 3},
		},
		{
			what: "a Service that leads into no network gets one",
			change: func() {
				insert(m, m.store.Entrances, gatewayTo("", "other", "192.0.2.77"))
			},
			want: map[string]int{"10.1.0.1:8080": 1, "10.1.0.2:8080": 1, "192.0.2.1:15443": 3},
		},
		{
			what:   "it gets another",
			change: func() { insert(m, m.store.Entrances, gatewayTo("net2", "gw", "192.0.2.2")) },
			built:  1,
			want:   map[string]int{"10.1.0.1:8080": 1, "10.1.0.2:8080": 1, "192.0.2.2:15443": 3},
		},
		{
			what: "a cluster is out of reach",
			change: func() {
				insert(m, m.store.Clusters, &model.Cluster{ID: farCluster, Synced: true, Network: "net2", Stale: true})
			},
			want: map[string]int{"10.1.0.1:8080": 1, "10.1.0.2:8080": 1, "192.0.2.2:15443": 3},
		},
	} {
		_, told, err := v.Resources(xds.TypeEndpoint, nil)
		if err != nil {
			t.Fatal(err)
		}
		built := m.source.Built()
		step.change()
		waitFor(t, told)
		if got := m.shown(clientIn(testCluster)); !maps.Equal(got, step.want) {
			t.Errorf("%s: %v, want %v", step.what, got, step.want)
		}
		for _, typeURL := range allTypes {
			m.resources(v, typeURL)
		}
		if n := m.source.Built() - built; n != step.built {
			t.Errorf("%s: %d resources were built, want %d", step.what, n, step.built)
		}
	}
}

// TestProxiesFollowTheirNetwork: a proxy is told when it is in another network.
func TestProxiesFollowTheirNetwork(t *testing.T) {
	m := twoNetworks(t)
	insert(m, m.store.Entrances, gatewayTo("net2", "gw", "192.0.2.1"))
	n := clientIn(testCluster)
	n.Core.Metadata.Fields["NETWORK"] = structpb.NewStringValue("net3") // what it says itself
	direct := map[string]int{"10.1.0.1:8080": 1, "10.1.0.2:8080": 1, "10.2.0.1:8080": 1, "10.2.0.2:8080": 1, "10.2.0.3:8080": 1}
	gatewayed := map[string]int{"10.1.0.1:8080": 1, "10.1.0.2:8080": 1, "192.0.2.1:15443": 3}
	if got := m.shown(n); !maps.Equal(got, gatewayed) {
		t.Errorf("%v, want %v", got, gatewayed)
	}
	_, told, err := m.source.View(m.ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	insert(m, m.store.Clusters, &model.Cluster{ID: farCluster, Synced: true, Network: "net1"})
	waitFor(t, told)
	if got := m.shown(n); !maps.Equal(got, direct) {
		t.Errorf("in one network: %v, want %v", got, direct)
	}
	insert(m, m.store.Clusters, &model.Cluster{ID: testCluster, Synced: true}, &model.Cluster{ID: farCluster, Synced: true, Network: "net2"})
	if got := m.shown(n); !maps.Equal(got, gatewayed) {
		t.Errorf("in the network that it says itself, as nobody else says anything: %v, want %v", got, gatewayed)
	}
}

// TestShareOfGateways: whatever the numbers, every endpoint has the same share, and
// numbers that are too large are cut to size.
func TestShareOfGateways(t *testing.T) {
	for endpoints := range 8 {
		for gateways := range 6 {
			m := twoNetworks(t)
			var behind, ways []string
			for i := range endpoints + 1 {
				behind = append(behind, fmt.Sprintf("10.2.0.%d", i+1))
			}
			for i := range gateways + 1 {
				ways = append(ways, fmt.Sprintf("192.0.2.%d", i+1))
			}
			m.webEndpoints(farCluster, behind...)
			insert(m, m.store.Entrances, gatewayTo("net2", "gw", ways...))
			got := m.shown(clientIn(testCluster))
			for _, w := range ways {
				// weight of a gateway : weight of an endpoint = endpoints : gateways
				if got[w+":15443"]*len(ways) != got["10.1.0.1:8080"]*len(behind) {
					t.Errorf("%d endpoints behind %d gateways: %v", len(behind), len(ways), got)
				}
			}
		}
	}

	huge := []weighted{{&endpointv3.LbEndpoint{}, 1 << 50}, {&endpointv3.LbEndpoint{}, 1<<50 + 1}, {&endpointv3.LbEndpoint{}, 1}}
	settleWeights(huge)
	var sum uint64
	for _, w := range huge {
		sum += uint64(w.endpoint.LoadBalancingWeight.Value)
	}
	if sum > 1<<32-1 || huge[2].endpoint.LoadBalancingWeight.Value != 1 {
		t.Errorf("%v", huge)
	}
}
