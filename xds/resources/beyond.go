package resources

import (
	"cmp"
	"maps"
	"math"
	"net/netip"
	"slices"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

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
	if b.from.passthrough || b.plaintext || ep.Router || !b.policy.mutual(ep, target) {
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
// nearest endpoints behind, with the weight of those, in the place where most of
// it is. A gateway comes once in an assignment, as Envoy keeps an address no more
// than once (EdsClusterImpl): what is farther away is for the gateway to choose
// when the near ones fail.
func (b *beyond) nearest() (at placement, weight uint64) {
	places := slices.SortedFunc(maps.Keys(b.weights), func(a, o placement) int {
		return cmp.Or(cmp.Compare(a.priority, o.priority), cmp.Compare(b.weights[o], b.weights[a]), cmp.Compare(a.locality, o.locality))
	})
	for _, p := range places {
		if p.priority == places[0].priority {
			weight += b.weights[p]
		}
	}
	return places[0], weight
}

// metadataCluster is the cluster that telemetry names for what is behind.
func (b *beyond) metadataCluster() string {
	if b.several {
		return ""
	}
	return string(b.cluster)
}

// maxScale bounds by what weights are multiplied to share them between gateways
// without a rest. Numbers of gateways that have no such multiple below it, by
// which there are dozens in each of several networks, are shared as near as can
// be.
const maxScale = 1 << 16

// addGateways puts gateways in the place of what is beyond. Of a network that has
// none, nothing is left.
func (b *assignmentBuilder) addGateways(gateways map[string][]netip.AddrPort) {
	scale := uint64(1)
	for network := range b.beyond {
		if n := uint64(len(gateways[network])); n > 0 {
			if scale = lcm(scale, n); scale > maxScale {
				scale = maxScale
				break
			}
		}
	}

	var all []weighted
	for _, group := range b.groups {
		for _, e := range group {
			all = append(all, weighted{e, uint64(max(e.GetLoadBalancingWeight().GetValue(), 1)) * scale})
		}
	}

	taken := map[netip.AddrPort]int{} // index into all
	at := map[netip.AddrPort]placement{}
	for _, network := range b.nearestFirst() {
		there, list := b.beyond[network], gateways[network]
		place, weight := there.nearest()
		for _, gw := range list {
			n := uint64(len(list))
			share := max((weight*scale+n/2)/n, 1)
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
	settleWeights(all)
}

// nearestFirst are the networks beyond, those with near endpoints first.
func (b *assignmentBuilder) nearestFirst() []string {
	return slices.SortedFunc(maps.Keys(b.beyond), func(x, y string) int {
		px, _ := b.beyond[x].nearest()
		py, _ := b.beyond[y].nearest()
		return cmp.Or(cmp.Compare(px.priority, py.priority), cmp.Compare(x, y))
	})
}

func gatewayEndpoint(at netip.AddrPort, network, cluster string) *endpointv3.LbEndpoint {
	// Which pod answers, nobody knows but the gateway.
	e := lbEndpoint(&model.Endpoint{Address: at.Addr().String(), Workload: ";;;;" + cluster}, at.Port(), true)
	e.Metadata.FilterMetadata["istio"].Fields["network"] = structpb.NewStringValue(network)
	return e
}

// weighted is an endpoint with the weight that it is to have.
type weighted struct {
	endpoint *endpointv3.LbEndpoint
	weight   uint64
}

// settleWeights gives endpoints their weights in the smallest numbers that keep
// the proportions. Their sum must fit into 32 bits (Envoy,
// LbEndpoint.load_balancing_weight); numbers that are too large for that lose
// their last bits.
func settleWeights(all []weighted) {
	var divisor, sum uint64
	for _, w := range all {
		divisor = gcd(divisor, w.weight)
		sum += w.weight
	}
	if divisor == 0 {
		return
	}

	shift := 0
	for (sum/divisor)>>shift > math.MaxUint32-uint64(len(all)) {
		shift++
	}
	for _, w := range all {
		w.endpoint.LoadBalancingWeight = wrapperspb.UInt32(uint32(max(w.weight/divisor>>shift, 1)))
	}
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func lcm(a, b uint64) uint64 { return a / gcd(a, b) * b }
