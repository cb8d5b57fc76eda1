package resources

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// pairOfClusters is a mesh of two clusters on one network, or on two.
func pairOfClusters(t testing.TB, network, farNetwork string) *mesh {
	t.Helper()
	m := newMesh(t)
	insert(m, m.store.Clusters, &model.Cluster{ID: testCluster, Synced: true, Network: network},
		&model.Cluster{ID: farCluster, Synced: true, Network: farNetwork})
	return m
}

// far makes the row the other cluster's.
func far(svc *model.Service) *model.Service {
	moved := *svc
	moved.Cluster = farCluster
	return &moved
}

// domains are the names by which a route configuration leads to a host.
func (m *mesh) domains(v serve.View, routes, virtualHost string) []string {
	m.t.Helper()
	res := m.resources(v, xds.TypeRoute, routes)[routes]
	if res == nil {
		return nil
	}
	msg, err := res.Body.UnmarshalNew()
	if err != nil {
		m.t.Fatal(err)
	}
	for _, vh := range msg.(*routev3.RouteConfiguration).VirtualHosts {
		if vh.Name == virtualHost {
			return vh.Domains
		}
	}
	return nil
}

// names are those of all resources of a type.
func (m *mesh) names(v serve.View, typeURL string) []string {
	return slices.Sorted(maps.Keys(m.resources(v, typeURL)))
}

// given is the address that the mesh gives to a host. It is asked for as streams
// ask: the Source itself reads meanwhile, to tell what it finds.
func (m *mesh) given(host string) netip.Addr {
	m.source.mu.Lock()
	defer m.source.mu.Unlock()
	return m.source.given.get(m.source.newReaderLocked()).byHost[host]
}

// TestServiceOfAnotherCluster: clients call it by all its names, at an address
// that the mesh gives it, never at its own, which may be another's here.
func TestServiceOfAnotherCluster(t *testing.T) {
	m := pairOfClusters(t, "", "")
	local := service("shop", "local", "10.96.0.10", port("tcp", 5432, model.TCP, 5432))
	web := far(service("shop", "web", "10.96.0.10", port("http", 80, model.HTTP, 8080), port("tcp", 5432, model.TCP, 5432)))
	insert(m, m.store.Services, local, web)
	given := m.given(web.Host)
	if !xds.ElsewhereRange().Contains(given) {
		t.Fatalf("the address is %v", given)
	}

	here := m.view(node("sidecar", "shop", "c-1", nil))
	want := []string{web.Host, "web.shop.svc", "web.shop", "web", given.String()}
	if got := m.domains(here, "80", web.Host+":80"); !slices.Equal(got, want) {
		t.Errorf("names here: %v, want %v", got, want)
	}
	if got, want := m.names(here, xds.TypeListener), []string{"0.0.0.0_80", "10.96.0.10_5432", given.String() + "_5432", "virtualInbound", "virtualOutbound"}; !slices.Equal(got, want) {
		t.Errorf("listeners here: %v, want %v", got, want)
	}

	n := clientIn(farCluster)
	there := m.view(n)
	want = []string{web.Host, "web.shop.svc", "web.shop", "10.96.0.10"}
	if got := m.domains(there, "80", web.Host+":80"); !slices.Equal(got, want) {
		t.Errorf("names there: %v, want %v", got, want)
	}
	other := m.given(local.Host)
	if got, want := m.names(there, xds.TypeListener), []string{"0.0.0.0_80", "10.96.0.10_5432", other.String() + "_5432", "virtualInbound", "virtualOutbound"}; !slices.Equal(got, want) {
		t.Errorf("listeners there: %v, want %v", got, want)
	}
}

// TestPortsOfAllClusters: a service has the ports of all its rows, at its own
// address in each cluster.
func TestPortsOfAllClusters(t *testing.T) {
	m := pairOfClusters(t, "", "")
	insert(m, m.store.Services,
		service("shop", "web", "10.96.0.10", port("tcp", 5432, model.TCP, 5432), port("a", 7000, model.TCP, 7000)),
		far(service("shop", "web", "10.97.0.20", port("tcp", 5432, model.TCP, 5432), port("a", 7000, model.HTTP, 7000), port("b", 9000, model.TCP, 9000))))
	want := []string{"10.96.0.10_5432", "10.96.0.10_7000", "10.96.0.10_9000", "virtualInbound", "virtualOutbound"}
	if got := m.names(m.view(node("sidecar", "client", "c-1", nil)), xds.TypeListener); !slices.Equal(got, want) {
		t.Errorf("here: %v, want %v", got, want)
	}
	want = []string{"0.0.0.0_7000", "10.97.0.20_5432", "10.97.0.20_9000", "virtualInbound", "virtualOutbound"}
	if got := m.names(m.view(clientIn(farCluster)), xds.TypeListener); !slices.Equal(got, want) {
		t.Errorf("there: %v, want %v", got, want)
	}
}

// TestAllocation: the addresses depend on nothing but the rows.
func TestAllocation(t *testing.T) {
	var rows []*model.Service
	for i := range 3000 {
		s := service("ns", fmt.Sprint("s", i), "10.0.0.1")
		s.Created = time.Unix(int64(i%7), 0)
		rows = append(rows, s)
		if i%3 == 0 {
			older := far(s)
			older.Created = time.Unix(-1, 0)
			rows = append(rows, older)
		}
	}
	all := allocate(slices.Values(rows), &exported{}, true).byHost
	seen := map[netip.Addr]string{}
	for host, a := range all {
		if last := a.As4()[3]; seen[a] != "" || !xds.ElsewhereRange().Contains(a) || last == 0 || last == 255 {
			t.Errorf("%s has %s, as %q has", host, a, seen[a])
		}
		seen[a] = host
	}
	if len(all) != 3000 {
		t.Errorf("%d addresses", len(all))
	}

	// Without the others, a host whose hash is its own keeps its address.
	alone := allocate(slices.Values(rows[:1]), &exported{}, true).byHost
	if alone[rows[0].Host] != all[rows[0].Host] {
		t.Errorf("%v alone, %v among others", alone, all[rows[0].Host])
	}

	// Two with one hash: the older has its address, whichever comes first.
	a, b := sameHash()
	first, second := &model.Service{Host: a, Created: time.Unix(2, 0)}, &model.Service{Host: b, Created: time.Unix(1, 0)}
	two := allocate(slices.Values([]*model.Service{first, second}), &exported{}, true).byHost
	if two[b] != allocate(slices.Values([]*model.Service{second}), &exported{}, true).byHost[b] || two[a] == two[b] || !two[a].IsValid() {
		t.Errorf("%v", two)
	}

	// What a ServiceEntry has is not given away.
	entry := &model.Service{Host: "e", Origin: model.FromServiceEntry, Addresses: []netip.Prefix{netip.PrefixFrom(two[b], 32)}}
	if got := allocate(slices.Values([]*model.Service{second, entry}), &exported{}, true).byHost[b]; got == two[b] || !got.IsValid() {
		t.Errorf("%v, the ServiceEntry's", got)
	}
}

// sameHash finds two hosts that want the same address.
func sameHash() (a, b string) {
	seen := map[netip.Addr]string{}
	for i := 0; ; i++ {
		host := fmt.Sprintf("s%d.ns.svc.cluster.local", i)
		addr := freeElsewhere(host, nil)
		if other := seen[addr]; other != "" {
			return other, host
		}
		seen[addr] = host
	}
}

// TestHeadlessAcrossClusters: clients reach the pods of a headless service in all
// clusters of their network. Where those of one are on another network, it is a
// service like others to them, behind a gateway.
func TestHeadlessAcrossClusters(t *testing.T) {
	set := service("data", "set", "", port("tcp", 7777, model.TCP, 7777))
	const name = "outbound|7777||set.data.svc.cluster.local"
	for _, tt := range []struct {
		what       string
		farNetwork string
		here       bool // there is one here as well
		listeners  []string
		original   bool // the cluster goes where the client wanted to
		endpoints  map[string]int
	}{
		{
			what: "here and there, one network", farNetwork: "net1", here: true, original: true,
			listeners: []string{"10.1.0.1_7777", "10.2.0.1_7777"},
		},
		{
			what: "here and there, two networks", farNetwork: "net2", here: true, original: true,
			listeners: []string{"10.1.0.1_7777"},
		},
		{
			what: "there alone, one network", farNetwork: "net1", original: true,
			listeners: []string{"10.2.0.1_7777"},
		},
		{
			what: "there alone, two networks", farNetwork: "net2",
			listeners: []string{"GIVEN_7777"}, endpoints: map[string]int{"192.0.2.1:15443": 1},
		},
	} {
		m := pairOfClusters(t, "net1", tt.farNetwork)
		insert(m, m.store.Entrances, gatewayTo("net2", "gw", "192.0.2.1"))
		insert(m, m.store.Services, far(set))
		m.endpoints(far(set), "10.2.0.1")
		if tt.here {
			insert(m, m.store.Services, set)
			m.endpoints(set, "10.1.0.1")
		}
		v := m.view(node("sidecar", "client", "c-1", nil))
		given := m.given(set.Host).String()
		var listeners []string
		for _, l := range m.names(v, xds.TypeListener) {
			if !strings.HasPrefix(l, "virtual") {
				listeners = append(listeners, strings.Replace(l, given, "GIVEN", 1))
			}
		}
		if !slices.Equal(listeners, tt.listeners) {
			t.Errorf("%s: listeners %v, want %v", tt.what, listeners, tt.listeners)
		}
		msg, err := m.resources(v, xds.TypeCluster, name)[name].Body.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		c := msg.(*clusterv3.Cluster)
		if (c.GetType() == clusterv3.Cluster_ORIGINAL_DST) != tt.original {
			t.Errorf("%s: %v", tt.what, c)
		}
		if tt.original && c.TransportSocket == nil {
			t.Errorf("%s: no mutual TLS", tt.what)
		}
		if tt.endpoints != nil {
			if got := m.addresses(v, name); !maps.Equal(got, tt.endpoints) {
				t.Errorf("%s: endpoints %v, want %v", tt.what, got, tt.endpoints)
			}
		}
	}
}

// TestNamesForElsewhere: a name for something outside stands for what the client's
// own cluster says, and adds nothing to a service that another cluster has.
func TestNamesForElsewhere(t *testing.T) {
	alias := func(c model.ClusterID, name, target string) *model.Service {
		svc := service("shop", name, "10.96.0.1", port("http", 80, model.HTTP, 80))
		svc.Cluster, svc.Addresses, svc.Selector = c, nil, nil
		svc.Alias, svc.External, svc.Resolution = target, true, model.ByDNS
		svc.Resolved = []model.Endpoint{{Address: target, Ports: map[string]uint16{"http": 80}}}
		return svc
	}
	m := pairOfClusters(t, "", "")
	web := service("shop", "web", "10.96.0.10", port("http", 80, model.HTTP, 80))
	insert(m, m.store.Services, web, alias(farCluster, "web", "192.0.2.99"),
		alias(testCluster, "ext", "here.example.com"), alias(farCluster, "ext", "there.example.com"))
	m.endpoints(web, "10.1.0.1")
	for c, want := range map[model.ClusterID]string{testCluster: "here.example.com", farCluster: "there.example.com"} {
		v := m.view(clientIn(c))
		msg, err := m.resources(v, xds.TypeCluster)["outbound|80||ext.shop.svc.cluster.local"].Body.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		la := msg.(*clusterv3.Cluster).LoadAssignment
		if len(la.Endpoints) != 1 || len(la.Endpoints[0].LbEndpoints) != 1 ||
			la.Endpoints[0].LbEndpoints[0].GetEndpoint().GetAddress().GetSocketAddress().Address != want {
			t.Errorf("%s: %v, want %s", c, la, want)
		}
	}
	if got, want := m.addresses(m.view(clientIn(testCluster)), "outbound|80||"+webHost), map[string]int{"10.1.0.1:80": 1}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
