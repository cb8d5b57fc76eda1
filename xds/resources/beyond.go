package resources

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/isthmus-mesh/isthmus/model"
)

// Endpoints of other networks are not shown to a client: the gateways of their
// network stand for them, each with its share of their weight, so that every
// endpoint gets as many requests as any other, wherever it is.

// beyond is the endpoints of a port in one other network.
type beyond struct {
	weights map[placement]uint64
	// cluster is the one that they are in, if it is one for all.
	cluster model.ClusterID
	several bool
}

// addBeyond counts an endpoint of another network. Only what a gateway of that
// network passes on counts: mutual TLS, to an endpoint that is no gateway itself.
func (b *assignmentBuilder) addBeyond(network string, c model.ClusterID, ep *model.Endpoint, target uint16, at placement) {
	if b.passthrough || b.plaintext || ep.Router || !b.policy.mutual(ep, target) {
		return
	}
	there := b.beyond[network]
	if there == nil {
		there = &beyond{weights: map[placement]uint64{}, cluster: c}
		if b.beyond == nil {
			b.beyond = map[string]*beyond{}
		}
		b.beyond[network] = there
	}
	there.weights[at] += uint64(max(ep.Weight, 1))
	there.several = there.several || there.cluster != c
}

// nearest is where the gateways of a network stand for a client: as near as the
// nearest endpoints behind, in the place where most of those are. A gateway comes
// once in an assignment, as Envoy keeps an address no more than once
// (EdsClusterImpl): what is farther away is for the gateway to choose when the near
// ones fail.
func (b *beyond) nearest() placement {
	return slices.MinFunc(slices.Collect(maps.Keys(b.weights)), func(a, o placement) int {
		return cmp.Or(cmp.Compare(a.priority, o.priority), cmp.Compare(b.weights[o], b.weights[a]), cmp.Compare(a.locality, o.locality))
	})
}

// weight is that of the endpoints that the gateways stand for: the nearest.
func (b *beyond) weight(s *shares) float64 {
	near, sum := b.nearest().priority, 0.0
	// In one order: a sum of fractions depends on it.
	for _, p := range slices.SortedFunc(maps.Keys(b.weights), placement.compare) {
		if p.priority == near {
			sum += s.of(p.locality, b.weights[p])
		}
	}
	return sum
}

// metadataCluster is the cluster that telemetry names for what is behind.
func (b *beyond) metadataCluster() string {
	if b.several {
		return ""
	}
	return string(b.cluster)
}

// addGateways puts gateways in the place of what is beyond, and returns them with
// their weights. Of a network that has none, nothing is left.
func (b *assignmentBuilder) addGateways(gateways map[string][]netip.AddrPort, scale float64) []weighted {
	var all []weighted
	taken := map[netip.AddrPort]int{} // index into all
	at := map[netip.AddrPort]placement{}
	for _, network := range b.nearestFirst() {
		there, list := b.beyond[network], gateways[network]
		place := there.nearest()
		share := scaled(there.weight(b.shares)/float64(len(list)), scale)
		for _, gw := range list {
			if i, ok := taken[gw]; ok {
				// One gateway leads into two networks.
				if at[gw].priority == place.priority {
					all[i].weight += share
				}
				continue
			}
			e := gatewayEndpoint(gw, network, there.metadataCluster())
			taken[gw], at[gw] = len(all), place
			all = append(all, weighted{e, share})
			b.groups[place] = append(b.groups[place], e)
		}
	}
	return all
}

// nearestFirst are the networks beyond, those with near endpoints first.
func (b *assignmentBuilder) nearestFirst() []string {
	return slices.SortedFunc(maps.Keys(b.beyond), func(x, y string) int {
		return cmp.Or(cmp.Compare(b.beyond[x].nearest().priority, b.beyond[y].nearest().priority), cmp.Compare(x, y))
	})
}

func gatewayEndpoint(at netip.AddrPort, network, cluster string) *endpointv3.LbEndpoint {
	// Which pod answers, nobody knows but the gateway.
	e := lbEndpoint(&model.Endpoint{Address: at.Addr().String(), Workload: ";;;;" + cluster}, at.Port(), true)
	e.Metadata.FilterMetadata["istio"].Fields["network"] = structpb.NewStringValue(network)
	return e
}
