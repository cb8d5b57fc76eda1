package resources

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/model"
)

// Pods of one network reach each other by their addresses. Into another network
// lead its gateways alone, which pass mutual TLS through by its server name. Of
// an endpoint or a proxy whose network nobody names, it is taken that everybody
// reaches it.

// labelNetwork is the label by which a pod names its network.
const labelNetwork = "topology.istio.io/network"

// configuredNetworks are those that the mesh configuration of the own cluster
// names, which counts for all, as all of the configuration does.
func (s *Source) configuredNetworks(r *reader) []*model.Network {
	var out []*model.Network
	for n := range readAll(r, &s.store.Networks) {
		if n.Cluster == s.cfg.Cluster {
			out = append(out, n)
		}
	}
	return out
}

// membership is which network clusters and addresses are in. It is immutable.
type membership struct {
	cidrs    []cidr // the longest first
	clusters map[model.ClusterID]string
}

type cidr struct {
	prefix  netip.Prefix
	network string
}

// membershipOf asks for the membership.
type membershipOf struct{ source *Source }

func (q membershipOf) build(r *reader, old *membership) *membership {
	s := q.source
	now := newMembership(s.configuredNetworks(r), readAll(r, &s.store.Clusters))
	if old != nil && old.equal(now) {
		return old
	}
	return now
}

func newMembership(configured []*model.Network, clusters func(func(*model.Cluster) bool)) *membership {
	m := &membership{clusters: map[model.ClusterID]string{}}
	byRegistry := map[model.ClusterID]string{}
	for _, n := range configured {
		for _, prefix := range n.CIDRs {
			m.cidrs = append(m.cidrs, cidr{prefix, n.Name})
		}
		for _, c := range n.Clusters {
			if byRegistry[c] == "" {
				byRegistry[c] = n.Name
			}
		}
	}
	slices.SortFunc(m.cidrs, func(a, b cidr) int {
		return cmp.Or(cmp.Compare(b.prefix.Bits(), a.prefix.Bits()), a.prefix.Compare(b.prefix), cmp.Compare(a.network, b.network))
	})

	for c := range clusters {
		m.clusters[c.ID] = cmp.Or(c.Network, byRegistry[c.ID], c.DefaultNetwork)
	}
	return m
}

func (m *membership) equal(o *membership) bool {
	return slices.Equal(m.cidrs, o.cidrs) && maps.Equal(m.clusters, o.clusters)
}

// of is the network of an address: the one whose CIDR holds it, else the one that
// labels name, else that of its cluster. It is empty when nobody names one.
func (m *membership) of(cluster model.ClusterID, labelled, address string) string {
	if len(m.cidrs) > 0 {
		if ip, err := netip.ParseAddr(address); err == nil {
			ip = ip.Unmap()
			for i := range m.cidrs {
				if m.cidrs[i].prefix.Contains(ip) {
					return m.cidrs[i].network
				}
			}
		}
	}
	return cmp.Or(labelled, m.clusters[cluster])
}

// meets tells whether the pods of a cluster reach an endpoint by its address. Those
// that a label puts into another network than their cluster are taken for the
// others here: it is asked for what they all share.
func (m *membership) meets(from, cluster model.ClusterID, ep *model.Endpoint) bool {
	here, there := m.clusters[from], m.of(cluster, ep.Network, ep.Address)
	return here == "" || there == "" || here == there
}

// apart tells whether some of a host's Services are in clusters whose network is
// not that of the given one.
func (m *membership) apart(from model.ClusterID, rows []*model.Service) bool {
	own := m.clusters[from]
	return own != "" && slices.ContainsFunc(rows, func(r *model.Service) bool {
		there := m.clusters[r.Cluster]
		return r.Origin == model.FromKubernetes && there != "" && there != own
	})
}

// ofProxy is the network of a proxy: that of its pod. What the proxy says itself
// counts only where nobody else says anything: its endpoints are known by the
// same rules.
func (m *membership) ofProxy(p *proxy, w *model.Workload) string {
	address := p.address
	if len(w.Addresses) > 0 {
		address = w.Addresses[0]
	}
	return cmp.Or(m.of(w.Cluster, w.Network, address), p.network)
}

// gateways are the addresses through which others reach a network, by the
// network: sorted, each once. It is immutable.
type gateways struct{ byNetwork map[string][]netip.AddrPort }

// gatewaysOf asks for the gateways of all networks.
type gatewaysOf struct{ source *Source }

func (q gatewaysOf) build(r *reader, old *gateways) *gateways {
	s := q.source
	names := map[string][]netip.Addr{}
	for n := range readAll(r, &s.store.Names) {
		names[n.Name] = n.Addresses
	}
	entrances := slices.Collect(readAll(r, &s.store.Entrances))
	now := &gateways{gatewaysByNetwork(s.members.get(r), s.configuredNetworks(r), entrances, names)}
	if old != nil && maps.EqualFunc(old.byNetwork, now.byNetwork, slices.Equal) {
		return old
	}
	return now
}

// gatewaysByNetwork finds the gateways: those that the mesh configuration names,
// by an address or by a Service in a cluster of the network, and the Services
// that say so themselves. names are the addresses of host names.
func gatewaysByNetwork(members *membership, configured []*model.Network, entrances []*model.Entrance, names map[string][]netip.Addr) map[string][]netip.AddrPort {
	found := map[string][]netip.AddrPort{}
	add := func(network string, addresses []string, port uint16) {
		for _, a := range addresses {
			ips := names[a]
			if ip, err := netip.ParseAddr(a); err == nil {
				ips = []netip.Addr{ip.Unmap()}
			}
			for _, ip := range ips {
				if port != 0 {
					found[network] = append(found[network], netip.AddrPortFrom(ip, port))
				}
			}
		}
	}

	for _, n := range configured {
		for _, gw := range n.Gateways {
			if gw.Address != "" {
				add(n.Name, []string{gw.Address}, gw.Port)
				continue
			}
			for _, e := range entrances {
				if members.clusters[e.Cluster] == n.Name && e.CalledBy(gw.Service) {
					add(n.Name, e.Addresses, e.Ports[gw.Port])
				}
			}
		}
	}
	for _, e := range entrances {
		if e.Network != "" {
			add(e.Network, e.Addresses, e.Ports[e.GatewayPort])
		}
	}

	for network, list := range found {
		slices.SortFunc(list, netip.AddrPort.Compare)
		found[network] = slices.Compact(list)
	}
	return found
}
