package resources

import (
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// scopeKey names a scope.
type scopeKey struct {
	cluster   model.ClusterID
	namespace string
	// egress is the text of what a Sidecar leaves; "" for all.
	egress string
	// traits are what of the proxies' labels decides about routes.
	traits clientTraits
}

// scope is a namespace of a cluster, or the part of its proxies for which the same
// Sidecar holds, and the same routes. They see the same hosts by the same rules, and so share what is remembered here. The Source's lock guards it.
type scope struct {
	source *Source
	key    scopeKey
	egress *egress

	// mesh is the mesh configuration as it holds here.
	mesh         answer[scopeMeshOf, *model.Mesh]
	sights       answer[sightOf, *sight]
	ground       answer[groundOf, *ground]
	destinations answer[destinationsOf, *destinations]
	clusters     answer[clustersOf, *sharedClusters]
	listeners    answer[listenersOf, *resourceSet]

	routed    memo[routedOf, *routed]
	routes    memo[routeKey, *serve.Resource]
	tables    memo[tableKey, *serve.Resource]
	apart     memo[virtualHostsOf, *resourceSet]
	anywhere  memo[anywhereOf, *anywhere]
	wildcards memo[wildcardListener, *serve.Resource]
	claimants memo[claimantsOf, *claimants]
	shared    memo[sharedListener, *serve.Resource]
	names     memo[scopeNamesOf, *serve.Resource]

	// merged are sets of virtual hosts that views have asked for.
	merged []*mergedHosts

	// tidy is what there was when what has gone was last forgotten.
	tidy struct {
		sight        *sight
		destinations *destinations
	}
}

func newScope(s *Source, key scopeKey, seen *egress) *scope {
	sc := &scope{source: s, key: key, egress: seen}
	sc.mesh.question = scopeMeshOf{sc}
	sc.sights.question = sightOf{sc}
	sc.ground.question = groundOf{sc}
	sc.destinations.question = destinationsOf{sc}
	sc.clusters.question = clustersOf{sc}
	sc.listeners.question = listenersOf{sc}
	return sc
}

// resourceSet is resources by name. It is immutable.
type resourceSet struct{ byName map[string]*serve.Resource }

// sight is which hosts the proxies of a scope see, and by which names. It is
// immutable.
type sight struct {
	// visible are the hosts, before those are taken out that are but another
	// name for one that is there as well.
	visible []*host
	hosts   []*host
	byName  map[string]*host
	// aliases are other names of hosts, by the host.
	aliases map[string][]*host
	// byPort are the hosts that are reached by their name on a port that
	// many share: those that speak HTTP.
	byPort map[uint16][]*host
}

// sightOf asks what a scope sees.
type sightOf struct{ scope *scope }

func (q sightOf) build(r *reader, old *sight) *sight {
	sc := q.scope
	all := sc.source.hosts.get(r, hostsOf{sc.source, sc.key.cluster})
	out := &sight{}
	out.visible, out.byName = visibleHosts(sc, all, sc.source.mesh.get(r).ServiceExports, sc.routedTo(r, all), old)
	if old != nil && slices.Equal(old.visible, out.visible) {
		// What changed is hidden from the namespace.
		return old
	}

	out.hosts, out.byName, out.aliases = followAliases(out.visible, out.byName)
	out.byPort = map[uint16][]*host{}
	for _, h := range out.hosts {
		for i := range h.ports {
			if sharesPort(&h.ports[i]) {
				n := h.ports[i].Number
				out.byPort[n] = append(out.byPort[n], h)
			}
		}
	}
	return out
}

// visibleHosts filters by exportTo and by what a Sidecar leaves; byDefault is who sees
// what says nothing of it, and routed are hosts that are left because routes lead there.
// When every host is visible, which is the usual case, the slices that all scopes share
// are used. Hosts that are seen in
// part are the scope's own, and are kept when they did not change.
func visibleHosts(sc *scope, all *hosts, byDefault model.Exports, routed map[string]bool, old *sight) ([]*host, map[string]*host) {
	hidden := func(h *host, r *model.Service) bool {
		return !r.VisibleIn(sc.key.namespace, byDefault) || !routed[h.name] && !sc.egress.admits(r.Namespace, h.name)
	}
	inPart := func(h *host) bool {
		return slices.ContainsFunc(h.rows, func(r *model.Service) bool { return hidden(h, r) })
	}
	if !slices.ContainsFunc(all.list, inPart) {
		return all.list, all.byName
	}

	var list []*host
	byName := make(map[string]*host, len(all.list))
	for _, h := range all.list {
		rows := slices.DeleteFunc(slices.Clone(h.rows), func(r *model.Service) bool { return hidden(h, r) })
		switch {
		case len(rows) == 0:
			continue
		case len(rows) < len(h.rows):
			h = newHost(sc.source, h.name, h.vantage, rows)
			if old != nil {
				h = h.orSame(old.seen(h.name))
			}
		}
		list = append(list, h)
		byName[h.name] = h
	}
	return list, byName
}

// seen finds a visible host by its name.
func (s *sight) seen(name string) *host {
	i, ok := slices.BinarySearchFunc(s.visible, name, func(h *host, name string) int { return strings.Compare(h.name, name) })
	if !ok {
		return nil
	}
	return s.visible[i]
}

// ground is all that load assignments depend on but endpoints and networks:
// another value means that any of them may be another one.
type ground struct {
	sight *sight
	rules *rules
	mesh  *model.Mesh
	peers *peers
}

// groundOf asks for a scope's ground.
type groundOf struct{ scope *scope }

func (q groundOf) build(r *reader, _ *ground) *ground {
	s := q.scope.source
	return &ground{
		sight: q.scope.sights.get(r), rules: s.rules.get(r),
		mesh: s.mesh.get(r), peers: s.peers.get(r),
	}
}

// ruleFor is the DestinationRule that counts in the scope for a host, or nil.
func (g *ground) ruleFor(sc *scope, h *host) *model.DestinationRule {
	return g.rules.find(sc.key.namespace, g.mesh.RootNamespace, h)
}
