package resources

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// placed is a scene in which the client stands on node n1, in zone r1/z1, and web
// has an endpoint on each of four nodes: here, in the zone, in the region, and
// elsewhere.
func placed(t *testing.T, serviceSpec string) *scene {
	t.Helper()
	s := newScene(t, `
apiVersion: v1
kind: Service
metadata: {name: near, namespace: shop}
spec: {clusterIP: 10.96.0.20, ports: [{name: http, port: 80, targetPort: 8080}], `+serviceSpec+`}
`)
	insert(s.mesh, s.store.Workloads, &model.Workload{Cluster: testCluster, Namespace: "client", Name: "c-1", Node: "n1", Locality: "r1/z1"})
	set := &model.EndpointSet{Host: nearHost, Cluster: testCluster, Namespace: "shop", Name: "near"}
	for address, at := range map[string][2]string{
		"10.0.0.1": {"n1", "r1/z1"}, "10.0.0.2": {"n2", "r1/z1"}, "10.0.0.3": {"n3", "r1/z2"}, "10.0.0.4": {"n4", "r2/z1"},
	} {
		set.Endpoints = append(set.Endpoints, model.Endpoint{Address: address, Node: at[0], Locality: model.Locality(at[1]), Ports: map[string]uint16{"http": 8080}})
	}
	insert(s.mesh, s.store.Endpoints, set)
	s.client = s.view(node("sidecar", "client", "c-1", nil))
	return s
}

const nearHost = "near.shop.svc.cluster.local"

// priorities gives the priority of each endpoint's address.
func (s *scene) priorities(v serve.View) map[string]uint32 {
	out := map[string]uint32{}
	name := "outbound|80||" + nearHost
	for _, l := range message[*endpointv3.ClusterLoadAssignment](s, v, xds.TypeEndpoint, name).GetEndpoints() {
		for _, e := range l.LbEndpoints {
			out[e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress()] = l.Priority
		}
	}
	return out
}

// TestServicesSayWhatIsNear: internalTrafficPolicy and trafficDistribution decide
// which endpoints a client has, and which first.
func TestServicesSayWhatIsNear(t *testing.T) {
	for spec, want := range map[string]map[string]uint32{
		"type: ClusterIP":                     {"10.0.0.1": 0, "10.0.0.2": 0, "10.0.0.3": 1, "10.0.0.4": 2},
		"internalTrafficPolicy: Cluster":      {"10.0.0.1": 0, "10.0.0.2": 0, "10.0.0.3": 1, "10.0.0.4": 2},
		"internalTrafficPolicy: Local":        {"10.0.0.1": 0},
		"trafficDistribution: PreferClose":    {"10.0.0.1": 0, "10.0.0.2": 0, "10.0.0.3": 1, "10.0.0.4": 2},
		"trafficDistribution: PreferSameZone": {"10.0.0.1": 0, "10.0.0.2": 0, "10.0.0.3": 1, "10.0.0.4": 2},
		"trafficDistribution: PreferSameNode": {"10.0.0.1": 0, "10.0.0.2": 1, "10.0.0.3": 2, "10.0.0.4": 3},
	} {
		s := placed(t, spec)
		if got := s.priorities(s.client); !maps.Equal(got, want) {
			t.Errorf("%s: priorities %v, want %v", spec, got, want)
		}
	}
}

// TestNodesOfOtherClusters: a node's name means nothing in another cluster.
func TestNodesOfOtherClusters(t *testing.T) {
	s := placed(t, "internalTrafficPolicy: Local")
	far := &model.Service{Host: nearHost, Cluster: "c2", Namespace: "shop", Name: "near", Ports: []model.Port{port("http", 80, model.HTTP, 8080)}}
	insert(s.mesh, s.store.Services, far)
	insert(s.mesh, s.store.Endpoints, &model.EndpointSet{Host: nearHost, Cluster: "c2", Namespace: "shop", Name: "near",
		Endpoints: []model.Endpoint{{Address: "10.2.0.1", Node: "n1", Ports: map[string]uint16{"http": 8080}}}})
	if got := s.priorities(s.client); !maps.Equal(got, map[string]uint32{"10.0.0.1": 0}) {
		t.Errorf("endpoints %v, want that of the client's own node alone", got)
	}
}

// nextView is closed when a proxy may have another View by a change that comes
// later. Changes made before may still be announced: the last answer counts.
func (m *mesh) nextView(ctx context.Context, n serve.Node) <-chan struct{} {
	m.t.Helper()
	for {
		_, changed, err := m.source.View(ctx, n)
		if err != nil {
			m.t.Fatal(err)
		}
		select {
		case <-changed:
		case <-time.After(50 * time.Millisecond):
			return changed
		}
	}
}

// TestViewsDifferByNodeWhereItMatters: proxies of different nodes share a View
// until a service makes a difference between them, and are told when one does.
func TestViewsDifferByNodeWhereItMatters(t *testing.T) {
	m := newMesh(t)
	for _, n := range []string{"1", "2"} {
		insert(m, m.store.Workloads, &model.Workload{Cluster: testCluster, Namespace: "client", Name: "c-" + n, Node: "n" + n})
	}
	views := func() (a, b serve.View) {
		return m.view(node("sidecar", "client", "c-1", nil)), m.view(node("sidecar", "client", "c-2", nil))
	}
	if a, b := views(); a != b {
		t.Error("two nodes have two Views for nothing")
	}
	ctx, cancel := context.WithCancel(m.ctx)
	defer cancel()
	svc := service("shop", "near", "10.96.0.20", port("http", 80, model.HTTP, 8080))
	svc.NodeLocal = true
	changed := m.nextView(ctx, node("sidecar", "client", "c-1", nil))
	insert(m, m.store.Services, svc)
	waitFor(t, changed)
	if a, b := views(); a == b {
		t.Error("two nodes share a View")
	}
}

// TestLastResort: endpoints whose nodes are lost from sight are left out where any
// cluster has a better one, and all that there is where none has.
func TestLastResort(t *testing.T) {
	s := placed(t, "type: ClusterIP")
	lost := func(c model.ClusterID, address string, lastResort bool) *model.EndpointSet {
		return &model.EndpointSet{Host: nearHost, Cluster: c, Namespace: "shop", Name: "near", Endpoints: []model.Endpoint{{
			Address: address, Ports: map[string]uint16{"http": 8080}, LastResort: lastResort,
		}}}
	}
	insert(s.mesh, s.store.Services, &model.Service{Host: nearHost, Cluster: "c2", Namespace: "shop", Name: "near", Ports: []model.Port{port("http", 80, model.HTTP, 8080)}})

	insert(s.mesh, s.store.Endpoints, lost(testCluster, "10.0.0.1", true), lost("c2", "10.2.0.1", false))
	if got := slices.Sorted(maps.Keys(s.priorities(s.client))); !slices.Equal(got, []string{"10.2.0.1"}) {
		t.Errorf("endpoints %v, want that of the other cluster, which is ready", got)
	}
	insert(s.mesh, s.store.Endpoints, lost("c2", "10.2.0.1", true))
	if got := slices.Sorted(maps.Keys(s.priorities(s.client))); !slices.Equal(got, []string{"10.0.0.1", "10.2.0.1"}) {
		t.Errorf("endpoints %v, want those of both clusters: there is no better one", got)
	}
}
