package resources

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/model"
)

// Report is what people should know of the mesh beyond one cluster: how networks
// are reached, which endpoints others are not led to, and of which services the
// clusters say different things.
type Report struct {
	// Clusters are the networks of clusters; empty: nobody names one.
	Clusters map[model.ClusterID]string
	// Gateways are the addresses of the gateways of each network.
	Gateways  map[string][]netip.AddrPort
	Unreached []Unreached
	Conflicts []Conflict
}

// Reason is why clients of other networks are not led to endpoints.
type Reason string

// The reasons.
const (
	// NoGateway: nobody leads into the network.
	NoGateway Reason = "no_gateway"
	// NoAddress: gateways are named, but none has an address at which it is
	// reached.
	NoAddress Reason = "no_address"
	// NoMutualTLS: the endpoints take no mutual TLS, and gateways pass nothing
	// else on.
	NoMutualTLS Reason = "no_mutual_tls"
	// NoNetwork: nobody names the network of the endpoints, though others have
	// one. Everybody is led to their own addresses, for better or worse.
	NoNetwork Reason = "no_network"
)

// Reasons are all of them.
func Reasons() []Reason { return []Reason{NoGateway, NoAddress, NoMutualTLS, NoNetwork} }

// Unreached is endpoints of a network in a cluster to which clients of other
// networks are not led.
type Unreached struct {
	Network   string
	Cluster   model.ClusterID
	Reason    Reason
	Endpoints int
}

// String says what is wrong, and what to do, without the number.
func (u Unreached) String() string {
	switch u.Reason {
	case NoGateway:
		return fmt.Sprintf("network %q of cluster %q has no gateway: label the Service of one %s=%s, or name one in meshNetworks", u.Network, u.Cluster, labelNetwork, u.Network)
	case NoAddress:
		return fmt.Sprintf("no gateway of network %q of cluster %q has an address that others reach: look at the load balancer of its Service, or at whether its name resolves", u.Network, u.Cluster)
	case NoMutualTLS:
		return fmt.Sprintf("endpoints in network %q of cluster %q take no mutual TLS, and gateways pass nothing else on: give their pods a sidecar", u.Network, u.Cluster)
	}
	return fmt.Sprintf("nobody names the network of cluster %q: label its namespace of the control plane %s=NETWORK, or name the cluster in meshNetworks (fromRegistry)", u.Cluster, labelNetwork)
}

// Conflict is what clusters say differently of one service. In each cluster it
// counts what its own Service says.
type Conflict struct{ Host, Problem string }

// Report looks at the mesh as it is now. It goes through all endpoints, so it is
// not for every request.
func (s *Source) Report() *Report {
	s.mu.Lock()
	r := s.newReaderLocked()
	members, gateways, mesh, counted := s.members.get(r), s.gateways.get(r), s.mesh.get(r), s.counted.get(r)
	exports := s.exports.get(r)
	configured := s.configuredNetworks(r)
	s.mu.Unlock()

	c := census{
		store: s.store, txn: r.txn, members: members, gateways: gateways.byNetwork, named: map[string]bool{},
		counts: func(svc *model.Service) bool {
			_, offered := exports.sinceOf(svc)
			return svc.Origin == model.FromKubernetes && counted.has(svc) && (offered || !mesh.ClusterLocal(svc.Host))
		},
	}
	for _, n := range configured {
		c.named[n.Name] = len(n.Gateways) > 0
	}
	for e := range s.store.Entrances.All(r.txn) {
		if e.Network != "" {
			c.named[e.Network] = true
		}
	}
	return &Report{
		Clusters: maps.Clone(members.clusters), Gateways: maps.Clone(gateways.byNetwork),
		Unreached: c.unreached(), Conflicts: c.conflicts(),
	}
}

// census goes through the rows of a snapshot.
type census struct {
	store    *model.Store
	txn      model.ReadTxn
	members  *membership
	gateways map[string][]netip.AddrPort
	named    map[string]bool // networks for which somebody names a gateway
	counts   func(*model.Service) bool
}

// endpoints are those of the services that count.
func (c *census) endpoints() iter.Seq2[*model.EndpointSet, *model.Endpoint] {
	return func(yield func(*model.EndpointSet, *model.Endpoint) bool) {
		for set := range c.store.Endpoints.All(c.txn) {
			svc, _, ok := c.store.Services.Get(c.txn, c.store.Services.ByKey(set.Key()))
			if !ok || !c.counts(svc) {
				continue
			}
			for i := range set.Endpoints {
				if !yield(set, &set.Endpoints[i]) {
					return
				}
			}
		}
	}
}

// severalNetworks tells whether clusters or endpoints are in more than one network. As
// a rule they are not, and then this is all that a change of an endpoint costs here.
func (c *census) severalNetworks() bool {
	networks := map[string]bool{}
	for _, network := range c.members.clusters {
		networks[network] = true
	}
	for set, ep := range c.endpoints() {
		if len(networks) > 1 {
			break
		}
		networks[c.members.of(set.Cluster, ep.Network, ep.Address)] = true
	}
	return len(networks) > 1
}

// unreached counts endpoints, each once for all services that it is behind.
func (c *census) unreached() []Unreached {
	if !c.severalNetworks() {
		return nil // nobody is on another network
	}

	type endpoint struct {
		cluster model.ClusterID
		address string
	}
	found := map[Unreached]map[endpoint]bool{}
	for set, ep := range c.endpoints() {
		network := c.members.of(set.Cluster, ep.Network, ep.Address)
		reason := c.reason(network, ep)
		if reason == "" {
			continue
		}
		u := Unreached{Network: network, Cluster: set.Cluster, Reason: reason}
		if found[u] == nil {
			found[u] = map[endpoint]bool{}
		}
		found[u][endpoint{set.Cluster, ep.Address}] = true
	}

	var out []Unreached
	for u, endpoints := range found {
		u.Endpoints = len(endpoints)
		out = append(out, u)
	}
	slices.SortFunc(out, func(a, b Unreached) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Reason, b.Reason))
	})
	return out
}

// reason is empty for an endpoint that clients of other networks are led to, and
// for gateways, which nobody is to reach through another.
func (c *census) reason(network string, ep *model.Endpoint) Reason {
	switch {
	case ep.Router:
		return ""
	case network == "":
		return NoNetwork
	case len(c.gateways[network]) == 0 && c.named[network]:
		return NoAddress
	case len(c.gateways[network]) == 0:
		return NoGateway
	case !ep.TLS:
		return NoMutualTLS
	}
	return ""
}

// conflicts compares the rows of each host with the oldest of them.
func (c *census) conflicts() []Conflict {
	var out []Conflict
	var rows []*model.Service // of one host
	flush := func() {
		slices.SortFunc(rows, (*model.Service).CompareAge)
		for _, other := range rows[min(1, len(rows)):] {
			for _, problem := range differences(rows[0], other) {
				out = append(out, Conflict{rows[0].Host, problem})
			}
		}
		rows = rows[:0]
	}
	for svc := range c.store.Services.All(c.txn) {
		if !c.counts(svc) {
			continue
		}
		// Rows of one host are neighbours (model.Service.Key).
		if len(rows) > 0 && rows[0].Host != svc.Host {
			flush()
		}
		rows = append(rows, svc)
	}
	flush()
	return out
}

// differences says in what two clusters' Services of one name cannot be one.
func differences(a, b *model.Service) []string {
	kind := func(s *model.Service) string {
		switch {
		case s.Alias != "":
			return "another name for " + s.Alias
		case s.Headless:
			return "headless"
		}
		return "a service with an address"
	}
	var out []string
	if kind(a) != kind(b) {
		out = append(out, fmt.Sprintf("it is %s in cluster %q and %s in cluster %q", kind(a), a.Cluster, kind(b), b.Cluster))
	}
	for i := range a.Ports {
		p := &a.Ports[i]
		if o := b.Port(p.Number); o != nil && o.Protocol != p.Protocol {
			out = append(out, fmt.Sprintf("its port %d speaks %s in cluster %q and %s in cluster %q",
				p.Number, strings.ToUpper(p.Protocol.String()), a.Cluster, strings.ToUpper(o.Protocol.String()), b.Cluster))
		}
	}
	return out
}
