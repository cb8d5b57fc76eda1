package resources

import (
	"maps"

	"github.com/isthmus-mesh/isthmus/model"
	"github.com/isthmus-mesh/isthmus/xds"
	"github.com/isthmus-mesh/isthmus/xds/serve"
)

// view is what proxies that are alike see. Exactly one of inbound and gateway
// is set. Its identity never changes; what it shows does.
type view struct {
	source  *Source
	key     string
	scope   scopeKey
	from    vantage
	inbound *inbound
	gateway *gateway

	// Guarded by the Source's lock: the resources that no other view has, by
	// type, with the mesh configuration that they were built from; and the
	// last answers for load assignments.
	ownMesh *model.Mesh
	own     map[string]map[string]*serve.Resource
	answers []*answer
}

// Key implements serve.View.
func (v *view) Key() string { return v.key }

// Resources implements serve.View.
func (v *view) Resources(typeURL string, names []string) (map[string]*serve.Resource, <-chan struct{}, error) {
	s := v.source
	// The channel is taken before the snapshot: a change in between is
	// announced, if needlessly, and never missed.
	changed, log := s.hub.topic(typeURL)
	txn := s.store.Read()
	s.mu.Lock()
	defer s.mu.Unlock()
	sc := s.scopeFor(txn, v.scope)
	var res map[string]*serve.Resource
	switch typeURL {
	case xds.TypeCluster:
		res = v.withOwn(typeURL, sc, v.clusters(txn, sc))
	case xds.TypeListener:
		res = v.withOwn(typeURL, sc, v.listeners(txn, sc))
	case xds.TypeEndpoint:
		return v.assignments(txn, sc, names, log), changed, nil
	case xds.TypeRoute:
		if v.gateway != nil {
			return map[string]*serve.Resource{}, changed, nil
		}
		if names == nil {
			names = routeNames(sc)
		}
		return v.pick(names, func(name string) *serve.Resource { return s.routeConfig(sc, name) }), changed, nil
	default:
		return map[string]*serve.Resource{}, changed, nil
	}
	if names == nil {
		return res, changed, nil
	}
	picked := make(map[string]*serve.Resource, len(names))
	for _, n := range names {
		if r := res[n]; r != nil {
			picked[n] = r
		}
	}
	return picked, changed, nil
}

// pick builds the resources of the names.
func (v *view) pick(names []string, build func(string) *serve.Resource) map[string]*serve.Resource {
	out := make(map[string]*serve.Resource, len(names))
	for _, n := range names {
		if r := build(n); r != nil {
			out[n] = r
		}
	}
	return out
}

// clusters are those towards the hosts of the scope.
func (v *view) clusters(txn model.ReadTxn, sc *scope) map[string]*serve.Resource {
	s := v.source
	if v.gateway != nil {
		return s.gatewayClusters(txn, sc, v.gateway)
	}
	traits := s.store.Traits.Revision(txn)
	set := sc.sets[xds.TypeCluster]
	if set != nil && set.catalog == sc.catalog && set.traits == traits {
		return set.res
	}
	res := map[string]*serve.Resource{}
	for _, h := range sc.hosts {
		rule := sc.catalog.rules.find(sc.key.namespace, sc.catalog.mesh.RootNamespace, h)
		for i := range h.ports {
			keys := []clusterKey{{port: h.ports[i].Number, rule: rule}}
			if rule != nil {
				for j := range rule.Subsets {
					keys = append(keys, clusterKey{port: h.ports[i].Number, rule: rule, subset: rule.Subsets[j].Name})
				}
			}
			for _, k := range keys {
				r := s.cluster(txn, sc.catalog, h, k)
				res[r.Name] = r
			}
		}
	}
	sc.sets[xds.TypeCluster] = &resourceSet{catalog: sc.catalog, traits: traits, res: res}
	return res
}

// listeners are those towards the hosts of the scope.
func (v *view) listeners(txn model.ReadTxn, sc *scope) map[string]*serve.Resource {
	if v.gateway != nil {
		return nil
	}
	s := v.source
	traits := s.store.Traits.Revision(txn)
	set := sc.sets[xds.TypeListener]
	if set != nil && set.catalog == sc.catalog && set.traits == traits {
		return set.res
	}
	res := s.listeners(txn, sc)
	sc.sets[xds.TypeListener] = &resourceSet{catalog: sc.catalog, traits: traits, res: res}
	return res
}

// withOwn adds the resources of the view itself to those it shares.
func (v *view) withOwn(typeURL string, sc *scope, shared map[string]*serve.Resource) map[string]*serve.Resource {
	own := v.ownResources(sc.catalog.mesh)[typeURL]
	out := make(map[string]*serve.Resource, len(shared)+len(own))
	maps.Copy(out, shared)
	maps.Copy(out, own)
	return out
}

func (v *view) ownResources(mesh *model.Mesh) map[string]map[string]*serve.Resource {
	if v.own != nil && v.ownMesh == mesh {
		return v.own
	}
	clusters, listeners := map[string]*serve.Resource{}, map[string]*serve.Resource{}
	if v.gateway != nil {
		clusters[blackHoleCluster] = v.source.encode(blackHoleCluster, blackHole(mesh))
		for _, l := range v.gateway.listeners(mesh) {
			listeners[l.Name] = v.source.encode(l.Name, l)
		}
	} else {
		for _, c := range append(staticClusters(mesh), v.inbound.clusters(mesh)...) {
			clusters[c.Name] = v.source.encode(c.Name, c)
		}
		out, in := virtualOutbound(mesh), v.inbound.listener(mesh)
		listeners[out.Name] = v.source.encode(out.Name, out)
		listeners[in.Name] = v.source.encode(in.Name, in)
	}
	v.ownMesh = mesh
	v.own = map[string]map[string]*serve.Resource{xds.TypeCluster: clusters, xds.TypeListener: listeners}
	return v.own
}

// endpointNames are all load assignments of the scope.
func endpointNames(sc *scope) []string {
	var out []string
	for _, h := range sc.hosts {
		for i := range h.ports {
			if h.ports[i].svc.Resolution != model.ByEndpoints {
				continue
			}
			out = append(out, clusterName(h.ports[i].Number, "", h.name))
			if rule := sc.catalog.rules.find(sc.key.namespace, sc.catalog.mesh.RootNamespace, h); rule != nil {
				for j := range rule.Subsets {
					out = append(out, clusterName(h.ports[i].Number, rule.Subsets[j].Name, h.name))
				}
			}
		}
	}
	return out
}

// routeNames are all route configurations of the scope.
func routeNames(sc *scope) []string {
	var out []string
	for port := range sc.byPort {
		out = append(out, utoa(port))
	}
	for _, h := range sc.hosts {
		for i := range h.ports {
			if p := &h.ports[i]; p.Protocol == model.Unknown && !sharesPort(p) {
				out = append(out, h.name+":"+utoa(p.Number))
			}
		}
	}
	return out
}
