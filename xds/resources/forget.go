package resources

import (
	"maps"

	"github.com/isthmus-mesh/isthmus/model"
)

// What is built is remembered for as long as somebody may ask for it again. Here
// it is forgotten: a peer must not be able to make memory grow by coming and
// going, nor a namespace's owner by changing a rule again and again.

// dropDead is called after a View has gone. Views that went together go in one
// pass: the passes for the others find their keys gone.
func (s *Source) dropDead(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, kept := s.views[key]; kept && p.Value() == nil {
		s.forgetDead()
	}
}

// forgetDead forgets Views that no stream uses any longer, the scopes and
// catalogs that no View needs, and what was built for places where no View
// stands. The lock is held.
func (s *Source) forgetDead() {
	scopes, clusters, places := map[scopeKey]bool{}, map[model.ClusterID]bool{}, map[vantage]bool{}
	for k, p := range s.views {
		v := p.Value()
		if v == nil {
			delete(s.views, k)
			continue
		}
		scopes[v.scope], clusters[v.scope.cluster], places[v.from] = true, true, true
	}

	maps.DeleteFunc(s.scopes, func(k scopeKey, _ *scope) bool { return !scopes[k] })
	maps.DeleteFunc(s.catalogs, func(id model.ClusterID, _ *catalog) bool { return !clusters[id] })
	s.forgetPlaces(places)
}

// forgetPlaces drops the load assignments for places where nobody stands any
// longer. A proxy says itself where it stands, so there is no end of places.
func (s *Source) forgetPlaces(used map[vantage]bool) {
	gone := false
	for p := range s.places {
		if !used[p] {
			gone = true
		}
	}
	s.places = used
	if !gone {
		return
	}
	forget := func(hosts []*host) {
		for _, h := range hosts {
			maps.DeleteFunc(h.endpoints, func(k endpointsKey, _ *entry) bool { return !used[k.from] })
		}
	}
	for _, c := range s.catalogs {
		forget(c.hosts)
	}
	for _, sc := range s.scopes {
		forget(sc.hosts)
	}
}

// forgetRules drops what was built by DestinationRules that are not in force any
// longer. An edit makes another rule of one, and a host that does not change
// itself would keep what each of them came to. The lock is held.
func (s *Source) forgetRules(c *catalog) {
	forget := func(hosts []*host) {
		for _, h := range hosts {
			maps.DeleteFunc(h.clusters, func(k clusterKey, _ *entry) bool { return k.rule != nil && !c.rules.inForce[k.rule] })
			maps.DeleteFunc(h.endpoints, func(k endpointsKey, _ *entry) bool { return k.rule != nil && !c.rules.inForce[k.rule] })
		}
	}
	forget(c.hosts)
	for key, sc := range s.scopes {
		// Of a host that the namespace sees in part, the scope has its own.
		if s.catalogs[key.cluster] == c {
			forget(sc.hosts)
		}
	}
}
