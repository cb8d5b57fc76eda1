package resources

import "github.com/isthmus-mesh/isthmus/model"

// place is where a proxy stands: endpoints are chosen and ordered as seen from
// there. Equal places are one pointer, which Source.place gives.
type place struct {
	cluster model.ClusterID
	// network is the one that the proxy is in. It is empty when nobody names it:
	// then every endpoint is reached directly.
	network string

	// The others are empty where they make no difference, so that proxies share
	// what they see.

	locality model.Locality
	node     string
	labels   string // see clientLabels
}

// needs is what of a place something depends on, beside its cluster and network.
type needs uint8

const (
	needsLocality needs = 1 << iota
	needsNode
	needsLabels
	allNeeds = needsLocality | needsNode | needsLabels
)

// only is the place without what is not needed of it.
func (p place) only(n needs) place {
	if n&needsLocality == 0 {
		p.locality = ""
	}
	if n&needsNode == 0 {
		p.node = ""
	}
	if n&needsLabels == 0 {
		p.labels = ""
	}
	return p
}

// places are where the proxies of a view stand, as far as each combination of
// needs goes.
type places [allNeeds + 1]*place

// placesLocked gives the pointers for a place.
func (s *Source) placesLocked(p place) (out places) {
	for n := range out {
		out[n] = s.placeLocked(p.only(needs(n)))
	}
	return out
}

// placeLocked gives the one pointer for equal places.
func (s *Source) placeLocked(p place) *place {
	one := s.places[p]
	if one == nil {
		one = &p
		s.places[p] = one
	}
	return one
}
