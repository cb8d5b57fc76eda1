package resources

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// host is one host name with all Service rows that declare it, the one that
// counts first. It is immutable but for what is remembered of it, which the
// Source's lock guards.
type host struct {
	source *Source
	name   string
	rows   []*model.Service
	// ports are the union of the rows' ports, each with the row that
	// declares it first, as the clients of the cluster see it.
	ports []hostPort
	// vantage is from where the host is seen, as far as it makes a difference.
	vantage vantage

	clusters  memo[clusterKey, *serve.Resource]
	endpoints memo[endpointsKey, *serve.Resource]
	listeners memo[addressListener, *serve.Resource]
	// virtualHosts are two for each port at most, and go with the host.
	virtualHosts memo[plainVirtualHost, *serve.Resource]
	// encodedName is the host's entry in name tables; see ownName.
	encodedName []byte
}

type hostPort struct {
	*model.Port
	svc *model.Service
}

// vantage is what the clients of a cluster know of a host beside its rows.
type vantage struct {
	cluster model.ClusterID
	// allocated is the host's address where it has no Service.
	allocated netip.Addr
	// apart tells that some of its Services are in clusters of other networks.
	apart bool
	// clusterSet tells that the host is what clusters export; see clusterset.go.
	clusterSet bool
}

// primary is the row that decides.
func (h *host) primary() *model.Service { return h.rows[0] }

func (h *host) port(number uint16) *hostPort {
	for i := range h.ports {
		if h.ports[i].Number == number {
			return &h.ports[i]
		}
	}
	return nil
}

// headless tells whether the addresses of some port are those of its endpoints.
func (h *host) headless() bool {
	return slices.ContainsFunc(h.ports, func(p hostPort) bool { return p.svc.Headless })
}

// namespace is where the policies about the endpoints behind a port are.
func (p *hostPort) namespace() string { return p.svc.Namespace }

// backing are the rows whose endpoints stand behind a port: the row itself and
// its namesakes; those of a ServiceEntry in its own namespace, those of a
// Kubernetes service in other clusters, with the entries that join it. A name for
// something elsewhere stands for itself: other clusters may mean another thing.
func (h *host) backing(p *hostPort) []*model.Service {
	var out []*model.Service
	for _, r := range h.rows {
		if (r.Alias != "" || p.svc.Alias != "") && r.Key() != p.svc.Key() {
			continue
		}
		namesake := r.Origin == model.FromKubernetes || r.JoinsService
		if p.svc.Origin == model.FromServiceEntry {
			namesake = r.Origin == p.svc.Origin && r.Namespace == p.svc.Namespace && r.Resolution == p.svc.Resolution
		}
		if namesake && r.Port(p.Number) != nil {
			out = append(out, r)
		}
	}
	return out
}

// endpointsFor are a row's endpoints under the name that a port has in the row
// that declared it first: entries may call the same port differently.
func endpointsFor(p *hostPort, r *model.Service, endpoints []model.Endpoint) []model.Endpoint {
	own := r.Port(p.Number)
	if own == nil || own.Name == p.Name {
		return endpoints
	}
	out := slices.Clone(endpoints)
	for i := range out {
		if target, ok := out[i].Ports[own.Name]; ok {
			out[i].Ports = map[string]uint16{p.Name: target}
		} else {
			out[i].Ports = nil
		}
	}
	return out
}

// addresses keeps the endpoints that need no resolving.
func addresses(endpoints []model.Endpoint) []model.Endpoint {
	return slices.DeleteFunc(slices.Clone(endpoints), func(e model.Endpoint) bool {
		_, err := netip.ParseAddr(e.Address)
		return err != nil
	})
}

// newHost merges rows of one host name as a proxy of the cluster sees them:
// Kubernetes services before ServiceEntries, its own cluster's first, then those
// of the namespace that the name speaks of, then the oldest.
//
// A Kubernetes service that several clusters have is one: in all but its ports it
// is as the first row says, and its address is that in the client's own cluster,
// or, where it has none there, one that the mesh gives it.
//
// Of what clusters export, the rows keep their order, which is that of the exports.
func newHost(s *Source, name string, from vantage, rows []*model.Service) *host {
	rows = slices.Clone(rows)
	if !from.clusterSet {
		slices.SortStableFunc(rows, func(a, b *model.Service) int {
			return cmp.Or(
				cmp.Compare(a.Origin, b.Origin),
				-compareBool(a.Cluster == from.cluster, b.Cluster == from.cluster),
				-compareBool(a.NamedAfter, b.NamedAfter),
				a.Created.Compare(b.Created),
				cmp.Compare(a.Key(), b.Key()),
			)
		})
	}

	h := &host{source: s, name: name, rows: rows, vantage: from}
	first := h.firstSeen()
	for _, r := range rows {
		// An object in another namespace does not add to a host that is
		// taken.
		joins := r.JoinsService && first.Origin == model.FromKubernetes
		if !joins && (r.Namespace != first.Namespace || r.Origin != first.Origin) {
			continue
		}
		switch {
		case r == rows[0]:
			r = first
		case joins:
			// Clients call the Service's addresses.
			joined := *r
			joined.Addresses, joined.Allocated = first.Addresses, first.Allocated
			r = &joined
		case r.Origin == model.FromKubernetes:
			joined := *r
			joined.Addresses, joined.Allocated = first.Addresses, first.Allocated
			joined.Headless, joined.Resolution = first.Headless, first.Resolution
			r = &joined
		}
		earlier := h.ports
		for i := range r.Ports {
			// What is exported has no two ports of one name (KEP-1645, Service Port).
			taken := from.clusterSet && slices.ContainsFunc(earlier, func(p hostPort) bool { return p.Name == r.Ports[i].Name })
			if !taken && h.port(r.Ports[i].Number) == nil {
				h.ports = append(h.ports, hostPort{Port: &r.Ports[i], svc: r})
			}
		}
	}
	slices.SortFunc(h.ports, func(a, b hostPort) int { return cmp.Compare(a.Number, b.Number) })
	return h
}

// firstSeen is the primary row as clients see it. The addresses of another
// cluster's Service are not shown to them, nor those of its pods when it is
// headless and they do not reach them: they reach it as any other then, by way of
// a gateway. What clusters export has an address of its own, in all of them.
func (h *host) firstSeen() *model.Service {
	first := h.rows[0]
	atHome := first.Cluster == h.vantage.cluster && !h.vantage.clusterSet
	if first.Origin != model.FromKubernetes || atHome || first.Alias != "" {
		return first
	}
	seen := *first
	seen.Addresses, seen.Allocated = nil, netip.Addr{}
	if seen.Headless && !h.vantage.apart {
		return &seen
	}
	seen.Headless, seen.Resolution = false, model.ByEndpoints
	seen.Allocated = h.vantage.allocated
	return &seen
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// hosts is every host of the mesh as the proxies of one cluster see them. It is
// immutable.
type hosts struct {
	list   []*host // sorted by name
	byName map[string]*host
	// nodes tells that some service's endpoints depend on the client's node.
	nodes bool
}

// hostsOf asks for the hosts as a cluster's proxies see them.
type hostsOf struct {
	source  *Source
	cluster model.ClusterID
}

// build keeps the hosts that did not change, with what is remembered of them.
func (q hostsOf) build(r *reader, old *hosts) *hosts {
	given, members := q.source.given.get(r), q.source.members.get(r)
	mesh, counted, exports := q.source.mesh.get(r), q.source.counted.get(r), q.source.exports.get(r)
	out := &hosts{byName: map[string]*host{}}
	var rows []*model.Service
	var clusterSet []*host
	flush := func() {
		if len(rows) == 0 {
			return
		}
		name := rows[0].Host
		if offered := exports.of(rows); len(offered) > 0 {
			h := q.clusterSetHost(offered, given, members)
			if old != nil {
				h = h.orSame(old.byName[h.name])
			}
			clusterSet = append(clusterSet, h)
		}
		if mesh.ClusterLocal(name) {
			rows = slices.DeleteFunc(rows, func(svc *model.Service) bool {
				return svc.Origin == model.FromKubernetes && svc.Cluster != q.cluster
			})
			if len(rows) == 0 {
				return
			}
		}
		from := vantage{cluster: q.cluster, allocated: given.byHost[name], apart: members.apart(q.cluster, rows)}
		h := newHost(q.source, name, from, rows)
		if old != nil {
			h = h.orSame(old.byName[h.name])
		}
		out.list = append(out.list, h)
		out.byName[h.name] = h
		rows = rows[:0]
	}

	// Rows of one host are neighbours (model.Service.Key).
	for svc := range readAll(r, &q.source.store.Services) {
		if !counted.has(svc) {
			continue
		}
		if len(rows) > 0 && rows[0].Host != svc.Host {
			flush()
		}
		rows = append(rows, svc)
	}
	flush()
	out.addClusterSet(clusterSet)

	out.nodes = slices.ContainsFunc(out.list, func(h *host) bool {
		return slices.ContainsFunc(h.rows, (*model.Service).NodeMatters)
	})
	return out
}

// orSame gives old when it is made of the same rows and seen from the same place:
// what is remembered of it is good then.
func (h *host) orSame(old *host) *host {
	if old != nil && old.vantage == h.vantage && slices.Equal(old.rows, h.rows) {
		return old
	}
	return h
}

// sharesPort tells whether the port's traffic is told apart from that of other
// hosts by the host header: HTTP, and undeclared ports of hosts without an
// address, which can only be met by name.
func sharesPort(p *hostPort) bool {
	if p.Protocol.IsHTTP() {
		return true
	}
	return p.Protocol == model.Unknown && p.svc.Origin == model.FromServiceEntry && !hasAddress(p.svc)
}

// hasAddress tells whether clients connect to an address of the service's own.
func hasAddress(svc *model.Service) bool {
	return len(svc.Addresses) > 0 || svc.Allocated.IsValid()
}
