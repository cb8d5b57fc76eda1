package resources

import (
	"maps"

	"github.com/isthmus-mesh/isthmus/model"
)

// What is built is remembered for as long as somebody may ask for it again. Here
// it is forgotten: a peer must not be able to make memory grow by coming and
// going, nor a namespace's owner by changing a rule, or pods, again and again.

// dropDead is called after a View has gone. Views that went together go in one
// pass: the passes for the others find their keys gone.
func (s *Source) dropDead(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, kept := s.views[key]; kept && p.Value() == nil {
		s.forgetDeadLocked()
	}
}

// forgetDeadLocked forgets Views that no stream uses any longer, the scopes and
// hosts that no View needs, and what was built for places where no View stands.
func (s *Source) forgetDeadLocked() {
	scopes, clusters, places := map[scopeKey]bool{}, map[model.ClusterID]bool{}, map[*place]bool{}
	networks := map[nameTableOf]bool{}
	for k, p := range s.views {
		v := p.Value()
		if v == nil {
			delete(s.views, k)
			continue
		}
		scopes[v.scope.key], clusters[v.scope.key.cluster] = true, true
		for _, p := range v.places {
			places[p] = true
		}
		networks[nameTableOf{hostsOf{s, v.from.cluster}, v.from.network}] = true
	}

	maps.DeleteFunc(s.scopes, func(k scopeKey, _ *scope) bool { return !scopes[k] })
	s.hosts.forget(func(q hostsOf) bool { return !clusters[q.cluster] })
	s.nameTables.forget(func(q nameTableOf) bool { return !networks[q] })
	for _, sc := range s.scopes {
		sc.names.forget(func(q scopeNamesOf) bool {
			return !networks[nameTableOf{hostsOf{s, sc.key.cluster}, q.network}]
		})
	}
	before := len(s.places)
	maps.DeleteFunc(s.places, func(_ place, p *place) bool { return !places[p] })
	if len(s.places) < before {
		// A proxy says itself where it stands, so there is no end of places.
		s.forgetOfHostsLocked(
			func(k clusterKey) bool { return k.from != nil && !places[k.from] },
			func(k endpointsKey) bool { return !places[k.from] },
			func(addressListener) bool { return false })
	}
}

// forgetRulesLocked drops what was built by DestinationRules that are not in
// force any longer. An edit makes another rule of one, and a host that does not
// change itself would keep what each of them came to.
func (s *Source) forgetRulesLocked(r *reader) {
	now := s.rules.get(r)
	if now == s.inForce {
		return
	}
	s.inForce = now
	byMesh := s.mesh.get(r).Locality
	gone := func(rule *model.DestinationRule) bool { return rule != nil && !now.inForce[rule] }
	outOfForce := func(o order) bool { return o.setting != nil && o.setting != byMesh && !now.settings[o.setting] }
	s.forgetOfHostsLocked(
		func(k clusterKey) bool { return gone(k.rule) },
		func(k endpointsKey) bool { return gone(k.rule) || outOfForce(k.order) },
		func(k addressListener) bool { return gone(k.rule) })
}

// forgetGoneLocked drops what was built for addresses, ports and names that the
// hosts of the scope do not have any longer. Pods of a headless service come and
// go under one host, and each has a listener.
func (sc *scope) forgetGoneLocked() {
	sight, d := sc.sights.value, sc.destinations.value
	if sight != nil && sight != sc.tidy.sight {
		sc.tidy.sight = sight
		gone := func(name string) bool { list, _, _ := sight.behind(name); return len(list) == 0 }
		sc.routed.forget(func(q routedOf) bool { return gone(q.name) })
		sc.routes.forget(func(q routeKey) bool { return gone(q.name) })
		sc.tables.forget(func(q tableKey) bool { return gone(q.name) })
		sc.apart.forget(func(q virtualHostsOf) bool { return gone(q.name) })
	}
	if d == nil || d == sc.tidy.destinations {
		return
	}

	sc.tidy.destinations = d
	sc.anywhere.forget(func(q anywhereOf) bool { return d.anywhere[q.port] == nil })
	sc.wildcards.forget(func(q wildcardListener) bool { return d.anywhere[q.port] == nil })
	sc.claimants.forget(func(q claimantsOf) bool { return d.claims[q.name] == nil })
	sc.shared.forget(func(q sharedListener) bool { return d.claims[listenerName(q.address, q.port)] == nil })
	for _, h := range sight.hosts {
		// Other hosts have the addresses of their rows, and end with them.
		if h.headless() {
			h.listeners.forget(func(q addressListener) bool { return d.claims[listenerName(q.address, q.port)] == nil })
		}
	}
}

// forgetOfHostsLocked drops clusters, load assignments and listeners of every host,
// and the policies of namespaces in which no host is left.
func (s *Source) forgetOfHostsLocked(cluster func(clusterKey) bool, endpoints func(endpointsKey) bool, listener func(addressListener) bool) {
	namespaces := map[string]bool{}
	forget := func(h *host) {
		h.clusters.forget(cluster)
		h.endpoints.forget(endpoints)
		h.listeners.forget(listener)
		for i := range h.ports {
			namespaces[h.ports[i].namespace()] = true
		}
	}

	for _, hosts := range s.hosts {
		for _, h := range hosts.value.list {
			forget(h)
		}
	}
	for _, sc := range s.scopes {
		// Of a host that the namespace sees in part, the scope has its own.
		if sight := sc.sights.value; sight != nil {
			for _, h := range sight.visible {
				forget(h)
			}
		}
	}

	s.policies.forget(func(q policyOf) bool { return !namespaces[q.namespace] })
}
