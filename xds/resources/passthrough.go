package resources

import (
	"cmp"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/isthmus-mesh/isthmus/model"
)

// passedService is a Service that a gateway passes TLS on to, whoever speaks it:
// the control plane's, for proxies of clusters that are steered from here.
type passedService struct {
	host string // NAME.NAMESPACE.svc, or with the cluster's domain after it
	port uint16 // of the Service
}

func (s passedService) compare(o passedService) int {
	return cmp.Or(cmp.Compare(s.host, o.host), cmp.Compare(s.port, o.port))
}

// names are the service's own, the full one first. There are none of a host that
// is in another domain than the cluster's: it could be anybody's.
func (s passedService) names(mesh *model.Mesh) []string {
	short, domain, _ := strings.Cut(s.host, ".svc.")
	short = strings.TrimSuffix(short, ".svc")
	if domain != "" && domain != mesh.ClusterDomain {
		return nil
	}
	return []string{short + ".svc." + mesh.ClusterDomain, short + ".svc"}
}

func (s passedService) cluster(mesh *model.Mesh) string {
	return "passthrough|" + utoa(s.port) + "||" + s.names(mesh)[0]
}

// passed are the services of a port, each once, by its full name.
func (p *gatewayPort) passed(mesh *model.Mesh) []passedService {
	var out []passedService
	seen := map[string]bool{}
	for _, s := range p.services {
		names := s.names(mesh)
		// Of two ports of one service, the lower counts: one name leads to one
		// place.
		if len(names) > 0 && !seen[names[0]] {
			seen[names[0]] = true
			out = append(out, s)
		}
	}
	return out
}

// passedChains pass on what asks for a service by name, unless a chain before has the name.
func (p *gatewayPort) passedChains(mesh *model.Mesh, before []*listenerv3.FilterChain) []*listenerv3.FilterChain {
	var out []*listenerv3.FilterChain
	for _, s := range p.passed(mesh) {
		names := namesLeft(s.names(mesh), before)
		if len(names) == 0 {
			continue
		}
		out = append(out, &listenerv3.FilterChain{
			Name:             s.cluster(mesh),
			FilterChainMatch: &listenerv3.FilterChainMatch{TransportProtocol: "tls", ServerNames: names},
			Filters:          []*listenerv3.Filter{tcpProxy(mesh, s.cluster(mesh))},
		})
	}
	return out
}

// namesLeft are the server names that no chain has. A chain without names has anyName.
func namesLeft(names []string, chains []*listenerv3.FilterChain) []string {
	return slices.DeleteFunc(names, func(name string) bool {
		return slices.ContainsFunc(chains, func(c *listenerv3.FilterChain) bool {
			taken := c.FilterChainMatch.GetServerNames()
			return slices.Contains(taken, name) || name == anyName && len(taken) == 0
		})
	})
}

// passedClusters lead to the Services by the gateway's own DNS: that of its
// cluster, where the name is the Service of this cluster and never of another.
func (g *gateway) passedClusters(mesh *model.Mesh) []*clusterv3.Cluster {
	var out []*clusterv3.Cluster
	seen := map[string]bool{}
	for i := range g.ports {
		for _, s := range g.ports[i].passed(mesh) {
			name := s.cluster(mesh)
			if seen[name] {
				continue
			}
			seen[name] = true
			out = append(out, &clusterv3.Cluster{
				Name:                 name,
				ConnectTimeout:       durationpb.New(connectTimeout(mesh)),
				ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS},
				DnsLookupFamily:      clusterv3.Cluster_V4_PREFERRED,
				//lint:ignore SA1019 its successor, a typed resolver, asks more of the proxy
				RespectDnsTtl: true,
				LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
					LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
						Endpoint: &endpointv3.Endpoint{Address: socketAddress(s.names(mesh)[0], s.port)},
					}}},
				}}},
			})
		}
	}
	return out
}
