package resources

import (
	"maps"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/isthmus-mesh/isthmus/model"
)

// localityWeights are the weights of the localities of a load assignment; those of
// their endpoints must come to the same.
func localityWeights(t *testing.T, cla *endpointv3.ClusterLoadAssignment) map[model.Locality]uint32 {
	t.Helper()
	out := map[model.Locality]uint32{}
	for _, l := range cla.GetEndpoints() {
		at := model.MakeLocality(l.Locality.GetRegion(), l.Locality.GetZone(), l.Locality.GetSubZone())
		if l.LoadBalancingWeight.GetValue() != weightOf(l.LbEndpoints) {
			t.Errorf("%q has weight %d, its endpoints %d", at, l.LoadBalancingWeight.GetValue(), weightOf(l.LbEndpoints))
		}
		out[at] += l.LoadBalancingWeight.GetValue()
	}
	return out
}

// distributed is a mesh whose calls from r1 go to r1 and r2 by the given shares.
func distributed(m *mesh, near, far uint32) {
	mesh := model.DefaultMesh(testCluster)
	mesh.Locality = &model.LocalitySetting{Distribute: []model.Distribute{
		{From: "r1/*", To: []model.LocalityShare{{To: "r1", Percent: near}, {To: "r2/*", Percent: far}}},
	}}
	insert(m, m.store.Meshes, mesh)
}

// TestDistribute: places have the shares that were given to them, however many
// endpoints they have; within a place endpoints have theirs by weight, in whatever
// locality. What nobody gave a share gets nothing. Clients of other places go by
// distance, with weights that leave each endpoint its own.
func TestDistribute(t *testing.T) {
	m := newMesh(t)
	m.webStands(testCluster,
		standing{n: 1, locality: "r1/z1"}, standing{n: 2, locality: "r1/z1"}, standing{n: 3, locality: "r1/z2"},
		standing{n: 4, locality: "r2/z1"}, standing{n: 5, locality: "r3"}, standing{n: 6})
	distributed(m, 80, 20)

	v := m.clientAt("r1/z1", "n1", nil)
	cla := m.loadAssignment(v, webCluster)
	if got := levels(t, cla); got != "1.1 1.2 1.3 1.4" {
		t.Errorf("shown: %s", got)
	}
	if got, want := localityWeights(t, cla), (map[model.Locality]uint32{"r1/z1": 8, "r1/z2": 4, "r2/z1": 3}); !maps.Equal(got, want) {
		t.Errorf("weights %v, want %v", got, want)
	}
	if m.clusterAt(v, webCluster).GetCommonLbConfig().GetLocalityWeightedLbConfig() == nil {
		t.Error("the cluster does not weigh localities")
	}

	cla = m.loadAssignment(m.clientAt("r3", "n1", nil), webCluster)
	if got := levels(t, cla); got != "1.5 | 1.1 1.2 1.3 1.4 1.6" {
		t.Errorf("from r3: %s", got)
	}
	if got, want := localityWeights(t, cla), (map[model.Locality]uint32{"r1/z1": 2, "r1/z2": 1, "r2/z1": 1, "r3": 1, "": 1}); !maps.Equal(got, want) {
		t.Errorf("from r3: weights %v, want %v", got, want)
	}
}

// TestDistributeOverNetworks: what is behind the gateways of another network has its
// share, and the gateways have it together; and a gateway, which a client has chosen
// already, shares nothing itself.
func TestDistributeOverNetworks(t *testing.T) {
	m := twoNetworks(t)
	insert(m, m.store.Entrances, gatewayTo("net2", "gw", "192.0.2.1", "192.0.2.2"))
	m.webEndpointsWith(testCluster, func(e *model.Endpoint) { e.Locality = "r1/z1" }, "10.1.0.1", "10.1.0.2", "10.1.0.3")
	m.webEndpointsWith(farCluster, func(e *model.Endpoint) { e.Locality = "r2/z1" }, "10.2.0.1", "10.2.0.2")
	distributed(m, 75, 25)
	insert(m, m.store.Workloads, &model.Workload{Cluster: testCluster, Namespace: "client", Name: "c-1", Locality: "r1/z1"})

	got := m.shown(clientIn(testCluster))
	want := map[string]int{"10.1.0.1:8080": 2, "10.1.0.2:8080": 2, "10.1.0.3:8080": 2, "192.0.2.1:15443": 1, "192.0.2.2:15443": 1}
	if !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}

	gateway := node("router", "istio-system", "gw-1", map[string]string{"istio": "ingressgateway"})
	for _, l := range m.loadAssignment(m.view(gateway), sniName(80, "", webHost)).Endpoints {
		if l.LoadBalancingWeight != nil {
			t.Errorf("the gateway weighs %v", l.Locality)
		}
	}
}

// TestSharesOfNothing: a place that has no endpoints leaves its share to the others,
// as does a network without a gateway.
func TestSharesOfNothing(t *testing.T) {
	m := twoNetworks(t)
	m.webEndpointsWith(testCluster, func(e *model.Endpoint) { e.Locality = "r1/z1" }, "10.1.0.1")
	m.webEndpointsWith(farCluster, func(e *model.Endpoint) { e.Locality = "r2/z1" }, "10.2.0.1")
	distributed(m, 75, 25)
	insert(m, m.store.Workloads, &model.Workload{Cluster: testCluster, Namespace: "client", Name: "c-1", Locality: "r1/z1"})
	if got, want := m.shown(clientIn(testCluster)), (map[string]int{"10.1.0.1:8080": 1}); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
