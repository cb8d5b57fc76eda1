package resources

import (
	"maps"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
)

// TestVisibilityAcrossClusters: what the mesh configuration and the annotation
// exportTo say of who is led where, with services in two clusters of one network.
func TestVisibilityAcrossClusters(t *testing.T) {
	here, there := map[string]int{"10.1.0.1:8080": 1, "10.1.0.2:8080": 1}, map[string]int{"10.2.0.1:8080": 1, "10.2.0.2:8080": 1, "10.2.0.3:8080": 1}
	both := maps.Clone(here)
	maps.Copy(both, there)
	export := func(c model.ClusterID, to ...string) func(*mesh, *model.Mesh) {
		return func(m *mesh, _ *model.Mesh) {
			svc := webIn(c)
			svc.ExportTo = to
			insert(m, m.store.Services, svc)
		}
	}
	settings := func(list ...model.HostSetting) func(*mesh, *model.Mesh) {
		return func(_ *mesh, mc *model.Mesh) { mc.HostSettings = append(mc.HostSettings, list...) }
	}
	for _, tt := range []struct {
		what   string
		change func(*mesh, *model.Mesh)
		// What clients of namespace client in each cluster are shown.
		near, far map[string]int
	}{
		{what: "nothing", change: func(*mesh, *model.Mesh) {}, near: both, far: both},
		{
			what: "clusterLocal, exact", change: settings(model.HostSetting{Pattern: webHost, ClusterLocal: true}),
			near: here, far: there,
		},
		{
			what: "clusterLocal, wildcard", change: settings(model.HostSetting{Pattern: "*.shop.svc.cluster.local", ClusterLocal: true}),
			near: here, far: there,
		},
		{
			what: "clusterLocal, but for one", near: both, far: both,
			change: settings(model.HostSetting{Pattern: "*", ClusterLocal: true}, model.HostSetting{Pattern: webHost}),
		},
		{what: "exported to another namespace, there", change: export(farCluster, "other"), near: here, far: here},
		{what: "exported to the client's namespace, there", change: export(farCluster, "client"), near: both, far: both},
		{what: "exported to nobody, here", change: export(testCluster, "~"), near: there, far: there},
		{
			what:   "exported to the own namespace by default",
			change: func(m *mesh, mc *model.Mesh) { mc.ServiceExports = model.Exports{"."}; exportByDefault(m) },
		},
		{
			what:   "exported to all, whatever the default",
			change: func(_ *mesh, mc *model.Mesh) { mc.ServiceExports = model.Exports{"."} },
			near:   both, far: both,
		},
		{
			what: "namespaces that are selected", near: both, far: both,
			change: func(m *mesh, mc *model.Mesh) {
				mc.Namespaces = []model.LabelSelector{{Labels: map[string]string{"mesh": "yes"}}}
				insert(m, m.store.Namespaces,
					&model.Namespace{Cluster: testCluster, Name: "shop", Labels: map[string]string{"mesh": "yes"}},
					&model.Namespace{Cluster: farCluster, Name: "shop", Labels: map[string]string{"mesh": "yes"}})
			},
		},
		{
			what: "a namespace that is selected here alone", near: here, far: here,
			change: func(m *mesh, mc *model.Mesh) {
				mc.Namespaces = []model.LabelSelector{{Labels: map[string]string{"mesh": "yes"}}}
				insert(m, m.store.Namespaces,
					&model.Namespace{Cluster: testCluster, Name: "shop", Labels: map[string]string{"mesh": "yes"}},
					&model.Namespace{Cluster: farCluster, Name: "shop"})
			},
		},
	} {
		m := twoNetworks(t)
		insert(m, m.store.Clusters, &model.Cluster{ID: testCluster, Synced: true}, &model.Cluster{ID: farCluster, Synced: true})
		mc := model.DefaultMesh(testCluster)
		tt.change(m, mc)
		insert(m, m.store.Meshes, mc)
		for c, want := range map[model.ClusterID]map[string]int{testCluster: tt.near, farCluster: tt.far} {
			v := m.view(clientIn(c))
			if len(want) == 0 {
				if m.resources(v, xds.TypeCluster, "outbound|80||"+webHost)["outbound|80||"+webHost] != nil {
					t.Errorf("%s: %s has the service", tt.what, c)
				}
				continue
			}
			if got := m.shown(clientIn(c)); !maps.Equal(got, want) {
				t.Errorf("%s: %s is shown %v, want %v", tt.what, c, got, want)
			}
		}
	}
}

// exportByDefault makes web say nothing of who sees it.
func exportByDefault(m *mesh) {
	for _, c := range []model.ClusterID{testCluster, farCluster} {
		svc := webIn(c)
		svc.ExportByDefault = true
		insert(m, m.store.Services, svc)
	}
}

// TestSystemServicesStayAtHome: what speaks of a cluster itself is not there for
// another one.
func TestSystemServicesStayAtHome(t *testing.T) {
	m := pairOfClusters(t, "", "")
	dns, api := service("kube-system", "kube-dns", "10.96.0.10", port("dns", 53, model.TCP, 53)), service("default", "kubernetes", "10.96.0.1", port("https", 443, model.TCP, 6443))
	istiod := service("istio-system", "istiod", "10.96.0.2", port("https-dns", 15012, model.TLS, 15012))
	only := service("kube-system", "only-there", "10.96.0.11", port("tcp", 7000, model.TCP, 7000))
	insert(m, m.store.Services, dns, api, istiod, far(dns), far(api), far(istiod), far(only))
	m.endpoints(istiod, "10.1.0.2")
	m.endpoints(far(istiod), "10.2.0.2")
	m.endpoints(dns, "10.1.0.1")
	m.endpoints(far(dns), "10.2.0.1")
	v := m.view(node("sidecar", "client", "c-1", nil))
	if got, want := m.addresses(v, "outbound|53||"+dns.Host), map[string]int{"10.1.0.1:53": 1}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got, want := m.addresses(v, "outbound|15012||"+istiod.Host), map[string]int{"10.1.0.2:15012": 1}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if slices.Contains(m.names(v, xds.TypeCluster), "outbound|7000||"+only.Host) {
		t.Error("a service of another cluster's kube-system is there")
	}
}

// TestNamespacesAreSelectedAtRunTime: whoever sees a service is told when its
// namespace begins to count.
func TestNamespacesAreSelectedAtRunTime(t *testing.T) {
	m := twoNetworks(t)
	mc := model.DefaultMesh(testCluster)
	mc.Namespaces = []model.LabelSelector{{Labels: map[string]string{"mesh": "yes"}}}
	insert(m, m.store.Meshes, mc)
	v := m.view(clientIn(testCluster))
	name := "outbound|80||" + webHost
	res, told, err := v.Resources(xds.TypeCluster, nil)
	if err != nil || res.Get(name) != nil {
		t.Fatalf("%v, %v", res.Get(name), err)
	}
	insert(m, m.store.Namespaces, &model.Namespace{Cluster: testCluster, Name: "shop", Labels: map[string]string{"mesh": "yes"}})
	for deadline := 0; m.resources(v, xds.TypeCluster, name)[name] == nil; deadline++ {
		waitFor(t, told)
		if _, told, err = v.Resources(xds.TypeCluster, nil); err != nil || deadline > 10 {
			t.Fatal("not told")
		}
	}
}
