package resources

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

const webCluster = "outbound|80||" + webHost

// standing is an endpoint of web, known by the last number of its address.
type standing struct {
	n        int
	locality model.Locality
	node     string
	labels   map[string]string
}

// webStands gives web endpoints in a cluster; those of c1 are 10.1.0.N, those of c2
// 10.2.0.N.
func (m *mesh) webStands(c model.ClusterID, all ...standing) {
	m.t.Helper()
	set := &model.EndpointSet{Host: webHost, Cluster: c, Namespace: "shop", Name: "web"}
	for _, s := range all {
		set.Endpoints = append(set.Endpoints, model.Endpoint{
			Address: fmt.Sprintf("10.%s.0.%d", c[1:], s.n), Ports: map[string]uint16{"http": 8080}, TLS: true,
			Locality: s.locality, Node: s.node, Labels: s.labels,
		})
	}
	insert(m, m.store.Services, webIn(c))
	insert(m, m.store.Endpoints, set)
}

// clientAt is the view of a sidecar in the first cluster.
func (m *mesh) clientAt(l model.Locality, node string, labels map[string]string) serve.View {
	m.t.Helper()
	insert(m, m.store.Workloads, &model.Workload{
		Cluster: testCluster, Namespace: "client", Name: "c-1", Node: node, Locality: l, Labels: labels,
	})
	return m.view(clientIn(testCluster))
}

// levels shows a load assignment: the endpoints of each priority without the 10 of
// their addresses, and "|" between priorities.
func levels(t testing.TB, cla *endpointv3.ClusterLoadAssignment) string {
	t.Helper()
	by := map[uint32][]string{}
	for _, l := range cla.GetEndpoints() {
		for _, e := range l.LbEndpoints {
			address := e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress()
			by[l.Priority] = append(by[l.Priority], strings.TrimPrefix(strings.Replace(address, ".0.", ".", 1), "10."))
		}
	}
	var out []string
	for i, p := range slices.Sorted(maps.Keys(by)) {
		if p != uint32(i) {
			t.Errorf("priorities have a gap before %d", p)
		}
		slices.Sort(by[p])
		out = append(out, strings.Join(by[p], " "))
	}
	return strings.Join(out, " | ")
}

// sideBySide is a mesh of two clusters on one network, with web in places near and
// far, in both of them alike.
func sideBySide(t testing.TB) *mesh {
	m := newMesh(t)
	insert(m, m.store.Clusters, &model.Cluster{ID: farCluster, Synced: true})
	for _, c := range []model.ClusterID{testCluster, farCluster} {
		m.webStands(c,
			standing{n: 1, locality: "r1/z1/s1", node: "n1", labels: map[string]string{"version": "v1"}},
			standing{n: 2, locality: "r1/z1/s2", node: "n2", labels: map[string]string{"version": "v2"}},
			standing{n: 3, locality: "r1/z2", node: "n3", labels: map[string]string{"version": "v1", "rack": "b"}},
			standing{n: 4, locality: "r2/z1", node: "n4", labels: map[string]string{"version": "v2"}},
			standing{n: 5, node: "n5"},
		)
	}
	return m
}

// TestOrderWithoutSettings: distance of place first; in the client's own place both
// clusters alike, and farther away the client's own before the other. What is not
// known of an endpoint is far, what is not known of the client decides nothing.
func TestOrderWithoutSettings(t *testing.T) {
	m := sideBySide(t)
	for _, c := range []struct{ at, want string }{
		{"r1/z1/s1", "1.1 2.1 | 1.2 | 2.2 | 1.3 | 2.3 | 1.4 1.5 | 2.4 2.5"},
		{"r1/z1", "1.1 1.2 2.1 2.2 | 1.3 | 2.3 | 1.4 1.5 | 2.4 2.5"},
		{"r1", "1.1 1.2 1.3 2.1 2.2 2.3 | 1.4 1.5 | 2.4 2.5"},
		{"r1/z9/s9", "1.1 1.2 1.3 | 2.1 2.2 2.3 | 1.4 1.5 | 2.4 2.5"},
		{"r9", "1.1 1.2 1.3 1.4 1.5 | 2.1 2.2 2.3 2.4 2.5"},
		{"", "1.1 1.2 1.3 1.4 1.5 2.1 2.2 2.3 2.4 2.5"},
	} {
		if got := levels(t, m.loadAssignment(m.clientAt(model.Locality(c.at), "n1", nil), webCluster)); got != c.want {
			t.Errorf("a client in %q: %s\nwant %s", c.at, got, c.want)
		}
	}
}

// TestClustersWithoutLabelsShare: as long as nobody says where nodes are, or says
// the same of all, clusters share the calls, as Istio's guides have it verified.
func TestClustersWithoutLabelsShare(t *testing.T) {
	for _, l := range []model.Locality{"", "r1", "r1/z1"} {
		m := newMesh(t)
		insert(m, m.store.Clusters, &model.Cluster{ID: farCluster, Synced: true})
		m.webStands(testCluster, standing{n: 1, locality: l})
		m.webStands(farCluster, standing{n: 1, locality: l})
		if got := levels(t, m.loadAssignment(m.clientAt(l, "n1", nil), webCluster)); got != "1.1 2.1" {
			t.Errorf("all in %q: %s", l, got)
		}
	}
}

// TestOrderBySettings: what each field of a localityLbSetting does.
func TestOrderBySettings(t *testing.T) {
	priority := func(labels ...string) *model.LocalitySetting {
		s := &model.LocalitySetting{}
		for _, l := range labels {
			key, value, fixed := strings.Cut(l, "=")
			s.Priority = append(s.Priority, model.PriorityLabel{Key: key, Fixed: fixed, Value: value})
		}
		return s
	}
	const everything = "1.1 1.2 1.3 1.4 1.5 2.1 2.2 2.3 2.4 2.5"
	nearFirst := "1.1 2.1 | 1.2 | 2.2 | 1.3 | 2.3 | 1.4 1.5 | 2.4 2.5"
	both := priority("topology.istio.io/cluster")
	both.Failover = map[string]string{"r1": "r2"}
	for name, c := range map[string]struct {
		setting *model.LocalitySetting
		want    string
	}{
		"empty":    {&model.LocalitySetting{}, nearFirst},
		"off":      {&model.LocalitySetting{Off: true}, everything},
		"failover": {&model.LocalitySetting{Failover: map[string]string{"r1": "r2"}}, "1.1 2.1 | 1.2 | 2.2 | 1.3 | 2.3 | 1.4 | 2.4 | 1.5 | 2.5"},
		"failover of another region": {
			setting: &model.LocalitySetting{Failover: map[string]string{"r7": "r2"}},
			want:    nearFirst,
		},
		"distribute for others": {
			setting: &model.LocalitySetting{Distribute: []model.Distribute{{From: "r7", To: []model.LocalityShare{{To: "r1", Percent: 100}}}}},
			want:    nearFirst,
		},
		"cluster": {priority("topology.istio.io/cluster"), "1.1 1.2 1.3 1.4 1.5 | 2.1 2.2 2.3 2.4 2.5"},
		"another cluster": {
			setting: priority("topology.istio.io/cluster=c2"),
			want:    "2.1 2.2 2.3 2.4 2.5 | 1.1 1.2 1.3 1.4 1.5",
		},
		"localities": {
			setting: priority("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"),
			want:    "1.1 2.1 | 1.2 2.2 | 1.3 2.3 | 1.4 1.5 2.4 2.5",
		},
		"node": {priority("kubernetes.io/hostname"), "1.1 | 1.2 1.3 1.4 1.5 2.1 2.2 2.3 2.4 2.5"},
		"a node by its name": {
			setting: priority("kubernetes.io/hostname=n2"),
			want:    "1.2 2.2 | 1.1 1.3 1.4 1.5 2.1 2.3 2.4 2.5",
		},
		"the client's label": {priority("version"), "1.2 1.4 2.2 2.4 | 1.1 1.3 1.5 2.1 2.3 2.5"},
		"a label that the client does not have": {
			setting: priority("rack"),
			want:    "1.1 1.2 1.4 1.5 2.1 2.2 2.4 2.5 | 1.3 2.3",
		},
		"a value, then the cluster": {
			setting: priority("version=v1", "topology.istio.io/cluster=c1"),
			want:    "1.1 1.3 | 2.1 2.3 | 1.2 1.4 1.5 2.2 2.4 2.5",
		},
		"the first label decides": {
			setting: priority("topology.istio.io/cluster=c2", "version=v1"),
			want:    "2.1 2.3 | 2.2 2.4 2.5 | 1.1 1.2 1.3 1.4 1.5",
		},
		"network, which nobody names": {
			setting: priority("topology.istio.io/network"),
			want:    everything,
		},
		"cluster, then failover": {both, "1.1 | 1.2 | 1.3 | 1.4 | 1.5 | 2.1 | 2.2 | 2.3 | 2.4 | 2.5"},
	} {
		m := sideBySide(t)
		mesh := model.DefaultMesh(testCluster)
		mesh.Locality = c.setting
		insert(m, m.store.Meshes, mesh)
		if got := levels(t, m.loadAssignment(m.clientAt("r1/z1/s1", "n1", map[string]string{"version": "v2"}), webCluster)); got != c.want {
			t.Errorf("%s: %s\nwant %s", name, got, c.want)
		}
	}
}

// TestWhoseSettingCounts: a DestinationRule's as a whole, per port and subset too;
// then what the Service says itself; then the mesh's.
func TestWhoseSettingCounts(t *testing.T) {
	byMesh, byRule := &model.LocalitySetting{Off: true}, &model.LocalitySetting{Priority: []model.PriorityLabel{{Key: "version", Fixed: true, Value: "v1"}}}
	const (
		off     = "1.1 1.2 1.3 1.4 1.5 2.1 2.2 2.3 2.4 2.5"
		rule    = "1.1 1.3 2.1 2.3 | 1.2 1.4 1.5 2.2 2.4 2.5"
		service = "1.1 | 2.1 | 1.2 | 2.2 | 1.3 | 2.3 | 1.4 1.5 | 2.4 2.5"
		plain   = "1.1 2.1 | 1.2 | 2.2 | 1.3 | 2.3 | 1.4 1.5 | 2.4 2.5"
	)
	policy := func(s *model.LocalitySetting) model.TrafficPolicy { return model.TrafficPolicy{Locality: s} }
	for name, c := range map[string]struct {
		prefers model.Distribution
		rule    *model.DestinationRule
		want    string
	}{
		"the mesh's":         {model.DistributeAny, nil, off},
		"the service's":      {model.PreferZone, nil, service},
		"the rule's":         {model.PreferZone, &model.DestinationRule{Policy: policy(byRule)}, rule},
		"an empty one":       {model.PreferNode, &model.DestinationRule{Policy: policy(&model.LocalitySetting{})}, plain},
		"the rule's, off":    {model.PreferNode, &model.DestinationRule{Policy: policy(byMesh)}, off},
		"the rule says else": {model.PreferZone, &model.DestinationRule{Policy: model.TrafficPolicy{LoadBalancing: model.LBRandom}}, service},
		"of the port": {
			rule: &model.DestinationRule{Policy: policy(byMesh), Ports: map[uint16]model.TrafficPolicy{80: policy(byRule)}},
			want: rule,
		},
		"of another port": {
			rule: &model.DestinationRule{Policy: policy(byRule), Ports: map[uint16]model.TrafficPolicy{81: policy(byMesh)}},
			want: rule,
		},
	} {
		m := sideBySide(t)
		mesh := model.DefaultMesh(testCluster)
		mesh.Locality = byMesh
		insert(m, m.store.Meshes, mesh)
		web := webIn(testCluster)
		web.Distribution = c.prefers
		insert(m, m.store.Services, web)
		if c.rule != nil {
			c.rule.Cluster, c.rule.Namespace, c.rule.Name, c.rule.Host = testCluster, "shop", "r", webHost
			insert(m, m.store.Destinations, c.rule)
		}
		if got := levels(t, m.loadAssignment(m.clientAt("r1/z1/s1", "n9", nil), webCluster)); got != c.want {
			t.Errorf("%s: %s\nwant %s", name, got, c.want)
		}
	}
}

// TestSubsetsAreOrderedToo: by the subset's own setting, or the rule's.
func TestSubsetsAreOrderedToo(t *testing.T) {
	m := sideBySide(t)
	insert(m, m.store.Destinations, &model.DestinationRule{
		Cluster: testCluster, Namespace: "shop", Name: "r", Host: webHost,
		Policy: model.TrafficPolicy{Locality: &model.LocalitySetting{Priority: []model.PriorityLabel{{Key: labelCluster}}}},
		Subsets: []model.Subset{
			{Name: "one", Labels: map[string]string{"version": "v1"}},
			{Name: "two", Labels: map[string]string{"version": "v2"}, Policy: model.TrafficPolicy{Locality: &model.LocalitySetting{Off: true}}},
		},
	})
	v := m.clientAt("r1/z1/s1", "n1", nil)
	for subset, want := range map[string]string{"one": "1.1 1.3 | 2.1 2.3", "two": "1.2 1.4 2.2 2.4"} {
		if got := levels(t, m.loadAssignment(v, "outbound|80|"+subset+"|"+webHost)); got != want {
			t.Errorf("subset %s: %s, want %s", subset, got, want)
		}
	}
}

// TestEntriesAreOrdered: one host with endpoints in several places, as clusters with
// control planes of their own have it, whether discovery knows their addresses or
// the proxy resolves their names.
func TestEntriesAreOrdered(t *testing.T) {
	const host = "web.shop.global"
	endpoints := []model.Endpoint{
		{Address: "10.1.0.1", Locality: "r1/z1", Ports: map[string]uint16{"http": 15443}},
		{Address: "10.2.0.1", Locality: "r2/z1", Ports: map[string]uint16{"http": 15443}},
		{Address: "10.2.0.2", Locality: "r2/z2", Ports: map[string]uint16{"http": 15443}},
		{Address: "10.3.0.1", Ports: map[string]uint16{"http": 15443}},
	}
	for _, resolution := range []model.Resolution{model.ByEndpoints, model.ByDNS} {
		m := newMesh(t)
		entry := &model.Service{
			Host: host, Cluster: testCluster, Namespace: "shop", Name: "e", Origin: model.FromServiceEntry,
			Resolution: resolution, Ports: []model.Port{port("http", 80, model.HTTP, 80)},
		}
		if resolution == model.ByDNS {
			entry.Resolved = endpoints
		} else {
			insert(m, m.store.Endpoints, &model.EndpointSet{Host: host, Cluster: testCluster, Namespace: "shop", Name: "e", Endpoints: endpoints})
		}
		insert(m, m.store.Services, entry)
		for at, want := range map[model.Locality]string{
			"r1/z1": "1.1 | 2.1 2.2 3.1",
			"r2/z1": "2.1 | 2.2 | 1.1 3.1",
			"":      "1.1 2.1 2.2 3.1",
		} {
			v, name := m.clientAt(at, "n1", nil), "outbound|80||"+host
			cla := m.clusterAt(v, name).GetLoadAssignment()
			if resolution == model.ByEndpoints {
				cla = m.loadAssignment(v, name)
			}
			if got := levels(t, cla); got != want {
				t.Errorf("resolution %d, a client in %q: %s, want %s", resolution, at, got, want)
			}
		}
	}
}

// TestEntryBesideAService: a ServiceEntry that adds another cluster's gateway to a
// Service comes after the Service's own pods where its place says so, and shares
// where nobody knows a place.
func TestEntryBesideAService(t *testing.T) {
	for _, c := range []struct {
		here, there model.Locality
		prefers     model.Distribution
		want        string
	}{
		{"r1/z1", "r2/z1", model.DistributeAny, "1.1 | 9.1"},
		{"r1/z1", "", model.DistributeAny, "1.1 | 9.1"},
		{"", "", model.DistributeAny, "1.1 9.1"},
		{"", "", model.PreferZone, "1.1 | 9.1"},
	} {
		m := newMesh(t)
		m.webStands(testCluster, standing{n: 1, locality: c.here})
		web := webIn(testCluster)
		web.Distribution = c.prefers
		entry := &model.Service{
			Host: webHost, Cluster: testCluster, Namespace: "shop", Name: "e", Origin: model.FromServiceEntry,
			JoinsService: true, Ports: web.Ports,
		}
		insert(m, m.store.Services, web, entry)
		insert(m, m.store.Endpoints, &model.EndpointSet{Host: webHost, Cluster: testCluster, Namespace: "shop", Name: "e",
			Endpoints: []model.Endpoint{{Address: "10.9.0.1", Locality: c.there, Ports: map[string]uint16{"http": 15443}}}})
		if got := levels(t, m.loadAssignment(m.clientAt(c.here, "n1", nil), webCluster)); got != c.want {
			t.Errorf("pods in %q, the gateway in %q: %s, want %s", c.here, c.there, got, c.want)
		}
	}
}

func (m *mesh) clusterAt(v serve.View, name string) *clusterv3.Cluster {
	m.t.Helper()
	res := m.resources(v, xds.TypeCluster, name)[name]
	if res == nil {
		m.t.Fatalf("no %s", name)
	}
	msg, err := res.Body.UnmarshalNew()
	if err != nil {
		m.t.Fatal(err)
	}
	return msg.(*clusterv3.Cluster)
}

// TestViewsDifferByComparedLabels: proxies with other labels share a View until a
// rule compares clients by them, and are told when one does.
func TestViewsDifferByComparedLabels(t *testing.T) {
	m := sideBySide(t)
	for _, n := range []string{"1", "2"} {
		insert(m, m.store.Workloads, &model.Workload{
			Cluster: testCluster, Namespace: "client", Name: "c-" + n, Labels: map[string]string{"version": "v" + n, "more": n},
		})
	}
	sidecar := func(n string) serve.Node { return node("sidecar", "client", "c-"+n, nil) }
	if m.view(sidecar("1")) != m.view(sidecar("2")) {
		t.Error("proxies with other labels have two Views for nothing")
	}

	ctx, cancel := context.WithCancel(m.ctx)
	defer cancel()
	changed := m.nextView(ctx, sidecar("1"))
	insert(m, m.store.Destinations, &model.DestinationRule{
		Cluster: testCluster, Namespace: "shop", Name: "r", Host: webHost,
		Policy: model.TrafficPolicy{Locality: &model.LocalitySetting{Priority: []model.PriorityLabel{{Key: "version"}}}},
	})
	waitFor(t, changed)
	one, two := m.view(sidecar("1")), m.view(sidecar("2"))
	if one == two {
		t.Fatal("proxies that a rule tells apart share a View")
	}
	for _, c := range []struct {
		v    serve.View
		want string
	}{
		{one, "1.1 1.3 2.1 2.3 | 1.2 1.4 1.5 2.2 2.4 2.5"},
		{two, "1.2 1.4 2.2 2.4 | 1.1 1.3 1.5 2.1 2.3 2.5"},
	} {
		if got := levels(t, m.loadAssignment(c.v, webCluster)); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}

	// What it does not depend on is shared all the same.
	other := service("shop", "other", "10.96.0.30", port("http", 80, model.HTTP, 8080))
	insert(m, m.store.Services, other)
	m.endpoints(other, "10.1.0.9")
	name := "outbound|80||" + other.Host
	if m.resources(one, xds.TypeEndpoint, name)[name] != m.resources(two, xds.TypeEndpoint, name)[name] {
		t.Error("a load assignment was built twice for nothing")
	}
}

// TestNoPlaceNoDifference: with localities switched off, clients of all places
// share what they are sent.
func TestNoPlaceNoDifference(t *testing.T) {
	m := sideBySide(t)
	mesh := model.DefaultMesh(testCluster)
	mesh.Locality = &model.LocalitySetting{Off: true}
	insert(m, m.store.Meshes, mesh)
	built := map[*serve.Resource]bool{}
	for _, at := range []model.Locality{"r1/z1", "r2/z2", ""} {
		built[m.resources(m.clientAt(at, "n1", nil), xds.TypeEndpoint, webCluster)[webCluster]] = true
	}
	if len(built) != 1 {
		t.Errorf("%d load assignments, want one", len(built))
	}
}

// TestOldSettingsAreForgotten: what was built by a rule that was changed is not
// kept.
func TestOldSettingsAreForgotten(t *testing.T) {
	m := sideBySide(t)
	v := m.clientAt("r1/z1", "n1", nil)
	for i := range 20 {
		insert(m, m.store.Destinations, &model.DestinationRule{
			Cluster: testCluster, Namespace: "shop", Name: "r", Host: webHost,
			Policy: model.TrafficPolicy{Locality: &model.LocalitySetting{Failover: map[string]string{"r1": fmt.Sprint("r", i+2)}}},
		})
		m.resources(v, xds.TypeEndpoint, webCluster)
	}
	m.source.mu.Lock()
	defer m.source.mu.Unlock()
	h := m.source.hosts[hostsOf{m.source, testCluster}].value.byName[webHost]
	// The last one, and the one before: it is forgotten at the next question.
	if n := len(h.endpoints); n > 2 {
		t.Errorf("%d load assignments are remembered, want 2 at most", n)
	}
}

// TestMeshChangeKeepsOrder: a mesh configuration that says something else, but the
// same of localities, builds no load assignment.
func TestMeshChangeKeepsOrder(t *testing.T) {
	m := sideBySide(t)
	v := m.clientAt("r1/z1", "n1", nil)
	write := func(alias string) *serve.Resource {
		mesh := model.DefaultMesh(testCluster)
		mesh.Locality = &model.LocalitySetting{Failover: map[string]string{"r1": "r2"}}
		mesh.TrustDomainAliases = []string{alias}
		insert(m, m.store.Meshes, mesh)
		return m.resources(v, xds.TypeEndpoint, webCluster)[webCluster]
	}
	before := write("one")
	if after := write("two"); after != before {
		t.Error("the load assignment was built anew")
	}
}
