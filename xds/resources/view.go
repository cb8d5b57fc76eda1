package resources

import (
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// view is what proxies that are alike see. Exactly one of inbound and gateway
// is set. Its identity never changes; what it shows does.
type view struct {
	source *Source
	key    string
	scope  *scope
	// from is where the proxies stand; places are the same without what makes no
	// difference.
	from    *place
	places  places
	inbound *inbound
	gateway *gateway
	// hostsApart tells that virtual hosts are resources of their own.
	hostsApart bool
	// hasSecrets tells that the proxies have proved to be the gateway's pods.
	hasSecrets bool

	// What the view shows, guarded by the Source's lock.
	// Of a gateway: what it routes, where that leads, and the routes.
	served           answer[servedBy, *served]
	connected        answer[connectedBy, *connected]
	destinations     answer[destinationsBehind, *destinationSet]
	edgeRouteConfigs memo[edgeRoutesKey, *serve.Resource]
	secretConfigs    memo[secretKey, *serve.Resource]

	own         answer[ownOf, *ownResources]
	clusters    answer[viewClusters, *resourceSet]
	listeners   answer[viewListeners, *resourceSet]
	assignments []*assignments
}

func newView(s *Source, key string, sc *scope) *view {
	v := &view{source: s, key: key, scope: sc}
	v.own.question = ownOf{v}
	v.clusters.question = viewClusters{v}
	v.listeners.question = viewListeners{v}
	v.served.question = servedBy{v}
	v.connected.question = connectedBy{v}
	v.destinations.question = destinationsBehind{v}
	return v
}

// Key implements serve.View.
func (v *view) Key() string { return v.key }

// Resources implements serve.View.
func (v *view) Resources(typeURL string, names []string) (serve.Set, <-chan struct{}, error) {
	s := v.source
	// The channel is taken before the snapshot: a change in between is
	// announced, if needlessly, and never missed.
	changed, log := s.hub.topic(typeURL)

	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.newReaderLocked()
	defer func() {
		s.forgetRulesLocked(r)
		v.scope.forgetGoneLocked()
	}()
	if typeURL == xds.TypeEndpoint {
		return v.endpoints(r, names, log), changed, nil
	}
	return serve.NewSet(v.rarelyChanged(r, typeURL, names)), changed, nil
}

// rarelyChanged are the resources of a type that changes seldom, beside endpoints.
func (v *view) rarelyChanged(r *reader, typeURL string, names []string) map[string]*serve.Resource {
	switch typeURL {
	case xds.TypeCluster:
		return only(v.clusters.get(r).byName, names)
	case xds.TypeListener:
		return only(v.listeners.get(r).byName, names)
	case xds.TypeRoute:
		return v.routes(r, names)
	case xds.TypeVirtualHost:
		// Gateways have theirs in their route configurations.
		if v.gateway == nil && v.hostsApart {
			return v.virtualHosts(r, names)
		}
	case xds.TypeSecret:
		return v.secrets(r, names)
	case xds.TypeNameTable:
		return only(v.names(r), names)
	}
	return nil
}

// only picks the resources with the names; all when names is nil.
func only(all map[string]*serve.Resource, names []string) map[string]*serve.Resource {
	if names == nil {
		return all
	}
	return pick(names, func(name string) *serve.Resource { return all[name] })
}

// pick finds the resources of the names; find gives nil for those that there are
// not.
func pick(names []string, find func(string) *serve.Resource) map[string]*serve.Resource {
	out := make(map[string]*serve.Resource, len(names))
	for _, n := range names {
		if res := find(n); res != nil {
			out[n] = res
		}
	}
	return out
}

// routes are the route configurations of the names; all when names is nil.
func (v *view) routes(r *reader, names []string) map[string]*serve.Resource {
	if v.gateway != nil {
		if names == nil {
			names = v.gateway.edgeRouteNames()
		}
		return pick(names, func(name string) *serve.Resource { return v.edgeRouteConfig(r, name) })
	}
	if names == nil {
		names = v.scope.sights.get(r).routeNames()
	}
	return pick(names, func(name string) *serve.Resource { return v.scope.routeConfig(r, name, v.hostsApart) })
}

// virtualHosts are those of the route configurations of the names; of all when names
// is nil.
func (v *view) virtualHosts(r *reader, names []string) map[string]*serve.Resource {
	if names == nil {
		names = v.scope.sights.get(r).routeNames()
		slices.Sort(names)
	}
	return v.scope.virtualHostsOf(r, names)
}

// viewClusters asks for all clusters of a view.
type viewClusters struct{ view *view }

func (q viewClusters) build(r *reader, _ *resourceSet) *resourceSet {
	v := q.view
	own := v.own.get(r).clusters
	if v.gateway != nil {
		all := together(v.gateway.clusters(r, v.scope), own)
		v.destinations.get(r).addClusters(r, v, all.byName)
		return all
	}
	shared := v.scope.clusters.get(r)
	all := together(shared.byName, own)
	for _, k := range shared.placed {
		k.from = v.places[k.order(v.source.mesh.get(r)).needs()]
		res := k.host.clusters.get(r, k)
		all.byName[res.Name] = res
	}
	return all
}

// viewListeners asks for all listeners of a view.
type viewListeners struct{ view *view }

func (q viewListeners) build(r *reader, _ *resourceSet) *resourceSet {
	v := q.view
	own := v.own.get(r).listeners
	if v.gateway != nil {
		return &resourceSet{own}
	}
	return together(v.scope.listeners.get(r).byName, own)
}

// together is what a view shares and its own.
func together(shared, own map[string]*serve.Resource) *resourceSet {
	out := make(map[string]*serve.Resource, len(shared)+len(own))
	maps.Copy(out, shared)
	maps.Copy(out, own)
	return &resourceSet{out}
}

// ownResources are those that no other view has. They are immutable.
type ownResources struct{ clusters, listeners map[string]*serve.Resource }

// ownOf asks for a view's own resources.
type ownOf struct{ view *view }

func (q ownOf) build(r *reader, _ *ownResources) *ownResources {
	v := q.view
	s, mesh := v.source, v.scope.mesh.get(r)
	own := &ownResources{map[string]*serve.Resource{}, map[string]*serve.Resource{}}
	if v.gateway != nil {
		own.clusters[blackHoleCluster] = s.encode(nil, blackHoleCluster, blackHole(mesh))
		for _, c := range v.gateway.passedClusters(mesh) {
			own.clusters[c.Name] = s.encode(nil, c.Name, c)
		}
		for _, l := range v.gateway.listeners(mesh, v.edgeChains(r)) {
			own.listeners[l.Name] = s.encode(nil, l.Name, l)
		}
		return own
	}

	for _, c := range append(staticClusters(mesh), v.inbound.clusters(mesh)...) {
		own.clusters[c.Name] = s.encode(nil, c.Name, c)
	}
	out, in := virtualOutbound(mesh), v.inbound.listener(mesh)
	own.listeners[out.Name] = s.encode(nil, out.Name, out)
	own.listeners[in.Name] = s.encode(nil, in.Name, in)
	return own
}

// hostBehind finds the host of a load assignment: one that clients of the scope see,
// or, for what a gateway routes, that its routes lead to.
func (v *view) hostBehind(r *reader, g *ground, n endpointsName, name string) *host {
	switch {
	case v.gateway == nil && n.sni:
		return nil
	case v.gateway == nil || n.sni:
		return g.sight.byName[n.host]
	}
	return v.destinations.get(r).host(name)
}

// endpointNames are all load assignments of the scope.
func (g *ground) endpointNames(sc *scope) []string {
	var out []string
	for _, h := range g.sight.hosts {
		rule := g.ruleFor(sc, h)
		for i := range h.ports {
			if h.ports[i].svc.Resolution != model.ByEndpoints {
				continue
			}
			for _, k := range clusterKeys(h, h.ports[i].Number, rule) {
				out = append(out, clusterName(k.port, k.subset, h.name))
			}
		}
	}
	return out
}

// routeNames are all route configurations of the scope.
func (s *sight) routeNames() []string {
	var out []string
	for port := range s.byPort {
		out = append(out, utoa(port))
	}
	for _, h := range s.hosts {
		for i := range h.ports {
			if p := &h.ports[i]; p.Protocol == model.Unknown && !sharesPort(p) {
				out = append(out, h.name+":"+utoa(p.Number))
			}
		}
	}
	return out
}
