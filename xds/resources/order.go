package resources

import "github.com/isthmus-mesh/isthmus/model"

// Which endpoints a client prefers. Where nobody says anything, it is decided by
// place: those in the client's own come first, then those of its zone, of its
// region, and all others.
//
// Between endpoints in the client's own place nothing is decided by cluster. Two
// clusters side by side share the calls to a service that both have, as people
// expect of one mesh (it is what Istio's guides for several clusters have them
// verify); and where nobody labels nodes, all that is known is that everything is
// in one place. Farther away the client's own cluster comes first at each
// distance: a call that has to leave its place need not leave its cluster, and
// pass two gateways, as well. A service that prefers what is close
// (trafficDistribution) stays in the cluster for as long as it can.
//
// An endpoint whose region is not known counts as in another region. A client
// whose own place is not known compares by what it knows: of a client without a
// zone, all of the region is the own place.

// order is how the endpoints of a port are ordered. Equal orders give a client
// equal priorities.
type order struct {
	// setting is nil where nobody says anything.
	setting *model.LocalitySetting
	// prefers is what the service asks for itself, where no setting of a
	// DestinationRule stands above it.
	prefers model.Distribution
}

// orderFor finds the order that holds for a port: a DestinationRule's setting
// takes the place of all others as a whole, and a service's own of the mesh's. A
// gateway passes on what a client has chosen already: it is never told to send
// calls away again.
func orderFor(mesh *model.Mesh, pol model.TrafficPolicy, svc *model.Service, passthrough bool) order {
	switch {
	case passthrough && mesh.Locality != nil && mesh.Locality.Off:
		return order{setting: mesh.Locality}
	case passthrough:
		return order{}
	case pol.Locality != nil:
		return order{setting: pol.Locality}
	case svc.Distribution != model.DistributeAny:
		return order{prefers: svc.Distribution}
	}
	return order{setting: mesh.Locality}
}

func (o order) off() bool { return o.setting != nil && o.setting.Off }

// labels are those in which endpoints are compared; nil where localities decide.
func (o order) labels() []model.PriorityLabel {
	if o.setting == nil || o.setting.Off {
		return nil
	}
	return o.setting.Priority
}

// shared tells that the order gives places their shares of the calls of some
// clients, so that weights decide between localities.
func (o order) shared() bool {
	return o.setting != nil && !o.setting.Off && len(o.setting.Distribute) > 0
}

// byLocality tells that it makes a difference in which locality an endpoint is.
func (o order) byLocality() bool {
	return !o.off() && (len(o.labels()) == 0 || len(o.setting.Failover) > 0)
}

// needs is what of a client's place it depends on how endpoints are ordered.
func (o order) needs() needs {
	var n needs
	if o.byLocality() {
		n |= needsLocality
	}
	if o.prefers == model.PreferNode {
		n |= needsNode
	}
	for _, l := range o.labels() {
		if !l.Fixed {
			n |= needOf(l.Key)
		}
	}
	return n
}

// Distances between a client and the locality of an endpoint. They only order.
const (
	inPlace uint32 = iota
	inZone
	inRegion
	inFailoverRegion
	elsewhere
	distances // how many there are
)

// distance is how far a locality is from a client's. failover is the regions that
// come before others.
func distance(from, to model.Locality, failover map[string]string) uint32 {
	region, zone, subzone := from.Parts()
	thereRegion, thereZone, thereSubzone := to.Parts()
	switch {
	case region == "":
		return inPlace
	case region != thereRegion && thereRegion != "" && failover[region] == thereRegion:
		return inFailoverRegion
	case region != thereRegion:
		return elsewhere
	case zone == "":
		return inPlace
	case zone != thereZone:
		return inRegion
	case subzone != "" && subzone != thereSubzone:
		return inZone
	}
	return inPlace
}

// rank is how far an endpoint is from the client, in steps that only order.
func (b *assignmentBuilder) rank(row *model.Service, ep *model.Endpoint) uint32 {
	if b.order.off() || b.shares != nil {
		return 0
	}
	var failover map[string]string
	if b.order.setting != nil {
		failover = b.order.setting.Failover
	}

	if labels := b.order.labels(); len(labels) > 0 {
		rank := uint32(b.unlike(labels, row, ep))
		if failover == nil {
			return rank
		}
		return rank*distances + distance(b.from.locality, ep.Locality, failover)
	}

	if b.order.prefers == model.PreferNode && b.onNode(row.Cluster, ep) {
		return 0
	}
	far := distance(b.from.locality, ep.Locality, failover)
	// At each distance the own cluster first; see above.
	rank := 1 + 2*far
	if (far > inPlace || b.order.prefers != model.DistributeAny) && clusterOf(row, ep) != b.from.cluster {
		rank++
	}
	return rank
}

// clusterOf is the cluster that an endpoint is in. What a ServiceEntry lists is in
// none, unless it says so.
func clusterOf(row *model.Service, ep *model.Endpoint) model.ClusterID {
	if row.Origin == model.FromServiceEntry {
		return model.ClusterID(ep.Labels[labelCluster])
	}
	return row.Cluster
}
