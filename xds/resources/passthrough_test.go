package resources

import (
	"slices"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
)

// TestPassthroughToServices: TLS for a Service that is named is passed on to it,
// by either of its names and through the gateway's own DNS, beside what passes by
// the mesh's own server names; a name outside of the cluster's domain is not.
func TestPassthroughToServices(t *testing.T) {
	const istiod = "istiod.istio-system.svc.cluster.local"
	for what, c := range map[string]struct {
		namespace string
		servers   []model.GatewayServer
		chains    []string // of the listener on 15012; nil: there is none
		clusters  []string
	}{
		"the full name": {
			"istio-system", []model.GatewayServer{{Port: 15012, Mode: model.PassTLS, Hosts: []string{istiod}}},
			[]string{"passthrough|15012||" + istiod}, []string{"passthrough|15012||" + istiod},
		},
		"both names": {
			"istio-system", []model.GatewayServer{{Port: 15012, Mode: model.PassTLS, Hosts: []string{"istiod.istio-system.svc", istiod}}},
			[]string{"passthrough|15012||" + istiod}, []string{"passthrough|15012||" + istiod},
		},
		"beside the mesh's own": {
			"istio-system", []model.GatewayServer{{Port: 15012, Mode: model.PassTLS, Hosts: []string{istiod}}, {Port: 15012, Hosts: []string{"*"}}},
			[]string{"passthrough|15012||" + istiod, "passthrough"}, []string{"passthrough|15012||" + istiod},
		},
		"another domain": {
			"istio-system", []model.GatewayServer{{Port: 15012, Mode: model.PassTLS, Hosts: []string{"istiod.istio-system.svc.example.com"}}},
			nil, nil,
		},
		"a tenant's": {
			"tenant", []model.GatewayServer{{Port: 15012, Mode: model.PassTLS, Hosts: []string{istiod}}},
			nil, nil,
		},
	} {
		t.Run(what, func(t *testing.T) {
			m := newMesh(t)
			insert(m, m.store.Gateways, &model.Gateway{Cluster: testCluster, Namespace: c.namespace, Name: "g",
				Selector: map[string]string{"istio": "eastwestgateway"}, Servers: c.servers})
			v := m.view(node("router", "istio-system", "gw-1", map[string]string{"istio": "eastwestgateway"}))

			var chains, clusters []string
			for name, l := range m.resources(v, xds.TypeListener) {
				listener := decoded[*listenerv3.Listener](t, l)
				if name != "0.0.0.0_15012" {
					t.Errorf("listener %s", name)
				}
				for _, chain := range listener.FilterChains {
					chains = append(chains, chain.Name)
					if names := chain.FilterChainMatch.ServerNames; chain.Name != "passthrough" && !slices.Equal(names, []string{istiod, "istiod.istio-system.svc"}) {
						t.Errorf("chain %s takes %q", chain.Name, names)
					}
				}
			}
			for name, r := range m.resources(v, xds.TypeCluster) {
				cluster := decoded[*clusterv3.Cluster](t, r)
				if cluster.GetType() != clusterv3.Cluster_STRICT_DNS {
					continue
				}
				clusters = append(clusters, name)
				at := cluster.LoadAssignment.Endpoints[0].LbEndpoints[0].GetEndpoint().Address.GetSocketAddress()
				if at.Address != istiod || at.GetPortValue() != 15012 {
					t.Errorf("%s leads to %v", name, at)
				}
			}
			if !slices.Equal(chains, c.chains) || !slices.Equal(clusters, c.clusters) {
				t.Errorf("chains %q, clusters %q; want %q, %q", chains, clusters, c.chains, c.clusters)
			}
		})
	}
}
