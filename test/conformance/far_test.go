package conformance

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/resources"
)

// A mesh of two clusters: the other one is on network2, or on the same network, and
// its pods have addresses in 10.2.0.0/16. It has some of the services, others that
// are like them but for a trait, and some that are its own alone.

const farCluster = model.ClusterID("far")

func (m *mesh) drawFarCluster() {
	r := m.r
	network := pick(r, "network2", "network2", "network1", "")
	insert(m, m.store.Clusters, &model.Cluster{ID: farCluster, Network: network, Synced: true})
	if r.IntN(3) > 0 {
		insert(m, m.store.Entrances, &model.Entrance{
			Cluster: farCluster, Namespace: "istio-system", Name: "gw", Host: "gw.istio-system.svc.cluster.local",
			Network: "network2", GatewayPort: 15443, Addresses: []string{"192.0.2.1", "gateway.example.com"}, Ports: map[uint16]uint16{15443: 15443},
		})
		insert(m, m.store.Names, &model.Name{Cluster: cluster, Name: "gateway.example.com",
			Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::1")}})
	}
	for svc := range m.store.Services.All(m.txn) {
		if svc.Origin == model.FromKubernetes && r.IntN(2) == 0 {
			m.farService(svc)
		}
	}
	for i := range r.IntN(4) {
		name := fmt.Sprintf("far-%d", i)
		m.farService(&model.Service{
			Host: name + ".foo.svc.cluster.local", Namespace: "foo", Name: name,
			Addresses: []netip.Prefix{netip.MustParsePrefix("10.96.0.1/32")},
			Ports:     []model.Port{{Name: "p0", Number: uint16(80 + r.IntN(3)), Target: 8080, Protocol: model.Protocol(r.IntN(int(lastProtocol(r)) + 1))}},
		})
	}

	pod := &model.Workload{
		Cluster: farCluster, Namespace: "foo", Name: "far-pod", Addresses: []string{"10.2.0.1"},
		Account: "default", Labels: map[string]string{"app": "a"}, TLS: true,
	}
	gw := &model.Workload{
		Cluster: farCluster, Namespace: "istio-system", Name: "far-gw", Addresses: []string{"10.2.1.1"},
		Account: "gw", Labels: map[string]string{"istio": "ingressgateway"},
	}
	insert(m, m.store.Workloads, pod)
	insert(m, m.store.Workloads, gw)
	m.nodes = append(m.nodes, node("sidecar", pod), node("router", gw))
}

// farService adds a service as the other cluster has it.
func (m *mesh) farService(like *model.Service) {
	r := m.r
	svc := *like
	svc.Cluster = farCluster
	svc.Created = time.Unix(int64(r.IntN(10)), 0)
	switch r.IntN(4) {
	case 0:
		svc.Headless, svc.Resolution, svc.Addresses, svc.Alias, svc.Resolved = true, model.ByDestination, nil, "", nil
	case 1:
		svc.Ports = append(slices.Clone(svc.Ports), model.Port{Name: "more", Number: 9000, Target: 9000, Protocol: model.TCP})
	}
	insert(m, m.store.Services, &svc)
	set, traits := m.drawEndpoints(&svc), &model.Traits{Host: svc.Host, Cluster: farCluster, Namespace: svc.Namespace, Name: svc.Name}
	set.Cluster = farCluster
	for i := range set.Endpoints {
		ep := &set.Endpoints[i]
		ep.Address, ep.Network = fmt.Sprintf("10.2.0.%d", i+1), ""
		if svc.Headless {
			traits.Addresses = append(traits.Addresses, ep.Address)
			traits.Members = append(traits.Members, *ep)
		}
	}
	insert(m, m.store.Endpoints, set)
	insert(m, m.store.Traits, traits)
}

// TestNoAddressOfAnotherNetwork: nothing of what a proxy is sent, of whatever type,
// names the address of a pod of another network.
func TestNoAddressOfAnotherNetwork(t *testing.T) {
	apart := 0
	for seed := range uint64(300) {
		m := drawMesh(t, rand.New(rand.NewPCG(seed, 2)))
		far, _, ok := m.store.Clusters.Get(m.store.Read(), m.store.Clusters.ByKey(string(farCluster)))
		if !ok || far.Network != "network2" {
			continue
		}
		apart++
		src, err := resources.New(m.store, resources.Config{Cluster: cluster, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
		if err != nil {
			t.Fatal(err)
		}
		for _, node := range m.nodes {
			foreign := "10.2."
			if strings.HasPrefix(node.ID.IP.String(), foreign) {
				foreign = "10.1."
			}
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			view, _, err := src.View(ctx, node)
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			for typeURL := range decoders {
				all, _, err := view.Resources(typeURL, nil)
				if err != nil {
					t.Fatal(err)
				}
				for name, res := range all.All() {
					if strings.Contains(name, foreign) || strings.Contains(string(res.Body.Value), foreign) {
						t.Errorf("seed %d, %s: %s %s names an address %s…", seed, node.ID, xds.Short(typeURL), name, foreign)
					}
				}
			}
		}
	}
	if apart < 20 {
		t.Errorf("%d meshes of two networks: the test shows little", apart)
	}
}

// TestEnvoyKeepsEveryEndpoint: Envoy keeps no address twice in an assignment, and
// the weights of a locality must fit into 32 bits.
func TestEnvoyKeepsEveryEndpoint(t *testing.T) {
	for seed := range uint64(100) {
		m := drawMesh(t, rand.New(rand.NewPCG(seed, 3)))
		src, err := resources.New(m.store, resources.Config{Cluster: cluster, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
		if err != nil {
			t.Fatal(err)
		}
		for _, node := range m.nodes {
			view, _, err := src.View(t.Context(), node)
			if err != nil {
				t.Fatal(err)
			}
			all, _, err := view.Resources(xds.TypeEndpoint, nil)
			if err != nil {
				t.Fatal(err)
			}
			for name, res := range all.All() {
				cla := &endpointv3.ClusterLoadAssignment{}
				if err := res.Body.UnmarshalTo(cla); err != nil {
					t.Fatal(err)
				}
				checkAssignment(t, fmt.Sprintf("seed %d, %s, %s", seed, node.ID, name), cla)
			}
			clusters, _, err := view.Resources(xds.TypeCluster, nil)
			if err != nil {
				t.Fatal(err)
			}
			for name, res := range clusters.All() {
				c := &clusterv3.Cluster{}
				if err := res.Body.UnmarshalTo(c); err != nil {
					t.Fatal(err)
				}
				checkAssignment(t, fmt.Sprintf("seed %d, %s, %s", seed, node.ID, name), c.GetLoadAssignment())
			}
		}
	}
}

func checkAssignment(t *testing.T, what string, cla *endpointv3.ClusterLoadAssignment) {
	t.Helper()
	seen := map[string]bool{}
	for i, l := range cla.GetEndpoints() {
		sum := uint64(0)
		for _, e := range l.LbEndpoints {
			a := e.GetEndpoint().GetAddress().GetSocketAddress()
			at := fmt.Sprintf("%s %d", a.GetAddress(), a.GetPortValue())
			if seen[at] {
				t.Errorf("%s: %s comes twice", what, at)
			}
			seen[at] = true
			sum += uint64(max(e.GetLoadBalancingWeight().GetValue(), 1))
		}
		if sum > 1<<32-1 {
			t.Errorf("%s: the weights of locality %d come to %d", what, i, sum)
		}
	}
}
