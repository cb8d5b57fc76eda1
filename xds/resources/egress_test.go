package resources

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
)

// sidecarRow is a Sidecar with the egress hosts given, NAMESPACE/HOST; none: it says
// nothing of them.
func sidecarRow(namespace, name string, age int, hosts ...string) *model.Sidecar {
	s := &model.Sidecar{
		Cluster: testCluster, Namespace: namespace, Name: name,
		Created: time.Date(2026, 1, 1+age, 0, 0, 0, 0, time.UTC),
	}
	for _, h := range hosts {
		ns, host, _ := strings.Cut(h, "/")
		s.Egress = append(s.Egress, model.EgressHost{Namespace: ns, Host: host})
	}
	return s
}

// seenBy are the services that a sidecar of a namespace is told of, as NAME.NAMESPACE,
// sorted.
func (m *mesh) seenBy(namespace string, labels map[string]string) []string {
	m.t.Helper()
	v := m.view(node("sidecar", namespace, "client-1", labels))
	var out []string
	for _, name := range slices.Sorted(maps.Keys(m.resources(v, xds.TypeCluster))) {
		if rest, outbound := strings.CutPrefix(name, "outbound|"); outbound {
			out = append(out, strings.TrimSuffix(rest[strings.LastIndexByte(rest, '|')+1:], ".svc.cluster.local"))
		}
	}
	return slices.Compact(out)
}

// newTeams is a mesh of namespaces a and b, each with a service web and a service db,
// and of a host beyond.
func newTeams(t *testing.T) *mesh {
	m := newMesh(t)
	ip := 0
	for _, ns := range []string{"a", "b"} {
		for _, name := range []string{"web", "db"} {
			ip++
			s := service(ns, name, fmt.Sprintf("10.96.0.%d", ip), port("http", 80, model.HTTP, 8080))
			insert(m, m.store.Services, s)
			m.endpoints(s, fmt.Sprintf("10.1.0.%d", ip))
		}
	}
	insert(m, m.store.Services, &model.Service{
		Host: "api.example.com", Cluster: testCluster, Namespace: "b", Name: "api", Origin: model.FromServiceEntry,
		Resolution: model.ByDNS, Ports: []model.Port{port("http", 80, model.HTTP, 80)},
	})
	return m
}

// TestEgressHosts: which part of the mesh a Sidecar leaves.
func TestEgressHosts(t *testing.T) {
	for _, tt := range []struct {
		hosts []string
		want  []string
	}{
		{hosts: nil, want: []string{"api.example.com", "db.a", "db.b", "web.a", "web.b"}},
		{hosts: []string{"*/*"}, want: []string{"api.example.com", "db.a", "db.b", "web.a", "web.b"}},
		{hosts: []string{"~/*"}},
		{hosts: []string{"./*"}, want: []string{"db.a", "web.a"}},
		{hosts: []string{"b/*"}, want: []string{"api.example.com", "db.b", "web.b"}},
		{hosts: []string{"./*", "b/web.b.svc.cluster.local"}, want: []string{"db.a", "web.a", "web.b"}},
		{hosts: []string{"*/*.example.com"}, want: []string{"api.example.com"}},
		{hosts: []string{"a/*.example.com"}},
		{hosts: []string{"a/web.b.svc.cluster.local"}},
	} {
		t.Run(strings.Join(tt.hosts, " "), func(t *testing.T) {
			m := newTeams(t)
			insert(m, m.store.Sidecars, sidecarRow("a", "default", 0, tt.hosts...))
			if got := m.seenBy("a", nil); !slices.Equal(got, tt.want) {
				t.Errorf("seen are %v, want %v", got, tt.want)
			}
			if got := m.seenBy("b", nil); len(got) != 5 {
				t.Errorf("another namespace sees %v", got)
			}

			// Whoever connects to an address that is not told of finds no listener there,
			// and its name no virtual host.
			v := m.view(node("sidecar", "a", "client-1", nil))
			rc := m.resources(v, xds.TypeRoute, "80")["80"]
			routed := rc != nil && slices.ContainsFunc(decoded[*routev3.RouteConfiguration](t, rc).VirtualHosts, func(h *routev3.VirtualHost) bool {
				return slices.Contains(h.Domains, "web.b.svc.cluster.local")
			})
			if want := slices.Contains(tt.want, "web.b"); routed != want {
				t.Errorf("web.b is routed: %t, want %t", routed, want)
			}
		})
	}
}

// TestWhichSidecar: of a namespace's own one that selects the workload counts, then the
// oldest for all, then that of the root namespace for all.
func TestWhichSidecar(t *testing.T) {
	m := newTeams(t)
	selects := sidecarRow("a", "selects", 5, "a/db.a.svc.cluster.local")
	selects.Selector = map[string]string{"app": "web"}
	rooted := sidecarRow(model.DefaultMesh(testCluster).RootNamespace, "selects", 0, "~/*")
	rooted.Selector = map[string]string{"app": "web"}

	steps := []struct {
		add  *model.Sidecar
		want string // what a workload with app=web sees, in namespace a
	}{
		{add: nil, want: "api.example.com db.a db.b web.a web.b"},
		{add: rooted, want: "api.example.com db.a db.b web.a web.b"},
		{add: sidecarRow(rooted.Namespace, "default", 0, "./*"), want: "db.a web.a"},
		{add: sidecarRow("a", "young", 2, "~/*"), want: ""},
		{add: sidecarRow("a", "old", 1, "b/*"), want: "api.example.com db.b web.b"},
		{add: selects, want: "db.a"},
	}
	for _, s := range steps {
		if s.add != nil {
			insert(m, m.store.Sidecars, s.add)
		}
		if got := strings.Join(m.seenBy("a", map[string]string{"app": "web"}), " "); got != s.want {
			t.Errorf("with %v it sees %q, want %q", s.add, got, s.want)
		}
	}
	if got := strings.Join(m.seenBy("b", map[string]string{"app": "web"}), " "); got != "api.example.com db.b web.b" {
		t.Errorf("by the root namespace's, namespace b sees %q", got)
	}

	// Gateways see what they did.
	v := m.view(node("router", "a", "gateway-1", map[string]string{"app": "web"}))
	if v.(*view).scope.egress != nil {
		t.Error("a Sidecar holds for a gateway")
	}
}

// TestSidecarIsFollowed: a Sidecar that comes, changes or goes gives its proxies another
// View, and others none; those for which it says the same share one.
func TestSidecarIsFollowed(t *testing.T) {
	m := newTeams(t)
	keyOf := func(namespace, pod string) string { return m.view(node("sidecar", namespace, pod, nil)).Key() }
	a, b := keyOf("a", "client-1"), keyOf("b", "client-1")

	insert(m, m.store.Sidecars, sidecarRow("a", "default", 0, "./*"))
	limited := keyOf("a", "client-1")
	if limited == a || keyOf("a", "client-2") != limited || keyOf("b", "client-1") != b {
		t.Errorf("Views are %q and %q, then %q and %q", a, b, limited, keyOf("b", "client-1"))
	}
	insert(m, m.store.Sidecars, sidecarRow("a", "default", 0, "*/*"))
	if key := keyOf("a", "client-1"); key == limited {
		t.Errorf("after a change the View is still %q", key)
	}
	txn := m.store.Write()
	m.store.Sidecars.Remove(txn, sidecarRow("a", "default", 0).Key())
	txn.Commit()
	if key := keyOf("a", "client-1"); key != a {
		t.Errorf("without it the View is %q, want %q", key, a)
	}
}

// TestSidecarRoutes: who is told of a route is told of where it leads.
func TestSidecarRoutes(t *testing.T) {
	m := newTeams(t)
	insert(m, m.store.Sidecars, sidecarRow("a", "default", 0, "./*"))
	insert(m, m.store.Virtuals, &model.VirtualService{
		Cluster: testCluster, Namespace: "a", Name: "web", Hosts: []string{"web.a.svc.cluster.local"},
		HTTP: []model.HTTPRoute{{Destinations: []model.WeightedDestination{{Host: "web.b.svc.cluster.local", Weight: 1}}}},
	})
	if got := strings.Join(m.seenBy("a", nil), " "); got != "db.a web.a web.b" {
		t.Errorf("seen are %q", got)
	}

	// Where it is mirrored to, too.
	insert(m, m.store.Virtuals, &model.VirtualService{
		Cluster: testCluster, Namespace: "a", Name: "db", Hosts: []string{"db.a.svc.cluster.local"},
		HTTP: []model.HTTPRoute{{
			Destinations: []model.WeightedDestination{{Host: "db.a.svc.cluster.local", Weight: 1}},
			Mirrors:      []model.HTTPMirror{{To: model.WeightedDestination{Host: "api.example.com"}, Share: model.Whole}},
		}},
	})
	if got := strings.Join(m.seenBy("a", nil), " "); got != "api.example.com db.a web.a web.b" {
		t.Errorf("with a mirror seen are %q", got)
	}

	// A route that is none of its own, to a host that the mesh does not know: not told.
	insert(m, m.store.Virtuals, &model.VirtualService{
		Cluster: testCluster, Namespace: model.DefaultMesh(testCluster).RootNamespace, Name: "beyond", Hosts: []string{"beyond.example.com"},
		HTTP: []model.HTTPRoute{{Destinations: []model.WeightedDestination{{Host: "db.b.svc.cluster.local", Weight: 1}}}},
	})
	if got := strings.Join(m.seenBy("a", nil), " "); got != "api.example.com db.a web.a web.b" {
		t.Errorf("with a route of the root namespace seen are %q", got)
	}
}

// TestSidecarOutbound: what becomes of calls to what is not told of.
func TestSidecarOutbound(t *testing.T) {
	m := newTeams(t)
	strict := sidecarRow("a", "default", 0)
	strict.Outbound = model.OutboundRegistryOnly
	insert(m, m.store.Sidecars, strict)

	for namespace, want := range map[string]string{"a": blackHoleCluster, "b": passthroughCluster} {
		v := m.view(node("sidecar", namespace, "client-1", nil))
		l := decoded[*listenerv3.Listener](t, m.resources(v, xds.TypeListener, "virtualOutbound")["virtualOutbound"])
		tcp := &tcpproxyv3.TcpProxy{}
		if err := l.FilterChains[0].Filters[0].GetTypedConfig().UnmarshalTo(tcp); err != nil {
			t.Fatal(err)
		}
		if tcp.GetCluster() != want {
			t.Errorf("in namespace %s it goes to %s, want %s", namespace, tcp.GetCluster(), want)
		}
	}
	if got := m.seenBy("a", nil); len(got) != 5 {
		t.Errorf("seen are %v, want everything: egress says nothing", got)
	}
}
