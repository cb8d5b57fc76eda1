package resources

import (
	"cmp"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// destinationSet is where the routes of a gateway lead, each once. It is immutable.
type destinationSet struct {
	// byName are the clusters, without what DestinationRules say of them.
	byName map[string]clusterKey
	// clusters are the names for what VirtualServices say.
	clusters map[routedTo]string
}

// routedTo is a destination of a VirtualService, as clients of a port ask for it.
type routedTo struct {
	namespace    string // the VirtualService's, or that of its delegate
	host, subset string
	port         uint16 // that the destination says; 0: none
	called       uint16
}

// destinationsBehind asks where the routes of a view's gateway lead.
type destinationsBehind struct{ view *view }

func (q destinationsBehind) build(r *reader, _ *destinationSet) *destinationSet {
	v := q.view
	out := &destinationSet{byName: map[string]clusterKey{}, clusters: map[routedTo]string{}}
	served := v.served.get(r)
	for _, name := range slices.Sorted(maps.Keys(served.byRoutes)) {
		for _, h := range served.byRoutes[name] {
			for i := range h.rules {
				s := &h.rules[i]
				for j := range s.rule.HTTP {
					for d := range s.rule.HTTP[j].AllDestinations() {
						out.add(r, v, s.leadsTo(d))
					}
				}
			}
		}
	}
	for _, c := range v.connected.get(r).list {
		for i := range c.route.Destinations {
			out.add(r, v, c.rule.leadsTo(&c.route.Destinations[i]))
		}
	}
	return out
}

func (s *servedRule) leadsTo(d *model.WeightedDestination) routedTo {
	return routedTo{namespace: cmp.Or(d.Namespace, s.rule.Namespace), host: d.Host, subset: d.Subset, port: d.Port, called: s.port}
}

// add finds the cluster of a destination: the host as clients in the VirtualService's
// own namespace see it. What they do not see is nothing that they may lead others to.
func (s *destinationSet) add(r *reader, v *view, to routedTo) {
	if _, known := s.clusters[to]; known {
		return
	}
	s.clusters[to] = blackHoleCluster

	sc := v.source.scopeLocked(scopeKey{v.scope.key.cluster, to.namespace, "", ""}, nil)
	h := sc.sights.get(r).byName[to.host]
	if h == nil {
		return
	}
	number := to.port
	if number == 0 && len(h.ports) == 1 {
		number = h.ports[0].Number
	}
	if number == 0 {
		number = to.called
	}
	p := h.port(number)
	if p == nil || p.svc.Resolution == model.ByDestination && !p.svc.Headless {
		// A gateway's client chose no address but the gateway's.
		return
	}

	s.take(to, clusterKey{host: h, port: number, subset: to.subset, routed: p.svc.Headless, edge: true})
}

// take gives a destination its cluster. Clusters are known by their host's name; should
// two namespaces see different things by it, the second would lead to what is not its.
func (s *destinationSet) take(to routedTo, k clusterKey) {
	name := clusterName(k.port, k.subset, k.host.name)
	if other, taken := s.byName[name]; taken && other.host != k.host && !slices.Equal(other.host.rows, k.host.rows) {
		return
	}
	s.byName[name] = k
	s.clusters[to] = name
}

// clusterOf names the cluster of a destination.
func (s *destinationSet) clusterOf(rule *servedRule, d *model.WeightedDestination) string {
	return s.clusters[rule.leadsTo(d)]
}

// addClusters builds the clusters, by the DestinationRules that count for the gateway. A subset
// that none of them declares has no cluster: requests for it are answered with 503.
func (s *destinationSet) addClusters(r *reader, v *view, into map[string]*serve.Resource) {
	g, mesh := v.scope.ground.get(r), v.source.mesh.get(r)
	for name, k := range s.byName {
		k.rule = g.ruleFor(v.scope, k.host)
		if k.subset != "" && subsetOf(k.rule, k.subset) == nil {
			continue
		}
		if k.dependsOnPlace(mesh) {
			k.from = v.places[k.order(mesh).needs()]
		}
		into[name] = k.host.clusters.get(r, k)
	}
}

// host is the one behind a load assignment; nil when nothing leads there.
func (s *destinationSet) host(name string) *host { return s.byName[name].host }

// endpointNames are the load assignments of the destinations.
func (s *destinationSet) endpointNames() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(s.byName)) {
		if k := s.byName[name]; k.routed || k.host.port(k.port).svc.Resolution == model.ByEndpoints {
			out = append(out, name)
		}
	}
	return out
}
