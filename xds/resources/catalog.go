package resources

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// host is one host name with all Service rows that declare it, the one that
// counts first. It is immutable but for the resources that it keeps; those are
// guarded by the Source's lock.
type host struct {
	name string
	// globalDomain is the Source's, for hosts NAME.NAMESPACE.GLOBALDOMAIN.
	globalDomain string
	rows         []*model.Service
	// ports are the union of the rows' ports, each with the row that
	// declares it first.
	ports []hostPort

	clusters  map[clusterKey]*entry
	endpoints map[endpointsKey]*entry
	listeners map[string]*entry
}

type hostPort struct {
	*model.Port
	svc *model.Service
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

// namespace is where the policies about the endpoints behind a port are.
func (p *hostPort) namespace() string { return p.svc.Namespace }

// backing are the rows whose endpoints stand behind a port: the row itself and
// its namesakes; those of a ServiceEntry in its own namespace, those of a
// Kubernetes service in other clusters, with the entries that join it.
func (h *host) backing(p *hostPort) []*model.Service {
	var out []*model.Service
	for _, r := range h.rows {
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
func newHost(name string, cluster model.ClusterID, rows []*model.Service) *host {
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b *model.Service) int {
		return cmp.Or(
			cmp.Compare(a.Origin, b.Origin),
			-compareBool(a.Cluster == cluster, b.Cluster == cluster),
			-compareBool(a.NamedAfter, b.NamedAfter),
			a.Created.Compare(b.Created),
			cmp.Compare(a.Key(), b.Key()),
		)
	})
	h := &host{
		name: name, rows: rows,
		clusters:  map[clusterKey]*entry{},
		endpoints: map[endpointsKey]*entry{},
		listeners: map[string]*entry{},
	}
	for _, r := range rows {
		// An object in another namespace does not add to a host that is
		// taken.
		joins := r.JoinsService && rows[0].Origin == model.FromKubernetes
		if !joins && (r.Namespace != rows[0].Namespace || r.Origin != rows[0].Origin) {
			continue
		}
		if joins {
			// Clients call the Service's addresses.
			joined := *r
			joined.Addresses, joined.Allocated = rows[0].Addresses, rows[0].Allocated
			r = &joined
		}
		for i := range r.Ports {
			if h.port(r.Ports[i].Number) == nil {
				h.ports = append(h.ports, hostPort{Port: &r.Ports[i], svc: r})
			}
		}
	}
	slices.SortFunc(h.ports, func(a, b hostPort) int { return cmp.Compare(a.Number, b.Number) })
	return h
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

// catalog is every host of the mesh as the proxies of one cluster see them.
type catalog struct {
	revision [4]uint64
	mesh     *model.Mesh
	rules    *rules
	peers    *peers
	hosts    []*host // sorted by name
	byName   map[string]*host
	// nodes tells that some service's endpoints depend on the client's node.
	nodes bool
}

// catalogFor returns the cluster's catalog at the snapshot. Hosts that did not
// change are kept as they are, with what was built for them.
func (s *Source) catalogFor(txn model.ReadTxn, cluster model.ClusterID) *catalog {
	old := s.catalogs[cluster]
	revision := [4]uint64{
		s.store.Services.Revision(txn), s.store.Destinations.Revision(txn), s.store.Meshes.Revision(txn),
		s.store.Peers.Revision(txn),
	}
	if old != nil && old.revision == revision {
		return old
	}
	c := &catalog{revision: revision, mesh: s.store.Mesh(txn, s.cfg.Cluster)}
	if old != nil && reflect.DeepEqual(old.mesh, c.mesh) {
		c.mesh = old.mesh
	}
	if old != nil && old.revision[0] == revision[0] {
		c.hosts, c.byName = old.hosts, old.byName
	} else {
		c.hosts, c.byName = s.mergeHosts(txn, cluster, old)
	}
	if old != nil && old.revision[1] == revision[1] {
		c.rules = old.rules
	} else {
		c.rules = newRules(s.store, txn, rulesOf(old))
	}
	if old != nil && old.revision[3] == revision[3] && old.mesh == c.mesh {
		c.peers = old.peers
	} else {
		var before *peers
		if old != nil {
			before = old.peers
		}
		c.peers = newPeers(s.store, txn, c.mesh.RootNamespace, before)
	}
	c.nodes = slices.ContainsFunc(c.hosts, func(h *host) bool {
		return slices.ContainsFunc(h.rows, (*model.Service).NodeMatters)
	})
	s.catalogs[cluster] = c
	if old != nil && old.rules != c.rules {
		s.forgetRules(c)
	}
	return c
}

// rulesOf are a catalog's rules; nil when there is no catalog yet.
func rulesOf(old *catalog) *rules {
	if old == nil {
		return nil
	}
	return old.rules
}

func (s *Source) mergeHosts(txn model.ReadTxn, cluster model.ClusterID, old *catalog) ([]*host, map[string]*host) {
	var hosts []*host
	byName := make(map[string]*host)
	var rows []*model.Service
	flush := func() {
		if len(rows) == 0 {
			return
		}
		h := newHost(rows[0].Host, cluster, rows)
		h.globalDomain = s.cfg.GlobalDomain
		if old != nil {
			if o := old.byName[h.name]; o != nil && slices.Equal(o.rows, h.rows) {
				h = o
			}
		}
		hosts = append(hosts, h)
		byName[h.name] = h
		rows = rows[:0]
	}
	for svc := range s.store.Services.All(txn) {
		if len(rows) > 0 && rows[0].Host != svc.Host {
			flush()
		}
		rows = append(rows, svc)
	}
	flush()
	return hosts, byName
}

// scopeKey names a scope.
type scopeKey struct {
	cluster   model.ClusterID
	namespace string
}

// scope is what the proxies of one namespace of one cluster see.
type scope struct {
	key     scopeKey
	catalog *catalog
	hosts   []*host
	byName  map[string]*host
	// aliases are other names of hosts, by the host.
	aliases map[string][]*host
	// byPort are the hosts that are reached by their name on a port that
	// many share: those that speak HTTP.
	byPort map[uint16][]*host

	routes   map[string]*entry
	wildcard map[uint16]*wildcardEntry
	shared   map[string]*wildcardEntry // listeners of addresses that several hosts have
	// sets keep the complete answers per type.
	sets map[string]*resourceSet
}

// resourceSet is all resources of a type, with the revisions of the tables
// that it was made from.
type resourceSet struct {
	catalog *catalog
	traits  uint64
	res     map[string]*serve.Resource
}

// scopeFor returns the scope at the snapshot.
func (s *Source) scopeFor(txn model.ReadTxn, key scopeKey) *scope {
	c := s.catalogFor(txn, key.cluster)
	sc := s.scopes[key]
	if sc == nil {
		sc = &scope{
			key: key, routes: map[string]*entry{}, wildcard: map[uint16]*wildcardEntry{},
			shared: map[string]*wildcardEntry{},
			sets:   map[string]*resourceSet{},
		}
		s.scopes[key] = sc
	}
	if sc.catalog == c {
		return sc
	}
	previous := sc.byName
	sc.catalog = c
	sc.hosts, sc.byName = visibleHosts(c, key, previous)
	sc.hosts, sc.byName, sc.aliases = followAliases(sc.hosts, sc.byName)
	sc.byPort = map[uint16][]*host{}
	for _, h := range sc.hosts {
		for i := range h.ports {
			if sharesPort(&h.ports[i]) {
				n := h.ports[i].Number
				sc.byPort[n] = append(sc.byPort[n], h)
			}
		}
	}
	return sc
}

// visibleHosts filters by exportTo. When every host is visible, which is the
// usual case, the catalog's own slices are used.
func visibleHosts(c *catalog, key scopeKey, previous map[string]*host) ([]*host, map[string]*host) {
	all := true
	for _, h := range c.hosts {
		if !slices.ContainsFunc(h.rows, func(r *model.Service) bool { return !r.VisibleIn(key.namespace) }) {
			continue
		}
		all = false
		break
	}
	if all {
		return c.hosts, c.byName
	}
	var hosts []*host
	byName := make(map[string]*host, len(c.hosts))
	for _, h := range c.hosts {
		rows := slices.DeleteFunc(slices.Clone(h.rows), func(r *model.Service) bool { return !r.VisibleIn(key.namespace) })
		switch {
		case len(rows) == 0:
			continue
		case len(rows) < len(h.rows):
			part := newHost(h.name, key.cluster, rows)
			part.globalDomain = h.globalDomain
			if p := previous[h.name]; p != nil && slices.Equal(p.rows, part.rows) {
				part = p
			}
			h = part
		}
		hosts = append(hosts, h)
		byName[h.name] = h
	}
	return hosts, byName
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

// clusterName is the name of an outbound cluster.
func clusterName(port uint16, subset, hostName string) string {
	return "outbound|" + utoa(port) + "|" + subset + "|" + hostName
}

// sniName is the name that travels as TLS server name towards a cluster.
func sniName(port uint16, subset, hostName string) string {
	return "outbound_." + utoa(port) + "_." + subset + "_." + hostName
}

// parseClusterName undoes clusterName.
func parseClusterName(name string) (port uint16, subset, hostName string, ok bool) {
	parts := strings.Split(name, "|")
	if len(parts) != 4 || parts[0] != "outbound" {
		return 0, "", "", false
	}
	port, ok = atou(parts[1])
	return port, parts[2], parts[3], ok
}
