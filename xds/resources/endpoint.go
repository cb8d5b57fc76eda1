package resources

import (
	"cmp"
	"net/netip"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// endpointsKey asks for a load assignment of a host.
type endpointsKey struct {
	host   *host
	port   uint16
	subset string
	rule   *model.DestinationRule // only when there is a subset
	order  order
	from   *place
	// passthrough is for gateways that pass TLS through to what a stranger's
	// server name asks for (sniName). Only endpoints that make the caller prove
	// itself are shown to them, so that nothing else becomes reachable from
	// outside; and no gateway, itself least of all: one ClientHello would go round
	// for ever, a connection at every turn.
	passthrough bool
	// plaintext tells that the client does not open mutual TLS, so that no
	// gateway lets it through.
	plaintext bool
}

// assignment returns the load assignment of a cluster; nil when there is no such
// cluster for the view.
func (v *view) assignment(r *reader, name string) *serve.Resource {
	sc := v.scope
	n, ok := parseEndpointsName(name)
	if !ok {
		return nil
	}
	g := sc.ground.get(r)
	portNumber, subset := n.port, n.subset
	h := v.hostBehind(r, g, n, name)
	if h == nil {
		return nil
	}
	port := h.port(portNumber)
	if port == nil {
		return nil
	}

	key := endpointsKey{host: h, port: portNumber, subset: subset, passthrough: n.sni}
	gatewayed := len(sc.source.gateways.get(r).byNetwork) > 0
	var rule *model.DestinationRule
	if subset != "" || gatewayed || g.rules.orders() {
		rule = g.ruleFor(sc, h)
	}
	if subset != "" {
		key.rule = rule
		if subsetOf(rule, subset) == nil {
			return nil
		}
	}
	pol := policyFor(rule, subsetOf(rule, subset), portNumber)
	if gatewayed {
		mode := clientMode(g.mesh, h, port, pol)
		key.plaintext = mode == model.ClientTLSDisable || mode == model.ClientTLSOwn
	}

	// Proxies share what does not depend on where they stand.
	key.order = orderFor(g.mesh, pol, port.svc, n.sni)
	need := key.order.needs()
	if port.svc.NodeLocal {
		need |= needsNode
	}
	key.from = v.places[need]
	return h.endpoints.get(r, key)
}

// build depends on the endpoints; on the namespace's policy, for how an endpoint is
// spoken to; and on which network is where, for whether it is reached directly.
// Which gateways networks have is asked only where there is an endpoint behind one.
func (k endpointsKey) build(r *reader, old *serve.Resource) *serve.Resource {
	s, port := k.host.source, k.host.port(k.port)
	b := assignmentBuilder{
		port: port, subset: subsetOf(k.rule, k.subset), from: *k.from,
		order: k.order, shares: k.order.sharesFor(k.from.locality), policy: s.policy(r, port.namespace()),
		members: s.members.get(r), passthrough: k.passthrough, plaintext: k.plaintext, groups: map[placement][]*endpointv3.LbEndpoint{},
	}

	var rows []rowEndpoints
	for _, row := range k.host.backing(port) {
		// Who asks a gateway by server name comes from another cluster, and has what a
		// ServiceEntry adds to a Service at home: that is how replicated control planes
		// name each other's gateways. One that led on to the next cluster's when its own
		// pods are gone would hide that from callers, and keep them on that way as long
		// as their connection lasts; two would send it round for ever.
		if k.passthrough && row.Origin == model.FromServiceEntry {
			continue
		}
		if row.Resolution == model.ByDNS {
			// An entry that joins a Service; the host is another one when the
			// entry changes.
			rows = append(rows, rowEndpoints{row, endpointsFor(port, row, addresses(row.Resolved))})
			continue
		}
		if set := readRow(r, &s.store.Endpoints, row.Key()); set != nil {
			rows = append(rows, rowEndpoints{row, endpointsFor(port, row, set.Endpoints)})
		}
	}
	b.noBetter = !slices.ContainsFunc(rows, b.hasBetter)
	for _, of := range rows {
		b.add(of.row, of.endpoints)
	}
	var gateways map[string][]netip.AddrPort
	if len(b.beyond) > 0 {
		gateways = s.gateways.get(r).byNetwork
	}
	b.weigh(gateways)

	name := clusterName(k.port, k.subset, k.host.name)
	if k.passthrough {
		name = sniName(k.port, k.subset, k.host.name)
	}
	return s.encode(old, name, b.assignment(name))
}

// rowEndpoints are the endpoints of one of the rows that are behind a port.
type rowEndpoints struct {
	row       *model.Service
	endpoints []model.Endpoint
}

// placement is where endpoints stand, and how far away that is.
type placement struct {
	priority uint32
	locality model.Locality
}

func (p placement) compare(o placement) int {
	return cmp.Or(cmp.Compare(p.priority, o.priority), cmp.Compare(p.locality, o.locality))
}

// assignmentBuilder lists the endpoints of a port.
type assignmentBuilder struct {
	port   *hostPort
	subset *model.Subset // filters by labels; nil: no filter
	from   place
	policy *namespacePolicy
	order  order
	// shares are what places have of the client's calls; nil: each endpoint has
	// its weight.
	shares *shares
	// members tells which network an endpoint is in; nil: every endpoint is
	// reached directly.
	members     *membership
	passthrough bool
	plaintext   bool
	// noBetter tells that all endpoints, in all clusters, are those of last resort.
	noBetter bool

	groups map[placement][]*endpointv3.LbEndpoint
	beyond map[string]*beyond // by network
}

// onNode tells whether an endpoint is on the client's own node. Names of nodes
// mean something within one cluster only.
func (b *assignmentBuilder) onNode(c model.ClusterID, ep *model.Endpoint) bool {
	return b.from.node != "" && c == b.from.cluster && ep.Node == b.from.node
}

// shows tells whether the endpoint is one for the client, and at which port.
func (b *assignmentBuilder) shows(c model.ClusterID, ep *model.Endpoint) (target uint16, ok bool) {
	target, ok = ep.Ports[b.port.Name]
	switch {
	case !ok:
	case b.subset != nil && !matchLabels(b.subset.Labels, ep.Labels):
		ok = false
	case b.port.svc.NodeLocal && !b.onNode(c, ep):
		ok = false
	case b.passthrough && (ep.Router || !b.policy.mutual(ep, target)):
		ok = false
	}
	return target, ok
}

// hasBetter tells whether one of the endpoints is for the client, and not of last
// resort.
func (b *assignmentBuilder) hasBetter(of rowEndpoints) bool {
	for i := range of.endpoints {
		ep := &of.endpoints[i]
		if _, ok := b.shows(of.row.Cluster, ep); ok && !ep.LastResort && b.shares.include(ep.Locality) {
			return true
		}
	}
	return false
}

// add groups the endpoints of a row by place: those that the client reaches, and
// those of other networks.
func (b *assignmentBuilder) add(row *model.Service, endpoints []model.Endpoint) {
	for i := range endpoints {
		ep := &endpoints[i]
		target, ok := b.shows(row.Cluster, ep)
		if !ok || !b.shares.include(ep.Locality) || ep.LastResort && !b.noBetter {
			continue
		}
		at := placement{priority: b.rank(row, ep), locality: ep.Locality}
		if network := b.networkOf(row, ep); network != b.from.network && network != "" && b.from.network != "" {
			b.addBeyond(network, row.Cluster, ep, target, at)
			continue
		}
		b.groups[at] = append(b.groups[at], lbEndpoint(ep, target, b.policy.mutual(ep, target)))
	}
}

// networkOf is the network of an endpoint. What a ServiceEntry lists is wherever
// it says; where it says nothing, outside of all clusters.
func (b *assignmentBuilder) networkOf(row *model.Service, ep *model.Endpoint) string {
	switch {
	case b.members == nil:
		return ""
	case row.Origin == model.FromServiceEntry:
		return ep.Network
	}
	return b.members.of(row.Cluster, ep.Network, ep.Address)
}

// assignment lists what was added, what is near the client first.
func (b *assignmentBuilder) assignment(name string) *endpointv3.ClusterLoadAssignment {
	// By priority, and then in any order that is the same each time.
	places := make([]placement, 0, len(b.groups))
	for p := range b.groups {
		places = append(places, p)
	}
	slices.SortFunc(places, placement.compare)

	cla := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	priority := uint32(0)
	for i, p := range places {
		// Priorities are counted from 0 without gaps (Envoy,
		// LocalityLbEndpoints.priority).
		if i > 0 && p.priority > places[i-1].priority {
			priority++
		}
		l := &endpointv3.LocalityLbEndpoints{
			Locality:    protoLocality(p.locality),
			LbEndpoints: b.groups[p],
			Priority:    priority,
		}
		if b.order.shared() {
			// A locality without a weight gets nothing where localities have
			// weights (Envoy, LocalityLbEndpoints.load_balancing_weight).
			l.LoadBalancingWeight = wrapperspb.UInt32(weightOf(l.LbEndpoints))
		}
		cla.Endpoints = append(cla.Endpoints, l)
	}
	return cla
}

func protoLocality(l model.Locality) *corev3.Locality {
	if l == "" {
		return &corev3.Locality{}
	}
	region, zone, subzone := l.Parts()
	return &corev3.Locality{Region: region, Zone: zone, SubZone: subzone}
}

func lbEndpoint(ep *model.Endpoint, port uint16, mutual bool) *endpointv3.LbEndpoint {
	out := &endpointv3.LbEndpoint{
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: socketAddress(ep.Address, port),
		}},
		Metadata: endpointMetadata(ep, mutual),
	}
	if ep.Weight > 0 {
		out.LoadBalancingWeight = wrapperspb.UInt32(ep.Weight)
	}
	return out
}

// endpointMetadata says whether the endpoint takes mutual TLS, and who it is.
func endpointMetadata(ep *model.Endpoint, mutual bool) *corev3.Metadata {
	fields := map[string]*structpb.Struct{}
	if mutual {
		fields[transportMatchKey] = &structpb.Struct{Fields: map[string]*structpb.Value{
			tlsModeLabel: structpb.NewStringValue(tlsModeMutual),
		}}
	}
	if ep.Workload != "" {
		fields["istio"] = &structpb.Struct{Fields: map[string]*structpb.Value{
			"workload": structpb.NewStringValue(ep.Workload),
		}}
	}
	if len(fields) == 0 {
		return nil
	}
	return &corev3.Metadata{FilterMetadata: fields}
}

func socketAddress(address string, port uint16) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       address,
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}

// matchLabels tells whether labels hold everything that is selected.
func matchLabels(selector, labels map[string]string) bool {
	for k, v := range selector {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}
