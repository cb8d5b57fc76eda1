package resources

import (
	"cmp"
	"maps"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// virtualHost is all that a virtual host is made of: what clients of a namespace
// that call a port are told of one host, or of a name that is only routed. It is
// immutable, so that one that is the same is sent as it was.
type virtualHost struct {
	clients *callers
	name    string
	// host is nil for a name that is only routed.
	host *host
	// aliases are other names of the host.
	aliases []*host
	// rule routes its requests; nil for nothing but its name.
	rule *model.VirtualService
	// onlyPorts are the ports of the rule's destinations that have one alone.
	onlyPorts map[string]uint16
	// hashes are the consistentHashes of clusters that it leads to, by their names; nil
	// for most.
	hashes map[string]*model.ConsistentHash
	// claims are the names that it would answer to, and domains those that nobody
	// before it claims.
	claims, domains []string

	// own is the resource made of it, nil before somebody asks; the Source's lock
	// guards it.
	own *serve.Resource
}

// callers are those that virtual hosts are made for.
type callers struct {
	mesh      *model.Mesh
	namespace string
	port      uint16
	traits    clientTraits
}

func (v *virtualHost) routeBuilder() *routeBuilder {
	c := v.clients
	return &routeBuilder{
		mesh: c.mesh, namespace: c.namespace, traits: c.traits, port: c.port,
		gateways: []string{model.MeshGateway}, clusterOf: v.clusterOf,
		hashOf: func(d *model.WeightedDestination) *model.ConsistentHash { return v.hashes[v.clusterOf(d)] },
	}
}

// clusterOf names the cluster of a destination.
func (v *virtualHost) clusterOf(d *model.WeightedDestination) string {
	return clusterName(v.portOf(d), d.Subset, d.Host)
}

// portOf is the port of a destination. Where it names none, it is the host's only one,
// else the one that the client calls (Destination.port).
func (v *virtualHost) portOf(d *model.WeightedDestination) uint16 {
	return cmp.Or(d.Port, v.onlyPorts[d.Host], v.clients.port)
}

// alike tells whether two are the same but for the names that they have.
func (v *virtualHost) alike(o *virtualHost) bool {
	return v.clients == o.clients && v.name == o.name && v.host == o.host && v.rule == o.rule &&
		slices.Equal(v.aliases, o.aliases) && maps.Equal(v.onlyPorts, o.onlyPorts) &&
		maps.EqualFunc(v.hashes, o.hashes, (*model.ConsistentHash).SameKey)
}

// with is the virtual host under other names.
func (v *virtualHost) with(domains []string) *virtualHost {
	if slices.Equal(v.domains, domains) {
		return v
	}
	out := *v
	out.domains, out.own = domains, nil
	return &out
}

// claim lists the names that it would answer to.
func (v *virtualHost) claim() []string {
	if v.host == nil {
		return []string{v.name}
	}
	c := v.clients
	names := domainsOf(v.host, v.host.port(c.port).svc, c.namespace, c.mesh.ClusterDomain)
	for _, alias := range v.aliases {
		names = append(names, domainsOf(alias, alias.primary(), c.namespace, c.mesh.ClusterDomain)...)
	}
	return names
}

// routes are those of its VirtualService, or one to the host.
func (v *virtualHost) routes() []*routev3.Route {
	if v.rule != nil {
		// One that is about other ports or clients alone changes nothing here.
		if routes := v.routeBuilder().routes(v.rule); len(routes) > 0 {
			return routes
		}
	}
	cluster := clusterName(v.clients.port, "", v.name)
	plain := retried(v.clients.mesh, cluster)
	if hash := v.hashes[cluster]; hash != nil {
		hashRoute(plain.GetRoute(), []*model.ConsistentHash{hash})
	}
	return []*routev3.Route{plain}
}

func (v *virtualHost) message(name string) *routev3.VirtualHost {
	return &routev3.VirtualHost{Name: name, Domains: v.domains, Routes: v.routes()}
}

// resource is the virtual host as one. Most are what every namespace is told of the
// host, and are built once for all.
func (v *virtualHost) resource(r *reader, s *Source) *serve.Resource {
	if v.host != nil && v.rule == nil && v.hashes == nil && len(v.aliases) == 0 && len(v.domains) == len(v.claims) {
		svc := v.host.port(v.clients.port).svc
		near := svc.Origin == model.FromKubernetes && svc.Namespace == v.clients.namespace
		return v.host.virtualHosts.get(r, plainVirtualHost{v.host, v.clients.port, near})
	}
	if v.own == nil {
		v.own = v.encode(nil, s)
	}
	return v.own
}

// encode gives it the name of the resource inside, too: Envoy finds by that the one
// which is removed.
func (v *virtualHost) encode(old *serve.Resource, s *Source) *serve.Resource {
	name := xds.VirtualHostName(utoa(v.clients.port), v.name)
	return s.encode(old, name, v.message(name))
}

// plainVirtualHost asks for the virtual host of a host that has all its names, no
// VirtualService and no consistentHash, as the clients of its own namespace are told of it (near), or all
// others.
type plainVirtualHost struct {
	host *host
	port uint16
	near bool
}

func (q plainVirtualHost) build(r *reader, old *serve.Resource) *serve.Resource {
	s := q.host.source
	clients := &callers{mesh: s.mesh.get(r), port: q.port}
	if q.near {
		clients.namespace = q.host.port(q.port).svc.Namespace
	}
	v := &virtualHost{clients: clients, name: q.host.name, host: q.host}
	v.domains = v.claim()
	return v.encode(old, s)
}

// virtualHostsOf asks for the virtual hosts of a route configuration, as resources.
type virtualHostsOf struct {
	scope *scope
	name  string
}

func (q virtualHostsOf) build(r *reader, _ *resourceSet) *resourceSet {
	to := q.scope.routed.get(r, routedOf(q))
	if to == nil || to.single {
		return noResources
	}
	out := make(map[string]*serve.Resource, len(to.hosts))
	for _, v := range to.hosts {
		res := v.resource(r, q.scope.source)
		out[res.Name] = res
	}
	return &resourceSet{out}
}

var noResources = &resourceSet{}

// virtualHosts returns those of a route configuration.
func (sc *scope) virtualHosts(r *reader, name string) *resourceSet {
	// Of names that lead nowhere nothing is remembered: clients make them up.
	if list, _, single := sc.sights.get(r).behind(name); len(list) == 0 || single {
		return noResources
	}
	return sc.apart.get(r, virtualHostsOf{sc, name})
}

// mergedHosts is the virtual hosts of several route configurations in one map, and what
// it was made of.
type mergedHosts struct {
	names []string
	parts []*resourceSet
	all   map[string]*serve.Resource
}

// maxMerged bounds what a scope keeps: its proxies ask for the same ports, but for those
// that are on their way from one set of names to another.
const maxMerged = 4

// virtualHostsOf returns those of several route configurations. It gives the same map
// while they are the same: a namespace has many views, and each asks at every change.
func (sc *scope) virtualHostsOf(r *reader, names []string) map[string]*serve.Resource {
	if len(names) == 1 {
		return sc.virtualHosts(r, names[0]).byName
	}
	parts := make([]*resourceSet, len(names))
	size := 0
	for i, name := range names {
		parts[i] = sc.virtualHosts(r, name)
		size += len(parts[i].byName)
	}

	i := slices.IndexFunc(sc.merged, func(m *mergedHosts) bool { return slices.Equal(m.names, names) })
	if i >= 0 && slices.Equal(sc.merged[i].parts, parts) {
		return sc.merged[i].all
	}
	m := &mergedHosts{names: names, parts: parts, all: make(map[string]*serve.Resource, size)}
	for _, part := range parts {
		maps.Copy(m.all, part.byName)
	}
	switch {
	case i >= 0:
		sc.merged[i] = m
	case len(sc.merged) < maxMerged:
		sc.merged = append(sc.merged, m)
	default:
		sc.merged = append(sc.merged[1:], m)
	}
	return m.all
}
