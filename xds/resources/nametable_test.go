package resources

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/nds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// names are the addresses of each name that a view is sent.
func (m *mesh) nameTable(v serve.View) map[string]string {
	m.t.Helper()
	res := m.resources(v, xds.TypeNameTable)
	if len(res) != 1 || res[nameTableName] == nil {
		m.t.Fatalf("%d name tables", len(res))
	}
	table := &nds.NameTable{}
	if err := res[nameTableName].Body.UnmarshalTo(table); err != nil {
		m.t.Fatal(err)
	}
	out := map[string]string{}
	for name, info := range table.Table {
		out[name] = strings.Join(info.Ips, " ")
		if info.Registry == "Kubernetes" {
			out[name] += fmt.Sprintf(" (%s/%s)", info.Namespace, info.Shortname)
		}
	}
	return out
}

// headless gives a headless service's row its pods, as HOSTNAME=ADDRESS or ADDRESS.
func (m *mesh) headless(s *model.Service, network string, pods ...string) {
	m.t.Helper()
	traits := &model.Traits{Host: s.Host, Cluster: s.Cluster, Namespace: s.Namespace, Name: s.Name}
	for _, p := range pods {
		hostname, address, ok := strings.Cut(p, "=")
		if !ok {
			hostname, address = "", p
		}
		traits.Addresses = append(traits.Addresses, address)
		traits.Members = append(traits.Members, model.Endpoint{Address: address, Hostname: hostname, Network: network})
	}
	insert(m, m.store.Traits, traits)
}

// of makes the row of another cluster.
func of(cluster model.ClusterID, s *model.Service) *model.Service {
	s.Cluster = cluster
	return s
}

func TestNameTable(t *testing.T) {
	m := newMesh(t)
	const c2 = model.ClusterID("c2")
	insert(m, m.store.Clusters, &model.Cluster{ID: testCluster, Synced: true, Network: "n1"}, &model.Cluster{ID: c2, Synced: true, Network: "n2"})

	http := port("http", 80, model.HTTP, 8080)
	dual := service("shop", "dual", "10.96.0.10", http)
	dual.Addresses = append(dual.Addresses, netip.MustParsePrefix("fd00::10/128"))
	db, elsewhere := service("shop", "db", "", port("tcp", 5432, model.TCP, 5432)), of(c2, service("shop", "db", "", port("tcp", 5432, model.TCP, 5432)))
	quiet := service("shop", "quiet", "") // no ports, no pods
	portless := service("shop", "portless", "")
	hidden := service("other", "hidden", "10.96.0.11", http)
	hidden.ExportTo = []string{"other"}
	entry := func(host string, addresses []string, allocated string) *model.Service {
		s := &model.Service{
			Host: host, Cluster: testCluster, Namespace: "shop", Name: strings.ReplaceAll(host, "*", "any"),
			Origin: model.FromServiceEntry, Resolution: model.ByDNS, Ports: []model.Port{http},
		}
		for _, a := range addresses {
			s.Addresses = append(s.Addresses, netip.MustParsePrefix(a))
		}
		if allocated != "" {
			s.Allocated = netip.MustParseAddr(allocated)
		}
		return s
	}
	alias := &model.Service{Host: "alias.shop.svc.cluster.local", Cluster: testCluster, Namespace: "shop", Name: "alias", Alias: dual.Host}
	away := &model.Service{Host: "away.shop.svc.cluster.local", Cluster: testCluster, Namespace: "shop", Name: "away", Alias: "www.example.org"}
	insert(m, m.store.Services, of(c2, service("shop", "elsewhere", "10.96.0.10", http)), dual, db, elsewhere, quiet, portless, hidden, alias, away,
		entry("given.example.com", []string{"240.0.0.2/32", "2001:db8::2/128", "10.9.0.0/16"}, ""),
		entry("allocated.example.com", nil, "240.240.0.1"),
		entry("neither.example.com", nil, ""),
		entry("range.example.com", []string{"10.8.0.0/16"}, ""),
		entry("*.wild.example.com", []string{"240.0.0.3/32"}, ""),
		entry("db-1.db.shop.svc.cluster.local", []string{"240.0.0.4/32"}, ""),
	)
	m.headless(db, "", "db-0=10.1.0.1", "db-1=10.1.0.2", "10.1.0.3")
	m.headless(elsewhere, "", "db-0=10.2.0.1", "db-2=10.2.0.2")
	m.headless(portless, "", "10.1.0.9")

	sees := func(cluster model.ClusterID, namespace string) map[string]string {
		n := node("sidecar", namespace, "p", nil)
		n.Core.Metadata.Fields["CLUSTER_ID"] = structpb.NewStringValue(string(cluster))
		return m.nameTable(m.view(n))
	}
	// What lives elsewhere has an address that means something here.
	m.view(node("sidecar", "shop", "p", nil))
	given := m.source.given.value.byHost["elsewhere.shop.svc.cluster.local"].String()
	want := map[string]string{
		"elsewhere.shop.svc.cluster.local": given + " (shop/elsewhere)",
		"dual.shop.svc.cluster.local":      "10.96.0.10 fd00::10 (shop/dual)",
		"alias.shop.svc.cluster.local":     "10.96.0.10 fd00::10 (shop/alias)",
		"db.shop.svc.cluster.local":        "10.1.0.1 10.1.0.2 10.1.0.3 (shop/db)",
		"db-0.db.shop.svc.cluster.local":   "10.1.0.1 (shop/db-0.db)",
		"db-1.db.shop.svc.cluster.local":   "240.0.0.4",
		"portless.shop.svc.cluster.local":  "10.1.0.9 (shop/portless)",
		"given.example.com":                "240.0.0.2 2001:db8::2",
		"allocated.example.com":            "240.240.0.1",
		"*.wild.example.com":               "240.0.0.3",
	}
	if got := sees(testCluster, "shop"); !maps.Equal(got, want) {
		t.Errorf("in shop: %v\nwant %v", got, want)
	}

	want["hidden.other.svc.cluster.local"] = "10.96.0.11 (other/hidden)"
	if got := sees(testCluster, "other"); !maps.Equal(got, want) {
		t.Errorf("in other: %v\nwant %v", got, want)
	}

	// In the other cluster the same name has the other pods.
	got := sees(c2, "shop")
	for name, want := range map[string]string{
		"elsewhere.shop.svc.cluster.local": "10.96.0.10 (shop/elsewhere)",
		"db.shop.svc.cluster.local":        "10.2.0.1 10.2.0.2 (shop/db)",
		"db-0.db.shop.svc.cluster.local":   "10.2.0.1 (shop/db-0.db)",
		"db-2.db.shop.svc.cluster.local":   "10.2.0.2 (shop/db-2.db)",
	} {
		if got[name] != want {
			t.Errorf("in the other cluster, %s: %q, want %q", name, got[name], want)
		}
	}

	// On one network pods of both are reached; the own cluster's name counts.
	insert(m, m.store.Clusters, &model.Cluster{ID: c2, Synced: true, Network: "n1"})
	got = sees(testCluster, "shop")
	for name, want := range map[string]string{
		"db.shop.svc.cluster.local":      "10.1.0.1 10.1.0.2 10.1.0.3 10.2.0.1 10.2.0.2 (shop/db)",
		"db-0.db.shop.svc.cluster.local": "10.1.0.1 (shop/db-0.db)",
		"db-2.db.shop.svc.cluster.local": "10.2.0.2 (shop/db-2.db)",
	} {
		if got[name] != want {
			t.Errorf("on one network, %s: %q, want %q", name, got[name], want)
		}
	}

	if res := m.resources(m.view(node("router", "istio-system", "gw", nil)), xds.TypeNameTable); len(res) != 0 {
		t.Errorf("a gateway has %d name tables", len(res))
	}
}

// TestNameTableIsRebuiltForNamesOnly: an endpoint of a service with an address of
// its own changes nothing, one of a headless service does; namespaces that see the
// same share the table.
func TestNameTableIsRebuiltForNamesOnly(t *testing.T) {
	m := newMesh(t)
	bookinfo(m)
	set := service("data", "set", "")
	v := m.view(node("sidecar", "shop", "web-1", nil))
	other := m.view(node("sidecar", "data", "set-1", nil))
	first := m.resources(v, xds.TypeNameTable)[nameTableName]
	if m.resources(other, xds.TypeNameTable)[nameTableName] != first {
		t.Error("two namespaces that see the same hosts have tables of their own")
	}

	built := m.source.Built()
	m.endpoints(service("shop", "web", "10.96.0.10", port("http", 80, model.HTTP, 8080)), "10.0.0.7", "10.0.0.8")
	if m.resources(v, xds.TypeNameTable)[nameTableName] != first || m.source.Built() != built {
		t.Error("endpoints of a service with an address made another table")
	}

	_, told, err := v.Resources(xds.TypeNameTable, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.headless(set, "", "set-0=10.0.0.9")
	select {
	case <-told:
	case <-time.After(20 * time.Second):
		t.Fatal("nobody is told of a headless service's endpoint")
	}
	if got := m.nameTable(v); got["set-0.set.data.svc.cluster.local"] == "" || got["set.data.svc.cluster.local"] != "10.0.0.9 (data/set)" {
		t.Errorf("%v", got)
	}
}

// TestNameTableIsForgotten: networks are named by proxies, and there is no end of
// them.
func TestNameTableIsForgotten(t *testing.T) {
	m := newMesh(t)
	bookinfo(m)
	stay := m.view(node("sidecar", "shop", "web-1", nil))
	m.nameTable(stay)
	for i := range 20 {
		n := node("sidecar", "shop", "x", nil)
		n.Core.Metadata.Fields["NETWORK"] = structpb.NewStringValue(fmt.Sprint("made-up-", i))
		m.nameTable(m.view(n))
	}
	kept := func() string {
		m.source.mu.Lock()
		defer m.source.mu.Unlock()
		return fmt.Sprint(len(m.source.nameTables), len(m.source.scopes[scopeKey{cluster: testCluster, namespace: "shop"}].names))
	}
	if got := kept(); got != "21 21" {
		t.Fatalf("kept: %s", got)
	}
	waitForgotten(t, kept, "1 1")
	m.nameTable(stay)
}

func BenchmarkNameTable(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint("S=", n), func(b *testing.B) {
			m := newMesh(b)
			fill(m, n, 1)
			views := []serve.View{}
			for i := range 10 {
				views = append(views, m.view(node("sidecar", fmt.Sprint("ns", i), "p", nil)))
			}
			var size int
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				insert(m, m.store.Services, service("ns0", "new", fmt.Sprintf("10.200.%d.%d", i/250%250, i%250), port("http", 80, model.HTTP, 8080)))
				for _, v := range views {
					size = len(m.resources(v, xds.TypeNameTable)[nameTableName].Body.Value)
				}
			}
			b.ReportMetric(float64(size), "bytes")
		})
	}
}

// The entries of a table are put together byte by byte: what comes out is the
// message that protobuf would have written of the same entries.
func TestNameTableIsOneMessage(t *testing.T) {
	m := newMesh(t)
	bookinfo(m)
	res := m.resources(m.view(node("sidecar", "shop", "web-1", nil)), xds.TypeNameTable)[nameTableName]
	table := &nds.NameTable{}
	if err := res.Body.UnmarshalTo(table); err != nil {
		t.Fatal(err)
	}
	if again := pack(table); len(again.Value) != len(res.Body.Value) || len(table.Table) == 0 {
		t.Errorf("%d names in %d bytes, want %d", len(table.Table), len(res.Body.Value), len(again.Value))
	}
	if !slices.Contains(slices.Collect(maps.Keys(table.Table)), "httpbin.bar.global") {
		t.Errorf("%v", table.Table)
	}
}
