package resources

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

const webSet = "web.shop.svc.clusterset.local"

// export offers shop/NAME of a cluster since a second of 1970.
func (m *mesh) export(c model.ClusterID, name string, since int64) {
	m.t.Helper()
	m.offer(c, name, since, &model.Offer{Ports: []model.ServicePort{{Name: "http", Number: 80, Transport: "TCP"}}})
}

// offer is export of a Service that says something else of itself; nil: there is none.
func (m *mesh) offer(c model.ClusterID, name string, since int64, offer *model.Offer) {
	m.t.Helper()
	insert(m, m.store.Exports, &model.Export{
		Cluster: c, Namespace: "shop", Name: name, Created: time.Unix(since, 0),
		UID: string(c) + "-" + name, Generation: 1, Offer: offer,
	})
}

// homebody is a mesh of two networks in which nothing leaves its cluster but what
// is exported.
func homebody(t testing.TB) *mesh {
	t.Helper()
	m := twoNetworks(t)
	mc := model.DefaultMesh(testCluster)
	mc.HostSettings = append(mc.HostSettings, model.HostSetting{Pattern: "*", ClusterLocal: true})
	insert(m, m.store.Meshes, mc)
	insert(m, m.store.Entrances, gatewayTo("net2", "gw", "192.0.2.1"))
	return m
}

// TestExportsSpanTheirClusters: the endpoints of the clusters that export a Service,
// of no other, are behind its name; its own name stays as it was.
func TestExportsSpanTheirClusters(t *testing.T) {
	near := map[string]int{"10.1.0.1:8080": 1, "10.1.0.2:8080": 1}
	if got := homebody(t).shown(clientIn(testCluster)); !maps.Equal(got, near) {
		t.Fatalf("nothing is exported, and a client is shown %v", got)
	}
	for _, tt := range []struct {
		what    string
		exports []model.ClusterID
		want    map[string]int
	}{
		{what: "the client's own cluster", exports: []model.ClusterID{testCluster}, want: near},
		{what: "the other", exports: []model.ClusterID{farCluster}, want: map[string]int{"192.0.2.1:15443": 1}},
		{what: "both", exports: []model.ClusterID{testCluster, farCluster}, want: map[string]int{"10.1.0.1:8080": 1, "10.1.0.2:8080": 1, "192.0.2.1:15443": 3}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			m := homebody(t)
			for _, c := range tt.exports {
				m.export(c, "web", 1)
			}
			if got := m.addresses(m.view(clientIn(testCluster)), "outbound|80||"+webSet); !maps.Equal(got, tt.want) {
				t.Errorf("shown %v, want %v", got, tt.want)
			}
			if got := m.shown(clientIn(testCluster)); !maps.Equal(got, near) {
				t.Errorf("its own name leads to %v, want %v", got, near)
			}
		})
	}
}

// TestExportedNameHasOneAddress: in every cluster the same one, which is that of
// no Service; and the name is called by no shorter one.
func TestExportedNameHasOneAddress(t *testing.T) {
	m := homebody(t)
	m.export(farCluster, "web", 1)
	var given []string
	for _, c := range []model.ClusterID{testCluster, farCluster} {
		v := m.view(clientIn(c))
		table := m.nameTable(v)
		given = append(given, table[webSet])
		if want := []string{webSet, table[webSet]}; !slices.Equal(m.domains(v, "80", webSet+":80"), want) {
			t.Errorf("in %s it is called by %v, want %v", c, m.domains(v, "80", webSet+":80"), want)
		}
		if got := table[webHost]; got != "10.96.0.10 (shop/web)" {
			t.Errorf("in %s its own name is %q", c, got)
		}
	}
	if ip, err := netip.ParseAddr(given[0]); err != nil || given[0] != given[1] || !xds.ElsewhereRange().Contains(ip) {
		t.Errorf("the addresses are %q", given)
	}
}

// TestExportsOfOneCluster: a mesh of one cluster has the name, too.
func TestExportsOfOneCluster(t *testing.T) {
	s := newScene(t, "")
	s.export(testCluster, "web", 1)
	if got := s.reached(s.client, "outbound|80||"+webSet); got != s.reached(s.client, "outbound|80||"+webHost) || got == "" {
		t.Errorf("it leads to %q", got)
	}
	if got := s.nameTable(s.client); got[webSet] == "" {
		t.Errorf("names %v", got)
	}
	// What is taken back is gone.
	txn := s.store.Write()
	if _, _, err := s.store.Exports.Delete(txn, &model.Export{Cluster: testCluster, Namespace: "shop", Name: "web"}); err != nil {
		t.Fatal(err)
	}
	txn.Commit()
	if got := s.nameTable(s.client); got[webSet] != "" {
		t.Errorf("names %v", got)
	}
}

// TestOldestExportDecides: where the clusters say different things, and each has
// what no other has.
func TestOldestExportDecides(t *testing.T) {
	for _, oldest := range []model.ClusterID{testCluster, farCluster} {
		m := pairOfClusters(t, "", "")
		here := service("shop", "web", "10.96.0.10", port("a", 80, model.HTTP, 8080), port("here", 81, model.TCP, 8081))
		there := far(service("shop", "web", "10.96.0.11", port("a", 80, model.TCP, 8080), port("there", 82, model.TCP, 8082)))
		// The age of the Services does not count.
		here.Created, there.Created = time.Unix(5, 0), time.Unix(9, 0)
		insert(m, m.store.Services, here, there)
		m.export(testCluster, "web", 2)
		m.export(farCluster, "web", 1)
		if oldest == testCluster {
			m.export(testCluster, "web", 0)
		}
		for _, c := range []model.ClusterID{testCluster, farCluster} {
			v := m.view(clientIn(c))
			http := m.domains(v, "80", webSet+":80") != nil
			if http != (oldest == testCluster) {
				t.Errorf("oldest %s, seen from %s: port 80 is HTTP: %t", oldest, c, http)
			}
			var ports []string
			for _, name := range m.names(v, xds.TypeCluster) {
				if strings.HasSuffix(name, "||"+webSet) {
					ports = append(ports, name)
				}
			}
			if len(ports) != 3 {
				t.Errorf("clusters %v", ports)
			}
		}
	}
}

// TestGatewaysKnowWhatIsExported: they pass it on by the name by which clients ask
// for it, though its own name stays at home.
func TestGatewaysKnowWhatIsExported(t *testing.T) {
	m := homebody(t)
	m.export(farCluster, "web", 1)
	insert(m, m.store.Gateways, &model.Gateway{
		Cluster: testCluster, Namespace: "istio-system", Name: "cross", Selector: map[string]string{"istio": "eastwest"},
		Servers: []model.GatewayServer{{Port: 15443, Hosts: []string{"*.local"}}},
	})
	// As a client names it.
	var sni string
	for _, each := range m.upstreamTLS(m.view(clientIn(testCluster)), "outbound|80||"+webSet) {
		sni = each.Sni
	}
	if sni != "outbound_.80_._."+webSet {
		t.Errorf("clients ask for %q", sni)
	}

	router := node("router", "istio-system", "gw-1", map[string]string{"istio": "eastwest"})
	router.Core.Metadata.Fields["CLUSTER_ID"] = clientIn(farCluster).Core.Metadata.Fields["CLUSTER_ID"]
	v := m.view(router)
	if got := m.names(v, xds.TypeCluster); !slices.Contains(got, sni) || !slices.Contains(got, "outbound_.80_._."+webHost) {
		t.Errorf("the gateway has %v", got)
	}
	if got, want := m.addresses(v, sniName(80, "", webSet)), map[string]int{"10.2.0.1:8080": 1, "10.2.0.2:8080": 1, "10.2.0.3:8080": 1}; !maps.Equal(got, want) {
		t.Errorf("it passes on to %v, want %v", got, want)
	}
}

// upstreamTLS are the ways in which a cluster speaks TLS.
func (m *mesh) upstreamTLS(v serve.View, name string) (out []*tlsv3.UpstreamTlsContext) {
	m.t.Helper()
	res := m.resources(v, xds.TypeCluster, name)[name]
	if res == nil {
		m.t.Fatalf("no %s", name)
	}
	c := &clusterv3.Cluster{}
	if err := res.Body.UnmarshalTo(c); err != nil {
		m.t.Fatal(err)
	}
	for _, match := range c.TransportSocketMatches {
		tls := &tlsv3.UpstreamTlsContext{}
		if match.TransportSocket.GetTypedConfig().UnmarshalTo(tls) == nil {
			out = append(out, tls)
		}
	}
	return out
}

// TestHeadlessExports: the pods have names with their cluster's, so that two of one
// name can be told apart.
func TestHeadlessExports(t *testing.T) {
	m := pairOfClusters(t, "", "")
	here, there := service("shop", "db", "", port("tcp", 5432, model.TCP, 5432)), far(service("shop", "db", "", port("tcp", 5432, model.TCP, 5432)))
	insert(m, m.store.Services, here, there)
	m.headless(here, "", "db-0=10.1.0.1")
	m.headless(there, "", "db-0=10.2.0.1")
	m.export(testCluster, "db", 1)
	m.export(farCluster, "db", 2)

	set := "db.shop.svc.clusterset.local"
	got := m.nameTable(m.view(clientIn(testCluster)))
	for name, want := range map[string]string{
		set: "10.1.0.1 10.2.0.1",
		"db-0." + strings.ToLower(string(testCluster)) + "." + set: "10.1.0.1",
		"db-0.c2." + set: "10.2.0.1",
		"db-0." + set:    "",
	} {
		if got[name] != want {
			t.Errorf("%s has %q, want %q", name, got[name], want)
		}
	}
}

// TestExportedNameIsNobodyElses: a ServiceEntry of the name yields.
func TestExportedNameIsNobodyElses(t *testing.T) {
	m := homebody(t)
	insert(m, m.store.Services, &model.Service{
		Host: webSet, Cluster: testCluster, Namespace: "shop", Name: "mine", Origin: model.FromServiceEntry,
		Addresses: []netip.Prefix{netip.MustParsePrefix("240.0.0.9/32")}, Ports: []model.Port{port("http", 80, model.HTTP, 80)},
	})
	if got := m.nameTable(m.view(clientIn(testCluster)))[webSet]; got != "240.0.0.9" {
		t.Fatalf("before it is exported the name has %q", got)
	}
	m.export(testCluster, "web", 1)
	if got := m.nameTable(m.view(clientIn(testCluster)))[webSet]; got == "240.0.0.9" || got == "" {
		t.Errorf("the name has %q", got)
	}
}

// TestExportedEndpointsFollow: a change behind the Service is one behind its
// exported name.
func TestExportedEndpointsFollow(t *testing.T) {
	m := homebody(t)
	m.export(testCluster, "web", 1)
	v := m.view(clientIn(testCluster))
	name := "outbound|80||" + webSet
	names := []string{name}
	// Asked with the same slice, as a stream does, the answer is brought up to
	// date by what changed.
	before, changed, err := v.Resources(xds.TypeEndpoint, names)
	if err != nil {
		t.Fatal(err)
	}
	m.webEndpoints(testCluster, "10.1.0.7")
	waitFor(t, changed)
	after, _, err := v.Resources(xds.TypeEndpoint, names)
	if err != nil {
		t.Fatal(err)
	}
	if before.Get(name) == after.Get(name) {
		t.Error("the load assignment is the one before")
	}
	if got, want := m.addresses(v, name), map[string]int{"10.1.0.7:8080": 1}; !maps.Equal(got, want) {
		t.Errorf("it leads to %v", got)
	}
}

// TestImports: what the own cluster is told of what is exported.
func TestImports(t *testing.T) {
	m := homebody(t)
	m.export(farCluster, "web", 1)
	m.export(testCluster, "web", 2)
	if got, _ := m.source.Imports(); len(got.List) != 0 || !got.Complete {
		t.Errorf("the cluster has no such namespace, and has %v", got)
	}
	insert(m, m.store.Namespaces, &model.Namespace{Cluster: testCluster, Name: "shop"})
	got, _ := m.source.Imports()
	given := m.nameTable(m.view(clientIn(testCluster)))[webSet]
	if len(got.List) != 1 || got.List[0].Name != "web" || got.List[0].Address.String() != given || got.List[0].Headless ||
		!slices.Equal(got.List[0].Clusters, []model.ClusterID{testCluster, farCluster}) ||
		!slices.Equal(got.List[0].Ports, []model.ServicePort{{Name: "http", Number: 80, Transport: "TCP"}}) {
		t.Errorf("got %+v, want web at %s", got, given)
	}

	insert(m, m.store.Clusters, &model.Cluster{ID: "c3"})
	if got, _ := m.source.Imports(); got.Complete {
		t.Error("a cluster has yet to be read, and it counts as complete")
	}
}
