package resources

import (
	"math"
	"net/netip"
	"slices"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/model"
)

// Endpoints have their own weights, unless there are gateways among them, which
// stand for many, or places have shares of the calls. Then each has what it comes
// to of the whole, in the smallest numbers that keep the proportions: within its
// locality as between localities, so that a client that does not weigh localities
// does as one that does.

// shares is what places have of a client's calls, and how much of what they have
// there is: a place's percentage is shared by its endpoints' weights.
type shares struct {
	of100  []model.LocalityShare
	totals []uint64 // the weights of each place, with what is behind gateways
}

// sharesFor are the shares that hold for clients of a locality; nil when none do.
func (o order) sharesFor(from model.Locality) *shares {
	if !o.shared() {
		return nil
	}
	list := o.setting.Shares(from)
	if list == nil {
		return nil
	}
	return &shares{list, make([]uint64, len(list))}
}

func (s *shares) index(l model.Locality) int {
	return slices.IndexFunc(s.of100, func(share model.LocalityShare) bool { return share.To.Matches(l) })
}

// include tells whether endpoints of a locality get calls at all. Whoever says
// where calls go means that they go nowhere else, as in Istio.
func (s *shares) include(l model.Locality) bool { return s == nil || s.index(l) >= 0 }

// count adds to what there is in a locality.
func (s *shares) count(l model.Locality, weight uint64) {
	if s != nil {
		s.totals[s.index(l)] += weight
	}
}

// of is what a weight in a locality comes to.
func (s *shares) of(l model.Locality, weight uint64) float64 {
	if s == nil {
		return float64(weight)
	}
	i := s.index(l)
	return float64(weight) * float64(s.of100[i].Percent) / float64(s.totals[i])
}

// weighted is an endpoint with the weight that it is to have.
type weighted struct {
	endpoint *endpointv3.LbEndpoint
	weight   uint64
}

// weigh gives endpoints the weights that they have together, and puts gateways,
// given by network, in the place of what is beyond. Where there is neither a
// gateway nor a share, endpoints keep their own.
func (b *assignmentBuilder) weigh(gateways map[string][]netip.AddrPort) {
	if len(b.beyond) == 0 && b.shares == nil {
		return
	}
	for network := range b.beyond {
		if len(gateways[network]) == 0 {
			delete(b.beyond, network)
		}
	}
	b.countShares()
	scale := b.scale(gateways)

	var all []weighted
	for at, group := range b.groups {
		for _, e := range group {
			own := uint64(max(e.GetLoadBalancingWeight().GetValue(), 1))
			all = append(all, weighted{e, scaled(b.shares.of(at.locality, own), scale)})
		}
	}
	settleWeights(append(all, b.addGateways(gateways, scale)...))
}

// countShares counts what there is in each place.
func (b *assignmentBuilder) countShares() {
	for at, group := range b.groups {
		b.shares.count(at.locality, uint64(weightOf(group)))
	}
	for _, there := range b.beyond {
		for at, weight := range there.weights {
			b.shares.count(at.locality, weight)
		}
	}
}

// maxScale bounds by what weights are multiplied to share them without a rest:
// between the gateways of a network, of which there may be dozens in each of
// several, and between the endpoints of a place. Numbers that have no such
// multiple below it are shared as near as can be.
const maxScale = 1 << 16

// scale is by what weights are multiplied before they become whole numbers.
func (b *assignmentBuilder) scale(gateways map[string][]netip.AddrPort) float64 {
	var parts []uint64
	for network := range b.beyond {
		parts = append(parts, uint64(len(gateways[network])))
	}
	if b.shares != nil {
		parts = append(parts, b.shares.totals...)
	}

	scale := uint64(1)
	for _, n := range parts {
		if n == 0 {
			continue
		}
		if n > maxScale || lcm(scale, n) > maxScale {
			return maxScale
		}
		scale = lcm(scale, n)
	}
	return float64(scale)
}

// scaled is a share as a whole number. It is never nothing: Envoy takes no weight
// of 0.
func scaled(share, scale float64) uint64 { return max(uint64(math.Round(share*scale)), 1) }

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

// weightOf is the weight of endpoints together, as far as 32 bits go.
func weightOf(endpoints []*endpointv3.LbEndpoint) uint32 {
	var sum uint64
	for _, e := range endpoints {
		sum += uint64(max(e.GetLoadBalancingWeight().GetValue(), 1))
	}
	return uint32(min(sum, math.MaxUint32))
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func lcm(a, b uint64) uint64 { return a / gcd(a, b) * b }
